//! From the url of a database, and what the environment adds to it, to the store in it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use metastash::endpoint::location::Located;
use metastash::endpoint::sql::{SqlOptions, SqlStore};
use metastash::platform::kylin::database::{Database, password_from_pgpass};
use metastash::platform::kylin::layout::{Layout, Level};
use metastash::platform::kylin::secret::Secret;
use metastash::platform::kylin::tables::Dialect;

use super::args::{Global, LayoutName};
use super::exit::{Refusal, Usage};
use super::values::variable;

/// Opens the store in a database, which must be there.
pub(crate) fn open(database: Database, global: &Global) -> Result<Located> {
    let store = SqlStore::open(with_environment(database)?, options(global, false)?)?;
    Ok(located(store))
}

/// Opens the store in a database to restore a snapshot of the layout `wanted`.
pub(crate) fn open_target(database: Database, global: &Global, create_tables: bool, wanted: &str) -> Result<Located> {
    let options = options(global, create_tables)?;
    Ok(located(SqlStore::open_target(with_environment(database)?, options, wanted)?))
}

fn located(store: SqlStore) -> Located {
    let connected = store.connected();
    Located { store: Box::new(store), place: None, connected: Some(connected) }
}

fn options(global: &Global, create_tables: bool) -> Result<SqlOptions> {
    let layout = match global.layout {
        None => None,
        Some(LayoutName::KylinOld) => Some(Layout::Old),
        Some(LayoutName::KylinNew | LayoutName::KylinNewBackup) => Some(Layout::New(Level::Folder)),
        Some(LayoutName::Plain) => {
            return Err(Usage("--layout: there are no plain files in a database".to_owned()).into());
        }
    };
    let instance = format!("{}:0000", gethostname::gethostname().to_string_lossy());
    Ok(SqlOptions { layout, create_tables, instance })
}

/// Fills in user and password from where the clients of the databases look for them.
fn with_environment(mut database: Database) -> Result<Database> {
    let (user, password) = match database.dialect {
        Dialect::PostgreSql => ("PGUSER", "PGPASSWORD"),
        Dialect::MySql => ("MYSQL_USER", "MYSQL_PWD"),
    };
    if database.username.is_empty() {
        let name = variable(user).or_else(|| variable("USER")).or_else(|| variable("LOGNAME"));
        database.username = name.ok_or_else(|| Usage("the url of the database names no user".to_owned()))?;
    }
    if database.password.is_none() {
        database.password = variable(password).map(Secret::new);
    }
    if database.password.is_none() && database.dialect == Dialect::PostgreSql {
        database.password = from_pgpass(&database)?;
    }
    Ok(database)
}

fn from_pgpass(database: &Database) -> Result<Option<Secret>> {
    let named = variable("PGPASSFILE").map(PathBuf::from);
    let Some(path) = named.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".pgpass"))) else { return Ok(None) };
    let Ok(metadata) = fs::metadata(&path) else { return Ok(None) };
    if !metadata.is_file() {
        return Ok(None);
    }
    if metadata.mode() & 0o077 != 0 {
        // libpq passes over such a file with a warning, and then the password is said to be wrong.
        return Err(Refusal {
            message: format!("the password file {} may be read by others", path.display()),
            hint: format!("chmod 600 {}", path.display()),
            code: 1,
        }
        .into());
    }
    let content = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let find = |(host, port): &(String, u16)| {
        password_from_pgpass(&content, host, *port, &database.database, &database.username)
    };
    Ok(database.hosts.iter().find_map(find))
}
