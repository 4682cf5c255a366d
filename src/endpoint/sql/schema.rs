//! Which tables there are, and which columns they really have: released versions of Kylin differ, and none alters a table.

use std::collections::{BTreeMap, BTreeSet};

use super::session::{Cell, Param, Session, SqlResult, failed, marks, quoted};
use crate::endpoint::{Error, Result};
use crate::platform::kylin::database::Database;
use crate::platform::kylin::kind::{self, Kind};
use crate::platform::kylin::layout::{Layout, Level};
use crate::platform::kylin::tables::side::{self, SideTable};
use crate::platform::kylin::tables::{Column, Dialect, Release};

/// The columns that every table of documents of the new generation has.
const COLUMNS: [&str; 5] = ["id", "meta_key", "mvcc", "ts", "content"];
/// Those of the table of the old generation.
const OLD_COLUMNS: [&str; 4] = ["meta_table_key", "meta_table_content", "meta_table_ts", "meta_table_mvcc"];
/// Columns of the log that must be there.
const LOG_COLUMNS: [&str; 6] = ["id", "meta_key", "meta_content", "meta_ts", "meta_mvcc", "unit_id"];

/// What the rows of a table are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// Documents of one kind.
    Documents(Kind),
    /// All documents of the old generation.
    Old,
    /// What Kylin's tool puts into folders beside the documents.
    Side(SideTable),
}

/// A table that is there.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub holds: Holds,
    pub name: String,
    pub columns: Vec<Column>,
    /// Those of the columns that hold bytes, not text, by their names.
    pub bytes: BTreeSet<String>,
}

impl Table {
    /// Tells whether a column holds bytes, not text.
    pub(super) fn is_bytes(&self, column: &str) -> bool {
        self.bytes.contains(&column.to_lowercase())
    }

    pub(super) fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|found| found.name == column)
    }

    /// Returns the second part of the paths of its rows.
    pub(super) fn folder(&self) -> &'static str {
        match self.holds {
            Holds::Documents(kind) => kind.name(),
            Holds::Old => "",
            Holds::Side(side) => side.folder(),
        }
    }

    /// Returns the name of the column that rows are told apart by, and of that of the content.
    pub(super) fn key_and_content(&self) -> (&'static str, &'static str) {
        match self.holds {
            Holds::Documents(_) => ("meta_key", "content"),
            Holds::Old => (OLD_COLUMNS[0], OLD_COLUMNS[1]),
            Holds::Side(_) => ("id", ""),
        }
    }
}

/// The tables of one Kylin.
#[derive(Debug, Clone)]
pub(super) struct Schema {
    pub dialect: Dialect,
    pub layout: Layout,
    pub release: Release,
    pub tables: Vec<Table>,
    /// The table of the log of changes, if it is there.
    pub log: Option<Table>,
    /// Whether there are tables of the other generation, too, which are not read.
    pub has_both: bool,
    /// Tables of what is beside the documents that are not there, or not for this user to see.
    pub lacking: Vec<String>,
}

impl Schema {
    /// Returns what a restore will make: tables without columns, which are looked at when they are there.
    pub(super) fn planned(database: &Database, layout: Layout) -> Self {
        let mut tables = Vec::new();
        let mut add = |holds, name| tables.push(Table { holds, name, columns: Vec::new(), bytes: BTreeSet::new() });
        if layout == Layout::Old {
            add(Holds::Old, database.identifier.clone());
        } else {
            kind::ALL
                .into_iter()
                .filter(|kind| kind.has_table())
                .for_each(|kind| add(Holds::Documents(kind), String::new()));
            side::ALL.into_iter().for_each(|side| add(Holds::Side(side), String::new()));
        }
        let (dialect, release) = (database.dialect, Release::V502);
        Self { dialect, layout, release, tables, log: None, has_both: false, lacking: Vec::new() }
    }

    pub(super) fn table(&self, number: u8) -> &Table {
        &self.tables[usize::from(number)]
    }

    /// Returns the number of the table whose rows have this second part in their paths.
    pub(super) fn table_of_folder(&self, folder: &[u8]) -> Option<u8> {
        let found = self.tables.iter().position(|table| table.folder().as_bytes() == folder)?;
        u8::try_from(found).ok()
    }

