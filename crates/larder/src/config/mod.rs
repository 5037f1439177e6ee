//! Configuration: one typed struct per section, made from one table of keys.
//!
//! Every value comes from the strongest of four layers: flag > environment > file > default. A layer holds text
//! with the place it came from ([`layers`]); the table below turns the text of each key into its type
//! ([`values`]), so every error can say where the value was written. [`render`] prints the result.

mod access;
mod file;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod layers;
mod origin_url;
mod problem;
mod reload;
mod render;
mod rules;
mod trace;
mod unsupported;
mod valkey;
mod values;

use std::net::SocketAddr;

use access::{FilePath, Hidden, Networks, Text};
pub(crate) use larder_core::Level;
pub(crate) use layers::{Flag, Given, Source};
use layers::{Layers, Setting};
pub(crate) use origin_url::OriginUrl;
pub(crate) use problem::ConfigErrors;
use problem::Problem;
pub(crate) use reload::{Reloaded, reload};
pub(crate) use render::{json, schema, toml};
use rules::Written;
use trace::Collector;
use valkey::{Prefix, Switch, TierUrl};
pub(crate) use values::{
    Address, Auth, ChangeSource, Count, Filter, Format, Fraction, ListenTls, MaybeSpan, Mode, OriginTls,
    Plugin, Size, Span, Value,
};

/// One key of the configuration, as the documentation, the schema and the error messages see it.
#[derive(Debug)]
pub(crate) struct Key {
    /// Section of the file.
    pub(crate) section: &'static str,
    /// Name within the section.
    pub(crate) name: &'static str,
    /// What it means, for people.
    pub(crate) doc: &'static str,
    /// The default, as it would be written in the file.
    pub(crate) default: &'static str,
    /// Its own flag without the dashes, or empty; every key can also be given as `--set section.key=value`.
    pub(crate) flag: &'static str,
    /// JSON schema of its type.
    pub(crate) schema: fn() -> serde_json::Value,
}

impl Key {
    /// `section.key`.
    pub(crate) fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// `LARDER_SECTION_KEY`.
    pub(crate) fn env(&self) -> String {
        format!("LARDER_{}_{}", self.section, self.name).to_ascii_uppercase()
    }
}

