//! The forms one by one, byte for byte.

use super::{AS_KYLIN, TIME_MS, migrate, migrate_with};
use crate::platform::kylin::migrate::Fate;

const MODEL: &str = r#"{"uuid":"M1","alias":"sales","fact_table":"DB.ORDERS",
 "join_tables":[{"table":"DB.CITY","alias":"CITY"},{"table":"DB.CITY","alias":"SHIP_CITY"}],
 "computed_columns":[{"tableIdentity":"DB.ORDERS","tableAlias":"ORDERS","columnName":"TOTAL",
   "expression":"ORDERS.PRICE * ORDERS.QTY","datatype":"DECIMAL(19,4)","comment":null,"rec_uuid":null}],
 "canvas":{"zoom":9.5}}"#;

#[test]
fn model_becomes_model_columns_and_relations() {
    let outcome = migrate(&[("shop/model_desc/M1.json", MODEL)]);
    let column = outcome.names("COMPUTE_COLUMN/")[0];
    let id = column.strip_prefix("COMPUTE_COLUMN/").unwrap().strip_suffix(".json").unwrap();
    let model = r#"{
  "uuid" : "M1",
  "alias" : "sales",
  "fact_table" : "DB.ORDERS",
  "join_tables" : [ {
    "table" : "DB.CITY",
    "alias" : "CITY"
  }, {
    "table" : "DB.CITY",
    "alias" : "SHIP_CITY"
  } ],
  "canvas" : {
    "zoom" : 9.5
  },
  "computed_column_uuids" : [ "CC1" ],
  "project" : "shop"
}"#;
    assert_eq!(outcome.text("MODEL/M1.json"), model.replace("CC1", id));
    let expected = r#"{
  "tableIdentity" : "DB.ORDERS",
  "tableAlias" : "ORDERS",
  "columnName" : "TOTAL",
  "expression" : "ORDERS.PRICE * ORDERS.QTY",
  "datatype" : "DECIMAL(19,4)",
  "comment" : null,
  "rec_uuid" : null,
  "uuid" : "CC1",
  "project" : "shop"
}"#;
    assert_eq!(outcome.text(column), expected.replace("CC1", id));
    let relation = outcome.names("CC_MODEL_RELATION/")[0];
    let own = relation.strip_prefix("CC_MODEL_RELATION/").unwrap().strip_suffix(".json").unwrap();
    let expected = r#"{
  "cc_uuid" : "CC1",
  "model_uuid" : "M1",
  "project" : "shop",
  "uuid" : "R1"
}"#;
    assert_eq!(outcome.text(relation), expected.replace("CC1", id).replace("R1", own));
    let mut tables = Vec::new();
    for relation in outcome.names("TABLE_MODEL_RELATION/") {
        let own = relation.strip_prefix("TABLE_MODEL_RELATION/").unwrap().strip_suffix(".json").unwrap();
        let table = outcome.json(relation)["table_identity"].as_str().unwrap().to_owned();
        let expected = "{\n  \"table_identity\" : \"T\",\n  \"model_uuid\" : \"M1\",\n  \"project\" : \"shop\",\n  \
                        \"uuid\" : \"R\"\n}";
        assert_eq!(outcome.text(relation), expected.replace('R', own).replace("\"T\"", &format!("\"{table}\"")));
        assert_eq!(outcome.path(relation), format!("shop/TABLE_MODEL_RELATION/{own}"));
        tables.push(table);
    }
    tables.sort();
    assert_eq!(tables, ["DB.CITY", "DB.ORDERS"]);
    assert_eq!(outcome.documents.len(), 5);
    let Fate::Split { to } = &outcome.fates["shop/model_desc/M1.json"] else { panic!("it is split") };
    assert_eq!(to.len(), 5);
    assert_eq!(outcome.differences("shop/model_desc/M1.json"), [""; 0]);
}

