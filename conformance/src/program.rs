//! Running one program of a suite, with an end in sight.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use larder_sandbox::{Owner, Signal};
use rustix::process::{Pid, kill_process_group};

/// How often a program is asked whether it has ended.
const POLL: Duration = Duration::from_millis(20);

/// A command under the account that suites run as, in a process group of its own. PostgreSQL's own tests have the server
/// write beside what they write, so it is the server's account.
pub(crate) fn command(program: &Path) -> Command {
    Owner::unprivileged().command(program)
}

/// Runs it with its output in a file; `None` if it had to be stopped because it took too long.
pub(crate) fn run(command: &mut Command, log: &Path, limit: Duration) -> Result<Option<bool>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let file =
        File::options().create(true).append(true).open(log).with_context(|| log.display().to_string())?;
    let mut child = command
        .stdin(Stdio::null())
        .stderr(file.try_clone()?)
        .stdout(file)
        .spawn()
        .with_context(|| format!("cannot run {name}"))?;
    let deadline = Instant::now() + limit;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("no process number")?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.success()));
        }
        if Instant::now() >= deadline {
            eprintln!("    {name} takes more than {} s: stopped", limit.as_secs());
            let _ = kill_process_group(group, Signal::KILL); // it may just have ended
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(POLL);
    }
}
