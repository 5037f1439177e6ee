//! The command line: what can be asked for, and what the exit status says (0 done, 1 the run failed, 2 bad usage or
//! configuration).

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::config::{self, ConfigErrors, Flag, Given};
use crate::{commands, demo, serve};

/// A transparent, provably fresh read cache for PostgreSQL.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
}

const AFTER_HELP: &str = "\
Every setting: flag > environment (LARDER_<SECTION>_<KEY>) > file > default; `larder config` shows them all.
Start here:  larder demo
             larder serve --origin postgres://larder:secret@db.example:5432/app";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the cache (the default when an origin is configured)
    Serve,
    /// A tour on a throw-away PostgreSQL: mixed load, live figures, every answer checked
    Demo {
        /// How long the load runs; 0: until Ctrl-C
        #[arg(long, value_name = "TIME", default_value = "20s", value_parser = config::parse_duration)]
        duration: Duration,
        /// For programs
        #[arg(long)]
        json: bool,
        /// Keep PostgreSQL and Larder running afterwards, until Ctrl-C
        #[arg(long)]
        keep: bool,
    },
    /// Say what stands between Larder and fresh answers, with the SQL or setting that mends it
    Check {
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Ask the Larder on this machine whether it is ready: status 0 if it is (for health checks of containers)
    Health {
        /// Only whether the process runs
        #[arg(long)]
        live: bool,
        /// Longest wait for the answer
        #[arg(long, value_name = "TIME", default_value = "3s", value_parser = config::parse_duration)]
        timeout: Duration,
    },
    /// Install the optional extra on the origin: event triggers that announce DDL at once
    Setup {
        /// Show the SQL, change nothing
        #[arg(long)]
        print: bool,
        /// Undo it
        #[arg(long)]
        drop: bool,
    },
    /// Would this statement be answered from memory? On what does its answer depend, or why not?
    Explain {
        /// One SQL statement
        sql: String,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// What would a running database gain? From its own statistics (pg_stat_statements), without being in the path
    Advise {
        /// The database: postgres://user:password@host:5432/database [default: the configured origin]
        url: Option<String>,
        /// The clients' search_path, such as "app, public" [default: the account's own]
        #[arg(long, value_name = "SCHEMAS")]
        search_path: Option<String>,
        /// Lines of each table
        #[arg(long, value_name = "N", default_value_t = 12)]
        rows: usize,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Watch a running Larder: statements by the time they cost and save (needs admin.user and admin.password)
    Top {
        /// Time between two pictures
        #[arg(long, value_name = "TIME", default_value = "2s", value_parser = config::parse_duration)]
        interval: Duration,
        /// Pictures to show; 0: until Ctrl-C
        #[arg(long, value_name = "N", default_value_t = 0)]
        times: usize,
        /// Statements shown
        #[arg(long, value_name = "N", default_value_t = 20)]
        rows: usize,
    },
    /// Forget answers in a running Larder (needs admin.user and admin.password)
    #[command(group = clap::ArgGroup::new("what").required(true))]
    Purge {
        /// Every answer
        #[arg(long, group = "what")]
        all: bool,
        /// Those that depend on a relation
        #[arg(long, group = "what", value_name = "NAME")]
        table: Option<String>,
        /// Those of a statement: its fingerprint, as `larder top` and SHOW QUERIES have it
        #[arg(long, group = "what", value_name = "FINGERPRINT")]
        query: Option<String>,
        /// Those that depend on a tag, such as rel:16384
        #[arg(long, group = "what", value_name = "TAG")]
        tag: Option<String>,
    },
    /// Print the effective configuration and where each value came from
    Config {
        /// JSON schema of the configuration file
        #[arg(long, conflicts_with = "json")]
        schema: bool,
        /// For programs
        #[arg(long)]
        json: bool,
    },
}

/// Settings that have a flag of their own; each is accepted before and after the command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Settings")]
struct Settings {
    /// Configuration file [default: larder.toml or /etc/larder/larder.toml, if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The PostgreSQL primary: postgres://user:password@host:5432/database
    #[arg(long, global = true, value_name = "URL")]
    origin: Option<String>,
    /// Larder's own account for the change feed [default: as --origin]
    #[arg(long, global = true, value_name = "URL")]
    control: Option<String>,
    /// Address for PostgreSQL clients
    #[arg(long, global = true, value_name = "ADDR")]
    listen: Option<String>,
    /// Address for health, metrics and status over HTTP
    #[arg(long, global = true, value_name = "ADDR")]
    admin: Option<String>,
    /// serve, shadow or bypass
    #[arg(long, global = true, value_name = "MODE")]
    mode: Option<String>,
    /// Memory for cached answers
    #[arg(long, global = true, value_name = "SIZE")]
    memory: Option<String>,
    /// linearizable, strict, session or bounded
    #[arg(long, global = true, value_name = "LEVEL")]
    level: Option<String>,
    /// Longest lag behind writes made around Larder
    #[arg(long, global = true, value_name = "TIME")]
    max_lag: Option<String>,
    /// error, warn, info, debug, trace, or a filter
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// text or json
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Any other setting, e.g. --set cache.ttl=10m
    #[arg(long, global = true, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// A Valkey or Redis that several Larders share, redis://host:6379; demo starts one itself if no URL is given
    #[arg(long, global = true, value_name = "URL", num_args = 0..=1, default_missing_value = "")]
    valkey: Option<String>,
}

/// Parses the command line and runs the command.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    let given = cli.settings.given();
    let Some(command) = cli.command.or_else(|| config::is_configured(&given).then_some(Command::Serve))
    else {
        eprint!("{}", Cli::command().render_help());
        return ExitCode::from(2);
    };
    match dispatch(command, given) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("larder: {error:#}");
            ExitCode::from(if error.is::<ConfigErrors>() { 2 } else { 1 })
        }
    }
}

