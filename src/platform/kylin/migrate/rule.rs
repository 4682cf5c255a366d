//! What a name of the old layout tells: which form of document it is, or why there is none to migrate.
//!
//! Whole parts of names are compared, never pieces of them: a user may be called `UUID`, and a project `rec`.

#![allow(clippy::unimplemented, clippy::needless_pass_by_value, dead_code, reason = "the skeleton of what is to come")]

use crate::model::path::EntryPath;
use crate::platform::kylin::layout::{GLOBAL, is_project};
use serde::Serialize;

const SUFFIX: &[u8] = b".json";

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
        /// The last part of its name, with suffix.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
    let _ = (name, SUFFIX, GLOBAL, is_project);
    unimplemented!()
}
