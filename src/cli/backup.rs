//! `metastash backup`

use std::time::Instant;

use anyhow::Result;
use clap::Args;
use metastash::endpoint::location::Located;
use metastash::model::scope::Scope;
use metastash::ops::backup::{BackupOptions, BackupPlan, BackupReport, backup, plan_backup};
use metastash::ops::follow::Following;
use serde_json::json;

use super::args::Global;
use super::exit::{Code, Usage};
use super::output::{Output, bytes, count, short};
use super::progress::Progress;
use super::snapshots::snapshot_fields;
use super::values::{parse_label, parse_share, parse_tag};
use super::{open, store};

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// Back up this project only: what lies below one top-level directory
    #[arg(long, value_name = "NAME", value_parser = Scope::project)]
    pub project: Option<Scope>,
    /// Add a key and value to the snapshot; may be repeated
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = parse_tag)]
    pub tags: Vec<(String, String)>,
    /// Give the snapshot a name of its own
    #[arg(long, value_parser = parse_label)]
    pub label: Option<String>,
    /// Read every document, and verify the stored copy of each
    #[arg(long)]
    pub force: bool,
    /// Write no snapshot when nothing changed since the last one
    #[arg(long)]
    pub skip_if_unchanged: bool,
    /// Back up a store without a single document
    #[arg(long)]
    pub allow_empty: bool,
    #[command(flatten)]
    pub trust: TrustArgs,
    /// Show what would be read, and write nothing
    #[arg(long, short = 'n')]
    pub dry_run: bool,
}

/// How far the word of a database is taken for what changed in it.
#[derive(Debug, Args)]
pub(crate) struct TrustArgs {
    /// List all versions of a database, even where its audit log tells what changed
    #[arg(long)]
    pub no_log: bool,
    /// Of a database, read this share of the contents that seem unchanged, another one each time; 0 for none
    #[arg(long, value_name = "1/N", value_parser = parse_share, default_value = "1/30")]
    pub verify: u64,
}

pub(crate) fn run(args: &BackupArgs, global: &Global, output: &Output, progress: &Progress<'_>) -> Result<Code> {
    let began = Instant::now();
    let Located { store, connected, .. } = store::source(global)?;
    let options = BackupOptions {
        scope: args.project.clone().unwrap_or(Scope::System),
        label: args.label.clone(),
        tags: args.tags.iter().cloned().collect(),
        force: args.force,
        skip_if_unchanged: args.skip_if_unchanged,
        allow_empty: args.allow_empty,
        follow_log: !args.trust.no_log,
        verify_of: args.trust.verify,
        saved_ms: None,
        author: open::author(),
    };
    refuse_repeated_tags(&args.tags)?;
    let (repo, planned_id) = open::repository_or_new(global)?;
    if args.dry_run {
        let plan = plan_backup(&*store, &repo, &options, progress)?;
        progress.clear();
        return show_plan(&plan, output);
    }
    let report = backup(&*store, &repo, &options, progress)?;
    progress.clear();
    // Whoever came second uses the repository that the first created.
    if planned_id == Some(repo.config().id) {
        output.say(&format!("created repository {}", repo.location()))?;
    }
    let seconds = began.elapsed().as_secs_f64();
    show_report(&report, seconds, connected.map(|connected| connected.elapsed().as_secs_f64()), output)
}

/// Refuses a key with two values: one of them would be lost.
pub(crate) fn refuse_repeated_tags(tags: &[(String, String)]) -> Result<()> {
    let mut keys = std::collections::BTreeSet::new();
    match tags.iter().find(|(key, _)| !keys.insert(key)) {
        Some((key, _)) => Err(Usage(format!("--tag: `{key}` is given twice")).into()),
        None => Ok(()),
    }
}

