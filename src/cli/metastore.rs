//! `metastash metastore`: the arguments of Kylin's `bin/metastore.sh`.
//!
//! The same words, defaults and closing lines, but an exit code that tells whether it worked, a repository in place of
//! folders of copies, and no argument that is taken and then ignored.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use jiff::Zoned;
use metastash::endpoint::PLAIN;
use metastash::endpoint::location::{self, Reading};
use metastash::model::scope::Scope;
use metastash::ops::Error;
use metastash::ops::backup::{BackupOptions, backup};
use metastash::ops::restore::{Mode, RestoreOptions, restore};
use metastash::platform::kylin::layout::CORE_FOLDER;
use metastash::repo::snapshot::Snapshot;
use metastash::repo::{self, Repository};

use super::args::Global;
use super::exit::{Code, Refusal, Usage};
use super::import::{Imported, import};
use super::output::{Output, count};
use super::progress::Progress;
use super::{fetch, open, store};

const USAGE: &str = "usage: metastore.sh backup [DIR]                    (default: $KYLIN_HOME/meta_backups)
       metastore.sh backup-project PROJECT [DIR]
       metastore.sh restore DIR [--after-truncate]
       metastore.sh restore-project PROJECT DIR [--after-truncate]
       metastore.sh fetch TARGET [DIR]              (default: $KYLIN_HOME/meta_fetch)
       metastore.sh list FOLDER";

/// How often a label is tried anew: names have whole seconds, and two backups may fall into one.
const LABELS_MAX: u32 = 5;

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    Backup { scope: Scope, directory: Option<PathBuf> },
    Restore { project: Option<Scope>, directory: PathBuf, mode: Mode },
    Fetch { target: String, directory: Option<PathBuf> },
    List { folder: String },
}

pub(crate) fn run(arguments: &[OsString], global: &Global, output: &Output, progress: &Progress<'_>) -> Result<Code> {
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        output.result(USAGE)?;
        return Ok(Code::Done);
    }
    let request = parse(arguments)?;
    let (result, succeeded, failed) = match request {
        Request::Backup { scope, directory } => (
            run_backup(&scope, directory.as_deref(), global, output, progress),
            "Backup at local disk succeed.",
            "Backup failed. Detailed message is on standard error.",
        ),
        Request::Restore { project, directory, mode } => (
            run_restore(project, &directory, mode, global, output, progress),
            "Restore succeed.",
            "Restore failed. Detailed message is on standard error.",
        ),
        Request::Fetch { target, directory } => (
            fetch::fetch(&target, directory.as_deref(), global, output),
            " Fetch at local dist succeed.",
            " Fetch failed.",
        ),
        Request::List { folder } => return fetch::list(&folder, global, output),
    };
    // What lacks something is nothing to rely on: whoever looks for the line must not find it.
    output.result(if matches!(result, Ok(Code::Done)) { succeeded } else { failed })?;
    result.map_err(without_flags)
}

/// Points to the command that has the flags which guards speak of.
fn without_flags(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<Error>() {
        Some(Error::Refused { danger, way_out }) => Refusal {
            message: format!("refused: {danger}"),
            hint: format!("{way_out}; flags are those of `metastash restore` and `backup`, metastore.sh has none"),
            code: 14,
        }
        .into(),
        _ => error,
    }
}

fn parse(arguments: &[OsString]) -> Result<Request> {
    let wrong = |what: String| anyhow::Error::from(Usage(format!("{what}\n{USAGE}")));
    let words: Vec<&str> = arguments
        .iter()
        .map(|argument| argument.to_str().ok_or_else(|| wrong(format!("{argument:?} is not UTF-8"))))
        .collect::<Result<_>>()?;
    if let Some(legacy) = words.iter().find_map(|word| legacy(word)) {
        return Err(wrong(legacy));
    }
    if let Some(empty) = words.iter().position(|word| word.is_empty()) {
        return Err(wrong(format!("argument {} is empty", empty + 1)));
    }
    let project = |name: &str| Scope::project(name).map_err(|error| wrong(error.to_string()));
    let path = |text: &str| PathBuf::from(text);
    Ok(match words[..] {
        ["backup"] => Request::Backup { scope: Scope::System, directory: None },
        ["backup", directory] => Request::Backup { scope: Scope::System, directory: Some(path(directory)) },
        ["backup-project", name] => Request::Backup { scope: project(name)?, directory: None },
        ["backup-project", name, directory] => {
            Request::Backup { scope: project(name)?, directory: Some(path(directory)) }
        }
        ["restore", directory] => Request::Restore { project: None, directory: path(directory), mode: Mode::Merge },
        ["restore", directory, "--after-truncate"] => {
            Request::Restore { project: None, directory: path(directory), mode: Mode::Truncate }
        }
        ["restore-project", name, directory] => {
            Request::Restore { project: Some(project(name)?), directory: path(directory), mode: Mode::Merge }
        }
        ["restore-project", name, directory, "--after-truncate"] => {
            Request::Restore { project: Some(project(name)?), directory: path(directory), mode: Mode::Truncate }
        }
        ["fetch", target] => Request::Fetch { target: target.to_owned(), directory: None },
        ["fetch", target, directory] => Request::Fetch { target: target.to_owned(), directory: Some(path(directory)) },
        ["list", folder] => Request::List { folder: folder.to_owned() },
        [] => return Err(wrong("a command is missing".to_owned())),
        [command @ ("backup" | "backup-project" | "restore" | "restore-project" | "fetch" | "list"), ..] => {
            return Err(wrong(format!("`{command}` is not used with these arguments: {}", words[1..].join(" "))));
        }
        [command, ..] => return Err(wrong(format!("`{command}` is no command"))),
    })
}

