//! The terminal: arguments, rendering, progress, exit codes.

mod args;
mod at;
mod backup;
mod browse;
mod check;
mod config;
mod copy;
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
mod profile;
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

use anyhow::Context;
use clap::{ArgMatches, CommandFactory, FromArgMatches};

use args::{Cli, Command};
use output::Output;
use profile::Profile;
use progress::{Progress, Signals};

/// What the arguments, the environment and the profile say.
struct Asked {
    cli: Cli,
    matches: ArgMatches,
    profile: Profile,
}

/// Parses the arguments, runs the command, and returns its exit code.
pub(crate) fn run() -> ExitCode {
    let matches = match profile::with_switches(Cli::command()).try_get_matches() {
        Ok(matches) => matches,
        // Help and messages are about switches as people write them.
        Err(error) => return exit::usage(&Cli::command().try_get_matches().err().unwrap_or(error)),
    };
    let asked = match ask(&matches) {
        Ok(asked) => asked,
        Err(error) => return exit::failure(&error, matches.get_flag("json"), None),
    };
    let cli = &asked.cli;
    let signals = match Signals::catch(cli.command.stops_safely()) {
        Ok(signals) => signals,
        Err(error) => return exit::failure(&error.into(), cli.global.json, None),
    };
    let output = Output::new(&cli.global);
    let progress = Progress::new(&cli.global, &signals);
    let (name, inner) = asked.matches.subcommand().unwrap_or(("", &asked.matches));
    let is_dry = inner.try_get_one::<bool>("dry_run").is_ok_and(|dry| dry == Some(&true));
    let hooks = asked.profile.hooks.of(name, is_dry);
    let result = hooks.around(
        name,
        |code: &exit::Code| code.number(),
        || signals.caught().is_some(),
        || {
            let result = dispatch(&asked, &output, &progress);
            progress.clear();
            result.and_then(|code| output.finish().map(|()| code))
        },
    );
    match result {
        Ok(code) => code.into(),
        Err(error) => {
            // What was said before comes before the last words, also where both go to one file.
            let _ = output.finish();
            exit::failure(&error, cli.global.json, signals.caught())
        }
    }
}

/// Reads the profile, and the arguments again with what it says.
fn ask(matches: &ArgMatches) -> anyhow::Result<Asked> {
    let profile = Profile::load(&Cli::command(), matches)?;
    let with_settings = profile.apply(profile::with_switches(Cli::command()), matches).try_get_matches();
    let matches = with_settings.map_err(|error| exit::Usage(exit::first_paragraph(&error)))?;
    let cli = Cli::from_arg_matches(&matches).map_err(|error| exit::Usage(exit::first_paragraph(&error)))?;
    Ok(Asked { cli, matches, profile })
}

fn dispatch(asked: &Asked, output: &Output, progress: &Progress<'_>) -> anyhow::Result<exit::Code> {
    let cli = &asked.cli;
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
        Command::Watch(args) => watch::run(args, global, &asked.profile.hooks, output, progress),
        Command::Forget(args) => forget::run(args, global, output, progress),
        Command::Prune(args) => prune::run(args, global, output, progress),
        Command::Repair(args) => repair::run(args, global, output, progress),
        Command::Copy(args) => copy::run(args, global, output, progress),
        Command::Check(args) => check::run(args, global, output, progress),
        Command::Stats => stats::run(global, output),
        Command::Config(args) => config::run(args, &Cli::command(), &asked.matches, &asked.profile, output),
        Command::Man { folder } => man(folder.as_deref(), output),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "metastash", &mut script);
            output.bytes(&script)?;
            Ok(exit::Code::Done)
        }
    }
}

/// Prints the manual page of the command, or writes those of all commands to a folder.
fn man(folder: Option<&std::path::Path>, output: &Output) -> anyhow::Result<exit::Code> {
    let command = Cli::command();
    match folder {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            output.bytes(&page)?;
        }
        Some(folder) => {
            let written = clap_mangen::generate_to(command, folder);
            written.with_context(|| format!("cannot write manual pages to {}", folder.display()))?;
            output.say(&format!("wrote the manual pages of all commands to {}", folder.display()))?;
        }
    }
    Ok(exit::Code::Done)
}
