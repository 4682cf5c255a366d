//! JSON patches (RFC 6902), by which Kylin's audit log tells what an update changed.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::json::{Json, NoJson, put};
use crate::model::pointer::index;

/// How deep a value may be nested that a patch puts into a document.
const DEPTH_MAX: usize = 200;

/// Why a patch can't be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPatch {
    /// The document is no JSON.
    #[error("the document it changes is no JSON: {0}")]
    Document(NoJson),
    /// The patch is none.
    #[error("it is no JSON patch: {0}")]
    Malformed(String),
    /// One of its steps does not fit the document.
    #[error("its step {step} ({operation} {path}) does not fit the document")]
    Misfit {
        /// Which step, from 1.
        step: usize,
        /// What it does.
        operation: String,
        /// Where.
        path: String,
    },
}

#[derive(Deserialize)]
struct Operation<'a> {
    #[serde(borrow)]
    op: Cow<'a, str>,
    #[serde(borrow)]
    path: Cow<'a, str>,
    #[serde(borrow, default)]
    from: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    value: Option<&'a RawValue>,
}

/// Reads a value that may be `null`, which is another thing than none.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Returns what a patch makes of a document.
///
/// # Errors
/// When either can't be read, or a step of the patch does not fit: then the patch is of another document.
pub fn patched(document: &[u8], patch: &[u8]) -> Result<Json, BadPatch> {
    let mut json = Json::parse(document).map_err(BadPatch::Document)?;
    let operations: Vec<Operation<'_>> =
        serde_json::from_slice(patch).map_err(|e| BadPatch::Malformed(e.to_string()))?;
    for (n, operation) in operations.iter().enumerate() {
        if apply(&mut json, operation).is_none() {
            let (operation, path) = (operation.op.to_string(), operation.path.to_string());
            return Err(BadPatch::Misfit { step: n + 1, operation, path });
        }
    }
    Ok(json)
}

fn apply(document: &mut Json, operation: &Operation<'_>) -> Option<()> {
    let path = tokens(&operation.path)?;
    let from = || operation.from.as_deref().and_then(tokens);
    let value = || Json::of_raw(operation.value?, DEPTH_MAX).ok();
    match &*operation.op {
        "add" => add(document, &path, value()?),
        "remove" => remove(document, &path).map(drop),
        "replace" => {
            *find(document, &path)? = value()?;
            Some(())
        }
        "move" => {
            let from = from()?;
            // Nothing can be put into itself.
            if path.len() > from.len() && path.starts_with(&from) {
                return None;
            }
            let value = remove(document, &from)?;
            add(document, &path, value)
        }
        "copy" => {
            let value = find(document, &from()?)?.clone();
            add(document, &path, value)
        }
        "test" => find(document, &path)?.means(&value()?).then_some(()),
        _ => None,
    }
}

/// Splits a JSON pointer (RFC 6901).
fn tokens(pointer: &str) -> Option<Vec<String>> {
    if pointer.is_empty() {
        return Some(Vec::new());
    }
    Some(pointer.strip_prefix('/')?.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect())
}

fn find<'j>(document: &'j mut Json, path: &[String]) -> Option<&'j mut Json> {
    path.iter().try_fold(document, |json, token| match json {
        Json::Object(fields) => fields.iter_mut().find(|(name, _)| name == token).map(|(_, value)| value),
        Json::Array(values) => values.get_mut(index(token)?),
        Json::Scalar(_) => None,
    })
}

fn add(document: &mut Json, path: &[String], value: Json) -> Option<()> {
    let Some((last, above)) = path.split_last() else {
        *document = value;
        return Some(());
    };
    match find(document, above)? {
        Json::Object(fields) => put(fields, last.clone(), value),
        Json::Array(values) => {
            let at = if last == "-" { values.len() } else { index(last)? };
            if at > values.len() {
                return None;
            }
            values.insert(at, value);
        }
        Json::Scalar(_) => return None,
    }
    Some(())
}

