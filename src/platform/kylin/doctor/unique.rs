//! What only one document may have: keys, ids and the names that Kylin and databases tell documents by.

use std::collections::HashMap;

use super::document::State;
use super::examination::{Collected, Row};
use super::examine::Fact;
use super::names::Name;
use super::{Fault, Generation, Rule};
use crate::platform::kylin::kind::Kind;

/// How many documents a fault names.
const NAMED_MAX: usize = 5;

/// Something that documents of a kind must not have in common.
struct Unique {
    kind: Kind,
    /// Whether those of other projects do not count.
    in_project: bool,
    by: &'static [Fact],
    rule: Rule,
    what: &'static str,
}

const UNIQUE: [Unique; 10] = [
    of(Kind::Model, true, &[Fact::Alias], Rule::DuplicateAlias, "alias"),
    of(Kind::TableModelRelation, false, &[Fact::Table, Fact::Model], Rule::DuplicateTableRelation, "table and model"),
    of(
        Kind::CcModelRelation,
        false,
        &[Fact::Column, Fact::Model],
        Rule::DuplicateColumnRelation,
        "computed column and model",
    ),
    of(Kind::Project, false, &[Fact::Title], Rule::DuplicateName, "name"),
    of(Kind::System, false, &[Fact::Title], Rule::DuplicateName, "name"),
    of(Kind::ComputeColumn, true, &[Fact::Table, Fact::ColumnName], Rule::DuplicateColumnName, "table and column name"),
    of(
        Kind::ComputeColumn,
        true,
        &[Fact::Table, Fact::ColumnExpression],
        Rule::DuplicateColumnExpression,
        "table and expression",
    ),
    of(Kind::JarInfo, false, &[Fact::Name], Rule::DuplicateJar, "jar name"),
    of(Kind::UserInfo, false, &[Fact::User], Rule::DuplicateUser, "username"),
    of(Kind::UserGlobalAcl, false, &[Fact::User], Rule::DuplicateUser, "username"),
];

const fn of(kind: Kind, in_project: bool, by: &'static [Fact], rule: Rule, what: &'static str) -> Unique {
    Unique { kind, in_project, by, rule, what }
}

/// What must differ in more than upper and lower case: a fact, or the key; and whether other projects count.
const IGNORING_CASE: [(Kind, bool, Option<Fact>, &str); 6] = [
    (Kind::Model, true, Some(Fact::Alias), "alias"),
    (Kind::JarInfo, false, Some(Fact::Name), "jar name"),
    (Kind::Project, false, None, "key"),
    (Kind::UserInfo, false, None, "key"),
    (Kind::UserGroup, false, None, "key"),
    (Kind::UserGlobalAcl, false, None, "key"),
];

/// Finds what several documents have in common and must not.
pub(super) fn find(collected: &Collected, faults: &mut Vec<Fault>) {
    for unique in &UNIQUE {
        unique.find(collected, faults);
    }
    for (kind, in_project, fact, what) in IGNORING_CASE {
        ignoring_case(collected, kind, in_project, fact, what, faults);
    }
    if collected.generation == Generation::New {
        keys(collected, faults);
        uuids(collected, faults);
    }
}

fn usable(collected: &Collected, kind: Option<Kind>) -> impl Iterator<Item = (usize, &Row)> {
    let rows = collected.rows.iter().enumerate();
    rows.filter(move |(_, row)| kind.is_none_or(|kind| row.kind == kind) && row.state != State::Broken)
}

/// Returns the documents that have the same key as another, group by group.
fn groups<K: Ord + Copy>(mut rows: Vec<(K, usize)>) -> Vec<(K, Vec<usize>)> {
    rows.sort_unstable();
    let alike = rows.chunk_by(|a, b| a.0 == b.0).filter(|group| group.len() > 1);
    alike.map(|group| (group[0].0, group.iter().map(|(_, row)| *row).collect())).collect()
}

impl Unique {
    fn find(&self, collected: &Collected, faults: &mut Vec<Fault>) {
        let key = |n: usize, row: &Row| {
            let mut key = [None; 3];
            key[2] = self.in_project.then_some(row.project);
            for (part, fact) in key.iter_mut().zip(self.by) {
                *part = Some(collected.all(n, *fact).next()?);
            }
            Some((key, n))
        };
        let rows = usable(collected, Some(self.kind)).filter_map(|(n, row)| key(n, row)).collect();
        for (key, rows) in groups(rows) {
            let shared = || key[..self.by.len()].iter().flatten().map(|name| collected.text(*name));
            let shared = shared().collect::<Vec<_>>().join("`, `");
            faults.push(collided(collected, self.rule, &rows, key[2], self.what, &shared));
        }
    }
}

