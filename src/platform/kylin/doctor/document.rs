//! The rules a document must keep by itself, and what is kept of it for the rules between documents.

use std::borrow::Cow;

use super::bind::{bindable, is_plain};
use super::examine::{Fact, Facts, Look};
use super::place::{Place, UNPLACED};
use super::read::{Field, List, Said};
use super::value::Value;
use super::{Generation, Rule};
use crate::platform::kylin::kind::{Home, KeyRule, Kind};

/// How far a document can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// In all it says.
    Sound,
    /// It is there, under a key that is not what it says.
    Misnamed,
    /// It is there, and that is all.
    Broken,
}

/// The parser that comes with Kylin is in no jar.
const DEFAULT_JAR: &str = "default";
/// Longest key, in characters.
const KEY_CHARS_MAX: usize = 255;

/// Checks the rules a document must keep by itself.
pub(super) fn check(look: &mut Look<'_>, kind: Kind, place: &Place<'_>, said: &Said<'_>) {
    match look.generation {
        Generation::New => {
            bindable(look, said);
            columns(look, kind, place, said);
            form(look, kind, said);
            if place.project == UNPLACED {
                unplaced(look, kind, said);
            } else {
                project(look, kind, said);
            }
            keys(look, kind, place, said);
        }
        Generation::Old => {
            if matches!(kind, Kind::Model | Kind::IndexPlan | Kind::Dataflow)
                && let Some(uuid) = said.filled(Field::Uuid).filter(|uuid| uuid.as_bytes() != place.key)
            {
                look.misnamed(format!("`uuid` is `{uuid}`"));
            }
        }
    }
}

impl Look<'_> {
    fn misnamed(&mut self, detail: String) {
        self.fault(Rule::KeyMismatch, "", detail);
        if self.state == State::Sound {
            self.state = State::Misnamed;
        }
    }
}

/// What the columns of the kind's table must have.
fn columns(look: &mut Look<'_>, kind: Kind, place: &Place<'_>, said: &Said<'_>) {
    if !kind.has_table() {
        return;
    }
    let uuid_chars_max = if kind == Kind::StreamingJob { 64 } else { 36 };
    match said.filled(Field::Uuid) {
        None if is_plain(said.value(Field::Uuid)) => {
            look.fault(Rule::MissingUuid, "", "`uuid` is missing or empty".to_owned());
        }
        Some(uuid) if has_more_chars(uuid.as_bytes(), uuid_chars_max) => {
            look.fault(Rule::TooLong, "uuid", format!("`uuid` has more than {uuid_chars_max} characters"));
        }
        _ => {}
    }
    if has_more_chars(place.key, KEY_CHARS_MAX) {
        look.fault(Rule::TooLong, "key", format!("the key has more than {KEY_CHARS_MAX} characters"));
    }
    for name in kind.required() {
        if matches!(value(said, name), Value::Absent | Value::Null | Value::Nested) {
            look.fault(Rule::MissingField, name, format!("`{name}` is missing"));
        }
    }
}

fn has_more_chars(text: &[u8], max: usize) -> bool {
    text.len() > max && String::from_utf8_lossy(text).chars().count() > max
}

/// What tells documents of 5.0.0 and later from those of before.
fn form(look: &mut Look<'_>, kind: Kind, said: &Said<'_>) {
    let (old, list) = match kind {
        Kind::Model => (
            Some(("computed_columns", *said.value(Field::ComputedColumns) != Value::Absent)),
            Some(("computed_column_uuids", List::ComputedColumnUuids)),
        ),
        Kind::Dataflow => {
            (Some(("segments", said.has_list(List::Segments))), Some(("segment_uuids", List::SegmentUuids)))
        }
        Kind::Segment => (Some(("id", *said.value(Field::Id) != Value::Absent)), None),
        _ => return,
    };
    if let Some((name, true)) = old {
        look.fault(Rule::OldField, name, format!("`{name}` is there"));
    }
    if let Some((name, list)) = list
        && !said.has_list(list)
    {
        look.fault(Rule::MissingList, name, format!("`{name}` is missing"));
    }
}

/// What belongs to no project says so, too.
fn project(look: &mut Look<'_>, kind: Kind, said: &Said<'_>) {
    let is_to_tell = match kind.facts().home {
        Home::Global => kind != Kind::System,
        Home::ProjectUuid => true,
        Home::Field(_) | Home::Key => false,
    };
    if is_to_tell && said.filled(Field::Project).is_none() {
        look.fault(Rule::NoProject, "", "`project` is missing or empty".to_owned());
    }
}