fn remove(document: &mut Json, path: &[String]) -> Option<Json> {
    let (last, above) = path.split_last()?;
    match find(document, above)? {
        Json::Object(fields) => {
            let at = fields.iter().position(|(name, _)| name == last)?;
            Some(fields.remove(at).1)
        }
        Json::Array(values) => {
            let at = index(last).filter(|at| *at < values.len())?;
            Some(values.remove(at))
        }
        Json::Scalar(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Just, Strategy, any, prop, prop_oneof};
    use proptest::proptest;
    use serde_json::{Map, Value, json};

    fn text(document: &str, patch: &str) -> Result<String, BadPatch> {
        patched(document.as_bytes(), patch.as_bytes()).map(|json| String::from_utf8(json.to_bytes()).unwrap())
    }

    #[test]
    fn each_operation_does_what_the_standard_says() {
        let document = r#"{"b" : [1, 2.50], "a" : {"x/y" : 1, "~" : null}}"#;
        let cases = [
            ("[]", r#"{"b":[1,2.50],"a":{"x/y":1,"~":null}}"#),
            (r#"[{"op":"replace","path":"/a/x~1y","value":null}]"#, r#"{"b":[1,2.50],"a":{"x/y":null,"~":null}}"#),
            (r#"[{"op":"remove","path":"/a/~0"}]"#, r#"{"b":[1,2.50],"a":{"x/y":1}}"#),
            (r#"[{"op":"add","path":"/b/0","value":{"z":1.0}}]"#, r#"{"b":[{"z":1.0},1,2.50],"a":{"x/y":1,"~":null}}"#),
            (r#"[{"op":"add","path":"/b/-","value":3}]"#, r#"{"b":[1,2.50,3],"a":{"x/y":1,"~":null}}"#),
            (r#"[{"op":"add","path":"/c","value":3}]"#, r#"{"b":[1,2.50],"a":{"x/y":1,"~":null},"c":3}"#),
            (r#"[{"op":"move","from":"/b/1","path":"/a/x~1y"}]"#, r#"{"b":[1],"a":{"x/y":2.50,"~":null}}"#),
            (r#"[{"op":"copy","from":"/b","path":"/a/~0"}]"#, r#"{"b":[1,2.50],"a":{"x/y":1,"~":[1,2.50]}}"#),
            (r#"[{"op":"test","path":"/b/1","value":2.5},{"op":"add","path":"","value":[]}]"#, "[]"),
        ];
        for (patch, expected) in cases {
            assert_eq!(text(document, patch).as_deref(), Ok(expected), "{patch}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let bad = [
            r#"[{"op":"replace","path":"/c","value":1}]"#,
            r#"[{"op":"remove","path":"/b/2"}]"#,
            r#"[{"op":"remove","path":""}]"#,
            r#"[{"op":"add","path":"/b/01","value":1}]"#,
            r#"[{"op":"add","path":"/b/3","value":1}]"#,
            r#"[{"op":"add","path":"/c"}]"#,
            r#"[{"op":"add","path":"c","value":1}]"#,
            r#"[{"op":"move","from":"/a","path":"/a/x"}]"#,
            r#"[{"op":"test","path":"/b/0","value":2}]"#,
            r#"[{"op":"swap","path":"/b"}]"#,
        ];
        for patch in bad {
            assert!(matches!(text(r#"{"b":[1,2],"a":{}}"#, patch), Err(BadPatch::Misfit { step: 1, .. })), "{patch}");
        }
        assert!(matches!(text("{}", "{}"), Err(BadPatch::Malformed(_))));
        assert!(matches!(text("no", "[]"), Err(BadPatch::Document(_))));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), (0..5).prop_map(Value::from)];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[ab~/]{0,2}", inner, 0..4)
                    .prop_map(|fields| Value::from(fields.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    proptest! {
        #[test]
        fn patches_made_by_others_lead_where_they_say(before in value(), after in value()) {
            let patch = json_patch::diff(&before, &after);
            let made = text(&before.to_string(), &patch.to_string()).unwrap();
            assert_eq!(serde_json::from_str::<Value>(&made).unwrap(), after);
        }

        #[test]
        fn patches_do_what_they_do_elsewhere(
            document in value(),
            steps in prop::collection::vec(("(/[ab0-2~/]{0,2}){0,2}", "(/[ab0-2-]){0,2}", value(), 0..6_usize), 1..4),
        ) {
            let names = ["add", "remove", "replace", "move", "copy", "test"];
            let step = |(path, from, value, name): &(String, String, Value, usize)| {
                json!({"op": names[*name], "path": path.replace('~', "~0"), "from": from, "value": value})
            };
            let patch = Value::from(steps.iter().map(step).collect::<Vec<_>>());
            let mut expected = document.clone();
            // The other way to call it takes back what it did before a step that failed, and gives up over that.
            let theirs = serde_json::from_value(patch.clone()).is_ok_and(|patch: json_patch::Patch| {
                json_patch::patch_unsafe(&mut expected, &patch).is_ok()
            });
            match text(&document.to_string(), &patch.to_string()) {
                Ok(made) => {
                    assert!(theirs, "{document} {patch}");
                    assert_eq!(serde_json::from_str::<Value>(&made).unwrap(), expected);
                }
                Err(_) => assert!(!theirs, "{document} {patch}"),
            }
        }
    }
}
