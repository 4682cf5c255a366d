//! The tables of a store in a database, as facts: what each column is made of, and what values a document gives them.
//!
//! Nothing alters tables once they are made, so a database first opened by Kylin 5.0.0 keeps its columns for ever. What
//! is written therefore goes by the columns that are really there.

pub mod ddl;
mod extract;
mod fields;
pub mod side;

pub use self::extract::{NoRow, audit_model_uuid, audit_project, extract};
use crate::platform::kylin::Error;
use crate::platform::kylin::jdbc::IDENTIFIER_UNITS_MAX;
use crate::platform::kylin::kind::Kind;

/// The databases that we can talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// PostgreSQL.
    PostgreSql,
    /// MySQL and MariaDB.
    MySql,
}

/// A value of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// None.
    Null,
    /// A number.
    Int(i64),
    /// A text.
    Text(String),
    /// Yes or no.
    Bool(bool),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// A column that a table really has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name in lower case.
    pub name: String,
    /// Whether it may be without a value.
    pub is_nullable: bool,
    /// How many characters a text may have.
    pub chars_max: Option<u32>,
}

/// Which release made the tables, as far as it matters to what is in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// 5.0.0 or 5.0.1.
    V500,
    /// 5.0.2 or later.
    V502,
}

impl Release {
    /// Tells the release from the columns of the table for [`Kind::TableInfo`].
    pub fn of_table_info(columns: &[Column]) -> Self {
        let has = |name| columns.iter().any(|column| column.name == name);
        if has("table_identity") && !has("db_name") { Self::V500 } else { Self::V502 }
    }
}

/// Checks that the names of tables can begin with an identifier without being quoted, as Kylin writes them.
///
/// # Errors
/// When they can't. The error does not quote it: misplaced quotes make a password part of anything.
pub fn check_identifier(dialect: Dialect, identifier: &str) -> Result<(), Error> {
    let bad = |why| Err(Error::BadIdentifier { why });
    if identifier.is_empty() {
        return bad("is empty");
    }
    if !identifier.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return bad("has other characters than letters, digits and `_`");
    }
    if dialect == Dialect::PostgreSql && identifier.starts_with(|c: char| c.is_ascii_digit()) {
        return bad("begins with a digit, which no name in PostgreSQL does");
    }
    if identifier.len() > IDENTIFIER_UNITS_MAX {
        let (identifier, length) = (identifier.to_owned(), identifier.len());
        return Err(Error::IdentifierTooLong { identifier, length, max: IDENTIFIER_UNITS_MAX });
    }
    Ok(())
}

/// What fills a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnRule {
    /// The column.
    pub column: &'static str,
    /// The field of the JSON that its value is read from.
    pub field: &'static str,
    /// What the field is in Kylin's classes.
    form: Form,
    /// What the column is when we make it.
    sql: Sql,
    /// Whether the column may be without a value when we make it.
    is_nullable: bool,
}

/// What a field of the JSON becomes when Kylin reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    /// A number of 64 bits, or none.
    Long,
    /// A number of 64 bits, 0 if there is none.
    LongOrZero,
    /// A number of 32 bits, or none.
    Int,
    /// Base64.
    Bytes,
}

/// The type of a column, as far as Kylin uses them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sql {
    Varchar(u16),
    Char {
        chars: u16,
        /// Where the column compares its values byte by byte.
        binary: &'static [Dialect],
    },
    Text,
    /// With what it is if nothing is said, as for the other one.
    IntDefault(u8),
    BigInt,
    BigIntDefault(u8),
    Bool,
    /// No if nothing is said.
    BoolFalse,
    Bytes,
}

impl ColumnRule {
    const fn new(column: &'static str, form: Form, sql: Sql) -> Self {
        Self { column, field: column, form, sql, is_nullable: true }
    }

    /// A column of text, from a field of the same name.
    const fn text(column: &'static str) -> Self {
        Self::new(column, Form::Text, Sql::Varchar(255))
    }

    /// The UUID of another document.
    const fn uuid(column: &'static str, binary: &'static [Dialect]) -> Self {
        Self::new(column, Form::Text, Sql::Char { chars: 36, binary }).required()
    }

    const fn of(self, field: &'static str) -> Self {
        Self { field, ..self }
    }

