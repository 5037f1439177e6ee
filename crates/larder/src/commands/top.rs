//! `larder top`: what a running Larder does, again and again, the statements first that cost or save most.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use super::admin::AdminClient;
use crate::cli::print_text;
use crate::config::Effective;
use crate::serve::block_on;

/// Longest statement text shown.
const TEXT: usize = 72;

/// Shows `times` pictures (0: until Ctrl-C), one per `interval`, of the first `rows` statements.
pub(crate) fn top(
    effective: &Effective,
    interval: Duration,
    times: usize,
    rows: usize,
) -> anyhow::Result<ExitCode> {
    block_on(async {
        let client = AdminClient::connect(&effective.config).await?;
        let clear = std::io::stdout().is_terminal() && times != 1;
        for shown in 1.. {
            let picture = picture(&client, rows).await?;
            // Clears the screen and goes to its top.
            print_text(&format!("{}{picture}", if clear { "\x1b[2J\x1b[H" } else { "" }))?;
            if shown == times {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                _ = tokio::signal::ctrl_c() => break,
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn picture(client: &AdminClient, rows: usize) -> anyhow::Result<String> {
    let stats = client.run("SHOW STATS").await?;
    let feed = client.run("SHOW FEED").await?;
    let queries = client.run("SHOW QUERIES").await?;
    let mut text = String::new();
    for row in &stats.rows {
        let _ = write!(text, "{} {} ({} %)   ", cell(row, 0), cell(row, 1), cell(row, 2));
    }
    if let Some(row) = feed.rows.first() {
        let _ = write!(
            text,
            "\nfeed {}, {} s behind, lease {} s, {} gaps\n",
            cell(row, 0),
            short(row, 3),
            short(row, 5),
            cell(row, 6)
        );
    }
    let _ = writeln!(
        text,
        "\n{:>10} {:>6} {:>11} {:>11}  {:<18} query",
        "calls", "hit %", "origin s", "saved s", "not cached"
    );
    for row in queries.rows.iter().take(rows) {
        // The text is the last column, whatever is shown before it.
        let query: String = cell(row, row.len().saturating_sub(1)).chars().take(TEXT).collect();
        let _ = writeln!(
            text,
            "{:>10} {:>6} {:>11} {:>11}  {:<18} {query}",
            cell(row, 1),
            cell(row, 3),
            short(row, 8),
            short(row, 9),
            cell(row, 7)
        );
    }
    if queries.rows.is_empty() {
        let _ = writeln!(text, "{:>10}", "none yet");
    }
    Ok(text)
}

fn cell(row: &[Option<String>], at: usize) -> &str {
    row.get(at).and_then(Option::as_deref).unwrap_or("-")
}

/// Seconds, to the millisecond.
fn short(row: &[Option<String>], at: usize) -> String {
    cell(row, at).parse::<f64>().map_or_else(|_| "-".to_owned(), |seconds| format!("{seconds:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_that_are_not_there_read_as_a_dash() {
        let row = &[Some("1.23456".to_owned()), None];
        assert_eq!((cell(row, 1), cell(row, 7)), ("-", "-"));
        assert_eq!((short(row, 0).as_str(), short(row, 1).as_str()), ("1.235", "-"));
    }
}
