//! The headers of a tar: what stands before the content of an entry.
//!
//! The crate `tar` knows the fields of a header. What comes before one (long names, records of PAX) is read here: the
//! crate would take as much of it into memory as an archive says that there is, and ends a value at its first line end.

use ::tar::{EntryType, Header};

use crate::endpoint::Put;

/// Headers and contents fill whole blocks.
pub(super) const BLOCK_BYTES: usize = 512;
/// Blocks of zeros at the end.
pub(super) const END_BYTES: u64 = 2 * BLOCK_BYTES as u64;
/// Most bytes of what may come before a header: enough for the longest path, and for attributes that are passed over.
pub(super) const EXTENSION_BYTES_MAX: u64 = 1 << 20;
/// Longest name that stands in a header itself.
const NAME_BYTES_MAX: usize = 100;
/// Latest time that stands in a header, in seconds since 1970: eleven octal digits.
const SECONDS_MAX: i64 = 0o777_7777_7777;
/// What unpacking restores without the tar saying so.
const DOCUMENT_MODE: u16 = 0o644;
const DIRECTORY_MODE: u16 = 0o755;
const NS: i64 = 1_000_000_000;

/// What is wrong with an archive.
pub(super) type Result<T> = std::result::Result<T, String>;

/// What a header announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Document,
    Directory,
    /// Something that is neither, and is passed over.
    Other(&'static str),
    /// The name of the entry that follows.
    LongName,
    /// The target of the link that follows.
    LongLink,
    /// Records about the entry that follows.
    Records,
    /// Records about all that follow.
    GlobalRecords,
}

/// What a header says.
#[derive(Debug)]
pub(super) struct Said {
    pub name: Vec<u8>,
    pub kind: Kind,
    pub size: u64,
    pub mode: u16,
    pub time_ns: i64,
}

/// Reads a header.
pub(super) fn parse(block: &[u8; BLOCK_BYTES]) -> Result<Said> {
    let header = Header::from_byte_slice(block);
    let mut expected = header.clone();
    expected.set_cksum();
    let sum = header.cksum().map_err(|_| "it has no checksum: it is cut off, or no tar")?;
    if Ok(sum) != expected.cksum().map_err(|_| ()) {
        return Err("it does not match its checksum".to_owned());
    }
    let name = header.path_bytes().into_owned();
    let kind = kind_of(header.entry_type(), &name)?;
    let size = header.entry_size().map_err(|_| "its size can't be read")?;
    let mode = header.mode().map_err(|_| "its mode can't be read")?;
    let mode = u16::try_from(mode & 0o7777).expect("twelve bits");
    Ok(Said { name, kind, size, mode, time_ns: seconds_of(header)?.saturating_mul(NS) })
}

fn kind_of(kind: EntryType, name: &[u8]) -> Result<Kind> {
    Ok(match kind {
        // Before there was a type for them, a slash told directories.
        EntryType::Regular if name.ends_with(b"/") => Kind::Directory,
        EntryType::Regular | EntryType::Continuous => Kind::Document,
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Other("a symlink"),
        EntryType::Link => Kind::Other("a hard link"),
        EntryType::Fifo => Kind::Other("a named pipe"),
        EntryType::GNULongName => Kind::LongName,
        EntryType::GNULongLink => Kind::LongLink,
        EntryType::XHeader => Kind::Records,
        EntryType::XGlobalHeader => Kind::GlobalRecords,
        EntryType::Char | EntryType::Block => return Err("it is a device".to_owned()),
        EntryType::GNUSparse => return Err(SPARSE.to_owned()),
        other => return Err(format!("it is of type {:#04x}, which is not supported", other.as_byte())),
    })
}

const SPARSE: &str = "it is stored with holes (a sparse file), which is not supported";

/// Returns the modification time in seconds since 1970.
fn seconds_of(header: &Header) -> Result<i64> {
    let field = &header.as_old().mtime;
    // Times before 1970 are binary numbers with a sign, which the crate does not know.
    if field[0] == 0xff {
        return Ok(i64::from_be_bytes(field[4..].try_into().expect("eight of twelve bytes")));
    }
    let seconds = header.mtime().map_err(|_| "its time can't be read")?;
    Ok(i64::try_from(seconds).unwrap_or(i64::MAX))
}

/// What was said of an entry before its header.
#[derive(Debug, Default)]
pub(super) struct Extension {
    pub is_there: bool,
    name: Option<Vec<u8>>,
    time_ns: Option<i64>,
    size: Option<u64>,
}

impl Extension {
    /// Takes in what lies between two headers.
    pub(super) fn take(&mut self, kind: Kind, data: &[u8]) -> Result<()> {
        self.is_there |= kind != Kind::GlobalRecords;
        match kind {
            Kind::LongName => {
                let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
                self.set_name(&data[..end])
            }
            Kind::Records => self.take_records(data),
            Kind::GlobalRecords => check_global(data),
            Kind::LongLink | Kind::Document | Kind::Directory | Kind::Other(_) => Ok(()),
        }
    }

