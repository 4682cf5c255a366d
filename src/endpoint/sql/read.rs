//! Reading contents of rows: many at once, decoded.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Seek};
use std::ops::Range;

use super::listing::{SqlListing, encoding_of, vanished};
use super::schema::{Holds, Table};
use super::session::{Cell, Param, Shape, list, marks};
use crate::endpoint::{DocumentStream, Error, Listing, Outcome, Reader, Result};
use crate::model::entry::{Encoding, Stamp};
use crate::platform::kylin::encoding::{Decoded, DecodingReader, decode, is_encoded};
use crate::platform::kylin::layout::Layout;
use crate::platform::kylin::tables::side::SideTable;
use crate::platform::kylin::tables::{Dialect, Value};

/// Stored bytes that are fetched at once, and rows.
const FETCHED_BYTES: u64 = 2 << 20;
const FETCHED_ROWS_MAX: usize = 4096;
/// Bytes of a large value that are fetched at once.
const PIECE_BYTES: u64 = 8 << 20;
/// Of the rows between the first and the last wanted, this share must be wanted for all of them to be asked for.
const DENSE_SHARE: i64 = 2;

/// Reads documents of a listing.
pub(super) struct SqlReader<'a> {
    listing: &'a SqlListing,
    /// Documents that will be read, in order.
    plan: VecDeque<u32>,
    /// Stored bytes of what was fetched and not read yet.
    fetched: HashMap<u32, Option<Range<usize>>>,
    bytes: Vec<u8>,
    /// What is wrong with rows that can be no documents.
    failed: HashMap<u32, String>,
}

impl<'a> SqlReader<'a> {
    pub(super) fn new(listing: &'a SqlListing) -> Self {
        Self { listing, plan: VecDeque::new(), fetched: HashMap::new(), bytes: Vec::new(), failed: HashMap::new() }
    }

    fn is_side(&self, n: usize) -> bool {
        matches!(self.listing.schema.table(self.listing.rows.table(n)).holds, Holds::Side(_))
    }

    /// Says that a row which is read whole is larger than that can be.
    fn unsendable(&self, n: usize) -> Error {
        let bytes_max = self.listing.snapshot.value_bytes_max();
        let what = format!("its row is larger than the {bytes_max} bytes that the server sends at once");
        Error::io("read", self.listing.path(n), io::Error::other(what))
    }

    /// Fetches a document, and those planned after it.
    fn fetch(&mut self, n: u32, bytes_max: u64) -> Result<()> {
        let rows = &self.listing.rows;
        let mut wanted = vec![n];
        // What is read in another order than it was planned in is fetched on its own.
        if self.plan.front() == Some(&n) {
            self.plan.pop_front();
            let mut bytes = rows.size(n as usize);
            while let Some(next) = self.plan.front().copied() {
                let size = rows.size(next as usize);
                bytes += size;
                let bytes_max = bytes_max.min(self.listing.snapshot.value_bytes_max());
                if bytes > FETCHED_BYTES || wanted.len() >= FETCHED_ROWS_MAX || size > bytes_max {
                    break;
                }
                wanted.push(next);
                self.plan.pop_front();
            }
        }
        self.fetched.clear();
        self.bytes.clear();
        for some in wanted.chunk_by(|a, b| rows.table(*a as usize) == rows.table(*b as usize)) {
            self.fetch_of_table(some)?;
        }
        Ok(())
    }

    fn fetch_of_table(&mut self, wanted: &[u32]) -> Result<()> {
        let listing = self.listing;
        let rows = &listing.rows;
        let table = listing.schema.table(rows.table(wanted[0] as usize));
        let (fetched, bytes, failed) = (&mut self.fetched, &mut self.bytes, &mut self.failed);
        let mut keep = |n: u32, content: Option<&[u8]>| {
            let start = bytes.len();
            bytes.extend_from_slice(content.unwrap_or_default());
            fetched.insert(n, content.map(|_| start..bytes.len()));
        };
        let name = listing.schema.quoted(&table.name);
        match table.holds {
            Holds::Old => {
                let keys: Vec<Vec<u8>> = wanted.iter().map(|n| old_key(listing, *n as usize)).collect();
                let numbers: HashMap<&[u8], u32> = keys.iter().map(Vec::as_slice).zip(wanted.iter().copied()).collect();
                let params: Vec<Param<'_>> = keys.iter().map(|key| Param::Bytes(key)).collect();
                let (key, content) = table.key_and_content();
                let sql = format!("SELECT {key}, {content} FROM {name} WHERE {key} IN {}", marks(keys.len()));
                listing.snapshot.run(|session| {
                    session.query(&sql, &params, &mut |row| {
                        if let Some(n) = row[0].bytes().and_then(|key| numbers.get(key)) {
                            keep(*n, row[1].bytes());
                        }
                    })
                })
            }
            Holds::Documents(_) => {
                let (numbers, ids) = ids(listing, wanted);
                let sql = format!("SELECT id, content FROM {name} WHERE {ids}");
                listing.snapshot.run(|session| {
                    session.query_many(&sql, &[Shape::Int, Shape::Bytes], &mut |row| {
                        if let Some(n) = row[0].int().and_then(|id| numbers.get(&id)) {
                            keep(*n, row[1].bytes());
                        }
                    })
                })
            }
            Holds::Side(side) => {
                let (numbers, ids) = ids(listing, wanted);
                let columns = side_columns(table, side);
                let sql = format!("SELECT {} FROM {name} WHERE {ids}", columns.join(", "));
                let id = columns.iter().position(|column| *column == "id").unwrap_or_default();
                listing.snapshot.run(|session| {
                    session.query(&sql, &[], &mut |row| {
                        if let Some(n) = row[id].int().and_then(|id| numbers.get(&id)) {
                            match side.to_json(&side_values(&columns, row)) {
                                Ok((_, content)) => keep(*n, Some(&content)),
                                Err(error) => drop(failed.insert(*n, error.to_string())),
                            }
                        }
                    })
                })
            }
        }
    }

