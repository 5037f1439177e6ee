//! Where users' secrets come from with `[listen] auth = "verify"`: a file, then a query asked with Larder's own account.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use larder_feed::Account;
use larder_login::Secret;
use larder_proxy::{SecretAnswer, Secrets};
use tokio::sync::Mutex;
use tokio_postgres::{Client, Statement};

/// Longest wait for the answer to a query. A client waits for it.
const LIMIT: Duration = Duration::from_secs(5);

/// The file's users, and how to ask for others.
#[derive(Debug)]
pub(crate) struct UserSecrets {
    users: HashMap<String, Secret>,
    question: Option<Question>,
    seed: [u8; 32],
}

impl UserSecrets {
    pub(super) fn new(users: HashMap<String, Secret>, question: Option<Question>, seed: [u8; 32]) -> Self {
        Self { users, question, seed }
    }
}

impl Secrets for UserSecrets {
    fn secret<'a>(&'a self, user: &'a str) -> SecretAnswer<'a> {
        Box::pin(async move {
            if let Some(secret) = self.users.get(user) {
                return Ok(Some(secret.clone()));
            }
            let Some(question) = &self.question else { return Ok(None) };
            let found = question.ask(user).await?;
            Ok(found.map(|text| Secret::parse(&text, user, &self.seed)))
        })
    }
}

/// The query, and the one connection that it is asked on. Questions share it and do not wait for each other.
#[derive(Debug)]
pub(crate) struct Question {
    account: Account,
    sql: String,
    connection: Mutex<Option<Arc<(Client, Statement)>>>,
}

impl Question {
    pub(crate) fn new(account: Account, sql: &str) -> Self {
        Self { account, sql: sql.to_owned(), connection: Mutex::default() }
    }

    /// The user's secret as the origin keeps it; `None`: no such user, or no password.
    pub(crate) async fn ask(&self, user: &str) -> Result<Option<String>, String> {
        match tokio::time::timeout(LIMIT, self.try_ask(user)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer to auth_query within {LIMIT:?}")),
        }
    }

    async fn try_ask(&self, user: &str) -> Result<Option<String>, String> {
        let mut again = true;
        loop {
            let asked = self.connected().await?;
            let (client, statement) = &*asked;
            match client.query_opt(statement, &[&user]).await {
                // The last column: PgBouncer's functions return the user and the secret.
                Ok(Some(row)) => {
                    let last = row.len().checked_sub(1).ok_or("auth_query returns no column")?;
                    return row.try_get(last).map_err(|error| format!("auth_query: {}", said(&error)));
                }
                Ok(None) => return Ok(None),
                // The origin was restarted, say, since the last question.
                Err(_) if client.is_closed() && std::mem::take(&mut again) => {}
                Err(error) => return Err(format!("auth_query: {}", said(&error))),
            }
        }
    }

    async fn connected(&self) -> Result<Arc<(Client, Statement)>, String> {
        let mut connection = self.connection.lock().await;
        if let Some(known) = connection.as_ref().filter(|known| !known.0.is_closed()) {
            return Ok(Arc::clone(known));
        }
        let connecting = larder_feed::connect(&self.account, "larder auth").await;
        let client = connecting.map_err(|findings| {
            findings.into_iter().map(|finding| finding.problem).collect::<Vec<_>>().join("; ")
        })?;
        let statement =
            client.prepare(&self.sql).await.map_err(|error| format!("auth_query: {}", said(&error)))?;
        let new = Arc::new((client, statement));
        *connection = Some(Arc::clone(&new));
        Ok(new)
    }
}

/// The origin's own words, which the driver's error keeps as its source.
fn said(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{} (SQLSTATE {})", db.message(), db.code().code()),
        None => error.to_string(),
    }
}
