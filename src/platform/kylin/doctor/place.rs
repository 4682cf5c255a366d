//! What a path tells of a document: its project, its key, and what is to be expected of its content.

use super::Generation;
use crate::model::path::EntryPath;
use crate::platform::kylin::kind::Kind;

/// The first part of paths of documents whose project can't be told.
pub(super) const UNPLACED: &[u8] = b"_unplaced";

/// What lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// A document that rules are about.
    Document(Kind),
    /// Something else that is JSON.
    Json,
    /// Something else that is not JSON, or need not be.
    Opaque,
    /// Nothing of ours.
    Ignored,
    /// A file where there should be none.
    Stray,
    /// Something in a folder that Kylin does not know.
    Unknown,
}

/// A path, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place<'a> {
    pub(super) project: &'a [u8],
    pub(super) folder: &'a [u8],
    /// The rest of the path.
    pub(super) rest: &'a [u8],
    /// The rest without the suffix that files of the old generation have.
    pub(super) key: &'a [u8],
    pub(super) what: What,
}

impl<'a> Place<'a> {
    /// Takes a path apart.
    pub(super) fn of(generation: Generation, path: &'a EntryPath) -> Self {
        let (project, tail) = split(path.as_bytes());
        let (folder, rest) = split(tail);
        let plain = Self { project, folder, rest, key: rest, what: What::Ignored };
        match (project, generation) {
            (b"_beside", _) => plain,
            (b"_files", _) => Self { what: stray(generation, tail), ..plain },
            (_, Generation::New) => Self { what: new(folder, rest), ..plain },
            (_, Generation::Old) => {
                let what = if tail.is_empty() { old_in_root(project) } else { old(project, folder, rest) };
                Self { key: rest.strip_suffix(b".json").unwrap_or(rest), what, ..plain }
            }
        }
    }

    /// Returns the project, if the document belongs to one.
    pub(super) fn project(&self) -> Option<&'a [u8]> {
        let is_none = self.folder.is_empty() || matches!(self.what, What::Ignored | What::Stray);
        let is_special = matches!(self.project, b"_global" | b"_files" | b"_beside" | UNPLACED);
        (!is_none && !is_special).then_some(self.project)
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().position(|byte| *byte == b'/') {
        Some(end) => (&path[..end], &path[end + 1..]),
        None => (path, b""),
    }
}

/// Files that Kylin skips, or that are the store itself.
fn is_skipped(path: &[u8]) -> bool {
    path.ends_with(b"kylin.properties") || path.ends_with(b".DS_Store") || path == b"metadata.zip"
}

fn stray(generation: Generation, path: &[u8]) -> What {
    let (folder, rest) = split(path);
    if is_skipped(path) || path.ends_with(b"_image") {
        return What::Ignored;
    }
    match generation {
        _ if rest.is_empty() => What::Stray,
        Generation::New if Kind::of_folder(folder).is_some() => What::Stray,
        Generation::New | Generation::Old => What::Unknown,
    }
}

fn new(folder: &[u8], rest: &[u8]) -> What {
    match (Kind::of_folder(folder), folder) {
        _ if rest.is_empty() => What::Stray,
        // Only files have it; Kylin does not take it for a document.
        (Some(Kind::System), _) if rest == b"_image" => What::Json,
        (Some(kind), _) => What::Document(kind),
        (None, b"job_info" | b"favorite_rule" | b"query_history_id_offset") => What::Json,
        (None, _) => What::Unknown,
    }
}

fn old_in_root(name: &[u8]) -> What {
    match name {
        b"UUID" | b"VERSION" => What::Opaque,
        b"_image" => What::Json,
        _ if is_skipped(name) => What::Ignored,
        _ => What::Stray,
    }
}

fn old(project: &[u8], folder: &[u8], rest: &[u8]) -> What {
    match (project, folder) {
        _ if is_skipped(rest) || is_skipped(folder) => What::Ignored,
        (b"_global", b"trash_record" | b"user_group") if rest.is_empty() => What::Opaque,
        _ if rest.is_empty() => What::Unknown,
        (_, b"project") => What::Document(Kind::Project),
        (_, b"object_acl") | (b"_global", b"acl") => What::Document(Kind::ObjectAcl),
        (b"_global", b"user" | b"user_group" | b"sys_acl" | b"resource_group" | b"history_source_usage") => What::Json,
        (b"_global", b"logical_view" | b"sql_blacklist" | b"upgrade") => What::Json,
        (b"_global", _) => What::Unknown,
        (_, b"model_desc") => What::Document(Kind::Model),
        (_, b"index_plan") => What::Document(Kind::IndexPlan),
        (_, b"dataflow") => What::Document(Kind::Dataflow),
        (_, b"dataflow_details") => What::Document(Kind::Layout),
        (_, b"table") => What::Document(Kind::TableInfo),
        (_, b"table_exd") => What::Document(Kind::TableExd),
        (_, b"kafka") => What::Document(Kind::KafkaConfig),
        (_, b"fusion_model" | b"parser" | b"jar" | b"streaming" | b"acl" | b"job_stats" | b"query" | b"rule") => {
            What::Json
        }
        (_, b"query_history_id_offset" | b"query_history_time_offset" | b"async_task" | b"loading_range") => What::Json,
        // Jobs may hold other things than JSON; the others are left over from earlier versions, or of model packages.
        (_, b"execute" | b"event" | b"favorite" | b"recommendation" | b"accelerate_ratio" | b"rec_items" | b"rec") => {
            What::Opaque
        }
        _ => What::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_tell_what_to_expect() {
        use Generation::{New, Old};
        let cases = [
            (New, "p/MODEL/m", What::Document(Kind::Model), "m", Some("p")),
            (New, "p/_REC/p.m", What::Document(Kind::TmpRec), "p.m", Some("p")),
            (New, "_global/SYSTEM/UUID", What::Document(Kind::System), "UUID", None),
            (New, "_global/SYSTEM/_image", What::Json, "_image", None),
            (New, "_unplaced/MODEL/m", What::Document(Kind::Model), "m", None),
            (New, "p/job_info/j", What::Json, "j", Some("p")),
            (New, "p/model/m", What::Unknown, "m", Some("p")),
            (New, "_files/kylin.properties", What::Ignored, "", None),
            (New, "_files/MODEL/.DS_Store", What::Ignored, ".DS_Store", None),
            (New, "_files/notes", What::Stray, "", None),
            (New, "_files/MODEL/notes", What::Stray, "notes", None),
            (New, "_files/MODELS/m.json", What::Unknown, "m.json", None),
            (New, "_beside/logs/x", What::Ignored, "x", None),
            (Old, "p/model_desc/m.json", What::Document(Kind::Model), "m", Some("p")),
            (Old, "p/dataflow_details/m/s.json", What::Document(Kind::Layout), "m/s", Some("p")),
            (Old, "_global/user/ADMIN", What::Json, "ADMIN", None),
            (Old, "_global/trash_record", What::Opaque, "", None),
            (Old, "p/execute/j", What::Opaque, "j", Some("p")),
            (Old, "p/project.json", What::Unknown, "", Some("p")),
            (Old, "p/cube/c.json", What::Unknown, "c", Some("p")),
            (Old, "UUID", What::Opaque, "", None),
            (Old, "notes", What::Stray, "", None),
        ];
        for (generation, path, what, key, project) in cases {
            let path = EntryPath::new(path.as_bytes()).unwrap();
            let place = Place::of(generation, &path);
            assert_eq!((place.what, place.key), (what, key.as_bytes()), "{path}");
            assert_eq!(place.project(), project.map(str::as_bytes), "{path}");
        }
    }
}
