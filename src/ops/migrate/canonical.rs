//! What documents of the new layout mean, whatever their ids of computed columns and relations, the order of fields and
//! the spelling of numbers: so that the results of two tools, or of one tool twice, can be compared.

use std::collections::BTreeMap;

use crate::model::path::EntryPath;
use crate::platform::kylin::json::Json;
use crate::platform::kylin::kind::Kind;

/// The fields of a computed column that count.
const COLUMN_FIELDS: [&str; 8] =
    ["tableIdentity", "tableAlias", "columnName", "expression", "innerExpression", "datatype", "comment", "project"];

/// What a document is compared by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Canonical {
    /// What it is, without ids that have no meaning.
    pub key: String,
    /// A hash of what it says.
    pub digest: u128,
}

/// Which computed column an id stands for.
pub(super) type Columns = BTreeMap<String, String>;

/// Splits the name of a document into its kind and key.
pub(super) fn split(name: &EntryPath) -> Option<(Kind, String)> {
    let mut parts = name.parts();
    let (folder, file) = (parts.next()?, parts.next()?);
    let key = std::str::from_utf8(file.strip_suffix(b".json")?).ok()?;
    (parts.next().is_none()).then_some((Kind::of_folder(folder)?, key.to_owned()))
}

fn fields(content: &[u8]) -> Option<Vec<(String, Json)>> {
    match Json::parse(content).ok()? {
        Json::Object(fields) => Some(fields),
        Json::Array(_) | Json::Scalar(_) => None,
    }
}

fn text(fields: &[(String, Json)], name: &str) -> String {
    let value = fields.iter().find(|(field, _)| field == name).map(|(_, value)| value);
    match value {
        Some(Json::Scalar(scalar)) => serde_json::from_str(scalar).unwrap_or_else(|_| scalar.to_string()),
        _ => String::new(),
    }
}

/// Adds what the id of a computed column stands for.
pub(super) fn learn(columns: &mut Columns, name: &EntryPath, content: &[u8]) {
    if let Some((Kind::ComputeColumn, key)) = split(name)
        && let Some(fields) = fields(content)
    {
        columns.insert(key, identity(&fields));
    }
}

fn identity(fields: &[(String, Json)]) -> String {
    ["project", "tableIdentity", "columnName"].map(|name| text(fields, name)).join("/")
}

/// Returns a relation to a computed column with the id that `ids` has for it.
pub(super) fn with_ids(content: &[u8], columns: &Columns, ids: &BTreeMap<String, String>) -> Vec<u8> {
    let Some(mut fields) = fields(content) else { return content.to_vec() };
    let id = columns.get(&text(&fields, "cc_uuid")).and_then(|column| ids.get(column));
    if let Some(id) = id
        && let Some((_, value)) = fields.iter_mut().find(|(field, _)| field == "cc_uuid")
    {
        *value = Json::Scalar(serde_json::Value::from(id.as_str()).to_string().into_boxed_str());
    }
    Json::Object(fields).to_bytes()
}

/// Returns what a document is compared by.
pub(super) fn canonical(name: &EntryPath, content: &[u8], columns: &Columns) -> Canonical {
    let as_it_is = || Canonical { key: name.to_string(), digest: first_bytes(&blake3::hash(content)) };
    let Some((kind, key)) = split(name) else { return as_it_is() };
    let Some(mut fields) = fields(content) else { return as_it_is() };
    let column = |id: String| columns.get(&id).cloned().unwrap_or(id);
    let key = match kind {
        Kind::ComputeColumn => {
            let key = identity(&fields);
            fields.retain(|(field, _)| COLUMN_FIELDS.contains(&field.as_str()));
            key
        }
        Kind::CcModelRelation => {
            let key = [text(&fields, "project"), text(&fields, "model_uuid"), column(text(&fields, "cc_uuid"))];
            fields.clear();
            key.join("/")
        }
        Kind::TableModelRelation => {
            let key = ["project", "model_uuid", "table_identity"].map(|name| text(&fields, name));
            fields.clear();
            key.join("/")
        }
        _ => key,
    };
    fields.retain(|(field, _)| !is_void(kind, &key, field));
    let mut hasher = blake3::Hasher::new();
    for (_, value) in fields.iter_mut().filter(|(field, _)| field == "computed_column_uuids") {
        if let Json::Array(ids) = value {
            for id in ids {
                if let Json::Scalar(scalar) = id {
                    let old: String = serde_json::from_str(scalar).unwrap_or_default();
                    *scalar = serde_json::Value::from(column(old)).to_string().into_boxed_str();
                }
            }
        }
    }
    hash(&Json::Object(fields), &mut hasher);
    Canonical { key: format!("{kind}/{key}"), digest: first_bytes(&hasher.finalize()) }
}

/// Tells whether a field says nothing, or is left over from earlier versions of Kylin's tool.
fn is_void(kind: Kind, key: &str, field: &str) -> bool {
    match (kind, field) {
        (_, "meta_key") | (Kind::Project, "project") | (Kind::Layout, "dataflow_id") => true,
        (Kind::System, "create_time" | "version") => true,
        (Kind::System, "uuid") => key == "VERSION",
        _ => false,
    }
}

fn first_bytes(hash: &blake3::Hash) -> u128 {
    u128::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"))
}

