//! The statements that make the tables of an empty store, as Kylin itself would make them.

use super::side::{self, SideTable};
use super::{BOTH, ColumnRule, Dialect, RESERVED, Sql, check_identifier};
use crate::platform::kylin::Error;
use crate::platform::kylin::kind::{self, Kind};

/// Longest name that both databases allow; PostgreSQL cuts longer ones.
const NAME_BYTES_MAX: usize = 63;

/// Columns of the audit log after `id`, and whether the older tables have them too.
const AUDIT_COLUMNS: [(&str, Sql, bool); 10] = [
    ("meta_key", Sql::Varchar(255), true),
    ("meta_content", Sql::Bytes, true),
    ("meta_ts", Sql::BigInt, true),
    ("meta_mvcc", Sql::BigInt, true),
    ("unit_id", Sql::Varchar(50), true),
    ("model_uuid", Sql::Char { chars: 36, binary: &[] }, false),
    ("operator", Sql::Varchar(200), true),
    ("instance", Sql::Varchar(100), true),
    ("project", Sql::Varchar(255), false),
    ("diff_flag", Sql::BoolFalse, false),
];

/// Returns the statements that make an empty store of 5.0.2 and later: its tables, their audit log, and those of
/// [`SideTable`]. What is there already stays as it is.
///
/// # Errors
/// When tables can't be named after the identifier.
pub fn create_tables(dialect: Dialect, identifier: &str) -> Result<Vec<String>, Error> {
    check_identifier(dialect, identifier)?;
    let ddl = Ddl { dialect, identifier };
    let of_kinds = kind::ALL.into_iter().filter_map(|kind| ddl.of_kind(kind));
    let of_sides = side::ALL.into_iter().map(|table| ddl.of_side(table));
    let tables = of_kinds.chain([ddl.audit_log(true)]).chain(of_sides);
    Ok(tables.flat_map(|table| ddl.statements(&table)).collect())
}

/// Returns the statements that make an empty store of the releases before 5.0.0: its table and the audit log.
///
/// # Errors
/// As [`create_tables`].
pub fn create_tables_old(dialect: Dialect, identifier: &str) -> Result<Vec<String>, Error> {
    check_identifier(dialect, identifier)?;
    let ddl = Ddl { dialect, identifier };
    let key = format!("{}{} PRIMARY KEY", ddl.type_of(Sql::Varchar(255)), ddl.collate(BOTH));
    let column = |name, sql| format!("{} {}", ddl.quote(name), ddl.type_of(sql));
    let columns = vec![
        format!("{} {key}", ddl.quote("META_TABLE_KEY")),
        column("META_TABLE_CONTENT", Sql::Bytes),
        column("META_TABLE_TS", Sql::BigInt),
        column("META_TABLE_MVCC", Sql::BigInt),
    ];
    let table = Table { columns, options: "ENGINE=InnoDB", ..Table::new(identifier.to_owned()) };
    Ok([table, ddl.audit_log(false)].iter().flat_map(|table| ddl.statements(table)).collect())
}

/// What [`Ddl::statements`] makes statements of.
struct Table {
    name: String,
    columns: Vec<String>,
    /// Names, what they are, and the columns.
    constraints: Vec<(String, &'static str, Vec<&'static str>)>,
    indexes: Vec<(String, Vec<&'static str>)>,
    /// For MySQL.
    options: &'static str,
}

impl Table {
    fn new(name: String) -> Self {
        let options = "ENGINE=InnoDB DEFAULT CHARSET=utf8 ROW_FORMAT=DYNAMIC";
        Self { name, columns: Vec::new(), constraints: Vec::new(), indexes: Vec::new(), options }
    }
}

struct Ddl<'a> {
    dialect: Dialect,
    identifier: &'a str,
}

