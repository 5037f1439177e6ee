//! The layers that values come from, as text with the place it was written.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::problem::Problem;
use super::rules::Written;
use super::{KEYS, Key, file, unsupported};

/// Where configuration is looked for when `--config` is not given, in this order.
const DEFAULT_FILES: [&str; 2] = ["larder.toml", "/etc/larder/larder.toml"];

/// Variables of the same prefix that are not settings: the file to read, and the folder of the demo's servers.
const OTHER_VARIABLES: [&str; 2] = ["LARDER_CONFIG", "LARDER_CACHE_DIR"];

/// Everything that was given from outside.
#[derive(Debug, Clone, Default)]
pub(crate) struct Given {
    /// `--config` (or `LARDER_CONFIG`); `None`: the default places.
    pub(crate) file: Option<PathBuf>,
    /// Weakest first: a later one for the same key counts.
    pub(crate) flags: Vec<Flag>,
    /// Variables whose name starts with `LARDER_`.
    pub(crate) environment: Vec<(String, String)>,
}

/// One flag that sets a key.
#[derive(Debug, Clone)]
pub(crate) struct Flag {
    /// `section.key`.
    pub(crate) path: String,
    /// `None`: `--set` without `=`.
    pub(crate) value: Option<String>,
    /// As the user wrote it.
    pub(crate) name: &'static str,
}

impl Flag {
    /// `--valkey` that does not say where.
    pub(crate) fn is_bare_valkey(&self) -> bool {
        self.name == "--valkey" && self.value.as_deref() == Some("")
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// Built in.
    Default,
    /// Path and line of a file.
    File(PathBuf, usize),
    /// A variable.
    Environment(String),
    /// A file named by a `..._FILE` variable.
    SecretFile(String, PathBuf),
    /// A flag.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::SecretFile(name, path) => write!(f, "environment {name} ({})", path.display()),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// One value, not yet typed. Some are secrets: it shows none.
#[derive(Clone)]
pub(super) struct Setting {
    pub(super) path: String,
    pub(super) text: String,
    pub(super) source: Source,
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", self.path, self.source)
    }
}

/// Every value by the path of its key; a stronger layer replaces a weaker one. And the rules, which only a file has.
#[derive(Debug)]
pub(super) struct Layers {
    settings: HashMap<String, Setting>,
    rules: Vec<Written>,
}

impl Given {
    /// The file to read: the one asked for, or the first default place that has one.
    pub(crate) fn file_path(&self) -> Option<PathBuf> {
        let places = || DEFAULT_FILES.iter().map(PathBuf::from);
        self.file.clone().or_else(|| places().find(|path| path.exists()))
    }

    /// The process's environment, reduced to Larder's names.
    pub(crate) fn larder_environment() -> Vec<(String, String)> {
        let mut found: Vec<_> = std::env::vars_os()
            .filter_map(|(name, value)| {
                Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
            })
            .filter(|(name, _)| name.starts_with("LARDER_"))
            .collect();
        found.sort();
        found
    }
}

impl Layers {
    /// Reads all layers, weakest first.
    pub(super) fn read(given: &Given, problems: &mut Vec<Problem>) -> Self {
        let mut layers = Self::defaults();
        if let Some(path) = given.file_path() {
            layers.file(&path, file::read(&path, problems));
        }
        layers.environment(&given.environment, problems);
        for flag in &given.flags {
            let source = Source::Flag(flag.name);
            match (check_path(&flag.path), &flag.value) {
                (Ok(()), Some(text)) => layers.put(flag.path.clone(), text.clone(), source),
                (Ok(()), None) => {
                    let (what, mend) =
                        (format!("\"{0}\" has no value", flag.path), format!("write {}=...", flag.path));
                    problems.push(Problem { place: Some(source), what, mend });
                }
                (Err((what, mend)), _) => problems.push(Problem { place: Some(source), what, mend }),
            }
        }
        layers
    }

    /// The weakest of them.
    pub(super) fn defaults() -> Self {
        let default = |key: &Key| {
            let (path, text, source) = (key.path(), key.default.to_owned(), Source::Default);
            (path.clone(), Setting { path, text, source })
        };
        Self { settings: KEYS.iter().map(default).collect(), rules: Vec::new() }
    }

