use super::*;

fn path(text: &str) -> EntryPath {
    EntryPath::new(text.as_bytes()).unwrap()
}

/// The form of a name that is converted, as text.
fn form(text: &str) -> String {
    match rule_of(&path(text)) {
        Rule::Convert(form) => format!("{form:?}"),
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn every_row_of_the_table_has_its_rule() {
    let forms = [
        ("UUID", "Identity"),
        ("VERSION", "Version"),
        ("_image", "Image"),
        ("_global/upgrade/acl_version.json", "AclVersion"),
        ("_global/project/NAME.json", r#"Project { project: "NAME", is_inside: false }"#),
        ("P/project.json", r#"Project { project: "P", is_inside: true }"#),
        ("_global/user/NAME", r#"Global { kind: User, file: "NAME" }"#),
        ("_global/user_group/NAME", r#"Global { kind: UserGroup, file: "NAME" }"#),
        ("_global/user_group", "UserGroups"),
        ("_global/sys_acl/user/NAME", r#"Global { kind: UserAcl, file: "NAME" }"#),
        ("_global/acl/ID", r#"Global { kind: ObjectAcl, file: "ID" }"#),
        ("_global/logical_view/NAME", r#"Global { kind: LogicalView, file: "NAME" }"#),
        ("_global/resource_group/relation.json", r#"Global { kind: ResourceGroup, file: "relation.json" }"#),
        ("_global/history_source_usage/N.json", r#"Global { kind: HistorySourceUsage, file: "N.json" }"#),
        ("_global/sql_blacklist/P.json", r#"SqlBlacklist { project: "P" }"#),
        ("P/model_desc/M.json", r#"Model { project: "P", model: "M" }"#),
        ("P/dataflow/M.json", r#"Dataflow { project: "P", model: "M" }"#),
        ("P/index_plan/M.json", r#"IndexPlan { project: "P", model: "M" }"#),
        ("P/dataflow_details/M/S.json", r#"Details { project: "P", model: "M", segment: "S" }"#),
        ("P/fusion_model/M.json", r#"FusionModel { project: "P", model: "M" }"#),
        ("P/table/DB.T.json", r#"InProject { kind: Table, project: "P", key: "DB.T" }"#),
        ("P/table_exd/DB.T.json", r#"InProject { kind: TableExd, project: "P", key: "DB.T" }"#),
        ("P/kafka/DB.T.json", r#"InProject { kind: Kafka, project: "P", key: "DB.T" }"#),
        ("P/jar/TYPE_NAME.json", r#"InProject { kind: Jar, project: "P", key: "TYPE_NAME" }"#),
        ("P/parser/a.b.C.json", r#"Parser { project: "P", class: "a.b.C" }"#),
        ("P/streaming/M_build", r#"StreamingJob { project: "P", job: "M_build" }"#),
        ("P/streaming/M_merge.json", r#"StreamingJob { project: "P", job: "M_merge" }"#),
        ("P/job_stats/123.json", r#"InProject { kind: JobStats, project: "P", key: "123" }"#),
        ("P/query/ALICE.json", r#"InProject { kind: QueryRecord, project: "P", key: "ALICE" }"#),
        ("P/acl/user/NAME.json", r#"Acl { project: "P", is_group: false, name: "NAME" }"#),
        ("P/acl/group/NAME.json", r#"Acl { project: "P", is_group: true, name: "NAME" }"#),
        ("P/rec/M.json", r#"Recommendations { project: "P", model: "M" }"#),
    ];
    for (name, expected) in forms {
        assert_eq!(form(name), expected, "{name}");
    }
    let dropped = [
        ("_global/trash_record", Dropped::TrashRecord),
        ("_global/epoch/P", Dropped::Epoch),
        ("kylin.properties", Dropped::Properties),
        ("P/table/.DS_Store", Dropped::Leftover),
        ("P/table/.DB.T.json.crc", Dropped::Leftover),
        ("P/rule/x.json", Dropped::Rules),
        ("P/execute/j", Dropped::Jobs),
        ("P/event/e.json", Dropped::Jobs),
        ("P/async_task/t.json", Dropped::Jobs),
        ("P/favorite/f.json", Dropped::Rules),
        ("P/loading_range/DB.T.json", Dropped::Rules),
        ("P/recommendation/M.json", Dropped::Recommendations),
        ("P/accelerate_ratio/a.json", Dropped::Recommendations),
        ("P/rec_items/M/r.json", Dropped::Recommendations),
        ("P/dataflow_detail/M.json", Dropped::DataflowDetail),
        ("P/query_history/q.json", Dropped::QueryHistory),
        ("P/query_history_id/q.json", Dropped::QueryHistory),
        ("P/query_history_time/q.json", Dropped::QueryHistory),
        ("P/query_history_id_offset/q.json", Dropped::QueryHistory),
        ("P/query_history_time_offset/q.json", Dropped::QueryHistory),
    ];
    for (name, expected) in dropped {
        assert_eq!(rule_of(&path(name)), Rule::Drop(expected), "{name}");
        assert!(!expected.text().is_empty());
    }
}

#[test]
fn w4_what_is_not_understood_has_a_reason() {
    let unknown = [
        ("P/whatever/x.json", Unknown::Folder),
        ("temp_statement/P/x.json", Unknown::Folder),
        ("_global/whatever/x.json", Unknown::Folder),
        ("x.json", Unknown::Depth),
        ("UUID.json", Unknown::Depth),
        ("P/table/a/b.json", Unknown::Depth),
        ("P/dataflow_details/x.json", Unknown::Depth),
        ("P/dataflow_details/M/S/x.json", Unknown::Depth),
        ("_global.project/P.json", Unknown::Depth),
        ("_global/user/a/b", Unknown::Depth),
        ("P/x.json", Unknown::Depth),
        ("P/table/DB.T", Unknown::Suffix),
        ("P/table/.json", Unknown::Suffix),
        ("_global/project/P", Unknown::Suffix),
        ("P/SEGMENT/x.json", Unknown::NewLayout),
        ("MODEL/x.json", Unknown::NewLayout),
        ("_files/table/DB.T.json", Unknown::Project),
    ];
    for (name, expected) in unknown {
        assert_eq!(rule_of(&path(name)), Rule::Keep(expected), "{name}");
        assert!(!expected.text().is_empty());
    }
    let no_text = EntryPath::new(&b"P/table/\xff.json"[..]).unwrap();
    assert_eq!(rule_of(&no_text), Rule::Keep(Unknown::Text));
}

#[test]
fn w9_names_are_compared_as_whole_parts() {
    for user in ["bobUUID", "UUID", "VERSION", "my_image", "trash_record", "rec", "epoch"] {
        let name = format!("_global/user/{user}");
        assert_eq!(form(&name), format!("Global {{ kind: User, file: {user:?} }}"));
    }
    for project in ["rec", "x_global", "UUIDx", "VERSION2", "rule", "execute", "trash_record", "epoch", "streaming"] {
        let name = format!("{project}/acl/user/U.json");
        assert_eq!(form(&name), format!("Acl {{ project: {project:?}, is_group: false, name: \"U\" }}"));
        let name = format!("{project}/table/DB.T.json");
        assert_eq!(form(&name), format!("InProject {{ kind: Table, project: {project:?}, key: \"DB.T\" }}"));
        let name = format!("{project}/model_desc/rec.json");
        assert_eq!(form(&name), format!("Model {{ project: {project:?}, model: \"rec\" }}"));
    }
}
