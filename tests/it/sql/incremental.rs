//! A backup after another: what is looked at, what is not, and that nothing is missed.

use std::collections::BTreeSet;

use metastash::model::log::{LogChange, LogRecord};
use metastash::ops::backup::BackupOptions;
use metastash::ops::follow::Following;
use metastash::repo::Repository;
use metastash::repo::snapshot::LogArchive;
use serde_json::json;

use super::connection::{BOTH, Connection, Kind, Value};
use super::encoding::encode;
use super::kylin_client::{KylinClient, now, random_uuid, uuid_of};
use super::kylin_db::{ID, contents, dump, load_side_folders};
use super::saving::{
    Generation, all_cases, assert_as_fresh, assert_holds, back_up, by_log, by_version, fell_back, filled, fixture,
    followed, hex, plain,
};
use super::servers::Db;
use crate::support::{Dice, assert_sound, create, entries};

/// Verifies one of so many parts.
fn verifying(of: u64) -> BackupOptions {
    BackupOptions { verify_of: of, ..plain() }
}

/// Changes a content, and nothing that would tell.
fn change_behind(db: &Db, generation: Generation, condition: &str) {
    let (table, content) = match generation {
        Generation::New => (format!("{ID}_system"), "content"),
        Generation::Old => (ID.to_owned(), "META_TABLE_CONTENT"),
    };
    let value = if db.kind == Kind::PostgreSql { "'{\"behind\":1}'::bytea" } else { "'{\"behind\":1}'" };
    db.execute(&format!("UPDATE {table} SET {content} = {value} WHERE {condition}"));
}

fn one_document(generation: Generation) -> (&'static str, &'static str) {
    match generation {
        Generation::New => ("SYSTEM/UUID", "meta_key = 'UUID'"),
        Generation::Old => ("/_global/user/ADMIN", "META_TABLE_KEY = '/_global/user/ADMIN'"),
    }
}

/// Makes a log that can be followed: in the samples it is empty.
fn begin_log(db: &Db, generation: Generation) -> KylinClient {
    let mut client = KylinClient::connect(db, ID);
    let name = one_document(generation).0;
    client.transaction("_global", |unit| unit.update(name, |json| json["begun"] = json!(1))).unwrap();
    client
}

fn log_of(generation: Generation) -> String {
    let suffix = if generation == Generation::New { "audit_log_v2" } else { "audit_log" };
    format!("{ID}_{suffix}")
}

#[test]
fn what_has_the_same_version_is_not_read() {
    for (kind, generation) in all_cases() {
        let (db, (_, repo)) = (filled(kind, generation), create());
        let first = back_up(&db, &repo, &by_version());
        let all = first.snapshot.manifest.documents;
        assert_eq!((first.read, first.unchanged), (all, 0));
        let second = back_up(&db, &repo, &by_version());
        assert_eq!((second.read, second.unchanged, second.verified), (0, all, 0));
        assert_eq!((second.following.clone(), second.bytes_stored), (Following::No, 0));
        let (name, condition) = one_document(generation);
        let mut client = KylinClient::connect(&db, ID);
        client.transaction("_global", |unit| unit.update(name, |json| json["more"] = json!(1))).unwrap();
        let third = back_up(&db, &repo, &by_version());
        assert_eq!((third.read, third.counts.changed), (1, 1));
        assert_as_fresh(&db, &repo, &third);
        // Nobody can see this without reading it.
        change_behind(&db, generation, condition);
        let fourth = back_up(&db, &repo, &by_version());
        assert_eq!((fourth.read, fourth.counts.changed, fourth.remarks.len()), (0, 0, 0));
        for options in [verifying(1), by_version()] {
            let report = back_up(&db, &repo, &BackupOptions { follow_log: false, ..options });
            let found = u64::from(report.verified > 0);
            assert_eq!((report.counts.changed, report.verified), (found, found * all));
            assert_eq!(report.remarks.len() as u64, found);
            assert!(report.remarks.iter().all(|remark| remark.what.contains("something else than Kylin wrote it")));
            assert_as_fresh(&db, &repo, &report);
        }
        assert_sound(&repo);
    }
}

