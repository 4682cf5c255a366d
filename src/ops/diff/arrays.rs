//! Which elements of two arrays are the same.
//!
//! Elements that have an identity are the same where it is, whatever else of them differs. Others are the same if they are
//! equal; of what is left between two that are, the n-th of one side became the n-th of the other.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::noise::Noise;
use crate::platform::kylin::json::Json;

/// Fields that may identify an element, the best first.
const IDENTITIES: [&str; 5] = ["uuid", "id", "guid", "name", "alias"];
/// Most work for the moves of one array: moves times elements. Beyond that it is replaced as a whole.
const MOVE_WORK_MAX: usize = 100_000_000;

/// How the elements of the second array relate to those of the first.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Aligned {
    /// For each element of the second array, the place of the same one in the first, if there is one.
    pub partners: Vec<Option<usize>>,
    /// For each of them, whether it is at another place among those that are in both.
    pub moves: Vec<bool>,
}

/// Finds which elements are the same; nothing if that is too much work.
pub(super) fn align(before: &[Json], after: &[Json], noise: &Noise) -> Option<Aligned> {
    let identity = IDENTITIES.iter().find_map(|name| Some((identities(before, name)?, identities(after, name)?)));
    let has_identity = identity.is_some();
    let (old, new) = identity.unwrap_or_else(|| (canonical_all(before, noise), canonical_all(after, noise)));
    let mut places: HashMap<&str, VecDeque<usize>> = HashMap::new();
    for (from, key) in old.iter().enumerate() {
        places.entry(key).or_default().push_back(from);
    }
    let mut partners: Vec<Option<usize>> =
        new.iter().map(|key| places.get_mut(key.as_str()).and_then(VecDeque::pop_front)).collect();
    let moves = moves(&partners);
    let moved = moves.iter().filter(|moves| **moves).count();
    if moved.saturating_mul(before.len()) > MOVE_WORK_MAX {
        return None;
    }
    if !has_identity {
        pair_rest(&mut partners, &moves, before.len());
    }
    Some(Aligned { partners, moves })
}

/// Returns the values of a field that identifies the elements of an array; nothing if it does not.
fn identities(elements: &[Json], name: &str) -> Option<Vec<String>> {
    let identity = |element: &Json| match element {
        Json::Object(fields) => match fields.iter().find(|(other, _)| other == name)? {
            (_, value @ Json::Scalar(text)) if &**text != "null" => Some(canonical(value, &Noise::none())),
            _ => None,
        },
        _ => None,
    };
    let found: Vec<String> = elements.iter().map(identity).collect::<Option<_>>()?;
    let mut sorted: Vec<&String> = found.iter().collect();
    sorted.sort_unstable();
    sorted.dedup();
    (sorted.len() == found.len()).then_some(found)
}

fn canonical_all(elements: &[Json], noise: &Noise) -> Vec<String> {
    elements.iter().map(|element| canonical(element, noise)).collect()
}

/// Returns a text that is the same for values that mean the same, but for noise.
fn canonical(json: &Json, noise: &Noise) -> String {
    let mut text = String::new();
    append(json, noise, &mut text);
    text
}

fn append(json: &Json, noise: &Noise, text: &mut String) {
    match json {
        Json::Object(fields) => {
            let sorted: BTreeMap<&str, &Json> = fields
                .iter()
                .filter(|(name, _)| !noise.has(name))
                .map(|(name, value)| (name.as_str(), value))
                .collect();
            text.push('{');
            for (name, value) in sorted {
                text.push_str(&serde_json::Value::from(name).to_string());
                append(value, noise, text);
                text.push(',');
            }
            text.push('}');
        }
        Json::Array(values) => {
            text.push('[');
            for value in values {
                append(value, noise, text);
                text.push(',');
            }
            text.push(']');
        }
        Json::Scalar(scalar) => append_scalar(scalar, text),
    }
}

fn append_scalar(scalar: &str, text: &mut String) {
    let is_text = scalar.starts_with('"');
    let is_fraction = !is_text && scalar.contains(['.', 'e', 'E']);
    match scalar.parse::<f64>() {
        // `true` and `false` have an `e`, too, but are no numbers.
        Ok(number) if is_fraction => text.push_str(&number.to_string()),
        _ if is_text => match serde_json::from_str::<String>(scalar) {
            Ok(plain) => text.push_str(&serde_json::Value::from(plain).to_string()),
            Err(_) => text.push_str(scalar),
        },
        _ => text.push_str(scalar),
    }
}

