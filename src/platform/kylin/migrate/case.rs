//! The conversion of one document, as it goes on.

use std::borrow::Cow;

use super::fate::{Difference, Fate, Remark, Why};
use super::jackson::{Object, Text, Value, read, write};
use super::{Converted, Keys, LAYOUT, NewDocument, unmigrated_name};
use crate::model::path::{EntryPath, escape};
use crate::platform::kylin::kind::{KeyRule, Kind};
use crate::platform::kylin::layout::GLOBAL;

/// A document on its way: what it became so far, and what there is to say about it.
pub(super) struct Case<'k> {
    pub(super) keys: &'k Keys,
    pub(super) name: &'k EntryPath,
    pub(super) time_ns: i64,
    pub(super) is_cut: bool,
    documents: Vec<NewDocument>,
    remarks: Vec<Remark>,
}

impl<'k> Case<'k> {
    /// Begins with a document.
    pub(super) fn new(keys: &'k Keys, name: &'k EntryPath, time_ns: i64) -> Self {
        Self { keys, name, time_ns, is_cut: false, documents: Vec::new(), remarks: Vec::new() }
    }

    /// Tells whether to do as Kylin's tool.
    pub(super) fn as_kylin(&self) -> bool {
        self.keys.options().as_kylin
    }

    /// Returns the time of the document in milliseconds since 1970, as Kylin counts.
    pub(super) fn time_ms(&self) -> i64 {
        self.time_ns.div_euclid(1_000_000)
    }

    /// Remembers something to say.
    pub(super) fn remark(&mut self, difference: Difference, detail: impl Into<String>) {
        self.remarks.push(Remark::new(difference, detail));
    }

    /// Reads the first value of a document.
    pub(super) fn value<'t>(&mut self, text: &'t str) -> Result<Value<'t>, Why> {
        let read = read(text)?;
        for name in read.twice {
            self.remark(Difference::Twice, format!("the field `{name}` occurs twice, of which the last counts"));
        }
        if read.bytes_after > 0 {
            self.is_cut = true;
            let kept = unmigrated_name(self.name);
            self.remark(
                Difference::TextAfter,
                format!("{} bytes follow after the JSON; with them, it is kept as `{kept}` too", read.bytes_after),
            );
        }
        Ok(read.value)
    }

    /// Reads the object that a document is.
    pub(super) fn object<'t>(&mut self, text: &'t str) -> Result<Object<'t>, Why> {
        match self.value(text)? {
            Value::Object(object) => Ok(object),
            _ => Err(Why::NoObject),
        }
    }

    /// Sets the project a document says to be of.
    pub(super) fn set_project<'t>(&mut self, object: &mut Object<'t>, project: &'t str) {
        let old = object.set("project", Value::of(project));
        if let Some(old) = old.as_ref().and_then(Value::text).filter(|old| *old != project) {
            self.remark(Difference::Overwritten, format!("`project` was `{old}`, and is `{project}` by its name"));
        }
    }

    /// Adds a document of the result. It says itself which project it is of, if documents of the kind do.
    pub(super) fn put(&mut self, kind: Kind, key: &str, project: &str, object: Object<'_>) -> Result<(), Why> {
        let mut object = object;
        let home = self.home(kind, key, project, &object);
        if kind != Kind::System
            && let Some(Value::Text(old)) = object.get("meta_key").filter(|old| !is(old, key))
        {
            let old = old.plain().into_owned();
            object.set("meta_key", Value::owned(key));
            self.remark(Difference::Overwritten, format!("`meta_key` was `{old}`, and is `{key}` by its name"));
        }
        let written = write(&Value::Object(object), self.as_kylin());
        for (number, kylin) in written.numbers {
            self.remark(Difference::Number, format!("{number} keeps its value; Kylin's tool would write {kylin}"));
        }
        self.put_bytes(kind, key, home.as_deref(), written.bytes)
    }

    /// Returns the project in whose range of paths a document is kept.
    fn home(&self, kind: Kind, key: &str, project: &str, object: &Object<'_>) -> Option<String> {
        match kind {
            Kind::ObjectAcl => self.keys.project_of_uuid(key).map(str::to_owned),
            Kind::LogicalView => object.text("created_project").map(Cow::into_owned),
            _ => Some(project.to_owned()),
        }
    }

    /// Adds a document of the result, as it is written.
    pub(super) fn put_bytes(
        &mut self,
        kind: Kind,
        key: &str,
        project: Option<&str>,
        content: Vec<u8>,
    ) -> Result<(), Why> {
        let name = new_name(kind, key)?;
        let path = LAYOUT.path_in(&name, project.map(str::as_bytes));
        self.documents.push(NewDocument { name, path, content, time_ns: self.time_ns });
        Ok(())
    }

    /// Adds a document of the system.
    pub(super) fn put_system(&mut self, key: &str, object: Object<'_>) -> Result<(), Why> {
        self.put(Kind::System, key, GLOBAL, object)
    }

    /// Tells whether a key that other documents may want as well is that of this one.
    pub(super) fn claim(&self, kind: Kind, project: &str, key: &str) -> Result<(), Why> {
        match self.keys.winner(kind, project, key).filter(|winner| *winner != self.name) {
            None => Ok(()),
            Some(winner) => {
                let key = match kind.facts().key {
                    KeyRule::Prefixed(_) => Cow::Owned(format!("{project}.{key}")),
                    _ => Cow::Borrowed(key),
                };
                let place = new_name(kind, &key).map_or_else(|_| key.to_string(), |name| name.to_string());
                Err(Why::Taken { place, by: winner.to_string() })
            }
        }
    }

    /// Ends with what the document became.
    pub(super) fn finish(mut self, outcome: Result<(), Why>, content: &[u8]) -> Converted {
        if let Err(why) = outcome {
            return broken(self.name, content, self.time_ns, why, Vec::new());
        }
        if self.is_cut {
            self.documents.push(kept(self.name, content, self.time_ns));
        }
        let mut names = self.documents.iter().map(|document| document.name.to_string());
        let fate = match (names.next(), self.documents.len()) {
            (Some(to), 1) => Fate::Migrated { to },
            (first, _) => Fate::Split { to: first.into_iter().chain(names).collect() },
        };
        Converted { documents: self.documents, fate, remarks: self.remarks }
    }
}

