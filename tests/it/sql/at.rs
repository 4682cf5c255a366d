//! Moments between two backups of a database: what `--at` gives is what was there.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use metastash::endpoint::sql::{SqlOptions, SqlStore};
use metastash::model::log::Moment;
use metastash::model::path::EntryPath;
use metastash::monitor::{Recorder, Silent};
use metastash::ops::at::{AtOptions, AtReport, Gap, materialize};
use metastash::ops::backup::{BackupOptions, backup};
use metastash::ops::history::History;
use metastash::ops::log::{Step, log};
use metastash::ops::{self, Author};
use metastash::platform::kylin::database::Database;
use metastash::platform::kylin::layout::Layout;
use metastash::repo::Repository;
use metastash::repo::snapshot::Snapshot;
use metastash::storage::local::LocalStorage;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::connection::{BOTH, Kind};
use super::encoding::Compress;
use super::kylin_client::{KylinClient, now};
use super::kylin_db::{ID, contents, create_new, create_old, dump, load_tree};
use super::kylin_tables::Release;
use super::kylin_units::model_unit;
use super::servers::{Db, scratch_database};
use crate::support::{assert_sound, config, contents as contents_of, entries, read_document, snapshots};

const PROJECT: &str = "learn_kylin";

/// Documents by the keys that the log has.
type Documents = BTreeMap<String, Json>;

/// What was there after a unit of work.
struct State {
    last: u64,
    time_ms: i64,
    documents: Documents,
}

struct Stage {
    db: Db,
    client: KylinClient,
    folder: TempDir,
    repo: Repository,
    layout: Option<Layout>,
    states: Vec<State>,
    units: u64,
}

fn author() -> Author {
    // As the command says it, which finds what was backed up here.
    Author { host: gethostname::gethostname().to_string_lossy().into_owned(), user: "tester".to_owned() }
}

impl Stage {
    fn new(kind: Kind, is_new: bool) -> Self {
        let db = scratch_database(kind);
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        if is_new {
            create_new(&db, ID, Release::V502);
            load_tree(&db, ID, &fixtures.join("learn_kylin"), Compress::Mixed);
        } else {
            create_old(&db, ID);
            load_tree(&db, ID, &fixtures.join("kylin_old"), Compress::Mixed);
        }
        let client = KylinClient::connect(&db, ID);
        let folder = tempfile::tempdir().unwrap();
        let storage = Arc::new(LocalStorage::new(folder.path().join("repo")));
        let repo = Repository::create(storage, config()).unwrap();
        let layout = (!is_new).then_some(Layout::Old);
        let mut stage = Self { db, client, folder, repo, layout, states: Vec::new(), units: 0 };
        stage.work(8);
        stage
    }

    fn log_table(&self) -> String {
        format!("{ID}_audit_log{}", if self.layout.is_none() { "_v2" } else { "" })
    }

    fn note(&mut self) {
        let last = u64::try_from(self.db.number(&format!("SELECT max(id) FROM {}", self.log_table()))).unwrap();
        let parse = |(key, content): (String, Vec<u8>)| (key, json_of(&content));
        let documents = contents(&dump(&self.db, ID)).into_iter().map(parse).collect();
        self.states.push(State { last, time_ms: now(), documents });
        std::thread::sleep(Duration::from_millis(3));
    }

    fn work(&mut self, units: u64) {
        for _ in 0..units {
            model_unit(&mut self.client, PROJECT, self.units).unwrap();
            self.units += 1;
            self.note();
        }
    }