#[test]
fn unchanged_log_is_followed_and_nothing_is_read() {
    for (kind, generation) in all_cases() {
        let (db, (_, repo)) = (filled(kind, generation), create());
        let mut client = begin_log(&db, generation);
        let all = back_up(&db, &repo, &by_log()).snapshot.manifest.documents;
        let report = followed(&db, &repo);
        assert_eq!((report.read, report.unchanged, report.bytes_stored), (0, all, 0));
        let name = one_document(generation).0;
        client.transaction("_global", |unit| unit.update(name, |json| json["more"] = json!(1))).unwrap();
        let report = followed(&db, &repo);
        assert_eq!((report.read, report.counts.changed, report.unchanged), (1, 1, all - 1));
        assert_as_fresh(&db, &repo, &report);
    }
}

/// Units of work of all sorts, chosen at random.
struct Units<'d> {
    db: &'d Db,
    client: KylinClient,
    dice: Dice,
    generation: Generation,
    /// Documents that the units made, by name, with their project.
    there: Vec<(String, String)>,
    projects: Vec<String>,
    made: u64,
}

impl<'d> Units<'d> {
    fn new(db: &'d Db, generation: Generation, seed: u64) -> Self {
        let client = begin_log(db, generation);
        let projects = match generation {
            Generation::New => ["learn_kylin", "retail"],
            Generation::Old => ["sales", "events"],
        };
        let projects = projects.map(str::to_owned).to_vec();
        Self { db, client, dice: Dice::new(seed), generation, there: Vec::new(), projects, made: 0 }
    }

    fn any_project(&mut self) -> String {
        let n = self.dice.below(self.projects.len());
        self.projects[n].clone()
    }

    /// Does one unit of work.
    fn work(&mut self) {
        match (self.dice.below(14), self.generation) {
            (0..=3, _) => self.create(),
            (4..=6, _) => self.change(),
            (7, _) => self.remove(),
            (8, Generation::New) => self.replace(),
            (9, Generation::New) => self.convert(),
            (10, _) => self.project(),
            (11, _) => self.permission(),
            (12, Generation::New) => self.beside(),
            _ => self.several(),
        }
    }

    fn new_document(&mut self) -> (String, String, serde_json::Value) {
        self.made += 1;
        let (n, mut project) = (self.made, self.any_project());
        let mut json = json!({ "uuid": random_uuid(), "project": project, "name": format!("n{n}"), "value": 0 });
        let name = match (self.generation, self.dice.below(4)) {
            (Generation::New, 0) => {
                json["model_uuid"] = json!(random_uuid());
                format!("SEGMENT/{}", json["uuid"].as_str().unwrap())
            }
            (Generation::New, 1) => {
                json = json!({ "uuid": random_uuid(), "created_project": project });
                format!("LOGICAL_VIEW/VIEW_{n}")
            }
            (Generation::New, 2) => {
                json["username"] = json!(format!("user {n}"));
                project = "_global".to_owned();
                format!("USER_INFO/user {n}")
            }
            (Generation::New, _) => format!("ACL/{project}.u.{n}"),
            (Generation::Old, 0) => format!("/_global/user/user {n}"),
            (Generation::Old, 1) => format!("/{project}/execute/{n}"),
            (Generation::Old, _) => format!("/{project}/model_desc/{n}.json"),
        };
        (name, project, json)
    }

    fn create(&mut self) {
        let (name, project, json) = self.new_document();
        self.client.transaction(&project, |unit| unit.create(&name, &json)).unwrap();
        self.there.push((name, project));
    }

    fn any(&mut self) -> Option<usize> {
        (!self.there.is_empty()).then(|| self.dice.below(self.there.len()))
    }

    fn change(&mut self) {
        let Some(n) = self.any() else { return };
        let (name, project) = self.there[n].clone();
        let times = 1 + self.dice.below(3);
        let change = |json: &mut serde_json::Value| json["value"] = json!(json["value"].as_i64().unwrap_or(0) + 1);
        let work = |unit: &mut super::kylin_client::Unit<'_>| (0..times).try_for_each(|_| unit.update(&name, change));
        self.client.transaction(&project, work).unwrap();
    }

    fn remove(&mut self) {
        let Some(n) = self.any() else { return };
        let (name, project) = self.there.swap_remove(n);
        // The log names the project of the unit here, which need not be the document's.
        let of_unit = if self.dice.below(2) == 0 { "_global".to_owned() } else { project };
        self.client.transaction(&of_unit, |unit| unit.delete(&name)).unwrap();
    }

