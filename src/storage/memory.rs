//! Objects in memory, and faults on demand: for tests.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::{Error, ErrorKind, NewObject, Object, Result, Storage};
use crate::model::clock::Clock;

/// Counts of the calls made to a [`MemoryStorage`].
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Calls {
    /// Objects finished.
    pub puts: u64,
    /// Whole or partial reads.
    pub reads: u64,
    /// Listings.
    pub lists: u64,
    /// Removals.
    pub removes: u64,
}

/// Objects in memory; stricter than a real storage: lists come in an order that means nothing, and from a chosen write
/// on, everything that writes can be made to fail. Clones share their objects.
#[derive(Debug, Default, Clone)]
pub struct MemoryStorage {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    objects: Mutex<BTreeMap<String, (Vec<u8>, SystemTime)>>,
    clock: Clock,
    calls: Mutex<Calls>,
    /// Writes that may still succeed, plus one; 0 means no limit.
    writes_left: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryStorage {
    /// Returns an empty storage.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `count` more writes and removals succeed; all later ones fail as if the power had gone.
    pub fn stop_after(&self, count: u64) {
        self.shared.writes_left.store(count + 1, Ordering::SeqCst);
    }

    /// Lets everything succeed again.
    pub fn go_on(&self) {
        self.shared.writes_left.store(0, Ordering::SeqCst);
    }

    /// Returns a storage of its own that holds the same objects, as old as they are, with a clock of its own.
    #[must_use]
    pub fn fork(&self) -> Self {
        let clock = Clock::default();
        clock.pass(self.shared.clock.ahead());
        let objects = Mutex::new(lock(&self.shared.objects).clone());
        Self { shared: Arc::new(Shared { objects, clock, ..Shared::default() }) }
    }

    /// Returns the clock that the ages of objects are measured with.
    pub fn clock(&self) -> Clock {
        self.shared.clock.clone()
    }

    /// Returns the calls made so far.
    pub fn calls(&self) -> Calls {
        *lock(&self.shared.calls)
    }

    /// Returns all names, sorted.
    pub fn names(&self) -> Vec<String> {
        lock(&self.shared.objects).keys().cloned().collect()
    }

    /// Changes the bytes of an object behind everybody's back.
    ///
    /// # Panics
    /// When there is no such object.
    pub fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut lock(&self.shared.objects).get_mut(name).expect("the object to damage exists").0);
    }

    fn allow_write(&self, name: &str) -> Result<()> {
        let left = self.shared.writes_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| match left {
            0 => Some(0),
            1 => None,
            left => Some(left - 1),
        });
        match left {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::new("write", name, io::Error::other("stopped by the test"))),
        }
    }
}

impl Storage for MemoryStorage {
    fn location(&self) -> String {
        "memory:".to_owned()
    }

    fn create(&self) -> Result<Box<dyn NewObject + '_>> {
        Ok(Box::new(NewBytes { storage: self, bytes: Vec::new() }))
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        lock(&self.shared.calls).reads += 1;
        let objects = lock(&self.shared.objects);
        objects
            .get(name)
            .map(|(bytes, _)| bytes.clone())
            .ok_or_else(|| Error::new("read", name, io::ErrorKind::NotFound.into()))
    }

    fn read_range(&self, name: &str, offset: u64, length: usize) -> Result<Vec<u8>> {
        let bytes = self.read(name)?;
        let start = usize::try_from(offset).ok();
        let range = start.and_then(|start| bytes.get(start..start.checked_add(length)?));
        range.map(<[u8]>::to_vec).ok_or_else(|| Error::new("read", name, io::ErrorKind::UnexpectedEof.into()))
    }

    fn list(&self, folder: &str) -> Result<Vec<Object>> {
        lock(&self.shared.calls).lists += 1;
        let prefix = format!("{folder}/");
        let objects = lock(&self.shared.objects);
        let found = objects.iter().filter_map(|(name, (bytes, modified))| {
            let name = name.strip_prefix(&prefix)?.to_owned();
            Some(Object { name, size_bytes: bytes.len() as u64, modified: *modified })
        });
        // Backwards: nobody may count on the order.
        Ok(found.rev().collect())
    }

    fn now(&self) -> Result<SystemTime> {
        Ok(self.shared.clock.now())
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.allow_write(name)?;
        lock(&self.shared.calls).removes += 1;
        match lock(&self.shared.objects).remove(name) {
            Some(_) => Ok(()),
            None => Err(Error::new("remove", name, io::ErrorKind::NotFound.into())),
        }
    }
}

struct NewBytes<'a> {
    storage: &'a MemoryStorage,
    bytes: Vec<u8>,
}

impl NewObject for NewBytes<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>, name: &str) -> Result<()> {
        self.storage.allow_write(name)?;
        let mut objects = lock(&self.storage.shared.objects);
        if objects.contains_key(name) {
            let source = io::Error::from(io::ErrorKind::AlreadyExists);
            return Err(Error { kind: ErrorKind::Exists, action: "write", object: name.to_owned(), source });
        }
        objects.insert(name.to_owned(), (self.bytes, self.storage.shared.clock.now()));
        lock(&self.storage.shared.calls).puts += 1;
        Ok(())
    }
}
