//! What a database has to say before many rows change.

use metastash::endpoint::location::{Reading, open};
use metastash::endpoint::sql::{SqlOptions, SqlStore};
use metastash::monitor::{Recorder, Severity};
use metastash::ops::restore::{Mode, RestoreOptions, plan_restore, restore};
use metastash::platform::kylin::database::Database;

use super::connection::BOTH;
use super::kylin_db::{ID, create_new};
use super::kylin_tables::Release;
use super::servers::scratch_database;
use crate::support::{author, create, options, restore_options, scratch, write};

/// As many documents as Kylin's nodes are sure to follow, and one more.
const MANY: usize = 1001;

#[test]
fn more_rows_than_nodes_follow_are_told_before_they_change() {
    let folder = scratch();
    for n in 0..MANY {
        let json = format!(r#"{{"uuid":"{n:036}","username":"U{n}"}}"#);
        write(folder.path(), format!("USER_INFO/U{n}.json"), json);
    }
    let files = open(folder.path(), Reading::Detect).unwrap().store;
    for kind in BOTH {
        let db = scratch_database(kind);
        create_new(&db, ID, Release::V502);
        let (_, repo) = create();
        let saved = metastash::ops::backup::backup(&*files, &repo, &options(), &Recorder::default()).unwrap().snapshot;
        let database = Database::parse(&db.url()).unwrap();
        let target = SqlStore::open_target(database, SqlOptions::default(), &saved.manifest.layout).unwrap();
        let quiet = Recorder::default();
        let reloading = RestoreOptions { reloads: true, ..RestoreOptions::new(author()) };
        assert_eq!(plan_restore(&target, &repo, &saved, &reloading, &quiet).unwrap().advice, None);
        let plan = plan_restore(&target, &repo, &saved, &restore_options(Mode::Merge), &quiet).unwrap();
        let advice = plan.advice.expect("more rows change than nodes follow");
        assert!(
            advice.starts_with("1001 rows change in one transaction; running nodes of Kylin may miss some"),
            "{advice}"
        );
        assert_eq!(quiet.problems(), []);

        let told = Recorder::default();
        let report = restore(&target, &repo, &saved, &restore_options(Mode::Merge), &told).unwrap();
        assert_eq!(report.plan.advice.as_ref(), Some(&advice));
        let problems = told.problems();
        assert_eq!((problems.len(), problems[0].severity, &problems[0].what), (1, Severity::Remark, &advice));
        let again = restore(&target, &repo, &saved, &restore_options(Mode::Merge), &told).unwrap();
        assert!(again.plan.is_empty() && again.plan.advice.is_none());
    }
}
