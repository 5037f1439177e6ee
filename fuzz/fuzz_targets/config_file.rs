#![no_main]

#[path = "../../crates/larder/src/config/mod.rs"]
#[allow(dead_code, unused_imports, reason = "only what reads a file is used")]
mod config;

libfuzzer_sys::fuzz_target!(|input: &[u8]| config::fuzzing::config_file(input));
