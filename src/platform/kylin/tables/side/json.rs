//! From a row to the JSON of a backup, and back.

use std::fmt::Write;

use super::{SideField, SideForm, SideTable};
use crate::platform::kylin::encoding::{self, Corrupt, Decoded};
use crate::platform::kylin::tables::extract::{NoRow, check};
use crate::platform::kylin::tables::fields::{Fields, text};
use crate::platform::kylin::tables::{Column, Form, Sql, Value};

/// Largest content of a job that is taken for one.
const JOB_BYTES_MAX: u64 = 256 << 20;

/// Why a row can't be a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoDocument {
    /// A value is of another type than the table's.
    #[error("its column {column} holds no {wanted}")]
    Unfit {
        /// The column.
        column: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// The content of a job can't be decoded.
    #[error("its column job_content can't be decoded")]
    Corrupt(#[from] Corrupt),
    /// The content of a job is larger than any is.
    #[error("its column job_content stands for more than {bytes_max} bytes")]
    TooLarge {
        /// How many are read.
        bytes_max: u64,
    },
}

impl SideTable {
    /// Returns a row as a document of a backup: the stem of its file's name, and one line of JSON. Columns that are not
    /// given have no value. A boolean may also be a number, and a text bytes.
    ///
    /// # Errors
    /// When a value is none of the table's, or the content of a job can't be decoded.
    pub fn to_json(self, values: &[(&str, Value)]) -> Result<(String, Vec<u8>), NoDocument> {
        let value = |column| values.iter().find(|(name, _)| *name == column).map_or(&Value::Null, |(_, value)| value);
        let mut json = String::from("{");
        for (index, field) in self.fields().iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let spelled = spell(field, value(field.column))?;
            write!(json, "{comma}\"{}\":{spelled}", field.field).expect("a text takes what is written");
        }
        json.push('}');
        let part = |column| match value(column) {
            Value::Int(number) => Ok(number.to_string()),
            value => as_text(column, value).map(str::to_owned),
        };
        let key = match self {
            Self::JobInfo => part("job_id")?,
            Self::FavoriteRule => part("id")?,
            Self::QueryHistoryOffset => format!("{}_{}", part("id")?, part("type")?),
        };
        Ok((key, json.into_bytes()))
    }

    /// Returns the row that a document of a backup stands for: all columns, with the `id` it had in its database. Another
    /// one had better choose its own: it may be taken, and MySQL chooses one for 0.
    ///
    /// # Errors
    /// When it can't be a row.
    pub fn from_json(self, content: &[u8]) -> Result<Vec<(&'static str, Value)>, NoRow> {
        let fields = Fields::read(content).map_err(|error| NoRow::Broken(error.to_string()))?;
        self.sides()
            .map(|side| {
                let value = read(&fields, side)?;
                check(&value, side.field, &side.column_made())?;
                Ok((side.column, value))
            })
            .collect()
    }
}

impl SideField {
    /// The column as we make it.
    fn column_made(&self) -> Column {
        let chars_max = match self.sql {
            Sql::Varchar(chars) => Some(u32::from(chars)),
            _ => None,
        };
        Column { name: self.column.to_owned(), is_nullable: self.is_nullable, chars_max }
    }
}

fn read(fields: &Fields<'_>, side: &SideField) -> Result<Value, NoRow> {
    let unfit = |wanted| NoRow::Unfit { field: side.field, wanted };
    let raw = fields.raw(side.field);
    match (side.form, raw) {
        (SideForm::Number, _) if side.is_nullable => fields.value(side.field, Form::Long).map_err(unfit),
        (SideForm::Number, _) => fields.value(side.field, Form::LongOrZero).map_err(unfit),
        (SideForm::Text, _) => fields.value(side.field, Form::Text).map_err(unfit),
        (SideForm::Flag, Some("true")) => Ok(Value::Bool(true)),
        (SideForm::Flag, Some("false")) => Ok(Value::Bool(false)),
        (SideForm::Flag, Some(_)) => Err(unfit("boolean")),
        (SideForm::Json, Some(raw)) => Ok(Value::Text(one_line(raw))),
        // It should be a text, but an object says the same.
        (SideForm::Job, Some(raw)) if raw.starts_with('{') => Ok(Value::Bytes(encoding::encode(raw.as_bytes()))),
        (SideForm::Job, Some(raw)) => {
            Ok(Value::Bytes(encoding::encode(text(raw).ok_or_else(|| unfit("text"))?.as_bytes())))
        }
        (_, None) | (SideForm::Nothing, _) => Ok(Value::Null),
    }
}

