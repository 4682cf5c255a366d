//! Extra fields: what the records of a zip had no room for.

use super::format::{Fields, Header, Result, length};

/// Their numbers: sizes of 64 bits, times since 1970, the name once more.
const WIDE: u16 = 0x0001;
const TIME: u16 = 0x5455;
const NAME: u16 = 0x7075;

/// Replaces the numbers that did not fit into 32 bits by those of the extra field, which has only these, in order.
/// Returns the number of the disk if the field goes on.
pub(super) fn widen<const N: usize>(extra: &[u8], numbers: [&mut u64; N]) -> Result<Option<u32>> {
    let field = find(extra, WIDE)?;
    let mut fields = Fields(field.unwrap_or_default());
    for number in numbers {
        if *number == u64::from(u32::MAX) {
            *number = fields.u64().map_err(|_| "a number of 64 bits is missing in its extra field")?;
        }
    }
    Ok(fields.u32().ok())
}

/// Checks that the name in the extra fields, if there is one, is the name.
pub(super) fn check_name(header: &Header<'_>) -> Result<()> {
    // A version and a checksum come first.
    match find(header.extra, NAME)? {
        Some(field) if field.get(5..) != Some(header.name) => Err("its extra fields give it another name".to_owned()),
        _ => Ok(()),
    }
}

/// Returns the modification time in the extra fields, in seconds since 1970.
pub(super) fn time(extra: &[u8]) -> Option<i64> {
    let field = find(extra, TIME).ok()??;
    let (flags, times) = field.split_first()?;
    let seconds: [u8; 4] = times.get(..4)?.try_into().ok()?;
    (flags & 1 != 0).then(|| i32::from_le_bytes(seconds).into())
}

/// Returns an extra field with a modification time; none for a time it can't hold.
pub(super) fn time_field(seconds: i64) -> Vec<u8> {
    let Ok(seconds) = i32::try_from(seconds) else { return Vec::new() };
    [&TIME.to_le_bytes()[..], &5_u16.to_le_bytes(), &[1], &seconds.to_le_bytes()].concat()
}

/// Walks extra fields: number, content, and both with their length.
fn fields(extra: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8], &[u8])>> {
    let mut rest = extra;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let whole = std::mem::take(&mut rest);
        let mut fields = Fields(whole);
        let mut next = || {
            let (id, length) = (fields.u16()?, fields.u16()?);
            let content = fields.bytes(length.into())?;
            Ok((id, content, &whole[..4 + content.len()]))
        };
        let field = next().map_err(|_: String| "its extra fields are malformed".to_owned());
        if field.is_ok() {
            rest = fields.0;
        }
        Some(field)
    })
}

fn find(extra: &[u8], wanted: u16) -> Result<Option<&[u8]>> {
    let mut found = None;
    for field in fields(extra) {
        let (id, content, _) = field?;
        if id == wanted && found.replace(content).is_some() {
            return Err(format!("it has two extra fields {id:#06x}"));
        }
    }
    Ok(found)
}

/// Returns the extra fields but for the one that only fits the header it is in.
fn portable(extra: &[u8]) -> Result<Vec<u8>> {
    let mut kept = Vec::with_capacity(extra.len());
    for field in fields(extra) {
        let (id, _, whole) = field?;
        if id != WIDE {
            kept.extend_from_slice(whole);
        }
    }
    Ok(kept)
}

/// Returns the extra fields with the numbers that need 64 bits.
pub(super) fn with_wide(extra: &[u8], wide: &[u64]) -> Result<Vec<u8>> {
    let mut out = portable(extra)?;
    if !wide.is_empty() {
        out.extend_from_slice(&WIDE.to_le_bytes());
        out.extend_from_slice(&length(&vec![0; 8 * wide.len()])?);
        wide.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
    }
    Ok(out)
}