    /// Removes a document and makes one of the same key in another project, in one unit.
    fn replace(&mut self) {
        let Some(n) = self.any().filter(|n| self.there[*n].0.starts_with("SEGMENT/")) else { return };
        let (name, old) = self.there[n].clone();
        let project = self.any_project();
        self.client
            .transaction(&old, |unit| {
                let mut json = unit.read(&name)?.unwrap();
                json["project"] = json!(project);
                unit.delete(&name)?;
                unit.create(&name, &json)
            })
            .unwrap();
        self.there[n].1 = project;
    }

    /// Moves a document to another project where it lies.
    fn convert(&mut self) {
        let Some(n) = self.any().filter(|n| self.there[*n].1 != "_global") else { return };
        let (name, old) = self.there[n].clone();
        let project = self.any_project();
        let field = if name.starts_with("LOGICAL_VIEW/") { "created_project" } else { "project" };
        self.client.transaction(&old, |unit| unit.update(&name, |json| json[field] = json!(project))).unwrap();
        self.there[n].1 = project;
    }

    fn uuid_of(project: &str) -> String {
        uuid_of(blake3::hash(project.as_bytes()).as_bytes().first_chunk().unwrap())
    }

    /// Makes a project, or removes one that was made.
    fn project(&mut self) {
        let name = |generation: Generation, project: &str| match generation {
            Generation::New => format!("PROJECT/{project}"),
            Generation::Old => format!("/_global/project/{project}.json"),
        };
        let project = format!("made_{}", self.dice.below(4));
        let name = name(self.generation, &project);
        let json = json!({ "uuid": Self::uuid_of(&project), "name": project });
        match self.projects.iter().position(|there| *there == project) {
            Some(n) => {
                self.projects.remove(n);
                self.client.transaction(&project, |unit| unit.delete(&name)).unwrap();
            }
            None => {
                self.client.transaction(&project, |unit| unit.create(&name, &json)).unwrap();
                self.projects.push(project);
            }
        }
    }

    /// Makes or removes permissions of a project that may be there or not.
    fn permission(&mut self) {
        let uuid = Self::uuid_of(&format!("made_{}", self.dice.below(4)));
        let name = match self.generation {
            Generation::New => format!("OBJECT_ACL/{uuid}"),
            Generation::Old => format!("/_global/acl/{uuid}"),
        };
        let n = self.dice.below(1000);
        self.client
            .transaction("_global", |unit| match unit.read(&name)? {
                None => unit.create(&name, &json!({ "uuid": random_uuid(), "value": n })),
                Some(_) if n.is_multiple_of(3) => unit.delete(&name).map(drop),
                Some(_) => unit.update(&name, |json| json["value"] = json!(n)),
            })
            .unwrap();
    }

    /// Does something to a job, a rule or an offset, of which the log says nothing.
    fn beside(&mut self) {
        let n = self.dice.below(1000);
        let table = ["job_info_v2", "favorite_rule", "query_history_offset"][self.dice.below(3)];
        let table = format!("{ID}_{table}");
        let project = self.any_project();
        let sql = match (self.dice.below(3), &*table) {
            (0, table) => {
                format!("DELETE FROM {table} WHERE id = (SELECT id FROM (SELECT MIN(id) AS id FROM {table}) t)")
            }
            (1, table) => {
                format!("UPDATE {table} SET mvcc = COALESCE(mvcc, 0) + 1, update_time = {} WHERE id % 2 = 0", now())
            }
            (_, table) if table.ends_with("job_info_v2") => format!(
                "INSERT INTO {table} (job_id, job_type, job_status, project, subject, mvcc, job_content, update_time) \
                 VALUES ('job-{n}-{}', 'INDEX_BUILD', 'READY', '{project}', 's', 0, '{{}}', {})",
                random_uuid(),
                now()
            ),
            (_, table) if table.ends_with("favorite_rule") => format!(
                "INSERT INTO {table} (project, conds, name, update_time, mvcc) VALUES ('{project}', '[]', '{}', {}, 0)",
                random_uuid(),
                now()
            ),
            (_, table) => format!(
                "INSERT INTO {table} (project, type, query_history_id_offset, update_time, mvcc) \
                 VALUES ('{project}', '{}', {n}, {}, 0)",
                random_uuid(),
                now()
            ),
        };
        self.db.execute(&sql);
    }

