//! The rows of a store at one moment.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::read::SqlReader;
use super::rows::{Row, Rows};
use super::schema::{Holds, Schema, Table};
use super::session::{Cell, Shape};
use super::snapshot::Snapshot;
use super::verify;
use crate::endpoint::{Error, Facts, Listing, LogRecords, Reader, Result, Touched};
use crate::model::clock::unix_ms;
use crate::model::entry::{Encoding, Entry, Stamp};
use crate::model::log::LogPosition;
use crate::model::path::{EntryPath, escape};
use crate::model::scope::Scope;
use crate::monitor::{Monitor, Problem, Severity};
use crate::platform::kylin::content::text_field;
use crate::platform::kylin::encoding::decode;
use crate::platform::kylin::kind::{Home, Kind};
use crate::platform::kylin::layout::{BESIDE, FILES, GLOBAL, Layout, Level, Place, UNPLACED, is_project};
use crate::platform::kylin::tables::Dialect;
use crate::platform::kylin::tables::side::SideTable;

/// Columns of a listed row: table, id, key, project (or UUID of a project), version, time, size.
pub(super) const KEY_SHAPE: [Shape; 7] =
    [Shape::Int, Shape::Int, Shape::Bytes, Shape::Bytes, Shape::Int, Shape::Int, Shape::Int];

/// Documents of projects larger than this do not occur.
const PROJECT_BYTES_MAX: u64 = 1 << 20;

/// A listing of rows.
pub(super) struct SqlListing {
    pub snapshot: Snapshot,
    pub schema: Schema,
    store: String,
    scope: Scope,
    pub rows: Rows,
    problems: Vec<Problem>,
    remarks: Mutex<BTreeMap<u32, String>>,
    /// What is odd about the store as a whole.
    of_store: Vec<Problem>,
    /// Where in the audit log a listing of changes ends.
    pub position: Option<LogPosition>,
    /// What the listing speaks of, if not of all.
    pub touched: Option<Vec<Touched>>,
}

/// Turns rows into a listing.
pub(super) struct Filling<'a> {
    schema: &'a Schema,
    rows: Rows,
    problems: Vec<Problem>,
    remarks: BTreeMap<u32, String>,
    /// Projects by their UUIDs; nothing for a UUID that several have.
    owners: HashMap<Vec<u8>, Option<Vec<u8>>>,
    /// Permissions, which wait until all projects are known: table, key, id, version, time, size.
    permissions: Vec<(u8, Vec<u8>, i64, i64, i64, u64)>,
    knows_projects: bool,
    /// What the path of a row begins with, made anew for each.
    head: Vec<u8>,
    /// Keys of the old generation that were taken, where some may come twice.
    seen: HashSet<Vec<u8>>,
}

impl<'a> Filling<'a> {
    pub(super) fn new(schema: &'a Schema) -> Self {
        Self {
            schema,
            rows: Rows::new(),
            problems: Vec::new(),
            remarks: BTreeMap::new(),
            owners: HashMap::new(),
            permissions: Vec::new(),
            knows_projects: false,
            head: Vec::new(),
            seen: HashSet::new(),
        }
    }

