//! What operators have decided about caching: the rules of the configuration, and what is switched off meanwhile.
//!
//! They are asked when a plan is made, never on the way of a hit: a statement that may not be cached has a plan that
//! says so, and a denied statement is neither looked up nor kept. Every change begins a new generation; plans of an
//! older one are made again when they are next used.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use larder_core::catalog::Relation;
use larder_core::{Bypass, Catalog};
use larder_sql::Fingerprint;
use parking_lot::Mutex;

/// Most statements and relations that can be switched off at a time: some megabytes.
const MAX_DENIED: usize = 50_000;

/// What is switched off.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// One statement, whatever its values.
    Query(Fingerprint),
    /// Every statement that reads the table or view, by its name with or without a schema.
    Table(String),
}

/// One rule of the configuration. The first whose condition holds decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// When it applies.
    pub when: Condition,
    /// Whether answers may be cached then.
    pub cache: bool,
    /// Longest life of those answers; `None`: as everywhere.
    pub ttl: Option<Duration>,
}

/// When a rule applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The statement is this one, whatever its values.
    Query(Fingerprint),
    /// It reads this table or view, or a part of it; by its name with or without a schema.
    Table(String),
    /// The session's user, or the role that it has taken.
    Role(String),
    /// The session's database.
    Database(String),
}

/// Something that is switched off.
#[derive(Debug, Clone)]
pub struct Denied {
    /// What.
    pub target: Target,
    /// The reason that its statements are given.
    pub why: Bypass,
    /// Since when.
    pub since: SystemTime,
}

/// There is no room for one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_DENIED} statements and tables are switched off already")]
pub struct TooManyDenied;

/// All decisions in force.
#[derive(Debug, Default)]
pub struct Rules {
    book: ArcSwap<Book>,
    /// Raised after `book` is replaced.
    generation: AtomicU64,
    changing: Mutex<()>,
}

#[derive(Debug, Default, Clone)]
struct Book {
    configured: Vec<Rule>,
    denied: HashMap<Target, (Bypass, SystemTime)>,
}

/// What a statement is, as far as rules can tell statements apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) fingerprint: Fingerprint,
    /// OIDs of the relations that its answer depends on, and of the views that it reads them through.
    pub(crate) relations: &'a [u32],
    pub(crate) views: &'a [u32],
    pub(crate) catalog: &'a Catalog,
    /// Session user and current user.
    pub(crate) roles: &'a [String; 2],
}

impl Rules {
    /// With these rules of the configuration, and nothing switched off.
    pub fn new(configured: Vec<Rule>) -> Self {
        let rules = Self::default();
        rules.configure(configured);
        rules
    }

    /// Replaces the rules of the configuration.
    pub fn configure(&self, configured: Vec<Rule>) {
        self.change(|book| book.configured = configured);
    }

    /// Switches caching off for `target` until it is allowed again. `false`: it was off already.
    ///
    /// # Errors
    /// There is no room for one more.
    pub fn deny(&self, target: Target, why: Bypass) -> Result<bool, TooManyDenied> {
        self.change(|book| {
            let known = book.denied.contains_key(&target);
            if !known && book.denied.len() >= MAX_DENIED {
                return Err(TooManyDenied);
            }
            book.denied.entry(target).or_insert((why, SystemTime::now()));
            Ok(!known)
        })
    }

    /// Takes a denial back. `false`: there was none.
    pub fn allow(&self, target: &Target) -> bool {
        self.change(|book| book.denied.remove(target).is_some())
    }

    /// Takes every denial back; returns how many there were.
    pub fn allow_all(&self) -> usize {
        self.change(|book| std::mem::take(&mut book.denied).len())
    }

    /// The rules of the configuration, in order.
    pub fn configured(&self) -> Vec<Rule> {
        self.book.load().configured.clone()
    }

    /// What is switched off, the latest first.
    pub fn denied(&self) -> Vec<Denied> {
        let book = self.book.load();
        let denied = book.denied.iter();
        let mut denied: Vec<_> = denied
            .map(|(target, (why, since))| Denied { target: target.clone(), why: *why, since: *since })
            .collect();
        denied.sort_by(|a, b| b.since.cmp(&a.since).then_with(|| a.target.cmp(&b.target)));
        denied
    }

    fn change<T>(&self, change: impl FnOnce(&mut Book) -> T) -> T {
        let _one_at_a_time = self.changing.lock();
        let mut book = Book::clone(&self.book.load());
        let result = change(&mut book);
        self.book.store(Arc::new(book));
        self.generation.fetch_add(1, Ordering::Release);
        result
    }

    /// Tells whether a plan was made by the rules in force. Read before [`Rules::decide`], so that a plan is never
    /// taken for newer than the rules that it was made by.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether answers to a statement may be cached, and for how long at most.
    pub(crate) fn decide(&self, subject: Subject<'_>) -> Result<Option<Duration>, Bypass> {
        let book = self.book.load();
        if let Some(why) = book.denial(subject) {
            return Err(why);
        }
        match book.configured.iter().find(|rule| rule.when.holds(subject)) {
            Some(Rule { cache: false, .. }) => Err(Bypass::ConfigRule),
            Some(rule) => Ok(rule.ttl),
            None => Ok(None),
        }
    }
}

impl Book {
    fn denial(&self, subject: Subject<'_>) -> Option<Bypass> {
        if self.denied.is_empty() {
            return None;
        }
        let query = self.denied.get(&Target::Query(subject.fingerprint));
        let table = || {
            self.denied.iter().find_map(|(target, denied)| match target {
                Target::Table(name) => subject.reads(name).then_some(denied),
                Target::Query(_) => None,
            })
        };
        query.or_else(table).map(|(why, _)| *why)
    }
}

