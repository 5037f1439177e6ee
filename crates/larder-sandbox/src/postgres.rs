//! A throw-away PostgreSQL cluster.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal};

use crate::{
    PgVersion,
    error::{Context, Error, Result},
    guard::Guarded,
    locate::{self, PgPrograms},
    owner::Owner,
    rundir::RunDir,
    template::{self, SUPERUSER},
};

/// Recovery after a crash included; a loaded machine is slow.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A fast shutdown waits for the walsenders, which wait for their receivers: not for ever.
const FAST_LIMIT: Duration = Duration::from_secs(10);

/// An immediate shutdown takes some hundredths of a second, unless a connection that came in meanwhile says nothing:
/// PostgreSQL would wait for that one until its authentication timeout. Killed, it leaves nothing that matters.
const DROP_LIMIT: Duration = Duration::from_secs(2);

/// Between choosing a free port and using it, another process may take it.
const PORT_ATTEMPTS: usize = 10;

/// What every cluster has unless the builder says otherwise. `wal_level` and the limits are what a change feed
/// needs, with room for hundreds of clients.
const SETTINGS: [(&str, &str); 14] = [
    ("listen_addresses", "127.0.0.1"),
    ("max_connections", "300"),
    ("shared_buffers", "32MB"),
    ("wal_level", "logical"),
    ("max_wal_senders", "20"),
    ("max_replication_slots", "20"),
    ("max_prepared_transactions", "20"),
    ("autovacuum", "on"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    ("log_line_prefix", "%m [%p] %q%u@%d "),
    ("logging_collector", "off"),
    ("log_min_messages", "warning"),
    ("lc_messages", "C"),
];

/// Settings of a cluster that need not survive a crash of the machine: commits are as visible as ever, but the
/// disk is not waited for.
const NOT_DURABLE: [(&str, &str); 2] = [("fsync", "off"), ("full_page_writes", "off")];

/// A way to prove who one is, for [`Postgres::create_user`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// No proof asked.
    Trust,
    /// The password in clear text.
    Password,
    /// The md5 challenge.
    Md5,
    /// SCRAM-SHA-256.
    Scram,
}

impl Auth {
    /// The method's name in `pg_hba.conf`.
    #[must_use]
    pub fn hba_name(self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Password => "password",
            Self::Md5 => "md5",
            Self::Scram => "scram-sha-256",
        }
    }
}

/// How a cluster is to be; see [`Postgres::builder`].
#[derive(Clone, Debug, Default)]
pub struct PostgresBuilder {
    version: PgVersion,
    settings: Vec<(String, String)>,
    hba: Vec<String>,
    durable: bool,
}

impl PostgresBuilder {
    /// Which PostgreSQL; any, if not said.
    #[must_use]
    pub fn version(mut self, version: PgVersion) -> Self {
        self.version = version;
        self
    }

    /// A line of `postgresql.conf`; the last one for a name counts.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A line of `pg_hba.conf`, before the default ones, which trust everybody on this machine.
    #[must_use]
    pub fn hba(mut self, line: &str) -> Self {
        self.hba.push(line.to_owned());
        self
    }

    /// Whether commits wait for the disk (`fsync`); no, if not said. What is visible to whom is the same either way.
    #[must_use]
    pub fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    /// Starts the cluster.
    ///
    /// # Errors
    /// No such PostgreSQL on this machine, or it does not start: the error says what, where and why.
    pub fn start(self) -> Result<Postgres> {
        let programs = locate::postgres(self.version)?;
        let owner = Owner::unprivileged();
        let template = template::data_directory(&programs, owner)?;
        let dir = RunDir::new("pg", owner)?;
        let data = dir.path().join("data");
        template::copy(&template, &data, owner)?;
        let guarded = Guarded::new(owner, dir.path(), dir.path().join("log"))?;
        let mut postgres = Postgres { guarded, programs, owner, port: 0, hba: self.hba.clone(), dir };
        postgres.write_hba()?;
        let conf = data.join("postgresql.conf");
        let base = fs::read_to_string(&conf).context(|| format!("cannot read {}", conf.display()))?;
        let mut attempt = 1;
        loop {
            postgres.port = free_port()?;
            let text = base.clone() + &self.conf(postgres.port, postgres.dir.path());
            fs::write(&conf, text).context(|| format!("cannot write {}", conf.display()))?;
            match postgres.launch() {
                Err(Error::Failed { output, .. }) if attempt < PORT_ATTEMPTS && may_pass(&output) => {
                    attempt += 1
                }
                done => return done.map(|()| postgres),
            }
        }
    }

