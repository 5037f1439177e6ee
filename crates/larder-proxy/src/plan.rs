//! Plans: what to do with a statement text, remembered per worker.
//!
//! A plan is made from the text, the declared parameter types and the session's facts, against one catalog, in one
//! epoch. It dies with the epoch. Workers do not share plans, so looking one up takes no lock.

use std::cell::RefCell;
use std::hash::BuildHasher;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashTable;
use larder_cache::{Moment, TagSet};
use larder_core::{Bypass, Catalog, relation_tag};
use larder_sql::{Effect, Fingerprint, Footprint, Judgement, Kind, Parsed, Settings};

use crate::Shared;
use crate::facts::Facts;
use crate::key;
use crate::queries::{Queries, QueryCounters};
use crate::reply::Shape;
use crate::rows::{Dependencies, RowWrites};
use crate::rules::Subject;

/// Plans kept per worker; beyond it all are forgotten (they are cheap to make again).
const MAX_PLANS: usize = 20_000;
/// Bytes of statement text kept per worker in plans.
const MAX_TEXT: usize = 64 << 20;

/// What to do with a statement.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    /// How to answer it from memory, or why not.
    pub(crate) read: Result<Read, Bypass>,
    pub(crate) effect: PlannedEffect,
    /// The epoch in which all this holds.
    pub(crate) epoch: u64,
    /// The generation of the rules by which it does.
    pub(crate) rules: u64,
    pub(crate) shape: RefCell<Shape>,
    /// Its statistics, if it was judged.
    pub(crate) query: Option<Arc<QueryCounters>>,
}

/// A statement whose answer may come from memory.
#[derive(Debug)]
pub(crate) struct Read {
    /// OIDs of what the answer depends on.
    pub(crate) relations: Box<[u32]>,
    pub(crate) dependencies: Dependencies,
    /// `/* larder: ttl=… */`, or a rule's: the shorter one.
    pub(crate) ttl: Option<Duration>,
    /// See [`larder_sql::ReadPlan::varies`].
    pub(crate) varies: bool,
    /// The whole key in the simple protocol; the beginning of it in the extended one.
    pub(crate) simple_key: Box<[u8]>,
    pub(crate) extended_key: Box<[u8]>,
}

/// What executing it may change, with relations resolved to tags.
#[derive(Debug, Clone)]
pub(crate) struct PlannedEffect {
    pub(crate) writes: Writes,
    pub(crate) settings: Settings,
    pub(crate) reverts: bool,
    pub(crate) isolation: bool,
    pub(crate) catalog: bool,
    pub(crate) lock: bool,
    /// The epoch in which all this holds.
    pub(crate) epoch: u64,
}

/// Whose write marks to set when it is acknowledged.
#[derive(Debug, Clone)]
pub(crate) enum Writes {
    Nothing,
    Tags(TagSet),
    /// Of rows, if the parameters say which.
    Rows(Rc<RowWrites>),
    Everything,
}

impl Read {
    /// What the answer with that key depends on.
    pub(crate) fn tags(&self, key: &[u8]) -> TagSet {
        self.dependencies.tags(key.strip_prefix(&*self.extended_key).unwrap_or_default())
    }
}

impl PlannedEffect {
    pub(crate) fn unknown() -> Self {
        Self {
            writes: Writes::Everything,
            settings: Settings::Anything,
            reverts: true,
            isolation: true,
            catalog: true,
            lock: true,
            epoch: 0,
        }
    }

    fn of(effect: &Effect, types: &[u8], epoch: u64, shared: &Shared) -> Self {
        let writes = match &effect.writes {
            Footprint::Nothing => Writes::Nothing,
            Footprint::Relations(relations) => {
                let tags = tags(relations, shared);
                RowWrites::of(effect, types, Arc::clone(&tags))
                    .map_or(Writes::Tags(tags), |rows| Writes::Rows(Rc::new(rows)))
            }
            Footprint::Everything => Writes::Everything,
        };
        // A session that made a temporary object learns of it by reading its facts again.
        Self {
            writes,
            settings: if effect.temporary { Settings::Anything } else { effect.settings },
            reverts: effect.reverts,
            isolation: effect.isolation,
            catalog: effect.catalog,
            lock: effect.lock,
            epoch,
        }
    }
}

