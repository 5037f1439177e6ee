//! The part of the walk that deals with expressions: which functions, operators and types they use.

use larder_core::Bypass;
use pg_raw_parse::list::NodeList;
use pg_raw_parse::raw::{A_Expr_Kind as ExprKind, SQLValueFunctionOp as ValueFunction, SubLinkType};
use pg_raw_parse::{ConstValue, Node, nodes};

use crate::collect::Collector;
use crate::facts::{Call, Cast, Field, SourceId};
use crate::names::Name;
use crate::relative::mentions_relative_time;
use crate::scope;

/// Columns that every table has and whose values the feed does not follow. (`tableoid` is constant for a row.)
const SYSTEM_COLUMNS: [&str; 5] = ["xmin", "xmax", "cmin", "cmax", "ctid"];

/// Functions whose first argument is the name of a setting.
const NAMES_SETTING: [&str; 2] = ["current_setting", "set_config"];

/// `server_version_num` from which the grammar knows MERGE_ACTION(), JSON_SCALAR() and JSON_SERIALIZE() and JSON().
const VERSION_17: u32 = 170_000;

impl Collector {
    /// Every element of a list.
    pub(crate) fn expressions(&mut self, list: &NodeList) {
        for node in list {
            self.expression(node);
        }
    }

    /// ORDER BY.
    pub(crate) fn sort(&mut self, list: &pg_raw_parse::list::CastNodeList<nodes::SortBy>) {
        for by in list {
            self.sort_by(by);
        }
    }

    fn sort_by(&mut self, by: &nodes::SortBy) {
        self.expression(by.node());
        self.operator_list(by.use_op());
    }

    /// One expression and everything in it.
    pub(crate) fn expression(&mut self, node: Node<'_>) {
        self.deeper(|walk| walk.visit(node));
    }

    fn visit(&mut self, node: Node<'_>) {
        match node {
            Node::None | Node::A_Star(_) | Node::SetToDefault(_) => {}
            Node::ParamRef(parameter) => {
                let number = usize::try_from(parameter.number).unwrap_or_default();
                *self.query.parameters.entry(number).or_default() += 1;
            }
            // Modifiers of types, names in indirections.
            Node::Integer(_) | Node::Float(_) | Node::Boolean(_) | Node::BitString(_) => {}
            Node::String(string) => self.text(string.sval().unwrap_or_default()),
            Node::A_Const(constant) => self.constant(constant),
            Node::NodeList(list) => self.expressions(list),
            Node::ColumnRef(column) => self.column(column),
            Node::A_Expr(operation) => self.operation(operation),
            Node::BoolExpr(expr) => self.expressions(expr.args()),
            Node::FuncCall(call) => self.call(call),
            Node::TypeCast(cast) => {
                self.expression(cast.arg());
                let source = self.source(cast.arg());
                self.cast(cast.type_name(), source);
            }
            Node::SubLink(link) => self.sublink(link),
            Node::CaseExpr(case) => self.case(case),
            Node::A_Indirection(indirection) => self.indirection(indirection),
            Node::A_Indices(indices) => {
                self.expression(indices.lidx());
                self.expression(indices.uidx());
            }
            Node::A_ArrayExpr(array) => self.expressions(array.elements()),
            Node::RowExpr(row) => self.expressions(row.args()),
            Node::CoalesceExpr(coalesce) => self.expressions(coalesce.args()),
            Node::MinMaxExpr(extreme) => self.expressions(extreme.args()),
            Node::NullTest(test) => self.expression(test.arg()),
            Node::BooleanTest(test) => self.expression(test.arg()),
            Node::CollateClause(collate) => self.expression(collate.arg()),
            Node::NamedArgExpr(argument) => self.expression(argument.arg()),
            Node::SQLValueFunction(function) => self.value_function(function),
            Node::GroupingFunc(grouping) => self.expressions(grouping.args()),
            Node::GroupingSet(set) => self.expressions(set.content()),
            Node::SortBy(by) => self.sort_by(by),
            Node::WindowDef(window) => self.window(window),
            Node::ResTarget(target) => {
                self.expression(target.val());
                self.expressions(target.indirection());
            }
            Node::MultiAssignRef(assign) => self.expression(assign.source()),
            Node::IndexElem(element) => {
                self.expression(element.expr());
            }
            // UPDATE ... WHERE CURRENT OF.
            Node::CurrentOfExpr(_) => {}
            Node::MergeSupportFunc(_) => self.query.needs_version(VERSION_17),
            _ => self.json_or_xml(node),
        }
    }

    /// A string of the statement.
    pub(crate) fn text(&mut self, text: &str) {
        if mentions_relative_time(text.as_bytes()) {
            self.query.refuse(Bypass::RelativeTimeLiteral);
        }
    }

    fn constant(&mut self, constant: &nodes::A_Const) {
        match constant.val() {
            Some(ConstValue::String(text)) => self.text(text),
            Some(ConstValue::Unrecognized(_)) => self.query.give_up(),
            _ => {}
        }
    }

    fn column(&mut self, column: &nodes::ColumnRef) {
        let mut parts = column.fields().iter().rev();
        let Some(Node::String(last)) = parts.next() else { return };
        let Some(name) = last.sval() else { return };
        if SYSTEM_COLUMNS.contains(&name) {
            self.query.refuse(Bypass::SystemColumn);
        }
        if let Some(qualifier) = parts.next().and_then(Node::as_str) {
            let proof = self.proof(qualifier, name);
            self.field(name, proof);
        }
    }

