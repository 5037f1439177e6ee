//! The admin HTTP server: health for orchestrators, metrics for Prometheus, status for people and programs.

mod api;
mod console;
mod history;
mod metrics;
mod page;
mod process;
mod rules;
mod status;
mod valkey;
mod views;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;

pub(crate) use console::{AdminConsole, DATABASE, Shutdown};
pub(crate) use history::History;
pub(crate) use status::finding;

use crate::serve::{Readiness, Shared};

/// What the admin server can see.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    shared: Arc<Shared>,
    console: Arc<AdminConsole>,
}

impl Admin {
    /// Of a running Larder.
    pub(crate) fn new(shared: Arc<Shared>, console: Arc<AdminConsole>) -> Self {
        Self { shared, console }
    }

    /// Serves until the future is dropped.
    pub(crate) async fn serve(self, listener: TcpListener) -> std::io::Result<()> {
        let routes = Router::new()
            .route("/", get(page::page))
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics_text))
            .route("/api/v1/status", get(api::status))
            .route("/api/v1/history", get(api::history))
            .route("/api/v1/queries", get(api::queries))
            .route("/api/v1/tables", get(api::tables))
            .route("/api/v1/reasons", get(api::reasons))
            .route("/api/v1/clients", get(api::clients))
            .route("/api/v1/events", get(api::events))
            .route("/api/v1/rules", get(api::rules))
            .route("/api/v1/config", get(api::config))
            .route("/api/v1/purge", post(api::purge))
            .route("/api/v1/deny", post(api::deny))
            .route("/api/v1/mode", post(api::mode))
            .with_state(self);
        axum::serve(listener, routes).await
    }
}

/// Binds, with an error that says which setting to change.
pub(crate) async fn bind(addr: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addr).await.map_err(|error| {
        anyhow::anyhow!(
            "cannot listen on {addr} for admin HTTP: {error}\n  -> choose another address: --admin ADDR"
        )
    })
}

/// The feed's state is information here, not a condition: without it Larder serves as a plain proxy.
async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    let Readiness { reasons } = admin.shared.readiness();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "ready": reasons.is_empty(),
        "reasons": reasons,
        "info": status::feed_info(&admin.shared),
    });
    (status, Json(body))
}

async fn metrics_text(State(admin): State<Admin>) -> impl IntoResponse {
    let content_type = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    match metrics::encode(&admin.shared) {
        Ok(text) => (StatusCode::OK, content_type, text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