/// Whether a reason holds whatever the search path is. Without one no name means anything.
fn is_of_the_text(why: &Bypass) -> bool {
    !matches!(why, Bypass::UnknownRelation | Bypass::UnknownFunction | Bypass::UserType)
}

/// A declared parameter type whose values do not mean the same each time.
fn refused_type(catalog: &Catalog, types: &[u8]) -> Option<Bypass> {
    larder_wire::frontend::type_oids(types).find_map(|oid| larder_sql::refused_parameter_type(catalog, oid))
}

fn tags(relations: &[u32], shared: &Shared) -> TagSet {
    relations.iter().map(|oid| shared.tags.get(&relation_tag(*oid))).collect()
}

impl Plan {
    /// A plan for a text that cannot be judged (no catalog, no facts, not UTF-8): relay it and expect anything.
    pub(crate) fn opaque(kind: Kind, why: Bypass) -> Self {
        Self {
            kind,
            read: Err(why),
            effect: PlannedEffect::unknown(),
            epoch: 0,
            rules: 0,
            shape: RefCell::default(),
            query: None,
        }
    }

    fn judge(
        text: &str,
        types: &[u8],
        facts: &Facts,
        catalog: &Catalog,
        made: Made,
        shared: &Shared,
    ) -> Self {
        let Made { fingerprint, epoch, rules } = made;
        let Judgement { kind, verdict, effect } = Parsed::parse(text).judge(catalog, &facts.common.path);
        let verdict = verdict.and_then(|plan| {
            let (relations, views, roles) = (&plan.relations, &plan.views, &facts.common.roles);
            let ttl = shared.rules.decide(Subject { fingerprint, relations, views, catalog, roles })?;
            let ttl = [plan.ttl, ttl].into_iter().flatten().min();
            Ok(larder_sql::ReadPlan { ttl, ..plan })
        });
        let read = match verdict {
            _ if facts.is_unknown() => {
                Err(verdict.err().filter(is_of_the_text).unwrap_or(Bypass::SettingsUnknown))
            }
            _ if facts.common.has_temporary => Err(verdict.err().unwrap_or(Bypass::TemporaryTable)),
            Err(why) => Err(why),
            Ok(_) if let Some(why) = refused_type(catalog, types) => Err(why),
            // Of a newer catalog than the facts, or one too many.
            Ok(plan) if !facts.have(&plan.settings) => Err(Bypass::StableFunction),
            Ok(plan) => {
                let id = if plan.settings.is_empty() { facts.common.id } else { facts.id };
                let stripped = larder_sql::strip_comments(text);
                let stripped = stripped.trim();
                Ok(Read {
                    dependencies: Dependencies::of(&plan, types, shared),
                    relations: plan.relations.as_slice().into(),
                    ttl: plan.ttl,
                    varies: plan.varies,
                    simple_key: key::prefix(key::Protocol::Simple, id, stripped, types),
                    extended_key: key::prefix(key::Protocol::Extended, id, stripped, types),
                })
            }
        };
        // Without a search path an operator of the user's own goes unnoticed.
        let unresolved = facts.is_unknown() && kind == Kind::Select;
        let effect = if unresolved {
            PlannedEffect::unknown()
        } else {
            PlannedEffect::of(&effect, types, epoch, shared)
        };
        Self { kind, read, effect, epoch, rules, shape: RefCell::default(), query: None }
    }
}

/// The plans of one worker.
#[derive(Debug)]
pub(crate) struct Plans {
    table: HashTable<Known>,
    hasher: foldhash::quality::RandomState,
    text: usize,
    queries: Arc<Queries>,
    /// When the latest plan was made: from, to.
    pub(crate) judged: Option<(Moment, Moment)>,
}