/// Says of options of Kylin's Java tool what to do instead: some it takes and then ignores.
fn legacy(word: &str) -> Option<String> {
    let instead = match word {
        "-compress" => {
            "Kylin ignores it for local directories; a repository is always compressed, and `metastash export \
                        --format zip` writes a metadata.zip"
        }
        "-excludeTableExd" => {
            "leaving documents out makes a backup that can't be restored with --after-truncate; \
                               what did not change costs nothing here"
        }
        "-folder" => "use `metastash backup --label`",
        "-dir" | "-project" | "-target" => "give it as a plain argument, as below",
        "-d" | "--after-Truncate" | "-after-truncate" => "it is `--after-truncate`, after the directory",
        "-backup" | "-restore" | "-fetch" | "-list" => "commands have no dash",
        word if word.starts_with("--") && word != "--after-truncate" => "there is no such option",
        _ => return None,
    };
    Some(format!("`{word}`: {instead}"))
}

fn run_backup(
    scope: &Scope,
    directory: Option<&Path>,
    global: &Global,
    output: &Output,
    progress: &Progress<'_>,
) -> Result<Code> {
    if let Some(directory) = directory.filter(|directory| !directory.is_dir()) {
        return Err(missing(directory));
    }
    let global = with_repository(global, directory);
    let began = Instant::now();
    let located = store::source(&global)?;
    let (repo, _) = open::repository_or_new(&global)?;
    for attempt in 1.. {
        let label = Zoned::now().strftime("%Y-%m-%d-%H-%M-%S_backup").to_string();
        let options =
            BackupOptions { scope: scope.clone(), label: Some(label.clone()), ..BackupOptions::new(open::author()) };
        match backup(&*located.store, &repo, &options, progress) {
            Err(Error::LabelTaken { .. }) if attempt < LABELS_MAX => {
                std::thread::sleep(std::time::Duration::from_secs(1));
            }
            result => {
                let report = result?;
                progress.clear();
                let folder = open::repository_path(&global)?.join(&label);
                let folder = std::path::absolute(&folder).unwrap_or(folder);
                output.result(&format!("The metadata backup path is {}.", folder.display()))?;
                return super::backup::show_report(&report, began.elapsed().as_secs_f64(), None, output);
            }
        }
    }
    unreachable!("the last attempt returns")
}

fn missing(directory: &Path) -> anyhow::Error {
    let message = format!("there is no directory {}", directory.display());
    Refusal { message, hint: "create it, or check the spelling".to_owned(), code: 1 }.into()
}

fn with_repository(global: &Global, directory: Option<&Path>) -> Global {
    let repo = directory.map(Path::to_owned).or_else(|| global.repo.clone());
    Global { repo, ..global.clone() }
}

fn run_restore(
    project: Option<Scope>,
    directory: &Path,
    mode: Mode,
    global: &Global,
    output: &Output,
    progress: &Progress<'_>,
) -> Result<Code> {
    let began = Instant::now();
    let (repo, snapshot, global) = find_backup(directory, global, output, progress)?;
    let target = store::target(&global, &snapshot.manifest.layout, false)?;
    let options = RestoreOptions {
        mode,
        // As Kylin: restoring a project does not touch who may see it.
        keep_permissions: project.is_some(),
        leave_backup_files: true,
        project,
        ..RestoreOptions::new(open::author())
    };
    let report = restore(&*target.store, &repo, &snapshot, &options, progress)?;
    progress.clear();
    let is_partial = snapshot.manifest.is_incomplete() || !report.plan.left_out.is_empty();
    let code = if is_partial { Code::Unread } else { Code::Done };
    super::restore::show_report(&report, began.elapsed().as_secs_f64(), output)?;
    Ok(code)
}

