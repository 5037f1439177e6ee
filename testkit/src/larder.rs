//! Larder as a child process.

use std::{
    env,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitStatus,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use larder_sandbox::{Guarded, Owner, Signal};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};

/// How long it may take to start, unless the builder says otherwise.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How often readiness is asked for.
const POLL: Duration = Duration::from_millis(10);
/// How long one admin request may take.
const HTTP_LIMIT: Duration = Duration::from_secs(5);

/// What [`LarderBuilder::start`] waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// `/readyz` answers 200.
    Ready,
    /// `/livez` answers 200.
    Live,
    /// The client port accepts connections.
    Port,
    /// Nothing.
    Nothing,
}

/// How Larder is to be started; see [`Larder::builder`].
#[derive(Clone, Debug)]
pub struct LarderBuilder {
    binary: Option<PathBuf>,
    origin: Option<String>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    config: Option<String>,
    wait: Wait,
    limit: Duration,
}

impl LarderBuilder {
    /// The program; in the tests of the crate `larder` that is `env!("CARGO_BIN_EXE_larder")`. If not said, it is taken
    /// from the environment or found beside the test's own program.
    #[must_use]
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.binary = Some(path.into());
        self
    }

    /// The origin's URL.
    #[must_use]
    pub fn origin(mut self, url: impl Into<String>) -> Self {
        self.origin = Some(url.into());
        self
    }

    /// One more argument after `serve`.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// An environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// The text of a configuration file, given with `--config`.
    #[must_use]
    pub fn config(mut self, toml: impl Into<String>) -> Self {
        self.config = Some(toml.into());
        self
    }

    /// What to wait for; [`Wait::Ready`] if not said.
    #[must_use]
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// How long that may take.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Starts Larder on free ports.
    ///
    /// # Errors
    /// It ends, or is not ready in time; its log is in the error.
    pub async fn start(self) -> Result<Larder> {
        // Another test may take a port between its being found free and its being bound.
        for _ in 0..2 {
            match self.try_start().await {
                Err(error) if error.to_string().contains("Address already in use") => {}
                done => return done,
            }
        }
        self.try_start().await
    }

    async fn try_start(&self) -> Result<Larder> {
        let binary = self.binary.clone().map_or_else(find_binary, Ok)?;
        let folder = tempfile::Builder::new().prefix("larder-under-test-").tempdir()?;
        let log = folder.path().join("log");
        File::create(&log)?;
        let owner = Owner::ourselves();
        let guarded = Guarded::new(owner, folder.path(), log.clone())?;
        let mut larder =
            Larder { guarded, listen: free_addr().await?, admin: free_addr().await?, log, folder };
        let mut command = owner.command(&binary);
        // Only what the test says counts, not what the machine's environment happens to hold.
        for (name, _) in env::vars_os().filter(|(n, _)| n.to_string_lossy().starts_with("LARDER_")) {
            command.env_remove(name);
        }
        command.current_dir(larder.folder.path()).envs(self.environment.iter().cloned());
        command.args(["serve", "--listen", &larder.listen.to_string(), "--admin", &larder.admin.to_string()]);
        if let Some(origin) = &self.origin {
            command.args(["--origin", origin]);
        }
        if let Some(config) = &self.config {
            let path = larder.folder.path().join("larder.toml");
            fs::write(&path, config)?;
            command.arg("--config").arg(path);
        }
        command.args(&self.arguments);
        larder.guarded.start(&mut command)?;
        larder.wait_for(self.wait, self.limit).await?;
        Ok(larder)
    }
}

/// A running Larder, killed when dropped, and by the watcher if the test dies.
#[derive(Debug)]
pub struct Larder {
    guarded: Guarded,
    listen: SocketAddr,
    admin: SocketAddr,
    log: PathBuf,
    folder: TempDir,
}

impl Larder {
    /// With defaults: see the builder's methods.
    #[must_use]
    pub fn builder() -> LarderBuilder {
        LarderBuilder {
            binary: None,
            origin: None,
            arguments: vec![],
            environment: vec![],
            config: None,
            wait: Wait::Ready,
            limit: START_LIMIT,
        }
    }

