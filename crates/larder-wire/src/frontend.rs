//! Messages that a client sends.

use crate::read::Reader;

/// `Parse`: a statement to prepare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parse<'a> {
    /// Name; empty for the unnamed statement.
    pub name: &'a [u8],
    /// The SQL text, in the client's encoding.
    pub sql: &'a [u8],
    /// Declared parameter types: the count (16 bits) and the OIDs, as they came.
    pub types: &'a [u8],
}

/// `Bind`: parameters for a statement, making a portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bind<'a> {
    /// Portal; empty for the unnamed one.
    pub portal: &'a [u8],
    /// Statement; empty for the unnamed one.
    pub statement: &'a [u8],
    /// Everything after the names: parameter formats, parameters, result formats, as they came.
    pub rest: &'a [u8],
    /// The parameters alone: count and values.
    pub parameters: &'a [u8],
    /// Result format codes: count and codes.
    pub result_formats: &'a [u8],
}

/// `Describe` or `Close`: of a statement (`S`) or a portal (`P`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// `S` or `P`.
    pub kind: u8,
    /// Name.
    pub name: &'a [u8],
}

/// `Execute`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Execute<'a> {
    /// Portal.
    pub portal: &'a [u8],
    /// Row limit; 0 = none.
    pub max_rows: i32,
}

/// Bytes of the longest message of this type that PostgreSQL takes, header included; `None`: it knows no such type.
/// Either way it ends the session as soon as it has seen the header, or the type.
pub fn longest(tag: u8) -> Option<usize> {
    match tag {
        // What a client has to say about data: PQ_LARGE_MESSAGE_LIMIT, just below 1 GiB, and the type.
        b'Q' | b'P' | b'B' | b'F' | b'd' => Some((1 << 30) - 1),
        // Names and flags: PQ_SMALL_MESSAGE_LIMIT.
        b'D' | b'E' | b'C' | b'S' | b'H' | b'X' | b'c' | b'f' => Some(10_001),
        _ => None,
    }
}

/// The text of a `Query` body.
pub fn query(body: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader(body);
    let sql = reader.cstr()?;
    reader.0.is_empty().then_some(sql)
}

/// Reads a `Parse` body.
pub fn parse(body: &[u8]) -> Option<Parse<'_>> {
    let mut reader = Reader(body);
    let (name, sql) = (reader.cstr()?, reader.cstr()?);
    let types = reader.counted(4)?;
    reader.0.is_empty().then_some(Parse { name, sql, types })
}

/// The OIDs in [`Parse::types`]; 0 is "not specified".
pub fn type_oids(types: &[u8]) -> impl Iterator<Item = u32> {
    types.get(2..).unwrap_or_default().as_chunks::<4>().0.iter().map(|oid| u32::from_be_bytes(*oid))
}

/// Reads a `Bind` body.
pub fn bind(body: &[u8]) -> Option<Bind<'_>> {
    let mut reader = Reader(body);
    let (portal, statement) = (reader.cstr()?, reader.cstr()?);
    let rest = reader.0;
    reader.counted(2)?;
    let before = reader.0;
    for _ in 0..reader.count()? {
        reader.value()?;
    }
    let parameters = before.get(..before.len() - reader.0.len())?;
    let result_formats = reader.counted(2)?;
    reader.0.is_empty().then_some(Bind { portal, statement, rest, parameters, result_formats })
}

/// The values of [`Bind::parameters`]; `None` is NULL.
pub fn parameter_values(parameters: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut reader = Reader(parameters);
    let count = reader.count().unwrap_or_default();
    (0..count).map_while(move |_| reader.value())
}

/// A parameter's format code and value; `None` is NULL.
pub type BoundValue<'a> = (u16, Option<&'a [u8]>);

/// The parameters of [`Bind::rest`].
pub fn bound_values(rest: &[u8]) -> Option<Vec<BoundValue<'_>>> {
    let mut reader = Reader(rest);
    let formats = reader.counted(2)?.get(2..)?.as_chunks::<2>().0;
    let format = |at: usize| match formats {
        [] => Some(0),
        [one] => Some(u16::from_be_bytes(*one)),
        each => each.get(at).map(|one| u16::from_be_bytes(*one)),
    };
    let count = reader.count()?;
    (0..count).map(|at| Some((format(at)?, reader.value()?))).collect()
}

