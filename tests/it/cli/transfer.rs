//! Export to what Kylin's own tool restores, and import of what it made.

use std::collections::BTreeMap;
use std::fs;

use super::{Sandbox, contents, copy, lines, read_zip, state, write_zip};

/// A repository with one backup of a Kylin of the layout of 5.0.0 and later, at the level of a folder of a backup.
fn with_backup() -> Sandbox {
    let sandbox = Sandbox::empty();
    sandbox.write("store/job_info/retail/j1.json", "{\"jobId\":\"j1\"}");
    sandbox.write_kylin("store/core_meta");
    sandbox.done("backup --store store --label good");
    sandbox
}

/// Writes a small store of the old layout.
fn write_old(sandbox: &Sandbox, folder: &str) {
    sandbox.write(&format!("{folder}/UUID"), "\0$3cbd7f37-dcdc-90b7-fe97-de0a98af7fec");
    sandbox.write(&format!("{folder}/_global/project/p.json"), "{\"uuid\":\"1\",\"name\":\"p\"}");
    sandbox.write(&format!("{folder}/_global/user/ADMIN"), "{}");
    sandbox.write(&format!("{folder}/p/table/DB.T.json"), "{\"name\":\"T\"}");
    sandbox.settle();
}

/// Writes a small backup of the new layout, as Kylin's tool does.
fn write_small(sandbox: &Sandbox, folder: &str, description: &str) {
    let project = format!("{{\"uuid\":\"1\",\"name\":\"p\",\"description\":\"{description}\"}}");
    sandbox.write(&format!("{folder}/core_meta/PROJECT/p.json"), &project);
    sandbox.write(&format!("{folder}/core_meta/SYSTEM/UUID.json"), "{\"uuid\":\"2\",\"str\":\"2\",\"name\":\"UUID\"}");
}

fn root_of(sandbox: &Sandbox, label: &str) -> String {
    let (_, list) = sandbox.json("snapshots");
    let snapshot = list.iter().find(|snapshot| snapshot["label"] == label).expect(label);
    snapshot["root"].as_str().unwrap().to_owned()
}

#[test]
fn export_as_a_folder_is_what_was_backed_up() {
    let sandbox = with_backup();
    let said = sandbox.done("export good out");
    assert!(said.starts_with("exported 89 documents of snapshot ID to out: "), "{said}");
    assert!(contents(&sandbox.path("out")) == contents(&sandbox.path("store")));
    let time = |name: &str| fs::metadata(sandbox.path(name).join("core_meta/PROJECT/retail.json")).unwrap().modified();
    assert_eq!(time("out").unwrap(), time("store").unwrap());
}

#[test]
fn export_of_a_store_without_core_meta_has_one() {
    let sandbox = Sandbox::empty();
    sandbox.write_kylin("store");
    sandbox.done("backup --store store --label good");
    sandbox.done("export good out");
    assert!(contents(&sandbox.path("out/core_meta")) == contents(&sandbox.path("store")));
    assert_eq!(fs::read_dir(sandbox.path("out")).unwrap().count(), 1);
}

#[test]
fn export_as_a_zip_says_what_has_no_place_in_it() {
    let sandbox = with_backup();
    let ran = sandbox.run("export good out.zip --format zip");
    assert_eq!((ran.code, ran.stderr.as_str()), (3, ""));
    let first = "left out, since a zip has no place for it: 1 document (retail/job_info/j1)\n\
                 exported 88 documents of snapshot ID to out.zip: ";
    assert!(ran.stdout.starts_with(first), "{}", ran.stdout);
    assert!(read_zip(&sandbox.path("out.zip")) == contents(&sandbox.path("store/core_meta")));
}

#[test]
fn export_as_a_folder_with_a_zip() {
    let sandbox = with_backup();
    let said = sandbox.done("export good out --format zip");
    assert!(said.starts_with("exported 89 documents of snapshot ID to out: "), "{said}");
    let names: Vec<String> = contents(&sandbox.path("out")).into_keys().collect();
    assert_eq!(names, ["core_meta/metadata.zip", "job_info/retail/j1.json"]);
    assert!(read_zip(&sandbox.path("out/core_meta/metadata.zip")) == contents(&sandbox.path("store/core_meta")));
    let here = fs::read_dir(sandbox.folder.path()).unwrap().count();
    assert_eq!(here, 3, "nothing is left beside the store, the repository and the export");
}

#[test]
fn export_overwrites_nothing() {
    let sandbox = with_backup();
    sandbox.write("folder/x", "x\n");
    sandbox.write("file.zip", "x\n");
    std::os::unix::fs::symlink("nowhere", sandbox.path("link")).unwrap();
    for words in ["folder", "file.zip", "link", "folder --format zip", "file.zip --format zip", "link --format zip"] {
        let place = words.split(' ').next().unwrap();
        let expected = format!(
            "error: {place} exists already
            hint: name a place that does not exist yet; nothing is ever overwritten by an export"
        );
        sandbox.refused(&format!("export good {words}"), 14, &expected);
    }
}