    /// Does several things to several documents in one unit.
    fn several(&mut self) {
        let documents: Vec<_> = (0..2 + self.dice.below(4)).map(|_| self.new_document()).collect();
        let gone = self.any();
        let gone = gone.map(|n| self.there.swap_remove(n));
        self.client
            .transaction("_global", |unit| {
                for (name, _, json) in &documents {
                    unit.create(name, json)?;
                    unit.update(name, |json| json["value"] = json!(7))?;
                }
                if let Some((name, _)) = &gone {
                    unit.delete(name)?;
                }
                // Made and gone: it is in the log only.
                unit.delete(&documents[0].0).map(drop)
            })
            .unwrap();
        self.there.extend(documents.into_iter().skip(1).map(|(name, project, _)| (name, project)));
    }
}

#[test]
fn what_the_log_says_is_all_that_happened() {
    for (kind, generation) in all_cases() {
        let (db, (_, repo)) = (filled(kind, generation), create());
        let mut units = Units::new(&db, generation, 20 + kind as u64);
        back_up(&db, &repo, &by_log());
        let (mut seen, mut reads) = (0, 0);
        for step in 0..45 {
            (0..1 + units.dice.below(6)).for_each(|_| units.work());
            let report = back_up(&db, &repo, &by_log());
            match &report.following {
                Following::Followed => seen += 1,
                Following::FellBack(why) if generation == Generation::Old => {
                    assert!(why.contains("permissions may have moved"), "{why}");
                }
                other => panic!("{other:?}"),
            }
            reads += report.read;
            assert_holds(&repo, &report.snapshot, &dump(&db, ID));
            if step % 9 == 0 {
                assert_as_fresh(&db, &repo, &report);
            }
        }
        assert!(seen > 18 && reads > 70, "{seen} {reads}");
        assert_sound(&repo);
    }
}

/// A transaction that is open: it drew its ids, and others that come later end before it.
struct Late {
    connection: Connection,
    key: String,
}

