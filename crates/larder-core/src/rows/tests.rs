use proptest::prelude::*;

use super::*;

fn text(of: ValueType, text: &str) -> Option<RowValue> {
    of.read_text(text.as_bytes())
}

fn integer_of(of: ValueType, spelled: &str) -> i64 {
    match text(of, spelled) {
        Some(RowValue::Integer(value)) => value,
        other => panic!("{spelled}: {other:?}"),
    }
}

#[test]
fn integers_are_equal_whatever_their_width() {
    let value = Some(RowValue::Integer(-7));
    assert_eq!(text(ValueType::Integer, "-7"), value);
    assert_eq!(text(ValueType::Integer, "-007"), value);
    assert_eq!(ValueType::Integer.read_binary(&(-7_i16).to_be_bytes()), value);
    assert_eq!(ValueType::Integer.read_binary(&(-7_i32).to_be_bytes()), value);
    assert_eq!(ValueType::Integer.read_binary(&(-7_i64).to_be_bytes()), value);
}

#[test]
fn what_could_mean_something_else_has_no_value() {
    for (of, texts) in [
        (
            ValueType::Integer,
            &["", "-", "+1", " 1", "1 ", "0x10", "1_000", "1.0", "9223372036854775808", "--1"][..],
        ),
        (
            ValueType::Numeric,
            &["", "-", ".", "1.", ".5", "+1", "1e3", "NaN", "Infinity", "1_0", " 1", "1.2.3"],
        ),
        (ValueType::Boolean, &["", "yes", "1", "TRUE", "tr"]),
        (ValueType::Bytes, &["", "abc", "\\\\x41", "\\x4", "\\x4 1", "\\X41", "\\xgg"]),
        (
            ValueType::Uuid,
            &["", "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}", "a0eebc999-c0b-4ef8-bb6d-6bb9bd380a11"],
        ),
        (
            ValueType::Date,
            &[
                "",
                "today",
                "infinity",
                "24-11-2026",
                "2026-1-1",
                "2026-02-29",
                "2026-13-01",
                "0000-01-01",
                "20261-01-01",
                "2026-11-24 BC",
                "2026-11-24 00:00:00",
                "2026/11/24",
            ],
        ),
        (
            ValueType::Time,
            &["", "03:04", "24:00:00", "03:04:60", "03:04:05.", "03:04:05.1234567", "03:04:05+00"],
        ),
        (ValueType::Timestamp, &["2026-11-24", "2026-11-24 03:04:05Z", "2026-11-24  03:04:05", "now"]),
        (
            ValueType::TimestampTz,
            &[
                "2026-11-24 03:04:05",
                "2026-11-24 03:04:05 +01",
                "2026-11-24 03:04:05 CET",
                "2026-11-24 03:04:05+16",
            ],
        ),
        (ValueType::Text, &["é"]),
        (ValueType::Padded, &["é"]),
    ] {
        for spelled in texts {
            assert_eq!(text(of, spelled), None, "{of:?} {spelled}");
        }
    }
    assert_eq!(ValueType::Integer.read_binary(&[1, 2, 3]), None);
    assert_eq!(ValueType::Boolean.read_binary(&[2]), None);
    assert_eq!(ValueType::Date.read_binary(&[0; 8]), None);
    assert_eq!(ValueType::Timestamp.read_binary(&[0; 4]), None);
}

#[test]
fn letters_of_the_log_are_bytes() {
    assert_eq!(ValueType::Text.read_log(&[0xe9]), Some(RowValue::Bytes([0xe9].into())));
    assert_eq!(ValueType::Text.read_log(b"e"), text(ValueType::Text, "e"));
}

#[test]
fn blanks_at_the_end_do_not_count_where_they_are_padding() {
    assert_eq!(text(ValueType::Padded, "a b  "), text(ValueType::Padded, "a b"));
    assert_ne!(text(ValueType::Text, "a b  "), text(ValueType::Text, "a b"));
}

