//! The way out: `contrib/read_repo.py`, written from docs/format.md, reads what metastash wrote, and sees what it sees.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{Seen, View, scratch, view};

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns a Python that has what the reader needs.
fn python() -> &'static str {
    let has_zstd = |program: &&str| {
        let ran = Command::new(program).args(["-c", "import zstandard"]).output();
        ran.is_ok_and(|output| output.status.success())
    };
    let found = ["python3", "/usr/bin/python3"].into_iter().find(has_zstd);
    found.expect("a Python with `zstandard`: apt-get install python3-zstandard, or pip install zstandard")
}

fn read(repo: &Path, arguments: &[&str]) -> Output {
    let script = project().join("contrib/read_repo.py");
    Command::new(python()).arg(script).arg(repo).args(arguments).output().unwrap()
}

/// Returns what the reader printed, after it did what it was to do.
fn read_well(repo: &Path, arguments: &[&str]) -> String {
    let output = read(repo, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn metastash(repo: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("metastash"));
    let output = command.arg("--repo").arg(repo).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn fixtures() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        fs::read_dir(project().join("fixtures/repo")).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

/// Returns the ids of the snapshots as the reader lists them.
fn ids(repo: &Path) -> Vec<String> {
    read_well(repo, &["list"]).lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

fn contents(view: &View) -> BTreeMap<&[u8], Option<&[u8]>> {
    view.iter().map(|(path, seen)| (&path[..], seen.bytes())).collect()
}

#[test]
fn the_reader_is_short_enough_to_be_read() {
    let lines = fs::read_to_string(project().join("contrib/read_repo.py")).unwrap().lines().count();
    assert!(lines <= 400, "{lines} lines");
}

#[test]
fn the_reader_restores_every_fixture_as_metastash_does() {
    let folder = scratch();
    let mut documents = 0;
    for (n, fixture) in fixtures().iter().enumerate() {
        let listed = metastash(fixture, &["snapshots", "--json"]);
        let ids = ids(fixture);
        assert_eq!(ids.len(), listed.matches("\"message_type\":\"snapshot\"").count(), "{listed}");
        for id in ids {
            assert!(listed.contains(&id), "{id}");
            let (ours, theirs) = (folder.path().join(format!("{n}-{id}-a")), folder.path().join(format!("{n}-{id}-b")));
            metastash(fixture, &["export", &id, ours.to_str().unwrap()]);
            read_well(fixture, &["restore", &id, theirs.to_str().unwrap()]);
            let (ours, theirs) = (view(&ours), view(&theirs));
            assert_eq!(contents(&ours), contents(&theirs), "{} {id}", fixture.display());
            assert_eq!(
                ours.values().map(Seen::mode).collect::<Vec<_>>(),
                theirs.values().map(Seen::mode).collect::<Vec<_>>()
            );
            documents += ours.values().filter(|seen| seen.bytes().is_some()).count();
        }
        assert!(read_well(fixture, &["verify"]).contains("documents"));
    }
    assert!(documents > 100, "{documents}");
}

#[test]
fn the_reader_notices_damage_and_loses_no_other_document() {
    let folder = scratch();
    let repo = folder.path().join("repo");
    let store = folder.path().join("store");
    for n in 0..200_u32 {
        crate::support::write(&store, format!("p/MODEL/{n}.json"), crate::support::text(u64::from(n), 900));
    }
    let backup = |label: &str| {
        metastash(&repo, &["--store", store.to_str().unwrap(), "backup", "--label", label]);
    };
    backup("first");
    fs::remove_file(store.join("p/MODEL/7.json")).unwrap();
    crate::support::write(&store, "p/MODEL/8.json", "changed");
    backup("second");
    let restored = folder.path().join("restored");
    read_well(&repo, &["restore", "second", restored.to_str().unwrap()]);
    assert_eq!(contents(&view(&restored)), contents(&view(&store)), "a run over the base counts");
    let again = read(&repo, &["restore", "second", restored.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(1), "nothing is overwritten");

    let largest = fs::read_dir(repo.join("packs")).unwrap().map(|entry| entry.unwrap().path());
    let pack = largest.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    bytes[40] ^= 1;
    fs::write(&pack, bytes).unwrap();
    let verified = read(&repo, &["verify"]);
    assert_eq!(verified.status.code(), Some(13));
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(said.contains("does not match its name") && said.contains("MODEL/3.json"), "{said}");
    fs::write(repo.join("config"), "no").unwrap();
    assert_eq!(read(&repo, &["list"]).status.code(), Some(13));
}
