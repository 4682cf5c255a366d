//! A Java properties file, as Kylin reads it: UTF-8, keys and values trimmed.

use std::collections::BTreeMap;
use std::fmt;
use std::str::Chars;

use crate::platform::kylin::Error;

/// The properties of one file. Of a key given twice, the last value counts.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(BTreeMap<String, String>);

impl Properties {
    /// Reads the content of a file.
    ///
    /// Bytes that are not UTF-8 become U+FFFD, as in Java: a comment in another encoding is no reason to fail.
    ///
    /// # Errors
    /// When a `\u` is not followed by four hexadecimal digits. Java reads everything else.
    pub fn parse(content: &[u8]) -> Result<Self, Error> {
        let text = String::from_utf8_lossy(content);
        let mut properties = BTreeMap::new();
        for (number, line) in logical_lines(&text) {
            let (key, value) = split(&line);
            let text = |raw| unescape(raw).ok_or(Error::BadLine { line: number, why: "has a malformed \\u escape" });
            properties.insert(trim(&text(key)?).to_owned(), trim(&text(value)?).to_owned());
        }
        Ok(Self(properties))
    }

    /// Returns the value of a key, before anything in it is substituted.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }
}

/// Shows keys only: any value may hold a password.
impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl FromIterator<(String, String)> for Properties {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(properties: I) -> Self {
        Self(properties.into_iter().collect())
    }
}

/// Trims what Java's `String.trim` does: space and all control characters below it.
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches(|c| c <= ' ')
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0c')
}

/// Joins lines that end with a backslash to the next one; leaves out empty lines and comments.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut lines = text.split('\n').map(|line| line.trim_start_matches(is_blank)).enumerate();
    let mut logical = Vec::new();
    while let Some((index, first)) = lines.next() {
        if first.starts_with(['#', '!']) {
            continue;
        }
        let mut line = first.to_owned();
        while ends_with_escape(&line) {
            line.pop();
            let Some((_, next)) = lines.next() else { break };
            line.push_str(next);
        }
        if !line.is_empty() {
            logical.push((index + 1, line));
        }
    }
    logical
}

fn ends_with_escape(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// Splits at the first `=`, `:` or blank that is not escaped; blanks around one `=` or `:` belong to the separator.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.find(|c: char| {
        let ends = !escaped && (is_blank(c) || matches!(c, '=' | ':'));
        escaped = c == '\\' && !escaped;
        ends
    });
    let (key, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start_matches(is_blank);
    (key, rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start_matches(is_blank))
}

/// Resolves escapes; nothing if one is malformed. A character beyond U+FFFF takes two `\u`, so units are collected.
fn unescape(raw: &str) -> Option<String> {
    let mut units: Vec<u16> = Vec::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        let c = if c == '\\' { chars.next().map(Escape::from) } else { Some(Escape::Char(c)) };
        match c {
            Some(Escape::Char(c)) => units.extend_from_slice(c.encode_utf16(&mut [0; 2])),
            Some(Escape::Unit) => units.push(hex(&mut chars)?),
            None => {}
        }
    }
    Some(String::from_utf16_lossy(&units))
}

/// What follows a backslash.
enum Escape {
    Char(char),
    /// Four digits to come.
    Unit,
}

impl From<char> for Escape {
    fn from(c: char) -> Self {
        match c {
            'u' => Self::Unit,
            't' => Self::Char('\t'),
            'r' => Self::Char('\r'),
            'n' => Self::Char('\n'),
            'f' => Self::Char('\x0c'),
            other => Self::Char(other),
        }
    }
}

fn hex(chars: &mut Chars<'_>) -> Option<u16> {
    (0..4).try_fold(0, |value, _| Some(value * 16 + u16::try_from(chars.next()?.to_digit(16)?).ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parse_reads_what_java_reads() {
        for (content, pairs) in [
            ("a=b", vec![("a", "b")]),
            ("  a : b  \r\n! no\n\t# no = no\n\n c\td e ", vec![("a", "b"), ("c", "d e")]),
            ("a=1\na=2", vec![("a", "2")]),
            ("a", vec![("a", "")]),
            ("=b", vec![("", "b")]),
            ("a==b", vec![("a", "=b")]),
            ("a b=c", vec![("a", "b=c")]),
            (r"a\=b\:\ c=d", vec![("a=b: c", "d")]),
            ("a=b\\\n   c,\\\r\n d", vec![("a", "bc,d")]),
            ("a=b\\\\\nc=d", vec![("a", "b\\"), ("c", "d")]),
            ("a=b\\\n#c", vec![("a", "b#c")]),
            ("a=b\\\n\nc=d", vec![("a", "b"), ("c", "d")]),
            ("# no\\\na=b", vec![("a", "b")]),
            ("a=b\\", vec![("a", "b")]),
            (r"a=\u00e9\ud83d\ude00\t\q|", vec![("a", "é😀\tq|")]),
            ("名=值 😀", vec![("名", "值 😀")]),
            ("", vec![]),
        ] {
            let expected = pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            let read = Properties::parse(content.as_bytes()).unwrap();
            assert_eq!(read.0, expected, "{content}");
        }
    }

    #[test]
    fn parse_names_the_line_of_a_malformed_escape() {
        for content in ["a=b\n\nc=\\u12", "a=\\\nb\nc=\\u12x4", "\r\r\\u+123=c"] {
            let error = Properties::parse(content.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), "line 3 of the properties has a malformed \\u escape", "{content}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_do_no_harm() {
        let read = Properties::parse(b"# \xd6\xd0\na=b").unwrap();
        assert_eq!(read.get("a"), Some("b"));
    }

    #[test]
    fn debug_shows_no_values() {
        assert_eq!(format!("{:?}", Properties::parse(b"a=hunter2").unwrap()), r#"{"a"}"#);
    }

    proptest! {
        #[test]
        fn parse_never_panics(content in any::<Vec<u8>>(), text in r"([a\\u0=: \n\r#]|\PC)*") {
            let _ = Properties::parse(&content);
            let _ = Properties::parse(text.as_bytes());
        }
    }
}
