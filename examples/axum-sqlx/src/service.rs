//! The routes, and where their answers come from.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use larder_cache::{Cache, CacheMetrics, LoadError, Loaded};
use larder_follow::Feed;
use serde::Serialize;
use sqlx::PgPool;

/// What all requests share.
#[derive(Debug, Clone)]
pub(crate) struct App {
    database: PgPool,
    feed: Feed,
    metrics: Arc<CacheMetrics>,
    users: Cache<i64, Option<User>>,
    teams: Cache<i64, Vec<User>>,
}

#[derive(Debug, Clone, Serialize)]
struct User {
    id: i64,
    name: String,
    team: i64,
}

type Row = (i64, String, i64);

impl From<Row> for User {
    fn from((id, name, team): Row) -> Self {
        Self { id, name, team }
    }
}

impl App {
    pub(crate) fn new(database: PgPool, feed: Feed) -> Self {
        let metrics = Arc::new(CacheMetrics::default());
        let users = Cache::builder()
            .max_bytes(64 << 20)
            .weigher(|user: &Option<User>| user.as_ref().map_or(0, |user| user.name.len()))
            // The log says when it is over; time only bounds for how long nobody has asked the database.
            .default_ttl(Duration::from_secs(3600))
            .metrics(Arc::clone(&metrics))
            .follow(feed.clone())
            .build();
        let teams = Cache::builder()
            .max_bytes(64 << 20)
            .weigher(|users: &Vec<User>| users.iter().map(|user| size_of::<User>() + user.name.len()).sum())
            .default_ttl(Duration::from_secs(3600))
            .metrics(Arc::clone(&metrics))
            .follow(feed.clone())
            .build();
        Self { database, feed, metrics, users, teams }
    }

    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/users/{id}", get(user).put(rename))
            .route("/teams/{id}", get(team))
            .route("/metrics", get(metrics))
            .with_state(self)
    }
}

async fn user(State(app): State<App>, Path(id): Path<i64>) -> Result<Response, Unavailable> {
    let database = app.database.clone();
    let user = app
        .users
        .entry(&id)
        .tags([format!("row:public.users:id={id}")])
        .or_load(move |_| async move {
            let query = sqlx::query_as("select id, name, team from users where id = $1");
            let row: Option<Row> = query.bind(id).fetch_optional(&database).await?;
            Ok(row.map(User::from))
        })
        .await?;
    Ok(match &*user {
        Some(found) => answer(&user, found),
        None => (StatusCode::NOT_FOUND, answer(&user, &"no such user")).into_response(),
    })
}

async fn team(State(app): State<App>, Path(id): Path<i64>) -> Result<Response, Unavailable> {
    let database = app.database.clone();
    let team = app
        .teams
        .entry(&id)
        .tags(["table:public.users"])
        .or_load(move |_| async move {
            let query = sqlx::query_as("select id, name, team from users where team = $1 order by id");
            let rows: Vec<Row> = query.bind(id).fetch_all(&database).await?;
            Ok(rows.into_iter().map(User::from).collect())
        })
        .await?;
    Ok(answer(&team, &*team))
}

async fn rename(
    State(app): State<App>,
    Path(id): Path<i64>,
    name: String,
) -> Result<StatusCode, (StatusCode, String)> {
    let done =
        sqlx::query("update users set name = $2 where id = $1").bind(id).bind(name).execute(&app.database);
    let done = done.await.map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
    // The log says so in a moment; whoever hears from us that it is done must not have to wait for that.
    app.feed.wrote(["table:public.users"]);
    Ok(if done.rows_affected() == 0 { StatusCode::NOT_FOUND } else { StatusCode::NO_CONTENT })
}

async fn metrics(State(app): State<App>) -> String {
    let mut text = String::new();
    app.metrics.each(|name, help, value| {
        let _ = writeln!(text, "# HELP users_cache_{name}_total {help}");
        let _ = writeln!(text, "# TYPE users_cache_{name}_total counter\nusers_cache_{name}_total {value}");
    });
    text
}

/// The value as JSON, and where it came from.
fn answer<V>(loaded: &Loaded<V>, value: &impl Serialize) -> Response {
    let mut response = Json(value).into_response();
    response.headers_mut().insert("x-cache", HeaderValue::from_static(loaded.source().name()));
    response
}

/// Nothing in memory, and the database does not answer.
struct Unavailable(LoadError<sqlx::Error>);

impl From<LoadError<sqlx::Error>> for Unavailable {
    fn from(error: LoadError<sqlx::Error>) -> Self {
        Self(error)
    }
}

impl IntoResponse for Unavailable {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, self.0.to_string()).into_response()
    }
}
