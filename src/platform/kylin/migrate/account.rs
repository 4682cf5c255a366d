//! Accounting: what came of all documents, by project and kind, and whether that adds up.
//!
//! What should be there is counted by the names of the source and by the survey; what is there, by looking at the result.

use std::collections::BTreeMap;

use super::rule::{Form, Rule, rule_of};
use super::{Converted, Fate, Keys, UNMIGRATED};
use crate::model::path::{EntryPath, escape};
use crate::platform::kylin::content::text_field;
use crate::platform::kylin::kind::{Home, Kind};
use serde::Serialize;

/// A set of things, of which only the number and a sum are kept. Equal sets have equal tallies whatever the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Tally {
    /// How many there are.
    pub count: u64,
    #[serde(skip)]
    sum: u128,
}

impl Tally {
    /// Adds a thing that consists of parts.
    pub fn add(&mut self, parts: &[&str]) {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        let first = *hasher.finalize().as_bytes().first_chunk().expect("a hash has 32 bytes");
        self.count += 1;
        self.sum = self.sum.wrapping_add(u128::from_le_bytes(first));
    }

    /// Adds another tally.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self { count: self.count + other.count, sum: self.sum.wrapping_add(other.sum) }
    }
}

/// How many there are of each kind, by project; the project is empty for what is in none.
type Counts = BTreeMap<String, BTreeMap<String, u64>>;

/// What came of documents, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Account {
    /// How many documents of the source became, or are fully in, others.
    pub migrated: u64,
    /// How many were dropped, by rule and project; the project is empty for what is in none.
    pub dropped: Counts,
    /// How many are broken and kept.
    pub broken: u64,
    /// How many are unknown and kept.
    pub unknown: u64,
    /// How many remarks there are, by difference.
    pub remarks: BTreeMap<String, u64>,
    /// How many documents the result should have, by project and kind, of those that one of the source becomes.
    pub expected: Counts,
    /// How many documents the result has, by project and kind.
    pub found: Counts,
    /// How many documents are kept as they are, as well as what they became.
    pub kept: u64,
    kept_found: u64,
    segments: Tally,
    columns: Tally,
}

/// Something that does not add up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Imbalance {
    /// The project; empty for what is in none.
    pub project: String,
    /// What was counted.
    pub what: String,
    /// How many there should be.
    pub expected: u64,
    /// How many the result has. If these are as many, they are not the same.
    pub found: u64,
}

impl Account {
    /// Counts what became of a document of the source.
    pub fn add(&mut self, name: &EntryPath, converted: &Converted) {
        self.add_fate(name, &converted.fate);
        for remark in &converted.remarks {
            *self.remarks.entry(remark.difference.name().to_owned()).or_default() += 1;
        }
        let is_kept = |document: &&super::NewDocument| document.name.is_within(UNMIGRATED.as_bytes());
        let kept = converted.documents.iter().filter(is_kept).count();
        self.kept += kept as u64;
        if converted.fate.is_problem() {
            return;
        }
        if let Rule::Convert(form) = rule_of(name)
            && !converted.documents.is_empty()
        {
            let (project, kind) = what(form);
            // All but models and dataflows become one document; the groups of Kylin 4 one each.
            let count = if form == Form::UserGroups { converted.documents.len() - kept } else { 1 };
            *count_of(&mut self.expected, project, kind.name()) += count as u64;
        }
    }

    /// Counts a document of which only the fate is known: one that is dropped.
    pub fn add_fate(&mut self, name: &EntryPath, fate: &Fate) {
        match fate {
            Fate::Migrated { .. } | Fate::Split { .. } => self.migrated += 1,
            Fate::Broken { .. } => self.broken += 1,
            Fate::Unknown { .. } => self.unknown += 1,
            Fate::Dropped { rule } => {
                let project = name.project().map(escape).filter(|project| project != "_global").unwrap_or_default();
                *count_of(&mut self.dropped, rule.name(), &project) += 1;
            }
        }
    }

    /// Returns how many documents of the source were counted.
    pub fn documents(&self) -> u64 {
        let dropped: u64 = self.dropped.values().flat_map(BTreeMap::values).sum();
        self.migrated + self.broken + self.unknown + dropped
    }

