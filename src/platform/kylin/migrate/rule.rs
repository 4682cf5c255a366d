//! What a name of the old layout tells: which form of document it is, or why there is none to migrate.
//!
//! Whole parts of names are compared, never pieces of them: a user may be called `UUID`, and a project `rec`.

use crate::model::path::EntryPath;
use crate::platform::kylin::kind::Kind;
use crate::platform::kylin::layout::{GLOBAL, is_project};
use serde::Serialize;

const SUFFIX: &str = ".json";

/// What is to be done with a document, by its name alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule<'n> {
    /// It is converted.
    Convert(Form<'n>),
    /// The new generation has no place for it among the documents.
    Drop(Dropped),
    /// It is none of Kylin's documents, as far as is known: it is kept as it is.
    Keep(Unknown),
}

/// A form of document, with the parts of its name that matter; all but a few keys are without the suffix `.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form<'n> {
    /// `UUID`: the identity of the store.
    Identity,
    /// `VERSION`.
    Version,
    /// `_image`: where the audit log of the store stood.
    Image,
    /// `_global/upgrade/acl_version.json`.
    AclVersion,
    /// `_global/project/<project>.json`, or `<project>/project.json` of the earliest stores.
    Project {
        /// Its name.
        project: &'n str,
        /// It lies in the folder of the project.
        is_inside: bool,
    },
    /// What is global and converted as it is, if it has a key of its own.
    Global {
        /// What it is.
        kind: Global,
        /// The last part of its name, with a suffix if it has one.
        file: &'n str,
    },
    /// `_global/user_group` of Kylin 4: all groups in one document.
    UserGroups,
    /// `_global/sql_blacklist/<project>.json`.
    SqlBlacklist {
        /// Whose it is.
        project: &'n str,
    },
    /// `<project>/model_desc/<model>.json`.
    Model {
        /// Its project.
        project: &'n str,
        /// Its id.
        model: &'n str,
    },
    /// `<project>/dataflow/<model>.json`.
    Dataflow {
        /// Its project.
        project: &'n str,
        /// The id it shares with its model.
        model: &'n str,
    },
    /// `<project>/index_plan/<model>.json`.
    IndexPlan {
        /// Its project.
        project: &'n str,
        /// The id it shares with its model, if it is named after it.
        model: &'n str,
    },
    /// `<project>/dataflow_details/<model>/<segment>.json`.
    Details {
        /// Its project.
        project: &'n str,
        /// The model.
        model: &'n str,
        /// The segment.
        segment: &'n str,
    },
    /// `<project>/fusion_model/<model>.json`.
    FusionModel {
        /// Its project.
        project: &'n str,
        /// The id of one of its two models.
        model: &'n str,
    },
    /// `<project>/streaming/<model>_build` and `…_merge`.
    StreamingJob {
        /// Its project.
        project: &'n str,
        /// Its id: that of its model, and what it does.
        job: &'n str,
    },
    /// `<project>/rec/<model>.json` in model packages.
    Recommendations {
        /// Its project.
        project: &'n str,
        /// The model they are for.
        model: &'n str,
    },
    /// `<project>/parser/<class>.json`.
    Parser {
        /// Its project.
        project: &'n str,
        /// The class, if it is named after it.
        class: &'n str,
    },
    /// `<project>/acl/user/<name>.json` and `<project>/acl/group/<name>.json`.
    Acl {
        /// Its project.
        project: &'n str,
        /// It is that of a group.
        is_group: bool,
        /// Of the user or group.
        name: &'n str,
    },
    /// What only gets a key with the project before it.
    InProject {
        /// What it is.
        kind: InProject,
        /// Its project.
        project: &'n str,
        /// The rest of its key.
        key: &'n str,
    },
}

/// A global form whose key is the last part of the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Global {
    /// `user`.
    User,
    /// `user_group`.
    UserGroup,
    /// `sys_acl/user`.
    UserAcl,
    /// `acl`.
    ObjectAcl,
    /// `logical_view`.
    LogicalView,
    /// `resource_group`.
    ResourceGroup,
    /// `history_source_usage`.
    HistorySourceUsage,
}

/// A form of a project that is converted as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InProject {
    /// `table`.
    Table,
    /// `table_exd`.
    TableExd,
    /// `kafka`.
    Kafka,
    /// `jar`.
    Jar,
    /// `job_stats`.
    JobStats,
    /// `query`.
    QueryRecord,
}

