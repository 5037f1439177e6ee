//! The elements of an array parameter.

use super::{RowValue, ValueType};

/// More elements than that are not read.
const MAX_ELEMENTS: usize = 1024;

impl ValueType {
    /// The built-in array type with that OID, by the type of its elements.
    pub const fn of_array_oid(oid: u32) -> Option<Self> {
        match oid {
            1000 => Some(Self::Boolean),
            1001 => Some(Self::Bytes),
            1005 | 1007 | 1016 => Some(Self::Integer),
            1009 | 1015 => Some(Self::Text),
            1014 => Some(Self::Padded),
            1115 => Some(Self::Timestamp),
            1182 => Some(Self::Date),
            1183 => Some(Self::Time),
            1185 => Some(Self::TimestampTz),
            1231 => Some(Self::Numeric),
            2951 => Some(Self::Uuid),
            _ => None,
        }
    }

    /// The elements of an array of one dimension in text format, `{1,2,"a b"}`; NULLs, which nothing is equal to, are left out.
    pub fn read_array_text(self, text: &[u8]) -> Option<Vec<RowValue>> {
        let mut rest = text.strip_prefix(b"{")?;
        let mut values = Vec::new();
        if rest == b"}" {
            return Some(values);
        }
        loop {
            let (element, quoted, after) = element(rest)?;
            // NULL can be written in other ways, and a type may read the word; neither is certain.
            match element.as_slice() {
                b"NULL" if !quoted => {}
                other if !quoted && other.eq_ignore_ascii_case(b"null") => return None,
                other => values.push(self.read_text(other)?),
            }
            if values.len() > MAX_ELEMENTS {
                return None;
            }
            match after.split_first()? {
                (b',', more) => rest = more,
                (b'}', []) => return Some(values),
                _ => return None,
            }
        }
    }

    /// The elements of an array of one dimension, or none, in binary format; NULLs are left out.
    pub fn read_array_binary(self, bytes: &[u8]) -> Option<Vec<RowValue>> {
        let (header, mut rest) = bytes.split_first_chunk::<12>()?;
        let [_, _, _, dimensions, _, _, _, _, oid @ ..] = *header;
        // The parameter's type is known or inferred; that of its elements is said here.
        if Self::of_oid(u32::from_be_bytes(oid)) != Some(self) {
            return None;
        }
        if dimensions == 0 {
            return rest.is_empty().then(Vec::new);
        }
        let (sizes, elements) = rest.split_first_chunk::<8>()?;
        let [count @ .., _, _, _, _] = *sizes;
        let count = usize::try_from(i32::from_be_bytes(count)).ok()?;
        if dimensions != 1 || count > MAX_ELEMENTS {
            return None;
        }
        rest = elements;
        let mut values = Vec::new();
        for _ in 0..count {
            let (length, after) = rest.split_first_chunk::<4>()?;
            rest = after;
            if let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) {
                let (element, after) = rest.split_at_checked(length)?;
                values.push(self.read_binary(element)?);
                rest = after;
            }
        }
        rest.is_empty().then_some(values)
    }
}

/// One element, whether it was in quotes, and what follows it. Spaces around elements are not read: `None`.
fn element(text: &[u8]) -> Option<(Vec<u8>, bool, &[u8])> {
    let mut value = Vec::new();
    if let Some(mut rest) = text.strip_prefix(b"\"") {
        loop {
            let (first, after) = rest.split_first()?;
            rest = after;
            match first {
                b'"' => return Some((value, true, rest)),
                b'\\' => {
                    let (escaped, after) = rest.split_first()?;
                    value.push(*escaped);
                    rest = after;
                }
                other => value.push(*other),
            }
        }
    }
    let end = text.iter().position(|byte| matches!(byte, b',' | b'}'))?;
    let (bare, rest) = text.split_at_checked(end)?;
    let strange = |byte: &u8| matches!(byte, b'{' | b'"' | b'\\') || byte.is_ascii_whitespace();
    if bare.is_empty() || bare.iter().any(strange) {
        return None;
    }
    value.extend_from_slice(bare);
    Some((value, false, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integers(numbers: &[i64]) -> Option<Vec<RowValue>> {
        Some(numbers.iter().copied().map(RowValue::Integer).collect())
    }

    #[test]
    fn text_as_postgresql_and_drivers_write_it() {
        let read = |text: &str| ValueType::Integer.read_array_text(text.as_bytes());
        assert_eq!(read("{}"), integers(&[]));
        assert_eq!(read("{1,-2,3}"), integers(&[1, -2, 3]));
        assert_eq!(read(r#"{"1","2",NULL}"#), integers(&[1, 2]));
        for text in
            ["", "{", "1", "{1", "{1,}", "{1, 2}", "{{1}}", "{1}x", "[0:1]={1,2}", "{null}", "{\"1}", "{1.5}"]
        {
            assert_eq!(read(text), None, "{text}");
        }
        let text = ValueType::Text.read_array_text(br#"{a,"b c","d\"e\\","","NULL"}"#).unwrap();
        let texts = ["a", "b c", "d\"e\\", "", "NULL"].map(|text| RowValue::Bytes(text.as_bytes().into()));
        assert_eq!(text, texts);
    }

    #[test]
    fn binary_of_one_dimension() {
        let array = |oid: u32, elements: &[Option<i32>]| {
            let count = i32::try_from(elements.len()).unwrap();
            let mut bytes = [1, 0, oid.cast_signed(), count, 1].map(i32::to_be_bytes).concat();
            for element in elements {
                match element {
                    Some(value) => bytes.extend([4, *value].map(i32::to_be_bytes).concat()),
                    None => bytes.extend((-1_i32).to_be_bytes()),
                }
            }
            bytes
        };
        let read = |bytes: &[u8]| ValueType::Integer.read_array_binary(bytes);
        assert_eq!(read(&array(23, &[Some(5), None, Some(-6)])), integers(&[5, -6]));
        assert_eq!(read(&[0, 0, 23].map(i32::to_be_bytes).concat()), integers(&[]));
        assert_eq!(read(&array(700, &[Some(5)])), None, "of another type");
        let whole = array(23, &[Some(5), Some(6)]);
        for cut in 0..whole.len() {
            assert_eq!(read(&whole[..cut]), None, "{cut}");
        }
    }
}
