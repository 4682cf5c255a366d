//! Where documents go: files below one directory, counted.

use std::collections::HashSet;
use std::fs::{File, create_dir_all};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::Layout;
use super::old::write_old;

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// How many documents.
    pub documents: u64,
    /// The bytes of their contents.
    pub bytes: u64,
}

impl Written {
    /// Returns the sum of both.
    pub fn plus(self, other: Self) -> Self {
        Self { documents: self.documents + other.documents, bytes: self.bytes + other.bytes }
    }
}

/// Writes documents until a number of them is reached, and silently none after that.
pub struct Tree<'a> {
    root: &'a Path,
    made: HashSet<&'static str>,
    left: u64,
    written: Written,
    /// What is to be put together, in the old layout.
    held: Option<Vec<Held>>,
}

/// A document that is not written yet.
pub struct Held {
    pub kind: &'static str,
    pub key: String,
    pub modified: u64,
    pub content: String,
}

impl<'a> Tree<'a> {
    /// Returns a writer of at most `limit` documents below `root`.
    pub fn new(root: &'a Path, limit: u64, layout: Layout) -> Self {
        let held = (layout == Layout::Old).then(Vec::new);
        Self { root, made: HashSet::new(), left: limit, written: Written::default(), held }
    }

    /// Writes a document unless the limit is reached.
    pub fn put(&mut self, kind: &'static str, key: &str, modified: u64, content: &str) -> io::Result<()> {
        if self.left == 0 {
            return Ok(());
        }
        if let Some(held) = &mut self.held {
            held.push(Held { kind, key: key.to_owned(), modified, content: content.to_owned() });
            self.left -= 1;
            return Ok(());
        }
        if self.made.insert(kind) {
            create_dir_all(self.root.join(kind))?;
        }
        write(&path(self.root, kind, key), modified, content)?;
        self.left -= 1;
        self.written.documents += 1;
        self.written.bytes += content.len() as u64;
        Ok(())
    }

    /// Returns how many more documents will be written.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Returns what was written.
    pub fn finish(self) -> io::Result<Written> {
        match self.held {
            Some(held) => write_old(self.root, held),
            None => Ok(self.written),
        }
    }
}

/// Returns the file of a document.
pub fn path(root: &Path, kind: &str, key: &str) -> PathBuf {
    root.join(kind).join(format!("{key}.json"))
}

/// Writes a file and gives it the time of its document, as Kylin's backups do.
pub fn write(path: &Path, modified: u64, content: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content.as_bytes())?;
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_millis(modified))
}
