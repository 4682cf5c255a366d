//! Checking a migration that was made earlier, by whichever tool: what should be there with what is.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::canonical::{Canonical, Columns, canonical, learn, split, with_ids};
use super::examine::{examine_new, examine_result, is_kept};
use super::origin::{Opened, Origin};
use super::report::MigrationReport;
use super::{LAYOUT, MigrateOptions, Unfit, convert};
use crate::endpoint::Source;
use crate::model::path::EntryPath;
use crate::model::scope::Scope;
use crate::monitor::{Monitor, Problem, Silent};
use crate::ops::doctor::leave_new;
use crate::ops::documents::{Documents, Live, Met, Taker, Unread};
use crate::ops::{Error, Result};
use crate::platform::kylin::doctor::Fault;
use crate::platform::kylin::kind::Kind as DocumentKind;
use crate::platform::kylin::layout::Layout;
use crate::platform::kylin::migrate::{Imbalance, UNMIGRATED};

/// How a document is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It should be there, and is not.
    Missing,
    /// It is there, and means something else than it should.
    Different,
    /// It is there, and nothing in the source gives it.
    Surplus,
}

impl Kind {
    /// Returns the name, which never changes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Different => "different",
            Self::Surplus => "surplus",
        }
    }
}

/// A document that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deviation {
    /// The name in the new layout; of what has ids without meaning one of several.
    pub name: String,
    /// How it deviates.
    pub kind: Kind,
}

/// What checking an earlier migration found.
#[derive(Debug)]
pub struct Verification {
    /// What a migration of the source would do now.
    pub report: MigrationReport,
    /// Documents of the result that were compared.
    pub documents: u64,
    /// What is not as it should be, in the order of names.
    pub deviations: Vec<Deviation>,
    /// What does not add up.
    pub imbalances: Vec<Imbalance>,
    /// What is wrong with the result by itself, and would not be if it were made now.
    pub faults: Vec<Fault>,
    /// What can't be read of the result.
    pub unread: Vec<Problem>,
}

impl Verification {
    /// Tells whether the result is not what it should be.
    pub fn has_findings(&self) -> bool {
        !(self.deviations.is_empty() && self.imbalances.is_empty() && self.unread.is_empty())
            || self.faults.iter().any(|fault| fault.rule.is_hard())
    }
}

/// Checks that what is at `result` is what a migration of the origin gives, ids without meaning aside.
///
/// # Errors
/// As [`super::plan`]; [`Error::Unfit`] when the result is not in the new layout.
pub fn verify(
    origin: &Origin<'_>,
    result: &Origin<'_>,
    options: &MigrateOptions,
    monitor: &dyn Monitor,
) -> Result<Verification> {
    let source = origin.open(monitor)?;
    source.require_old()?;
    let made = result.open(monitor)?;
    require_new(&made)?;
    let keys = convert::survey(&source, &options.conversion, monitor)?;
    let conversion = convert::convert(&source, &keys, options, monitor)?;
    let account = conversion.counted.account.clone();
    let (expected, report) = examine_result(conversion, &keys, monitor)?;
    let listing = expected.scan(&Scope::System, monitor)?;
    let mut seen = BTreeMap::new();
    let expected_columns = see(&Live::new(&*listing), Side::Expected, &mut seen, &Silent)?;
    let ids: BTreeMap<String, String> = expected_columns.into_iter().map(|(id, column)| (column, id)).collect();
    let (account, mut faults, mut unread) = made.with(|documents| {
        let columns = see(documents, Side::Found, &mut seen, monitor)?;
        // Relations are counted by the ids that a migration gives now: those of another tool mean the same.
        let translate = |name: &EntryPath, content: &[u8]| {
            let (kind, _) = split(name)?;
            (kind == DocumentKind::CcModelRelation).then(|| with_ids(content, &columns, &ids))
        };
        examine_new(documents, account, &translate, monitor)
    })?;
    unread.extend(made.problems());
    // What is wrong by what the source says is no fault of the migration.
    leave_new(&mut faults, &report.faults);
    let mut imbalances = account.imbalances(&keys);
    // What was kept has perhaps been moved elsewhere, as it must be.
    imbalances.retain(|imbalance| imbalance.what != UNMIGRATED);
    let documents = seen.values().map(|seen| seen.counts[1]).sum();
    Ok(Verification { report, documents, deviations: deviations(seen), imbalances, faults, unread })
}