fn show_plan(plan: &BackupPlan, output: &Output) -> Result<Code> {
    output.result(&format!(
        "would read {} of {}: {} new, {} removed, {} unchanged; nothing was written",
        count(plan.to_read, "document"),
        bytes(plan.bytes_to_read),
        plan.new,
        plan.removed,
        plan.unchanged
    ))?;
    output.message(
        "backup_plan",
        json!({
            "parent": plan.parent.map(|id| id.to_string()),
            "new": plan.new,
            "to_read": plan.to_read,
            "bytes_to_read": plan.bytes_to_read,
            "removed": plan.removed,
            "unchanged": plan.unchanged,
            "problems": plan.problems.len(),
        }),
    )?;
    Ok(if plan.problems.is_empty() { Code::Done } else { Code::Unread })
}

pub(crate) fn show_report(
    report: &BackupReport,
    seconds: f64,
    seconds_after_connect: Option<f64>,
    output: &Output,
) -> Result<Code> {
    let counts = &report.counts;
    output.say(&summary(report, seconds))?;
    if report.following == Following::Followed {
        output.detail("the audit log was followed: only what it names was looked at")?;
    }
    let mut fields = summary_fields(report, seconds);
    fields.insert("seconds_after_connect".to_owned(), json!(seconds_after_connect));
    output.message("backup_summary", fields.into())?;
    if !report.remarks.is_empty() {
        output.say(&format!(
            "{} told above: `metastash doctor` says more",
            count(report.remarks.len() as u64, "remark")
        ))?;
    }
    if counts.unread + counts.skipped == 0 {
        return Ok(Code::Done);
    }
    if counts.unread > 0 {
        output.result(&format!(
            "the snapshot is incomplete: {} could not be read (documents, or directories with all that is in them)",
            count(counts.unread, "name")
        ))?;
    }
    Ok(Code::Unread)
}

/// Returns what a backup did, in one line.
pub(crate) fn summary(report: &BackupReport, seconds: f64) -> String {
    let counts = &report.counts;
    let head = if report.is_new {
        format!("snapshot {} saved", short(&report.snapshot.id))
    } else {
        format!("nothing changed since snapshot {}, no new one was written", short(&report.snapshot.id))
    };
    format!(
        "{head}: {} ({} new, {} changed, {} removed, {} unchanged), read {}, stored {}, {seconds:.2} s",
        count(report.snapshot.manifest.documents, "document"),
        counts.new,
        counts.changed,
        counts.removed,
        report.unchanged,
        bytes(report.bytes_read),
        bytes(report.bytes_stored),
    ) + &fallback(report)
}

/// Says why all of a store was looked at though it has a log of changes.
fn fallback(report: &BackupReport) -> String {
    match &report.following {
        Following::FellBack(why) => format!("; the audit log was not followed, all versions were compared: {why}"),
        Following::No | Following::Followed => String::new(),
    }
}

/// Returns the fields that say what a backup did.
pub(crate) fn summary_fields(report: &BackupReport, seconds: f64) -> serde_json::Map<String, serde_json::Value> {
    let counts = &report.counts;
    let (log, why) = match &report.following {
        Following::No => ("none", None),
        Following::Followed => ("followed", None),
        Following::FellBack(why) => ("fell_back", Some(why)),
    };
    let mut fields = snapshot_fields(&report.snapshot);
    fields.extend(as_fields(json!({
        "is_new": report.is_new,
        "new": counts.new,
        "changed": counts.changed,
        "removed": counts.removed,
        "unchanged": report.unchanged,
        "unread": counts.unread,
        "skipped": counts.skipped,
        "remarks": report.remarks.len(),
        "read": report.read,
        "bytes_read": report.bytes_read,
        "bytes_stored": report.bytes_stored,
        "log": log,
        "log_why": why,
        "verified": report.verified,
        "seconds": seconds,
    })));
    fields
}

/// Returns the fields of a JSON object.
pub(crate) fn as_fields(value: serde_json::Value) -> serde_json::Map<String, serde_json::Value> {
    match value {
        serde_json::Value::Object(fields) => fields,
        _ => serde_json::Map::new(),
    }
}
