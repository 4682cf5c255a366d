//! What goes to standard output: text for people, or one JSON object a line.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io::{self, BufWriter, IsTerminal, Write};

use anyhow::Result;
use indicatif::{BinaryBytes, HumanCount};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use metastash::model::hash::SnapshotId;
use metastash::model::path::EntryPath;
use serde_json::{Map, Value, json};

use super::args::Global;

/// What a line tells, for its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    /// Something came.
    Green,
    /// Something went.
    Red,
    /// Something is another.
    Yellow,
    /// Something is elsewhere.
    Cyan,
}

/// Standard output, or standard error where the former is for something else.
pub(crate) struct Output {
    json: bool,
    is_coloured: bool,
    quiet: bool,
    verbose: bool,
    stdout: RefCell<BufWriter<Box<dyn Write>>>,
}

impl Output {
    pub(crate) fn new(global: &Global) -> Self {
        let is_coloured = wants_colour(io::stdout().is_terminal(), |name| std::env::var_os(name));
        Self::to(global, Box::new(io::stdout().lock()), is_coloured)
    }

    /// Says everything on standard error. [`Output::finish`] is up to the caller.
    pub(crate) fn on_stderr(global: &Global) -> Self {
        Self::to(global, Box::new(io::stderr()), false)
    }

    fn to(global: &Global, stream: Box<dyn Write>, is_coloured: bool) -> Self {
        Self {
            json: global.json,
            is_coloured,
            quiet: global.quiet,
            verbose: global.verbose,
            stdout: RefCell::new(BufWriter::new(stream)),
        }
    }

    /// Tells whether JSON was asked for.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints what the command is for: also with `--quiet`.
    pub(crate) fn result(&self, text: &str) -> io::Result<()> {
        if self.json { Ok(()) } else { writeln!(self.stdout.borrow_mut(), "{text}") }
    }

    /// Prints what the command is for as it is, line ends included, however long it is.
    pub(crate) fn long_result(&self, text: &impl std::fmt::Display) -> io::Result<()> {
        if self.json { Ok(()) } else { write!(self.stdout.borrow_mut(), "{text}") }
    }

    /// Prints what is good to know.
    pub(crate) fn say(&self, text: &str) -> io::Result<()> {
        if self.json || self.quiet { Ok(()) } else { writeln!(self.stdout.borrow_mut(), "{text}") }
    }

    /// Prints what the command is for, in a colour on a terminal.
    pub(crate) fn coloured_result(&self, colour: Colour, text: &str) -> io::Result<()> {
        if !self.is_coloured {
            return self.result(text);
        }
        let code = match colour {
            Colour::Green => 32,
            Colour::Red => 31,
            Colour::Yellow => 33,
            Colour::Cyan => 36,
        };
        self.result(&format!("\x1b[{code}m{text}\x1b[0m"))
    }

    /// Prints what only `--verbose` asks for.
    pub(crate) fn detail(&self, text: &str) -> io::Result<()> {
        if self.verbose { self.say(text) } else { Ok(()) }
    }

    /// Prints one JSON object, if JSON was asked for.
    pub(crate) fn message(&self, message_type: &str, value: Value) -> io::Result<()> {
        if !self.json {
            return Ok(());
        }
        let mut message = Map::from_iter([("message_type".to_owned(), json!(message_type))]);
        if let Value::Object(fields) = value {
            message.extend(fields);
        }
        writeln!(self.stdout.borrow_mut(), "{}", Value::Object(message))
    }

    /// Prints one JSON object, if JSON was asked for, of which one field is JSON as it is spelled elsewhere.
    pub(crate) fn message_with(
        &self,
        message_type: &str,
        mut fields: Map<String, Value>,
        name: &str,
        json: &str,
    ) -> io::Result<()> {
        if !self.json {
            return Ok(());
        }
        fields.insert("message_type".to_owned(), json!(message_type));
        // A value of serde_json would hold a number as a float.
        let text = Value::Object(fields).to_string();
        let rest = text.strip_prefix('{').unwrap_or_default();
        writeln!(self.stdout.borrow_mut(), "{{{}:{json},{rest}", json!(name))
    }

    /// Prints bytes as they are.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> io::Result<()> {
        self.stdout.borrow_mut().write_all(bytes)
    }

    /// Hands everything over to whoever reads it.
    pub(crate) fn finish(&self) -> Result<()> {
        Ok(self.stdout.borrow_mut().flush()?)
    }
}

/// Tells whether to use colours: on a terminal that has any, unless NO_COLOR says otherwise.
fn wants_colour(is_terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let is_set = |name| variable(name).is_some_and(|value| !value.is_empty());
    is_terminal && !is_set("NO_COLOR") && variable("TERM").is_none_or(|terminal| terminal != "dumb")
}

/// Returns the fields for a path: text, and the exact bytes where these are not UTF-8.
pub(crate) fn path_fields(path: &EntryPath) -> Map<String, Value> {
    match std::str::from_utf8(path.as_bytes()) {
        Ok(path) => Map::from_iter([("path".to_owned(), json!(path))]),
        Err(_) => Map::from_iter([
            ("path".to_owned(), json!(path.to_string())),
            ("path_hex".to_owned(), json!(hex(path.as_bytes()))),
        ]),
    }
}

/// Returns bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns a number of bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    BinaryBytes(count).to_string()
}

/// Returns a number with its noun, such as `1 document`.
pub(crate) fn count(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", HumanCount(count), if count == 1 { "" } else { "s" })
}

/// Returns a time in the local zone for people.
pub(crate) fn local_time(time_ms: i64) -> String {
    let time = Timestamp::from_millisecond(time_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Returns a time as RFC 3339 in UTC for programs.
pub(crate) fn utc_time(time_ms: i64) -> String {
    Timestamp::from_millisecond(time_ms).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

/// Returns the first digits of a snapshot's id, enough for people.
pub(crate) fn short(id: &SnapshotId) -> String {
    id.short()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_whose_user_wants_them() {
        let with =
            |name: &'static str, value: &'static str| move |asked: &str| (asked == name).then(|| OsString::from(value));
        assert!(wants_colour(true, with("TERM", "xterm")) && wants_colour(true, with("NO_COLOR", "")));
        assert!(!wants_colour(false, with("TERM", "xterm")));
        assert!(!wants_colour(true, with("NO_COLOR", "1")) && !wants_colour(true, with("TERM", "dumb")));
    }
}
