//! `--json`: every line of standard output is an object with a type, and errors end with one.

use super::{Sandbox, messages};

#[track_caller]
fn last(sandbox: &Sandbox, words: &str, code: i32, message_type: &str) -> serde_json::Value {
    let (found, messages) = sandbox.json(words);
    assert_eq!(found, code, "{words}");
    let last = messages.last().expect("a command says something").clone();
    assert_eq!(last["message_type"], message_type, "{words}");
    last
}

#[test]
fn every_command_speaks_json() {
    let sandbox = Sandbox::new();
    assert_eq!(last(&sandbox, "init", 0, "init")["repository"], "meta_backups");
    let plan = last(&sandbox, "backup --store store --dry-run", 0, "backup_plan");
    assert_eq!(
        (plan["new"].as_u64(), plan["to_read"].as_u64(), plan["bytes_to_read"].as_u64()),
        (Some(3), Some(3), Some(20))
    );

    let saved = last(&sandbox, "backup --store store --label good --tag k=v", 0, "backup_summary");
    for (name, value) in [("documents", 3), ("bytes", 20), ("new", 3), ("changed", 0), ("removed", 0), ("unchanged", 0)]
    {
        assert_eq!(saved[name], value, "{name}");
    }
    for (name, value) in [("unread", 0), ("skipped", 0), ("read", 3), ("bytes_read", 20)] {
        assert_eq!(saved[name], value, "{name}");
    }
    assert_eq!((saved["label"].as_str(), saved["tags"]["k"].as_str()), (Some("good"), Some("v")));
    assert_eq!((&saved["is_new"], &saved["is_incomplete"]), (&true.into(), &false.into()));
    let id = saved["id"].as_str().unwrap();
    assert_eq!(id.len(), 64);

    assert_eq!(last(&sandbox, "snapshots", 0, "snapshot")["id"], id);
    let entry = last(&sandbox, "ls good:NOTES", 0, "entry");
    assert_eq!((&entry["path"], &entry["type"], &entry["size"]), (&"NOTES".into(), &"document".into(), &4.into()));
    assert_eq!((&entry["mode"], &entry["content"]), (&"0644".into(), &blake3::hash(b"top\n").to_string().into()));
    assert_eq!(last(&sandbox, "cat good:NOTES", 0, "document")["content"], "top\n");

    sandbox.write("store/NOTES", "changed\n");
    sandbox.write("store/new", "n\n");
    let (code, differences) = sandbox.json("diff good live --store store --exit-code");
    assert_eq!((code, differences.len()), (4, 3));
    assert_eq!((&differences[0]["change"], &differences[0]["before"]["size"]), (&"changed".into(), &4.into()));
    assert_eq!((&differences[1]["change"], &differences[1]["path"]), (&"added".into(), &"new".into()));
    assert_eq!((&differences[2]["added"], &differences[2]["changed"]), (&1.into(), &1.into()));

    let (code, steps) = sandbox.json("restore good --after-truncate --dry-run --store store");
    assert_eq!((code, steps.len()), (0, 3));
    assert_eq!((&steps[0]["action"], &steps[1]["action"]), (&"replace".into(), &"remove".into()));
    let plan = &steps[2];
    assert_eq!((&plan["message_type"], &plan["mode"]), (&"restore_plan".into(), &"truncate".into()));
    let restored = last(&sandbox, "restore good --after-truncate --store store", 0, "restore_summary");
    for (name, value) in [("add", 0), ("replace", 1), ("remove", 1), ("keep", 0), ("same", 2), ("bytes_written", 4)] {
        assert_eq!(restored[name], value, "{name}");
    }
    assert_eq!(restored["checkpoint"].as_str().map(str::len), Some(64));
    assert_eq!(last(&sandbox, "undo --dry-run --store store", 0, "restore_plan")["add"], 1);
    assert_eq!(last(&sandbox, "undo --store store", 0, "restore_summary")["snapshot"], restored["checkpoint"]);

    let checked = last(&sandbox, "check --read-data", 0, "check_summary");
    assert_eq!((&checked["snapshots"], &checked["findings"]), (&3.into(), &0.into()));
    assert_eq!((&checked["is_damaged"], &checked["documents_lost"]), (&false.into(), &0.into()));
    let stats = last(&sandbox, "stats", 0, "stats");
    assert_eq!(
        (&stats["snapshots"], &stats["documents"], &stats["document_bytes"]),
        (&3.into(), &3.into(), &20.into())
    );
}

#[test]
fn errors_end_with_exit_error() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store");
    for (words, code, message) in [
        ("ls latest~9", 1, "there is no snapshot `latest~9`"),
        ("ls latest --repo nowhere", 10, "nowhere is not a metastash repository"),
        ("backup", 2, "no store is named: use `--store`, METASTASH_STORE, or set KYLIN_HOME"),
        ("backup --bogus", 2, "unexpected argument '--bogus' found"),
        ("bogus", 2, "unrecognized subcommand 'bogus'"),
        ("restore latest --allow-empty", 2, "the following required arguments were not provided: --after-truncate"),
        ("snapshots -q -v", 2, "the argument '--quiet' cannot be used with '--verbose'"),
        (
            "check --read-data=0/0",
            2,
            "invalid value '0/0' for '--read-data[=<N/M>]': `N/M` is expected, with N from 1 to M",
        ),
    ] {
        let output = sandbox.command(words).arg("--json").output().unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(code), 0), "{words}");
        let messages = messages(&output.stderr);
        assert_eq!(messages.len(), 1, "{words}");
        let error = &messages[0];
        assert_eq!((&error["message_type"], &error["code"]), (&"exit_error".into(), &code.into()), "{words}");
        assert_eq!(error["message"], message, "{words}");
    }
}

#[test]
fn damage_is_an_error_after_all_that_could_be_shown() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store");
    sandbox.done("backup --store store");
    super::damage::cut_oldest_snapshot(&sandbox);
    let output = sandbox.command("snapshots --json").output().unwrap();
    assert_eq!((output.status.code(), messages(&output.stdout).len()), (Some(13), 1));
    assert_eq!(messages(&output.stderr).last().unwrap()["code"], 13);
}

#[test]
fn problems_are_objects_on_standard_error() {
    let sandbox = Sandbox::new();
    std::os::unix::fs::symlink("NOTES", sandbox.path("store/link")).unwrap();
    let output = sandbox.command("backup --store store --json").output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let problem = &messages(&output.stderr)[0];
    assert_eq!((&problem["message_type"], &problem["severity"]), (&"problem".into(), &"skipped".into()));
    assert_eq!(problem["path"], "link");
    assert_eq!(messages(&output.stdout)[0]["skipped"], 1);
}
