//! Telling what is at a place from the names in its top folder.

use super::kind::Kind;
use super::layout::{CORE_FOLDER, GLOBAL, Layout, Level, is_project};
use crate::model::path::EntryPath;

/// The file that, where it is, holds the whole store: Kylin then reads nothing else.
pub const ZIP_NAME: &str = "metadata.zip";

/// What a folder (or the root of a zip) holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detected {
    /// Documents of Kylin in this layout.
    Documents(Layout),
    /// A `metadata.zip`, which holds them.
    Zip,
    /// Folders of backups, each with documents; their names, sorted.
    Backups(Vec<String>),
    /// Documents of both layouts at once: Kylin can read neither.
    Mixed,
    /// Nothing of Kylin.
    Nothing,
}

/// Tells what a folder with these names holds; each name comes with whether it is a folder itself.
pub fn detect<'a>(names: impl IntoIterator<Item = (&'a [u8], bool)>) -> Detected {
    let mut backups = Vec::new();
    let (mut new, mut old, mut core, mut zip) = (false, false, false, false);
    for (name, is_folder) in names {
        match name {
            b"_global" if is_folder => old = true,
            b"UUID" if !is_folder => old = true,
            _ if is_folder && name == CORE_FOLDER.as_bytes() => core = true,
            _ if is_folder && Kind::of_folder(name).is_some() => new = true,
            _ if is_folder && backup_time(name).is_some() => backups.push(String::from_utf8_lossy(name).into_owned()),
            _ if !is_folder && name == ZIP_NAME.as_bytes() => zip = true,
            _ => {}
        }
    }
    backups.sort_unstable();
    match (core, zip, new, old) {
        (true, ..) => Detected::Documents(Layout::New(Level::Folder)),
        (_, true, ..) => Detected::Zip,
        (_, _, true, true) => Detected::Mixed,
        (_, _, true, _) => Detected::Documents(Layout::New(Level::Core)),
        (.., true) => Detected::Documents(Layout::Old),
        _ if !backups.is_empty() => Detected::Backups(backups),
        _ => Detected::Nothing,
    }
}

/// Returns the project if documents at these paths look like Kylin's backup of one project: it has no other, and of what
/// belongs to no project only what every backup has.
pub fn only_project(paths: impl IntoIterator<Item = EntryPath>) -> Option<Box<[u8]>> {
    let mut only: Option<Box<[u8]>> = None;
    for path in paths {
        let Some(project) = path.project() else { continue };
        if project == GLOBAL.as_bytes() {
            let is_in_every_backup = path.kind() == Some(Kind::System.name().as_bytes());
            if !is_in_every_backup {
                return None;
            }
        } else if is_project(project) {
            match &only {
                Some(only) if **only != *project => return None,
                Some(_) => {}
                None => only = Some(project.into()),
            }
        }
    }
    only
}

/// Returns the time in the name of a backup's folder, `yyyy-MM-dd-HH-mm-ss_backup`, as year to second in the zone of
/// whoever named it.
pub fn backup_time(name: &[u8]) -> Option<[u16; 6]> {
    let text = std::str::from_utf8(name).ok()?.strip_suffix("_backup")?;
    let parts: Vec<&str> = text.split('-').collect();
    let lengths = [4, 2, 2, 2, 2, 2];
    let fits = parts.len() == 6 && parts.iter().zip(lengths).all(|(part, length)| part.len() == length);
    let digits = |part: &&str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !fits || !parts.iter().all(digits) {
        return None;
    }
    let mut time = [0; 6];
    for (slot, part) in time.iter_mut().zip(parts) {
        *slot = part.parse().ok()?;
    }
    Some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detect_names(names: &str) -> Detected {
        let names = names.split_whitespace().map(|name| match name.strip_suffix('/') {
            Some(folder) => (folder.as_bytes(), true),
            None => (name.as_bytes(), false),
        });
        detect(names)
    }

    #[test]
    fn layouts_are_told_by_their_folders() {
        let cases = [
            ("PROJECT/ MODEL/ kylin.properties", Detected::Documents(Layout::New(Level::Core))),
            ("_REC/", Detected::Documents(Layout::New(Level::Core))),
            ("core_meta/ job_info/", Detected::Documents(Layout::New(Level::Folder))),
            ("_global/ default/ UUID", Detected::Documents(Layout::Old)),
            ("UUID default/", Detected::Documents(Layout::Old)),
            ("metadata.zip", Detected::Zip),
            ("metadata.zip MODEL/", Detected::Zip),
            ("MODEL/ _global/", Detected::Mixed),
            ("model/ a.json UUID/ MODEL", Detected::Nothing),
            ("", Detected::Nothing),
        ];
        for (names, expected) in cases {
            assert_eq!(detect_names(names), expected, "{names}");
        }
        let two = "2024-04-02-00-00-00_backup/ 2024-04-01-00-00-00_backup/ config";
        let names = ["2024-04-01-00-00-00_backup", "2024-04-02-00-00-00_backup"].map(str::to_owned);
        assert_eq!(detect_names(two), Detected::Backups(names.to_vec()));
    }

    #[test]
    fn backup_of_one_project_is_told_from_one_of_everything() {
        let only = |paths: &[&str]| only_project(paths.iter().map(|path| EntryPath::new(path.as_bytes()).unwrap()));
        let project = ["_global/SYSTEM/UUID", "_global/SYSTEM/_image", "_unplaced/MODEL/x", "p/PROJECT/p", "p/MODEL/m"];
        assert_eq!(only(&project).as_deref(), Some(&b"p"[..]));
        assert_eq!(only(&["UUID", "p/project/p.json", "p/model_desc/m.json"]).as_deref(), Some(&b"p"[..]));
        assert_eq!(only(&["p/PROJECT/p", "q/PROJECT/q"]), None);
        assert_eq!(only(&["p/PROJECT/p", "_global/USER_INFO/ADMIN"]), None);
        assert_eq!(only(&["_global/SYSTEM/UUID"]), None);
    }

    #[test]
    fn backup_time_is_exact() {
        assert_eq!(backup_time(b"2024-04-01-23-59-58_backup"), Some([2024, 4, 1, 23, 59, 58]));
        for not in
            ["2024-04-01_backup", "2024-04-01-23-59-58", "x024-04-01-23-59-58_backup", "2024-4-01-23-59-58_backup"]
        {
            assert_eq!(backup_time(not.as_bytes()), None, "{not}");
        }
    }
}