/// Returns the value of a column as the JSON of its field.
fn spell(field: &SideField, value: &Value) -> Result<String, NoDocument> {
    let unfit = |wanted| Err(NoDocument::Unfit { column: field.column, wanted });
    match (field.form, value) {
        (SideForm::Nothing, _) => Ok("null".to_owned()),
        (_, Value::Null) if field.is_nullable => Ok("null".to_owned()),
        (SideForm::Number, Value::Int(number)) => Ok(number.to_string()),
        (SideForm::Number, _) => unfit("number"),
        (SideForm::Text, value) => as_text(field.column, value).map(quote),
        (SideForm::Flag, Value::Bool(flag)) => Ok(flag.to_string()),
        (SideForm::Flag, Value::Int(number)) => Ok((*number != 0).to_string()),
        (SideForm::Flag, _) => unfit("boolean"),
        (SideForm::Json, value) => match serde_json::from_str(as_text(field.column, value)?) {
            Ok(serde::de::IgnoredAny) => as_text(field.column, value).map(one_line),
            Err(_) => unfit("JSON"),
        },
        (SideForm::Job, Value::Bytes(stored)) => {
            let mut content = Vec::new();
            match encoding::decode(stored, JOB_BYTES_MAX, &mut content)? {
                Decoded::TooLarge => Err(NoDocument::TooLarge { bytes_max: JOB_BYTES_MAX }),
                Decoded::Plain | Decoded::Encoded => String::from_utf8(content).map_or_else(
                    |_| Err(NoDocument::Unfit { column: field.column, wanted: "UTF-8" }),
                    |text| Ok(quote(&text)),
                ),
            }
        }
        (SideForm::Job, _) => unfit("bytes"),
    }
}

fn as_text<'v>(column: &'static str, value: &'v Value) -> Result<&'v str, NoDocument> {
    let text = match value {
        Value::Text(text) => Some(text.as_str()),
        Value::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
        Value::Null | Value::Int(_) | Value::Bool(_) => None,
    };
    text.ok_or(NoDocument::Unfit { column, wanted: "text" })
}

fn quote(text: &str) -> String {
    serde_json::to_string(text).expect("every text can be JSON")
}