fn unplaced(look: &mut Look<'_>, kind: Kind, said: &Said<'_>) {
    let Home::Field(field) = kind.facts().home else { return };
    let what = match value(said, field) {
        Value::Absent => "is missing".to_owned(),
        Value::Null => "is null".to_owned(),
        Value::Text(text) if text.is_empty() => "is empty".to_owned(),
        Value::Text(text) => format!("is `{text}`, which can't be the name of a project"),
        Value::Number(_) | Value::Bool | Value::Nested => "is no text".to_owned(),
    };
    look.broken(Rule::NoProject, "", format!("`{field}` {what}"));
}

fn keys(look: &mut Look<'_>, kind: Kind, place: &Place<'_>, said: &Said<'_>) {
    if let Some(key) = said.value(Field::MetaKey).text().filter(|key| key.as_bytes() != place.key) {
        look.fault(Rule::MetaKeyMismatch, "", format!("`meta_key` is `{key}`"));
    }
    let is_other = |key: &Cow<'_, str>| match kind.facts().key {
        _ if key.as_bytes() == place.key => false,
        KeyRule::Field("uuid") => true,
        // Kylin finds these ignoring case.
        _ => key.to_lowercase() != String::from_utf8_lossy(place.key).to_lowercase(),
    };
    if kind == Kind::Acl {
        let is_right = said.filled(Field::Project).is_none_or(|project| {
            let rest = place.key.strip_prefix(project.as_bytes()).unwrap_or_default();
            rest.starts_with(b".u.") || rest.starts_with(b".g.")
        });
        if !is_right {
            look.misnamed("the key should begin with the project and `.u.` or `.g.`".to_owned());
        }
    }
    let Some(key) = expected_key(kind, said).filter(is_other) else { return };
    if kind == Kind::Project {
        look.fault(Rule::ProjectNameMismatch, "", format!("`name` is `{key}`"));
    } else {
        look.misnamed(format!("by its content, the key should be `{key}`"));
    }
}

fn value<'s, 'a>(said: &'s Said<'a>, name: &str) -> &'s Value<'a> {
    said.value(Field::of(name).expect("every field that kinds have facts about is read"))
}

/// Returns the key that a document should have, as far as it tells.
fn expected_key<'s>(kind: Kind, said: &'s Said<'_>) -> Option<Cow<'s, str>> {
    let text = |name| value(said, name).text();
    let project = || said.filled(Field::Project);
    let key = match kind.facts().key {
        KeyRule::Free if kind == Kind::ObjectAcl => return said.object_id().map(Cow::Borrowed),
        KeyRule::Free => return None,
        KeyRule::Upper(name) => text(name)?.to_uppercase(),
        KeyRule::Only(name) => return Some(Cow::Borrowed(name)),
        KeyRule::Field(name) => return text(name).filter(|text| !text.is_empty()).map(Cow::Borrowed),
        KeyRule::Table => format!("{}.{}", project()?, table(said)?),
        KeyRule::Prefixed(name) => format!("{}.{}", project()?, text(name)?),
        KeyRule::Joined(a, by, b) => format!("{}{by}{}", text(a)?, text(b)?),
        KeyRule::PrefixedJoined(a, by, b) => format!("{}.{}{by}{}", project()?, text(a)?, text(b)?),
    };
    Some(Cow::Owned(key))
}

/// Returns the `DATABASE.NAME` of a table, as Kylin writes it in keys.
fn table(said: &Said<'_>) -> Option<String> {
    let (database, name) = (said.filled(Field::Database)?, said.filled(Field::Name)?);
    Some(format!("{database}.{name}").to_uppercase())
}

