//! What people do every day, and what they see.

use super::{Sandbox, lines, state};

#[test]
fn backup_creates_the_repository_and_says_so() {
    let sandbox = Sandbox::new();
    let expected = "created repository meta_backups
        snapshot ID saved: 3 documents (3 new, 0 changed, 0 removed, 0 unchanged), read 20 B, stored SIZE, N s";
    assert_eq!(sandbox.done("backup --store store"), lines(expected));
    assert!(sandbox.path("meta_backups/config").is_file());
}

#[test]
fn second_backup_reads_and_stores_nothing() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store");
    let expected =
        "snapshot ID saved: 3 documents (0 new, 0 changed, 0 removed, 3 unchanged), read 0 B, stored 0 B, N s";
    assert_eq!(sandbox.done("backup --store store"), lines(expected));
    assert_eq!(sandbox.ids("meta_backups").len(), 2);
}

#[test]
fn backup_counts_what_changed() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store");
    sandbox.write("store/NOTES", "another\n");
    sandbox.write("store/new", "n\n");
    std::fs::remove_dir_all(sandbox.path("store/stock")).unwrap();
    sandbox.settle();
    let expected =
        "snapshot ID saved: 3 documents (1 new, 1 changed, 1 removed, 1 unchanged), read 10 B, stored SIZE, N s";
    assert_eq!(sandbox.done("backup --store store"), lines(expected));
}

#[test]
fn skip_if_unchanged_writes_nothing() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store");
    let before = state(&sandbox.path("meta_backups"));
    let expected = "nothing changed since snapshot ID, no new one was written: \
                    3 documents (0 new, 0 changed, 0 removed, 3 unchanged), read 0 B, stored 0 B, N s";
    assert_eq!(sandbox.done("backup --store store --skip-if-unchanged"), lines(expected));
    assert!(before == state(&sandbox.path("meta_backups")));
}

#[test]
fn tag_and_label_are_listed_and_found() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store --label before-upgrade --tag version=5.0.2 --tag by=hand");
    sandbox.done("backup --store store");
    let expected = "id time scope documents size new changed removed notes store
        ID DATE TIME system 3 20 B 3 0 0 before-upgrade, by=hand, version=5.0.2 [host]:[here]/store
        1 snapshot";
    assert_eq!(sandbox.done("snapshots --tag by=hand"), lines(expected));
    assert_eq!(sandbox.done("cat before-upgrade:NOTES"), "top\n");
}

#[test]
fn project_is_all_that_its_backup_holds() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store --project sales");
    assert_eq!(sandbox.done("ls latest"), lines("sales/\nsales/model/\nsales/model/orders.json"));
}

#[test]
fn dry_run_of_a_first_backup_makes_no_repository() {
    let sandbox = Sandbox::new();
    let before = state(sandbox.folder.path());
    let expected = "would read 3 documents of 20 B: 3 new, 0 removed, 0 unchanged; nothing was written";
    assert_eq!(sandbox.done("backup --store store --dry-run"), lines(expected));
    assert!(before == state(sandbox.folder.path()));
}

#[test]
fn dry_run_of_a_later_backup_writes_nothing() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store");
    sandbox.write("store/new", "n\n");
    sandbox.settle();
    let before = state(sandbox.folder.path());
    let expected = "would read 1 document of 2 B: 1 new, 0 removed, 3 unchanged; nothing was written";
    assert_eq!(sandbox.done("backup --store store --dry-run"), lines(expected));
    assert!(before == state(sandbox.folder.path()));
}

#[test]
fn snapshots_lists_the_oldest_first() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store --label one");
    sandbox.done("backup --store store --label two --project sales");
    let expected = "id time scope documents size new changed removed notes store
        ID DATE TIME system 3 20 B 3 0 0 one [host]:[here]/store
        ID DATE TIME project sales 1 8 B 0 0 0 two [host]:[here]/store
        2 snapshots";
    assert_eq!(sandbox.done("snapshots"), lines(expected));
}

#[test]
fn snapshots_of_a_project_are_those_that_hold_it() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store");
    assert!(sandbox.done("snapshots --project stock").ends_with("1 snapshot\n"));
    assert_eq!(sandbox.done("snapshots --project nowhere"), "0 snapshots\n");
}

