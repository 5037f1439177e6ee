//! The programs that are compared, each started once and used by every case.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use larder_sandbox::{PgVersion, Postgres};
use serde::Serialize;
use tempfile::TempDir;

use crate::cases::SCALE;
use crate::metrics;

/// The database that is measured.
pub(crate) const DATABASE: &str = "bench";

/// A program that has not come up by then will not.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SideName {
    /// PostgreSQL itself.
    Direct,
    /// The floor server.
    Floor,
    /// PgBouncer in session mode.
    PgBouncer,
    /// Larder with `mode = "bypass"`.
    Bypass,
    /// Larder with `mode = "serve"`, warm.
    Larder,
    /// The same with other settings.
    Against,
}

impl SideName {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Direct => "origin, directly",
            Self::Floor => "floor",
            Self::PgBouncer => "PgBouncer, session mode",
            Self::Bypass => "Larder, bypass",
            Self::Larder => "Larder",
            Self::Against => "Larder, other settings",
        }
    }
}

/// Where a side listens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Side {
    pub(crate) name: SideName,
    pub(crate) port: u16,
    /// Larder's admin port.
    pub(crate) admin: Option<u16>,
}

/// Every program that runs.
#[derive(Debug)]
pub(crate) struct Sides {
    pub(crate) available: Vec<Side>,
    pub(crate) pgbench: PathBuf,
    pub(crate) pgbouncer: Option<PathBuf>,
    // Dropped in this order: what depends on the origin stops before it.
    _children: Vec<Running>,
    postgres: Postgres,
    folder: TempDir,
}

impl Sides {
    /// Starts everything; without `larder` only what it is compared with, and with settings to compare it with only that.
    pub(crate) fn start(larder: Option<&Path>, against: &[String]) -> Result<Self> {
        eprintln!("==> starting PostgreSQL 18 and filling {}00,000 rows (some seconds)", SCALE);
        let postgres = start_postgres()?;
        let pgbench = postgres.bin_dir().join("pgbench");
        fill(&postgres, &pgbench)?;
        let folder = tempfile::Builder::new()
            .prefix("larder-bench-")
            // PgBouncer may run under another account and has to read its configuration.
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()?;

        if let Some(program) = larder.filter(|_| !against.is_empty()) {
            let (mut available, mut children) = (Vec::new(), Vec::new());
            for (name, settings) in [(SideName::Larder, &[][..]), (SideName::Against, against)] {
                let (child, port, admin) =
                    start_larder(program, "serve", settings, postgres.port(), folder.path())?;
                children.push(child);
                available.push(Side { name, port, admin: Some(admin) });
            }
            return Ok(Self { available, pgbench, pgbouncer: None, _children: children, postgres, folder });
        }
        let mut available = vec![Side { name: SideName::Direct, port: postgres.port(), admin: None }];
        let mut children = Vec::new();
        let (floor, port) = start_floor(folder.path())?;
        children.push(floor);
        available.push(Side { name: SideName::Floor, port, admin: None });

        let pgbouncer = find_pgbouncer();
        if let Some(program) = &pgbouncer {
            let (child, port) = start_pgbouncer(program, postgres.port(), folder.path())?;
            children.push(child);
            available.push(Side { name: SideName::PgBouncer, port, admin: None });
        } else {
            eprintln!("    PgBouncer is not installed (Debian, Ubuntu: apt-get install pgbouncer): left out");
        }
        for (name, mode) in [(SideName::Bypass, "bypass"), (SideName::Larder, "serve")] {
            let Some(program) = larder else { break };
            let (child, port, admin) = start_larder(program, mode, &[], postgres.port(), folder.path())?;
            children.push(child);
            available.push(Side { name, port, admin: Some(admin) });
        }
        Ok(Self { available, pgbench, pgbouncer, _children: children, postgres, folder })
    }

    /// Those that are there, in the order asked for.
    pub(crate) fn pick(&self, wanted: &[SideName]) -> Vec<Side> {
        wanted
            .iter()
            .filter_map(|name| self.available.iter().find(|side| side.name == *name).copied())
            .collect()
    }

