//! What arguments can say, and how their text is read.

use std::str::FromStr;

use metastash::model::path::EntryPath;
use metastash::ops::check::Part;
use metastash::repo::snapshot::Reference;

/// `SNAP` or `SNAP:PATH`.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub snapshot: Reference,
    pub path: Option<EntryPath>,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (snapshot, path) = match text.split_once(':') {
            None | Some((_, "")) => (text.trim_end_matches(':'), None),
            Some((snapshot, path)) => {
                let path = path.strip_suffix('/').unwrap_or(path);
                (snapshot, Some(EntryPath::new(path.as_bytes()).map_err(|e| e.to_string())?))
            }
        };
        Ok(Self { snapshot: snapshot.parse()?, path })
    }
}

/// A snapshot, or the live store.
#[derive(Debug, Clone)]
pub(crate) enum Side {
    Live,
    Snapshot(Reference),
}

impl FromStr for Side {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "live" { Ok(Self::Live) } else { text.parse().map(Self::Snapshot) }
    }
}

pub(super) fn parse_tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a key, `=` and a value are expected".to_owned()),
    }
}

/// Parses `1/30`, or 0 for none.
pub(super) fn parse_share(text: &str) -> Result<u64, String> {
    let of = match text {
        "0" => Some(0),
        _ => text.strip_prefix("1/").and_then(|of| of.parse().ok()).filter(|of| *of > 0),
    };
    of.ok_or_else(|| "a share such as 1/30 is expected, or 0".to_owned())
}

/// A label must not be taken for anything else that names a snapshot.
pub(super) fn parse_label(text: &str) -> Result<String, String> {
    let problem = if text.is_empty() {
        "it is empty"
    } else if text.contains([':', '/']) || text.chars().any(char::is_control) {
        "`:`, `/` and control characters are not allowed"
    } else if text == "live" || text.starts_with("latest") {
        "`live` and words that begin with `latest` have a meaning already"
    } else if text.len() >= 4 && text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        "it looks like the first digits of an id"
    } else {
        return Ok(text.to_owned());
    };
    Err(problem.to_owned())
}

pub(super) fn parse_part(text: &str) -> Result<Part, String> {
    let numbers = text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
    match numbers {
        Some((number, of)) if (1..=of).contains(&number) => Ok(Part { number, of }),
        _ => Err("`N/M` is expected, with N from 1 to M".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_could_mean_something_else_are_refused() {
        for bad in ["", "a:b", "a/b", "live", "latest~2", "abcd12", "a\nb"] {
            assert!(parse_label(bad).is_err(), "{bad:?}");
        }
        assert!(parse_label("2026-11-22-10-18-49_backup").is_ok());
    }

    #[test]
    fn parts_begin_at_one() {
        assert_eq!(parse_part("3/30"), Ok(Part { number: 3, of: 30 }));
        for bad in ["0/3", "4/3", "3", "a/b", "1/0"] {
            assert!(parse_part(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn place_splits_at_the_first_colon() {
        let place: Place = "latest:a/b:c/".parse().unwrap();
        assert_eq!(place.path.unwrap().to_string(), "a/b:c");
        assert!("latest".parse::<Place>().unwrap().path.is_none());
        assert!("latest:../x".parse::<Place>().is_err());
    }
}
