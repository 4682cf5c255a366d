//! `metastash ls` and `metastash cat`

use anyhow::Result;
use metastash::model::entry::{Body, Entry};
use metastash::model::scope::Scope;
use metastash::ops::browse;
use serde_json::{Map, Value, json};

use super::args::{CatArgs, Global, LsArgs};
use super::exit::{Code, Usage};
use super::open;
use super::output::{Output, hex, local_time, path_fields, utc_time};

pub(crate) fn ls(args: &LsArgs, global: &Global, output: &Output) -> Result<Code> {
    let repo = open::repository(global)?;
    let snapshot = open::snapshot(&repo, &args.place.snapshot, args.project.as_ref(), global)?;
    let scope = args.project.clone().unwrap_or(Scope::System);
    browse::list(&repo, &snapshot, &scope, args.place.path.as_ref(), |entry| {
        let line = if args.long { long_line(&entry) } else { short_line(&entry) };
        let show = || {
            output.result(&line)?;
            output.message("entry", entry_fields(&entry).into())
        };
        show().map_err(metastash::ops::Error::Output)
    })?;
    Ok(Code::Done)
}

pub(crate) fn cat(args: &CatArgs, global: &Global, output: &Output) -> Result<Code> {
    let Some(path) = &args.place.path else {
        return Err(Usage("the path of a document is missing: SNAP:PATH is expected".to_owned()).into());
    };
    let repo = open::repository(global)?;
    let snapshot = open::snapshot(&repo, &args.place.snapshot, None, global)?;
    if !output.is_json() {
        browse::cat(&repo, &snapshot, path, &mut Bytes(output))?;
        return Ok(Code::Done);
    }
    let mut content = Vec::new();
    browse::cat(&repo, &snapshot, path, &mut content)?;
    let mut fields = path_fields(path);
    fields.insert("snapshot".to_owned(), json!(snapshot.id.to_string()));
    match String::from_utf8(content) {
        Ok(text) => fields.insert("content".to_owned(), json!(text)),
        Err(error) => fields.insert("content_hex".to_owned(), json!(hex(error.as_bytes()))),
    };
    output.message("document", fields.into())?;
    Ok(Code::Done)
}

/// Standard output as a plain stream of bytes.
struct Bytes<'a>(&'a Output);

impl std::io::Write for Bytes<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.bytes(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn short_line(entry: &Entry) -> String {
    match entry.body {
        Body::Directory => format!("{}/", entry.path),
        Body::Document(_) => entry.path.to_string(),
    }
}

fn long_line(entry: &Entry) -> String {
    let mode = entry.mode.map_or_else(|| "----".to_owned(), |mode| format!("{mode:04o}"));
    match entry.document() {
        None => format!("{mode} {:>12} {:19} {:10} {}/", "-", "-", "-", entry.path),
        Some(document) => format!(
            "{mode} {:>12} {} {} {}",
            document.size,
            local_time(entry.stamp.time_ns / 1_000_000),
            document.content.short(),
            entry.path
        ),
    }
}

/// Returns the fields that describe an entry.
pub(crate) fn entry_fields(entry: &Entry) -> Map<String, Value> {
    let mut fields = path_fields(&entry.path);
    let kind = if entry.document().is_some() { "document" } else { "directory" };
    fields.insert("type".to_owned(), json!(kind));
    fields.insert("mode".to_owned(), json!(entry.mode.map(|mode| format!("{mode:04o}"))));
    if let Some(document) = entry.document() {
        fields.insert("size".to_owned(), json!(document.size));
        fields.insert("modified".to_owned(), json!(utc_time(entry.stamp.time_ns.div_euclid(1_000_000))));
        fields.insert("content".to_owned(), json!(document.content.to_string()));
    }
    fields
}
