//! Keys that the documentation of the project promises and this version does not have yet. They are refused by
//! name, so that nobody believes that a setting works because it was accepted.

/// Sections and keys (`section.` stands for the whole section).
const LATER: &[&str] = &["cache.admit_after"];

/// Why `section.key` is refused, if it is one of them.
pub(super) fn path(path: &str) -> Option<String> {
    let found = LATER.iter().find(|later| match later.strip_suffix('.') {
        Some(section) => path == section || path.starts_with(*later),
        None => path == **later,
    })?;
    Some(sentence(found))
}

/// Why a variable is refused, if it is one of them.
pub(super) fn variable(name: &str) -> Option<String> {
    let name = name.strip_suffix("_FILE").unwrap_or(name);
    let found = LATER.iter().find(|later| {
        let variable = format!("LARDER_{}", later.replace('.', "_").to_ascii_uppercase());
        if later.ends_with('.') { name.starts_with(&variable) } else { name == variable }
    })?;
    Some(sentence(found))
}

fn sentence(later: &str) -> String {
    match later.strip_suffix('.') {
        Some(section) => format!("[{section}] is not supported by this version"),
        None => format!("{later} is not supported by this version"),
    }
}