/// Returns what comes of a document that can't be converted.
pub(super) fn broken(name: &EntryPath, content: &[u8], time_ns: i64, why: Why, remarks: Vec<Remark>) -> Converted {
    let document = kept(name, content, time_ns);
    Converted { fate: Fate::Broken { why, kept_at: document.name.to_string() }, documents: vec![document], remarks }
}

/// Returns the document that keeps one of the old layout as it is.
pub(super) fn kept(name: &EntryPath, content: &[u8], time_ns: i64) -> NewDocument {
    let name = unmigrated_name(name);
    NewDocument { path: LAYOUT.path_in(&name, None), name, content: content.to_vec(), time_ns }
}

/// Longest key, in characters.
const KEY_CHARS_MAX: usize = 255;

/// Returns the name of a document of the result.
pub(super) fn new_name(kind: Kind, key: &str) -> Result<EntryPath, Why> {
    let is_short = key.len() <= KEY_CHARS_MAX || key.chars().count() <= KEY_CHARS_MAX;
    let is_key = is_short && !matches!(key, "" | "." | "..") && !key.contains(['/', '\0']);
    let name = EntryPath::new(format!("{}/{key}.json", kind.name()).into_bytes());
    name.ok().filter(|_| is_key).ok_or_else(|| Why::Key { key: escape(key.as_bytes()) })
}

/// Tells whether a value is this text.
pub(super) fn is(value: &Value<'_>, plain: &str) -> bool {
    matches!(value, Value::Text(text) if text.is(plain))
}

/// Returns the text of a field that must be there.
pub(super) fn required(object: &Object<'_>, field: &'static str) -> Result<String, Why> {
    match object.get(field) {
        None => Err(Why::Field { field: field.to_owned(), fault: "missing" }),
        Some(value) => required_text(value, || field.to_owned()),
    }
}

/// Returns a text that must be one.
pub(super) fn required_text(value: &Value<'_>, field: impl FnOnce() -> String) -> Result<String, Why> {
    match value.text().filter(|text| !text.is_empty()) {
        Some(text) => Ok(text.into_owned()),
        None => Err(Why::Field { field: field(), fault: value.what() }),
    }
}

/// Gives the models that have a new id that id, wherever a field whose name ends in `id` names one, and where one is the
/// name of a field.
pub(super) fn rename_models(value: &mut Value<'_>, renamed: &dyn Fn(&str) -> Option<String>) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| rename_models(value, renamed)),
        Value::Object(object) => {
            for (name, value) in object.fields_mut() {
                let field = name.plain();
                let names_a_model = field.to_ascii_lowercase().ends_with("id");
                match value {
                    Value::Text(text) if names_a_model => {
                        if let Some(new) = renamed(&text.plain()) {
                            *text = Text::owned(&new);
                        }
                    }
                    value => rename_models(value, renamed),
                }
                let new = renamed(&field);
                if let Some(new) = new {
                    *name = Text::owned(&new);
                }
            }
        }
        Value::Text(_) | Value::Number(_) | Value::Word(_) => {}
    }
}
