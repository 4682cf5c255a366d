//! `metastash forget`

use std::collections::BTreeSet;

use anyhow::Result;
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use jiff::Span;
use jiff::tz::TimeZone;
use metastash::model::hash::SnapshotId;
use metastash::ops::forget::{forget, plan_named, put_back};
use metastash::ops::prune::PruneOptions;
use metastash::ops::retention::{Decision, Policy, plan};
use metastash::repo::Repository;
use metastash::repo::snapshot::{Reference, Snapshot};
use serde_json::json;

use super::args::Global;
use super::backup::as_fields;
use super::exit::{Code, Usage};
use super::output::{Output, count, local_time, short};
use super::progress::Progress;
use super::snapshots::{notes, snapshot_fields};
use super::values::{parse_span, parse_tag};
use super::{open, prune, store};

#[derive(Debug, Args)]
pub(crate) struct ForgetArgs {
    /// Snapshots to forget, whatever rules say: first digits of an id, a label, `latest` or `latest~N`
    #[arg(value_name = "SNAP", conflicts_with = "KeepArgs")]
    pub snapshots: Vec<Reference>,
    /// Look only at snapshots of the store that is named, taken on this machine
    #[arg(long, conflicts_with = "snapshots")]
    pub this_store: bool,
    /// Forget the last backup of a store, too
    #[arg(long, requires = "snapshots", conflicts_with_all = ["undo", "KeepArgs"])]
    pub allow_empty: bool,
    /// With rules: keep this snapshot whatever they say; may be repeated
    #[arg(long, value_name = "SNAP", conflicts_with = "snapshots")]
    pub hold: Vec<Reference>,
    /// Put forgotten snapshots back
    #[arg(long, requires = "snapshots", conflicts_with = "KeepArgs")]
    pub undo: bool,
    /// Prune afterwards
    #[arg(long, conflicts_with = "undo")]
    pub prune: bool,
    /// Show what would stay and what would go, and change nothing
    #[arg(long, short = 'n', conflicts_with = "undo")]
    pub dry_run: bool,
    // Last: what follows would come under its heading.
    #[command(flatten)]
    pub keep: KeepArgs,
}

/// The rules of a retention.
#[derive(Debug, Args)]
#[command(next_help_heading = "Rules")]
pub(crate) struct KeepArgs {
    /// Keep the N newest
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep_last: Option<u32>,
    /// Keep the newest of each of the N newest hours that have any
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep_hourly: Option<u32>,
    /// Keep the newest of each of the N newest days that have any
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep_daily: Option<u32>,
    /// Keep the newest of each of the N newest weeks that have any
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep_weekly: Option<u32>,
    /// Keep the newest of each of the N newest months that have any
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep_monthly: Option<u32>,
    /// Keep the newest of each of the N newest years that have any
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep_yearly: Option<u32>,
    /// Keep what is no more than this older than the newest, such as `36h` or `2mo 15d`
    #[arg(long, value_name = "DURATION", value_parser = parse_span)]
    pub keep_within: Option<Span>,
    /// Keep what has this tag; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_tag)]
    pub keep_tag: Vec<(String, String)>,
}

impl KeepArgs {
    /// Returns the rules, if there is any. Hours and days are those of the local zone.
    pub(crate) fn policy(&self) -> Option<Policy> {
        let counts =
            [self.keep_last, self.keep_hourly, self.keep_daily, self.keep_weekly, self.keep_monthly, self.keep_yearly];
        if counts.iter().all(Option::is_none) && self.keep_within.is_none() && self.keep_tag.is_empty() {
            return None;
        }
        let [last, hourly, daily, weekly, monthly, yearly] = counts.map(Option::unwrap_or_default);
        let (within, tags) = (self.keep_within, self.keep_tag.clone());
        let rules = Policy::new(TimeZone::system());
        Some(Policy { last, hourly, daily, weekly, monthly, yearly, within, tags, ..rules })
    }
}

