//! Columns of numbers: LEB128 varints, signed ones zigzag-coded.

use super::{FormatError, Result};

/// Writes one column.
#[derive(Debug, Default)]
pub struct ColumnWriter(Vec<u8>);

impl ColumnWriter {
    /// Appends an unsigned number: seven bits a byte, low bits first, the high bit set on all but the last byte.
    pub fn put(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }

    /// Appends a signed number: 0, -1, 1, -2 … become 0, 1, 2, 3 ….
    pub fn put_signed(&mut self, value: i64) {
        self.put(((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    /// Returns the bytes of the column.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Reads one column.
#[derive(Debug)]
pub struct ColumnReader<'a> {
    bytes: &'a [u8],
    name: &'static str,
}

impl<'a> ColumnReader<'a> {
    /// Reads the column called `name` from its start.
    pub fn new(name: &'static str, bytes: &'a [u8]) -> Self {
        Self { bytes, name }
    }

    /// Returns the next unsigned number.
    #[inline]
    pub fn next_number(&mut self) -> Result<u64> {
        let mut value = 0;
        for (at, byte) in self.bytes.iter().enumerate().take(10) {
            let bits = u64::from(byte & 0x7f);
            if at == 9 && bits > 1 {
                break;
            }
            value |= bits << (7 * at);
            if byte & 0x80 == 0 {
                self.bytes = &self.bytes[at + 1..];
                return Ok(value);
            }
        }
        Err(FormatError::malformed(format!("column `{}` ends early or holds a number over 64 bits", self.name)))
    }

    /// Returns the next unsigned number as a length or count.
    pub fn next_length(&mut self) -> Result<usize> {
        let value = self.next_number()?;
        usize::try_from(value).map_err(|_| FormatError::malformed(format!("column `{}` holds {value}", self.name)))
    }

    /// Returns the next number, which must fit 32 bits.
    pub fn next_u32(&mut self) -> Result<u32> {
        let value = self.next_number()?;
        u32::try_from(value).map_err(|_| FormatError::malformed(format!("column `{}` holds {value}", self.name)))
    }

    /// Returns the next signed number.
    pub fn next_signed(&mut self) -> Result<i64> {
        let value = self.next_number()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// Returns the next `length` bytes as they are.
    pub fn next_bytes(&mut self, length: usize) -> Result<&'a [u8]> {
        let Some((bytes, rest)) = self.bytes.split_at_checked(length) else {
            return Err(FormatError::malformed(format!("column `{}` ends early", self.name)));
        };
        self.bytes = rest;
        Ok(bytes)
    }

    /// Returns the next 32 bytes.
    pub fn next_id(&mut self) -> Result<[u8; 32]> {
        super::id_bytes(self.next_bytes(32)?, self.name)
    }

    /// Checks that nothing is left.
    pub fn finish(self) -> Result<()> {
        match self.bytes.len() {
            0 => Ok(()),
            left => Err(FormatError::malformed(format!("column `{}` has {left} bytes too many", self.name))),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_round_trip(numbers: Vec<u64>, signed: Vec<i64>) {
            let mut writer = ColumnWriter::default();
            numbers.iter().for_each(|number| writer.put(*number));
            signed.iter().for_each(|number| writer.put_signed(*number));
            let bytes = writer.finish();
            let mut reader = ColumnReader::new("test", &bytes);
            for number in &numbers {
                prop_assert_eq!(reader.next_number(), Ok(*number));
            }
            for number in &signed {
                prop_assert_eq!(reader.next_signed(), Ok(*number));
            }
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn any_bytes_decode_or_fail(bytes: Vec<u8>) {
            let mut reader = ColumnReader::new("test", &bytes);
            while reader.next_number().is_ok() {}
        }
    }

    #[test]
    fn what_is_left_of_a_column_is_refused() {
        let mut reader = ColumnReader::new("test", &[1, 2]);
        assert_eq!(reader.next_number(), Ok(1));
        let why = FormatError::malformed("column `test` has 1 bytes too many");
        assert_eq!(reader.finish(), Err(why));
    }

    #[test]
    fn number_over_64_bits_is_refused() {
        let bytes = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert!(ColumnReader::new("test", &bytes).next_number().is_err());
    }
}