    /// Adds another account, of other documents.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.migrated += other.migrated;
        self.broken += other.broken;
        self.unknown += other.unknown;
        self.kept += other.kept;
        self.kept_found += other.kept_found;
        self.segments = self.segments.merge(other.segments);
        self.columns = self.columns.merge(other.columns);
        for (difference, count) in other.remarks {
            *self.remarks.entry(difference).or_default() += count;
        }
        let pairs =
            [(&mut self.dropped, other.dropped), (&mut self.expected, other.expected), (&mut self.found, other.found)];
        for (counts, others) in pairs {
            for (a, others) in others {
                for (b, count) in others {
                    *count_of(counts, &a, &b) += count;
                }
            }
        }
        self
    }

    /// Counts a document of the result, as it lies there.
    pub fn see(&mut self, name: &EntryPath, content: &[u8]) {
        if name.is_within(UNMIGRATED.as_bytes()) {
            self.kept_found += 1;
            return;
        }
        let Some(kind) = name.project().and_then(Kind::of_folder) else { return };
        let text = |field| text_field(content, field).unwrap_or_default().into_owned();
        let key = || name.name().strip_suffix(b".json").unwrap_or(name.name());
        let project = match kind.facts().home {
            _ if kind == Kind::SqlBlacklist => String::from_utf8_lossy(key()).into_owned(),
            Home::Field("project") => text("project"),
            Home::Key => String::from_utf8_lossy(key()).into_owned(),
            _ => String::new(),
        };
        *count_of(&mut self.found, &project, kind.name()) += 1;
        match kind {
            Kind::Segment => self.segments.add(&[&project, &text("model_uuid"), &text("uuid")]),
            Kind::CcModelRelation => self.columns.add(&[&project, &text("model_uuid"), &text("cc_uuid")]),
            _ => {}
        }
    }

    /// Tells what does not add up: documents of the source that are nowhere, and sets that are not the same.
    pub fn imbalances(&self, keys: &Keys) -> Vec<Imbalance> {
        let mut imbalances = Vec::new();
        let mut check = |project: &str, what: &str, expected, found| {
            if expected != found {
                imbalances.push(Imbalance { project: project.to_owned(), what: what.to_owned(), expected, found });
            }
        };
        let derived = [Kind::Segment, Kind::ComputeColumn, Kind::CcModelRelation, Kind::TableModelRelation];
        let mut all: Vec<(&str, &str)> = [&self.expected, &self.found]
            .into_iter()
            .flat_map(|counts| counts.iter().flat_map(|(a, counts)| counts.keys().map(|b| (a.as_str(), b.as_str()))))
            .filter(|(_, kind)| derived.iter().all(|derived| derived.name() != *kind))
            .collect();
        all.sort_unstable();
        all.dedup();
        for (project, kind) in all {
            let count = |counts: &Counts| counts.get(project).and_then(|kinds| kinds.get(kind)).copied().unwrap_or(0);
            check(project, kind, count(&self.expected), count(&self.found));
        }
        check("", UNMIGRATED, self.kept, self.kept_found);
        let tallies = [
            ("segments of models", keys.expected_segments(), self.segments),
            ("computed columns of models", keys.expected_columns(), self.columns),
        ];
        for (what, expected, found) in tallies {
            if expected != found {
                let (project, what) = (String::new(), what.to_owned());
                imbalances.push(Imbalance { project, what, expected: expected.count, found: found.count });
            }
        }
        imbalances
    }
}

fn count_of<'c>(counts: &'c mut Counts, a: &str, b: &str) -> &'c mut u64 {
    counts.entry(a.to_owned()).or_default().entry(b.to_owned()).or_default()
}

/// Which document a form becomes, of which project.
fn what(form: Form<'_>) -> (&str, Kind) {
    match form {
        Form::Identity | Form::Version | Form::Image | Form::AclVersion => ("", Kind::System),
        Form::Project { project, .. } => (project, Kind::Project),
        Form::Global { kind, .. } => ("", kind.kind()),
        Form::UserGroups => ("", Kind::UserGroup),
        Form::SqlBlacklist { project } => (project, Kind::SqlBlacklist),
        Form::Model { project, .. } => (project, Kind::Model),
        Form::Dataflow { project, .. } => (project, Kind::Dataflow),
        Form::IndexPlan { project, .. } => (project, Kind::IndexPlan),
        Form::Details { project, .. } => (project, Kind::Layout),
        Form::FusionModel { project, .. } => (project, Kind::FusionModel),
        Form::StreamingJob { project, .. } => (project, Kind::StreamingJob),
        Form::Recommendations { project, .. } => (project, Kind::TmpRec),
        Form::Parser { project, .. } => (project, Kind::DataParser),
        Form::Acl { project, .. } => (project, Kind::Acl),
        Form::InProject { kind, project, .. } => (project, kind.kind()),
    }
}