    /// Process numbers of servers that do not descend from this process.
    pub(crate) fn servers(&self) -> Vec<u32> {
        self.postgres.pid().and_then(|pid| u32::try_from(pid).ok()).into_iter().collect()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn postgres_version(&self) -> String {
        self.postgres.sql("select version()").unwrap_or_default()
    }
}

fn start_postgres() -> Result<Postgres> {
    let builder = Postgres::builder()
        .version(PgVersion::V18)
        .setting("shared_buffers", "256MB")
        // One core an aggregate: with two cores, a parallel plan would be measured against the other programs.
        .setting("max_parallel_workers_per_gather", "0")
        .setting("autovacuum", "off");
    builder.start().context("PostgreSQL 18")
}

fn fill(postgres: &Postgres, pgbench: &Path) -> Result<()> {
    postgres.sql(&format!("create database {DATABASE}"))?;
    let output = Command::new(pgbench)
        .args(["-i", "-q", "-s", &SCALE.to_string(), "-h", "127.0.0.1", "-U", "postgres", "-p"])
        .arg(postgres.port().to_string())
        .arg(DATABASE)
        .output()
        .with_context(|| format!("cannot run {}", pgbench.display()))?;
    if !output.status.success() {
        bail!("pgbench -i: {}", String::from_utf8_lossy(&output.stderr));
    }
    postgres.sql_in(DATABASE, "vacuum analyze; checkpoint")?;
    Ok(())
}

fn start_floor(folder: &Path) -> Result<(Running, u16)> {
    let port = free_port()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["floor", "--listen", &format!("127.0.0.1:{port}")]);
    let mut child = Running::spawn("the floor server", command, folder)?;
    child.wait_until(|| listens(port))?;
    Ok((child, port))
}

fn find_pgbouncer() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join("pgbouncer")).find(|program| program.is_file())
}

fn start_pgbouncer(program: &Path, origin: u16, folder: &Path) -> Result<(Running, u16)> {
    let port = free_port()?;
    let config = folder.join("pgbouncer.ini");
    // No authentication, no log lines per connection, no reset query within a session: as fast as it can be.
    let text = format!(
        "[databases]\n{DATABASE} = host=127.0.0.1 port={origin} user=postgres\n\
         [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
         pool_mode = session\ndefault_pool_size = 100\nmax_client_conn = 200\n\
         log_connections = 0\nlog_disconnections = 0\nlog_pooler_errors = 0\n"
    );
    fs::write(&config, text)?;
    fs::set_permissions(&config, fs::Permissions::from_mode(0o644))?;
    let mut command = Command::new(program);
    if rustix::process::geteuid().is_root() {
        // It refuses to run as root.
        command.args(["-u", "nobody"]);
    }
    command.arg(&config);
    let mut child = Running::spawn("PgBouncer", command, folder)?;
    child.wait_until(|| listens(port))?;
    Ok((child, port))
}

fn start_larder(
    program: &Path,
    mode: &str,
    settings: &[String],
    origin: u16,
    folder: &Path,
) -> Result<(Running, u16, u16)> {
    let (port, admin) = (free_port()?, free_port()?);
    let mut command = Command::new(program);
    command
        .arg("serve")
        .args(["--origin", &format!("postgres://postgres@127.0.0.1:{origin}/{DATABASE}")])
        .args(["--listen", &format!("127.0.0.1:{port}"), "--admin", &format!("127.0.0.1:{admin}")])
        .args(["--mode", mode, "--log-level", "warn"])
        .args(settings.iter().flat_map(|setting| ["--set", setting]));
    let what = if mode == "serve" { "Larder" } else { "Larder in bypass" };
    let mut child = Running::spawn(what, command, folder)?;
    child.wait_until(|| metrics::get(admin, "/readyz").is_ok())?;
    if mode == "serve" {
        let may_hit = || {
            let text = metrics::get(admin, "/metrics").unwrap_or_default();
            metrics::gauge(&text, "larder_lease_remaining_seconds").is_some_and(|seconds| seconds > 0.0)
        };
        child.wait_until(may_hit).context("its change feed")?;
    }
    Ok((child, port, admin))
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn listens(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A child that is killed when it goes out of scope.
#[derive(Debug)]
struct Running {
    what: &'static str,
    child: Child,
    log: PathBuf,
}

impl Running {
    fn spawn(what: &'static str, mut command: Command, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{}.log", what.replace(' ', "-")));
        let output = File::create(&log)?;
        for (name, _) in std::env::vars_os() {
            // What is measured must not depend on the surroundings.
            if name.to_str().is_some_and(|name| name.starts_with("LARDER_")) {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("cannot start {what}: {command:?}"))?;
        Ok(Self { what, child, log })
    }

    fn wait_until(&mut self, mut ready: impl FnMut() -> bool) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        while !ready() {
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                let how =
                    ended.map_or_else(|| "is not ready".to_owned(), |status| format!("ended with {status}"));
                bail!("{} {how}; its log:\n{log}", self.what);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
