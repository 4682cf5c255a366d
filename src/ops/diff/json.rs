//! How two JSON documents differ: for people by the places in each, for programs as a patch (RFC 6902).

use std::collections::BTreeMap;

use super::arrays::{Aligned, align};
use super::noise::Noise;
use crate::model::pointer::Pointer;
use crate::platform::kylin::json::Json;

/// One difference, at its place in the document that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Only the second has it.
    Added {
        /// Where, in the second.
        at: Pointer,
        /// What.
        value: Json,
    },
    /// Only the first has it.
    Removed {
        /// Where, in the first.
        at: Pointer,
        /// What.
        value: Json,
    },
    /// Both have another value there.
    Replaced {
        /// Where, in the second.
        at: Pointer,
        /// In the first.
        before: Json,
        /// In the second.
        after: Json,
    },
    /// An element of an array is at another place among the others. What differs in it has steps of its own.
    Moved {
        /// Where it is in the first.
        from: Pointer,
        /// Where it is in the second.
        to: Pointer,
    },
}

/// One operation of a patch; each is about the document that the ones before it made.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Operation {
    Add(Pointer, Json),
    Remove(Pointer),
    Replace(Pointer, Json),
    Move(Pointer, Pointer),
}

/// How two documents differ, but for noise.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JsonDifference {
    /// The differences: of an object in the order of its fields, of an array what went, what moved, what came, and then what
    /// is in its elements.
    pub steps: Vec<Step>,
    /// Whether noise differs, too.
    pub has_noise: bool,
    patch: Vec<Operation>,
}

