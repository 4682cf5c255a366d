//! How Kylin stores content in databases: as it is, or as the four bytes `GZIP` and a zlib stream, which is no gzip.
//!
//! Values of both forms lie in one column with no flag to tell. Kylin itself never ends reading a stream that is
//! truncated, so nothing damaged may be written.

use std::io::{self, BufRead, BufReader, Cursor, Read, Write};

use flate2::write::ZlibEncoder;
use flate2::{Compression, Decompress, FlushDecompress, Status};

const MAGIC: &[u8] = b"GZIP";

/// What the content of small documents grows by, and what [`DecodingReader`] reads at once.
const BUFFER_BYTES: usize = 32 << 10;

/// Tells whether a stored value is encoded.
pub fn is_encoded(stored: &[u8]) -> bool {
    stored.len() > MAGIC.len() && stored.starts_with(MAGIC)
}

/// What became of a stored value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded {
    /// It was not encoded, and was appended as it is.
    Plain,
    /// It was encoded; its content was appended.
    Encoded,
    /// Its content is larger than allowed. Nothing was appended.
    TooLarge,
}

/// An encoded value can't be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the compressed content {why}")]
pub struct Corrupt {
    /// What is wrong, as the rest of a sentence.
    pub why: &'static str,
}

const TRUNCATED: Corrupt = Corrupt { why: "ends too early" };
const DAMAGED: Corrupt = Corrupt { why: "is damaged" };
const TRAILING: Corrupt = Corrupt { why: "is followed by something else" };

/// Appends the content that `stored` stands for, if it has `bytes_max` bytes at most. No more than these and a buffer are
/// held, whatever the stream would grow to.
///
/// # Errors
/// When the stream is damaged, truncated, or not the end. Nothing is appended then.
pub fn decode(stored: &[u8], bytes_max: u64, content: &mut Vec<u8>) -> Result<Decoded, Corrupt> {
    let length = content.len();
    if !is_encoded(stored) {
        if stored.len() as u64 > bytes_max {
            return Ok(Decoded::TooLarge);
        }
        content.extend_from_slice(stored);
        return Ok(Decoded::Plain);
    }
    let decoded = inflate(&stored[MAGIC.len()..], bytes_max, content);
    if decoded != Ok(Decoded::Encoded) {
        content.truncate(length);
    }
    decoded
}

fn inflate(stream: &[u8], bytes_max: u64, content: &mut Vec<u8>) -> Result<Decoded, Corrupt> {
    let start = content.len();
    let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    let mut inflater = Inflater::new();
    let mut rest = stream;
    loop {
        let held = content.len() - start;
        if held > bytes_max {
            return Ok(Decoded::TooLarge);
        }
        if content.len() == content.capacity() {
            // Twice as much each time, but one byte more than allowed at most. That byte tells what is too large.
            let more = held.max(BUFFER_BYTES).min((bytes_max - held).saturating_add(1));
            content.reserve_exact(more);
        }
        let before = (inflater.0.total_in(), content.len());
        let status = inflater.0.decompress_vec(rest, content, FlushDecompress::None);
        let read = inflater.read_since(before.0);
        rest = &rest[read..];
        match status.map_err(|_| DAMAGED)? {
            Status::StreamEnd if !rest.is_empty() => return Err(TRAILING),
            Status::StreamEnd if content.len() - start > bytes_max => return Ok(Decoded::TooLarge),
            Status::StreamEnd => return Ok(Decoded::Encoded),
            Status::Ok | Status::BufError if read == 0 && content.len() == before.1 => return Err(TRUNCATED),
            Status::Ok | Status::BufError => {}
        }
    }
}

/// Encodes content as Kylin does. Empty content stays empty.
pub fn encode(content: &[u8]) -> Vec<u8> {
    if content.is_empty() {
        return Vec::new();
    }
    let mut encoder = ZlibEncoder::new(MAGIC.to_vec(), Compression::new(1));
    let encoded = encoder.write_all(content).and_then(|()| encoder.finish());
    encoded.expect("nothing fails to be written to memory")
}

struct Inflater(Decompress);

impl Inflater {
    fn new() -> Self {
        Self(Decompress::new(true))
    }

    /// Returns how many bytes were read since `total_in` was this.
    fn read_since(&self, total_in: u64) -> usize {
        usize::try_from(self.0.total_in() - total_in).expect("what was read was in memory")
    }
}

/// Reads the content of a stored value that is too large to be held. What is corrupt is an error of the kind
/// [`io::ErrorKind::InvalidData`] with a [`Corrupt`] in it.
pub struct DecodingReader<R> {
    stored: BufReader<io::Chain<Cursor<Vec<u8>>, R>>,
    state: State,
}

