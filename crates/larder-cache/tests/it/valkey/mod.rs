//! The tier on Valkey, against real servers: Valkey 9 and Redis 7, alone, with Sentinel, as a cluster, and with faults.
//!
//! Waits end when something is so, never after a time; what must not happen is looked for in counters and logs.

mod faults;
mod logs;
mod refusals;
mod serving;
mod topologies;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use larder_cache::tier::valkey::{Connection, Op, OpResult, State, TroubleKind, Valkey, ValkeyConfig};
use larder_cache::tier::{Tier, TierKey};
use larder_testkit::sandbox::{self, Flavour};

/// Longer than anything takes on a machine that works.
const PATIENCE: Duration = Duration::from_secs(60);
/// For an answer: long for a server that is there, short for a test that waits for one that is not.
const TIMEOUT: Duration = Duration::from_millis(400);
const TTL: Duration = Duration::from_secs(600);

/// Runs a test as a worker of Larder's runs: on one thread.
fn on_one_thread<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

fn flavours() -> [Flavour; 2] {
    [Flavour::Valkey, Flavour::Redis]
}

fn start(flavour: Flavour) -> sandbox::Valkey {
    sandbox::Valkey::builder().flavour(flavour).start().unwrap()
}

fn config(url: &str) -> ValkeyConfig {
    let mut config = ValkeyConfig::new(url.parse().unwrap());
    (config.timeout, config.connect_timeout) = (TIMEOUT, Duration::from_secs(5));
    config
}

fn tier(url: &str) -> (Valkey, Connection) {
    let valkey = Valkey::new(config(url)).unwrap();
    let connection = valkey.connection();
    (valkey, connection)
}

async fn ready(url: &str) -> (Valkey, Connection) {
    let (valkey, connection) = tier(url);
    until("it is ready", || matches!(valkey.status().state, State::Ready)).await;
    (valkey, connection)
}

/// Waits until something is so.
async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let waiting = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

/// Asks until the answer is as wanted.
async fn until_got(connection: &Connection, key: &TierKey, wanted: Option<&[u8]>) {
    let waiting = async {
        while connection.get(key, false).await.as_deref() != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    waited.unwrap_or_else(|_| panic!("waited in vain for {wanted:?}"));
}

/// Stores, until it is stored.
async fn stored(connection: &Connection, key: &TierKey, value: &[u8]) {
    let storing = async {
        while connection.get(key, true).await.as_deref() != Some(value) {
            connection.put(key, Bytes::copy_from_slice(value), TTL);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, storing).await.expect("waited in vain until it is stored");
}

/// Waits until it is in trouble of that kind.
async fn until_trouble(valkey: &Valkey, kind: TroubleKind) {
    let so = || valkey.status().state.trouble().is_some_and(|trouble| trouble.kind == kind);
    until(&format!("{kind:?}; it is {:?}", valkey.status().state), so).await;
}

fn key(number: u64) -> TierKey {
    let [a, b] = [number.to_be_bytes(), (!number).to_be_bytes()];
    TierKey([a, b].concat().try_into().unwrap())
}

fn name(number: u64) -> String {
    format!("larder:{}", key(number))
}

fn count(valkey: &Valkey, op: Op, result: OpResult) -> u64 {
    valkey.counters().operations(op, result)
}

/// A client of its own, for what the tier does not do.
struct Hand(redis::Connection);

impl Hand {
    fn of(server: &sandbox::Valkey) -> Self {
        Self(redis::Client::open(server.url()).unwrap().get_connection().unwrap())
    }

    fn ask<T: redis::FromRedisValue>(&mut self, command: &str) -> T {
        self.try_ask(command).unwrap()
    }

    fn try_ask<T: redis::FromRedisValue>(&mut self, command: &str) -> redis::RedisResult<T> {
        let mut words = command.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        for word in words {
            command.arg(word);
        }
        command.query(&mut self.0)
    }
}
