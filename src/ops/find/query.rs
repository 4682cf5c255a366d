//! What a document must be like to be found.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use regex::bytes::{Regex, RegexBuilder};

use crate::model::path::EntryPath;
use crate::model::pointer::Pointer;
use crate::platform::kylin::json::Json;

/// What is looked for. All that is given must hold; nothing given, every document is found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FindOptions {
    /// Globs for the path, any of which must fit. One without `/` is about the name alone.
    pub globs: Vec<String>,
    /// A regular expression for some of the path.
    pub regex: Option<String>,
    /// A regular expression for some of the content, in which `^` and `$` are the ends of lines.
    pub content: Option<String>,
    /// `POINTER` or `POINTER=VALUE`: what the document, as JSON, must have there.
    pub pointers: Vec<String>,
    /// Whether upper and lower case are the same in globs and regular expressions.
    pub ignore_case: bool,
}

/// Something that can't be looked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadQuery(String);

/// [`FindOptions`] that can be asked.
#[derive(Debug)]
pub struct Query {
    globs: Option<GlobSet>,
    regex: Option<Regex>,
    content: Option<Regex>,
    pointers: Vec<(Pointer, Option<Json>)>,
}

impl Query {
    /// Reads what is looked for.
    ///
    /// # Errors
    /// When a glob, a regular expression or a pointer is none.
    pub fn new(options: &FindOptions) -> Result<Self, BadQuery> {
        let regex = |text: &String| {
            // In documents a line is what people see; in a path there is only one.
            let built = RegexBuilder::new(text).case_insensitive(options.ignore_case).multi_line(true).build();
            built.map_err(|e| BadQuery(format!("`{text}` is no regular expression: {}", in_one_line(&e.to_string()))))
        };
        let mut globs = None;
        if !options.globs.is_empty() {
            let mut set = GlobSetBuilder::new();
            for text in &options.globs {
                set.add(glob(text, options.ignore_case).map_err(|e| BadQuery(e.to_string()))?);
            }
            globs = Some(set.build().map_err(|e| BadQuery(e.to_string()))?);
        }
        Ok(Self {
            globs,
            regex: options.regex.as_ref().map(regex).transpose()?,
            content: options.content.as_ref().map(regex).transpose()?,
            pointers: options.pointers.iter().map(|text| pointer(text)).collect::<Result<_, _>>()?,
        })
    }

    /// Tells whether a path is one that is looked for.
    pub fn wants_path(&self, path: &EntryPath) -> bool {
        self.globs.as_ref().is_none_or(|globs| globs.is_match(OsStr::from_bytes(path.as_bytes())))
            && self.regex.as_ref().is_none_or(|regex| regex.is_match(path.as_bytes()))
    }

    /// Tells whether contents must be looked at, too.
    pub fn reads_contents(&self) -> bool {
        self.content.is_some() || !self.pointers.is_empty()
    }

    /// Tells whether a content is one that is looked for.
    pub fn wants_content(&self, content: &[u8]) -> bool {
        if self.content.as_ref().is_some_and(|regex| !regex.is_match(content)) {
            return false;
        }
        if self.pointers.is_empty() {
            return true;
        }
        let Ok(json) = Json::parse(content) else { return false };
        self.pointers.iter().all(|(place, value)| {
            json.at(place).is_some_and(|found| value.as_ref().is_none_or(|value| found.means(value)))
        })
    }
}

/// Reads a glob: `*` and `?` stay within a part of the path, `**` goes through several.
fn glob(text: &str, ignore_case: bool) -> Result<globset::Glob, globset::Error> {
    let whole = match text.strip_prefix('/') {
        Some(from_the_top) => from_the_top.to_owned(),
        None if text.contains('/') => text.to_owned(),
        None => format!("**/{text}"),
    };
    GlobBuilder::new(&whole).literal_separator(true).case_insensitive(ignore_case).build()
}

/// Reads `POINTER` or `POINTER=VALUE`. A value that is no JSON is a text, so that most need no quotes.
fn pointer(text: &str) -> Result<(Pointer, Option<Json>), BadQuery> {
    let (place, value) = match text.split_once('=') {
        None => (text, None),
        Some((place, value)) => (place, Some(value)),
    };
    let value = value.map(|value| Json::parse(value.as_bytes()).unwrap_or_else(|_| Json::text(value)));
    Ok((place.parse().map_err(|e: crate::model::pointer::BadPointer| BadQuery(e.to_string()))?, value))
}

