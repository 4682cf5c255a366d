//! Being stopped: politely by SIGINT and SIGTERM, and by SIGKILL.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Ran, Sandbox};

/// Documents of a store that takes long enough to be interrupted.
const MANY: usize = 10_000;
/// Moments at which a running command is stopped.
const MOMENTS: u32 = 12;

pub(super) fn with_many(documents: usize) -> Sandbox {
    let sandbox = Sandbox::empty();
    for n in 0..documents {
        let folder = sandbox.path(&format!("store/p{}/k{}", n % 3, n % 40));
        if n < 120 {
            fs::create_dir_all(&folder).unwrap();
        }
        fs::write(folder.join(n.to_string()), format!("document {n} {}\n", blake3::hash(&n.to_le_bytes()))).unwrap();
    }
    sandbox.settle();
    sandbox
}

/// Runs a command and sends it a signal after a while.
fn stop(sandbox: &Sandbox, words: &str, after: Duration, signal: Signal) -> (ExitStatus, Option<Ran>) {
    let mut command = sandbox.command(words);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(after);
    // It is not waited for yet, so the number is still its own, even if it has ended.
    let _ = kill_process(Pid::from_child(&child), signal);
    let output = child.wait_with_output().unwrap();
    (output.status, output.status.code().map(|_| sandbox.ran(&output)))
}

fn time(sandbox: &Sandbox, words: &str) -> Duration {
    let began = Instant::now();
    sandbox.run(words);
    began.elapsed()
}

/// Sends signals at various moments of a command that takes `whole` until it was caught by some; `prepare` goes before
/// each run, `look` after each that was stopped. Tells whether one was.
fn interrupt(sandbox: &Sandbox, words: &str, whole: Duration, prepare: impl Fn(), look: impl Fn(&Sandbox)) -> bool {
    let mut caught = [false; 2];
    for moment in 1..MOMENTS {
        let which = (moment % 2) as usize;
        let (signal, code) = [(Signal::INT, 130), (Signal::TERM, 143)][which];
        prepare();
        let (status, ran) = stop(sandbox, words, whole * moment / MOMENTS, signal);
        // It may be stopped before it looks after signals, and be done before one comes.
        let Some(ran) = ran else {
            assert_eq!(status.signal(), Some(signal.as_raw()));
            continue;
        };
        if ran.code == code {
            assert_eq!((ran.stderr.as_str(), ran.stdout.as_str()), ("error: interrupted\n", ""), "{words}");
            caught[which] = true;
        } else {
            assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{words}");
        }
        look(sandbox);
        if caught == [true; 2] {
            break;
        }
    }
    caught[0] || caught[1]
}

fn leftovers(place: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(place) else { return Vec::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(".metastash-restore-")).collect()
}

fn documents(place: &Path) -> BTreeMap<String, String> {
    let state = super::state(place).into_iter().filter(|(_, (mode, _, _))| mode & 0o170_000 == 0o100_000);
    state.map(|(path, (_, _, content))| (path.display().to_string(), String::from_utf8(content).unwrap())).collect()
}

#[test]
fn interrupted_commands_leave_nothing_half_done() {
    let sandbox = with_many(MANY);
    let remove = |name: &str| drop(fs::remove_dir_all(sandbox.path(name)));

    let whole = time(&sandbox, "backup --store store");
    let look = |sandbox: &Sandbox| {
        let ran = sandbox.run("check --repo r");
        assert!(ran.code == 0 || ran.code == 10, "{}{}", ran.stdout, ran.stderr);
        let tmp = fs::read_dir(sandbox.path("r/tmp")).map_or(0, Iterator::count);
        assert_eq!(tmp, 0);
    };
    assert!(interrupt(&sandbox, "backup --store store --repo r", whole, || remove("r"), look));
    sandbox.done("backup --store store --repo r");
    sandbox.done("check --read-data --repo r");

    let fresh = "restore latest --store fresh";
    let whole = time(&sandbox, fresh);
    let look = |sandbox: &Sandbox| {
        assert_eq!(leftovers(sandbox.folder.path()), [""; 0]);
        let found = documents(&sandbox.path("fresh")).len();
        assert!(found == 0 || found == MANY, "{found}");
    };
    // An existing place that is empty is as good as none, and takes a checkpoint all the same.
    let restore =
        |sandbox: &Sandbox| interrupt(sandbox, fresh, whole, || drop(fs::remove_dir_all(sandbox.path("fresh"))), look);
    if fs::metadata(sandbox.path("fresh")).is_ok() {
        assert!(restore(&sandbox));
    }
    sandbox.done(fresh);
    assert!(documents(&sandbox.path("fresh")) == documents(&sandbox.path("store")));

    let whole = time(&sandbox, "diff latest live --store fresh");
    interrupt(&sandbox, "diff latest live --store fresh -q", whole, || {}, |_| {});
    let whole = time(&sandbox, "check --read-data");
    interrupt(&sandbox, "check --read-data -q", whole, || {}, |_| {});
    sandbox.done("check --read-data");
}

