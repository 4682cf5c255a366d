//! JSON as Kylin's Java reads and writes it: what is converted comes out as Kylin itself would have written it.
//!
//! Why not [`Json`](crate::platform::kylin::json::Json): it keeps the spelling of the source and refuses what Kylin's
//! parser lets pass, such as a byte order mark, half a surrogate pair, or text after the value.

mod number;
mod read;
mod write;

use std::borrow::Cow;

pub(super) use read::{decode, read};
pub(super) use write::write;

/// A text in the one form in which Jackson writes it, without the quotes around it. So equal texts are equal bytes, and
/// halves of surrogate pairs, which Rust's strings can't hold, have a form as well.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Text<'a>(Cow<'a, str>);

/// The fields of an object in the order of the document, each name once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Object<'a>(Vec<(Text<'a>, Value<'a>)>);

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Object(Object<'a>),
    Array(Vec<Value<'a>>),
    Text(Text<'a>),
    /// A number, as it is spelled.
    Number(Cow<'a, str>),
    /// `true`, `false` or `null`.
    Word(&'static str),
}

pub(super) const NULL: &str = "null";

impl<'a> Text<'a> {
    /// Makes a text.
    pub(super) fn of(plain: &'a str) -> Self {
        if plain.chars().all(write::is_written_as_it_is) {
            return Self(Cow::Borrowed(plain));
        }
        let mut escaped = String::with_capacity(plain.len() + 8);
        plain.chars().for_each(|c| write::escape(c, &mut escaped));
        Self(Cow::Owned(escaped))
    }

    /// Makes a text that owns what it holds.
    pub(super) fn owned(plain: &str) -> Text<'static> {
        Text(Cow::Owned(Text::of(plain).0.into_owned()))
    }

    /// Returns the text, with a replacement character for half a surrogate pair.
    pub(super) fn plain(&self) -> Cow<'_, str> {
        if !self.0.contains('\\') {
            return Cow::Borrowed(&self.0);
        }
        let mut units = Vec::with_capacity(self.0.len());
        let mut chars = self.0.chars();
        while let Some(c) = chars.next() {
            let unit = match c {
                '\\' => match chars.next() {
                    Some('b') => 8,
                    Some('f') => 12,
                    Some('n') => 10,
                    Some('r') => 13,
                    Some('t') => 9,
                    Some('u') => chars.by_ref().take(4).filter_map(|c| c.to_digit(16)).fold(0, |sum, c| sum * 16 + c),
                    other => other.map_or(0, u32::from),
                },
                c => u32::from(c),
            };
            // What is written as it is fits into one unit.
            units.push(u16::try_from(unit).unwrap_or(0xfffd));
        }
        Cow::Owned(String::from_utf16_lossy(&units))
    }

    /// Tells whether this is a text of letters, digits and the like that no escape is needed for.
    pub(super) fn is(&self, plain: &str) -> bool {
        self.0 == plain || (self.0.contains('\\') && self.plain() == plain)
    }
}

impl<'a> Object<'a> {
    /// Returns a field.
    pub(super) fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.0.iter().find(|(other, _)| other.0 == name).map(|(_, value)| value)
    }

    /// Returns a field that is an array or object to change it.
    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Value<'a>> {
        self.0.iter_mut().find(|(other, _)| other.0 == name).map(|(_, value)| value)
    }

    /// Sets a field in its place, or at the end, and returns what it was.
    pub(super) fn set(&mut self, name: &'static str, value: Value<'a>) -> Option<Value<'a>> {
        match self.get_mut(name) {
            Some(old) => Some(std::mem::replace(old, value)),
            None => {
                self.0.push((Text(Cow::Borrowed(name)), value));
                None
            }
        }
    }

    /// Adds a field that it does not have.
    pub(super) fn push(&mut self, name: Text<'a>, value: Value<'a>) {
        self.0.push((name, value));
    }

    /// Takes a field out.
    pub(super) fn remove(&mut self, name: &str) -> Option<Value<'a>> {
        let at = self.0.iter().position(|(other, _)| other.0 == name)?;
        Some(self.0.remove(at).1)
    }

    /// Returns the text of a field that is a text, or a number, which Kylin's parser takes for one.
    pub(super) fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get(name)?.text()
    }

    /// Returns all fields.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&Text<'a>, &Value<'a>)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// Returns all fields to change their values.
    pub(super) fn fields_mut(&mut self) -> impl Iterator<Item = (&mut Text<'a>, &mut Value<'a>)> {
        self.0.iter_mut().map(|(name, value)| (name, value))
    }
}

impl<'a> Value<'a> {
    /// Makes a text.
    pub(super) fn of(plain: &'a str) -> Self {
        Self::Text(Text::of(plain))
    }

    /// Makes a text that owns what it holds.
    pub(super) fn owned(plain: &str) -> Value<'static> {
        Value::Text(Text::owned(plain))
    }

    /// Makes an array of texts.
    pub(super) fn of_texts<'t>(texts: impl IntoIterator<Item = &'t str>) -> Value<'static> {
        Value::Array(texts.into_iter().map(Value::owned).collect())
    }

    /// Returns the text of a text or number.
    pub(super) fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Text(text) => Some(text.plain()),
            Self::Number(number) => Some(Cow::Borrowed(number)),
            _ => None,
        }
    }

    /// Tells what it is, to say that it is not what it should be.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Object(_) => "an object",
            Self::Array(_) => "an array",
            Self::Text(text) if text.0.is_empty() => "empty",
            Self::Text(_) => "a text",
            Self::Number(_) => "a number",
            Self::Word(NULL) => NULL,
            Self::Word(_) => "a truth value",
        }
    }
}

impl<'a> FromIterator<(&'static str, Value<'a>)> for Object<'a> {
    fn from_iter<I: IntoIterator<Item = (&'static str, Value<'a>)>>(fields: I) -> Self {
        Self(fields.into_iter().map(|(name, value)| (Text(Cow::Borrowed(name)), value)).collect())
    }
}

#[cfg(test)]
mod tests;