/// Collects what the rules between documents need. They trust none of it if the document is broken, but its names.
pub(super) fn collect(facts: &mut Facts, generation: Generation, kind: Kind, place: &Place<'_>, said: &Said<'_>) {
    if place.project == UNPLACED {
        return;
    }
    let key = tail(generation, place);
    let mut add = |fact, text: Option<&str>| {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            facts.push(fact, text.as_bytes());
        }
    };
    add(Fact::Uuid, said.filled(Field::Uuid).filter(|uuid| uuid.as_bytes() != place.key));
    match kind {
        Kind::Model => {
            add(Fact::Alias, said.filled(Field::Alias));
            let mut tables: Vec<_> =
                said.filled(Field::FactTable).into_iter().chain(said.list(List::JoinTables)).map(upper).collect();
            tables.sort_unstable();
            tables.dedup();
            tables.iter().for_each(|table| add(Fact::Table, Some(table)));
            said.list(List::ComputedColumnUuids).for_each(|uuid| add(Fact::Column, Some(uuid)));
        }
        Kind::Dataflow => {
            let list = if generation == Generation::New { List::SegmentUuids } else { List::Segments };
            said.list(list).for_each(|uuid| add(Fact::Segment, Some(uuid)));
        }
        Kind::Segment => add(Fact::Dataflow, said.filled(Field::ModelUuid)),
        Kind::Layout if generation == Generation::Old => {
            // Its place tells, whatever its content says.
            if let Some((dataflow, segment)) = key.split_once('/') {
                add(Fact::Dataflow, Some(dataflow));
                add(Fact::Segment, Some(segment));
            }
        }
        Kind::Project | Kind::System => add(Fact::Title, said.filled(Field::Name)),
        Kind::FusionModel => said.list(List::ModelMapping).for_each(|model| add(Fact::Model, Some(model))),
        Kind::TmpRec => add(Fact::Model, Some(&key)),
        Kind::Layout | Kind::LayoutDetails => add(Fact::Dataflow, said.filled(Field::Dataflow)),
        Kind::ComputeColumn => {
            add(Fact::Table, said.filled(Field::ColumnTable));
            add(Fact::ColumnName, said.filled(Field::ColumnName));
            add(Fact::ColumnExpression, said.filled(Field::ExpressionMd5));
        }
        Kind::CcModelRelation => {
            add(Fact::Column, said.filled(Field::CcUuid));
            add(Fact::Model, said.filled(Field::ModelUuid));
        }
        Kind::TableModelRelation => {
            add(Fact::Table, said.filled(Field::TableIdentity).map(upper).as_deref());
            add(Fact::Model, said.filled(Field::ModelUuid));
        }
        Kind::TableInfo => {
            let (key, content) = (upper(&key), table(said));
            add(Fact::Name, content.as_deref().filter(|content| *content != key));
            add(Fact::Name, Some(&key));
        }
        Kind::TableExd => add(Fact::Table, Some(&upper(&key))),
        Kind::KafkaConfig => {
            add(Fact::Table, Some(&upper(&key)));
            add(Fact::Parser, said.filled(Field::ParserName));
        }
        Kind::DataParser => {
            add(Fact::Name, Some(&key));
            add(Fact::Jar, said.filled(Field::JarName).filter(|jar| *jar != DEFAULT_JAR));
        }
        Kind::JarInfo => add(Fact::Name, said.filled(Field::JarName)),
        Kind::StreamingJob => add(Fact::Model, said.filled(Field::ModelId)),
        Kind::UserInfo | Kind::UserGlobalAcl => add(Fact::User, said.filled(Field::Username)),
        _ => {}
    }
}

fn upper(text: &str) -> Cow<'_, str> {
    let is_upper = text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_lowercase());
    if is_upper { Cow::Borrowed(text) } else { Cow::Owned(text.to_uppercase()) }
}

