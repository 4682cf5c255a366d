//! The tables that Kylin makes, as facts, and the statements that make them.

use std::fmt::Write;

use super::connection::Kind;

/// Which release of Kylin made the tables; later ones leave them as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Release {
    V500,
    V502,
}

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Name,
    /// 36 characters, compared by their bytes.
    Uuid,
    /// 36 characters, compared by their bytes with PostgreSQL only if it is said there.
    PlainUuid,
    Md5,
    Text,
    Long,
    Count,
}

use Shape::{Count, Long, Md5, Name, PlainUuid, Text, Uuid};

/// A column that only some tables have, and the field of the JSON that is put in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) field: &'static str,
    pub(crate) shape: Shape,
    pub(crate) is_required: bool,
}

/// Of documents of one type.
#[derive(Debug)]
pub(crate) struct Table {
    /// As the folder in a backup is named; in lower case the suffix of the table.
    pub(crate) type_name: &'static str,
    /// Field with the project that goes into the column `project`; none if there is no such column.
    pub(crate) project_field: Option<&'static str>,
    pub(crate) columns: &'static [Column],
    uniques: &'static [&'static str],
}

const fn required(name: &'static str, shape: Shape, field: &'static str) -> Column {
    Column { name, field, shape, is_required: true }
}

const fn column(name: &'static str, shape: Shape, field: &'static str) -> Column {
    Column { name, field, shape, is_required: false }
}

const fn global(type_name: &'static str, columns: &'static [Column], uniques: &'static [&'static str]) -> Table {
    Table { type_name, project_field: None, columns, uniques }
}

const fn local(type_name: &'static str, columns: &'static [Column], uniques: &'static [&'static str]) -> Table {
    Table { type_name, project_field: Some("project"), columns, uniques }
}

const LOGICAL_VIEW: Table = Table { project_field: Some("created_project"), ..local("LOGICAL_VIEW", &[], &[]) };

/// With the columns of 5.0.2 and later.
pub(crate) static TABLES: [Table; 30] = [
    global("PROJECT", &[required("name", Name, "name")], &["name"]),
    local("MODEL", &[required("alias", Name, "alias")], &["project, alias"]),
    local("DATAFLOW", &[], &[]),
    local("SEGMENT", &[required("model_uuid", PlainUuid, "model_uuid")], &[]),
    local("LAYOUT", &[required("dataflow_id", Name, "dataflow")], &[]),
    local("LAYOUT_DETAILS", &[required("dataflow_id", Name, "dataflow"), required("layout_id", Name, "layout")], &[]),
    local("INDEX_PLAN", &[], &[]),
    local("INTERNAL_TABLE", &[column("name", Name, "name"), column("db_name", Name, "database")], &[]),
    local("TABLE_INFO", &[column("name", Name, "name"), column("db_name", Name, "database")], &[]),
    local("TABLE_EXD", &[column("table_name", Name, "table_name")], &[]),
    local(
        "TABLE_MODEL_RELATION",
        &[column("table_identity", Name, "table_identity"), required("model_uuid", PlainUuid, "model_uuid")],
        &["table_identity, model_uuid"],
    ),
    local(
        "COMPUTE_COLUMN",
        &[
            column("column_name", Name, "columnName"),
            column("table_identity", Name, "tableIdentity"),
            column("table_alias", Name, "tableAlias"),
            column("expression", Text, "expression"),
            column("expression_md5", Md5, "expressionMD5"),
            column("inner_expression", Text, "innerExpression"),
            column("datatype", Name, "datatype"),
            column("reference_count", Count, "referenceCount"),
            column("cc_comment", Text, "comment"),
        ],
        &["project, table_identity, column_name", "project, table_identity, expression_md5"],
    ),
    local(
        "CC_MODEL_RELATION",
        &[required("cc_uuid", PlainUuid, "cc_uuid"), required("model_uuid", PlainUuid, "model_uuid")],
        &[],
    ),
    local("JOB_STATS", &[required("time_of_day", Long, "date")], &[]),
    global("USER_INFO", &[required("username", Name, "username")], &["username"]),
    global("USER_GROUP", &[column("group_name", Name, "group_name")], &[]),
    local("ACL", &[], &[]),
    global("USER_GLOBAL_ACL", &[required("username", Name, "username")], &["username"]),
    global("OBJECT_ACL", &[], &[]),
    global("HISTORY_SOURCE_USAGE", &[required("create_time", Long, "create_time")], &[]),
    global("RESOURCE_GROUP", &[], &[]),
    global("SYSTEM", &[required("name", Name, "name")], &["name"]),
    local("SQL_BLACKLIST", &[], &[]),
    local("DATA_PARSER", &[required("jar_name", Name, "jar_name"), required("class_name", Name, "class_name")], &[]),
    local("FUSION_MODEL", &[], &[]),
    local("JAR_INFO", &[column("jar_type", Name, "jar_type"), required("jar_name", Name, "jar_name")], &["jar_name"]),
    local("KAFKA_CONFIG", &[column("db", Name, "database"), required("name", Name, "name")], &[]),
    LOGICAL_VIEW,
    local("STREAMING_JOB", &[required("model_uuid", Uuid, "model_id")], &[]),
    local("QUERY_RECORD", &[], &[]),
];