#[test]
fn export_of_a_project_is_what_belongs_to_it() {
    let sandbox = with_backup();
    sandbox.done("export good retail --project retail");
    let exported = contents(&sandbox.path("retail"));
    let original = contents(&sandbox.path("store"));
    assert!(exported.iter().all(|(name, content)| original[name] == *content));
    let names: String = exported.keys().map(|name| format!("{name}\n")).collect();
    for name in
        ["core_meta/PROJECT/retail.json", "core_meta/TABLE_INFO/retail.TILLS.STORE.json", "job_info/retail/j1.json"]
    {
        assert!(exported.contains_key(name), "{name} in {names}");
    }
    assert!(!names.contains("learn_kylin") && !names.contains("USER_INFO"), "{names}");
    sandbox.refused(
        "export good nothing --project none",
        1,
        "error: snapshot ID holds no project none\nhint: `metastash ls SNAP` shows what it holds",
    );
}

#[test]
fn export_of_the_old_layout_lies_in_it() {
    let sandbox = Sandbox::empty();
    write_old(&sandbox, "store");
    sandbox.done("backup --store store --label good");
    let original = contents(&sandbox.path("store"));
    sandbox.done("export good out");
    assert!(contents(&sandbox.path("out")) == original);
    sandbox.done("export good out.zip --format zip");
    let slashed: BTreeMap<_, _> = original.into_iter().map(|(name, content)| (format!("/{name}"), content)).collect();
    assert!(
        read_zip(&sandbox.path("out.zip")) == slashed,
        "names in zips begin with a slash, or Kylin passes over them"
    );
    sandbox.done("export good folder --format zip");
    assert!(read_zip(&sandbox.path("folder/metadata.zip")) == slashed);
}

#[test]
fn export_of_a_plain_store_is_that_directory() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store --label good");
    sandbox.done("export good out");
    assert!(contents(&sandbox.path("out")) == contents(&sandbox.path("store")));
}

#[test]
fn import_of_what_was_exported_has_the_same_content() {
    let sandbox = with_backup();
    sandbox.done("export good folder");
    sandbox.done("export good zipped --format zip");
    sandbox.done("import folder --label of-folder");
    assert_eq!(root_of(&sandbox, "of-folder"), root_of(&sandbox, "good"));
    sandbox.done("import zipped --label of-zipped");
    assert_eq!(root_of(&sandbox, "of-zipped"), root_of(&sandbox, "good"));
}

#[test]
fn import_of_a_folder_with_a_zip_takes_what_lies_beside_it() {
    let sandbox = with_backup();
    sandbox.done("export good zipped --format zip");
    let said = sandbox.done("import zipped --label again");
    assert!(said.starts_with("snapshot ID saved: 89 documents "), "{said}");
    assert_eq!(sandbox.done("cat again:retail/job_info/j1"), "{\"jobId\":\"j1\"}\n");
    assert_eq!(root_of(&sandbox, "again"), root_of(&sandbox, "good"));
}

#[test]
fn import_of_a_backup_of_kylin_in_every_form() {
    let sandbox = Sandbox::empty();
    sandbox.write_kylin("store");
    let original = contents(&sandbox.path("store"));
    copy(&sandbox.path("store"), &sandbox.path("folder/core_meta"));
    fs::create_dir_all(sandbox.path("zipped/core_meta")).unwrap();
    write_zip(&original, "", &sandbox.path("zipped/core_meta/metadata.zip"));
    write_zip(&original, "", &sandbox.path("bare.zip"));
    write_old(&sandbox, "old");
    fs::create_dir(sandbox.path("oldzip")).unwrap();
    write_zip(&contents(&sandbox.path("old")), "/", &sandbox.path("oldzip/metadata.zip"));
    for (n, (source, documents)) in [
        ("store", 88),
        ("folder", 88),
        ("folder/core_meta", 88),
        ("zipped", 88),
        ("zipped/core_meta", 88),
        ("zipped/core_meta/metadata.zip", 88),
        ("bare.zip", 88),
        ("old", 4),
        ("oldzip", 4),
        ("oldzip/metadata.zip", 4),
    ]
    .into_iter()
    .enumerate()
    {
        let said = sandbox.done(&format!("import {source} --label form-{n}"));
        assert!(said.contains(&format!("snapshot ID saved: {documents} documents ")), "{source}: {said}");
        sandbox.done(&format!("restore form-{n} --store back-{n}"));
        let back = contents(&sandbox.path(&format!("back-{n}")));
        let back = back.iter().map(|(name, content)| (name.strip_prefix("core_meta/").unwrap_or(name), content));
        let expected = if documents == 4 { contents(&sandbox.path("old")) } else { original.clone() };
        assert!(back.eq(expected.iter().map(|(name, content)| (name.as_str(), content))), "{source}");
    }
}

