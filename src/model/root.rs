//! The content root: one hash that stands for a set of documents.
//!
//! For each project, the documents are listed in path order, each as `path length (u32, little endian) · path · BLAKE3
//! of the content`; the project's root is the BLAKE3 hash of that list, keyed to its purpose (`derive_key`). The root
//! of a set is the keyed hash of its projects, each as `name length (u32) · name · project root`, sorted by name;
//! documents at the top level, which belong to no project, are listed under the empty name. Directories, stamps and
//! modes do not count: the same documents have the same root on any machine, whatever order they were read in.

use std::collections::BTreeMap;

use crate::model::entry::{Document, Entry};
use crate::model::hash::Root;

const PROJECT_CONTEXT: &str = "metastash v1 project content root";
const SYSTEM_CONTEXT: &str = "metastash v1 content root";

/// What is known of one project of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProjectSummary {
    /// The content root of its documents.
    pub root: Root,
    /// How many documents it has.
    pub documents: u64,
    /// The sum of their sizes.
    pub bytes: u64,
}

/// The projects of a tree by name; the empty name stands for documents at the top level.
pub type Projects = BTreeMap<Box<[u8]>, ProjectSummary>;

/// Computes the summaries of projects from entries in path order.
#[derive(Default)]
pub struct Roots {
    done: Projects,
    current: Option<(Box<[u8]>, Running)>,
    top_level: Option<Running>,
}

struct Running {
    hasher: blake3::Hasher,
    documents: u64,
    bytes: u64,
}

impl Roots {
    /// Takes the next entry in path order.
    pub fn push(&mut self, entry: &Entry) {
        let Some(document) = entry.document() else { return };
        let running = match entry.path.project() {
            None => self.top_level.get_or_insert_with(Running::new),
            Some(project) => {
                if self.current.as_ref().is_none_or(|(name, _)| **name != *project) {
                    self.close_current();
                    self.current = Some((project.into(), Running::new()));
                }
                &mut self.current.as_mut().expect("it was just set").1
            }
        };
        running.push(entry.path.as_bytes(), document);
    }

    /// Returns the summaries of all projects that had a document.
    pub fn finish(mut self) -> Projects {
        self.close_current();
        if let Some(running) = self.top_level.take() {
            self.done.insert(Box::default(), running.finish());
        }
        self.done
    }

    fn close_current(&mut self) {
        if let Some((name, running)) = self.current.take() {
            self.done.insert(name, running.finish());
        }
    }
}

impl Running {
    fn new() -> Self {
        Self { hasher: blake3::Hasher::new_derive_key(PROJECT_CONTEXT), documents: 0, bytes: 0 }
    }

    fn push(&mut self, path: &[u8], document: &Document) {
        update_with_length(&mut self.hasher, path);
        self.hasher.update(document.content.as_bytes());
        self.documents += 1;
        self.bytes += document.size;
    }

    fn finish(self) -> ProjectSummary {
        ProjectSummary { root: root_of(&self.hasher), documents: self.documents, bytes: self.bytes }
    }
}

/// Returns the root of all the documents of some projects.
pub fn system_root(projects: &Projects) -> Root {
    let mut hasher = blake3::Hasher::new_derive_key(SYSTEM_CONTEXT);
    for (name, project) in projects {
        update_with_length(&mut hasher, name);
        hasher.update(project.root.as_bytes());
    }
    root_of(&hasher)
}

fn update_with_length(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("a path is shorter than 64 KiB");
    hasher.update(&length.to_le_bytes()).update(bytes);
}

fn root_of(hasher: &blake3::Hasher) -> Root {
    Root::from_bytes(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::entry::{Body, Encoding, Stamp};
    use crate::model::hash::ContentId;
    use crate::model::path::EntryPath;

    fn document(path: &str, content: &str, mode: u16) -> Entry {
        let document =
            Document { content: ContentId::of(content.as_bytes()), size: content.len() as u64, pieces: Box::default() };
        let path = EntryPath::new(path.as_bytes()).unwrap();
        Entry {
            path,
            body: Body::Document(document),
            mode: Some(mode),
            encoding: Encoding::Plain,
            stamp: Stamp::default(),
        }
    }

    fn projects(entries: &[Entry]) -> Projects {
        let mut roots = Roots::default();
        entries.iter().for_each(|entry| roots.push(entry));
        roots.finish()
    }

    #[test]
    fn root_depends_on_paths_and_contents_only() {
        let one = projects(&[document("p/a", "1", 0o644)]);
        let same = projects(&[document("p/a", "1", 0o600)]);
        let other = projects(&[document("p/a", "2", 0o644)]);
        let moved = projects(&[document("p/b", "1", 0o644)]);
        assert_eq!(system_root(&one), system_root(&same));
        assert_ne!(system_root(&one), system_root(&other));
        assert_ne!(system_root(&one), system_root(&moved));
    }

    #[test]
    fn each_project_has_its_own_root() {
        let entries = [document("p/a", "1", 0), document("q/a", "1", 0), document("top", "1", 0)];
        let all = projects(&entries);
        assert_eq!(all.len(), 3);
        assert_eq!(all[&b"p"[..]], projects(&entries[..1])[&b"p"[..]]);
        assert_eq!(all[&b""[..]].documents, 1);
    }

    #[test]
    fn project_knows_how_many_bytes_its_documents_have() {
        let all = projects(&[document("p/a", "123", 0), document("p/b", "4567", 0), document("q/a", "", 0)]);
        assert_eq!((all[&b"p"[..]].documents, all[&b"p"[..]].bytes), (2, 7));
        assert_eq!((all[&b"q"[..]].documents, all[&b"q"[..]].bytes), (1, 0));
    }
}
