//! Where a migration comes from: a store or a snapshot of the old layout, told by its names from all else.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::endpoint::{Listing, PLAIN, Source};
use crate::model::path::{EntryPath, escape};
use crate::model::scope::Scope;
use crate::monitor::{Monitor, Problem, Severity};
use crate::ops::documents::{Documents, Kept, Live, Met, Taker};
use crate::ops::{Error, Result};
use crate::platform::kylin::kind::Kind;
use crate::platform::kylin::layout::{CORE_FOLDER, GLOBAL, Layout};
use crate::platform::kylin::migrate::{Dropped, Rule, rule_of};
use crate::repo::Repository;
use crate::repo::snapshot::Snapshot;
use crate::repo::tree::Tree;

/// Where a migration comes from.
pub enum Origin<'a> {
    /// A store.
    Store(&'a dyn Source),
    /// A snapshot.
    Snapshot(&'a Repository, &'a Snapshot),
}

/// Why there is nothing to migrate at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// It lies in the new layout.
    AlreadyNew,
    /// It has documents of both layouts.
    Mixed {
        /// One of the old layout.
        old: String,
        /// One of the new.
        new: String,
    },
    /// A folder in it is of the old layout.
    OldBelow {
        /// The folder.
        folder: String,
    },
    /// A folder in it is of the new layout.
    NewBelow {
        /// The folder.
        folder: String,
    },
    /// Nothing in it is of Kylin.
    Foreign,
    /// What should be the result of a migration is in the old layout.
    StillOld,
    /// What should be the result of a migration is nothing of Kylin.
    NotNew,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyNew => f.write_str("lies in the layout of 5.0.0 and later already"),
            Self::Mixed { old, new } => {
                write!(f, "holds documents of both layouts: {old} of the old, {new} of the new")
            }
            Self::OldBelow { folder } => {
                write!(f, "is not in the old layout itself, but holds a folder that is: {folder}")
            }
            Self::NewBelow { folder } => write!(f, "holds a folder that lies in the new layout already: {folder}"),
            Self::Foreign => f.write_str("holds no metadata of Kylin's old layout"),
            Self::StillOld => f.write_str("lies in the old layout, and is no result of a migration"),
            Self::NotNew => f.write_str("holds no metadata of Kylin's new layout"),
        }
    }
}

/// Says what a snapshot lacks.
fn missing(snapshot: &Snapshot) -> Vec<Problem> {
    let unread = snapshot.manifest.counts.unread;
    let what = format!("{unread} documents could not be read when the snapshot was taken");
    let path = format!("snapshot {}", snapshot.id.short());
    (unread > 0).then_some(Problem { severity: Severity::Unread, path, what }).into_iter().collect()
}

/// A source that was opened.
pub(super) struct Opened<'a> {
    pub location: String,
    /// The store that the documents are of, so that snapshots of later migrations are known to be of the same.
    pub store: String,
    layout: String,
    read: Read<'a>,
}

enum Read<'a> {
    Live(Box<dyn Listing>),
    Kept { repo: &'a Repository, tree: Tree, scope: Scope, missing: Vec<Problem> },
}

impl<'a> Origin<'a> {
    pub(super) fn open(&self, monitor: &dyn Monitor) -> Result<Opened<'a>> {
        Ok(match self {
            Self::Store(source) => Opened {
                location: source.location(),
                store: source.location(),
                layout: source.layout().to_owned(),
                read: Read::Live(source.scan(&Scope::System, monitor)?),
            },
            Self::Snapshot(repo, snapshot) => Opened {
                location: format!("snapshot {}", snapshot.id.short()),
                store: snapshot.manifest.store.clone(),
                layout: snapshot.manifest.layout.clone(),
                read: Read::Kept {
                    repo,
                    tree: repo.tree(&snapshot.manifest.tree)?,
                    scope: snapshot.manifest.scope.clone(),
                    missing: missing(snapshot),
                },
            },
        })
    }
}

