//! The repository: chunks in packs, an index to find them, trees, and snapshots.
//!
//! `docs/format.md` says what lies where and why no crash, and no other writer, can hurt a snapshot.

pub mod chunks;
pub mod codec;
pub mod config;
pub mod copy;
pub mod cut;
pub mod forgotten;
pub mod format;
pub mod index;
pub mod losses;
pub mod marks;
pub mod packer;
pub mod references;
mod refill;
pub mod removal;
pub mod repack;
pub mod segments;
pub mod snapshot;
mod sound;
pub mod tree;
pub mod verify;
pub mod writer;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::model::clock::Clock;
use crate::model::hash::ChunkId;
use crate::storage::{self, ErrorKind, Storage};

use chunks::FrameCache;
use codec::Codec;
use config::Config;
use format::FormatError;
use index::Index;
use sound::SoundFrames;

/// The zstd level of everything that is stored: the ratio of `docs/design.md` at the speed of the disk.
pub const COMPRESSION_LEVEL: i32 = 3;

/// What went wrong with a repository.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no repository at this place.
    #[error("{location} is not a metastash repository")]
    NotARepository {
        /// Where it was looked for.
        location: String,
    },
    /// There is one already.
    #[error("{location} already holds a repository")]
    AlreadyARepository {
        /// Where it is.
        location: String,
    },
    /// A newer metastash wrote something here that this one can't read.
    #[error("{object} was written by a newer metastash: {what}")]
    TooNew {
        /// What is too new.
        object: String,
        /// What it needs.
        what: String,
    },
    /// Stored bytes are not what was stored.
    #[error("{object} is damaged: {what}")]
    Damaged {
        /// What is damaged.
        object: String,
        /// In which way.
        what: String,
    },
    /// No pack holds this chunk.
    #[error("chunk {chunk} is in no pack")]
    MissingChunk {
        /// The chunk.
        chunk: ChunkId,
    },
    /// No snapshot fits these words.
    #[error("there is no snapshot `{reference}`")]
    UnknownSnapshot {
        /// The user's words.
        reference: String,
    },
    /// Several snapshots fit these words.
    #[error("`{reference}` may mean any of the snapshots {}", candidates.join(", "))]
    AmbiguousSnapshot {
        /// The user's words.
        reference: String,
        /// The ids that fit.
        candidates: Vec<String>,
    },
    /// Something exceeds what the format can hold.
    #[error("{what}, more than the format can hold")]
    TooLarge {
        /// What it is.
        what: String,
    },
    /// A backup took so long that a prune may have run all through it.
    #[error("packs this backup relies on were marked for removal while it ran, or its parent was forgotten")]
    Outrun,
    /// No forgotten snapshot fits these words.
    #[error("there is no forgotten snapshot `{reference}`")]
    NotForgotten {
        /// The user's words.
        reference: String,
    },
    /// What a forgotten snapshot holds may be removed by a prune at any time.
    #[error("snapshot {snapshot} cannot be put back: packs it relies on are marked for removal")]
    Fading {
        /// The short id of the snapshot.
        snapshot: String,
    },
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl Error {
    fn from_format(object: impl Into<String>, error: FormatError) -> Self {
        let object = object.into();
        match error {
            FormatError::Malformed(what) => Self::Damaged { object, what },
            FormatError::TooNew(what) => Self::TooNew { object, what },
        }
    }

    /// Tells whether stored bytes are missing or wrong, rather than out of reach.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::MissingChunk { .. })
    }
}

/// The result of a repository operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Tells whether there are packs or snapshots here, so that a `config` which is not ours is a damaged one.
fn is_repository(storage: &dyn Storage) -> Result<bool> {
    Ok(!storage.names(index::PACKS)?.is_empty() || !storage.names(snapshot::FOLDER)?.is_empty())
}

/// An open repository. Shared by threads; any number of processes may have it open, writing or not.
#[derive(Debug)]
pub struct Repository {
    storage: Arc<dyn Storage>,
    planned: Config,
    /// Not set as long as the repository is still to be created.
    created: OnceLock<Config>,
    codec: Codec,
    index: Mutex<Option<Arc<Index>>>,
    frames: FrameCache,
    sound: SoundFrames,
    clock: Clock,
}

impl Repository {
    /// Creates a repository in an empty storage.
    ///
    /// # Errors
    /// [`Error::AlreadyARepository`] when there is one.
    pub fn create(storage: Arc<dyn Storage>, config: Config) -> Result<Self> {
        let repo = Self::create_when_needed(storage, config);
        if repo.write_config()? { Ok(repo) } else { Err(Error::AlreadyARepository { location: repo.location() }) }
    }