/// Drops the white space between the tokens of a JSON: Kylin reads the first line of a file.
fn one_line(json: &str) -> String {
    let (mut is_in_text, mut is_escaped) = (false, false);
    let stays = |c: &char| {
        is_in_text ^= *c == '"' && !is_escaped;
        is_escaped = is_in_text && *c == '\\' && !is_escaped;
        is_in_text || !c.is_ascii_whitespace()
    };
    json.chars().filter(stays).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn rule(conds: Value, enabled: Value) -> Vec<(&'static str, Value)> {
        vec![
            ("id", Value::Int(7)),
            ("project", text("p")),
            ("conds", conds),
            ("name", text("count")),
            ("enabled", enabled),
            ("update_time", Value::Int(2)),
            ("create_time", Value::Int(1)),
            ("mvcc", Value::Int(0)),
        ]
    }

    #[test]
    fn rules_are_documents_of_one_line() {
        let (key, json) = SideTable::FavoriteRule
            .to_json(&rule(text("[ {\n \"@type\" : \"a \\\" \\\\\", \"right\" : 1.0 } ]"), Value::Int(1)))
            .unwrap();
        assert_eq!(key, "7");
        let expected = r#"{"id":7,"project":"p","conds":[{"@type":"a \" \\","right":1.0}],"name":"count","enabled":true,"updateTime":2,"createTime":1,"mvcc":0}"#;
        assert_eq!(String::from_utf8(json).unwrap(), expected);
        let row = SideTable::FavoriteRule.from_json(expected.as_bytes()).unwrap();
        let conds = text(r#"[{"@type":"a \" \\","right":1.0}]"#);
        assert_eq!(row, rule(conds, Value::Bool(true)));
        assert_eq!(row.iter().map(|(column, _)| *column).collect::<Vec<_>>(), {
            SideTable::FavoriteRule.columns().collect::<Vec<_>>()
        });
    }

    #[test]
    fn offsets_are_named_by_id_and_type() {
        let values = [("id", Value::Int(3)), ("type", text("meta")), ("project", text("p")), ("mvcc", Value::Int(1))];
        let (key, json) = SideTable::QueryHistoryOffset.to_json(&values).unwrap();
        assert_eq!(key, "3_meta");
        let expected =
            r#"{"id":3,"project":"p","type":"meta","offset":null,"updateTime":null,"createTime":null,"mvcc":1}"#;
        assert_eq!(String::from_utf8(json).unwrap(), expected);
    }

    fn job(content: &[u8]) -> Vec<(&'static str, Value)> {
        let mut values: Vec<_> =
            ["job_id", "job_type", "job_status", "project", "subject"].map(|name| (name, text(name))).into();
        values.extend([("id", Value::Int(1)), ("job_duration_millis", Value::Int(0))]);
        values.push(("job_content", Value::Bytes(content.to_vec())));
        values
    }

    #[test]
    fn jobs_hold_their_content_as_text() {
        let content = b"{\n  \"uuid\" : \"job_id\"\n}";
        for stored in [encoding::encode(content), content.to_vec()] {
            let (key, json) = SideTable::JobInfo.to_json(&job(&stored)).unwrap();
            assert_eq!(key, "job_id");
            let expected = concat!(
                r#"{"id":1,"jobId":"job_id","jobType":"job_type","jobStatus":"job_status","project":"project","#,
                r#""subject":"subject","modelId":null,"createTime":null,"updateTime":null,"jobDurationMillis":0,"#,
                r#""jobContent":null,"mvcc":null,"priority":null,"jobInfoTable":null,"#,
                r#""jobContentJson":"{\n  \"uuid\" : \"job_id\"\n}"}"#
            );
            assert_eq!(String::from_utf8(json).unwrap(), expected);
            let row = SideTable::JobInfo.from_json(expected.as_bytes()).unwrap();
            assert_eq!(row.last(), Some(&("job_content", Value::Bytes(encoding::encode(content)))));
        }
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let job_info = SideTable::JobInfo;
        for (content, why) in [
            (&b"GZIPx"[..], "its column job_content can't be decoded"),
            (b"\xff", "its column job_content holds no UTF-8"),
        ] {
            assert_eq!(job_info.to_json(&job(content)).unwrap_err().to_string(), why);
        }
        let to_json = |values: &[_]| SideTable::FavoriteRule.to_json(values).unwrap_err().to_string();
        assert_eq!(to_json(&rule(text("[{"), Value::Null)), "its column conds holds no JSON");
        assert_eq!(to_json(&rule(Value::Null, text("yes"))), "its column enabled holds no boolean");
        assert_eq!(to_json(&rule(Value::Null, Value::Null)[1..]), "its column id holds no number");
        for (json, why) in [
            (r#"{"project":"p"}"#, "its JSON has no `type`, but the column type must have a value"),
            (r#"{"project":"p","type":{}}"#, "the field `type` of its JSON is no text"),
            (r#"{"project":"p","type":"meta","offset":"x"}"#, "the field `offset` of its JSON is no number"),
            ("[]", "its JSON is broken: invalid type: sequence, expected a map at line 1 column 0"),
        ] {
            assert_eq!(SideTable::QueryHistoryOffset.from_json(json.as_bytes()).unwrap_err().to_string(), why);
        }
        let least = SideTable::QueryHistoryOffset.from_json(br#"{"project":"p","type":"meta"}"#).unwrap();
        assert_eq!((&least[0], &least[6]), (&("id", Value::Int(0)), &("mvcc", Value::Int(0))));
    }

    proptest! {
        #[test]
        fn documents_survive_a_database(
            content in r"\PC*",
            subject in "[^\0]{0,50}",
            right in "[ a\\\\\"\n]*",
            flag in any::<bool>(),
        ) {
            let mut values = job(&encoding::encode(content.as_bytes()));
            values[4].1 = text(&subject);
            let first = SideTable::JobInfo.to_json(&values).unwrap();
            let row = SideTable::JobInfo.from_json(&first.1).unwrap();
            prop_assert_eq!(&SideTable::JobInfo.to_json(&row).unwrap(), &first);
            prop_assert!(!first.1.contains(&b'\n'));

            let conds = format!(" [\n {} ,\t{{ }}] ", quote(&right));
            let first = SideTable::FavoriteRule.to_json(&rule(text(&conds), Value::Int(flag.into()))).unwrap();
            // MySQL has numbers where PostgreSQL has booleans.
            let mut row = SideTable::FavoriteRule.from_json(&first.1).unwrap();
            prop_assert_eq!(&SideTable::FavoriteRule.to_json(&row).unwrap(), &first);
            row[4].1 = Value::Int(flag.into());
            prop_assert_eq!(&SideTable::FavoriteRule.to_json(&row).unwrap(), &first);
            let again: serde_json::Value = serde_json::from_slice(&first.1).unwrap();
            prop_assert_eq!(&again["conds"], &serde_json::from_str::<serde_json::Value>(&conds).unwrap());
        }
    }
}
