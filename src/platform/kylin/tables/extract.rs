//! From a document to the values of its row.

use std::fmt::Write;

use md5::{Digest, Md5};

use super::fields::Fields;
use super::{Column, EXPRESSION_MD5, Form, RESERVED, Release, Sql, Value};
use crate::platform::kylin::content::text_field;
use crate::platform::kylin::kind::{Home, Kind};

/// What the audit log has for the project of a document that belongs to none.
const GLOBAL: &str = "_global";

/// Longest UUID that the audit log has room for.
const AUDIT_UUID_CHARS_MAX: usize = 36;

/// Why a document can't be a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRow {
    /// It is no JSON object.
    #[error("its JSON is broken: {0}")]
    Broken(String),
    /// A column must have a value, and the JSON has none.
    #[error("its JSON has no `{field}`, but the column {column} must have a value")]
    Missing {
        /// The field.
        field: &'static str,
        /// The column.
        column: String,
    },
    /// A field is of another type than Kylin expects. With such a field Kylin reads no other one.
    #[error("the field `{field}` of its JSON is no {wanted}")]
    Unfit {
        /// The field.
        field: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// A value does not fit into its column.
    #[error("the field `{field}` of its JSON has {chars} characters, more than the {chars_max} of the column {column}")]
    TooLong {
        /// The field.
        field: &'static str,
        /// The column.
        column: String,
        /// How many the value has.
        chars: usize,
        /// How many the column can hold.
        chars_max: u32,
    },
    /// A value holds the character NUL, which PostgreSQL can't store and no name has.
    #[error("the field `{field}` of its JSON holds a NUL character")]
    Nul {
        /// The field.
        field: &'static str,
    },
}

/// Returns the values of those columns of the kind's table that are filled from the JSON: of all but `id`, `meta_key`,
/// `mvcc`, `ts`, `content`, and those that nothing is known of. A field that is absent gives [`Value::Null`], but for the
/// name of a project: Kylin takes the key for it when it loads the document.
///
/// # Errors
/// When the document can't be a row of this table, or Kylin could not read it from there.
pub fn extract<'c>(
    kind: Kind,
    key: &[u8],
    content: &[u8],
    columns: &'c [Column],
    release: Release,
) -> Result<Vec<(&'c str, Value)>, NoRow> {
    let fields = Fields::read(content).map_err(|error| NoRow::Broken(error.to_string()))?;
    check_base(&fields)?;
    let mut values = Vec::with_capacity(columns.len());
    for column in columns {
        let mut rules = kind.columns().iter().chain(RESERVED).chain(kind.columns_of_v500());
        let Some(rule) = rules.find(|rule| rule.column == column.name) else { continue };
        let mut value = bind(&fields, rule.field, rule.form)?;
        if value == Value::Null && release == Release::V500 {
            value = v500(kind, &fields, rule.column)?;
        }
        let value = match (value, rule.sql) {
            (Value::Null, _) if (kind, rule.column) == (Kind::Project, PROJECT_NAME) => {
                match std::str::from_utf8(key) {
                    Ok(key) => Value::Text(key.to_owned()),
                    Err(_) => Value::Null,
                }
            }
            (Value::Int(number), Sql::Varchar(_)) => Value::Text(number.to_string()),
            (value, _) => value,
        };
        check(&value, rule.field, column)?;
        values.push((column.name.as_str(), value));
    }
    Ok(values)
}

/// The column of a project's name.
const PROJECT_NAME: &str = "name";

/// Checks the fields that Kylin reads of every document and makes nothing of.
fn check_base(fields: &Fields<'_>) -> Result<(), NoRow> {
    let base = [
        ("id", Form::Long),
        ("ts", Form::Long),
        ("mvcc", Form::Long),
        ("meta_key", Form::Text),
        ("uuid", Form::Text),
        ("project", Form::Text),
        ("content", Form::Bytes),
    ];
    for (field, form) in base.into_iter().chain(RESERVED.iter().map(|rule| (rule.field, rule.form))) {
        bind(fields, field, form)?;
    }
    Ok(())
}

fn bind(fields: &Fields<'_>, field: &'static str, form: Form) -> Result<Value, NoRow> {
    fields.value(field, form).map_err(|wanted| NoRow::Unfit { field, wanted })
}

/// Returns what 5.0.0 has in a column for whose later source the JSON has no value.
fn v500(kind: Kind, fields: &Fields<'_>, column: &str) -> Result<Value, NoRow> {
    match (kind, column) {
        (Kind::ComputeColumn, EXPRESSION_MD5) => Ok(match bind(fields, "expression", Form::Text)? {
            Value::Text(expression) => Value::Text(md5_hex(&expression)),
            _ => Value::Null,
        }),
        (Kind::LogicalView, "project") => bind(fields, "project", Form::Text),
        _ => Ok(Value::Null),
    }
}