    const fn required(self) -> Self {
        Self { is_nullable: false, ..self }
    }
}

const BOTH: &[Dialect] = &[Dialect::MySql, Dialect::PostgreSql];
const MYSQL: &[Dialect] = &[Dialect::MySql];
const POSTGRES: &[Dialect] = &[Dialect::PostgreSql];

const UUID: ColumnRule = ColumnRule::uuid("uuid", BOTH);
const PROJECT: ColumnRule = ColumnRule::text("project").required();

/// Columns of every table. They are filled from fields of their names, which no document has.
const RESERVED: &[ColumnRule] = &[
    ColumnRule::new("reserved_filed_1", Form::Text, Sql::Varchar(50)),
    ColumnRule::new("reserved_filed_2", Form::Bytes, Sql::Bytes),
    ColumnRule::new("reserved_filed_3", Form::Bytes, Sql::Bytes),
];

impl Kind {
    /// Returns what follows the identifier and a `_` in the name of the kind's table.
    pub const fn table_suffix(self) -> Option<&'static str> {
        Some(match self {
            Self::Acl => "acl",
            Self::CcModelRelation => "cc_model_relation",
            Self::ComputeColumn => "compute_column",
            Self::Dataflow => "dataflow",
            Self::DataParser => "data_parser",
            Self::FusionModel => "fusion_model",
            Self::HistorySourceUsage => "history_source_usage",
            Self::IndexPlan => "index_plan",
            Self::InternalTable => "internal_table",
            Self::JarInfo => "jar_info",
            Self::JobStats => "job_stats",
            Self::KafkaConfig => "kafka_config",
            Self::Layout => "layout",
            Self::LayoutDetails => "layout_details",
            Self::LogicalView => "logical_view",
            Self::Model => "model",
            Self::ObjectAcl => "object_acl",
            Self::Project => "project",
            Self::QueryRecord => "query_record",
            Self::ResourceGroup => "resource_group",
            Self::Segment => "segment",
            Self::SqlBlacklist => "sql_blacklist",
            Self::StreamingJob => "streaming_job",
            Self::System => "system",
            Self::TableExd => "table_exd",
            Self::TableInfo => "table_info",
            Self::TableModelRelation => "table_model_relation",
            Self::TmpRec => return None,
            Self::UserGlobalAcl => "user_global_acl",
            Self::UserGroup => "user_group",
            Self::UserInfo => "user_info",
        })
    }

    /// Returns the columns of the kind's table, as 5.0.2 and later make it, that are filled from the JSON, without the
    /// reserved ones.
    pub const fn columns(self) -> &'static [ColumnRule] {
        type C = ColumnRule;
        match self {
            Self::TmpRec => &[],
            Self::ObjectAcl | Self::ResourceGroup => const { &[UUID] },
            Self::Acl
            | Self::Dataflow
            | Self::FusionModel
            | Self::IndexPlan
            | Self::QueryRecord
            | Self::SqlBlacklist => const { &[UUID, PROJECT] },
            Self::Project | Self::System => const { &[UUID, C::text("name").required()] },
            Self::UserGlobalAcl | Self::UserInfo => const { &[UUID, C::text("username").required()] },
            Self::UserGroup => const { &[UUID, C::text("group_name")] },
            Self::HistorySourceUsage => {
                const { &[UUID, C::new("create_time", Form::LongOrZero, Sql::BigInt).required()] }
            }
            Self::Model => const { &[UUID, PROJECT, C::text("alias").required()] },
            Self::Segment => const { &[UUID, PROJECT, C::uuid("model_uuid", MYSQL)] },
            Self::Layout => const { &[UUID, PROJECT, C::text("dataflow_id").of("dataflow").required()] },
            Self::LayoutDetails => {
                const {
                    let layout = C::new("layout_id", Form::Long, Sql::Varchar(255)).of("layout").required();
                    &[C::uuid("uuid", &[]), PROJECT, C::text("dataflow_id").of("dataflow").required(), layout]
                }
            }
            Self::InternalTable | Self::TableInfo => {
                const { &[UUID, PROJECT, C::text("name"), C::text("db_name").of("database")] }
            }
            Self::TableExd => const { &[UUID, PROJECT, C::text("table_name")] },
            Self::TableModelRelation => {
                const { &[UUID, PROJECT, C::text("table_identity"), C::uuid("model_uuid", MYSQL)] }
            }
            Self::CcModelRelation => {
                const { &[UUID, PROJECT, C::uuid("cc_uuid", MYSQL), C::uuid("model_uuid", MYSQL)] }
            }
            Self::ComputeColumn => const { &COMPUTE_COLUMN },
            Self::JobStats => {
                const { &[UUID, PROJECT, C::new("time_of_day", Form::Long, Sql::BigInt).of("date").required()] }
            }
            Self::DataParser => {
                const { &[UUID, PROJECT, C::text("jar_name").required(), C::text("class_name").required()] }
            }
            Self::JarInfo => const { &[UUID, PROJECT, C::text("jar_type"), C::text("jar_name").required()] },
            Self::KafkaConfig => const { &[UUID, PROJECT, C::text("db").of("database"), C::text("name").required()] },
            Self::LogicalView => const { &[UUID, PROJECT.of("created_project")] },
            Self::StreamingJob => {
                const {
                    let uuid = C::new("uuid", Form::Text, Sql::Char { chars: 64, binary: BOTH }).required();
                    &[uuid, PROJECT, C::uuid("model_uuid", POSTGRES).of("model_id")]
                }
            }
        }
    }

    /// Returns the columns that only 5.0.0 makes.
    const fn columns_of_v500(self) -> &'static [ColumnRule] {
        match self {
            Self::InternalTable | Self::TableInfo => const { &[ColumnRule::text("table_identity")] },
            // Kylin reads a field that does not exist.
            Self::FusionModel => const { &[ColumnRule::uuid("model_uuid", MYSQL).of("uuid")] },
            _ => &[],
        }
    }
}