#[test]
fn a_uuid_is_its_bytes() {
    let value = text(ValueType::Uuid, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11");
    assert_eq!(value, text(ValueType::Uuid, "A0EEBC999C0B4EF8BB6D6BB9BD380A11"));
    let Some(RowValue::Uuid(bytes)) = &value else { panic!("{value:?}") };
    assert_eq!((bytes[0], bytes[15]), (0xa0, 0x11));
    assert_eq!(ValueType::Uuid.read_binary(bytes), value);
}

#[test]
fn numerics_are_equal_whatever_their_scale() {
    for (a, b) in [("1.0", "1.00"), ("1", "01.0"), ("-0.0", "0"), ("-0.50", "-00.5"), ("100", "100.000")] {
        assert!(text(ValueType::Numeric, a).is_some());
        assert_eq!(text(ValueType::Numeric, a), text(ValueType::Numeric, b), "{a} {b}");
    }
    for (a, b) in [("1", "-1"), ("10", "1"), ("0.1", "0.01"), ("1.2", "12")] {
        assert_ne!(text(ValueType::Numeric, a), text(ValueType::Numeric, b), "{a} {b}");
    }
}

/// `numeric_send`: digits to the base of 10,000.
fn numeric(weight: i16, sign: u16, scale: u16, digits: &[u16]) -> Option<RowValue> {
    let head = [u16::try_from(digits.len()).unwrap(), weight.cast_unsigned(), sign, scale];
    let words: Vec<u8> = head.iter().chain(digits).flat_map(|word| word.to_be_bytes()).collect();
    ValueType::Numeric.read_binary(&words)
}

#[test]
fn numerics_are_read_in_binary() {
    for (spelled, weight, sign, scale, digits) in [
        ("0", 0, 0, 0, &[][..]),
        ("1.50", 0, 0, 2, &[1, 5000]),
        ("-1.50", 0, 0x4000, 2, &[1, 5000]),
        ("12345678", 1, 0, 0, &[1234, 5678]),
        ("10000", 1, 0, 0, &[1]),
        ("100000000.0001", 2, 0, 4, &[1, 0, 0, 1]),
        ("0.0001", -1, 0, 4, &[1]),
        ("0.00001", -2, 0, 5, &[1000]),
    ] {
        assert_eq!(numeric(weight, sign, scale, digits), text(ValueType::Numeric, spelled), "{spelled}");
    }
    assert_eq!(numeric(0, 0xC000, 0, &[]), None, "NaN");
    assert_eq!(numeric(0, 0, 0, &[10_000]), None);
    assert_eq!(numeric(i16::MAX, 0, 0, &[1]), None);
    assert_eq!(numeric(i16::MIN, 0, 0, &[1]), None);
    assert_eq!(ValueType::Numeric.read_binary(&[0; 7]), None);
}

#[test]
fn times_count_from_the_year_2000() {
    for (spelled, days) in [
        ("2000-01-01", 0),
        ("1999-12-31", -1),
        ("2000-03-01", 60),
        ("2026-11-24", 9_824),
        ("1970-01-01", -10_957),
        ("0001-01-01", -730_119),
        ("9999-12-31", 2_921_939),
    ] {
        assert_eq!(integer_of(ValueType::Date, spelled), days, "{spelled}");
    }
    assert_eq!(integer_of(ValueType::Time, "00:00:01.5"), 1_500_000);
    assert_eq!(integer_of(ValueType::Timestamp, "2000-01-02 00:00:00.000001"), 86_400_000_001);
    assert_eq!(integer_of(ValueType::Timestamp, "2000-01-02T00:00:00"), 86_400_000_000);
    let at = integer_of(ValueType::TimestampTz, "2000-01-01 01:00:00+01");
    assert_eq!(at, 0);
    for spelled in ["2000-01-01 00:00:00Z", "1999-12-31 18:29:53-05:30:07", "2000-01-01T05:30:00.0+05:30"] {
        assert_eq!(integer_of(ValueType::TimestampTz, spelled), at, "{spelled}");
    }
}

#[test]
fn rows_have_other_ids_if_their_values_differ() {
    let values = [
        RowValue::Null,
        RowValue::Integer(0),
        RowValue::Boolean(false),
        RowValue::Bytes([].into()),
        RowValue::Bytes(b"0".as_slice().into()),
        RowValue::Uuid([0; 16]),
    ];
    let ids: std::collections::HashSet<u64> = values
        .iter()
        .flat_map(|a| values.iter().map(move |b| row_id([a, b])))
        .chain(values.iter().map(|value| row_id([value])))
        .collect();
    assert_eq!(ids.len(), values.len() * (values.len() + 1));
}

proptest! {
    #[test]
    fn text_and_binary_agree(number in any::<i64>(), chars in "[ -~]{0,20}", truth in any::<bool>()) {
        let integer = ValueType::Integer;
        prop_assert_eq!(text(integer, &number.to_string()), integer.read_binary(&number.to_be_bytes()));
        for of in [ValueType::Text, ValueType::Padded] {
            prop_assert_eq!(text(of, &chars), of.read_binary(chars.as_bytes()));
        }
        let hex: String = chars.bytes().map(|byte| format!("{byte:02x}")).collect();
        prop_assert_eq!(text(ValueType::Bytes, &format!("\\x{hex}")), ValueType::Bytes.read_binary(chars.as_bytes()));
        let boolean = ValueType::Boolean;
        prop_assert_eq!(text(boolean, &truth.to_string()), boolean.read_binary(&[u8::from(truth)]));
    }

    #[test]
    fn numerics_agree_in_text_and_binary(
        weight in -3_i16..4, negative in any::<bool>(), digits in proptest::collection::vec(0_u16..10_000, 0..6),
    ) {
        let mut spelled = String::new();
        for at in (0..=weight.max(0)).rev() {
            let digit = usize::try_from(weight - at).ok().and_then(|at| digits.get(at));
            spelled += &format!("{:04}", digit.unwrap_or(&0));
        }
        spelled.push('.');
        for at in 1..12 {
            let digit = usize::try_from(weight + at).ok().and_then(|at| digits.get(at));
            spelled += &format!("{:04}", digit.unwrap_or(&0));
        }
        let sign = if negative { "-" } else { "" };
        let binary = numeric(weight, if negative { 0x4000 } else { 0 }, 9, &digits);
        prop_assert_eq!(binary, text(ValueType::Numeric, &format!("{sign}{spelled}")));
    }

    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40), near in "[-0-9.:T Z+x\\\\]{0,32}") {
        for of in ValueType::ALL {
            let _ = (of.read_text(&bytes), of.read_log(&bytes), of.read_binary(&bytes));
            let _ = (of.read_text(near.as_bytes()), of.read_binary(near.as_bytes()));
        }
    }
}