fn md5_hex(text: &str) -> String {
    Md5::digest(text).iter().fold(String::with_capacity(32), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a text takes what is written");
        hex
    })
}

/// Checks that a column takes a value.
pub(super) fn check(value: &Value, field: &'static str, column: &Column) -> Result<(), NoRow> {
    let Value::Text(text) = value else {
        let is_missing = *value == Value::Null && !column.is_nullable;
        return if is_missing { Err(NoRow::Missing { field, column: column.name.clone() }) } else { Ok(()) };
    };
    if text.contains('\0') {
        return Err(NoRow::Nul { field });
    }
    let chars = text.chars().count();
    match column.chars_max {
        Some(chars_max) if chars > chars_max as usize => {
            Err(NoRow::TooLong { field, column: column.name.clone(), chars, chars_max })
        }
        _ => Ok(()),
    }
}

/// Returns what the audit log has in its column `model_uuid` for a document.
pub fn audit_model_uuid(kind: Kind, content: &[u8]) -> Option<String> {
    let field = match kind {
        Kind::Model | Kind::Dataflow | Kind::IndexPlan | Kind::FusionModel => "uuid",
        Kind::Segment | Kind::CcModelRelation | Kind::TableModelRelation => "model_uuid",
        Kind::StreamingJob => "model_id",
        Kind::Layout | Kind::LayoutDetails => "dataflow",
        _ => return None,
    };
    let uuid = text_field(content, field).ok()?;
    (uuid.chars().count() <= AUDIT_UUID_CHARS_MAX).then(|| uuid.into_owned())
}

