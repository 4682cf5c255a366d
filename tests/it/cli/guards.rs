//! Restores of Kylin's metadata: what is refused unless a flag allows it, what is left out or left alone.

use std::fs;

use super::{Sandbox, contents, lines};

#[test]
fn restore_names_what_has_no_place_in_the_store() {
    let sandbox = Sandbox::empty();
    sandbox.write("backup/job_info/retail/j1.json", "{}");
    sandbox.write("backup/job_info/retail/j2.json", "{}");
    sandbox.write_kylin("backup/core_meta");
    sandbox.write_kylin("store");
    sandbox.done("backup --store backup --label good");
    let left_out = "left out, since the store has no place for it: 2 documents (retail/job_info/j1, …)\n";
    for words in ["restore good --store store", "restore good --store store --quiet", "restore good --store store -n"] {
        let ran = sandbox.run(words);
        assert_eq!((ran.code, ran.stderr.as_str()), (3, ""), "{words}");
        assert!(ran.stdout.contains(left_out), "{words}: {}", ran.stdout);
    }
    let (_, messages) = sandbox.json("restore good --store store");
    let expected = serde_json::json!(["retail/job_info/j1", "retail/job_info/j2"]);
    assert_eq!(messages.last().unwrap()["left_out"], expected);
}

/// Runs a restore that a guard must refuse, with a hint that names the flag; then with the flag.
#[track_caller]
fn guarded(sandbox: &Sandbox, words: &str, danger: &str, flag: &str) {
    let before = contents(&sandbox.path("store"));
    for words in [words.to_owned(), format!("{words} --dry-run")] {
        let ran = sandbox.run(&words);
        assert_eq!((ran.code, ran.stdout.as_str()), (14, ""), "{}", ran.stderr);
        assert!(ran.stderr.starts_with("error: refused: ") && ran.stderr.contains(danger), "{}", ran.stderr);
        assert!(ran.stderr.contains("\nhint: ") && ran.stderr.contains(&format!("`{flag}`")), "{}", ran.stderr);
        assert!(contents(&sandbox.path("store")) == before);
    }
    sandbox.done(&format!("{words} {flag}"));
    assert!(contents(&sandbox.path("store")) != before);
}

fn backed_up() -> Sandbox {
    let sandbox = Sandbox::empty();
    sandbox.write_kylin("store");
    sandbox.done("backup --store store --label good");
    sandbox
}

#[test]
fn guard_of_the_systems_identity() {
    let sandbox = backed_up();
    let uuid = sandbox.read("store/SYSTEM/UUID.json").replace("\"str\" : \"3cbd", "\"str\" : \"1111");
    sandbox.write("store/SYSTEM/UUID.json", &uuid);
    sandbox.done("restore good --store store --project retail");
    guarded(&sandbox, "restore good --store store", "is of the system 3cbd7f37-", "--allow-other-system");
}

#[test]
fn guard_of_aliases() {
    let sandbox = backed_up();
    let model = "store/MODEL/6082c411-4a30-fdc0-3c7b-1b518c2c4788.json";
    let other = "store/MODEL/00000000-4a30-fdc0-3c7b-1b518c2c4788.json";
    sandbox.write(other, &sandbox.read(model).replace("6082c411-", "00000000-"));
    fs::remove_file(sandbox.path(model)).unwrap();
    let danger = "project learn_kylin would have 2 models named order_lines: \
                  learn_kylin/MODEL/00000000-4a30-fdc0-3c7b-1b518c2c4788, \
                  learn_kylin/MODEL/6082c411-4a30-fdc0-3c7b-1b518c2c4788\n";
    guarded(&sandbox, "restore good --store store", danger, "--allow-same-alias");
}

#[test]
fn guard_of_truncating_to_a_project() {
    let sandbox = backed_up();
    sandbox.done("backup --store store --label retail --project retail");
    let words = "restore retail --after-truncate --store store";
    guarded(&sandbox, words, "holds project retail only; truncating", "--allow-project-snapshot");
    let left = contents(&sandbox.path("store"));
    assert!(left.contains_key("PROJECT/retail.json") && !left.contains_key("PROJECT/learn_kylin.json"));
}