#[test]
fn dataflow_gives_its_segments_away() {
    let dataflow = r#"{"uuid":"M1","status":"ONLINE","segments":[{"id":"S1","name":"FULL_BUILD","status":"READY",
  "segRange":{"date_range_start":0,"date_range_end":100}}],"cost":50}"#;
    let outcome = migrate(&[("shop/dataflow/M1.json", dataflow)]);
    let expected = r#"{
  "uuid" : "M1",
  "status" : "ONLINE",
  "cost" : 50,
  "project" : "shop",
  "segment_uuids" : [ "S1" ]
}"#;
    assert_eq!(outcome.text("DATAFLOW/M1.json"), expected);
    let expected = r#"{
  "name" : "FULL_BUILD",
  "status" : "READY",
  "segRange" : {
    "date_range_start" : 0,
    "date_range_end" : 100
  },
  "uuid" : "S1",
  "model_uuid" : "M1",
  "project" : "shop"
}"#;
    assert_eq!(outcome.text("SEGMENT/S1.json"), expected);
    assert_eq!(outcome.path("SEGMENT/S1.json"), "shop/SEGMENT/S1");
    for none in [r#"{"uuid":"M"}"#, r#"{"uuid":"M","segments":null}"#, r#"{"uuid":"M","segments":[]}"#] {
        let outcome = migrate(&[("shop/dataflow/M.json", none)]);
        assert!(outcome.text("DATAFLOW/M.json").ends_with("\"segment_uuids\" : [ ]\n}"), "{none}");
        assert_eq!(outcome.documents.len(), 1);
    }
    let numeric = migrate(&[("shop/dataflow/M.json", r#"{"uuid":"M","segments":[{"id":7}]}"#)]);
    assert!(numeric.text("DATAFLOW/M.json").contains("[ \"7\" ]"));
    assert_eq!(numeric.json("SEGMENT/7.json")["uuid"], "7");
}

#[test]
fn what_gains_a_project_keeps_all_else() {
    let project = "{\n  \"a\" : 1,\n  \"project\" : \"P\"\n}";
    let global = "{\n  \"a\" : 1,\n  \"project\" : \"_global\"\n}";
    let rows = [
        ("_global/user/NAME", "USER_INFO/NAME.json", "_global/USER_INFO/NAME", global),
        ("_global/user_group/NAME", "USER_GROUP/NAME.json", "_global/USER_GROUP/NAME", global),
        ("_global/sys_acl/user/NAME", "USER_GLOBAL_ACL/NAME.json", "_global/USER_GLOBAL_ACL/NAME", global),
        ("_global/acl/ID", "OBJECT_ACL/ID.json", "_global/OBJECT_ACL/ID", global),
        ("_global/logical_view/NAME", "LOGICAL_VIEW/NAME.json", "_unplaced/LOGICAL_VIEW/NAME", global),
        (
            "_global/resource_group/relation.json",
            "RESOURCE_GROUP/relation.json",
            "_global/RESOURCE_GROUP/relation",
            global,
        ),
        (
            "_global/history_source_usage/N.json",
            "HISTORY_SOURCE_USAGE/N.json",
            "_global/HISTORY_SOURCE_USAGE/N",
            global,
        ),
        ("_global/sql_blacklist/P.json", "SQL_BLACKLIST/P.json", "P/SQL_BLACKLIST/P", project),
        ("P/fusion_model/M.json", "FUSION_MODEL/M.json", "P/FUSION_MODEL/M", project),
        ("P/table/DB.T.json", "TABLE_INFO/P.DB.T.json", "P/TABLE_INFO/P.DB.T", project),
        ("P/table_exd/DB.T.json", "TABLE_EXD/P.DB.T.json", "P/TABLE_EXD/P.DB.T", project),
        ("P/kafka/DB.T.json", "KAFKA_CONFIG/P.DB.T.json", "P/KAFKA_CONFIG/P.DB.T", project),
        ("P/jar/TYPE_NAME.json", "JAR_INFO/P.TYPE_NAME.json", "P/JAR_INFO/P.TYPE_NAME", project),
        ("P/parser/CLASS.json", "DATA_PARSER/P.CLASS.json", "P/DATA_PARSER/P.CLASS", project),
        ("P/streaming/M_build", "STREAMING_JOB/M_build.json", "P/STREAMING_JOB/M_build", project),
        ("P/streaming/M_merge", "STREAMING_JOB/M_merge.json", "P/STREAMING_JOB/M_merge", project),
        ("P/job_stats/123.json", "JOB_STATS/P.123.json", "P/JOB_STATS/P.123", project),
        ("P/acl/user/NAME.json", "ACL/P.u.NAME.json", "P/ACL/P.u.NAME", project),
        ("P/acl/group/NAME.json", "ACL/P.g.NAME.json", "P/ACL/P.g.NAME", project),
    ];
    for (old, new, path, expected) in rows {
        let outcome = migrate(&[(old, r#"{"a":1}"#)]);
        assert_eq!(outcome.text(new), expected, "{old}");
        assert_eq!(outcome.path(new), path);
        assert_eq!(outcome.fates[old], Fate::Migrated { to: new.to_owned() });
    }
    let in_place = migrate(&[("shop/kafka/DB.CLICKS.json", r#"{"name":"CLICKS","project":"shop","x":[]}"#)]);
    let expected = "{\n  \"name\" : \"CLICKS\",\n  \"project\" : \"shop\",\n  \"x\" : [ ]\n}";
    assert_eq!(in_place.text("KAFKA_CONFIG/shop.DB.CLICKS.json"), expected);
    let user = migrate(&[("_global/user/ALICE", r#"{"username":"ALICE","uuid":"U1","disabled":false}"#)]);
    let expected = "{\n  \"username\" : \"ALICE\",\n  \"uuid\" : \"U1\",\n  \"disabled\" : false,\n  \
                    \"project\" : \"_global\"\n}";
    assert_eq!(user.text("USER_INFO/ALICE.json"), expected);
}

#[test]
fn projects_are_copied_byte_for_byte() {
    let content = "{\"uuid\":\"U\",\r\n\t\"name\":\"P\" , \"x\":1.10}\n";
    let acl = r#"{"uuid":"U"}"#;
    let view = r#"{"table_name":"V","created_project":"P"}"#;
    let store = [("_global/project/P.json", content), ("_global/acl/U", acl), ("_global/logical_view/V", view)];
    let outcome = migrate(&store);
    assert_eq!(outcome.text("PROJECT/P.json"), content);
    assert_eq!(outcome.path("PROJECT/P.json"), "P/PROJECT/P");
    assert_eq!(outcome.path("OBJECT_ACL/U.json"), "P/OBJECT_ACL/U");
    assert_eq!(outcome.path("LOGICAL_VIEW/V.json"), "P/LOGICAL_VIEW/V");
}

#[test]
fn details_become_layouts() {
    let details = r#"{"uuid":"S1","last_modified":5,"dataflow":"M1","layout_instances":[{"layout_id":1}]}"#;
    let outcome = migrate(&[("shop/dataflow_details/M1/S1.json", details)]);
    let expected = "{\n  \"uuid\" : \"S1\",\n  \"last_modified\" : 5,\n  \"dataflow\" : \"M1\",\n  \
                    \"layout_instances\" : [ {\n    \"layout_id\" : 1\n  } ],\n  \"project\" : \"shop\"\n}";
    assert_eq!(outcome.text("LAYOUT/S1.json"), expected);
    let bare = migrate(&[("shop/dataflow_details/M1/S1.json", r#"{"uuid":"other"}"#)]);
    let expected = "{\n  \"uuid\" : \"S1\",\n  \"dataflow\" : \"M1\",\n  \"project\" : \"shop\"\n}";
    assert_eq!(bare.text("LAYOUT/S1.json"), expected);
    assert_eq!(bare.differences("shop/dataflow_details/M1/S1.json"), ["overwritten"]);
}

#[test]
fn index_plan_is_called_after_its_uuid() {
    let outcome = migrate(&[("shop/index_plan/other.json", r#"{"uuid":"M1","indexes":[]}"#)]);
    let expected = "{\n  \"uuid\" : \"M1\",\n  \"indexes\" : [ ],\n  \"project\" : \"shop\"\n}";
    assert_eq!(outcome.text("INDEX_PLAN/M1.json"), expected);
    assert_eq!(outcome.differences("shop/index_plan/other.json"), ["misnamed"]);
}

#[test]
fn recommendations_are_wrapped() {
    let outcome = migrate(&[("shop/rec/M1.json", r#"[{"id":1,"type":"DIMENSION"}]"#)]);
    let expected = "{\n  \"uuid\" : \"M1\",\n  \"project\" : \"shop\",\n  \"rec_items\" : [ {\n    \"id\" : 1,\n    \
                    \"type\" : \"DIMENSION\"\n  } ]\n}";
    assert_eq!(outcome.text("TMP_REC/shop.M1.json"), expected);
    for any in ["7", "null", "\"text\"", "{}"] {
        let outcome = migrate(&[("shop/rec/M1.json", any)]);
        assert!(outcome.json("TMP_REC/shop.M1.json").get("rec_items").is_some(), "{any}");
    }
}

#[test]
fn parser_is_called_after_its_class() {
    let outcome = migrate(&[("P/parser/x.json", r#"{"class_name":"org.Parser","jar_name":"j"}"#)]);
    assert_eq!(outcome.names(""), ["DATA_PARSER/P.org.Parser.json"]);
}

#[test]
fn system_documents_say_when_the_store_says() {
    let store = [
        ("UUID", "\0\u{24}c212029c-419e-4a96-badb-01ba9f9dffdc"),
        ("VERSION", "5.0.0-beta \n"),
        ("_image", r#"{"offset":77,"x":1}"#),
        ("_global/upgrade/acl_version.json", r#"{"uuid":"A","last_modified":5,"acl_version":"2"}"#),
    ];
    let outcome = migrate(&store);
    let expected = format!(
        "{{\n  \"uuid\" : \"c212029c-419e-4a96-badb-01ba9f9dffdc\",\n  \"last_modified\" : 0,\n  \
         \"create_time\" : {TIME_MS},\n  \"version\" : \"5.0.2.0\",\n  \
         \"str\" : \"c212029c-419e-4a96-badb-01ba9f9dffdc\",\n  \"name\" : \"UUID\"\n}}"
    );
    assert_eq!(outcome.text("SYSTEM/UUID.json"), expected);
    let version = outcome.json("SYSTEM/VERSION.json");
    assert_eq!((&version["str"], &version["name"]), (&"5.0.0-beta".into(), &"VERSION".into()));
    let expected = "{\n  \"uuid\" : \"A\",\n  \"last_modified\" : 5,\n  \"acl_version\" : \"2\",\n  \
                    \"name\" : \"acl_version\"\n}";
    assert_eq!(outcome.text("SYSTEM/acl_version.json"), expected);
    assert_eq!(outcome.fates["_image"], Fate::Dropped { rule: crate::platform::kylin::migrate::Dropped::Image });
    let kylin = migrate_with(&store, AS_KYLIN);
    assert_eq!(kylin.text("SYSTEM/_image.json"), "{\n  \"offset\" : 77\n}");
    let expected = "{\n  \"acl_version\" : \"2\",\n  \"name\" : \"acl_version\",\n  \"uuid\" : \"A\",\n  \
                    \"last_modified\" : \"5\"\n}";
    assert_eq!(kylin.text("SYSTEM/acl_version.json"), expected);
}