fn ignoring_case(
    collected: &Collected,
    kind: Kind,
    in_project: bool,
    fact: Option<Fact>,
    what: &str,
    faults: &mut Vec<Fault>,
) {
    let mut alike: HashMap<_, Vec<(Name, usize)>> = HashMap::new();
    for (n, row) in usable(collected, Some(kind)) {
        let name = fact.map_or(Some(row.key), |fact| collected.all(n, fact).next());
        if let Some(name) = name {
            let folded = collected.text(name).to_lowercase();
            alike.entry((in_project.then_some(row.project), folded)).or_default().push((name, n));
        }
    }
    for ((project, folded), rows) in alike {
        if rows.iter().any(|(name, _)| *name != rows[0].0) {
            let rows: Vec<usize> = rows.into_iter().map(|(_, row)| row).collect();
            faults.push(collided(collected, Rule::DuplicateIgnoringCase, &rows, project, what, &folded));
        }
    }
}

fn keys(collected: &Collected, faults: &mut Vec<Fault>) {
    let rows = usable(collected, None).map(|(n, row)| ((row.kind, row.key), n)).collect();
    for ((_, key), rows) in groups(rows) {
        faults.push(collided(collected, Rule::DuplicateKey, &rows, None, "key", &collected.text(key)));
    }
}

fn uuids(collected: &Collected, faults: &mut Vec<Fault>) {
    let with_table = usable(collected, None).filter(|(_, row)| row.kind.has_table());
    let rows = with_table.map(|(n, row)| ((row.kind, collected.uuid(n)), n)).collect();
    for ((_, uuid), rows) in groups(rows) {
        // Those with the same key are told of already.
        if rows.iter().any(|row| collected.rows[*row].key != collected.rows[rows[0]].key) {
            faults.push(collided(collected, Rule::DuplicateUuid, &rows, None, "`uuid`", &collected.text(uuid)));
        }
    }
}

