//! Making a connection: name, TCP, TLS, account, database; through Sentinels, or to a cluster. One deadline for all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::select_ok;
use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{AsyncConnectionConfig, Cmd, RedisConnectionInfo, RedisError, Value};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use super::tls::Tls;
use super::trouble::{Trouble, TroubleKind};
use super::url::{Topology, ValkeyUrl};

/// Keys to ask a cluster for: some are on a node that answers, if there is one.
const CLUSTER_PINGS: usize = 16;

/// Where to connect, and as whom.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) url: ValkeyUrl,
    pub(super) tls: Option<Tls>,
    /// For one attempt as a whole, names and handshakes included.
    pub(super) connect_timeout: Duration,
    /// For one answer.
    pub(super) timeout: Duration,
    /// How keys begin that nothing is ever stored under.
    pub(super) ping_key: String,
}

/// A connection that many can ask at a time. Clones share it; it closes with the last.
#[derive(Clone)]
pub(super) enum Wire {
    One(
        MultiplexedConnection,
        #[expect(dead_code, reason = "held until the last clone is gone")] Arc<Driver>,
    ),
    Cluster(ClusterConnection),
}

/// The task that reads and writes. Left to itself it would wait for every answer that is owed, from a frozen server
/// for ever.
pub(super) struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Wire {
    /// Sends a command; a refusal of the server is an error. No deadline: the caller has one.
    pub(super) async fn ask(&mut self, command: &Cmd) -> Result<Value, RedisError> {
        let answer = match self {
            Self::One(connection, _) => connection.req_packed_command(command).await,
            Self::Cluster(connection) => connection.req_packed_command(command).await,
        };
        answer?.extract_error()
    }
}

impl Endpoint {
    /// Connects and logs in.
    pub(super) async fn connect(&self) -> Result<Wire, Trouble> {
        let connecting = async {
            match &self.url.topology {
                Topology::Single => self.only_server().await,
                Topology::Sentinel { master, user, password } => {
                    self.primary(master, (user.as_deref(), password.as_deref())).await
                }
                Topology::Cluster => self.cluster().await.map(Wire::Cluster),
            }
        };
        match tokio::time::timeout(self.connect_timeout, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(Trouble::new(
                TroubleKind::Unreachable,
                format!("no connection to {} within {:?}", self.url, self.connect_timeout),
            )),
        }
    }

    async fn only_server(&self) -> Result<Wire, Trouble> {
        let (user, password) = (self.url.user.as_deref(), self.url.password.as_deref());
        let (host, port) = self.url.servers.first().ok_or_else(|| self.unreachable("no host"))?;
        self.log_in(host, *port, (user, password), self.url.database).await
    }

    /// Asks one Sentinel after the other for the primary, and the primary whether it is one.
    async fn primary(&self, master: &str, account: (Option<&str>, Option<&str>)) -> Result<Wire, Trouble> {
        let mut last = Trouble::new(TroubleKind::NoPrimary, "no Sentinel is named");
        for (host, port) in &self.url.servers {
            let asked = self.ask_sentinel(host, *port, account, master).await;
            let (host, port) = match asked {
                Ok(found) => found,
                Err(trouble) => {
                    last = trouble;
                    continue;
                }
            };
            let (user, password) = (self.url.user.as_deref(), self.url.password.as_deref());
            let mut wire = self.log_in(&host, port, (user, password), self.url.database).await?;
            // Sentinel may not have noticed yet. A server that does not let us ask is taken at its word.
            if let Ok(Value::Array(role)) = self.ask_in_time(&mut wire, &redis::cmd("ROLE")).await
                && text(role.first()).as_deref() != Some("master")
            {
                let detail = format!("{host}:{port}, named by Sentinel, is not a primary");
                return Err(Trouble::new(TroubleKind::NoPrimary, detail));
            }
            return Ok(wire);
        }
        Err(last)
    }

    async fn ask_sentinel(
        &self,
        host: &str,
        port: u16,
        account: (Option<&str>, Option<&str>),
        master: &str,
    ) -> Result<(String, u16), Trouble> {
        // A share of the time each, so that a frozen Sentinel does not use it up.
        let share = self.connect_timeout
            / (u32::try_from(self.url.servers.len()).unwrap_or(u32::MAX).saturating_add(1));
        let asking = async {
            let mut sentinel = self.log_in(host, port, account, 0).await?;
            let question = redis::cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(master).clone();
            self.ask_in_time(&mut sentinel, &question).await
        };
        let answer = tokio::time::timeout(share, asking).await;
        let answer =
            answer.unwrap_or_else(|_| Err(self.unreachable(format!("Sentinel {host}:{port} is silent"))))?;
        if let Value::Array(parts) = &answer
            && let (Some(host), Some(port)) = (text(parts.first()), text(parts.get(1)))
            && let Ok(port) = port.parse()
        {
            return Ok((host, port));
        }
        Err(Trouble::new(TroubleKind::NoPrimary, format!("Sentinel {host}:{port} knows no \"{master}\"")))
    }

