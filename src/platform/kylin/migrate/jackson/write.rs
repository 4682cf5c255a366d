//! Writing JSON byte for byte as Kylin does: Jackson's default pretty printing.

use super::number::{self, Spelling};
use super::{Object, Text, Value};

/// A document that was written.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Written {
    /// Its text.
    pub(in super::super) bytes: Vec<u8>,
    /// The numbers that Kylin's tool would change, with what it would write.
    pub(in super::super) numbers: Vec<(String, String)>,
}

/// How many of the numbers that Kylin's tool would change are remembered.
const NUMBERS_MAX: usize = 5;

/// Writes a value; numbers keep their value, unless it is to be done `as_kylin`.
pub(in super::super) fn write(value: &Value<'_>, as_kylin: bool) -> Written {
    let mut writer = Writer { text: String::new(), as_kylin, numbers: Vec::new() };
    writer.value(value, 0);
    Written { bytes: writer.text.into_bytes(), numbers: writer.numbers }
}

struct Writer {
    text: String,
    as_kylin: bool,
    numbers: Vec<(String, String)>,
}

impl Writer {
    /// Writes a value that stands in as many objects.
    fn value(&mut self, value: &Value<'_>, objects: usize) {
        match value {
            Value::Object(object) => self.object(object, objects + 1),
            Value::Array(values) => self.array(values, objects),
            Value::Text(text) => self.quoted(text),
            Value::Number(number) => self.number(number),
            Value::Word(word) => self.text.push_str(word),
        }
    }

    fn object(&mut self, Object(fields): &Object<'_>, objects: usize) {
        self.text.push('{');
        for (n, (name, value)) in fields.iter().enumerate() {
            self.text.push_str(if n > 0 { "," } else { "" });
            self.line(objects);
            self.quoted(name);
            self.text.push_str(" : ");
            self.value(value, objects);
        }
        if fields.is_empty() {
            self.text.push(' ');
        } else {
            self.line(objects - 1);
        }
        self.text.push('}');
    }

    fn array(&mut self, values: &[Value<'_>], objects: usize) {
        self.text.push_str("[ ");
        for (n, value) in values.iter().enumerate() {
            self.text.push_str(if n > 0 { ", " } else { "" });
            self.value(value, objects);
        }
        self.text.push_str(if values.is_empty() { "]" } else { " ]" });
    }

    fn line(&mut self, objects: usize) {
        self.text.push('\n');
        self.text.extend(std::iter::repeat_n("  ", objects));
    }

    fn quoted(&mut self, text: &Text<'_>) {
        self.text.push('"');
        self.text.push_str(&text.0);
        self.text.push('"');
    }

    fn number(&mut self, number: &str) {
        match number::spelling(number) {
            Spelling::AsItIs => self.text.push_str(number),
            Spelling::As(spelling) => self.text.push_str(&spelling),
            Spelling::Changed(spelling) => {
                self.text.push_str(if self.as_kylin { &spelling } else { number });
                if self.numbers.len() < NUMBERS_MAX && !self.as_kylin {
                    self.numbers.push((number.to_owned(), spelling));
                }
            }
        }
    }
}

/// Tells whether a character stands for itself in a text.
pub(super) fn is_written_as_it_is(c: char) -> bool {
    !matches!(c, '"' | '\\' | '\0'..' ' | '\u{10000}'..)
}

/// Appends a character as it is written within a text.
pub(super) fn escape(c: char, text: &mut String) {
    match c {
        '"' => text.push_str("\\\""),
        '\\' => text.push_str("\\\\"),
        '\u{8}' => text.push_str("\\b"),
        '\u{c}' => text.push_str("\\f"),
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        c if is_written_as_it_is(c) => text.push(c),
        c => {
            let mut units = [0; 2];
            c.encode_utf16(&mut units).iter().for_each(|unit| escape_unit(u32::from(*unit), text));
        }
    }
}

/// Appends a unit of UTF-16 by its number.
pub(super) fn escape_unit(unit: u32, text: &mut String) {
    text.push_str(&format!("\\u{unit:04X}"));
}