const TABLE_IDENTITY: Column = column("table_identity", Name, "table_identity");
// Kylin 5.0.0 leaves it empty, which fails; whoever made it work filled it with the model, which is its own UUID.
const FUSION_MODEL_UUID: Column = required("model_uuid", PlainUuid, "uuid");

impl Table {
    pub(crate) fn of(type_name: &str) -> &'static Self {
        Self::find(type_name).unwrap_or_else(|| panic!("{type_name} has no table"))
    }

    pub(crate) fn find(type_name: &str) -> Option<&'static Self> {
        TABLES.iter().find(|table| table.type_name == type_name)
    }

    pub(crate) fn suffix(&self) -> String {
        self.type_name.to_lowercase()
    }

    /// Returns the table's own columns.
    pub(crate) fn columns(&self, release: Release) -> Vec<Column> {
        let mut columns = self.columns.to_vec();
        if release == Release::V500 {
            match self.type_name {
                "TABLE_INFO" | "INTERNAL_TABLE" => columns[1] = TABLE_IDENTITY,
                "FUSION_MODEL" => columns.push(FUSION_MODEL_UUID),
                _ => {}
            }
        }
        columns
    }

    /// Returns the own columns that the table has in some release.
    pub(crate) fn columns_of_any_release(&self) -> Vec<Column> {
        let mut columns = self.columns.to_vec();
        let of_500 = self.columns(Release::V500);
        columns.extend(of_500.into_iter().filter(|column| !self.columns.iter().any(|own| own.name == column.name)));
        columns
    }

    /// Returns the statements that make the table.
    fn ddl(&self, kind: Kind, id: &str, release: Release) -> String {
        let name = format!("{id}_{}", self.suffix());
        let mut lines = vec![match (kind, self.type_name) {
            (Kind::PostgreSql, _) => "id bigserial NOT NULL".to_owned(),
            (Kind::MySql, "LAYOUT_DETAILS") => "id bigint NOT NULL AUTO_INCREMENT".to_owned(),
            (Kind::MySql, _) => "id bigint unsigned NOT NULL AUTO_INCREMENT".to_owned(),
        }];
        if self.project_field.is_some() {
            lines.push("project varchar(255) NOT NULL".to_owned());
        }
        lines.push("meta_key varchar(255) NOT NULL".to_owned());
        lines.push(format!("uuid {} NOT NULL", self.uuid(kind)));
        for column in self.columns(release) {
            let required = if column.is_required { " NOT NULL" } else { "" };
            lines.push(format!("{} {}{required}", column.name, column.shape.sql(kind)));
        }
        lines.push("mvcc bigint NOT NULL".to_owned());
        lines.push("ts bigint NOT NULL".to_owned());
        let blob = blob(kind);
        let is_nullable = matches!(self.type_name, "TABLE_MODEL_RELATION" | "CC_MODEL_RELATION");
        lines.push(format!("content {blob}{}", if is_nullable { "" } else { " NOT NULL" }));
        lines.push("reserved_filed_1 varchar(50)".to_owned());
        lines.push(format!("reserved_filed_2 {blob}"));
        lines.push(format!("reserved_filed_3 {blob}"));
        self.keys(kind, id, &mut lines);
        let index = format!("{id}_TABLE_MODEL_RELATION_IDX");
        let has_index = self.type_name == "TABLE_MODEL_RELATION";
        if has_index && kind == Kind::MySql {
            lines.push(format!("KEY `{index}` (model_uuid)"));
        }
        let mut sql = format!("CREATE TABLE {name} (\n  {}\n)", lines.join(",\n  "));
        if kind == Kind::MySql {
            sql += " ENGINE = InnoDB DEFAULT CHARSET=utf8 ROW_FORMAT = DYNAMIC";
            if self.type_name == "OBJECT_ACL" {
                sql += " COMMENT = 'project acl'";
            }
        } else if has_index {
            write!(sql, ";\nCREATE INDEX {index} ON {name} (model_uuid)").unwrap();
        }
        sql + ";\n"
    }

    fn uuid(&self, kind: Kind) -> &'static str {
        match (self.type_name, kind) {
            ("LAYOUT_DETAILS", _) => "CHAR(36)",
            ("STREAMING_JOB", Kind::PostgreSql) => "CHAR(64) COLLATE \"C\"",
            ("STREAMING_JOB", Kind::MySql) => "CHAR(64) COLLATE utf8_bin",
            (_, Kind::PostgreSql) => "CHAR(36) COLLATE \"C\"",
            (_, Kind::MySql) => "CHAR(36) COLLATE utf8_bin",
        }
    }

    fn keys(&self, kind: Kind, id: &str, lines: &mut Vec<String>) {
        let name = match self.type_name {
            "USER_INFO" => "USER",
            "LAYOUT_DETAILS" => "LAYOUT_DETAIL",
            other => other,
        };
        let mut uniques = vec!["uuid", "meta_key"];
        uniques.extend(self.uniques);
        let is_swapped = matches!(self.type_name, "USER_INFO" | "USER_GLOBAL_ACL" | "SYSTEM" | "JAR_INFO");
        if kind == Kind::MySql && is_swapped {
            uniques.swap(1, 2);
        }
        lines.push(match kind {
            Kind::PostgreSql => format!("CONSTRAINT {id}_{name}_PK PRIMARY KEY (id)"),
            Kind::MySql => "PRIMARY KEY (id)".to_owned(),
        });
        for (n, columns) in uniques.iter().enumerate() {
            let name = format!("{id}_{name}_UK{}", n + 1);
            lines.push(match kind {
                Kind::PostgreSql => format!("CONSTRAINT {name} UNIQUE ({columns})"),
                Kind::MySql => format!("UNIQUE KEY `{name}` ({columns})"),
            });
        }
    }
}