    /// Takes what was fetched of a document, and decodes it.
    fn take(&mut self, n: u32, bytes_max: u64, content: &mut Vec<u8>) -> Result<Outcome> {
        let listing = self.listing;
        if let Some(what) = self.failed.remove(&n) {
            return Err(Error::io("read", listing.path(n as usize), io::Error::other(what)));
        }
        let Some(range) = self.fetched.remove(&n) else { return Err(vanished(listing, n as usize)) };
        let Some(range) = range else {
            listing.remark(n, "its content is NULL; it is kept as an empty document".to_owned());
            listing.rows.settle(n as usize, 0, Encoding::Plain);
            return Ok(Outcome::Read(listing.rows.stamp(n as usize)));
        };
        let (stored, start) = (&self.bytes[range], content.len());
        let encoding = match decode(stored, bytes_max, content) {
            Ok(Decoded::TooLarge) => return Ok(Outcome::TooLarge),
            Ok(decoded) => encoding_of(decoded == Decoded::Encoded),
            Err(corrupt) => {
                if stored.len() as u64 > bytes_max {
                    return Ok(Outcome::TooLarge);
                }
                listing.remark(n, format!("{corrupt}; it is kept as it is stored"));
                content.extend_from_slice(stored);
                Encoding::Plain
            }
        };
        listing.rows.settle(n as usize, (content.len() - start) as u64, encoding);
        Ok(Outcome::Read(listing.rows.stamp(n as usize)))
    }
}

impl Reader for SqlReader<'_> {
    fn prepare(&mut self, numbers: &[u32]) -> Result<()> {
        self.plan = numbers.iter().copied().collect();
        self.fetched.clear();
        Ok(())
    }

    fn read(&mut self, n: usize, bytes_max: u64, content: &mut Vec<u8>) -> Result<Outcome> {
        let size = self.listing.rows.size(n);
        let is_sent_in_one = size <= self.listing.snapshot.value_bytes_max();
        if !is_sent_in_one && self.is_side(n) {
            return Err(self.unsendable(n));
        }
        if !is_sent_in_one || (size > bytes_max && self.listing.rows.encoding(n) == Encoding::Plain) {
            // It would be no less when decoded.
            self.plan.retain(|planned| *planned as usize != n);
            return Ok(Outcome::TooLarge);
        }
        let number = u32::try_from(n).expect("rows are numbered in 32 bits");
        if !self.fetched.contains_key(&number) && !self.failed.contains_key(&number) {
            self.fetch(number, bytes_max)?;
        }
        self.take(number, bytes_max, content)
    }

    fn stream(&mut self, n: usize) -> Result<Box<dyn DocumentStream>> {
        let listing = self.listing;
        let failed = |error| Error::io("read", listing.path(n), error);
        if self.is_side(n) {
            if listing.rows.size(n) > listing.snapshot.value_bytes_max() {
                return Err(self.unsendable(n));
            }
            let mut content = Vec::new();
            self.fetch(u32::try_from(n).expect("rows are numbered in 32 bits"), u64::MAX)?;
            self.take(u32::try_from(n).expect("rows are numbered in 32 bits"), u64::MAX, &mut content)?;
            return Ok(Box::new(Held { content: io::Cursor::new(content), stamp: listing.rows.stamp(n) }));
        }
        let stored = spool(Pieces::new(listing, n)).map_err(failed)?;
        // A value that is damaged somewhere is kept as it is stored: that must be known before the first byte is given.
        let mut decoding = DecodingReader::new(&stored).map_err(failed)?;
        let verdict = io::copy(&mut decoding, &mut io::sink());
        let is_encoded = decoding.is_encoded();
        (&stored).rewind().map_err(failed)?;
        let (stamp, rows) = (listing.rows.stamp(n), &listing.rows);
        match verdict {
            Ok(size) => {
                rows.settle(n, size, encoding_of(is_encoded));
                Ok(Box::new(Held { content: DecodingReader::new(stored).map_err(failed)?, stamp }))
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let number = u32::try_from(n).expect("rows are numbered in 32 bits");
                listing.remark(number, format!("{error}; it is kept as it is stored"));
                rows.settle(n, stored.metadata().map_err(failed)?.len(), Encoding::Plain);
                Ok(Box::new(Held { content: stored, stamp }))
            }
            Err(error) => Err(failed(error)),
        }
    }
}