/// Why a document has no place in the new layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dropped {
    /// `kylin.properties`: the configuration of the installation, with passwords perhaps.
    Properties,
    /// `.DS_Store`, and the `.<name>.crc` of Hadoop beside a file.
    Leftover,
    /// `_image`.
    Image,
    /// `_global/epoch…`.
    Epoch,
    /// `_global/trash_record`.
    TrashRecord,
    /// `execute`, `event` and `async_task`.
    Jobs,
    /// `rule`, `favorite` and `loading_range`.
    Rules,
    /// `recommendation`, `rec_items` and `accelerate_ratio`.
    Recommendations,
    /// `query_history…`.
    QueryHistory,
    /// `dataflow_detail`, of Kylin 3: what came after is `dataflow_details`.
    DataflowDetail,
}

impl Dropped {
    /// Returns its name, as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Properties => "properties",
            Self::Leftover => "leftover",
            Self::Image => "image",
            Self::Epoch => "epoch",
            Self::TrashRecord => "trash-record",
            Self::Jobs => "jobs",
            Self::Rules => "rules",
            Self::Recommendations => "recommendations",
            Self::QueryHistory => "query-history",
            Self::DataflowDetail => "dataflow-detail",
        }
    }

    /// Returns what was dropped and why, to be read after the names.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Properties => "the configuration of the installation, which is no metadata",
            Self::Leftover => "a file of the operating system or of Hadoop",
            Self::Image => "the place in the old store's audit log, which means nothing in a new store",
            Self::Epoch => "which node owned a project: there is no such ownership in 5.0.0 and later",
            Self::TrashRecord => "the garbage collector's notes on the old store",
            Self::Jobs => "jobs, which have a table of their own in 5.0.0 and later",
            Self::Rules => {
                "rules and ranges of the query accelerator, which have tables of their own in 5.0.0 and later"
            }
            Self::Recommendations => "recommendations, which have tables of their own",
            Self::QueryHistory => "offsets in the query history, which have a table of their own in 5.0.0 and later",
            Self::DataflowDetail => "details of builds as Kylin 3 kept them, which no Kylin 5 reads",
        }
    }
}

/// Why a name is not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unknown {
    /// It lies in a folder of which nothing is known.
    Folder,
    /// It lies where Kylin has no files, or deeper.
    Depth,
    /// Kylin only reads files with the suffix `.json` there.
    Suffix,
    /// No project can be called so.
    Project,
    /// It is not UTF-8.
    Text,
    /// It lies in a folder of the new layout.
    NewLayout,
}

impl Unknown {
    /// Returns why, to be read after the name.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Folder => "no folder of Kylin's is called so",
            Self::Depth => "Kylin keeps no documents at this depth",
            Self::Suffix => "a document of Kylin's would end in `.json` there",
            Self::Project => "no project can be called so",
            Self::Text => "the name is not UTF-8",
            Self::NewLayout => "it lies in a folder of the new layout",
        }
    }
}

/// Tells from a name of the old layout what is to be done with the document.
pub fn rule_of(name: &EntryPath) -> Rule<'_> {
    let Ok(text) = std::str::from_utf8(name.as_bytes()) else { return Rule::Keep(Unknown::Text) };
    let parts: Vec<&str> = text.split('/').collect();
    let last = parts.last().copied().unwrap_or_default();
    if let Some(dropped) = leftover(last) {
        return Rule::Drop(dropped);
    }
    match parts[..] {
        ["UUID"] => Rule::Convert(Form::Identity),
        ["VERSION"] => Rule::Convert(Form::Version),
        ["_image"] => Rule::Convert(Form::Image),
        [_] => Rule::Keep(Unknown::Depth),
        [_, second, _, ..] if let Some(dropped) = dropped(second) => Rule::Drop(dropped),
        [GLOBAL, ref rest @ ..] => global(rest),
        [first, _] if Kind::of_folder(first.as_bytes()).is_some() => Rule::Keep(Unknown::NewLayout),
        [first, ..] if !is_project(first.as_bytes()) => Rule::Keep(Unknown::Project),
        [project, ref rest @ ..] => in_project(project, rest),
        [] => Rule::Keep(Unknown::Depth),
    }
}

fn leftover(file: &str) -> Option<Dropped> {
    match file {
        "kylin.properties" => Some(Dropped::Properties),
        ".DS_Store" => Some(Dropped::Leftover),
        _ if file.starts_with('.') && file.ends_with(".crc") => Some(Dropped::Leftover),
        _ => None,
    }
}

fn dropped(folder: &str) -> Option<Dropped> {
    Some(match folder {
        "execute" | "event" | "async_task" => Dropped::Jobs,
        "rule" | "favorite" | "loading_range" => Dropped::Rules,
        "recommendation" | "rec_items" | "accelerate_ratio" => Dropped::Recommendations,
        "query_history"
        | "query_history_id"
        | "query_history_time"
        | "query_history_id_offset"
        | "query_history_time_offset" => Dropped::QueryHistory,
        "dataflow_detail" => Dropped::DataflowDetail,
        _ => return None,
    })
}

