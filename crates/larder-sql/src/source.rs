//! Where the value of an expression comes from, as far as the conversion rules of stage two need it.

use pg_raw_parse::list::NodeList;
use pg_raw_parse::{Node, nodes};

use crate::collect::Collector;
use crate::expression::type_name;
use crate::facts::{Source, SourceId};
use crate::names::Name;
use crate::scope;

/// How deep an expression is followed; deeper parts are opaque. Few levels keep nested conversions from being
/// followed again and again from each of their levels.
const MAX_FOLLOWED: usize = 16;

impl Collector {
    /// Describes a value. The expression itself is visited elsewhere.
    pub(crate) fn source(&mut self, value: Node<'_>) -> SourceId {
        let source = self.describe(value, MAX_FOLLOWED);
        self.query.add_source(source)
    }

    fn describe(&mut self, value: Node<'_>, depth: usize) -> Source {
        let Some(depth) = depth.checked_sub(1) else { return Source::Opaque };
        match value {
            Node::A_Const(_) => Source::Literal,
            Node::ParamRef(_) => Source::Parameter,
            Node::ColumnRef(column) => self.describe_column(column),
            Node::FuncCall(call) => match Name::from_list(call.funcname()) {
                Some(name) => {
                    let args = self.describe_all(call.args(), depth);
                    Source::Call { name, args }
                }
                None => Source::Opaque,
            },
            Node::TypeCast(cast) => cast.type_name().and_then(type_name).map_or(Source::Opaque, Source::Cast),
            Node::A_Expr(operation) => self.describe_operation(operation, depth),
            Node::CaseExpr(case) => {
                let results = case.args().iter().filter_map(|when| match when {
                    Node::CaseWhen(when) => Some(when.result()),
                    _ => None,
                });
                let fallback = Some(case.defresult()).filter(|node| !matches!(node, Node::None));
                self.describe_any(results.chain(fallback), depth)
            }
            Node::CoalesceExpr(coalesce) => self.describe_any(coalesce.args().iter(), depth),
            Node::MinMaxExpr(extreme) => self.describe_any(extreme.args().iter(), depth),
            Node::A_ArrayExpr(array) => self.describe_any(array.elements().iter(), depth),
            Node::RowExpr(row) => self.describe_any(row.args().iter(), depth),
            _ => Source::Opaque,
        }
    }

    fn describe_any<'a>(&mut self, values: impl Iterator<Item = Node<'a>>, depth: usize) -> Source {
        let mut sources = Vec::new();
        for value in values {
            let source = self.describe(value, depth);
            sources.push(self.query.add_source(source));
        }
        Source::Any(sources)
    }

    fn describe_all(&mut self, values: &NodeList, depth: usize) -> Vec<SourceId> {
        match self.describe_any(values.iter(), depth) {
            Source::Any(sources) => sources,
            _ => Vec::new(),
        }
    }

    fn describe_operation(&mut self, operation: &nodes::A_Expr, depth: usize) -> Source {
        let name = operation.name().iter().next_back().and_then(Node::as_str);
        if !matches!(name, Some("+" | "-" | "*" | "/")) {
            return Source::Opaque;
        }
        let right = self.describe(operation.rexpr(), depth);
        let right = self.query.add_source(right);
        match operation.lexpr() {
            Node::None => Source::Any(vec![right]),
            left => {
                let left = self.describe(left, depth);
                Source::Arithmetic(self.query.add_source(left), right)
            }
        }
    }

    fn describe_column(&mut self, column: &nodes::ColumnRef) -> Source {
        let mut parts = column.fields().iter().rev();
        let Some(name) = parts.next().and_then(Node::as_str) else { return Source::Opaque };
        let qualifier = parts.next().and_then(Node::as_str);
        let found = scope::find(&self.levels, qualifier, name, &mut self.steps);
        if found.unknown {
            return Source::Opaque;
        }
        Source::Column { name: name.into(), relations: found.relations, outputs: found.outputs }
    }
}