impl Late {
    fn begin(db: &Db, generation: Generation) -> Self {
        let mut connection = db.connect();
        let key = format!("late {}", random_uuid());
        let (ts, log) = (now(), log_of(generation));
        connection.batch("BEGIN").unwrap();
        let content = Value::Bytes(br#"{"late":1}"#.to_vec());
        let (name, sql, values) = match generation {
            Generation::New => (
                format!("USER_GROUP/{key}"),
                format!("INSERT INTO {ID}_user_group (meta_key, uuid, mvcc, ts, content) VALUES (?, ?, 0, ?, ?)"),
                vec![key.as_str().into(), random_uuid().into(), ts.into(), content.clone()],
            ),
            Generation::Old => (
                format!("/_global/user_group/{key}"),
                format!("INSERT INTO {ID} VALUES (?, ?, ?, 0)"),
                vec![format!("/_global/user_group/{key}").into(), content.clone(), ts.into()],
            ),
        };
        connection.execute(&sql, &values).unwrap();
        let sql =
            format!("INSERT INTO {log} (meta_key, meta_content, meta_ts, meta_mvcc, unit_id) VALUES (?, ?, ?, 0, 'u')");
        connection.execute(&sql, &[name.into(), content, ts.into()]).unwrap();
        Self { connection, key }
    }

    fn end(mut self, how: &str) {
        self.connection.batch(how).unwrap();
    }
}

#[test]
fn what_commits_late_is_not_missed() {
    for (kind, generation) in all_cases() {
        let (db, (_, repo)) = (filled(kind, generation), create());
        let mut units = Units::new(&db, generation, 7);
        units.create();
        back_up(&db, &repo, &by_log());
        let late: Vec<Late> = (0..4).map(|_| Late::begin(&db, generation)).collect();
        units.create();
        let report = fell_back(&db, &repo, "are missing");
        assert_holds(&repo, &report.snapshot, &dump(&db, ID));
        // From here on the gaps are known, and looked at again.
        units.create();
        assert_as_fresh(&db, &repo, &followed(&db, &repo));
        let keys: Vec<String> = late.iter().map(|late| late.key.clone()).collect();
        for (n, late) in late.into_iter().enumerate() {
            late.end(if n == 2 { "ROLLBACK" } else { "COMMIT" });
            if n % 2 == 0 {
                units.create();
            }
            let report = followed(&db, &repo);
            assert_eq!(report.counts.new, u64::from(n != 2) + u64::from(n % 2 == 0));
            assert_as_fresh(&db, &repo, &report);
            let records = archived(&repo, report.snapshot.manifest.archive.as_ref().unwrap());
            let has = records.iter().any(|record| String::from_utf8_lossy(&record.key).ends_with(&keys[n]));
            assert_eq!(has, n != 2, "a late record is archived");
        }
        let report = followed(&db, &repo);
        assert_eq!((report.counts.new, report.read), (0, 0));
        // One that was open at the first backup of all, too.
        let (_, repo) = create();
        let late = Late::begin(&db, generation);
        units.create();
        back_up(&db, &repo, &by_log());
        late.end("COMMIT");
        let report = followed(&db, &repo);
        assert_eq!(report.counts.new, 1);
        assert_as_fresh(&db, &repo, &report);
    }
}

#[test]
fn what_commits_late_and_is_rotated_away_is_not_missed() {
    for (kind, generation) in all_cases() {
        let (db, (_, repo)) = (filled(kind, generation), create());
        let mut units = Units::new(&db, generation, 8);
        let late = Late::begin(&db, generation);
        units.create();
        back_up(&db, &repo, &by_log());
        late.end("COMMIT");
        // Only the record up to which the log was followed is left.
        units.client.rotate_log(1).unwrap();
        let report = fell_back(&db, &repo, "it was rotated since");
        assert_eq!(report.counts.new, 1);
        assert_as_fresh(&db, &repo, &report);
        followed(&db, &repo);
    }
}

#[test]
fn log_that_can_not_be_believed_is_not_followed() {
    for (kind, generation) in all_cases() {
        let (db, (_, repo)) = (filled(kind, generation), create());
        let mut units = Units::new(&db, generation, 9);
        let log = log_of(generation);
        (0..5).for_each(|_| units.create());
        back_up(&db, &repo, &by_log());
        let check = |units: &mut Units<'_>, act: &dyn Fn(), words: &str| {
            units.create();
            act();
            let report = fell_back(&db, &repo, words);
            assert_eq!((report.counts.new, report.read), (1, 1), "{words}");
            assert_as_fresh(&db, &repo, &report);
            if words.contains("no audit log") || words.contains("is empty") {
                return;
            }
            units.create();
            assert_as_fresh(&db, &repo, &followed(&db, &repo));
        };
        // Removed by Kylin: all up to and with the last that was seen.
        check(&mut units, &|| KylinClient::connect(&db, ID).rotate_log(1).unwrap(), "it was rotated or renumbered");
        let restart = match kind {
            Kind::PostgreSql => format!("TRUNCATE {log} RESTART IDENTITY"),
            Kind::MySql => format!("TRUNCATE {log}"),
        };
        let entry = format!("INSERT INTO {log} (meta_key, meta_ts, unit_id) VALUES ('SYSTEM/none', 1, 'u')");
        check(
            &mut units,
            &|| {
                db.execute(&restart);
                db.execute(&entry);
            },
            "was truncated or renumbered",
        );
        // It has the same number again, and is another.
        let last = db.number(&format!("SELECT MAX(id) FROM {log}"));
        check(
            &mut units,
            &|| {
                db.execute(&restart);
                (0..last + 2).for_each(|_| db.execute(&entry));
            },
            "is gone or another",
        );
        let skipped = format!(
            "INSERT INTO {log} (id, meta_key, meta_ts, unit_id) SELECT MAX(id) + 3, 'SYSTEM/none', 1, 'u' FROM {log}"
        );
        let next = match kind {
            Kind::PostgreSql => {
                format!("SELECT setval(pg_get_serial_sequence('{log}', 'id'), (SELECT MAX(id) FROM {log}))")
            }
            Kind::MySql => "SELECT 1".to_owned(),
        };
        check(
            &mut units,
            &|| {
                db.execute(&skipped);
                db.query(&next, &[]);
            },
            "are missing",
        );
        check(&mut units, &|| db.execute(&format!("DELETE FROM {log}")), "the audit log is empty");
        units.create();
        assert_as_fresh(&db, &repo, &back_up(&db, &repo, &by_log()));
        followed(&db, &repo);
        check(&mut units, &|| db.execute(&format!("DROP TABLE {log}")), "there is no audit log any more");
        let report = back_up(&db, &repo, &by_log());
        assert_eq!((report.following, report.snapshot.manifest.position), (Following::No, None));
    }
}

