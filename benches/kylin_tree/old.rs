//! The layout before 5.0.0: the same documents, put together as Kylin kept them then.

use std::collections::BTreeMap;
use std::fs::create_dir_all;
use std::io;
use std::path::Path;

use serde_json::{Map, Value};

use super::tree::{Held, Written, write};

/// Writes documents of the new layout, all of one project or of none, as documents of the old one.
pub fn write_old(root: &Path, held: Vec<Held>) -> io::Result<Written> {
    let (mut columns, mut segments) = (BTreeMap::new(), BTreeMap::<String, Vec<Value>>::new());
    let mut rest = Vec::new();
    for document in held {
        let mut fields: Map<String, Value> = serde_json::from_str(&document.content)?;
        match document.kind {
            "COMPUTE_COLUMN" => {
                for name in ["uuid", "project", "last_modified", "create_time", "version"] {
                    fields.remove(name);
                }
                columns.insert(document.key, Value::Object(fields));
            }
            "SEGMENT" => {
                let id = fields.remove("uuid").unwrap_or_default();
                let model = text(&fields, "model_uuid");
                for name in ["model_uuid", "project", "last_modified", "create_time", "version"] {
                    fields.remove(name);
                }
                fields.insert("id".to_owned(), id);
                segments.entry(model).or_default().push(Value::Object(fields));
            }
            _ => rest.push((document, fields)),
        }
    }
    let mut written = Written::default();
    for (document, mut fields) in rest {
        let Some(name) = name_of(&document, &fields) else { continue };
        match document.kind {
            "MODEL" => {
                let uuids = fields.remove("computed_column_uuids").unwrap_or_default();
                let of_model = uuids.as_array().into_iter().flatten().filter_map(Value::as_str);
                let of_model = of_model.filter_map(|uuid| columns.get(uuid).cloned());
                fields.insert("computed_columns".to_owned(), of_model.collect());
            }
            "DATAFLOW" => {
                fields.remove("segment_uuids");
                fields.insert("segments".to_owned(), segments.remove(&document.key).unwrap_or_default().into());
            }
            _ => {}
        }
        fields.remove("project");
        let content = match document.kind {
            "SYSTEM" => identity(&text(&fields, "str")),
            _ => serde_json::to_string_pretty(&fields)?,
        };
        let path = root.join(name);
        create_dir_all(path.parent().unwrap_or(root))?;
        write(&path, document.modified, &content)?;
        written = written.plus(Written { documents: 1, bytes: content.len() as u64 });
    }
    Ok(written)
}

fn text(fields: &Map<String, Value>, name: &str) -> String {
    fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Returns the identity of a store as Java writes a text: after its length in two bytes.
fn identity(uuid: &str) -> String {
    let length = char::from(u8::try_from(uuid.len()).unwrap_or(0));
    format!("\0{length}{uuid}")
}

/// Returns the name of a document in the old layout; nothing for what that does not have.
fn name_of(document: &Held, fields: &Map<String, Value>) -> Option<String> {
    let (key, project) = (&document.key, text(fields, "project"));
    let tail = key.strip_prefix(&project).and_then(|tail| tail.strip_prefix('.')).unwrap_or(key);
    let global = |folder: &str, suffix: &str| Some(format!("_global/{folder}/{key}{suffix}"));
    let own = |folder: &str, key: &str| Some(format!("{project}/{folder}/{key}.json"));
    match document.kind {
        "PROJECT" => global("project", ".json"),
        "OBJECT_ACL" => global("acl", ""),
        "USER_INFO" => global("user", ""),
        "USER_GROUP" => global("user_group", ""),
        "USER_GLOBAL_ACL" => global("sys_acl/user", ""),
        "RESOURCE_GROUP" => global("resource_group", ".json"),
        "HISTORY_SOURCE_USAGE" => global("history_source_usage", ".json"),
        "SQL_BLACKLIST" => global("sql_blacklist", ".json"),
        "LOGICAL_VIEW" => global("logical_view", ""),
        "SYSTEM" => (key == "UUID").then(|| key.clone()),
        "MODEL" => own("model_desc", key),
        "INDEX_PLAN" => own("index_plan", key),
        "DATAFLOW" => own("dataflow", key),
        "LAYOUT" => own("dataflow_details", &format!("{}/{key}", text(fields, "dataflow"))),
        "FUSION_MODEL" => own("fusion_model", key),
        "STREAMING_JOB" => Some(format!("{project}/streaming/{key}")),
        "TABLE_INFO" => own("table", tail),
        "TABLE_EXD" => own("table_exd", tail),
        "KAFKA_CONFIG" => own("kafka", tail),
        "JAR_INFO" => own("jar", tail),
        "DATA_PARSER" => own("parser", tail),
        "JOB_STATS" => own("job_stats", tail),
        "QUERY_RECORD" => own("query", tail),
        "ACL" => {
            let (of, name) = tail.split_once('.')?;
            own(if of == "u" { "acl/user" } else { "acl/group" }, name)
        }
        _ => None,
    }
}
