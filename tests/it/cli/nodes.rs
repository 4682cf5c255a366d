//! `--kylin-url`: nodes that reload after a restore, or don't.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;

use super::{Sandbox, lines, messages};

const DONE: &str = r#"{"code":"000","data":"","msg":""}"#;

/// Something that answers HTTP requests, each with the next of some answers, and tells what it was asked.
struct Node {
    url: String,
    asked: mpsc::Receiver<String>,
}

impl Node {
    fn answering(answers: &'static [(&'static str, &'static str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("127.0.0.1:{}", listener.local_addr().unwrap().port());
        let (tell, asked) = mpsc::channel();
        thread::spawn(move || {
            for (status, body) in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut request = String::new();
                while !request.ends_with("\r\n\r\n") && reader.read_line(&mut request).unwrap() > 0 {}
                let length =
                    request.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
                reader.take(length.unwrap_or(0)).read_to_string(&mut request).unwrap();
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
                stream.write_all(format!("{head}Location: /elsewhere\r\n\r\n{body}").as_bytes()).unwrap();
                if tell.send(request).is_err() {
                    return;
                }
            }
        });
        Self { url, asked }
    }

    /// Returns what was asked so far.
    fn asked(&self) -> Vec<String> {
        self.asked.try_iter().collect()
    }
}

/// A store that was backed up and then changed.
fn changed() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store --label good");
    sandbox.write("store/NOTES", "changed\n");
    sandbox.settle();
    sandbox
}

const RESTORED: &str = "checkpoint ID saved: `metastash undo` puts it back
    restored all of snapshot ID: 0 documents added, 1 replaced, 0 removed, 0 kept that only the store has, 2 unchanged, \
    wrote 4 B, N s";

#[test]
fn restore_and_undo_reload_nodes() {
    let sandbox = changed();
    let node = Node::answering(&[("200 OK", DONE), ("200 OK", DONE)]);
    let words = format!("restore good --store store --kylin-url http://ADMIN:p%40ss@{}", node.url);
    let expected = format!("{}http://{}/kylin reloaded its metadata\n", lines(RESTORED), node.url);
    assert_eq!(sandbox.done(&words), expected);
    let asked = node.asked();
    assert_eq!(asked.len(), 1);
    let (first, headers) = asked[0].split_once("\r\n").unwrap();
    assert_eq!(first, "POST /kylin/api/system/metadata/reload HTTP/1.1");
    let headers = headers.to_lowercase();
    for header in [
        // ADMIN:p@ss
        "authorization: basic qurnsu46cebzcw==",
        "content-type: application/json",
        "accept: application/vnd.apache.kylin-v4+json",
        "content-length: 0",
    ] {
        assert!(headers.lines().any(|line| line == header), "{header}: {headers}");
    }

    // Nothing is to be told where nothing changed, or would.
    let other = format!("--store store --kylin-url http://ADMIN:x@{}", node.url);
    sandbox.done(&format!("restore good {other}"));
    sandbox.done(&format!("undo --dry-run {other}"));
    assert_eq!(node.asked().len(), 0);
    assert!(sandbox.done(&format!("undo {other}")).ends_with("reloaded its metadata\n"));
    assert_eq!(node.asked().len(), 1);
}

#[test]
fn user_password_and_nodes_may_be_in_the_environment() {
    let sandbox = changed();
    let nodes = [Node::answering(&[("200 OK", DONE)]), Node::answering(&[("200 OK", DONE)])];
    let mut command = sandbox.command("restore good --store store --json");
    command.env("METASTASH_KYLIN_URL", format!("http://{}/,http://USER:own@{}/a/b/", nodes[0].url, nodes[1].url));
    command.env("METASTASH_KYLIN_USER", "ADMIN").env("METASTASH_KYLIN_PASSWORD", "p@ss");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let told = messages(&output.stdout);
    assert_eq!(
        told.iter().map(|m| m["message_type"].as_str().unwrap()).collect::<Vec<_>>(),
        ["restore_summary", "node_reload", "node_reload"]
    );
    assert_eq!((&told[1]["url"], &told[1]["reloaded"]), (&format!("http://{}", nodes[0].url).into(), &true.into()));
    assert!(told[1]["message"].is_null() && told[1]["hint"].is_null());
    let asked: Vec<String> = nodes.iter().flat_map(Node::asked).collect();
    assert!(asked[0].starts_with("POST /api/system/metadata/reload "), "{}", asked[0]);
    assert!(asked[0].contains("Basic QURNSU46cEBzcw=="), "{}", asked[0]);
    assert!(asked[1].starts_with("POST /a/b/api/system/metadata/reload "), "{}", asked[1]);
    // USER:own
    assert!(asked[1].contains("Basic VVNFUjpvd24="), "{}", asked[1]);
}

