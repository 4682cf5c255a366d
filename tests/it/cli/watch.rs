//! Backups again and again: what is told, what is kept, what fails and comes back, and how it ends.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Sandbox, lines, messages, normal};

/// A run that goes on beside the test.
struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    fn start(sandbox: &Sandbox, words: &str) -> Self {
        let mut child = sandbox.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    /// Waits for the next line.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        normal(&line)
    }

    /// Waits for a line that has these words, over others.
    #[track_caller]
    fn line_with(&mut self, words: &str) -> String {
        let mut before = Vec::new();
        for _ in 0..30 {
            let line = self.line();
            if line.contains(words) {
                return line;
            }
            before.push(line);
        }
        panic!("no `{words}` in {before:?}");
    }

    fn send(&self, signal: Signal) {
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Returns how it ended, and what it said on standard error.
    fn end(self) -> (ExitStatus, String) {
        drop(self.stdout);
        let output = self.child.wait_with_output().unwrap();
        (output.status, String::from_utf8(output.stderr).unwrap())
    }

    #[track_caller]
    fn stop_idle(self, signal: Signal) {
        // The wait begins just after the line that was read.
        thread::sleep(Duration::from_millis(100));
        let began = Instant::now();
        self.send(signal);
        let (status, stderr) = self.end();
        assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    }
}

#[test]
fn each_run_is_one_line() {
    let sandbox = Sandbox::new();
    let ran = sandbox.done("watch --store store --every 1s --jitter 0% --runs 3");
    let unchanged = "DATE TIME nothing changed since snapshot ID, no new one was written: \
                     3 documents (0 new, 0 changed, 0 removed, 3 unchanged), read 0 B, stored 0 B, N s\n";
    let expected = lines(
        "DATE TIME created repository meta_backups
        DATE TIME snapshot ID saved: 3 documents (3 new, 0 changed, 0 removed, 0 unchanged), read 20 B, stored SIZE, N s",
    );
    assert_eq!(ran, expected + unchanged + unchanged);
    assert_eq!(sandbox.ids("meta_backups").len(), 1);
    assert_eq!(sandbox.done("watch --store store --every 1s --runs 2 --quiet"), "");
}

#[test]
fn watch_trusts_a_database_as_far_as_backup_does() {
    let sandbox = Sandbox::new();
    sandbox.done("watch --store store --every 1s --runs 1 --no-log --verify 0");
    for command in ["backup", "watch"] {
        let expected = "error: invalid value '2/3' for '--verify <1/N>': a share such as 1/30 is expected, or 0
            For more information, try '--help'.";
        sandbox.refused(&format!("{command} --store store --verify 2/3"), 2, expected);
    }
}

#[test]
fn what_changes_is_saved_and_what_no_rule_keeps_goes() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store --project sales");
    super::copy(&sandbox.path("store"), &sandbox.path("other"));
    (0..2).for_each(|_| drop(sandbox.done("backup --store other")));
    let ran = sandbox
        .done("watch --store store --every 1s --jitter 0 --runs 4 --keep-unchanged --keep-last 2 --tag by=watch");
    assert_eq!(ran.matches("; forgot 1 snapshot").count(), 2, "{ran}");
    // Two of this store, and those that are none of its business.
    assert!(sandbox.done("snapshots --tag by=watch").ends_with("2 snapshots\n"));
    assert_eq!(sandbox.ids("meta_backups").len(), 5);
    assert!(sandbox.done("snapshots --forgotten").ends_with("2 snapshots forgotten\n"));
    sandbox.done("check --read-data");
}

#[test]
fn wait_ends_at_once_and_well() {
    let sandbox = Sandbox::new();
    for signal in [Signal::TERM, Signal::INT] {
        let mut running = Running::start(&sandbox, "watch --store store --every 1h");
        running.line_with("document");
        running.stop_idle(signal);
    }
}

#[test]
fn run_that_is_interrupted_leaves_nothing_half_done() {
    let sandbox = super::signals::with_many(10_000);
    let began = Instant::now();
    sandbox.done("watch --store store --repo whole --runs 1");
    let whole = began.elapsed();
    let mut caught = 0;
    for (moment, (signal, code)) in (2..10).zip([(Signal::TERM, 143), (Signal::INT, 130)].into_iter().cycle()) {
        let _ = fs::remove_dir_all(sandbox.path("r"));
        let running = Running::start(&sandbox, "watch --store store --repo r --every 1h");
        thread::sleep(whole * moment / 12);
        running.send(signal);
        let (status, stderr) = running.end();
        if status.code() == Some(code) {
            assert_eq!(stderr, "error: interrupted\n");
            caught += 1;
        } else {
            // Before it looks after signals, or when all was done; then it may have found that nobody listens any more.
            assert!(status.code().is_none_or(|code| code == 0 || code == 141), "{status:?} {stderr}");
        }
        let ran = sandbox.run("check --repo r");
        assert!(ran.code == 0 || ran.code == 10, "{}{}", ran.stdout, ran.stderr);
        assert_eq!(fs::read_dir(sandbox.path("r/tmp")).map_or(0, Iterator::count), 0);
    }
    assert!(caught > 0, "none was caught while it ran");
}

#[test]
fn store_that_vanishes_is_found_again() {
    let sandbox = Sandbox::new();
    let mut running = Running::start(&sandbox, "watch --store store --every 1s --jitter 0");
    running.line_with("saved");
    fs::rename(sandbox.path("store"), sandbox.path("away")).unwrap();
    let line = running.line_with("failed");
    assert!(line.starts_with("DATE TIME failed: the store store does not exist (hint: name"), "{line}");
    assert!(line.contains("; next try in "), "{line}");
    running.line_with("failed");
    sandbox.write("away/NOTES", "changed meanwhile\n");
    fs::rename(sandbox.path("away"), sandbox.path("store")).unwrap();
    running.line_with("1 changed");
    running.line_with("nothing changed");
    running.stop_idle(Signal::TERM);
}