impl Condition {
    fn holds(&self, subject: Subject<'_>) -> bool {
        match self {
            Self::Query(fingerprint) => *fingerprint == subject.fingerprint,
            Self::Table(name) => subject.reads(name),
            Self::Role(name) => subject.roles.contains(name),
            Self::Database(name) => *name == subject.catalog.database,
        }
    }
}

impl Subject<'_> {
    /// Whether it reads the relation, or something that is a part of it.
    fn reads(&self, name: &str) -> bool {
        let relations = &self.catalog.relations;
        let is_named = |oid: &u32| relations.get(oid).is_some_and(|relation| names(name, relation));
        let is_part =
            |oid: &u32| relations.get(oid).is_some_and(|found| found.ancestors.iter().any(is_named));
        self.relations.iter().chain(self.views).any(|oid| is_named(oid) || is_part(oid))
    }
}

/// Whether a name, with or without a schema, is a relation's.
pub(crate) fn names(name: &str, relation: &Relation) -> bool {
    match name.split_once('.') {
        Some((schema, name)) => relation.schema == schema && relation.name == name,
        None => relation.name == name,
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Query(fingerprint) => write!(f, "query {fingerprint}"),
            Self::Table(name) => write!(f, "table {name}"),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Query(fingerprint) => write!(f, "query {fingerprint}"),
            Self::Table(name) => write!(f, "table {name}"),
            Self::Role(name) => write!(f, "role {name}"),
            Self::Database(name) => write!(f, "database {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_core::catalog::{Persistence, RelationKind};

    fn catalog() -> Catalog {
        let relation = |oid, schema: &str, name: &str, ancestors: &[u32]| {
            let relation = Relation {
                oid,
                schema: schema.to_owned(),
                name: name.to_owned(),
                kind: RelationKind::Table,
                persistence: Persistence::Permanent,
                row_security: false,
                policies: vec![],
                has_rules: false,
                is_system: false,
                columns: vec![],
                logs_old_rows: false,
                descendants: vec![],
                ancestors: ancestors.to_vec(),
                view_query: None,
                writes_elsewhere: false,
            };
            (oid, Arc::new(relation))
        };
        let relations = [
            relation(1, "public", "orders", &[]),
            relation(2, "parts", "orders_1", &[1]),
            relation(3, "audit", "log", &[]),
            relation(4, "public", "seen", &[]),
        ];
        Catalog { database: "shop".to_owned(), relations: relations.into(), ..Catalog::default() }
    }

    fn decide(rules: &Rules, fingerprint: u64, relations: &[u32]) -> Result<Option<Duration>, Bypass> {
        let roles = ["ann".to_owned(), "report".to_owned()];
        let fingerprint = Fingerprint(fingerprint);
        rules.decide(Subject { fingerprint, relations, views: &[4], catalog: &catalog(), roles: &roles })
    }

    #[test]
    fn what_is_denied_is_off_until_it_is_allowed_again() {
        let rules = Rules::default();
        let mut generation = rules.generation();
        let mut is_new =
            |rules: &Rules| std::mem::replace(&mut generation, rules.generation()) != rules.generation();
        assert_eq!(decide(&rules, 7, &[1]), Ok(None));
        assert!(!is_new(&rules));
        assert_eq!(rules.deny(Target::Query(Fingerprint(7)), Bypass::Denied), Ok(true));
        assert_eq!(rules.deny(Target::Query(Fingerprint(7)), Bypass::Denied), Ok(false));
        assert!(is_new(&rules));
        assert_eq!((decide(&rules, 7, &[3]), decide(&rules, 8, &[3])), (Err(Bypass::Denied), Ok(None)));
        rules.deny(Target::Table("public.orders".to_owned()), Bypass::Denied).unwrap();
        assert_eq!(rules.denied().len(), 2);
        for relations in [&[1][..], &[3, 2]] {
            assert_eq!(decide(&rules, 8, relations), Err(Bypass::Denied), "the table, or a part of it");
        }
        assert!(rules.allow(&Target::Query(Fingerprint(7))) && !rules.allow(&Target::Query(Fingerprint(7))));
        assert!(is_new(&rules));
        assert_eq!((decide(&rules, 7, &[3]), decide(&rules, 7, &[1])), (Ok(None), Err(Bypass::Denied)));
        rules.deny(Target::Table("seen".to_owned()), Bypass::Denied).unwrap();
        assert_eq!(decide(&rules, 7, &[3]), Err(Bypass::Denied), "through a view");
        assert_eq!(rules.allow_all(), 2);
        assert_eq!(decide(&rules, 7, &[1]), Ok(None));
    }

    #[test]
    fn the_first_rule_that_holds_decides() {
        let rule = |when, cache, ttl| Rule { when, cache, ttl };
        let minute = Some(Duration::from_secs(60));
        let rules = Rules::new(vec![
            rule(Condition::Query(Fingerprint(7)), true, minute),
            rule(Condition::Table("orders".to_owned()), false, None),
            rule(Condition::Role("report".to_owned()), true, None),
            rule(Condition::Database("shop".to_owned()), false, None),
        ]);
        assert_eq!(decide(&rules, 7, &[1]), Ok(minute));
        assert_eq!(decide(&rules, 8, &[1]), Err(Bypass::ConfigRule));
        assert_eq!(decide(&rules, 8, &[3]), Ok(None), "by the role");
        rules.configure(
            rules.configured().into_iter().filter(|rule| !matches!(rule.when, Condition::Role(_))).collect(),
        );
        assert_eq!(decide(&rules, 8, &[3]), Err(Bypass::ConfigRule), "by the database");
        rules.deny(Target::Query(Fingerprint(7)), Bypass::Denied).unwrap();
        assert_eq!(decide(&rules, 7, &[1]), Err(Bypass::Denied), "an operator's word comes first");
    }
}
