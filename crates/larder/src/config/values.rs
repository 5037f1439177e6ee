//! The types that a configuration value can have. Each is made from text and knows its JSON schema.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use larder_core::Level;
use serde_json::{Value as Json, json};

/// What is wrong with a text, and how to mend it.
pub(crate) type Complaint = (String, String);

/// A type that a configuration value can have.
pub(crate) trait Value: Sized {
    /// The text as written in a file (without quotes), the environment or a flag.
    fn parse(text: &str) -> Result<Self, Complaint>;
    /// The value for `larder config`, secrets masked: a JSON string or number.
    fn show(&self) -> Json;
    /// JSON schema of what may be written in the file.
    fn schema() -> Json;
}

/// An IP address and a port.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Address(pub(crate) SocketAddr);

/// A whole number, at least 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Count(pub(crate) usize);

/// A number from 0 to 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fraction(pub(crate) f64);

/// A length of time, greater than zero.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span(pub(crate) Duration);

/// A length of time; zero means that there is none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MaybeSpan(pub(crate) Option<Duration>);

/// A number of bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size(pub(crate) usize);

/// A filter of log messages.
#[derive(Debug, Clone)]
pub(crate) struct Filter(pub(crate) String);

impl Value for Address {
    fn parse(text: &str) -> Result<Self, Complaint> {
        text.parse().map(Self).map_err(|_| {
            (
                format!("\"{text}\" is not an address"),
                "write an IP address and a port, such as 127.0.0.1:6433, 0.0.0.0:6433 or [::1]:6433"
                    .to_owned(),
            )
        })
    }

    fn show(&self) -> Json {
        json!(self.0.to_string())
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^(.+):[0-9]{1,5}$" })
    }
}

impl Value for Count {
    fn parse(text: &str) -> Result<Self, Complaint> {
        match text.parse() {
            Ok(count) if count > 0 => Ok(Self(count)),
            _ => Err((
                format!("\"{text}\" is not a count"),
                "write a whole number from 1 up, such as 64".to_owned(),
            )),
        }
    }

    fn show(&self) -> Json {
        json!(self.0)
    }

    fn schema() -> Json {
        json!({ "type": "integer", "minimum": 1 })
    }
}

impl Value for Fraction {
    fn parse(text: &str) -> Result<Self, Complaint> {
        match text.parse() {
            Ok(number) if (0.0..=1.0).contains(&number) => Ok(Self(number)),
            _ => Err((
                format!("\"{text}\" is not a fraction"),
                "write a number from 0 to 1, such as 0.1".to_owned(),
            )),
        }
    }

    fn show(&self) -> Json {
        json!(self.0)
    }

    fn schema() -> Json {
        json!({ "type": "number", "minimum": 0, "maximum": 1 })
    }
}

/// Units of time, longest first, in microseconds.
const TIMES: [(&str, u64); 5] =
    [("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];

impl Value for Span {
    fn parse(text: &str) -> Result<Self, Complaint> {
        parse_span(text).filter(|span| !span.is_zero()).map(Self).ok_or_else(|| {
            let what = if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
                format!("\"{text}\" has no unit of time")
            } else {
                format!("\"{text}\" is not a length of time")
            };
            (what, "write a number and a unit, such as 250ms, 5s, 1m or 1h (more than zero)".to_owned())
        })
    }

    fn show(&self) -> Json {
        let micros = u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX);
        let unit = TIMES.iter().find(|(_, size)| micros.is_multiple_of(*size));
        let (unit, size) = unit.copied().unwrap_or(("us", 1));
        json!(format!("{}{unit}", micros / size))
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?(us|ms|s|m|h)$" })
    }
}

impl Value for MaybeSpan {
    fn parse(text: &str) -> Result<Self, Complaint> {
        match parse_span(text) {
            Some(Duration::ZERO) => Ok(Self(None)),
            _ => Span::parse(text).map(|span| Self(Some(span.0))),
        }
    }

    fn show(&self) -> Json {
        self.0.map_or_else(|| json!("0s"), |span| Span(span).show())
    }

    fn schema() -> Json {
        Span::schema()
    }
}

/// `250ms`, `1.5s`, `1m`, `1h`; zero is allowed here.
pub(crate) fn parse_span(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let (_, micros) = TIMES.iter().find(|(name, _)| *name == unit)?;
    let micros = number * f64::from(u32::try_from(*micros).ok()?);
    // A year is beyond any sensible setting and far from overflow.
    (micros <= 366.0 * 86_400_000_000.0).then(|| Duration::from_secs_f64(micros / 1_000_000.0))
}

/// Units of size, largest first; decimal and binary as in IEC 80000-13.
const SIZES: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

impl Value for Size {
    fn parse(text: &str) -> Result<Self, Complaint> {
        parse_size(text).filter(|bytes| *bytes > 0).map(Self).ok_or_else(|| {
            (
                format!("\"{text}\" is not a size"),
                "write bytes, or a number and a unit, such as 4096, 64kB, 1MiB, 256MB or 1GiB".to_owned(),
            )
        })
    }

    fn show(&self) -> Json {
        json!(self.to_string())
    }

