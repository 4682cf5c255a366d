//! What the top level of a document's JSON says, read without copying; the rest is only checked to be JSON.
//!
//! Written by hand where serde would derive: Kylin's parser takes the last of repeated fields, numbers for texts and
//! digits for numbers, and a document with a strange value in one field must still tell the others.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::value::{Item, Items, Names, Value, otherwise, skip_seq};

/// Declares the fields that are read as texts, and their names.
macro_rules! fields {
    ($($field:ident = $name:literal,)*) => {
        /// A field at the top level that some rule is about.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Field { $($field,)* }

        impl Field {
            const COUNT: usize = [$(Self::$field,)*].len();

            /// Returns the field of this name.
            pub(super) fn of(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$field),)* _ => None }
            }
        }
    };
}

fields! {
    Alias = "alias",
    ClassName = "class_name",
    ColumnName = "columnName",
    ComputedColumns = "computed_columns",
    Content = "content",
    ContentDiff = "contentDiff",
    CreatedProject = "created_project",
    CcUuid = "cc_uuid",
    CreateTime = "create_time",
    Database = "database",
    Dataflow = "dataflow",
    Date = "date",
    ExpressionMd5 = "expressionMD5",
    FactTable = "fact_table",
    GroupName = "group_name",
    Id = "id",
    JarName = "jar_name",
    JarType = "jar_type",
    Layout = "layout",
    MetaKey = "meta_key",
    ModelId = "model_id",
    ModelUuid = "model_uuid",
    Mvcc = "mvcc",
    Name = "name",
    ParserName = "parser_name",
    Project = "project",
    Reserved2 = "reserved_filed_2",
    Reserved3 = "reserved_filed_3",
    ColumnTable = "tableIdentity",
    TableIdentity = "table_identity",
    TableName = "table_name",
    Ts = "ts",
    Username = "username",
    Uuid = "uuid",
}

/// A field at the top level that holds an array of names, or of objects that have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    ComputedColumnUuids,
    JoinTables,
    /// Of fusion models, with the models as names of fields.
    ModelMapping,
    SegmentUuids,
    /// Of dataflows before 5.0.0, which hold their segments.
    Segments,
}

/// What a document says.
#[derive(Debug)]
pub(super) struct Said<'a> {
    values: [Value<'a>; Field::COUNT],
    lists: [Option<Vec<Cow<'a, str>>>; 5],
    /// The id of the object that permissions are for.
    object_id: Option<Cow<'a, str>>,
}

impl Default for Said<'_> {
    fn default() -> Self {
        Self { values: std::array::from_fn(|_| Value::Absent), lists: Default::default(), object_id: None }
    }
}

impl<'a> Said<'a> {
    /// Returns the value of a field.
    pub(super) fn value(&self, field: Field) -> &Value<'a> {
        &self.values[field as usize]
    }

    /// Returns the text of a field, unless it is empty.
    pub(super) fn filled(&self, field: Field) -> Option<&str> {
        self.value(field).filled()
    }

    /// Returns the names in a list.
    pub(super) fn list(&self, list: List) -> impl Iterator<Item = &str> {
        self.lists[list as usize].iter().flatten().map(AsRef::as_ref)
    }

    /// Tells whether a list is there, be it empty.
    pub(super) fn has_list(&self, list: List) -> bool {
        self.lists[list as usize].is_some()
    }

    /// Returns the id of the object that permissions are for.
    pub(super) fn object_id(&self) -> Option<&str> {
        self.object_id.as_deref()
    }
}

/// Reads a document; gives nothing if it is JSON, but no object.
pub(super) fn read(content: &[u8]) -> serde_json::Result<Option<Said<'_>>> {
    // Kylin's parser skips a byte order mark.
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let mut json = serde_json::Deserializer::from_slice(content);
    let Top(said) = Top::deserialize(&mut json)?;
    json.end()?;
    Ok(said.map(|said| *said))
}

struct Top<'a>(Option<Box<Said<'a>>>);

impl<'de> Deserialize<'de> for Top<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TopVisitor)
    }
}

