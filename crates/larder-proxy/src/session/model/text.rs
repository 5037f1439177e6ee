//! The statements that the model knows.

/// A table with a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    Users = 0,
    Orders = 1,
}

/// What a statement text means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Text {
    Read(Table),
    Add(Table),
    Begin,
    Commit,
    Rollback,
    Set(i32),
    Fail,
    Bogus,
    Empty,
    DeallocateAll,
    Deallocate(&'static [u8]),
    DiscardAll,
    Prepare(&'static [u8], Box<Text>),
    Execute(&'static [u8]),
    Copy,
    /// The session's facts: Larder asks for them.
    Facts,
    /// A query of Larder's own in place of one that it answered itself.
    Own,
}

/// All of them, as they are sent.
pub(crate) const TEXTS: [&str; 19] = [
    "select id from users",
    "select id from orders",
    "/* larder: bypass */ select id from users",
    "update users set id = id + 1",
    "update orders set id = id + 1",
    "begin",
    "commit",
    "rollback",
    "set extra_float_digits = 1",
    "set extra_float_digits = 3",
    "update users set id = id / 0",
    "selec",
    "",
    "deallocate all",
    "deallocate a",
    "discard all",
    "prepare a as select id from users",
    "execute a",
    "select id from users; update users set id = id + 1",
];

impl Table {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Orders => "orders",
        }
    }
}

impl Text {
    /// What a text without semicolon means.
    pub(crate) fn one(sql: &[u8]) -> Self {
        match std::str::from_utf8(sql).unwrap() {
            "select id from users" | "/* larder: bypass */ select id from users" => Self::Read(Table::Users),
            "select id from orders" => Self::Read(Table::Orders),
            "update users set id = id + 1" => Self::Add(Table::Users),
            "update orders set id = id + 1" => Self::Add(Table::Orders),
            "begin" => Self::Begin,
            "commit" => Self::Commit,
            "rollback" => Self::Rollback,
            "set extra_float_digits = 1" => Self::Set(1),
            "set extra_float_digits = 3" => Self::Set(3),
            "update users set id = id / 0" => Self::Fail,
            "" => Self::Empty,
            "deallocate all" => Self::DeallocateAll,
            "deallocate a" => Self::Deallocate(b"a"),
            "discard all" => Self::DiscardAll,
            "prepare a as select id from users" => Self::Prepare(b"a", Box::new(Self::Read(Table::Users))),
            "execute a" => Self::Execute(b"a"),
            "copy users from stdin" => Self::Copy,
            "select 1" => Self::Own,
            text if text.starts_with("SELECT /* by larder: session facts */") => Self::Facts,
            _ => Self::Bogus,
        }
    }

    /// What the statements of a simple query mean.
    pub(crate) fn all(sql: &[u8]) -> Vec<Self> {
        let texts = sql.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).filter(|text| !text.is_empty());
        let texts: Vec<_> = texts.map(Self::one).collect();
        // The grammar looks at the whole text before anything is run.
        if texts.contains(&Self::Bogus) { vec![Self::Bogus] } else { texts }
    }

    /// The table it reads, if it gives rows.
    pub(crate) fn reads(&self) -> Option<Table> {
        match self {
            Self::Read(table) => Some(*table),
            _ => None,
        }
    }
}
