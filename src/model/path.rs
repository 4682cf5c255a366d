//! The path of an entry: its name inside a store, and the one order in which entries are kept.

use std::cmp::Ordering;
use std::fmt;

/// A relative path of one or more parts separated by `/`, as raw bytes.
///
/// Never empty, never absolute; no part is empty, `.` or `..`; there is no NUL byte. File systems allow names that are
/// not UTF-8, so a path is bytes; [`fmt::Display`] escapes what is not printable.
///
/// The order is that of a walk which visits a directory right before what is in it: parts are compared one by one as
/// bytes, so `a`, `a/x`, `a-b`. A project, the first part, is one contiguous range.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EntryPath(Box<[u8]>);

/// Why some bytes are not an [`EntryPath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` is not a usable path: {why}")]
pub struct BadPath {
    path: String,
    why: &'static str,
}

/// Longest path that is accepted, in bytes.
pub const PATH_BYTES_MAX: usize = 65_535;

impl EntryPath {
    /// Checks and wraps a path.
    ///
    /// # Errors
    /// Refuses empty and absolute paths, empty parts, `.` and `..`, NUL bytes, and more than [`PATH_BYTES_MAX`] bytes.
    pub fn new(path: impl Into<Box<[u8]>>) -> Result<Self, BadPath> {
        let path = path.into();
        match fault(&path) {
            None => Ok(Self(path)),
            Some(why) => Err(BadPath { path: escape(&path), why }),
        }
    }

    /// Joins parts, or whole paths, that were checked before.
    pub(crate) fn joined(parts: &[&[u8]]) -> Self {
        let path = parts.join(&b'/').into_boxed_slice();
        debug_assert_eq!(fault(&path), None, "parts of paths make a path");
        Self(path)
    }

    /// Returns the bytes of the path.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the parts from the outermost to the name.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/')
    }

    /// Returns the last part.
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|byte| *byte == b'/').next().unwrap_or(&self.0)
    }

    /// Returns the path of the directory that holds this entry, or nothing at the top level.
    pub fn parent(&self) -> Option<EntryPath> {
        let end = self.0.iter().rposition(|byte| *byte == b'/')?;
        Some(Self(self.0[..end].into()))
    }

    /// Returns the project the entry belongs to: the first of at least two parts.
    pub fn project(&self) -> Option<&[u8]> {
        let end = self.0.iter().position(|byte| *byte == b'/')?;
        Some(&self.0[..end])
    }

    /// Returns the kind of the entry: the second of at least three parts.
    pub fn kind(&self) -> Option<&[u8]> {
        let mut parts = self.parts();
        let kind = parts.nth(1)?;
        parts.next().map(|_| kind)
    }

    /// Tells whether the entry is `directory` or lies below it.
    pub fn is_within(&self, directory: &[u8]) -> bool {
        self.0.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }
}

fn fault(path: &[u8]) -> Option<&'static str> {
    if path.is_empty() {
        return Some("it is empty");
    }
    if path.len() > PATH_BYTES_MAX {
        return Some("it is longer than 65535 bytes");
    }
    if path.contains(&0) {
        return Some("it holds a NUL byte");
    }
    path.split(|byte| *byte == b'/').find_map(|part| match part {
        b"" => Some("it has an empty part or begins or ends with `/`"),
        b"." | b".." => Some("it has a part `.` or `..`"),
        _ => None,
    })
}

impl Ord for EntryPath {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }
}

impl PartialOrd for EntryPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Compares two paths in the order of [`EntryPath`].
pub fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let same = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    match (a.get(same), b.get(same)) {
        (Some(x), Some(y)) => rank(*x).cmp(&rank(*y)),
        (x, y) => x.is_some().cmp(&y.is_some()),
    }
}

/// Returns a number by which paths of which it is not the same are in the order of [`EntryPath`].
pub fn order_prefix(path: &[u8]) -> u64 {
    let mut prefix = [0; 8];
    prefix.iter_mut().zip(path).for_each(|(to, byte)| *to = rank(*byte));
    u64::from_be_bytes(prefix)
}

