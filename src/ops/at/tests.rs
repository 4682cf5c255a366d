//! That replaying gives what was there.

use std::collections::BTreeMap;

use proptest::prelude::{Just, Strategy, prop, prop_oneof};
use proptest::proptest;
use serde_json::{Value, json};

use super::replay::{After, Before, State, replay, up_to};
use crate::model::log::{LogChange, LogRecord, Moment};

fn record(id: u64, key: &str, change: LogChange, version: Option<i64>) -> LogRecord {
    LogRecord {
        id,
        key: key.as_bytes().to_vec(),
        change,
        time_ms: i64::try_from(id).unwrap() * 10,
        version,
        transaction: format!("unit {id}"),
        operator: None,
        instance: None,
        project: Some("p".to_owned()),
    }
}

fn content(text: &str) -> LogChange {
    LogChange::Content(text.as_bytes().to_vec())
}

fn patch(text: &str) -> LogChange {
    LogChange::Patch(text.as_bytes().to_vec())
}

fn of(states: &BTreeMap<Vec<u8>, After>, key: &str) -> State {
    states[key.as_bytes()].state.clone()
}

fn present(version: i64, text: &str) -> State {
    State::Present { version: Some(version), content: text.as_bytes().to_vec() }
}

fn nothing(_: &[u8]) -> crate::ops::Result<Option<Before>> {
    Ok(None)
}

const SET: &str = r#"[{"op":"replace","path":"/a","value":2}]"#;

