//! The cache folder: wheels, unpacked servers and template data directories, shared by all runs.
//!
//! Layout: `wheels/*.whl` (put there by scripts/fetch-servers), `servers/<wheel>/` (unpacked), `templates/<key>/`.
//! Every entry is built under a temporary name and renamed into place, so a reader sees it whole or not at all;
//! a lock file beside it keeps two processes from building the same one at once.

use std::{
    env,
    fs::{self, File, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::error::{Context, Error, Result};

/// `$LARDER_CACHE_DIR`; else `/var/cache/larder` for root; else `$XDG_CACHE_HOME/larder` or `~/.cache/larder`.
///
/// Root's servers run under another account, so root's folder must be one that everybody can read.
#[must_use]
pub fn cache_dir() -> PathBuf {
    let set = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(dir) = set("LARDER_CACHE_DIR") {
        return dir;
    }
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/cache/larder");
    }
    if let Some(dir) = set("XDG_CACHE_HOME") {
        return dir.join("larder");
    }
    set("HOME").map_or_else(|| env::temp_dir().join("larder-cache"), |home| home.join(".cache/larder"))
}

/// Returns `<cache>/<kind>/<name>`, building it first if it is not there.
///
/// `build` gets an empty folder on the same file system; what it leaves there appears under the final name.
pub(crate) fn entry(kind: &str, name: &str, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let shelf = cache_dir().join(kind);
    let wanted = shelf.join(name);
    if wanted.is_dir() {
        return Ok(wanted);
    }
    fs::create_dir_all(&shelf).context(|| format!("cannot make the folder {}", shelf.display()))?;
    let lock_path = shelf.join(format!(".{name}.lock"));
    let lock = File::create(&lock_path).context(|| format!("cannot write {}", lock_path.display()))?;
    lock.lock().context(|| format!("cannot lock {}", lock_path.display()))?;
    if wanted.is_dir() {
        return Ok(wanted); // another process built it while we waited
    }
    let temporary = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(Permissions::from_mode(0o755))
        .tempdir_in(&shelf)
        .context(|| format!("cannot make a folder in {}", shelf.display()))?;
    build(temporary.path())?;
    fs::rename(temporary.path(), &wanted).context(|| format!("cannot make {}", wanted.display()))?;
    let _ = temporary.keep(); // nothing is left under its old name
    Ok(wanted)
}

/// The newest wheel in the cache folder whose file name starts with `prefix`, unpacked.
pub(crate) fn unpacked_wheel(prefix: &str) -> Result<Option<PathBuf>> {
    let Ok(files) = fs::read_dir(cache_dir().join("wheels")) else { return Ok(None) };
    let newest = files
        .filter_map(|f| Some(f.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "whl"))
        .filter(|p| stem(p).is_some_and(|s| s.starts_with(prefix)))
        .max();
    let Some(wheel) = newest else { return Ok(None) };
    let Some(name) = stem(&wheel) else { return Ok(None) };
    entry("servers", name, |folder| unpack(&wheel, folder)).map(Some)
}

fn stem(path: &Path) -> Option<&str> {
    path.file_stem()?.to_str()
}

/// Unpacks a zip file with its permissions; entries that would land outside the folder are refused by `extract`.
fn unpack(wheel: &Path, folder: &Path) -> Result<()> {
    let file = File::open(wheel).context(|| format!("cannot read {}", wheel.display()))?;
    let broken = |source| Error::Wheel { path: wheel.to_path_buf(), source };
    zip::ZipArchive::new(file).map_err(broken)?.extract(folder).map_err(broken)?;
    open_to_all(folder).context(|| format!("cannot set modes in {}", folder.display()))
}

/// Lets everybody read a tree and run what its owner can: `extract` makes folders that the wheel does not list for
/// us alone, and root's servers run under another account.
fn open_to_all(path: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    if meta.is_symlink() {
        return Ok(());
    }
    let mode = meta.permissions().mode();
    let runs = if meta.is_dir() || mode & 0o100 != 0 { 0o111 } else { 0 };
    fs::set_permissions(path, Permissions::from_mode(mode | 0o444 | runs))?;
    if meta.is_dir() {
        for child in fs::read_dir(path)? {
            open_to_all(&child?.path())?;
        }
    }
    Ok(())
}