enum State {
    Plain,
    Stream(Inflater),
    End,
    Broken(Corrupt),
}

impl<R: Read> DecodingReader<R> {
    /// Reads the beginning of a stored value, which tells whether it is encoded.
    ///
    /// # Errors
    /// When `stored` can't be read.
    pub fn new(mut stored: R) -> io::Result<Self> {
        let mut head = Vec::with_capacity(MAGIC.len() + 1);
        stored.by_ref().take(MAGIC.len() as u64 + 1).read_to_end(&mut head)?;
        let is_encoded = is_encoded(&head);
        let mut head = Cursor::new(head);
        if is_encoded {
            head.set_position(MAGIC.len() as u64);
        }
        let state = if is_encoded { State::Stream(Inflater::new()) } else { State::Plain };
        Ok(Self { stored: BufReader::with_capacity(BUFFER_BYTES, head.chain(stored)), state })
    }

    /// Tells whether the value is encoded.
    pub fn is_encoded(&self) -> bool {
        !matches!(self.state, State::Plain)
    }

    fn inflate(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let State::Stream(inflater) = &mut self.state {
            let input = self.stored.fill_buf()?;
            let is_last = input.is_empty();
            let before = (inflater.0.total_in(), inflater.0.total_out());
            let status = inflater.0.decompress(input, buffer, FlushDecompress::None);
            let read = inflater.read_since(before.0);
            let written = usize::try_from(inflater.0.total_out() - before.1).expect("it was written to memory");
            self.stored.consume(read);
            match status {
                Err(_) => self.state = State::Broken(DAMAGED),
                Ok(Status::StreamEnd) => self.end()?,
                Ok(_) if is_last && written == 0 => self.state = State::Broken(TRUNCATED),
                Ok(_) if read == 0 && written == 0 => self.state = State::Broken(DAMAGED),
                Ok(_) => {}
            }
            if written > 0 {
                return Ok(written);
            }
        }
        match self.state {
            State::Broken(corrupt) => Err(io::Error::new(io::ErrorKind::InvalidData, corrupt)),
            _ => Ok(0),
        }
    }

    /// The stream has ended: nothing may follow.
    fn end(&mut self) -> io::Result<()> {
        self.state = State::End;
        loop {
            match self.stored.fill_buf() {
                Ok([]) => return Ok(()),
                Ok(_) => {
                    self.state = State::Broken(TRAILING);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl<R: Read> Read for DecodingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.state {
            _ if buffer.is_empty() => Ok(0),
            State::Plain => self.stored.read(buffer),
            _ => self.inflate(buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `{}` as zlib, and so Java, writes it at level 1.
    const FROM_ZLIB: &[u8] = b"GZIP\x78\x01\xab\xae\x05\x00\x01\x75\x00\xf9";

    fn decoded(stored: &[u8], bytes_max: u64) -> Result<(Decoded, Vec<u8>), Corrupt> {
        let mut content = b"before".to_vec();
        let result = decode(stored, bytes_max, &mut content);
        assert_eq!(&content[..6], b"before");
        assert!(content.len() == 6 || matches!(result, Ok(Decoded::Plain | Decoded::Encoded)));
        result.map(|decoded| (decoded, content.split_off(6)))
    }

    /// What the reader reads, in pieces of one byte from its source.
    fn streamed(stored: &[u8], piece: usize) -> Result<Vec<u8>, Corrupt> {
        struct Single<'a>(&'a [u8]);
        impl Read for Single<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let most = buffer.len().min(1);
                self.0.read(&mut buffer[..most])
            }
        }
        let mut reader = DecodingReader::new(Single(stored)).unwrap();
        assert_eq!(reader.is_encoded(), is_encoded(stored));
        let mut content = Vec::new();
        let mut buffer = vec![0; piece];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(content),
                Ok(read) => content.extend_from_slice(&buffer[..read]),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
                    assert!(reader.read(&mut buffer).is_err(), "it stays broken");
                    return Err(*error.get_ref().unwrap().downcast_ref::<Corrupt>().unwrap());
                }
            }
        }
    }

    #[test]
    fn what_zlib_wrote_is_decoded() {
        assert_eq!(decoded(FROM_ZLIB, 2), Ok((Decoded::Encoded, b"{}".to_vec())));
        assert_eq!(decoded(FROM_ZLIB, 1), Ok((Decoded::TooLarge, Vec::new())));
        assert_eq!(streamed(FROM_ZLIB, 1), Ok(b"{}".to_vec()));
        assert_eq!(&encode(b"{}")[..6], b"GZIP\x78\x01");
    }