    /// Takes a listed row.
    pub(super) fn push(&mut self, cells: &[Cell<'_>]) {
        let table = u8::try_from(cells[0].int().unwrap_or_default()).unwrap_or_default();
        let number = |n: usize| cells[n].int().unwrap_or_default();
        let (key, project) = (cells[2].bytes().unwrap_or_default(), cells[3].bytes().unwrap_or_default());
        let row = Row {
            table,
            name: key,
            id: number(1),
            mvcc: number(4),
            time_ms: number(5),
            size: u64::try_from(number(6)).unwrap_or_default(),
        };
        match self.schema.table(table).holds {
            Holds::Old => self.push_old(&row),
            holds => self.push_new(&row, holds, project),
        }
    }

    fn push_new(&mut self, row: &Row<'_>, holds: Holds, project: &[u8]) {
        if !is_key(row.name) {
            return self.unusable(row, "its key can be no path");
        }
        let home = match holds {
            Holds::Documents(kind) => kind.facts().home,
            _ => Home::Field("project"),
        };
        match home {
            Home::Global => drop(self.place(row, GLOBAL.as_bytes())),
            Home::Key => {
                let uuid = project.trim_ascii_end();
                if !uuid.is_empty() && !self.knows_projects {
                    let owner = self.owners.entry(uuid.to_vec());
                    owner.and_modify(|owner| *owner = None).or_insert_with(|| Some(row.name.to_vec()));
                }
                let project = if is_project(row.name) { row.name } else { UNPLACED.as_bytes() };
                self.place(row, project);
            }
            Home::ProjectUuid => {
                self.permissions.push((row.table, row.name.to_vec(), row.id, row.mvcc, row.time_ms, row.size));
            }
            Home::Field(_) if is_project(project) || project == GLOBAL.as_bytes() => drop(self.place(row, project)),
            Home::Field(_) => {
                let what = format!("`{}` can be no project: its project can't be told", escape(project));
                if let Some(n) = self.place(row, UNPLACED.as_bytes()) {
                    self.remarks.insert(n, what);
                }
            }
        }
    }

    fn place(&mut self, row: &Row<'_>, project: &[u8]) -> Option<u32> {
        let folder = self.schema.table(row.table).folder();
        let mut head = std::mem::take(&mut self.head);
        head.clear();
        head.extend_from_slice(project);
        head.push(b'/');
        head.extend_from_slice(folder.as_bytes());
        let added = self.add(row, &head);
        self.head = head;
        added
    }

    fn add(&mut self, row: &Row<'_>, head: &[u8]) -> Option<u32> {
        let added = self.rows.push(row, head);
        if added.is_none() {
            self.unusable(row, "there is another row of this key");
        }
        added
    }

    /// Takes a row of the old generation, whose key is the name of a file.
    fn push_old(&mut self, row: &Row<'_>) {
        let name = row.name.strip_prefix(b"/").and_then(|name| EntryPath::new(name).ok());
        let Some(name) = name else { return self.unusable(row, "its key can be no path") };
        let project = match Layout::Old.place(&name) {
            Place::OfProject(uuid) => self.owners.get(&*uuid).cloned().flatten(),
            _ => None,
        };
        let path = Layout::Old.path_in(&name, project.as_deref());
        self.add(&Row { name: path.as_bytes(), ..*row }, b"");
    }

    /// Takes a listed row, unless it was taken before.
    pub(super) fn push_once(&mut self, cells: &[Cell<'_>]) {
        let table = u8::try_from(cells[0].int().unwrap_or_default()).unwrap_or_default();
        let key = cells[2].bytes().unwrap_or_default();
        let is_known = match self.schema.table(table).holds {
            // Under which path is only found out when it is pushed, and there are few that are asked for twice.
            Holds::Old => !self.seen.insert(key.to_vec()),
            _ => self.rows.find(table, key).is_some() || self.permissions.iter().any(|permission| permission.1 == key),
        };
        if !is_known {
            self.push(cells);
        }
    }

    /// Finds out which project has which UUID, where not all rows are listed or the rows do not tell.
    pub(super) fn learn_projects(&mut self, snapshot: &Snapshot, schema: &Schema) -> Result<()> {
        if !self.owners.is_empty() {
            return Ok(());
        }
        let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let bytes = |cell: Cell<'_>| cell.bytes().unwrap_or_default().to_vec();
        if schema.is_old() {
            // `_` stands for any character here: what comes too much has no UUID of a project.
            let name = schema.quoted(&schema.table(0).name);
            let sql = format!(
                "SELECT META_TABLE_KEY, META_TABLE_CONTENT FROM {name} WHERE META_TABLE_KEY LIKE '/_global/project/%'"
            );
            snapshot.run(|session| session.query(&sql, &[], &mut |row| found.push((bytes(row[0]), bytes(row[1])))))?;
            for (key, stored) in found {
                let mut content = Vec::new();
                // What can't be decoded is told when it is read.
                if decode(&stored, PROJECT_BYTES_MAX, &mut content).is_ok() {
                    self.own(&key, &content);
                }
            }
            return Ok(());
        }
        let Some(number) = schema.table_of_folder(Kind::Project.name().as_bytes()) else { return Ok(()) };
        let sql = format!("SELECT meta_key, uuid FROM {}", schema.quoted(&schema.table(number).name));
        snapshot.run(|session| session.query(&sql, &[], &mut |row| found.push((bytes(row[0]), bytes(row[1])))))?;
        for (project, uuid) in found {
            let owner = self.owners.entry(uuid.trim_ascii_end().to_vec());
            owner.and_modify(|owner| *owner = None).or_insert(Some(project));
        }
        // Rows of projects that are listed, too, say the same again.
        self.knows_projects = true;
        Ok(())
    }

    /// Says which project of the old generation has a UUID: permissions go by it.
    fn own(&mut self, key: &[u8], content: &[u8]) {
        let project = key.rsplit(|byte| *byte == b'/').next().and_then(|file| file.strip_suffix(b".json"));
        if let (Some(project), Ok(uuid)) = (project, text_field(content, "uuid")) {
            let owner = self.owners.entry(uuid.as_bytes().to_vec());
            owner.and_modify(|owner| *owner = None).or_insert_with(|| Some(project.to_vec()));
        }
    }

    fn unusable(&mut self, row: &Row<'_>, what: &str) {
        let table = &self.schema.table(row.table).name;
        let path = format!("{table}, key `{}`", escape(row.name));
        self.problems.push(Problem { severity: Severity::Unread, path, what: what.to_owned() });
    }

    /// Returns the listing, when all rows were taken.
    pub(super) fn finish(
        mut self,
        snapshot: Snapshot,
        schema: Schema,
        store: String,
        scope: Scope,
        monitor: &dyn Monitor,
    ) -> SqlListing {
        for (table, key, id, mvcc, time_ms, size) in std::mem::take(&mut self.permissions) {
            let row = Row { table, name: &key, id, mvcc, time_ms, size };
            match self.owners.get(&key).cloned() {
                Some(Some(project)) if is_project(&project) => drop(self.place(&row, &project)),
                Some(None) => {
                    if let Some(n) = self.place(&row, GLOBAL.as_bytes()) {
                        let what = "several projects have this UUID: whose permissions these are can't be told";
                        self.remarks.insert(n, what.to_owned());
                    }
                }
                _ => drop(self.place(&row, GLOBAL.as_bytes())),
            }
        }
        self.rows.sort();
        self.problems.iter().for_each(|problem| monitor.problem(problem));
        monitor.advance(self.rows.len() as u64);
        let Self { rows, problems, remarks, .. } = self;
        let remarks = Mutex::new(remarks);
        let (position, touched, of_store) = (None, None, Vec::new());
        SqlListing { snapshot, schema, store, scope, rows, problems, remarks, of_store, position, touched }
    }
}

/// Tells whether a key can be a part of a path.
pub(super) fn is_key(key: &[u8]) -> bool {
    !matches!(key, b"" | b"." | b"..") && key.len() <= 4096 && !key.iter().any(|byte| matches!(byte, b'/' | 0))
}

/// Returns the query that lists the rows of a table, in the shape of [`KEY_SHAPE`] and `more` columns; `below` is its end, if
/// it has one.
pub(super) fn key_query(schema: &Schema, number: u8, table: &Table, more: &[&str], below: &str) -> String {
    let text = |column: &str| match schema.dialect {
        Dialect::PostgreSql => format!("{column}::text"),
        // Bytes are not converted, or what is no UTF-8 in them would be lost.
        Dialect::MySql if table.is_bytes(column) => column.to_owned(),
        // Columns of several collations and character sets are brought to one.
        Dialect::MySql => format!("CAST(CONVERT({column} USING utf8mb4) AS BINARY)"),
    };
    let int = |column: &str| match schema.dialect {
        Dialect::PostgreSql => format!("{column}::int8"),
        Dialect::MySql => column.to_owned(),
    };
    let (id, key, project, version, time, size) = match table.holds {
        Holds::Old => (
            int("0"),
            text("META_TABLE_KEY"),
            "NULL".to_owned(),
            "META_TABLE_MVCC",
            "META_TABLE_TS",
            "META_TABLE_CONTENT",
        ),
        Holds::Documents(Kind::Project) => (int("id"), text("meta_key"), text("uuid"), "mvcc", "ts", "content"),
        Holds::Documents(_) => {
            let project = if table.has("project") { text("project") } else { "NULL".to_owned() };
            (int("id"), text("meta_key"), project, "mvcc", "ts", "content")
        }
        Holds::Side(SideTable::JobInfo) => {
            (int("id"), text("job_id"), text("project"), "mvcc", "update_time", "job_content")
        }
        Holds::Side(SideTable::FavoriteRule) => {
            (int("id"), text("id"), text("project"), "mvcc", "update_time", "conds")
        }
        Holds::Side(SideTable::QueryHistoryOffset) => {
            let key = match schema.dialect {
                Dialect::PostgreSql => "id || '_' || type".to_owned(),
                Dialect::MySql => text("CONCAT(id, '_', type)"),
            };
            (int("id"), key, text("project"), "mvcc", "update_time", "type")
        }
    };
    let or_zero = |column: &str| int(&format!("COALESCE({column}, 0)"));
    let (version, time) = (or_zero(version), or_zero(time));
    let number = int(&number.to_string());
    let size = int(&format!("COALESCE(OCTET_LENGTH({size}), 0)"));
    let name = schema.quoted(&table.name);
    let more: String = more.iter().map(|column| format!(", {column}")).collect();
    format!("SELECT {number}, {id}, {key}, {project}, {version}, {time}, {size}{more} FROM {name}{below}")
}

impl SqlListing {
    /// Notes something odd about a document that is kept all the same.
    pub(super) fn remark(&self, n: u32, what: String) {
        self.remarks.lock().unwrap_or_else(PoisonError::into_inner).insert(n, what);
    }

    /// Notes something odd about the store as a whole.
    pub(super) fn add_remark(&mut self, remark: Problem) {
        self.of_store.push(remark);
    }

    /// Returns the project that was listed; nothing for all.
    pub(super) fn scope_prefix(&self) -> Option<&[u8]> {
        self.scope.prefix()
    }

    pub(super) fn is_in_scope(&self, n: usize) -> bool {
        let Some(project) = self.scope.prefix() else { return true };
        if self.schema.is_old() {
            return self.rows.path(n).project() == Some(project);
        }
        self.rows.head(n).strip_prefix(project).is_some_and(|rest| rest.first() == Some(&b'/'))
    }

    /// Returns the row that has a path, or the place of it.
    pub(super) fn find_row(&self, path: &EntryPath) -> Option<usize> {
        if self.schema.is_old() {
            return self.rows.find(0, path.as_bytes()).or_else(|| self.find_permissions(path));
        }
        let parts: Vec<&[u8]> = path.parts().collect();
        let [_, folder, key] = parts[..] else { return None };
        let table = self.schema.table_of_folder(folder)?;
        let found = self.rows.find(table, key)?;
        // Two projects have nothing in common in that their rules have, or had, the same id.
        let is_of_project = matches!(
            self.schema.table(table).holds,
            Holds::Side(SideTable::FavoriteRule | SideTable::QueryHistoryOffset)
        );
        (!is_of_project || self.rows.path(found) == *path).then_some(found)
    }

    /// Returns the row of the old generation that has the name of some permissions, though it is kept at another path: only
    /// the document of a project tells that they are its own.
    fn find_permissions(&self, path: &EntryPath) -> Option<usize> {
        let name = Layout::Old.name_of(path)?;
        let Place::OfProject(uuid) = Layout::Old.place(&name) else { return None };
        self.rows.find(0, name.as_bytes()).or_else(|| {
            let mut all = 0..self.rows.len();
            all.find(|n| {
                self.rows.name(*n).ends_with(&uuid) && Layout::Old.name_of(&self.rows.path(*n)).as_ref() == Some(&name)
            })
        })
    }
}

impl Listing for SqlListing {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn path(&self, n: usize) -> EntryPath {
        self.rows.path(n)
    }

    fn facts(&self, n: usize) -> Facts {
        let (size, encoding) = (Some(self.rows.size(n)), self.rows.encoding(n));
        Facts { size, mode: None, encoding, stamp: self.rows.stamp(n) }
    }

    fn proves(&self, n: usize, entry: &Entry) -> bool {
        entry.document().is_some() && entry.stamp.proves_unchanged(&self.rows.stamp(n))
    }

    fn numbers(&self) -> Box<dyn Iterator<Item = u32> + '_> {
        let all = 0..u32::try_from(self.rows.len()).expect("rows are numbered in 32 bits");
        Box::new(all.filter(|n| self.is_in_scope(*n as usize)))
    }

    fn in_order(&self) -> Box<dyn Iterator<Item = u32> + '_> {
        Box::new(self.rows.order().iter().copied().filter(|n| self.is_in_scope(*n as usize)))
    }

