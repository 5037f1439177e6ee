//! `/api/v1/`: the views as JSON, and the two things that can be done over HTTP, for those who know the token.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use larder_proxy::Console as _;
use serde::Deserialize;
use serde_json::json;

use super::Admin;

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
    let Some(token) = &admin.token else {
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