/// Returns the key without the name of the project that some begin with.
fn tail<'a>(generation: Generation, place: &Place<'a>) -> Cow<'a, str> {
    let key = match generation {
        Generation::New => {
            let tail = place.key.strip_prefix(place.project).and_then(|tail| tail.strip_prefix(b"."));
            tail.unwrap_or(place.key)
        }
        Generation::Old => place.key,
    };
    String::from_utf8_lossy(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::kylin::doctor::samples::rules_of;
    use crate::platform::kylin::kind;

    #[test]
    fn fields_in_facts_of_kinds_are_all_read() {
        let said = Said::default();
        for kind in kind::ALL {
            expected_key(kind, &said);
            for name in kind.required() {
                value(&said, name);
            }
            if let Home::Field(name) = kind.facts().home {
                value(&said, name);
            }
        }
    }

    #[test]
    fn documents_of_the_new_generation() {
        let cases = [
            ("p/FUSION_MODEL/u", "", "empty-document"),
            ("p/FUSION_MODEL/u", " \r\n", "empty-document"),
            ("p/FUSION_MODEL/u", r#"{"uuid":"u","project":"p""#, "broken-json"),
            ("_unplaced/FUSION_MODEL/u", r#""uuid":"u","project":"p"}"#, "broken-json"),
            ("p/job_info/j", "{]", "broken-json"),
            ("p/job_info/j", "{}", ""),
            ("p/FUSION_MODEL/u", "[]", "not-an-object"),
            ("p/FUSION_MODEL/u", r#"{"uuid":"u","project":"p"}"#, ""),
            ("p/FUSION_MODEL/u", r#"{"project":"p"}"#, "missing-uuid"),
            ("p/TMP_REC/p.u", r#"{"project":"p"}"#, ""),
            ("_global/SYSTEM/_image", r#"{"offset":1}"#, ""),
            ("_global/SYSTEM/UUID", r#"{"uuid":"u","name":"UUID"}"#, ""),
            ("p/FUSION_MODEL/u", r#"{"uuid":"u","project":"p","id":"a1"}"#, "unbindable-field"),
            ("p/FUSION_MODEL/u", r#"{"uuid":"u","project":"p","id":"17","content":"YQ==","ts":null}"#, ""),
            ("p/FUSION_MODEL/u", r#"{"uuid":"u","project":"p","content":"no base64"}"#, "unbindable-field"),
            ("p/FUSION_MODEL/u", r#"{"uuid":{},"project":"p"}"#, "unbindable-field"),
            ("p/MODEL/u", r#"{"uuid":"u","project":"p"}"#, "missing-field missing-list"),
            (
                "p/MODEL/u",
                r#"{"uuid":"u","project":"p","alias":"a","computed_columns":null}"#,
                "old-field missing-list",
            ),
            ("p/DATAFLOW/u", r#"{"uuid":"u","project":"p","segment_uuids":[],"segments":[]}"#, "old-field"),
            ("p/DATAFLOW/u", r#"{"uuid":"u","project":"p"}"#, "missing-list"),
            ("p/SEGMENT/u", r#"{"uuid":"u","project":"p","model_uuid":"m","id":"1"}"#, "old-field"),
            ("_global/USER_INFO/U", r#"{"uuid":"u","username":"u"}"#, "no-project"),
            ("p/OBJECT_ACL/P", r#"{"uuid":"u","project":"_global","domainObjectInfo":{"id":"Q"}}"#, "key-mismatch"),
            ("p/LOGICAL_VIEW/V", r#"{"uuid":"u","project":"p","created_project":"p","table_name":"v"}"#, ""),
            (
                "p/LOGICAL_VIEW/V",
                r#"{"uuid":"u","project":"p","created_project":"p","table_name":"w"}"#,
                "key-mismatch",
            ),
            ("p/ACL/p.u.ANN", r#"{"uuid":"u","project":"p"}"#, ""),
            ("p/ACL/ANN", r#"{"uuid":"u","project":"p"}"#, "key-mismatch"),
            ("_global/RESOURCE_GROUP/r", r#"{"uuid":"u","project":"_global"}"#, "key-mismatch"),
            ("_global/HISTORY_SOURCE_USAGE/x", r#"{"uuid":"u","project":"_global"}"#, "missing-field"),
            ("_unplaced/FUSION_MODEL/u", r#"{"uuid":"u"}"#, "no-project"),
            ("_unplaced/LOGICAL_VIEW/V", r#"{"uuid":"u","project":"p","created_project":""}"#, "no-project"),
            ("p/FUSION_MODEL/u", r#"{"uuid":"v","project":"p"}"#, "key-mismatch"),
            ("p/FUSION_MODEL/u", r#"{"uuid":"u","project":"p","meta_key":"v"}"#, "meta-key-mismatch"),
            ("p/FUSION_MODEL/u", r#"{"uuid":"u","project":"p","meta_key":"u"}"#, ""),
            ("p/TABLE_INFO/p.D.T", r#"{"uuid":"u","project":"p","database":"d","name":"t"}"#, ""),
            ("p/TABLE_INFO/p.D.T", r#"{"uuid":"u","project":"p","database":"d","name":"t2"}"#, "key-mismatch"),
            ("p/LAYOUT_DETAILS/d-1", r#"{"uuid":"u","project":"p","dataflow":"d","layout":1}"#, ""),
            ("p/LAYOUT_DETAILS/d-1", r#"{"uuid":"u","project":"p","dataflow":"d","layout":2}"#, "key-mismatch"),
            ("p/JOB_STATS/17", r#"{"uuid":"u","project":"p","date":17}"#, "key-mismatch"),
            ("p/PROJECT/p", r#"{"uuid":"u","name":"q"}"#, "project-name-mismatch"),
            ("_files/MODELS/x.json", "", "unknown-type"),
            ("_files/notes.txt", "", "stray-file"),
            ("_files/kylin.properties", "", ""),
            ("_beside/logs/empty", "", ""),
        ];
        for (path, content, rules) in cases {
            assert_eq!(rules_of(Generation::New, path, content), rules, "{path} {content}");
        }
        let long = format!(r#"{{"uuid":"{0}","project":"p"}}"#, "u".repeat(37));
        assert_eq!(rules_of(Generation::New, &format!("p/FUSION_MODEL/{}", "u".repeat(37)), &long), "too-long");
    }

    #[test]
    fn documents_of_the_old_generation() {
        let cases = [
            ("p/model_desc/u.json", "", "empty-document"),
            ("p/rule/u.json", "{", "broken-json"),
            ("p/rule/u.json", "{}", ""),
            ("p/execute/job", "no JSON", ""),
            ("UUID", "\0$c212029c", ""),
            ("UUID", "", "empty-document"),
            ("p/model_desc/u.json", r#"{"uuid":"v"}"#, "key-mismatch"),
            ("p/dataflow/u.json", r#"{"uuid":"u"}"#, ""),
            ("p/table/D.T.json", r#"{"uuid":"v"}"#, ""),
            ("p/cube/u.json", "", "unknown-folder"),
            ("notes.txt", "", "stray-file"),
        ];
        for (path, content, rules) in cases {
            assert_eq!(rules_of(Generation::Old, path, content), rules, "{path} {content}");
        }
    }
}