/// Returns the last line of a message that draws: what is wrong.
fn in_one_line(message: &str) -> &str {
    let last = message.lines().last().unwrap_or_default().trim();
    last.strip_prefix("error: ").unwrap_or(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(options: &FindOptions) -> Query {
        Query::new(options).unwrap()
    }

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn globs_without_a_slash_are_about_names() {
        let cases = [
            ("orders*", vec!["orders", "sales/MODEL/orders.json"], vec!["sales/orders/x", "sales/my_orders"]),
            ("sales/*", vec!["sales/x"], vec!["sales/MODEL/x", "a/sales/x"]),
            ("sales/**", vec!["sales/x", "sales/MODEL/x"], vec!["sales", "a/sales/x"]),
            ("**/MODEL/*", vec!["sales/MODEL/x", "MODEL/x"], vec!["sales/MODEL/x/y"]),
            ("/NOTES", vec!["NOTES"], vec!["sales/NOTES"]),
            ("{a,b}?.[jx]*", vec!["s/a1.json", "b2.xml"], vec!["a.json", "c1.json"]),
        ];
        for (glob, fits, others) in cases {
            let query = query(&FindOptions { globs: vec![glob.to_owned()], ..FindOptions::default() });
            fits.iter().for_each(|text| assert!(query.wants_path(&path(text)), "{glob} {text}"));
            others.iter().for_each(|text| assert!(!query.wants_path(&path(text)), "{glob} {text}"));
        }
    }

    #[test]
    fn names_that_are_not_utf8_are_found() {
        let odd = EntryPath::new(&b"sales/\xff\xfe.json"[..]).unwrap();
        assert!(query(&FindOptions { globs: vec!["*.json".to_owned()], ..FindOptions::default() }).wants_path(&odd));
        let regex = Some(r"(?-u:\xff)".to_owned());
        assert!(query(&FindOptions { regex, ..FindOptions::default() }).wants_path(&odd));
    }

    #[test]
    fn values_are_compared_as_json() {
        let content = br#"{"name":"x","n":1.0,"s":"1","list":[{"id":7}],"none":null}"#;
        let wants = |pointer: &str| {
            query(&FindOptions { pointers: vec![pointer.to_owned()], ..FindOptions::default() }).wants_content(content)
        };
        for yes in
            ["/name", "/name=x", "/name=\"x\"", "/n=1", "/s=\"1\"", "/list/0/id=7", "/none=null", "/list=[{\"id\":7}]"]
        {
            assert!(wants(yes), "{yes}");
        }
        for no in ["/nam", "/name=y", "/s=1", "/list/1", "/none=", "/n=\"1\""] {
            assert!(!wants(no), "{no}");
        }
        assert!(
            !query(&FindOptions { pointers: vec![String::new()], ..FindOptions::default() }).wants_content(b"no json")
        );
    }

    #[test]
    fn all_must_hold_and_lines_have_ends() {
        let options = FindOptions {
            content: Some("^b".to_owned()),
            pointers: vec!["/x".to_owned()],
            ignore_case: true,
            ..FindOptions::default()
        };
        assert!(!query(&options).wants_content(b"{\"x\":\nB\n}"), "that is no JSON");
        assert!(!query(&options).wants_content(b"{\"x\":1}"));
        let options = FindOptions { pointers: vec![], ..options };
        assert!(query(&options).wants_content(b"a\nBc\xff"));
    }

    #[test]
    fn what_can_not_be_looked_for_is_refused_in_one_line() {
        let bad = [
            FindOptions { globs: vec!["[".to_owned()], ..FindOptions::default() },
            FindOptions { regex: Some("(".to_owned()), ..FindOptions::default() },
            FindOptions { content: Some("a{2,1}".to_owned()), ..FindOptions::default() },
            FindOptions { pointers: vec!["name=1".to_owned()], ..FindOptions::default() },
        ];
        for options in bad {
            let error = Query::new(&options).unwrap_err().to_string();
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