struct TopVisitor;

impl<'de> Visitor<'de> for TopVisitor {
    type Value = Top<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Top<'de>, A::Error> {
        let mut said = Box::<Said<'de>>::default();
        while let Some(slot) = map.next_key()? {
            match slot {
                Slot::Field(field) => said.values[field as usize] = map.next_value()?,
                Slot::List(List::ModelMapping) => {
                    said.lists[List::ModelMapping as usize] = Some(map.next_value::<Names<'de>>()?.0);
                }
                Slot::List(list) => said.lists[list as usize] = Some(map.next_value::<Items<'de>>()?.0),
                Slot::Object => said.object_id = map.next_value::<Item<'de>>()?.0,
                Slot::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Top(Some(said)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Top<'de>, A::Error> {
        skip_seq(seq).map(|()| Top(None))
    }

    otherwise!(Top(None) => visit_str(&str), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_bool(bool));
}

enum Slot {
    Field(Field),
    List(List),
    Object,
    Other,
}

impl<'de> Deserialize<'de> for Slot {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_identifier(SlotVisitor)
    }
}

struct SlotVisitor;

impl Visitor<'_> for SlotVisitor {
    type Value = Slot;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Slot, E> {
        Ok(match name {
            "computed_column_uuids" => Slot::List(List::ComputedColumnUuids),
            "domainObjectInfo" => Slot::Object,
            "join_tables" => Slot::List(List::JoinTables),
            "model_mapping" => Slot::List(List::ModelMapping),
            "segment_uuids" => Slot::List(List::SegmentUuids),
            "segments" => Slot::List(List::Segments),
            name => Field::of(name).map_or(Slot::Other, Slot::Field),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_gives_what_the_top_level_says() {
        let content = br#"{"alias":"first","join_tables":[{"alias":"A","table":"D.A"},{"table":"D.B","kind":1},7],
            "nested":{"alias":"inner","x":[1,{}]},"layout":7,"mvcc":null,"id":{"a":1},"alias":"l\u0061st",
            "segments":[{"uuid":"u","id":"i"},{"uuid":"v"}],"segment_uuids":"none"}"#;
        let said = read(content).unwrap().unwrap();
        assert_eq!(said.filled(Field::Alias), Some("last"));
        assert_eq!(said.filled(Field::Layout), Some("7"));
        assert_eq!(*said.value(Field::Mvcc), Value::Null);
        assert_eq!(*said.value(Field::Id), Value::Nested);
        assert_eq!(*said.value(Field::Name), Value::Absent);
        assert_eq!(said.list(List::JoinTables).collect::<Vec<_>>(), ["D.A", "D.B"]);
        assert_eq!(said.list(List::Segments).collect::<Vec<_>>(), ["i", "v"]);
        assert_eq!(said.list(List::SegmentUuids).count(), 0);
        assert!(said.has_list(List::SegmentUuids) && !said.has_list(List::ModelMapping));
        let said = read(br#"{"model_mapping":{"m":null,"n":{}},"domainObjectInfo":{"type":"T","id":"u"}}"#);
        let said = said.unwrap().unwrap();
        assert_eq!(said.list(List::ModelMapping).collect::<Vec<_>>(), ["m", "n"]);
        assert_eq!(said.object_id(), Some("u"));
    }

    #[test]
    fn read_tells_no_json_from_no_object() {
        for no_json in [&b"{"[..], b"{}}", br#""uuid" : "x""#, b"{\"a\":01}", b"\xff", b"{\"alias\":\"\xff\"}"] {
            assert!(read(no_json).is_err(), "{}", String::from_utf8_lossy(no_json));
        }
        for no_object in [&b"null"[..], b" 1 ", b"-1.5", b"[{}, 2]", b"\"text\"", b"true"] {
            assert!(read(no_object).unwrap().is_none(), "{}", String::from_utf8_lossy(no_object));
        }
        assert!(read(b"\xef\xbb\xbf{}\n").unwrap().is_some());
    }
}
