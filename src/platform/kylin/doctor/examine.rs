//! The examination of one document, and what is kept of it.

use super::document::{self, State};
use super::place::{Place, What};
use super::read::{Said, read};
use super::{Fault, Generation, Rule};
use crate::model::path::EntryPath;
use crate::platform::kylin::kind::Kind;

/// Something a document says that rules between documents need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Fact {
    /// How others refer to it, if not by its key.
    Name,
    /// Its `uuid`, if that is not its key.
    Uuid,
    Alias,
    /// What a project or a document of the system calls itself.
    Title,
    Model,
    Dataflow,
    Segment,
    Column,
    ColumnName,
    ColumnExpression,
    /// A table, as `DATABASE.NAME`.
    Table,
    Parser,
    Jar,
    User,
}

const FACTS: [Fact; 14] = [
    Fact::Name,
    Fact::Uuid,
    Fact::Alias,
    Fact::Title,
    Fact::Model,
    Fact::Dataflow,
    Fact::Segment,
    Fact::Column,
    Fact::ColumnName,
    Fact::ColumnExpression,
    Fact::Table,
    Fact::Parser,
    Fact::Jar,
    Fact::User,
];

/// Facts in one piece of memory: each is its number, the length of its text and the text.
#[derive(Debug, Default)]
pub(super) struct Facts(Vec<u8>);

impl Facts {
    /// Adds a fact.
    pub(super) fn push(&mut self, fact: Fact, text: &[u8]) {
        // What is longer is no name of anything; nothing refers to it.
        if let Ok(length) = u16::try_from(text.len()) {
            self.0.push(fact as u8);
            self.0.extend_from_slice(&length.to_le_bytes());
            self.0.extend_from_slice(text);
        }
    }

    /// Returns the facts in the order in which they were added.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Fact, &[u8])> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let (head, tail) = rest.split_first_chunk::<3>()?;
            let (text, next) = tail.split_at(usize::from(u16::from_le_bytes([head[1], head[2]])));
            rest = next;
            Some((FACTS[usize::from(head[0])], text))
        })
    }
}

/// What one document says, as far as the rules between documents need it, and what is wrong with it by itself.
#[derive(Debug)]
pub struct Examined {
    pub(super) path: EntryPath,
    pub(super) state: State,
    pub(super) facts: Facts,
    pub(super) faults: Vec<Fault>,
}

impl Examined {
    /// Returns what is wrong with the document by itself.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
}

/// Examines one document by itself.
pub fn examine(generation: Generation, path: &EntryPath, content: &[u8]) -> Examined {
    let place = Place::of(generation, path);
    let mut looked = Look { generation, path, state: State::Sound, faults: Vec::new() };
    let mut facts = Facts::default();
    match place.what {
        What::Ignored => {}
        What::Stray => looked.fault(Rule::StrayFile, "", "there should be no file here".to_owned()),
        What::Unknown => looked.unknown_folder(&place),
        What::Opaque => drop(looked.is_empty(content)),
        What::Json => drop(looked.read(content)),
        What::Document(kind) => {
            let said = looked.read(content);
            if let Some(said) = &said {
                document::check(&mut looked, kind, &place, said);
            }
            document::collect(&mut facts, generation, kind, &place, &said.unwrap_or_default());
        }
    }
    facts.0.shrink_to_fit();
    Examined { path: path.clone(), state: looked.state, facts, faults: looked.faults }
}

/// A document that is looked at, and what was found so far.
pub(super) struct Look<'a> {
    pub(super) generation: Generation,
    path: &'a EntryPath,
    pub(super) state: State,
    faults: Vec<Fault>,
}

impl Look<'_> {
    /// Notes a fault.
    pub(super) fn fault(&mut self, rule: Rule, subject: &str, detail: String) {
        self.faults.push(Fault::of(rule, self.generation, self.path.clone(), subject, detail));
    }

    /// Notes a fault after which nothing that the document says can be relied on.
    pub(super) fn broken(&mut self, rule: Rule, subject: &str, detail: String) {
        self.state = State::Broken;
        self.fault(rule, subject, detail);
    }

    fn is_empty(&mut self, content: &[u8]) -> bool {
        let is_empty = content.iter().all(u8::is_ascii_whitespace);
        if is_empty {
            let what = if content.is_empty() { "it has no content" } else { "it holds nothing but blanks" };
            self.broken(Rule::EmptyDocument, "", what.to_owned());
        }
        is_empty
    }

    fn read<'c>(&mut self, content: &'c [u8]) -> Option<Said<'c>> {
        if self.is_empty(content) {
            return None;
        }
        match read(content) {
            Ok(Some(said)) => return Some(said),
            Ok(None) => self.broken(Rule::NotAnObject, "", "it is JSON, but no object".to_owned()),
            Err(error) => self.broken(Rule::BrokenJson, "", error.to_string()),
        }
        None
    }

    fn unknown_folder(&mut self, place: &Place<'_>) {
        let (rule, what) = match self.generation {
            Generation::New => (Rule::UnknownType, "is no type of metadata"),
            Generation::Old => (Rule::UnknownFolder, "is none that Kylin knows"),
        };
        let folder = String::from_utf8_lossy(place.folder);
        self.fault(rule, "", format!("`{folder}` {what}"));
    }
}

/// Returns the type of document at a path.
pub(super) fn kind_of(place: &Place<'_>) -> Option<Kind> {
    match place.what {
        What::Document(kind) => Some(kind),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_come_back_as_they_were_added() {
        let mut facts = Facts::default();
        for fact in FACTS {
            facts.push(fact, format!("{fact:?}").as_bytes());
        }
        facts.push(Fact::Alias, &[b'x'; 70_000]);
        facts.push(Fact::Jar, b"");
        let read: Vec<_> = facts.iter().collect();
        assert_eq!(read.len(), FACTS.len() + 1);
        assert!(FACTS.windows(2).all(|pair| pair[0] < pair[1]));
        for (fact, (read, text)) in FACTS.into_iter().zip(&read) {
            assert_eq!((fact, format!("{fact:?}").as_bytes()), (*read, *text));
        }
        assert_eq!(read[FACTS.len()], (Fact::Jar, &b""[..]));
    }
}