/// Finds what is at `meta_backups/LABEL`: a backup that Kylin's tool made, which becomes a snapshot, or the name of one.
fn find_backup(
    directory: &Path,
    global: &Global,
    output: &Output,
    progress: &Progress<'_>,
) -> Result<(Repository, Snapshot, Global)> {
    let core = directory.file_name() == Some(CORE_FOLDER.as_ref());
    let folder = directory.parent().filter(|_| core).unwrap_or(directory);
    let above = std::path::absolute(folder).ok().and_then(|folder| folder.parent().map(Path::to_owned));
    let beside = with_repository(global, above.as_deref());
    if !folder.exists() {
        let repo = match open::repository(&beside) {
            Err(error) if matches!(error.downcast_ref(), Some(repo::Error::NotARepository { .. })) => {
                let message = format!("there is no backup at {}, and no repository above it", directory.display());
                let hint = "check the spelling; `metastash snapshots` lists the labels of a repository".to_owned();
                return Err(Refusal { message, hint, code: 1 }.into());
            }
            result => result?,
        };
        let label = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        return match <[Snapshot; 1]>::try_from(repo.snapshots_by_label(&label)?) {
            Ok([snapshot]) => Ok((repo, snapshot, beside)),
            Err(found) => {
                let message = match found.len() {
                    0 => format!("{} has no snapshot with the label `{label}`", repo.location()),
                    many => format!("{many} snapshots of {} have the label `{label}`", repo.location()),
                };
                Err(Refusal { message, hint: "`metastash snapshots` lists all".to_owned(), code: 1 }.into())
            }
        };
    }
    if std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none()) {
        let message = format!("The directory \"{}\" is an empty directory, please check.", directory.display());
        return Err(Refusal { message, hint: "name the folder of a backup".to_owned(), code: 1 }.into());
    }
    let found = location::open(folder, Reading::Detect).context("cannot read the backup")?;
    if found.store.layout() == PLAIN {
        let message = format!("{} is no backup of Kylin's metadata", directory.display());
        let hint =
            "name the folder `yyyy-MM-dd-HH-mm-ss_backup`, or the one with `core_meta` or `_global` in it".to_owned();
        return Err(Refusal { message, hint, code: 1 }.into());
    }
    // A repository right above is where backups go; any other place is not ours to write to.
    let global = match open::repository(&beside) {
        Ok(_) => beside,
        Err(error) if matches!(error.downcast_ref(), Some(repo::Error::NotARepository { .. })) => global.clone(),
        Err(error) if error.is::<Refusal>() => global.clone(),
        Err(error) => return Err(error),
    };
    let (repo, _) = open::repository_or_new(&global)?;
    let snapshot = match import(folder, None, &[], &global, &repo, progress)? {
        Imported::Already(snapshot) => *snapshot,
        Imported::New(report) => report.snapshot,
    };
    let counts = snapshot.manifest.counts;
    if counts.unread + counts.skipped > 0 {
        let what = count(counts.unread + counts.skipped, "file");
        let message = format!("{what} of the backup {} can't be read, or are no documents", directory.display());
        let hint = format!(
            "nothing was restored; what could be read is snapshot {}, which `metastash restore` takes",
            super::output::short(&snapshot.id)
        );
        return Err(Refusal { message, hint, code: 13 }.into());
    }
    output.say(&format!("{} is snapshot {}", folder.display(), super::output::short(&snapshot.id)))?;
    Ok((repo, snapshot, global))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &str) -> Result<Request> {
        parse(&words.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn arguments_are_those_of_metastore_sh() {
        let sales = || Scope::project("sales").unwrap();
        let cases = [
            ("backup", Request::Backup { scope: Scope::System, directory: None }),
            ("backup /b", Request::Backup { scope: Scope::System, directory: Some("/b".into()) }),
            ("backup-project sales /b", Request::Backup { scope: sales(), directory: Some("/b".into()) }),
            ("restore /b/x", Request::Restore { project: None, directory: "/b/x".into(), mode: Mode::Merge }),
            (
                "restore-project sales /b/x --after-truncate",
                Request::Restore { project: Some(sales()), directory: "/b/x".into(), mode: Mode::Truncate },
            ),
            ("fetch /default", Request::Fetch { target: "/default".into(), directory: None }),
            ("list /", Request::List { folder: "/".into() }),
        ];
        for (words, expected) in cases {
            assert_eq!(parsed(words).unwrap(), expected, "{words}");
        }
    }

    #[test]
    fn what_kylin_takes_and_ignores_is_refused() {
        for words in [
            "",
            "backup /b -compress",
            "restore /b -d",
            "restore /b --after-trunc",
            "restore /b /c",
            "restore",
            "backup-project",
            "backup-project a/b",
            "restore-project sales",
            "restore --after-truncate /b",
            "purge",
        ] {
            assert!(parsed(words).is_err_and(|error| error.is::<Usage>()), "{words}");
        }
    }
}
