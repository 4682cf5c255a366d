//! A value in a document's JSON, as far as the rules need it: a short text, or what it is instead.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The value of a field.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Value<'a> {
    #[default]
    Absent,
    Null,
    Text(Cow<'a, str>),
    Number(String),
    Bool,
    /// An array or an object.
    Nested,
}

impl Value<'_> {
    /// Returns the text of a text or number.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Number(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the text unless it is empty.
    pub(super) fn filled(&self) -> Option<&str> {
        self.text().filter(|text| !text.is_empty())
    }
}

/// Gives a visitor's answers to all values but those it is about.
macro_rules! otherwise {
    ($answer:expr => $($method:ident($type:ty)),*) => {
        $(fn $method<E: de::Error>(self, _: $type) -> Result<Self::Value, E> {
            Ok($answer)
        })*
        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok($answer)
        }
    };
}

pub(super) fn skip_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<(), A::Error> {
    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
}

pub(super) fn skip_seq<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<(), A::Error> {
    while seq.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

pub(super) use otherwise;

impl<'de> Deserialize<'de> for Value<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Value<'de>, E> {
        Ok(Value::Number(number.to_string()))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Value<'de>, E> {
        Ok(Value::Number(number.to_string()))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Value<'de>, E> {
        Ok(Value::Number(number.to_string()))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Value<'de>, E> {
        Ok(Value::Bool)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value<'de>, A::Error> {
        skip_map(map).map(|()| Value::Nested)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Value<'de>, A::Error> {
        skip_seq(seq).map(|()| Value::Nested)
    }
}

/// The names in an array; none if it is no array.
pub(super) struct Items<'a>(pub(super) Vec<Cow<'a, str>>);

impl<'de> Deserialize<'de> for Items<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ItemsVisitor)
    }
}

struct ItemsVisitor;

impl<'de> Visitor<'de> for ItemsVisitor {
    type Value = Items<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Items<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(Item(item)) = seq.next_element()? {
            items.extend(item);
        }
        Ok(Items(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Items<'de>, A::Error> {
        skip_map(map).map(|()| Items(Vec::new()))
    }

    otherwise!(Items(Vec::new()) =>
        visit_str(&str), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_bool(bool));
}

/// The names of the fields of an object; none if it is no object.
pub(super) struct Names<'a>(pub(super) Vec<Cow<'a, str>>);

impl<'de> Deserialize<'de> for Names<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NamesVisitor)
    }
}

struct NamesVisitor;

impl<'de> Visitor<'de> for NamesVisitor {
    type Value = Names<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names<'de>, A::Error> {
        let mut names = Vec::new();
        while let Some((Item(name), IgnoredAny)) = map.next_entry()? {
            names.extend(name);
        }
        Ok(Names(names))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Names<'de>, A::Error> {
        skip_seq(seq).map(|()| Names(Vec::new()))
    }

    otherwise!(Names(Vec::new()) =>
        visit_str(&str), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_bool(bool));
}

/// A name, or the name in an object: the table of a join, the id of a segment.
pub(super) struct Item<'a>(pub(super) Option<Cow<'a, str>>);

impl<'de> Deserialize<'de> for Item<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ItemVisitor)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Item<'de>, E> {
        Ok(Item(Some(Cow::Borrowed(text))))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Item<'de>, E> {
        Ok(Item(Some(Cow::Owned(text.to_owned()))))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item<'de>, A::Error> {
        let mut name = None;
        while let Some(key) = map.next_key()? {
            match (key, &name) {
                (ItemKey::Name, _) | (ItemKey::Uuid, None) => {
                    if let Value::Text(text) = map.next_value()? {
                        name = Some(text);
                    }
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Item(name))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Item<'de>, A::Error> {
        skip_seq(seq).map(|()| Item(None))
    }

    otherwise!(Item(None) => visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_bool(bool));
}

enum ItemKey {
    Name,
    /// The name if there is no other.
    Uuid,
    Other,
}

impl<'de> Deserialize<'de> for ItemKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_identifier(ItemKeyVisitor)
    }
}

struct ItemKeyVisitor;

impl Visitor<'_> for ItemKeyVisitor {
    type Value = ItemKey;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<ItemKey, E> {
        Ok(match name {
            "table" | "id" => ItemKey::Name,
            "uuid" => ItemKey::Uuid,
            _ => ItemKey::Other,
        })
    }
}
