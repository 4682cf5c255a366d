//! Whether Kylin's parser can bind the fields that every document may have.

use super::Rule;
use super::examine::Look;
use super::read::{Field, Said};
use super::value::Value;

/// What Kylin's parser makes of a field that every document may have.
pub(super) fn bindable(look: &mut Look<'_>, said: &Said<'_>) {
    let fields = [
        (Field::Id, "id", is_integer as fn(&Value<'_>) -> bool, "number"),
        (Field::Ts, "ts", is_integer, "number"),
        (Field::Mvcc, "mvcc", is_integer, "number"),
        (Field::Content, "content", is_base64, "base64"),
        (Field::ContentDiff, "contentDiff", is_base64, "base64"),
        (Field::Reserved2, "reserved_filed_2", is_base64, "base64"),
        (Field::Reserved3, "reserved_filed_3", is_base64, "base64"),
        (Field::Uuid, "uuid", is_plain, "text"),
        (Field::MetaKey, "meta_key", is_plain, "text"),
    ];
    for (field, name, is_right, what) in fields {
        if !is_right(said.value(field)) {
            look.broken(Rule::UnbindableField, name, format!("`{name}` is no {what}"));
        }
    }
}

/// Tells whether a value can be taken for a text.
pub(super) fn is_plain(value: &Value<'_>) -> bool {
    *value != Value::Nested
}

/// Kylin's parser takes digits in a text and even an empty text for a number.
fn is_integer(value: &Value<'_>) -> bool {
    match value {
        Value::Absent | Value::Null | Value::Number(_) => true,
        Value::Text(text) => text.trim().is_empty() || text.trim().parse::<i64>().is_ok(),
        Value::Bool | Value::Nested => false,
    }
}

fn is_base64(value: &Value<'_>) -> bool {
    match value {
        Value::Absent | Value::Null => true,
        Value::Text(text) => is_base64_text(text.as_bytes()),
        Value::Number(_) | Value::Bool | Value::Nested => false,
    }
}

/// Kylin's parser skips blanks between groups of four, but not within one.
fn is_base64_text(mut text: &[u8]) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    loop {
        text = match text {
            [] => return true,
            [blank, tail @ ..] if *blank <= b' ' => tail,
            [a, b, c, d, tail @ ..] if is_digit(*a) && is_digit(*b) => match (*c, *d) {
                (b'=', b'=') => tail,
                (c, b'=') if is_digit(c) => tail,
                (c, d) if is_digit(c) && is_digit(d) => tail,
                _ => return false,
            },
            _ => return false,
        };
    }
}
