//! The walk over one SELECT, INSERT, UPDATE, DELETE or MERGE that fills a [`Query`].
//!
//! Every child of every node is visited by name. A node kind that is not listed makes the statement "not
//! understood": nothing is cached and anything may have changed. So a construct that a later grammar adds is refused
//! until someone has thought about it.

use std::rc::Rc;

use larder_core::Bypass;
use pg_raw_parse::raw::SetOperation;
use pg_raw_parse::{Node, nodes};

use crate::facts::{BranchId, Query, Source, SourceId};
use crate::names::Name;
use crate::scope::{Derived, Item, Level, MAX_STEPS};

/// Levels of nesting that are followed, in expressions and queries together. A frame of the walk takes about a
/// kilobyte, several per level; the stack has 32 MiB.
const MAX_DEPTH: usize = 1000;

/// The walk's state.
pub(crate) struct Collector {
    pub(crate) query: Query,
    pub(crate) levels: Vec<Level>,
    pub(crate) steps: usize,
    depth: usize,
}

/// What is known about `statement`, which must be a SELECT, INSERT, UPDATE, DELETE or MERGE.
pub(crate) fn collect(statement: Node<'_>) -> Query {
    let mut collector = Collector::new();
    collector.statement(statement, true);
    collector.query
}

impl Collector {
    /// A walk that has seen nothing yet.
    pub(crate) fn new() -> Self {
        let mut query = Query::default();
        let outermost = Level { branch: query.add_branch(None), ..Level::default() };
        Self { query, levels: vec![outermost], steps: MAX_STEPS, depth: 0 }
    }

    /// Runs `inside` one level of nesting deeper; past the limit the statement is given up instead.
    pub(crate) fn deeper<T: Default>(&mut self, inside: impl FnOnce(&mut Self) -> T) -> T {
        if self.depth >= MAX_DEPTH {
            self.query.give_up();
            return T::default();
        }
        self.depth += 1;
        let result = inside(self);
        self.depth -= 1;
        result
    }

    /// Runs `inside` in a query level of its own.
    fn in_level<T: Default>(&mut self, inside: impl FnOnce(&mut Self) -> T) -> T {
        let branch = self.query.add_branch(None);
        self.levels.push(Level { branch, ..Level::default() });
        let result = self.deeper(inside);
        self.levels.pop();
        result
    }

    /// A whole query: the statement itself, a common table expression, or a subquery. Returns its outputs.
    pub(crate) fn statement(&mut self, node: Node<'_>, outermost: bool) -> Rc<Derived> {
        if !outermost && !matches!(node, Node::SelectStmt(_)) {
            self.query.refuse(Bypass::DataModifyingCte);
        }
        match node {
            Node::SelectStmt(select) => return self.select(select),
            Node::InsertStmt(insert) => self.in_level(|walk| walk.insert(insert)),
            Node::UpdateStmt(update) => self.in_level(|walk| walk.update(update)),
            Node::DeleteStmt(delete) => self.in_level(|walk| walk.delete(delete)),
            Node::MergeStmt(merge) => self.in_level(|walk| walk.merge(merge)),
            _ => self.query.give_up(),
        }
        Derived::unknown()
    }

    /// A SELECT, VALUES, TABLE or set operation.
    pub(crate) fn select(&mut self, select: &nodes::SelectStmt) -> Rc<Derived> {
        self.in_level(|walk| {
            if select.into_clause().is_some() {
                walk.query.refuse(Bypass::SelectInto);
                walk.query.opaque = true;
            }
            for locking in select.locking_clause() {
                walk.query.refuse(Bypass::Locking);
                walk.query.locks = true;
                // The names in FOR UPDATE OF are aliases of items that FROM lists already.
                let _ = locking;
            }
            walk.with(select.with_clause());
            let outputs = match (select.larg(), select.rarg()) {
                (Some(left), Some(right)) if select.op != SetOperation::SETOP_NONE => {
                    let left = walk.select(left);
                    let right = walk.select(right);
                    walk.united(&left, &right)
                }
                _ if !select.values_lists().is_empty() => walk.values(select.values_lists()),
                _ => walk.plain_select(select),
            };
            walk.sort(select.sort_clause());
            let distinct_on =
                select.distinct_clause().iter().any(|expression| !matches!(expression, Node::None));
            let cut = [select.limit_offset(), select.limit_count()].iter().any(|n| !matches!(n, Node::None));
            walk.query.varies |= cut || distinct_on;
            walk.expression(select.limit_offset());
            walk.expression(select.limit_count());
            Rc::new(outputs)
        })
    }

    fn plain_select(&mut self, select: &nodes::SelectStmt) -> Derived {
        self.add_from_list(select.from_clause());
        let mut outputs = Derived::default();
        for target in select.target_list() {
            self.expression(target.val());
            self.expressions(target.indirection());
            self.output(target, &mut outputs);
        }
        self.expressions(select.distinct_clause());
        self.condition(select.where_clause());
        self.expressions(select.group_clause());
        self.expression(select.having_clause());
        self.expressions(select.window_clause());
        outputs
    }

    /// WHERE of the current level.
    pub(crate) fn condition(&mut self, node: Node<'_>) {
        self.expression(node);
        let branch = self.branch();
        self.conditions(node, branch, 0);
    }

