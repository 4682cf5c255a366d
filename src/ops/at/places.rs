//! Where documents are that a log names by their keys.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::replay::{After, State};
use crate::model::entry::Entry;
use crate::model::log::{LogChange, LogRecord};
use crate::model::path::EntryPath;
use crate::ops::Result;
use crate::ops::fetch::content_of;
use crate::platform::kylin::content::text_field;
use crate::platform::kylin::layout::{Layout, Place, is_project};
use crate::repo::Repository;
use crate::repo::tree::Tree;

/// The documents of a snapshot by their keys, and where they are after some changes.
pub(super) struct Places<'a> {
    repo: &'a Repository,
    tree: &'a Tree,
    layout: Layout,
    /// What the snapshot holds of what was asked for.
    entries: BTreeMap<Vec<u8>, Entry>,
}

/// Permissions go by the UUID of a project: whose they are. Nothing, if several projects have it.
pub(super) type Owners = HashMap<Vec<u8>, Option<Vec<u8>>>;

impl<'a> Places<'a> {
    /// Looks for the documents that records speak of.
    pub(super) fn find(repo: &'a Repository, tree: &'a Tree, layout: Layout, records: &[LogRecord]) -> Result<Self> {
        let mut places = Self { repo, tree, layout, entries: BTreeMap::new() };
        let mut named: BTreeMap<&[u8], (BTreeSet<&str>, bool)> = BTreeMap::new();
        for record in records {
            let is_first = matches!(record.change, LogChange::Content(_)) && record.version == Some(0);
            let (projects, _) = named.entry(&record.key).or_insert_with(|| (BTreeSet::new(), is_first));
            projects.extend(record.project.as_deref());
        }
        let mut wanted: BTreeMap<EntryPath, Vec<u8>> = BTreeMap::new();
        for (key, (projects, _)) in &named {
            let Some(name) = layout.name_of_key(key) else { continue };
            let projects = projects.iter().map(|project| Some(project.as_bytes()));
            let paths = projects.chain([None]).map(|project| layout.path_in(&name, project));
            wanted.extend(paths.map(|path| (path, key.to_vec())));
        }
        places.look(wanted)?;
        // What was not made by these records, and is not where they say, may be in any project.
        let mut wanted: BTreeMap<EntryPath, Vec<u8>> = BTreeMap::new();
        for (key, (_, is_new)) in named {
            let Some(name) = layout.name_of_key(key) else { continue };
            if places.entries.contains_key(key) || is_new || matches!(layout.place(&name), Place::At(_)) {
                continue;
            }
            let paths = tree.projects.keys().map(|project| layout.path_in(&name, Some(project)));
            wanted.extend(paths.map(|path| (path, key.to_vec())));
        }
        places.look(wanted)?;
        Ok(places)
    }

    fn look(&mut self, wanted: BTreeMap<EntryPath, Vec<u8>>) -> Result<()> {
        let (paths, keys): (Vec<EntryPath>, Vec<Vec<u8>>) = wanted.into_iter().unzip();
        let found = self.repo.entries_at(self.tree, &paths)?;
        self.entries.extend(keys.into_iter().zip(found).filter_map(|(key, entry)| Some((key, entry?))));
        Ok(())
    }

    /// Returns what the snapshot holds under a key.
    pub(super) fn entry(&self, key: &[u8]) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// Returns where the document of a key is that has this content, and of which records name this project; nothing for a key
    /// that is none of the layout's.
    pub(super) fn path(&self, key: &[u8], named: Option<&str>, content: &[u8], owners: &Owners) -> Option<EntryPath> {
        let name = self.layout.name_of_key(key)?;
        if let Place::OfProject(uuid) = self.layout.place(&name) {
            return Some(self.layout.path_in(&name, owners.get(&*uuid).cloned().flatten().as_deref()));
        }
        let field = self.layout.project_field(&name);
        let told = field.and_then(|field| text_field(content, field).ok().map(Cow::into_owned));
        let project = told.or_else(|| named.map(str::to_owned));
        let path = self.layout.path_in(&name, project.as_deref().map(str::as_bytes));
        Some(match self.entry(key) {
            Some(entry) if project.is_none() => entry.path.clone(),
            _ => path,
        })
    }

    /// Returns which project has which UUID after some changes; nothing if none of them is about that.
    pub(super) fn owners(&self, states: &BTreeMap<Vec<u8>, After>) -> Result<Option<Owners>> {
        let name_of = |key: &Vec<u8>| self.layout.name_of_key(key);
        let is_about = |name: EntryPath| {
            self.layout.is_project_document(&name) || matches!(self.layout.place(&name), Place::OfProject(_))
        };
        if !states.keys().filter_map(name_of).any(is_about) {
            return Ok(None);
        }
        let of_tree = self.tree.projects.keys().filter(|project| is_project(project));
        let mut keys: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
        let mut wanted: BTreeMap<EntryPath, Vec<u8>> = BTreeMap::new();
        for project in of_tree {
            let key = self.layout.key_of_project(project);
            let name = self.layout.name_of_key(&key);
            wanted.extend(name.map(|name| (self.layout.path_in(&name, None), key)));
        }
        let (paths, of_paths): (Vec<EntryPath>, Vec<Vec<u8>>) = wanted.into_iter().unzip();
        for (key, entry) in of_paths.into_iter().zip(self.repo.entries_at(self.tree, &paths)?) {
            if let Some(document) = entry.as_ref().and_then(Entry::document) {
                keys.insert(key, Some(content_of(self.repo, document)?));
            }
        }
        for (key, after) in states {
            let Some(name) = name_of(key).filter(|name| self.layout.is_project_document(name)) else { continue };
            debug_assert!(matches!(self.layout.place(&name), Place::At(_)), "the key of a project tells its path");
            match &after.state {
                State::Present { content, .. } => drop(keys.insert(key.clone(), Some(content.clone()))),
                State::Removed => drop(keys.insert(key.clone(), None)),
                State::Unknown { .. } => {}
            }
        }
        let mut owners = Owners::new();
        for (key, content) in keys {
            let project = name_of(&key).and_then(|name| match self.layout.place(&name) {
                Place::At(path) => path.project().map(<[u8]>::to_vec),
                _ => None,
            });
            let uuid = content.as_deref().and_then(|content| text_field(content, "uuid").ok());
            if let (Some(project), Some(uuid)) = (project, uuid) {
                let owner = owners.entry(uuid.as_bytes().to_vec());
                owner.and_modify(|owner| *owner = None).or_insert(Some(project));
            }
        }
        Ok(Some(owners))
    }

    /// Returns the permissions in the snapshot that belong elsewhere, by who has which UUID, and where.
    pub(super) fn misplaced_permissions(&self, owners: &Owners) -> Result<Vec<(Entry, EntryPath)>> {
        let projects = self.tree.projects.keys().filter(|project| is_project(project)).map(|project| Some(&**project));
        let mut misplaced = Vec::new();
        for project in projects.chain([None]) {
            for entry in self.repo.entries_within(self.tree, &self.layout.permissions_within(project)) {
                let entry = entry?;
                let Some(name) = self.layout.name_of(&entry.path) else { continue };
                let Place::OfProject(uuid) = self.layout.place(&name) else { continue };
                let path = self.layout.path_in(&name, owners.get(&*uuid).cloned().flatten().as_deref());
                if path != entry.path {
                    misplaced.push((entry, path));
                }
            }
        }
        Ok(misplaced)
    }
}
