//! `metastash copy`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use metastash::ops;
use metastash::ops::copy::{CopyReport, copy, plan_copy};
use metastash::repo::snapshot::{Reference, Snapshot};
use serde_json::json;

use super::args::Global;
use super::exit::{Code, Refusal, Usage};
use super::output::{Output, bytes, count, local_time, short};
use super::progress::Progress;
use super::snapshots::{notes, snapshot_fields};
use super::{forget, open};

#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// The snapshots to copy
    #[arg(value_name = "SNAP")]
    pub snapshots: Vec<Reference>,
    /// Copy all snapshots
    #[arg(long, conflicts_with = "snapshots")]
    pub all: bool,
    /// Directory of the repository to copy to; made if it does not exist
    #[arg(long, value_name = "REPO")]
    pub to: Option<PathBuf>,
    /// Show which snapshots would be copied, and change nothing
    #[arg(long, short = 'n')]
    pub dry_run: bool,
}

pub(crate) fn run(args: &CopyArgs, global: &Global, output: &Output, progress: &Progress<'_>) -> Result<Code> {
    // A profile may say both.
    let Some(to) = &args.to else {
        return Err(Usage("copy to which repository? Name it with `--to`".to_owned()).into());
    };
    if args.snapshots.is_empty() && !args.all {
        return Err(Usage("copy which snapshots? Name them, or say `--all`".to_owned()).into());
    }
    let from = open::repository(global)?;
    let chosen: Vec<Snapshot> = if args.snapshots.is_empty() {
        forget::readable(&from, |_| true)?
    } else {
        let named = args.snapshots.iter().map(|reference| open::snapshot(&from, reference, None, global));
        named.collect::<Result<_>>()?
    };
    let (to, new) = open::repository_or_new_at(to, "--to")?;
    if same_place(&from.location(), &to.location()) {
        return Err(Usage(format!("--to: {} is the repository to copy from", to.location())).into());
    }
    if args.dry_run {
        let plan = plan_copy(&to, chosen).map_err(explained)?;
        show(&plan, true, output)?;
        return Ok(Code::Done);
    }
    let report = copy(&from, &to, chosen, progress).map_err(explained)?;
    progress.clear();
    if new.is_some_and(|id| id == to.config().id) && !report.copied.is_empty() {
        output.say(&format!("created repository {}", to.location()))?;
    }
    show(&report, false, output)?;
    Ok(Code::Done)
}

/// Two snapshots of one label could not be told apart by it.
fn explained(error: ops::Error) -> anyhow::Error {
    match error {
        ops::Error::LabelTaken { .. } => Refusal {
            message: format!("{error} in the repository to copy to"),
            hint: "copy other snapshots only, or forget the one that has the label there".to_owned(),
            code: 1,
        }
        .into(),
        error => error.into(),
    }
}

fn same_place(one: &str, other: &str) -> bool {
    let place = |path: &str| std::fs::canonicalize(path).ok();
    place(one).is_some_and(|one| place(other) == Some(one))
}

fn show(report: &CopyReport, is_dry: bool, output: &Output) -> Result<()> {
    let word = if is_dry { "would copy" } else { "copied" };
    for (snapshot, is_copied) in report
        .present
        .iter()
        .map(|snapshot| (snapshot, false))
        .chain(report.copied.iter().map(|snapshot| (snapshot, true)))
    {
        let mut fields = snapshot_fields(snapshot);
        fields.insert("is_copied".to_owned(), json!(is_copied));
        output.message("copy", fields.into())?;
        let what = if is_copied { word } else { "is there" };
        let said =
            format!("{what}  {}  {}  {}", short(&snapshot.id), local_time(snapshot.manifest.time_ms), notes(snapshot));
        if is_copied { output.say(said.trim_end())? } else { output.detail(said.trim_end())? }
    }
    let there = match report.present.len() as u64 {
        0 => String::new(),
        present => format!("; {} there already", count(present, "snapshot")),
    };
    let snapshots = count(report.copied.len() as u64, "snapshot");
    if is_dry {
        output.say(&format!("would copy {snapshots}{there}; nothing was changed"))?;
    } else {
        let read = bytes(report.raw_bytes);
        output.say(&format!(
            "copied {snapshots}{there}, {} of {read}, stored {}",
            count(report.chunks, "chunk"),
            bytes(report.stored_bytes)
        ))?;
    }
    output.message(
        "copy_summary",
        json!({
            "is_dry_run": is_dry,
            "copied": report.copied.len(),
            "present": report.present.len(),
            "chunks": report.chunks,
            "bytes_read": report.raw_bytes,
            "bytes_stored": report.stored_bytes,
        }),
    )?;
    Ok(())
}