const EXPRESSION_MD5: &str = "expression_md5";

const COMPUTE_COLUMN: [ColumnRule; 11] = [
    UUID,
    PROJECT,
    ColumnRule::text("column_name").of("columnName"),
    ColumnRule::text("table_identity").of("tableIdentity"),
    ColumnRule::text("table_alias").of("tableAlias"),
    ColumnRule::new("expression", Form::Text, Sql::Text),
    ColumnRule::new(EXPRESSION_MD5, Form::Text, Sql::Char { chars: 32, binary: &[] }).of("expressionMD5"),
    ColumnRule::new("inner_expression", Form::Text, Sql::Text).of("innerExpression"),
    ColumnRule::text("datatype"),
    ColumnRule::new("reference_count", Form::Int, Sql::IntDefault(0)).of("referenceCount"),
    ColumnRule::new("cc_comment", Form::Text, Sql::Text).of("comment"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::kylin::kind::{ALL, Home};

    #[test]
    fn rules_agree_with_the_other_facts() {
        for kind in ALL {
            assert_eq!(kind.table_suffix().is_some(), kind.has_table());
            let Some(suffix) = kind.table_suffix() else { continue };
            assert_eq!(suffix, kind.name().to_lowercase());
            let rules = kind.columns();
            assert_eq!(rules[0].field, "uuid");
            let home = rules.iter().find(|rule| rule.column == "project").map(|rule| rule.field);
            match kind.facts().home {
                Home::Field(field) => assert_eq!(home, Some(field)),
                Home::Global | Home::Key | Home::ProjectUuid => assert_eq!(home, None),
            }
            let required: Vec<_> = rules
                .iter()
                .filter(|rule| !rule.is_nullable && !matches!(rule.column, "uuid" | "project"))
                .filter(|rule| (kind, rule.column) != (Kind::Project, "name"))
                .map(|rule| rule.field)
                .collect();
            assert_eq!(required, kind.required(), "{kind}");
        }
    }

    #[test]
    fn release_is_told_by_a_table() {
        let columns = |names: &[&str]| {
            let column = |name: &&str| Column { name: (*name).to_owned(), is_nullable: true, chars_max: None };
            names.iter().map(column).collect::<Vec<_>>()
        };
        assert_eq!(Release::of_table_info(&columns(&["id", "name", "table_identity"])), Release::V500);
        assert_eq!(Release::of_table_info(&columns(&["id", "name", "db_name"])), Release::V502);
        assert_eq!(Release::of_table_info(&columns(&["db_name", "table_identity"])), Release::V502);
    }
}
