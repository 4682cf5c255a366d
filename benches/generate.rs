//! Makes metadata trees to try backups on, and lets days pass in them.

#![forbid(unsafe_code)]
// The summary line is what this program prints.
#![allow(clippy::print_stdout)]

#[path = "kylin_tree/mod.rs"]
mod kylin_tree;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, Parser, Subcommand};

use kylin_tree::{Churn, Layout, Shape};

/// Make a synthetic tree of Kylin 5 metadata, or change one as a day of work would
#[derive(Parser)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:\n  generate --documents 101110 --seed 1 tree\n  generate churn --day 1 tree"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    generate: Option<Generate>,
}

#[derive(Args)]
struct Generate {
    /// How many documents to write
    #[arg(long, value_name = "N", default_value_t = 101_110)]
    documents: u64,
    /// Number that fixes the contents: equal seeds give equal trees
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How many projects; 0 chooses by the number of documents
    #[arg(long, alias = "project", value_name = "N", default_value_t = 0)]
    projects: u32,
    /// Lay the documents out as Kylin did before 5.0.0, which folds many into others
    #[arg(long)]
    old: bool,
    /// Directory to make; it must be empty if it exists
    dir: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Change an existing tree as one day of work would
    #[command(after_help = "Example: generate churn --day 1 tree")]
    Churn(Day),
}

#[derive(Args)]
struct Day {
    /// Which day after the tree's end, from 1; days are applied in order
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    day: u32,
    /// Number that fixes what changes
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Fraction of the documents that is rewritten
    #[arg(long, value_name = "F", default_value_t = 0.006, value_parser = fraction)]
    modified: f64,
    /// Fraction of the documents that is added
    #[arg(long, value_name = "F", default_value_t = 0.003, value_parser = fraction)]
    added: f64,
    /// Fraction of the documents that is removed
    #[arg(long, value_name = "F", default_value_t = 0.001, value_parser = fraction)]
    removed: f64,
    /// Directory made by this program
    dir: PathBuf,
}

fn fraction(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("expected a fraction from 0 to 1".to_owned()),
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match (&cli.command, &cli.generate) {
        (Some(Command::Churn(day)), _) => churn(day),
        (None, Some(new)) => match free(&new.dir) {
            Ok(true) => generate(new),
            Ok(false) => {
                eprintln!("error: {} exists and is not empty: name a new directory", new.dir.display());
                return ExitCode::from(2);
            }
            Err(error) => Err(error),
        },
        (None, None) => unreachable!("clap requires DIR when there is no subcommand"),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether a directory does not exist or is empty.
fn free(dir: &Path) -> io::Result<bool> {
    match fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

fn generate(new: &Generate) -> io::Result<()> {
    let started = Instant::now();
    let layout = if new.old { Layout::Old } else { Layout::New };
    let shape = Shape { documents: new.documents, seed: new.seed, projects: new.projects, layout };
    let written = kylin_tree::generate(&new.dir, &shape)?;
    println!(
        "{} documents, {} bytes in {} ({:.1} s)",
        written.documents,
        written.bytes,
        new.dir.display(),
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

fn churn(day: &Day) -> io::Result<()> {
    let started = Instant::now();
    let fractions = Churn { seed: day.seed, modified: day.modified, added: day.added, removed: day.removed };
    let done = kylin_tree::churn(&day.dir, day.day, &fractions)?;
    println!(
        "day {}: {} modified, {} added, {} removed, {} bytes written ({:.1} s)",
        day.day,
        done.modified,
        done.added,
        done.removed,
        done.bytes,
        started.elapsed().as_secs_f64()
    );
    Ok(())
}
