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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::Severity;
    use crate::platform::kylin::doctor::{Examination, Generation, examine};
    use crate::platform::kylin::migrate::{Dropped, Unknown, Why};

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text.as_bytes()).unwrap()
    }

    fn report() -> MigrationReport {
        MigrationReport {
            source: String::new(),
            documents: 0,
            bytes: 0,
            account: Account::default(),
            choices: Vec::new(),
            unread: Vec::new(),
            kept: Vec::new(),
            imbalances: Vec::new(),
            faults: Vec::new(),
            lines: Lines::new().unwrap(),
        }
    }

    /// The warning that the identity of the system is missing, and after it in the order of paths two errors.
    fn faults() -> Vec<Fault> {
        let mut examination = Examination::new(Generation::New);
        for name in ["_global/USER_INFO/a", "_global/USER_INFO/b"] {
            examination.push(examine(Generation::New, &path(name), b""));
        }
        examination.finish(true)
    }

    fn unread() -> Problem {
        Problem { severity: Severity::Unread, path: "a".to_owned(), what: "can't be read".to_owned() }
    }

    fn imbalance() -> Imbalance {
        Imbalance { project: "sales".to_owned(), what: "MODEL".to_owned(), expected: 3, found: 2 }
    }

    #[test]
    fn errors_and_warnings_are_counted_apart() {
        let report = MigrationReport { faults: faults(), ..report() };
        assert_eq!((report.errors(), report.warnings()), (2, 1), "{:?}", report.faults);
        assert_eq!((self::report().errors(), self::report().warnings()), (0, 0));
    }

    #[test]
    fn somebody_should_look_at_whatever_is_not_as_it_should_be_but_for_warnings() {
        let mut faults = faults();
        let errors: Vec<Fault> = faults.extract_if(.., |fault| fault.rule.is_hard()).collect();
        assert!(!report().has_problems());
        assert!(!MigrationReport { faults, ..report() }.has_problems());
        assert!(MigrationReport { faults: errors, ..report() }.has_problems());
        assert!(MigrationReport { unread: vec![unread()], ..report() }.has_problems());
        assert!(MigrationReport { kept: vec![(path("b"), "broken".to_owned())], ..report() }.has_problems());
        assert!(MigrationReport { imbalances: vec![imbalance()], ..report() }.has_problems());
    }

    #[test]
    fn first_error_is_what_is_nearest_to_the_source() {
        let mut report = MigrationReport {
            unread: vec![unread()],
            kept: vec![(path("b"), "broken".to_owned())],
            imbalances: vec![imbalance()],
            faults: faults(),
            ..report()
        };
        let told = |report: &MigrationReport| report.first_error().map(|(at, why)| format!("{at}: {why}"));
        assert_eq!(told(&report).unwrap(), "a: can't be read");
        report.unread.clear();
        assert_eq!(told(&report).unwrap(), "b: broken");
        report.kept.clear();
        assert_eq!(told(&report).unwrap(), "sales: MODEL: 3 in the source, 2 in the result");
        report.imbalances.clear();
        let first = report.faults.iter().find(|fault| fault.rule.is_hard()).unwrap();
        assert_eq!(told(&report).unwrap(), format!("_global/USER_INFO/a: {}", first.detail));
        report.faults.retain(|fault| !fault.rule.is_hard());
        assert_eq!(told(&report), None, "a warning is no error");
    }

    #[test]
    fn lines_come_in_the_order_of_names_whatever_thread_was_first() {
        let lines = Lines::new().unwrap();
        for name in ["b", "c", "a"] {
            let fate = Fate::Migrated { to: format!("MODEL/{name}.json") };
            lines.add(&path(name), &Converted { documents: Vec::new(), fate, remarks: Vec::new() }).unwrap();
        }
        lines.sort();
        let mut told = Vec::new();
        let take = |line: Line| {
            told.push(format!("{}: {}", line.name, line.text));
            Ok(())
        };
        lines.each(take).unwrap();
        let expected = ["a", "b", "c"].map(|name| format!("{name}: migrated to MODEL/{name}.json"));
        assert_eq!(told, expected);
    }

    #[test]
    fn reason_why_a_document_is_not_migrated_is_told_without_where_it_is_kept() {
        let kept_at = "_unmigrated/x".to_owned();
        for (fate, expected) in [
            (Fate::Broken { why: Why::Empty, kept_at: kept_at.clone() }, "it is empty"),
            (Fate::Unknown { why: Unknown::Folder, kept_at }, "no folder of Kylin's is called so"),
            (Fate::Split { to: vec!["a".to_owned(), "b".to_owned()] }, "split into a, b"),
            (
                Fate::Dropped { rule: Dropped::Jobs },
                "dropped: jobs, which have a table of their own in 5.0.0 and later",
            ),
        ] {
            assert_eq!(reason_of(&fate), expected);
        }
    }
}