    #[test]
    fn plain_values_are_as_they_are() {
        for plain in [&b""[..], b"{}", b"GZIP", b"gzip12345", b" GZIP1"] {
            assert_eq!(decoded(plain, plain.len() as u64), Ok((Decoded::Plain, plain.to_vec())));
            assert_eq!(streamed(plain, 3).as_deref(), Ok(plain));
        }
        assert_eq!(decoded(b"{}", 1), Ok((Decoded::TooLarge, Vec::new())));
        assert!(encode(b"").is_empty());
    }

    #[test]
    fn content_that_looks_encoded_is_encoded_once_more() {
        let encoded = encode(FROM_ZLIB);
        assert_eq!(decoded(&encoded, 100), Ok((Decoded::Encoded, FROM_ZLIB.to_vec())));
    }

    #[test]
    fn what_is_corrupt_is_told() {
        let mut wrong_sum = FROM_ZLIB.to_vec();
        *wrong_sum.last_mut().unwrap() ^= 1;
        let trailing = [FROM_ZLIB, b"x"].concat();
        for (stored, expected) in [
            (&b"GZIPx"[..], TRUNCATED),
            (b"GZIPxyz", DAMAGED),
            (b"GZIP\x1f\x8b\x08\x00\x00\x00\x00\x00", DAMAGED),
            (&FROM_ZLIB[..FROM_ZLIB.len() - 1], TRUNCATED),
            (&wrong_sum, DAMAGED),
            (&trailing, TRAILING),
            // A stream that wants a dictionary.
            (b"GZIP\x78\x20\x00\x00\x00\x01\xab\xae\x05\x00", DAMAGED),
        ] {
            assert_eq!(decoded(stored, 100), Err(expected), "{stored:?}");
            assert_eq!(streamed(stored, 7), Err(expected), "{stored:?}");
        }
    }

    #[test]
    fn content_of_any_size_is_held_within_bounds() {
        let encoded = encode(&vec![b'x'; 5 << 20]);
        for bytes_max in [0, 1, BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES + 1, 100_000, (5 << 20) - 1] {
            let mut content = Vec::new();
            assert_eq!(decode(&encoded, bytes_max as u64, &mut content), Ok(Decoded::TooLarge));
            assert!(content.capacity() <= bytes_max + BUFFER_BYTES, "{bytes_max}: {}", content.capacity());
        }
        let mut content = Vec::new();
        assert_eq!(decode(&encoded, 5 << 20, &mut content), Ok(Decoded::Encoded));
        assert_eq!((content.len(), content.capacity()), (5 << 20, (5 << 20) + 1));
    }

    fn content() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..2000),
            prop::collection::vec(prop::sample::select(b"{}\":a ".to_vec()), 0..100_000),
        ]
    }

    proptest! {
        #[test]
        fn encode_and_decode_are_inverse(content in content(), piece in 1..70_000_usize) {
            let encoded = encode(&content);
            let expected = if content.is_empty() { Decoded::Plain } else { Decoded::Encoded };
            prop_assert_eq!(decoded(&encoded, content.len() as u64), Ok((expected, content.clone())));
            prop_assert_eq!(streamed(&encoded, piece), Ok(content));
        }

        #[test]
        fn truncation_is_noticed(content in content(), at in any::<prop::sample::Index>()) {
            prop_assume!(!content.is_empty());
            let mut stored = encode(&content);
            stored.truncate(at.index(stored.len()));
            prop_assert_ne!(decoded(&stored, content.len() as u64), Ok((Decoded::Encoded, content.clone())));
            prop_assert_ne!(streamed(&stored, 4096), Ok(content));
        }

        // Some bits are mere padding. A flip in `GZIP` makes a plain value of it.
        #[test]
        fn no_flipped_bit_leads_to_other_content(content in content(), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            prop_assume!(!content.is_empty());
            let mut stored = encode(&content);
            let at = at.index(stored.len());
            stored[at] ^= 1_u8 << bit;
            match decoded(&stored, 1 << 20) {
                Ok((Decoded::Encoded, decoded)) => prop_assert_eq!(&decoded, &content),
                Ok((Decoded::Plain, decoded)) => prop_assert!(at < 4 && decoded == stored),
                Ok((Decoded::TooLarge, _)) | Err(_) => {}
            }
            if let Ok(streamed) = streamed(&stored, 4096) {
                prop_assert_eq!(streamed, if at < 4 { stored } else { content });
            }
        }

        #[test]
        fn any_bytes_end(stream in prop::collection::vec(any::<u8>(), 0..500)) {
            let stored = [b"GZIP\x78\x01", &stream[..]].concat();
            let whole = decoded(&stored, 1 << 20);
            let streamed = streamed(&stored, 100);
            prop_assert_eq!(whole.is_err(), streamed.is_err());
        }
    }
}
