//! A throw-away PostgreSQL cluster.

mod builder;
mod sql;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, Signal};

pub use self::{builder::PostgresBuilder, sql::Auth};
use crate::{
    error::{Context, Error, Result},
    guard::Guarded,
    locate::PgPrograms,
    owner::Owner,
    port::{self, ATTEMPTS},
    rundir::RunDir,
};

/// Recovery after a crash included; a loaded machine is slow.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A fast shutdown waits for the walsenders, which wait for their receivers: not for ever.
const FAST_LIMIT: Duration = Duration::from_secs(10);

/// An immediate shutdown takes some hundredths of a second, unless a connection that came in meanwhile says nothing:
/// PostgreSQL would wait for that one until its authentication timeout. Killed, it leaves nothing that matters.
const DROP_LIMIT: Duration = Duration::from_secs(2);

/// A running PostgreSQL cluster, gone when dropped.
///
/// Its superuser is `postgres`. Unless the builder said otherwise, everybody on this machine is trusted.
#[derive(Debug)]
pub struct Postgres {
    // Dropped in this order: the server stops before its folder goes.
    guarded: Guarded,
    programs: PgPrograms,
    owner: Owner,
    port: u16,
    hba: Vec<String>,
    dir: RunDir,
}

impl Postgres {
    /// A cluster with the defaults: see the builder's methods.
    #[must_use]
    pub fn builder() -> PostgresBuilder {
        PostgresBuilder::default()
    }

    /// The TCP port, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The TCP address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// The folder of the Unix socket.
    #[must_use]
    pub fn socket_dir(&self) -> &Path {
        self.dir.path()
    }

    /// The data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The folder of the programs (`psql`, `pgbench`, `pg_dump`, …).
    #[must_use]
    pub fn bin_dir(&self) -> &Path {
        &self.programs.bin
    }

    /// The major version.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.programs.major
    }

    /// A connection URL (TCP, no TLS).
    #[must_use]
    pub fn url(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{database}", self.port)
    }

    /// Sends a signal to one of the server's processes. One that was stopped is woken when the server stops.
    ///
    /// # Errors
    /// No such process.
    pub fn signal(&mut self, pid: i32, signal: Signal) -> Result<()> {
        let Some(pid) = Pid::from_raw(pid).filter(|_| pid > 0) else {
            return Err(rustix::io::Errno::SRCH).context(|| format!("{pid} is no process number"));
        };
        self.guarded.signal(pid, signal)
    }

    /// The process number of the server itself, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.guarded.pid().map(|p| p.as_raw_nonzero().get())
    }

    /// Stops the server as `pg_ctl stop -m fast` does. Its folder stays: see [`Postgres::restart`].
    ///
    /// # Errors
    /// It does not stop even when killed.
    pub fn stop(&mut self) -> Result<()> {
        self.guarded.stop(&[(Signal::INT, FAST_LIMIT), (Signal::QUIT, FAST_LIMIT)])
    }

    /// Sends a signal to the server and waits for its end: `Signal::QUIT` (immediate shutdown) and `Signal::KILL` are
    /// crashes. The next start recovers.
    ///
    /// # Errors
    /// It does not end.
    pub fn kill(&mut self, signal: Signal) -> Result<()> {
        self.guarded.stop(&[(signal, FAST_LIMIT)])
    }

    /// Stops the server if it runs, and starts it on the same port and data.
    ///
    /// # Errors
    /// It does not stop, or does not start.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.start()
    }

    /// Starts a stopped server on the same port and data.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&mut self) -> Result<()> {
        for _ in 1..ATTEMPTS {
            match self.launch() {
                // A short-lived connection of another process may hold the port for a moment; after a crash
                // the old server's processes may need one to notice.
                Err(Error::Failed { output, .. }) if port::may_pass(&output) => {
                    std::thread::sleep(Duration::from_millis(300));
                }
                done => return done,
            }
        }
        self.launch()
    }

    /// The last 4 KB of the server's log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.guarded.log_tail()
    }

    /// Starts the server and waits until it accepts connections.
    fn launch(&mut self) -> Result<()> {
        let data = self.data_dir();
        let status_file = data.join("postmaster.pid");
        let mut command = self.owner.command(&self.programs.bin.join("postgres"));
        command.arg("-D").arg(&data).current_dir("/").env_remove("PGPORT").env_remove("PGDATA");
        self.guarded.start(&mut command)?;
        // Line 8 of postmaster.pid is the server's own word on its state; pg_ctl reads it too. Line 1 is its number:
        // the file of a crashed server stays until the next one replaces it.
        let pid = self.pid().map(|p| p.to_string()).unwrap_or_default();
        let ready = || {
            let text = fs::read_to_string(&status_file).unwrap_or_default();
            let mut lines = text.lines().map(str::trim);
            lines.next() == Some(&pid) && lines.nth(6) == Some("ready")
        };
        self.guarded.wait_until("PostgreSQL", START_LIMIT, ready)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // An immediate shutdown: there is nothing to save.
        if let Err(error) = self.guarded.stop(&[(Signal::QUIT, DROP_LIMIT)]) {
            tracing::warn!(%error, "a throw-away PostgreSQL does not stop");
        }
    }
}