fn global<'n>(rest: &[&'n str]) -> Rule<'n> {
    let kind = match *rest {
        ["epoch", ..] => return Rule::Drop(Dropped::Epoch),
        ["trash_record", ..] => return Rule::Drop(Dropped::TrashRecord),
        ["user_group"] => return Rule::Convert(Form::UserGroups),
        ["upgrade", "acl_version" | "acl_version.json"] => return Rule::Convert(Form::AclVersion),
        ["project", file] => return suffixed(file, |project| Form::Project { project, is_inside: false }),
        ["sql_blacklist", file] => return suffixed(file, |project| Form::SqlBlacklist { project }),
        ["user", _] => Global::User,
        ["user_group", _] => Global::UserGroup,
        ["sys_acl", "user", _] => Global::UserAcl,
        ["acl", _] => Global::ObjectAcl,
        ["logical_view", _] => Global::LogicalView,
        ["resource_group", _] => Global::ResourceGroup,
        ["history_source_usage", _] => Global::HistorySourceUsage,
        [folder, ..] => return Rule::Keep(in_global(folder, rest.len())),
        [] => return Rule::Keep(Unknown::Depth),
    };
    let file = rest.last().copied().unwrap_or_default();
    match kind {
        Global::ResourceGroup | Global::HistorySourceUsage => suffixed(file, |_| Form::Global { kind, file }),
        _ if file == SUFFIX => Rule::Keep(Unknown::Suffix),
        _ => Rule::Convert(Form::Global { kind, file }),
    }
}

/// Why nothing lies at a depth in a global folder.
fn in_global(folder: &str, parts: usize) -> Unknown {
    match folder {
        "project"
        | "sql_blacklist"
        | "user"
        | "user_group"
        | "sys_acl"
        | "acl"
        | "logical_view"
        | "resource_group"
        | "history_source_usage" => Unknown::Depth,
        _ if Kind::of_folder(folder.as_bytes()).is_some() => Unknown::NewLayout,
        _ if parts < 2 => Unknown::Depth,
        _ => Unknown::Folder,
    }
}

fn in_project<'n>(project: &'n str, rest: &[&'n str]) -> Rule<'n> {
    let in_project = |file, kind| suffixed(file, |key| Form::InProject { kind, project, key });
    match *rest {
        ["project.json"] => Rule::Convert(Form::Project { project, is_inside: true }),
        ["model_desc", file] => suffixed(file, |model| Form::Model { project, model }),
        ["dataflow", file] => suffixed(file, |model| Form::Dataflow { project, model }),
        ["index_plan", file] => suffixed(file, |model| Form::IndexPlan { project, model }),
        ["dataflow_details", model, file] => suffixed(file, |segment| Form::Details { project, model, segment }),
        ["fusion_model", file] => suffixed(file, |model| Form::FusionModel { project, model }),
        ["rec", file] => suffixed(file, |model| Form::Recommendations { project, model }),
        ["parser", file] => suffixed(file, |class| Form::Parser { project, class }),
        ["acl", "user", file] => suffixed(file, |name| Form::Acl { project, is_group: false, name }),
        ["acl", "group", file] => suffixed(file, |name| Form::Acl { project, is_group: true, name }),
        ["streaming", file] if file != SUFFIX => {
            Rule::Convert(Form::StreamingJob { project, job: file.strip_suffix(SUFFIX).unwrap_or(file) })
        }
        ["table", file] => in_project(file, InProject::Table),
        ["table_exd", file] => in_project(file, InProject::TableExd),
        ["kafka", file] => in_project(file, InProject::Kafka),
        ["jar", file] => in_project(file, InProject::Jar),
        ["job_stats", file] => in_project(file, InProject::JobStats),
        ["query", file] => in_project(file, InProject::QueryRecord),
        [
            "model_desc" | "dataflow" | "index_plan" | "dataflow_details" | "fusion_model" | "rec" | "parser" | "acl"
            | "streaming" | "table" | "table_exd" | "kafka" | "jar" | "job_stats" | "query",
            ..,
        ] => Rule::Keep(Unknown::Depth),
        [folder, _, ..] if Kind::of_folder(folder.as_bytes()).is_some() => Rule::Keep(Unknown::NewLayout),
        [_, _, ..] => Rule::Keep(Unknown::Folder),
        _ => Rule::Keep(Unknown::Depth),
    }
}

fn suffixed<'n>(file: &'n str, form: impl FnOnce(&'n str) -> Form<'n>) -> Rule<'n> {
    match file.strip_suffix(SUFFIX) {
        Some(key) if !key.is_empty() => Rule::Convert(form(key)),
        _ => Rule::Keep(Unknown::Suffix),
    }
}

#[cfg(test)]
mod tests;
