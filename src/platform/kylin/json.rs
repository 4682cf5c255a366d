//! JSON as a document spells it: what a patch does not touch keeps its order, its numbers and its escapes.
//!
//! Why not values of serde_json: they sort the fields of objects, and read a number as what a float can hold of it.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::model::pointer::{Pointer, index};

/// How deep values may be nested. Kylin's are a dozen deep.
const DEPTH_MAX: usize = 200;

/// A JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Json {
    /// Fields in the order of the document, each once.
    Object(Vec<(String, Json)>),
    /// Values.
    Array(Vec<Json>),
    /// Text, number, `true`, `false` or `null`, as it is spelled.
    Scalar(Box<str>),
}

/// The text is no JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoJson(String);

impl Json {
    /// Reads a value.
    ///
    /// # Errors
    /// When the text is no JSON, or nested deeper than Kylin's ever is.
    pub fn parse(text: &[u8]) -> Result<Self, NoJson> {
        let raw: &RawValue = serde_json::from_slice(text).map_err(|e| NoJson(e.to_string()))?;
        Self::of_raw(raw, DEPTH_MAX)
    }

    pub(super) fn of_raw(raw: &RawValue, depth: usize) -> Result<Self, NoJson> {
        let Some(deeper) = depth.checked_sub(1) else {
            return Err(NoJson(format!("it is nested deeper than {DEPTH_MAX} values")));
        };
        let text = raw.get();
        let failed = |e: serde_json::Error| NoJson(e.to_string());
        Ok(match text.as_bytes().first() {
            Some(b'{') => {
                let Fields(fields) = serde_json::from_str(text).map_err(failed)?;
                let mut object: Vec<(String, Self)> = Vec::with_capacity(fields.len());
                for (name, value) in fields {
                    put(&mut object, name.into_owned(), Self::of_raw(value, deeper)?);
                }
                Self::Object(object)
            }
            Some(b'[') => {
                let Values(values) = serde_json::from_str(text).map_err(failed)?;
                Self::Array(values.into_iter().map(|value| Self::of_raw(value, deeper)).collect::<Result<_, _>>()?)
            }
            _ => Self::Scalar(text.into()),
        })
    }

    /// Returns the text of the value, without any space between its parts.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = String::new();
        self.append_to(&mut text);
        text.into_bytes()
    }

    fn append_to(&self, text: &mut String) {
        match self {
            Self::Object(fields) => {
                text.push('{');
                for (n, (name, value)) in fields.iter().enumerate() {
                    text.push_str(if n > 0 { "," } else { "" });
                    text.push_str(&serde_json::Value::from(name.as_str()).to_string());
                    text.push(':');
                    value.append_to(text);
                }
                text.push('}');
            }
            Self::Array(values) => {
                text.push('[');
                for (n, value) in values.iter().enumerate() {
                    text.push_str(if n > 0 { "," } else { "" });
                    value.append_to(text);
                }
                text.push(']');
            }
            Self::Scalar(scalar) => text.push_str(scalar),
        }
    }

    /// Returns the value at a place, if there is one.
    pub fn at(&self, place: &Pointer) -> Option<&Self> {
        place.parts().iter().try_fold(self, |json, part| match json {
            Self::Object(fields) => fields.iter().find(|(name, _)| name == part).map(|(_, value)| value),
            Self::Array(values) => values.get(index(part)?),
            Self::Scalar(_) => None,
        })
    }

    /// Returns a text as a value.
    pub fn text(text: &str) -> Self {
        Self::Scalar(serde_json::Value::from(text).to_string().into())
    }

    /// Tells whether two values mean the same, whatever the order of fields and the spelling of numbers and texts.
    pub fn means(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Object(fields), Self::Object(others)) => {
                fields.len() == others.len() && {
                    let (mut fields, mut others): (Vec<_>, Vec<_>) = (fields.iter().collect(), others.iter().collect());
                    fields.sort_unstable_by(|a, b| a.0.cmp(&b.0));
                    others.sort_unstable_by(|a, b| a.0.cmp(&b.0));
                    fields.iter().zip(others).all(|(a, b)| a.0 == b.0 && a.1.means(&b.1))
                }
            }
            (Self::Array(values), Self::Array(others)) => {
                values.len() == others.len() && values.iter().zip(others).all(|(a, b)| a.means(b))
            }
            (Self::Scalar(one), Self::Scalar(other)) => one == other || scalars_mean(one, other),
            _ => false,
        }
    }
}

