//! How Kylin keeps documents in columns, and how it writes JSON.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{Formatter, PrettyFormatter};

const MARK: &[u8] = b"GZIP";

/// Which contents are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compress {
    All,
    None,
    /// About every second one.
    Mixed,
}

impl Compress {
    /// Encodes the content of the document of this name.
    pub(crate) fn encode(self, name: &str, content: &[u8]) -> Vec<u8> {
        let is_chosen = match self {
            Self::All => true,
            Self::None => false,
            Self::Mixed => name.bytes().fold(0, u8::wrapping_add) % 2 == 0,
        };
        if is_chosen { encode(content) } else { content.to_vec() }
    }
}

/// Compresses a content as Kylin does: four letters, then a zlib stream, unless it is empty or looks compressed.
pub(crate) fn encode(content: &[u8]) -> Vec<u8> {
    if content.is_empty() || is_compressed(content) {
        return content.to_vec();
    }
    let mut encoder = ZlibEncoder::new(MARK.to_vec(), Compression::new(1));
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// Decodes what a column holds.
pub(crate) fn decode(stored: &[u8]) -> Vec<u8> {
    if !is_compressed(stored) {
        return stored.to_vec();
    }
    let mut decoder = ZlibDecoder::new(&stored[MARK.len()..]);
    let mut content = Vec::new();
    decoder.read_to_end(&mut content).expect("Kylin's reader would not come back");
    let read = usize::try_from(decoder.total_in()).unwrap();
    assert_eq!(read, stored.len() - MARK.len(), "bytes after the stream");
    content
}

fn is_compressed(stored: &[u8]) -> bool {
    stored.len() > MARK.len() && stored.starts_with(MARK)
}

/// Writes JSON as Kylin does, near enough: a space before and after each colon.
pub(crate) fn pretty(json: &serde_json::Value) -> Vec<u8> {
    let mut text = Vec::new();
    json.serialize(&mut Serializer::with_formatter(&mut text, Spaced(PrettyFormatter::new()))).unwrap();
    text
}

struct Spaced(PrettyFormatter<'static>);

impl Formatter for Spaced {
    fn begin_object_value<W: Write + ?Sized>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b" : ")
    }

    fn end_object_value<W: Write + ?Sized>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.0.end_object_value(writer)
    }

    fn begin_object<W: Write + ?Sized>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: Write + ?Sized>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: Write + ?Sized>(&mut self, writer: &mut W, is_first: bool) -> std::io::Result<()> {
        self.0.begin_object_key(writer, is_first)
    }

    fn begin_array_value<W: Write + ?Sized>(&mut self, writer: &mut W, is_first: bool) -> std::io::Result<()> {
        writer.write_all(if is_first { b" " } else { b", " })
    }

    fn end_array<W: Write + ?Sized>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b" ]")
    }
}
