//! The records of a zip archive as bytes. Whatever does not fit the format is said in words and never guessed at.

use super::extra;

/// Begins the header in front of the data of an entry.
const LOCAL: u32 = 0x0403_4b50;
/// Begins the record of an entry in the central directory.
const CENTRAL: u32 = 0x0201_4b50;
/// Begins the last record of an archive.
const END: u32 = 0x0605_4b50;
/// Begins the record of what does not fit into the last one, and what says where that record is.
const END_64: u32 = 0x0606_4b50;
const LOCATOR_64: u32 = 0x0706_4b50;
/// May begin what follows the data of an entry whose size was not known before.
const DESCRIPTOR: u32 = 0x0807_4b50;

/// Bytes of the records that are not names, extra fields or comments.
pub(super) const LOCAL_BYTES: usize = 30;
pub(super) const CENTRAL_BYTES: usize = 46;
pub(super) const END_BYTES: usize = 22;
pub(super) const END_64_BYTES: usize = 56;
pub(super) const LOCATOR_64_BYTES: usize = 20;

/// Longest descriptor: signature, checksum and two sizes of 64 bits.
pub(super) const DESCRIPTOR_BYTES_MAX: usize = 24;

pub(super) const STORED: u16 = 0;
pub(super) const DEFLATED: u16 = 8;

pub(super) const IS_ENCRYPTED: u16 = 1;
pub(super) const HAS_DESCRIPTOR: u16 = 1 << 3;
pub(super) const IS_UTF8: u16 = 1 << 11;
/// The flags that are understood: how hard the compressor tried, a descriptor, a name in UTF-8.
pub(super) const FLAGS_KNOWN: u16 = 0b110 | HAS_DESCRIPTOR | IS_UTF8;

/// Versions of the format that a reader needs.
const VERSION: u16 = 20;
const VERSION_64: u16 = 45;

/// What is wrong with a record.
pub(super) type Result<T> = std::result::Result<T, String>;

/// What a local header and a record of the central directory both say of an entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header<'a> {
    pub flags: u16,
    pub method: u16,
    /// Time and date as DOS has them.
    pub dos: (u16, u16),
    pub crc: u32,
    pub compressed: u64,
    pub size: u64,
    pub name: &'a [u8],
    pub extra: &'a [u8],
}

/// A record of the central directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Central<'a> {
    pub header: Header<'a>,
    pub made_by: u16,
    pub internal: u16,
    pub external: u32,
    pub offset: u64,
    pub comment: &'a [u8],
}

/// Where the central directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub count: u64,
    pub bytes: u64,
    pub start: u64,
}

/// Takes numbers from the front of some bytes.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or("it is cut off")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.bytes(N)?.try_into().expect("as many bytes as were asked for"))
    }

    pub(super) fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn signature(&mut self, signature: u32, of: &str) -> Result<()> {
        if self.u32()? == signature { Ok(()) } else { Err(format!("there is no {of} where one should be")) }
    }
}

/// Returns how many bytes follow the fixed part of a local header: name and extra fields.
pub(super) fn local_rest(fixed: &[u8; LOCAL_BYTES]) -> usize {
    rest(&fixed[26..])
}

/// Returns how many bytes follow the fixed part of a record of the central directory: name, extra fields, comment.
pub(super) fn central_rest(fixed: &[u8; CENTRAL_BYTES]) -> usize {
    rest(&fixed[28..32]) + rest(&fixed[32..34])
}

fn rest(lengths: &[u8]) -> usize {
    lengths.chunks_exact(2).map(|length| usize::from(u16::from_le_bytes([length[0], length[1]]))).sum()
}

/// Reads a local header with its name and extra fields.
pub(super) fn parse_local(record: &[u8]) -> Result<Header<'_>> {
    let mut fields = Fields(record);
    fields.signature(LOCAL, "local header")?;
    let _needed = fields.u16()?;
    let mut header = parse_shared(&mut fields)?;
    let (name_bytes, extra_bytes) = (fields.u16()?, fields.u16()?);
    header.name = fields.bytes(name_bytes.into())?;
    header.extra = fields.bytes(extra_bytes.into())?;
    // With a descriptor both sizes may be left out.
    let (size, compressed) = (&mut header.size, &mut header.compressed);
    extra::widen(header.extra, [size, compressed])?;
    extra::check_name(&header)?;
    Ok(header)
}

