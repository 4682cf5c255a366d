//! Forgotten snapshots: out of sight, but kept aside, because their references count for a prune until a grace is over.
//!
//! Forgetting writes a *record*, which is the snapshot's bytes under a name that ends with the time, and then removes the
//! snapshot. `docs/format.md` says why in this order, and why a record is never removed when its snapshot is put back.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, SystemTime};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rayon::prelude::*;

use super::format::pack::FrameKind;
use super::index::Index;
use super::snapshot::{FileName, Reference, Snapshot, file_time, may_be_digits};
use super::writer::Began;
use super::{Error, Repository, Result};
use crate::model::hash::{ChunkId, SnapshotId};
use crate::model::scope::Scope;
use crate::storage::{ErrorKind, Object};

/// Folder of the records.
pub const FOLDER: &str = "forgotten";

/// A snapshot that was forgotten and can be put back as long as no prune removes what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgotten {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// When it was forgotten last, in milliseconds since 1970.
    pub forgotten_ms: i64,
}

/// One record of a forgotten snapshot, by its name. A snapshot that was forgotten several times has several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// When the record was written, by the storage's clock.
    pub written: SystemTime,
    name: RecordName,
}

/// The forgotten snapshots of a repository.
#[derive(Debug, Default)]
pub struct ForgottenList {
    /// Those that can be read, in the order of the snapshots' times.
    pub forgotten: Vec<Forgotten>,
    /// What is wrong with the others.
    pub unreadable: Vec<Error>,
}

/// The name of a record: `<name of the snapshot's file>-<UTC time of forgetting>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct RecordName {
    snapshot: FileName,
    forgotten_ms: i64,
}

impl RecordName {
    fn parse(name: &str) -> Option<Self> {
        let (snapshot, time) = name.rsplit_once('-')?;
        let civil = DateTime::strptime("%Y%m%dT%H%M%S.%fZ", time).ok()?;
        let forgotten_ms = civil.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond();
        // Only as it is written: each time has one name.
        (file_time(forgotten_ms) == time).then_some(Self { snapshot: FileName::parse(snapshot)?, forgotten_ms })
    }

    fn object(&self) -> String {
        format!("{FOLDER}/{}-{}", self.snapshot, file_time(self.forgotten_ms))
    }
}

impl Repository {
    /// Takes a snapshot out of sight. Its record stays: [`Repository::unforget`] puts it back. Returns whether it was there.
    ///
    /// # Errors
    /// When the snapshot is damaged, or the storage can't be written.
    pub fn forget(&self, snapshot: &Snapshot) -> Result<bool> {
        // The bytes as they are: they may have fields that this program does not know.
        let file = match self.storage.read(&snapshot.object()) {
            Err(e) if e.kind == ErrorKind::NotFound => return Ok(false),
            result => result?,
        };
        self.decode_snapshot(snapshot.id, &file)?;
        self.replace_by_record(snapshot.file_name(), &file)
    }

