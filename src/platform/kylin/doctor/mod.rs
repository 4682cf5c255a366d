//! Examines documents: is each what Kylin can load and a database accept, and do they fit together?
//!
//! Each document is examined by itself, on any thread ([`examine`]); what it says is collected ([`Examination`]), and
//! when all are there, the faults between them are found. A document that can't be read is one fault: what refers to
//! it is not blamed, for it is there.

use crate::model::path::{EntryPath, escape};

mod bind;
mod document;
mod examination;
mod examine;
mod names;
mod pairs;
mod place;
mod read;
mod references;
mod rule;
#[cfg(test)]
mod samples;
mod unique;
mod value;

pub use examination::Examination;
pub use examine::{Examined, examine};
pub use rule::{ALL as ALL_RULES, Rule, Severity};

/// Which of the two layouts a store has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Generation {
    /// Of 5.0.0 and later.
    New,
    /// Of 5.0-alpha and 5.0-beta.
    Old,
}

/// Something that is wrong with a document, or between several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which rule is broken.
    pub rule: Rule,
    /// The document to look at: of several with equal rights the first.
    pub path: EntryPath,
    /// The project the document belongs to, as text; nothing for what is global or can't be told.
    pub project: Option<String>,
    /// What is wrong, with the other documents and keys concerned.
    pub detail: String,
    /// What tells this from other faults of the same rule and document.
    subject: String,
    reach: Reach,
}

/// What a fault is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    One,
    /// Several documents alike; which of them is the first must not matter to who the fault is.
    Several,
}

impl Fault {
    /// Makes a fault of one document.
    fn of(rule: Rule, generation: Generation, path: EntryPath, subject: impl Into<String>, detail: String) -> Self {
        let project = place::Place::of(generation, &path).project().map(escape);
        Self { rule, path, project, detail, subject: subject.into(), reach: Reach::One }
    }

    /// Makes it a fault of several documents, of which the subject is what they share.
    fn of_several(self) -> Self {
        Self { reach: Reach::Several, ..self }
    }

    /// Returns what tells whether this is the same fault as one found in another state of the store.
    ///
    /// It depends neither on positions and counts nor, where several documents collide, on which of them is named first.
    pub fn key(&self) -> impl Ord + std::hash::Hash + std::fmt::Debug {
        let path = match self.reach {
            Reach::One => Some(&self.path),
            Reach::Several => None,
        };
        (self.rule, path, self.subject.as_str())
    }
}
