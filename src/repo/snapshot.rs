//! Snapshots: what they say, how they are named, and how a user's words find one.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rayon::prelude::*;

use super::format;
use super::{Error, Repository, Result};
use crate::model::hash::{ChunkId, Root, SnapshotId};
use crate::model::log::{LogPosition, Replayed};
use crate::model::path::EntryPath;
use crate::model::scope::Scope;
use crate::storage::ErrorKind;

/// Folder of the snapshots.
pub const FOLDER: &str = "snapshots";

/// Why a snapshot was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Someone asked for a backup.
    Backup,
    /// A restore of this snapshot was about to change the store.
    CheckpointBefore(SnapshotId),
    /// Someone asked for a moment between two snapshots: it was made of the one before, its parent, and what the store's log
    /// says has changed since. No store was looked at.
    Replayed(Replayed),
}

/// What a backup found, in documents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Not in the parent snapshot.
    pub new: u64,
    /// Other content than in the parent snapshot.
    pub changed: u64,
    /// In the parent snapshot only.
    pub removed: u64,
    /// Could not be read, so they are missing: the snapshot is incomplete.
    pub unread: u64,
    /// Not documents (symlinks, sockets …), so they are not in the snapshot.
    pub skipped: u64,
}

/// What a snapshot says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// When it was taken, in milliseconds since 1970.
    pub time_ms: i64,
    /// When the listing of the store began, in milliseconds since 1970.
    pub scan_ms: i64,
    /// The machine that took it.
    pub host: String,
    /// The user who took it.
    pub user: String,
    /// Name and version of the program that took it.
    pub program: String,
    /// The store it was taken of.
    pub store: String,
    /// The layout the store was read in: how the names of its documents became paths.
    pub layout: String,
    /// How much of the store it holds.
    pub scope: Scope,
    /// The snapshot it was compared with.
    pub parent: Option<SnapshotId>,
    /// A name given by the user, unique in the repository.
    pub label: Option<String>,
    /// Keys and values given by the user.
    pub tags: BTreeMap<String, String>,
    /// Why it was taken.
    pub reason: Reason,
    /// The tree of its entries.
    pub tree: ChunkId,
    /// The content root of its documents.
    pub root: Root,
    /// How many documents it holds.
    pub documents: u64,
    /// The sum of their sizes.
    pub bytes: u64,
    /// What changed since the parent.
    pub counts: Counts,
    /// Where in the store's own log of changes it was taken, if the store has one.
    pub position: Option<LogPosition>,
    /// The records of that log since the parent.
    pub archive: Option<LogArchive>,
    /// Up to where contents were verified that seemed unchanged; nothing if the next backup begins at the beginning.
    pub verified: Option<EntryPath>,
}

/// Records of a store's log of changes that a snapshot keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogArchive {
    /// They come after the record with this id, but for some that came late.
    pub after: u64,
    /// The last of them, or the same if there is none.
    pub last: u64,
    /// Whether none is missing between them and those of the parent.
    pub is_complete: bool,
    /// The chunks that hold them, in order.
    pub chunks: Vec<ChunkId>,
}

/// A snapshot that is in the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name.
    pub id: SnapshotId,
    /// What it says.
    pub manifest: Manifest,
}

/// The snapshots of a repository.
#[derive(Debug, Default)]
pub struct SnapshotList {
    /// Those that can be read, oldest first.
    pub snapshots: Vec<Snapshot>,
    /// What is wrong with the others.
    pub unreadable: Vec<Error>,
}

impl Snapshot {
    /// Returns the name of the snapshot's file.
    pub(super) fn object(&self) -> String {
        format!("{FOLDER}/{}", self.file_name())
    }

    /// Returns the name of the snapshot's file within its folder.
    pub(super) fn file_name(&self) -> FileName {
        FileName { time: file_time(self.manifest.time_ms), id: self.id }
    }
}

impl Manifest {
    /// Tells whether some document of the store is missing because it could not be read.
    pub fn is_incomplete(&self) -> bool {
        self.counts.unread > 0
    }

    /// Tells whether it was taken because someone asked for a backup.
    pub fn is_backup(&self) -> bool {
        self.reason == Reason::Backup
    }

    /// Tells whether it was taken before a restore.
    pub fn is_checkpoint(&self) -> bool {
        matches!(self.reason, Reason::CheckpointBefore(_))
    }

    /// Tells whether it was taken of the store itself, and not made of what other snapshots say.
    pub fn is_taken(&self) -> bool {
        !matches!(self.reason, Reason::Replayed(_))
    }
}

/// The name of a snapshot's file: `<UTC time>-<id>`, so that a plain listing tells the newest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileName {
    pub(super) time: String,
    pub(super) id: SnapshotId,
}

