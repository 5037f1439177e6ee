//! A small service on axum and sqlx whose answers are cached, and invalidated by the database's own log.

mod service;

use std::env;

use anyhow::{Context as _, Result};
use larder_follow::Feed;
use sqlx::PgPool;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<()> {
    let database = env::var("DATABASE_URL").context("DATABASE_URL is not set")?;
    // An account with REPLICATION; the one that queries need not have it.
    let feed = env::var("FEED_URL").unwrap_or_else(|_| database.clone());
    let listen = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());

    // Neither waits for the database: while it cannot be reached, requests that need it fail, and that is all.
    let database = PgPool::connect_lazy(&database).context("DATABASE_URL")?;
    let feed = Feed::start(&feed).context("FEED_URL")?;
    let listener = TcpListener::bind(&listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, service::App::new(database, feed).router()).await?;
    Ok(())
}
