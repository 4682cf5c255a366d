//! The terminal: arguments, rendering, progress, exit codes.

mod args;
mod at;
mod backup;
mod browse;
mod check;
mod database;
mod detail;
mod diff;
mod doctor;
mod exit;
mod export;
mod fetch;
mod find;
mod forget;
mod import;
mod log;
mod metastore;
mod migrate;
mod nodes;
mod open;
mod output;
mod progress;
mod prune;
mod repair;
mod restore;
mod schedule;
mod snapshots;
mod stats;
mod store;
mod values;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Cli, Command};
use output::Output;
use progress::{Progress, Signals};

/// Parses the arguments, runs the command, and returns its exit code.
pub(crate) fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::usage(&error),
    };
    let signals = match Signals::catch(cli.command.stops_safely()) {
        Ok(signals) => signals,
        Err(error) => return exit::failure(&error.into(), cli.global.json, None),
    };
    let output = Output::new(&cli.global);
    let progress = Progress::new(&cli.global, &signals);
    let result = dispatch(&cli, &output, &progress);
    progress.clear();
    match result.and_then(|code| output.finish().map(|()| code)) {
        Ok(code) => code.into(),
        Err(error) => {
            // What was said before comes before the last words, also where both go to one file.
            let _ = output.finish();
            exit::failure(&error, cli.global.json, signals.caught())
        }
    }
}

fn dispatch(cli: &Cli, output: &Output, progress: &Progress<'_>) -> anyhow::Result<exit::Code> {
    let global = &cli.global;
    match &cli.command {
        Command::Init => snapshots::init(global, output),
        Command::Backup(args) => backup::run(args, global, output, progress),
        Command::Snapshots(args) => snapshots::run(args, global, output),
        Command::Ls(args) => browse::ls(args, global, output, progress),
        Command::Cat(args) => browse::cat(args, global, output, progress),
        Command::Find(args) => find::run(args, global, output, progress),
        Command::Log(args) => log::run(args, global, output),
        Command::Diff(args) => diff::run(args, global, output, progress),
        Command::Restore(args) => restore::run(args, global, output, progress),
        Command::Undo(args) => restore::undo(args, global, output, progress),
        Command::Doctor(args) => doctor::run(args, global, output, progress),
        Command::Export(args) => export::run(args, global, output, progress),
        Command::Import(args) => import::run(args, global, output, progress),
        Command::Migrate(args) => migrate::run(args, global, output, progress),
        Command::Metastore { arguments } => metastore::run(arguments, global, output, progress),
        Command::Watch(args) => watch::run(args, global, output, progress),
        Command::Forget(args) => forget::run(args, global, output, progress),
        Command::Prune(args) => prune::run(args, global, output, progress),
        Command::Repair(args) => repair::run(args, global, output, progress),
        Command::Check(args) => check::run(args, global, output, progress),
        Command::Stats => stats::run(global, output),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "metastash", &mut script);
            output.bytes(&script)?;
            Ok(exit::Code::Done)
        }
    }
}
