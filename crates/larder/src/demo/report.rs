//! The end of the demo: the comparison at rest, the closing table, the JSON document.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::load::Load;
use super::second::Second;
use super::session::Session;
use super::shop::Shape;
use super::stats::{ShapeSummary, Summary, percent};
use super::terminal::{Paint, Terminal, number, time};

/// The rest is more of the same.
const SHOWN_ERRORS: usize = 3;

/// Every statement of the load, asked once more while nothing changes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AtRest {
    pub(super) statements: u64,
    pub(super) from_memory: u64,
    pub(super) different: u64,
}

/// Compares the answer through Larder with the origin's, byte by byte.
pub(super) async fn compare_at_rest(load: &Load) -> anyhow::Result<AtRest> {
    let larder = Session::connect(&load.larder, true).await?;
    let origin = Session::connect(&load.origin, false).await?;
    // The lag that the promise allows for writes around Larder.
    tokio::time::sleep(load.max_lag).await;
    let mut result = AtRest::default();
    for ask in Shape::ALL.into_iter().flat_map(Shape::all) {
        let mut answer = larder.ask(ask).await?;
        if !answer.is_hit() {
            // It was not kept, or not valid any more; now it should be there.
            answer = larder.ask(ask).await?;
        }
        result.statements += 1;
        result.from_memory += u64::from(answer.is_hit());
        result.different += u64::from(answer.bytes != origin.ask(ask).await?.bytes);
    }
    Ok(result)
}

/// Whether everything was as promised.
pub(super) fn passed(load: &Load, rest: AtRest, second: Option<Second>) -> bool {
    load.ledger.violations.load(Ordering::Relaxed) == 0
        && rest.different == 0
        && second.is_none_or(|second| second.different == 0)
        && load.stats.errors().is_empty()
}

/// For people.
pub(super) fn table(terminal: Terminal, load: &Load, rest: AtRest, second: Option<Second>) -> Vec<String> {
    let mut lines = vec![String::new()];
    let heading = format!(
        "  {:<20}{:>8}{:>8}{:>17}{:>17}{:>8}",
        "read", "count", "hits", "origin p50/p99", "hit p50/p99", "faster"
    );
    lines.push(terminal.paint(Paint::Dim, &heading));
    for (shape, of) in load.stats.shapes() {
        let hits = percent(of.hit_count(), of.reads()).map_or("-".to_owned(), |hits| format!("{hits:.1} %"));
        let faster = of.speed_up().map_or("-".to_owned(), |factor| format!("{factor:.1}x"));
        lines.push(format!(
            "  {:<20}{:>8}{hits:>8}{:>17}{:>17}{}",
            shape.title(),
            number(of.reads()),
            pair(of.direct),
            pair(of.hits),
            terminal.paint(Paint::Bold, &format!("{faster:>8}")),
        ));
    }
    lines.push(String::new());
    lines.extend(freshness(terminal, load, rest, second));
    lines
}

fn pair(summary: Option<Summary>) -> String {
    summary.map_or("-".to_owned(), |summary| format!("{}/{}", time(summary.p50), time(summary.p99)))
}

fn freshness(terminal: Terminal, load: &Load, rest: AtRest, second: Option<Second>) -> Vec<String> {
    let verdict =
        |bad: u64, text: String| terminal.paint(if bad == 0 { Paint::Good } else { Paint::Bad }, &text);
    let ledger = &load.ledger;
    let violations = ledger.violations.load(Ordering::Relaxed);
    let checks = number(ledger.checks.load(Ordering::Relaxed));
    let (through, around) = load.stats.writes();
    let rollbacks = load.stats.rollbacks.load(Ordering::Relaxed);
    let mut lines = vec![
        format!(
            "  checked     {checks} answers while they came: {}",
            verdict(violations, format!("{violations} stale"))
        ),
        format!(
            "  at rest     {} statements against the origin, {} of them from memory: {}",
            rest.statements,
            rest.from_memory,
            verdict(rest.different, format!("{} different", rest.different))
        ),
        format!("  writes      {through} through Larder, {around} around it, {rollbacks} rolled back"),
    ];
    if let Some(Second { statements, shared, asked, different }) = second {
        lines.push(format!(
            "  shared      a second Larder, just started: of {statements} statements {shared} from Valkey, {asked} by the origin: {}",
            verdict(different, format!("{different} different"))
        ));
    }
    if let Some(delay) = load.stats.delays.summary() {
        lines.push(format!(
            "  delay       a write around Larder was seen after {} (median), {} (p99), {} (max)",
            time(delay.p50),
            time(delay.p99),
            time(delay.max)
        ));
    }
    let bad = |text: &String| format!("  {}", terminal.paint(Paint::Bad, text));
    lines.extend(ledger.examples().iter().map(bad));
    let errors = load.stats.errors();
    lines.extend(errors.iter().take(SHOWN_ERRORS).map(bad));
    if errors.len() > SHOWN_ERRORS {
        lines.push(bad(&format!("and {} more errors", errors.len() - SHOWN_ERRORS)));
    }
    lines
}

/// For programs.
pub(super) fn json(load: &Load, rest: AtRest, second: Option<Second>, elapsed: Duration) -> Json {
    let shape = |(shape, of): (Shape, ShapeSummary)| {
        json!({
            "name": shape.name(),
            "reads": of.reads(),
            "hits": of.hit_count(),
            "hit_percent": percent(of.hit_count(), of.reads()),
            "direct": of.direct.map(seconds),
            "hit": of.hits.map(seconds),
            "waited": of.waited.map(seconds),
            "miss": of.others.map(seconds),
            "speed_up": of.speed_up(),
        })
    };
    let (through, around) = load.stats.writes();
    json!({
        "ok": passed(load, rest, second),
        "level": load.level.name(),
        "seconds": elapsed.as_secs_f64(),
        "shapes": load.stats.shapes().into_iter().map(shape).collect::<Vec<_>>(),
        "writes": {
            "through_larder": through,
            "around_larder": around,
            "rolled_back": load.stats.rollbacks.load(Ordering::Relaxed),
        },
        "freshness": {
            "checks": load.ledger.checks.load(Ordering::Relaxed),
            "violations": load.ledger.violations.load(Ordering::Relaxed),
            "examples": load.ledger.examples(),
            "around_larder_delay": load.stats.delays.summary().map(seconds),
        },
        "at_rest": {
            "statements": rest.statements,
            "from_memory": rest.from_memory,
            "different": rest.different,
        },
        "second": second.map(|second| {
            json!({
                "statements": second.statements,
                "from_valkey": second.shared,
                "by_the_origin": second.asked,
                "different": second.different,
            })
        }),
        "errors": load.stats.errors(),
    })
}

fn seconds(summary: Summary) -> Json {
    json!({
        "count": summary.count,
        "p50_seconds": summary.p50.as_secs_f64(),
        "p99_seconds": summary.p99.as_secs_f64(),
        "max_seconds": summary.max.as_secs_f64(),
    })
}
