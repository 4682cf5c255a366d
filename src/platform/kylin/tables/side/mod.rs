//! The tables beside the metadata that Kylin's backups take along: jobs, favorite rules, offsets of the query history.
//!
//! A backup has one file of one line for each row, with the names of Kylin's Java beans.

mod json;

pub use self::json::NoDocument;
use super::Sql;

/// One of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SideTable {
    /// Jobs.
    JobInfo,
    /// Rules for which queries are favorites.
    FavoriteRule,
    /// How far tasks have read the query history.
    QueryHistoryOffset,
}

/// All tables.
pub const ALL: [SideTable; 3] = [SideTable::JobInfo, SideTable::FavoriteRule, SideTable::QueryHistoryOffset];

/// A field of the file, and the column it comes from.
#[derive(Clone, Copy)]
pub(super) struct SideField {
    field: &'static str,
    pub(super) column: &'static str,
    form: SideForm,
    pub(super) sql: Sql,
    pub(super) is_nullable: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SideForm {
    Number,
    Text,
    Flag,
    /// A column of JSON as text, in the file as JSON.
    Json,
    /// A column of encoded bytes, in the file as text.
    Job,
    /// Always `null`, from no column.
    Nothing,
}

impl SideField {
    const fn new(field: &'static str, column: &'static str, form: SideForm, sql: Sql) -> Self {
        Self { field, column, form, sql, is_nullable: true }
    }

    const fn number(field: &'static str, column: &'static str) -> Self {
        Self::new(field, column, SideForm::Number, Sql::BigInt)
    }

    const fn text(field: &'static str, column: &'static str, chars: u16) -> Self {
        Self::new(field, column, SideForm::Text, Sql::Varchar(chars))
    }

    const fn nothing(field: &'static str) -> Self {
        Self::new(field, "", SideForm::Nothing, Sql::Text)
    }

    const fn required(self) -> Self {
        Self { is_nullable: false, ..self }
    }
}

type F = SideField;

const ID: SideField = F::number("id", "id").required();
const PROJECT: SideField = F::text("project", "project", 255).required();
const MVCC: SideField = F::number("mvcc", "mvcc").required();
const CREATE_TIME: SideField = F::number("createTime", "create_time");
const UPDATE_TIME: SideField = F::number("updateTime", "update_time");

const JOB_INFO: &[SideField] = &[
    ID,
    F::text("jobId", "job_id", 100).required(),
    F::text("jobType", "job_type", 50).required(),
    F::text("jobStatus", "job_status", 50).required(),
    F::text("project", "project", 100).required(),
    F::text("subject", "subject", 200).required(),
    F::text("modelId", "model_id", 200),
    CREATE_TIME,
    UPDATE_TIME,
    F::new("jobDurationMillis", "job_duration_millis", SideForm::Number, Sql::BigIntDefault(0)).required(),
    F::nothing("jobContent"),
    F::number("mvcc", "mvcc"),
    F::new("priority", "priority", SideForm::Number, Sql::IntDefault(3)),
    F::nothing("jobInfoTable"),
    F::new("jobContentJson", "job_content", SideForm::Job, Sql::Bytes).required(),
];

const FAVORITE_RULE: &[SideField] = &[
    ID,
    PROJECT,
    F::new("conds", "conds", SideForm::Json, Sql::Text),
    F::text("name", "name", 255),
    F::new("enabled", "enabled", SideForm::Flag, Sql::Bool),
    UPDATE_TIME,
    CREATE_TIME,
    MVCC,
];

const QUERY_HISTORY_OFFSET: &[SideField] = &[
    ID,
    PROJECT,
    F::text("type", "type", 255).required(),
    F::number("offset", "query_history_id_offset"),
    UPDATE_TIME,
    CREATE_TIME,
    MVCC,
];

impl SideTable {
    /// Returns what follows the identifier and a `_` in the name of the table.
    pub const fn table_suffix(self) -> &'static str {
        match self {
            Self::JobInfo => "job_info_v2",
            Self::FavoriteRule => "favorite_rule",
            Self::QueryHistoryOffset => "query_history_offset",
        }
    }

    /// Returns the name of its folder in backups, which has one folder for each project.
    pub const fn folder(self) -> &'static str {
        match self {
            Self::JobInfo => "job_info",
            Self::FavoriteRule => "favorite_rule",
            Self::QueryHistoryOffset => "query_history_id_offset",
        }
    }

    /// Returns the table whose rows a folder of this name holds.
    pub fn of_folder(name: &[u8]) -> Option<Self> {
        ALL.into_iter().find(|table| table.folder().as_bytes() == name)
    }

    const fn fields(self) -> &'static [SideField] {
        match self {
            Self::JobInfo => JOB_INFO,
            Self::FavoriteRule => FAVORITE_RULE,
            Self::QueryHistoryOffset => QUERY_HISTORY_OFFSET,
        }
    }

    pub(super) fn sides(self) -> impl Iterator<Item = &'static SideField> {
        self.fields().iter().filter(|field| field.form != SideForm::Nothing)
    }

    /// Returns the columns, the surrogate `id` first.
    pub fn columns(self) -> impl Iterator<Item = &'static str> {
        self.sides().map(|field| field.column)
    }

    /// Returns the columns, other than `id`, that are unique together: what says whether two rows of two databases are
    /// the same one.
    pub const fn key_columns(self) -> &'static [&'static str] {
        match self {
            Self::JobInfo => &["job_id"],
            Self::FavoriteRule => &["project", "name"],
            Self::QueryHistoryOffset => &["project", "type"],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_those_of_backups() {
        for table in ALL {
            assert_eq!(SideTable::of_folder(table.folder().as_bytes()), Some(table));
            assert!(table.key_columns().iter().all(|key| table.columns().any(|column| column == *key)));
            assert_eq!(table.columns().next(), Some("id"));
        }
        assert_eq!(SideTable::of_folder(b"core_meta"), None);
    }
}
