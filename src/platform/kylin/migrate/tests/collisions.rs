//! W5: ids and keys that several documents have. None of them is lost.

use super::{Outcome, migrate, migrate_with};
use crate::platform::kylin::migrate::{Contested, Fate, Options, Refusal, Why};

const RENAME: Options = Options { as_kylin: false, rename_built: true, new_identity: false, fresh_uuids: false };

/// A store with the same model in two projects, and the segments of each.
fn twins(p_segments: &'static str, q_segments: &'static str) -> Vec<(String, String)> {
    let mut store = Vec::new();
    for (project, segments) in [("p", p_segments), ("q", q_segments)] {
        let documents = [
            ("model_desc/M.json", format!(r#"{{"uuid":"M","alias":"{project}","fact_table":"D.T","fusion_id":"M"}}"#)),
            ("index_plan/M.json", r#"{"uuid":"M"}"#.to_owned()),
            ("dataflow/M.json", format!(r#"{{"uuid":"M","segments":[{segments}]}}"#)),
            ("fusion_model/M.json", r#"{"uuid":"M","model_mapping":{"M":null,"N":{}}}"#.to_owned()),
            ("streaming/M_build", r#"{"uuid":"M_build","model_id":"M","model_alias":"M"}"#.to_owned()),
            ("rec/M.json", r#"[{"modelId":"M","name":"M"}]"#.to_owned()),
        ];
        store.extend(documents.map(|(name, content)| (format!("{project}/{name}"), content)));
    }
    store
}

fn run(store: &[(String, String)], options: Options) -> Outcome {
    let store: Vec<_> = store.iter().map(|(name, content)| (name.as_str(), content.as_str())).collect();
    migrate_with(&store, options)
}

#[test]
fn w5_models_of_two_projects_are_both_kept() {
    let outcome = run(&twins("", ""), Options::default());
    assert_eq!(outcome.keys.refusals(), []);
    let [choice] = outcome.keys.choices() else { panic!("there is one choice") };
    assert_eq!((choice.of, choice.id.as_str(), choice.kept.project.as_str()), (Contested::Model, "M", "p"));
    let new = &choice.renamed[0].id;
    assert_eq!(outcome.names("MODEL/").len(), 2);
    for kind in ["MODEL", "INDEX_PLAN", "DATAFLOW", "FUSION_MODEL"] {
        let document = outcome.json(&format!("{kind}/{new}.json"));
        assert_eq!((&document["uuid"], &document["project"]), (&new.as_str().into(), &"q".into()), "{kind}");
        assert_eq!(outcome.json(&format!("{kind}/M.json"))["project"], "p");
        assert_eq!(outcome.path(&format!("{kind}/{new}.json")), format!("q/{kind}/{new}"));
    }
    assert_eq!(outcome.json(&format!("MODEL/{new}.json"))["fusion_id"], new.as_str());
    let fusion = outcome.json(&format!("FUSION_MODEL/{new}.json"));
    let mapping = fusion["model_mapping"].as_object().unwrap();
    assert!(mapping.len() == 2 && mapping.contains_key("N") && mapping.contains_key(new), "{mapping:?}");
    let job = outcome.json(&format!("STREAMING_JOB/{new}_build.json"));
    assert_eq!(job["uuid"], format!("{new}_build"));
    assert_eq!((&job["model_id"], &job["model_alias"]), (&new.as_str().into(), &"M".into()));
    let items = outcome.json(&format!("TMP_REC/q.{new}.json"));
    assert_eq!((&items["uuid"], &items["rec_items"][0]["modelId"]), (&new.as_str().into(), &new.as_str().into()));
    assert_eq!(items["rec_items"][0]["name"], "M");
    let relations = outcome.names("TABLE_MODEL_RELATION/");
    let models: Vec<_> = relations.iter().map(|name| outcome.json(name)["model_uuid"].clone()).collect();
    assert!(models.contains(&"M".into()) && models.contains(&new.as_str().into()));
}

#[test]
fn w5_built_data_keeps_its_id() {
    let mut store = twins("", r#"{"id":"S","status":"READY"}"#);
    store.push(("q/dataflow_details/M/S.json".to_owned(), "{}".to_owned()));
    let outcome = run(&store, Options::default());
    assert_eq!(outcome.keys.refusals(), []);
    let [choice] = outcome.keys.choices() else { panic!("there is one choice") };
    assert_eq!(choice.kept.project, "q");
    assert_eq!(outcome.json("MODEL/M.json")["project"], "q");
    assert_eq!(outcome.json("LAYOUT/S.json")["dataflow"], "M");
}

#[test]
fn w5_built_data_is_not_detached_unless_told_to() {
    let segment = r#"{"id":"S","status":"READY"}"#;
    let mut store = twins(segment, segment);
    for project in ["p", "q"] {
        store.push((format!("{project}/dataflow_details/M/S.json"), "{}".to_owned()));
    }
    let outcome = run(&store, Options::default());
    let [Refusal::BuiltDataDetached { claims }] = &outcome.keys.refusals()[..] else { panic!("it is refused") };
    assert!(claims.iter().all(|claim| claim.project == "q"));
    let outcome = run(&store, RENAME);
    assert_eq!(outcome.keys.refusals(), []);
    let [model, segment] = outcome.keys.choices() else { panic!("there are two choices") };
    let (new_model, new) = (&model.renamed[0].id, &segment.renamed[0].id);
    let [moved] = &model.renamed[0].moves[..] else { panic!("there is one folder to move") };
    assert_eq!(moved.from, "q/parquet/M/S");
    assert_eq!(moved.to, format!("q/parquet/{new_model}/{new}"));
    assert!(segment.renamed[0].moves.is_empty(), "it is listed once");
    let layout = outcome.json(&format!("LAYOUT/{new}.json"));
    assert_eq!((&layout["dataflow"], &layout["project"]), (&new_model.as_str().into(), &"q".into()));
    assert_eq!(outcome.json(&format!("DATAFLOW/{new_model}.json"))["segment_uuids"][0], new.as_str());
    assert_eq!(outcome.json(&format!("SEGMENT/{new}.json"))["model_uuid"], new_model.as_str());
    assert_eq!(outcome.json("SEGMENT/S.json")["project"], "p");
}

#[test]
fn w5_segments_of_two_models_are_both_kept() {
    let store = [
        ("p/dataflow/A.json", r#"{"uuid":"A","segments":[{"id":"S","status":"NEW","mark":"a"}]}"#),
        ("p/dataflow/B.json", r#"{"uuid":"B","segments":[{"id":"S","status":"READY","mark":"b"}]}"#),
    ];
    let outcome = migrate(&store);
    assert_eq!(outcome.keys.refusals(), []);
    let [choice] = outcome.keys.choices() else { panic!("there is one choice") };
    assert_eq!((choice.of, choice.kept.within.as_deref()), (Contested::Segment, Some("B")));
    assert_eq!(outcome.json("SEGMENT/S.json")["mark"], "b");
    let new = &choice.renamed[0].id;
    assert_eq!(outcome.json(&format!("SEGMENT/{new}.json"))["mark"], "a");
    assert_eq!(outcome.json("DATAFLOW/A.json")["segment_uuids"][0], new.as_str());
}

#[test]
fn details_that_are_left_over_speak_for_no_built_data() {
    let details = |project: &str| (format!("{project}/dataflow_details/M/S.json"), r#"{"uuid":"S"}"#.to_owned());
    let ready = r#"{"id":"S","status":"READY"}"#;
    // The first project has nothing but the details; the other one has the model.
    let mut store = vec![details("a")];
    store.extend(twins("", ready).into_iter().filter(|(name, _)| name.starts_with("q/")));
    store.push(details("q"));
    let outcome = run(&store, Options::default());
    assert_eq!(outcome.keys.refusals(), []);
    assert!(outcome.keys.choices().iter().all(|choice| choice.kept.project == "q"), "{:?}", outcome.keys.choices());
    assert_eq!(outcome.json("LAYOUT/S.json")["project"], "q");
    let outcome = run(&[details("a"), details("b")], Options::default());
    assert_eq!(outcome.keys.refusals(), []);
    assert_eq!(outcome.names("LAYOUT/").len(), 2);
    // A model that can't be read has data all the same.
    let mut store = twins("", ready);
    store.retain(|(name, _)| !name.starts_with("p/dataflow/"));
    store.push(("p/dataflow/M.json".to_owned(), "{".to_owned()));
    store.extend([details("p"), details("q")]);
    assert_eq!(run(&store, Options::default()).keys.refusals().len(), 1);
}

#[test]
fn broken_documents_claim_no_id() {
    let outcome =
        migrate(&[("p/model_desc/M.json", "{"), ("q/model_desc/M.json", r#"{"uuid":"M","fact_table":"D.T"}"#)]);
    assert_eq!(outcome.keys.choices(), []);
    assert_eq!(outcome.json("MODEL/M.json")["project"], "q");
    let outcome = migrate(&[("_global/user/ALICE", "{"), ("_global/user/alice", "{}")]);
    assert_eq!(outcome.names(""), ["USER_INFO/alice.json", "_unmigrated/_global/user/ALICE"]);
}

#[test]
fn keys_that_are_too_long_are_none() {
    let long = "x".repeat(256);
    let model = format!(
        r#"{{"uuid":"{long}","fact_table":"D.T","computed_columns":[{{"tableIdentity":"D.T","columnName":"C"}}]}}"#
    );
    let names = [format!("P/model_desc/{long}.json"), format!("P/table/{long}.json"), format!("P/parser/{long}.json")];
    let sound = model.replace(&long, "y");
    let outcome = migrate(&[
        (&names[0], &model),
        (&names[1], "{}"),
        (&names[2], "{}"),
        ("P/model_desc/y.json", &sound),
        ("P/dataflow/M.json", &format!(r#"{{"uuid":"M","segments":[{{"id":"{long}"}}]}}"#)),
    ]);
    assert_eq!(outcome.names("_unmigrated/").len(), 4);
    assert_eq!(outcome.names("COMPUTE_COLUMN/").len(), 1);
    for name in &names {
        assert!(matches!(&outcome.fates[name], Fate::Broken { why: Why::Key { .. }, .. }), "{name}");
    }
}

#[test]
fn what_has_the_same_key_is_kept_beside() {
    let pairs = [
        ("_global/user/alice", "_global/user/Alice", r#"{"username":"alice"}"#),
        ("_global/user_group/g", "_global/user_group/G", "{}"),
        ("_global/project/shop.json", "_global/project/Shop.json", "{}"),
        ("P/index_plan/b.json", "P/index_plan/a.json", r#"{"uuid":"M"}"#),
        ("P/index_plan/a.json", "P/index_plan/M.json", r#"{"uuid":"M"}"#),
        ("P/model_desc/Copy of M.json", "P/model_desc/M.json", r#"{"uuid":"M","fact_table":"D.T"}"#),
        ("P/dataflow/copy.json", "P/dataflow/M.json", r#"{"uuid":"M","segments":[{"id":"S"}]}"#),
        ("P/parser/b.json", "P/parser/a.json", r#"{"class_name":"C"}"#),
        ("P/streaming/M_build.json", "P/streaming/M_build", "{}"),
    ];
    for (second, first, content) in pairs {
        let outcome = migrate(&[(second, content), (first, content)]);
        assert!(!outcome.fates[first].is_problem(), "{first}");
        let Fate::Broken { why: Why::Taken { by, .. }, .. } = &outcome.fates[second] else { panic!("{second}") };
        assert_eq!(by, first);
        assert_eq!(outcome.text(&format!("_unmigrated/{second}")), content);
    }
}

#[test]
fn copies_of_models_own_no_columns() {
    let model = |expression: &str| {
        format!(
            r#"{{"uuid":"M","fact_table":"D.T","computed_columns":[
            {{"tableIdentity":"D.T","columnName":"C","expression":"{expression}"}}]}}"#
        )
    };
    let (one, two) = (model("x"), model("y"));
    let outcome = migrate(&[("P/model_desc/A copy.json", &two), ("P/model_desc/M.json", &one)]);
    assert_eq!(outcome.json(outcome.names("COMPUTE_COLUMN/")[0])["expression"], "x");
    assert_eq!(outcome.differences("P/model_desc/M.json"), [""; 0]);
    // The only one is taken as it is, though Kylin calls it broken.
    let outcome = migrate(&[("P/model_desc/A copy.json", &two)]);
    assert_eq!(outcome.names("MODEL/"), ["MODEL/A copy.json"]);
    assert_eq!(outcome.differences("P/model_desc/A copy.json"), ["misnamed"]);
    assert_eq!(outcome.names("CC_MODEL_RELATION/").len(), 1);
}

#[test]
fn u1_tables_of_copied_projects_get_fresh_uuids_if_asked() {
    let store = [
        ("q/table/D.T.json", r#"{"uuid":"U"}"#),
        ("p/table/D.T.json", r#"{"uuid":"U"}"#),
        ("p/table_exd/D.T.json", r#"{"uuid":"U"}"#),
    ];
    let outcome = migrate_with(&store, Options { fresh_uuids: true, ..Options::default() });
    let [choice] = outcome.keys.choices() else { panic!("there is one choice") };
    assert_eq!((choice.of, choice.kept.project.as_str()), (Contested::Table, "p"));
    assert_eq!(outcome.json("TABLE_INFO/p.D.T.json")["uuid"], "U");
    assert_eq!(outcome.json("TABLE_INFO/q.D.T.json")["uuid"], choice.renamed[0].id.as_str());
    assert_eq!(outcome.json("TABLE_EXD/p.D.T.json")["uuid"], "U");
    assert_eq!(outcome.differences("q/table/D.T.json"), ["new-id"]);
    assert_eq!(migrate(&store).json("TABLE_INFO/q.D.T.json")["uuid"], "U");
}