    /// What a file says.
    pub(super) fn file(&mut self, path: &Path, contents: file::Contents) {
        self.rules = contents.rules;
        for (name, text, line) in contents.lines {
            self.put(name, text, Source::File(path.to_owned(), line));
        }
    }

    /// The values in the order of [`KEYS`], and the rules.
    pub(super) fn into_settings(mut self) -> (Vec<Setting>, Vec<Written>) {
        let settings = KEYS.iter().filter_map(|key| self.settings.remove(&key.path())).collect();
        (settings, self.rules)
    }

    fn put(&mut self, path: String, text: String, source: Source) {
        self.settings.insert(path.clone(), Setting { path, text, source });
    }

    fn environment(&mut self, variables: &[(String, String)], problems: &mut Vec<Problem>) {
        for (name, value) in variables {
            if OTHER_VARIABLES.contains(&name.as_str()) || is_service_link(name, value) {
                continue;
            }
            if let Some(key) = KEYS.iter().find(|key| key.env() == *name) {
                self.put(key.path(), value.clone(), Source::Environment(name.clone()));
            } else if let Some(key) = file_variable(name) {
                self.secret_file(key, name, Path::new(value), variables, problems);
            } else {
                let (what, mend) = unknown_variable(name);
                problems.push(Problem { place: Some(Source::Environment(name.clone())), what, mend });
            }
        }
    }

    fn secret_file(
        &mut self,
        key: &Key,
        name: &str,
        path: &Path,
        variables: &[(String, String)],
        problems: &mut Vec<Problem>,
    ) {
        let place = Source::SecretFile(name.to_owned(), path.to_owned());
        if variables.iter().any(|(other, _)| *other == key.env()) {
            let what = format!("{} and {name} are both set", key.env());
            problems.push(Problem { place: Some(place), what, mend: "keep one of them".to_owned() });
            return;
        }
        match std::fs::read_to_string(path) {
            // Editors and `echo` end a file with a newline; no value has one.
            Ok(text) => self.put(key.path(), text.trim_end_matches(['\n', '\r']).to_owned(), place),
            Err(error) => problems.push(Problem {
                place: Some(place),
                what: format!("the file cannot be read: {error}"),
                mend: format!("{name} names a file that holds the value of {}", key.path()),
            }),
        }
    }
}

/// Refuses a `section.key` that does not exist, naming the nearest that does.
pub(super) fn check_path(path: &str) -> Result<(), (String, String)> {
    if KEYS.iter().any(|key| key.path() == path) {
        return Ok(());
    }
    if path == "rule" || path.starts_with("rule.") {
        return Err(("rules are written in the file".to_owned(), "begin each with [[rule]]".to_owned()));
    }
    if let Some(what) = unsupported::path(path) {
        return Err((what, "remove it".to_owned()));
    }
    let known: Vec<String> = KEYS.iter().map(Key::path).collect();
    let mend = match nearest(path, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => "`larder config` prints every key".to_owned(),
    };
    Err((format!("unknown key \"{path}\""), mend))
}

/// The known word closest to a mistyped one, if any is close enough to be what was meant.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let score = |candidate: &str| strsim::jaro_winkler(word, candidate);
    // 0.75 lets through a missing letter, a swap, a forgotten underscore; unrelated words stay below it.
    let close = known.map(|candidate| (score(candidate), candidate)).filter(|(score, _)| *score > 0.75);
    close.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, candidate)| candidate)
}

fn file_variable(name: &str) -> Option<&'static Key> {
    let base = name.strip_suffix("_FILE")?;
    KEYS.iter().find(|key| key.env() == base)
}

fn unknown_variable(name: &str) -> (String, String) {
    if let Some(what) = unsupported::variable(name) {
        return (what, "unset it".to_owned());
    }
    let known: Vec<String> = KEYS.iter().map(Key::env).collect();
    let mend = match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {near}?"),
        None => "unset it, or see `larder config --schema` for what can be set".to_owned(),
    };
    ("unknown variable".to_owned(), mend)
}

/// Kubernetes gives every pod the addresses of the services of its namespace as variables
/// (`LARDER_SERVICE_HOST`, `LARDER_PORT_6433_TCP_ADDR`, ...): a service called `larder` is not a mistake.
fn is_service_link(name: &str, value: &str) -> bool {
    let protocol = ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| name.contains(protocol));
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.contains("_PORT_") && protocol)
        || (name.ends_with("_PORT") && value.contains("://"))
}
