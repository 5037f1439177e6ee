//! The part of the walk that deals with the SQL/JSON and XML constructs of the grammar.
//!
//! Constructors are allowed: they depend on their arguments and on settings in the key. The query functions
//! (JSON_VALUE, JSON_TABLE, ...) can reach date methods of jsonpath that use the current date, and XML depends on
//! settings and libraries that nobody has looked at: their arguments are visited, so that their effect is known, but
//! they are not cached.

use std::rc::Rc;

use larder_core::Bypass;
use pg_raw_parse::list::NodeList;
use pg_raw_parse::{Node, nodes};

use crate::collect::Collector;
use crate::facts::Source;
use crate::scope::{Derived, Item};

/// `server_version_num` of the first versions whose grammar knows these constructs; in older ones the same text can
/// be a call of a user's function.
const VERSION_16: u32 = 160_000;
const VERSION_17: u32 = 170_000;

impl Collector {
    /// A node that is none of the ordinary expressions.
    pub(crate) fn json_or_xml(&mut self, node: Node<'_>) {
        match node {
            Node::JsonObjectConstructor(object) => {
                self.query.needs_version(VERSION_16);
                object.exprs().iter().for_each(|pair| self.pair(Some(pair)));
                self.returning_type(object.output());
            }
            Node::JsonArrayConstructor(array) => {
                self.query.needs_version(VERSION_16);
                array.exprs().iter().for_each(|value| self.value(Some(value)));
                self.returning_type(array.output());
            }
            Node::JsonArrayQueryConstructor(array) => {
                self.query.needs_version(VERSION_16);
                self.statement(array.query(), false);
                self.returning_type(array.output());
            }
            Node::JsonObjectAgg(aggregate) => {
                self.query.needs_version(VERSION_16);
                self.pair(aggregate.arg());
                self.aggregate(aggregate.constructor());
            }
            Node::JsonArrayAgg(aggregate) => {
                self.query.needs_version(VERSION_16);
                self.value(aggregate.arg());
                self.aggregate(aggregate.constructor());
            }
            Node::JsonIsPredicate(test) => {
                self.query.needs_version(VERSION_16);
                self.expression(test.expr());
            }
            Node::JsonValueExpr(value) => self.value(Some(value)),
            _ => self.newer_json_or_xml(node),
        }
    }

    fn newer_json_or_xml(&mut self, node: Node<'_>) {
        match node {
            Node::JsonParseExpr(json) => {
                self.query.needs_version(VERSION_17);
                self.value(json.expr());
                self.returning_type(json.output());
            }
            Node::JsonScalarExpr(json) => {
                self.query.needs_version(VERSION_17);
                self.expression(json.expr());
                self.returning_type(json.output());
            }
            Node::JsonSerializeExpr(json) => {
                self.query.needs_version(VERSION_17);
                self.value(json.expr());
                self.returning_type(json.output());
            }
            Node::JsonFuncExpr(json) => {
                self.query.needs_version(VERSION_17);
                self.query.refuse(Bypass::UnsupportedSyntax);
                self.value(json.context_item());
                self.expression(json.pathspec());
                self.passing(json.passing());
                self.returning_type(json.output());
                self.behaviors([json.on_empty(), json.on_error()]);
            }
            Node::XmlExpr(xml) => {
                self.query.refuse(Bypass::UnsupportedSyntax);
                self.expressions(xml.named_args());
                self.expressions(xml.args());
            }
            Node::XmlSerialize(xml) => {
                self.query.refuse(Bypass::UnsupportedSyntax);
                self.expression(xml.expr());
                let source = self.query.add_source(Source::Opaque);
                self.cast(xml.type_name(), source);
            }
            _ => self.query.give_up(),
        }
    }

    /// JSON_TABLE in FROM.
    pub(crate) fn json_table(&mut self, table: &nodes::JsonTable) -> Item {
        self.query.needs_version(VERSION_17);
        self.query.refuse(Bypass::UnsupportedSyntax);
        self.value(table.context_item());
        if let Some(path) = table.pathspec() {
            self.expression(path.string());
        }
        self.passing(table.passing());
        for column in table.columns() {
            self.json_column(column);
        }
        self.behaviors([table.on_error(), None]);
        unknown(table.alias())
    }

    fn json_column(&mut self, column: &nodes::JsonTableColumn) {
        if column.type_name().is_some() {
            let source = self.query.add_source(Source::Opaque);
            self.cast(column.type_name(), source);
        }
        self.behaviors([column.on_empty(), column.on_error()]);
        for nested in column.columns() {
            match nested {
                Node::JsonTableColumn(nested) => self.deeper(|walk| walk.json_column(nested)),
                _ => self.query.give_up(),
            }
        }
    }

    /// XMLTABLE in FROM.
    pub(crate) fn xml_table(&mut self, table: &nodes::RangeTableFunc) -> Item {
        self.query.refuse(Bypass::UnsupportedSyntax);
        self.expression(table.docexpr());
        self.expression(table.rowexpr());
        self.expressions(table.namespaces());
        for column in table.columns() {
            if column.type_name().is_some() {
                let source = self.query.add_source(Source::Opaque);
                self.cast(column.type_name(), source);
            }
            self.expression(column.colexpr());
            self.expression(column.coldefexpr());
        }
        unknown(table.alias())
    }

    fn pair(&mut self, pair: Option<&nodes::JsonKeyValue>) {
        if let Some(pair) = pair {
            self.expression(pair.key());
            self.value(pair.value());
        }
    }

    fn value(&mut self, value: Option<&nodes::JsonValueExpr>) {
        if let Some(value) = value {
            self.expression(value.raw_expr());
            self.expression(value.formatted_expr());
        }
    }

    fn aggregate(&mut self, aggregate: Option<&nodes::JsonAggConstructor>) {
        self.query.varies = true;
        let Some(aggregate) = aggregate else { return };
        self.returning_type(aggregate.output());
        self.expression(aggregate.agg_filter());
        self.expressions(aggregate.agg_order());
        if let Some(window) = aggregate.over() {
            self.window(window);
        }
    }

    /// RETURNING: the result is converted to that type.
    fn returning_type(&mut self, output: Option<&nodes::JsonOutput>) {
        if let Some(output) = output {
            let source = self.query.add_source(Source::Opaque);
            self.cast(output.type_name(), source);
        }
    }

    fn passing(&mut self, arguments: &NodeList) {
        for argument in arguments {
            match argument {
                Node::JsonArgument(argument) => self.value(argument.val()),
                _ => self.query.give_up(),
            }
        }
    }

    fn behaviors(&mut self, behaviors: [Option<&nodes::JsonBehavior>; 2]) {
        for behavior in behaviors.into_iter().flatten() {
            self.expression(behavior.expr());
        }
    }
}

fn unknown(alias: Option<&nodes::Alias>) -> Item {
    let outputs = Rc::new(Derived { open: true, ..Derived::default() });
    Item::Derived { outputs, alias: alias.and_then(nodes::Alias::aliasname).map(Into::into) }
}
