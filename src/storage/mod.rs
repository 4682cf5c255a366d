//! Bytes by name: where a repository lives.

pub mod local;
pub mod memory;

use std::fmt;
use std::time::SystemTime;

/// What kind of failure a storage met, as far as a caller would act differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is no object of that name.
    NotFound,
    /// There is one already.
    Exists,
    /// Not permitted, or the storage is read-only.
    Denied,
    /// No space or quota left.
    Full,
    /// Anything else.
    Other,
}

/// A storage operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {object}")]
pub struct Error {
    /// What kind of failure it was.
    pub kind: ErrorKind,
    /// What was attempted, as a verb.
    pub action: &'static str,
    /// The object or place it was attempted on.
    pub object: String,
    /// The cause.
    #[source]
    pub source: std::io::Error,
}

impl Error {
    /// Wraps an I/O error.
    pub fn new(action: &'static str, object: impl fmt::Display, source: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match source.kind() {
            Io::NotFound => ErrorKind::NotFound,
            Io::AlreadyExists => ErrorKind::Exists,
            Io::PermissionDenied | Io::ReadOnlyFilesystem => ErrorKind::Denied,
            Io::StorageFull | Io::QuotaExceeded => ErrorKind::Full,
            _ => ErrorKind::Other,
        };
        Self { kind, action, object: object.to_string(), source }
    }
}

/// The result of a storage operation.
pub type Result<T> = std::result::Result<T, Error>;

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its name within the folder that was listed.
    pub name: String,
    /// Its length in bytes.
    pub size_bytes: u64,
    /// When it was finished, by the storage's clock: not when it was begun, nor when it was written.
    pub modified: SystemTime,
}

/// Objects by name. Names are `folder/name` or `name`; folders need no making.
///
/// Contract, tried on every storage by one conformance test:
/// - An object appears under its name whole or not at all, and is durable when [`Storage::put`] or [`NewObject::finish`]
///   returns. Objects that finished in one order become durable in that order.
/// - A name is written once: a second write fails with [`ErrorKind::Exists`] and changes nothing.
/// - [`Storage::list`] is unordered and holds every object that was finished before it began and not removed since.
///   Listing a folder that nothing was ever put into gives an empty list.
/// - [`Object::modified`] and [`Storage::now`] are of one clock: an object's age is what lies between them. An object can be
///   seen at once when it is of age zero, or not much later: what a prune may delete depends on it.
/// - All calls may run at once, from several threads and processes.
pub trait Storage: Send + Sync + fmt::Debug {
    /// Returns where this is, as a user would write it.
    fn location(&self) -> String;

    /// Begins an object whose name is known only when all of it is written.
    fn create(&self) -> Result<Box<dyn NewObject + '_>>;

    /// Returns the whole object.
    fn read(&self, name: &str) -> Result<Vec<u8>>;

    /// Returns `length` bytes from `offset` on; fewer is an error.
    fn read_range(&self, name: &str, offset: u64, length: usize) -> Result<Vec<u8>>;

    /// Returns the objects directly in `folder`.
    fn list(&self, folder: &str) -> Result<Vec<Object>>;

    /// Returns the names of the objects directly in `folder`, as [`Storage::list`] does: for when nothing else is asked for,
    /// which a file system can tell in a fraction of the time.
    fn names(&self, folder: &str) -> Result<Vec<String>> {
        Ok(self.list(folder)?.into_iter().map(|object| object.name).collect())
    }

    /// Removes an object. It stays removed when the call returns.
    fn remove(&self, name: &str) -> Result<()>;

    /// Returns the time by the clock that [`Object::modified`] is of. It may be behind by as long as the call takes.
    fn now(&self) -> Result<SystemTime>;

    /// Makes all objects in `folder` durable that can be seen there now, and those in no folder: also such as someone else
    /// was stopped at putting there, in the middle of [`NewObject::finish`]. With an empty name, also the place where all
    /// this is. Where what can be seen is durable, nothing is to be done.
    fn settle(&self, folder: &str) -> Result<()> {
        let _ = folder;
        Ok(())
    }

    /// Writes a whole object.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut object = self.create()?;
        object.write(bytes)?;
        object.finish(name)
    }
}

/// An object being written. Dropped before [`NewObject::finish`], it leaves nothing under any name.
pub trait NewObject: Send {
    /// Appends bytes.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Gives the object its name.
    fn finish(self: Box<Self>, name: &str) -> Result<()>;
}