    pub(super) fn quoted(&self, name: &str) -> String {
        quoted(self.dialect, name)
    }

    /// Returns a column's name as it is written: those of the old generation are not in lower case everywhere.
    pub(super) fn column(&self, table: &Table, column: &str) -> String {
        if table.holds == Holds::Old { column.to_owned() } else { self.quoted(column) }
    }

    /// Tells whether the tables are of the old generation.
    pub(super) fn is_old(&self) -> bool {
        self.layout == Layout::Old
    }
}

/// What there is in a database.
pub(super) enum Found {
    /// No table of a Kylin of this identifier.
    Nothing,
    Schema(Box<Schema>),
}

/// Looks at the tables of an identifier. Where both generations are there, `wanted` decides, or else it is the new one.
pub(super) fn look(session: &mut dyn Session, database: &Database, wanted: Option<Layout>) -> Result<Found> {
    let dialect = database.dialect;
    let identifier = match dialect {
        // Kylin does not quote names, and the server folds them.
        Dialect::PostgreSql => database.identifier.to_lowercase(),
        Dialect::MySql => database.identifier.clone(),
    };
    let of = |suffix: &str| format!("{identifier}_{suffix}");
    let kinds = || kind::ALL.into_iter().filter_map(|kind| Some((kind, of(kind.table_suffix()?))));
    let sides = || side::ALL.into_iter().map(|side| (side, of(side.table_suffix())));
    let (log_name, old_log_name) = (of("audit_log_v2"), of("audit_log"));
    let mut names: Vec<String> = kinds().map(|(_, name)| name).chain(sides().map(|(_, name)| name)).collect();
    names.extend([log_name.clone(), old_log_name.clone(), identifier.clone()]);
    let mut columns =
        read_columns(session, dialect, &names).map_err(|e| failed("look at the tables of", database, e))?;

    let has_new = kinds().any(|(_, name)| columns.contains_key(&name));
    let has_old = columns.get(&identifier).is_some_and(|(columns, _)| has_all(columns, &OLD_COLUMNS));
    let is_old = match wanted {
        Some(Layout::Old) => true,
        Some(Layout::New(_)) => false,
        // A few tables of the new one beside the old may be what is left of it: then the old one is history.
        None => has_old && !has_new,
    };
    if if is_old { !has_old } else { !has_new } {
        return Ok(Found::Nothing);
    }
    let mut take = |holds: Holds, name: String, needed: &[&str]| -> Result<Option<Table>> {
        let Some((columns, bytes)) = columns.remove(&name) else { return Ok(None) };
        let table = Table { holds, name, columns, bytes };
        let missing: Vec<&str> = needed.iter().copied().filter(|column| !table.has(column)).collect();
        if missing.is_empty() {
            return Ok(Some(table));
        }
        let (store, columns) = (database.location(), missing.join(", "));
        Err(Error::ForeignTable { store, table: table.name, columns })
    };
    let (mut tables, mut lacking) = (Vec::new(), Vec::new());
    let (layout, release, log) = if is_old {
        tables.extend(take(Holds::Old, identifier, &OLD_COLUMNS)?);
        (Layout::Old, Release::V502, take(Holds::Old, old_log_name, &LOG_COLUMNS)?)
    } else {
        let mut missing = Vec::new();
        for (kind, name) in kinds() {
            match take(Holds::Documents(kind), name.clone(), &COLUMNS)? {
                Some(table) => tables.push(table),
                None => missing.push(name),
            }
        }
        if !missing.is_empty() {
            return Err(Error::MissingTables { store: database.location(), names: missing });
        }
        let table_info = tables.iter().find(|table| table.holds == Holds::Documents(Kind::TableInfo));
        let release = Release::of_table_info(table_info.map_or(&[], |table| &table.columns));
        for (side, name) in sides() {
            match take(Holds::Side(side), name.clone(), &side.columns().collect::<Vec<_>>())? {
                Some(table) => tables.push(table),
                None => lacking.push(name),
            }
        }
        // Permissions go by the UUIDs of projects: these come first.
        tables.sort_by_key(|table| table.holds != Holds::Documents(Kind::Project));
        (Layout::New(Level::Folder), release, take(Holds::Old, log_name, &LOG_COLUMNS)?)
    };
    let has_both = has_new && has_old;
    Ok(Found::Schema(Box::new(Schema { dialect, layout, release, tables, log, has_both, lacking })))
}