    fn set_name(&mut self, name: &[u8]) -> Result<()> {
        match self.name.replace(name.to_vec()) {
            None => Ok(()),
            Some(_) => Err("what follows it is given two names".to_owned()),
        }
    }

    fn take_records(&mut self, data: &[u8]) -> Result<()> {
        for record in Records(data) {
            let (key, value) = record?;
            match key {
                b"path" => self.set_name(value)?,
                b"mtime" => self.time_ns = Some(parse_time(value).ok_or("its time can't be read")?),
                b"size" => self.size = Some(parse_number(value).ok_or("its size can't be read")?),
                key if key.starts_with(b"GNU.sparse.") => return Err(SPARSE.to_owned()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Puts what was said before into what the header says.
    pub(super) fn apply(self, said: &mut Said) -> Result<()> {
        if let Some(name) = self.name {
            said.name = name;
        }
        if let Some(time_ns) = self.time_ns {
            said.time_ns = time_ns;
        }
        match self.size {
            // Two readers would see two archives.
            Some(size) if size != said.size => Err(format!("it has two sizes, {size} bytes and {} bytes", said.size)),
            _ => Ok(()),
        }
    }
}

/// Refuses records about all entries that would change what these are.
fn check_global(data: &[u8]) -> Result<()> {
    for record in Records(data) {
        let (key, _) = record?;
        if matches!(key, b"path" | b"linkpath" | b"size" | b"mtime") || key.starts_with(b"GNU.sparse.") {
            return Err(format!("it says `{}` of all entries, which is not supported", String::from_utf8_lossy(key)));
        }
    }
    Ok(())
}

/// The records of PAX: each is its length, a space, key, `=`, value and a line end.
struct Records<'a>(&'a [u8]);

impl<'a> Records<'a> {
    fn split(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let space = self.0.iter().position(|byte| *byte == b' ')?;
        let length = usize::try_from(parse_number(&self.0[..space])?).ok()?;
        let record = self.0.get(space + 1..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        self.0 = &self.0[length..];
        Some((&record[..equals], &record[equals + 1..]))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<(&'a [u8], &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let record = self.split();
        if record.is_none() {
            self.0 = &[];
        }
        Some(record.ok_or_else(|| "its records are malformed".to_owned()))
    }
}

fn parse_number(digits: &[u8]) -> Option<u64> {
    let is_plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    str::from_utf8(digits).ok().filter(|_| is_plain)?.parse().ok()
}

/// Reads seconds since 1970 with a fraction, and returns nanoseconds.
fn parse_time(text: &[u8]) -> Option<i64> {
    let (is_negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
    let point = text.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = point.map_or((text, &b""[..]), |point| (&text[..point], &text[point + 1..]));
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |n: usize| fraction.get(n).map_or(0, |digit| i64::from(digit - b'0'));
    let fraction = (0..9).fold(0, |sum, n| sum * 10 + digit(n));
    let ns = i64::try_from(parse_number(whole)?).unwrap_or(i64::MAX).saturating_mul(NS).saturating_add(fraction);
    Some(if is_negative { -ns } else { ns })
}

/// Returns what stands before the content of what is put under this name: a header, and records where that has no room.
pub(super) fn head(name: &[u8], put: &Put) -> Vec<u8> {
    let is_directory = put.document.is_none();
    let name = if is_directory { [name, b"/"].concat() } else { name.to_vec() };
    let records = records(&name, put.time_ns);
    let mut blocks = Vec::new();
    if !records.is_empty() {
        let header = header(b"././@PaxHeader", EntryType::XHeader, records.len() as u64, DOCUMENT_MODE, 0);
        blocks.extend(header.as_bytes());
        blocks.extend(&records);
        blocks.resize(blocks.len().next_multiple_of(BLOCK_BYTES), 0);
    }
    let kind = if is_directory { EntryType::Directory } else { EntryType::Regular };
    let mode = put.mode.unwrap_or(if is_directory { DIRECTORY_MODE } else { DOCUMENT_MODE });
    let size = put.document.as_ref().map_or(0, |document| document.size);
    blocks.extend(header(&name, kind, size, mode, put.time_ns).as_bytes());
    blocks
}

fn records(name: &[u8], time_ns: i64) -> Vec<u8> {
    let mut records = Vec::new();
    if name.len() > NAME_BYTES_MAX {
        // As it is, like other names: GNU tar does so, too, and complains about a record that says what the bytes are.
        record(b"path", name, &mut records);
    }
    if time_ns % NS != 0 || !(0..=SECONDS_MAX).contains(&(time_ns / NS)) {
        let (sign, ns) = (if time_ns < 0 { "-" } else { "" }, time_ns.unsigned_abs());
        let (whole, fraction) = (ns / NS.unsigned_abs(), ns % NS.unsigned_abs());
        record(b"mtime", format!("{sign}{whole}.{fraction:09}").as_bytes(), &mut records);
    }
    records
}

fn record(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let rest = key.len() + value.len() + b" =\n".len();
    // The length counts its own digits.
    let mut length = rest;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    out.extend([length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat());
}

fn header(name: &[u8], kind: EntryType, size: u64, mode: u16, time_ns: i64) -> Header {
    let mut header = Header::new_ustar();
    let shown = name.len().min(NAME_BYTES_MAX);
    header.as_old_mut().name[..shown].copy_from_slice(&name[..shown]);
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode.into());
    header.set_mtime(time_ns.div_euclid(NS).clamp(0, SECONDS_MAX).unsigned_abs());
    // Who owns the documents here says nothing elsewhere, and equal snapshots should be equal archives.
    header.set_uid(0);
    header.set_gid(0);
    for owner in [Header::set_username, Header::set_groupname] {
        owner(&mut header, "root").expect("four bytes fit");
    }
    header.set_cksum();
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::entry::{Document, Encoding};
    use crate::model::hash::ContentId;
    use crate::model::path::EntryPath;

    fn put(size: Option<u64>, mode: Option<u16>, time_ns: i64) -> Put {
        let document = size.map(|size| Document { content: ContentId::of(b""), size, pieces: Box::default() });
        let path = EntryPath::new(&b"x"[..]).unwrap();
        Put { path, document, mode, encoding: Encoding::Plain, time_ns, replaces: None }
    }

    /// Reads what stands before one entry.
    fn read(head: &[u8]) -> Result<Said> {
        let mut extension = Extension::default();
        let mut at = 0;
        loop {
            let mut said = parse(head[at..][..BLOCK_BYTES].try_into().unwrap())?;
            at += BLOCK_BYTES;
            if matches!(said.kind, Kind::Document | Kind::Directory) {
                assert_eq!(at, head.len());
                extension.apply(&mut said)?;
                return Ok(said);
            }
            let size = usize::try_from(said.size).unwrap();
            extension.take(said.kind, &head[at..][..size])?;
            at += size.next_multiple_of(BLOCK_BYTES);
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let names =
            [b"a".to_vec(), b"p/\xff\xfe".to_vec(), vec![b'n'; 100], vec![b'n'; 65_000], b"two\nlines ".repeat(20)];
        let times = [0, 1, -1, -1_500_000_000, 1_700_000_000_123_456_789, NS * SECONDS_MAX, i64::MAX, -i64::MAX];
        for name in &names {
            for time_ns in times {
                let said = read(&head(name, &put(Some(9 << 30), Some(0o4751), time_ns))).unwrap();
                assert_eq!((&said.name, said.kind, said.size), (name, Kind::Document, 9 << 30));
                assert_eq!((said.mode, said.time_ns), (0o4751, time_ns));
            }
            let said = read(&head(name, &put(None, None, 5 * NS))).unwrap();
            assert_eq!((said.name, said.kind, said.size), ([name, &b"/"[..]].concat(), Kind::Directory, 0));
            assert_eq!((said.mode, said.time_ns), (0o755, 5 * NS));
        }
    }

    #[test]
    fn records_count_their_own_length() {
        for length in 0..2000 {
            let (mut out, value) = (Vec::new(), vec![b'\n'; length]);
            record(b"path", &value, &mut out);
            record(b"size", b"7", &mut out);
            let records: Vec<_> = Records(&out).collect::<Result<_>>().unwrap();
            assert_eq!(records, [(&b"path"[..], &value[..]), (b"size", b"7")]);
        }
    }

    #[test]
    fn malformed_records_are_told() {
        let wrong = ["x", "1", "1 ", "0 a=b\n", "8 a=b\n", "7 a=b ", "-7 a=b\n", "99999999999999999999 a=b\n"];
        for text in wrong {
            assert!(Extension::default().take(Kind::Records, text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        let times = [
            ("0", 0),
            ("1.5", 1_500_000_000),
            ("-1.5", -1_500_000_000),
            ("7.1234567899", 7_123_456_789),
            ("7.", 7 * NS),
        ];
        for (text, time_ns) in times {
            assert_eq!(parse_time(text.as_bytes()), Some(time_ns), "{text}");
        }
        assert_eq!(parse_time(b"99999999999999999999999"), None);
        assert_eq!(parse_time(b"9999999999999999999"), Some(i64::MAX));
        for text in ["", ".", ".5", "1.x", "1.-5", "+1", "1e5"] {
            assert_eq!(parse_time(text.as_bytes()), None, "{text}");
        }
    }
}
