//! Template data directories: `initdb` takes a second or more, copying its result a few hundredths.

use std::{
    collections::hash_map::DefaultHasher,
    fs,
    hash::{Hash, Hasher},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    cache,
    error::{Context, Error, Result},
    locate::PgPrograms,
    owner::Owner,
};

/// The superuser of every cluster.
pub(crate) const SUPERUSER: &str = "postgres";

/// Bump when the way templates are made changes.
const RECIPE: u32 = 1;

/// The template for these programs, made if need be.
pub(crate) fn data_directory(programs: &PgPrograms, owner: Owner) -> Result<PathBuf> {
    let postgres = programs.bin.join("postgres");
    let meta = fs::metadata(&postgres).context(|| format!("cannot read {}", postgres.display()))?;
    let mut hasher = DefaultHasher::new();
    // Only its owner can read a data directory, so each account has its own template.
    (RECIPE, &programs.bin, meta.mtime(), meta.mtime_nsec(), meta.len(), owner.uid()).hash(&mut hasher);
    let name = format!("pg{}-{:016x}", programs.major, hasher.finish());
    let folder = cache::entry("templates", &name, |folder| {
        owner.give(folder)?;
        initdb(programs, owner, &folder.join("data"))
    })?;
    Ok(folder.join("data"))
}

/// Copies a template into a new folder that belongs to the owner.
pub(crate) fn copy(from: &Path, to: &Path, owner: Owner) -> Result<()> {
    fs::create_dir(to).context(|| format!("cannot make {}", to.display()))?;
    let meta = fs::metadata(from).context(|| format!("cannot read {}", from.display()))?;
    // PostgreSQL checks that nobody else can write to its folders.
    fs::set_permissions(to, meta.permissions())
        .context(|| format!("cannot set the mode of {}", to.display()))?;
    owner.give(to)?;
    for child in fs::read_dir(from).context(|| format!("cannot list {}", from.display()))? {
        let child = child.context(|| format!("cannot list {}", from.display()))?;
        let target = to.join(child.file_name());
        let kind = child.file_type().context(|| format!("cannot read {}", child.path().display()))?;
        if kind.is_dir() {
            copy(&child.path(), &target, owner)?;
        } else {
            // `fs::copy` shares the blocks where the file system can, and keeps the mode.
            fs::copy(child.path(), &target).context(|| format!("cannot write {}", target.display()))?;
            owner.give(&target)?;
        }
    }
    Ok(())
}

/// Makes a data directory. Its write-ahead log starts with one segment of 16 MB, the default that users have.
fn initdb(programs: &PgPrograms, owner: Owner, data: &Path) -> Result<()> {
    // C.UTF-8 sorts the same everywhere; where the C library does not have it, C with UTF-8 comes closest.
    match try_initdb(programs, owner, data, "C.UTF-8") {
        Err(Error::Failed { output, .. }) if output.contains("invalid locale name") => {
            try_initdb(programs, owner, data, "C")
        }
        done => done,
    }
}

fn try_initdb(programs: &PgPrograms, owner: Owner, data: &Path, locale: &str) -> Result<()> {
    let program = programs.bin.join("initdb");
    let mut command: Command = owner.command(&program);
    command.arg("-D").arg(data).args([
        "-U",
        SUPERUSER,
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--no-sync",
        "--locale",
        locale,
    ]);
    let output = command
        .env_clear()
        .env("TZ", "UTC")
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .context(|| format!("cannot run {}", program.display()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Failed {
        what: program.display().to_string(),
        status: output.status.to_string(),
        output: String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr),
    })
}