impl Shape {
    fn sql(self, kind: Kind) -> &'static str {
        match (self, kind) {
            (Name, _) => "varchar(255)",
            (Uuid, Kind::PostgreSql) => "CHAR(36) COLLATE \"C\"",
            (PlainUuid, Kind::PostgreSql) => "CHAR(36)",
            (Uuid | PlainUuid, Kind::MySql) => "CHAR(36) COLLATE utf8_bin",
            (Md5, _) => "char(32)",
            (Text, _) => "TEXT",
            (Long, _) => "bigint",
            (Count, _) => "int DEFAULT 0",
        }
    }
}

fn blob(kind: Kind) -> &'static str {
    match kind {
        Kind::PostgreSql => "bytea",
        Kind::MySql => "longblob",
    }
}

/// Returns the statements that make all tables of Kylin 5.0.0 and later.
pub(crate) fn new_tables(kind: Kind, id: &str, release: Release) -> String {
    let mut sql: String = TABLES.iter().map(|table| table.ddl(kind, id, release)).collect();
    sql += &audit_log(kind, &format!("{id}_audit_log_v2"), true);
    sql += &side_tables(kind, id);
    match release {
        Release::V500 => sql += &epoch(kind, id),
        Release::V502 => writeln!(sql, "CREATE TABLE {id}_job_token (job_id varchar(100) PRIMARY KEY);").unwrap(),
    }
    sql
}

/// Returns the statements that make all tables of Kylin 5.0-alpha and 5.0-beta.
pub(crate) fn old_tables(kind: Kind, id: &str) -> String {
    let (key, blob) = (key(kind), blob(kind));
    let engine = if kind == Kind::MySql { " ENGINE=INNODB" } else { "" };
    let mut sql = format!(
        "CREATE TABLE {id} (META_TABLE_KEY {key} PRIMARY KEY, META_TABLE_CONTENT {blob}, META_TABLE_TS bigint, \
         META_TABLE_MVCC bigint){engine};\n"
    );
    sql += &audit_log(kind, &format!("{id}_audit_log"), false);
    sql + &epoch(kind, id)
}

