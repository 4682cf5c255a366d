//! What became of every document of a migration.

use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::endpoint::spool::SpoolFile;
use crate::model::path::EntryPath;
use crate::monitor::Problem;
use crate::ops::{Error, Result};
use crate::platform::kylin::doctor::Fault;
use crate::platform::kylin::migrate::{Account, Choice, Converted, Fate, Imbalance};

/// What a migration does with a source.
#[derive(Debug)]
pub struct MigrationReport {
    /// The source.
    pub source: String,
    /// Documents of the source, without those that can't be read.
    pub documents: u64,
    /// Bytes of those that are converted.
    pub bytes: u64,
    /// What became of them, counted.
    pub account: Account,
    /// Ids that several claimed.
    pub choices: Vec<Choice>,
    /// What can't be listed or read: it is not in the result.
    pub unread: Vec<Problem>,
    /// What is broken or unknown, in the order of names: it is kept as it is.
    pub kept: Vec<(EntryPath, String)>,
    /// What does not add up.
    pub imbalances: Vec<Imbalance>,
    /// What is wrong with the result, in the order of paths and rules.
    pub faults: Vec<Fault>,
    pub(super) lines: Lines,
}

impl MigrationReport {
    /// Hands over what became of each document, in the order of names.
    ///
    /// # Errors
    /// When the temporary file that holds it can't be read, or `take` fails.
    pub fn lines(&self, take: impl FnMut(Line) -> Result<()>) -> Result<()> {
        self.lines.each(take)
    }

    /// Returns how many faults of the result are errors: Kylin or its database refuses or misreads such documents.
    pub fn errors(&self) -> u64 {
        self.faults.iter().filter(|fault| fault.rule.is_hard()).count() as u64
    }

    /// Returns how many faults of the result are warnings.
    pub fn warnings(&self) -> u64 {
        self.faults.len() as u64 - self.errors()
    }

    /// Tells whether there is something that somebody should look at.
    pub fn has_problems(&self) -> bool {
        !(self.unread.is_empty() && self.kept.is_empty() && self.imbalances.is_empty()) || self.errors() > 0
    }

    /// Returns the first of what is wrong, and where.
    pub(super) fn first_error(&self) -> Option<(String, String)> {
        let unread = self.unread.first().map(|problem| (problem.path.clone(), problem.what.clone()));
        let kept = || self.kept.first().map(|(name, what)| (name.to_string(), what.clone()));
        let imbalance = || self.imbalances.first().map(|imbalance| (imbalance.project.clone(), text(imbalance)));
        let fault = || {
            let fault = self.faults.iter().find(|fault| fault.rule.is_hard())?;
            Some((fault.path.to_string(), fault.detail.clone()))
        };
        unread.or_else(kept).or_else(imbalance).or_else(fault)
    }
}

/// Says what does not add up.
pub(super) fn text(imbalance: &Imbalance) -> String {
    format!("{}: {} in the source, {} in the result", imbalance.what, imbalance.expected, imbalance.found)
}

/// What became of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its name in the old layout.
    pub name: EntryPath,
    /// What became of it, and what else there is to say, in one line.
    pub text: String,
    /// The same as JSON: `fate`, with what belongs to it, and `remarks`.
    pub fields: Value,
}

/// The lines, in a file: there may be millions.
#[derive(Debug)]
pub(super) struct Lines {
    file: SpoolFile,
    table: Mutex<Vec<(EntryPath, u64, u64)>>,
}

impl Lines {
    pub(super) fn new() -> Result<Self> {
        Ok(Self { file: SpoolFile::new()?, table: Mutex::default() })
    }

    pub(super) fn add(&self, name: &EntryPath, converted: &Converted) -> Result<()> {
        let mut text = text_of(&converted.fate);
        for remark in &converted.remarks {
            text.push_str("; ");
            text.push_str(&remark.detail);
        }
        let mut fields = serde_json::to_value(&converted.fate).unwrap_or_default();
        if let Value::Object(fields) = &mut fields {
            fields.insert("remarks".to_owned(), serde_json::to_value(&converted.remarks).unwrap_or_default());
        }
        let record = json!([text, fields]).to_string();
        let start = self.file.append(record.as_bytes())?;
        let place = (name.clone(), start, record.len() as u64);
        self.table.lock().unwrap_or_else(PoisonError::into_inner).push(place);
        Ok(())
    }

    /// Puts the lines in order.
    pub(super) fn sort(&self) {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).sort_unstable();
    }

    pub(super) fn each(&self, mut take: impl FnMut(Line) -> Result<()>) -> Result<()> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let mut record = Vec::new();
        for (name, start, length) in table.iter() {
            record.clear();
            self.file.read(*start, *length, &mut record)?;
            let (text, fields) = serde_json::from_slice(&record).map_err(|e| Error::Output(e.into()))?;
            take(Line { name: name.clone(), text, fields })?;
        }
        Ok(())
    }
}

/// Says why a document is not migrated; what became of one that is.
pub(super) fn reason_of(fate: &Fate) -> String {
    match fate {
        Fate::Broken { why, .. } => why.to_string(),
        Fate::Unknown { why, .. } => why.text().to_owned(),
        _ => text_of(fate),
    }
}

/// Says what became of a document.
pub(super) fn text_of(fate: &Fate) -> String {
    match fate {
        Fate::Migrated { to } => format!("migrated to {to}"),
        Fate::Split { to } => format!("split into {}", to.join(", ")),
        Fate::Dropped { rule } => format!("dropped: {}", rule.text()),
        Fate::Broken { why, kept_at } => format!("broken: {why}; kept as {kept_at}"),
        Fate::Unknown { why, kept_at } => format!("unknown: {}; kept as {kept_at}", why.text()),
    }
}
