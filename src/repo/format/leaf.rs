//! A leaf: a few thousand records, sorted by path, stored by column so that like is next to like.

use serde::{Deserialize, Serialize};

use super::columns::{ColumnReader, ColumnWriter};
use super::{FormatError, Result, from_bytes, to_bytes};
use crate::model::entry::{Body, Document, Encoding, Entry, Stamp};
use crate::model::hash::{ChunkId, ContentId};
use crate::model::path::EntryPath;
use crate::repo::tree::Record;

const DOCUMENT: u8 = 0;
const DIRECTORY: u8 = 1;
const REMOVED: u8 = 2;
const CUT_DOCUMENT: u8 = 3;

/// Values of the column of encodings.
const PLAIN: u8 = 0;
const KYLIN: u8 = 1;

/// Most records of a leaf, and most bytes of all their paths: far more than is written, and little enough that a hostile
/// leaf can't ask for much more memory than it is long.
const RECORDS_MAX: usize = 1 << 16;
const PATH_BYTES_IN_LEAF_MAX: usize = 8 << 20;

/// Units of times, in nanoseconds. Most stores keep milliseconds: six zeros in every difference would not compress away.
const UNITS_NS: [i64; 4] = [1, 1_000, 1_000_000, 1_000_000_000];

/// The columns. Each record has a flag; only what the flag calls for is in the other columns.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// One byte a record: document, directory, removed, cut document.
    #[serde(with = "serde_bytes")]
    flags: Vec<u8>,
    /// How many bytes of the path are those of the record before.
    #[serde(with = "serde_bytes")]
    shared: Vec<u8>,
    /// How many bytes follow them, from `names`.
    #[serde(with = "serde_bytes")]
    own: Vec<u8>,
    #[serde(with = "serde_bytes")]
    names: Vec<u8>,
    /// 32 bytes a document.
    #[serde(with = "serde_bytes")]
    contents: Vec<u8>,
    #[serde(with = "serde_bytes")]
    sizes: Vec<u8>,
    /// 0 for none, else the mode plus one. Documents and directories.
    #[serde(with = "serde_bytes")]
    modes: Vec<u8>,
    /// The unit of the time: 0 to 3 for nanoseconds to seconds, the coarsest that is exact. Documents and directories, as
    /// are the next three.
    #[serde(with = "serde_bytes")]
    units: Vec<u8>,
    /// Difference to the time of the entry before, both in the unit, rounded down.
    #[serde(with = "serde_bytes")]
    times: Vec<u8>,
    /// 0 for the same as the time, 1 for none, else two plus the zigzag difference to the last version of this kind.
    #[serde(with = "serde_bytes")]
    versions: Vec<u8>,
    /// Difference to the entry before.
    #[serde(with = "serde_bytes")]
    identities: Vec<u8>,
    /// For each cut document the number of its chunks, then their ids.
    #[serde(with = "serde_bytes")]
    pieces: Vec<u8>,
    /// One byte a document: how its store held it. Not there if all were held as their content, and in leaves of before.
    #[serde(with = "serde_bytes", skip_serializing_if = "Vec::is_empty", default)]
    encodings: Vec<u8>,
}

#[derive(Default)]
struct Columns {
    flags: Vec<u8>,
    shared: ColumnWriter,
    own: ColumnWriter,
    names: Vec<u8>,
    contents: Vec<u8>,
    sizes: ColumnWriter,
    modes: ColumnWriter,
    units: Vec<u8>,
    times: ColumnWriter,
    versions: ColumnWriter,
    identities: ColumnWriter,
    pieces: Vec<u8>,
    encodings: Vec<u8>,
}

/// What the difference-coded columns of one record refer to.
#[derive(Default)]
struct Previous {
    path: Vec<u8>,
    time_ns: i64,
    version: i64,
    identity: u64,
}

/// Returns the bytes of a leaf. The records must be in path order.
pub fn encode(records: &[Record]) -> Vec<u8> {
    let mut columns = Columns::default();
    let mut previous = Previous::default();
    for record in records {
        match record {
            Record::Removed(path) => {
                columns.flags.push(REMOVED);
                columns.put_path(path, &mut previous);
            }
            Record::Present(entry) => columns.put_entry(entry, &mut previous),
        }
    }
    to_bytes(&columns.finish())
}

