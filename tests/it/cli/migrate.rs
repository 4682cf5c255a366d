//! Migration from the old layout of Kylin to the new one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use md5::{Digest, Md5};
use serde_json::Value;

use super::{Sandbox, contents, copy, read_zip, write_zip};

const MODEL: &str = "sales/model_desc/92986421-b714-2c9a-75ab-5af3d3830739.json";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// A working directory with the metadata of an old Kylin in `old`.
fn with_old() -> Sandbox {
    let sandbox = Sandbox::empty();
    copy(&fixture("kylin_old"), &sandbox.path("old"));
    sandbox.settle();
    sandbox
}

/// Returns the messages of one type.
fn of_type<'a>(messages: &'a [Value], message_type: &str) -> Vec<&'a Value> {
    messages.iter().filter(|message| message["message_type"] == message_type).collect()
}

#[test]
fn migrate_writes_a_directory_that_kylin_5_reads() {
    let sandbox = with_old();
    let said = sandbox.done("migrate old new");
    let last = said.lines().last().unwrap();
    assert_eq!(
        last,
        "migrated 30 documents of [here]/old to new: 32 new documents, 12.74 KiB; 4 dropped, 0 broken, 0 unknown, 0 unread; \
         0 errors, 1 warning"
    );
    let found = contents(&sandbox.path("new"));
    assert_eq!(found.len(), 32);
    let model = String::from_utf8(found["MODEL/92986421-b714-2c9a-75ab-5af3d3830739.json"].clone()).unwrap();
    assert!(
        model.starts_with("{\n  \"uuid\" : \"92986421") && model.ends_with("\"project\" : \"sales\"\n}"),
        "{model}"
    );
    assert!(!model.contains("\"computed_columns\"") && model.contains("\"computed_column_uuids\" : [ \""), "{model}");
    // The permissions have no suffix, and Kylin's tool loses them.
    assert_eq!(found.keys().filter(|name| name.starts_with("OBJECT_ACL/")).count(), 2);
    assert!(!found.contains_key("kylin.properties"));
    assert!(found["PROJECT/sales.json"] == fs::read(sandbox.path("old/_global/project/sales.json")).unwrap());
    let time = |name: &str| fs::metadata(sandbox.path(name)).unwrap().modified().unwrap();
    assert_eq!(time("new/PROJECT/sales.json"), time("old/_global/project/sales.json"));
    assert_eq!(sandbox.run("doctor --store new --exit-code").code, 4, "the warning");
    assert_eq!(contents(&sandbox.path("old")), contents(&fixture("kylin_old")));
}

#[test]
fn dry_run_says_the_same_and_writes_nothing() {
    let sandbox = with_old();
    let said = sandbox.done("migrate old new --dry-run");
    assert!(said.contains("would migrate 30 documents of [here]/old: 32 new documents"), "{said}");
    assert!(!sandbox.path("new").exists());
    assert_eq!(sandbox.done("migrate old -n"), said);
    assert_eq!(fs::read_dir(sandbox.folder.path()).unwrap().count(), 1);
}

#[test]
fn every_document_is_accounted_for() {
    let sandbox = with_old();
    let (code, messages) = sandbox.json("migrate old new");
    assert_eq!(code, 0);
    let lines = of_type(&messages, "migrated_document");
    let mut names: Vec<&str> = lines.iter().map(|line| line["path"].as_str().unwrap()).collect();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    names.sort_unstable();
    assert_eq!(names, contents(&sandbox.path("old")).keys().collect::<Vec<_>>());
    let to = |line: &&Value| match &line["to"] {
        Value::String(name) => vec![name.clone()],
        Value::Array(names) => names.iter().map(|name| name.as_str().unwrap().to_owned()).collect(),
        _ => Vec::new(),
    };
    let mut to: Vec<String> = lines.iter().flat_map(to).collect();
    to.sort_unstable();
    to.dedup();
    assert_eq!(to, contents(&sandbox.path("new")).into_keys().collect::<Vec<_>>());
    let summary = of_type(&messages, "migrate_summary")[0];
    assert_eq!((&summary["documents"], &summary["new_documents"]), (&30.into(), &32.into()));
}