    fn schema() -> Json {
        json!({ "anyOf": [
            { "type": "integer", "minimum": 1 },
            { "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?([kKMG]i?B|B)?$" },
        ] })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = u64::try_from(self.0).unwrap_or(u64::MAX);
        let (unit, size) =
            SIZES.iter().find(|(_, size)| bytes.is_multiple_of(*size)).copied().unwrap_or(("B", 1));
        write!(f, "{}{unit}", bytes / size)
    }
}

fn parse_size(text: &str) -> Option<usize> {
    if let Ok(bytes) = text.parse() {
        return Some(bytes);
    }
    let (number, unit) = split_unit(text)?;
    let (_, size) = SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    // Whole bytes; 2^53 is where a float stops being exact, and beyond any memory.
    let bytes = number * f64::from(u32::try_from(*size).ok()?);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (bytes < 9e15).then_some(bytes as usize)
}

fn split_unit(text: &str) -> Option<(f64, &str)> {
    let (number, unit) = text.split_at_checked(text.find(|c: char| c.is_ascii_alphabetic())?)?;
    let plain = number.trim_end();
    let numeric = plain.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    Some((plain.parse().ok().filter(|_| numeric)?, unit))
}

impl Value for Filter {
    fn parse(text: &str) -> Result<Self, Complaint> {
        match tracing_subscriber::EnvFilter::try_new(text) {
            Ok(_) if !text.trim().is_empty() => Ok(Self(text.to_owned())),
            _ => Err((
                format!("\"{text}\" is not a log level"),
                "write error, warn, info, debug or trace, or a filter such as larder_feed=debug,info"
                    .to_owned(),
            )),
        }
    }

    fn show(&self) -> Json {
        json!(self.0)
    }

    fn schema() -> Json {
        json!({ "type": "string", "minLength": 1 })
    }
}

impl Value for Level {
    fn parse(text: &str) -> Result<Self, Complaint> {
        text.parse().map_err(|what| (what, choose(text, &Self::ALL.map(Self::name))))
    }

    fn show(&self) -> Json {
        json!(self.name())
    }

    fn schema() -> Json {
        json!({ "enum": Self::ALL.map(Self::name) })
    }
}

/// A type with a fixed list of words, and words that a later version will know.
macro_rules! choices {
    ($($(#[doc = $doc:literal])+ $Name:ident { $($(#[doc = $vdoc:literal])+ $Variant:ident = $word:literal,)+ } later [$($later:literal),*])+) => {$(
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $Name { $($(#[doc = $vdoc])+ $Variant,)+ }

        impl $Name {
            const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word used in the configuration.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$Variant => $word,)+ }
            }
        }

        impl Value for $Name {
            fn parse(text: &str) -> Result<Self, Complaint> {
                let later: &[&str] = &[$($later),*];
                match text {
                    $($word => Ok(Self::$Variant),)+
                    other if later.contains(&other) => Err((
                        format!("\"{other}\" is not supported by this version"),
                        format!("use {}", Self::WORDS.join(" or ")),
                    )),
                    other => Err((format!("\"{other}\" is not one of the choices"), choose(other, Self::WORDS))),
                }
            }

            fn show(&self) -> Json {
                json!(self.name())
            }

            fn schema() -> Json {
                json!({ "enum": Self::WORDS })
            }
        }
    )+};
}

choices! {
    /// Who authenticates clients.
    Auth {
        /// The origin, message by message.
        Relay = "relay",
        /// Larder, by password.
        Verify = "verify",
        /// Larder, by certificate.
        Cert = "cert",
    } later []
    /// TLS towards clients.
    ListenTls {
        /// For those who ask.
        Prefer = "prefer",
        /// For all.
        Require = "require",
    } later []
    /// TLS towards the origin.
    OriginTls {
        /// Never.
        Disable = "disable",
        /// If the origin offers it.
        Prefer = "prefer",
        /// Always.
        Require = "require",
        /// Always, and an authority vouches for the origin.
        VerifyCa = "verify-ca",
        /// Always, and an authority vouches for the origin and its name.
        VerifyFull = "verify-full",
    } later []
    /// Whether the cache answers.
    Mode {
        /// What is provably fresh is answered from memory.
        Serve = "serve",
        /// The origin answers everything, and what memory would have answered is compared with that.
        Shadow = "shadow",
        /// Plain proxy.
        Bypass = "bypass",
    } later []
    /// How Larder learns of changes.
    ChangeSource {
        /// Logical decoding of the origin's log.
        Replication = "replication",
    } later ["ttl"]
    /// Output plugin of the slot.
    Plugin {
        /// Part of every PostgreSQL distribution.
        TestDecoding = "test_decoding",
        /// Built into PostgreSQL, for services that do not have the other one. Needs a publication.
        Pgoutput = "pgoutput",
    } later []
    /// Shape of log lines.
    Format {
        /// For people.
        Text = "text",
        /// For programs.
        Json = "json",
    } later []
}

fn choose(text: &str, words: &[&str]) -> String {
    match super::layers::nearest(text, words.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"? (choices: {})", words.join(", ")),
        None => format!("choices: {}", words.join(", ")),
    }
}
