//! The commands and what each of them takes: their doc comments are the help texts. What one takes alone stands with it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use metastash::endpoint::location::Reading;
use metastash::platform::kylin::layout::{Layout, Level};

use super::backup::BackupArgs;
use super::browse::{CatArgs, LsArgs};
use super::check::CheckArgs;
use super::config::ConfigArgs;
use super::copy::CopyArgs;
use super::diff::DiffArgs;
use super::doctor::DoctorArgs;
use super::export::ExportArgs;
use super::find::FindArgs;
use super::forget::ForgetArgs;
use super::import::ImportArgs;
use super::log::LogArgs;
use super::migrate::MigrateArgs;
use super::prune::PruneArgs;
use super::repair::RepairArgs;
use super::restore::{RestoreArgs, UndoArgs};
use super::snapshots::SnapshotsArgs;
use super::values::Side;
use super::watch::WatchArgs;

/// Back up, compare and restore the metadata of data platforms
///
/// Keeps snapshots of a store (a directory of documents) in a repository: deduplicated, compressed, without locks.
#[derive(Debug, Parser)]
#[command(
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "Exit codes: 0 ok · 1 error · 2 usage · 3 finished, some documents unread · 4 differences found \
                  (with --exit-code) · 10 no repository · 13 integrity failure · 14 refused by a guard · 15 target \
                  changed since the plan · 17 format too new · 20 database unreachable · 130/143 interrupted\n\n\
                  Example: metastash backup --store /var/lib/platform/metadata"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Directory of the repository [default: $KYLIN_HOME/meta_backups, or ./meta_backups]
    #[arg(short, long, global = true, env = "METASTASH_REPO", value_name = "DIR", help_heading = "Global options")]
    pub repo: Option<PathBuf>,
    /// The live store: a directory, a zip, postgresql://…, mysql://…, or a metadata url of Kylin [default: as $KYLIN_HOME/conf
    /// says]
    // A url may hold a password, which `--help` would show.
    #[arg(
        short,
        long,
        global = true,
        env = "METASTASH_STORE",
        hide_env_values = true,
        value_name = "STORE",
        help_heading = "Global options"
    )]
    pub store: Option<PathBuf>,
    /// Read settings from NAME.toml in the folder of profiles, or from a file [default: default.toml, if it is there]
    #[arg(long, global = true, env = "METASTASH_PROFILE", value_name = "NAME", help_heading = "Global options")]
    pub profile: Option<String>,
    /// How the names in the store are read, if not as what is found there says
    #[arg(long, global = true, value_name = "LAYOUT", help_heading = "Global options")]
    pub layout: Option<LayoutName>,
    /// Print JSON, one object a line
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// Print errors only
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Global options")]
    pub quiet: bool,
    /// Say more
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub verbose: bool,
}

/// The layouts that a user can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LayoutName {
    /// Names are paths; the first part is the project
    Plain,
    /// Kylin 5.0.0 and later: a folder for each type
    KylinNew,
    /// Kylin 5.0.0 and later, the folder of a backup: documents in `core_meta`, jobs and rules beside it
    KylinNewBackup,
    /// Kylin 5.0-alpha and 5.0-beta: a folder for each project
    KylinOld,
}