fn dispatch(command: Command, mut given: Given) -> anyhow::Result<ExitCode> {
    if let Command::Demo { duration, json, keep } = command {
        return demo::run(given, demo::Options { duration, json, keep });
    }
    if given.flags.iter().any(|flag| flag.is_bare_valkey()) {
        let mend = "write --valkey redis://host:6379 (only the demo starts one by itself)";
        return Err(ConfigErrors::file("--valkey does not say where".to_owned(), mend.to_owned()).into());
    }
    if let Command::Advise { url: Some(url), .. } = &command {
        for path in ["origin.url", "origin.control_url"] {
            given.flags.push(Flag { path: path.to_owned(), value: Some(url.clone()), name: "advise URL" });
        }
    }
    let effective = config::load(&given)?;
    match command {
        Command::Demo { .. } => Ok(ExitCode::SUCCESS),
        Command::Serve => serve::run(&effective),
        Command::Check { json } => commands::check(&effective, json),
        Command::Health { live, timeout } => commands::health(&effective, live, timeout),
        Command::Setup { print, drop } => commands::setup(&effective, print, drop),
        Command::Explain { sql, json } => commands::explain(&effective, &sql, json),
        Command::Advise { search_path, rows, json, .. } => {
            commands::advise(&effective, search_path.as_deref(), rows, json)
        }
        Command::Top { interval, times, rows } => commands::top(&effective, interval, times, rows),
        Command::Purge { table, query, tag, .. } => {
            let kinds = [("TABLE", table), ("QUERY", query), ("TAG", tag)];
            let named = kinds.into_iter().find_map(|(kind, name)| Some((kind, name?)));
            let statement = match named {
                Some((kind, name)) => format!("PURGE {kind} '{}'", name.replace('\'', "''")),
                None => "PURGE ALL".to_owned(),
            };
            commands::purge(&effective, &statement)
        }
        Command::Config { schema, json } => {
            let text = match (schema, json) {
                (true, _) => format!("{:#}\n", config::schema()),
                (_, true) => format!("{:#}\n", config::json(&effective)),
                _ => config::toml(&effective),
            };
            print_text(&text)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Writes to stdout; a reader that went away (`larder config | head`) is not an error.
pub(crate) fn print_text(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

impl Settings {
    fn given(&self) -> Given {
        let mut flags = Vec::new();
        let named = [
            ("origin.url", "--origin", &self.origin),
            ("origin.control_url", "--control", &self.control),
            ("listen.addr", "--listen", &self.listen),
            ("admin.addr", "--admin", &self.admin),
            ("cache.mode", "--mode", &self.mode),
            ("cache.memory", "--memory", &self.memory),
            ("freshness.level", "--level", &self.level),
            ("freshness.max_lag", "--max-lag", &self.max_lag),
            ("log.level", "--log-level", &self.log_level),
            ("log.format", "--log-format", &self.log_format),
            ("valkey.url", "--valkey", &self.valkey),
        ];
        for pair in &self.set {
            let (path, value) = match pair.split_once('=') {
                Some((path, value)) => (path.trim().to_owned(), Some(value.trim().to_owned())),
                None => (pair.clone(), None),
            };
            flags.push(Flag { path, value, name: "--set" });
        }
        for (path, flag, value) in named {
            if let Some(value) = value {
                flags.push(Flag { path: path.to_owned(), value: Some(value.clone()), name: flag });
            }
        }
        let environment = Given::larder_environment();
        let from_environment = environment.iter().find(|(name, _)| name == "LARDER_CONFIG");
        let file = self.config.clone().or_else(|| from_environment.map(|(_, value)| PathBuf::from(value)));
        Given { file, flags, environment }
    }
}