#[test]
fn interrupted_ls_and_find_end_at_once() {
    let sandbox = with_many(4000);
    sandbox.done("backup --store store");
    for (words, signal, code) in [
        ("ls --long latest", Signal::INT, 130),
        ("ls --long latest", Signal::TERM, 143),
        ("find * --content . --json", Signal::INT, 130),
        ("find * --all --json", Signal::TERM, 143),
    ] {
        // Nobody reads what it prints: it waits until it is stopped.
        let (status, _) = stop(&sandbox, words, Duration::from_secs(1), signal);
        assert_eq!(status.code(), Some(code), "{words}");
    }
}

#[test]
fn interrupted_restore_into_a_store_with_documents() {
    let sandbox = with_many(2000);
    sandbox.done("backup --store store");
    let before = || {
        let _ = fs::remove_dir_all(sandbox.path("target"));
        for n in 0..300 {
            sandbox.write(&format!("target/p{}/k{}/{n}", n % 3, n % 40), "old\n");
        }
        sandbox.settle();
    };
    before();
    let old = documents(&sandbox.path("target"));
    let new = documents(&sandbox.path("store"));
    let words = "restore latest --store target";
    let whole = time(&sandbox, words);
    let look = |sandbox: &Sandbox| {
        assert_eq!(leftovers(&sandbox.path("target")), [""; 0]);
        let found = documents(&sandbox.path("target"));
        assert!(found == old || found == new, "{} documents", found.len());
    };
    assert!(interrupt(&sandbox, words, whole, before, look));
    sandbox.done(words);
    assert!(documents(&sandbox.path("target")) == new);
}

#[test]
fn killed_backups_hurt_nothing() {
    let sandbox = with_many(1500);
    sandbox.write("small/x", "x\n");
    sandbox.done("backup --store small --label small");
    let whole = time(&sandbox, "backup --store store --repo other");
    for moment in 1..=20 {
        // Each time with other documents, so that there is something to store.
        sandbox.write(&format!("store/p0/k0/{moment}"), &format!("again {moment}\n"));
        stop(&sandbox, "backup --force --store store", whole * moment / 20, Signal::KILL);
        let ran = sandbox.run("check");
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    }
    sandbox.settle();
    sandbox.done("backup --store store");
    sandbox.done("check --read-data");
    sandbox.done("restore small --store again");
    assert_eq!(sandbox.read("again/x"), "x\n");
    sandbox.done("restore latest --store all");
    assert!(documents(&sandbox.path("all")) == documents(&sandbox.path("store")));
}

#[test]
fn killed_restores_leave_old_or_new_documents() {
    let sandbox = with_many(400);
    sandbox.done("backup --store store");
    let new = documents(&sandbox.path("store"));
    let words = "restore latest --store target";
    let before = || {
        let _ = fs::remove_dir_all(sandbox.path("target"));
        for n in 0..150 {
            sandbox.write(&format!("target/p{}/k{}/{n}", n % 3, n % 40), "old\n");
        }
    };
    before();
    let old = documents(&sandbox.path("target"));
    let whole = time(&sandbox, words);
    let mut left = 0;
    for moment in 1..=20 {
        before();
        stop(&sandbox, words, whole * moment / 20, Signal::KILL);
        let folders = leftovers(&sandbox.path("target"));
        let found = documents(&sandbox.path("target"));
        for (path, content) in found.iter().filter(|(path, _)| !path.starts_with(".metastash-restore-")) {
            assert!(old.get(path) == Some(content) || new.get(path) == Some(content), "{path}: {content}");
        }
        assert!(old.keys().all(|path| found.contains_key(path)), "a document is gone");
        if let [folder] = folders.as_slice() {
            left += 1;
            let ran = sandbox.run("backup --store target --dry-run");
            assert_eq!(ran.code, 3);
            assert!(ran.stderr.starts_with(&format!("skipped: {folder}: left behind by a restore")), "{}", ran.stderr);
            // The same restore can be run again, beside what the other left.
            sandbox.run(words);
            fs::remove_dir_all(sandbox.path("target").join(folder)).unwrap();
            assert!(documents(&sandbox.path("target")) == new);
        }
    }
    assert!(left > 0, "none was killed while it wrote");
    sandbox.done("check --read-data");
    sandbox.done("undo --store target");
}
