//! The index in memory: which pack, and which place in it, holds a chunk.
//!
//! A pack carries its own directory; an index segment is nothing but copies of directories, so that a repository of
//! many small packs is opened with few reads. What really exists is decided by the listing of the packs alone.
//!
//! The index knows the first eight bytes of each id. That is enough to find a chunk, as whoever reads one verifies its
//! hash anyway, and it takes a quarter of the space. It is not enough to believe that a chunk is there: a writer reads
//! what it finds before it relies on it.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::SystemTime;

use rayon::prelude::*;

use super::codec::Codec;
use super::format::FormatError;
use super::format::header::{self, FileKind, HEADER_BYTES};
use super::format::index::IndexedPack;
use super::format::pack::{self, Directory, FrameEntry, FrameKind, TRAILER_BYTES};
use super::marks::marked_packs;
use super::{Error, Result, format};
use crate::model::hash::{ChunkId, IndexId, PackId};
use crate::storage::{ErrorKind, Object, Storage};

/// Folder of the packs.
pub const PACKS: &str = "packs";
/// Folder of the index segments.
pub const SEGMENTS: &str = "index";

/// How much of a pack's end is read at once, in the hope that its directory is in it.
const TAIL_BYTES: u64 = 64 << 10;

/// A pack as the index knows it.
#[derive(Debug)]
pub struct Pack {
    /// Its id.
    pub id: PackId,
    /// Length of the file in bytes.
    pub size_bytes: u64,
    /// When it was finished, by the storage's clock.
    pub modified: SystemTime,
    /// What is in it.
    pub directory: Directory,
    /// Whether some index segment has its directory too.
    pub is_in_segment: bool,
    /// Whether a prune marked it for removal: a writer does not rely on it.
    pub is_marked: bool,
}

/// Where a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// Number of the pack in [`Index::packs`].
    pub pack: u32,
    /// Number of the frame in the pack's directory.
    pub frame: u32,
    /// Where the chunk begins among the raw bytes of the frame.
    pub start: u32,
    /// Length of the chunk.
    pub length: u32,
}

/// Which chunk is where.
#[derive(Debug)]
pub struct Index {
    packs: Vec<Pack>,
    damaged: Vec<Error>,
    documents: OnceLock<Lookup>,
    trees: OnceLock<Lookup>,
}

/// Prefixes of one kind of chunk, sorted, with pack and number of the chunk in the pack: 16 bytes each.
#[derive(Debug)]
struct Lookup(Vec<(u64, u32, u32)>);

impl Index {
    /// Loads segments and the directories of packs that no segment has.
    ///
    /// Where a pack has another length than a segment says, it was changed. It is then read itself; `trusting` takes the
    /// segment's word, which tells where the frames are that are left of it.
    pub(super) fn load(storage: &dyn Storage, codec: &Codec, trusting: bool) -> Result<Self> {
        // Marks first: the mark of a deleted pack is removed after the pack, so a pack that is listed now and was not
        // marked before is not one that is just being deleted.
        let marked = marked_packs(storage)?;
        let listed = storage.list(PACKS)?;
        let mut damaged = Vec::new();
        let mut indexed = load_segments(storage, codec, &mut damaged)?;
        let found: Vec<Result<Option<Pack>>> = listed
            .par_iter()
            .map(|object| {
                let id = pack_id(object)?;
                let indexed = indexed.get(&id).filter(|(size, _)| trusting || *size == object.size_bytes);
                let directory = match indexed {
                    Some(_) => None,
                    None => match read_directory(storage, codec, id, object.size_bytes)? {
                        None => return Ok(None),
                        found => found,
                    },
                };
                Ok(Some(Pack {
                    id,
                    size_bytes: object.size_bytes,
                    modified: object.modified,
                    is_in_segment: directory.is_none(),
                    directory: directory.unwrap_or_default(),
                    is_marked: marked.contains(&id),
                }))
            })
            .collect();
        let mut packs = Vec::with_capacity(found.len());
        for pack in found {
            match pack {
                Ok(Some(pack)) => packs.push(pack),
                Ok(None) => {}
                Err(error) => damaged.push(only_this_pack(error)?),
            }
        }
        for pack in packs.iter_mut().filter(|pack| pack.is_in_segment) {
            pack.directory = indexed.remove(&pack.id).expect("it was found there above").1;
        }
        packs.sort_unstable_by_key(|pack| pack.id);
        Ok(Self { packs, damaged, documents: OnceLock::new(), trees: OnceLock::new() })
    }

