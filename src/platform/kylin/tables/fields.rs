//! The fields at the top of a JSON object, and what Kylin's parser (Jackson) makes of them.

use std::borrow::{Borrow, Cow};
use std::collections::BTreeMap;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Form, Value};

/// Jackson wants padding, and does not mind the bits it leaves over.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// The fields of an object as they are spelled. Of one that occurs twice the last counts.
#[derive(Deserialize)]
pub(super) struct Fields<'c>(#[serde(borrow)] BTreeMap<Name<'c>, &'c RawValue>);

#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Name<'c>(#[serde(borrow)] Cow<'c, str>);

impl Borrow<str> for Name<'_> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<'c> Fields<'c> {
    /// Reads the object that a document begins with. As in Kylin, what follows does not matter.
    pub(super) fn read(content: &'c [u8]) -> serde_json::Result<Self> {
        Self::deserialize(&mut serde_json::Deserializer::from_slice(content))
    }

    /// Returns a field as it is spelled, unless it is `null`.
    pub(super) fn raw(&self, field: &str) -> Option<&'c str> {
        self.0.get(field).map(|value| value.get()).filter(|value| *value != "null")
    }

    /// Returns what a field becomes.
    ///
    /// # Errors
    /// When it can't be read as this; says as what.
    pub(super) fn value(&self, field: &str, form: Form) -> Result<Value, &'static str> {
        let value = match (self.raw(field), form) {
            (None, _) => None,
            (Some(raw), Form::Text) => Some(Value::Text(text(raw).ok_or("text")?)),
            (Some(raw), Form::Long | Form::LongOrZero) => long(raw).ok_or("number")?.map(Value::Int),
            (Some(raw), Form::Int) => {
                let number = long(raw).filter(|number| number.is_none_or(|number| i32::try_from(number).is_ok()));
                number.ok_or("number of 32 bits")?.map(Value::Int)
            }
            (Some(raw), Form::Bytes) => Some(Value::Bytes(bytes(raw).ok_or("Base64")?)),
        };
        let absent = if form == Form::LongOrZero { Value::Int(0) } else { Value::Null };
        Ok(value.unwrap_or(absent))
    }
}

/// Numbers and booleans become texts as they are spelled.
pub(super) fn text(raw: &str) -> Option<String> {
    match raw.as_bytes().first()? {
        b'"' => serde_json::from_str(raw).ok(),
        b'{' | b'[' => None,
        _ => Some(raw.to_owned()),
    }
}

/// Texts may be numbers; those that say nothing are none. What stands after a decimal point is dropped.
fn long(raw: &str) -> Option<Option<i64>> {
    if raw.starts_with('"') {
        let text = text(raw)?;
        return match text.trim() {
            "" | "null" => Some(None),
            digits => digits.parse().ok().map(Some),
        };
    }
    raw.parse().ok().or_else(|| truncated(raw.parse().ok()?)).map(Some)
}

fn truncated(number: f64) -> Option<i64> {
    // The bounds are powers of two, which are exact.
    let is_in_range = number > -9_223_372_036_854_775_808.0 && number < 9_223_372_036_854_775_808.0;
    #[expect(clippy::cast_possible_truncation, reason = "dropping the fraction is what is meant")]
    is_in_range.then_some(number as i64)
}

fn bytes(raw: &str) -> Option<Vec<u8>> {
    let text = raw.starts_with('"').then(|| text(raw))??;
    let base64: String = text.chars().filter(|c| *c > ' ').collect();
    BASE64.decode(base64).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(json: &str, form: Form) -> Result<Value, &'static str> {
        Fields::read(format!(r#"{{"a":1,"a":{json}}} trailing"#).as_bytes()).unwrap().value("a", form)
    }

    #[test]
    fn fields_become_what_jackson_makes_of_them() {
        let text = |text: &str| Ok(Value::Text(text.to_owned()));
        for (json, form, expected) in [
            (r#""b\u00e4\n""#, Form::Text, text("bä\n")),
            ("1.50", Form::Text, text("1.50")),
            ("-12345678901234567890123", Form::Text, text("-12345678901234567890123")),
            ("true", Form::Text, text("true")),
            ("null", Form::Text, Ok(Value::Null)),
            ("{}", Form::Text, Err("text")),
            ("[1]", Form::Text, Err("text")),
            (r#""\ud800""#, Form::Text, Err("text")),
            ("12", Form::Long, Ok(Value::Int(12))),
            ("-1.9e1", Form::Long, Ok(Value::Int(-19))),
            (r#"" 12 ""#, Form::Long, Ok(Value::Int(12))),
            (r#""""#, Form::Long, Ok(Value::Null)),
            (r#""""#, Form::LongOrZero, Ok(Value::Int(0))),
            ("null", Form::LongOrZero, Ok(Value::Int(0))),
            (r#""1.5""#, Form::Long, Err("number")),
            (r#""x""#, Form::Long, Err("number")),
            ("true", Form::Long, Err("number")),
            ("9223372036854775807", Form::Long, Ok(Value::Int(i64::MAX))),
            ("9223372036854775808", Form::Long, Err("number")),
            ("1e400", Form::Long, Err("number")),
            ("2147483648", Form::Int, Err("number of 32 bits")),
            ("3", Form::Int, Ok(Value::Int(3))),
            (r#""YQ==\n""#, Form::Bytes, Ok(Value::Bytes(b"a".to_vec()))),
            (r#""YR==""#, Form::Bytes, Ok(Value::Bytes(b"a".to_vec()))),
            (r#""YQ""#, Form::Bytes, Err("Base64")),
            ("1", Form::Bytes, Err("Base64")),
        ] {
            assert_eq!(value(json, form), expected, "{json}");
        }
    }

    #[test]
    fn fields_that_nobody_asks_for_may_be_anything_that_is_json() {
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        for json in ["1e999", r#""\ud800""#, &deep] {
            assert!(Fields::read(format!(r#"{{"b":{json}}}"#).as_bytes()).is_ok(), "{json}");
        }
        for broken in ["", "[]", "null", "{", r#"{"a":tru}"#, r#"{"a":1,}"#] {
            assert!(Fields::read(broken.as_bytes()).is_err(), "{broken}");
        }
    }
}
