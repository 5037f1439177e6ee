use proptest::prelude::*;

use super::*;
use crate::tuple::Tuple;

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

/// A table with these columns; those of the identity have a `*`.
fn relation(oid: u32, columns: &[&str]) -> Vec<u8> {
    let mut out = vec![b'R'];
    out.extend(oid.to_be_bytes());
    put(&mut out, "public");
    put(&mut out, "t");
    out.push(b'd');
    out.extend(u16::try_from(columns.len()).unwrap().to_be_bytes());
    for column in columns {
        out.push(u8::from(column.ends_with('*')));
        put(&mut out, column.trim_end_matches('*'));
        out.extend([0; 8]);
    }
    out
}

/// `n` and `u` stand for themselves, anything else is a text.
fn tuple(mark: char, values: &[&str]) -> Vec<u8> {
    let mut out = vec![mark as u8];
    out.extend(u16::try_from(values.len()).unwrap().to_be_bytes());
    for value in values {
        if matches!(*value, "n" | "u") {
            out.extend(value.as_bytes());
        } else {
            out.push(b't');
            out.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
            out.extend(value.as_bytes());
        }
    }
    out
}

fn change(kind: char, oid: u32, tuples: &[Vec<u8>]) -> Vec<u8> {
    [&[kind as u8][..], &oid.to_be_bytes(), &tuples.concat()].concat()
}

/// All columns, `-` for NULL and `=` for what was left as it was.
fn columns(tuple: &mut Tuple<'_>) -> Option<String> {
    let mut found = Vec::new();
    while let Some(column) = tuple.next() {
        let (name, value) = column?;
        let value = match value {
            Printed::Null => "-".to_owned(),
            Printed::Unchanged => "=".to_owned(),
            Printed::Text(text) => String::from_utf8_lossy(&text).into_owned(),
        };
        found.push(format!("{}:{value}", String::from_utf8_lossy(&name)));
    }
    Some(found.join(" "))
}

/// Kind, old row and new row of a change.
fn rows(event: Option<Event<'_>>) -> Option<(Kind, Option<String>, Option<String>)> {
    let Some(Event::Change { relation: Name::Oid(7), kind, row }) = event else { return None };
    let (has_old, mut first) = row.first()?;
    if !has_old {
        return Some((kind, None, Some(columns(&mut first)?)));
    }
    let old = columns(&mut first)?;
    let new = match first.behind_old() {
        Some(mut new) => Some(columns(&mut new)?),
        None => None,
    };
    Some((kind, Some(old), new))
}

fn described() -> Relations {
    let mut relations = Relations::default();
    assert_eq!(relations.decode(&relation(7, &["v", "id*", "n"])), Some(Event::Nothing));
    relations
}

#[test]
fn rows_as_postgresql_sends_them() {
    let mut relations = described();
    let new = tuple('N', &["x", "1", "n"]);
    for (message, expected) in [
        (change('I', 7, std::slice::from_ref(&new)), (Kind::Insert, None, Some("v:x id:1 n:-"))),
        (change('U', 7, std::slice::from_ref(&new)), (Kind::Update, None, Some("v:x id:1 n:-"))),
        // NULL where only the key is logged says nothing; where all is, it is NULL.
        (
            change('U', 7, &[tuple('K', &["n", "2", "n"]), new.clone()]),
            (Kind::Update, Some("id:2"), Some("v:x id:1 n:-")),
        ),
        (
            change('U', 7, &[tuple('O', &["long", "2", "n"]), tuple('N', &["u", "2", "5"])]),
            (Kind::Update, Some("v:long id:2 n:-"), Some("v:= id:2 n:5")),
        ),
        (change('D', 7, &[tuple('K', &["n", "2", "n"])]), (Kind::Delete, Some("id:2"), None)),
        (change('D', 7, &[tuple('O', &["", "2", "n"])]), (Kind::Delete, Some("v: id:2 n:-"), None)),
    ] {
        let (kind, old, new) = expected;
        let expected = Some((kind, old.map(str::to_owned), new.map(str::to_owned)));
        assert_eq!(rows(relations.decode(&message)), expected);
        for cut in 0..message.len() {
            assert_eq!(relations.decode(&message[..cut]), None, "{cut}");
        }
    }
    assert_eq!(relations.decode(&change('I', 8, &[new])), None, "never described");
    assert_eq!(relations.decode(&change('I', 7, &[tuple('N', &["x", "1"])])), None, "too few");
    assert_eq!(relations.decode(&change('D', 7, &[])), None, "no old row");
}

#[test]
fn the_rest_of_a_stream() {
    let mut relations = Relations::default();
    let begin = [&b"B"[..], &[0; 16], &739_u32.to_be_bytes()].concat();
    assert_eq!(relations.decode(&begin), Some(Event::Begin { xid: 739 }));
    assert_eq!(relations.decode(&[&b"C"[..], &[0; 25]].concat()), Some(Event::Commit { xid: 739 }));
    let truncate =
        [&b"T"[..], &2_u32.to_be_bytes(), &[0], &7_u32.to_be_bytes(), &8_u32.to_be_bytes()].concat();
    let both = vec![Name::Oid(7), Name::Oid(8)];
    assert_eq!(relations.decode(&truncate), Some(Event::Truncate { relations: both }));
    for (flags, prefix, expected) in [
        (1, "larder", Event::DdlAnnounced),
        (0, "larder", Event::OtherMessage),
        (1, "other", Event::OtherMessage),
    ] {
        let mut message = vec![b'M', flags];
        message.extend([0; 8]);
        put(&mut message, prefix);
        message.extend([0, 0, 0, 1, b'x']);
        assert_eq!(relations.decode(&message), Some(expected));
    }
    assert_eq!(relations.decode(b"Y\0\0\0\x07s\0t\0"), Some(Event::Nothing));
    for message in [&b""[..], b"X", b"B", b"C", b"T\0\0\0\x02\0\0\0\0\x07", b"S\0\0\0\x01\x01"] {
        assert_eq!(relations.decode(message), None, "{message:?}");
    }
}

proptest! {
    #[test]
    fn nothing_panics(kind in "[BCRIUDTMOY]", bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let mut relations = described();
        let message = [kind.as_bytes(), &7_u32.to_be_bytes(), &bytes].concat();
        let _ = rows(relations.decode(&message));
        let _ = relations.decode(&[kind.as_bytes(), &bytes].concat());
    }
}
