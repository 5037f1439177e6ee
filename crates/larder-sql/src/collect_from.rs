//! The part of the walk that deals with FROM lists and with statements that write.

use std::rc::Rc;

use larder_core::Bypass;
use pg_raw_parse::list::NodeList;
use pg_raw_parse::{Node, nodes};

use crate::collect::{Collector, implied_name};
use crate::conditions;
use crate::facts::{ChangeKind, Source};
use crate::names::Name;
use crate::scope::{Derived, Item};

impl Collector {
    /// Adds every item of a FROM list to the current level, in order (LATERAL sees the ones before).
    pub(crate) fn add_from_list(&mut self, list: &NodeList) {
        for node in list {
            self.add_from_item(node);
        }
    }

    fn add_from_item(&mut self, node: Node<'_>) {
        let understood = self.deeper(|walk| walk.item(node));
        if understood.is_none() {
            self.query.give_up();
        }
    }

    /// Makes one item visible; `None` if it is not understood.
    fn item(&mut self, node: Node<'_>) -> Option<()> {
        let item = match node {
            Node::RangeVar(range) => self.table_or_cte(range)?,
            Node::RangeSubselect(range) => {
                let outputs = self.statement(range.subquery(), false);
                aliased(outputs, range.alias())
            }
            Node::RangeFunction(range) => self.function_item(range),
            Node::JsonTable(table) => self.json_table(table),
            Node::RangeTableFunc(table) => self.xml_table(table),
            Node::JoinExpr(join) => return self.join(join),
            Node::RangeTableSample(sample) => return self.sample(sample),
            _ => return None,
        };
        self.add_item(item);
        Some(())
    }

    fn sample(&mut self, sample: &nodes::RangeTableSample) -> Option<()> {
        self.query.refuse(Bypass::TableSample);
        self.expressions(sample.args());
        self.expression(sample.repeatable());
        // Sampling methods are functions; the two that PostgreSQL ships have no effect.
        let method = Name::from_list(sample.method())?;
        self.query.opaque |= !matches!(&*method.name, "bernoulli" | "system");
        self.item(sample.relation())
    }

    fn table_or_cte(&mut self, range: &nodes::RangeVar) -> Option<Item> {
        let name = range.relname()?;
        if range.schemaname().is_none()
            && let Some(outputs) = self.common_table(name)
        {
            let alias = range.alias();
            let named = alias.and_then(nodes::Alias::aliasname).unwrap_or(name);
            let outputs = Rc::new(outputs.renamed(&column_names(alias)));
            return Some(Item::Derived { outputs, alias: Some(named.into()) });
        }
        let relation = self.relation(range)?;
        Some(base(relation, name, range.alias()))
    }

    /// The innermost common table expression of that name in scope.
    fn common_table(&self, name: &str) -> Option<Rc<Derived>> {
        let tables = self.levels.iter().rev().flat_map(|level| level.tables.iter().rev());
        tables.into_iter().find(|(named, _)| &**named == name).map(|(_, outputs)| Rc::clone(outputs))
    }

    /// Both sides stay visible under their own names, which is more than SQL allows when the join has an alias.
    fn join(&mut self, join: &nodes::JoinExpr) -> Option<()> {
        let before = self.levels.last()?.items.len();
        let sides = self.sides(join, self.branch());
        self.deeper(|walk| walk.in_branch(sides.left, |walk| walk.item(join.larg())))?;
        self.deeper(|walk| walk.in_branch(sides.right, |walk| walk.item(join.rarg())))?;
        self.expression(join.quals());
        if let Some(branch) = sides.on {
            self.conditions(join.quals(), branch, before);
        }
        if join.is_natural || !join.using_clause().is_empty() {
            self.operator("=");
        }
        for alias in [join.alias(), join.join_using_alias()].into_iter().flatten() {
            let stars = self.levels.last()?.items.get(before..)?.to_vec();
            for item in &stars {
                // Outside of the join these names, if they mean anything, mean something else.
                if let Item::Base { relation, .. } = item {
                    self.query.hide(*relation);
                }
            }
            let outputs = Derived { stars, ..Derived::default() }.renamed(&column_names(Some(alias)));
            self.add_item(Item::Derived {
                outputs: Rc::new(outputs),
                alias: alias.aliasname().map(Into::into),
            });
        }
        Some(())
    }

    fn function_item(&mut self, range: &nodes::RangeFunction) -> Item {
        let mut first = None;
        let mut scalar = range.functions().len() == 1 && !range.ordinality && range.coldeflist().is_empty();
        for pair in range.functions() {
            let Node::NodeList(pair) = pair else {
                self.query.give_up();
                continue;
            };
            let mut parts = pair.iter();
            let function = parts.next().unwrap_or(Node::None);
            self.expression(function);
            first.get_or_insert(function);
            for definition in parts {
                scalar &= matches!(definition, Node::None);
                self.column_definitions(definition);
            }
        }
        for definition in range.coldeflist() {
            self.column_definition(definition);
        }
        let function = first.unwrap_or(Node::None);
        let alias = range.alias();
        let named =
            alias.and_then(nodes::Alias::aliasname).map(Into::into).or_else(|| implied_name(function));
        let names = column_names(alias);
        let source = self.source(function);
        // A function that returns one plain value names its column like itself; others have unknown columns.
        let column = names.first().cloned().or_else(|| named.clone());
        let known = scalar && names.len() <= 1;
        let outputs = Derived {
            named: column.filter(|_| known).map(|name| (name, source)).into_iter().collect(),
            stars: Vec::new(),
            open: !(known && returns_one_value(function)),
        };
        Item::Derived { outputs: Rc::new(outputs), alias: named.map(|name| Rc::from(&*name)) }
    }

