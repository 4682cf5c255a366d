//! `metastash repair`

use std::collections::BTreeSet;

use anyhow::Result;
use clap::Args;
use metastash::model::hash::SnapshotId;
use metastash::ops::check::CheckReport;
use metastash::ops::prune::Packs;
use metastash::ops::repair::{RepairOptions, plan_repair, repair};
use metastash::repo::Repository;
use metastash::repo::snapshot::Reference;
use serde_json::{Value, json};

use super::args::Global;
use super::check::show_found;
use super::exit::Code;
use super::open;
use super::output::{Output, bytes, count, short};
use super::progress::Progress;

#[derive(Debug, Args)]
pub(crate) struct RepairArgs {
    /// Show what would be done, and change nothing
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// Make a snapshot of what is left of this one, too; may be repeated
    #[arg(long, value_name = "SNAP")]
    pub salvage: Vec<Reference>,
    /// Forget snapshots of which nothing, or not all that they hold, can be known any more: they keep a prune from working
    #[arg(long)]
    pub forget_unreadable: bool,
}

pub(crate) fn run(args: &RepairArgs, global: &Global, output: &Output, progress: &Progress<'_>) -> Result<Code> {
    let repo = open::repository(global)?;
    let named = args.salvage.iter().map(|reference| Ok(open::snapshot(&repo, reference, None, global)?.id));
    let salvage = named.collect::<Result<BTreeSet<SnapshotId>>>()?;
    let options = RepairOptions { salvage, forget_unreadable: args.forget_unreadable };
    if args.dry_run { show_plan(&repo, &options, output, progress) } else { mend(&repo, &options, output, progress) }
}

fn show_plan(repo: &Repository, options: &RepairOptions, output: &Output, progress: &Progress<'_>) -> Result<Code> {
    let plan = plan_repair(repo, options, progress)?;
    progress.clear();
    show_found(&plan.check, output)?;
    if plan.packs.count() > 0 {
        output.result(&format!("would copy what is sound of {}, and mark them", packs(&plan.packs)))?;
    }
    for snapshot in &plan.salvage {
        output.result(&format!("would make a snapshot of what is left of {}", short(&snapshot.id)))?;
    }
    show_hopeless(&plan.hopeless, output)?;
    for id in &plan.forget {
        output.result(&format!("would forget snapshot {}, which can't be read", short(id)))?;
    }
    output.say(&format!("{}; nothing was changed", verdict(&plan.check)))?;
    output.message(
        "repair_summary",
        summary(&plan.check, true, &plan.packs, None, plan.salvage.len() as u64, plan.forget.len() as u64),
    )?;
    Ok(code(&plan.check))
}

fn mend(repo: &Repository, options: &RepairOptions, output: &Output, progress: &Progress<'_>) -> Result<Code> {
    let report = repair(repo, options, progress)?;
    progress.clear();
    show_found(&report.check, output)?;
    if report.packs.count() > 0 {
        output.say(&format!("copied what is sound of {} to {}", packs(&report.packs), packs(&report.written)))?;
    }
    if report.segments.written + report.segments.removed > 0 {
        output.say("made the index again")?;
    }
    for salvage in &report.salvaged {
        let made = short(&salvage.snapshot.id);
        output.say(&format!("what is left of {} is in {made}: the next backup goes by it", short(&salvage.of)))?;
        let ids = json!({"of": salvage.of.to_string(), "id": salvage.snapshot.id.to_string()});
        output.message("salvaged", ids)?;
    }
    show_hopeless(&report.hopeless, output)?;
    if report.forgotten > 0 {
        output.say(&format!("forgot {}", count(report.forgotten, "snapshot")))?;
    }
    output.say(&verdict(&report.check))?;
    let salvaged = report.salvaged.len() as u64;
    output.message(
        "repair_summary",
        summary(&report.check, false, &report.packs, Some(&report.written), salvaged, report.forgotten),
    )?;
    Ok(code(&report.check))
}

fn show_hopeless(snapshots: &[SnapshotId], output: &Output) -> Result<()> {
    for id in snapshots {
        output.result(&format!("nothing is left of the list of documents of {}: it stays as it is", short(id)))?;
    }
    Ok(())
}

fn packs(packs: &Packs) -> String {
    format!("{}, {}", count(packs.count(), "pack"), bytes(packs.bytes))
}

/// Tells whether something is lost, however well the rest was mended.
fn code(check: &CheckReport) -> Code {
    if check.hits.is_empty() && check.unreadable_trees.is_empty() { Code::Done } else { Code::Damaged }
}

fn verdict(check: &CheckReport) -> String {
    let hits = check.hits.len() as u64;
    let trees = check.unreadable_trees.len() as u64;
    let findings = count(check.findings.len() as u64, "finding");
    let lost = format!("{} lost", count(hits, "document"));
    let unknown = format!("{} not known in full", count(trees, "snapshot"));
    match (hits, trees) {
        (0, 0) if check.findings.is_empty() => "no damage found".to_owned(),
        (0, 0) => format!("{findings}, no document is lost"),
        (_, 0) => format!("{findings}, {lost}"),
        // How many documents were only there nobody can tell.
        (0, _) => format!("{findings}, {unknown}"),
        _ => format!("{findings}, {lost}, {unknown}"),
    }
}

fn summary(
    check: &CheckReport,
    is_dry_run: bool,
    packs: &Packs,
    written: Option<&Packs>,
    salvaged: u64,
    forgotten: u64,
) -> Value {
    let as_json = |packs: &Packs| json!({"packs": packs.count(), "bytes": packs.bytes});
    json!({
        "is_dry_run": is_dry_run,
        "findings": check.findings.len(),
        "documents_lost": check.hits.len(),
        "trees_unreadable": check.unreadable_trees.len(),
        "repacked": as_json(packs),
        "written": written.map(as_json),
        "salvaged": salvaged,
        "forgotten": forgotten,
    })
}
