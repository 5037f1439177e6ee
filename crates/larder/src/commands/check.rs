use std::process::ExitCode;

use larder_core::Finding;
use serde_json::json;

use super::check_valkey;
use crate::admin;
use crate::cli::print_text;
use crate::config::Effective;
use crate::config::{Auth, Config};
use crate::serve::{self, Question, block_on, feed_config};

/// A role that does not exist: names with `pg_` belong to the server, which has none like this.
const NOBODY: &str = "pg_larder_check";

/// `larder check`: one finding after the other with its remedy; status 0 only if there is none.
pub(crate) fn check(effective: &Effective, as_json: bool) -> anyhow::Result<ExitCode> {
    effective.require_origin()?;
    let config = &effective.config;
    let mut findings = match feed_config(config) {
        Ok(config) => block_on(async { Ok(larder_feed::check(&config).await) })?,
        Err(finding) => vec![finding],
    };
    let of_clients = [serve::origin_tls(config).err(), serve::access(config).err()];
    findings.extend(
        of_clients.into_iter().flatten().filter(|finding| !findings.contains(finding)).collect::<Vec<_>>(),
    );
    if findings.is_empty() {
        findings.extend(block_on(async { Ok(ask_for_secrets(config).await) })?);
    }
    let tier = block_on(async { Ok(check_valkey::look(config).await) })?;
    let notes: Vec<_> = serve::notes(config).into_iter().chain(tier.notes).collect();
    let control = effective.config.control();
    let text = if as_json {
        let list: Vec<_> = findings.iter().map(admin::finding).collect();
        format!(
            "{:#}\n",
            json!({
                "ok": findings.is_empty(),
                "origin": control.to_string(),
                "findings": list,
                "notes": notes.iter().map(admin::finding).collect::<Vec<_>>(),
                "valkey": tier.seen,
            })
        )
    } else {
        people(&control.to_string(), &findings, &notes, tier.seen.as_deref())
    };
    print_text(&text)?;
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether `auth_query` can be asked, where it will be.
async fn ask_for_secrets(config: &Config) -> Option<Finding> {
    let sql = &config.listen.auth_query.0;
    if config.listen.auth != Auth::Verify || sql.is_empty() {
        return None;
    }
    let account = serve::account(config).ok()?;
    let user = account.user.replace('"', "\"\"");
    let problem = Question::new(account, sql).ask(NOBODY).await.err()?;
    let remedy = format!(
        "let the account ask through a function of a superuser's: CREATE FUNCTION larder_secret(name) RETURNS text \
         LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$ SELECT rolpassword FROM pg_authid \
         WHERE rolname = $1 AND NOT rolsuper $$; REVOKE ALL ON FUNCTION larder_secret(name) FROM public; GRANT EXECUTE \
         ON FUNCTION larder_secret(name) TO \"{user}\"; then [listen] auth_query = \"SELECT public.larder_secret($1)\""
    );
    Some(Finding { code: "auth_query", problem, remedy })
}

fn people(origin: &str, findings: &[Finding], notes: &[Finding], tier: Option<&str>) -> String {
    use std::fmt::Write as _;
    let mut text = if findings.is_empty() {
        format!("ok: Larder can serve fresh answers from {origin}\n")
    } else {
        format!("Larder cannot serve fresh answers from {origin} yet:\n")
    };
    for finding in findings {
        let _ = write!(text, "\n{}: {}\n  -> {}\n", finding.code, finding.problem, finding.remedy);
    }
    if let Some(tier) = tier {
        let _ = write!(text, "\nshared tier: {tier}\n");
    }
    for note in notes {
        let _ = write!(text, "\nnote: {}: {}\n  -> {}\n", note.code, note.problem, note.remedy);
    }
    text
}