fn key(kind: Kind) -> &'static str {
    match kind {
        Kind::PostgreSql => "varchar(255) COLLATE \"C\"",
        Kind::MySql => "varchar(255) COLLATE utf8_bin",
    }
}

fn serial(kind: Kind) -> &'static str {
    match kind {
        Kind::PostgreSql => "bigserial",
        Kind::MySql => "bigint auto_increment",
    }
}

fn audit_log(kind: Kind, table: &str, is_new: bool) -> String {
    let (serial, key, blob) = (serial(kind), key(kind), blob(kind));
    let flag = match kind {
        Kind::PostgreSql => "boolean default FALSE",
        Kind::MySql => "tinyint(1) DEFAULT 0",
    };
    let model = if is_new { "model_uuid char(36), " } else { "" };
    let project = if is_new { format!(", project varchar(255), diff_flag {flag}") } else { String::new() };
    let mut sql = format!(
        "CREATE TABLE {table} (id {serial} PRIMARY KEY, meta_key {key}, meta_content {blob}, meta_ts bigint, \
         meta_mvcc bigint, unit_id varchar(50), {model}operator varchar(200), instance varchar(100){project});\n"
    );
    // With an identifier so long that MySQL refuses the name, Kylin warns and goes on.
    let index = format!("{table}_meta_key_meta_mvcc_index");
    if kind == Kind::PostgreSql || index.len() <= 64 {
        writeln!(sql, "CREATE INDEX {index} ON {table} (meta_key, meta_mvcc);").unwrap();
    }
    if is_new {
        writeln!(sql, "CREATE INDEX {table}_meta_ts_index ON {table} (meta_ts);").unwrap();
    }
    sql
}

fn epoch(kind: Kind, id: &str) -> String {
    let blob = blob(kind);
    format!(
        "CREATE TABLE {id}_epoch (epoch_id int, epoch_target varchar(255) PRIMARY KEY, \
         current_epoch_owner varchar(2000), last_epoch_renew_time bigint, server_mode varchar(10), \
         maintenance_mode_reason varchar(5000), mvcc bigint, reserved_field_1 VARCHAR(50), \
         reserved_field_2 {blob}, reserved_field_3 {blob});\n"
    )
}

/// Returns the statements for what lies beside the metadata. Of the last two only the names are Kylin's.
fn side_tables(kind: Kind, id: &str) -> String {
    let (serial, blob) = (serial(kind), blob(kind));
    let flag = match kind {
        Kind::PostgreSql => "boolean",
        Kind::MySql => "tinyint(1)",
    };
    format!(
        "CREATE TABLE {id}_job_info_v2 (id {serial} PRIMARY KEY, job_id varchar(100) NOT NULL UNIQUE, \
         job_type varchar(50) NOT NULL, job_status varchar(50) NOT NULL, project varchar(100) NOT NULL, \
         subject varchar(200) NOT NULL, model_id varchar(200), priority integer DEFAULT 3, mvcc bigint, \
         job_content {blob} NOT NULL, create_time bigint, update_time bigint, \
         job_duration_millis bigint NOT NULL DEFAULT 0);\n\
         CREATE INDEX {id}_job_info_v2_ix ON {id}_job_info_v2 (project, job_status, job_type, subject);\n\
         CREATE INDEX {id}_job_info_v2_model_ix ON {id}_job_info_v2 (project, model_id);\n\
         CREATE TABLE {id}_favorite_rule (id {serial} PRIMARY KEY, project varchar(255) NOT NULL, conds TEXT, \
         name varchar(255), enabled {flag}, update_time bigint, create_time bigint, mvcc bigint NOT NULL, \
         UNIQUE (project, name));\n\
         CREATE TABLE {id}_query_history_offset (id {serial} PRIMARY KEY, project varchar(255) NOT NULL, \
         type varchar(255) NOT NULL, query_history_id_offset bigint, update_time bigint, create_time bigint, \
         mvcc bigint NOT NULL, UNIQUE (project, type));\n\
         CREATE TABLE {id}_job_lock_v2 (id {serial} PRIMARY KEY, lock_id varchar(255));\n\
         CREATE TABLE {id}_query_history (id {serial} PRIMARY KEY, sql_text TEXT);\n"
    )
}
