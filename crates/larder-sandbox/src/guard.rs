//! A running server that cannot outlive us.
//!
//! [`Guarded`] is the server's process and a watcher beside it: a small shell that reads from a pipe whose other
//! end we hold. Each line it reads is the number of the process to look after (empty: none). When the pipe ends
//! without our having stopped the server (we were killed, or aborted), the watcher stops it and removes its folder.
//! Both run in a process group of their own, so that Ctrl-C in a terminal reaches us first.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    error::{Context, Error, Result},
    owner::Owner,
};

/// Arguments: the folder to remove. SIGQUIT makes PostgreSQL stop at once, SIGCONT wakes it if it was stopped;
/// it kills its own children after 5 s, so 10 s (100 turns) are enough before SIGKILL.
const WATCHER: &str = r#"
pid=
while read -r line; do pid=$line; done
if [ -n "$pid" ]; then
    kill -s QUIT "$pid"; kill -s CONT "$pid"
    turns=0
    while kill -s 0 "$pid" && [ "$turns" -lt 100 ]; do sleep 0.1; turns=$((turns + 1)); done
    kill -s KILL "$pid"
fi
rm -rf "$1"
"#;

/// How often a condition is looked at while waiting for it.
const POLL: Duration = Duration::from_millis(3);

/// A server process and its watcher.
#[derive(Debug)]
pub struct Guarded {
    server: Option<Child>,
    /// How the last server process ended.
    status: Option<ExitStatus>,
    watcher: Child,
    /// Dropped first of all when we end: that is what the watcher waits for.
    line: Option<ChildStdin>,
    log: PathBuf,
    /// Processes a test has stopped (SIGSTOP): they are woken before the server is asked to stop.
    stopped: Vec<Pid>,
}

impl Guarded {
    /// Starts the watcher of a folder, under the account of the server that comes with [`Guarded::start`].
    ///
    /// # Errors
    /// There is no `/bin/sh`.
    pub fn new(owner: Owner, folder: &Path, log: PathBuf) -> Result<Self> {
        let mut watcher = owner
            .command(Path::new("/bin/sh"))
            .args(["-c", WATCHER, "larder-watcher"])
            .arg(folder)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context(|| "cannot run /bin/sh".to_owned())?;
        let line = watcher.stdin.take();
        Ok(Self { server: None, status: None, watcher, line, log, stopped: vec![] })
    }

    /// Starts the server; what it prints is added to the log. Make the command with [`Owner::command`].
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn start(&mut self, command: &mut Command) -> Result<()> {
        let log = || File::options().create(true).append(true).open(&self.log);
        let (out, err) = log()
            .and_then(|out| Ok((out, log()?)))
            .context(|| format!("cannot write {}", self.log.display()))?;
        let server = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .context(|| format!("cannot run {}", command.get_program().display()))?;
        self.tell_watcher(Some(server.id()));
        self.server = Some(server);
        self.status = None;
        Ok(())
    }

    /// The process number of the server, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<Pid> {
        let server = self.server.as_ref()?;
        Pid::from_raw(i32::try_from(server.id()).ok()?)
    }

    /// The exit status, once the server has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if let Some(server) = &mut self.server {
            self.status = Some(server.try_wait().ok().flatten()?);
            self.server = None;
            self.tell_watcher(None);
        }
        self.status
    }

    /// Waits until `ready` says so.
    ///
    /// # Errors
    /// The server has ended, or is not ready in time.
    pub fn wait_until(&mut self, what: &str, limit: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !ready() {
            if let Some(status) = self.ended() {
                return Err(Error::Failed {
                    what: what.to_owned(),
                    status: status.to_string(),
                    output: self.log_tail(),
                });
            }
            if Instant::now() >= deadline {
                return Err(self.timed_out(format!("{what} is not ready"), limit));
            }
            sleep(POLL);
        }
        Ok(())
    }

    /// Sends a signal to a process of the server. After SIGSTOP it has stopped when this returns.
    ///
    /// # Errors
    /// No such process.
    pub fn signal(&mut self, pid: Pid, signal: Signal) -> Result<()> {
        kill_process(pid, signal)
            .context(|| format!("cannot send {signal:?} to process {}", pid.as_raw_nonzero()))?;
        self.stopped.retain(|p| *p != pid);
        if signal == Signal::STOP {
            self.stopped.push(pid);
            wait_until_stopped(pid);
        }
        Ok(())
    }

    /// Ends the server: sends the signals in turn, each with its time to work, then SIGKILL.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop(&mut self, signals: &[(Signal, Duration)]) -> Result<()> {
        for pid in std::mem::take(&mut self.stopped) {
            let _ = kill_process(pid, Signal::CONT); // it may be gone by now
        }
        for &(signal, limit) in signals.iter().chain(&[(Signal::KILL, Duration::from_secs(10))]) {
            let Some(pid) = self.pid() else { return Ok(()) };
            let _ = kill_process(pid, signal); // it may just have ended: seen below
            if self.wait_ended(limit) {
                return Ok(());
            }
        }
        Err(self.timed_out("the server does not stop".to_owned(), Duration::from_secs(10)))
    }

    /// Waits for the server to end; false if it has not.
    pub fn wait_ended(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.server.is_some() && self.ended().is_none() {
            if Instant::now() >= deadline {
                return false;
            }
            sleep(POLL);
        }
        true
    }

    /// The last 4 KB of the log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        const BYTES: usize = 4096;
        let log = std::fs::read(&self.log).unwrap_or_default();
        let tail = log.get(log.len().saturating_sub(BYTES)..).unwrap_or_default();
        String::from_utf8_lossy(tail).into_owned()
    }

    fn timed_out(&self, what: String, limit: Duration) -> Error {
        Error::TimedOut { what, seconds: limit.as_secs(), log: self.log_tail() }
    }

    /// A watcher that is gone cannot be told; the server is then ours alone to stop.
    fn tell_watcher(&mut self, pid: Option<u32>) {
        let text = pid.map(|p| p.to_string()).unwrap_or_default();
        if let Some(line) = &mut self.line {
            let _ = writeln!(line, "{text}");
        }
    }
}

/// On another core a process runs on for a moment after SIGSTOP was sent. It stops, or it is gone.
fn wait_until_stopped(pid: Pid) {
    let stat = format!("/proc/{}/stat", pid.as_raw_nonzero());
    // "pid (name) state ...": the name may hold anything.
    let runs =
        |stat: &str| !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 'Z', 'X']));
    while std::fs::read_to_string(&stat).is_ok_and(|stat| runs(&stat)) {
        std::thread::yield_now();
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if self.server.is_some() {
            let _ = self.stop(&[(Signal::QUIT, Duration::from_secs(10))]);
        }
        self.line = None;
        let _ = self.watcher.wait();
    }
}