impl JsonDifference {
    /// Returns a patch (RFC 6902) as JSON: applied to the first document it gives the second, but for noise, the order of
    /// fields and the spelling of what is the same. Values are spelled as in the second.
    pub fn patch(&self) -> String {
        let text = |text: String| serde_json::Value::from(text).to_string();
        let pointer = |pointer: &Pointer| text(pointer.to_string());
        let value = |value: &Json| String::from_utf8_lossy(&value.to_bytes()).into_owned();
        let operations = self.patch.iter().map(|operation| match operation {
            Operation::Add(path, new) => format!(r#"{{"op":"add","path":{},"value":{}}}"#, pointer(path), value(new)),
            Operation::Remove(path) => format!(r#"{{"op":"remove","path":{}}}"#, pointer(path)),
            Operation::Replace(path, new) => {
                format!(r#"{{"op":"replace","path":{},"value":{}}}"#, pointer(path), value(new))
            }
            Operation::Move(from, path) => {
                format!(r#"{{"op":"move","from":{},"path":{}}}"#, pointer(from), pointer(path))
            }
        });
        format!("[{}]", operations.collect::<Vec<_>>().join(","))
    }
}

/// Compares two documents.
pub fn compare(before: &Json, after: &Json, noise: &Noise) -> JsonDifference {
    let mut walk =
        Walk { noise, before: Pointer::default(), after: Pointer::default(), found: JsonDifference::default() };
    walk.values(before, after);
    walk.found.has_noise = walk.found.has_noise || walk.found.steps.is_empty() && !before.means(after);
    walk.found
}

struct Walk<'n> {
    noise: &'n Noise,
    /// Where the walk is in the first document.
    before: Pointer,
    /// Where it is in the second. That is where it is in what the patch has made so far, too: it sees to an array before
    /// it goes into its elements.
    after: Pointer,
    found: JsonDifference,
}

impl Walk<'_> {
    fn values(&mut self, before: &Json, after: &Json) {
        match (before, after) {
            (Json::Object(before), Json::Object(after)) => self.objects(before, after),
            (Json::Array(before), Json::Array(after)) => self.arrays(before, after),
            _ if before.means(after) => {}
            _ => self.replace(before, after),
        }
    }

    fn replace(&mut self, before: &Json, after: &Json) {
        let at = self.after.clone();
        self.found.patch.push(Operation::Replace(at.clone(), after.clone()));
        self.found.steps.push(Step::Replaced { at, before: before.clone(), after: after.clone() });
    }

    fn add(&mut self, part: &str, patched: &str, value: &Json) {
        self.found.patch.push(Operation::Add(self.after.join(patched), value.clone()));
        self.found.steps.push(Step::Added { at: self.after.join(part), value: value.clone() });
    }

    fn remove(&mut self, part: &str, value: &Json) {
        self.found.patch.push(Operation::Remove(self.after.join(part)));
        self.found.steps.push(Step::Removed { at: self.before.join(part), value: value.clone() });
    }

    fn within(&mut self, part_before: &str, part_after: &str, before: &Json, after: &Json) {
        self.before.push(part_before);
        self.after.push(part_after);
        self.values(before, after);
        self.before.pop();
        self.after.pop();
    }

    fn objects(&mut self, before: &[(String, Json)], after: &[(String, Json)]) {
        let by_name = |fields| -> BTreeMap<&str, &Json> {
            <[(String, Json)]>::iter(fields).map(|(n, v)| (n.as_str(), v)).collect()
        };
        let (old, new) = (by_name(before), by_name(after));
        for (name, value) in before {
            match new.get(name.as_str()) {
                _ if self.noise.has(name) => {
                    self.found.has_noise |= !new.get(name.as_str()).is_some_and(|other| value.means(other));
                }
                None => self.remove(name, value),
                Some(other) => self.within(name, name, value, other),
            }
        }
        for (name, value) in after.iter().filter(|(name, _)| !old.contains_key(name.as_str())) {
            if self.noise.has(name) {
                self.found.has_noise = true;
            } else {
                self.add(name, name, value);
            }
        }
    }

    fn arrays(&mut self, before: &[Json], after: &[Json]) {
        let Some(aligned) = align(before, after, self.noise) else {
            self.replace(&Json::Array(before.to_vec()), &Json::Array(after.to_vec()));
            return;
        };
        self.rearrange(&aligned, before, after);
        for (to, from) in aligned.partners.iter().enumerate() {
            if let Some(from) = from {
                self.within(&from.to_string(), &to.to_string(), &before[*from], &after[to]);
            }
        }
    }

    /// Brings the elements of an array to their places: what goes, from the back; then, from the front, what moves or comes.
    fn rearrange(&mut self, aligned: &Aligned, before: &[Json], after: &[Json]) {
        let mut stays = vec![false; before.len()];
        aligned.partners.iter().flatten().for_each(|from| stays[*from] = true);
        for from in (0..before.len()).rev().filter(|from| !stays[*from]) {
            self.remove(&from.to_string(), &before[from]);
        }
        // The array as the patch has made it so far, by places in the first document; `None` is what came.
        let mut now: Vec<Option<usize>> = (0..before.len()).filter(|from| stays[*from]).map(Some).collect();
        let mut at = 0;
        for (to, partner) in aligned.partners.iter().enumerate() {
            let Some(from) = partner else {
                self.add(&to.to_string(), &at.to_string(), &after[to]);
                now.insert(at, None);
                at += 1;
                continue;
            };
            if aligned.moves[to] {
                let is_at = now.iter().position(|place| *place == Some(*from)).expect("it stays, so it is somewhere");
                now.remove(is_at);
                at -= usize::from(is_at < at);
                now.insert(at, Some(*from));
                if is_at != at {
                    let (old, new) = (self.after.join(is_at.to_string()), self.after.join(at.to_string()));
                    self.found.patch.push(Operation::Move(old, new));
                }
                let (from, to) = (self.before.join(from.to_string()), self.after.join(to.to_string()));
                self.found.steps.push(Step::Moved { from, to });
            } else {
                // What is to be moved away still may lie between.
                at += now[at..].iter().position(|place| *place == Some(*from)).expect("it is not moved, so it follows");
            }
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::kylin::patch::patched;
    use proptest::prelude::{Just, Strategy, any, prop, prop_oneof};
    use proptest::proptest;
    use serde_json::{Map, Value};

    fn parse(text: &str) -> Json {
        Json::parse(text.as_bytes()).unwrap()
    }

    fn shown(before: &str, after: &str) -> Vec<String> {
        let text = |json: Json| String::from_utf8(json.to_bytes()).unwrap();
        let steps = compare(&parse(before), &parse(after), &Noise::default()).steps.into_iter();
        let shown = steps.map(|step| match step {
            Step::Added { at, value } => format!("+ {at} {}", text(value)),
            Step::Removed { at, value } => format!("- {at} {}", text(value)),
            Step::Replaced { at, before, after } => format!("~ {at} {} {}", text(before), text(after)),
            Step::Moved { from, to } => format!("> {from} {to}"),
        });
        shown.collect()
    }

    #[test]
    fn differences_are_told_by_their_places() {
        let cases: [(&str, &str, &[&str]); 12] = [
            (r#"{"a":1}"#, r#"{"a":1.0}"#, &[]),
            (r#"{"a":1,"b":2}"#, r#"{"c":3,"a":4}"#, &["~ /a 1 4", "- /b 2", "+ /c 3"]),
            (r#"{"a/b":{"~":1}}"#, r#"{"a/b":{"~":2}}"#, &["~ /a~1b/~0 1 2"]),
            ("[1,2,3]", "[1,5,3]", &["~ /1 2 5"]),
            ("[1,2,3]", "[2,3,1]", &["> /0 /2"]),
            ("[1,2,3,4]", "[4,1,2,3]", &["> /3 /0"]),
            ("[1,2,3]", "[0,1,3]", &["- /1 2", "+ /0 0"]),
            ("[1,1,2]", "[1,2]", &["- /1 1"]),
            (r#"{"a":[]}"#, r#"{"a":{}}"#, &["~ /a [] {}"]),
            (
                r#"[{"id":1,"x":1},{"id":2,"x":1},{"id":3,"x":1}]"#,
                r#"[{"id":3,"x":1},{"id":1,"x":1},{"id":2,"x":9}]"#,
                &["> /2 /0", "~ /2/x 1 9"],
            ),
            (
                r#"[{"name":"a","x":1},{"name":"b","x":2}]"#,
                r#"[{"name":"c","x":1},{"name":"a","x":2}]"#,
                &["- /1 {\"name\":\"b\",\"x\":2}", "+ /0 {\"name\":\"c\",\"x\":1}", "~ /1/x 1 2"],
            ),
            ("1", "\"1\"", &["~  1 \"1\""]),
        ];
        for (before, after, expected) in cases {
            assert_eq!(shown(before, after), expected, "{before} {after}");
        }
    }

    #[test]
    fn noise_is_left_out_and_told() {
        let (before, after) = (
            parse(r#"{"last_modified":1,"l":[{"mvcc":1,"x":1},{"mvcc":1,"x":2}]}"#),
            parse(r#"{"last_modified":2,"l":[{"mvcc":2,"x":2},{"mvcc":3,"x":1}],"update_time":7}"#),
        );
        let found = compare(&before, &after, &Noise::default());
        assert!(found.has_noise);
        assert_eq!(found.patch(), r#"[{"op":"move","from":"/l/1","path":"/l/0"}]"#);
        let all = compare(&before, &after, &Noise::none());
        assert!(!all.has_noise && all.steps.len() > 2);
        let silent =
            compare(&before, &parse(r#"{"last_modified":3,"l":[{"x":1},{"x":2,"mvcc":1}]}"#), &Noise::default());
        assert!(silent.has_noise && silent.steps.is_empty());
        assert!(!compare(&before, &before, &Noise::default()).has_noise);
        let beside = compare(&parse(r#"{"mvcc":1,"x":1}"#), &parse(r#"{"mvcc":2,"x":2}"#), &Noise::default());
        assert!(beside.has_noise && beside.steps.len() == 1, "noise is told beside what differs, too");
    }

    #[test]
    fn numbers_in_a_patch_are_spelled_as_in_the_document() {
        let found = compare(&parse("{}"), &parse(r#"{"a":[12345678901234567890123,1.10]}"#), &Noise::none());
        assert_eq!(found.patch(), r#"[{"op":"add","path":"/a","value":[12345678901234567890123,1.10]}]"#);
    }

    /// Values with arrays of all kinds: with elements that have names, and with such that have none.
    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), (0..4).prop_map(Value::from)];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..7).prop_map(Value::from),
                prop::collection::btree_map("[ab~/]{0,2}", inner.clone(), 0..4)
                    .prop_map(|fields| Value::from(fields.into_iter().collect::<Map<_, _>>())),
                prop::collection::vec((0..6, inner), 0..6).prop_map(|elements| {
                    let element = |(id, value): (i32, Value)| serde_json::json!({"id": id, "v": value});
                    Value::from(elements.into_iter().map(element).collect::<Vec<_>>())
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn patch_applied_to_the_first_gives_the_second(before in value(), after in value()) {
            let found = compare(&parse(&before.to_string()), &parse(&after.to_string()), &Noise::none());
            let patch: json_patch::Patch = serde_json::from_str(&found.patch()).unwrap();
            let mut made = before.clone();
            json_patch::patch(&mut made, &patch).unwrap();
            assert_eq!(made, after);
            // And by the other implementation that there is.
            let ours = patched(before.to_string().as_bytes(), found.patch().as_bytes()).unwrap();
            assert!(ours.means(&parse(&after.to_string())));
            assert_eq!(found.steps.is_empty(), before == after);
        }

        #[test]
        fn shuffled_array_has_nothing_but_moves(order in Just((0..30).collect::<Vec<i32>>()).prop_shuffle()) {
            let sorted: Vec<i32> = (0..30).collect();
            let text = |numbers: &[i32]| parse(&Value::from(numbers.to_vec()).to_string());
            let found = compare(&text(&sorted), &text(&order), &Noise::none());
            assert!(found.steps.iter().all(|step| matches!(step, Step::Moved { .. })));
            let patch: json_patch::Patch = serde_json::from_str(&found.patch()).unwrap();
            let mut made = Value::from(sorted);
            json_patch::patch(&mut made, &patch).unwrap();
            assert_eq!(made, Value::from(order));
        }
    }
}
