//! Restores while Kylins write: each of them is done as a whole or not at all, and nobody's work is lost besides.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use metastash::endpoint::Error;
use metastash::ops;
use metastash::ops::restore::{Mode, RestoreOptions};
use serde_json::json;

use super::connection::Kind;
use super::kylin_client::KylinClient;
use super::kylin_db::{ID, contents, dump};
use super::kylin_node::{Node, Role};
use super::kylin_units::{check_invariants, model_unit};
use super::restoring::{NEW, Shape, filled, restore_db, restoring, restoring_project, snapshot};
use crate::support::create;

/// Restores of each kind that must have been done before it is enough, if time allows.
const ENOUGH: u64 = 8;
const TIME: Duration = Duration::from_secs(8);

/// The counter that one of the writers counts in.
fn counter(shape: Shape) -> &'static str {
    if shape == Shape::Old { "/_global/counter" } else { "USER_GROUP/counter" }
}

#[test]
fn restores_and_writers_do_not_undo_each_other() {
    for (kind, shape) in
        [(Kind::PostgreSql, NEW), (Kind::MySql, NEW), (Kind::PostgreSql, Shape::Old), (Kind::MySql, Shape::Old)]
    {
        let (_, one, other) = shape.tree();
        let db = filled(kind, shape);
        let (_, repo) = create();
        let first = snapshot(&db, &repo);
        let mut client = KylinClient::connect(&db, ID);
        let mut states = Vec::new();
        for step in 0..2 {
            for n in 0..60 {
                model_unit(&mut client, one, step * 60 + n).unwrap();
            }
            states.push(snapshot(&db, &repo));
        }
        let json = json!({ "uuid": "counter", "group_name": "counter", "count": 0 });
        client.transaction("_global", |unit| unit.create(counter(shape), &json)).unwrap();
        let mut nodes = [Role::Job, Role::Query].map(|role| Node::start(&db, ID, role));
        let is_over = AtomicBool::new(false);
        let (mut done, mut changed, mut counted, mut units) = ([0_u64; 2], 0_u64, 0_i64, 0_u64);
        thread::scope(|scope| {
            let writer = |project: &'static str, first: u64| {
                let (db, is_over) = (&db, &is_over);
                scope.spawn(move || {
                    let mut client = KylinClient::connect(db, ID);
                    client.attempts = 100;
                    let mut n = first;
                    while !is_over.load(Ordering::SeqCst) {
                        model_unit(&mut client, project, n).unwrap();
                        n += 1;
                        // Now and then there is a pause, in which a restore has its chance.
                        thread::sleep(Duration::from_millis(if n.is_multiple_of(4) { 70 } else { 3 }));
                    }
                    n - first
                })
            };
            let writers = [writer(one, 200), writer(other, 300)];
            let counts = {
                let (db, is_over) = (&db, &is_over);
                scope.spawn(move || {
                    let mut client = KylinClient::connect(db, ID);
                    client.attempts = 100;
                    let mut counted = 0;
                    while !is_over.load(Ordering::SeqCst) {
                        let add =
                            |json: &mut serde_json::Value| json["count"] = json!(json["count"].as_i64().unwrap() + 1);
                        client.transaction("_global", |unit| unit.update(counter(shape), add)).unwrap();
                        counted += 1;
                        thread::sleep(Duration::from_millis(5));
                    }
                    counted
                })
            };
            let until = Instant::now() + TIME;
            let mut round = 0;
            while Instant::now() < until && done.iter().any(|done| *done < ENOUGH) {
                round += 1;
                // To truncate a project on which another works, or to merge what nobody else changes.
                let is_merge = round % 2 == 0;
                let (snapshot, options): (_, RestoreOptions) = if is_merge {
                    let key = if shape == Shape::Old { "/_global/user/ADMIN" } else { "USER_INFO/ADMIN" };
                    let touch = |json: &mut serde_json::Value| json["touched"] = json!(round);
                    client.transaction("_global", |unit| unit.update(key, touch)).unwrap();
                    (&first, restoring(Mode::Merge))
                } else {
                    (&states[round / 2 % 2], restoring_project(Mode::Truncate, one))
                };
                match restore_db(&db, &repo, snapshot, &RestoreOptions { checkpoint: round % 3 == 0, ..options }) {
                    Ok(report) => {
                        assert!(!is_merge || report.plan.total().replace == 1);
                        done[usize::from(is_merge)] += 1;
                    }
                    Err(ops::Error::Endpoint(Error::Changed { .. })) => changed += 1,
                    Err(error) => panic!("{kind:?} {shape:?}: {error:?}"),
                }
                check_invariants(&contents(&dump(&db, ID))).unwrap();
                nodes.iter_mut().for_each(|node| node.catch_up().unwrap());
            }
            is_over.store(true, Ordering::SeqCst);
            units = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
            counted = counts.join().unwrap();
        });
        eprintln!("{kind:?} {shape:?}: {done:?} done, {changed} met a change, {units} units, {counted} counts");
        assert!(done.iter().all(|done| *done > 0), "{kind:?} {shape:?}: {done:?}, {changed}");
        let rows = dump(&db, ID);
        check_invariants(&contents(&rows)).unwrap();
        let row = &rows[counter(shape)];
        let json: serde_json::Value = serde_json::from_slice(&row.content).unwrap();
        assert_eq!((row.mvcc, json["count"].as_i64()), (counted, Some(counted)), "no count is lost");
        for node in &mut nodes {
            node.catch_up().unwrap();
            // A document that is removed and made anew has the version 0 again, whoever does that: that is Kylin's own weakness.
            assert_eq!((node.differences(&rows), node.reloads, node.rereads), (Vec::new(), 0, 0), "{kind:?} {shape:?}");
            check_invariants(&node.contents()).unwrap();
        }
        // What nobody restored is what its writer made of it.
        let of_other =
            |rows: &super::kylin_db::Rows| rows.values().filter(|row| row.project.as_deref() == Some(other)).count();
        assert!(shape == Shape::Old || of_other(&rows) > 0);
    }
}
