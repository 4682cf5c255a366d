//! `metastash prune`

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use metastash::ops::prune::{Packs, PruneOptions, PrunePlan, PruneReport, plan_prune, prune};
use metastash::repo::{self, Repository};
use serde_json::{Value, json};

use super::args::Global;
use super::exit::{Code, Usage};
use super::open;
use super::output::{Output, bytes, count};
use super::progress::Progress;
use super::values::{parse_interval, parse_percent};

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Show what would be done, and change nothing
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// Delete only what was marked this long ago or longer: no less than the grace of the repository, which is the default
    #[arg(long, value_name = "DURATION", value_parser = parse_interval)]
    pub grace: Option<Duration>,
    /// Leave packs as they are while no more than this share of all their bytes is unused
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent, default_value = "5%")]
    pub max_unused: u32,
}

pub(crate) fn run(args: &PruneArgs, global: &Global, output: &Output, progress: &Progress<'_>) -> Result<Code> {
    let repo = open::repository(global)?;
    let least = Duration::from_secs(repo.config().grace_secs);
    if args.grace.is_some_and(|grace| grace < least) {
        let hours = least.as_secs() / 3600;
        return Err(Usage(format!(
            "--grace: backups count on the grace of this repository, which is {hours} h; only a longer one can be asked for"
        ))
        .into());
    }
    let options = PruneOptions {
        grace: args.grace.unwrap_or(least),
        max_unused_percent: args.max_unused,
        ..PruneOptions::default()
    };
    run_with(&repo, &options, args.dry_run, output, progress)
}

/// Prunes, or shows what would be done, and tells.
pub(crate) fn run_with(
    repo: &Repository,
    options: &PruneOptions,
    dry_run: bool,
    output: &Output,
    progress: &Progress<'_>,
) -> Result<Code> {
    if dry_run {
        let plan = plan_prune(repo, options, progress)?;
        progress.clear();
        show_plan(&plan, output)?;
        return Ok(code(&plan.damage));
    }
    let report = prune(repo, options, progress)?;
    progress.clear();
    show(&report, output)?;
    Ok(code(&report.damage))
}

fn code(damage: &[repo::Error]) -> Code {
    if damage.is_empty() { Code::Done } else { Code::Damaged }
}

fn packs(packs: &Packs) -> String {
    format!("{}, {}", count(packs.count(), "pack"), bytes(packs.bytes))
}

fn as_json(packs: &Packs) -> Value {
    json!({"packs": packs.count(), "bytes": packs.bytes})
}

fn show_damage(damage: &[repo::Error], output: &Output) -> Result<()> {
    for error in damage {
        output.result(&format!("damage: {error}"))?;
        output.message("finding", json!({"message": error.to_string()}))?;
    }
    if !damage.is_empty() {
        output.say("what is damaged was left as it is: `metastash check --read-data` names the documents it costs")?;
    }
    Ok(())
}

fn show_plan(plan: &PrunePlan, output: &Output) -> Result<()> {
    show_damage(&plan.damage, output)?;
    if plan.delete.count() > 0 {
        output.result(&format!("would delete {}, marked long enough ago", packs(&plan.delete)))?;
    }
    if plan.repack.count() > 0 {
        output.result(&format!("would copy what is needed of {}, and mark them", packs(&plan.repack)))?;
    }
    if plan.mark.count() > 0 {
        output.result(&format!("would mark {}, which no snapshot needs", packs(&plan.mark)))?;
    }
    if !plan.records.is_empty() {
        let forgotten = count(plan.records.len() as u64, "record");
        output.result(&format!("would remove {forgotten} of snapshots that were forgotten long enough ago"))?;
    }
    if !plan.leftovers.is_empty() {
        output.result(&format!("would remove {}", count(plan.leftovers.len() as u64, "unfinished file")))?;
    }
    if plan.waiting.count() > 0 {
        output.say(&format!("{} marked and waiting for the grace to end", packs(&plan.waiting)))?;
    }
    if plan.young.count() > 0 {
        output.say(&format!("{} of backups that may still run", packs(&plan.young)))?;
    }
    output.say(&format!("{} would stay as they are; nothing was changed", kept(plan.kept_bytes, plan.unused_bytes)))?;
    output.message(
        "prune_summary",
        json!({
            "is_dry_run": true,
            "snapshots": plan.snapshots,
            "forgotten": plan.forgotten,
            "deleted": as_json(&plan.delete),
            "marked": as_json(&plan.mark),
            "repacked": as_json(&plan.repack),
            "written": Value::Null,
            "waiting": as_json(&plan.waiting),
            "young": as_json(&plan.young),
            "kept_bytes": plan.kept_bytes,
            "unused_bytes": plan.unused_bytes,
            "records_removed": plan.records.len(),
            "files_removed": plan.leftovers.len(),
            "segments_written": Value::Null,
            "segments_removed": Value::Null,
            "damage": plan.damage.len(),
        }),
    )?;
    Ok(())
}

fn kept(kept_bytes: u64, unused_bytes: u64) -> String {
    format!("{}, of which {} are unused,", bytes(kept_bytes), bytes(unused_bytes))
}

fn show(report: &PruneReport, output: &Output) -> Result<()> {
    show_damage(&report.damage, output)?;
    if report.deleted.count() > 0 {
        output.say(&format!("deleted {}", packs(&report.deleted)))?;
    }
    if report.repacked.count() > 0 || report.written.count() > 0 {
        output.say(&format!("copied what is needed of {} to {}", packs(&report.repacked), packs(&report.written)))?;
    }
    let marked = report.marked.bytes + report.repacked.bytes;
    if marked > 0 {
        let number = report.marked.count() + report.repacked.count();
        output.say(&format!(
            "marked {}, {}: a prune after the grace deletes them",
            count(number, "pack"),
            bytes(marked)
        ))?;
    }
    if report.waiting.count() > 0 {
        output.say(&format!("{} marked before and waiting for the grace to end", packs(&report.waiting)))?;
    }
    if report.records > 0 {
        let records = count(report.records, "record");
        output.say(&format!("removed {records} of snapshots that were forgotten long enough ago"))?;
    }
    output.say(&format!("{} stay", kept(report.kept_bytes, report.unused_bytes)))?;
    output.message(
        "prune_summary",
        json!({
            "is_dry_run": false,
            "snapshots": report.snapshots,
            "forgotten": report.forgotten,
            "deleted": as_json(&report.deleted),
            "marked": as_json(&report.marked),
            "repacked": as_json(&report.repacked),
            "written": as_json(&report.written),
            "waiting": as_json(&report.waiting),
            "young": as_json(&report.young),
            "kept_bytes": report.kept_bytes,
            "unused_bytes": report.unused_bytes,
            "records_removed": report.records,
            "files_removed": report.leftovers,
            "segments_written": report.segments.written,
            "segments_removed": report.segments.removed,
            "damage": report.damage.len(),
        }),
    )?;
    Ok(())
}