impl Global {
    /// Returns how the names in the store are to be read.
    pub(crate) fn reading(&self) -> Reading {
        match self.layout {
            None => Reading::Detect,
            Some(LayoutName::Plain) => Reading::Plain,
            Some(LayoutName::KylinNew) => Reading::Kylin(Layout::New(Level::Core)),
            Some(LayoutName::KylinNewBackup) => Reading::Kylin(Layout::New(Level::Folder)),
            Some(LayoutName::KylinOld) => Reading::Kylin(Layout::Old),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create an empty repository
    ///
    /// `backup` does this by itself when there is none.
    #[command(after_help = "Example: metastash --repo /backups/metadata init")]
    Init,
    /// Take a snapshot of the store
    ///
    /// Documents whose size, times and inode are as in the last snapshot are not read.
    #[command(after_help = "Examples:\n  metastash backup --store /data/metadata\n  \
                            metastash backup --label before-upgrade --tag version=5.0.2\n  \
                            metastash backup --project sales --skip-if-unchanged")]
    Backup(BackupArgs),
    /// List the snapshots, oldest first
    #[command(after_help = "Example: metastash snapshots --project sales")]
    Snapshots(SnapshotsArgs),
    /// List the documents of a snapshot
    #[command(after_help = "Examples:\n  metastash ls latest\n  metastash ls --long 7d41a2:sales/model\n  \
                            metastash ls sales/MODEL --at 2026-11-24T10:00")]
    Ls(LsArgs),
    /// Print one document of a snapshot
    #[command(after_help = "Examples:\n  metastash cat latest:sales/model/orders.json\n  \
                            metastash cat sales/MODEL/orders --at 4711")]
    Cat(CatArgs),
    /// Search snapshots for documents, by path and content
    ///
    /// In the latest snapshot, unless others are named. In several, each content of a document is a line, with the first and
    /// the last snapshot that have it.
    #[command(after_help = "Examples:\n  metastash find 'orders*'\n  \
                            metastash find 'sales/MODEL/*' --pointer /status=BROKEN\n  \
                            metastash find --content SSB.LINEORDER --all")]
    Find(FindArgs),
    /// Show what became of one document: when, by whom, in which transaction
    ///
    /// From the records of the audit log that snapshots of a database keep; from the snapshots themselves where there are
    /// none.
    #[command(after_help = "Example: metastash log sales/MODEL/82fa7671-a935-45f5-8779-85703601f49a")]
    Log(LogArgs),
    /// Show what differs between two snapshots, or between a snapshot and the live store
    ///
    /// Prints `+` for added, `-` for removed, `M` for changed content, `m` for changed permissions only.
    #[command(after_help = "Examples:\n  metastash diff latest~1 latest\n  \
                            metastash diff before-upgrade live --exit-code\n  \
                            metastash diff before-upgrade --content --project sales\n  \
                            metastash diff --at 10:00")]
    Diff(DiffArgs),
    /// Put a snapshot's documents back into the store
    ///
    /// Only what differs is written. What only the store has is kept, unless --after-truncate says otherwise. The store
    /// is saved in a checkpoint first: `metastash undo` puts that back.
    #[command(after_help = "Examples:\n  metastash restore latest --dry-run\n  \
                            metastash restore before-upgrade --after-truncate\n  \
                            metastash restore 7d41a2 --project sales --store /data/metadata\n  \
                            metastash restore --at 2026-11-24T10:00 --project sales")]
    Restore(RestoreArgs),
    /// Put back the store as it was before the last restore
    ///
    /// Restores the last checkpoint of the store, removing what came since. Takes a checkpoint itself, so that a second
    /// undo takes the first one back.
    #[command(after_help = "Example: metastash undo --dry-run")]
    Undo(UndoArgs),
    /// Write a snapshot to a place of its own, as Kylin's tool would have made it
    ///
    /// A folder that Kylin's restore takes: `core_meta` with a file for each document (or a metadata.zip), and beside it jobs,
    /// rules and offsets. A snapshot of the old layout gives a folder of the old layout; one of a plain directory gives that
    /// directory.
    #[command(after_help = "Examples:\n  metastash export latest /tmp/2026-11-22-10-18-49_backup\n  \
                            metastash export before-upgrade /tmp/metadata.zip --format zip --project sales")]
    Export(ExportArgs),
    /// Make backups that Kylin's tool made snapshots
    ///
    /// Takes the folder of a backup, its `core_meta`, a metadata.zip, or a folder with many of them: each
    /// `yyyy-MM-dd-HH-mm-ss_backup` becomes a snapshot with that time and label. What was imported before is passed over.
    #[command(after_help = "Examples:\n  metastash import /kylin/meta_backups\n  \
                            metastash import /tmp/metadata.zip --label from-production")]
    Import(ImportArgs),
    /// Find what is broken in Kylin's metadata
    ///
    /// Documents that Kylin can't load or a database won't take (errors), and references between documents that lead nowhere
    /// (warnings: stores that work have some). Changes nothing.
    #[command(after_help = "Examples:\n  metastash doctor\n  metastash doctor latest --project sales\n  \
                            metastash doctor live --since before-upgrade --exit-code")]
    Doctor(DoctorArgs),
    /// Bring Kylin's metadata from the layout before 5.0.0 to that of 5.0.0 and later
    ///
    /// What Kylin's MigrateKEMetadataTool does, without losing anything: every document of SRC is accounted for, what is
    /// broken or unknown is kept in `_unmigrated`, and the result is checked before it is written. SRC is not changed. To fill
    /// a database, migrate to a snapshot and restore that.
    #[command(after_help = "Examples:\n  metastash migrate /data/kylin_metadata /data/migrated --dry-run\n  \
                            metastash migrate snapshot:before-upgrade snapshot:migrated\n  \
                            metastash migrate metadata.zip migrated.zip\n  \
                            metastash migrate --verify /data/kylin_metadata /data/migrated")]
    Migrate(MigrateArgs),
    /// Do what Kylin's bin/metastore.sh does, with its arguments
    ///
    /// backup [DIR], backup-project PROJECT [DIR], restore DIR [--after-truncate], restore-project PROJECT DIR
    /// [--after-truncate], fetch TARGET [DIR], list FOLDER. DIR is the repository for backups, default
    /// $KYLIN_HOME/meta_backups, and DIR/LABEL one of its snapshots for restores; a backup that Kylin's tool made is
    /// restored as it is.
    #[command(after_help = "Examples:\n  metastash metastore backup\n  \
                            metastash metastore restore $KYLIN_HOME/meta_backups/2026-11-22-10-18-49_backup")]
    Metastore {
        /// The arguments of metastore.sh
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Take a snapshot of the store again and again, until stopped
    ///
    /// Each run is a backup that writes no snapshot when nothing changed, and then forgets what the rules do not keep of its
    /// own host, store and scope. A run that fails is told and tried again. Ends at SIGTERM and Ctrl-C: with 0 while it
    /// waits, with 143 or 130 when a run is interrupted.
    #[command(
        after_help = "Examples:\n  metastash watch --every 5m --keep-last 12 --keep-hourly 24 --keep-daily 30\n  \
                            metastash watch --every 1h --jitter 20% --project sales --tag by=watch"
    )]
    Watch(WatchArgs),
    /// Take snapshots out of sight: those that no rule keeps, or those that are named
    ///
    /// Rules look at backups without a label, for each host, store and scope on its own; the newest stays in any case. Labelled
    /// snapshots go only by name. `forget --undo` puts a snapshot back for a day. Space is freed by `prune`, or with --prune.
    #[command(
        after_help = "Examples:\n  metastash forget --keep-last 3 --keep-daily 14 --keep-monthly 12 --dry-run\n  \
                            metastash forget before-upgrade 7d41a2\n  \
                            metastash forget --undo 7d41a2"
    )]
    Forget(ForgetArgs),
    /// Make room: remove what no snapshot needs any more
    ///
    /// In two phases: what nobody needs is marked, and deleted by a prune that comes a day later, if still nobody needs it.
    /// Packs that are half empty, and very many small ones, are copied together first. Backups may run meanwhile, and other
    /// prunes.
    #[command(after_help = "Examples:\n  metastash prune --dry-run\n  metastash prune --max-unused 10%")]
    Prune(PruneArgs),
    /// Copy snapshots to another repository
    ///
    /// With all that they need and the other repository does not have. They keep their ids and labels; what is there already
    /// is left as it is, so a copy that was cut off simply runs again. Neither repository needs to be left alone meanwhile.
    #[command(after_help = "Examples:\n  metastash copy --all --to /mnt/second/meta_backups\n  \
                            metastash copy before-upgrade latest --to /mnt/usb/kylin")]
    Copy(CopyArgs),
    /// Verify the repository
    ///
    /// Without --read-data: that everything the snapshots refer to exists. With it: that every stored byte is what it
    /// was. Names the documents that damage costs.
    #[command(after_help = "Examples:\n  metastash check\n  metastash check --read-data\n  \
                            metastash check --read-data=3/30   (a thirtieth, on the third day of a month)")]
    Check(CheckArgs),
    /// Mend what can be mended of a damaged repository
    ///
    /// Reads every byte. Copies what is sound of damaged packs to new ones, makes the index again, and writes down which
    /// documents are lost: `snapshots` shows it, until a backup brings them back. Removes nothing that may be of use.
    #[command(after_help = "Examples:\n  metastash repair --dry-run\n  metastash repair --salvage before-upgrade")]
    Repair(RepairArgs),
    /// Show what the repository holds and takes
    #[command(after_help = "Example: metastash stats --json")]
    Stats,
    /// Show which settings hold, and where they come from
    ///
    /// The command line goes before the environment, that before the profile, and that before what is built in.
    #[command(after_help = "Examples:\n  metastash config\n  metastash config forget --profile nightly")]
    Config(ConfigArgs),
    /// Print a completion script for a shell
    #[command(after_help = "Example: metastash completions bash > /etc/bash_completion.d/metastash")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write those of all commands to a folder
    #[command(after_help = "Examples:\n  metastash man | man -l -\n  metastash man /usr/local/share/man/man1")]
    Man {
        /// The folder
        #[arg(value_name = "DIR")]
        folder: Option<PathBuf>,
    },
}

impl Command {
    /// Tells whether the command looks at signals, because it has something to clear away or to say before it ends.
    pub(crate) fn stops_safely(&self) -> bool {
        match self {
            Self::Backup(_)
            | Self::Restore(_)
            | Self::Undo(_)
            | Self::Check(_)
            | Self::Doctor(_)
            | Self::Export(_)
            | Self::Import(_)
            | Self::Migrate(_)
            | Self::Forget(_)
            | Self::Prune(_)
            | Self::Repair(_)
            | Self::Copy(_)
            | Self::Watch(_)
            | Self::Metastore { .. } => true,
            Self::Diff(args) => matches!(args.after, None | Some(Side::Live)) || args.at.at.is_some(),
            Self::Ls(LsArgs { at, .. }) | Self::Cat(CatArgs { at, .. }) => at.at.is_some(),
            Self::Init
            | Self::Snapshots(_)
            | Self::Find(_)
            | Self::Log(_)
            | Self::Stats
            | Self::Config(_)
            | Self::Completions { .. }
            | Self::Man { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        use clap::CommandFactory;
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{} has no example", command.get_name());
        }
    }
}
