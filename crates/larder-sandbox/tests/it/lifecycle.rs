//! A server ends with its owner, however that ends.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use larder_sandbox::{Postgres, Signal, Valkey};

/// Set for the copy of this test binary that plays the owner.
const OWNER: &str = "LARDER_SANDBOX_TEST_OWNER";

#[test]
fn dropping_stops_the_server_and_removes_its_folder() {
    let pg = Postgres::builder().start().unwrap();
    let (addr, folder) = (pg.addr(), pg.socket_dir().to_path_buf());
    // Clients that stay do not hinder: one that has logged in, one that says nothing.
    let mut session = TcpStream::connect(addr).unwrap();
    session.write_all(b"\0\0\0\x17\0\x03\0\0user\0postgres\0\0").unwrap();
    session.read_exact(&mut [0; 9]).unwrap(); // AuthenticationOk
    let _silent = TcpStream::connect(addr).unwrap();
    assert!(folder.join("data/PG_VERSION").is_file());
    drop(pg);
    assert_gone(addr, &folder);
}

#[test]
fn a_frozen_process_does_not_hinder() {
    let mut pg = Postgres::builder().start().unwrap();
    let walwriter = pg.sql("select pid from pg_stat_activity where backend_type = 'walwriter'").unwrap();
    pg.signal(walwriter.parse().unwrap(), Signal::STOP).unwrap();
    let (addr, folder) = (pg.addr(), pg.socket_dir().to_path_buf());
    drop(pg);
    assert_gone(addr, &folder);
}

#[test]
fn a_killed_owner_takes_its_servers_along() {
    for signal in [Signal::KILL, Signal::TERM, Signal::ABORT] {
        let (mut owner, servers) = start_owner();
        let pid = rustix::process::Pid::from_child(&owner);
        rustix::process::kill_process(pid, signal).unwrap();
        owner.wait().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        for (addr, folder) in &servers {
            while (TcpStream::connect(addr).is_ok() || folder.exists()) && Instant::now() < deadline {
                sleep(Duration::from_millis(10));
            }
            assert_gone(*addr, folder);
        }
    }
}

/// Not a test of its own: what the copy started by [`start_owner`] runs.
#[test]
fn owner_of_servers() {
    if env::var_os(OWNER).is_none() {
        return;
    }
    let pg = Postgres::builder().start().unwrap();
    let valkey = Valkey::builder().start().unwrap();
    let valkey_folder = read_link(&format!("/proc/{}/cwd", valkey.pid().unwrap()));
    println!("\nserver {} {}", pg.addr(), pg.socket_dir().display());
    println!("server {} {}", valkey.addr(), valkey_folder.display());
    println!("end");
    loop {
        std::thread::park(); // until killed
    }
}

fn read_link(path: &str) -> PathBuf {
    fs::read_link(path).unwrap()
}

fn start_owner() -> (Child, Vec<(SocketAddr, PathBuf)>) {
    let mut owner = Command::new(env::current_exe().unwrap())
        .args(["--exact", "lifecycle::owner_of_servers", "--nocapture"])
        .env(OWNER, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines().map(Result::unwrap);
    let servers: Vec<_> = lines
        .take_while(|l| l != "end")
        .filter_map(|l| {
            let (addr, folder) = l.strip_prefix("server ")?.split_once(' ')?;
            Some((addr.parse().unwrap(), PathBuf::from(folder)))
        })
        .collect();
    assert_eq!(servers.len(), 2);
    (owner, servers)
}

fn assert_gone(addr: SocketAddr, folder: &Path) {
    assert!(TcpStream::connect(addr).is_err(), "{addr} still answers");
    assert!(!folder.exists(), "{} is still there", folder.display());
}