impl Opened<'_> {
    /// Calls a function with the documents.
    pub(super) fn with<T>(&self, call: impl FnOnce(&dyn Documents) -> T) -> T {
        match &self.read {
            Read::Live(listing) => call(&Live::new(&**listing)),
            Read::Kept { repo, tree, scope, .. } => call(&Kept { repo, tree, scope }),
        }
    }

    /// Returns what a store could not list.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let problems = match &self.read {
            Read::Live(listing) => listing.problems(),
            Read::Kept { missing, .. } => missing,
        };
        problems.iter().filter(|problem| problem.severity != Severity::Remark).cloned().collect()
    }

    pub(super) fn layout(&self) -> Option<Layout> {
        self.layout.parse().ok()
    }

    /// Returns how Kylin calls the document at a path.
    pub(super) fn name_of(&self, path: &EntryPath) -> EntryPath {
        let name = self.layout().and_then(|layout| layout.name_of(path));
        name.unwrap_or_else(|| path.clone())
    }

    /// Checks by all names that this is the old layout.
    pub(super) fn require_old(&self) -> Result<()> {
        let unfit = match self.layout() {
            Some(Layout::New(_)) => Some(Unfit::AlreadyNew),
            _ => self.look()?.verdict(self.layout() == Some(Layout::Old)),
        };
        debug_assert!(self.layout().is_some() || self.layout == PLAIN, "snapshots of other layouts are refused before");
        match unfit {
            None => Ok(()),
            Some(unfit) => Err(Error::Unfit { of: self.location.clone(), unfit }),
        }
    }

    fn look(&self) -> Result<Look> {
        let all = Mutex::new(Look::default());
        let takers = || -> Box<dyn Taker + '_> { Box::new(Looking { opened: self, all: &all, look: Look::default() }) };
        self.with(|documents| documents.each(&|_| false, &takers, &|_, _| {}, &crate::monitor::Silent))?;
        Ok(all.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What the names of a source look like: of each sort the first name.
#[derive(Debug, Default)]
struct Look {
    old: Option<EntryPath>,
    new: Option<EntryPath>,
    /// In a folder.
    old_below: Option<EntryPath>,
    new_below: Option<EntryPath>,
}

/// Takes the smaller of two names.
fn first(one: &mut Option<EntryPath>, other: Option<EntryPath>) {
    let is_first = |other: &EntryPath| one.as_ref().is_none_or(|one| other < one);
    if let Some(other) = other.filter(is_first) {
        *one = Some(other);
    }
}

impl Look {
    fn add(&mut self, name: &EntryPath) {
        let parts: Vec<&[u8]> = name.parts().collect();
        let is_new = |parts: &[&[u8]]| match parts {
            [folder, file] => Kind::of_folder(folder).is_some() && file.ends_with(b".json"),
            [core, folder, _] => *core == CORE_FOLDER.as_bytes() && Kind::of_folder(folder).is_some(),
            _ => false,
        };
        let place = if is_new(&parts) {
            &mut self.new
        } else if is_old(name) {
            &mut self.old
        } else if is_new(&parts[1..]) {
            &mut self.new_below
        } else if is_old_below(&parts) {
            &mut self.old_below
        } else {
            return;
        };
        first(place, Some(name.clone()));
    }

    fn merge(&mut self, other: Self) {
        first(&mut self.old, other.old);
        first(&mut self.new, other.new);
        first(&mut self.old_below, other.old_below);
        first(&mut self.new_below, other.new_below);
    }

    fn verdict(self, is_known_old: bool) -> Option<Unfit> {
        let folder = |name: EntryPath| escape(name.parts().next().unwrap_or_default());
        match self {
            Self { old: Some(old), new: Some(new), .. } => {
                Some(Unfit::Mixed { old: old.to_string(), new: new.to_string() })
            }
            Self { old: Some(_), .. } => None,
            Self { new: Some(_), .. } => Some(Unfit::AlreadyNew),
            Self { old_below: Some(name), .. } => Some(Unfit::OldBelow { folder: folder(name) }),
            Self { new_below: Some(name), .. } => Some(Unfit::NewBelow { folder: folder(name) }),
            _ if is_known_old => None,
            _ => Some(Unfit::Foreign),
        }
    }
}

/// Tells whether a name is one of the old layout, be it of something that is dropped.
fn is_old(name: &EntryPath) -> bool {
    match rule_of(name) {
        Rule::Convert(_) => true,
        Rule::Drop(dropped) => !matches!(dropped, Dropped::Properties | Dropped::Leftover | Dropped::Image),
        Rule::Keep(_) => false,
    }
}

/// Tells whether a name is one of the old layout but for its first part.
fn is_old_below(parts: &[&[u8]]) -> bool {
    let below = EntryPath::new(parts[1..].join(&b'/')).ok();
    let is_sure =
        parts.get(1) == Some(&GLOBAL.as_bytes()) || parts.len() == 2 && parts[1] == b"UUID" || parts.len() > 3;
    is_sure && below.is_some_and(|below| is_old(&below))
}

struct Looking<'a> {
    opened: &'a Opened<'a>,
    all: &'a Mutex<Look>,
    look: Look,
}

impl Taker for Looking<'_> {
    fn take(&mut self, met: &Met<'_>, _: Option<&[u8]>) -> Result<()> {
        self.look.add(&self.opened.name_of(met.path));
        Ok(())
    }
}

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).merge(std::mem::take(&mut self.look));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(names: &str) -> Option<Unfit> {
        let mut look = Look::default();
        names.split_whitespace().for_each(|name| look.add(&EntryPath::new(name.as_bytes()).unwrap()));
        look.verdict(false)
    }

    #[test]
    fn layouts_and_levels_are_told_by_names() {
        let folder = "metadata".to_owned();
        for (names, expected) in [
            ("shop/table/DB.T.json UUID", None),
            ("_global/project/shop.json notes.txt", None),
            ("MODEL/model_desc/m.json", None),
            ("UUID", None),
            ("PROJECT/shop.json kylin.properties", Some(Unfit::AlreadyNew)),
            ("core_meta/PROJECT/shop.json job_info/p/x.json", Some(Unfit::AlreadyNew)),
            (
                "PROJECT/shop.json shop/table/DB.T.json",
                Some(Unfit::Mixed { old: "shop/table/DB.T.json".to_owned(), new: "PROJECT/shop.json".to_owned() }),
            ),
            ("metadata/PROJECT/shop.json", Some(Unfit::NewBelow { folder: folder.clone() })),
            ("metadata/UUID metadata/shop/table/DB.T.json", Some(Unfit::OldBelow { folder: folder.clone() })),
            ("metadata/shop/table/DB.T.json", Some(Unfit::OldBelow { folder: folder.clone() })),
            ("metadata/UUID", Some(Unfit::OldBelow { folder: folder.clone() })),
            ("metadata/_global/user_group", Some(Unfit::OldBelow { folder: folder.clone() })),
            ("metadata/_global/user/ADMIN", Some(Unfit::OldBelow { folder })),
            ("notes.txt a/b c/d/e", Some(Unfit::Foreign)),
            // With fewer parts than that anything may be called so.
            ("metadata/shop/project.json", Some(Unfit::Foreign)),
            ("core_meta/notes/x", Some(Unfit::Foreign)),
            ("kylin.properties", Some(Unfit::Foreign)),
        ] {
            assert_eq!(verdict(names), expected, "{names}");
        }
    }

    #[test]
    fn of_each_layout_the_first_name_is_told() {
        let mixed = Unfit::Mixed { old: "shop/table/A.json".to_owned(), new: "PROJECT/a.json".to_owned() };
        for names in [
            "shop/table/B.json shop/table/A.json shop/table/C.json PROJECT/b.json PROJECT/a.json",
            "PROJECT/a.json PROJECT/b.json shop/table/A.json shop/table/B.json",
        ] {
            assert_eq!(verdict(names), Some(mixed.clone()), "{names}");
        }
    }

    #[test]
    fn store_that_is_known_to_be_old_may_hold_nothing() {
        assert_eq!(Look::default().verdict(true), None);
        assert_eq!(Look::default().verdict(false), Some(Unfit::Foreign));
    }
}
