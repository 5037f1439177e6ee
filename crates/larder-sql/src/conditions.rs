//! Which rows of a relation a query can see: the equalities that hold of every row that reaches its answer.
//!
//! `WHERE o.id = $1 AND l.order_id = o.id` says of `l` and of `o` which rows matter; other rows can change as they like.
//! Only equalities are collected, only those that are true of *every* row (operands of AND), and only between
//! columns and values. An equality is never true of NULL, and all reasoning below relies on that.
//!
//! What an equality says depends on where it stands. A *branch* is a part of a FROM clause: the whole of it, or the
//! side of an outer join that may be missing. What holds in a branch holds of every row of its relations, and of those of
//! the branches within it, that is not missing from the answer:
//!
//! * WHERE belongs to the whole, and so does ON of an inner join that stands in no other branch. (If the column belongs to
//!   a side that is missing, the equality is not true and the row does not reach the answer.)
//! * ON of LEFT JOIN belongs to the branch of its right side: other rows there match nothing. It says nothing about the left
//!   side, whose rows reach the answer all the same.
//! * ON of FULL JOIN says nothing about either side.

use pg_raw_parse::raw::{A_Expr_Kind as ExprKind, BoolExprType, JoinType, OnConflictAction, OverridingKind};
use pg_raw_parse::{ConstValue, Node, nodes};

use crate::collect::Collector;
use crate::expression::type_name;
use crate::facts::{
    Assigned, BranchId, Change, ChangeKind, ColumnUse, Condition, Constant, Operand, Spelling,
};
use crate::names::Name;
use crate::scope::Item;

/// Values that a column may be compared with at once; with more, nothing is said about it.
const MAX_VALUES: usize = 64;

/// The branches that the sides of a join belong to, and the one that its ON belongs to.
pub(crate) struct Sides {
    pub(crate) left: BranchId,
    pub(crate) right: BranchId,
    pub(crate) on: Option<BranchId>,
}

impl Collector {
    /// The branches of a join that stands in `branch`.
    pub(crate) fn sides(&mut self, join: &nodes::JoinExpr, branch: BranchId) -> Sides {
        match join.jointype {
            JoinType::JOIN_INNER => Sides { left: branch, right: branch, on: Some(branch) },
            JoinType::JOIN_LEFT => {
                let right = self.query.add_branch(Some(branch));
                Sides { left: branch, right, on: Some(right) }
            }
            JoinType::JOIN_RIGHT => {
                let left = self.query.add_branch(Some(branch));
                Sides { left, right: branch, on: Some(left) }
            }
            _ => {
                let left = self.query.add_branch(Some(branch));
                let right = self.query.add_branch(Some(branch));
                Sides { left, right, on: None }
            }
        }
    }

    /// Notes what WHERE or ON says. Its columns are of the level's items from `first` on. The expression itself is visited
    /// elsewhere.
    pub(crate) fn conditions(&mut self, node: Node<'_>, branch: BranchId, first: usize) {
        self.deeper(|walk| match node {
            Node::BoolExpr(expr) if expr.boolop == BoolExprType::AND_EXPR => {
                expr.args().iter().for_each(|part| walk.conditions(part, branch, first));
            }
            Node::A_Expr(operation) => {
                if let Some((column, equals)) = walk.equality(operation, first) {
                    walk.query.conditions.push(Condition { branch, column, equals });
                }
            }
            _ => {}
        });
    }

    fn equality(&self, operation: &nodes::A_Expr, first: usize) -> Option<(ColumnUse, Operand)> {
        let mut name = operation.name().iter();
        let equal = name.next().and_then(Node::as_str) == Some("=") && name.next().is_none();
        let (left, right) = (operation.lexpr(), operation.rexpr());
        let column = |node| self.column_use(node, first);
        match operation.kind {
            ExprKind::AEXPR_OP if equal => match (column(left), column(right)) {
                (Some(left), Some(right)) => Some((left, Operand::Column(right))),
                (Some(column), None) => Some((column, Operand::AnyOf(vec![constant(right)?]))),
                (None, Some(column)) => Some((column, Operand::AnyOf(vec![constant(left)?]))),
                (None, None) => None,
            },
            ExprKind::AEXPR_IN if equal => {
                let Node::NodeList(list) = right else { return None };
                Some((column(left)?, any_of(list)?))
            }
            ExprKind::AEXPR_OP_ANY if equal => {
                let column = column(left)?;
                let values = match right {
                    Node::A_ArrayExpr(array) => any_of(array.elements())?,
                    other => Operand::AnyOf(vec![elements(other)?]),
                };
                Some((column, values))
            }
            _ => None,
        }
    }

    /// A reference to a column of a relation of the innermost query level. (What an outer level's row has is constant
    /// for the inner one, but which constant that is depends on the row.)
    fn column_use(&self, node: Node<'_>, first: usize) -> Option<ColumnUse> {
        let Node::ColumnRef(column) = node else { return None };
        let mut parts = column.fields().iter().rev();
        let name = parts.next().and_then(Node::as_str)?;
        let qualifier = parts.next().map(|part| part.as_str().unwrap_or_default());
        let level = self.levels.last()?;
        let mut relations = Vec::new();
        for item in level.items.get(first..)? {
            match (item, qualifier) {
                (Item::Base { relation, alias }, _)
                    if qualifier.is_none_or(|wanted| **alias == *wanted)
                        && self.query.branch_of(*relation).is_some()
                        && !relations.contains(relation) =>
                {
                    relations.push(*relation);
                }
                // Its columns are not listed here: the name may well be one of them.
                (Item::Derived { .. }, None) => return None,
                (Item::Derived { alias, .. }, Some(wanted)) if alias.as_deref() == Some(wanted) => {
                    return None;
                }
                _ => {}
            }
        }
        let whole = parts.next().is_none() && !relations.is_empty();
        whole.then(|| ColumnUse { name: name.into(), relations })
    }
}