impl Ddl<'_> {
    fn of_kind(&self, kind: Kind) -> Option<Table> {
        let mut table = Table::new(format!("{}_{}", self.identifier, kind.table_suffix()?));
        let id = match (self.dialect, kind) {
            (Dialect::PostgreSql, _) => "bigserial NOT NULL",
            (Dialect::MySql, Kind::LayoutDetails) => "bigint NOT NULL AUTO_INCREMENT",
            (Dialect::MySql, _) => "bigint unsigned NOT NULL AUTO_INCREMENT",
        };
        table.columns.push(format!("{} {id}", self.quote("id")));
        table.columns.push(self.column("meta_key", Sql::Varchar(255), false));
        table.columns.extend(kind.columns().iter().map(|rule| self.of_rule(rule)));
        table.columns.push(self.column("mvcc", Sql::BigInt, false));
        table.columns.push(self.column("ts", Sql::BigInt, false));
        table.columns.extend(RESERVED.iter().map(|rule| self.of_rule(rule)));
        let may_be_empty = matches!(kind, Kind::TableModelRelation | Kind::CcModelRelation);
        table.columns.push(self.column("content", Sql::Bytes, may_be_empty));

        let name = format!("{}_{}", self.identifier, constraint_name(kind));
        table.constraints.push((format!("{name}_PK"), "PRIMARY KEY", vec!["id"]));
        for (index, columns) in uniques(self.dialect, kind).into_iter().enumerate() {
            table.constraints.push((format!("{name}_UK{}", index + 1), "UNIQUE", columns));
        }
        match kind {
            Kind::TableModelRelation => table.indexes.push((format!("{name}_IDX"), vec!["model_uuid"])),
            Kind::ObjectAcl => {
                table.options = "ENGINE=InnoDB DEFAULT CHARSET=utf8 ROW_FORMAT=DYNAMIC COMMENT='project acl'";
            }
            _ => {}
        }
        Some(table)
    }

    fn of_rule(&self, rule: &ColumnRule) -> String {
        self.column(rule.column, rule.sql, rule.is_nullable)
    }

    fn audit_log(&self, is_new: bool) -> Table {
        let suffix = if is_new { "audit_log_v2" } else { "audit_log" };
        let name = format!("{}_{suffix}", self.identifier);
        let mut indexes = vec![(format!("{name}_meta_key_meta_mvcc_index"), vec!["meta_key", "meta_mvcc"])];
        if is_new {
            indexes.push((format!("{name}_meta_ts_index"), vec!["meta_ts"]));
        }
        let mut columns = vec![self.serial(true)];
        for (column, sql, is_in_old) in AUDIT_COLUMNS {
            if is_new || is_in_old {
                let collate = self.collate(if column == "meta_key" { BOTH } else { &[] });
                columns.push(format!("{} {}{collate}", self.quote(column), self.type_of(sql)));
            }
        }
        let mut table = Table { columns, indexes, ..Table::new(name) };
        if !is_new {
            table.options = "ENGINE=InnoDB";
        }
        table
    }

    fn of_side(&self, side: SideTable) -> Table {
        let name = format!("{}_{}", self.identifier, side.table_suffix());
        let mut columns = vec![self.serial(side == SideTable::QueryHistoryOffset)];
        columns.extend(side.sides().skip(1).map(|field| self.column(field.column, field.sql, field.is_nullable)));
        let constraints = vec![(format!("{name}_uk"), "UNIQUE", side.key_columns().to_vec())];
        let indexes = match side {
            SideTable::JobInfo => vec![
                (format!("{name}_ix1"), vec!["project", "job_status", "job_type", "subject"]),
                (format!("{name}_ix2"), vec!["project", "model_id"]),
            ],
            SideTable::FavoriteRule | SideTable::QueryHistoryOffset => Vec::new(),
        };
        Table { columns, constraints, indexes, ..Table::new(name) }
    }

    fn statements(&self, table: &Table) -> Vec<String> {
        let list = |columns: &[&str]| columns.iter().map(|column| self.quote(column)).collect::<Vec<_>>().join(", ");
        let mut parts = table.columns.clone();
        for (name, what, columns) in &table.constraints {
            parts.push(format!("CONSTRAINT {} {what} ({})", self.quote(name), list(columns)));
        }
        let mut after = Vec::new();
        for (name, columns) in &table.indexes {
            let (name, on, columns) = (self.quote(name), self.quote(&table.name), list(columns));
            match self.dialect {
                // Its `CREATE INDEX` can't be told to let one be that is there.
                Dialect::MySql => parts.push(format!("INDEX {name} ({columns})")),
                Dialect::PostgreSql => after.push(format!("CREATE INDEX IF NOT EXISTS {name} ON {on} ({columns})")),
            }
        }
        let options = match self.dialect {
            Dialect::MySql => format!(" {}", table.options),
            Dialect::PostgreSql => String::new(),
        };
        let name = self.quote(&table.name);
        let create = format!("CREATE TABLE IF NOT EXISTS {name} (\n  {}\n){options}", parts.join(",\n  "));
        [create].into_iter().chain(after).collect()
    }

    /// The column `id` of the tables that Kylin names no constraints of.
    fn serial(&self, is_big: bool) -> String {
        let serial = match (self.dialect, is_big) {
            (Dialect::PostgreSql, true) => "bigserial",
            (Dialect::PostgreSql, false) => "serial",
            (Dialect::MySql, _) => "bigint NOT NULL AUTO_INCREMENT",
        };
        format!("{} {serial} PRIMARY KEY", self.quote("id"))
    }

    fn column(&self, name: &str, sql: Sql, is_nullable: bool) -> String {
        let not_null = if is_nullable { "" } else { " NOT NULL" };
        format!("{} {}{not_null}", self.quote(name), self.type_of(sql))
    }

    fn type_of(&self, sql: Sql) -> String {
        let is_mysql = self.dialect == Dialect::MySql;
        match sql {
            Sql::Varchar(chars) => format!("varchar({chars})"),
            Sql::Char { chars, binary } => format!("char({chars}){}", self.collate(binary)),
            Sql::Text => "text".to_owned(),
            Sql::IntDefault(number) => format!("int DEFAULT {number}"),
            Sql::BigInt => "bigint".to_owned(),
            Sql::BigIntDefault(number) => format!("bigint DEFAULT {number}"),
            Sql::Bool => if is_mysql { "tinyint(1)" } else { "boolean" }.to_owned(),
            Sql::BoolFalse => if is_mysql { "tinyint(1) DEFAULT 0" } else { "boolean DEFAULT FALSE" }.to_owned(),
            Sql::Bytes => if is_mysql { "longblob" } else { "bytea" }.to_owned(),
        }
    }

    fn collate(&self, binary: &[Dialect]) -> &'static str {
        match self.dialect {
            dialect if !binary.contains(&dialect) => "",
            Dialect::MySql => " COLLATE utf8_bin",
            Dialect::PostgreSql => " COLLATE \"C\"",
        }
    }

    /// PostgreSQL finds what Kylin does not quote in lower case.
    fn quote(&self, name: &str) -> String {
        let name = &name[..name.len().min(NAME_BYTES_MAX)];
        match self.dialect {
            Dialect::MySql => format!("`{name}`"),
            Dialect::PostgreSql => format!("\"{}\"", name.to_lowercase()),
        }
    }
}