/// Tells whether no table of documents of an identifier, of those that are there, has a row.
pub(super) fn holds_nothing(session: &mut dyn Session, database: &Database) -> Result<bool> {
    let fail = |error| failed("look at the tables of", database, error);
    let dialect = database.dialect;
    let of_kind = |kind: Kind| Some(format!("{}_{}", database.identifier, kind.table_suffix()?));
    let names: Vec<String> = kind::ALL.into_iter().filter_map(of_kind).collect();
    for name in read_columns(session, dialect, &names).map_err(fail)?.keys() {
        let sql = format!("SELECT 1 FROM {} LIMIT 1", quoted(dialect, name));
        let mut has_row = false;
        session.query(&sql, &[], &mut |_| has_row = true).map_err(fail)?;
        if has_row {
            return Ok(false);
        }
    }
    Ok(true)
}

fn has_all(columns: &[Column], names: &[&str]) -> bool {
    names.iter().all(|name| columns.iter().any(|column| column.name == *name))
}

/// The columns of each table, and those of them that hold bytes.
type Columns = BTreeMap<String, (Vec<Column>, BTreeSet<String>)>;

fn read_columns(session: &mut dyn Session, dialect: Dialect, names: &[String]) -> SqlResult<Columns> {
    // The catalogue itself answers twenty times faster than the views over it.
    let sql = match dialect {
        Dialect::PostgreSql => format!(
            "SELECT c.relname::text, a.attname::text, a.attnotnull, CASE WHEN t.typname IN ('varchar', 'bpchar') AND \
             a.atttypmod > 4 THEN a.atttypmod - 4 END, t.typname::text FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
             WHERE c.relname IN {} AND c.relkind IN ('r', 'p', 'v', 'f', 'm') AND pg_catalog.pg_table_is_visible(c.oid) \
             AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
            marks(names.len())
        ),
        Dialect::MySql => format!(
            "SELECT TABLE_NAME, COLUMN_NAME, IS_NULLABLE = 'NO', CASE WHEN DATA_TYPE IN ('char', 'varchar') THEN \
             CHARACTER_MAXIMUM_LENGTH END, DATA_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND \
             TABLE_NAME IN {} ORDER BY ORDINAL_POSITION",
            marks(names.len())
        ),
    };
    let params: Vec<Param<'_>> = names.iter().map(|name| Param::Text(name)).collect();
    let mut columns = Columns::new();
    session.query(&sql, &params, &mut |row| {
        let text = |n: usize| row[n].bytes().map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default();
        let column = Column {
            name: text(1).to_lowercase(),
            is_nullable: row[2].int() == Some(0),
            chars_max: row[3].int().and_then(|max| u32::try_from(max).ok()),
        };
        let (of_table, bytes) = columns.entry(text(0)).or_default();
        if matches!(text(4).as_str(), "bytea" | "binary" | "varbinary") || text(4).ends_with("blob") {
            bytes.insert(column.name.clone());
        }
        of_table.push(column);
    })?;
    Ok(columns)
}

/// Returns the identifiers of other Kylins in the database, for a message.
pub(super) fn other_identifiers(session: &mut dyn Session, dialect: Dialect) -> SqlResult<Vec<String>> {
    let sql = match dialect {
        Dialect::PostgreSql => {
            "SELECT c.relname::text, a.attname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a \
             ON a.attrelid = c.oid WHERE a.attname IN ('meta_key', 'meta_table_key') AND c.relkind IN ('r', 'p') AND \
             pg_catalog.pg_table_is_visible(c.oid)"
        }
        Dialect::MySql => {
            "SELECT TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND \
             COLUMN_NAME IN ('meta_key', 'META_TABLE_KEY')"
        }
    };
    let mut found = BTreeSet::new();
    session.query(sql, &[], &mut |row| {
        let text =
            |cell: Cell<'_>| cell.bytes().map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default();
        let (table, column) = (text(row[0]), text(row[1]));
        if column.eq_ignore_ascii_case("meta_table_key") {
            found.insert(table);
        } else if let Some(identifier) = table.strip_suffix("_project") {
            found.insert(identifier.to_owned());
        }
    })?;
    Ok(found.into_iter().collect())
}