#[test]
fn zips_and_directories_give_the_same() {
    let sandbox = with_old();
    sandbox.done("migrate old new");
    // A zip has other times, and documents of the system tell when they were made.
    let without_system = |mut files: BTreeMap<String, Vec<u8>>| {
        files.retain(|name, _| !name.starts_with("SYSTEM/"));
        files
    };
    let new = without_system(contents(&sandbox.path("new")));
    for before in ["", "/"] {
        write_zip(&contents(&sandbox.path("old")), before, &sandbox.path("old.zip"));
        sandbox.done("migrate old.zip from_zip");
        assert!(without_system(contents(&sandbox.path("from_zip"))) == new, "names begin with {before:?}");
        sandbox.done("migrate old.zip new.zip");
        assert!(without_system(read_zip(&sandbox.path("new.zip"))) == new);
        fs::remove_dir_all(sandbox.path("from_zip")).unwrap();
        fs::remove_file(sandbox.path("new.zip")).unwrap();
    }
    fs::create_dir(sandbox.path("backup")).unwrap();
    fs::rename(sandbox.path("old.zip"), sandbox.path("backup/metadata.zip")).unwrap();
    sandbox.done("migrate backup from_backup");
    assert!(without_system(contents(&sandbox.path("from_backup"))) == new);
}

#[test]
fn snapshots_are_read_and_written_and_a_second_run_adds_nothing() {
    let sandbox = with_old();
    sandbox.done("backup --store old --label before");
    sandbox.done("migrate old new");
    let said = sandbox.done("migrate snapshot:before snapshot:after");
    assert!(said.contains("snapshot ID saved: 32 documents (32 new"), "{said}");
    let ids = sandbox.ids("meta_backups");
    let said = sandbox.done("migrate snapshot:before snapshot:after");
    assert!(said.starts_with("the result is snapshot ID already"), "{said}");
    assert_eq!(sandbox.ids("meta_backups"), ids);
    sandbox.done("restore after --store restored");
    assert!(contents(&sandbox.path("restored")) == contents(&sandbox.path("new")));
    sandbox.done("migrate --verify old snapshot:after");
    sandbox.done("check --read-data");
    // Another snapshot of the same store gives the same.
    sandbox.done("backup --store old");
    let said = sandbox.done("migrate snapshot:latest snapshot:");
    assert!(said.starts_with("the result is snapshot ID already"), "{said}");
    sandbox.done("backup --store old --project sales --label part");
    sandbox.done("migrate snapshot:part part");
    let ran = sandbox.run("migrate snapshot:part snapshot:");
    assert!(ran.code == 14 && ran.stderr.contains("holds project sales only"), "{}", ran.stderr);
    sandbox.refused(
        "migrate old snapshot:before",
        1,
        "error: the label `before` names snapshot ID already
         hint: choose another label",
    );
}

