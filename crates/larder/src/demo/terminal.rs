//! Where the demo writes to: a terminal that can redraw, or a plain stream of lines.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

/// Width where the terminal does not tell.
const DEFAULT_WIDTH: usize = 80;

/// What can be done on the output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terminal {
    /// A panel can be redrawn in place.
    pub(super) redraws: bool,
    color: bool,
    /// Progress goes to stderr, because stdout is for the JSON document.
    to_stderr: bool,
    /// Lines drawn last time.
    drawn: usize,
}

/// Colours that mean something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    Bold,
    Dim,
    Good,
    Bad,
}

impl Terminal {
    pub(super) fn detect(json: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let redraws = !json && !dumb && std::io::stdout().is_terminal();
        let color = redraws && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { redraws, color, to_stderr: json, drawn: 0 }
    }

    /// Columns, as of now: the window may be resized.
    pub(super) fn width(self) -> usize {
        match rustix::termios::tcgetwinsize(std::io::stdout()) {
            Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
            _ => DEFAULT_WIDTH,
        }
    }

    /// The text in a colour, if there are colours.
    pub(super) fn paint(self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::Bold => "1",
            Paint::Dim => "2",
            Paint::Good => "32",
            Paint::Bad => "1;31",
        };
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A line that stays.
    pub(super) fn line(self, text: &str) {
        self.write(&format!("{text}\n"));
    }

    /// Draws the lines over those drawn before.
    pub(super) fn redraw(&mut self, lines: &[String]) {
        let mut out = self.erasing();
        for line in lines {
            out.push_str(line);
            out.push('\n');
        }
        self.write(&out);
        self.drawn = lines.len();
    }

    /// Removes what was drawn.
    pub(super) fn erase(&mut self) {
        let out = self.erasing();
        self.write(&out);
        self.drawn = 0;
    }

    fn erasing(self) -> String {
        // Cursor up, then clear to the end of the screen.
        if self.drawn > 0 { format!("\x1b[{}A\x1b[J", self.drawn) } else { String::new() }
    }

    /// A reader that went away does not matter to the demo.
    fn write(self, text: &str) {
        if self.to_stderr {
            let _ = std::io::stderr().write_all(text.as_bytes());
        } else {
            let mut out = std::io::stdout();
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
    }
}

/// Cuts a line to the terminal's width, so that redrawing counts lines rightly. Colours take no room.
pub(super) fn fit(line: &str, width: usize) -> String {
    let (mut out, mut room, mut in_escape) = (String::new(), width, false);
    for c in line.chars() {
        in_escape |= c == '\x1b';
        if in_escape {
            in_escape = c != 'm';
            out.push(c);
        } else if room > 0 {
            room -= 1;
            out.push(c);
        }
    }
    out
}

/// Three significant digits and a unit.
pub(super) fn time(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    match micros {
        m if m < 10.0 => format!("{m:.2} µs"),
        m if m < 100.0 => format!("{m:.1} µs"),
        m if m < 1e3 => format!("{m:.0} µs"),
        m if m < 1e4 => format!("{:.2} ms", m / 1e3),
        m if m < 1e5 => format!("{:.1} ms", m / 1e3),
        m if m < 1e6 => format!("{:.0} ms", m / 1e3),
        m => format!("{:.2} s", m / 1e6),
    }
}

/// Digits in groups of three.
pub(super) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_to_what_is_visible() {
        assert_eq!(fit("abcdef", 4), "abcd");
        assert_eq!(fit("\x1b[1mabc\x1b[0mdef", 4), "\x1b[1mabc\x1b[0md");
        assert_eq!(fit("\x1b[1mabcdef\x1b[0m", 2), "\x1b[1mab\x1b[0m");
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(number(0), "0");
        assert_eq!(number(999), "999");
        assert_eq!(number(1_234_567), "1 234 567");
        assert_eq!(time(Duration::from_nanos(45_300)), "45.3 µs");
        assert_eq!(time(Duration::from_micros(1_234)), "1.23 ms");
        assert_eq!(time(Duration::from_millis(1_500)), "1.50 s");
    }
}