    fn conf(&self, port: u16, socket_dir: &Path) -> String {
        let socket_dir = socket_dir.display().to_string();
        let port = port.to_string();
        let own = [("port", port.as_str()), ("unix_socket_directories", socket_dir.as_str())];
        let relaxed: &[(&str, &str)] = if self.durable { &[] } else { &NOT_DURABLE };
        let asked = self.settings.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        let all = SETTINGS.iter().copied().chain(relaxed.iter().copied()).chain(asked).chain(own);
        all.fold(String::from("\n# larder-sandbox\n"), |mut text, (name, value)| {
            let _ = writeln!(text, "{name} = '{}'", value.replace('\'', "''"));
            text
        })
    }
}

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

    /// Runs SQL as the superuser in the database `postgres`, each statement on its own; the answer is what `psql`
    /// prints unaligned and without headings: rows as lines, columns with `|` between them.
    ///
    /// # Errors
    /// The first statement that fails ends it, with the server's message.
    pub fn sql(&self, sql: &str) -> Result<String> {
        self.sql_in("postgres", sql)
    }

    /// As [`Postgres::sql`], in the given database.
    ///
    /// # Errors
    /// As there.
    pub fn sql_in(&self, database: &str, sql: &str) -> Result<String> {
        let psql = self.programs.bin.join("psql");
        let psql = if psql.is_file() { psql } else { PathBuf::from("psql") };
        let mut child = Command::new(&psql)
            .args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-U", SUPERUSER, "-d", database, "-p"])
            .arg(self.port.to_string())
            .arg("-h")
            .arg(self.socket_dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context(|| format!("cannot run {}", psql.display()))?;
        // psql reads all of its input before it says much, so writing first cannot block for good; if it ends
        // early (no connection) the write fails and its own message, below, is the one to show.
        if let Some(mut stdin) = child.stdin.take() {
            let _ = stdin.write_all(sql.as_bytes());
        }
        let output = child.wait_with_output().context(|| "cannot wait for psql".to_owned())?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned());
        }
        Err(Error::Failed {
            what: format!("psql -d {database}: {sql}"),
            status: output.status.to_string(),
            output: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Makes a role that may log in with this password (not asked for with [`Auth::Trust`]) over TCP.
    ///
    /// # Errors
    /// The role exists, or the server is not running.
    pub fn create_user(&mut self, name: &str, password: &str, auth: Auth) -> Result<()> {
        let encryption = if auth == Auth::Md5 { "md5" } else { "scram-sha-256" };
        let (quoted, secret) = (name.replace('"', "\"\""), password.replace('\'', "''"));
        self.sql(&format!(
            "set password_encryption = '{encryption}'; create role \"{quoted}\" login password '{secret}';"
        ))?;
        self.add_hba(&format!("host all \"{quoted}\" 127.0.0.1/32 {}", auth.hba_name()))
    }

    /// Adds a line to `pg_hba.conf`, after those added before and before the default ones, and reloads.
    ///
    /// # Errors
    /// The file cannot be written, or the server is not running.
    pub fn add_hba(&mut self, line: &str) -> Result<()> {
        self.hba.push(line.to_owned());
        self.write_hba()?;
        self.reload()
    }

    /// Sets a setting for the whole cluster (`ALTER SYSTEM`) and reloads; some need [`Postgres::restart`] besides.
    ///
    /// # Errors
    /// No such setting or value.
    pub fn alter_system(&self, name: &str, value: &str) -> Result<()> {
        self.sql(&format!("alter system set {name} = '{}'", value.replace('\'', "''")))?;
        self.reload()
    }

    /// Makes the server read its configuration again. By the time this returns a new session sees the new values.
    ///
    /// # Errors
    /// The server is not running.
    pub fn reload(&self) -> Result<()> {
        // Asked for in one session and seen in another: a session learns of the reload by a signal at some later time,
        // but the time of loading belongs to the postmaster, whose children inherit it.
        let before = self.sql("select pg_conf_load_time()")?;
        self.sql("select pg_reload_conf()")?;
        let deadline = std::time::Instant::now() + START_LIMIT;
        while self.sql("select pg_conf_load_time()")? == before {
            if std::time::Instant::now() >= deadline {
                let what = "the configuration is not reloaded".to_owned();
                return Err(Error::TimedOut { what, seconds: START_LIMIT.as_secs(), log: self.log_tail() });
            }
        }
        Ok(())
    }

    /// Process numbers of the walsenders.
    ///
    /// # Errors
    /// The server is not running.
    pub fn walsenders(&self) -> Result<Vec<i32>> {
        let rows =
            self.sql("select pid from pg_stat_activity where backend_type = 'walsender' order by pid")?;
        Ok(rows.lines().filter_map(|l| l.parse().ok()).collect())
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
        for _ in 1..PORT_ATTEMPTS {
            match self.launch() {
                // A short-lived connection of another process may hold the port for a moment; after a crash
                // the old server's processes may need one to notice.
                Err(Error::Failed { output, .. }) if may_pass(&output) => {
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

    fn write_hba(&self) -> Result<()> {
        let mut text = format!("local all {SUPERUSER} trust\n");
        for line in &self.hba {
            let _ = writeln!(text, "{line}");
        }
        text += "local all all trust\nlocal replication all trust\n";
        text += "host all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n";
        let path = self.data_dir().join("pg_hba.conf");
        fs::write(&path, text).context(|| format!("cannot write {}", path.display()))
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

/// A port nobody uses at this moment.
pub(crate) fn free_port() -> Result<u16> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|l| l.local_addr())
        .map(|a| a.port())
        .context(|| "no free port on 127.0.0.1".to_owned())
}

/// Whether a failed start is worth another attempt: someone else had the port, or a crashed server's processes are
/// not all gone.
pub(crate) fn may_pass(log: &str) -> bool {
    ["Address already in use", "could not create any TCP/IP sockets", "shared memory block"]
        .iter()
        .any(|sign| log.contains(sign))
}