#[test]
fn new_rows_that_the_log_does_not_name_are_found() {
    for kind in BOTH {
        let (db, (_, repo)) = (filled(kind, Generation::New), create());
        begin_log(&db, Generation::New);
        back_up(&db, &repo, &by_log());
        let content = if kind == Kind::PostgreSql { "'{}'::bytea" } else { "'{}'" };
        let insert = |id: &str, key: &str| {
            let uuid = random_uuid();
            db.execute(&format!(
                "INSERT INTO {ID}_user_group (id, meta_key, uuid, mvcc, ts, content) VALUES ({id}, '{key}', '{uuid}', 0, 1, {content})"
            ));
        };
        insert("100000", "above");
        let report = fell_back(&db, &repo, "new rows of USER_GROUP that the audit log does not name");
        assert_eq!(report.counts.new, 1);
        // Put back with an id that is not new: only a look at everything shows it, and one comes with each round.
        insert("50000", "below");
        assert_eq!(followed(&db, &repo).counts.new, 0);
        let mut news = 0;
        for _ in 0..4 {
            news += back_up(&db, &repo, &verifying(3)).counts.new;
        }
        assert_eq!(news, 1);
        assert_as_fresh(&db, &repo, &back_up(&db, &repo, &by_log()));
        // What is removed behind Kylin's back is found when its turn comes.
        db.execute(&format!("DELETE FROM {ID}_user_group WHERE meta_key IN ('above', 'below')"));
        assert_eq!(followed(&db, &repo).counts.removed, 0);
        let removed: u64 = (0..4).map(|_| back_up(&db, &repo, &verifying(3)).counts.removed).sum();
        assert_eq!(removed, 2);
    }
}

#[test]
fn row_that_moves_to_another_project_without_a_new_version_moves() {
    for kind in BOTH {
        let (db, (_, repo)) = (filled(kind, Generation::New), create());
        back_up(&db, &repo, &by_version());
        db.execute(&format!("UPDATE {ID}_model SET project = 'learn_kylin2' WHERE project = 'learn_kylin'"));
        let report = back_up(&db, &repo, &by_version());
        assert!(report.counts.new > 0 && report.counts.new == report.counts.removed, "{report:?}");
        assert_as_fresh(&db, &repo, &report);
        // Permissions move with the project that has their UUID.
        db.execute(&format!("UPDATE {ID}_project SET uuid = 'other' WHERE meta_key = 'learn_kylin'"));
        let report = back_up(&db, &repo, &by_version());
        assert_eq!((report.counts.new, report.counts.removed), (1, 1));
        assert_as_fresh(&db, &repo, &report);
    }
}

#[test]
fn incomplete_snapshot_is_no_ground_for_following() {
    for kind in BOTH {
        let (db, (_, repo)) = (filled(kind, Generation::New), create());
        let mut client = begin_log(&db, Generation::New);
        db.execute(&format!("UPDATE {ID}_user_group SET meta_key = 'a/b' WHERE meta_key = 'ALL_USERS'"));
        let first = back_up(&db, &repo, &by_log());
        assert_eq!(first.counts.unread, 1);
        db.execute(&format!("UPDATE {ID}_user_group SET meta_key = 'ALL_USERS' WHERE meta_key = 'a/b'"));
        client.transaction("_global", |unit| unit.update("SYSTEM/UUID", |json| json["x"] = json!(1))).unwrap();
        let second = back_up(&db, &repo, &by_log());
        assert_eq!((second.following.clone(), second.counts.new), (Following::No, 1));
        assert_as_fresh(&db, &repo, &second);
        assert_eq!(followed(&db, &repo).read, 0);
    }
}