#[test]
fn patches_need_the_version_before() {
    let base = |version| move |_: &[u8]| Ok(Some(Before { version, content: br#"{ "b" : 1.0, "a" : 1 }"#.to_vec() }));
    let one = || vec![record(7, "K/d", patch(SET), Some(4))];
    assert_eq!(of(&replay(one(), base(Some(3))).unwrap(), "K/d"), present(4, r#"{"b":1.0,"a":2}"#));
    for version in [None, Some(2), Some(4), Some(i64::MAX)] {
        let State::Unknown { id: 7, time_ms: 70, before: None, why } =
            of(&replay(one(), base(version)).unwrap(), "K/d")
        else {
            panic!("{version:?}")
        };
        let known =
            version.map_or("can't be told".to_owned(), |version| format!("version {version} is what was known"));
        assert!(why.ends_with(&known), "{why}");
    }
    assert!(matches!(of(&replay(one(), nothing).unwrap(), "K/d"), State::Unknown { id: 7, .. }));
    let misfit = vec![record(7, "K/d", patch(r#"[{"op":"remove","path":"/c"}]"#), Some(4))];
    assert!(matches!(of(&replay(misfit, base(Some(3))).unwrap(), "K/d"), State::Unknown { .. }));
}

#[test]
fn what_is_unknown_is_so_until_a_record_tells_it_whole() {
    let mut records = vec![
        record(1, "K/d", content(r#"{"a":1}"#), Some(0)),
        record(2, "K/d", LogChange::Unreadable, Some(1)),
        record(3, "K/d", patch(SET), Some(2)),
    ];
    let State::Unknown { id, before, why, .. } = of(&replay(records.clone(), nothing).unwrap(), "K/d") else {
        panic!()
    };
    assert_eq!((id, before.map(|state| *state)), (2, Some(present(0, r#"{"a":1}"#))));
    assert!(why.contains("can't be read"));
    records.push(record(4, "K/d", content("{}"), Some(3)));
    assert_eq!(of(&replay(records.clone(), nothing).unwrap(), "K/d"), present(3, "{}"));
    // Of a removal the log may name another project.
    records[3] = LogRecord { project: Some("_global".to_owned()), ..record(4, "K/d", LogChange::Removed, None) };
    let states = replay(records, nothing).unwrap();
    assert_eq!((of(&states, "K/d"), states[&b"K/d"[..]].project.as_deref()), (State::Removed, Some("p")));
}

#[test]
fn transactions_are_taken_whole() {
    let unit = |id, name: &str| LogRecord { transaction: name.to_owned(), ..record(id, "K/d", content("{}"), None) };
    let records = || vec![unit(3, "b"), unit(1, "a"), unit(5, "b"), unit(4, ""), unit(6, "")];
    let ids = |moment| {
        let taken = up_to(moment, records());
        (taken.records.iter().map(|record| record.id).collect::<Vec<_>>(), taken.split)
    };
    assert_eq!(ids(Moment::Record(0)), (vec![], None));
    assert_eq!(ids(Moment::Record(2)), (vec![1], None));
    assert_eq!(ids(Moment::Record(3)), (vec![1], Some((3, 5))));
    assert_eq!(ids(Moment::Record(4)), (vec![1, 4], Some((3, 5))));
    assert_eq!(ids(Moment::Record(5)), (vec![1, 3, 4, 5], None));
    assert_eq!(ids(Moment::Time(49)), (vec![1, 4], None));
    assert_eq!(ids(Moment::Time(50)), (vec![1, 3, 4, 5], None));
}

/// What a history does to one of few documents.
#[derive(Debug, Clone)]
enum Step {
    Set(usize, Value),
    Remove(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let leaf = prop_oneof![Just(Value::Null), (0..4).prop_map(Value::from), "[a-c]{0,2}".prop_map(Value::from)];
    let value = prop_oneof![
        leaf.clone(),
        prop::collection::vec(leaf.clone(), 0..4).prop_map(Value::from),
        prop::collection::btree_map("[a-c]", leaf, 0..3).prop_map(|fields| json!(fields)),
    ];
    let document = (value.clone(), value).prop_map(|(one, other)| json!({"one": one, "other": other}));
    prop_oneof![4 => (0..4_usize, document).prop_map(|(key, json)| Step::Set(key, json)), 1 => (0..4_usize).prop_map(Step::Remove)]
}

/// What is there after each unit: versions and values.
type Model = BTreeMap<usize, (i64, Value)>;

proptest! {
    #[test]
    fn any_history_replays_to_any_of_its_records(
        first in prop::collection::vec(step(), 0..4),
        units in prop::collection::vec((prop::collection::vec((step(), prop::bool::ANY), 1..4), 1..3_u64), 1..8),
    ) {
        let key = |n: usize| format!("K/{n}");
        let mut model = Model::new();
        for step in first {
            if let Step::Set(n, json) = step {
                model.insert(n, (6, json));
            }
        }
        let base = model.clone();
        let mut records = Vec::new();
        // What is there after all units that end at or before an id.
        let mut ends = vec![(0, model.clone())];
        let mut id = 0;
        for (unit, (steps, holes)) in units.into_iter().enumerate() {
            id += holes - 1;
            for (step, as_patch) in steps {
                id += 1;
                let one = match step {
                    Step::Remove(n) => {
                        model.remove(&n);
                        record(id, &key(n), LogChange::Removed, None)
                    }
                    Step::Set(n, json) => {
                        let text = json.to_string();
                        let (version, change) = match model.get(&n) {
                            None => (0, content(&text)),
                            Some((version, before)) if as_patch => {
                                (version + 1, patch(&json_patch::diff(before, &json).to_string()))
                            }
                            Some((version, _)) => (version + 1, content(&text)),
                        };
                        model.insert(n, (version, json));
                        record(id, &key(n), change, Some(version))
                    }
                };
                records.push(LogRecord { transaction: format!("unit {unit}"), ..one });
            }
            ends.push((id, model.clone()));
        }
        for at in 0..=id {
            let expected = &ends.iter().rev().find(|(end, _)| *end <= at).unwrap().1;
            let mut found = base.clone();
            let taken = up_to(Moment::Record(at), records.clone());
            assert_eq!(taken.split.is_some(), records.iter().any(|one| one.id == at) && ends.iter().all(|(end, _)| *end != at));
            let before = |key: &[u8]| {
                let n = usize::from(key[2] - b'0');
                Ok(base.get(&n).map(|(version, json)| Before { version: Some(*version), content: json.to_string().into_bytes() }))
            };
            for (key, after) in replay(taken.records, before).unwrap() {
                let n = usize::from(key[2] - b'0');
                match after.state {
                    State::Removed => drop(found.remove(&n)),
                    State::Present { version, content } => {
                        drop(found.insert(n, (version.unwrap(), serde_json::from_slice(&content).unwrap())));
                    }
                    State::Unknown { why, .. } => panic!("{why}"),
                }
            }
            assert_eq!(&found, expected, "at {at}");
        }
    }
}
