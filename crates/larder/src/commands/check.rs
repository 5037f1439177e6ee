use std::process::ExitCode;

use larder_core::Finding;
use serde_json::json;

use crate::admin;
use crate::cli::print_text;
use crate::config::Effective;
use crate::serve::{block_on, feed_config};

/// `larder check`: one finding after the other with its remedy; status 0 only if there is none.
pub(crate) fn check(effective: &Effective, as_json: bool) -> anyhow::Result<ExitCode> {
    effective.require_origin()?;
    let findings = match feed_config(&effective.config) {
        Ok(config) => block_on(async { Ok(larder_feed::check(&config).await) })?,
        Err(finding) => vec![finding],
    };
    let control = effective.config.control();
    let text = if as_json {
        let list: Vec<_> = findings.iter().map(admin::finding).collect();
        format!(
            "{:#}\n",
            json!({ "ok": findings.is_empty(), "origin": control.to_string(), "findings": list })
        )
    } else {
        people(&control.to_string(), &findings)
    };
    print_text(&text)?;
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn people(origin: &str, findings: &[Finding]) -> String {
    use std::fmt::Write as _;
    if findings.is_empty() {
        return format!("ok: Larder can serve fresh answers from {origin}\n");
    }
    let mut text = format!("Larder cannot serve fresh answers from {origin} yet:\n");
    for finding in findings {
        let _ = write!(text, "\n{}: {}\n  -> {}\n", finding.code, finding.problem, finding.remedy);
    }
    text
}
