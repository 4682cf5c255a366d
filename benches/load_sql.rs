//! Puts a metadata tree into a database as Kylin would, and changes rows there as Kylin does.

#![forbid(unsafe_code)]
// The summary line is what this program prints.
#![allow(clippy::print_stdout)]
// Written as the stage of tests: what can't be done ends the program where that is noticed.
#![allow(dead_code, clippy::unwrap_used)]

#[path = "../tests/it/sql/connection.rs"]
mod connection;
#[path = "../tests/it/sql/encoding.rs"]
mod encoding;
#[path = "../tests/it/sql/kylin_client.rs"]
mod kylin_client;
#[path = "../tests/it/sql/kylin_db.rs"]
mod kylin_db;
#[path = "../tests/it/sql/kylin_rows.rs"]
mod kylin_rows;
#[path = "../tests/it/sql/kylin_tables.rs"]
mod kylin_tables;
#[path = "../tests/it/sql/servers.rs"]
mod servers;

use std::path::PathBuf;
use std::time::Instant;

use clap::{Parser, Subcommand, ValueEnum};
use serde_json::json;

use connection::Connection;
use encoding::Compress;
use kylin_client::{KylinClient, now};
use kylin_tables::{Release, new_tables, old_tables};

/// Fill a database with the metadata of Kylin, or change it there
#[derive(Parser)]
#[command(after_help = "Examples:\n  \
    load_sql tree postgresql://kylin:secret@localhost/kylin tree --compress all\n  \
    load_sql change mysql://kylin:secret@localhost/kylin --documents 100")]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// What the names of the tables begin with
    #[arg(long, value_name = "NAME", default_value = kylin_db::ID, global = true)]
    identifier: String,
}

#[derive(Subcommand)]
enum Command {
    /// Make the tables and put a tree into them
    Tree {
        /// An empty database, as postgresql://… or mysql://…
        url: String,
        /// A folder of either layout
        dir: PathBuf,
        /// Which contents to compress
        #[arg(long, value_enum, default_value_t = Which::All)]
        compress: Which,
    },
    /// Rewrite segments in one transaction, with rows in the audit log
    Change {
        /// A database filled by this program
        url: String,
        /// How many to rewrite
        #[arg(long, value_name = "N", default_value_t = 100)]
        documents: usize,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Which {
    All,
    None,
    Mixed,
}

fn main() {
    let cli = Cli::parse();
    let started = Instant::now();
    let count = match cli.command {
        Command::Tree { url, dir, compress } => {
            let mut connection = Connection::open(&url).unwrap();
            let (kind, id) = (connection.kind(), &cli.identifier);
            let is_old = dir.join("_global").exists();
            let tables = if is_old { old_tables(kind, id) } else { new_tables(kind, id, Release::V502) };
            connection.batch(&tables).unwrap();
            let compress = match compress {
                Which::All => Compress::All,
                Which::None => Compress::None,
                Which::Mixed => Compress::Mixed,
            };
            kylin_db::load(&mut connection, id, &dir, compress).unwrap()
        }
        Command::Change { url, documents } => change(&url, &cli.identifier, documents),
    };
    println!("{count} documents ({:.1} s)", started.elapsed().as_secs_f64());
}

/// Rewrites segments from everywhere in the table, compressed if most of it is.
fn change(url: &str, id: &str, count: usize) -> usize {
    let mut connection = Connection::open(url).unwrap();
    let all = connection.query(&format!("SELECT meta_key FROM {id}_segment ORDER BY meta_key"), &[]).unwrap();
    let step = (all.len() / count).max(1);
    let names: Vec<String> =
        all.iter().step_by(step).take(count).map(|row| format!("SEGMENT/{}", row[0].text().unwrap())).collect();
    let first = connection.query(&format!("SELECT content FROM {id}_segment WHERE meta_key = ?"), &[all[0][0].clone()]);
    let mut client = KylinClient::open(url, id).unwrap();
    if !first.unwrap()[0][0].bytes().unwrap().starts_with(b"GZIP") {
        client.compress = Compress::None;
    }
    let rewrite = |unit: &mut kylin_client::Unit<'_>| {
        names.iter().try_for_each(|name| unit.update(name, |json| json["last_modified"] = json!(now())))
    };
    client.transaction("_global", rewrite).unwrap();
    names.len()
}