/// A list of constants, all of them understood.
fn any_of(list: &pg_raw_parse::list::NodeList) -> Option<Operand> {
    let few = list.len() <= MAX_VALUES;
    let values: Option<Vec<Constant>> = list.iter().filter(|_| few).map(constant).collect();
    values.filter(|values| !values.is_empty()).map(Operand::AnyOf)
}

/// `5`, `'x'`, `$1`, or one of them with a conversion.
pub(crate) fn constant(node: Node<'_>) -> Option<Constant> {
    let plain = |spelling| Some(Constant { spelling, cast: None });
    let text = |text: &str| plain(Spelling::Text(text.into()));
    match node {
        Node::ParamRef(parameter) => plain(Spelling::Parameter(usize::try_from(parameter.number).ok()?)),
        Node::A_Const(constant) => match constant.val()? {
            ConstValue::Integer(number) => text(&number.to_string()),
            ConstValue::Float(number) => text(number),
            ConstValue::String(string) => text(string),
            // As text it would read otherwise.
            ConstValue::Boolean(value) => {
                let spelling = Spelling::Text(if value { "t" } else { "f" }.into());
                Some(Constant { spelling, cast: Some(Name::built_in("bool")) })
            }
            _ => None,
        },
        Node::TypeCast(cast) => {
            let target = cast.type_name()?;
            // varchar(3) cuts.
            let plain = target.typmods().is_empty() && target.array_bounds().is_empty();
            let inner = constant(cast.arg()).filter(|inner| plain && inner.cast.is_none())?;
            Some(Constant { cast: Some(type_name(target)?), ..inner })
        }
        _ => None,
    }
}

/// `$1`, `$1::int[]`, `'{1,2}'`: an array.
fn elements(node: Node<'_>) -> Option<Constant> {
    match node {
        Node::ParamRef(parameter) => Some(Constant {
            spelling: Spelling::Elements(usize::try_from(parameter.number).ok()?),
            cast: None,
        }),
        Node::A_Const(constant) => match constant.val()? {
            ConstValue::String(text) => Some(Constant { spelling: Spelling::Array(text.into()), cast: None }),
            _ => None,
        },
        Node::TypeCast(cast) => {
            let target = cast.type_name()?;
            let plain = target.typmods().is_empty() && target.array_bounds().len() == 1;
            let inner = elements(cast.arg()).filter(|inner| plain && inner.cast.is_none())?;
            Some(Constant { cast: Some(type_name(target)?), ..inner })
        }
        _ => None,
    }
}

// ---- what a statement writes ----------------------------------------------------------------------------------------

impl Collector {
    /// Whether the walk is in the statement itself, not in a common table expression or the like.
    fn is_outermost(&self) -> bool {
        self.levels.len() == 2
    }

    /// Notes which rows the statement changes and how; `target` is the relation's position.
    pub(crate) fn change(&mut self, target: Option<usize>, kind: ChangeKind) {
        if let Some(target) = target.filter(|_| self.is_outermost()) {
            self.query.change = Some(Change { target, kind });
        }
    }
}

/// What SET assigns.
pub(crate) fn assigned(list: &pg_raw_parse::list::CastNodeList<nodes::ResTarget>) -> Option<Vec<Assigned>> {
    let one = |target: &nodes::ResTarget| {
        let value = Some(target.val()).filter(|_| target.indirection().is_empty());
        Some(Assigned { column: target.name()?.into(), value: value.and_then(constant) })
    };
    list.into_iter().map(one).collect()
}

/// The rows of INSERT ... VALUES whose columns are listed.
pub(crate) fn inserted(insert: &nodes::InsertStmt) -> Option<Vec<Vec<Assigned>>> {
    let columns: Vec<&str> = insert.cols().into_iter().map(column_name).collect::<Option<_>>()?;
    let Node::SelectStmt(select) = insert.select_stmt() else { return None };
    let rows = select.values_lists();
    let updates =
        insert.on_conflict_clause().is_some_and(|c| c.action != OnConflictAction::ONCONFLICT_NOTHING);
    let plain = insert.override_ == OverridingKind::OVERRIDING_NOT_SET && !updates;
    if !plain || columns.is_empty() || rows.is_empty() || rows.len() > MAX_VALUES {
        return None;
    }
    let row = |row: Node<'_>| {
        let Node::NodeList(values) = row else { return None };
        let pairs = columns.iter().zip(values);
        let assigned =
            pairs.map(|(column, value)| Assigned { column: (*column).into(), value: constant(value) });
        (values.len() == columns.len()).then(|| assigned.collect())
    };
    rows.iter().map(row).collect()
}

fn column_name(node: Node<'_>) -> Option<&str> {
    match node {
        Node::ResTarget(target) => target.name().filter(|_| target.indirection().is_empty()),
        _ => None,
    }
}
