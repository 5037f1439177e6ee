//! Starting a child says what went wrong, and leaves nothing behind.

use larder_testkit::{Larder, Wait};

#[tokio::test]
async fn a_program_that_ends_is_an_error_with_its_words() {
    let error =
        Larder::builder().binary("/bin/ls").origin("postgres://x").start().await.unwrap_err().to_string();
    assert!(error.contains("exit status: 2") && error.contains("unrecognized option '--listen'"), "{error}");
}

#[tokio::test]
async fn a_child_ends_when_dropped() {
    // `env` ignores nothing and runs what it is told: a program that stays, whatever its arguments.
    let folder = tempfile::tempdir().unwrap();
    let stay = folder.path().join("stay");
    std::fs::write(&stay, "#!/bin/sh\necho \"$@\"\nexec sleep 600\n").unwrap();
    std::fs::set_permissions(&stay, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let larder = Larder::builder().binary(&stay).config("[log]").arg("--json").wait(Wait::Nothing);
    let larder = larder.start().await.unwrap();
    while larder.log().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(larder.log().starts_with(&format!("serve --listen {}", larder.addr())), "{}", larder.log());
    assert!(larder.log().ends_with("larder.toml --json\n"), "{}", larder.log());
    let process = format!("/proc/{}", larder.pid().unwrap());
    assert!(std::fs::exists(&process).unwrap());
    drop(larder);
    assert!(!std::fs::exists(&process).unwrap());
}
