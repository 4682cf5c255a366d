//! `metastash find`

use anyhow::Result;
use clap::Args;
use metastash::model::scope::Scope;
use metastash::ops::find::{FindOptions, FindReport, Found, Query, find};
use metastash::repo::snapshot::{Reference, Snapshot};
use metastash::repo::{self, Repository};
use serde_json::json;

use super::args::Global;
use super::browse::entry_fields;
use super::exit::{Code, Usage};
use super::open;
use super::output::{Output, count, short};
use super::progress::Progress;

#[derive(Debug, Args)]
pub(crate) struct FindArgs {
    /// Globs for the path, any of which must fit: `orders*` for names at any depth, `sales/MODEL/*`, `**/MODEL/*`
    #[arg(value_name = "PATTERN", required_unless_present_any = ["regex", "content", "pointers"])]
    pub globs: Vec<String>,
    /// A regular expression for some of the path
    #[arg(long, value_name = "REGEX")]
    pub regex: Option<String>,
    /// A regular expression for some of the content; `^` and `$` are the ends of lines
    #[arg(long, value_name = "REGEX")]
    pub content: Option<String>,
    /// What the document, as JSON, must have: a value at this place, or this value; may be repeated
    #[arg(long = "pointer", value_name = "/NAME/…[=VALUE]")]
    pub pointers: Vec<String>,
    /// Upper and lower case are the same
    #[arg(long, short)]
    pub ignore_case: bool,
    /// Search this snapshot instead of the latest; may be repeated
    #[arg(long = "snapshot", value_name = "SNAP")]
    pub snapshots: Vec<Reference>,
    /// Search all snapshots
    #[arg(long, conflicts_with = "snapshots")]
    pub all: bool,
    /// This project only
    #[arg(long, value_name = "NAME", value_parser = Scope::project)]
    pub project: Option<Scope>,
    /// Exit with 4 when something is found
    #[arg(long)]
    pub exit_code: bool,
}

pub(crate) fn run(args: &FindArgs, global: &Global, output: &Output, progress: &Progress<'_>) -> Result<Code> {
    let query = Query::new(&FindOptions {
        globs: args.globs.clone(),
        regex: args.regex.clone(),
        content: args.content.clone(),
        pointers: args.pointers.clone(),
        ignore_case: args.ignore_case,
    })
    .map_err(|e| Usage(e.to_string()))?;
    let repo = open::repository(global)?;
    let (snapshots, unreadable) = searched(&repo, args, global)?;
    let scope = args.project.clone().unwrap_or(Scope::System);
    let report = find(&repo, &snapshots, &scope, &query, progress, |found| {
        show(found, &snapshots, output).map_err(metastash::ops::Error::Output)
    })?;
    progress.clear();
    summarize(&report, &snapshots, output)?;
    if let Some(error) = unreadable {
        // All that can be searched was searched; what can't must not go by unnoticed.
        output.finish()?;
        return Err(error.into());
    }
    Ok(match report {
        report if report.unread > 0 => Code::Unread,
        report if args.exit_code && report.documents > 0 => Code::Different,
        _ => Code::Done,
    })
}

/// Returns the snapshots that are to be searched, each once, oldest first, and why some can't be.
fn searched(repo: &Repository, args: &FindArgs, global: &Global) -> Result<(Vec<Snapshot>, Option<repo::Error>)> {
    let project = args.project.as_ref();
    if args.all {
        let mut list = repo.snapshots()?;
        list.snapshots
            .retain(|snapshot| project.is_none_or(|project| open::may_hold(repo, &snapshot.manifest, project)));
        return Ok((list.snapshots, list.unreadable.into_iter().next()));
    }
    let latest = [Reference::Latest(0)];
    let named = if args.snapshots.is_empty() { &latest[..] } else { &args.snapshots };
    let mut snapshots =
        named.iter().map(|reference| open::snapshot(repo, reference, project, global)).collect::<Result<Vec<_>>>()?;
    snapshots.sort_by_key(|snapshot| (snapshot.manifest.time_ms, snapshot.id));
    snapshots.dedup_by_key(|snapshot| snapshot.id);
    Ok((snapshots, None))
}

fn show(found: &Found, snapshots: &[Snapshot], output: &Output) -> std::io::Result<()> {
    let (first, last) = (&snapshots[found.first].id, &snapshots[found.last].id);
    if output.is_json() {
        let mut fields = entry_fields(&found.entry);
        fields.insert("snapshots".to_owned(), json!(found.snapshots));
        fields.insert("first".to_owned(), json!(first.to_string()));
        fields.insert("last".to_owned(), json!(last.to_string()));
        return output.message("found", fields.into());
    }
    if snapshots.len() == 1 {
        return output.result(&found.entry.path.to_string());
    }
    let span = if first == last { short(first) } else { format!("{}..{}", short(first), short(last)) };
    output.result(&format!("{span:22}  {:>12}  {}", count(found.snapshots, "snapshot"), found.entry.path))
}

fn summarize(report: &FindReport, snapshots: &[Snapshot], output: &Output) -> std::io::Result<()> {
    let documents = count(report.documents, "document");
    match snapshots {
        [snapshot] => output.say(&format!("{documents} found in snapshot {}", short(&snapshot.id)))?,
        _ => {
            let (versions, searched) = (count(report.versions, "version"), count(snapshots.len() as u64, "snapshot"));
            output.say(&format!("{versions} of {documents} found in {searched}"))?;
        }
    }
    output.message(
        "find_summary",
        json!({
            "documents": report.documents,
            "versions": report.versions,
            "snapshots": snapshots.len(),
            "unread": report.unread,
        }),
    )
}