    fn find(&self, path: &EntryPath, near: usize) -> Option<usize> {
        self.rows.find_near(path, near).or_else(|| self.find_row(path))
    }

    fn recall(&self, n: usize, path: &EntryPath) -> bool {
        // Permissions move with their project, and whoever writes without Kylin may move anything, with no new version.
        self.rows.is_at(n, path)
    }

    fn remarks(&self) -> Vec<Problem> {
        let remarks = self.remarks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut remarks: Vec<(EntryPath, String)> =
            remarks.iter().map(|(n, what)| (self.path(*n as usize), what.clone())).collect();
        remarks.sort_unstable();
        let problem =
            |(path, what): (EntryPath, String)| Problem { severity: Severity::Remark, path: path.to_string(), what };
        self.of_store.iter().cloned().chain(remarks.into_iter().map(problem)).collect()
    }

    fn obstacles(&self) -> &[EntryPath] {
        &[]
    }

    fn hides(&self, _: &EntryPath) -> bool {
        false
    }

    fn has_place(&self, path: &EntryPath) -> bool {
        if self.schema.is_old() {
            return Layout::Old.name_of(path).is_some();
        }
        let parts: Vec<&[u8]> = path.parts().collect();
        let [project, folder, _] = parts[..] else { return false };
        // What only files can be, and the offset of a backup, are in no table.
        ![UNPLACED, FILES, BESIDE].map(str::as_bytes).contains(&project)
            && !Layout::New(Level::Folder).is_of_backup(path)
            && self.schema.table_of_folder(folder).is_some()
    }