    /// Returns the packs that exist and can be read, sorted by id.
    pub fn packs(&self) -> &[Pack] {
        &self.packs
    }

    /// Returns what is wrong with packs and segments that are left out.
    pub fn damaged(&self) -> &[Error] {
        &self.damaged
    }

    /// Returns the places where a chunk with the same first eight bytes is; more than one when it was stored twice.
    pub fn locate(&self, kind: FrameKind, chunk: &ChunkId) -> impl Iterator<Item = Location> + '_ {
        let Lookup(sorted) = self.lookup(kind);
        let prefix = chunk.prefix();
        let start = sorted.partition_point(|(other, ..)| *other < prefix);
        let same = sorted[start..].iter().take_while(move |(other, ..)| *other == prefix);
        same.map(|(_, pack, chunk)| self.location(*pack, *chunk))
    }

    /// Returns the pack at a location.
    pub fn pack(&self, location: &Location) -> &Pack {
        &self.packs[location.pack as usize]
    }

    /// Returns the frame at a location.
    pub fn frame(&self, location: &Location) -> &FrameEntry {
        &self.pack(location).directory.frames[location.frame as usize]
    }

    /// Returns a number for each frame, ascending by pack and place in the pack.
    pub fn frame_numbers(&self) -> impl Fn(&Location) -> u32 + use<> {
        let mut before = 0;
        let first = |pack: &Pack| {
            let first = before;
            before += u32::try_from(pack.directory.frames.len()).expect("fewer frames than chunks");
            first
        };
        let firsts: Vec<u32> = self.packs.iter().map(first).collect();
        move |location| firsts[location.pack as usize] + location.frame
    }

    fn location(&self, pack: u32, chunk: u32) -> Location {
        let directory = &self.packs[pack as usize].directory;
        let frame = directory.frames.partition_point(|frame| frame.chunk_first <= chunk) - 1;
        let first = directory.frames[frame].chunk_first;
        let start = directory.lengths[first as usize..chunk as usize].iter().sum();
        let length = directory.lengths[chunk as usize];
        Location { pack, frame: u32::try_from(frame).expect("fewer frames than chunks"), start, length }
    }

    fn lookup(&self, kind: FrameKind) -> &Lookup {
        let lookup = match kind {
            FrameKind::Documents => &self.documents,
            FrameKind::Trees => &self.trees,
        };
        lookup.get_or_init(|| {
            let mut found = Vec::new();
            for (pack_number, pack) in (0_u32..).zip(&self.packs) {
                for frame in pack.directory.frames.iter().filter(|frame| frame.kind == kind) {
                    let chunks = frame.chunk_first..frame.chunk_first + frame.chunks;
                    found.extend(chunks.map(|chunk| (pack.directory.prefixes[chunk as usize], pack_number, chunk)));
                }
            }
            found.par_sort_unstable();
            Lookup(found)
        })
    }
}

/// Returns the error of one pack as damage, which leaves the others usable: a bad sector is damage too.
pub(super) fn only_this_pack(error: Error) -> Result<Error> {
    match error {
        Error::Storage(error) => {
            let what = format!("it cannot be read: {}", error.source);
            Ok(Error::Damaged { object: error.object, what })
        }
        error if error.is_damage() => Ok(error),
        error => Err(error),
    }
}

type IndexedDirectories = HashMap<PackId, (u64, Directory)>;

fn load_segments(storage: &dyn Storage, codec: &Codec, damaged: &mut Vec<Error>) -> Result<IndexedDirectories> {
    let objects = storage.list(SEGMENTS)?;
    let segments: Vec<_> = objects.par_iter().map(|object| read_segment(storage, codec, object)).collect();
    let mut indexed = HashMap::new();
    for segment in segments {
        match segment {
            Ok(packs) => indexed.extend(packs.into_iter().map(|pack| (pack.id, (pack.size_bytes, pack.directory)))),
            // Nothing is lost: the packs of the segment are read one by one.
            Err(error) if error.is_damage() => damaged.push(error),
            Err(error) => return Err(error),
        }
    }
    Ok(indexed)
}