fn require_new(made: &Opened<'_>) -> Result<()> {
    let unfit = match made.layout() {
        Some(Layout::New(_)) => return Ok(()),
        Some(Layout::Old) => Unfit::StillOld,
        None => Unfit::NotNew,
    };
    Err(Error::Unfit { of: made.location.clone(), unfit })
}

#[derive(Clone, Copy)]
enum Side {
    Expected,
    Found,
}

/// What was seen of documents that are compared by one key.
#[derive(Debug, Default)]
struct Seen {
    /// One of the names.
    name: Option<EntryPath>,
    /// How many there are on each side, and the sum of what they say.
    counts: [u64; 2],
    digests: [u128; 2],
}

fn see(
    documents: &dyn Documents,
    side: Side,
    seen: &mut BTreeMap<String, Seen>,
    monitor: &dyn Monitor,
) -> Result<Columns> {
    let columns = Mutex::new(Columns::new());
    let is_column = |path: &EntryPath| path.kind() == Some(DocumentKind::ComputeColumn.name().as_bytes());
    let learners = || -> Box<dyn Taker + '_> { Box::new(Learner { columns: &columns }) };
    // What can't be read is told when it is examined.
    documents.each(&is_column, &learners, &|_, _| {}, monitor)?;
    let columns = columns.into_inner().unwrap_or_else(PoisonError::into_inner);
    let all = Mutex::new(seen);
    let comparers = || -> Box<dyn Taker + '_> { Box::new(Comparer { columns: &columns, side, all: &all }) };
    let unread = Unread::new(&Silent);
    documents.each(&|_| true, &comparers, &|path, what| unread.tell(path, what), monitor)?;
    Ok(columns)
}

struct Learner<'a> {
    columns: &'a Mutex<Columns>,
}

impl Taker for Learner<'_> {
    fn take(&mut self, met: &Met<'_>, content: Option<&[u8]>) -> Result<()> {
        if let (Some(content), Some(name)) = (content, LAYOUT.name_of(met.path)) {
            learn(&mut self.columns.lock().unwrap_or_else(PoisonError::into_inner), &name, content);
        }
        Ok(())
    }
}

struct Comparer<'a, 's> {
    columns: &'a Columns,
    side: Side,
    all: &'a Mutex<&'s mut BTreeMap<String, Seen>>,
}

impl Taker for Comparer<'_, '_> {
    fn take(&mut self, met: &Met<'_>, content: Option<&[u8]>) -> Result<()> {
        let Some(name) = LAYOUT.name_of(met.path) else { return Ok(()) };
        if name.as_bytes() == b"kylin.properties" || name.name() == b".DS_Store" {
            return Ok(());
        }
        let content = content.unwrap_or_default();
        let canonical = match is_kept(&name) {
            true => as_it_is(&name, content),
            false => canonical(&name, content, self.columns),
        };
        let side = self.side as usize;
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = all.entry(canonical.key).or_default();
        seen.counts[side] += 1;
        seen.digests[side] = seen.digests[side].wrapping_add(canonical.digest);
        if seen.name.as_ref().is_none_or(|known| name < *known) {
            seen.name = Some(name);
        }
        Ok(())
    }
}

/// What was kept is compared byte by byte.
fn as_it_is(name: &EntryPath, content: &[u8]) -> Canonical {
    let hash = blake3::hash(content);
    let digest = u128::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"));
    Canonical { key: name.to_string(), digest }
}

fn deviations(seen: BTreeMap<String, Seen>) -> Vec<Deviation> {
    let deviation = |seen: Seen| {
        let [expected, found] = seen.counts;
        let kind = match () {
            // It has perhaps been moved elsewhere, as it must be.
            () if expected > found && seen.name.as_ref().is_some_and(is_kept) => return None,
            () if expected > found => Kind::Missing,
            () if expected < found => Kind::Surplus,
            () if seen.digests[0] != seen.digests[1] => Kind::Different,
            () => return None,
        };
        Some(Deviation { name: seen.name?.to_string(), kind })
    };
    let mut deviations: Vec<Deviation> = seen.into_values().filter_map(deviation).collect();
    deviations.sort_unstable();
    deviations
}
