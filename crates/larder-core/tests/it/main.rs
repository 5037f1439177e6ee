//! What the documentation says about the vocabulary is what the vocabulary says.

use larder_core::Bypass;

/// The last section of docs/hazards.md: one row for each reason, name and explanation.
const HAZARDS: &str = include_str!("../../../../docs/hazards.md");

#[test]
fn every_reason_is_documented_in_its_own_words() {
    let (_, list) = HAZARDS.split_once("## All reasons").expect("the section");
    let documented: Vec<String> =
        list.lines().filter(|line| line.starts_with("| `")).map(|line| line.replace('`', "")).collect();
    let defined: Vec<String> = Bypass::ALL
        .iter()
        .map(|reason| format!("| {} | {} |", reason.name(), reason.explanation()))
        .collect();
    assert_eq!(documented, defined);
}

#[test]
fn the_hazards_name_only_reasons_that_exist() {
    let (hazards, _) = HAZARDS.split_once("## All reasons").expect("the section");
    let bypassed = hazards.split("bypassed").skip(1).filter_map(|rest| rest.split('|').next());
    let named = bypassed.flat_map(|rule| rule.split('`').skip(1).step_by(2));
    for name in
        named.filter(|name| name.contains('_') && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
    {
        assert!(Bypass::ALL.iter().any(|reason| reason.name() == name), "{name}");
    }
}
