//! Reading JSON as leniently as Kylin's parser, and no more.

use std::borrow::Cow;
use std::collections::HashMap;

use super::super::Why;
use super::{NULL, Object, Text, Value, write};

/// How deep values may be nested. Kylin's are a dozen deep.
const DEPTH_MAX: usize = 500;
/// From how many fields on an object is looked at with an index for names that occur twice.
const INDEXED_FIELDS_MIN: usize = 24;

/// The first value of a document, and what is odd about it.
#[derive(Debug)]
pub(in super::super) struct Read<'a> {
    /// The value.
    pub(in super::super) value: Value<'a>,
    /// The names of fields that occur twice in one object. The last value counts.
    pub(in super::super) twice: Vec<String>,
    /// How many bytes follow the value, but for white space.
    pub(in super::super) bytes_after: usize,
}

/// Decodes a document: UTF-8, UTF-16 or UTF-32, with or without a byte order mark. Says what it was if not plain UTF-8.
///
/// # Errors
/// When it is none of these.
pub(in super::super) fn decode(content: &[u8]) -> Result<(Cow<'_, str>, Option<&'static str>), Why> {
    let by_four = |big: bool, content: &[u8]| -> Option<String> {
        let (chunks, rest) = content.as_chunks::<4>();
        let char_of =
            |chunk: &[u8; 4]| char::from_u32(if big { u32::from_be_bytes(*chunk) } else { u32::from_le_bytes(*chunk) });
        rest.is_empty().then(|| chunks.iter().map(char_of).collect()).flatten()
    };
    let by_two = |big: bool, content: &[u8]| -> Option<String> {
        let (chunks, rest) = content.as_chunks::<2>();
        let unit = |chunk: &[u8; 2]| if big { u16::from_be_bytes(*chunk) } else { u16::from_le_bytes(*chunk) };
        let text = || char::decode_utf16(chunks.iter().map(unit)).collect::<Result<String, _>>().ok();
        rest.is_empty().then(text).flatten()
    };
    let (text, name) = match content {
        [0xef, 0xbb, 0xbf, rest @ ..] => {
            let text = std::str::from_utf8(rest).map_err(|e| no_utf8(e.valid_up_to() + 3))?;
            return Ok((Cow::Borrowed(text), Some("UTF-8 with a byte order mark")));
        }
        [0, 0, 0xfe, 0xff, rest @ ..] => (by_four(true, rest), "UTF-32"),
        [0xff, 0xfe, 0, 0, rest @ ..] => (by_four(false, rest), "UTF-32"),
        [0xfe, 0xff, rest @ ..] => (by_two(true, rest), "UTF-16"),
        [0xff, 0xfe, rest @ ..] => (by_two(false, rest), "UTF-16"),
        [0, 0, 0, 1..=255, ..] => (by_four(true, content), "UTF-32"),
        [1..=255, 0, 0, 0, ..] => (by_four(false, content), "UTF-32"),
        [0, 1..=255, ..] => (by_two(true, content), "UTF-16"),
        [1..=255, 0, ..] => (by_two(false, content), "UTF-16"),
        _ => {
            let text = std::str::from_utf8(content).map_err(|e| no_utf8(e.valid_up_to()))?;
            return Ok((Cow::Borrowed(text), None));
        }
    };
    let text = text.ok_or_else(|| Why::NoJson { fault: format!("it looks like {name}, and is not") })?;
    Ok((Cow::Owned(text), Some(name)))
}

fn no_utf8(at: usize) -> Why {
    Why::NoJson { fault: format!("it is not UTF-8 at byte {at}") }
}

/// Reads the first value of a document.
///
/// # Errors
/// When there is none.
pub(in super::super) fn read(text: &str) -> Result<Read<'_>, Why> {
    if text.is_empty() {
        return Err(Why::Empty);
    }
    let mut parser = Parser { text, bytes: text.as_bytes(), at: 0, twice: Vec::new() };
    parser.skip_blanks();
    let value = parser.value(DEPTH_MAX)?;
    parser.skip_blanks();
    let bytes_after = text.len() - parser.at;
    Ok(Read { value, twice: parser.twice, bytes_after })
}

struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    twice: Vec<String>,
}

