//! What others did to a store since it was listed.

use std::collections::HashMap;

use super::change::Change;
use super::{Attempt, at, changed};
use crate::endpoint::Listing;
use crate::endpoint::sql::is_logged;
use crate::endpoint::sql::listing::{KEY_SHAPE, SqlListing, is_key, key_query};
use crate::endpoint::sql::read::old_key;
use crate::endpoint::sql::rows::stamp;
use crate::endpoint::sql::schema::Holds;
use crate::endpoint::sql::session::Cell;
use crate::model::path::escape;
use crate::platform::kylin::kind::{Home, Kind};
use crate::platform::kylin::layout::GLOBAL;

impl Change<'_> {
    /// Refuses to truncate a store of which some document was added, changed or removed since it was listed: what is planned
    /// is to leave what the snapshot holds, and that is not what would be left. All rows are looked at, not the audit log
    /// only: not all who write keep it. What is written from now on comes after the restore.
    ///
    /// Jobs, rules and offsets change all the time and don't count.
    pub(super) fn refuse_newcomers(&mut self) -> Attempt<()> {
        let listing = self.staging.listing;
        let mut look = Look::new(listing);
        for (number, table) in (0..).zip(&self.schema.tables) {
            if !is_logged(table.holds) {
                continue;
            }
            let sql = key_query(self.schema, number, table, &[], "");
            self.session
                .query_many(&sql, &KEY_SHAPE, &mut |row| look.at(number, table.holds, row))
                .map_err(at("list rows of"))?;
        }
        if let Some(path) = look.changed {
            return Err(changed(path));
        }
        let is_gone =
            |n: &u32| is_logged(listing.schema.table(listing.rows.table(*n as usize)).holds) && !look.seen[*n as usize];
        match listing.numbers().find(is_gone) {
            Some(n) => Err(changed(listing.rows.path(n as usize))),
            None => Ok(()),
        }
    }
}

struct Look<'a> {
    listing: &'a SqlListing,
    scope: Option<&'a [u8]>,
    seen: Vec<bool>,
    /// The UUID of the project that is the scope: permissions go by it.
    uuid: Vec<u8>,
    /// Rows of the old generation by their keys.
    old: HashMap<Vec<u8>, usize>,
    changed: Option<String>,
}

impl<'a> Look<'a> {
    fn new(listing: &'a SqlListing) -> Self {
        let keys = |n: usize| (old_key(listing, n), n);
        let old = if listing.schema.is_old() { (0..listing.rows.len()).map(keys).collect() } else { HashMap::new() };
        let (scope, seen) = (listing.scope_prefix(), vec![false; listing.rows.len()]);
        Self { listing, scope, seen, uuid: Vec::new(), old, changed: None }
    }

    fn at(&mut self, table: u8, holds: Holds, row: &[Cell<'_>]) {
        let (key, project) = (row[2].bytes().unwrap_or_default(), row[3].bytes().unwrap_or_default());
        let number = |n: usize| row[n].int().unwrap_or_default();
        let rows = &self.listing.rows;
        if holds == Holds::Documents(Kind::Project) && Some(key) == self.scope {
            self.uuid = project.trim_ascii_end().to_vec();
        }
        let found = if holds == Holds::Old { self.old.get(key).copied() } else { rows.find(table, key) };
        let is_changed = match found {
            Some(n) => {
                self.seen[n] = true;
                let is_in_scope = self.listing.is_in_scope(n) || self.may_be_in_scope(holds, key, project);
                is_in_scope && rows.stamp(n) != stamp(number(1), number(4), number(5))
            }
            // What is no path was not listed either.
            None if holds != Holds::Old && !is_key(key) => false,
            None => self.may_be_in_scope(holds, key, project),
        };
        if is_changed && self.changed.is_none() {
            let path = found.map(|n| rows.path(n).to_string());
            self.changed = Some(path.unwrap_or_else(|| escape(key)));
        }
    }

    fn may_be_in_scope(&self, holds: Holds, key: &[u8], project: &[u8]) -> bool {
        let Some(scope) = self.scope else { return true };
        let Holds::Documents(kind) = holds else {
            let mut parts = key.split(|byte| *byte == b'/').skip(1);
            let first = parts.next().unwrap_or_default();
            let (second, third) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let is_of_project = second == b"project" && third.strip_suffix(b".json") == Some(scope);
            // Whose permissions they are is not looked for.
            return first == scope || first == GLOBAL.as_bytes() && (is_of_project || second == b"acl");
        };
        match kind.facts().home {
            Home::Field(_) => project == scope,
            Home::Key => key == scope,
            Home::ProjectUuid => key == self.uuid,
            Home::Global => false,
        }
    }
}
