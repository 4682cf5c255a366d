//! That a restore replaces rows, in all kinds of tables, and that it can be taken back.

use std::fs;
use std::path::Path;

use metastash::endpoint::location::{Reading, open, open_target};
use metastash::endpoint::sql::{SqlOptions, SqlStore};
use metastash::monitor::Silent;
use metastash::ops::backup::backup;
use metastash::ops::restore::{Mode, restore};
use metastash::platform::kylin::database::Database;

use super::connection::BOTH;
use super::encoding::Compress;
use super::kylin_db::{ID, create_new, create_old, dump, load_side_folders, load_tree};
use super::kylin_tables::Release;
use super::servers::scratch_database;
use crate::support::{create, options, restore_options, scratch, settle};

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// Replaces a text in a file.
fn edit(path: &Path, old: &str, new: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(old), "{}", path.display());
    fs::write(path, text.replace(old, new)).unwrap();
}

#[test]
fn rows_are_replaced_and_put_back() {
    for (is_old, files) in [(false, "kylin_backup"), (true, "kylin_old")] {
        for kind in BOTH {
            let db = scratch_database(kind);
            if is_old {
                create_old(&db, ID);
                load_tree(&db, ID, &fixture(files), Compress::All);
            } else {
                create_new(&db, ID, Release::V502);
                load_tree(&db, ID, &fixture(files).join("core_meta"), Compress::All);
                load_side_folders(&db, ID, &fixture(files));
            }
            let before = dump(&db, ID);
            let jobs = || db.query(&format!("SELECT job_id, job_status FROM {ID}_job_info_v2 ORDER BY job_id"), &[]);
            let jobs_before = if is_old { Vec::new() } else { jobs() };
            let store = |layout: &str| {
                let database = Database::parse(&db.url()).unwrap();
                SqlStore::open_target(database, SqlOptions::default(), layout).unwrap()
            };
            let layout = if is_old { "kylin-old" } else { "kylin-new-backup" };

            // What is in the database, as files, with a document and a job changed.
            let (_, repo) = create();
            let saved = backup(&store(layout), &repo, &options(), &Silent).unwrap().snapshot;
            let scratch = scratch();
            let folder = scratch.path().join("files");
            let files = open_target(&folder, Reading::Detect, layout).unwrap().store;
            restore(&*files, &repo, &saved, &restore_options(Mode::Merge), &Silent).unwrap();
            if is_old {
                edit(&folder.join("_global/user/ADMIN"), "ROLE_ADMIN", "ROLE_OTHER");
            } else {
                edit(&folder.join("core_meta/PROJECT/travel.json"), "\"version\"", "\"versioN\"");
                let jobs = fs::read_dir(folder.join("job_info/travel")).unwrap();
                jobs.for_each(|job| {
                    let job = job.unwrap().path();
                    edit(&job, "\"jobStatus\":\"", "\"jobStatus\":\"X");
                    edit(&job, "\"updateTime\":1", "\"updateTime\":2");
                });
            }
            settle();
            let changed =
                backup(&*open(&folder, Reading::Detect).unwrap().store, &repo, &options(), &Silent).unwrap().snapshot;

            let report = restore(&store(layout), &repo, &changed, &restore_options(Mode::Merge), &Silent).unwrap();
            assert_eq!(report.plan.total().replace, if is_old { 1 } else { 2 });
            let after = dump(&db, ID);
            let differs = before.iter().filter(|(key, row)| after[*key].content != row.content);
            let differs: Vec<_> = differs.map(|(key, row)| (key.as_str(), after[key].mvcc - row.mvcc)).collect();
            assert_eq!(differs, [(if is_old { "/_global/user/ADMIN" } else { "PROJECT/travel" }, 1)], "{kind:?}");
            assert!(is_old || jobs() != jobs_before);

            let checkpoint = report.checkpoint.unwrap();
            restore(&store(layout), &repo, &checkpoint, &restore_options(Mode::Truncate), &Silent).unwrap();
            let put_back = dump(&db, ID);
            assert!(put_back.keys().eq(before.keys()));
            assert!(put_back.iter().all(|(key, row)| row.content == before[key].content));
            if !is_old {
                assert_eq!(jobs(), jobs_before, "{kind:?}");
            }
        }
    }
}