#[test]
fn permissions_are_kept_if_asked_for() {
    let sandbox = backed_up();
    let (acl, other) = ("store/OBJECT_ACL/60e53283-ba9d-69f8-465e-add754ff5a3a.json", "store/PROJECT/retail.json");
    let (good, good_project) = (sandbox.read(acl), sandbox.read(other));
    let changed = good.replace("\"m\" : 64", "\"m\" : 1");
    for (flag, expected) in [("--keep-permissions", &changed), ("", &good)] {
        sandbox.write(acl, &changed);
        sandbox.write(other, &good_project.replace("ENABLED", "DISABLED"));
        sandbox.done(&format!("restore good --store store --project retail {flag}"));
        assert_eq!((&sandbox.read(acl), sandbox.read(other)), (expected, good_project.clone()), "{flag}");
    }
    fs::remove_file(sandbox.path(acl)).unwrap();
    sandbox.done("restore good --store store --project retail --keep-permissions");
    assert_eq!(sandbox.read(acl), good);
    let (_, messages) = sandbox.json("restore good --store store --keep-permissions");
    assert_eq!(messages.last().unwrap()["same"], 88);
}

#[test]
fn project_flags_take_all_of_a_project() {
    let sandbox = backed_up();
    sandbox.done("backup --store store --label retail --project retail");
    let listed = sandbox.done("ls retail");
    assert_eq!(listed, sandbox.done("ls good --project retail"));
    assert!(listed.lines().all(|path| path.starts_with("retail/")));
    for path in ["OBJECT_ACL/60e53283-ba9d-69f8-465e-add754ff5a3a", "PROJECT/retail", "SEGMENT/", "LAYOUT/"] {
        assert!(listed.contains(&format!("\nretail/{path}")), "{path}: {listed}");
    }
    sandbox.write("store/PROJECT/retail.json", "{\"uuid\":\"60e53283-ba9d-69f8-465e-add754ff5a3a\"}");
    sandbox.write("store/USER_INFO/ADMIN.json", "{}");
    let expected = "M retail/PROJECT/retail
        in project retail: 0 added, 0 removed, 1 changed, 0 with other permissions";
    for snapshot in ["good", "retail"] {
        let said = sandbox.done(&format!("diff {snapshot} live --store store --project retail"));
        assert_eq!(said, lines(expected));
    }
    sandbox.done("restore good --store store --project retail");
    assert_eq!(sandbox.read("store/USER_INFO/ADMIN.json"), "{}");
    assert!(
        sandbox.done("diff retail live --store store").starts_with("in project retail: 0 added, 0 removed, 0 changed")
    );
}

#[test]
fn restore_of_a_project_does_not_replace_what_says_that_it_is_of_another() {
    let sandbox = backed_up();
    let name = "store/SEGMENT/50f51839-21c1-39a8-3d18-1d9a5696e548.json";
    let good = sandbox.read(name);
    sandbox.write(name, "{\"project\":\"retail\"}");
    let before = contents(&sandbox.path("store"));
    let ran = sandbox.run("restore good --store store --project learn_kylin");
    let document = "SEGMENT/50f51839-21c1-39a8-3d18-1d9a5696e548";
    let expected = format!(
        "error: refused: retail/{document} of the target has the same name as learn_kylin/{document} of the snapshot and \
         would be lost
        hint: remove or rename it there, or restore the whole system instead of one project"
    );
    assert!(ran.code == 14 && ran.stderr.ends_with(&lines(&expected)), "{}", ran.stderr);
    assert!(contents(&sandbox.path("store")) == before);
    assert_eq!(sandbox.run("restore good --store store").code, 0);
    assert_eq!(sandbox.read(name), good);
}

#[test]
fn restore_of_a_project_mends_what_does_not_say_whose_it_is() {
    let sandbox = backed_up();
    let name = "store/SEGMENT/50f51839-21c1-39a8-3d18-1d9a5696e548.json";
    let good = sandbox.read(name);
    for broken in ["{}", "{\"project\":\"learn_kylin\"", ""] {
        sandbox.write(name, broken);
        assert_eq!(sandbox.run("restore good --store store --project learn_kylin").code, 0, "{broken}");
        assert_eq!(sandbox.read(name), good);
        assert_eq!(sandbox.run("undo --store store").code, 0, "{broken}");
        assert_eq!(sandbox.read(name), broken, "the checkpoint has it");
    }
}
