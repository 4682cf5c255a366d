//! Reading the contents of documents and storing what is new: the hot path of a backup.
//!
//! Documents are taken in batches of about one frame. A thread reads the documents of its batch one by one into one
//! buffer, hashes each, drops those that are stored already, and compresses the buffer: no byte changes threads between
//! disk and frame. Waves of batches run in parallel, while the thread that asked writes the frames of the wave before,
//! in order. Large documents are cut by content and go through on their own, a few pieces at a time.

use std::ops::Range;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use rayon::prelude::*;

use super::live::error_text;
use super::{Error, Result};
use crate::endpoint::{Listing, Outcome, Reader};
use crate::model::entry::{Document, Stamp};
use crate::model::hash::{ChunkId, ContentId};
use crate::monitor::{Monitor, Problem, Severity, Task};
use crate::repo::Repository;
use crate::repo::cut::{WHOLE_BYTES_MAX, pieces};
use crate::repo::format::pack::FrameKind;
use crate::repo::packer::{EncodedFrame, FRAME_RAW_BYTES, FrameBuilder};
use crate::repo::writer::Claims;

/// Most documents of a batch.
const BATCH_DOCUMENTS_MAX: usize = 4096;
/// Batches that run in parallel before their frames are written.
const WAVE_BATCHES: usize = 16;
/// Pieces of a large document that are hashed and compressed in parallel.
const PIECES_AT_ONCE: usize = 8;
/// How often a large document is read that changes while it is read.
const ATTEMPTS_MAX: u32 = 3;

/// A document to read. There may be as many as documents in the store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read {
    /// Its number in the listing.
    pub n: u32,
    /// Its size when it was listed.
    pub size: u64,
}

/// A document that was read and is stored, or will be with the frames that came before it.
#[derive(Debug)]
pub(super) struct Stored {
    pub document: Document,
    pub stamp: Stamp,
}

/// Frames to write, and documents that are complete once they are written; without a [`Stored`] if it can't be read.
#[derive(Default)]
pub(super) struct Batch {
    pub frames: Vec<EncodedFrame>,
    pub documents: Vec<(Read, Option<Stored>)>,
}

/// What a thread made of its batch, in order.
enum Step {
    Stored(Batch),
    /// A document that must be read as a stream after all.
    Grown(Read),
}

/// What all threads share.
struct Session<'a> {
    repo: &'a Repository,
    listing: &'a dyn Listing,
    claims: &'a Claims<'a>,
    monitor: &'a dyn Monitor,
    /// Empty builders whose buffers are used again: fresh ones of this size cost a page fault every 4 KiB.
    frames: Mutex<Vec<FrameBuilder>>,
}

/// Reads documents and hands what is to be stored to `take`, in the order of `reads`.
pub(super) fn store(
    repo: &Repository,
    listing: &dyn Listing,
    reads: &[Read],
    claims: &Claims<'_>,
    monitor: &dyn Monitor,
    mut take: impl FnMut(Batch) -> Result<()>,
) -> Result<()> {
    if reads.is_empty() {
        return Ok(());
    }
    monitor.start(Task::Store, Some(reads.len() as u64));
    let session = Session { repo, listing, claims, monitor, frames: Mutex::default() };
    thread::scope(|scope| {
        let (sender, receiver) = sync_channel(1);
        scope.spawn(move || {
            // Either the receiver hears of the failure, or it has failed itself and is gone.
            if let Err(error) = session.run(reads, &sender) {
                let _ = sender.send(Err(error));
            }
        });
        receiver.into_iter().try_for_each(|batch| take(batch?))
    })
}