    fn problems(&self) -> &[Problem] {
        &self.problems
    }

    fn is_racy(&self, _: &Stamp) -> bool {
        // A version moves with each change, however fast they follow.
        false
    }

    fn unproven(&self, entries: &[Entry], monitor: &dyn Monitor) -> Result<Vec<usize>> {
        verify::unproven(&self.snapshot, &self.schema, entries, monitor)
    }

    fn reader(&self) -> Box<dyn Reader + '_> {
        Box::new(SqlReader::new(self))
    }

    fn check_still_there(&self) -> Result<()> {
        // All of it was read as it was at one moment.
        Ok(())
    }

    fn position(&self, since: Option<&LogPosition>) -> Result<Option<LogPosition>> {
        match &self.position {
            Some(position) => Ok(Some(position.clone())),
            None => super::log::position(&self.snapshot, &self.schema, since, unix_ms(SystemTime::now())),
        }
    }

    fn as_any(&self) -> Option<&dyn std::any::Any> {
        Some(self)
    }

    fn touched(&self) -> Option<&[Touched]> {
        self.touched.as_deref()
    }

    fn log_since<'a>(&'a self, since: &LogPosition) -> Result<Option<LogRecords<'a>>> {
        super::log::records_since(self, since)
    }
}

/// Says that a row which was listed is not there, though nothing can have changed.
pub(super) fn vanished(listing: &SqlListing, n: usize) -> Error {
    let what = format!("{} was listed and can't be read", listing.path(n));
    Error::Damaged { store: listing.store.clone(), what }
}

/// Returns what the content of a row is held as.
pub(super) fn encoding_of(is_encoded: bool) -> Encoding {
    if is_encoded { Encoding::Kylin } else { Encoding::Plain }
}