#[test]
fn repository_that_vanishes_is_not_made_anew() {
    let sandbox = Sandbox::new();
    let mut running = Running::start(&sandbox, "watch --store store --every 1s --jitter 0");
    running.line_with("saved");
    fs::rename(sandbox.path("meta_backups"), sandbox.path("away")).unwrap();
    assert!(running.line_with("failed").contains("meta_backups is not a metastash repository"));
    assert!(!sandbox.path("meta_backups").exists());
    fs::rename(sandbox.path("away"), sandbox.path("meta_backups")).unwrap();
    running.line_with("nothing changed");
    running.stop_idle(Signal::TERM);
}

#[test]
fn store_that_comes_later_is_waited_for() {
    let sandbox = Sandbox::empty();
    let mut running = Running::start(&sandbox, "watch --store store --every 1s --jitter 0");
    running.line_with("failed: the store store does not exist");
    // Nor is one that is still empty taken for what it will be.
    fs::create_dir(sandbox.path("store")).unwrap();
    running.line_with("failed: refused: the store holds no document");
    assert!(!sandbox.path("meta_backups").exists());
    sandbox.write("store/a", "a\n");
    running.line_with("created repository");
    running.line_with("saved: 1 document");
    running.stop_idle(Signal::INT);
}

#[test]
fn damage_stops_the_rules_but_no_backup() {
    let sandbox = Sandbox::new();
    (0..2).for_each(|_| drop(sandbox.done("backup --store store")));
    super::damage::cut_oldest_snapshot(&sandbox);
    let ran = sandbox.run("watch --store store --every 1s --jitter 0 --runs 2 --keep-unchanged --keep-last 1 --quiet");
    assert_eq!(ran.code, 13);
    assert_eq!(ran.stdout.matches("saved").count(), 2, "{}", ran.stdout);
    assert_eq!(ran.stdout.matches("; cannot forget what no rule keeps: ").count(), 2, "{}", ran.stdout);
}

#[test]
fn two_at_once_are_harmless() {
    let sandbox = Sandbox::new();
    let words = "watch --store store --every 1s --jitter 0 --runs 4 --keep-unchanged --keep-last 2";
    let both = [Running::start(&sandbox, words), Running::start(&sandbox, words)];
    for mut running in both {
        let mut seen = 0;
        loop {
            let line = running.line();
            if line.is_empty() {
                break;
            }
            seen += usize::from(line.contains("saved"));
        }
        let (status, stderr) = running.end();
        assert_eq!((status.code(), stderr.as_str(), seen), (Some(0), "", 4));
    }
    sandbox.done("forget --keep-last 2");
    assert_eq!(sandbox.ids("meta_backups").len(), 2);
    sandbox.done("check --read-data");
}

#[test]
fn problem_is_told_once_as_long_as_it_lasts() {
    let sandbox = Sandbox::new();
    std::os::unix::fs::symlink("NOTES", sandbox.path("store/link")).unwrap();
    let ran = sandbox.run("watch --store store --every 1s --jitter 0 --runs 3");
    assert_eq!(ran.code, 3);
    assert_eq!(ran.stderr.matches("skipped: link").count(), 1, "{}", ran.stderr);
}

#[test]
fn what_no_time_will_mend_ends_it_at_the_start() {
    let sandbox = Sandbox::new();
    sandbox.write("file", "no store\n");
    sandbox.write("occupied/file", "no repository\n");
    for (words, code) in [
        ("watch", 2),
        ("watch --store s3://bucket", 2),
        ("watch --store store --repo s3://bucket", 2),
        ("watch --store store --tag a=1 --tag a=2", 2),
        ("watch --store store --every 0s", 2),
        ("watch --store store --every 5", 2),
        ("watch --store store --jitter 200%", 2),
        ("watch --store store --runs 0", 2),
        ("watch --store file", 1),
        ("watch --store metadata@jdbc,url=\"a", 1),
        ("watch --store store --project nowhere", 1),
        ("watch --store store --repo occupied", 10),
        ("watch --store store --repo store/r", 14),
        ("watch --store store --repo .", 14),
    ] {
        let ran = sandbox.run(words);
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{words}: {}", ran.stderr);
        assert!(ran.stderr.starts_with("error: "), "{words}: {}", ran.stderr);
    }
    assert!(!sandbox.path("meta_backups").exists());
}

#[test]
fn each_run_is_one_message() {
    let sandbox = Sandbox::new();
    let words = "watch --store store --every 1s --jitter 0 --runs 2 --keep-last 1 --json";
    let output = sandbox.command(words).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
    let runs = messages(&output.stdout);
    assert_eq!(runs.len(), 2);
    for (n, run) in runs.iter().enumerate() {
        assert_eq!(
            (&run["message_type"], &run["run"], &run["code"]),
            (&"watch_run".into(), &(n + 1).into(), &0.into())
        );
        assert_eq!((&run["backup"]["is_new"], &run["backup"]["documents"]), (&(n == 0).into(), &3.into()));
        assert_eq!((&run["forgotten"], &run["next"].is_null()), (&0.into(), &(n == 1)));
    }
    assert_eq!(runs[0]["created"], "meta_backups");

    let output = sandbox.command("watch --store nowhere --runs 1 --json").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let run = &messages(&output.stdout)[0];
    assert_eq!((&run["code"], &run["backup"].is_null()), (&1.into(), &true));
    assert_eq!(run["message"], "the store nowhere does not exist");
    assert_eq!(messages(&output.stderr)[0]["message_type"], "exit_error");
}
