//! What kind of server it is, and whether it lets Larder do what it needs: for status pages and `larder check`.

use std::time::Duration;

use redis::Value;

use super::connect::{Endpoint, Wire};
use super::trouble::{Trouble, TroubleKind};

/// What a server says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Server {
    /// Its name and version, such as `valkey 9.1.2`.
    pub version: String,
    /// `master` or `slave`, in the protocol's words.
    pub role: Option<String>,
    /// The most memory it may use, in bytes; 0: no limit of its own.
    pub max_memory: Option<u64>,
    /// What it does when that is reached.
    pub policy: Option<String>,
    /// Whether it is a node of a cluster.
    pub clustered: bool,
}

/// What a look at it found.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// What it says of itself; `None` if it may not be asked.
    pub server: Option<Server>,
    /// How long it took to answer.
    pub latency: Duration,
    /// What is wrong, or may become so.
    pub troubles: Vec<Trouble>,
}

impl Server {
    /// Whether it refuses to store once it is full, instead of dropping what is old.
    pub fn fills_up(&self) -> bool {
        self.policy.as_deref() == Some("noeviction") && self.max_memory.is_some_and(|bytes| bytes > 0)
    }
}

/// Asks; `None` if it does not say, which the user's permissions may be the reason for.
pub(super) async fn server(endpoint: &Endpoint, wire: &mut Wire) -> Option<Server> {
    let answer = endpoint.ask_in_time(wire, &redis::cmd("INFO")).await.ok()?;
    parse(&some_text(&answer)?)
}

/// Connects, reads, and writes a key of its own.
pub(super) async fn inspect(endpoint: &Endpoint, prefix: &str) -> Result<Inspection, Trouble> {
    let mut wire = endpoint.connect().await?;
    let latency = endpoint.ping(&wire).await?;
    let server = server(endpoint, &mut wire).await;
    let key = format!("{prefix}:check");
    let mut set = redis::cmd("SET");
    set.arg(&key).arg("larder check").arg("PX").arg(1000);
    let mut troubles = Vec::new();
    troubles.extend(endpoint.ask_in_time(&mut wire, &set).await.err());
    if let Some(server) = &server
        && server.fills_up()
        && !troubles.iter().any(|trouble| trouble.kind == TroubleKind::Full)
    {
        troubles.push(Trouble::new(TroubleKind::WillFill, ""));
    }
    Ok(Inspection { server, latency, troubles })
}

/// The text of INFO; of one node, if a cluster answers for several.
fn some_text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::VerbatimString { text, .. } | Value::SimpleString(text) => Some(text.clone()),
        Value::Map(pairs) => pairs.iter().find_map(|(_, value)| some_text(value)),
        Value::Array(values) => values.iter().find_map(some_text),
        _ => None,
    }
}

fn parse(info: &str) -> Option<Server> {
    let field = |name: &str| {
        info.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':')).map(str::to_owned)
    };
    // Those that came later call themselves by their own name, and say which Redis they are like.
    let own = ["valkey", "dragonfly"].into_iter().find_map(|name| {
        let version = field(&format!("{name}_version"))?;
        Some(format!("{name} {}", version.trim_start_matches("df-v")))
    });
    let version = own.or_else(|| Some(format!("redis {}", field("redis_version")?)))?;
    Some(Server {
        version,
        role: field("role"),
        max_memory: field("maxmemory").and_then(|bytes| bytes.parse().ok()),
        policy: field("maxmemory_policy"),
        clustered: field("cluster_enabled").as_deref() == Some("1"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_known_by_what_they_say() {
        let valkey = "# Server\r\nserver_name:valkey\r\nredis_version:7.2.4\r\nvalkey_version:9.1.2\r\n# Memory\r\n\
                      maxmemory:1048576\r\nmaxmemory_policy:noeviction\r\n# Replication\r\nrole:master\r\n";
        let server = parse(valkey).unwrap();
        assert_eq!((server.version.as_str(), server.role.as_deref()), ("valkey 9.1.2", Some("master")));
        assert!(server.fills_up());
        let redis = parse("redis_version:7.0.15\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n").unwrap();
        assert!(redis.version == "redis 7.0.15" && !redis.fills_up());
        let dragonfly =
            parse("redis_version:7.4.0\r\ndragonfly_version:df-v1.27.1\r\nmaxmemory:9\r\n").unwrap();
        assert!(dragonfly.version == "dragonfly 1.27.1" && !dragonfly.fills_up());
        assert_eq!(parse("nonsense"), None);
    }
}
