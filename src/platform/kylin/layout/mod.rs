//! How documents of Kylin are named in files, and where they are kept: names to paths and back.
//!
//! A *name* is the path of a file below the folder (or in the zip) that the user points at. A *path* is what snapshots
//! keep: `<project>/<kind>/<key>`, or `_global/<kind>/<key>` for what belongs to no project, whichever way the files
//! lie. So a project is one range of paths. Every name has one path and the path tells the name:
//!
//! | new layout | path |
//! |---|---|
//! | `MODEL/<key>.json` and most others | `<project>/MODEL/<key>`, the project as its JSON says |
//! | `PROJECT/<project>.json` | `<project>/PROJECT/<project>` |
//! | `OBJECT_ACL/<uuid of a project>.json` | `<project>/OBJECT_ACL/<uuid>`; `_global/OBJECT_ACL/<uuid>` without one |
//! | `USER_INFO/<user>.json` and other global ones | `_global/USER_INFO/<user>` |
//! | of a project that its JSON does not tell | `_unplaced/<KIND>/<key>` |
//! | `job_info/<project>/<id>.json` beside `core_meta` | `<project>/job_info/<id>` |
//! | any other file | `_files/<name>`; beside `core_meta`: `_beside/<name>` |
//!
//! In the old layout names begin with the project already, and path and name are the same, but for the document of the
//! project itself (`_global/project/P.json` has the path `P/project/P.json`) and its permissions (`_global/acl/<uuid>`:
//! `P/object_acl/<uuid>`).

mod new;
mod old;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use super::doctor::Generation;
use super::kind::{Home, Kind};
use crate::model::path::{EntryPath, PATH_BYTES_MAX};
use new::{name_of_new, place_beside, place_in_core, split_document};
use old::{is_old_project_document, name_of_old, place_old};

/// First part of the paths of what belongs to no project.
pub const GLOBAL: &str = "_global";
/// First part of the paths of documents whose project can't be told.
pub const UNPLACED: &str = "_unplaced";
/// First part of the paths of files that are no documents of Kylin.
pub const FILES: &str = "_files";
/// First part of the paths of files beside `core_meta` that are no documents of Kylin.
pub const BESIDE: &str = "_beside";
/// The folder of a new backup that holds the documents.
pub const CORE_FOLDER: &str = "core_meta";
/// The folders beside it, with a folder for each project.
pub const SIDE_FOLDERS: [&str; 3] = ["favorite_rule", "job_info", "query_history_id_offset"];

/// Longest name of a project, in bytes. Kylin's columns have 255 characters.
const PROJECT_BYTES_MAX: usize = 1024;
/// Longest name that has a path: the longest path, less what a path may have more.
pub const NAME_BYTES_MAX: usize = PATH_BYTES_MAX - 2 * PROJECT_BYTES_MAX;

const SUFFIX: &[u8] = b".json";
const OLD_PERMISSIONS: &str = "object_acl";

/// Which folder of a new layout the user pointed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    /// The one with the folders of the types, or a zip of it.
    Core,
    /// The folder of a backup, with `core_meta` in it and job, rule and offset folders beside that.
    Folder,
}

/// How documents lie in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Kylin 5.0.0 and later.
    New(Level),
    /// Kylin 5.0-alpha and 5.0-beta.
    Old,
}

/// What a name tells of the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// All.
    At(EntryPath),
    /// All but the project, which the document's JSON tells.
    InContent,
    /// It holds the permissions of the project with this UUID.
    OfProject(Box<[u8]>),
}