#[test]
fn the_result_is_the_same_whatever_the_threads() {
    let sandbox = with_old();
    fill(&sandbox, "old", 300);
    for threads in ["1", "4"] {
        for to in [format!("new{threads}"), format!("new{threads}.zip")] {
            let output =
                sandbox.command(&format!("migrate old {to}")).env("RAYON_NUM_THREADS", threads).output().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
    }
    assert!(contents(&sandbox.path("new1")) == contents(&sandbox.path("new4")));
    assert!(fs::read(sandbox.path("new1.zip")).unwrap() == fs::read(sandbox.path("new4.zip")).unwrap());
}

/// Adds models with computed columns, tables, dataflows and segments.
fn fill(sandbox: &Sandbox, folder: &str, models: usize) {
    for n in 0..models {
        let id = format!("{n:08x}-0000-0000-0000-000000000000");
        let model = format!(
            r#"{{"uuid":"{id}","alias":"m{n}","fact_table":"DB.T{n}","join_tables":[{{"table":"DB.CITY"}}],
                "computed_columns":[{{"tableIdentity":"DB.T{n}","columnName":"C","expression":"T.A + {n}"}}]}}"#
        );
        let dataflow = format!(
            r#"{{"uuid":"{id}","segments":[{{"id":"{n:08x}-1111-0000-0000-000000000000","name":"FULL_BUILD"}}]}}"#
        );
        sandbox.write(&format!("{folder}/many/model_desc/{id}.json"), &model);
        sandbox.write(&format!("{folder}/many/index_plan/{id}.json"), &format!(r#"{{"uuid":"{id}"}}"#));
        sandbox.write(&format!("{folder}/many/dataflow/{id}.json"), &dataflow);
        let table = format!(r#"{{"uuid":"t{n}","name":"T{n}","database":"DB","columns":[]}}"#);
        sandbox.write(&format!("{folder}/many/table/DB.T{n}.json"), &table);
    }
    sandbox.write(&format!("{folder}/_global/project/many.json"), r#"{"uuid":"many","name":"many"}"#);
}

#[test]
fn what_exists_is_never_overwritten() {
    let sandbox = with_old();
    sandbox.write("new/MODEL/x.json", "{}");
    sandbox.write("new.zip", "PK");
    fs::create_dir(sandbox.path("empty")).unwrap();
    for name in ["new", "new.zip", "old", "empty"] {
        sandbox.refused(
            &format!("migrate old {name}"),
            14,
            &format!(
                "error: {name} exists already
                 hint: name a place that does not exist yet; nothing is ever overwritten by a migration"
            ),
        );
    }
    sandbox.refused(
        "migrate old nowhere/new",
        1,
        "error: cannot write nowhere/new: there is no directory nowhere
         hint: create it, or check the spelling",
    );
    sandbox.refused(
        "migrate old old/new",
        14,
        "error: old/new lies inside the source [here]/old
         hint: name a place elsewhere: the result would be taken for a part of the source by the next run",
    );
    sandbox.refused(
        "migrate old postgresql://u:secret@h/db",
        2,
        "error: a migration does not write to a database itself
         hint: migrate to `snapshot:LABEL`, look at it, then `metastash restore LABEL --store …` into the database",
    );
}

#[test]
fn other_layouts_and_levels_are_told() {
    let sandbox = with_old();
    sandbox.done("migrate old new");
    let hint = "hint: nothing is to be done; with `--skip-if-new` that is no failure (of a database with tables of both \
                generations, `--layout kylin-old` reads the old ones)";
    let already = |place: &str| format!("error: [here]/{place} lies in the layout of 5.0.0 and later already\n{hint}");
    sandbox.refused("migrate new again", 14, &already("new"));
    let said = sandbox.done("migrate new again --skip-if-new");
    assert_eq!(said, "[here]/new lies in the layout of 5.0.0 and later already: nothing was done\n");
    write_zip(&contents(&sandbox.path("new")), "", &sandbox.path("new.zip"));
    sandbox.refused("migrate new.zip again", 14, &already("new.zip"));

    copy(&sandbox.path("new"), &sandbox.path("mixed"));
    copy(&sandbox.path("old"), &sandbox.path("mixed"));
    let ran = sandbox.run("migrate mixed again");
    let says =
        "error: [here]/mixed holds documents of both layouts: UUID of the old, ACL/sales.u.ANALYST.json of the new";
    assert!(ran.code == 14 && ran.stderr.starts_with(says), "{}", ran.stderr);

    for (folder, what) in [
        ("old", "is not in the old layout itself, but holds a folder that is"),
        ("new", "holds a folder that lies in the new layout already"),
    ] {
        let parent = format!("above_{folder}");
        copy(&sandbox.path(folder), &sandbox.path(&format!("{parent}/metadata")));
        sandbox.refused(
            &format!("migrate {parent} again"),
            14,
            &format!("error: [here]/{parent} {what}: metadata\nhint: is `metadata` in it what is meant?"),
        );
    }
    sandbox.write("other/a/b.txt", "x");
    let ran = sandbox.run("migrate other again");
    assert!(ran.code == 14 && ran.stderr.contains("other holds no metadata of Kylin's old layout"), "{}", ran.stderr);
    assert_eq!(sandbox.run("migrate nowhere again").code, 1);
    let ran = sandbox.run("migrate --verify old old");
    assert!(ran.code == 14 && ran.stderr.contains("lies in the old layout, and is no result"), "{}", ran.stderr);
}

#[test]
fn what_is_broken_or_unknown_is_kept_byte_for_byte() {
    let sandbox = with_old();
    let broken = [
        ("sales/model_desc/b.json", &b"\"uuid\" : \"b\"}"[..]),
        ("sales/dataflow/b.json", b""),
        ("sales/table/DB.B.json", b"{\"name\":\"\xff\"}"),
        ("sales/whatever/x.json", b"{}"),
        ("notes.txt", b"by hand"),
    ];
    for (name, content) in broken {
        sandbox.write(&format!("old/{name}"), "");
        fs::write(sandbox.path("old").join(name), content).unwrap();
    }
    let ran = sandbox.run("migrate old new");
    assert_eq!((ran.code, ran.stderr.as_str()), (3, ""), "{}", ran.stdout);
    let new = contents(&sandbox.path("new"));
    for (name, content) in broken {
        assert!(new[&format!("_unmigrated/{name}")] == content, "{name}");
        assert!(ran.stdout.contains(&format!("{name}: ")), "{}", ran.stdout);
    }
    let told = "5 documents not migrated, but kept in new/_unmigrated: move that elsewhere before Kylin reads the rest";
    assert!(ran.stdout.contains(told), "{}", ran.stdout);
    assert!(ran.stdout.contains("3 broken, 2 unknown, 0 unread"), "{}", ran.stdout);
    assert_eq!(new.len(), 32 + 5, "all that is sound is there");
    sandbox.done("migrate --verify old new");

    let strict = sandbox.run("migrate old strict --strict");
    assert_eq!(strict.code, 14, "{}", strict.stderr);
    assert!(strict.stderr.starts_with("error: cannot migrate ") && strict.stderr.contains("hint: nothing was written"));
    assert!(!sandbox.path("strict").exists());

    let ran = sandbox.run("migrate old snapshot:kept");
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    let kept = sandbox.done("cat kept:_files/_unmigrated/notes.txt");
    assert_eq!(kept, "by hand\n");
}

#[test]
fn what_can_not_be_read_makes_the_result_incomplete() {
    if rustix::process::geteuid().is_root() {
        eprintln!("skipped: nothing is forbidden to root");
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let sandbox = with_old();
    fs::set_permissions(sandbox.path("old").join(MODEL), fs::Permissions::from_mode(0o000)).unwrap();
    let ran = sandbox.run("migrate old snapshot:");
    assert_eq!(ran.code, 3);
    assert!(ran.stdout.contains("the snapshot is incomplete") && ran.stdout.contains("1 unread"), "{}", ran.stdout);
}

#[test]
fn a_store_without_identity_is_refused() {
    let sandbox = with_old();
    sandbox.write("old/UUID", "who knows");
    let ran = sandbox.run("migrate old new");
    assert!(ran.code == 14 && ran.stderr.contains("--new-identity"), "{}", ran.stderr);
    assert!(!sandbox.path("new").exists());
    assert_eq!(sandbox.run("migrate old new --new-identity").code, 0);
    assert_eq!(sandbox.run("migrate old again --new-identity").code, 0);
    assert!(contents(&sandbox.path("new")) == contents(&sandbox.path("again")));
}

#[test]
fn equal_ids_keep_both_and_data_is_not_detached() {
    let sandbox = with_old();
    let id = "92986421-b714-2c9a-75ab-5af3d3830739";
    for (folder, content) in [
        ("model_desc", format!(r#"{{"uuid":"{id}","alias":"other","fact_table":"LIVE.CLICK"}}"#)),
        ("index_plan", format!(r#"{{"uuid":"{id}"}}"#)),
        ("dataflow", format!(r#"{{"uuid":"{id}","segments":[]}}"#)),
    ] {
        sandbox.write(&format!("old/events/{folder}/{id}.json"), &content);
    }
    // The model of `sales` has data that was built: it keeps the id, though `events` comes first.
    let said = sandbox.done("migrate old new");
    assert!(
        said.contains(&format!("model {id} is in several places: sales keeps it, that of events is now ")),
        "{said}"
    );
    assert!(fs::read_to_string(sandbox.path(&format!("new/MODEL/{id}.json"))).unwrap().contains("\"sales\""));
    assert_eq!(contents(&sandbox.path("new")).keys().filter(|name| name.starts_with("MODEL/")).count(), 3);
    sandbox.done("migrate --verify old new");

    let built = format!(
        r#"{{"uuid":"{id}","segments":[{{"id":"aaaaaaaa-0000-0000-0000-000000000001","name":"S","status":"READY"}}]}}"#
    );
    sandbox.write(&format!("old/events/dataflow/{id}.json"), &built);
    sandbox.write(
        &format!("old/events/dataflow_details/{id}/aaaaaaaa-0000-0000-0000-000000000001.json"),
        r#"{"uuid":"aaaaaaaa-0000-0000-0000-000000000001","layout_instances":[{"layout_id":1}]}"#,
    );
    let ran = sandbox.run("migrate old again");
    assert!(ran.code == 14 && ran.stderr.contains("`--rename-built`"), "{}", ran.stderr);
    let said = sandbox.done("migrate old again --rename-built");
    assert!(said.contains("move ") && said.contains(&format!("/parquet/{id}/")), "{said}");
    let messages = sandbox.json("migrate old -n --rename-built").1;
    assert_eq!(of_type(&messages, "id_choice").len(), 1);
}

#[test]
fn a_folder_of_zips_is_migrated_zip_by_zip() {
    let sandbox = with_old();
    let old = contents(&sandbox.path("old"));
    let package: BTreeMap<String, Vec<u8>> = old
        .iter()
        .filter(|(name, _)| name.starts_with("sales/"))
        .map(|(name, bytes)| (name.clone(), bytes.clone()))
        .collect();
    fs::create_dir_all(sandbox.path("packages/deep")).unwrap();
    write_zip(&package, "/", &sandbox.path("packages/deep/sales_0123456789ABCDEF0123456789ABCDEF.zip"));
    write_zip(&old, "", &sandbox.path("packages/all.zip"));
    let said = sandbox.done("migrate packages out");
    assert_eq!(said.lines().filter(|line| line.starts_with("migrated ")).count(), 2, "{said}");
    let files = contents(&sandbox.path("out"));
    assert_eq!(files.len(), 2);
    let (name, bytes) = files.iter().find(|(name, _)| name.starts_with("deep/")).unwrap();
    let digest: String = Md5::digest(bytes).iter().map(|byte| format!("{byte:02X}")).collect();
    assert_eq!(*name, format!("deep/sales_{digest}.zip"));
    sandbox.done("migrate --verify packages/all.zip out/all.zip");
    // The name of one ends in another MD5 than that of its source.
    sandbox.done("migrate --verify packages out");
    fs::copy(sandbox.path("out/all.zip"), sandbox.path("out/more.zip")).unwrap();
    fs::rename(sandbox.path("out/all.zip"), sandbox.path("out/other.zip")).unwrap();
    let ran = sandbox.run("migrate --verify packages out");
    let said: Vec<&str> = ran.stdout.lines().take(3).collect();
    assert_eq!(
        (ran.code, said),
        (4, vec!["missing all.zip", "surplus more.zip", "surplus other.zip"]),
        "{}",
        ran.stdout
    );
    // Nothing is said to be done before all of it is.
    fs::write(sandbox.path("packages/zz.zip"), "PK no zip").unwrap();
    let ran = sandbox.run("migrate packages again");
    assert_eq!((ran.code, ran.stdout.contains("migrated"), sandbox.path("again").exists()), (13, false, false));
    fs::remove_file(sandbox.path("packages/zz.zip")).unwrap();
    let ran = sandbox.run("migrate packages again.zip");
    assert!(ran.code == 14 && ran.stderr.contains("a directory as DEST"), "{}", ran.stderr);
    let ran = sandbox.run("migrate packages snapshot:");
    assert!(ran.code == 14 && ran.stderr.contains("packages holds several packages"), "{}", ran.stderr);
    assert_eq!(fs::read_dir(sandbox.folder.path()).unwrap().count(), 3, "nothing is left beside them");
}

#[test]
fn rows_of_a_database_are_migrated() {
    let sandbox = with_old();
    let rows: Vec<String> = contents(&sandbox.path("old"))
        .iter()
        .filter(|(name, _)| name.ends_with(".json"))
        .enumerate()
        .map(|(n, (name, content))| {
            let content = String::from_utf8(content.clone()).unwrap();
            format!(
                r#"{{"id":{n},"meta_key":"/{name}","meta_content":{content},"meta_ts":1562845984668,"operator":null}}"#
            )
        })
        .collect();
    sandbox.write("rows.json", &format!("[{}]", rows.join(",\n")));
    sandbox.done("migrate rows.json from_rows");
    sandbox.done("migrate old new");
    let (rows, new) = (contents(&sandbox.path("from_rows")), contents(&sandbox.path("new")));
    for name in ["SEGMENT/6115323c-e6d1-b575-8799-fe687327b951.json", "TABLE_INFO/sales.SHOP.ORDERS.json"] {
        assert!(rows[name] == new[name], "{name}");
    }
    sandbox.write("rows.json", "[1]");
    assert_eq!(sandbox.run("migrate rows.json again").code, 13);
}

#[test]
fn verify_names_what_is_not_as_it_should_be() {
    let sandbox = with_old();
    sandbox.done("migrate old new");
    let said = sandbox.done("migrate --verify old new");
    assert!(said.contains("32 documents, 0 missing, 0 different, 0 surplus; 0 errors"), "{said}");
    fs::remove_file(sandbox.path("new/TABLE_EXD/sales.SHOP.ORDERS.json")).unwrap();
    sandbox.write("new/USER_GROUP/MORE.json", r#"{"uuid":"x","group_name":"MORE","project":"_global"}"#);
    let project = sandbox.read("new/PROJECT/sales.json");
    sandbox.write("new/PROJECT/sales.json", &project.replacen('{', "{\"more\":1,", 1));
    // What another tool, or a newer Kylin, writes otherwise though it means the same.
    let table = sandbox.read("new/TABLE_INFO/sales.SHOP.BUYERS.json");
    let table: Value = serde_json::from_str(&table).unwrap();
    sandbox.write("new/TABLE_INFO/sales.SHOP.BUYERS.json", &table.to_string());
    sandbox.write("new/kylin.properties", "kylin.env=DEV");
    let ran = sandbox.run("migrate --verify old new");
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    let found: Vec<&str> = ran.stdout.lines().take(3).collect();
    let expected =
        ["different PROJECT/sales.json", "missing TABLE_EXD/sales.SHOP.ORDERS.json", "surplus USER_GROUP/MORE.json"];
    assert_eq!(found, expected, "{}", ran.stdout);
    assert!(ran.stdout.contains("does not add up: TABLE_EXD of project sales: 1 by the source, 0 in the result"));
}

#[test]
fn a_killed_migration_leaves_nothing_that_looks_finished() {
    let sandbox = with_old();
    fill(&sandbox, "old", 400);
    let began = Instant::now();
    sandbox.done("migrate old whole");
    let (whole, count) = (began.elapsed(), contents(&sandbox.path("whole")).len());
    let mut was_cut_off = false;
    for moment in [1, 3, 5, 7, 9] {
        for name in ["new", "new.zip"] {
            let mut child = sandbox
                .command(&format!("migrate old {name}"))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(whole * moment / 10);
            let _ = child.kill();
            let done = child.wait().unwrap().success();
            was_cut_off |= !done;
            let place = sandbox.path(name);
            let found = match name {
                _ if !place.exists() => 0,
                "new" => contents(&place).len(),
                _ => read_zip(&place).len(),
            };
            assert!(found == count || found == 0 && !done, "{name}: {found} of {count}");
            let _ = fs::remove_dir_all(&place);
            let _ = fs::remove_file(&place);
        }
    }
    assert!(was_cut_off);
}

#[test]
fn interrupted_migrations_say_so_and_clean_up() {
    use rustix::process::{Pid, Signal, kill_process};
    let sandbox = with_old();
    fill(&sandbox, "old", 400);
    let began = Instant::now();
    sandbox.done("migrate old whole");
    let whole = began.elapsed();
    let names = || fs::read_dir(sandbox.folder.path()).unwrap().count();
    let before = names();
    for moment in 3..10 {
        let mut command = sandbox.command("migrate old new");
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(whole * moment / 10 + Duration::from_millis(5));
        let _ = kill_process(Pid::from_child(&child), Signal::INT);
        let output = child.wait_with_output().unwrap();
        if output.status.code() == Some(130) {
            assert_eq!(String::from_utf8(output.stderr).unwrap(), "error: interrupted\n");
            assert_eq!(names(), before);
            return;
        }
        let _ = fs::remove_dir_all(sandbox.path("new"));
    }
    eprintln!("skipped: it was never caught in time");
}

/// Every tree of Kylin's own tests: all of it is accounted for, and where Kylin's tool makes the committed tree, so do we.
#[test]
fn every_tree_of_kylins_tests_is_accounted_for() {
    let shared = std::env::var_os("METASTASH_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let folder = shared.join("data/kylin");
    let Ok(trees) = fs::read_dir(folder.join("old")) else {
        eprintln!("skipped: the trees of Kylin's own tests are not there");
        return;
    };
    let identical = identical_pairs(&folder);
    for tree in trees.map(|tree| tree.unwrap().path()) {
        let sandbox = Sandbox::empty();
        let name = tree.file_name().unwrap().to_str().unwrap().to_owned();
        let single = |tree: &Path| -> PathBuf {
            let is_packed = name.starts_with("zip_") || name.starts_with("json_list_");
            if is_packed { fs::read_dir(tree).unwrap().next().unwrap().unwrap().path() } else { tree.to_owned() }
        };
        let source = single(&tree);
        let run = |words: &[&str]| {
            let mut command = sandbox.command("migrate --json --rename-built --new-identity");
            let output = command.args(words).output().unwrap();
            (output.status.code().unwrap(), super::messages(&output.stdout), output.stderr)
        };
        let (code, messages, stderr) = run(&[source.to_str().unwrap(), "new"]);
        assert!(code == 0 || code == 3, "{name}: {}", String::from_utf8_lossy(&stderr));
        let lines = of_type(&messages, "migrated_document");
        let count = match &source {
            zip if zip.extension().is_some_and(|extension| extension == "zip") => {
                read_zip(zip).keys().filter(|name| !name.ends_with('/')).count()
            }
            tree if tree.is_dir() => contents(tree).len(),
            _ => lines.len(),
        };
        assert_eq!(lines.len(), count, "{name}");
        assert_eq!(of_type(&messages, "imbalance").len(), 0, "{name}");
        let (code, _, _) = run(&["--verify", source.to_str().unwrap(), "new"]);
        assert_eq!(code, 0, "{name}: what was just made");
        if identical.contains(&name) {
            let committed = single(&folder.join("new").join(&name));
            let (code, messages, _) = run(&["--verify", source.to_str().unwrap(), committed.to_str().unwrap()]);
            assert_eq!(code, 0, "{name}: {:?}", of_type(&messages, "deviation"));
        }
    }
}

/// Returns the trees of which Kylin's tool gives what is committed, but for what is left over from earlier versions.
fn identical_pairs(folder: &Path) -> Vec<String> {
    let list = fs::read_to_string(folder.join("README.md")).unwrap();
    let rows = list.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let rows = rows.filter(|row| row.len() > 6 && row[6].starts_with("identical"));
    // JSON lists are no stores.
    rows.map(|row| row[1].to_owned()).filter(|name| !name.starts_with("json_list_")).collect()
}

/// Writes a document of an old store.
fn put(sandbox: &Sandbox, name: &str, content: &str) {
    let path = sandbox.path("old").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn dotted_names_of_two_projects_come_to_one_key_and_both_are_kept() {
    let sandbox = with_old();
    let table = r#"{"uuid":"1","name":"c","database":"b"}"#;
    put(&sandbox, "a/table/b.c.json", table);
    put(&sandbox, "a.b/table/c.json", table);
    let ran = sandbox.run("migrate old new");
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    let found = contents(&sandbox.path("new"));
    assert!(found.contains_key("TABLE_INFO/a.b.c.json"));
    let kept: Vec<_> = found.iter().filter(|(name, _)| name.starts_with("_unmigrated/")).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(kept[0].1, table.as_bytes());
    let line = "a.b/table/c.json: broken: it would be TABLE_INFO/a.b.c.json, which a/table/b.c.json is already";
    assert!(ran.stdout.contains(line), "{}", ran.stdout);
    let strict = sandbox.run("migrate old strict --strict");
    assert_eq!(strict.code, 14);
    assert!(!sandbox.path("strict").exists());
}

#[test]
fn verify_compares_what_was_kept_byte_by_byte_and_does_not_miss_it() {
    let sandbox = with_old();
    put(&sandbox, "sales/table/SHOP.BROKEN.json", "[");
    assert_eq!(sandbox.run("migrate old new").code, 3);
    assert_eq!(sandbox.run("migrate --verify old new").code, 0);
    let kept = sandbox.path("new/_unmigrated/sales/table/SHOP.BROKEN.json");
    fs::write(&kept, "x").unwrap();
    let ran = sandbox.run("migrate --verify old new");
    assert_eq!(
        (ran.code, ran.stdout.contains("_unmigrated/sales/table/SHOP.BROKEN.json")),
        (4, true),
        "{}",
        ran.stdout
    );
    fs::remove_dir_all(sandbox.path("new/_unmigrated")).unwrap();
    assert_eq!(sandbox.run("migrate --verify old new").code, 0, "it was to be moved elsewhere");
}

#[test]
fn a_repository_inside_the_source_is_refused() {
    let sandbox = with_old();
    let before = contents(&sandbox.path("old"));
    let ran = sandbox.run("migrate old snapshot:a --repo old/repo");
    assert_eq!(ran.code, 14, "{}", ran.stderr);
    assert!(ran.stderr.contains("lies inside the source"), "{}", ran.stderr);
    assert!(contents(&sandbox.path("old")) == before);
}

#[test]
fn names_that_no_file_can_have_go_into_a_zip() {
    let sandbox = with_old();
    // 255 bytes are a name; the suffix it gets makes it too long.
    put(&sandbox, &format!("_global/user/{}", "u".repeat(255)), r#"{"username":"u","uuid":"1"}"#);
    let ran = sandbox.run("migrate old new");
    assert_eq!(ran.code, 14, "{}", ran.stderr);
    assert!(ran.stderr.contains("no file can be called") && !sandbox.path("new").exists(), "{}", ran.stderr);
    assert_ne!(sandbox.run("migrate old new.zip").code, 14);
    assert!(sandbox.path("new.zip").exists());
}

#[test]
fn the_text_of_a_computed_column_that_is_not_kept_is_told() {
    let sandbox = with_old();
    for (model, expression) in [("M1", "O.PRICE * 2"), ("M2", "1 + 1")] {
        let column = format!(
            r#"{{"tableIdentity":"DB.O","tableAlias":"O","columnName":"TOTAL","expression":"{expression}","datatype":"INT"}}"#
        );
        put(
            &sandbox,
            &format!("shop/model_desc/{model}.json"),
            &format!(r#"{{"uuid":"{model}","alias":"{model}","fact_table":"DB.O","computed_columns":[{column}]}}"#),
        );
    }
    let ran = sandbox.run("migrate old new --dry-run");
    assert!(ran.stdout.contains("and that is kept; here it is `1 + 1`"), "{}", ran.stdout);
}

#[test]
fn what_lies_beside_packages_is_told() {
    let sandbox = with_old();
    fs::create_dir(sandbox.path("zips")).unwrap();
    write_zip(&contents(&sandbox.path("old")), "", &sandbox.path("zips/a.zip"));
    fs::write(sandbox.path("zips/README"), "x").unwrap();
    let ran = sandbox.run("migrate zips out");
    assert_eq!((ran.code, ran.stdout.contains("README: no zip, left out")), (3, true), "{}", ran.stdout);
    assert!(sandbox.path("out/a.zip").exists());
    assert_eq!(sandbox.run("migrate zips strict --strict").code, 14);
}

#[test]
fn a_list_of_rows_may_begin_with_a_mark_of_its_encoding() {
    let sandbox = with_old();
    let row =
        r#"[{"meta_table_key":"/_global/user/U","meta_table_content":{"username":"U","uuid":"1"},"meta_table_ts":5}]"#;
    fs::write(sandbox.path("rows.json"), [b"\xef\xbb\xbf", row.as_bytes()].concat()).unwrap();
    assert_ne!(sandbox.run("migrate rows.json new").code, 13);
    assert!(contents(&sandbox.path("new")).contains_key("USER_INFO/U.json"));
    sandbox.refused(
        "migrate nowhere other",
        1,
        "error: there is nothing at nowhere
         hint: check the spelling; `live` is the store that `--store` or $KYLIN_HOME names",
    );
}