impl Columns {
    fn put_path(&mut self, path: &EntryPath, previous: &mut Previous) {
        let path = path.as_bytes();
        let shared = path.iter().zip(&previous.path).take_while(|(a, b)| a == b).count();
        self.shared.put(shared as u64);
        self.own.put((path.len() - shared) as u64);
        self.names.extend_from_slice(&path[shared..]);
        previous.path.truncate(shared);
        previous.path.extend_from_slice(&path[shared..]);
    }

    fn put_entry(&mut self, entry: &Entry, previous: &mut Previous) {
        self.flags.push(match &entry.body {
            Body::Directory => DIRECTORY,
            Body::Document(document) if document.pieces.is_empty() => DOCUMENT,
            Body::Document(_) => CUT_DOCUMENT,
        });
        self.put_path(&entry.path, previous);
        self.modes.put(entry.mode.map_or(0, |mode| u64::from(mode) + 1));
        self.put_stamp(&entry.stamp, previous);
        if let Body::Document(document) = &entry.body {
            self.put_document(document);
            self.encodings.push(match entry.encoding {
                Encoding::Plain => PLAIN,
                Encoding::Kylin => KYLIN,
            });
        }
    }

    fn put_stamp(&mut self, stamp: &Stamp, previous: &mut Previous) {
        let unit = (1..UNITS_NS.len()).rev().find(|unit| stamp.time_ns % UNITS_NS[*unit] == 0).unwrap_or(0);
        self.units.push(unit.to_le_bytes()[0]);
        let (time, before) = (stamp.time_ns.div_euclid(UNITS_NS[unit]), previous.time_ns.div_euclid(UNITS_NS[unit]));
        self.times.put_signed(time.wrapping_sub(before));
        previous.time_ns = stamp.time_ns;
        match stamp.version {
            0 => self.versions.put(1),
            version if version == stamp.time_ns => self.versions.put(0),
            version => {
                self.versions.put(2);
                self.versions.put_signed(version.wrapping_sub(previous.version));
                previous.version = version;
            }
        }
        self.identities.put_signed(stamp.identity.wrapping_sub(previous.identity).cast_signed());
        previous.identity = stamp.identity;
    }

    fn put_document(&mut self, document: &Document) {
        self.contents.extend_from_slice(document.content.as_bytes());
        self.sizes.put(document.size);
        if !document.pieces.is_empty() {
            let mut count = ColumnWriter::default();
            count.put(document.pieces.len() as u64);
            self.pieces.extend(count.finish());
            document.pieces.iter().for_each(|piece| self.pieces.extend_from_slice(piece.as_bytes()));
        }
    }

    fn finish(self) -> Stored {
        Stored {
            flags: self.flags,
            shared: self.shared.finish(),
            own: self.own.finish(),
            names: self.names,
            contents: self.contents,
            sizes: self.sizes.finish(),
            modes: self.modes.finish(),
            units: self.units,
            times: self.times.finish(),
            versions: self.versions.finish(),
            identities: self.identities.finish(),
            pieces: self.pieces,
            encodings: if self.encodings.iter().all(|encoding| *encoding == PLAIN) {
                Vec::new()
            } else {
                self.encodings
            },
        }
    }
}

struct Reader<'a> {
    shared: ColumnReader<'a>,
    own: ColumnReader<'a>,
    names: ColumnReader<'a>,
    contents: ColumnReader<'a>,
    sizes: ColumnReader<'a>,
    modes: ColumnReader<'a>,
    units: ColumnReader<'a>,
    times: ColumnReader<'a>,
    versions: ColumnReader<'a>,
    identities: ColumnReader<'a>,
    pieces: ColumnReader<'a>,
    /// Nothing in a leaf without this column.
    encodings: Option<ColumnReader<'a>>,
    previous: Previous,
}

/// Reads a leaf back.
///
/// # Errors
/// When the bytes are no leaf, a path is not usable, or the records are not strictly in path order.
pub fn decode(raw: &[u8]) -> Result<Vec<Record>> {
    let stored: Stored = from_bytes(raw, "a leaf")?;
    if stored.flags.len() > RECORDS_MAX {
        return Err(FormatError::malformed(format!("a leaf claims {} records", stored.flags.len())));
    }
    let mut reader = Reader::new(&stored);
    let mut path_bytes = 0;
    let mut records: Vec<Record> = Vec::with_capacity(stored.flags.len());
    for flag in &stored.flags {
        let path = reader.path()?;
        path_bytes += path.as_bytes().len();
        if path_bytes > PATH_BYTES_IN_LEAF_MAX {
            return Err(FormatError::malformed("the paths of a leaf are too long"));
        }
        if records.last().is_some_and(|last| *last.path() >= path) {
            return Err(FormatError::malformed(format!("a leaf is out of order at `{path}`")));
        }
        records.push(reader.record(*flag, path)?);
    }
    reader.finish()?;
    Ok(records)
}