/// Reads a record of the central directory with its name, extra fields and comment.
pub(super) fn parse_central(record: &[u8]) -> Result<Central<'_>> {
    let mut fields = Fields(record);
    fields.signature(CENTRAL, "record of the central directory")?;
    let made_by = fields.u16()?;
    let _needed = fields.u16()?;
    let mut header = parse_shared(&mut fields)?;
    let (name_bytes, extra_bytes, comment_bytes) = (fields.u16()?, fields.u16()?, fields.u16()?);
    let disk = fields.u16()?;
    let (internal, external) = (fields.u16()?, fields.u32()?);
    let mut offset = u64::from(fields.u32()?);
    header.name = fields.bytes(name_bytes.into())?;
    header.extra = fields.bytes(extra_bytes.into())?;
    let comment = fields.bytes(comment_bytes.into())?;
    let disk_64 = extra::widen(header.extra, [&mut header.size, &mut header.compressed, &mut offset])?;
    if disk != 0 && (disk != u16::MAX || disk_64 != Some(0)) {
        return Err("it is on another disk".to_owned());
    }
    extra::check_name(&header)?;
    Ok(Central { header, made_by, internal, external, offset, comment })
}

fn parse_shared<'a>(fields: &mut Fields<'a>) -> Result<Header<'a>> {
    let (flags, method) = (fields.u16()?, fields.u16()?);
    let dos = (fields.u16()?, fields.u16()?);
    let crc = fields.u32()?;
    let (compressed, size) = (u64::from(fields.u32()?), u64::from(fields.u32()?));
    Ok(Header { flags, method, dos, crc, compressed, size, name: &[], extra: &[] })
}

/// Appends a local header.
pub(super) fn write_local(header: &Header<'_>, out: &mut Vec<u8>) -> Result<()> {
    // Here both sizes go into the extra field if one of them has to.
    let is_wide = header.size.max(header.compressed) >= u64::from(u32::MAX);
    let wide = if is_wide { vec![header.size, header.compressed] } else { Vec::new() };
    let extra = extra::with_wide(header.extra, &wide)?;
    out.extend_from_slice(&LOCAL.to_le_bytes());
    out.extend_from_slice(&version(is_wide).to_le_bytes());
    write_shared(header, is_wide, out);
    out.extend_from_slice(&length(header.name)?);
    out.extend_from_slice(&length(&extra)?);
    out.extend_from_slice(header.name);
    out.extend_from_slice(&extra);
    Ok(())
}

/// Appends a record of the central directory.
pub(super) fn write_central(central: &Central<'_>, out: &mut Vec<u8>) -> Result<()> {
    let header = &central.header;
    let are_sizes_wide = header.size.max(header.compressed) >= u64::from(u32::MAX);
    let mut wide = if are_sizes_wide { vec![header.size, header.compressed] } else { Vec::new() };
    let offset = u32::try_from(central.offset).unwrap_or(u32::MAX);
    wide.extend((offset == u32::MAX).then_some(central.offset));
    let extra = extra::with_wide(header.extra, &wide)?;
    out.extend_from_slice(&CENTRAL.to_le_bytes());
    out.extend_from_slice(&central.made_by.to_le_bytes());
    out.extend_from_slice(&version(!wide.is_empty()).to_le_bytes());
    write_shared(header, are_sizes_wide, out);
    out.extend_from_slice(&length(header.name)?);
    out.extend_from_slice(&length(&extra)?);
    out.extend_from_slice(&length(central.comment)?);
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&central.internal.to_le_bytes());
    out.extend_from_slice(&central.external.to_le_bytes());
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(header.name);
    out.extend_from_slice(&extra);
    out.extend_from_slice(central.comment);
    Ok(())
}