pub(crate) fn run(args: &ForgetArgs, global: &Global, output: &Output, progress: &Progress<'_>) -> Result<Code> {
    let policy = args.keep.policy();
    if policy.is_none() && args.snapshots.is_empty() {
        return Err(Usage("name snapshots to forget, or rules such as `--keep-daily 7`".to_owned()).into());
    }
    let only = if args.this_store { Some(store::required_location(global)?) } else { None };
    let repo = open::repository(global)?;
    if args.undo {
        return undo(args, &repo, output);
    }
    let snapshots = match policy {
        Some(_) => readable(&repo, |snapshot| only.as_ref().is_none_or(|store| is_of(snapshot, store)))?,
        None => repo.snapshots()?.snapshots,
    };
    let decisions = match policy {
        Some(mut policy) => {
            for reference in &args.hold {
                policy.hold.insert(open::snapshot(&repo, reference, None, global)?.id);
            }
            plan(&snapshots, &policy)
        }
        None => {
            let named = args.snapshots.iter().map(|reference| Ok(open::snapshot(&repo, reference, None, global)?.id));
            plan_named(&snapshots, &named.collect::<Result<BTreeSet<SnapshotId>>>()?, args.allow_empty)?
        }
    };
    if args.dry_run {
        show_plan(&decisions, snapshots.len() as u64, output)?;
    } else {
        let forgotten = forget(&repo, &decisions, progress)?;
        show(&decisions, snapshots.len() as u64, forgotten, output)?;
    }
    if !args.prune {
        return Ok(Code::Done);
    }
    // What was forgotten just now counts until the grace is over.
    prune::run_with(&repo, &PruneOptions::default(), args.dry_run, output, progress)
}

fn is_of(snapshot: &Snapshot, store: &str) -> bool {
    snapshot.manifest.store == store && snapshot.manifest.host == open::author().host
}

/// Returns the snapshots that `fit`. Rules do nothing as long as one can't be read: what others stand in for is not known.
pub(crate) fn readable(repo: &Repository, fit: impl Fn(&Snapshot) -> bool) -> Result<Vec<Snapshot>> {
    let mut list = repo.snapshots()?;
    if let Some(error) = list.unreadable.into_iter().next() {
        return Err(error.into());
    }
    list.snapshots.retain(fit);
    Ok(list.snapshots)
}

fn undo(args: &ForgetArgs, repo: &Repository, output: &Output) -> Result<Code> {
    // All are found before the first is put back.
    let found = args.snapshots.iter().map(|reference| repo.find_forgotten(reference));
    for forgotten in found.collect::<metastash::repo::Result<Vec<_>>>()? {
        put_back(repo, &forgotten)?;
        output.say(&format!("snapshot {} is back", short(&forgotten.snapshot.id)))?;
        output.message("unforgotten", snapshot_fields(&forgotten.snapshot).into())?;
    }
    Ok(Code::Done)
}

fn show_plan(decisions: &[Decision<'_>], listed: u64, output: &Output) -> Result<()> {
    tell(decisions, output)?;
    if !decisions.is_empty() {
        output.result(&table(decisions.iter()).to_string())?;
    }
    let gone = gone(decisions);
    let kept = listed - gone;
    output.say(&format!("would forget {}, keep {kept}; nothing was changed", count(gone, "snapshot")))?;
    output.message("forget_summary", json!({"forgotten": gone, "kept": kept, "is_dry_run": true}))?;
    Ok(())
}

fn show(decisions: &[Decision<'_>], listed: u64, forgotten: u64, output: &Output) -> Result<()> {
    tell(decisions, output)?;
    let gone = gone(decisions);
    let kept = listed - gone;
    if gone > 0 {
        output.say(&table(decisions.iter().filter(|decision| decision.forgets())).to_string())?;
    }
    let way_back = if gone > 0 { ": `metastash forget --undo ID` puts one back" } else { "" };
    output.say(&format!("forgot {}, kept {kept}{way_back}", count(forgotten, "snapshot")))?;
    output.message("forget_summary", json!({"forgotten": forgotten, "kept": kept, "is_dry_run": false}))?;
    Ok(())
}

fn gone(decisions: &[Decision<'_>]) -> u64 {
    decisions.iter().filter(|decision| decision.forgets()).count() as u64
}

fn tell(decisions: &[Decision<'_>], output: &Output) -> Result<()> {
    for decision in decisions {
        let mut fields = snapshot_fields(decision.snapshot);
        let keep: Vec<String> = decision.keep.iter().map(ToString::to_string).collect();
        fields.extend(as_fields(json!({"forget": decision.forgets(), "keep": keep})));
        output.message("forget_decision", fields.into())?;
    }
    Ok(())
}

fn table<'a>(decisions: impl Iterator<Item = &'a Decision<'a>>) -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    table.set_header(["", "id", "time", "scope", "kept as", "notes", "store"]);
    for decision in decisions {
        let manifest = &decision.snapshot.manifest;
        let keep: Vec<String> = decision.keep.iter().map(ToString::to_string).collect();
        table.add_row([
            if decision.forgets() { "forget" } else { "keep" }.to_owned(),
            short(&decision.snapshot.id),
            local_time(manifest.time_ms),
            manifest.scope.to_string(),
            keep.join(", "),
            notes(decision.snapshot),
            format!("{}:{}", manifest.host, manifest.store),
        ]);
    }
    table
}
