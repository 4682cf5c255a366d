//! `metastash log`

use anyhow::Result;
use clap::Args;
use metastash::model::entry::Entry;
use metastash::model::log::{LogChange, LogRecord};
use metastash::model::path::{EntryPath, escape};
use metastash::ops::log::{Step, log};
use serde_json::{Value, json};

use super::args::Global;
use super::exit::Code;
use super::output::{Output, count, local_time, path_fields, short, utc_time};
use super::values::parse_path;
use super::{at, open};

#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// The document: its path in snapshots, or its type and key as the audit log has them
    #[arg(value_name = "PATH", value_parser = parse_path)]
    pub path: EntryPath,
}

pub(crate) fn run(args: &LogArgs, global: &Global, output: &Output) -> Result<Code> {
    let repo = open::repository(global)?;
    let history = at::history(&repo, None, false, global)?;
    let report = log(&repo, &history, &args.path, |step| {
        let show = || {
            output.result(&line(step))?;
            output.message("change", fields(step))
        };
        show().map_err(metastash::ops::Error::Output)
    })?;
    let gaps = match report.gaps {
        0 => String::new(),
        gaps => format!("; {} in what is known", count(gaps, "gap")),
    };
    output.say(&format!("{}{gaps}", count(report.changes, "change")))?;
    let mut fields = path_fields(&args.path);
    fields.insert("store".to_owned(), json!(history.store));
    fields.insert("changes".to_owned(), json!(report.changes));
    fields.insert("gaps".to_owned(), json!(report.gaps));
    output.message("log_summary", fields.into())?;
    Ok(if report.is_damaged { Code::Unread } else { Code::Done })
}

/// Returns what a record tells, in one word.
fn word(record: &LogRecord) -> &'static str {
    match (&record.change, record.version) {
        (LogChange::Removed, _) => "removed",
        (_, Some(0)) => "created",
        (LogChange::Unreadable, _) => "unreadable",
        (LogChange::Content(_) | LogChange::Patch(_), _) => "changed",
    }
}

fn line(step: &Step<'_>) -> String {
    match step {
        Step::Record(record) => {
            let or_dash =
                |text: &Option<String>| text.as_ref().map_or_else(|| "-".to_owned(), |t| escape(t.as_bytes()));
            let version = record.version.map_or_else(|| "-".to_owned(), |version| format!("v{version}"));
            format!(
                "{}  record {:<10} {:10} {version:<6} {:16} {:21} {}",
                local_time(record.time_ms),
                record.id,
                word(record),
                or_dash(&record.operator),
                or_dash(&record.instance),
                escape(record.transaction.as_bytes()),
            )
        }
        Step::Held { snapshot, entry, is_new } => {
            let (word, content) = held(*entry, *is_new);
            format!(
                "{}  snapshot {} {word:8} {}",
                local_time(snapshot.manifest.scan_ms),
                short(&snapshot.id),
                content.map_or_else(|| "-".to_owned(), |entry| entry.0),
            )
        }
        Step::Gap { first, last, after, before, why } => format!(
            "{}  gap: records {first} to {last}, between snapshots {} and {}, are missing: {why}",
            local_time(after.manifest.scan_ms),
            short(&after.id),
            short(&before.id),
        ),
    }
}

/// Returns what a snapshot tells in one word, and the content, short and in full.
fn held(entry: Option<&Entry>, is_new: bool) -> (&'static str, Option<(String, String)>) {
    let document = entry.and_then(Entry::document);
    let word = match (document, is_new) {
        (None, _) => "removed",
        (Some(_), true) => "created",
        (Some(_), false) => "changed",
    };
    (word, document.map(|document| (document.content.short(), document.content.to_string())))
}

fn fields(step: &Step<'_>) -> Value {
    match step {
        Step::Record(record) => json!({
            "by": "record",
            "time": utc_time(record.time_ms),
            "record": record.id,
            "change": word(record),
            "version": record.version,
            "operator": record.operator,
            "instance": record.instance,
            "transaction": record.transaction,
            "project": record.project,
        }),
        Step::Held { snapshot, entry, is_new } => {
            let (word, content) = held(*entry, *is_new);
            json!({
                "by": "snapshot",
                "time": utc_time(snapshot.manifest.scan_ms),
                "snapshot": snapshot.id.to_string(),
                "change": word,
                "content": content.map(|content| content.1),
            })
        }
        Step::Gap { first, last, after, before, why } => json!({
            "by": "gap",
            "time": utc_time(after.manifest.scan_ms),
            "until": utc_time(before.manifest.scan_ms),
            "first": first,
            "last": last,
            "message": why,
        }),
    }
}