fn collided(
    collected: &Collected,
    rule: Rule,
    rows: &[usize],
    project: Option<Name>,
    what: &str,
    shared: &str,
) -> Fault {
    let mut paths: Vec<_> = rows.iter().map(|row| (collected.path(*row), *row)).collect();
    paths.sort_unstable();
    let named: Vec<_> = paths.iter().take(NAMED_MAX).map(|(path, _)| path.to_string()).collect();
    let more = match paths.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let detail = format!("{what} `{shared}`: {}{more}", named.join(", "));
    let kind = collected.rows[rows[0]].kind;
    let project = project.map(|project| collected.text(project)).unwrap_or_default();
    collected.fault(rule, paths[0].1, format!("{project}/{kind}/{shared}"), detail).of_several()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::kylin::doctor::samples::{SOUND, check, faults};

    const P: (&str, &str) = ("p/PROJECT/p", r#"{"uuid":"P","name":"p"}"#);
    const Q: (&str, &str) = ("q/PROJECT/q", r#"{"uuid":"Q","name":"q"}"#);

    #[test]
    fn names_that_collide() {
        let m = ("p/LOGICAL_VIEW/m", r#"{"uuid":"1","created_project":"p"}"#);
        let n = ("p/LOGICAL_VIEW/n", r#"{"uuid":"1","created_project":"p"}"#);
        let o = ("q/LOGICAL_VIEW/m", r#"{"uuid":"3","created_project":"q"}"#);
        let jar_p = ("p/JAR_INFO/p.T_j", r#"{"uuid":"1","project":"p","jar_type":"T","jar_name":"j"}"#);
        let jar_q = ("q/JAR_INFO/q.T_j", r#"{"uuid":"2","project":"q","jar_type":"T","jar_name":"j"}"#);
        let jar_upper = ("q/JAR_INFO/q.T_J", r#"{"uuid":"3","project":"q","jar_type":"T","jar_name":"J"}"#);
        let user = ("_global/USER_INFO/U", r#"{"uuid":"1","username":"U","project":"_global"}"#);
        let alike = ("_global/USER_INFO/u", r#"{"uuid":"2","username":"u","project":"_global"}"#);
        let misnamed = ("_global/USER_INFO/V", r#"{"uuid":"3","username":"U","project":"_global"}"#);
        let cases: [(&[_], &[&str]); 9] = [
            (&[P, m, n], &["duplicate-uuid p/LOGICAL_VIEW/m /LOGICAL_VIEW/1"]),
            (&[P, Q, m, o], &["duplicate-key p/LOGICAL_VIEW/m /LOGICAL_VIEW/m"]),
            (&[P, Q, n, o], &[]),
            (&[P, Q, jar_p, jar_q], &["duplicate-jar p/JAR_INFO/p.T_j /JAR_INFO/j"]),
            (&[P, Q, jar_p, jar_upper], &["duplicate-ignoring-case p/JAR_INFO/p.T_j /JAR_INFO/j"]),
            (&[P, jar_p, ("q/JAR_INFO/q.T_j", "{"), Q], &["broken-json q/JAR_INFO/q.T_j "]),
            (&[user, alike], &["duplicate-ignoring-case _global/USER_INFO/U /USER_INFO/u"]),
            (
                &[user, misnamed],
                &["duplicate-user _global/USER_INFO/U /USER_INFO/U", "key-mismatch _global/USER_INFO/V "],
            ),
            (&[user], &[]),
        ];
        for (documents, expected) in cases {
            check(Generation::New, documents, expected);
        }
    }

    #[test]
    fn models_and_what_they_use() {
        let column = |key: &str, column: &str, expression: &str| {
            let text = format!(
                r#"{{"uuid":"{key}","project":"p","tableIdentity":"D.T","columnName":"{column}","expressionMD5":{expression}}}"#
            );
            (format!("p/COMPUTE_COLUMN/{key}"), text)
        };
        let found = |documents: &[(String, String)]| {
            let documents: Vec<_> = documents.iter().map(|(path, text)| (&**path, &**text)).collect();
            let faults = faults(Generation::New, &[&documents[..], &[P]].concat(), false);
            let rules = faults.iter().map(|fault| fault.rule);
            rules.filter(|rule| *rule != Rule::ColumnWithoutRelation).collect::<Vec<_>>()
        };
        assert_eq!(found(&[column("1", "A", "null"), column("2", "B", "null")]), []);
        assert_eq!(found(&[column("1", "A", r#""x""#), column("2", "A", "null")]), [Rule::DuplicateColumnName]);
        assert_eq!(found(&[column("1", "A", r#""x""#), column("2", "B", r#""x""#)]), [Rule::DuplicateColumnExpression]);
        let model = |key: &str, project: &str, alias: &str| {
            let text = format!(r#"{{"uuid":"{key}","alias":"{alias}"}}"#);
            (format!("{project}/model_desc/{key}.json"), text)
        };
        let found = |documents: &[(String, String)]| {
            let documents: Vec<_> = documents.iter().map(|(path, text)| (&**path, &**text)).collect();
            let faults = faults(Generation::Old, &documents, false);
            let rules = faults.into_iter().map(|fault| fault.rule);
            rules.filter(|rule| rule.as_str().starts_with("duplicate")).collect::<Vec<_>>()
        };
        assert_eq!(found(&[model("1", "p", "m"), model("2", "p", "m"), model("3", "p", "m")]), [Rule::DuplicateAlias]);
        assert_eq!(found(&[model("1", "p", "m"), model("2", "p", "M")]), [Rule::DuplicateIgnoringCase]);
        assert_eq!(found(&[model("1", "p", "m"), model("1", "q", "m")]), []);
    }

    #[test]
    fn relations_and_models_of_the_new_generation() {
        let relation = r#"{"uuid":"r3","project":"p","table_identity":"D.T","model_uuid":"m"}"#;
        let documents = [&SOUND[..], &[("p/TABLE_MODEL_RELATION/r3", relation)]].concat();
        let shared = "/TABLE_MODEL_RELATION/D.T`, `m";
        check(Generation::New, &documents, &[&format!("duplicate-table-relation p/TABLE_MODEL_RELATION/r {shared}")]);
        let model = r#"{"uuid":"n","project":"p","alias":"a","computed_column_uuids":[]}"#;
        let documents = [&SOUND[..], &[("p/MODEL/n", model)]].concat();
        let expected = [
            "duplicate-alias p/MODEL/m p/MODEL/a",
            "model-without-dataflow p/MODEL/n n",
            "model-without-index-plan p/MODEL/n n",
        ];
        check(Generation::New, &documents, &expected);
    }

    #[test]
    fn a_collision_is_the_same_whoever_is_named_first() {
        let view = |key| (key, r#"{"uuid":"1","created_project":"p"}"#);
        let two = faults(Generation::New, &[P, view("p/LOGICAL_VIEW/m"), view("p/LOGICAL_VIEW/n")], false);
        let three = [P, view("p/LOGICAL_VIEW/m"), view("p/LOGICAL_VIEW/n"), view("p/LOGICAL_VIEW/a")];
        let three = faults(Generation::New, &three, false);
        assert_ne!(two[0].path, three[0].path);
        assert_eq!(format!("{:?}", two[0].key()), format!("{:?}", three[0].key()));
    }
}
