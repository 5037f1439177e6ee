//! What is shown while the load runs: a panel redrawn in place, or one line now and then.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use larder_cache::Moment;

use super::load::Load;
use super::stats::percent;
use super::terminal::{Paint, Terminal, fit, number, time};
use crate::serve::Shared;

const REDRAW_EVERY: Duration = Duration::from_millis(250);
const LINE_EVERY: Duration = Duration::from_secs(2);

/// Draws until the future is dropped.
pub(super) async fn show(terminal: &mut Terminal, load: &Load, shared: &Shared, total: Option<Duration>) {
    let (start, mut last) = (Instant::now(), (Instant::now(), 0));
    let mut rate = 0.0;
    let mut ticks = tokio::time::interval(if terminal.redraws { REDRAW_EVERY } else { LINE_EVERY });
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let reads = load.stats.shapes().iter().map(|(_, of)| of.reads()).sum::<u64>();
        #[allow(clippy::cast_precision_loss)]
        let now_rate = (reads - last.1) as f64 / last.0.elapsed().as_secs_f64();
        // Smoothed over about a second.
        rate = if rate == 0.0 || !terminal.redraws { now_rate } else { rate * 0.75 + now_rate * 0.25 };
        last = (Instant::now(), reads);
        let view = View { terminal: *terminal, load, shared, elapsed: start.elapsed(), total, rate };
        if terminal.redraws {
            let width = terminal.width();
            let lines: Vec<String> = view.panel(width).iter().map(|line| fit(line, width - 1)).collect();
            terminal.redraw(&lines);
        } else {
            terminal.line(&view.line());
        }
    }
}

struct View<'a> {
    terminal: Terminal,
    load: &'a Load,
    shared: &'a Shared,
    elapsed: Duration,
    total: Option<Duration>,
    rate: f64,
}

impl View<'_> {
    fn panel(&self, width: usize) -> Vec<String> {
        let paint = |paint, text: &str| self.terminal.paint(paint, text);
        let mut lines = vec![String::new(), self.head(width), String::new()];
        let heading = format!(
            "  {:<20}{:>9}{:>9}{:>13}{:>13}{:>9}",
            "read", "count", "hits", "origin p50", "hit p50", "faster"
        );
        lines.push(paint(Paint::Dim, &heading));
        for (shape, of) in self.load.stats.shapes() {
            let p50 = |summary: Option<super::stats::Summary>| {
                summary.map_or("-".to_owned(), |summary| time(summary.p50))
            };
            let hits =
                percent(of.hit_count(), of.reads()).map_or("-".to_owned(), |hits| format!("{hits:.1} %"));
            let faster = of.speed_up().map_or("-".to_owned(), |factor| format!("{factor:.1}x"));
            lines.push(format!(
                "  {:<20}{:>9}{:>9}{:>13}{:>13}{}",
                shape.title(),
                number(of.reads()),
                hits,
                p50(of.direct),
                p50(of.hits),
                paint(Paint::Bold, &format!("{faster:>9}")),
            ));
        }
        lines.push(String::new());
        lines.push(format!("  now        {}", self.traffic()));
        lines.push(format!("  feed       {}", self.feed()));
        lines.push(format!("  checked    {}", self.freshness()));
        lines.push(format!("  delay      {}", self.delay()));
        lines
    }

    fn head(&self, width: usize) -> String {
        let title = format!("  larder demo, level {}", self.load.level);
        let Some(total) = self.total else {
            return format!(
                "{}  {:.0} s, until Ctrl-C",
                self.terminal.paint(Paint::Bold, &title),
                self.elapsed.as_secs_f64()
            );
        };
        let done = (self.elapsed.as_secs_f64() / total.as_secs_f64()).min(1.0);
        let room = width.saturating_sub(title.len() + 20).min(40);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let full = (done * room as f64) as usize;
        let bar = format!("{}{}", "█".repeat(full), "░".repeat(room - full.min(room)));
        let clock = format!(
            "{:.0} of {:.0} s",
            self.elapsed.as_secs_f64().min(total.as_secs_f64()),
            total.as_secs_f64()
        );
        format!("{}  {bar}  {clock}", self.terminal.paint(Paint::Bold, &title))
    }

    fn traffic(&self) -> String {
        let (through, around) = self.load.stats.writes();
        let rollbacks = self.load.stats.rollbacks.load(Ordering::Relaxed);
        format!(
            "{:.0} reads/s; writes: {through} through Larder, {around} around, {rollbacks} undone",
            self.rate
        )
    }

    fn feed(&self) -> String {
        let (now, fence) = (Moment::now(), &self.shared.fence);
        let state = if self.shared.health.is_connected() {
            self.terminal.paint(Paint::Good, "connected")
        } else {
            self.terminal.paint(Paint::Bad, "not connected")
        };
        let lag = Duration::from_nanos(now.0.saturating_sub(fence.covered().0));
        let changes: u64 = self.shared.changes().iter().map(|(_, count)| count).sum();
        let lease = fence.lease_remaining(now).as_millis();
        format!("{state}, {} behind, lease {lease} ms, {changes} changes seen", time(lag))
    }

    fn freshness(&self) -> String {
        let ledger = &self.load.ledger;
        let checks = number(ledger.checks.load(Ordering::Relaxed));
        let violations = ledger.violations.load(Ordering::Relaxed);
        let verdict = if violations == 0 { Paint::Good } else { Paint::Bad };
        let verdict = self.terminal.paint(verdict, &format!("{violations} stale"));
        format!("{checks} answers while they came: {verdict}")
    }

    fn delay(&self) -> String {
        self.load.stats.delays.summary().map_or("-".to_owned(), |summary| {
            format!("a write around Larder is seen after {} (p99 {})", time(summary.p50), time(summary.p99))
        })
    }

    fn line(&self) -> String {
        let shapes = self.load.stats.shapes();
        let reads: u64 = shapes.iter().map(|(_, of)| of.reads()).sum();
        let hits: u64 = shapes.iter().map(|(_, of)| of.hit_count()).sum();
        let ratio = percent(hits, reads).map_or("-".to_owned(), |ratio| format!("{ratio:.1} %"));
        format!(
            "  {:>4.0} s  {:.0} reads/s, {ratio} hits; feed {}; checked {}",
            self.elapsed.as_secs_f64(),
            self.rate,
            self.feed(),
            self.freshness()
        )
    }
}