    /// Adds what one element of a select list puts out.
    fn output(&mut self, target: &nodes::ResTarget, outputs: &mut Derived) {
        let value = target.val();
        if let Some(name) = target.name() {
            let source = self.source(value);
            outputs.named.push((name.into(), source));
            return;
        }
        if let Node::ColumnRef(column) = value
            && let Some(Node::A_Star(_)) = column.fields().iter().next_back()
        {
            let qualifier = column.fields().iter().rev().nth(1).and_then(Node::as_str);
            self.star(qualifier, outputs);
            return;
        }
        match implied_name(value) {
            Some(name) => {
                let source = self.source(value);
                outputs.named.push((name, source));
            }
            None => outputs.open = true,
        }
    }

    /// `*` or `alias.*`.
    fn star(&mut self, qualifier: Option<&str>, outputs: &mut Derived) {
        match (qualifier, self.levels.last()) {
            (None, Some(level)) => outputs.stars.extend(level.items.iter().cloned()),
            // Which of several levels an alias belongs to does not matter here: any name may come out.
            _ => outputs.open = true,
        }
    }

    fn values(&mut self, rows: &pg_raw_parse::list::NodeList) -> Derived {
        let mut columns: Vec<Vec<SourceId>> = Vec::new();
        for row in rows {
            let Node::NodeList(row) = row else {
                self.query.give_up();
                continue;
            };
            self.expressions(row);
            for (position, value) in row.iter().enumerate() {
                let source = self.source(value);
                match columns.get_mut(position) {
                    Some(column) => column.push(source),
                    None => columns.push(vec![source]),
                }
            }
        }
        let named = columns.into_iter().enumerate().map(|(position, sources)| {
            let source = self.query.add_source(Source::Any(sources));
            (format!("column{}", position + 1).into(), source)
        });
        Derived { named: named.collect(), ..Derived::default() }
    }

    /// The outputs of a set operation have the names of the left side and the values of both.
    fn united(&mut self, left: &Derived, right: &Derived) -> Derived {
        let listed = |side: &Derived| side.stars.is_empty() && !side.open;
        if !listed(left) || !listed(right) {
            return Derived { open: true, ..Derived::default() };
        }
        let pairs = left.named.iter().zip(&right.named);
        let named =
            pairs.map(|((name, a), (_, b))| (name.clone(), self.query.add_source(Source::Any(vec![*a, *b]))));
        Derived { named: named.collect(), ..Derived::default() }
    }

    /// WITH: the common table expressions become visible in the current level.
    pub(crate) fn with(&mut self, with: Option<&nodes::WithClause>) {
        let Some(with) = with else { return };
        if with.recursive {
            // Each sees all of them, itself included, whose outputs are not known yet.
            for table in with.ctes() {
                self.define(table, Derived::unknown());
            }
        }
        for table in with.ctes() {
            let outputs = self.statement(table.ctequery(), false);
            let extended = table.search_clause().is_some() || table.cycle_clause().is_some();
            if let Some(cycle) = table.cycle_clause() {
                self.expression(cycle.cycle_mark_value());
                self.expression(cycle.cycle_mark_default());
            }
            let names: Option<Vec<Box<str>>> =
                table.aliascolnames().iter().map(|name| name.as_str().map(Into::into)).collect();
            let outputs = match names {
                Some(names) if !extended => Rc::new(outputs.renamed(&names)),
                _ => Derived::unknown(),
            };
            self.define(table, outputs);
        }
    }

    fn define(&mut self, table: &nodes::CommonTableExpr, outputs: Rc<Derived>) {
        match (table.ctename(), self.levels.last_mut()) {
            (Some(name), Some(level)) => level.tables.push((name.into(), outputs)),
            _ => self.query.give_up(),
        }
    }

    /// Registers a relation and returns its position.
    pub(crate) fn relation(&mut self, range: &nodes::RangeVar) -> Option<usize> {
        let Some(name) = Name::from_range(range) else {
            self.query.give_up();
            return None;
        };
        let branch = self.branch();
        Some(self.query.add_relation(name, branch))
    }

    /// The branch of FROM in which the walk is.
    pub(crate) fn branch(&self) -> BranchId {
        self.levels.last().map_or(0, |level| level.branch)
    }

    /// Runs `inside` in another branch of FROM of the same level.
    pub(crate) fn in_branch<T>(&mut self, branch: BranchId, inside: impl FnOnce(&mut Self) -> T) -> T {
        let around = self.branch();
        self.enter_branch(branch);
        let result = inside(self);
        self.enter_branch(around);
        result
    }

    fn enter_branch(&mut self, branch: BranchId) {
        if let Some(level) = self.levels.last_mut() {
            level.branch = branch;
        }
    }

    /// Makes an item visible in the current level.
    pub(crate) fn add_item(&mut self, item: Item) {
        if let Some(level) = self.levels.last_mut() {
            level.items.push(item);
        }
    }
}

/// The name that PostgreSQL gives an output without one, where that is easy to tell (`FigureColname`).
pub(crate) fn implied_name(value: Node<'_>) -> Option<Box<str>> {
    match value {
        Node::ColumnRef(column) => column.fields().iter().next_back().and_then(Node::as_str).map(Into::into),
        Node::FuncCall(call) => Name::from_list(call.funcname()).map(|name| name.name),
        Node::TypeCast(cast) => match cast.arg() {
            Node::ColumnRef(_) | Node::FuncCall(_) => implied_name(cast.arg()),
            Node::A_Const(_) | Node::ParamRef(_) => {
                cast.type_name().and_then(Name::from_type).map(|name| name.name)
            }
            _ => None,
        },
        Node::A_Const(_) | Node::ParamRef(_) | Node::BoolExpr(_) => Some("?column?".into()),
        _ => None,
    }
}