fn hash(value: &Json, hasher: &mut blake3::Hasher) {
    let mut add = |mark: u8, text: &[u8]| {
        hasher.update(&[mark]);
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text);
    };
    match value {
        Json::Object(fields) => {
            add(b'{', &(fields.len() as u64).to_le_bytes());
            let mut sorted: Vec<&(String, Json)> = fields.iter().collect();
            sorted.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            for (name, value) in sorted {
                hasher.update(&(name.len() as u64).to_le_bytes());
                hasher.update(name.as_bytes());
                hash(value, hasher);
            }
        }
        Json::Array(values) => {
            add(b'[', &(values.len() as u64).to_le_bytes());
            values.iter().for_each(|value| hash(value, hasher));
        }
        Json::Scalar(scalar) if scalar.starts_with('"') => {
            let text = serde_json::from_str::<String>(scalar).unwrap_or_else(|_| scalar.to_string());
            add(b'"', text.as_bytes());
        }
        Json::Scalar(scalar) => match scalar.parse::<f64>() {
            // Whole numbers have one spelling each, but for those that a fraction or an exponent makes whole.
            Ok(number) if scalar.contains(['.', 'e', 'E']) || number.abs() < 9e15 => {
                add(b'0', &number.to_bits().to_le_bytes());
            }
            _ => add(b'_', scalar.as_bytes()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> EntryPath {
        EntryPath::new(text.as_bytes()).unwrap()
    }

    fn of(path: &str, content: &str) -> Canonical {
        let columns = Columns::from([("c1".to_owned(), "p/T/C".to_owned()), ("c2".to_owned(), "p/T/C".to_owned())]);
        canonical(&name(path), content.as_bytes(), &columns)
    }

    #[test]
    fn ids_without_meaning_do_not_count() {
        for (one, other) in [
            (
                of("MODEL/m.json", r#"{"a":1,"computed_column_uuids":["c1"]}"#),
                of("MODEL/m.json", r#"{"computed_column_uuids":["c2"],"a":1.0}"#),
            ),
            (
                of("CC_MODEL_RELATION/r.json", r#"{"project":"p","model_uuid":"m","cc_uuid":"c1","uuid":"r"}"#),
                of("CC_MODEL_RELATION/s.json", r#"{"project":"p","model_uuid":"m","cc_uuid":"c2","uuid":"s"}"#),
            ),
            (
                of("COMPUTE_COLUMN/c1.json", r#"{"project":"p","tableIdentity":"T","columnName":"C","uuid":"c1"}"#),
                of(
                    "COMPUTE_COLUMN/c2.json",
                    r#"{"project":"p","tableIdentity":"T","columnName":"C","uuid":"c2","version":"5"}"#,
                ),
            ),
            (of("_REC/p.m.json", r#"{"é":"\u00e9"}"#), of("TMP_REC/p.m.json", r#"{"\u00e9":"é"}"#)),
            (
                of("SYSTEM/VERSION.json", r#"{"uuid":"1","create_time":1,"str":"v"}"#),
                of("SYSTEM/VERSION.json", r#"{"uuid":"2","create_time":2,"str":"v"}"#),
            ),
        ] {
            assert_eq!(one, other);
        }
    }

    #[test]
    fn relations_mean_the_same_where_their_columns_do() {
        let mut columns = Columns::new();
        for (id, column) in [("c1", "C"), ("c2", "C"), ("c3", "D")] {
            let content = format!(r#"{{"uuid":"{id}","project":"p","tableIdentity":"T","columnName":"{column}"}}"#);
            learn(&mut columns, &name(&format!("COMPUTE_COLUMN/{id}.json")), content.as_bytes());
        }
        let relation = |id: &str| {
            let content = format!(r#"{{"project":"p","model_uuid":"m","cc_uuid":"{id}"}}"#);
            canonical(&name("CC_MODEL_RELATION/r.json"), content.as_bytes(), &columns)
        };
        assert_eq!(relation("c1"), relation("c2"));
        assert_ne!(relation("c1"), relation("c3"));
        assert_ne!(relation("c1"), relation("unknown"));
        let ids = BTreeMap::from([("p/T/C".to_owned(), "c9".to_owned())]);
        let translated = with_ids(br#"{"cc_uuid":"c2","model_uuid":"m"}"#, &columns, &ids);
        assert_eq!(text(&fields(&translated).unwrap(), "cc_uuid"), "c9");
    }

    #[test]
    fn all_else_counts() {
        for (one, other) in [
            (of("MODEL/m.json", r#"{"a":[1,2]}"#), of("MODEL/m.json", r#"{"a":[2,1]}"#)),
            (of("MODEL/m.json", r#"{"a":"1"}"#), of("MODEL/m.json", r#"{"a":1}"#)),
            (of("MODEL/m.json", r#"{"a":1}"#), of("MODEL/n.json", r#"{"a":1}"#)),
            // As floats these were one number.
            (of("MODEL/m.json", r#"{"a":9007199254740993}"#), of("MODEL/m.json", r#"{"a":9007199254740992}"#)),
            (
                of("TABLE_MODEL_RELATION/r.json", r#"{"project":"p","model_uuid":"m","table_identity":"T"}"#),
                of("TABLE_MODEL_RELATION/r.json", r#"{"project":"p","model_uuid":"m","table_identity":"U"}"#),
            ),
            (of("SYSTEM/UUID.json", r#"{"uuid":"1"}"#), of("SYSTEM/UUID.json", r#"{"uuid":"2"}"#)),
            (of("MODEL/m.json", "{"), of("MODEL/m.json", "{}")),
        ] {
            assert_ne!(one, other);
        }
    }
}
