//! `metastash snapshots` and `metastash init`

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use metastash::model::hash::SnapshotId;
use metastash::model::log::{Moment, Replayed};
use metastash::model::scope::Scope;
use metastash::repo::Repository;
use metastash::repo::losses::Lack;
use metastash::repo::snapshot::{Reason, Snapshot};
use rayon::prelude::*;
use serde_json::{Map, Value, json};

use super::args::Global;
use super::backup::as_fields;
use super::exit::Code;
use super::open;
use super::output::{Output, bytes, count, hex, local_time, short, utc_time};
use super::values::parse_tag;

#[derive(Debug, Args)]
pub(crate) struct SnapshotsArgs {
    /// Only those that hold this project
    #[arg(long, value_name = "NAME", value_parser = Scope::project)]
    pub project: Option<Scope>,
    /// Only those with this tag
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = parse_tag)]
    pub tags: Vec<(String, String)>,
    /// Those that were forgotten and can be put back, instead
    #[arg(long)]
    pub forgotten: bool,
}

pub(crate) fn init(global: &Global, output: &Output) -> Result<Code> {
    let repo = open::create_repository(global)?;
    output.say(&format!("created repository {}", repo.location()))?;
    output.message("init", json!({"repository": repo.location(), "id": hex(&repo.config().id)}))?;
    Ok(Code::Done)
}

pub(crate) fn run(args: &SnapshotsArgs, global: &Global, output: &Output) -> Result<Code> {
    let repo = open::repository(global)?;
    if args.forgotten {
        return run_forgotten(args, &repo, output);
    }
    let mut list = repo.snapshots()?;
    list.snapshots.retain(|snapshot| is_asked_for(snapshot, args, &repo));
    let lacking = repo.lacking(&list.snapshots)?;
    // There may be ten thousand: what is not asked for is not made.
    if output.is_json() {
        for snapshot in &list.snapshots {
            let mut fields = snapshot_fields(snapshot);
            let lack = lacking.get(&snapshot.id).copied().unwrap_or_default();
            fields.insert("documents_lost".to_owned(), json!(lack.documents));
            fields.insert("is_tree_damaged".to_owned(), json!(lack.has_damaged_tree));
            output.message("snapshot", fields.into())?;
        }
    } else if !list.snapshots.is_empty() {
        output.result(&table(&list.snapshots, &lacking).to_string())?;
    }
    output.say(&count(list.snapshots.len() as u64, "snapshot"))?;
    match list.unreadable.into_iter().next() {
        // All that can be shown was shown; what can't must not go by unnoticed.
        Some(error) => {
            output.finish()?;
            Err(error.into())
        }
        None => Ok(Code::Done),
    }
}

fn is_asked_for(snapshot: &Snapshot, args: &SnapshotsArgs, repo: &Repository) -> bool {
    let manifest = &snapshot.manifest;
    args.project.as_ref().is_none_or(|project| open::may_hold(repo, manifest, project))
        && args.tags.iter().all(|(key, value)| manifest.tags.get(key) == Some(value))
}

/// Lists the forgotten snapshots, with the time when each was forgotten.
fn run_forgotten(args: &SnapshotsArgs, repo: &Repository, output: &Output) -> Result<Code> {
    let mut list = repo.forgotten()?;
    list.forgotten.retain(|record| is_asked_for(&record.snapshot, args, repo));
    let mut table = Table::new();
    table.load_preset(NOTHING);
    table.set_header(["id", "time", "forgotten", "scope", "documents", "notes", "store"]);
    for record in &list.forgotten {
        let manifest = &record.snapshot.manifest;
        let mut fields = snapshot_fields(&record.snapshot);
        fields.insert("forgotten".to_owned(), json!(utc_time(record.forgotten_ms)));
        output.message("snapshot", fields.into())?;
        table.add_row([
            short(&record.snapshot.id),
            local_time(manifest.time_ms),
            local_time(record.forgotten_ms),
            manifest.scope.to_string(),
            manifest.documents.to_string(),
            notes(&record.snapshot),
            format!("{}:{}", manifest.host, manifest.store),
        ]);
    }
    if !list.forgotten.is_empty() {
        output.result(&table.to_string())?;
    }
    output.say(&format!("{} forgotten", count(list.forgotten.len() as u64, "snapshot")))?;
    match list.unreadable.into_iter().next() {
        Some(error) => {
            output.finish()?;
            Err(error.into())
        }
        None => Ok(Code::Done),
    }
}