#[test]
fn import_of_a_folder_full_of_backups() {
    let sandbox = Sandbox::empty();
    let names = ["2024-04-02-23-59-58_backup", "2024-04-01-00-00-00_backup", "2024-12-31-12-00-01_backup"];
    for name in names {
        write_small(&sandbox, &format!("kylin/{name}"), name);
    }
    sandbox.write("kylin/notes.txt", "mine\n");
    let before = state(&sandbox.path("kylin"));
    let said = sandbox.done("import kylin");
    let saved = "snapshot ID saved: 2 documents (2 new, 0 changed, 0 removed, 0 unchanged), read";
    assert!(said.starts_with(&format!("kylin/2024-04-01-00-00-00_backup:\n{saved}")), "{said}");
    assert!(said.ends_with("created repository meta_backups\n"), "{said}");
    let (_, list) = sandbox.json("snapshots");
    let list: Vec<(&str, &str)> =
        list.iter().map(|one| (one["label"].as_str().unwrap(), one["time"].as_str().unwrap())).collect();
    let expected = [
        ("2024-04-01-00-00-00_backup", "2024-04-01T00:00:00Z"),
        ("2024-04-02-23-59-58_backup", "2024-04-02T23:59:58Z"),
        ("2024-12-31-12-00-01_backup", "2024-12-31T12:00:01Z"),
    ];
    assert_eq!(list, expected);
    assert!(sandbox.done("cat 2024-12-31-12-00-01_backup:p/PROJECT/p").contains("\"2024-12-31-12-00-01_backup\""));

    let expected = "kylin/2024-04-01-00-00-00_backup is snapshot ID already
        kylin/2024-04-02-23-59-58_backup is snapshot ID already
        kylin/2024-12-31-12-00-01_backup is snapshot ID already";
    assert_eq!(sandbox.done("import kylin"), lines(expected));
    assert_eq!(sandbox.done("import kylin/2024-04-02-23-59-58_backup"), lines(expected.lines().nth(1).unwrap()));
    assert_eq!(sandbox.ids("meta_backups").len(), 3);
    assert!(before == state(&sandbox.path("kylin")));
}

#[test]
fn import_into_the_folder_of_the_backups_itself() {
    let sandbox = Sandbox::empty();
    write_small(&sandbox, "meta_backups/2024-04-01-00-00-00_backup", "x");
    sandbox.done("import meta_backups");
    let again = "meta_backups/2024-04-01-00-00-00_backup is snapshot ID already\n";
    assert_eq!(sandbox.done("import meta_backups"), again);
}

#[test]
fn damaged_backup_among_many_is_named_and_does_not_keep_the_others_out() {
    let sandbox = Sandbox::empty();
    write_small(&sandbox, "kylin/2024-04-01-00-00-00_backup", "one");
    write_small(&sandbox, "kylin/2024-04-03-00-00-00_backup", "three");
    sandbox.write("kylin/2024-04-02-00-00-00_backup/core_meta/metadata.zip", "PK no zip at all");
    let ran = sandbox.run("import kylin");
    assert_eq!(ran.code, 13, "{}", ran.stderr);
    let first = "error: 1 of 3 backups were not imported\ncaused by: cannot import kylin/2024-04-02-00-00-00_backup\n";
    assert!(ran.stderr.starts_with(first), "{}", ran.stderr);
    assert!(ran.stderr.contains("metadata.zip is damaged or not to be trusted: "), "{}", ran.stderr);
    assert_eq!(sandbox.ids("meta_backups").len(), 2);
    assert!(sandbox.done("cat 2024-04-01-00-00-00_backup:p/PROJECT/p").contains("one"));
    assert!(sandbox.done("cat 2024-04-03-00-00-00_backup:p/PROJECT/p").contains("three"));
    let (code, messages) = sandbox.json("import kylin");
    let types: Vec<&str> = messages.iter().filter_map(|message| message["message_type"].as_str()).collect();
    assert_eq!((code, &types[..]), (13, &["already_imported", "import_failed", "already_imported"][..]));
    assert_eq!(messages[1]["source"], "kylin/2024-04-02-00-00-00_backup");
}

#[test]
fn import_of_a_folder_full_of_zips() {
    let sandbox = with_backup();
    for name in ["2024-04-01-00-00-00_backup", "2024-04-02-00-00-00_backup"] {
        fs::create_dir_all(sandbox.path("zips")).unwrap();
        write_zip(&contents(&sandbox.path("store/core_meta")), "", &sandbox.path(&format!("zips/{name}.zip")));
    }
    sandbox.done("import zips");
    let roots = ["2024-04-01-00-00-00_backup", "2024-04-02-00-00-00_backup"].map(|label| root_of(&sandbox, label));
    assert_eq!(roots[0], roots[1]);
}