    /// Returns the snapshots in sight whose files are damaged.
    ///
    /// # Errors
    /// When the storage can't be read.
    pub fn damaged_snapshots(&self) -> Result<Vec<SnapshotId>> {
        let names = self.snapshot_names()?;
        let damaged = names.par_iter().map(|name| match self.read_snapshot(name) {
            Err(error) if error.is_damage() => Ok(Some(name.id)),
            result => result.map(|_| None),
        });
        Ok(damaged.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// Takes a snapshot whose file is damaged out of sight. Its bytes are kept as they are, as those of one that was
    /// forgotten, until the grace is over. Returns whether it was there.
    ///
    /// # Errors
    /// When the storage can't be read or written.
    pub fn set_aside(&self, id: SnapshotId) -> Result<bool> {
        let Some(snapshot) = self.snapshot_names()?.into_iter().find(|name| name.id == id) else { return Ok(false) };
        let file = match self.storage.read(&snapshot.object()) {
            Err(e) if e.kind == ErrorKind::NotFound => return Ok(false),
            result => result?,
        };
        self.replace_by_record(snapshot, &file)
    }

    /// Writes the record of a snapshot, then removes it. Returns whether it was there.
    fn replace_by_record(&self, snapshot: FileName, file: &[u8]) -> Result<bool> {
        let object = snapshot.object();
        let mut record = RecordName { snapshot, forgotten_ms: self.clock.now_ms() };
        loop {
            match self.storage.put(&record.object(), file) {
                // The age of an older record is not that of this forgetting, so it needs a name of its own.
                Err(e) if e.kind == ErrorKind::Exists => record.forgotten_ms += 1,
                result => break result?,
            }
        }
        match self.storage.remove(&object) {
            // Someone else forgot it at the same time.
            Err(e) if e.kind == ErrorKind::NotFound => Ok(false),
            result => Ok(result.map(|()| true)?),
        }
    }

    /// Returns the forgotten snapshots. One that was put back is none.
    ///
    /// # Errors
    /// When the storage can't be listed.
    pub fn forgotten(&self) -> Result<ForgottenList> {
        let mut list = ForgottenList { unreadable: self.stray_records()?, ..ForgottenList::default() };
        let names = self.record_names()?;
        let read: Vec<_> = names.par_iter().filter_map(|name| self.read_record(name).transpose()).collect();
        for record in read {
            match record {
                Ok(record) => list.forgotten.push(record),
                Err(error) => list.unreadable.push(error),
            }
        }
        Ok(list)
    }

    /// Returns the forgotten snapshot that a label or the first digits of an id name.
    ///
    /// # Errors
    /// When there is none, or when several fit; `latest` names none.
    pub fn find_forgotten(&self, reference: &Reference) -> Result<Forgotten> {
        let mut found = Vec::new();
        if let Reference::Name(name) = reference {
            let all = self.forgotten()?.forgotten;
            let digits = name.to_ascii_lowercase();
            let has_digits = |record: &Forgotten| record.snapshot.id.to_string().starts_with(&digits);
            found.extend(all.iter().filter(|record| may_be_digits(name) && has_digits(record)).cloned());
            if found.is_empty() {
                found.extend(all.into_iter().filter(|record| record.snapshot.manifest.label.as_ref() == Some(name)));
            }
        }
        match <[Forgotten; 1]>::try_from(found) {
            Ok([record]) => Ok(record),
            Err(found) if found.is_empty() => Err(Error::NotForgotten { reference: reference.to_string() }),
            Err(found) => Err(Error::AmbiguousSnapshot {
                reference: reference.to_string(),
                candidates: found.iter().map(|record| record.snapshot.id.short()).collect(),
            }),
        }
    }

    /// Puts a forgotten snapshot back, after a look at whether all it refers to is there and will stay.
    ///
    /// # Errors
    /// [`Error::Fading`] when a prune may remove some of it; damage, when something is missing or can't be read; otherwise
    /// when the storage can't be written.
    pub fn unforget(&self, forgotten: &Forgotten) -> Result<()> {
        let Forgotten { snapshot, forgotten_ms } = forgotten;
        let began = Began::now(&self.clock);
        let name = RecordName { snapshot: snapshot.file_name(), forgotten_ms: *forgotten_ms };
        let file = self.storage.read(&name.object())?;
        self.decode_snapshot(snapshot.id, &file)?;
        // Whatever was known of packs and marks may have changed since.
        self.refresh();
        self.require_lasting(snapshot)?;
        if began.elapsed() >= Duration::from_secs(self.config().grace_secs) / 2 {
            return Err(Error::Outrun);
        }
        match self.storage.put(&snapshot.object(), &file) {
            Err(e) if e.kind == ErrorKind::Exists => Ok(()),
            result => Ok(result?),
        }
    }

    /// Checks that every chunk of a snapshot is in a pack that no prune has marked.
    fn require_lasting(&self, snapshot: &Snapshot) -> Result<()> {
        let index = self.index()?;
        let lasts = |kind, chunk: &ChunkId| lasts(&index, kind, chunk, snapshot);
        let archive = snapshot.manifest.archive.iter().flat_map(|archive| &archive.chunks);
        archive.into_iter().try_for_each(|chunk| lasts(FrameKind::Documents, chunk))?;
        let tree = self.tree(&snapshot.manifest.tree)?;
        lasts(FrameKind::Trees, &tree.id)?;
        for run in &tree.runs {
            lasts(FrameKind::Trees, &run.id)?;
            run.leaves.iter().try_for_each(|leaf| lasts(FrameKind::Trees, &leaf.id))?;
        }
        for entry in self.entries(&tree, &Scope::System) {
            let entry = entry?;
            let Some(document) = entry.document() else { continue };
            document.chunks().try_for_each(|chunk| lasts(FrameKind::Documents, &chunk))?;
        }
        // What is gone of the log already costs no document, and is no reason to keep these away.
        let archive = snapshot.manifest.archive.iter().flat_map(|archive| &archive.chunks);
        let mut left = archive.filter(|chunk| index.locate(FrameKind::Documents, chunk).next().is_some());
        left.try_for_each(|chunk| lasts(FrameKind::Documents, chunk))
    }

    /// Returns all records, also of snapshots that were put back.
    ///
    /// # Errors
    /// When the storage can't be listed, or when a file among them has a name that is not that of a record.
    pub fn forgotten_records(&self) -> Result<Vec<Record>> {
        if let Some(stray) = self.stray_records()?.into_iter().next() {
            return Err(stray);
        }
        let record = |object: &Object| {
            let name = RecordName::parse(&object.name)?;
            Some(Record { snapshot: name.snapshot.id, written: object.modified, name })
        };
        Ok(self.storage.list(FOLDER)?.iter().filter_map(record).collect())
    }

    /// Returns the snapshot that a record is of; nothing if the record was removed since it was listed.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn snapshot_of(&self, record: &Record) -> Result<Option<Snapshot>> {
        Ok(self.read_record(&record.name)?.map(|forgotten| forgotten.snapshot))
    }

    /// Removes a record: its snapshot can't be put back any more. Returns whether it was there.
    ///
    /// # Errors
    /// When the storage can't be written.
    pub fn remove_record(&self, record: &Record) -> Result<bool> {
        self.remove_if_there(&record.name.object())
    }

    /// Returns a complaint about each file among the records whose name is not that of one.
    ///
    /// # Errors
    /// When the storage can't be listed.
    pub fn stray_records(&self) -> Result<Vec<Error>> {
        let strays = self.storage.names(FOLDER)?.into_iter().filter(|name| RecordName::parse(name).is_none());
        let complaint = |name: String| Error::Damaged {
            object: format!("{FOLDER}/{name}"),
            what: "its name is not that of a forgotten snapshot; if it is not yours, move it out of the repository"
                .to_owned(),
        };
        Ok(strays.map(complaint).collect())
    }

    /// Returns the newest record of each snapshot that is not in sight.
    fn record_names(&self) -> Result<Vec<RecordName>> {
        // Snapshots first: one that is forgotten in between is in the second list.
        let seen: HashSet<SnapshotId> = self.snapshot_names()?.into_iter().map(|name| name.id).collect();
        let names = self.storage.names(FOLDER)?;
        let mut newest: BTreeMap<FileName, i64> = BTreeMap::new();
        for name in names.iter().filter_map(|name| RecordName::parse(name)) {
            if !seen.contains(&name.snapshot.id) {
                let time = newest.entry(name.snapshot).or_insert(name.forgotten_ms);
                *time = name.forgotten_ms.max(*time);
            }
        }
        Ok(newest.into_iter().map(|(snapshot, forgotten_ms)| RecordName { snapshot, forgotten_ms }).collect())
    }

    /// Returns nothing for a record that was removed since it was listed.
    fn read_record(&self, name: &RecordName) -> Result<Option<Forgotten>> {
        let file = match self.storage.read(&name.object()) {
            Err(e) if e.kind == ErrorKind::NotFound => return Ok(None),
            result => result?,
        };
        let snapshot = self.decode_snapshot(name.snapshot.id, &file)?;
        Ok(Some(Forgotten { snapshot, forgotten_ms: name.forgotten_ms }))
    }
}

fn lasts(index: &Index, kind: FrameKind, chunk: &ChunkId, snapshot: &Snapshot) -> Result<()> {
    let mut places = index.locate(kind, chunk).peekable();
    if places.peek().is_none() {
        return Err(Error::MissingChunk { chunk: *chunk });
    }
    if places.all(|place| index.pack(&place).is_marked) {
        return Err(Error::Fading { snapshot: snapshot.id.short() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_when_a_snapshot_was_taken_and_forgotten() {
        let snapshot = FileName { time: file_time(1_700_000_000_123), id: SnapshotId::of(b"x") };
        let name = RecordName { snapshot: snapshot.clone(), forgotten_ms: 1_700_000_060_007 };
        let object = name.object();
        assert_eq!(object, format!("forgotten/{snapshot}-20231114T221420.007Z"));
        assert_eq!(RecordName::parse(&object[FOLDER.len() + 1..]), Some(name));
    }

    #[test]
    fn other_names_are_none_of_records() {
        let snapshot = FileName { time: file_time(0), id: SnapshotId::of(b"x") };
        for bad in
            ["", "x", "20231114T221420Z", "20231114T221420.7Z", "20231314T221420.007Z", "20231114T221420.007Z.bak"]
        {
            assert_eq!(RecordName::parse(&format!("{snapshot}-{bad}")), None, "{bad}");
        }
        assert_eq!(RecordName::parse("x-20231114T221420.007Z"), None);
        assert_eq!(RecordName::parse(&snapshot.to_string()), None);
    }
}