macro_rules! sections {
    ($(
        $(#[doc = $section_doc:literal])+
        $section:ident: $Section:ident {
            $( $(#[doc = $doc:literal])+ $key:ident: $Type:ty = $default:literal $(, flag $flag:literal)?; )+
        }
    )+) => {
        $(
            $(#[doc = $section_doc])+
            #[derive(Debug, Clone)]
            pub(crate) struct $Section { $( $(#[doc = $doc])+ pub(crate) $key: $Type, )+ }
        )+

        /// The effective configuration.
        #[derive(Debug, Clone)]
        pub(crate) struct Config { $( $(#[doc = $section_doc])+ pub(crate) $section: $Section, )+ }

        /// Every key, in the order of the documentation.
        pub(crate) const KEYS: &[Key] = &[$($(
            Key {
                section: stringify!($section),
                name: stringify!($key),
                doc: concat!($($doc),+).trim_ascii(),
                default: $default,
                flag: concat!("" $(, $flag)?),
                schema: <$Type as Value>::schema,
            },
        )+)+];

        impl Config {
            /// Types every value, in the order of [`KEYS`]; `None` when one of them is wrong (see `problems`).
            fn assemble(settings: &mut dyn Iterator<Item = Setting>, problems: &mut Vec<Problem>) -> Option<Self> {
                $(
                    $( let $key = typed::<$Type>(settings, problems); )+
                    let $section = (|| Some($Section { $( $key: $key?, )+ }))();
                )+
                Some(Self { $( $section: $section?, )+ })
            }

            /// The values in the order of [`KEYS`], secrets masked.
            fn shown(&self) -> Vec<serde_json::Value> {
                vec![$($( self.$section.$key.show(), )+)+]
            }
        }
    };
}

sections! {
    /// Where PostgreSQL clients connect.
    listen: Listen {
        /// Address and port for clients (PostgreSQL protocol).
        addr: Address = "127.0.0.1:6433", flag "listen";
        /// Most clients connected at a time; one more is refused as PostgreSQL would (SQLSTATE 53300).
        max_clients: Count = "10000";
        /// TLS for clients, once there is a certificate: prefer (for those who ask) or require.
        tls: ListenTls = "prefer";
        /// File with Larder's certificate and its chain, in PEM format.
        tls_cert: FilePath = "";
        /// File with the certificate's private key, in PEM format.
        tls_key: FilePath = "";
        /// File with the authorities that sign clients' certificates: every client must then show one.
        tls_client_ca: FilePath = "";
        /// File with the lists of certificates that these authorities have revoked, in PEM format.
        tls_client_crl: FilePath = "";
        /// Who authenticates clients: relay (the origin, message by message), verify (Larder, by password) or cert
        /// (Larder, by the client's certificate alone).
        auth: Auth = "relay";
        /// For auth = "verify": SQL that Larder's own account asks for a user's ($1) password as pg_authid keeps it.
        auth_query: Text = "SELECT CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END FROM pg_catalog.pg_authid WHERE rolname = $1";
        /// For auth = "verify" and "cert": file of users and their secrets, asked before auth_query.
        auth_users: FilePath = "";
        /// Time for a client to say who it is and to prove it.
        login_timeout: Span = "1m";
        /// Peers (load balancers) that must begin with a PROXY protocol header: networks.
        proxy_protocol_from: Networks = "";
    }
    /// Health, metrics and status over HTTP.
    admin: Admin {
        /// Address and port of the admin HTTP server.
        addr: Address = "127.0.0.1:6434", flag "admin";
        /// Who sends it (Authorization: Bearer ...) may purge and switch modes over HTTP; without one nobody may.
        token: Hidden = "";
        /// User of the admin database (dbname=larder on the clients' address); without one there is no such database.
        user: Text = "";
        /// Its password.
        password: Hidden = "";
        /// Whether statements are counted and timed, for /metrics and SHOW QUERIES; off only to measure what that costs.
        statistics: Switch = "true";
    }
    /// The PostgreSQL primary behind Larder.
    origin: Origin {
        /// postgres://user:password@host:port/database, all but the host optional: where clients are relayed to. User,
        /// password and database are Larder's own account (unless control_url is given); clients bring their own.
        url: OriginUrl = "", flag "origin";
        /// Larder's own account (REPLICATION and CONNECT) for the change feed and the catalog; default: url.
        control_url: OriginUrl = "", flag "control";
        /// TLS towards the origin: disable, prefer, require, verify-ca or verify-full, as libpq's sslmode.
        tls: OriginTls = "prefer";
        /// File with the authorities that may have signed the origin's certificate; default: those of the system.
        tls_ca: FilePath = "";
        /// File with Larder's own certificate for the origin and its chain, in PEM format: shown for Larder's own account,
        /// and for clients' sessions if Larder authenticates clients (auth = "verify" or "cert").
        tls_cert: FilePath = "";
        /// File with that certificate's private key, in PEM format.
        tls_key: FilePath = "";
        /// Longest time to wait for a connection to the origin.
        connect_timeout: Span = "5s";
        /// Most statements that fill the cache at a time.
        max_inflight_fills: Count = "64";
    }
    /// The cache.
    cache: Cache {
        /// serve: answer from memory what is provably fresh; shadow: let the origin answer everything, and compare what
        /// memory would have answered; bypass: plain proxy.
        mode: Mode = "serve", flag "mode";
        /// Memory for cached answers.
        memory: Size = "256MiB", flag "memory";
        /// Larger answers are not kept.
        max_result: Size = "1MiB";
        /// Longest life of an entry, even if nothing changes.
        ttl: Span = "1h";
        /// Each entry's life is shortened by a random part of this fraction, so that entries do not expire together.
        ttl_jitter: Fraction = "0.1";
    }
    /// What readers are promised.
    freshness: Freshness {
        /// How Larder learns of changes: replication is logical decoding of the origin's log.
        source: ChangeSource = "replication";
        /// linearizable, strict, session or bounded.
        level: Level = "strict", flag "level";
        /// Longest time that an answer may lag behind writes made around Larder; the length of the lease.
        max_lag: Span = "1s", flag "max-lag";
        /// Output plugin of the logical decoding slot.
        plugin: Plugin = "test_decoding";
        /// Name of a publication FOR ALL TABLES, for plugin = "pgoutput".
        publication: Text = "";
        /// How often the catalog is compared while anything commits.
        ddl_check: Span = "250ms";
    }
    /// Comparing answers from memory with the origin's, while serving.
    verify: Verify {
        /// Share of the answers from memory that are compared, 0 to 1 (0.001: one in a thousand): the origin answers these.
        sample: Fraction = "0.0";
    }
    /// A second tier that all Larders of a fleet share, on Valkey or Redis. Nothing needs it to be there.
    valkey: Valkey {
        /// redis://user:password@host:6379/0 (rediss:// with TLS), redis-sentinel://host:26379,host/0?master=name, or
        /// redis-cluster://host,host; none: no shared tier.
        url: TierUrl = "", flag "valkey";
        /// Longest time that a statement waits for an answer of it.
        timeout: Span = "20ms";
        /// Longest time to make a connection, in the background.
        connect_timeout: Span = "1s";
        /// Larger entries, as they are stored, stay with who has them.
        max_value: Size = "1MiB";
        /// It is asked for answers that take the origin at least this long.
        min_origin_time: Span = "1ms";
        /// Authenticates entries: the same for all Larders of the fleet, at least 16 bytes; none: whoever can write to it is trusted.
        secret: Hidden = "";
        /// Whether entries are encrypted too, with the secret.
        encrypt: Switch = "false";
        /// All keys begin with it and a colon.
        prefix: Prefix = "larder";
        /// The primary's name among the Sentinels that url names.
        sentinel_master: Text = "";
        /// Password at the Sentinels themselves.
        sentinel_password: Hidden = "";
        /// Whether url names nodes of a cluster.
        cluster: Switch = "false";
        /// File with the authorities that may have signed its certificate; default: those of the system.
        tls_ca: FilePath = "";
        /// File with Larder's own certificate for it, in PEM format.
        tls_cert: FilePath = "";
        /// File with that certificate's private key, in PEM format.
        tls_key: FilePath = "";
    }
    /// Spans of requests for OpenTelemetry.
    trace: Trace {
        /// Collector that takes OTLP over HTTP, http://host:4318; none: nothing is traced.
        endpoint: Collector = "";
        /// Share of the requests, and of the beginnings of sessions, that are traced, 0 to 1.
        sample: Fraction = "0.01";
    }
    /// Stopping.
    drain: Drain {
        /// After SIGTERM, transactions may finish for this long.
        grace: Span = "25s";
        /// An older connection of a client is closed between two transactions; 0s: none ever is for that reason.
        client_max_age: MaybeSpan = "0s";
    }
    /// The log, on stderr.
    log: Log {
        /// error, warn, info, debug, trace, or a filter such as larder_feed=debug,info.
        level: Filter = "info", flag "log-level";
        /// text for people, json for programs.
        format: Format = "text", flag "log-format";
    }
}

/// The effective configuration and where each value came from.
#[derive(Debug, Clone)]
pub(crate) struct Effective {
    /// The values.
    pub(crate) config: Config,
    /// Where they came from, in the order of [`KEYS`].
    pub(crate) sources: Vec<Source>,
    /// `[[rule]]`, in order.
    pub(crate) rules: Vec<Written>,
    /// The same as they were written: what a reload compares with.
    settings: Vec<Setting>,
    given: Given,
}

/// For a flag that is no setting; zero is allowed, with or without a unit.
pub(crate) fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    let zero = (text == "0").then_some(std::time::Duration::ZERO);
    let parsed = zero.or_else(|| values::parse_span(text));
    parsed.ok_or_else(|| "write a number and a unit, such as 20s or 5m".to_owned())
}

/// Whether something says what to serve: a file, or the origin by flag or environment.
pub(crate) fn is_configured(given: &Given) -> bool {
    given.file_path().is_some()
        || given.flags.iter().any(|flag| flag.path == "origin.url")
        || given
            .environment
            .iter()
            .any(|(name, _)| name == "LARDER_ORIGIN_URL" || name == "LARDER_ORIGIN_URL_FILE")
}

/// Reads all layers and types every value. All problems are reported together.
pub(crate) fn load(given: &Given) -> Result<Effective, ConfigErrors> {
    let mut problems = Vec::new();
    let layers = Layers::read(given, &mut problems);
    let effective = typed_settings(layers.into_settings(), problems)?;
    Ok(Effective { given: given.clone(), ..effective })
}

fn typed_settings(
    (settings, rules): (Vec<Setting>, Vec<Written>),
    mut problems: Vec<Problem>,
) -> Result<Effective, ConfigErrors> {
    let sources: Vec<_> = settings.iter().map(|setting| setting.source.clone()).collect();
    let config = Config::assemble(&mut settings.iter().cloned(), &mut problems);
    problems.extend(config.iter().flat_map(|config| access::contradictions(config, &sources)));
    match config {
        Some(config) if problems.is_empty() => {
            Ok(Effective { config, sources, rules, settings, given: Given::default() })
        }
        _ => Err(ConfigErrors(problems)),
    }
}

impl Effective {
    /// The rules, in order.
    pub(crate) fn rules(&self) -> Vec<larder_proxy::Rule> {
        self.rules.iter().map(|written| written.rule.clone()).collect()
    }

    /// What only commands that talk to the origin need.
    pub(crate) fn require_origin(&self) -> Result<(), ConfigErrors> {
        if self.config.origin.url.is_some() {
            return Ok(());
        }
        Err(ConfigErrors(vec![Problem {
            place: None,
            what: "no origin is configured".to_owned(),
            mend: "say which PostgreSQL to put Larder in front of: --origin postgres://user:password@host:5432/database, \
                   LARDER_ORIGIN_URL, or url in section [origin] of larder.toml"
                .to_owned(),
        }]))
    }
}

impl Config {
    /// Larder's own account on the origin: `control_url`, else `url`.
    pub(crate) fn control(&self) -> &OriginUrl {
        if self.origin.control_url.is_some() { &self.origin.control_url } else { &self.origin.url }
    }

    /// Where clients connect.
    pub(crate) fn listen_addr(&self) -> SocketAddr {
        self.listen.addr.0
    }
}

fn typed<T: Value>(settings: &mut dyn Iterator<Item = Setting>, problems: &mut Vec<Problem>) -> Option<T> {
    let setting = settings.next()?;
    match T::parse(&setting.text) {
        Ok(value) => Some(value),
        Err((what, mend)) => {
            problems.push(Problem {
                place: Some(setting.source),
                what: format!("{}: {what}", setting.path),
                mend,
            });
            None
        }
    }
}

#[cfg(test)]
mod tests;
