//! Documents for the tests of rules.

use super::{Examination, Fault, Generation, examine};
use crate::model::path::EntryPath;

/// A small store without faults.
pub(super) const SOUND: [(&str, &str); 20] = [
    ("_global/SYSTEM/UUID", r#"{"uuid":"s","name":"UUID"}"#),
    ("p/PROJECT/p", r#"{"uuid":"P","name":"p"}"#),
    ("p/OBJECT_ACL/P", r#"{"uuid":"o","project":"_global","domainObjectInfo":{"id":"P"}}"#),
    (
        "p/MODEL/m",
        r#"{"uuid":"m","project":"p","alias":"a","fact_table":"D.T","join_tables":[{"table":"D.K"}],"computed_column_uuids":["c"]}"#,
    ),
    ("p/INDEX_PLAN/m", r#"{"uuid":"m","project":"p"}"#),
    ("p/DATAFLOW/m", r#"{"uuid":"m","project":"p","segment_uuids":["s"]}"#),
    ("p/SEGMENT/s", r#"{"uuid":"s","project":"p","model_uuid":"m"}"#),
    ("p/LAYOUT/s", r#"{"uuid":"s","project":"p","dataflow":"m"}"#),
    ("p/LAYOUT_DETAILS/m-1", r#"{"uuid":"d","project":"p","dataflow":"m","layout":1}"#),
    ("p/COMPUTE_COLUMN/c", r#"{"uuid":"c","project":"p","tableIdentity":"D.T","columnName":"C"}"#),
    ("p/CC_MODEL_RELATION/r", r#"{"uuid":"r","project":"p","cc_uuid":"c","model_uuid":"m"}"#),
    ("p/TABLE_MODEL_RELATION/r", r#"{"uuid":"r","project":"p","table_identity":"D.T","model_uuid":"m"}"#),
    ("p/TABLE_MODEL_RELATION/r2", r#"{"uuid":"r2","project":"p","table_identity":"D.K","model_uuid":"m"}"#),
    ("p/TABLE_INFO/p.D.T", r#"{"uuid":"t","project":"p","database":"D","name":"T"}"#),
    ("p/TABLE_INFO/p.D.K", r#"{"uuid":"k","project":"p","database":"D","name":"K"}"#),
    ("p/TABLE_EXD/p.D.T", r#"{"uuid":"t","project":"p","table_name":"D.T"}"#),
    ("p/KAFKA_CONFIG/p.D.K", r#"{"uuid":"k","project":"p","database":"D","name":"K","parser_name":"x.P"}"#),
    ("p/DATA_PARSER/p.x.P", r#"{"uuid":"q","project":"p","class_name":"x.P","jar_name":"j.jar"}"#),
    ("p/JAR_INFO/p.T_j.jar", r#"{"uuid":"j","project":"p","jar_type":"T","jar_name":"j.jar"}"#),
    ("p/STREAMING_JOB/m_build", r#"{"uuid":"m_build","project":"p","model_id":"m"}"#),
];

/// Examines documents, and returns all faults.
pub(super) fn faults(generation: Generation, documents: &[(&str, &str)], is_system: bool) -> Vec<Fault> {
    let mut examination = Examination::new(generation);
    for (path, content) in documents {
        let path = EntryPath::new(path.as_bytes()).expect("samples have good paths");
        examination.push(examine(generation, &path, content.as_bytes()));
    }
    examination.finish(is_system)
}

/// Examines documents, and compares the faults, written as rule, path and subject, with those expected in the order of texts.
#[track_caller]
pub(super) fn check(generation: Generation, documents: &[(&str, &str)], expected: &[&str]) {
    let found = faults(generation, documents, false);
    let mut found: Vec<_> =
        found.iter().map(|fault| format!("{} {} {}", fault.rule, fault.path, fault.subject)).collect();
    found.sort_unstable();
    assert_eq!(found, expected, "{documents:#?}");
}

/// Returns the names of the rules that one document breaks by itself.
pub(super) fn rules_of(generation: Generation, path: &str, content: &str) -> String {
    let path = EntryPath::new(path.as_bytes()).expect("samples have good paths");
    let examined = examine(generation, &path, content.as_bytes());
    examined.faults().iter().map(|fault| fault.rule.as_str()).collect::<Vec<_>>().join(" ")
}
