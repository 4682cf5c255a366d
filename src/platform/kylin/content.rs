//! What the JSON of a document says of its project and identity.

use std::borrow::Cow;
use std::fmt;

use super::layout::Layout;
use crate::model::path::escape;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Why a field could not be read from a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoField {
    /// There is nothing in the document.
    #[error("it is empty")]
    Empty,
    /// It is no JSON.
    #[error("its JSON is broken: {0}")]
    Broken(String),
    /// It is JSON without such a field, or with one that is no text.
    #[error("its JSON has no text field `{0}`")]
    Missing(&'static str),
}

/// Reads a text field of the JSON object that a document is. Of fields that occur twice the last one counts, as in
/// Kylin.
///
/// # Errors
/// When there is no such field.
pub fn text_field<'c>(content: &'c [u8], field: &'static str) -> Result<Cow<'c, str>, NoField> {
    let mut json = serde_json::Deserializer::from_slice(content);
    let found = json.deserialize_map(FieldVisitor { field });
    field_of(found, field, content.iter().all(u8::is_ascii_whitespace))
}

/// Reads a text field of a document that is too large to be held.
///
/// # Errors
/// When there is no such field, or the document can't be read.
pub fn text_field_of_stream(stream: impl std::io::Read, field: &'static str) -> Result<String, NoField> {
    // serde_json asks for one byte at a time.
    let mut json = serde_json::Deserializer::from_reader(std::io::BufReader::with_capacity(64 << 10, stream));
    let found = json.deserialize_map(FieldVisitor { field });
    field_of(found, field, false).map(Cow::into_owned)
}

/// Returns what tells one system from another, from the document at [`Layout::identity_path`], as text.
pub fn identity(layout: Layout, content: &[u8]) -> String {
    let text = match layout {
        Layout::New(_) => text_field(content, "str").map(Cow::into_owned).ok(),
        // Java's modified UTF-8: two bytes of length, then the text.
        Layout::Old => content.get(2..).and_then(|text| String::from_utf8(text.to_vec()).ok()),
    };
    text.unwrap_or_else(|| format!("with the unreadable UUID {}", escape(&content[..content.len().min(64)])))
}

fn field_of<'c>(
    found: serde_json::Result<Option<Cow<'c, str>>>,
    field: &'static str,
    is_empty: bool,
) -> Result<Cow<'c, str>, NoField> {
    match found {
        _ if is_empty => Err(NoField::Empty),
        Err(error) => Err(NoField::Broken(error.to_string())),
        Ok(value) => value.ok_or(NoField::Missing(field)),
    }
}

struct FieldVisitor {
    field: &'static str,
}

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(Text(name)) = map.next_key()? {
            if name == self.field {
                found = map.next_value::<TextOrOther<'_>>()?.0;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A text, or something else that is no error and is not kept.
struct TextOrOther<'a>(Option<Cow<'a, str>>);

impl<'de> Deserialize<'de> for TextOrOther<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor).map(Self)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        IgnoredAny.visit_seq(seq).map(|_| None)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        IgnoredAny.visit_map(map).map(|_| None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_field_is_found_at_the_top_only() {
        let cases: [(&str, Result<&str, NoField>); 7] = [
            (r#"{"a":{"project":"inner"},"project":"outer"}"#, Ok("outer")),
            (r#"{"project":"first","project":"l\u0061st"}"#, Ok("last")),
            (r#"{"project":"before what follows"} trailing"#, Ok("before what follows")),
            (r#"{"a":"project"}"#, Err(NoField::Missing("project"))),
            (r#"{"project":null}"#, Err(NoField::Missing("project"))),
            (r#"{"project":{"name":"p"}}"#, Err(NoField::Missing("project"))),
            (" \n", Err(NoField::Empty)),
        ];
        for (json, expected) in cases {
            let found = text_field(json.as_bytes(), "project");
            assert_eq!(found.as_deref().map_err(Clone::clone), expected, "{json}");
        }
        for broken in [r#"{"project":"p""#, "[]", "\"project\"", "{]", "\u{feff}{}"] {
            assert!(matches!(text_field(broken.as_bytes(), "project"), Err(NoField::Broken(_))), "{broken}");
        }
    }

    #[test]
    fn stream_says_the_same() {
        let json = r#"{"x":[1,2,{"project":"no"}],"project":"yes"}"#;
        assert_eq!(text_field_of_stream(json.as_bytes(), "project"), Ok("yes".to_owned()));
    }
}