impl<'a> Parser<'a> {
    fn fault(&self, what: &str) -> Why {
        Why::NoJson { fault: format!("{what} at byte {}", self.at) }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8, what: &str) -> Result<(), Why> {
        if self.peek() != Some(byte) {
            return Err(self.fault(what));
        }
        self.at += 1;
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<Value<'a>, Why> {
        let deeper = depth.checked_sub(1).ok_or_else(|| self.fault("values are nested too deep"))?;
        match self.peek() {
            Some(b'{') => self.object(deeper).map(Value::Object),
            Some(b'[') => self.array(deeper).map(Value::Array),
            Some(b'"') => self.string().map(Value::Text),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => self.word(),
            None => Err(self.fault("it ends")),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Object<'a>, Why> {
        self.at += 1;
        let mut fields: Vec<(Text<'a>, Value<'a>)> = Vec::new();
        let mut places: HashMap<Text<'a>, usize> = HashMap::new();
        self.skip_blanks();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Object(fields));
        }
        loop {
            self.skip_blanks();
            if self.peek() != Some(b'"') {
                return Err(self.fault("a name is expected"));
            }
            let name = self.string()?;
            self.skip_blanks();
            self.expect(b':', "`:` is expected")?;
            self.skip_blanks();
            let value = self.value(depth)?;
            let place = if fields.len() < INDEXED_FIELDS_MIN {
                fields.iter().position(|(other, _)| *other == name)
            } else {
                if places.is_empty() {
                    places.extend(fields.iter().enumerate().map(|(place, (name, _))| (name.clone(), place)));
                }
                let place = places.get(&name).copied();
                if place.is_none() {
                    places.insert(name.clone(), fields.len());
                }
                place
            };
            match place {
                Some(place) => {
                    self.twice.push(name.plain().into_owned());
                    fields[place].1 = value;
                }
                None => fields.push((name, value)),
            }
            self.skip_blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Object(fields));
                }
                _ => return Err(self.fault("`,` or `}` is expected")),
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Vec<Value<'a>>, Why> {
        self.at += 1;
        let mut values = Vec::new();
        self.skip_blanks();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(values);
        }
        loop {
            self.skip_blanks();
            values.push(self.value(depth)?);
            self.skip_blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(values);
                }
                _ => return Err(self.fault("`,` or `]` is expected")),
            }
        }
    }

    fn string(&mut self) -> Result<Text<'a>, Why> {
        self.at += 1;
        let start = self.at;
        // Most texts are written as they stand; the bytes that are not end this loop.
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    let text = &self.text[start..self.at];
                    self.at += 1;
                    return Ok(Text(Cow::Borrowed(text)));
                }
                b'\\' | 0..0x20 | 0xf0.. => break,
                _ => self.at += 1,
            }
        }
        let mut escaped = String::with_capacity((self.at - start) * 2 + 16);
        escaped.push_str(&self.text[start..self.at]);
        loop {
            match self.peek() {
                None => return Err(self.fault("it ends within a text")),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Text(Cow::Owned(escaped)));
                }
                Some(b'\\') => self.escape(&mut escaped)?,
                Some(0..0x20) => return Err(self.fault("a control character stands in a text")),
                Some(_) => {
                    let c = self.text[self.at..].chars().next().ok_or_else(|| self.fault("it ends"))?;
                    write::escape(c, &mut escaped);
                    self.at += c.len_utf8();
                }
            }
        }
    }

    fn escape(&mut self, escaped: &mut String) -> Result<(), Why> {
        let escape = self.bytes.get(self.at + 1).copied();
        let c = match escape {
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'"' | b'\\' | b'/') => char::from(escape.unwrap_or_default()),
            Some(b'u') => {
                let digits =
                    self.text.get(self.at + 2..self.at + 6).filter(|d| d.bytes().all(|d| d.is_ascii_hexdigit()));
                let unit = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
                let unit = unit.ok_or_else(|| self.fault("an escape in a text is no character"))?;
                self.at += 6;
                match char::from_u32(unit) {
                    Some(c) => write::escape(c, escaped),
                    // Half of a pair. The other half, if there is one, is written the same way.
                    None => write::escape_unit(unit, escaped),
                }
                return Ok(());
            }
            _ => return Err(self.fault("an escape in a text is no character")),
        };
        self.at += 2;
        write::escape(c, escaped);
        Ok(())
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - start
    }

    fn number(&mut self) -> Result<Value<'a>, Why> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let is_zero = self.peek() == Some(b'0');
        let count = self.digits();
        if count == 0 || (is_zero && count > 1) {
            return Err(self.fault("a number is none"));
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return Err(self.fault("a number has no digits after its point"));
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return Err(self.fault("a number has no exponent after its `e`"));
            }
        }
        if matches!(self.peek(), Some(byte) if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+' | b'_'))
        {
            return Err(self.fault("a number is none"));
        }
        Ok(Value::Number(Cow::Borrowed(&self.text[start..self.at])))
    }

    fn word(&mut self) -> Result<Value<'a>, Why> {
        for word in [NULL, "true", "false"] {
            let Some(rest) = self.bytes[self.at..].strip_prefix(word.as_bytes()) else { continue };
            if rest.first().is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
                break;
            }
            self.at += word.len();
            return Ok(Value::Word(word));
        }
        Err(self.fault("a value is expected"))
    }
}
