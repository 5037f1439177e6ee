//! The folder of one running server: its data, socket and log.
//!
//! It is named `larder-sandbox-<server>-<pid of the owner>-<random>` and holds a file `owner.lock` that the owner keeps
//! locked. The kernel drops the lock however the owner ends, so a folder whose lock can be taken is a leftover:
//! [`sweep`] removes it. (A process number would be reused, and means nothing in another container.)

use std::{
    env,
    fs::{self, File, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    error::{Context, Result},
    owner::Owner,
};

const PREFIX: &str = "larder-sandbox-";
const LOCK: &str = "owner.lock";

/// The longest path of a Unix socket is 107 bytes (sun_path); `.s.PGSQL.65535` and our own name need 60 of them.
const LONGEST_PARENT: usize = 107 - 60;

/// A folder without a lock file is left alone for so long: its owner may be about to make it.
const GRACE: Duration = Duration::from_secs(60);

/// The folder of one running server, removed when dropped.
#[derive(Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    _lock: File,
}

impl RunDir {
    /// Makes the folder, and sweeps old ones first.
    pub(crate) fn new(server: &str, owner: Owner) -> Result<Self> {
        let mut parent = env::temp_dir();
        if parent.as_os_str().len() > LONGEST_PARENT {
            parent = PathBuf::from("/tmp");
        }
        sweep(&parent);
        let path = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{server}-{}-", std::process::id()))
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in(&parent)
            .context(|| format!("cannot make a folder in {}", parent.display()))?
            .keep();
        let lock = locked_file(&path).context(|| format!("cannot make a lock file in {}", path.display()))?;
        owner.give(&path)?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(folder = %self.path.display(), %error, "cannot remove a throw-away server's folder");
            }
            _ => {} // gone, by us or by the watcher
        }
    }
}

/// Makes the lock file. It gets its name once it is locked: under that name it is never seen unlocked.
fn locked_file(folder: &Path) -> io::Result<File> {
    let unnamed = folder.join("owner.lock.new");
    let lock = File::create(&unnamed)?;
    lock.lock()?;
    fs::rename(unnamed, folder.join(LOCK))?;
    Ok(lock)
}

/// Removes what dead owners left in a folder. Whatever cannot be removed (another account's) stays.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && is_leftover(&path) {
            kill_server_of(&path);
            let _ = fs::remove_dir_all(&path);
        }
    }
}

fn is_leftover(folder: &Path) -> bool {
    match File::open(folder.join(LOCK)) {
        Ok(file) => file.try_lock().is_ok(),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            // Its owner ended between making the folder and its lock.
            let made = fs::metadata(folder).and_then(|m| m.modified()).ok();
            let empty = fs::read_dir(folder).is_ok_and(|mut children| children.next().is_none());
            empty
                && made.and_then(|t| SystemTime::now().duration_since(t).ok()).is_some_and(|age| age > GRACE)
        }
        Err(_) => false,
    }
}

/// Kills a PostgreSQL that still runs in a leftover folder. That the process really is that server is seen from
/// its working folder, the data directory; where that cannot be read (no /proc), PostgreSQL itself stops within
/// a minute of losing its data directory.
fn kill_server_of(folder: &Path) {
    let data = folder.join("data");
    let file = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    let Some(pid) = file.lines().next().and_then(|l| l.trim().parse().ok()).and_then(Pid::from_raw) else {
        return;
    };
    let working_folder = fs::read_link(format!("/proc/{}/cwd", pid.as_raw_nonzero()));
    if working_folder.is_ok_and(|cwd| cwd == data) {
        let _ = kill_process(pid, Signal::QUIT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_dead_owners_are_swept() {
        let parent = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let folder = parent.path().join(name);
            fs::create_dir(&folder).unwrap();
            folder
        };
        let (alive, dead) = (make("larder-sandbox-pg-1-a"), make("larder-sandbox-pg-2-b"));
        let (young, foreign) = (make("larder-sandbox-pg-3-c"), make("something-else"));
        let held = File::create(alive.join(LOCK)).unwrap();
        held.lock().unwrap();
        File::create(dead.join(LOCK)).unwrap();
        File::create(foreign.join(LOCK)).unwrap();
        sweep(parent.path());
        assert!(alive.exists() && young.exists() && foreign.exists());
        assert!(!dead.exists());
    }
}
