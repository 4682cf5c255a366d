//! What goes to standard output: text for people, or one JSON object a line.

use std::cell::RefCell;
use std::io::{self, BufWriter, Write};

use anyhow::Result;
use indicatif::{BinaryBytes, HumanCount};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use metastash::model::hash::SnapshotId;
use metastash::model::path::EntryPath;
use serde_json::{Map, Value, json};

use super::args::Global;

/// Standard output, or standard error where the former is for something else.
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    verbose: bool,
    stdout: RefCell<BufWriter<Box<dyn Write>>>,
}

impl Output {
    pub(crate) fn new(global: &Global) -> Self {
        Self::to(global, Box::new(io::stdout().lock()))
    }

    /// Says everything on standard error. [`Output::finish`] is up to the caller.
    pub(crate) fn on_stderr(global: &Global) -> Self {
        Self::to(global, Box::new(io::stderr()))
    }

    fn to(global: &Global, stream: Box<dyn Write>) -> Self {
        Self {
            json: global.json,
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

    /// Prints bytes as they are.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> io::Result<()> {
        self.stdout.borrow_mut().write_all(bytes)
    }

    /// Hands everything over to whoever reads it.
    pub(crate) fn finish(&self) -> Result<()> {
        Ok(self.stdout.borrow_mut().flush()?)
    }
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
