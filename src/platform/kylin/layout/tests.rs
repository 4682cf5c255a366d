use super::*;
use proptest::prelude::*;

const CORE: Layout = Layout::New(Level::Core);
const FOLDER: Layout = Layout::New(Level::Folder);

fn path(text: &str) -> EntryPath {
    EntryPath::new(text.as_bytes()).unwrap()
}

#[test]
fn keys_of_audit_logs_have_names_and_back() {
    let cases = [
        (CORE, "MODEL/m", "MODEL/m.json", "p/MODEL/m"),
        (FOLDER, "MODEL/m.json", "core_meta/MODEL/m.json.json", "p/MODEL/m.json"),
        (CORE, "SYSTEM/UUID", "SYSTEM/UUID.json", "_global/SYSTEM/UUID"),
        (CORE, "PROJECT/p", "PROJECT/p.json", "p/PROJECT/p"),
        (Layout::Old, "/p/model_desc/m.json", "p/model_desc/m.json", "p/model_desc/m.json"),
        (Layout::Old, "/_global/project/p.json", "_global/project/p.json", "p/project/p.json"),
        (Layout::Old, "/_global/acl/u", "_global/acl/u", "p/object_acl/u"),
    ];
    for (layout, key, name, at) in cases {
        assert_eq!(layout.name_of_key(key.as_bytes()), Some(path(name)), "{key}");
        assert_eq!(layout.path_in(&path(name), Some(b"p")), path(at), "{key}");
        assert_eq!(layout.key_of(&path(at)).as_deref(), Some(key.as_bytes()), "{at}");
    }
    for (layout, bad) in [(CORE, "MODEL"), (CORE, "THING/x"), (CORE, "MODEL/a/b"), (CORE, "/p/x"), (Layout::Old, "p/x")]
    {
        assert_eq!(layout.name_of_key(bad.as_bytes()), None, "{bad}");
    }
    assert_eq!(CORE.key_of(&path("_files/x")), None);
    assert_eq!(CORE.key_of_project(b"p"), b"PROJECT/p");
    assert_eq!(Layout::Old.key_of_project(b"p"), b"/_global/project/p.json");
    assert_eq!(CORE.permissions_within(None), path("_global/OBJECT_ACL"));
    assert_eq!(Layout::Old.permissions_within(Some(b"p")), path("p/object_acl"));
}

#[test]
fn names_have_paths_and_back() {
    let cases = [
        (CORE, "MODEL/m.json", "p/MODEL/m"),
        (CORE, "PROJECT/p.json", "p/PROJECT/p"),
        (CORE, "PROJECT/_files.json", "_unplaced/PROJECT/_files"),
        (CORE, "OBJECT_ACL/u.json", "p/OBJECT_ACL/u"),
        (CORE, "USER_INFO/ADMIN.json", "_global/USER_INFO/ADMIN"),
        (CORE, "SYSTEM/_image.json", "_global/SYSTEM/_image"),
        (CORE, "TABLE_INFO/p.DB.T.json", "p/TABLE_INFO/p.DB.T"),
        (CORE, "_REC/p.m.json", "p/_REC/p.m"),
        (CORE, "MODEL/m.txt", "_files/MODEL/m.txt"),
        (CORE, "MODEL/.json", "_files/MODEL/.json"),
        (CORE, "MODEL/...json", "_files/MODEL/...json"),
        (CORE, "MODEL/a/m.json", "_files/MODEL/a/m.json"),
        (CORE, "NEW_TYPE/m.json", "_files/NEW_TYPE/m.json"),
        (CORE, "kylin.properties", "_files/kylin.properties"),
        (FOLDER, "core_meta/MODEL/m.json", "p/MODEL/m"),
        (FOLDER, "core_meta/kylin.properties", "_files/kylin.properties"),
        (FOLDER, "MODEL/m.json", "_beside/MODEL/m.json"),
        (FOLDER, "job_info/p/j.json", "p/job_info/j"),
        (FOLDER, "job_info/_files/j.json", "_beside/job_info/_files/j.json"),
        (FOLDER, "job_info/p.zip", "_beside/job_info/p.zip"),
        (Layout::Old, "UUID", "UUID"),
        (Layout::Old, "p/model_desc/m.json", "p/model_desc/m.json"),
        (Layout::Old, "_global/project/p.json", "p/project/p.json"),
        (Layout::Old, "p/project/p.json", "_files/p/project/p.json"),
        (Layout::Old, "p/project.json", "p/project.json"),
        (Layout::Old, "_global/acl/u", "p/object_acl/u"),
        (Layout::Old, "p/object_acl/u", "_files/p/object_acl/u"),
        (Layout::Old, "_files/x", "_files/_files/x"),
        (Layout::Old, "_global/user/ADMIN", "_global/user/ADMIN"),
    ];
    for (layout, name, expected) in cases {
        let found = layout.path_in(&path(name), Some(b"p"));
        assert_eq!(found, path(expected), "{layout} {name}");
        assert_eq!(layout.name_of(&found), Some(path(name)), "{layout} {expected}");
    }
}

#[test]
fn what_is_not_told_is_not_guessed() {
    for project in [None, Some(&b"_files"[..]), Some(b""), Some(b".."), Some(b"a/b"), Some(b"\xff")] {
        assert_eq!(CORE.path_in(&path("MODEL/m.json"), project), path("_unplaced/MODEL/m"));
        assert_eq!(CORE.path_in(&path("OBJECT_ACL/u.json"), project), path("_global/OBJECT_ACL/u"));
        assert_eq!(Layout::Old.path_in(&path("_global/acl/u"), project), path("_global/acl/u"));
    }
}

#[test]
fn paths_without_a_place_have_no_name() {
    for (layout, without) in [
        (CORE, "p/job_info/j"),
        (CORE, "_beside/x"),
        (CORE, "p/x"),
        (FOLDER, "p/NEW_TYPE/k"),
        (Layout::Old, "_beside/x"),
    ] {
        assert_eq!(layout.name_of(&path(without)), None, "{layout} {without}");
    }
}

proptest! {
    #[test]
    fn every_name_has_one_path_that_tells_it(
        parts in prop::collection::vec("(p|_global|_files|_unplaced|_beside|MODEL|PROJECT|OBJECT_ACL|core_meta|job_info|project|acl|object_acl|p\\.json|\\.json|[a-z.]{1,3})", 1..5),
        project in prop::option::of("(p|_global|_files|x/y)"),
    ) {
        if let Ok(name) = EntryPath::new(parts.join("/").into_bytes()) {
            for layout in [CORE, FOLDER, Layout::Old] {
                let path = layout.path_in(&name, project.as_deref().map(str::as_bytes));
                prop_assert_eq!(layout.name_of(&path), Some(name.clone()), "{} {}", layout, path);
            }
        }
    }
}
