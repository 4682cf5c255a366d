//! Contents of some documents of a repository: each frame is decoded once, and what is damaged costs only itself.

use std::sync::OnceLock;

use rayon::prelude::*;

use super::documents::{DOCUMENT_BYTES_MAX, too_large};
use super::fetch::{content_of, fetch};
use super::live::error_text;
use super::{Error, Result};
use crate::endpoint::{self, StagingWriter};
use crate::model::entry::Document;
use crate::model::hash::ContentId;
use crate::monitor::{Monitor, Problem, Task};
use crate::repo::Repository;

/// What became of a document: what was made of its content, or why it can't be read.
pub(super) type Gathered<T> = std::result::Result<T, String>;

/// Returns what `look` makes of the content of each document, verified. It looks on several threads, in whatever order.
///
/// # Errors
/// When the storage can't be read, or the monitor asks for a stop. What is damaged, or too large, is told in its place.
pub(super) fn gather<T: Send + Sync>(
    repo: &Repository,
    documents: &[&Document],
    task: Task,
    look: &(dyn Fn(usize, &[u8]) -> T + Sync),
    monitor: &dyn Monitor,
) -> Result<Vec<Gathered<T>>> {
    if documents.is_empty() {
        return Ok(Vec::new());
    }
    let mut made: Vec<OnceLock<Gathered<T>>> = documents.iter().map(|_| OnceLock::new()).collect();
    for (slot, document) in made.iter_mut().zip(documents) {
        if document.size > DOCUMENT_BYTES_MAX {
            *slot = OnceLock::from(Err(too_large().to_string()));
        }
    }
    let wanted: Vec<Option<&Document>> = documents
        .iter()
        .zip(&made)
        .map(|(document, slot)| if slot.get().is_none() { Some(*document) } else { None })
        .collect();
    let count = u32::try_from(documents.len()).expect("fewer than 2^32 documents are asked for at once");
    let writers = || -> Box<dyn StagingWriter + '_> {
        Box::new(Looking { documents, look, made: &made, current: 0, content: Vec::new() })
    };
    match fetch(repo, count, &|n| wanted[n as usize], &writers, &Under { monitor, task }) {
        Ok(()) => {}
        // The rest is read one by one: the others are not to suffer.
        Err(Error::Repository(error)) if error.is_damage() => {}
        Err(error) => return Err(error),
    }
    let slots: Vec<_> = made.into_iter().map(OnceLock::into_inner).zip(documents).enumerate().collect();
    slots
        .into_par_iter()
        .map(|(n, (slot, document))| match slot {
            Some(made) => Ok(made),
            None => read_alone(repo, document, monitor).map(|read| read.map(|content| look(n, &content))),
        })
        .collect()
}

/// Reads one document; tells what is damaged of it.
fn read_alone(repo: &Repository, document: &Document, monitor: &dyn Monitor) -> Result<Gathered<Vec<u8>>> {
    if monitor.is_interrupted() {
        return Err(Error::Interrupted);
    }
    match content_of(repo, document) {
        Ok(content) if ContentId::of(&content) == document.content => Ok(Ok(content)),
        Ok(_) => Ok(Err("its pieces are sound but do not make up its content".to_owned())),
        Err(Error::Repository(error)) if error.is_damage() => Ok(Err(error_text(&error))),
        Err(error) => Err(error),
    }
}

/// Looks at documents as they come from the repository.
struct Looking<'a, T> {
    documents: &'a [&'a Document],
    look: &'a (dyn Fn(usize, &[u8]) -> T + Sync),
    made: &'a [OnceLock<Gathered<T>>],
    current: usize,
    content: Vec<u8>,
}

impl<T> StagingWriter for Looking<'_, T> {
    fn begin(&mut self, n: usize) -> endpoint::Result<()> {
        self.current = n;
        self.content.clear();
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> endpoint::Result<()> {
        self.content.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(&mut self) -> endpoint::Result<()> {
        let document = self.documents[self.current];
        // Of one that was cut, only the pieces were verified.
        if document.pieces.is_empty() || ContentId::of(&self.content) == document.content {
            let _ = self.made[self.current].set(Ok((self.look)(self.current, &self.content)));
        }
        Ok(())
    }
}

/// A monitor to which fetching is another task.
struct Under<'a> {
    monitor: &'a dyn Monitor,
    task: Task,
}

impl Monitor for Under<'_> {
    fn start(&self, _: Task, total: Option<u64>) {
        self.monitor.start(self.task, total);
    }

    fn advance(&self, count: u64) {
        self.monitor.advance(count);
    }

    fn problem(&self, problem: &Problem) {
        self.monitor.problem(problem);
    }

    fn is_interrupted(&self) -> bool {
        self.monitor.is_interrupted()
    }
}
