//! `--at` and `log`, where there is no log: what is said, and what documents of plain files have of it.

use super::Sandbox;

#[test]
fn a_moment_needs_a_log() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store");
    let expected =
        "error: the snapshots of [here]/store know no log of changes, so nothing is known of the time between them
        hint: only databases of Kylin have an audit log; name a snapshot instead: `metastash snapshots` lists all";
    for words in [
        "cat NOTES --at 12",
        "ls --at 12",
        "ls sales --at #12",
        "diff --at 10:00 --store store",
        "diff --at 10:00 latest",
        "restore --at 2026-11-24T10:00:00Z --store store",
        "restore latest --at 12 --dry-run --store store",
        "export --at 12 out",
        "export latest --at 12 out",
    ] {
        sandbox.refused(words, 1, expected);
    }
    sandbox.refused(
        "cat NOTES --at 12 --store other",
        1,
        "error: the repository has no snapshot of all of [here]/other
        hint: name the store whose history is meant with `--store`; `metastash snapshots` lists what there is",
    );
    sandbox.write("second/x", "x");
    sandbox.done("backup --store second");
    let ran = sandbox.run("ls --at 12");
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("snapshots of several stores ([host]:[here]/second, "), "{}", ran.stderr);
}

#[test]
fn arguments_that_say_too_much_or_too_little() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store");
    for (words, start) in [
        (
            "cat NOTES --at yesterday",
            "error: invalid value 'yesterday' for '--at <TIME|RECORD>': the number of a record",
        ),
        ("cat latest:NOTES --allow-gaps", "error: the following required arguments were not provided:"),
        ("cat --at 12", "error: the following required arguments were not provided:"),
        ("restore --store store", "error: the following required arguments were not provided:"),
        ("export out", "error: the following required arguments were not provided:"),
        ("diff", "error: the following required arguments were not provided:"),
        ("diff --at 12 latest live", "error: with --at the moment is the first side, and only the second is named"),
        ("ls ../x --at 12", "error: with --at a path is expected, without a snapshot: `../x` is not a usable path"),
        ("log /x", "error: invalid value '/x' for '<PATH>': `/x` is not a usable path"),
    ] {
        let ran = sandbox.run(words);
        assert_eq!(ran.code, 2, "{words}: {}", ran.stderr);
        assert!(ran.stderr.starts_with(start), "{words}: {}", ran.stderr);
    }
}

#[test]
fn log_of_files_is_what_snapshots_hold() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store");
    sandbox.write("store/sales/model/orders.json", "{\"a\":2}\n");
    sandbox.settle();
    sandbox.done("backup --store store");
    sandbox.done("backup --store store");
    std::fs::remove_file(sandbox.path("store/sales/model/orders.json")).unwrap();
    sandbox.done("backup --store store");
    let stdout = sandbox.done("log sales/model/orders.json");
    let lines: Vec<&str> = stdout.lines().collect();
    let words = ["created", "changed", "removed"];
    assert!(lines.len() == 4 && words.iter().zip(&lines).all(|(word, line)| line.contains(word)), "{stdout}");
    assert_eq!(lines[3], "3 changes");
    let ran = sandbox.run("log sales/model/none.json");
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("has no document sales/model/none.json"), "{}", ran.stderr);
    let json = sandbox.done("log sales/model/orders.json --json");
    let first: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!((&first["by"], &first["change"]), (&"snapshot".into(), &"created".into()));
}
