//! Looking at the result of a migration as it lies there, before anyone else does: the rules of the doctor, and whether
//! all that went in came out.

use std::sync::{Mutex, PoisonError};

use super::convert::Conversion;
use super::report::MigrationReport;
use super::{Error, LAYOUT, Result};
use crate::endpoint::Source;
use crate::endpoint::spool::SpoolStore;
use crate::model::path::EntryPath;
use crate::model::scope::Scope;
use crate::monitor::{Monitor, Problem};
use crate::ops::documents::{Documents, Live, Met, Taker, Unread};
use crate::platform::kylin::doctor::{Examination, Fault, Generation, examine};
use crate::platform::kylin::migrate::{Account, Keys, UNMIGRATED};

/// Examines what was converted, and returns it with the report.
pub(super) fn examine_result(
    conversion: Conversion,
    keys: &Keys,
    monitor: &dyn Monitor,
) -> Result<(SpoolStore, MigrationReport)> {
    let Conversion { source, store, spool, lines, unread, counted } = conversion;
    let result = spool.finish(format!("migration of {store}"), LAYOUT.name(), unread.clone());
    let listing = result.scan(&Scope::System, monitor)?;
    let as_it_is = |_: &EntryPath, _: &[u8]| None;
    let (account, faults, lost) = examine_new(&Live::new(&*listing), counted.account, &as_it_is, monitor)?;
    if let Some(lost) = lost.into_iter().next() {
        return Err(Error::NotMigrated { document: lost.path, why: lost.what });
    }
    let report = MigrationReport {
        source,
        documents: counted.documents,
        bytes: counted.bytes,
        imbalances: account.imbalances(keys),
        account,
        choices: keys.choices().to_vec(),
        unread,
        kept: counted.kept,
        faults,
        lines,
    };
    Ok((result, report))
}

/// Returns what a document is to be counted as, if not as it is.
pub(super) type Translate<'a> = &'a (dyn Fn(&EntryPath, &[u8]) -> Option<Vec<u8>> + Sync);

/// Examines documents of the new layout, and adds them to an account. Returns that, what is wrong, and what can't be read.
pub(super) fn examine_new(
    documents: &dyn Documents,
    account: Account,
    translate: Translate<'_>,
    monitor: &dyn Monitor,
) -> Result<(Account, Vec<Fault>, Vec<Problem>)> {
    let all = Mutex::new((account, Examination::new(Generation::New)));
    let takers = || -> Box<dyn Taker + '_> {
        let some = (Account::default(), Examination::new(Generation::New));
        Box::new(Examiner { all: &all, translate, some: Some(some) })
    };
    let unread = Unread::new(monitor);
    documents.each(&|_| true, &takers, &|path, what| unread.tell(path, what), monitor)?;
    let (account, examination) = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok((account, examination.finish(true), unread.finish()))
}

/// Tells whether a document of the new layout is one that was not migrated, but kept.
pub(super) fn is_kept(name: &EntryPath) -> bool {
    name.parts().next() == Some(UNMIGRATED.as_bytes())
}

struct Examiner<'a> {
    all: &'a Mutex<(Account, Examination)>,
    translate: Translate<'a>,
    /// What was examined so far; taken at the end.
    some: Option<(Account, Examination)>,
}

impl Taker for Examiner<'_> {
    fn take(&mut self, met: &Met<'_>, content: Option<&[u8]>) -> Result<()> {
        let (account, examination) = self.some.as_mut().expect("it is taken when this is dropped");
        let content = content.unwrap_or_default();
        let Some(name) = LAYOUT.name_of(met.path) else { return Ok(()) };
        account.see(&name, (self.translate)(&name, content).as_deref().unwrap_or(content));
        // What is kept there is told of already, by its old name.
        if !is_kept(&name) {
            examination.push(examine(Generation::New, met.path, content));
        }
        Ok(())
    }
}

impl Drop for Examiner<'_> {
    fn drop(&mut self) {
        if let Some((account, examination)) = self.some.take() {
            let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            all.0 = std::mem::take(&mut all.0).merge(account);
            all.1.merge(examination);
        }
    }
}