    /// TCP, TLS, account and database of one server.
    async fn log_in(
        &self,
        host: &str,
        port: u16,
        (user, password): (Option<&str>, Option<&str>),
        database: i64,
    ) -> Result<Wire, Trouble> {
        let unreachable = |error| self.unreachable(format!("{host}:{port}: {error}"));
        // Tries each address that the name has.
        let stream = TcpStream::connect((host, port)).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let mut wire = match &self.tls {
            Some(tls) => {
                let broken = |error: &dyn std::fmt::Display| {
                    Trouble::new(TroubleKind::Tls, format!("{host}:{port}: {error}"))
                };
                let name = ServerName::try_from(host.to_owned()).map_err(|error| broken(&error))?;
                let connector = TlsConnector::from(tls.client.clone());
                multiplex(connector.connect(name, stream).await.map_err(|error| broken(&error))?).await?
            }
            None => multiplex(stream).await?,
        };
        // By hand, because the client library keeps the server's reasons to itself.
        if let Some(password) = password {
            let mut auth = redis::cmd("AUTH");
            if let Some(user) = user {
                auth.arg(user);
            }
            self.ask_in_time(&mut wire, auth.arg(password)).await?;
        }
        if database != 0 {
            self.ask_in_time(&mut wire, redis::cmd("SELECT").arg(database)).await?;
        }
        Ok(wire)
    }

    async fn cluster(&self) -> Result<ClusterConnection, Trouble> {
        let client = self.cluster_client().map_err(|error| Trouble::from(&error))?;
        client.get_async_connection().await.map_err(|error| Trouble::from(&error))
    }

    fn cluster_client(&self) -> Result<ClusterClient, RedisError> {
        let scheme = if self.tls.is_some() { "rediss" } else { "redis" };
        let node = |(host, port): &(String, u16)| {
            if host.contains(':') {
                format!("{scheme}://[{host}]:{port}")
            } else {
                format!("{scheme}://{host}:{port}")
            }
        };
        let mut builder = ClusterClient::builder(self.url.servers.iter().map(node))
            // One, so that a redirection is followed; the deadline of the whole is ours.
            .retries(1)
            .connection_timeout(self.connect_timeout)
            .response_timeout(self.timeout)
            .overall_response_timeout(Some(self.connect_timeout));
        if let Some(user) = &self.url.user {
            builder = builder.username(user);
        }
        if let Some(password) = &self.url.password {
            builder = builder.password(password);
        }
        if self.url.database != 0 {
            builder = builder.database_id(self.url.database);
        }
        if let Some(tls) = &self.tls {
            builder = builder.certs(tls.certificates());
        }
        builder.build()
    }

    /// Whether it answers what it will be asked: PING would be answered to those who may not read, too. Of a cluster one
    /// node has to.
    pub(super) async fn ping(&self, wire: &Wire) -> Result<Duration, Trouble> {
        let started = Instant::now();
        let keys = if self.is_cluster() { CLUSTER_PINGS } else { 1 };
        let ask = |number: usize| {
            let mut wire = wire.clone();
            Box::pin(async move {
                let mut command = redis::cmd("GETRANGE");
                command.arg(format!("{}:{number}", self.ping_key)).arg(0).arg(0);
                match self.ask_in_time(&mut wire, &command).await {
                    Err(trouble) if trouble.kind != TroubleKind::WrongType => Err(trouble),
                    _ => Ok(()),
                }
            })
        };
        select_ok((0..keys).map(ask)).await?;
        Ok(started.elapsed())
    }

    /// Its nodes come and go one by one, and the client library sees to their connections.
    pub(super) fn is_cluster(&self) -> bool {
        self.url.topology == Topology::Cluster
    }

    /// An answer within the time of one operation.
    pub(super) async fn ask_in_time(&self, wire: &mut Wire, command: &Cmd) -> Result<Value, Trouble> {
        match tokio::time::timeout(self.timeout, wire.ask(command)).await {
            Ok(answer) => answer.map_err(|error| Trouble::from(&error)),
            Err(_) => Err(Trouble::timed_out(&format!("no answer within {:?}", self.timeout))),
        }
    }

    fn unreachable(&self, detail: impl std::fmt::Display) -> Trouble {
        Trouble::new(TroubleKind::Unreachable, detail)
    }
}

async fn multiplex<S>(stream: S) -> Result<Wire, Trouble>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let nobody = RedisConnectionInfo::default().set_skip_set_lib_name();
    // Deadlines are ours; and more may wait in line than the library's default lets.
    let config = AsyncConnectionConfig::new()
        .set_response_timeout(None)
        .set_connection_timeout(None)
        .set_pipeline_buffer_size(256);
    let made = MultiplexedConnection::new_with_config(&nobody, stream, config).await;
    let (connection, driver) = made.map_err(|error| Trouble::from(&error))?;
    let driver = Driver(tokio::spawn(driver).abort_handle());
    Ok(Wire::One(connection, Arc::new(driver)))
}

fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}
