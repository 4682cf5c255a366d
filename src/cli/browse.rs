//! `metastash ls` and `metastash cat`

use anyhow::Result;
use clap::Args;
use metastash::model::entry::{Body, Entry};
use metastash::model::path::EntryPath;
use metastash::model::scope::Scope;
use metastash::ops::browse;
use metastash::repo::Repository;
use metastash::repo::snapshot::Snapshot;
use serde_json::{Map, Value, json};

use super::args::Global;
use super::at::AtArgs;
use super::exit::{Code, Usage};
use super::output::{Output, hex, local_time, path_fields, utc_time};
use super::progress::Progress;
use super::values::Place;
use super::{at, open};

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// Snapshot, and optionally a path in it: first digits of an id, a label, `latest` or `latest~N`; with --at, a path only
    #[arg(value_name = "SNAP[:PATH]", required_unless_present = "at")]
    pub place: Option<Place>,
    #[command(flatten)]
    pub at: AtArgs,
    /// This project only
    #[arg(long, value_name = "NAME", value_parser = Scope::project)]
    pub project: Option<Scope>,
    /// Show permissions, size, modification time and content hash
    #[arg(long, short)]
    pub long: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CatArgs {
    /// Snapshot and path of the document; with --at, the path only
    #[arg(value_name = "SNAP:PATH")]
    pub place: Place,
    #[command(flatten)]
    pub at: AtArgs,
}

pub(crate) fn ls(args: &LsArgs, global: &Global, output: &Output, progress: &Progress<'_>) -> Result<Code> {
    let repo = open::repository(global)?;
    let (snapshot, path, code) =
        look(&repo, args.place.as_ref(), &args.at, args.project.as_ref(), global, output, progress)?;
    let scope = args.project.clone().unwrap_or(Scope::System);
    browse::list(&repo, &snapshot, &scope, path.as_ref(), |entry| {
        let line = if args.long { long_line(&entry) } else { short_line(&entry) };
        let show = || {
            output.result(&line)?;
            output.message("entry", entry_fields(&entry).into())
        };
        show().map_err(metastash::ops::Error::Output)
    })?;
    Ok(code)
}

/// Finds the snapshot and the path that are meant. What a moment lacks makes its snapshot incomplete.
fn look(
    repo: &Repository,
    place: Option<&Place>,
    moment: &AtArgs,
    project: Option<&Scope>,
    global: &Global,
    output: &Output,
    progress: &Progress<'_>,
) -> Result<(Snapshot, Option<EntryPath>, Code)> {
    match (moment.at, place) {
        (Some(time), place) => {
            let path = place.map(Place::path_alone).transpose()?;
            let report = at::snapshot(repo, time, moment, None, global, output, progress)?;
            Ok((report.snapshot, path, if report.gaps.is_empty() { Code::Done } else { Code::Unread }))
        }
        (None, Some(place)) => {
            Ok((open::snapshot(repo, &place.snapshot, project, global)?, place.path.clone(), Code::Done))
        }
        (None, None) => Err(Usage("a snapshot is missing".to_owned()).into()),
    }
}

pub(crate) fn cat(args: &CatArgs, global: &Global, output: &Output, progress: &Progress<'_>) -> Result<Code> {
    if args.place.path.is_none() && args.at.at.is_none() {
        return Err(Usage("the path of a document is missing: SNAP:PATH is expected".to_owned()).into());
    }
    let repo = open::repository(global)?;
    let (snapshot, path, code) = look(&repo, Some(&args.place), &args.at, None, global, output, progress)?;
    let path = &path.expect("a place without one was refused, and a moment leaves nothing else");
    if !output.is_json() {
        browse::cat(&repo, &snapshot, path, &mut Bytes(output))?;
        return Ok(code);
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
    Ok(code)
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