    /// The relations that must have a column `name` for `qualifier.name` to be a column for certain.
    fn proof(&mut self, qualifier: &str, name: &str) -> Option<Vec<usize>> {
        let found = scope::find(&self.levels, Some(qualifier), name, &mut self.steps);
        let something = !found.relations.is_empty() || !found.outputs.is_empty();
        (something && !found.unknown).then_some(found.relations)
    }

    fn field(&mut self, name: &str, proof: Option<Vec<usize>>) {
        self.query.fields.insert(Field { name: name.into(), proof });
    }

    fn indirection(&mut self, indirection: &nodes::A_Indirection) {
        self.expression(indirection.arg());
        for step in indirection.indirection() {
            match step.as_str() {
                Some(name) => self.field(name, None),
                None => self.expression(step),
            }
        }
    }

    fn operation(&mut self, operation: &nodes::A_Expr) {
        self.expression(operation.lexpr());
        self.expression(operation.rexpr());
        match operation.kind {
            ExprKind::AEXPR_BETWEEN
            | ExprKind::AEXPR_NOT_BETWEEN
            | ExprKind::AEXPR_BETWEEN_SYM
            | ExprKind::AEXPR_NOT_BETWEEN_SYM => {
                ["<", "<=", ">", ">="].into_iter().for_each(|name| self.operator(name));
            }
            _ => self.operator_list(operation.name()),
        }
    }

    /// An operator that the grammar names itself.
    pub(crate) fn operator(&mut self, name: &str) {
        self.query.operators.insert(Name::plain(name));
    }

    fn operator_list(&mut self, list: &NodeList) {
        if list.is_empty() {
            return;
        }
        match Name::from_list(list) {
            Some(name) => {
                self.query.operators.insert(name);
            }
            None => self.query.give_up(),
        }
    }

    fn sublink(&mut self, link: &nodes::SubLink) {
        self.expression(link.testexpr());
        if !matches!(link.testexpr(), Node::None) && link.oper_name().is_empty() {
            // x IN (SELECT ...).
            self.operator("=");
        }
        self.operator_list(link.oper_name());
        self.query.varies |= link.sub_link_type == SubLinkType::ARRAY_SUBLINK;
        self.statement(link.subselect(), false);
    }

    fn case(&mut self, case: &nodes::CaseExpr) {
        if !matches!(case.arg(), Node::None) {
            self.operator("=");
        }
        self.expression(case.arg());
        for when in case.args() {
            match when {
                Node::CaseWhen(when) => {
                    self.expression(when.expr());
                    self.expression(when.result());
                }
                _ => self.query.give_up(),
            }
        }
        self.expression(case.defresult());
    }

    fn call(&mut self, call: &nodes::FuncCall) {
        self.expressions(call.args());
        self.sort(call.agg_order());
        self.expression(call.agg_filter());
        if let Some(window) = call.over() {
            self.query.varies = true;
            self.window(window);
        }
        let Some(name) = Name::from_list(call.funcname()) else {
            self.query.give_up();
            return;
        };
        let args = call.args().len();
        let wanted = args == 1 || &*name.name == "timezone";
        let last = call.args().iter().next_back().filter(|_| wanted);
        let subject = last.map(|argument| self.source(argument));
        let names_setting = NAMES_SETTING.contains(&&*name.name);
        let first = call.args().first().filter(|_| names_setting);
        let setting = first.and_then(literal_text).map(|setting| setting.to_ascii_lowercase().into());
        self.query.calls.insert(Call { name, args, subject, setting });
    }

    /// A window definition, named or in OVER.
    pub(crate) fn window(&mut self, window: &nodes::WindowDef) {
        self.expressions(window.partition_clause());
        self.sort(window.order_clause());
        self.expression(window.start_offset());
        self.expression(window.end_offset());
    }

    fn value_function(&mut self, function: &nodes::SQLValueFunction) {
        match function.op {
            // Role, session user, database and search path are parts of the key.
            ValueFunction::SVFOP_CURRENT_ROLE
            | ValueFunction::SVFOP_CURRENT_USER
            | ValueFunction::SVFOP_USER
            | ValueFunction::SVFOP_SESSION_USER
            | ValueFunction::SVFOP_CURRENT_CATALOG
            | ValueFunction::SVFOP_CURRENT_SCHEMA => {}
            _ => self.query.refuse(Bypass::Clock),
        }
    }

    /// An explicit conversion of `source`.
    pub(crate) fn cast(&mut self, target: Option<&nodes::TypeName>, source: SourceId) {
        let Some(target) = target else {
            self.query.give_up();
            return;
        };
        self.expressions(target.typmods());
        match type_name(target) {
            Some(target) => {
                self.query.casts.insert(Cast { target, source });
            }
            None => self.query.give_up(),
        }
    }
}

/// A string constant, bare or as PostgreSQL prints one in a definition: `'…'::text`.
fn literal_text(node: Node<'_>) -> Option<&str> {
    match node {
        Node::A_Const(constant) => match constant.val()? {
            ConstValue::String(text) => Some(text),
            _ => None,
        },
        Node::TypeCast(cast) => {
            let target = cast.type_name()?;
            let plain = target.typmods().is_empty() && target.array_bounds().is_empty();
            let name = type_name(target).filter(|_| plain)?;
            let text = &*name.name == "text" && name.schema().is_none_or(|schema| schema == "pg_catalog");
            literal_text(cast.arg()).filter(|_| text)
        }
        _ => None,
    }
}

/// The name of a type, of its elements if it is an array.
pub(crate) fn type_name(target: &nodes::TypeName) -> Option<Name> {
    // SETOF and %TYPE belong to function definitions.
    if target.setof || target.pct_type { None } else { Name::from_type(target) }
}