#[derive(Debug)]
struct Known {
    facts: u64,
    types: Box<[u8]>,
    text: Box<[u8]>,
    plan: Rc<Plan>,
}

impl Plans {
    pub(crate) fn new(queries: Arc<Queries>) -> Self {
        Self {
            table: HashTable::new(),
            hasher: foldhash::quality::RandomState::default(),
            text: 0,
            queries,
            judged: None,
        }
    }

    /// The plan for a text, made if need be. `types` are the declared parameter types as they came in `Parse`.
    pub(crate) fn get(&mut self, text: &[u8], types: &[u8], facts: &Arc<Facts>, shared: &Shared) -> Rc<Plan> {
        // The epoch is read before the catalog: the feed publishes a catalog before it begins the epoch, so a plan
        // of this epoch never rests on an older catalog.
        let epoch = shared.fence.epoch();
        // The same with the rules.
        let rules = shared.rules.generation();
        let hash = self.hasher.hash_one((facts.id, types, text));
        let same = |known: &Known| known.facts == facts.id && *known.text == *text && *known.types == *types;
        if let Some(known) = self.table.find_mut(hash, same) {
            if (known.plan.epoch, known.plan.rules) != (epoch, rules) {
                let begun = Moment::now();
                known.plan = Rc::new(make(text, types, facts, (epoch, rules), shared, &self.queries).0);
                self.judged = Some((begun, Moment::now()));
            }
            return Rc::clone(&known.plan);
        }
        let begun = Moment::now();
        let (plan, forgot) = make(text, types, facts, (epoch, rules), shared, &self.queries);
        self.judged = Some((begun, Moment::now()));
        if forgot {
            // Plans hold counters that nobody sees any more.
            self.clear();
        }
        let plan = Rc::new(plan);
        self.insert(
            hash,
            Known { facts: facts.id, types: types.into(), text: text.into(), plan: Rc::clone(&plan) },
        );
        plan
    }

    fn clear(&mut self) {
        self.table.clear();
        self.text = 0;
    }

    fn insert(&mut self, hash: u64, known: Known) {
        if self.table.len() >= MAX_PLANS || self.text >= MAX_TEXT {
            self.clear();
        }
        self.text += known.text.len();
        let Self { table, hasher, .. } = self;
        table.insert_unique(hash, known, |known| hasher.hash_one((known.facts, &*known.types, &*known.text)));
    }
}

/// Of which statement a plan is, and in which epoch and by which generation of the rules it is made.
#[derive(Debug, Clone, Copy)]
struct Made {
    fingerprint: Fingerprint,
    epoch: u64,
    rules: u64,
}

/// The plan, and whether statistics of other statements were forgotten for its own.
fn make(
    text: &[u8],
    types: &[u8],
    facts: &Facts,
    (epoch, rules): (u64, u64),
    shared: &Shared,
    queries: &Queries,
) -> (Plan, bool) {
    let Some(catalog) = shared.catalog.load_full() else {
        return (Plan::opaque(Kind::Other, Bypass::NoCatalog), false);
    };
    // In another encoding the same bytes can be other letters than in the catalog; ASCII is the same in all.
    match std::str::from_utf8(text) {
        Ok(text) if facts.common.utf8 || text.is_ascii() => {
            let digest = larder_sql::digest(text);
            let made = Made { fingerprint: digest.fingerprint, epoch, rules };
            let mut plan = Plan::judge(text, types, facts, &catalog, made, shared);
            let relations = plan.read.as_ref().map_or(&[][..], |read| &read.relations);
            let (counters, forgot) = queries.of(digest, relations);
            plan.query = Some(counters);
            (plan, forgot)
        }
        _ => (Plan::opaque(Kind::Other, Bypass::UnsupportedSyntax), false),
    }
}