#[test]
fn share_that_is_verified_comes_to_every_document() {
    for (kind, generation) in all_cases() {
        for is_followed in [true, false] {
            let (db, (_, repo)) = (filled(kind, generation), create());
            let mut units = Units::new(&db, generation, 11);
            (0..10).for_each(|_| units.create());
            let all = back_up(&db, &repo, &by_log()).snapshot.manifest.documents;
            // Every content becomes another, and not one version. No permissions: their projects would move them.
            let (tables, content) = match generation {
                Generation::New => {
                    (vec![format!("{ID}_model"), format!("{ID}_system"), format!("{ID}_user_info")], "content")
                }
                Generation::Old => (vec![ID.to_owned()], "META_TABLE_CONTENT"),
            };
            let value = if kind == Kind::PostgreSql { "'{\"behind\":1}'::bytea" } else { "'{\"behind\":1}'" };
            let mut tampered = 0;
            for table in &tables {
                let whole = match generation {
                    Generation::New => String::new(),
                    Generation::Old => " WHERE META_TABLE_KEY LIKE '/sales/%'".to_owned(),
                };
                tampered += db.number(&format!("SELECT count(*) FROM {table}{whole}"));
                db.execute(&format!("UPDATE {table} SET {content} = {value}{whole}"));
            }
            let (mut found, mut verified) = (0, 0);
            let options = BackupOptions { follow_log: is_followed, ..verifying(5) };
            for run in 0..8 {
                let report = back_up(&db, &repo, &options);
                found += report.remarks.len();
                verified += report.verified;
                let falls_back = matches!(report.following, Following::FellBack(_));
                assert!(!falls_back || run >= 4, "{run}: {:?}", report.following);
                // Documents come and go meanwhile, but none of those that were changed.
                units.create();
                if run % 2 == 0 {
                    units.remove();
                }
            }
            assert_eq!(found as i64, tampered);
            assert!(verified >= all, "{verified} of {all}");
            let report = back_up(&db, &repo, &by_log());
            assert_as_fresh(&db, &repo, &report);
            assert_sound(&repo);
        }
    }
}

#[test]
fn whatever_is_done_to_a_row_behind_its_version_is_found() {
    for kind in BOTH {
        for is_followed in [true, false] {
            let (db, (_, repo)) = (filled(kind, Generation::New), create());
            begin_log(&db, Generation::New);
            let options = BackupOptions { follow_log: is_followed, ..verifying(2) };
            back_up(&db, &repo, &options);
            let content = contents(&dump(&db, ID))["USER_INFO/ADMIN"].clone();
            let large = [&b"{\"large\":\""[..], &vec![b'x'; 2 << 20], b"\"}"].concat();
            let set = |value: String| format!("UPDATE {ID}_user_info SET content = {value} WHERE meta_key = 'ADMIN'");
            for (what, statement) in [
                ("the same, encoded", set(hex(kind, &encode(&content)))),
                ("NULL", format!("UPDATE {ID}_table_model_relation SET content = NULL")),
                ("a stream that is cut off", set(hex(kind, &encode(&content)[..20]))),
                ("more than is held at once", set(hex(kind, &large))),
                ("another key", format!("UPDATE {ID}_user_info SET meta_key = 'ADMIN2' WHERE meta_key = 'ADMIN'")),
                ("gone", format!("DELETE FROM {ID}_user_info WHERE meta_key = 'ADMIN2'")),
            ] {
                db.execute(&statement);
                let mut report = back_up(&db, &repo, &options);
                for _ in 0..2 {
                    report = back_up(&db, &repo, &options);
                }
                eprintln!("{kind:?}, followed {is_followed}: {what}");
                assert_as_fresh(&db, &repo, &report);
            }
        }
    }
}

#[test]
fn share_that_no_snapshot_keeps_note_of_comes_to_every_document_sometimes() {
    let (db, (_, repo)) = (filled(Kind::PostgreSql, Generation::New), create());
    begin_log(&db, Generation::New);
    let options = BackupOptions { skip_if_unchanged: true, ..verifying(2) };
    let first = back_up(&db, &repo, &options);
    // Of the first and the last of all paths.
    let all = entries(&repo, &first.snapshot).unwrap();
    for entry in [&all[0], &all[all.len() - 1]] {
        let parts: Vec<String> = entry.path.parts().map(|part| String::from_utf8_lossy(part).into_owned()).collect();
        let table = parts[1].to_lowercase();
        db.execute(&format!("UPDATE {ID}_{table} SET content = '{{}}' WHERE meta_key = '{}'", parts[2]));
        let found = (0..80).find(|_| back_up(&db, &repo, &options).counts.changed == 1);
        assert!(found.is_some(), "{} was never looked at", entry.path);
    }
    assert!(!back_up(&db, &repo, &options).is_new);
}

