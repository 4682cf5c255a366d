//! `find`: what is found, in which snapshots, and what can't be.

use std::os::unix::fs::PermissionsExt;

use super::{Sandbox, lines};

/// Makes a repository with three snapshots of a store in which one document changes and comes back, and one goes.
fn changing() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store --label one");
    sandbox.write("store/sales/model/orders.json", "{\"a\":2,\"name\":\"ORDERS\"}\n");
    std::fs::remove_dir_all(sandbox.path("store/stock")).unwrap();
    sandbox.settle();
    sandbox.done("backup --store store --label two");
    sandbox.write("store/sales/model/orders.json", "{\"a\":1}\n");
    sandbox.write("store/sales/model/copy.json", "{\"a\":2,\"name\":\"ORDERS\"}\n");
    sandbox.settle();
    sandbox.done("backup --store store --label three");
    sandbox
}

#[test]
fn find_by_path_in_the_latest_snapshot() {
    let sandbox = changing();
    let all = "NOTES\nsales/model/copy.json\nsales/model/orders.json\n3 documents found in snapshot ID";
    assert_eq!(sandbox.done("find *"), lines(all));
    let orders = "sales/model/orders.json\n1 document found in snapshot ID";
    for words in ["find orders*", "find **/orders.json", "find --regex orders", "find ORD* -i", "find sales/*/o*"] {
        assert_eq!(sandbox.done(words), lines(orders), "{words}");
    }
    assert_eq!(sandbox.done("find stock/**"), "0 documents found in snapshot ID\n");
    assert_eq!(sandbox.done("find -q stock/** NOTES --snapshot one"), "NOTES\nstock/model/shelf.json\n");
}

#[test]
fn find_by_content_and_pointer() {
    let sandbox = changing();
    let copy = "sales/model/copy.json\n1 document found in snapshot ID";
    for words in
        ["find --content ORD.RS", "find --content orders -i", "find --pointer /name", "find * --pointer /name=ORDERS"]
    {
        assert_eq!(sandbox.done(words), lines(copy), "{words}");
    }
    assert_eq!(sandbox.done("find --content ^top$ -q"), "NOTES\n");
    assert_eq!(sandbox.done("find --pointer /a=1.0 -q"), "sales/model/orders.json\n");
    assert_eq!(sandbox.done("find --pointer /a=2 --pointer /name=x -q"), "");
    assert_eq!(sandbox.done("find --pointer /a --project stock --snapshot one -q"), "");
    assert_eq!(sandbox.done("find --pointer /b=2 --project stock --snapshot one -q"), "stock/model/shelf.json\n");
}

#[test]
fn find_in_all_snapshots_tells_who_has_each_version() {
    let sandbox = changing();
    let ids = sandbox.ids("meta_backups");
    let (code, found) = sandbox.json("find *.json --all");
    assert_eq!(code, 0);
    let told: Vec<_> = found
        .iter()
        .filter(|message| message["message_type"] == "found")
        .map(|message| {
            let number = |name: &str| ids.iter().position(|id| message[name] == **id).unwrap();
            (message["path"].as_str().unwrap(), message["snapshots"].as_u64().unwrap(), number("first"), number("last"))
        })
        .collect();
    let expected = [
        ("sales/model/copy.json", 1, 2, 2),
        // It was another in between.
        ("sales/model/orders.json", 2, 0, 2),
        ("sales/model/orders.json", 1, 1, 1),
        ("stock/model/shelf.json", 1, 0, 0),
    ];
    assert_eq!(told, expected);
    let summary = found.last().unwrap();
    assert_eq!((&summary["documents"], &summary["versions"]), (&3.into(), &4.into()));
    assert_eq!((&summary["snapshots"], &summary["unread"]), (&3.into(), &0.into()));

    let text = "ID 1 snapshot sales/model/copy.json
        ID 1 snapshot sales/model/orders.json
        2 versions of 2 documents found in 3 snapshots";
    assert_eq!(sandbox.done("find --content ORDERS --all"), lines(text));
    let (_, found) = sandbox.json("find --pointer /a=1 --snapshot three --snapshot one --snapshot one");
    assert_eq!((&found[0]["first"], &found[0]["last"]), (&ids[0].as_str().into(), &ids[2].as_str().into()));
    assert_eq!(found[1]["snapshots"], 2);
    let (_, found) = sandbox.json("find * --all --project stock");
    assert_eq!((found.len(), &found[1]["snapshots"]), (2, &1.into()));
}

#[test]
fn find_in_snapshots_of_several_stores() {
    let sandbox = changing();
    sandbox.write("other/NOTES", "top\n");
    sandbox.write("other/sales/x", "x\n");
    sandbox.done("backup --store other");
    sandbox.done("backup --store other --project sales");
    sandbox.done("backup --store store");
    let (_, found) = sandbox.json("find NOTES sales/x --all");
    let counts: Vec<_> =
        found.iter().map(|message| (message["path"].as_str(), message["snapshots"].as_u64())).collect();
    assert_eq!(counts[..2], [(Some("NOTES"), Some(5)), (Some("sales/x"), Some(2))]);
}

#[test]
fn find_says_by_its_exit_code_whether_something_was_found() {
    let sandbox = changing();
    assert_eq!(sandbox.run("find nothing --exit-code").code, 0);
    assert_eq!(sandbox.run("find NOTES --exit-code").code, 4);
}

#[test]
fn find_refuses_what_can_not_be_looked_for() {
    let sandbox = changing();
    sandbox.refused("find --pointer name=1", 2, "error: `name` is no JSON pointer: it does not begin with `/`");
    sandbox.refused("find --content (", 2, "error: `(` is no regular expression: unclosed group");
    for words in ["find", "find * --all --snapshot one"] {
        assert_eq!(sandbox.run(words).code, 2, "{words}");
    }
    sandbox.refused(
        "find * --snapshot two --project stock",
        1,
        "error: snapshot ID holds no project stock
        hint: `metastash ls SNAP` shows what it holds",
    );
}

#[test]
fn find_goes_on_past_damage_and_tells_it() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store");
    // Most of its pack is this document, as nothing makes it smaller.
    let digits = |n: u32| blake3::hash(&n.to_le_bytes()).to_string();
    let later = format!("{{\"a\":\"{}\"}}", (0..500).map(digits).collect::<String>());
    sandbox.write("store/sales/model/later.json", &later);
    sandbox.settle();
    sandbox.done("backup --store store");
    damage_largest_pack(&sandbox);
    for words in ["find --pointer /a", "find --pointer /a --all"] {
        let ran = sandbox.run(words);
        assert_eq!(ran.code, 3, "{words}: {}", ran.stderr);
        assert!(ran.stderr.starts_with("unread: sales/model/later.json: "), "{}", ran.stderr);
        assert!(ran.stdout.contains("sales/model/orders.json") && !ran.stdout.contains("later"), "{}", ran.stdout);
    }
    assert_eq!(sandbox.run("find later*").code, 0, "its content was not asked for");
}

/// Flips a byte in the middle of the largest pack, which is to be full of one document.
pub(super) fn damage_largest_pack(sandbox: &Sandbox) {
    let packs = std::fs::read_dir(sandbox.path("meta_backups/packs")).unwrap().map(|entry| entry.unwrap().path());
    let largest = packs.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::set_permissions(&largest, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(&largest, bytes).unwrap();
}
