//! Talking to a cluster, and configuring it while it runs.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::Postgres;
use crate::{
    error::{Context, Error, Result},
    template::SUPERUSER,
};

/// A reload takes a moment; a loaded machine is slow.
const RELOAD_LIMIT: Duration = Duration::from_secs(60);

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

impl Postgres {
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
        let deadline = Instant::now() + RELOAD_LIMIT;
        while self.sql("select pg_conf_load_time()")? == before {
            if Instant::now() >= deadline {
                let what = "the configuration is not reloaded".to_owned();
                return Err(Error::TimedOut { what, seconds: RELOAD_LIMIT.as_secs(), log: self.log_tail() });
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

    pub(super) fn write_hba(&self) -> Result<()> {
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