    fn column_definitions(&mut self, node: Node<'_>) {
        match node {
            Node::None => {}
            Node::NodeList(list) => list.iter().for_each(|node| self.column_definitions(node)),
            Node::ColumnDef(definition) => self.column_definition(definition),
            _ => self.query.give_up(),
        }
    }

    /// `AS t(a int, b date)`: the function converts whatever it has to these types.
    fn column_definition(&mut self, definition: &nodes::ColumnDef) {
        let source = self.query.add_source(Source::Opaque);
        self.cast(definition.type_name(), source);
    }

    /// WITH, target and the item for it; the target is always a table, never a common table expression.
    fn target(&mut self, range: Option<&nodes::RangeVar>, with: Option<&nodes::WithClause>) -> Option<usize> {
        self.with(with);
        let name = range.and_then(Name::from_range);
        let (Some(range), Some(name)) = (range, name) else {
            self.query.give_up();
            return None;
        };
        self.query.targets.push(name.clone());
        // Not through `relation`'s reader list alone: a target is also read (WHERE, RETURNING, constraints).
        let relation = self.relation(range)?;
        self.add_item(base(relation, &name.name, range.alias()));
        for alias in ["excluded", "old", "new"] {
            self.add_item(Item::Base { relation, alias: alias.into() });
        }
        Some(relation)
    }

    pub(crate) fn insert(&mut self, insert: &nodes::InsertStmt) {
        let target = self.target(insert.relation(), insert.with_clause());
        if let Some(rows) = conditions::inserted(insert) {
            self.change(target, ChangeKind::Insert(rows));
        }
        self.expressions(insert.cols());
        match insert.select_stmt() {
            Node::None => {}
            Node::SelectStmt(select) => {
                self.select(select);
            }
            _ => self.query.give_up(),
        }
        if let Some(conflict) = insert.on_conflict_clause() {
            if let Some(infer) = conflict.infer() {
                self.expressions(infer.index_elems());
                self.expression(infer.where_clause());
            }
            self.assignments(conflict.target_list());
            self.expression(conflict.where_clause());
        }
        self.returning(insert.returning_clause());
    }

    pub(crate) fn update(&mut self, update: &nodes::UpdateStmt) {
        let target = self.target(update.relation(), update.with_clause());
        if let Some(assigned) = conditions::assigned(update.target_list()) {
            self.change(target, ChangeKind::Update(assigned));
        }
        self.add_from_list(update.from_clause());
        self.assignments(update.target_list());
        self.condition(update.where_clause());
        self.returning(update.returning_clause());
    }

    pub(crate) fn delete(&mut self, delete: &nodes::DeleteStmt) {
        let target = self.target(delete.relation(), delete.with_clause());
        self.change(target, ChangeKind::Delete);
        self.add_from_list(delete.using_clause());
        self.condition(delete.where_clause());
        self.returning(delete.returning_clause());
    }

    pub(crate) fn merge(&mut self, merge: &nodes::MergeStmt) {
        self.target(merge.relation(), merge.with_clause());
        self.add_from_item(merge.source_relation());
        self.expression(merge.join_condition());
        for when in merge.merge_when_clauses() {
            self.expression(when.condition());
            self.expressions(when.target_list());
            self.expressions(when.values());
        }
        self.returning(merge.returning_clause());
    }

    fn assignments(&mut self, list: &pg_raw_parse::list::CastNodeList<nodes::ResTarget>) {
        for target in list {
            self.expression(target.val());
            self.expressions(target.indirection());
        }
    }

    fn returning(&mut self, returning: Option<&nodes::ReturningClause>) {
        let Some(returning) = returning else { return };
        for _renamed in returning.options() {
            // OLD AS o, NEW AS n: other names for the target, about which nothing more is needed.
            self.add_item(Item::Derived { outputs: Derived::unknown(), alias: None });
        }
        self.expressions(returning.exprs());
    }
}

/// Functions in FROM whose one column is named after the alias.
fn returns_one_value(function: Node<'_>) -> bool {
    let Node::FuncCall(call) = function else { return false };
    Name::from_list(call.funcname()).is_some_and(|name| matches!(&*name.name, "generate_series"))
}

fn base(relation: usize, name: &str, alias: Option<&nodes::Alias>) -> Item {
    let named = alias.and_then(nodes::Alias::aliasname).unwrap_or(name);
    if column_names(alias).is_empty() {
        return Item::Base { relation, alias: named.into() };
    }
    Item::Derived { outputs: Derived::unknown(), alias: Some(named.into()) }
}

fn aliased(outputs: Rc<Derived>, alias: Option<&nodes::Alias>) -> Item {
    let names = column_names(alias);
    let outputs = if names.is_empty() { outputs } else { Rc::new(outputs.renamed(&names)) };
    Item::Derived { outputs, alias: alias.and_then(nodes::Alias::aliasname).map(Into::into) }
}

/// The column names of an alias.
fn column_names(alias: Option<&nodes::Alias>) -> Vec<Box<str>> {
    let names = alias.into_iter().flat_map(|alias| alias.colnames());
    names.map(|name| name.as_str().unwrap_or_default().into()).collect()
}