impl Session<'_> {
    fn run(&self, reads: &[Read], sender: &SyncSender<Result<Batch>>) -> Result<()> {
        let mut batches = batches(reads).peekable();
        while let Some(batch) = batches.next() {
            if is_large(&reads[batch.start]) {
                self.store_large(&mut *self.listing.reader(), &reads[batch.start], &mut |batch| {
                    self.send(sender, batch)
                })?;
                continue;
            }
            let mut wave = vec![batch];
            while wave.len() < WAVE_BATCHES
                && let Some(next) = batches.next_if(|next| !is_large(&reads[next.start]))
            {
                wave.push(next);
            }
            let stored: Result<Vec<Vec<Step>>> =
                wave.into_par_iter().map(|range| self.store_batch(&reads[range])).collect();
            for step in stored?.into_iter().flatten() {
                match step {
                    Step::Stored(batch) => self.send(sender, batch)?,
                    Step::Grown(read) => {
                        self.store_large(&mut *self.listing.reader(), &read, &mut |batch| self.send(sender, batch))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn send(&self, sender: &SyncSender<Result<Batch>>, batch: Batch) -> Result<()> {
        // The receiver goes away when it fails: that failure is the one to report, this one is never seen.
        sender.send(Ok(batch)).map_err(|_| Error::Interrupted)
    }

    fn store_batch(&self, reads: &[Read]) -> Result<Vec<Step>> {
        let mut reader = self.listing.reader();
        reader.prepare(&reads.iter().map(|read| read.n).collect::<Vec<_>>())?;
        let mut steps = Vec::new();
        let mut batch = Batch::default();
        let mut frame = self.frames.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        for read in reads {
            if self.monitor.is_interrupted() {
                return Err(Error::Interrupted);
            }
            let start = frame.raw_bytes();
            match reader.read(read.n as usize, WHOLE_BYTES_MAX, frame.raw()) {
                Ok(Outcome::Read(stamp)) => {
                    let document = self.keep_or_drop(&mut frame, start)?;
                    batch.documents.push((*read, Some(Stored { document, stamp })));
                }
                // It grew since it was listed: it goes through on its own, between what comes before and after it.
                Ok(Outcome::TooLarge) => {
                    batch.frames.extend(self.end_frame(&mut frame));
                    steps.push(Step::Stored(std::mem::take(&mut batch)));
                    steps.push(Step::Grown(*read));
                    continue;
                }
                Err(error) if error.is_fatal() => return Err(error.into()),
                Err(error) => batch.documents.push((*read, self.unread(read, &error))),
            }
            self.monitor.advance(1);
            // Documents may have grown since the batches were made by their sizes.
            if frame.raw_bytes() >= FRAME_RAW_BYTES {
                batch.frames.extend(self.end_frame(&mut frame));
            }
        }
        batch.frames.extend(self.end_frame(&mut frame));
        self.frames.lock().unwrap_or_else(PoisonError::into_inner).push(frame);
        steps.push(Step::Stored(batch));
        Ok(steps)
    }

    /// Makes the bytes that were read into a frame a chunk of it, or takes them out if they are stored already.
    fn keep_or_drop(&self, frame: &mut FrameBuilder, start: usize) -> Result<Document> {
        let content = &frame.raw()[start..];
        let document = Document { content: ContentId::of(content), size: content.len() as u64, pieces: Box::default() };
        let chunk = ChunkId::of_whole(document.content);
        if self.claims.claim(FrameKind::Documents, &chunk) {
            frame.keep(&chunk, start);
        } else {
            frame.drop_from(start);
        }
        Ok(document)
    }

    fn end_frame(&self, frame: &mut FrameBuilder) -> Option<EncodedFrame> {
        (!frame.is_empty()).then(|| self.repo.encode_frame(frame))
    }

    /// Stores a document piece by piece, giving frames away as they are made.
    fn store_large(
        &self,
        reader: &mut dyn Reader,
        read: &Read,
        give: &mut dyn FnMut(Batch) -> Result<()>,
    ) -> Result<()> {
        let mut outcome = None;
        for attempt in 1..=ATTEMPTS_MAX {
            match self.store_pieces(reader, read, give) {
                Ok(Some(stored)) => {
                    outcome = Some(stored);
                    break;
                }
                Ok(None) if attempt < ATTEMPTS_MAX => {}
                Ok(None) => {
                    self.unread(read, &std::io::Error::other("it keeps changing while it is read"));
                }
                Err(Error::Endpoint(error)) if !error.is_fatal() => {
                    self.unread(read, &error);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        give(Batch { frames: Vec::new(), documents: vec![(*read, outcome)] })?;
        self.monitor.advance(1);
        Ok(())
    }

    /// Returns nothing if the document changed while it was read. What was stored of it is then garbage for a prune.
    fn store_pieces(
        &self,
        reader: &mut dyn Reader,
        read: &Read,
        give: &mut dyn FnMut(Batch) -> Result<()>,
    ) -> Result<Option<Stored>> {
        let mut stream = reader.stream(read.n as usize)?;
        let mut whole = blake3::Hasher::new();
        let mut ids = Vec::new();
        let mut cut = pieces(&mut stream);
        loop {
            if self.monitor.is_interrupted() {
                return Err(Error::Interrupted);
            }
            let some: std::io::Result<Vec<Vec<u8>>> = cut.by_ref().take(PIECES_AT_ONCE).collect();
            let some = some.map_err(|e| crate::endpoint::Error::io("read", self.path(read), e))?;
            if some.is_empty() {
                break;
            }
            for piece in &some {
                whole.update(piece);
            }
            let encoded: Result<Vec<_>> = some.par_iter().map(|piece| self.store_piece(piece)).collect();
            let mut frames = Vec::new();
            for (id, frame) in encoded? {
                ids.push(id);
                frames.extend(frame);
            }
            give(Batch { frames, documents: Vec::new() })?;
        }
        drop(cut);
        let Some(stamp) = stream.finish()? else { return Ok(None) };
        let content = ContentId::from_bytes(*whole.finalize().as_bytes());
        // One piece is the whole document, and then it has the same name as if it had never been cut.
        let pieces = if ids.len() > 1 { ids.into() } else { Box::default() };
        Ok(Some(Stored { document: Document { content, size: whole.count(), pieces }, stamp }))
    }

    fn store_piece(&self, piece: &[u8]) -> Result<(ChunkId, Option<EncodedFrame>)> {
        let id = ChunkId::of(piece);
        let frame = self.claims.claim(FrameKind::Documents, &id).then(|| {
            let mut frame = FrameBuilder::default();
            frame.push(&id, piece);
            self.repo.encode_frame(&mut frame)
        });
        Ok((id, frame))
    }

    fn path(&self, read: &Read) -> String {
        self.listing.path(read.n as usize).to_string()
    }

    fn unread(&self, read: &Read, error: &dyn std::error::Error) -> Option<Stored> {
        let what = error_text(error);
        self.monitor.problem(&Problem { severity: Severity::Unread, path: self.path(read), what });
        None
    }
}

fn is_large(read: &Read) -> bool {
    read.size > WHOLE_BYTES_MAX
}

/// Splits documents into ranges of about one frame; each large document is a range of its own.
fn batches(reads: &[Read]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut start = 0;
    std::iter::from_fn(move || {
        let first = reads.get(start)?;
        let mut end = start + 1;
        let mut bytes = first.size;
        if !is_large(first) {
            while end < reads.len()
                && !is_large(&reads[end])
                && end - start < BATCH_DOCUMENTS_MAX
                && bytes < FRAME_RAW_BYTES as u64
            {
                bytes += reads[end].size;
                end += 1;
            }
        }
        Some(std::mem::replace(&mut start, end)..end)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_cover_all_and_keep_large_documents_apart() {
        let half = WHOLE_BYTES_MAX;
        let sizes = [10, half + 1, half, half, half, half, 5];
        let reads: Vec<Read> = (0..).zip(sizes).map(|(n, size)| Read { n, size }).collect();
        assert_eq!(batches(&reads).collect::<Vec<_>>(), [0..1, 1..2, 2..6, 6..7]);
    }
}