impl<'a> Reader<'a> {
    fn new(stored: &'a Stored) -> Self {
        Self {
            shared: ColumnReader::new("shared", &stored.shared),
            own: ColumnReader::new("own", &stored.own),
            names: ColumnReader::new("names", &stored.names),
            contents: ColumnReader::new("contents", &stored.contents),
            sizes: ColumnReader::new("sizes", &stored.sizes),
            modes: ColumnReader::new("modes", &stored.modes),
            units: ColumnReader::new("units", &stored.units),
            times: ColumnReader::new("times", &stored.times),
            versions: ColumnReader::new("versions", &stored.versions),
            identities: ColumnReader::new("identities", &stored.identities),
            pieces: ColumnReader::new("pieces", &stored.pieces),
            encodings: (!stored.encodings.is_empty()).then(|| ColumnReader::new("encodings", &stored.encodings)),
            previous: Previous::default(),
        }
    }

    fn path(&mut self) -> Result<EntryPath> {
        let (shared, own) = (self.shared.next_length()?, self.own.next_length()?);
        let previous = &mut self.previous.path;
        if shared > previous.len() {
            return Err(FormatError::malformed("a leaf shares more of a path than there is"));
        }
        previous.truncate(shared);
        previous.extend_from_slice(self.names.next_bytes(own)?);
        EntryPath::new(previous.as_slice()).map_err(|e| FormatError::malformed(e.to_string()))
    }

    fn record(&mut self, flag: u8, path: EntryPath) -> Result<Record> {
        if flag == REMOVED {
            return Ok(Record::Removed(path));
        }
        let mode = match self.modes.next_number()? {
            0 => None,
            mode => Some(u16::try_from(mode - 1).map_err(|_| FormatError::malformed("a mode is too large"))?),
        };
        let stamp = self.stamp()?;
        let body = match flag {
            DIRECTORY => Body::Directory,
            DOCUMENT => Body::Document(self.document(false)?),
            CUT_DOCUMENT => Body::Document(self.document(true)?),
            other => return Err(FormatError::malformed(format!("a record has the unknown flag {other}"))),
        };
        let encoding = if flag == DIRECTORY { Encoding::Plain } else { self.encoding()? };
        Ok(Record::Present(Entry { path, body, mode, encoding, stamp }))
    }

    fn stamp(&mut self) -> Result<Stamp> {
        let previous = &mut self.previous;
        let unit = usize::from(self.units.next_bytes(1)?[0]);
        let unit_ns = *UNITS_NS.get(unit).ok_or_else(|| FormatError::malformed("a time has an unknown unit"))?;
        let before = previous.time_ns.div_euclid(unit_ns);
        previous.time_ns = before.wrapping_add(self.times.next_signed()?).wrapping_mul(unit_ns);
        let version = match self.versions.next_number()? {
            0 => previous.time_ns,
            1 => 0,
            2 => {
                previous.version = previous.version.wrapping_add(self.versions.next_signed()?);
                previous.version
            }
            other => return Err(FormatError::malformed(format!("a version has the unknown form {other}"))),
        };
        previous.identity = previous.identity.wrapping_add(self.identities.next_signed()?.cast_unsigned());
        Ok(Stamp { time_ns: previous.time_ns, version, identity: previous.identity })
    }

    fn document(&mut self, is_cut: bool) -> Result<Document> {
        let content = ContentId::from_bytes(self.contents.next_id()?);
        let size = self.sizes.next_number()?;
        let pieces = if is_cut { self.pieces()? } else { Box::default() };
        Ok(Document { content, size, pieces })
    }

    fn encoding(&mut self) -> Result<Encoding> {
        let Some(encodings) = &mut self.encodings else { return Ok(Encoding::Plain) };
        match encodings.next_bytes(1)?[0] {
            PLAIN => Ok(Encoding::Plain),
            KYLIN => Ok(Encoding::Kylin),
            other => Err(FormatError::malformed(format!("a document has the unknown encoding {other}"))),
        }
    }

