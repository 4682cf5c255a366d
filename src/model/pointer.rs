//! A place in a JSON document, as RFC 6901 writes it.

use std::fmt;
use std::str::FromStr;

/// The names of fields, and numbers of array elements, that lead from the whole of a document to a value in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Pointer(Vec<String>);

/// A text that is no JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no JSON pointer: {why}")]
pub struct BadPointer {
    text: String,
    why: &'static str,
}

impl Pointer {
    /// Returns the parts, unescaped.
    pub fn parts(&self) -> &[String] {
        &self.0
    }

    /// Goes one part further.
    pub fn push(&mut self, part: impl Into<String>) {
        self.0.push(part.into());
    }

    /// Goes back by one part.
    pub fn pop(&mut self) {
        self.0.pop();
    }

    /// Returns the place of a part below this one.
    #[must_use]
    pub fn join(&self, part: impl Into<String>) -> Self {
        let mut joined = self.clone();
        joined.push(part);
        joined
    }
}

/// Returns the number of an array element: digits, without a zero before others.
pub fn index(part: &str) -> Option<usize> {
    let is_plain = part == "0" || !part.starts_with('0') && part.bytes().all(|digit| digit.is_ascii_digit());
    if is_plain { part.parse().ok() } else { None }
}

impl FromStr for Pointer {
    type Err = BadPointer;

    fn from_str(text: &str) -> Result<Self, BadPointer> {
        let bad = |why| BadPointer { text: text.to_owned(), why };
        if text.is_empty() {
            return Ok(Self::default());
        }
        let parts = text.strip_prefix('/').ok_or_else(|| bad("it does not begin with `/`"))?.split('/');
        let unescape = |part: &str| {
            if part.split('~').skip(1).any(|rest| !rest.starts_with(['0', '1'])) {
                return Err(bad("`~` is written `~0`, and `/` in a name `~1`"));
            }
            Ok(part.replace("~1", "/").replace("~0", "~"))
        };
        parts.map(unescape).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| write!(f, "/{}", part.replace('~', "~0").replace('/', "~1")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_read_as_they_are_written() {
        for text in ["", "/", "/a/0/b", "/a~1b/~0", "/a//", "/~01"] {
            let pointer: Pointer = text.parse().unwrap();
            assert_eq!(pointer.to_string(), text);
        }
        assert_eq!("/a~1b/~01".parse::<Pointer>().unwrap().parts(), ["a/b", "~1"]);
        for bad in ["a", "a/b", "/~", "/~2", "/a~/b"] {
            assert!(bad.parse::<Pointer>().is_err(), "{bad}");
        }
    }

    #[test]
    fn escape_that_two_others_leave_behind_is_refused() {
        // Fuzzing found it: without its `~0`, this is `~1`.
        assert!("/~~01".parse::<Pointer>().is_err());
    }

    #[test]
    fn numbers_of_elements_have_one_spelling() {
        assert_eq!((index("0"), index("10")), (Some(0), Some(10)));
        for bad in ["", "01", "-", "-1", "1a"] {
            assert_eq!(index(bad), None, "{bad}");
        }
    }
}