/// Compares the path of `name` in `directory` (which is empty at the top level) with another, in the same order.
pub fn compare_joined(directory: &[u8], name: &[u8], path: &[u8]) -> Ordering {
    if directory.is_empty() {
        return compare(name, path);
    }
    match path.split_at_checked(directory.len()) {
        None => compare(directory, path).then(Ordering::Greater),
        Some((above, rest)) => compare(directory, above).then_with(|| match rest.split_first() {
            None => Ordering::Greater,
            Some((separator, rest)) => rank(b'/').cmp(&rank(*separator)).then_with(|| compare(name, rest)),
        }),
    }
}

/// A separator ends a part, and an ended part sorts before a longer one: it ranks below every other byte.
fn rank(byte: u8) -> u8 {
    if byte == b'/' { 0 } else { byte }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.0))
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryPath({self})")
    }
}

/// Returns `name` as text: control characters and bytes that are not UTF-8 become `\xNN`, the rest stays as it is.
pub fn escape(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() {
                let mut utf8 = [0; 4];
                escape_bytes(c.encode_utf8(&mut utf8).as_bytes(), &mut text);
            } else {
                text.push(c);
            }
        }
        escape_bytes(chunk.invalid(), &mut text);
    }
    text
}

fn escape_bytes(bytes: &[u8], text: &mut String) {
    for byte in bytes {
        text.push_str(&format!("\\x{byte:02x}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn new_refuses_what_would_leave_the_store() {
        for bad in ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/.", "a\0b"] {
            assert!(EntryPath::new(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(EntryPath::new(vec![b'a'; PATH_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn order_is_that_of_a_walk() {
        let sorted = ["a", "a/b", "a/b/c", "a/b-c", "a!b", "a-b", "a0", "b"];
        for pair in sorted.windows(2) {
            assert!(path(pair[0]) < path(pair[1]), "{pair:?}");
            assert!(order_prefix(pair[0].as_bytes()) < order_prefix(pair[1].as_bytes()), "{pair:?}");
        }
        assert_eq!(order_prefix(b"directory/a"), order_prefix(b"directory/b"), "it is of eight bytes");
    }

    #[test]
    fn joined_paths_compare_as_whole_ones() {
        let paths = ["a", "a/b", "a/b/c", "a/b-c", "a!b", "a-b", "a-b/a", "a0", "b", "ab/c"];
        for x in paths {
            let (directory, name) = x.rsplit_once('/').unwrap_or(("", x));
            for y in paths {
                let order = compare_joined(directory.as_bytes(), name.as_bytes(), y.as_bytes());
                assert_eq!(order, compare(x.as_bytes(), y.as_bytes()), "{x} {y}");
            }
        }
    }

    #[test]
    fn parts_name_project_and_kind() {
        let entry = path("sales/MODEL/x.json");
        assert_eq!(entry.project(), Some(&b"sales"[..]));
        assert_eq!(entry.kind(), Some(&b"MODEL"[..]));
        assert_eq!(entry.name(), b"x.json");
        assert_eq!(entry.parent(), Some(path("sales/MODEL")));
        assert_eq!(path("sales/x").kind(), None);
        assert_eq!(path("x").project(), None);
    }

    #[test]
    fn within_compares_whole_parts() {
        assert!(path("sales/x").is_within(b"sales"));
        assert!(!path("sales2/x").is_within(b"sales"));
    }

    #[test]
    fn display_escapes_what_a_terminal_would_obey() {
        let name = EntryPath::new(&b"a\x1b[2J\xff\xc3\xa9"[..]).unwrap();
        assert_eq!(name.to_string(), "a\\x1b[2J\\xff\u{e9}");
        assert_eq!(format!("{name:?}"), format!("EntryPath({name})"));
    }
}