/// Returns what constraints are named after: nearly always the name of the kind.
fn constraint_name(kind: Kind) -> &'static str {
    match kind {
        Kind::UserInfo => "USER",
        Kind::LayoutDetails => "LAYOUT_DETAIL",
        kind => kind.name(),
    }
}

/// Returns the columns that are unique, or unique together, in the order Kylin counts them.
fn uniques(dialect: Dialect, kind: Kind) -> Vec<Vec<&'static str>> {
    let more: &[&[&str]] = match kind {
        Kind::Project | Kind::System => &[&["name"]],
        Kind::Model => &[&["project", "alias"]],
        Kind::TableModelRelation => &[&["table_identity", "model_uuid"]],
        Kind::ComputeColumn => {
            &[&["project", "table_identity", "column_name"], &["project", "table_identity", "expression_md5"]]
        }
        Kind::UserInfo | Kind::UserGlobalAcl => &[&["username"]],
        Kind::JarInfo => &[&["jar_name"]],
        _ => &[],
    };
    let mut uniques = vec![vec!["uuid"], vec!["meta_key"]];
    uniques.extend(more.iter().map(|columns| columns.to_vec()));
    let is_swapped = matches!(kind, Kind::UserInfo | Kind::UserGlobalAcl | Kind::System | Kind::JarInfo);
    if dialect == Dialect::MySql && is_swapped {
        uniques.swap(1, 2);
    }
    uniques
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_made_as_kylin_makes_it() {
        let find = |dialect, name: &str| {
            let statements = create_tables(dialect, "Meta").unwrap();
            statements.into_iter().filter(|statement| statement.contains(name)).collect::<Vec<_>>()
        };
        let postgres = [
            "CREATE TABLE IF NOT EXISTS \"meta_table_model_relation\" (\n  \
             \"id\" bigserial NOT NULL,\n  \
             \"meta_key\" varchar(255) NOT NULL,\n  \
             \"uuid\" char(36) COLLATE \"C\" NOT NULL,\n  \
             \"project\" varchar(255) NOT NULL,\n  \
             \"table_identity\" varchar(255),\n  \
             \"model_uuid\" char(36) NOT NULL,\n  \
             \"mvcc\" bigint NOT NULL,\n  \
             \"ts\" bigint NOT NULL,\n  \
             \"reserved_filed_1\" varchar(50),\n  \
             \"reserved_filed_2\" bytea,\n  \
             \"reserved_filed_3\" bytea,\n  \
             \"content\" bytea,\n  \
             CONSTRAINT \"meta_table_model_relation_pk\" PRIMARY KEY (\"id\"),\n  \
             CONSTRAINT \"meta_table_model_relation_uk1\" UNIQUE (\"uuid\"),\n  \
             CONSTRAINT \"meta_table_model_relation_uk2\" UNIQUE (\"meta_key\"),\n  \
             CONSTRAINT \"meta_table_model_relation_uk3\" UNIQUE (\"table_identity\", \"model_uuid\")\n)",
            "CREATE INDEX IF NOT EXISTS \"meta_table_model_relation_idx\" ON \"meta_table_model_relation\" \
             (\"model_uuid\")",
        ];
        assert_eq!(find(Dialect::PostgreSql, "table_model_relation"), postgres);
        let mysql = ["CREATE TABLE IF NOT EXISTS `Meta_user_info` (\n  \
             `id` bigint unsigned NOT NULL AUTO_INCREMENT,\n  \
             `meta_key` varchar(255) NOT NULL,\n  \
             `uuid` char(36) COLLATE utf8_bin NOT NULL,\n  \
             `username` varchar(255) NOT NULL,\n  \
             `mvcc` bigint NOT NULL,\n  \
             `ts` bigint NOT NULL,\n  \
             `reserved_filed_1` varchar(50),\n  \
             `reserved_filed_2` longblob,\n  \
             `reserved_filed_3` longblob,\n  \
             `content` longblob NOT NULL,\n  \
             CONSTRAINT `Meta_USER_PK` PRIMARY KEY (`id`),\n  \
             CONSTRAINT `Meta_USER_UK1` UNIQUE (`uuid`),\n  \
             CONSTRAINT `Meta_USER_UK2` UNIQUE (`username`),\n  \
             CONSTRAINT `Meta_USER_UK3` UNIQUE (`meta_key`)\n\
             ) ENGINE=InnoDB DEFAULT CHARSET=utf8 ROW_FORMAT=DYNAMIC"];
        assert_eq!(find(Dialect::MySql, "user_info"), mysql);
        let old = create_tables_old(Dialect::PostgreSql, "meta").unwrap();
        assert_eq!(
            old[0],
            "CREATE TABLE IF NOT EXISTS \"meta\" (\n  \
             \"meta_table_key\" varchar(255) COLLATE \"C\" PRIMARY KEY,\n  \
             \"meta_table_content\" bytea,\n  \
             \"meta_table_ts\" bigint,\n  \
             \"meta_table_mvcc\" bigint\n)"
        );
        assert!(old[1].contains("\"instance\" varchar(100)") && !old[1].contains("diff_flag"), "{}", old[1]);
    }

    #[test]
    fn all_tables_are_made_once() {
        for dialect in [Dialect::PostgreSql, Dialect::MySql] {
            let statements = create_tables(dialect, "kylin_metadata").unwrap();
            let mut names: Vec<_> = statements
                .iter()
                .filter_map(|statement| statement.strip_prefix("CREATE TABLE IF NOT EXISTS ")?.split(' ').next())
                .collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), 30 + 1 + 3);
        }
    }

    #[test]
    fn identifiers_that_need_quotes_are_refused() {
        for identifier in
            ["", "a-b", "a b", "a\"b", "a`b", "a.b", "a'b", "1a", "ä", "a123456789b123456789c123456789d123"]
        {
            assert!(create_tables(Dialect::PostgreSql, identifier).is_err(), "{identifier}");
            assert_eq!(create_tables_old(Dialect::MySql, identifier).is_err(), identifier != "1a", "{identifier}");
        }
    }
}
