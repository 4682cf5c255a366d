//! The kinds of documents of Kylin 5.0.0 and later (its `MetadataType`), as facts about each.

use std::fmt;
use std::str::FromStr;

/// One of the 31 types of metadata. Its name is the folder's in files, and in lower case the suffix of its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are Kylin's; `facts` says what each is")]
pub enum Kind {
    Acl,
    CcModelRelation,
    ComputeColumn,
    Dataflow,
    DataParser,
    FusionModel,
    HistorySourceUsage,
    IndexPlan,
    InternalTable,
    JarInfo,
    JobStats,
    KafkaConfig,
    Layout,
    LayoutDetails,
    LogicalView,
    Model,
    ObjectAcl,
    Project,
    QueryRecord,
    ResourceGroup,
    Segment,
    SqlBlacklist,
    StreamingJob,
    System,
    TableExd,
    TableInfo,
    TableModelRelation,
    TmpRec,
    UserGlobalAcl,
    UserGroup,
    UserInfo,
}

/// Where it is written which project a document belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// To none: it is about the whole system.
    Global,
    /// In this field of its JSON.
    Field(&'static str),
    /// Its key is the name of the project.
    Key,
    /// Its key is the UUID of the project.
    ProjectUuid,
}

/// What the key of a document must be, as far as its JSON tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRule {
    /// Nothing in the JSON tells.
    Free,
    /// The value of this field.
    Field(&'static str),
    /// The value of this field, in upper case.
    Upper(&'static str),
    /// This name: there is one document only.
    Only(&'static str),
    /// `<project>.<DATABASE>.<NAME>`: two fields in upper case.
    Table,
    /// `<project>.` and the value of this field.
    Prefixed(&'static str),
    /// Two fields, joined by this text.
    Joined(&'static str, &'static str, &'static str),
    /// `<project>.`, then two fields, joined by this text.
    PrefixedJoined(&'static str, &'static str, &'static str),
}

/// What is known of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Kylin's name.
    pub name: &'static str,
    /// Where its project is written.
    pub home: Home,
    /// What its key must be.
    pub key: KeyRule,
}

/// All kinds, in the order of their names.
pub const ALL: [Kind; 31] = [
    Kind::Acl,
    Kind::CcModelRelation,
    Kind::ComputeColumn,
    Kind::Dataflow,
    Kind::DataParser,
    Kind::FusionModel,
    Kind::HistorySourceUsage,
    Kind::IndexPlan,
    Kind::InternalTable,
    Kind::JarInfo,
    Kind::JobStats,
    Kind::KafkaConfig,
    Kind::Layout,
    Kind::LayoutDetails,
    Kind::LogicalView,
    Kind::Model,
    Kind::ObjectAcl,
    Kind::Project,
    Kind::QueryRecord,
    Kind::ResourceGroup,
    Kind::Segment,
    Kind::SqlBlacklist,
    Kind::StreamingJob,
    Kind::System,
    Kind::TableExd,
    Kind::TableInfo,
    Kind::TableModelRelation,
    Kind::TmpRec,
    Kind::UserGlobalAcl,
    Kind::UserGroup,
    Kind::UserInfo,
];

/// Another name under which Kylin writes and accepts [`Kind::TmpRec`].
const TMP_REC_ALIAS: &str = "_REC";

const PROJECT: Home = Home::Field("project");
const UUID: KeyRule = KeyRule::Field("uuid");

impl Kind {
    /// Returns what is known of the kind.
    pub const fn facts(self) -> Facts {
        let (name, home, key) = match self {
            Self::Acl => ("ACL", PROJECT, KeyRule::Free),
            Self::CcModelRelation => ("CC_MODEL_RELATION", PROJECT, UUID),
            Self::ComputeColumn => ("COMPUTE_COLUMN", PROJECT, UUID),
            Self::Dataflow => ("DATAFLOW", PROJECT, UUID),
            Self::DataParser => ("DATA_PARSER", PROJECT, KeyRule::Prefixed("class_name")),
            Self::FusionModel => ("FUSION_MODEL", PROJECT, UUID),
            Self::HistorySourceUsage => ("HISTORY_SOURCE_USAGE", Home::Global, KeyRule::Free),
            Self::IndexPlan => ("INDEX_PLAN", PROJECT, UUID),
            Self::InternalTable => ("INTERNAL_TABLE", PROJECT, KeyRule::Table),
            Self::JarInfo => ("JAR_INFO", PROJECT, KeyRule::PrefixedJoined("jar_type", "_", "jar_name")),
            Self::JobStats => ("JOB_STATS", PROJECT, KeyRule::Prefixed("date")),
            Self::KafkaConfig => ("KAFKA_CONFIG", PROJECT, KeyRule::Table),
            Self::Layout => ("LAYOUT", PROJECT, UUID),
            Self::LayoutDetails => ("LAYOUT_DETAILS", PROJECT, KeyRule::Joined("dataflow", "-", "layout")),
            Self::LogicalView => ("LOGICAL_VIEW", Home::Field("created_project"), KeyRule::Upper("table_name")),
            Self::Model => ("MODEL", PROJECT, UUID),
            Self::ObjectAcl => ("OBJECT_ACL", Home::ProjectUuid, KeyRule::Free),
            Self::Project => ("PROJECT", Home::Key, KeyRule::Field("name")),
            Self::QueryRecord => ("QUERY_RECORD", PROJECT, KeyRule::Prefixed("username")),
            Self::ResourceGroup => ("RESOURCE_GROUP", Home::Global, KeyRule::Only("relation")),
            Self::Segment => ("SEGMENT", PROJECT, UUID),
            Self::SqlBlacklist => ("SQL_BLACKLIST", PROJECT, KeyRule::Field("project")),
            Self::StreamingJob => ("STREAMING_JOB", PROJECT, UUID),
            Self::System => ("SYSTEM", Home::Global, KeyRule::Field("name")),
            Self::TableExd => ("TABLE_EXD", PROJECT, KeyRule::Prefixed("table_name")),
            Self::TableInfo => ("TABLE_INFO", PROJECT, KeyRule::Table),
            Self::TableModelRelation => ("TABLE_MODEL_RELATION", PROJECT, UUID),
            Self::TmpRec => ("TMP_REC", PROJECT, KeyRule::Prefixed("uuid")),
            Self::UserGlobalAcl => ("USER_GLOBAL_ACL", Home::Global, KeyRule::Field("username")),
            Self::UserGroup => ("USER_GROUP", Home::Global, KeyRule::Field("group_name")),
            Self::UserInfo => ("USER_INFO", Home::Global, KeyRule::Field("username")),
        };
        Facts { name, home, key }
    }

    /// Returns Kylin's name of the kind.
    pub const fn name(self) -> &'static str {
        self.facts().name
    }

    /// Returns the fields, other than `uuid` and those of [`Home`], whose columns in the kind's table must have a value. The
    /// name of a project is none of them: Kylin, and a restore, take its key.
    pub const fn required(self) -> &'static [&'static str] {
        match self {
            Self::Model => &["alias"],
            Self::Segment => &["model_uuid"],
            Self::Layout => &["dataflow"],
            Self::LayoutDetails => &["dataflow", "layout"],
            Self::CcModelRelation => &["cc_uuid", "model_uuid"],
            Self::TableModelRelation => &["model_uuid"],
            Self::UserInfo | Self::UserGlobalAcl => &["username"],
            Self::JobStats => &["date"],
            Self::JarInfo => &["jar_name"],
            Self::DataParser => &["jar_name", "class_name"],
            Self::KafkaConfig | Self::System => &["name"],
            Self::StreamingJob => &["model_id"],
            Self::HistorySourceUsage => &["create_time"],
            _ => &[],
        }
    }

    /// Tells whether the kind has a table in databases.
    pub const fn has_table(self) -> bool {
        !matches!(self, Self::TmpRec)
    }

    /// Returns the kind that a folder of this name holds.
    pub fn of_folder(name: &[u8]) -> Option<Self> {
        if name == TMP_REC_ALIAS.as_bytes() {
            return Some(Self::TmpRec);
        }
        let found = ALL.binary_search_by(|kind| kind.name().as_bytes().cmp(name));
        found.ok().map(|at| ALL[at])
    }
}

/// The name is none of Kylin's types.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no type of Kylin's metadata")]
pub struct UnknownKind(String);

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        Self::of_folder(name.as_bytes()).ok_or_else(|| UnknownKind(name.to_owned()))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_listed_once_under_its_name() {
        assert!(ALL.windows(2).all(|pair| pair[0].name() < pair[1].name()), "they are looked up by halving");
        for kind in ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
            assert_eq!(Kind::of_folder(kind.name().to_lowercase().as_bytes()), None);
        }
        assert_eq!("_REC".parse(), Ok(Kind::TmpRec));
        assert!("ALL".parse::<Kind>().is_err());
    }
}