fn write_shared(header: &Header<'_>, is_wide: bool, out: &mut Vec<u8>) {
    let narrow = |number: u64| if is_wide { u32::MAX } else { u32::try_from(number).unwrap_or(u32::MAX) };
    for number in [header.flags, header.method, header.dos.0, header.dos.1] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    for number in [header.crc, narrow(header.compressed), narrow(header.size)] {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn version(is_wide: bool) -> u16 {
    if is_wide { VERSION_64 } else { VERSION }
}

pub(super) fn length(bytes: &[u8]) -> Result<[u8; 2]> {
    let length = u16::try_from(bytes.len()).map_err(|_| "a name, comment or extra field is longer than 65535 bytes")?;
    Ok(length.to_le_bytes())
}

/// Tells whether these bytes, which follow the data of an entry, are its descriptor.
pub(super) fn is_descriptor(bytes: &[u8], crc: u32, compressed: u64, size: u64) -> bool {
    let bytes = match bytes.len() {
        16 | 24 if bytes.starts_with(&DESCRIPTOR.to_le_bytes()) => &bytes[4..],
        _ => bytes,
    };
    let mut fields = Fields(bytes);
    let mut read = || {
        let crc = fields.u32()?;
        let sizes = match bytes.len() {
            12 => (fields.u32()?.into(), fields.u32()?.into()),
            _ => (fields.u64()?, fields.u64()?),
        };
        Ok::<_, String>((crc, sizes))
    };
    matches!(bytes.len(), 12 | 20) && read() == Ok((crc, (compressed, size)))
}

/// Returns the places in the last bytes of a file at which the last record may begin.
pub(super) fn find_ends(tail: &[u8]) -> Vec<usize> {
    let last = tail.len().saturating_sub(END_BYTES - 1);
    let fits = |at: &usize| {
        let comment = u16::from_le_bytes([tail[at + 20], tail[at + 21]]);
        tail[*at..*at + 4] == END.to_le_bytes() && at + END_BYTES + usize::from(comment) == tail.len()
    };
    (0..last).filter(fits).collect()
}

/// Reads the last record and, if they are there, the records of 64 bits right before it. `tail` is the end of a file
/// and begins at `tail_start`. Returns also where the first of these records is.
pub(super) fn parse_end(tail: &[u8], tail_start: u64, at: usize) -> Result<(End, u64)> {
    let mut fields = Fields(&tail[at..]);
    fields.signature(END, "end of the central directory")?;
    let disks = (fields.u16()?, fields.u16()?);
    let (count_here, count) = (fields.u16()?, fields.u16()?);
    let (bytes, start) = (fields.u32()?, fields.u32()?);
    let before = &tail[..at];
    let wide = match before.len().checked_sub(LOCATOR_64_BYTES).map(|at| &before[at..]) {
        Some(locator) if locator.starts_with(&LOCATOR_64.to_le_bytes()) => Some(parse_end_64(before, tail_start)?),
        _ => None,
    };
    let narrow = End { count: count.into(), bytes: bytes.into(), start: start.into() };
    let Some((end, at_64)) = wide else {
        return match (disks, count_here == count) {
            ((0, 0), true) => Ok((narrow, tail_start + at as u64)),
            _ => Err("it is one of several parts".to_owned()),
        };
    };
    let agree = |narrow: u64, max: u64, wide: u64| narrow == max || narrow == wide;
    let is_same = agree(narrow.count, u16::MAX.into(), end.count)
        && agree(count_here.into(), u16::MAX.into(), end.count)
        && agree(narrow.bytes, u32::MAX.into(), end.bytes)
        && agree(narrow.start, u32::MAX.into(), end.start)
        && [disks.0, disks.1].iter().all(|disk| matches!(disk, 0 | &u16::MAX));
    if is_same { Ok((end, at_64)) } else { Err("its two ends do not agree".to_owned()) }
}

/// Reads the records of 64 bits that end where `before` does.
fn parse_end_64(before: &[u8], tail_start: u64) -> Result<(End, u64)> {
    let at = before.len().checked_sub(LOCATOR_64_BYTES + END_64_BYTES).ok_or("its end of 64 bits is cut off")?;
    let mut fields = Fields(&before[at..]);
    fields.signature(END_64, "end of 64 bits")?;
    let record_bytes = fields.u64()?;
    let _versions = fields.u32()?;
    let disks = (fields.u32()?, fields.u32()?);
    let (count_here, count, bytes, start) = (fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?);
    fields.signature(LOCATOR_64, "locator of the end of 64 bits")?;
    let (disk, place, disks_total) = (fields.u32()?, fields.u64()?, fields.u32()?);
    if record_bytes != (END_64_BYTES - 12) as u64 || place != tail_start + at as u64 {
        return Err("its end of 64 bits is not where it should be".to_owned());
    }
    if disks != (0, 0) || disk != 0 || disks_total > 1 || count_here != count {
        return Err("it is one of several parts".to_owned());
    }
    Ok((End { count, bytes, start }, place))
}

/// Appends the last record, with the records of 64 bits before it where they are needed.
pub(super) fn write_end(end: &End, comment: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let (count, bytes, start) = (u16::try_from(end.count), u32::try_from(end.bytes), u32::try_from(end.start));
    let (count, bytes, start) = (count.unwrap_or(u16::MAX), bytes.unwrap_or(u32::MAX), start.unwrap_or(u32::MAX));
    if count == u16::MAX || bytes == u32::MAX || start == u32::MAX {
        out.extend_from_slice(&END_64.to_le_bytes());
        out.extend_from_slice(&((END_64_BYTES - 12) as u64).to_le_bytes());
        out.extend_from_slice(&[VERSION_64.to_le_bytes(), VERSION_64.to_le_bytes()].concat());
        out.extend_from_slice(&[0; 8]);
        for number in [end.count, end.count, end.bytes, end.start] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&LOCATOR_64.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&(end.start + end.bytes).to_le_bytes());
        out.extend_from_slice(&1_u32.to_le_bytes());
    }
    out.extend_from_slice(&END.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&[count.to_le_bytes(), count.to_le_bytes()].concat());
    out.extend_from_slice(&[bytes.to_le_bytes(), start.to_le_bytes()].concat());
    out.extend_from_slice(&length(comment)?);
    out.extend_from_slice(comment);
    Ok(())
}