#[test]
fn latest_with_a_project_is_the_latest_that_holds_it() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store");
    std::fs::remove_dir_all(sandbox.path("store/stock")).unwrap();
    sandbox.done("backup --store store");
    sandbox.done("restore latest --project stock --store store");
    assert_eq!(sandbox.read("store/stock/model/shelf.json"), "{\"b\":2}\n");
    // What a diff is asked for is the difference.
    let expected = "- stock/\n- stock/model/\n- stock/model/shelf.json
        in project stock: 0 added, 1 removed, 0 changed, 0 with other permissions; directories: 2";
    assert_eq!(sandbox.done("diff latest~1 latest --project stock"), lines(expected));
}

#[test]
fn ls_lists_all_or_what_lies_at_a_path() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store");
    let all = "NOTES\nsales/\nsales/model/\nsales/model/orders.json\nstock/\nstock/model/\nstock/model/shelf.json\n";
    assert_eq!(sandbox.done("ls latest"), all);
    assert_eq!(sandbox.done("ls latest:"), all);
    assert_eq!(sandbox.done("ls latest:stock/model/"), "stock/model/\nstock/model/shelf.json\n");
    assert_eq!(sandbox.done("ls latest:NOTES"), "NOTES\n");
    assert_eq!(sandbox.done("ls latest --project sales"), "sales/\nsales/model/\nsales/model/orders.json\n");
}

#[test]
fn ls_long_shows_mode_size_time_and_content() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store");
    let content = &blake3::hash(b"top\n").to_hex()[..10];
    assert_eq!(sandbox.done("ls -l latest:NOTES"), "0644 4 DATE TIME ID NOTES\n");
    let raw = sandbox.command("ls --long latest:NOTES").output().unwrap().stdout;
    assert!(String::from_utf8(raw).unwrap().contains(content));
    assert_eq!(
        sandbox.done("ls -l latest:sales/model"),
        lines(
            "0755 - - - sales/model/
         0644 8 DATE TIME ID sales/model/orders.json"
        )
    );
}

#[test]
fn cat_prints_the_bytes() {
    let sandbox = Sandbox::new();
    let bytes: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
    std::fs::write(sandbox.path("store/large"), &bytes).unwrap();
    sandbox.done("backup --store store");
    assert!(sandbox.command("cat latest:large").output().unwrap().stdout == bytes);
}

#[test]
fn diff_of_snapshots() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store");
    change(&sandbox);
    sandbox.done("backup --store store");
    assert_eq!(sandbox.done("diff latest~1 latest"), lines(CHANGES));
    assert_eq!(sandbox.run("diff latest~1 latest --exit-code").code, 4);
    assert_eq!(sandbox.run("diff latest latest --exit-code").code, 0);
}

#[test]
fn diff_with_the_live_store() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store");
    let same = "0 added, 0 removed, 0 changed, 0 with other permissions\n";
    assert_eq!(sandbox.done("diff latest --store store --exit-code"), same);
    change(&sandbox);
    assert_eq!(sandbox.done("diff latest live --store store"), lines(CHANGES));
    let ran = sandbox.run("diff latest --store store --exit-code");
    assert_eq!((ran.code, ran.stdout), (4, lines(CHANGES)));
}

#[test]
fn diff_of_a_project() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store");
    change(&sandbox);
    let expected = "M sales/model/orders.json
        in project sales: 0 added, 0 removed, 1 changed, 0 with other permissions";
    assert_eq!(sandbox.done("diff latest live --project sales --store store"), lines(expected));
}

#[test]
fn diff_of_snapshots_of_one_project_is_about_that() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store");
    sandbox.done("backup --store store --project sales --label sales1");
    sandbox.done("backup --store store --project stock --label stock1");
    change(&sandbox);
    sandbox.done("backup --store store --project sales --label sales2");
    let expected = "M sales/model/orders.json
        in project sales: 0 added, 0 removed, 1 changed, 0 with other permissions";
    assert_eq!(sandbox.done("diff sales1 sales2"), lines(expected));
    let system = sandbox.ids("meta_backups")[0].clone();
    assert_eq!(sandbox.done(&format!("diff {system} sales2")), lines(expected));
    sandbox.refused(
        "diff sales1 stock1",
        2,
        "error: one snapshot holds project sales only, the other project stock only: there is nothing to compare",
    );
}

const CHANGES: &str = "M NOTES\n+ new\nM sales/model/orders.json\n- stock/\n- stock/model/\n- stock/model/shelf.json
    1 added, 1 removed, 2 changed, 0 with other permissions; directories: 2";

