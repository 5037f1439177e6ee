//! What a Valkey is like.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
};

use larder_sandbox::{Flavour, Valkey};

fn ask(valkey: &Valkey, command: &str) -> String {
    let mut stream = TcpStream::connect(valkey.addr()).unwrap();
    stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.trim_end_matches("+OK\r\n").to_owned()
}

#[test]
fn answers_and_forgets_when_restarted() {
    let mut valkey = Valkey::builder().setting("maxmemory", "64mb").start().unwrap();
    assert_eq!(ask(&valkey, "CONFIG GET maxmemory"), "*2\r\n$9\r\nmaxmemory\r\n$8\r\n67108864\r\n");
    ask(&valkey, "SET k v");
    assert_eq!(ask(&valkey, "GET k"), "$1\r\nv\r\n");
    valkey.stop().unwrap();
    assert!(TcpStream::connect(valkey.addr()).is_err());
    valkey.start().unwrap();
    assert_eq!(ask(&valkey, "GET k"), "$-1\r\n");
}

#[test]
fn a_wrong_setting_fails_with_the_servers_own_words() {
    let error = Valkey::builder().setting("no-such-setting", "1").start().unwrap_err().to_string();
    assert!(error.contains("Bad directive"), "{error}");
}

#[test]
fn redis_and_sentinels_start_too() {
    let redis = Valkey::builder().flavour(Flavour::Redis).start().unwrap();
    let info = ask(&redis, "INFO server");
    assert!(info.contains("redis_version:") && !info.contains("valkey_version:"), "{info}");
    let lines = format!("sentinel monitor cache 127.0.0.1 {} 1\n", redis.port());
    let sentinel = Valkey::builder().sentinel(&lines).start().unwrap();
    // A Sentinel does not know QUIT.
    let mut stream = TcpStream::connect(sentinel.addr()).unwrap();
    stream.write_all(b"SENTINEL GET-MASTER-ADDR-BY-NAME cache\r\n").unwrap();
    let answer: Vec<_> = BufReader::new(stream).lines().take(5).map(Result::unwrap).collect();
    assert_eq!(answer.last(), Some(&redis.port().to_string()), "{answer:?}");
}
