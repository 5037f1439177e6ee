//! A throw-away Valkey, or Redis, or Sentinel of either.

use std::{
    fs::Permissions,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    time::Duration,
};

use rustix::process::Signal;

use crate::{
    error::{Context as _, Error, Result},
    guard::Guarded,
    locate,
    owner::Owner,
    port::{self, ATTEMPTS},
    rundir::RunDir,
};

const SENTINEL_CONF: &str = "sentinel.conf";
const START_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// Whose program it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// Valkey, or whatever is there that speaks its protocol.
    #[default]
    Valkey,
    /// Redis, as the distribution has it. It speaks TLS.
    Redis,
}

/// How a Valkey is to be; see [`Valkey::builder`].
#[derive(Clone, Debug, Default)]
pub struct ValkeyBuilder {
    flavour: Flavour,
    sentinel: Option<String>,
    settings: Vec<(String, String)>,
}

impl ValkeyBuilder {
    /// Whose program; Valkey's if this is not called.
    #[must_use]
    pub fn flavour(mut self, flavour: Flavour) -> Self {
        self.flavour = flavour;
        self
    }

    /// A Sentinel instead: with these lines in its configuration file.
    #[must_use]
    pub fn sentinel(mut self, lines: &str) -> Self {
        self.sentinel = Some(lines.to_owned());
        self
    }

    /// A setting as in `valkey.conf`, for example `("maxmemory", "64mb")`.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the server.
    ///
    /// # Errors
    /// No Valkey on this machine, or it does not start: the error says what, where and why.
    pub fn start(self) -> Result<Valkey> {
        let program = match self.flavour {
            Flavour::Valkey => locate::valkey()?,
            Flavour::Redis => locate::redis()?,
        };
        let owner = Owner::unprivileged();
        let dir = RunDir::new("valkey", owner)?;
        let guarded = Guarded::new(owner, dir.path(), dir.path().join("log"))?;
        let sentinel = self.sentinel.is_some();
        if let Some(lines) = self.sentinel {
            // It writes what it learns into the file.
            let path = dir.path().join(SENTINEL_CONF);
            let written = std::fs::write(&path, lines)
                .and_then(|()| std::fs::set_permissions(&path, Permissions::from_mode(0o666)));
            written.context(|| format!("cannot write {}", path.display()))?;
        }
        let mut valkey = Valkey { guarded, program, owner, settings: self.settings, sentinel, port: 0, dir };
        let mut attempt = 1;
        loop {
            valkey.port = port::free()?;
            match valkey.start() {
                Err(Error::Failed { output, .. }) if attempt < ATTEMPTS && port::may_pass(&output) => {
                    attempt += 1
                }
                done => return done.map(|()| valkey),
            }
        }
    }
}

/// A running Valkey without persistence on 127.0.0.1, gone when dropped.
#[derive(Debug)]
pub struct Valkey {
    // Dropped in this order: the server stops before its folder goes.
    guarded: Guarded,
    program: PathBuf,
    owner: Owner,
    settings: Vec<(String, String)>,
    sentinel: bool,
    port: u16,
    dir: RunDir,
}

impl Valkey {
    /// A Valkey with other settings: see the builder's methods.
    #[must_use]
    pub fn builder() -> ValkeyBuilder {
        ValkeyBuilder::default()
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

    /// The connection URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The process number, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.guarded.pid().map(|p| p.as_raw_nonzero().get())
    }

    /// Sends a signal: `Signal::STOP` freezes it, `Signal::CONT` wakes it.
    ///
    /// # Errors
    /// It is not running.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        match self.guarded.pid() {
            Some(pid) => self.guarded.signal(pid, signal),
            None => Err(Error::Io {
                what: format!("cannot send {signal:?} to Valkey"),
                source: rustix::io::Errno::SRCH.into(),
            }),
        }
    }

    /// Stops the server; what it held is lost.
    ///
    /// # Errors
    /// It does not stop even when killed.
    pub fn stop(&mut self) -> Result<()> {
        self.guarded.stop(&[(Signal::TERM, STOP_LIMIT)])
    }

    /// Starts a stopped server on the same port.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&mut self) -> Result<()> {
        let mut command = self.owner.command(&self.program);
        command.current_dir(self.dir.path());
        if self.sentinel {
            command.args([SENTINEL_CONF, "--sentinel"]);
        }
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string()]);
        if !self.sentinel {
            command.args(["--save", "", "--appendonly", "no", "--daemonize", "no"]);
        }
        for (name, value) in &self.settings {
            command.arg(format!("--{name}")).arg(value);
        }
        self.guarded.start(&mut command)?;
        let addr = self.addr();
        self.guarded.wait_until("Valkey", START_LIMIT, || answers(addr))
    }

    /// The last 4 KB of the server's log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.guarded.log_tail()
    }
}

impl Drop for Valkey {
    fn drop(&mut self) {
        if let Err(error) = self.guarded.stop(&[(Signal::TERM, STOP_LIMIT)]) {
            tracing::warn!(%error, "a throw-away Valkey does not stop");
        }
    }
}

/// Whether a server answers; one that asks for a password does so with an error, which is an answer too.
fn answers(addr: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)?;
        Ok(answer == *b"+PONG" || answer == *b"-NOAU")
    };
    ask().unwrap_or(false)
}
