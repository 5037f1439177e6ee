//! Everything that can end a stream, and the one table from it to what an operator should do.

use std::io;
use std::time::Duration;

use larder_core::Finding;
use larder_login::ConnectError;

use crate::{Account, findings};

/// Why the feed stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// No connection could be made.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The origin answers, but not with the TLS that is asked for.
    #[error("no TLS: {0}")]
    Tls(ConnectError),
    /// A connection broke.
    #[error("connection lost: {0}")]
    Lost(#[from] io::Error),
    /// Something took longer than it may.
    #[error("no answer to {what} within {limit:?}")]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// How long.
        limit: Duration,
    },
    /// PostgreSQL said no.
    #[error("{0}")]
    Server(ServerError),
    /// The control connection failed without a word from PostgreSQL.
    #[error("control connection: {0}")]
    Control(tokio_postgres::Error),
    /// Authentication that is not understood, or a password that is missing.
    #[error("authentication: {0}")]
    Authentication(String),
    /// The server does not follow the protocol as it is understood here.
    #[error("unexpected answer: {0}")]
    Protocol(String),
    /// The preflight found what stands in the way.
    #[error("{}", .0.first().map_or("", |finding| finding.problem.as_str()))]
    Preflight(Vec<Finding>),
}

/// An ErrorResponse.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ServerError {
    /// SQLSTATE.
    pub(crate) code: String,
    /// The message, in the server's language.
    pub(crate) message: String,
}

impl std::fmt::Display for ServerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.code)
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Tcp(error) => Self::Connect(error),
            other => Self::Tls(other),
        }
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(db) => Self::Server(ServerError {
                code: db.code().code().to_owned(),
                message: db.message().to_owned(),
            }),
            None => Self::Control(error),
        }
    }
}

impl Failure {
    /// What an operator should know and do.
    pub(crate) fn findings(&self, account: &Account) -> Vec<Finding> {
        match self {
            Self::Preflight(found) => found.clone(),
            Self::Connect(error) => vec![findings::unreachable(account, error)],
            Self::Tls(error) => vec![findings::tls(account, error)],
            Self::Authentication(why) => vec![findings::authentication(account, why)],
            Self::Server(error) => vec![findings::refused(account, error)],
            Self::Timeout { .. } | Self::Lost(_) | Self::Control(_) | Self::Protocol(_) => {
                vec![findings::interrupted(&self.to_string())]
            }
        }
    }
}

/// Failing to connect has causes of its own, which the client library tells only by their source and wording.
pub(crate) fn while_connecting(error: tokio_postgres::Error) -> Failure {
    if error.as_db_error().is_some() {
        return error.into();
    }
    let source = std::error::Error::source(&error);
    if let Some(io) = source.and_then(|cause| cause.downcast_ref::<io::Error>()) {
        return Failure::Connect(io::Error::new(io.kind(), io.to_string()));
    }
    let wording = source.map_or_else(|| error.to_string(), ToString::to_string);
    if wording.contains("password") { Failure::Authentication(wording) } else { error.into() }
}

/// Bounds a wait on the origin.
pub(crate) async fn within<T, E: Into<Failure>>(
    limit: Duration,
    what: &'static str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(Failure::Timeout { what, limit }),
    }
}
