//! What Kylin's tool loses or gets wrong, each under its number in the list of that.

use super::{AS_KYLIN, migrate, migrate_with};
use crate::platform::kylin::migrate::{Dropped, Fate, Options, Refusal, Unknown, Why};

fn why(outcome: &super::Outcome, name: &str) -> Why {
    match &outcome.fates[name] {
        Fate::Broken { why, kept_at } => {
            assert_eq!(*kept_at, format!("_unmigrated/{name}"));
            assert_eq!(outcome.path(kept_at), format!("_files/_unmigrated/{name}"));
            why.clone()
        }
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn w1_object_permissions_and_logical_views_are_migrated() {
    for options in [Options::default(), AS_KYLIN] {
        let store = [("_global/acl/U", r#"{"uuid":"U"}"#), ("_global/logical_view/V", r#"{"table_name":"V"}"#)];
        let outcome = migrate_with(&store, options);
        assert_eq!(outcome.names(""), ["LOGICAL_VIEW/V.json", "OBJECT_ACL/U.json"]);
        assert_eq!(outcome.differences("_global/acl/U"), ["kylin-drops"]);
    }
}

#[test]
fn w2_broken_json_is_kept_and_named() {
    let broken =
        ["", " ", "{", "[]", "7", "null", "\"uuid\" : \"M\"}", "{\"uuid\":01}", "{\"a\":NaN}", "{'a':1}", "{}//x{"];
    for content in broken {
        for name in
            ["P/model_desc/M.json", "P/dataflow/M.json", "P/index_plan/M.json", "P/table/D.T.json", "_global/user/U"]
        {
            let outcome = migrate(&[(name, content), ("P/table/D.U.json", "{}")]);
            if content.starts_with("{}")
                && !name.starts_with("P/model")
                && !name.contains("dataflow/")
                && !name.contains("plan")
            {
                continue;
            }
            why(&outcome, name);
            assert_eq!(outcome.text(&format!("_unmigrated/{name}")), content);
            assert_eq!(outcome.names("").len(), 2, "{name} {content}");
        }
    }
    let store = [("P/table/D.T.json".to_owned(), b"{\"a\":\"\xff\"}".to_vec())];
    let outcome = super::convert(super::survey(&store, Options::default()).finish(), &store);
    assert!(matches!(&outcome.fates["P/table/D.T.json"], Fate::Broken { why: Why::NoJson { .. }, .. }));
    assert_eq!(outcome.documents["_unmigrated/P/table/D.T.json"].1, b"{\"a\":\"\xff\"}");
}

#[test]
fn w3_nothing_after_an_image_or_an_empty_document_is_lost() {
    let store =
        [("_image", r#"{"offset":1}"#), ("P/table/D.A.json", ""), ("_global/user/U", "{}"), ("P/table/D.B.json", "{}")];
    let outcome = migrate(&store);
    assert_eq!(outcome.names(""), ["TABLE_INFO/P.D.B.json", "USER_INFO/U.json", "_unmigrated/P/table/D.A.json"]);
    assert_eq!(outcome.fates["_image"], Fate::Dropped { rule: Dropped::Image });
    assert_eq!(why(&outcome, "P/table/D.A.json"), Why::Empty);
}

#[test]
fn w4_unknown_names_are_kept() {
    let store = [("P/whatever/x.json", "1"), ("x.json", "2"), ("P/table/D.T", "3"), ("P/SEGMENT/s.json", "{}")];
    let outcome = migrate(&store);
    for (name, content) in store {
        assert!(matches!(outcome.fates[name], Fate::Unknown { .. }), "{name}");
        assert_eq!(outcome.text(&format!("_unmigrated/{name}")), content);
    }
    let new = &outcome.fates["P/SEGMENT/s.json"];
    assert!(matches!(new, Fate::Unknown { why: Unknown::NewLayout, .. }), "W19: {new:?}");
}

#[test]
fn w6_a_second_run_adds_nothing() {
    let model = r#"{"uuid":"M","fact_table":"D.F","join_tables":[{"table":"D.L"}],
        "computed_columns":[{"tableIdentity":"D.F","columnName":"C","expression":"1"}]}"#;
    let store =
        [("P/model_desc/M.json", model), ("VERSION", "5.0.0-beta"), ("_global/user_group", r#"{"groups":["G"]}"#)];
    assert_eq!(migrate(&store), migrate(&store));
}

#[test]
fn w7_shared_column_keeps_the_text_of_the_first_model_by_name() {
    let model = |uuid: &str, expression: &str| {
        format!(
            r#"{{"uuid":"{uuid}","fact_table":"D.F","computed_columns":[
            {{"tableIdentity":"D.F","columnName":"C","expression":"{expression}","rec_uuid":"{uuid}"}}]}}"#
        )
    };
    let (a, b, c) = (model("A", "x"), model("B", "x"), model("C", "y"));
    for names in [["A", "B", "C"], ["C", "B", "A"]] {
        let store = names.map(|name| {
            (
                format!("P/model_desc/{name}.json"),
                match name {
                    "A" => &a,
                    "B" => &b,
                    _ => &c,
                },
            )
        });
        let store: Vec<(&str, &str)> = store.iter().map(|(name, content)| (name.as_str(), content.as_str())).collect();
        let outcome = migrate(&store);
        let columns = outcome.names("COMPUTE_COLUMN/");
        assert_eq!(columns.len(), 1);
        assert_eq!(outcome.json(columns[0])["expression"], "x");
        assert_eq!(outcome.names("CC_MODEL_RELATION/").len(), 3);
        assert_eq!(outcome.differences("P/model_desc/B.json"), [""; 0]);
        assert_eq!(outcome.differences("P/model_desc/C.json"), ["column-text"]);
    }
    // A model that is broken owns nothing.
    let outcome = migrate(&[("P/model_desc/A.json", "{"), ("P/model_desc/C.json", &c)]);
    assert_eq!(outcome.json(outcome.names("COMPUTE_COLUMN/")[0])["expression"], "y");
}

#[test]
fn w8_keys_are_those_that_kylin_5_finds() {
    let store = [
        ("p/job_stats/1.json", r#"{"date":1}"#),
        ("q/job_stats/1.json", r#"{"date":1}"#),
        ("p/query/U.json", r#"{"uuid":"x"}"#),
        ("_global/sql_blacklist/p.json", r#"{"project":"p"}"#),
    ];
    let outcome = migrate(&store);
    let names = ["JOB_STATS/p.1.json", "JOB_STATS/q.1.json", "QUERY_RECORD/p.U.json", "SQL_BLACKLIST/p.json"];
    assert_eq!(outcome.names(""), names);
    assert_eq!(
        outcome.text("QUERY_RECORD/p.U.json"),
        "{\n  \"uuid\" : \"x\",\n  \"username\" : \"U\",\n  \"project\" : \"p\"\n}"
    );
    assert_eq!(outcome.json("SQL_BLACKLIST/p.json")["project"], "p");
    let kylin = migrate_with(&store, AS_KYLIN);
    assert_eq!(
        kylin.names(""),
        ["JOB_STATS/1.json", "JOB_STATS/q.1.json", "QUERY_RECORD/U.json", "SQL_BLACKLIST/p.json"]
    );
    assert_eq!(kylin.json("SQL_BLACKLIST/p.json")["project"], "_global");
}

#[test]
fn w9_names_are_not_taken_for_others() {
    let users = ["UUID", "bobUUID", "VERSION", "my_image", "trash_record", "rec"];
    let store: Vec<(String, &str)> = users.iter().map(|user| (format!("_global/user/{user}"), "{}")).collect();
    let store: Vec<(&str, &str)> = store.iter().map(|(name, content)| (name.as_str(), *content)).collect();
    let outcome = migrate(&store);
    assert_eq!(outcome.names("USER_INFO/").len(), users.len());
    assert_eq!(outcome.names("").len(), users.len());
    let projects = [("rec/table/D.T.json", "{}"), ("x_global/acl/user/U.json", "{}"), ("UUIDx/table/D.T.json", "{}")];
    let names = ["ACL/x_global.u.U.json", "TABLE_INFO/UUIDx.D.T.json", "TABLE_INFO/rec.D.T.json"];
    assert_eq!(migrate(&projects).names(""), names);
    // A user may be called `x.json`, and then says so.
    let suffixed = [("_global/user/x.json", r#"{"username":"x.json"}"#), ("_global/user/x", r#"{"username":"x"}"#)];
    assert_eq!(migrate(&suffixed).names(""), ["USER_INFO/x.json", "USER_INFO/x.json.json"]);
}

#[test]
fn w10_store_keeps_its_identity_or_the_migration_stops() {
    let uuid = "c212029c-419e-4a96-badb-01ba9f9dffdc";
    let forms = [
        format!("\0\u{24}{uuid}"),
        uuid.to_owned(),
        format!(" {uuid}\n"),
        format!("\"{uuid}\""),
        format!("{{\"uuid\":\"{uuid}\"}}"),
        format!("{{\"uuid\":\"00000000-0000-0000-0000-000000000000\",\"str\":\"{uuid}\"}}"),
        format!("\u{feff}{uuid}"),
    ];
    for (n, form) in forms.iter().enumerate() {
        let outcome = migrate(&[("UUID", form)]);
        assert_eq!(outcome.keys.refusals(), []);
        assert_eq!(outcome.json("SYSTEM/UUID.json")["str"], uuid, "{form:?}");
        assert_eq!(outcome.differences("UUID").len(), usize::from(n > 0), "{form:?}");
    }
    for unreadable in ["", "nothing", "{}", "\0\u{25}c212029c-419e-4a96-badb-01ba9f9dffdc", "{\"uuid\":\"x\"}", "\0\0"]
    {
        let outcome = migrate(&[("UUID", unreadable)]);
        assert_eq!(outcome.keys.refusals(), [Refusal::IdentityUnknown], "{unreadable:?}");
        assert_eq!(why(&outcome, "UUID"), Why::Identity);
        let options = Options { new_identity: true, ..Options::default() };
        let outcome = migrate_with(&[("UUID", unreadable)], options);
        assert_eq!(outcome.keys.refusals(), []);
        assert_eq!(outcome.json("SYSTEM/UUID.json")["str"].as_str().unwrap().len(), 36);
        assert_eq!(outcome, migrate_with(&[("UUID", unreadable)], options));
    }
}

#[test]
fn w11_what_is_broken_leaves_no_orphans() {
    let broken = [
        ("P/dataflow/M.json", r#"{"uuid":"M","segments":[{"id":"S"},{"name":"no id"}]}"#, "segments[1].id"),
        ("P/dataflow/M.json", r#"{"segments":[{"id":"S"}]}"#, "uuid"),
        ("P/dataflow/M.json", r#"{"uuid":"M","segments":[{"id":"S"},{"id":"S","x":1}]}"#, "segments[1].id"),
        ("P/dataflow/M.json", r#"{"uuid":"M","segments":{}}"#, "segments"),
        ("P/model_desc/M.json", r#"{"uuid":"M"}"#, "fact_table"),
        ("P/model_desc/M.json", r#"{"fact_table":"D.T"}"#, "uuid"),
        ("P/model_desc/M.json", r#"{"uuid":"M","fact_table":"D.T","join_tables":[{}]}"#, "join_tables[0].table"),
        ("P/model_desc/M.json", r#"{"uuid":"M","fact_table":"D.T","computed_columns":[1]}"#, "computed_columns[0]"),
        (
            "P/model_desc/M.json",
            r#"{"uuid":"M","fact_table":"D.T","computed_columns":[{"tableIdentity":"D.T","columnName":"C"},{}]}"#,
            "computed_columns[1].tableIdentity",
        ),
    ];
    for (name, content, expected) in broken {
        let outcome = migrate(&[(name, content)]);
        assert!(matches!(why(&outcome, name), Why::Field { field, .. } if field == expected), "{content}");
        assert_eq!(outcome.names("").len(), 1, "{content}");
    }
    let slash = migrate(&[("P/dataflow/M.json", r#"{"uuid":"M","segments":[{"id":"a/b"}]}"#)]);
    assert_eq!(why(&slash, "P/dataflow/M.json"), Why::Key { key: "a/b".to_owned() });
}

#[test]
fn w21_values_keep_their_kinds() {
    let model = r#"{"uuid":"M","fact_table":"D.T","x":0.12345678901234567890,
        "computed_columns":[{"tableIdentity":"D.T","columnName":"C","n":7,"f":1.50,"b":true,"z":null}]}"#;
    let outcome = migrate(&[("P/model_desc/M.json", model)]);
    assert!(outcome.text("MODEL/M.json").contains("\"x\" : 0.12345678901234567890,"));
    let column = outcome.text(outcome.names("COMPUTE_COLUMN/")[0]);
    assert!(column.contains("\"n\" : 7,\n  \"f\" : 1.5,\n  \"b\" : true,\n  \"z\" : null,"), "{column}");
    assert_eq!(outcome.differences("P/model_desc/M.json"), ["number"]);
    let kylin = migrate_with(&[("P/model_desc/M.json", model)], AS_KYLIN);
    assert!(kylin.text("MODEL/M.json").contains("\"x\" : 0.12345678901234568,"));
    let column = kylin.text(kylin.names("COMPUTE_COLUMN/")[0]);
    assert!(column.contains("\"n\" : \"7\",\n  \"f\" : \"1.5\",\n  \"b\" : \"true\",\n  \"z\" : null,"), "{column}");
}

#[test]
fn w22_other_spelling_of_tables_is_told() {
    let model = r#"{"uuid":"M","fact_table":"D.Orders","join_tables":[{"table":"D.CITY"}]}"#;
    let outcome = migrate(&[("P/model_desc/M.json", model), ("P/table/D.city.json", "{}")]);
    assert_eq!(outcome.differences("P/model_desc/M.json"), ["spelling", "spelling"]);
    let alike = r#"{"uuid":"M","fact_table":"D.orders"}"#;
    let outcome = migrate(&[("P/model_desc/M.json", alike), ("P/table/D.orders.json", "{}")]);
    assert_eq!(outcome.differences("P/model_desc/M.json"), [""; 0]);
}

#[test]
fn what_kylin_reads_leniently_is_converted_and_told() {
    let name = "P/table/D.T.json";
    let outcome = migrate(&[(name, "\u{feff}{\"a\":1,\"a\":2,\"s\":\"\\ud800\"} tail")]);
    assert_eq!(
        outcome.text("TABLE_INFO/P.D.T.json"),
        "{\n  \"a\" : 2,\n  \"s\" : \"\\uD800\",\n  \"project\" : \"P\"\n}"
    );
    assert_eq!(outcome.differences(name), ["encoding", "twice", "text-after"]);
    assert!(outcome.text("_unmigrated/P/table/D.T.json").ends_with(" tail"));
    let null = migrate(&[(
        "P/model_desc/M.json",
        r#"{"uuid":"M","fact_table":null,"join_tables":null,"computed_columns":null}"#,
    )]);
    assert_eq!(null.names(""), ["MODEL/M.json"]);
    assert_eq!(null.differences("P/model_desc/M.json"), ["mended"]);
    let other = migrate(&[(name, r#"{"project":"Q","meta_key":"x"}"#)]);
    assert_eq!(other.text("TABLE_INFO/P.D.T.json"), "{\n  \"project\" : \"P\",\n  \"meta_key\" : \"P.D.T\"\n}");
    assert_eq!(other.differences(name), ["overwritten", "overwritten"]);
}

#[test]
fn columns_and_segments_listed_twice_are_there_once() {
    let model = r#"{"uuid":"M","fact_table":"D.T","computed_columns":[
        {"tableIdentity":"D.T","columnName":"C"},{"tableIdentity":"D.T","columnName":"C"}]}"#;
    let outcome = migrate(&[("P/model_desc/M.json", model)]);
    assert_eq!(outcome.names("CC_MODEL_RELATION/").len(), 1);
    assert_eq!(outcome.differences("P/model_desc/M.json"), ["twice"]);
    let kylin = migrate_with(&[("P/model_desc/M.json", model)], AS_KYLIN);
    assert_eq!(kylin.names("CC_MODEL_RELATION/").len(), 2);
    let dataflow = r#"{"uuid":"M","segments":[{"id":"S","a":1},{"id":"S","a":1}]}"#;
    let outcome = migrate(&[("P/dataflow/M.json", dataflow)]);
    assert_eq!(outcome.names("SEGMENT/").len(), 1);
    assert_eq!(outcome.differences("P/dataflow/M.json"), ["twice"]);
}