impl Layout {
    /// Returns the name of the layout, as snapshots keep it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::New(Level::Core) => "kylin-new",
            Self::New(Level::Folder) => "kylin-new-backup",
            Self::Old => "kylin-old",
        }
    }

    /// Returns the generation of Kylin that has this layout.
    pub const fn generation(self) -> Generation {
        match self {
            Self::New(_) => Generation::New,
            Self::Old => Generation::Old,
        }
    }

    /// Tells whether documents of one layout have the same paths in the other.
    pub fn has_same_paths(self, other: Self) -> bool {
        matches!((self, other), (Self::New(_), Self::New(_)) | (Self::Old, Self::Old))
    }

    /// Returns what the name of a file tells of its path.
    pub fn place(self, name: &EntryPath) -> Place {
        match self {
            Self::New(Level::Core) => place_in_core(name.as_bytes()),
            Self::New(Level::Folder) => match strip_folder(name.as_bytes(), CORE_FOLDER) {
                Some(name) => place_in_core(name),
                None => Place::At(place_beside(name)),
            },
            Self::Old => place_old(name),
        }
    }

    /// Returns the field of a document's JSON that tells its project; nothing for a file whose project is told otherwise.
    pub fn project_field(self, name: &EntryPath) -> Option<&'static str> {
        match (self, split_document(name.as_bytes(), self)?.0.facts().home) {
            (Self::New(_), Home::Field(field)) => Some(field),
            _ => None,
        }
    }

    /// Returns the path of a document whose project had to be found out; without one, the path that says so.
    pub fn path_in(self, name: &EntryPath, project: Option<&[u8]>) -> EntryPath {
        let project = project.filter(|project| is_project(project) || *project == GLOBAL.as_bytes());
        match (self.place(name), project) {
            (Place::At(path), _) => path,
            (_, Some(project)) => self.path_below(name, project),
            (_, None) if self == Self::Old => name.clone(),
            (Place::InContent, None) => self.path_below(name, UNPLACED.as_bytes()),
            (Place::OfProject(_), None) => self.path_below(name, GLOBAL.as_bytes()),
        }
    }

    /// Returns the path of a document that is of this project, whether it says so or its key does. There may be millions:
    /// what is known of the name is not found out again.
    pub(crate) fn path_below(self, name: &EntryPath, project: &[u8]) -> EntryPath {
        let name = name.as_bytes();
        let in_core = |name: &[u8]| EntryPath::joined(&[project, name.strip_suffix(SUFFIX).unwrap_or(name)]);
        match self {
            Self::New(Level::Core) => in_core(name),
            Self::New(Level::Folder) => in_core(strip_folder(name, CORE_FOLDER).unwrap_or(name)),
            Self::Old => {
                let key = name.rsplit(|byte| *byte == b'/').next().unwrap_or(name);
                EntryPath::joined(&[project, OLD_PERMISSIONS.as_bytes(), key])
            }
        }
    }

    /// Returns the name of the file that has a path; nothing for a path that has no place in this layout.
    pub fn name_of(self, path: &EntryPath) -> Option<EntryPath> {
        match self {
            Self::New(level) => name_of_new(path, level),
            Self::Old => name_of_old(path),
        }
    }

    /// Returns the name of the file of what an audit log calls by this key: `<TYPE>/<key>`, in the old generation `/` and the
    /// name. Nothing for a key that is none of these.
    pub fn name_of_key(self, key: &[u8]) -> Option<EntryPath> {
        let folder: &[u8] = match self {
            Self::Old => return EntryPath::new(key.strip_prefix(b"/")?).ok(),
            Self::New(Level::Core) => b"",
            Self::New(Level::Folder) => b"core_meta/",
        };
        let name = EntryPath::new([folder, key, SUFFIX].concat()).ok()?;
        split_document(name.as_bytes(), self).is_some().then_some(name)
    }

    /// Returns what an audit log calls what is kept at a path; nothing for what none speaks of.
    pub fn key_of(self, path: &EntryPath) -> Option<Vec<u8>> {
        let name = self.name_of(path)?;
        match self {
            Self::Old => Some([b"/", name.as_bytes()].concat()),
            Self::New(_) => {
                let (_, folder, key) = split_document(name.as_bytes(), self)?;
                Some([folder, key].join(&b'/'))
            }
        }
    }

    /// Returns what an audit log calls the document of a project.
    pub fn key_of_project(self, project: &[u8]) -> Vec<u8> {
        match self {
            Self::Old => [b"/_global/project/", project, SUFFIX].concat(),
            Self::New(_) => [Kind::Project.name().as_bytes(), project].join(&b'/'),
        }
    }

    /// Returns the directory in which permissions on a project are, or those whose project is not there.
    pub fn permissions_within(self, project: Option<&[u8]>) -> EntryPath {
        match (self, project) {
            (Self::New(_), project) => {
                EntryPath::joined(&[project.unwrap_or(GLOBAL.as_bytes()), Kind::ObjectAcl.name().as_bytes()])
            }
            (Self::Old, Some(project)) => EntryPath::joined(&[project, OLD_PERMISSIONS.as_bytes()]),
            (Self::Old, None) => EntryPath::joined(&[GLOBAL.as_bytes(), b"acl"]),
        }
    }

    /// Tells whether a file is the document of a project, whose `uuid` other documents go by.
    pub fn is_project_document(self, name: &EntryPath) -> bool {
        match self {
            Self::New(_) => split_document(name.as_bytes(), self).is_some_and(|(kind, ..)| kind == Kind::Project),
            Self::Old => is_old_project_document(name).is_some(),
        }
    }

    /// Tells whether a file must hold JSON.
    pub fn is_json(self, name: &EntryPath) -> bool {
        match self {
            Self::New(_) => split_document(name.as_bytes(), self).is_some(),
            Self::Old => name.name().ends_with(SUFFIX),
        }
    }

    /// Tells whether a path is that of permissions on a project.
    pub fn is_permissions(self, path: &EntryPath) -> bool {
        let name = match self {
            Self::New(_) => Kind::ObjectAcl.name(),
            Self::Old => OLD_PERMISSIONS,
        };
        path.kind() == Some(name.as_bytes())
    }

    /// Tells whether a path is of something that Kylin's tool puts into backups and that no live store has.
    pub fn is_of_backup(self, path: &EntryPath) -> bool {
        match self {
            Self::New(_) => matches!(path.as_bytes(), b"_global/SYSTEM/_image" | b"_files/kylin.properties"),
            Self::Old => path.as_bytes() == b"_image",
        }
    }

    /// Tells whether a path is that of a model.
    pub fn is_model(self, path: &EntryPath) -> bool {
        let name = match self {
            Self::New(_) => Kind::Model.name(),
            Self::Old => "model_desc",
        };
        path.kind() == Some(name.as_bytes())
    }

    /// Returns the path of the document that tells one system from another.
    pub fn identity_path(self) -> EntryPath {
        match self {
            Self::New(_) => EntryPath::joined(&[GLOBAL.as_bytes(), Kind::System.name().as_bytes(), b"UUID"]),
            Self::Old => EntryPath::joined(&[b"UUID"]),
        }
    }
}

/// Tells whether a project may have this name: what else paths can begin with is taken.
pub fn is_project(name: &[u8]) -> bool {
    let is_one_part = !matches!(name, b"" | b"." | b"..") && !name.iter().any(|byte| matches!(byte, b'/' | 0));
    is_one_part
        && name.len() <= PROJECT_BYTES_MAX
        && std::str::from_utf8(name).is_ok()
        && ![GLOBAL, UNPLACED, FILES, BESIDE].map(str::as_bytes).contains(&name)
}

fn strip_folder<'a>(name: &'a [u8], folder: &str) -> Option<&'a [u8]> {
    name.strip_prefix(folder.as_bytes())?.strip_prefix(b"/")
}

/// The name is none of a layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no layout of Kylin's metadata")]
pub struct UnknownLayout(String);

impl FromStr for Layout {
    type Err = UnknownLayout;

    fn from_str(name: &str) -> Result<Self, UnknownLayout> {
        let all = [Self::New(Level::Core), Self::New(Level::Folder), Self::Old];
        all.into_iter().find(|layout| layout.name() == name).ok_or_else(|| UnknownLayout(name.to_owned()))
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
