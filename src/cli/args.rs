//! The arguments of every command. Their doc comments are the help texts.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use metastash::endpoint::location::Reading;
use metastash::model::log::Moment;
use metastash::model::path::EntryPath;
use metastash::model::scope::Scope;
use metastash::ops::check::Part;
use metastash::platform::kylin::layout::{Layout, Level};
use metastash::repo::snapshot::Reference;

use super::exit::Usage;
use super::find::FindArgs;
use super::forget::ForgetArgs;
use super::migrate::MigrateArgs;
use super::prune::PruneArgs;
use super::repair::RepairArgs;
use super::values::{Place, Side, parse_label, parse_moment, parse_part, parse_path, parse_share, parse_tag};
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
    /// Print a completion script for a shell
    #[command(after_help = "Example: metastash completions bash > /etc/bash_completion.d/metastash")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
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
            | Self::Watch(_)
            | Self::Metastore { .. } => true,
            Self::Diff(args) => matches!(args.after, None | Some(Side::Live)) || args.at.at.is_some(),
            Self::Ls(LsArgs { at, .. }) | Self::Cat(CatArgs { at, .. }) => at.at.is_some(),
            Self::Init | Self::Snapshots(_) | Self::Find(_) | Self::Log(_) | Self::Stats | Self::Completions { .. } => {
                false
            }
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// Back up this project only: what lies below one top-level directory
    #[arg(long, value_name = "NAME", value_parser = Scope::project)]
    pub project: Option<Scope>,
    /// Add a key and value to the snapshot; may be repeated
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = parse_tag)]
    pub tags: Vec<(String, String)>,
    /// Give the snapshot a name of its own
    #[arg(long, value_parser = parse_label)]
    pub label: Option<String>,
    /// Read every document, and verify the stored copy of each
    #[arg(long)]
    pub force: bool,
    /// Write no snapshot when nothing changed since the last one
    #[arg(long)]
    pub skip_if_unchanged: bool,
    /// Back up a store without a single document
    #[arg(long)]
    pub allow_empty: bool,
    #[command(flatten)]
    pub trust: TrustArgs,
    /// Show what would be read, and write nothing
    #[arg(long, short = 'n')]
    pub dry_run: bool,
}

/// How far the word of a database is taken for what changed in it.
#[derive(Debug, Args)]
pub(crate) struct TrustArgs {
    /// List all versions of a database, even where its audit log tells what changed
    #[arg(long)]
    pub no_log: bool,
    /// Of a database, read this share of the contents that seem unchanged, another one each time; 0 for none
    #[arg(long, value_name = "1/N", value_parser = parse_share, default_value = "1/30")]
    pub verify: u64,
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotsArgs {
    /// Only those that hold this project
    #[arg(long, value_name = "NAME", value_parser = Scope::project)]
    pub project: Option<Scope>,
    /// Only those with this tag
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = parse_tag)]
    pub tags: Vec<(String, String)>,
    /// Those that were forgotten and can be put back, instead
    #[arg(long)]
    pub forgotten: bool,
}

