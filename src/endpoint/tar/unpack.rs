//! From the bytes of a file or a pipe to a tar that can be read anywhere: what is compressed, or can be read only once,
//! goes to a temporary file without a name.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};

use zstd::stream::read::Decoder;

use crate::endpoint::{Error, Result};
use crate::monitor::Monitor;

/// What a frame of zstd begins with.
pub(super) const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Bytes that are unpacked at once.
const PIECE_BYTES: usize = 256 << 10;
/// The most that the decoder may look back, as a power of two: its memory. More than the levels of the command `zstd`
/// need that are not asked for with `--ultra` or `--long=28` and more.
const WINDOW_LOG_MAX: u32 = 27;
/// What may be unpacked whatever it was packed to: a document of a few zeros is no attack.
const UNPACKED_FREE_BYTES: u64 = 1 << 30;
/// How many times as much may be unpacked beyond that. Deflate could never do more.
const INFLATION_MAX: u64 = 1032;

/// Opens the bytes of a file as a tar.
pub(super) fn of_file(mut file: File, store: &str, monitor: &dyn Monitor) -> Result<File> {
    let failed = |e| Error::io("read", store, e);
    let mut start = Vec::new();
    (&file).take(ZSTD_MAGIC.len() as u64).read_to_end(&mut start).map_err(failed)?;
    file.rewind().map_err(failed)?;
    if start == ZSTD_MAGIC { spool(file, true, store, monitor) } else { Ok(file) }
}

/// Takes in a tar to its end.
pub(super) fn of_stream(mut stream: impl Read, store: &str, monitor: &dyn Monitor) -> Result<File> {
    let mut start = Vec::new();
    let begun = (&mut stream).take(ZSTD_MAGIC.len() as u64).read_to_end(&mut start);
    begun.map_err(|e| Error::io("read", store, e))?;
    let is_packed = start == ZSTD_MAGIC;
    spool(io::Cursor::new(start).chain(stream), is_packed, store, monitor)
}

fn spool(packed: impl Read, is_packed: bool, store: &str, monitor: &dyn Monitor) -> Result<File> {
    let mut file = tempfile::tempfile().map_err(|e| Error::io("create", "a temporary file", e))?;
    let mut packed = BufReader::with_capacity(PIECE_BYTES, Counted { inner: packed, bytes: 0 });
    if is_packed {
        let damaged = |what: String| Error::Damaged { store: store.to_owned(), what };
        let mut decoder = Decoder::with_buffer(packed).map_err(|e| Error::io("unpack", store, e))?;
        decoder.window_log_max(WINDOW_LOG_MAX).map_err(|e| Error::io("unpack", store, e))?;
        let mut unpacked = 0;
        copy(&mut decoder, &mut file, store, monitor, |decoder, read| {
            unpacked += read;
            let taken = decoder.get_ref().get_ref().bytes;
            if unpacked <= taken.saturating_mul(INFLATION_MAX).saturating_add(UNPACKED_FREE_BYTES) {
                return Ok(());
            }
            Err(damaged(format!("{unpacked} bytes and more can't have been compressed to {taken}")))
        })?;
    } else {
        copy(&mut packed, &mut file, store, monitor, |_, _| Ok(()))?;
    }
    Ok(file)
}

fn copy<R: Read>(
    from: &mut R,
    to: &mut File,
    store: &str,
    monitor: &dyn Monitor,
    mut check: impl FnMut(&R, u64) -> Result<()>,
) -> Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        if monitor.is_interrupted() {
            return Err(Error::Interrupted);
        }
        let read = match from.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            // What the system does not say is what the decoder says.
            Err(e) if e.raw_os_error().is_none() => {
                let what = format!("its compressed data is corrupt or cut off: {e}");
                return Err(Error::Damaged { store: store.to_owned(), what });
            }
            Err(e) => return Err(Error::io("read", store, e)),
        };
        check(from, read as u64)?;
        to.write_all(&piece[..read]).map_err(|e| Error::io("write", "a temporary file", e))?;
    }
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes += read as u64;
        Ok(read)
    }
}