/// Writes a large value, as it is stored, to a file without a name, so that the connection is free again.
fn spool(mut value: impl Read) -> io::Result<std::fs::File> {
    let mut file = tempfile::tempfile()?;
    io::copy(&mut value, &mut file)?;
    file.rewind()?;
    Ok(file)
}

/// A document that was read as it was at the moment of the listing.
struct Held<C> {
    content: C,
    stamp: Stamp,
}

impl<C: Read> Read for Held<C> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.content.read(buffer)
    }
}

impl<C: Read + Send> DocumentStream for Held<C> {
    fn finish(self: Box<Self>) -> Result<Option<Stamp>> {
        Ok(Some(self.stamp))
    }
}

/// A stored value, fetched piece by piece: neither side has to hold it, nor is a packet larger than a piece.
struct Pieces<'a> {
    listing: &'a SqlListing,
    n: usize,
    /// Where the next piece begins, from 1 as SQL counts.
    at: i64,
    piece: Vec<u8>,
    read: usize,
}

impl<'a> Pieces<'a> {
    fn new(listing: &'a SqlListing, n: usize) -> Self {
        Self { listing, n, at: 1, piece: Vec::new(), read: 0 }
    }

    fn next(&mut self) -> Result<()> {
        let (listing, n) = (self.listing, self.n);
        let table = listing.schema.table(listing.rows.table(n));
        let (key, content) = table.key_and_content();
        let name = listing.schema.quoted(&table.name);
        let part = match listing.schema.dialect {
            Dialect::PostgreSql => format!("substring({content} FROM ?::int4 FOR ?::int4)"),
            Dialect::MySql => format!("SUBSTRING({content}, ?, ?)"),
        };
        let (key, old) = match table.holds {
            Holds::Old => (key, old_key(listing, n)),
            _ => ("id", Vec::new()),
        };
        let value = if old.is_empty() { Param::Int(listing.rows.id(n)) } else { Param::Bytes(&old) };
        let sql = format!("SELECT {part} FROM {name} WHERE {key} = ?");
        self.piece.clear();
        self.read = 0;
        let piece = &mut self.piece;
        let bytes = i64::try_from(PIECE_BYTES.min(listing.snapshot.value_bytes_max())).unwrap_or(i64::MAX);
        let params = [Param::Int(self.at), Param::Int(bytes), value];
        listing.snapshot.run(|session| {
            session.query(&sql, &params, &mut |row| piece.extend_from_slice(row[0].bytes().unwrap_or_default()))
        })?;
        self.at += i64::try_from(self.piece.len()).unwrap_or(i64::MAX);
        Ok(())
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read == self.piece.len() {
            self.next().map_err(io::Error::other)?;
        }
        let count = buffer.len().min(self.piece.len() - self.read);
        buffer[..count].copy_from_slice(&self.piece[self.read..][..count]);
        self.read += count;
        Ok(count)
    }
}

/// Returns a condition that holds for these rows, and perhaps some between them, and the numbers of the rows by their ids.
fn ids(listing: &SqlListing, wanted: &[u32]) -> (HashMap<i64, u32>, String) {
    let id = |n: &u32| listing.rows.id(*n as usize);
    let numbers: HashMap<i64, u32> = wanted.iter().map(|n| (id(n), *n)).collect();
    let first = wanted.iter().map(id).min().unwrap_or_default();
    let last = wanted.iter().map(id).max().unwrap_or_default();
    let count = i64::try_from(wanted.len()).unwrap_or(i64::MAX);
    let is_dense = last.checked_sub(first).is_some_and(|span| span < count.saturating_mul(DENSE_SHARE));
    let condition = if is_dense {
        format!("id BETWEEN {first} AND {last}")
    } else {
        format!("id IN {}", list(numbers.keys().copied()))
    };
    (numbers, condition)
}

/// Returns the key of a row of the old generation, as it is in the table.
pub(super) fn old_key(listing: &SqlListing, n: usize) -> Vec<u8> {
    let name = Layout::Old.name_of(&listing.rows.path(n)).expect("the path was made from a name");
    [b"/", name.as_bytes()].concat()
}

/// Returns the columns of a side table that are there.
pub(super) fn side_columns(table: &Table, side: SideTable) -> Vec<&'static str> {
    side.columns().filter(|column| table.has(column)).collect()
}

pub(super) fn side_values(columns: &[&'static str], row: &[Cell<'_>]) -> Vec<(&'static str, Value)> {
    let value = |cell: &Cell<'_>| match *cell {
        Cell::Null => Value::Null,
        Cell::Int(value) => Value::Int(value),
        Cell::Bytes(bytes) => Value::Bytes(bytes.to_vec()),
    };
    columns.iter().zip(row).map(|(column, cell)| (*column, value(cell))).collect()
}

/// Tells whether a value must be written encoded, lest readers take it for encoded.
pub(super) fn must_encode(content: &[u8]) -> bool {
    is_encoded(content)
}
