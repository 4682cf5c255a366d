//! Getting many documents out of a repository: each frame is read and decoded once, frames in parallel.

use rayon::prelude::*;

use super::{Error, Result};
use crate::endpoint::StagingWriter;
use crate::model::entry::Document;
use crate::model::hash::{ChunkId, ContentId};
use crate::monitor::{Monitor, Task};
use crate::repo::chunks::cut;
use crate::repo::format::pack::FrameKind;
use crate::repo::index::{Index, Location};
use crate::repo::{self, Repository};

/// Returns the document with a number; nothing for what is none.
pub(super) type Documents<'a> = &'a (dyn Fn(u32) -> Option<&'a Document> + Sync);

/// Returns a writer for one thread.
pub(super) type Writers<'a> = &'a (dyn Fn() -> Box<dyn StagingWriter + 'a> + Sync);

/// Hands the documents with the numbers up to `count` to writers, in whatever order they come, each verified.
pub(super) fn fetch<'a>(
    repo: &'a Repository,
    count: u32,
    documents: Documents<'a>,
    writers: Writers<'a>,
    monitor: &'a dyn Monitor,
) -> Result<()> {
    let index = repo.index()?;
    let total = (0..count).filter(|n| documents(*n).is_some()).count();
    monitor.start(Task::Write, Some(total as u64));
    let frame_number = index.frame_numbers();
    // Two numbers a document, not a location: there may be millions.
    let mut by_frame: Vec<(u32, u32)> = Vec::with_capacity(total);
    let mut cut_documents = Vec::new();
    for n in 0..count {
        match documents(n) {
            None => {}
            Some(document) if document.pieces.is_empty() => {
                let location = locate(&index, &ChunkId::of_whole(document.content))?;
                by_frame.push((frame_number(&location), n));
            }
            Some(_) => cut_documents.push(n),
        }
    }
    by_frame.sort_unstable();
    let frames: Vec<&[(u32, u32)]> = by_frame.chunk_by(|a, b| a.0 == b.0).collect();
    let job = Job { repo, index: &index, documents, writers, monitor };
    frames.par_iter().try_for_each(|frame| job.write_frame(frame, &frame_number))?;
    cut_documents.par_iter().try_for_each(|n| job.write_cut_document(*n))
}

fn locate(index: &Index, chunk: &ChunkId) -> repo::Result<Location> {
    index.locate(FrameKind::Documents, chunk).next().ok_or(repo::Error::MissingChunk { chunk: *chunk })
}

struct Job<'a, 'i> {
    repo: &'a Repository,
    index: &'i Index,
    documents: Documents<'a>,
    writers: Writers<'a>,
    monitor: &'a dyn Monitor,
}

impl Job<'_, '_> {
    fn write_frame(&self, wanted: &[(u32, u32)], frame_number: &impl Fn(&Location) -> u32) -> Result<()> {
        let mut writer = (self.writers)();
        let mut frame: Option<Vec<u8>> = None;
        for (number, n) in wanted {
            if self.monitor.is_interrupted() {
                return Err(Error::Interrupted);
            }
            let chunk = ChunkId::of_whole(self.document(*n).content);
            let mut places = self.index.locate(FrameKind::Documents, &chunk);
            let place = places.find(|place| frame_number(place) == *number);
            if frame.is_none() {
                let place = place.expect("it was found there when the frames were sorted");
                frame = Some(self.repo.read_frame(self.index, &place).unwrap_or_default());
            }
            let sound = frame.as_deref().zip(place).and_then(|(frame, place)| {
                let is_whole = frame.len() >= (place.start + place.length) as usize;
                is_whole.then(|| cut(frame, &place)).filter(|bytes| ChunkId::of(bytes) == chunk)
            });
            match sound {
                Some(bytes) => write(&mut *writer, *n, std::iter::once(Ok(bytes)))?,
                // The frame is damaged, or another chunk shares the first bytes of the id: try all copies there are.
                None => {
                    let bytes = self.repo.read_chunk(FrameKind::Documents, &chunk)?;
                    write(&mut *writer, *n, std::iter::once(Ok(bytes)))?;
                }
            }
            self.monitor.advance(1);
        }
        Ok(())
    }

    fn write_cut_document(&self, n: u32) -> Result<()> {
        let document = self.document(n);
        let mut whole = blake3::Hasher::new();
        let pieces = document.chunks().map(|chunk| {
            if self.monitor.is_interrupted() {
                return Err(Error::Interrupted);
            }
            let bytes = self.repo.read_chunk(FrameKind::Documents, &chunk)?;
            whole.update(&bytes);
            Ok(bytes)
        });
        write(&mut *(self.writers)(), n, pieces)?;
        self.monitor.advance(1);
        verify_whole(&whole, document)
    }

    fn document(&self, n: u32) -> &Document {
        (self.documents)(n).expect("only documents are written")
    }
}

/// Checks that the pieces of a document made up the document.
pub(super) fn verify_whole(whole: &blake3::Hasher, document: &Document) -> Result<()> {
    if ContentId::from_bytes(*whole.finalize().as_bytes()) == document.content {
        return Ok(());
    }
    let what = "its pieces are sound but do not make up its content".to_owned();
    Err(repo::Error::Damaged { object: format!("the entry of content {}", document.content.short()), what }.into())
}

/// Returns the content of a document.
pub(super) fn content_of(repo: &Repository, document: &Document) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    for chunk in document.chunks() {
        content.extend(repo.read_chunk(FrameKind::Documents, &chunk)?);
    }
    Ok(content)
}

fn write<B: AsRef<[u8]>>(
    writer: &mut dyn StagingWriter,
    n: u32,
    pieces: impl Iterator<Item = Result<B>>,
) -> Result<()> {
    writer.begin(n as usize)?;
    for piece in pieces {
        writer.append(piece?.as_ref())?;
    }
    Ok(writer.finish()?)
}