    /// Returns an empty repository that is created when something is first written to it. Until then it leaves no trace:
    /// a backup that finds nothing to back up makes no repository.
    pub fn create_when_needed(storage: Arc<dyn Storage>, config: Config) -> Self {
        Self::new(storage, Codec::new(COMPRESSION_LEVEL), config)
    }

    /// Creates the repository if that is still to be done. Every write comes after this. When someone else has created it
    /// meanwhile, theirs is used.
    fn ensure_created(&self) -> Result<()> {
        if self.created.get().is_some() || self.write_config()? {
            return Ok(());
        }
        let theirs = Self::open(Arc::clone(&self.storage))?;
        let _ = self.created.set(theirs.config().clone());
        self.forget_index();
        Ok(())
    }

    /// Tells whether the configuration was written: not so when there is one already.
    fn write_config(&self) -> Result<bool> {
        // The folders above may be there because someone was stopped who had just begun with this.
        self.storage.settle("")?;
        match self.storage.put(format::config::NAME, &format::config::encode(&self.planned, &self.codec)) {
            Err(e) if e.kind == ErrorKind::Exists => Ok(false),
            result => {
                result?;
                let _ = self.created.set(self.planned.clone());
                Ok(true)
            }
        }
    }

    /// Opens the repository in a storage.
    ///
    /// # Errors
    /// [`Error::NotARepository`] when there is none; [`Error::TooNew`] when this program is too old for it.
    pub fn open(storage: Arc<dyn Storage>) -> Result<Self> {
        let codec = Codec::new(COMPRESSION_LEVEL);
        let file = match storage.read(format::config::NAME) {
            Err(e) if e.kind == ErrorKind::NotFound && is_repository(&*storage)? => {
                let object = format!("the configuration of {}", storage.location());
                return Err(Error::Damaged {
                    object,
                    what: "it is missing, though there are packs or snapshots".to_owned(),
                });
            }
            Err(e) if e.kind == ErrorKind::NotFound => {
                return Err(Error::NotARepository { location: storage.location() });
            }
            result => result?,
        };
        if !file.is_empty() && !format::header::is_ours(&file) && !is_repository(&*storage)? {
            // Many a directory has a file of this name.
            return Err(Error::NotARepository { location: storage.location() });
        }
        let config = format::config::decode(&file, &codec)
            .map_err(|e| Error::from_format(format!("the configuration of {}", storage.location()), e))?;
        let repo = Self::new(storage, codec, config.clone());
        let _ = repo.created.set(config);
        Ok(repo)
    }

    fn new(storage: Arc<dyn Storage>, codec: Codec, planned: Config) -> Self {
        let created = OnceLock::new();
        let clock = Clock::default();
        Self {
            storage,
            planned,
            created,
            codec,
            index: Mutex::default(),
            frames: FrameCache::default(),
            sound: SoundFrames::default(),
            clock,
        }
    }

    /// Takes the time of what is written, and that which sessions take, from another clock: for tests, in which days pass.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Returns the clock by which snapshots are dated. That of the storage is another one.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Returns what the repository was set to when it was created.
    pub fn config(&self) -> &Config {
        self.created.get().unwrap_or(&self.planned)
    }

    /// Returns where the repository is, as a user would write it.
    pub fn location(&self) -> String {
        self.storage.location()
    }

    /// Returns the index, loading it when this is the first call or [`Repository::forget_index`] came between.
    ///
    /// # Errors
    /// When the storage can't be read. Damaged packs and segments are noted in the index and left out of it.
    pub fn index(&self) -> Result<Arc<Index>> {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        match &*index {
            Some(index) => Ok(Arc::clone(index)),
            None => Ok(Arc::clone(index.insert(Arc::new(Index::load(&*self.storage, &self.codec, false)?)))),
        }
    }

    /// Returns an index that has also those packs that were cut off, if a segment tells what was in them, and uses it from
    /// now on: for a repair.
    ///
    /// # Errors
    /// As [`Repository::index`].
    pub fn index_of_what_is_left(&self) -> Result<Arc<Index>> {
        self.frames.clear();
        self.sound.clear();
        let loaded = Arc::new(Index::load(&*self.storage, &self.codec, true)?);
        *self.index.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&loaded));
        Ok(loaded)
    }

    /// Forgets all that is known of packs and what is in them: they may have changed since.
    pub fn refresh(&self) {
        self.forget_index();
        self.frames.clear();
        self.sound.clear();
    }

    /// Makes the next use of the index load it again: packs were added.
    pub fn forget_index(&self) {
        *self.index.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
