//! The account a server runs as: our own, or, when we are root, one that PostgreSQL accepts.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt},
    path::Path,
    process::Command,
};

use crate::error::{Context, Result};

/// The accounts tried in turn when running as root; the first that exists is used.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];

/// The account a server runs as.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    /// `None`: run as ourselves.
    drop_to: Option<(u32, u32)>,
}

impl Owner {
    /// Our own account, whatever it is.
    #[must_use]
    pub fn ourselves() -> Self {
        Self { drop_to: None }
    }

    /// Our own account, unless we are root: then one that servers accept.
    #[must_use]
    pub fn unprivileged() -> Self {
        if !rustix::process::geteuid().is_root() {
            return Self::ourselves();
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let known = UNPRIVILEGED.iter().find_map(|name| ids_of(&passwd, name));
        // 65534 is the overflow account of Linux ("nobody"), there even if /etc/passwd does not name it.
        Self { drop_to: Some(known.unwrap_or((65534, 65534))) }
    }

    /// The user number of this account.
    #[must_use]
    pub fn uid(self) -> u32 {
        self.drop_to.map_or_else(|| rustix::process::geteuid().as_raw(), |(uid, _)| uid)
    }

    /// A command that runs under this account and not in our process group, so that Ctrl-C reaches us alone
    /// and servers stop in our order.
    #[must_use]
    pub fn command(self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.process_group(0);
        if let Some((uid, gid)) = self.drop_to {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Gives one file or folder to this account.
    ///
    /// # Errors
    /// The operating system says no.
    pub fn give(self, path: &Path) -> Result<()> {
        let Some((uid, gid)) = self.drop_to else { return Ok(()) };
        chown(path, Some(uid), Some(gid)).context(|| format!("cannot give {} to uid {uid}", path.display()))
    }
}

/// The user and group numbers of an account in the text of /etc/passwd.
fn ids_of(passwd: &str, name: &str) -> Option<(u32, u32)> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        Some((uid, fields.next()?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_passwd_lines() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\npostgres:x:101:104:PostgreSQL,,,:/var/lib/postgresql:/bin/bash\n";
        assert_eq!(ids_of(passwd, "postgres"), Some((101, 104)));
        assert_eq!(ids_of(passwd, "nobody"), None);
        assert_eq!(ids_of("postgres:x:", "postgres"), None);
    }
}