    fn pieces(&mut self) -> Result<Box<[ChunkId]>> {
        let count = self.pieces.next_length()?;
        // No capacity from the count: a hostile one would ask for any amount.
        (0..count).map(|_| self.pieces.next_id().map(ChunkId::from_bytes)).collect::<Result<Vec<_>>>().map(Into::into)
    }

    fn finish(self) -> Result<()> {
        let columns = [
            self.shared,
            self.own,
            self.names,
            self.contents,
            self.sizes,
            self.modes,
            self.units,
            self.times,
            self.versions,
            self.identities,
            self.pieces,
        ];
        columns.into_iter().chain(self.encodings).try_for_each(ColumnReader::finish)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::path::PATH_BYTES_MAX;

    fn records() -> impl Strategy<Value = Vec<Record>> {
        let body = prop_oneof![
            Just(None),
            Just(Some(Body::Directory)),
            (any::<[u8; 32]>(), any::<u64>(), prop::collection::vec(any::<[u8; 32]>(), 0..3)).prop_map(
                |(content, size, pieces)| Some(Body::Document(Document {
                    content: ContentId::from_bytes(content),
                    size,
                    pieces: pieces.into_iter().map(ChunkId::from_bytes).collect(),
                }))
            ),
        ];
        let encoding = prop_oneof![Just(Encoding::Plain), Just(Encoding::Kylin)];
        let stamp = (any::<i64>(), prop_oneof![Just(None), Just(Some(0)), any::<i64>().prop_map(Some)], any::<u64>())
            .prop_map(|(time_ns, version, identity)| Stamp { time_ns, version: version.unwrap_or(time_ns), identity });
        let path = "[a-c]{1,3}(/[a-c]{1,4}){0,3}".prop_map(|path| EntryPath::new(path.as_bytes()).unwrap());
        let values = (body, stamp, prop::option::of(0..0o7777_u16), encoding);
        prop::collection::btree_map(path, values, 0..40).prop_map(|map| {
            let record = |(path, (body, stamp, mode, encoding))| match body {
                None => Record::Removed(path),
                Some(body @ Body::Directory) => {
                    Record::Present(Entry { path, body, mode, encoding: Encoding::Plain, stamp })
                }
                Some(body) => Record::Present(Entry { path, body, mode, encoding, stamp }),
            };
            map.into_iter().map(record).collect()
        })
    }

    proptest! {
        #[test]
        fn leaf_round_trips(records in records()) {
            prop_assert_eq!(decode(&encode(&records)), Ok(records));
        }

        #[test]
        fn damaged_leaf_decodes_or_fails(records in records(), at: usize, bit in 0..8_u32) {
            let mut raw = encode(&records);
            let at = at % raw.len();
            raw[at] ^= 1_u8 << bit;
            let _ = decode(&raw);
        }
    }

    fn removed(path: impl AsRef<[u8]>) -> Record {
        Record::Removed(EntryPath::new(path.as_ref()).unwrap())
    }

    #[test]
    fn column_that_holds_more_than_the_records_need_is_refused() {
        let mut stored: Stored = from_bytes(&encode(&[removed("a")]), "a leaf").unwrap();
        stored.own.push(0);
        assert!(matches!(decode(&to_bytes(&stored)), Err(FormatError::Malformed(what)) if what.contains("too many")));
    }

    #[test]
    fn leaf_may_have_so_many_records_and_no_more() {
        let records: Vec<Record> = (0..=RECORDS_MAX).map(|n| removed(format!("{n:08}"))).collect();
        assert_eq!(decode(&encode(&records[1..])).map(|records| records.len()), Ok(RECORDS_MAX));
        assert!(decode(&encode(&records)).is_err());
    }

    #[test]
    fn paths_of_a_leaf_may_have_so_many_bytes_and_no_more() {
        let long = "a".repeat(PATH_BYTES_MAX - 3);
        let count = PATH_BYTES_IN_LEAF_MAX / PATH_BYTES_MAX;
        let mut records: Vec<Record> = (0..count).map(|n| removed(format!("{long}{n:03}"))).collect();
        records.push(removed("b".repeat(PATH_BYTES_IN_LEAF_MAX - count * PATH_BYTES_MAX)));
        assert_eq!(decode(&encode(&records)), Ok(records.clone()));
        records.push(removed("c"));
        assert!(decode(&encode(&records)).is_err());
    }

    #[test]
    fn records_out_of_order_are_refused() {
        assert!(decode(&encode(&[removed("b"), removed("a")])).is_err());
        assert!(decode(&encode(&[removed("a"), removed("a")])).is_err());
    }
}
