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

use std::fmt;
use std::str::FromStr;

use super::doctor::Generation;
use super::kind::{Home, Kind};
use crate::model::path::{EntryPath, PATH_BYTES_MAX};

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

/// Splits the name of a new document into its kind, the folder's spelling of that, and the key.
fn split_document(name: &[u8], layout: Layout) -> Option<(Kind, &[u8], &[u8])> {
    let name = match layout {
        Layout::New(Level::Core) => name,
        Layout::New(Level::Folder) => strip_folder(name, CORE_FOLDER)?,
        Layout::Old => return None,
    };
    let mut parts = name.split(|byte| *byte == b'/');
    let (folder, file) = (parts.next()?, parts.next()?);
    let key = file.strip_suffix(SUFFIX).filter(|key| !key.is_empty() && *key != b"." && *key != b"..")?;
    if parts.next().is_some() {
        return None;
    }
    Some((Kind::of_folder(folder)?, folder, key))
}

fn place_in_core(name: &[u8]) -> Place {
    let Some((kind, folder, key)) = split_document(name, Layout::New(Level::Core)) else {
        return Place::At(EntryPath::joined(&[FILES.as_bytes(), name]));
    };
    match kind.facts().home {
        Home::Global => Place::At(EntryPath::joined(&[GLOBAL.as_bytes(), folder, key])),
        Home::Key => {
            Place::At(EntryPath::joined(&[if is_project(key) { key } else { UNPLACED.as_bytes() }, folder, key]))
        }
        Home::ProjectUuid => Place::OfProject(key.into()),
        Home::Field(_) => Place::InContent,
    }
}

fn place_beside(name: &EntryPath) -> EntryPath {
    let parts: Vec<&[u8]> = name.parts().collect();
    if let [folder, project, file] = parts[..]
        && SIDE_FOLDERS.map(str::as_bytes).contains(&folder)
        && is_project(project)
        && let Some(key) = file.strip_suffix(SUFFIX)
        && EntryPath::new(key).is_ok()
    {
        return EntryPath::joined(&[project, folder, key]);
    }
    EntryPath::joined(&[BESIDE.as_bytes(), name.as_bytes()])
}

fn name_of_new(path: &EntryPath, level: Level) -> Option<EntryPath> {
    let in_core = |name: &[u8]| match level {
        Level::Core => EntryPath::joined(&[name]),
        Level::Folder => EntryPath::joined(&[CORE_FOLDER.as_bytes(), name]),
    };
    if let Some(name) = strip_folder(path.as_bytes(), FILES) {
        return Some(in_core(name));
    }
    if let Some(name) = strip_folder(path.as_bytes(), BESIDE) {
        return (level == Level::Folder).then(|| EntryPath::joined(&[name]));
    }
    let parts: Vec<&[u8]> = path.parts().collect();
    let [project, kind, key] = parts[..] else { return None };
    let file = [key, SUFFIX].concat();
    if SIDE_FOLDERS.map(str::as_bytes).contains(&kind) {
        return (level == Level::Folder).then(|| EntryPath::joined(&[kind, project, &file]));
    }
    Kind::of_folder(kind).map(|_| in_core(&[kind, &b"/"[..], &file].concat()))
}

/// Returns the project whose document an old name is that of.
fn is_old_project_document(name: &EntryPath) -> Option<&[u8]> {
    let file = strip_folder(name.as_bytes(), GLOBAL).and_then(|name| strip_folder(name, "project"))?;
    file.strip_suffix(SUFFIX).filter(|project| is_project(project))
}

/// Tells whether an old name, taken as a path, would be taken for something else.
fn is_ambiguous_old(name: &EntryPath) -> bool {
    let mut parts = name.parts();
    let (first, second, third) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    if [FILES, UNPLACED, BESIDE].map(str::as_bytes).contains(&first) {
        return true;
    }
    let is_own_document = || third.and_then(|file| file.strip_suffix(SUFFIX)) == Some(first);
    match second {
        Some(b"project") => is_project(first) && is_own_document() && parts.next().is_none(),
        Some(kind) => is_project(first) && kind == OLD_PERMISSIONS.as_bytes(),
        None => false,
    }
}