fn table(snapshots: &[Snapshot], lacking: &BTreeMap<SnapshotId, Lack>) -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    table.set_header(["id", "time", "scope", "documents", "size", "new", "changed", "removed", "notes", "store"]);
    let row = |snapshot: &Snapshot| {
        let manifest = &snapshot.manifest;
        [
            short(&snapshot.id),
            local_time(manifest.time_ms),
            manifest.scope.to_string(),
            manifest.documents.to_string(),
            bytes(manifest.bytes),
            manifest.counts.new.to_string(),
            manifest.counts.changed.to_string(),
            manifest.counts.removed.to_string(),
            notes_with(snapshot, lacking.get(&snapshot.id)),
            format!("{}:{}", manifest.host, manifest.store),
        ]
    };
    table.add_rows(snapshots.par_iter().map(row).collect::<Vec<_>>());
    for column in 3..8 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Returns what else is to be said of a snapshot: label, tags, what a checkpoint was taken for.
pub(crate) fn notes(snapshot: &Snapshot) -> String {
    let manifest = &snapshot.manifest;
    let mut notes: Vec<String> = manifest.label.iter().cloned().collect();
    notes.extend(manifest.tags.iter().map(|(key, value)| format!("{key}={value}")));
    match manifest.reason {
        Reason::Backup => {}
        Reason::CheckpointBefore(restored) => notes.push(format!("checkpoint before restoring {}", short(&restored))),
        Reason::Replayed(Replayed { moment: Moment::Time(time_ms), .. }) => {
            notes.push(format!("as of {}", local_time(time_ms)));
        }
        Reason::Replayed(Replayed { moment: Moment::Record(id), .. }) => notes.push(format!("as of record {id}")),
    }
    if manifest.is_incomplete() {
        notes.push("incomplete".to_owned());
    }
    notes.join(", ")
}

/// Returns what is to be said of a snapshot, and what of it was lost.
fn notes_with(snapshot: &Snapshot, lack: Option<&Lack>) -> String {
    let mut said = vec![notes(snapshot)];
    said.retain(|notes| !notes.is_empty());
    if let Some(lack) = lack {
        said.extend((lack.documents > 0).then(|| format!("{} lost", count(lack.documents, "document"))));
        said.extend(lack.has_damaged_tree.then(|| "damaged".to_owned()));
    }
    said.join(", ")
}

/// Returns the fields that describe a snapshot.
pub(crate) fn snapshot_fields(snapshot: &Snapshot) -> Map<String, Value> {
    let manifest = &snapshot.manifest;
    let project = manifest.scope.prefix().map(|name| String::from_utf8_lossy(name).into_owned());
    let checkpoint_before = match manifest.reason {
        Reason::CheckpointBefore(restored) => Some(restored.to_string()),
        Reason::Backup | Reason::Replayed(_) => None,
    };
    let replayed = match manifest.reason {
        Reason::Replayed(replayed) => Some(replayed_fields(&replayed)),
        Reason::Backup | Reason::CheckpointBefore(_) => None,
    };
    as_fields(json!({
        "id": snapshot.id.to_string(),
        "time": utc_time(manifest.time_ms),
        "host": manifest.host,
        "user": manifest.user,
        "program": manifest.program,
        "store": manifest.store,
        "project": project,
        "parent": manifest.parent.map(|parent| parent.to_string()),
        "label": manifest.label,
        "tags": manifest.tags,
        "checkpoint_before": checkpoint_before,
        "replayed": replayed,
        "root": manifest.root.to_string(),
        "documents": manifest.documents,
        "bytes": manifest.bytes,
        "is_incomplete": manifest.is_incomplete(),
    }))
}

/// Returns the fields that say of which moment a snapshot is.
pub(crate) fn replayed_fields(replayed: &Replayed) -> Value {
    let (time, record) = match replayed.moment {
        Moment::Time(time_ms) => (Some(utc_time(time_ms)), None),
        Moment::Record(id) => (None, Some(id)),
    };
    json!({"time": time, "record": record, "last_record": replayed.last, "records": replayed.records})
}