impl FileName {
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (time, id) = name.split_once('-')?;
        Some(Self { time: time.to_owned(), id: id.parse().ok()? })
    }

    pub(super) fn object(&self) -> String {
        format!("{FOLDER}/{self}")
    }
}

impl std::fmt::Display for FileName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.time, self.id)
    }
}

pub(super) fn file_time(time_ms: i64) -> String {
    let time = Timestamp::from_millisecond(time_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    time.strftime("%Y%m%dT%H%M%S.%3fZ").to_string()
}

/// Tells whether a word may be the first digits of an id. Shorter ones would take words that are meant as labels.
pub(super) fn may_be_digits(word: &str) -> bool {
    const DIGITS_MIN: usize = 4;
    word.len() >= DIGITS_MIN && word.bytes().all(|digit| digit.is_ascii_hexdigit())
}

/// How a user names a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// `latest` or `latest~N`: the newest, or the N-th before it.
    Latest(usize),
    /// A label, or the first digits of an id.
    Name(String),
}

impl std::str::FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.strip_prefix("latest") {
            Some("") => Ok(Self::Latest(0)),
            Some(rest) if rest.starts_with('~') => match rest[1..].parse() {
                Ok(back) => Ok(Self::Latest(back)),
                Err(_) => Err(format!("`{text}`: a number is expected after `latest~`")),
            },
            _ if text.is_empty() => Err("a snapshot cannot be named by an empty text".to_owned()),
            _ => Ok(Self::Name(text.to_owned())),
        }
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Latest(0) => f.write_str("latest"),
            Self::Latest(back) => write!(f, "latest~{back}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl Repository {
    /// Returns all snapshots, oldest first, and apart from them what is wrong with those that can't be read: one damaged
    /// file must not hide the others.
    ///
    /// # Errors
    /// When the storage can't be listed.
    pub fn snapshots(&self) -> Result<SnapshotList> {
        let (names, strays) = self.snapshot_files()?;
        let read: Vec<_> = names.par_iter().filter_map(|name| self.read_snapshot(name).transpose()).collect();
        let mut list = SnapshotList { snapshots: Vec::with_capacity(read.len()), unreadable: strays };
        for snapshot in read {
            match snapshot {
                Ok(snapshot) => list.snapshots.push(snapshot),
                Err(error) => list.unreadable.push(error),
            }
        }
        Ok(list)
    }

    /// Walks the snapshots from the newest to the oldest, reading each only when it is asked for.
    ///
    /// # Errors
    /// When the storage can't be listed; each item, when that snapshot can't be read.
    pub fn newest_snapshots(&self) -> Result<impl Iterator<Item = Result<Snapshot>> + '_> {
        let names = self.snapshot_names()?;
        Ok(names.into_iter().rev().filter_map(|name| self.read_snapshot(&name).transpose()))
    }

    /// Returns the snapshot that `reference` names; `latest` looks among those that `fit`.
    ///
    /// # Errors
    /// When there is none, or when a label or the first digits of an id fit several.
    pub fn find_snapshot(&self, reference: &Reference, fits: impl Fn(&Manifest) -> bool) -> Result<Snapshot> {
        let unknown = || Error::UnknownSnapshot { reference: reference.to_string() };
        match reference {
            Reference::Latest(back) => {
                // A damaged one ends the search: an older snapshot is not what `latest` asks for.
                let fitting = self.newest_snapshots()?.filter(|found| match found {
                    Ok(snapshot) => fits(&snapshot.manifest),
                    Err(_) => true,
                });
                let mut older = fitting.skip(*back);
                older.next().unwrap_or_else(|| Err(unknown()))
            }
            Reference::Name(name) => {
                let by_id = self.snapshots_by_digits(name)?;
                let found = if by_id.is_empty() { self.snapshots_by_label(name)? } else { by_id };
                match <[Snapshot; 1]>::try_from(found) {
                    Ok([snapshot]) => Ok(snapshot),
                    Err(found) if found.is_empty() => Err(unknown()),
                    Err(found) => Err(Error::AmbiguousSnapshot {
                        reference: name.clone(),
                        candidates: found.iter().map(|snapshot| snapshot.id.short()).collect(),
                    }),
                }
            }
        }
    }

    /// Returns the snapshots with this label. There is one at most, unless two writers chose it at the same time.
    ///
    /// # Errors
    /// As [`Repository::snapshots`].
    pub fn snapshots_by_label(&self, label: &str) -> Result<Vec<Snapshot>> {
        let mut found = self.snapshots()?.snapshots;
        found.retain(|snapshot| snapshot.manifest.label.as_deref() == Some(label));
        Ok(found)
    }

    fn snapshots_by_digits(&self, digits: &str) -> Result<Vec<Snapshot>> {
        if !may_be_digits(digits) {
            return Ok(Vec::new());
        }
        let digits = digits.to_ascii_lowercase();
        let names = self.snapshot_names()?;
        let fitting = names.iter().filter(|name| name.id.to_string().starts_with(&digits));
        fitting.filter_map(|name| self.read_snapshot(name).transpose()).collect()
    }

    /// Writes a snapshot: the commit. Everything it refers to can be seen, and is made durable first: a pack that is relied
    /// on may be of a writer that was stopped before it was.
    pub(super) fn put_snapshot(&self, manifest: Manifest) -> Result<Snapshot> {
        self.settle_packs()?;
        let file = format::snapshot::encode(&manifest, &self.codec);
        let name = FileName { time: file_time(manifest.time_ms), id: SnapshotId::of(&file) };
        self.put_snapshot_file(&name, &file)?;
        Ok(Snapshot { id: name.id, manifest })
    }

    /// Writes the file of a snapshot. All that it refers to is durable.
    pub(super) fn put_snapshot_file(&self, name: &FileName, file: &[u8]) -> Result<()> {
        match self.storage.put(&name.object(), file) {
            // The same bytes under the name of their hash: this very snapshot is there already.
            Err(e) if e.kind == ErrorKind::Exists => self.settle_snapshots(),
            result => Ok(result?),
        }
    }

    /// Makes all snapshots that can be seen durable: who put one may have been stopped before it was.
    ///
    /// # Errors
    /// When the storage can't be written.
    pub fn settle_snapshots(&self) -> Result<()> {
        Ok(self.storage.settle(FOLDER)?)
    }

    pub(super) fn snapshot_names(&self) -> Result<Vec<FileName>> {
        Ok(self.snapshot_files()?.0)
    }

    /// Returns the names of the snapshots, oldest first, and a complaint about each other file among them.
    fn snapshot_files(&self) -> Result<(Vec<FileName>, Vec<Error>)> {
        let (mut names, mut strays) = (Vec::new(), Vec::new());
        for name in self.storage.names(FOLDER)? {
            match FileName::parse(&name) {
                Some(name) => names.push(name),
                None => strays.push(Error::Damaged {
                    object: format!("{FOLDER}/{name}"),
                    what: "its name is not that of a snapshot; if it is not yours, move it out of the repository"
                        .to_owned(),
                }),
            }
        }
        names.sort_unstable();
        Ok((names, strays))
    }

    /// Returns nothing for a snapshot that was removed since it was listed.
    pub(super) fn read_snapshot(&self, name: &FileName) -> Result<Option<Snapshot>> {
        let file = match self.storage.read(&name.object()) {
            Err(e) if e.kind == ErrorKind::NotFound => return Ok(None),
            result => result?,
        };
        Ok(Some(self.decode_snapshot(name.id, &file)?))
    }

    /// Reads the bytes of a snapshot, and verifies them.
    pub(super) fn decode_snapshot(&self, id: SnapshotId, file: &[u8]) -> Result<Snapshot> {
        // The hash goes first: a flipped bit must not pass for a newer format.
        let manifest = format::snapshot::decode(file, &self.codec);
        if SnapshotId::of(file) != id {
            let what = "its bytes do not match its name".to_owned();
            return Err(Error::Damaged { object: format!("snapshot {id}"), what });
        }
        let manifest = manifest.map_err(|e| Error::from_format(format!("snapshot {id}"), e))?;
        Ok(Snapshot { id, manifest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_parse() {
        assert_eq!("latest".parse(), Ok(Reference::Latest(0)));
        assert_eq!("latest~12".parse(), Ok(Reference::Latest(12)));
        assert_eq!("latest-good".parse(), Ok(Reference::Name("latest-good".to_owned())));
        assert!("latest~x".parse::<Reference>().is_err());
        assert!("".parse::<Reference>().is_err());
    }

    #[test]
    fn digits_of_an_id_are_told_from_labels() {
        for digits in ["0123", "ABCdef", &SnapshotId::of(b"x").to_string()] {
            assert!(may_be_digits(digits), "{digits}");
        }
        for label in ["", "bad", "12", "before-upgrade", "good", "12345g"] {
            assert!(!may_be_digits(label), "{label}");
        }
    }

    #[test]
    fn file_name_sorts_by_time() {
        assert_eq!(file_time(1_700_000_000_123), "20231114T221320.123Z");
        let id = SnapshotId::of(b"x");
        let name = FileName { time: file_time(0), id };
        assert_eq!(FileName::parse(&name.object()[FOLDER.len() + 1..]), Some(name));
        assert_eq!(FileName::parse("not a snapshot"), None);
    }
}
