//! `/api/v1/`: the views as JSON, and the things that can be done over HTTP, for those who know the token.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use larder_proxy::Console as _;
use serde::Deserialize;
use serde_json::json;

use super::views::{self, Order, Table};
use super::{Admin, rules, status};

/// Rows of a table that are sent unless more are asked for.
const LIMIT: usize = 1000;

pub(super) async fn status(State(admin): State<Admin>) -> Response {
    let mut document = status::json(&admin.shared);
    if let Some(fields) = document.as_object_mut() {
        fields.insert("admin".to_owned(), json!({ "token": admin.shared.token().is_some() }));
    }
    Json(document).into_response()
}

/// `?after=`: only samples later than that, in milliseconds since 1970.
pub(super) async fn history(State(admin): State<Admin>, uri: Uri) -> Response {
    let after = parameter(&uri, "after").and_then(|after| after.parse().ok()).unwrap_or_default();
    Json(admin.shared.history.json(after)).into_response()
}

/// `?by=`: cost (at the origin, and saved), saved, uncached (those that are not cached, by cost), or mismatches (those
/// whose answer in memory was not the origin's).
pub(super) async fn queries(State(admin): State<Admin>, uri: Uri) -> Response {
    let order = match parameter(&uri, "by") {
        None | Some("cost") => Order::Cost,
        Some("saved") => Order::Saved,
        Some("uncached") => Order::Uncached,
        Some("mismatches") => Order::Mismatches,
        Some(_) => {
            let body = json!({ "error": "by is none of cost, saved, uncached, mismatches" });
            return (StatusCode::BAD_REQUEST, Json(body)).into_response();
        }
    };
    rows(&views::queries_by(&admin.shared, order), &uri)
}

pub(super) async fn tables(State(admin): State<Admin>, uri: Uri) -> Response {
    rows(&views::tables(&admin.shared), &uri)
}

pub(super) async fn reasons(State(admin): State<Admin>, uri: Uri) -> Response {
    rows(&views::reasons(&admin.shared), &uri)
}

pub(super) async fn clients(State(admin): State<Admin>, uri: Uri) -> Response {
    rows(&views::clients(&admin.shared), &uri)
}

pub(super) async fn events(State(admin): State<Admin>, uri: Uri) -> Response {
    rows(&views::events(&admin.shared), &uri)
}

pub(super) async fn rules(State(admin): State<Admin>, uri: Uri) -> Response {
    rows(&rules::view(&admin.shared), &uri)
}

pub(super) async fn config(State(admin): State<Admin>) -> Response {
    Json(admin.shared.config()).into_response()
}

/// `?limit=`: the first so many.
fn rows(table: &Table, uri: &Uri) -> Response {
    let limit = parameter(uri, "limit").and_then(|limit| limit.parse().ok()).unwrap_or(LIMIT);
    Json(table.json(limit)).into_response()
}

/// A parameter of the query string. All values are numbers and plain words, so none is encoded.
fn parameter<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    let mut pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// What to forget: one of the fields, or all of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PurgeRequest {
    #[serde(default)]
    all: bool,
    table: Option<String>,
    query: Option<String>,
    tag: Option<String>,
}

/// What not to cache any more, or to cache again.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DenyRequest {
    table: Option<String>,
    query: Option<String>,
    #[serde(default)]
    cache: bool,
}

/// The mode to switch to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModeRequest {
    mode: String,
}

pub(super) async fn purge(
    State(admin): State<Admin>,
    headers: HeaderMap,
    Json(request): Json<PurgeRequest>,
) -> Response {
    let statement = match (request.all, request.table, request.query, request.tag) {
        (true, None, None, None) => "PURGE ALL".to_owned(),
        (false, Some(table), None, None) => format!("PURGE TABLE {}", quoted(&table)),
        (false, None, Some(query), None) => format!("PURGE QUERY {}", quoted(&query)),
        (false, None, None, Some(tag)) => format!("PURGE TAG {}", quoted(&tag)),
        _ => {
            let error = "say what to purge: {\"all\": true}, or one of \"table\", \"query\", \"tag\"";
            return (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response();
        }
    };
    carry_out(&admin, &headers, &statement)
}

pub(super) async fn deny(
    State(admin): State<Admin>,
    headers: HeaderMap,
    Json(request): Json<DenyRequest>,
) -> Response {
    let verb = if request.cache { "ALLOW" } else { "DENY" };
    let statement = match (request.table, request.query) {
        (Some(table), None) => format!("{verb} TABLE {}", quoted(&table)),
        (None, Some(query)) => format!("{verb} QUERY {}", quoted(&query)),
        _ => {
            let error =
                "say what: {\"query\": fingerprint} or {\"table\": name}; \"cache\": true takes it back";
            return (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response();
        }
    };
    carry_out(&admin, &headers, &statement)
}

pub(super) async fn mode(
    State(admin): State<Admin>,
    headers: HeaderMap,
    Json(request): Json<ModeRequest>,
) -> Response {
    carry_out(&admin, &headers, &format!("SET MODE = {}", quoted(&request.mode)))
}

fn carry_out(admin: &Admin, headers: &HeaderMap, statement: &str) -> Response {
    if let Err(refusal) = authorized(admin, headers) {
        return refusal.into_response();
    }
    match admin.console.run(statement) {
        Ok(reply) => Json(json!({ "done": reply.tag })).into_response(),
        Err(refusal) => {
            let body = json!({ "error": refusal.message, "hint": refusal.hint });
            (StatusCode::BAD_REQUEST, Json(body)).into_response()
        }
    }
}

fn authorized(admin: &Admin, headers: &HeaderMap) -> Result<(), (StatusCode, Json<serde_json::Value>)> {
    let error = |status, text: &str| Err((status, Json(json!({ "error": text }))));
    let Some(token) = admin.shared.token() else {
        return error(StatusCode::FORBIDDEN, "switched off: set [admin] token to allow this");
    };
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    // In a time that does not tell how much of it was right.
    if larder_login::same_secret(given.as_bytes(), token.as_bytes()) {
        return Ok(());
    }
    error(StatusCode::UNAUTHORIZED, "send the admin token: Authorization: Bearer <token>")
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