#[test]
fn import_of_a_plain_directory_must_be_asked_for() {
    let sandbox = Sandbox::new();
    let expected = "error: cannot import store
        caused by: store is no backup of Kylin's metadata
        hint: `--layout plain` takes the files as they are";
    sandbox.refused("import store", 1, expected);
    let said = sandbox.done("import store --label plain --layout plain");
    assert!(said.starts_with("snapshot ID saved: 3 documents "), "{said}");
    assert_eq!(sandbox.done("cat plain:NOTES"), "top\n");
}

#[test]
fn one_label_for_several_backups_is_refused() {
    let sandbox = Sandbox::empty();
    write_small(&sandbox, "kylin/2024-04-01-00-00-00_backup", "one");
    write_small(&sandbox, "kylin/2024-04-02-00-00-00_backup", "two");
    let expected = "error: --label names one snapshot, but kylin holds several";
    sandbox.refused("import kylin --label x", 2, expected);
}

#[test]
fn truncated_zip_is_refused_wherever_it_ends() {
    let sandbox = Sandbox::empty();
    sandbox.write_kylin("store");
    let zip = sandbox.path("cut.zip");
    write_zip(&contents(&sandbox.path("store")), "", &zip);
    let whole = fs::read(&zip).unwrap();
    for length in [0, 1, 4, 100, whole.len() / 3, whole.len() / 2, whole.len() - 22, whole.len() - 1] {
        fs::write(&zip, &whole[..length]).unwrap();
        let before = state(sandbox.folder.path());
        for words in ["import cut.zip", "backup --store cut.zip", "doctor --store cut.zip"] {
            let ran = sandbox.run(words);
            assert_eq!((ran.code, ran.stdout.as_str()), (13, ""), "{words}, {length}: {}", ran.stderr);
            assert!(ran.stderr.contains("[here]/cut.zip is damaged or not to be trusted: "), "{}", ran.stderr);
            assert!(ran.stderr.contains("hint: nothing of it was used; find a sound copy"), "{}", ran.stderr);
        }
        assert!(before == state(sandbox.folder.path()), "{length}");
    }
}

#[test]
fn zip_with_names_that_lead_out_of_it_is_refused() {
    for name in ["../evil", "MODEL/../../evil.json", "MODEL/..", "/../evil"] {
        let sandbox = Sandbox::empty();
        let files = [("PROJECT/p.json", "{}"), (name, "{}")];
        let files = files.map(|(name, content)| (name.to_owned(), content.as_bytes().to_vec()));
        write_zip(&BTreeMap::from(files), "", &sandbox.path("evil.zip"));
        let ran = sandbox.run("import evil.zip");
        assert_eq!((ran.code, ran.stdout.as_str()), (13, ""), "{name}: {}", ran.stderr);
        assert_eq!(fs::read_dir(sandbox.folder.path()).unwrap().count(), 1);
    }
}

#[test]
fn export_and_import_as_json() {
    let sandbox = with_backup();
    let id = sandbox.ids("meta_backups")[0].clone();
    let (code, messages) = sandbox.json("export good out.zip --format zip --project retail");
    assert_eq!((code, messages.len()), (3, 1), "the job has no place in a zip");
    let summary = &messages[0];
    assert_eq!(summary["message_type"], "export_summary");
    assert_eq!((&summary["snapshot"], &summary["destination"]), (&id.into(), &"out.zip".into()));
    assert_eq!((&summary["layout"], &summary["project"]), (&"kylin-new-backup".into(), &"retail".into()));
    assert_eq!(summary["left_out"], serde_json::json!(["retail/job_info/j1"]));
    assert_eq!(summary["documents"].as_u64().unwrap(), read_zip(&sandbox.path("out.zip")).len() as u64);
    assert!(summary["bytes"].is_u64() && summary["seconds"].is_f64());

    copy(&sandbox.path("store"), &sandbox.path("kylin/2024-04-01-00-00-00_backup"));
    for (n, message_type) in ["backup_summary", "already_imported"].into_iter().enumerate() {
        let (code, messages) = sandbox.json("import kylin --tag from=kylin");
        assert_eq!((code, messages.len(), &messages[0]["message_type"]), (0, 1, &message_type.into()));
        assert_eq!(messages[0]["label"], "2024-04-01-00-00-00_backup", "{n}");
        assert_eq!(messages[0]["time"], "2024-04-01T00:00:00Z");
        assert_eq!(messages[0]["tags"]["from"], "kylin");
    }
}
