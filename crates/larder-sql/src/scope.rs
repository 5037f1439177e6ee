//! What a name in an expression can refer to: the common table expressions and FROM items around it.
//!
//! A [`Level`] is one query level; the stack of levels runs from the whole statement inwards. A column is looked up
//! in every level at once, not just the innermost that has it: more candidates can only make the verdict stricter,
//! because every candidate must be acceptable.

use std::rc::Rc;

use crate::facts::{BranchId, SourceId};

/// One query level.
#[derive(Default)]
pub(crate) struct Level {
    /// Common table expressions visible here, newest last.
    pub(crate) tables: Vec<(Box<str>, Rc<Derived>)>,
    /// Items of the FROM list so far.
    pub(crate) items: Vec<Item>,
    /// The branch of FROM in which the next item stands.
    pub(crate) branch: BranchId,
}

/// One item of a FROM list.
#[derive(Clone)]
pub(crate) enum Item {
    /// A relation, by its position in `Query::relations`.
    Base { relation: usize, alias: Rc<str> },
    /// Anything with outputs of its own.
    Derived { outputs: Rc<Derived>, alias: Option<Rc<str>> },
}

/// The outputs of a subquery, common table expression, join with an alias, or function.
#[derive(Default, Clone)]
pub(crate) struct Derived {
    /// Named outputs in order.
    pub(crate) named: Vec<(Box<str>, SourceId)>,
    /// Items whose columns are all passed on (`*`).
    pub(crate) stars: Vec<Item>,
    /// There may be outputs that are not listed.
    pub(crate) open: bool,
}

/// Everything a column reference can mean.
#[derive(Default)]
pub(crate) struct Found {
    /// Positions in `Query::relations` that may have the column.
    pub(crate) relations: Vec<usize>,
    /// Outputs of that name.
    pub(crate) outputs: Vec<SourceId>,
    /// It may also be something that is not listed.
    pub(crate) unknown: bool,
}

/// Lookups may walk through chains of `*`, which can double at each step: the sum of all steps is bounded.
pub(crate) const MAX_STEPS: usize = 50_000;

impl Item {
    fn answers_to(&self, qualifier: Option<&str>) -> bool {
        let Some(qualifier) = qualifier else { return true };
        match self {
            Self::Base { alias, .. } => &**alias == qualifier,
            Self::Derived { alias, .. } => alias.as_deref() == Some(qualifier),
        }
    }
}

impl Derived {
    /// Outputs about which nothing is known.
    pub(crate) fn unknown() -> Rc<Self> {
        Rc::new(Self { open: true, ..Self::default() })
    }

    /// The same outputs under the names of an alias list, as far as that goes.
    pub(crate) fn renamed(&self, names: &[Box<str>]) -> Self {
        if names.is_empty() {
            return self.clone();
        }
        if !self.stars.is_empty() || self.open {
            // The positions are not known, so neither is which column gets which name.
            return Self { open: true, ..Self::default() };
        }
        let mut named = self.named.clone();
        for ((old, _), new) in named.iter_mut().zip(names) {
            old.clone_from(new);
        }
        Self { named, ..Self::default() }
    }
}

/// Looks a column up in every level. Each step is taken from `budget`; when it is used up, the answer is "unknown".
pub(crate) fn find(levels: &[Level], qualifier: Option<&str>, name: &str, budget: &mut usize) -> Found {
    let mut found = Found::default();
    let items = levels.iter().flat_map(|level| &level.items).filter(|item| item.answers_to(qualifier));
    for item in items {
        search(item, name, &mut found, budget);
    }
    found
}

fn search(item: &Item, name: &str, found: &mut Found, budget: &mut usize) {
    let Some(left) = budget.checked_sub(1) else {
        found.unknown = true;
        return;
    };
    *budget = left;
    match item {
        Item::Base { relation, .. } => {
            if !found.relations.contains(relation) {
                found.relations.push(*relation);
            }
        }
        Item::Derived { outputs, .. } => {
            let before = found.outputs.len();
            found
                .outputs
                .extend(outputs.named.iter().filter(|(named, _)| &**named == name).map(|(_, id)| *id));
            let listed = found.outputs.len() > before;
            found.unknown |= outputs.open && !listed;
            for star in &outputs.stars {
                search(star, name, found, budget);
            }
        }
    }
}
