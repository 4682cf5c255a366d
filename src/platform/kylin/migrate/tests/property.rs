//! Any store: the result depends on no order, nothing is lost, and what must hold of the new layout holds.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;

use super::{Outcome, convert, survey};
use crate::platform::kylin::kind::Kind;
use crate::platform::kylin::migrate::{Fate, Options};

type Document = (String, Vec<u8>);

const OPTIONS: Options = Options { as_kylin: false, rename_built: true, new_identity: true, fresh_uuids: true };

fn project() -> impl Strategy<Value = &'static str> {
    select(vec!["shop", "Shop", "rec", "x_global", "UUIDx"])
}

fn id() -> impl Strategy<Value = &'static str> {
    select(vec!["M1", "M2", "M3"])
}

/// An id, and the name of a document with it, which may be that of a copy.
fn named() -> impl Strategy<Value = (&'static str, String)> {
    (id(), 0..10_u8).prop_map(|(id, chance)| (id, if chance == 0 { format!("copy of {id}") } else { id.to_owned() }))
}

fn model() -> impl Strategy<Value = Document> {
    let column = (select(vec!["D.A", "D.B"]), select(vec!["C1", "C2", "C3"]), select(vec!["x", "y"]));
    let columns = prop::collection::vec(column, 0..4);
    let joins = prop::collection::vec(select(vec!["D.A", "D.B", "D.C"]), 0..4);
    (project(), named(), columns, joins).prop_map(|(project, (id, file), columns, joins)| {
        let column = |(table, name, expression): (&str, &str, &str)| {
            format!(r#"{{"tableIdentity":"{table}","columnName":"{name}","expression":"{expression}"}}"#)
        };
        let columns: Vec<_> = columns.into_iter().map(column).collect();
        let joins: Vec<_> = joins.iter().map(|table| format!(r#"{{"table":"{table}"}}"#)).collect();
        let (columns, joins) = (columns.join(","), joins.join(","));
        let content = format!(
            r#"{{"mark":"@","uuid":"{id}","alias":"a","fact_table":"D.A","join_tables":[{joins}],"computed_columns":[{columns}]}}"#
        );
        (format!("{project}/model_desc/{file}.json"), content.into())
    })
}

fn dataflow() -> impl Strategy<Value = Document> {
    let segment = (select(vec!["S1", "S2", "S3", "S4"]), select(vec!["NEW", "READY"]));
    let segments = prop::collection::btree_map(segment.0, segment.1, 0..4);
    (project(), named(), segments).prop_map(|(project, (id, file), segments)| {
        let segment = |(id, status)| format!(r#"{{"id":"{id}","status":"{status}"}}"#);
        let segments: Vec<_> = segments.into_iter().map(segment).collect();
        let content = format!(r#"{{"mark":"@","segments":[{}],"uuid":"{id}"}}"#, segments.join(","));
        (format!("{project}/dataflow/{file}.json"), content.into())
    })
}

fn other() -> impl Strategy<Value = Document> {
    let names = [
        "index_plan/ID.json",
        "fusion_model/ID.json",
        "rec/ID.json",
        "dataflow_details/ID/S1.json",
        "dataflow_details/ID/S2.json",
        "table/D.A.json",
        "table_exd/D.A.json",
        "kafka/D.A.json",
        "parser/ID.json",
        "job_stats/ID.json",
        "query/ID.json",
        "acl/user/ID.json",
        "acl/group/ID.json",
        "rule/ID.json",
        "execute/ID",
        "whatever/ID.json",
        "project.json",
        "x.json",
    ];
    let in_project = (project(), id(), select(names.to_vec()))
        .prop_map(|(project, id, name)| (format!("{project}/{}", name.replace("ID", id)), id));
    let job = (project(), id()).prop_map(|(project, id)| (format!("{project}/streaming/{id}_build"), id));
    let global = [
        "_global/user/UUID",
        "_global/user/uuid",
        "_global/user/ID.json",
        "_global/user_group/G",
        "_global/user_group/g",
        "_global/sys_acl/user/U",
        "_global/acl/ID",
        "_global/logical_view/V",
        "_global/project/shop.json",
        "_global/project/Shop.json",
        "_global/sql_blacklist/shop.json",
        "_global/upgrade/acl_version.json",
        "_global/trash_record",
        "UUID",
        "VERSION",
        "_image",
    ];
    let global = (select(global.to_vec()), id()).prop_map(|(name, id)| (name.to_owned(), id));
    prop_oneof![4 => in_project, 1 => job, 2 => global].prop_map(|(name, id)| {
        let uuid = if name.contains("/streaming/") { format!("{id}_build") } else { id.to_owned() };
        (name, format!(r#"{{"mark":"@","uuid":"{uuid}","class_name":"{id}"}}"#).into())
    })
}

fn document() -> impl Strategy<Value = Document> {
    let any = prop_oneof![2 => model(), 2 => dataflow(), 5 => other()];
    (any, 0..12_u8).prop_map(|((name, content), chance)| match chance {
        0 => (name, content[..content.len() / 2].to_vec()),
        1 => (name, Vec::new()),
        2 => (name, [&content, &b" tail"[..]].concat()),
        _ => (name, content),
    })
}

/// A store, each document with a mark of its own, and the same in another order.
fn stores() -> impl Strategy<Value = (Vec<Document>, Vec<Document>)> {
    prop::collection::vec(document(), 0..40)
        .prop_map(|documents| {
            let documents: BTreeMap<String, Vec<u8>> = documents.into_iter().collect();
            let mark = |(n, (name, content)): (usize, (String, Vec<u8>))| {
                let content = String::from_utf8(content).unwrap().replace("\"@\"", &format!("\"mark {n}.\""));
                (name, content.into_bytes())
            };
            documents.into_iter().enumerate().map(mark).collect::<Vec<_>>()
        })
        .prop_flat_map(|store| (Just(store.clone()), Just(store).prop_shuffle()))
}

/// The documents of a kind, by key.
fn all(outcome: &Outcome, kind: Kind) -> BTreeMap<&str, Value> {
    let begin = format!("{}/", kind.name());
    let key = |name: &'_ str| name.len() - ".json".len();
    outcome.names(&begin).into_iter().map(|name| (&name[begin.len()..key(name)], outcome.json(name))).collect()
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|value| value.as_str().unwrap()).collect()
}

/// What must hold of documents of the new layout, whatever they come of.
fn check_invariants(outcome: &Outcome) {
    use Kind::{
        CcModelRelation, ComputeColumn, Dataflow, FusionModel, IndexPlan, Layout, Model, Segment, StreamingJob,
        TableModelRelation,
    };
    for name in outcome.names("").into_iter().filter(|name| !name.starts_with("_unmigrated/")) {
        let (folder, file) = name.split_once('/').unwrap();
        assert!(
            Kind::of_folder(folder.as_bytes()).is_some() && !file.contains('/') && file.ends_with(".json"),
            "{name}"
        );
        if folder != "PROJECT" && folder != "SYSTEM" {
            assert!(!outcome.json(name)["project"].as_str().unwrap().is_empty(), "{name}");
        }
    }
    // A document that is called otherwise than its `uuid` stays so.
    let copies = outcome.fates.iter().filter(|(name, _)| name.contains("copy of "));
    let of_copies: HashSet<&str> = copies
        .filter_map(|(_, fate)| match fate {
            Fate::Migrated { to } => Some(to.as_str()),
            Fate::Split { to } => to.first().map(String::as_str),
            _ => None,
        })
        .collect();
    for kind in [
        Model,
        Dataflow,
        IndexPlan,
        Segment,
        Layout,
        ComputeColumn,
        CcModelRelation,
        TableModelRelation,
        FusionModel,
        StreamingJob,
    ] {
        for (key, document) in all(outcome, kind) {
            let name = format!("{kind}/{key}.json");
            assert!(document["uuid"] == key || of_copies.contains(&*name), "{name}");
        }
    }
    let models = all(outcome, Model);
    let models: BTreeMap<&str, &Value> =
        models.values().map(|model| (model["uuid"].as_str().unwrap(), model)).collect();
    let mut columns: BTreeSet<(String, String)> = BTreeSet::new();
    let mut tables: BTreeSet<(String, String)> = BTreeSet::new();
    for (key, model) in &models {
        assert!(model.get("computed_columns").is_none());
        let ids = texts(&model["computed_column_uuids"]);
        let own = ids.iter().map(|id| ((*key).to_owned(), (*id).to_owned()));
        assert_eq!(own.clone().collect::<HashSet<_>>().len(), ids.len());
        columns.extend(own);
        let joins = model["join_tables"].as_array().unwrap().iter().map(|join| &join["table"]);
        tables.extend(joins.chain([&model["fact_table"]]).map(|t| ((*key).to_owned(), t.as_str().unwrap().to_owned())));
    }
    let related = |kind, field: &str| {
        let relations = all(outcome, kind);
        let pair = |relation: &Value| {
            let model = relation["model_uuid"].as_str().unwrap();
            assert_eq!(models[model]["project"], relation["project"]);
            (model.to_owned(), relation[field].as_str().unwrap().to_owned())
        };
        let pairs: BTreeSet<_> = relations.values().map(pair).collect();
        assert_eq!(pairs.len(), relations.len());
        pairs
    };
    assert_eq!(related(CcModelRelation, "cc_uuid"), columns);
    assert_eq!(related(TableModelRelation, "table_identity"), tables);
    let described = all(outcome, ComputeColumn);
    let used: BTreeSet<_> = columns.iter().map(|(_, id)| id.as_str()).collect();
    assert_eq!(described.keys().copied().collect::<BTreeSet<_>>(), used);
    for (model, column) in &columns {
        assert_eq!(models[model.as_str()]["project"], described[column.as_str()]["project"]);
    }
    let names =
        described.values().map(|c| [&c["project"], &c["tableIdentity"], &c["columnName"]].map(Value::to_string));
    assert_eq!(names.collect::<HashSet<_>>().len(), described.len());
    let segments = all(outcome, Segment);
    let mut listed = 0;
    for dataflow in all(outcome, Dataflow).values() {
        assert!(dataflow.get("segments").is_none());
        for id in texts(&dataflow["segment_uuids"]) {
            let segment = &segments[id];
            assert_eq!((&segment["model_uuid"], &segment["project"]), (&dataflow["uuid"], &dataflow["project"]));
            assert!(segment.get("id").is_none());
            listed += 1;
        }
    }
    assert_eq!(listed, segments.len());
    for kind in [Kind::TableInfo, Kind::TableExd, Kind::KafkaConfig] {
        let documents = all(outcome, kind);
        assert_eq!(documents.values().map(|d| d["uuid"].to_string()).collect::<HashSet<_>>().len(), documents.len());
    }
}

/// Nothing is lost: each mark of a document that was not dropped is in the result.
fn check_marks(store: &[Document], outcome: &Outcome) {
    let all: Vec<&str> = outcome.documents.values().map(|(_, content)| std::str::from_utf8(content).unwrap()).collect();
    for (name, content) in store {
        let content = std::str::from_utf8(content).unwrap();
        let Some(mark) = content.split('"').find(|text| text.starts_with("mark ") && text.ends_with('.')) else {
            continue;
        };
        let count = all.iter().filter(|text| text.contains(&format!("\"{mark}\""))).count();
        let expected = match outcome.fates[name] {
            Fate::Dropped { .. } => 0,
            // As Kylin does it, only the offset is kept of this.
            _ if name == "_image" => continue,
            _ if name == "VERSION" || name == "UUID" => 0,
            _ if content.ends_with(" tail") && !outcome.fates[name].is_problem() && !name.contains("project") => 2,
            _ => 1,
        };
        assert_eq!(count, expected, "{name}: {mark}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_store_is_migrated_whole_and_in_any_order((store, shuffled) in stores(), at in any::<prop::sample::Index>()) {
        let outcome = convert(survey(&store, OPTIONS).finish(), &store);
        prop_assert_eq!(outcome.keys.refusals(), []);
        let (one, two) = shuffled.split_at(at.index(shuffled.len() + 1));
        let keys = survey(two, OPTIONS).merge(survey(one, OPTIONS)).finish();
        let backwards = convert(keys, shuffled.iter().rev());
        prop_assert_eq!(&outcome, &backwards);
        check_invariants(&outcome);
        check_marks(&store, &outcome);
    }

    #[test]
    fn any_store_is_migrated_whole_as_kylin_does_it((store, shuffled) in stores()) {
        let options = Options { as_kylin: true, ..OPTIONS };
        let outcome = convert(survey(&store, options).finish(), &store);
        prop_assert_eq!(&outcome, &convert(survey(&shuffled, options).finish(), &shuffled));
        check_marks(&store, &outcome);
    }
}