pub(super) fn read_segment(storage: &dyn Storage, codec: &Codec, object: &Object) -> Result<Vec<IndexedPack>> {
    let name = format!("{SEGMENTS}/{}", object.name);
    let file = match storage.read(&name) {
        // Merged into another segment since it was listed.
        Err(e) if e.kind == ErrorKind::NotFound => return Ok(Vec::new()),
        result => result?,
    };
    let packs = format::index::decode(&file, codec);
    if object.name.parse() != Ok(IndexId::of(&file)) {
        return Err(Error::Damaged { object: name, what: "its bytes do not match its name".to_owned() });
    }
    packs.map_err(|e| Error::from_format(name, e))
}

fn pack_id(object: &Object) -> Result<PackId> {
    object.name.parse().map_err(|_| Error::Damaged {
        object: format!("{PACKS}/{}", object.name),
        what: "its name is not that of a pack".to_owned(),
    })
}

/// Reads the directory of a pack; nothing when the pack was removed since it was listed.
fn read_directory(storage: &dyn Storage, codec: &Codec, id: PackId, size: u64) -> Result<Option<Directory>> {
    let name = format!("{PACKS}/{id}");
    let damaged = |e| Error::from_format(format!("pack {id}"), e);
    let read = |length: u64| {
        let length = length.min(size);
        storage.read_range(&name, size - length, usize::try_from(length).expect("a tail fits the memory"))
    };
    let first = usize::try_from(size.min(HEADER_BYTES as u64)).expect("a header fits the memory");
    match storage.read_range(&name, 0, first) {
        Err(e) if e.kind == ErrorKind::NotFound => return Ok(None),
        result => match header::strip(FileKind::Pack, &result?) {
            // One flipped bit must not pass for a newer format, which would stop everything.
            Err(e @ FormatError::TooNew(_)) if PackId::of(&storage.read(&name)?) == id => return Err(damaged(e)),
            Err(FormatError::TooNew(what)) => return Err(damaged(FormatError::Malformed(what))),
            result => drop(result.map_err(damaged)?),
        },
    }
    let mut tail = match read(TAIL_BYTES) {
        Err(e) if e.kind == ErrorKind::NotFound => return Ok(None),
        result => result?,
    };
    let trailer = pack::decode_trailer(&tail).map_err(damaged)?;
    let wanted = trailer.blob_bytes + TRAILER_BYTES;
    if wanted as u64 > size {
        return Err(damaged(FormatError::malformed("its directory claims to be larger than the file")));
    }
    if tail.len() < wanted {
        tail = read(wanted as u64)?;
    }
    let blob = &tail[tail.len() - wanted..tail.len() - TRAILER_BYTES];
    pack::decode_directory(&trailer, blob, size, codec).map(Some).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn location_counts_the_lengths_before_in_the_same_frame() {
        let mut directory = Directory::default();
        directory.push(FrameKind::Documents, 10, &[5, 6], &[1, 2]);
        directory.push(FrameKind::Documents, 10, &[7, 8, 9], &[3, 4, 5]);
        let id = PackId::of(b"pack");
        let modified = SystemTime::UNIX_EPOCH;
        let pack = Pack { id, size_bytes: 0, modified, directory, is_in_segment: false, is_marked: false };
        let index =
            Index { packs: vec![pack], damaged: Vec::new(), documents: OnceLock::new(), trees: OnceLock::new() };
        let mut bytes = [0; 32];
        bytes[7] = 5;
        let found: Vec<_> = index.locate(FrameKind::Documents, &ChunkId::from_bytes(bytes)).collect();
        assert_eq!(found, [Location { pack: 0, frame: 1, start: 15, length: 9 }]);
        assert_eq!(index.locate(FrameKind::Trees, &ChunkId::from_bytes(bytes)).count(), 0);
    }

    #[test]
    fn frames_have_numbers_of_their_own_in_order() {
        let pack = |frames| {
            let mut directory = Directory::default();
            (0..frames).for_each(|n| directory.push(FrameKind::Documents, 10, &[5], &[n]));
            let (id, modified) = (PackId::of(b"pack"), SystemTime::UNIX_EPOCH);
            Pack { id, size_bytes: 0, modified, directory, is_in_segment: false, is_marked: false }
        };
        let packs = vec![pack(3), pack(0), pack(2), pack(1)];
        let index = Index { packs, damaged: Vec::new(), documents: OnceLock::new(), trees: OnceLock::new() };
        let number = index.frame_numbers();
        let places = [(0, 0), (0, 1), (0, 2), (2, 0), (2, 1), (3, 0)];
        let numbers = places.map(|(pack, frame)| number(&Location { pack, frame, start: 0, length: 5 }));
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
    }
}
