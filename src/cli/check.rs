//! `metastash check`

use std::time::Instant;

use anyhow::Result;
use clap::Args;
use metastash::ops::check::{CheckReport, Depth, Part, check};
use serde_json::json;

use super::args::Global;
use super::exit::Code;
use super::open;
use super::output::{Output, bytes, count, path_fields, short};
use super::progress::Progress;
use super::values::parse_part;

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Read and verify every byte, or the N-th of M parts
    #[arg(long, value_name = "N/M", num_args = 0..=1, require_equals = true, default_missing_value = "1/1",
          value_parser = parse_part)]
    pub read_data: Option<Part>,
}

pub(crate) fn run(args: &CheckArgs, global: &Global, output: &Output, progress: &Progress<'_>) -> Result<Code> {
    let began = Instant::now();
    let repo = open::repository(global)?;
    let depth = args.read_data.map_or(Depth::Quick, Depth::ReadData);
    let report = check(&repo, depth, progress)?;
    progress.clear();
    show(&report, began.elapsed().as_secs_f64(), output)?;
    Ok(if report.is_damaged() { Code::Damaged } else { Code::Done })
}

/// Shows what is wrong and what it costs.
pub(crate) fn show_found(report: &CheckReport, output: &Output) -> Result<()> {
    for finding in &report.findings {
        output.result(&format!("damage: {}", finding.error))?;
        output.message("finding", json!({"message": finding.error.to_string()}))?;
    }
    for hit in &report.hits {
        let snapshots: Vec<String> = hit.snapshots.iter().map(short).collect();
        output.result(&format!("cannot be restored: {} (in {})", hit.path, snapshots.join(", ")))?;
        let mut fields = path_fields(&hit.path);
        let ids: Vec<String> = hit.snapshots.iter().map(ToString::to_string).collect();
        fields.insert("snapshots".to_owned(), json!(ids));
        output.message("document_lost", fields.into())?;
    }
    for snapshot in &report.unreadable_trees {
        output.result(&format!("snapshot {}: part of its list of documents can't be read", short(snapshot)))?;
        output.message("tree_unreadable", json!({"snapshot": snapshot.to_string()}))?;
    }
    Ok(())
}

fn show(report: &CheckReport, seconds: f64, output: &Output) -> Result<()> {
    show_found(report, output)?;
    let read = match report.packs_read {
        0 => String::new(),
        packs => format!(", read {} in {}", bytes(report.bytes_read), count(packs, "pack")),
    };
    let verdict = if report.is_damaged() {
        format!(
            "DAMAGED: {}, {} hit",
            count(report.findings.len() as u64, "finding"),
            count(report.hits.len() as u64, "document")
        )
    } else if report.packs_read == 0 {
        "no damage found, contents not read (--read-data does)".to_owned()
    } else {
        "no damage found".to_owned()
    };
    output.say(&format!("{verdict}; checked {}{read}, {seconds:.2} s", count(report.snapshots, "snapshot")))?;
    output.message(
        "check_summary",
        json!({
            "is_damaged": report.is_damaged(),
            "snapshots": report.snapshots,
            "findings": report.findings.len(),
            "documents_lost": report.hits.len(),
            "trees_unreadable": report.unreadable_trees.len(),
            "packs_read": report.packs_read,
            "bytes_read": report.bytes_read,
            "seconds": seconds,
        }),
    )?;
    Ok(())
}