#[test]
fn what_may_pass_is_tried_three_times() {
    let sandbox = changed();
    let node = Node::answering(&[("503 Service Unavailable", ""), ("500 Internal", "{}"), ("200 OK", DONE)]);
    let words = format!("restore good --store store --kylin-url http://ADMIN:hunter2@{}", node.url);
    assert!(sandbox.done(&words).ends_with("reloaded its metadata\n"));
    assert_eq!(node.asked().len(), 3);

    let node = Node::answering(&[("503 No", ""), ("503 No", ""), ("503 No", r#"{"code":"999","msg":"not\nyet"}"#)]);
    let ran = sandbox.run(&format!("undo --store store --kylin-url http://ADMIN:hunter2@{}", node.url));
    let expected = format!(
        "http://{0}/kylin was not reloaded: it answered 503 and said: not yet; the restore is done, and the node shows the old \
         state: restart it, or POST to http://{0}/kylin/api/system/metadata/reload",
        node.url
    );
    assert_eq!((ran.stdout.lines().last(), ran.stderr.as_str(), ran.code), (Some(expected.as_str()), "", 3));
    assert_eq!(node.asked().len(), 3);
    assert_eq!(sandbox.read("store/NOTES"), "changed\n");
}

#[test]
fn a_node_that_refuses_is_asked_once_and_the_restore_stands() {
    for (answer, said) in [
        (("401 Unauthorized", r#"{"code":"KE-010","msg":"no"}"#), "it answered 401 and said: no"),
        // The password is not for where a node redirects to.
        (("302 Found", ""), "it answered 302"),
        (("200 OK", "<html>log in</html>"), "it answered 200, but not as Kylin does"),
        (("200 OK", r#"{"code":"999","msg":"maintenance"}"#), "it answered 200 and said: maintenance"),
    ] {
        let sandbox = changed();
        let node = Node::answering(Box::leak(Box::new([answer, ("200 OK", DONE)])));
        let words = format!("restore good --store store --quiet --kylin-url http://ADMIN:hunter2@{}", node.url);
        let ran = sandbox.run(&words);
        assert!(
            ran.stdout.starts_with(&format!("http://{}/kylin was not reloaded: {said}; ", node.url)),
            "{}",
            ran.stdout
        );
        assert!(!ran.stdout.contains("hunter2"), "{}", ran.stdout);
        assert_eq!((ran.code, ran.stderr.as_str(), node.asked().len()), (3, "", 1));
        assert_eq!(sandbox.read("store/NOTES"), "top\n");
    }
}

#[test]
fn a_node_that_is_down_does_not_keep_others_from_reloading() {
    let sandbox = changed();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let node = Node::answering(&[("200 OK", DONE)]);
    let words = format!(
        "restore good --store store --kylin-url http://ADMIN:hunter2@127.0.0.1:{port} --kylin-url http://ADMIN:x@{}",
        node.url
    );
    let (code, told) = sandbox.json(&words);
    assert_eq!((code, told.len()), (3, 3));
    assert_eq!((&told[1]["reloaded"], &told[2]["reloaded"]), (&false.into(), &true.into()));
    let message = told[1]["message"].as_str().unwrap();
    assert!(message.starts_with("it can't be reached: ") && message.to_lowercase().contains("refused"), "{message}");
    assert!(!told[1].to_string().contains("hunter2"));
}

#[test]
fn urls_are_looked_at_before_anything_is_done() {
    let sandbox = changed();
    for (url, why) in [
        ("ftp://ADMIN:hunter2@h", "the url of the node begins with neither http:// nor https://"),
        ("http://ADMIN:hunter2/@h", "the url of the node has a `/` before the `@`: in a password it is %2F"),
        (
            "http://kylin-1:7070/kylin",
            "http://kylin-1:7070/kylin reloads for an administrator only: user and password are in the url, or in \
             METASTASH_KYLIN_USER and METASTASH_KYLIN_PASSWORD",
        ),
    ] {
        let expected = format!("error: --kylin-url: {why}");
        for command in ["restore good", "restore good --dry-run", "undo"] {
            sandbox.refused(&format!("{command} --store store --kylin-url {url}"), 2, &expected);
        }
    }
}