/// Returns what the audit log has in its column `project` for a document: `_global` if it belongs to no project, none if
/// it does not say to which.
pub fn audit_project(kind: Kind, content: &[u8]) -> Option<String> {
    match kind.facts().home {
        Home::Field(field) => text_field(content, field).ok().map(std::borrow::Cow::into_owned),
        Home::Global | Home::Key | Home::ProjectUuid => Some(GLOBAL.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::kylin::kind::ALL;

    fn column(name: &str) -> Column {
        Column { name: name.to_owned(), is_nullable: true, chars_max: None }
    }

    fn row(kind: Kind, json: &str, column: Column, release: Release) -> Result<Option<Value>, NoRow> {
        let columns = [column];
        let mut values = extract(kind, b"the key", json.as_bytes(), &columns, release)?;
        assert!(values.len() <= 1);
        Ok(values.pop().map(|(name, value)| {
            assert_eq!(name, columns[0].name);
            value
        }))
    }

    #[test]
    fn columns_have_the_values_of_their_fields() {
        let text = |text: &str| Some(Value::Text(text.to_owned()));
        let json = r#"{"uuid":"u","project":"p","model_id":"m","created_project":"cp","layout":20001,"dataflow":"d",
            "database":"DB","name":"N","date":1571011200000,"comment":true,"referenceCount":2,"table_identity":"DB.N",
            "expression":"a + b","reserved_filed_1":"r","jar_type":"T"}"#;
        let (old, new) = (Release::V500, Release::V502);
        for (kind, name, release, expected) in [
            (Kind::Model, "uuid", new, text("u")),
            (Kind::Model, "project", new, text("p")),
            (Kind::Model, "alias", new, Some(Value::Null)),
            (Kind::Model, "reserved_filed_1", new, text("r")),
            (Kind::Model, "reserved_filed_2", new, Some(Value::Null)),
            (Kind::StreamingJob, "model_uuid", old, text("m")),
            (Kind::LogicalView, "project", new, text("cp")),
            (Kind::LogicalView, "project", old, text("cp")),
            (Kind::LayoutDetails, "layout_id", new, text("20001")),
            (Kind::Layout, "dataflow_id", new, text("d")),
            (Kind::TableInfo, "db_name", new, text("DB")),
            (Kind::TableInfo, "table_identity", old, text("DB.N")),
            (Kind::KafkaConfig, "db", new, text("DB")),
            (Kind::JobStats, "time_of_day", new, Some(Value::Int(1_571_011_200_000))),
            (Kind::ComputeColumn, "cc_comment", new, text("true")),
            (Kind::ComputeColumn, "reference_count", new, Some(Value::Int(2))),
            (Kind::ComputeColumn, "expression_md5", new, Some(Value::Null)),
            (Kind::ComputeColumn, "expression_md5", old, text("4cc0d03c7d577c8204d58d152375ddc9")),
            (Kind::HistorySourceUsage, "create_time", new, Some(Value::Int(0))),
            (Kind::FusionModel, "model_uuid", old, text("u")),
            (Kind::FusionModel, "model_uuid", new, text("u")),
        ] {
            assert_eq!(row(kind, json, column(name), release), Ok(expected), "{kind} {name}");
        }
        for name in ["id", "meta_key", "mvcc", "ts", "content", "of_another_hand"] {
            assert_eq!(row(Kind::Model, json, column(name), new), Ok(None), "{name}");
        }
        assert_eq!(row(Kind::Project, r#"{"uuid":"u"}"#, column("name"), new), Ok(text("the key")));
        assert_eq!(row(Kind::Project, r#"{"name":"n"}"#, column("name"), new), Ok(text("n")));
        assert_eq!(row(Kind::System, r#"{"uuid":"u"}"#, column("name"), new), Ok(Some(Value::Null)));
        let only_project = r#"{"project":"p"}"#;
        assert_eq!(row(Kind::LogicalView, only_project, column("project"), old), Ok(text("p")));
        assert_eq!(row(Kind::LogicalView, only_project, column("project"), new), Ok(Some(Value::Null)));
        let with_md5 = r#"{"expression":"a","expressionMD5":"given"}"#;
        assert_eq!(row(Kind::ComputeColumn, with_md5, column("expression_md5"), old), Ok(text("given")));
    }

    #[test]
    fn what_can_be_no_row_is_told() {
        let uuid = || Column { is_nullable: false, chars_max: Some(3), ..column("uuid") };
        for (json, expected) in [
            ("{}", "its JSON has no `uuid`, but the column uuid must have a value"),
            (r#"{"uuid":null}"#, "its JSON has no `uuid`, but the column uuid must have a value"),
            (r#"{"uuid":{}}"#, "the field `uuid` of its JSON is no text"),
            (r#"{"uuid":"äöüß"}"#, "the field `uuid` of its JSON has 4 characters, more than the 3 of the column uuid"),
            (r#"{"uuid":"a\u0000"}"#, "the field `uuid` of its JSON holds a NUL character"),
            (r#"{"uuid":"u","id":"x"}"#, "the field `id` of its JSON is no number"),
            (r#"{"uuid":"u","content":"x"}"#, "the field `content` of its JSON is no Base64"),
            (r#"{"uuid":"u""#, "its JSON is broken: EOF while parsing an object at line 1 column 11"),
        ] {
            let no_row = row(Kind::Dataflow, json, uuid(), Release::V502).unwrap_err();
            assert_eq!(no_row.to_string(), expected, "{json}");
        }
        for json in [r#"{"uuid":"äöü"}"#, r#"{"uuid":123,"id":"7"}"#] {
            assert!(row(Kind::Dataflow, json, uuid(), Release::V502).is_ok(), "{json}");
        }
    }

    #[test]
    fn audit_log_has_the_model_and_the_project() {
        let json =
            br#"{"uuid":"u","model_uuid":"mu","model_id":"mi","dataflow":"d","project":"p","created_project":"cp"}"#;
        let by_uuid = |wanted: Option<&str>| {
            let with = |kind: &Kind| audit_model_uuid(*kind, json).as_deref() == wanted;
            ALL.into_iter().filter(with).map(Kind::name).collect::<Vec<_>>()
        };
        assert_eq!(by_uuid(Some("u")), ["DATAFLOW", "FUSION_MODEL", "INDEX_PLAN", "MODEL"]);
        assert_eq!(by_uuid(Some("mu")), ["CC_MODEL_RELATION", "SEGMENT", "TABLE_MODEL_RELATION"]);
        assert_eq!(by_uuid(Some("mi")), ["STREAMING_JOB"]);
        assert_eq!(by_uuid(Some("d")), ["LAYOUT", "LAYOUT_DETAILS"]);
        assert_eq!(by_uuid(None).len(), 21);
        assert_eq!(audit_model_uuid(Kind::Model, br#"{"uuid":"a123456789b123456789c123456789d123456"}"#), None);
        for (kind, expected) in [
            (Kind::Model, Some("p")),
            (Kind::LogicalView, Some("cp")),
            (Kind::Project, Some("_global")),
            (Kind::ObjectAcl, Some("_global")),
            (Kind::UserInfo, Some("_global")),
        ] {
            assert_eq!(audit_project(kind, json).as_deref(), expected);
        }
        assert_eq!(audit_project(Kind::Model, b"{}"), None);
    }
}