fn place_old(name: &EntryPath) -> Place {
    if let Some(project) = is_old_project_document(name) {
        return Place::At(EntryPath::joined(&[project, b"project", name.name()]));
    }
    if let Some(uuid) = strip_folder(name.as_bytes(), GLOBAL).and_then(|name| strip_folder(name, "acl"))
        && !uuid.contains(&b'/')
    {
        return Place::OfProject(uuid.into());
    }
    Place::At(if is_ambiguous_old(name) {
        EntryPath::joined(&[FILES.as_bytes(), name.as_bytes()])
    } else {
        name.clone()
    })
}

fn name_of_old(path: &EntryPath) -> Option<EntryPath> {
    if let Some(name) = strip_folder(path.as_bytes(), FILES) {
        return Some(EntryPath::joined(&[name]));
    }
    if !is_ambiguous_old(path) {
        return Some(path.clone());
    }
    match path.kind()? {
        b"project" => Some(EntryPath::joined(&[GLOBAL.as_bytes(), b"project", path.name()])),
        kind if kind == OLD_PERMISSIONS.as_bytes() => {
            Some(EntryPath::joined(&[GLOBAL.as_bytes(), b"acl", path.name()]))
        }
        _ => None,
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CORE: Layout = Layout::New(Level::Core);
    const FOLDER: Layout = Layout::New(Level::Folder);

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn keys_of_audit_logs_have_names_and_back() {
        let cases = [
            (CORE, "MODEL/m", "MODEL/m.json", "p/MODEL/m"),
            (FOLDER, "MODEL/m.json", "core_meta/MODEL/m.json.json", "p/MODEL/m.json"),
            (CORE, "SYSTEM/UUID", "SYSTEM/UUID.json", "_global/SYSTEM/UUID"),
            (CORE, "PROJECT/p", "PROJECT/p.json", "p/PROJECT/p"),
            (Layout::Old, "/p/model_desc/m.json", "p/model_desc/m.json", "p/model_desc/m.json"),
            (Layout::Old, "/_global/project/p.json", "_global/project/p.json", "p/project/p.json"),
            (Layout::Old, "/_global/acl/u", "_global/acl/u", "p/object_acl/u"),
        ];
        for (layout, key, name, at) in cases {
            assert_eq!(layout.name_of_key(key.as_bytes()), Some(path(name)), "{key}");
            assert_eq!(layout.path_in(&path(name), Some(b"p")), path(at), "{key}");
            assert_eq!(layout.key_of(&path(at)).as_deref(), Some(key.as_bytes()), "{at}");
        }
        for (layout, bad) in
            [(CORE, "MODEL"), (CORE, "THING/x"), (CORE, "MODEL/a/b"), (CORE, "/p/x"), (Layout::Old, "p/x")]
        {
            assert_eq!(layout.name_of_key(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(CORE.key_of(&path("_files/x")), None);
        assert_eq!(CORE.key_of_project(b"p"), b"PROJECT/p");
        assert_eq!(Layout::Old.key_of_project(b"p"), b"/_global/project/p.json");
        assert_eq!(CORE.permissions_within(None), path("_global/OBJECT_ACL"));
        assert_eq!(Layout::Old.permissions_within(Some(b"p")), path("p/object_acl"));
    }

    #[test]
    fn names_have_paths_and_back() {
        let cases = [
            (CORE, "MODEL/m.json", "p/MODEL/m"),
            (CORE, "PROJECT/p.json", "p/PROJECT/p"),
            (CORE, "PROJECT/_files.json", "_unplaced/PROJECT/_files"),
            (CORE, "OBJECT_ACL/u.json", "p/OBJECT_ACL/u"),
            (CORE, "USER_INFO/ADMIN.json", "_global/USER_INFO/ADMIN"),
            (CORE, "SYSTEM/_image.json", "_global/SYSTEM/_image"),
            (CORE, "TABLE_INFO/p.DB.T.json", "p/TABLE_INFO/p.DB.T"),
            (CORE, "_REC/p.m.json", "p/_REC/p.m"),
            (CORE, "MODEL/m.txt", "_files/MODEL/m.txt"),
            (CORE, "MODEL/.json", "_files/MODEL/.json"),
            (CORE, "MODEL/...json", "_files/MODEL/...json"),
            (CORE, "MODEL/a/m.json", "_files/MODEL/a/m.json"),
            (CORE, "NEW_TYPE/m.json", "_files/NEW_TYPE/m.json"),
            (CORE, "kylin.properties", "_files/kylin.properties"),
            (FOLDER, "core_meta/MODEL/m.json", "p/MODEL/m"),
            (FOLDER, "core_meta/kylin.properties", "_files/kylin.properties"),
            (FOLDER, "MODEL/m.json", "_beside/MODEL/m.json"),
            (FOLDER, "job_info/p/j.json", "p/job_info/j"),
            (FOLDER, "job_info/_files/j.json", "_beside/job_info/_files/j.json"),
            (FOLDER, "job_info/p.zip", "_beside/job_info/p.zip"),
            (Layout::Old, "UUID", "UUID"),
            (Layout::Old, "p/model_desc/m.json", "p/model_desc/m.json"),
            (Layout::Old, "_global/project/p.json", "p/project/p.json"),
            (Layout::Old, "p/project/p.json", "_files/p/project/p.json"),
            (Layout::Old, "p/project.json", "p/project.json"),
            (Layout::Old, "_global/acl/u", "p/object_acl/u"),
            (Layout::Old, "p/object_acl/u", "_files/p/object_acl/u"),
            (Layout::Old, "_files/x", "_files/_files/x"),
            (Layout::Old, "_global/user/ADMIN", "_global/user/ADMIN"),
        ];
        for (layout, name, expected) in cases {
            let found = layout.path_in(&path(name), Some(b"p"));
            assert_eq!(found, path(expected), "{layout} {name}");
            assert_eq!(layout.name_of(&found), Some(path(name)), "{layout} {expected}");
        }
    }

    #[test]
    fn what_is_not_told_is_not_guessed() {
        for project in [None, Some(&b"_files"[..]), Some(b""), Some(b".."), Some(b"a/b"), Some(b"\xff")] {
            assert_eq!(CORE.path_in(&path("MODEL/m.json"), project), path("_unplaced/MODEL/m"));
            assert_eq!(CORE.path_in(&path("OBJECT_ACL/u.json"), project), path("_global/OBJECT_ACL/u"));
            assert_eq!(Layout::Old.path_in(&path("_global/acl/u"), project), path("_global/acl/u"));
        }
    }

    #[test]
    fn paths_without_a_place_have_no_name() {
        for (layout, without) in [
            (CORE, "p/job_info/j"),
            (CORE, "_beside/x"),
            (CORE, "p/x"),
            (FOLDER, "p/NEW_TYPE/k"),
            (Layout::Old, "_beside/x"),
        ] {
            assert_eq!(layout.name_of(&path(without)), None, "{layout} {without}");
        }
    }

    proptest! {
        #[test]
        fn every_name_has_one_path_that_tells_it(
            parts in prop::collection::vec("(p|_global|_files|_unplaced|_beside|MODEL|PROJECT|OBJECT_ACL|core_meta|job_info|project|acl|object_acl|p\\.json|\\.json|[a-z.]{1,3})", 1..5),
            project in prop::option::of("(p|_global|_files|x/y)"),
        ) {
            if let Ok(name) = EntryPath::new(parts.join("/").into_bytes()) {
                for layout in [CORE, FOLDER, Layout::Old] {
                    let path = layout.path_in(&name, project.as_deref().map(str::as_bytes));
                    prop_assert_eq!(layout.name_of(&path), Some(name.clone()), "{} {}", layout, path);
                }
            }
        }
    }
}