    /// Where clients connect.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.listen
    }

    /// Where the admin HTTP server listens.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// A client's connection URL.
    #[must_use]
    pub fn url(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@{}/{database}", self.listen)
    }

    /// The process number, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.guarded.pid().map(|p| p.as_raw_nonzero().get())
    }

    /// All it has written to stdout and stderr.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal: `TERM`, `HUP`, `STOP`, `CONT`.
    ///
    /// # Errors
    /// It is not running.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        let pid = self.guarded.pid().context("Larder is not running")?;
        Ok(self.guarded.signal(pid, signal)?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It still runs after the limit.
    pub async fn ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            match self.guarded.ended() {
                Some(status) => return Ok(status),
                None if Instant::now() < deadline => sleep(POLL).await,
                None => bail!("Larder still runs after {limit:?}\n{}", self.guarded.log_tail()),
            }
        }
    }

    /// Waits until it is as far as that.
    ///
    /// # Errors
    /// It ends, or is not, in time; its log is in the error.
    pub async fn wait_for(&mut self, wait: Wait, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !self.is(wait).await {
            if let Some(status) = self.guarded.ended() {
                bail!("Larder ended ({status})\n{}", self.guarded.log_tail());
            }
            if Instant::now() >= deadline {
                bail!("Larder is not {wait:?} after {limit:?}\n{}", self.guarded.log_tail());
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// GET from the admin HTTP server: the status code and the body.
    ///
    /// # Errors
    /// It does not answer in time, or not in HTTP.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        self.http(&format!("GET {path}"), "", "").await
    }

    /// Sends JSON to the admin server, with its token.
    ///
    /// # Errors
    /// It does not answer in time, or not in HTTP.
    pub async fn post(&self, path: &str, token: &str, body: &str) -> Result<(u16, String)> {
        let length = body.len();
        let headers = format!(
            "Authorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n"
        );
        self.http(&format!("POST {path}"), &headers, body).await
    }

    async fn http(&self, what: &str, headers: &str, body: &str) -> Result<(u16, String)> {
        let answer = async {
            let mut stream = TcpStream::connect(self.admin).await?;
            let own = format!("Host: {}\r\nConnection: close\r\n{headers}", self.admin);
            let request = format!("{what} HTTP/1.1\r\n{own}\r\n{body}");
            stream.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            anyhow::Ok(String::from_utf8_lossy(&answer).into_owned())
        };
        let answer =
            timeout(HTTP_LIMIT, answer).await.with_context(|| format!("{what} takes too long"))??;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).context("no HTTP status")?;
        Ok((status, body.to_owned()))
    }

    async fn is(&self, wait: Wait) -> bool {
        match wait {
            Wait::Ready => matches!(self.get("/readyz").await, Ok((200, _))),
            Wait::Live => matches!(self.get("/livez").await, Ok((200, _))),
            Wait::Port => TcpStream::connect(self.listen).await.is_ok(),
            Wait::Nothing => true,
        }
    }
}

impl Drop for Larder {
    fn drop(&mut self) {
        // Errors have nowhere to go; the watcher tries again.
        let _ = self.guarded.stop(&[(Signal::KILL, Duration::from_secs(5))]);
    }
}

/// An address nobody uses at this moment.
async fn free_addr() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?)
}

/// From what cargo or nextest tell, else from the folder two above this program's: target/debug/deps/it-….
fn find_binary() -> Result<PathBuf> {
    let told = ["CARGO_BIN_EXE_larder", "NEXTEST_BIN_EXE_larder"].iter().find_map(env::var_os);
    let binary = match told {
        Some(path) => PathBuf::from(path),
        None => env::current_exe()?.ancestors().nth(2).context("no target folder")?.join("larder"),
    };
    if !binary.is_file() {
        bail!("{} is not there: build it first with `cargo build -p larder`", binary.display());
    }
    Ok(binary)
}
