//! `metastash stats`

use anyhow::Result;
use metastash::ops::stats::stats;
use serde_json::json;

use super::args::Global;
use super::exit::Code;
use super::open;
use super::output::{Output, bytes, count};

pub(crate) fn run(global: &Global, output: &Output) -> Result<Code> {
    let repo = open::repository(global)?;
    let stats = stats(&repo)?;
    let lines = [
        ("repository", repo.location()),
        ("snapshots", stats.snapshots.to_string()),
        ("newest backup", format!("{}, {}", count(stats.documents, "document"), bytes(stats.document_bytes))),
        ("packs", format!("{}, {}", stats.packs, bytes(stats.pack_bytes))),
        (
            "documents stored",
            format!(
                "{}, {} as {}",
                count(stats.chunks, "chunk"),
                bytes(stats.chunk_bytes),
                bytes(stats.chunk_bytes_stored)
            ),
        ),
        ("trees stored", bytes(stats.tree_bytes_stored)),
        ("packs marked", stats.marked_packs.to_string()),
    ];
    for (name, value) in lines {
        output.result(&format!("{name:17} {value}"))?;
    }
    output.message(
        "stats",
        json!({
            "repository": repo.location(),
            "snapshots": stats.snapshots,
            "documents": stats.documents,
            "document_bytes": stats.document_bytes,
            "packs": stats.packs,
            "pack_bytes": stats.pack_bytes,
            "chunks": stats.chunks,
            "chunk_bytes": stats.chunk_bytes,
            "chunk_bytes_stored": stats.chunk_bytes_stored,
            "tree_bytes_stored": stats.tree_bytes_stored,
            "marked_packs": stats.marked_packs,
        }),
    )?;
    Ok(Code::Done)
}