/// A moment instead of a snapshot.
#[derive(Debug, Args)]
pub(crate) struct AtArgs {
    /// The state of a database between two snapshots, by its audit log: a time, or the number of a record
    #[arg(long, value_name = "TIME|RECORD", value_parser = parse_moment)]
    pub at: Option<Moment>,
    /// Go on with what is known of the moment where not all is
    #[arg(long, requires = "at")]
    pub allow_gaps: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// The document: its path in snapshots, or its type and key as the audit log has them
    #[arg(value_name = "PATH", value_parser = parse_path)]
    pub path: EntryPath,
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// Snapshot, and optionally a path in it: first digits of an id, a label, `latest` or `latest~N`; with --at, a path only
    #[arg(value_name = "SNAP[:PATH]", required_unless_present = "at")]
    pub place: Option<Place>,
    #[command(flatten)]
    pub at: AtArgs,
    /// This project only
    #[arg(long, value_name = "NAME", value_parser = Scope::project)]
    pub project: Option<Scope>,
    /// Show permissions, size, modification time and content hash
    #[arg(long, short)]
    pub long: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CatArgs {
    /// Snapshot and path of the document; with --at, the path only
    #[arg(value_name = "SNAP:PATH")]
    pub place: Place,
    #[command(flatten)]
    pub at: AtArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// First snapshot; with --at there is none, and B is the only one
    #[arg(value_name = "A", required_unless_present = "at")]
    pub before: Option<Reference>,
    /// Second snapshot, or `live` for the store as it is now [default: live]
    #[arg(value_name = "B")]
    pub after: Option<Side>,
    #[command(flatten)]
    pub at: AtArgs,
    /// This project only
    #[arg(long, value_name = "NAME", value_parser = Scope::project)]
    pub project: Option<Scope>,
    /// Show what differs in documents that changed: in JSON the values, in other texts the lines
    #[arg(long)]
    pub content: bool,
    /// With --content, do not show differences of fields with this name either; may be repeated
    #[arg(long, value_name = "FIELD", requires = "content")]
    pub noise: Vec<String>,
    /// With --content, show differences of fields that change with every write, such as `last_modified`, too
    #[arg(long, requires = "content")]
    pub no_noise: bool,
    /// Exit with 4 when there are differences
    #[arg(long)]
    pub exit_code: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// Snapshot: first digits of an id, a label, `latest` or `latest~N`; with --at, one of the store whose history is meant
    #[arg(value_name = "SNAP", required_unless_present = "at")]
    pub snapshot: Option<Reference>,
    #[command(flatten)]
    pub at: AtArgs,
    /// Restore this project only
    #[arg(long, value_name = "NAME", value_parser = Scope::project)]
    pub project: Option<Scope>,
    /// Remove what only the store has
    #[arg(long)]
    pub after_truncate: bool,
    /// Show the plan, and change nothing
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// Do not save the store first
    #[arg(long)]
    pub no_checkpoint: bool,
    /// Truncate even from a snapshot without any document
    #[arg(long, requires = "after_truncate")]
    pub allow_empty: bool,
    /// Truncate even from a snapshot that lacks documents which could not be read
    #[arg(long, requires = "after_truncate")]
    pub allow_incomplete: bool,
    /// Truncate the whole store even from a snapshot of one project
    #[arg(long, requires = "after_truncate", conflicts_with = "project")]
    pub allow_project_snapshot: bool,
    /// Restore everything even if the snapshot is of a Kylin system with another UUID
    #[arg(long)]
    pub allow_other_system: bool,
    /// Go on even if a Kylin project ends up with two models of one name
    #[arg(long)]
    pub allow_same_alias: bool,
    /// Leave permissions on Kylin projects as they are in the store, and put back only those it lacks
    #[arg(long)]
    pub keep_permissions: bool,
    /// Make Kylin's tables in a database that has none
    #[arg(long)]
    pub create_tables: bool,
    #[command(flatten)]
    pub nodes: NodesArgs,
}

#[derive(Debug, Args)]
pub(crate) struct UndoArgs {
    /// Show the plan, and change nothing
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// Do not save the store first
    #[arg(long)]
    pub no_checkpoint: bool,
    /// Go on even if the store was empty before, so that everything in it will be removed
    #[arg(long)]
    pub allow_empty: bool,
    #[command(flatten)]
    pub nodes: NodesArgs,
}

/// Who is to know of a restore.
#[derive(Debug, Args)]
pub(crate) struct NodesArgs {
    /// Reload the metadata of this node of Kylin afterwards, over REST: http://host:7070/kylin; may be repeated
    // The url may hold a password, which `--help` would show.
    #[arg(
        long = "kylin-url",
        value_name = "URL",
        env = "METASTASH_KYLIN_URL",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub kylin_urls: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// A snapshot, or `live` for the store as it is now
    #[arg(value_name = "SNAP", default_value = "live")]
    pub side: Side,
    /// Show only what this snapshot does not have
    #[arg(long, value_name = "SNAP")]
    pub since: Option<Reference>,
    /// This project only
    #[arg(long, value_name = "NAME", value_parser = Scope::project)]
    pub project: Option<Scope>,
    /// Exit with 4 when something is found
    #[arg(long)]
    pub exit_code: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Snapshot: first digits of an id, a label, `latest` or `latest~N`; with --at, one of the store whose history is meant
    // With --at alone what comes first is DEST: `place` tells the two apart.
    #[arg(value_name = "SNAP", required_unless_present = "at")]
    first: Option<PathBuf>,
    /// Where to write it; must not exist yet. `-` is standard output, for a tar
    #[arg(value_name = "DEST", required_unless_present = "at")]
    second: Option<PathBuf>,
    #[command(flatten)]
    pub at: AtArgs,
    /// Files in folders; a zip: DEST itself if its name ends in .zip, else one in the folder DEST; or a tar [default: what
    /// the name of DEST ends in, .zip, .tar or .tar.zst, else dir]
    #[arg(long, value_enum)]
    pub format: Option<ExportFormat>,
    /// This project only
    #[arg(long, value_name = "NAME", value_parser = Scope::project)]
    pub project: Option<Scope>,
}

impl ExportArgs {
    /// Returns the snapshot, if one is named, and the place to write to.
    pub(crate) fn place(&self) -> Result<(Option<Reference>, &Path), Usage> {
        let (snapshot, destination) = match (&self.first, &self.second) {
            (Some(first), Some(second)) => (Some(first), second),
            (Some(first), None) if self.at.at.is_some() => (None, first),
            _ => return Err(Usage("the place to write to is missing".to_owned())),
        };
        let snapshot = snapshot.map(|name| name.to_string_lossy().parse().map_err(Usage)).transpose()?;
        Ok((snapshot, destination))
    }
}

/// How an export is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ExportFormat {
    /// Files in folders
    Dir,
    /// A zip
    Zip,
    /// A tar
    Tar,
    /// A tar, compressed with zstd
    #[value(name = "tar.zst")]
    TarZst,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The backup, or a folder of backups; `-` is a tar on standard input
    #[arg(value_name = "SRC")]
    pub source: PathBuf,
    /// Give the snapshot this name instead of that of the folder
    #[arg(long, value_parser = parse_label)]
    pub label: Option<String>,
    /// Add a key and value to the snapshots; may be repeated
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = parse_tag)]
    pub tags: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Read and verify every byte, or the N-th of M parts
    #[arg(long, value_name = "N/M", num_args = 0..=1, require_equals = true, default_missing_value = "1/1",
          value_parser = parse_part)]
    pub read_data: Option<Part>,
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
