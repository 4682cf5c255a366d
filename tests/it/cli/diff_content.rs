//! `diff --content`: what is shown of documents that changed.

use serde_json::{Value, json};

use super::{Sandbox, lines};

/// Writes a store whose documents change in all ways, backs it up before and after.
fn changed() -> Sandbox {
    let sandbox = Sandbox::new();
    let model = r#"{"name":"m","last_modified":1,"columns":[{"id":1,"name":"a"},{"id":2,"name":"b"},{"id":3,"name":"c"}],"limit":12345678901234567890123}"#;
    sandbox.write("store/sales/model/model.json", model);
    sandbox.write("store/sales/model/noisy.json", r#"{"last_modified":1}"#);
    sandbox.write("store/sales/model/spelled.json", r#"{"a":1,"b":2}"#);
    sandbox.write("store/sales/readme", "one\ntwo\tx\nthree\n");
    std::fs::write(sandbox.path("store/bytes"), b"\xff\x00").unwrap();
    sandbox.settle();
    sandbox.done("backup --store store --label before");
    let model = r#"{"name":"m2","last_modified":2,"columns":[{"id":3,"name":"c"},{"id":1,"name":"A"},{"id":2,"name":"b"}],"limit":12345678901234567890124,"new":[1.10]}"#;
    sandbox.write("store/sales/model/model.json", model);
    sandbox.write("store/sales/model/noisy.json", r#"{"last_modified":2}"#);
    sandbox.write("store/sales/model/spelled.json", r#"{"b":2.0, "a":1}"#);
    sandbox.write("store/sales/readme", "one\nTWO\tx\x1b[2J\nthree\n");
    std::fs::write(sandbox.path("store/bytes"), b"\xff\x01").unwrap();
    std::fs::remove_file(sandbox.path("store/sales/model/orders.json")).unwrap();
    sandbox.settle();
    sandbox.done("backup --store store --label after");
    sandbox
}

const SHOWN: &str = "M bytes
    it is neither JSON nor text
    M sales/model/model.json
    ~ /name: \"m\" -> \"m2\"
    > /columns/2 -> /columns/0
    ~ /columns/1/name: \"a\" -> \"A\"
    ~ /limit: 12345678901234567890123 -> 12345678901234567890124
    + /new: [1.10]
    M sales/model/noisy.json
    only noise differs
    - sales/model/orders.json
    M sales/model/spelled.json
    the same JSON, spelled differently
    M sales/readme
    @@ -1,3 +1,3 @@
    one
    -two x
    +TWO x\\x1b[2J
    three
    0 added, 1 removed, 5 changed (1 in noise only), 0 with other permissions";

#[test]
fn diff_content_of_snapshots_and_of_the_live_store() {
    let sandbox = changed();
    assert_eq!(sandbox.done("diff before after --content"), lines(SHOWN));
    assert_eq!(sandbox.done("diff before live --content --store store"), lines(SHOWN));
}

#[test]
fn diff_content_with_other_noise() {
    let sandbox = changed();
    let all = sandbox.done("diff before after --content --no-noise");
    assert!(all.contains("M sales/model/noisy.json\n~ /last_modified: 1 -> 2\n"), "{all}");
    assert!(!all.contains("in noise only"), "{all}");
    let less = sandbox.done("diff before after --content --noise name --noise limit --noise new --noise columns");
    assert!(less.contains("M sales/model/model.json\nonly noise differs\n"), "{less}");
    assert!(less.contains("5 changed (2 in noise only)"), "{less}");
    assert_eq!(sandbox.run("diff before after --noise name").code, 2);
    // Noise is shown less, and counts all the same.
    assert_eq!(sandbox.run("diff before after --content --exit-code").code, 4);
}

#[test]
fn diff_content_as_json_is_a_patch() {
    let sandbox = changed();
    let output = sandbox.command("diff before after --content --json --no-noise").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(r#""value":12345678901234567890124"#) && text.contains("[1.10]"), "{text}");
    let messages = super::messages(text.as_bytes());
    let of = |path: &str| messages.iter().find(|message| message["path"] == path).unwrap();

    let model = of("sales/model/model.json");
    assert_eq!((&model["message_type"], &model["kind"]), (&json!("difference"), &json!("json")));
    assert_eq!((&model["change"], &model["has_noise"]), (&json!("changed"), &json!(false)));
    let document = |label: &str| -> Value {
        serde_json::from_str(&sandbox.done(&format!("cat {label}:sales/model/model.json"))).unwrap()
    };
    let patch: json_patch::Patch = serde_json::from_value(model["patch"].clone()).unwrap();
    let mut patched = document("before");
    json_patch::patch(&mut patched, &patch).unwrap();
    assert_eq!(patched, document("after"));

    assert_eq!(of("sales/model/spelled.json")["patch"], json!([]));
    assert_eq!(of("bytes")["kind"], "bytes");
    let readme = of("sales/readme");
    let unified = "--- a/sales/readme\n+++ b/sales/readme\n@@ -1,3 +1,3 @@\n one\n-two\tx\n+TWO\tx\u{1b}[2J\n three\n";
    assert_eq!((&readme["kind"], &readme["unified"]), (&json!("text"), &json!(unified)));
    assert!(of("sales/model/orders.json").get("kind").is_none());
    let summary = messages.last().unwrap();
    assert_eq!((&summary["noise_only"], &summary["changed"]), (&json!(0), &json!(5)));
    let (_, plain) = sandbox.json("diff before after");
    assert!(plain[0].get("kind").is_none() && plain.last().unwrap()["noise_only"].is_null());
}

#[test]
fn diff_content_into_a_pipe_has_no_colours() {
    let sandbox = changed();
    let output = sandbox.command("diff before after --content").env("TERM", "xterm").output().unwrap();
    assert!(!output.stdout.contains(&0x1b));
}

#[test]
fn diff_content_goes_on_past_damage_and_tells_it() {
    let sandbox = changed();
    // Most of the largest pack is this document, as nothing makes it smaller.
    let digits = |n: u32| blake3::hash(&n.to_le_bytes()).to_string();
    sandbox.write("store/NOTES", &(0..500).map(digits).collect::<String>());
    sandbox.settle();
    sandbox.done("backup --store store");
    super::find::damage_largest_pack(&sandbox);
    let ran = sandbox.run("diff before latest --content --exit-code");
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stderr.starts_with("unread: NOTES: "), "{}", ran.stderr);
    assert!(ran.stdout.starts_with("M NOTES\nM bytes\n") && ran.stdout.contains("+ /new: [1.10]"), "{}", ran.stdout);
}
