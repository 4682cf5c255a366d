//! The forms of Kylin 4 and before, at which Kylin's tool stops.

use super::{TIME_MS, migrate};
use crate::platform::kylin::migrate::Fate;

#[test]
fn w20_groups_in_one_document_become_one_each() {
    let groups = r#"{"uuid":"G","groups":["ALL_USERS","ROLE_ADMIN","all_users"]}"#;
    let outcome = migrate(&[("_global/user_group", groups)]);
    assert_eq!(outcome.names(""), ["USER_GROUP/ALL_USERS.json", "USER_GROUP/ROLE_ADMIN.json"]);
    let uuid = outcome.json("USER_GROUP/ALL_USERS.json")["uuid"].as_str().unwrap().to_owned();
    let expected = format!(
        "{{\n  \"uuid\" : \"{uuid}\",\n  \"last_modified\" : 0,\n  \"create_time\" : {TIME_MS},\n  \
         \"version\" : \"5.0.2.0\",\n  \"group_name\" : \"ALL_USERS\",\n  \"project\" : \"_global\"\n}}"
    );
    assert_eq!(outcome.text("USER_GROUP/ALL_USERS.json"), expected);
    // In a zip or a list both forms can be; a group with a document of its own keeps that.
    let both = migrate(&[("_global/user_group", groups), ("_global/user_group/all_users", r#"{"uuid":"X"}"#)]);
    assert_eq!(both.names(""), ["USER_GROUP/ROLE_ADMIN.json", "USER_GROUP/all_users.json"]);
    assert_eq!(both.differences("_global/user_group"), ["kylin-stops", "twice"]);
    let none = migrate(&[("_global/user_group", r#"{"groups":[]}"#)]);
    assert_eq!(none.fates["_global/user_group"], Fate::Split { to: Vec::new() });
    for broken in [r#"{"groups":[1]}"#, r#"{"groups":["a/b"]}"#, r#"{}"#, r#"{"groups":{}}"#] {
        let outcome = migrate(&[("_global/user_group", broken)]);
        assert_eq!(outcome.names(""), ["_unmigrated/_global/user_group"], "{broken}");
    }
}

#[test]
fn w20_project_in_its_own_folder_is_a_project() {
    let outcome = migrate(&[("P/project.json", r#"{"uuid":"U","name":"P"}"#)]);
    assert_eq!(outcome.text("PROJECT/P.json"), r#"{"uuid":"U","name":"P"}"#);
    assert_eq!(outcome.differences("P/project.json"), ["kylin-stops"]);
    let both = [("P/project.json", r#"{"uuid":"old"}"#), ("_global/project/P.json", r#"{"uuid":"new"}"#)];
    let outcome = migrate(&both);
    assert_eq!(outcome.text("PROJECT/P.json"), r#"{"uuid":"new"}"#);
    assert_eq!(outcome.text("_unmigrated/P/project.json"), r#"{"uuid":"old"}"#);
    // One that is broken takes the place of none.
    let outcome = migrate(&[("P/project.json", r#"{"uuid":"old"}"#), ("_global/project/P.json", "{")]);
    assert_eq!(outcome.text("PROJECT/P.json"), r#"{"uuid":"old"}"#);
    assert_eq!(outcome.text("_unmigrated/_global/project/P.json"), "{");
}