#[test]
fn jobs_rules_and_offsets_are_looked_at_beside_the_log() {
    for kind in BOTH {
        let (db, (_, repo)) = (filled(kind, Generation::New), create());
        begin_log(&db, Generation::New);
        back_up(&db, &repo, &by_log());
        assert_eq!(load_side_folders(&db, ID, &fixture("kylin_backup")), 5);
        let report = followed(&db, &repo);
        assert_eq!((report.counts.new, report.read), (5, 5));
        assert_as_fresh(&db, &repo, &report);
        db.execute(&format!("UPDATE {ID}_favorite_rule SET enabled = NOT enabled, mvcc = mvcc + 1"));
        db.execute(&format!("DELETE FROM {ID}_query_history_offset"));
        let report = followed(&db, &repo);
        assert!(report.counts.changed > 0 && report.counts.removed > 0 && report.counts.new == 0);
        assert_as_fresh(&db, &repo, &report);
        assert_eq!(followed(&db, &repo).read, 0);
    }
}

/// Returns the records that a snapshot keeps of the log.
fn archived(repo: &Repository, archive: &LogArchive) -> Vec<LogRecord> {
    archive.chunks.iter().flat_map(|chunk| repo.log_records(chunk).unwrap()).collect()
}

#[test]
fn records_since_the_parent_are_kept() {
    for (kind, generation) in all_cases() {
        let (db, (_, repo)) = (filled(kind, generation), create());
        let mut units = Units::new(&db, generation, 12);
        let first = back_up(&db, &repo, &by_log());
        assert_eq!(first.snapshot.manifest.archive, None);
        let log = log_of(generation);
        let mut after = db.number(&format!("SELECT MAX(id) FROM {log}"));
        for step in 0..6 {
            (0..5).for_each(|_| units.work());
            // The last two list all versions.
            let options = if step < 4 { by_log() } else { by_version() };
            let report = back_up(&db, &repo, &options);
            let archive = report.snapshot.manifest.archive.as_ref().unwrap();
            let last = db.number(&format!("SELECT MAX(id) FROM {log}"));
            assert_eq!((archive.after as i64, archive.last as i64, archive.is_complete), (after, last, true));
            let records = archived(&repo, archive);
            let rows = db.query(
                &format!("SELECT id, meta_key, meta_content, meta_mvcc FROM {log} WHERE id > {after} ORDER BY id"),
                &[],
            );
            assert_eq!(records.len(), rows.len());
            for (record, row) in records.iter().zip(&rows) {
                assert_eq!(
                    (record.id as i64, record.key.as_slice()),
                    (row[0].int().unwrap(), row[1].text().unwrap().as_bytes())
                );
                assert_eq!(record.version, row[3].int());
                let content = row[2].bytes().map(super::encoding::decode);
                match &record.change {
                    LogChange::Content(kept) | LogChange::Patch(kept) => assert_eq!(Some(kept), content.as_ref()),
                    LogChange::Removed => assert_eq!(content, None),
                    LogChange::Unreadable => panic!("{record:?}"),
                }
            }
            let ids: BTreeSet<u64> = records.iter().map(|record| record.id).collect();
            assert_eq!(ids.len(), records.len());
            after = last;
        }
        // Rotated: what is left of it is kept, and that something is missing is said.
        (0..5).for_each(|_| units.create());
        units.client.rotate_log(2).unwrap();
        let report = back_up(&db, &repo, &by_log());
        let archive = report.snapshot.manifest.archive.as_ref().unwrap();
        assert_eq!((archive.is_complete, archived(&repo, archive).len()), (false, 2));
        assert_sound(&repo);
    }
}

#[test]
fn record_that_is_large_or_damaged_does_not_stand_in_the_way() {
    for kind in BOTH {
        let (db, (_, repo)) = (filled(kind, Generation::New), create());
        begin_log(&db, Generation::New);
        back_up(&db, &repo, &by_log());
        let log = log_of(Generation::New);
        let large: Vec<u8> = crate::support::noise(1, 9 << 20);
        let bomb = encode(&vec![b' '; 40 << 20]);
        let sql = format!(
            "INSERT INTO {log} (meta_key, meta_content, meta_ts, meta_mvcc, unit_id) VALUES ('SYSTEM/UUID', ?, 1, 1, 'u')"
        );
        for content in [large.clone(), bomb, b"GZIPxx".to_vec(), large] {
            db.with(|connection| connection.execute(&sql, &[content.into()]));
        }
        let report = followed(&db, &repo);
        let records = archived(&repo, report.snapshot.manifest.archive.as_ref().unwrap());
        let is_kept = |record: &LogRecord| matches!(record.change, LogChange::Content(_));
        assert_eq!(records.iter().map(is_kept).collect::<Vec<_>>(), [true, false, false, true]);
    }
}