    fn unit(
        &mut self,
        project: &str,
        work: impl FnMut(&mut super::kylin_client::Unit<'_>) -> super::connection::Result<()>,
    ) {
        self.client.transaction(project, work).unwrap();
        self.note();
    }

    fn back_up(&self) -> Snapshot {
        self.back_up_with(&BackupOptions::new(author()))
    }

    fn back_up_with(&self, how: &BackupOptions) -> Snapshot {
        let options = SqlOptions { layout: self.layout, create_tables: false, instance: "test:0000".to_owned() };
        let store = SqlStore::open(Database::parse(&self.db.url()).unwrap(), options).unwrap();
        let snapshot = backup(&store, &self.repo, how, &Silent).unwrap().snapshot;
        std::thread::sleep(Duration::from_millis(3));
        snapshot
    }

    fn history(&self) -> History {
        <[History; 1]>::try_from(History::all(&self.repo).unwrap()).unwrap().into_iter().next().unwrap()
    }

    fn at(&self, moment: Moment) -> ops::Result<AtReport> {
        let options = AtOptions { allow_gaps: false, author: author() };
        materialize(&self.repo, &self.history(), moment, &options, &Silent)
    }

    fn documents(&self, snapshot: &Snapshot) -> Documents {
        let layout: Layout = snapshot.manifest.layout.parse().unwrap();
        let entries = entries(&self.repo, snapshot).unwrap();
        let one = |entry: &metastash::model::entry::Entry| {
            let key = String::from_utf8(layout.key_of(&entry.path)?).unwrap();
            Some((key, json_of(&read_document(&self.repo, entry).unwrap()?)))
        };
        entries.iter().filter_map(one).collect()
    }

    fn gaps(&self, moment: Moment) -> Vec<String> {
        match self.at(moment) {
            Err(ops::Error::Gaps { gaps, .. }) => gaps.iter().map(Gap::to_string).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("metastash"));
        command.args(words.split_whitespace()).current_dir(self.folder.path()).env("TZ", "UTC");
        command.env("XDG_CONFIG_HOME", self.folder.path().join("configuration"));
        command.env("METASTASH_REPO", self.folder.path().join("repo")).env("METASTASH_STORE", self.db.url());
        command
    }

    fn run(&self, words: &str) -> (i32, String, String) {
        let output = self.command(words).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }
}

fn json_of(content: &[u8]) -> Json {
    // Some documents of the old generation are no JSON.
    serde_json::from_slice(content).unwrap_or_else(|_| json!(String::from_utf8_lossy(content)))
}

fn all() -> impl Iterator<Item = (Kind, bool)> {
    BOTH.into_iter().flat_map(|kind| [(kind, true), (kind, false)])
}

#[test]
fn every_moment_is_as_it_was() {
    for (kind, is_new) in all() {
        let mut stage = Stage::new(kind, is_new);
        let first = stage.states.len();
        stage.back_up();
        for _ in 0..4 {
            stage.work(12);
            stage.back_up();
        }
        let taken = snapshots(&stage.repo).len();
        for state in &stage.states[first - 1..] {
            for moment in [Moment::Record(state.last), Moment::Time(state.time_ms)] {
                if matches!(moment, Moment::Time(time_ms) if time_ms < stage.history().snapshots[0].manifest.scan_ms) {
                    continue;
                }
                let report = stage.at(moment).unwrap_or_else(|error| panic!("{kind:?} {is_new} {moment}: {error}"));
                assert_eq!(stage.documents(&report.snapshot), state.documents, "{kind:?} {is_new} {moment}");
                assert_eq!((report.last, report.split), (state.last, None), "{moment}");
                assert_eq!(stage.at(moment).unwrap().snapshot.id, report.snapshot.id, "{moment}: made once");
            }
        }
        let made = snapshots(&stage.repo);
        assert!(made.len() > taken + 40, "{} snapshots", made.len());
        assert_eq!(stage.history().snapshots.len(), taken, "none of them is taken for a backup");
        assert_sound(&stage.repo);
        // And what was made is no parent of what is taken.
        stage.work(1);
        let next = stage.back_up();
        let parent = made.iter().find(|snapshot| Some(snapshot.id) == next.manifest.parent).unwrap();
        assert!(parent.manifest.is_backup() && next.manifest.archive.is_some());
    }
}

#[test]
fn a_record_in_the_middle_of_a_transaction_is_that_before_it() {
    let mut stage = Stage::new(Kind::PostgreSql, true);
    stage.back_up();
    stage.work(3);
    stage.back_up();
    let [.., before, _, after] = &stage.states[..] else { panic!() };
    let between = &stage.states[stage.states.len() - 2];
    assert!(after.last - between.last > 2, "a unit has several records");
    let report = stage.at(Moment::Record(after.last - 1)).unwrap();
    assert_eq!((report.split, report.last), (Some((between.last + 1, after.last)), between.last));
    assert_eq!(stage.documents(&report.snapshot), between.documents);
    let report = stage.at(Moment::Record(before.last + 1)).unwrap();
    assert_eq!(stage.documents(&report.snapshot), before.documents);
}

#[test]
fn documents_come_and_go_with_their_projects() {
    for kind in BOTH {
        let mut stage = Stage::new(kind, true);
        stage.back_up();
        let uuid = "11111111-2222-3333-4444-555555555555";
        let acl = format!("OBJECT_ACL/{uuid}");
        stage.unit("_global", |unit| unit.create(&acl, &json!({"uuid": uuid, "who": 1})));
        stage.unit("_global", |unit| unit.create("PROJECT/fresh", &json!({"uuid": uuid, "name": "fresh"})));
        stage.unit("fresh", |unit| {
            unit.create("SEGMENT/s-1", &json!({"uuid": "s-1", "project": "fresh", "model_uuid": "m"}))
        });
        stage.unit("fresh", |unit| unit.update("SEGMENT/s-1", |json| json["n"] = json!(1)));
        stage.unit("_global", |unit| unit.update(&acl, |json| json["who"] = json!(2)));
        stage.unit("_global", |unit| {
            unit.delete("SEGMENT/s-1")?;
            unit.delete("PROJECT/fresh").map(drop)
        });
        stage.back_up();
        let paths = |last: u64| -> Vec<String> {
            let report = stage.at(Moment::Record(last)).unwrap();
            let of = contents_of(&stage.repo, &report.snapshot);
            let all = of.keys().map(|path| String::from_utf8(path.clone()).unwrap());
            all.filter(|path| path.contains("fresh") || path.contains(uuid)).collect()
        };
        let last: Vec<u64> = stage.states.iter().rev().take(6).rev().map(|state| state.last).collect();
        let orphan = format!("_global/OBJECT_ACL/{uuid}");
        let owned = [format!("fresh/OBJECT_ACL/{uuid}"), "fresh/PROJECT/fresh".to_owned()];
        let full = [&owned[..], &["fresh/SEGMENT/s-1".to_owned()]].concat();
        assert_eq!(paths(last[0]), std::slice::from_ref(&orphan));
        assert_eq!(paths(last[1]), owned);
        for last in &last[2..5] {
            assert_eq!(paths(*last), full, "{last}");
        }
        for state in stage.states.iter().rev().take(6) {
            let report = stage.at(Moment::Record(state.last)).unwrap();
            assert_eq!(stage.documents(&report.snapshot), state.documents);
        }
        // Where both states are around, a moment before the removal of the owner leaves its permissions to nobody.
        assert_eq!(paths(last[5]), [orphan]);
    }
}

#[test]
fn what_the_log_does_not_tell_is_a_gap() {
    for (kind, is_new) in all() {
        let mut stage = Stage::new(kind, is_new);
        stage.back_up();
        stage.work(3);
        // Someone writes without Kylin: no record, and the version stays.
        let key = stage.states[0]
            .documents
            .keys()
            .find(|key| !key.contains("PROJECT") && !key.contains("_global"))
            .unwrap()
            .clone();
        let (table, column, set) = match key.split_once('/').unwrap() {
            (folder, key) if is_new => {
                (format!("{ID}_{}", folder.to_lowercase()), format!("meta_key = '{key}'"), "content")
            }
            _ => (ID.to_owned(), format!("META_TABLE_KEY = '{key}'"), "META_TABLE_CONTENT"),
        };
        let id_of = |stage: &Stage| stage.states.last().unwrap().last;
        let before = id_of(&stage);
        let version = if is_new { "mvcc" } else { "META_TABLE_MVCC" };
        stage.db.execute(&format!("UPDATE {table} SET {set} = '{{}}', {version} = {version} + 1 WHERE {column}"));
        stage.work(2);
        // Who follows the log notices it only when its turn comes to be verified.
        stage.back_up_with(&BackupOptions { follow_log: false, ..BackupOptions::new(author()) });
        let gaps = stage.gaps(Moment::Record(before));
        assert!(matches!(&gaps[..], [gap] if gap.contains("no record tells since when")), "{gaps:?}");
        let options = AtOptions { allow_gaps: true, author: author() };
        let recorder = Recorder::default();
        let report = materialize(&stage.repo, &stage.history(), Moment::Record(before), &options, &recorder).unwrap();
        assert!(report.snapshot.manifest.is_incomplete() && recorder.problems().len() == 1);
        assert_eq!(stage.documents(&report.snapshot), stage.states[stage.states.len() - 3].documents);
    }
}

#[test]
fn what_was_rotated_away_or_forgotten_is_a_gap() {
    for (kind, is_new) in all() {
        let mut stage = Stage::new(kind, is_new);
        let first = stage.back_up();
        let start = stage.states.last().unwrap().last;
        stage.work(8);
        stage.client.rotate_log(3).unwrap();
        stage.back_up();
        let gaps = stage.gaps(Moment::Record(start + 4));
        assert!(gaps[0].starts_with(&format!("records {} to ", start + 1)), "{gaps:?}");
        assert!(gaps[0].contains("did not reach back"), "{gaps:?}");

        stage.work(4);
        let (at, middle) = (stage.states.last().unwrap().last, stage.back_up());
        stage.work(4);
        stage.back_up();
        let state = &stage.states[stage.states.len() - 3];
        assert_eq!(stage.documents(&stage.at(Moment::Record(state.last)).unwrap().snapshot), state.documents);
        assert!(stage.repo.forget(&middle).unwrap());
        let gaps = stage.gaps(Moment::Record(state.last));
        assert!(gaps[0].ends_with("are missing: the snapshot that kept them is gone"), "{gaps:?}");
        assert!(gaps[0].contains(&format!(" to {at}, ")), "{gaps:?}");
        let error = stage.at(Moment::Record(100_000)).unwrap_err().to_string();
        assert!(error.starts_with("nothing is known of record 100000: what is known begins with record"), "{error}");
        let early = Moment::Time(first.manifest.scan_ms - 1);
        assert!(matches!(stage.at(early), Err(ops::Error::OutOfReach { .. })));
        assert!(matches!(stage.at(Moment::Time(now() + 1000)), Err(ops::Error::OutOfReach { .. })));
    }
}

#[test]
fn log_tells_every_change() {
    for (kind, is_new) in all() {
        let mut stage = Stage::new(kind, is_new);
        stage.back_up();
        let name = if is_new { "SEGMENT/s-1" } else { "/learn_kylin/thing/s-1.json" };
        let path = if is_new { "learn_kylin/SEGMENT/s-1" } else { "learn_kylin/thing/s-1.json" };
        let json = json!({"uuid": "s-1", "project": PROJECT, "model_uuid": "m"});
        stage.unit(PROJECT, |unit| unit.create(name, &json));
        stage.back_up();
        stage.unit(PROJECT, |unit| unit.update(name, |json| json["n"] = json!(1)));
        stage.unit(PROJECT, |unit| unit.delete(name).map(drop));
        stage.back_up();
        let mut told = Vec::new();
        let names = if is_new { vec![path, "SEGMENT/s-1"] } else { vec![path] };
        for name in names {
            told.clear();
            let report = log(&stage.repo, &stage.history(), &EntryPath::new(name.as_bytes()).unwrap(), |step| {
                match step {
                    Step::Record(record) => told.push((record.version, record.operator.clone())),
                    other => panic!("{other:?}"),
                }
                Ok(())
            });
            assert_eq!(report.unwrap().changes, 3, "{kind:?} {name}");
            let by = Some("ADMIN".to_owned());
            assert_eq!(told, [(Some(0), by.clone()), (Some(1), by.clone()), (None, by)]);
        }
        let (code, stdout, _) = stage.run(&format!("log {path}"));
        assert_eq!(code, 0);
        let lines: Vec<&str> = stdout.lines().collect();
        assert!(lines.len() == 4 && lines[0].contains("created") && lines[2].contains("removed"), "{stdout}");
        assert!(
            lines[1].contains("ADMIN") && lines[1].contains("10.0.0.1:7070") && lines[3] == "3 changes",
            "{stdout}"
        );
        assert_eq!(stage.run("log learn_kylin/SEGMENT/none").0, 1);
    }
}

#[test]
fn a_database_is_put_back_to_a_moment() {
    for (kind, is_new) in all() {
        let mut stage = Stage::new(kind, is_new);
        stage.back_up();
        stage.work(24);
        stage.back_up();
        stage.work(6);
        stage.back_up();
        let state = stage.states.iter().rev().nth(15).unwrap();
        let (code, stdout, stderr) = stage.run(&format!("restore --at #{} --after-truncate", state.last));
        assert_eq!(code, 0, "{stdout}{stderr}");
        assert!(stdout.starts_with(&format!("as of record {}: snapshot ", state.last)), "{stdout}");
        let now: Documents =
            contents(&dump(&stage.db, ID)).into_iter().map(|(k, content)| (k, json_of(&content))).collect();
        assert_eq!(now, state.documents, "{kind:?} {is_new}");
        let (code, stdout, stderr) = stage.run("undo");
        assert_eq!(code, 0, "{stdout}{stderr}");
        let now: Documents =
            contents(&dump(&stage.db, ID)).into_iter().map(|(k, content)| (k, json_of(&content))).collect();
        assert_eq!(now, stage.states.last().unwrap().documents, "{kind:?} {is_new}");

        let (code, stdout, _) = stage.run(&format!("diff --at {} latest~1 --exit-code", state.last));
        assert!(code == 4 && stdout.lines().count() > 2, "{stdout}");
        let (code, stdout, _) = stage.run(&format!("diff --at {}", state.last));
        assert!(code == 0 && stdout.lines().count() > 2, "{stdout}");
        let (code, listed, _) = stage.run(&format!("ls --at {}", state.last));
        assert!(code == 0 && listed.lines().count() >= state.documents.len(), "{listed}");
        let path = listed.lines().find(|path| path.contains("/MODEL/") || path.contains("/model_desc/")).unwrap();
        let (code, document, stderr) = stage.run(&format!("cat {path} --at {}", state.last));
        let layout: Layout = stage.history().layout.parse().unwrap();
        let key = layout.key_of(&EntryPath::new(path.as_bytes()).unwrap()).unwrap();
        assert_eq!((code, stderr.as_str()), (0, ""), "{path}");
        assert_eq!(json_of(document.as_bytes()), state.documents[std::str::from_utf8(&key).unwrap()]);
        let (code, _, stderr) = stage.run(&format!("export --at {} out", state.last));
        assert_eq!((code, stderr.as_str()), (0, ""));
        assert!(stage.folder.path().join("out").is_dir());
    }
}