/// Tells which elements moved: all that are in both but not in the longest row of them that is in the order of the first.
fn moves(partners: &[Option<usize>]) -> Vec<bool> {
    // For each length, the element that ends a row of it with the smallest place; and for each element the one before it.
    let mut ends: Vec<usize> = Vec::new();
    let mut previous: Vec<Option<usize>> = vec![None; partners.len()];
    for (to, from) in partners.iter().enumerate().filter(|(_, from)| from.is_some()) {
        let length = ends.partition_point(|end| partners[*end] < *from);
        previous[to] = length.checked_sub(1).map(|shorter| ends[shorter]);
        if length == ends.len() {
            ends.push(to);
        } else {
            ends[length] = to;
        }
    }
    let mut moves: Vec<bool> = partners.iter().map(Option::is_some).collect();
    let mut at = ends.last().copied();
    while let Some(to) = at {
        moves[to] = false;
        at = previous[to];
    }
    moves
}

/// Pairs what is left between elements that are the same and did not move.
fn pair_rest(partners: &mut [Option<usize>], moves: &[bool], before: usize) {
    let mut is_taken = vec![false; before];
    partners.iter().flatten().for_each(|from| is_taken[*from] = true);
    let mut from = 0;
    for to in 0..partners.len() {
        match partners[to] {
            Some(anchor) if !moves[to] => from = anchor + 1,
            Some(_) => {}
            None => {
                let end =
                    (to..partners.len()).find_map(|next| partners[next].filter(|_| !moves[next])).unwrap_or(before);
                if let Some(free) = (from..end).find(|free| !is_taken[*free]) {
                    partners[to] = Some(free);
                    is_taken[free] = true;
                    from = free + 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aligned(before: &str, after: &str) -> (Vec<Option<usize>>, Vec<bool>) {
        let elements = |text: &str| match Json::parse(text.as_bytes()).unwrap() {
            Json::Array(values) => values,
            other => panic!("{other:?} is no array"),
        };
        let Aligned { partners, moves } = align(&elements(before), &elements(after), &Noise::none()).unwrap();
        (partners, moves)
    }

    #[test]
    fn as_few_as_possible_move() {
        assert_eq!(aligned("[1,2,3]", "[3,1,2]"), (vec![Some(2), Some(0), Some(1)], vec![true, false, false]));
        assert_eq!(aligned("[1,2]", "[1,2]").1, [false, false]);
        let reversed = aligned("[1,2,3,4]", "[4,3,2,1]").1;
        assert_eq!(reversed.iter().filter(|moves| **moves).count(), 3);
    }

    #[test]
    fn what_means_the_same_is_the_same() {
        let elements = r#"[{"a":1.0,"b":"\u00e9"},[1e3,true,null]]"#;
        assert_eq!(aligned(elements, r#"[[1000,true,null],{"b":"é","a":1}]"#).0, [Some(1), Some(0)]);
        // As floats these were one number.
        assert_eq!(aligned("[9007199254740993,1]", "[1,9007199254740992]").0, [Some(1), None]);
    }

    #[test]
    fn identity_is_a_field_that_all_have_each_another() {
        let before = r#"[{"id":1,"name":"x"},{"id":1,"name":"y"}]"#;
        assert_eq!(aligned(before, r#"[{"id":1,"name":"y"},{"id":2,"name":"z"}]"#).0, [Some(1), None]);
        let before = r#"[{"x":1,"id":7},{"x":2,"id":8}]"#;
        assert_eq!(aligned(before, r#"[{"x":2,"id":7},{"x":1,"id":8}]"#).0, [Some(0), Some(1)]);
        // `null` identifies nothing.
        assert_eq!(aligned(r#"[{"id":null,"name":"x"}]"#, r#"[{"id":null,"name":"y"}]"#).0, [None]);
    }

    #[test]
    fn what_is_left_between_is_paired() {
        assert_eq!(aligned("[1,2,3,4]", "[1,7,8,4,9]").0, [Some(0), Some(1), Some(2), Some(3), None]);
        assert_eq!(aligned("[1,2,3]", "[7]").0, [Some(0)]);
        // What moved is no neighbour.
        assert_eq!(aligned("[1,2,3,4]", "[1,4,9,3]").0, [Some(0), Some(3), Some(1), Some(2)]);
    }

    #[test]
    fn arrays_that_are_too_much_work_are_not_aligned() {
        let before: Vec<Json> = (0..20_000).map(|n| Json::Scalar(n.to_string().into())).collect();
        let after: Vec<Json> = before.iter().rev().cloned().collect();
        assert_eq!(align(&before, &after, &Noise::none()), None);
    }
}