/// Reads a `Describe` or `Close` body.
pub fn target(body: &[u8]) -> Option<Target<'_>> {
    let mut reader = Reader(body);
    let (kind, name) = (reader.u8()?, reader.cstr()?);
    (reader.0.is_empty() && matches!(kind, b'S' | b'P')).then_some(Target { kind, name })
}

/// Reads an `Execute` body.
pub fn execute(body: &[u8]) -> Option<Execute<'_>> {
    let mut reader = Reader(body);
    let (portal, max_rows) = (reader.cstr()?, reader.i32()?);
    reader.0.is_empty().then_some(Execute { portal, max_rows })
}

/// The first one or two names of a body that may be cut off: for `Parse` and `Bind` frames too large to hold.
pub fn leading_names(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut reader = Reader(body);
    let first = reader.cstr()?;
    Some((first, reader.cstr().unwrap_or_default()))
}

/// Whether the beginning of a body holds [`leading_names`]: those of a `Parse` or `Bind` that is still arriving. Longer
/// than all that PostgreSQL keeps of a name they are not.
pub fn has_names(tag: u8, body: &[u8]) -> bool {
    const LONGEST: usize = 64 * 1024;
    let names = match tag {
        b'P' => 1,
        b'B' => 2,
        _ => 0,
    };
    body.len() >= LONGEST || body.iter().filter(|byte| **byte == 0).take(names).count() == names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_bind_and_its_parameters() {
        let body = b"p\0s\0\0\x01\0\x01\0\x02\0\0\0\x02ab\xff\xff\xff\xff\0\x01\0\0";
        let bind = bind(body).unwrap();
        assert_eq!((bind.portal, bind.statement), (&b"p"[..], &b"s"[..]));
        assert_eq!(bind.result_formats, b"\0\x01\0\0");
        let values: Vec<_> = parameter_values(bind.parameters).collect();
        assert_eq!(values, [Some(&b"ab"[..]), None]);
    }

    #[test]
    fn names_are_known_before_the_rest_has_come() {
        for (tag, body, has) in [
            (b'P', &b"s"[..], false),
            (b'P', b"s\0sel", true),
            (b'B', b"p\0s", false),
            (b'B', b"p\0s\0", true),
            (b'd', b"", true),
            (b'B', &[b'x'; 64 * 1024], true),
        ] {
            assert_eq!(has_names(tag, body), has, "{tag} {}", body.escape_ascii());
        }
    }

    #[test]
    fn declared_types_are_a_count_and_oids() {
        assert_eq!(type_oids(b"\0\x02\0\0\0\x17\0\0\0\0").collect::<Vec<_>>(), [23, 0]);
        assert_eq!(type_oids(b"\0\0").count() + type_oids(b"").count(), 0);
    }

    #[test]
    fn trailing_bytes_and_short_bodies_are_refused() {
        assert_eq!(query(b"select 1"), None);
        assert_eq!(query(b"select 1\0x"), None);
        assert_eq!(parse(b"a\0select 1\0\0\x01\0\0"), None);
        assert_eq!(bind(b"\0\0\0\0\0\x01\0\0\0\x09ab\0\0"), None);
        assert_eq!(target(b"Xa\0"), None);
        assert_eq!(execute(b"\0\0\0\0"), None);
        // Only a length of -1 stands for NULL.
        assert_eq!(bind(b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0"), None);
    }

    #[test]
    fn counts_have_no_sign() {
        let count = 40_000_u16;
        let nulls = [&count.to_be_bytes()[..], &[0xff; 4].repeat(count.into())].concat();
        let body = [b"\0\0\0\0", &nulls[..], b"\0\0"].concat();
        let bind = bind(&body).unwrap();
        assert_eq!(parameter_values(bind.parameters).count(), 40_000);
        let types = [&count.to_be_bytes()[..], &[0; 4].repeat(count.into())].concat();
        assert_eq!(parse(&[b"\0\0", &types[..]].concat()).unwrap().types.len(), 160_002);
    }
}