fn change(sandbox: &Sandbox) {
    sandbox.write("store/NOTES", "another\n");
    sandbox.write("store/new", "n\n");
    sandbox.write("store/sales/model/orders.json", "{\"a\":9}\n");
    std::fs::remove_dir_all(sandbox.path("store/stock")).unwrap();
    sandbox.settle();
}

#[test]
fn diff_of_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store");
    std::fs::set_permissions(sandbox.path("store/NOTES"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let expected = "m NOTES\n0 added, 0 removed, 0 changed, 1 with other permissions";
    assert_eq!(sandbox.done("diff latest --store store"), lines(expected));
}

#[test]
fn check_reads_references_or_everything_or_a_part() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store");
    assert_eq!(
        sandbox.done("check"),
        "no damage found, contents not read (--read-data does); checked 1 snapshot, N s\n"
    );
    let all = sandbox.done("check --read-data");
    assert!(all.starts_with("no damage found; checked 1 snapshot, read "), "{all}");
    let packs = |part: &str| {
        let (code, messages) = sandbox.json(&format!("check --read-data={part}"));
        assert_eq!(code, 0);
        messages.last().unwrap()["packs_read"].as_u64().unwrap()
    };
    assert_eq!(packs("1/3") + packs("2/3") + packs("3/3"), packs("1/1"));
}

#[test]
fn stats_counts() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store");
    let shown = sandbox.done("stats");
    let expected = "repository meta_backups\nsnapshots 1\nnewest backup 3 documents, 20 B\npacks 1, ";
    assert!(shown.starts_with(expected), "{shown}");
    assert!(shown.contains("documents stored 3 chunks, 20 B as SIZE"), "{shown}");
}

#[test]
fn init_makes_an_empty_repository_that_backups_use() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.done("init --repo r"), "created repository r\n");
    assert_eq!(sandbox.done("snapshots --repo r"), "0 snapshots\n");
    assert!(!sandbox.done("backup --repo r --store store").contains("created"));
}

#[test]
fn init_where_there_is_a_repository() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store");
    let expected =
        "error: meta_backups already holds a repository\nhint: it can be used as it is: nothing is to be done";
    sandbox.refused("init", 1, expected);
}

#[test]
fn completions_for_three_shells() {
    let sandbox = Sandbox::empty();
    for (shell, word) in [("bash", "complete -F"), ("zsh", "#compdef metastash"), ("fish", "complete -c metastash")] {
        let script = sandbox.command(&format!("completions {shell}")).output().unwrap();
        assert!(script.status.success());
        let script = String::from_utf8(script.stdout).unwrap();
        assert!(script.contains(word) && script.contains("skip-if-unchanged"), "{shell}");
    }
}

#[test]
fn repository_is_in_kylin_home_by_default() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command("backup --store store");
    command.env("KYLIN_HOME", sandbox.path("kylin"));
    let ran = sandbox.ran(&command.output().unwrap());
    assert!(ran.stdout.starts_with("created repository [here]/kylin/meta_backups\n"), "{}", ran.stdout);
    assert!(!sandbox.path("meta_backups").exists());
    // An empty variable is none.
    let mut command = sandbox.command("backup --store store");
    command.env("KYLIN_HOME", "");
    assert!(command.output().unwrap().status.success());
    assert!(sandbox.path("meta_backups").exists());
}

#[test]
fn environment_names_repository_and_store_and_flags_win() {
    let sandbox = Sandbox::new();
    sandbox.write("other/x", "x\n");
    let run = |words: &str| {
        let mut command = sandbox.command(words);
        command.env("METASTASH_REPO", "r").env("METASTASH_STORE", "store").env("KYLIN_HOME", "kylin");
        sandbox.ran(&command.output().unwrap()).stdout
    };
    assert!(run("backup").starts_with("created repository r\nsnapshot ID saved: 3 documents"));
    assert!(run("backup -s other -r r2").starts_with("created repository r2\nsnapshot ID saved: 1 document ("));
}

#[test]
fn quiet_says_results_only() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.done("backup --quiet --store store"), "");
    assert_eq!(sandbox.done("ls -q latest:NOTES"), "NOTES\n");
    assert_eq!(sandbox.done("diff -q latest --store store"), "");
    assert_eq!(sandbox.done("restore -q latest --store store"), "");
    assert_eq!(sandbox.done("check -q"), "");
}