fn scalars_mean(one: &str, other: &str) -> bool {
    if one.starts_with('"') && other.starts_with('"') {
        let text = |text: &str| serde_json::from_str::<String>(text).ok();
        return text(one).is_some_and(|one| Some(one) == text(other));
    }
    // Whole numbers beyond what a float holds have one spelling each, but for a fraction or an exponent.
    let is_whole = |text: &str| !text.contains(['.', 'e', 'E']);
    let number = |text: &str| text.parse::<f64>().ok();
    !(is_whole(one) && is_whole(other)) && number(one).is_some_and(|one| Some(one) == number(other))
}

/// Sets a field: in its place, or at the end. Of fields that occur twice the last one counts, as in Kylin.
pub(super) fn put(object: &mut Vec<(String, Json)>, name: String, value: Json) {
    match object.iter_mut().find(|(other, _)| *other == name) {
        Some((_, old)) => *old = value,
        None => object.push((name, value)),
    }
}

struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor).map(Self)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(Name(name)) = map.next_key()? {
            fields.push((name, map.next_value()?));
        }
        Ok(fields)
    }
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

struct Values<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for Values<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ValuesVisitor).map(Self)
    }
}

struct ValuesVisitor;

impl<'de> Visitor<'de> for ValuesVisitor {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = sequence.next_element()? {
            values.push(value);
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Json {
        Json::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_not_touched_keeps_its_spelling() {
        let text = r#" { "b" : 1.10, "a" : [ 12345678901234567890123, 1E400, "\u00e9\/" ], "": null, "b": 2.50 } "#;
        let bytes = parse(text).to_bytes();
        let expected = r#"{"b":2.50,"a":[12345678901234567890123,1E400,"\u00e9\/"],"":null}"#;
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }

    #[test]
    fn meaning_is_more_than_spelling() {
        let same =
            [(r#"{"a":1.0,"b":"é"}"#, r#"{ "b" : "\u00e9", "a" : 1 }"#), ("[1e3]", "[1000.0]"), ("null", "null")];
        for (one, other) in same {
            assert!(parse(one).means(&parse(other)), "{one} {other}");
        }
        let different = [
            ("[1,2]", "[2,1]"),
            (r#"{"a":1}"#, r#"{"a":1,"b":1}"#),
            ("1", "\"1\""),
            ("12345678901234567890123", "12345678901234567890124"),
            ("true", "false"),
            ("null", "0"),
        ];
        for (one, other) in different {
            assert!(!parse(one).means(&parse(other)), "{one} {other}");
        }
    }

    #[test]
    fn values_are_found_by_pointers() {
        let json = parse(r#"{"a/b":[1,{"~":"x"}],"":null,"1":true}"#);
        let at = |pointer: &str| json.at(&pointer.parse().unwrap()).map(Json::to_bytes);
        assert_eq!(at("/a~1b/1/~0"), Some(b"\"x\"".to_vec()));
        assert_eq!((at("/"), at("/1")), (Some(b"null".to_vec()), Some(b"true".to_vec())));
        assert_eq!(at(""), Some(json.to_bytes()));
        for nowhere in ["/a~1b/2", "/a~1b/01", "/a~1b/-", "/b", "/1/0"] {
            assert_eq!(at(nowhere), None, "{nowhere}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for bad in ["", "{", "{\"a\":}", "[1,]", "{} {}", "\u{feff}{}"] {
            assert!(Json::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Json::parse(b"\"\xff\"").is_err());
        let deep = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
        assert!(Json::parse(&deep(100)).is_ok());
        assert!(Json::parse(&deep(100_000)).is_err());
    }
}
