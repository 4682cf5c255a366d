//! Exit codes, and the last words before one.

use std::io::Write;
use std::process::ExitCode;

use metastash::endpoint::spool::TEMPORARY_FILE;
use metastash::endpoint::sql::{Fault, SqlError};
use metastash::ops::migrate::Unfit;
use metastash::{endpoint, ops, repo, storage};
use serde_json::json;

/// How a command ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// All went well.
    Done,
    /// It finished, but some documents were not read.
    Unread,
    /// There are differences, and the user asked to be told so.
    Different,
    /// Stored data is damaged.
    Damaged,
}

impl Code {
    /// Returns the number.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Unread => 3,
            Self::Different => 4,
            Self::Damaged => 13,
        }
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        ExitCode::from(code.number())
    }
}

/// Something that is wrong with the arguments but only seen when they are used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub String);

/// A failure with a hint of its own.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refusal {
    pub message: String,
    pub hint: String,
    pub code: u8,
}

/// Prints what clap says of wrong arguments (or of `--help`), as JSON if that was asked for.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    let wants_json = std::env::args_os().any(|arg| arg == "--json");
    if error.use_stderr() && wants_json {
        print_json(2, &first_paragraph(error), None);
    } else {
        // Nobody is left to tell if this fails.
        let _ = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Returns the first paragraph of what clap says: what is missing, or possible, is named in its other lines.
pub(crate) fn first_paragraph(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    lines.join(" ").trim_start_matches("error: ").to_owned()
}

/// Prints a failure with its causes and a hint, and returns its exit code.
pub(crate) fn failure(error: &anyhow::Error, json: bool, signal: Option<i32>) -> ExitCode {
    let code = match signal.filter(|_| is_interruption(error)) {
        Some(signal) => u8::try_from(128 + signal).unwrap_or(130),
        None => code_of(error),
    };
    if is_broken_pipe(error) {
        // Whoever read our output has seen enough: no words, the code of a program killed by the signal.
        return ExitCode::from(141);
    }
    let hint = hint_for(error);
    if json {
        print_json(code, &in_one_line(error), hint.as_deref());
    } else {
        let mut text = format!("error: {error}\n");
        error.chain().skip(1).for_each(|cause| text.push_str(&format!("  caused by: {cause}\n")));
        if let Some(hint) = hint {
            text.push_str(&format!("  hint: {hint}\n"));
        }
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
    ExitCode::from(code)
}

/// Returns a failure and its causes.
pub(crate) fn in_one_line(error: &anyhow::Error) -> String {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    causes.join(": ")
}

fn print_json(code: u8, message: &str, hint: Option<&str>) {
    let line = json!({"message_type": "exit_error", "code": code, "message": message, "hint": hint});
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Tells whether a signal ended the operation.
pub(crate) fn is_interruption(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        matches!(cause.downcast_ref(), Some(ops::Error::Interrupted))
            || matches!(cause.downcast_ref(), Some(endpoint::Error::Interrupted))
            || matches!(cause.downcast_ref(), Some(ops::Error::Endpoint(endpoint::Error::Interrupted)))
    })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let output = error.downcast_ref::<std::io::Error>().or(match error.downcast_ref() {
        Some(ops::Error::Output(error)) => Some(error),
        Some(ops::Error::Endpoint(endpoint::Error::Io { source, .. })) => Some(source),
        _ => None,
    });
    output.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Returns the exit code of a failure.
pub(crate) fn code_of(error: &anyhow::Error) -> u8 {
    if let Some(refusal) = error.downcast_ref::<Refusal>() {
        return refusal.code;
    }
    if error.is::<Usage>() {
        return 2;
    }
    if let Some(error) = error.downcast_ref::<repo::Error>() {
        return code_of_repository(error);
    }
    if let Some(error) = error.downcast_ref::<endpoint::Error>() {
        return code_of_store(error);
    }
    match error.downcast_ref::<ops::Error>() {
        Some(
            ops::Error::Refused { .. }
            | ops::Error::Gaps { .. }
            | ops::Error::Unfit { .. }
            | ops::Error::NotMigrated { .. },
        ) => 14,
        Some(ops::Error::Repository(error)) => code_of_repository(error),
        Some(ops::Error::Endpoint(error)) => code_of_store(error),
        Some(ops::Error::Unknown { source, .. }) => code_of_repository(source),
        Some(ops::Error::Interrupted) => 130,
        _ => 1,
    }
}

fn code_of_repository(error: &repo::Error) -> u8 {
    match error {
        repo::Error::NotARepository { .. } => 10,
        repo::Error::TooNew { .. } => 17,
        error if error.is_damage() => 13,
        _ => 1,
    }
}

fn code_of_store(error: &endpoint::Error) -> u8 {
    match error {
        endpoint::Error::Changed { .. } => 15,
        endpoint::Error::Interrupted => 130,
        endpoint::Error::InTheWay { .. } | endpoint::Error::OtherLayout { .. } => 14,
        endpoint::Error::Damaged { .. } | endpoint::Error::NotAsWritten { .. } => 13,
        endpoint::Error::Database { source, .. } if source.fault == Fault::Unreachable => 20,
        endpoint::Error::OutcomeUnknown { .. } => 20,
        _ => 1,
    }
}

/// Returns what can be done about a failure.
pub(crate) fn hint_for(error: &anyhow::Error) -> Option<String> {
    if let Some(refusal) = error.downcast_ref::<Refusal>() {
        return Some(refusal.hint.clone());
    }
    if let Some(error) = error.downcast_ref::<repo::Error>() {
        return hint_for_repository(error);
    }
    if let Some(error) = error.downcast_ref::<endpoint::Error>() {
        return hint_for_store(error);
    }
    match error.downcast_ref::<ops::Error>()? {
        ops::Error::Refused { way_out, .. } => Some(way_out.clone()),
        ops::Error::Repository(error) => hint_for_repository(error),
        ops::Error::Endpoint(error) => hint_for_store(error),
        ops::Error::Gaps { .. } => Some(
            "`--allow-gaps` goes on with what is known, and names each document that is not; nothing was changed"
                .to_owned(),
        ),
        ops::Error::OutOfReach { .. } => Some(
            "name a moment in between, or a snapshot; `metastash backup` adds what happened since the last one"
                .to_owned(),
        ),
        ops::Error::NoLog { .. } => Some(
            "only databases of Kylin have an audit log; name a snapshot instead: `metastash snapshots` lists all"
                .to_owned(),
        ),
        ops::Error::LabelTaken { .. } => Some("choose another label".to_owned()),
        ops::Error::NotInSnapshot { .. } => Some("`metastash ls SNAP` shows what it holds".to_owned()),
        ops::Error::NoDocument { snapshot, .. } => Some(format!("`metastash ls {snapshot}` lists its documents")),
        ops::Error::NoCheckpoint { .. } => {
            Some("`restore` takes one of the same store unless told not to; `metastash snapshots` lists all".to_owned())
        }
        ops::Error::NoPlatform { .. } => Some(
            "name the folder that holds `core_meta`, `MODEL` or `_global`, or say how to read it with `--layout`"
                .to_owned(),
        ),
        ops::Error::Unfit { unfit, .. } => Some(hint_for_unfit(unfit)),
        ops::Error::NotMigrated { .. } => Some(
            "nothing was written; without `--strict` all else is migrated, and what is wrong is told in the report"
                .to_owned(),
        ),
        ops::Error::Unknown { source: repo::Error::TooNew { .. }, .. } => Some("update metastash on this machine".to_owned()),
        ops::Error::Unknown { .. } => Some(
            "put a sound copy of what is damaged back if there is one; otherwise forget the snapshot by name: a day later it no \
             longer counts"
                .to_owned(),
        ),
        ops::Error::Output(_) | ops::Error::Interrupted => None,
    }
}

fn hint_for_unfit(unfit: &Unfit) -> String {
    let hint = match unfit {
        Unfit::AlreadyNew => {
            "nothing is to be done; with `--skip-if-new` that is no failure (of a database with tables of both generations, \
             `--layout kylin-old` reads the old ones)"
        }
        Unfit::Mixed { .. } => {
            "move the documents of one layout elsewhere: perhaps they are left over from a migration"
        }
        Unfit::OldBelow { folder } | Unfit::NewBelow { folder } => {
            return format!("is `{folder}` in it what is meant?");
        }
        Unfit::Foreign => "name the folder that holds `_global` and the projects, or a backup that Kylin made",
        Unfit::StillOld => "DEST is what a migration wrote, SRC what it read",
        Unfit::NotNew => "name the folder that holds `core_meta`, or types such as `MODEL`",
    };
    hint.to_owned()
}

fn hint_for_repository(error: &repo::Error) -> Option<String> {
    let hint = match error {
        repo::Error::NotARepository { .. } => {
            "name one with `--repo` or METASTASH_REPO, or create it with `metastash init`"
        }
        repo::Error::AlreadyARepository { .. } => "it can be used as it is: nothing is to be done",
        repo::Error::TooNew { .. } => "update metastash on this machine",
        repo::Error::UnknownSnapshot { .. } => "`metastash snapshots` lists all",
        repo::Error::AmbiguousSnapshot { .. } => "give more digits of the id",
        repo::Error::TooLarge { .. } => "back up parts of the store on their own, with `--project`",
        repo::Error::Outrun => "run it again: what it stored is reused",
        repo::Error::NotForgotten { .. } => "`metastash snapshots --forgotten` lists all; `latest` is none of them",
        repo::Error::Fading { .. } => {
            "it was forgotten long ago; if it was not, try again after the next prune, which copies what still counts"
        }
        repo::Error::Damaged { .. } | repo::Error::MissingChunk { .. } => {
            "`metastash check --read-data` lists every document this affects"
        }
        repo::Error::Storage(error) => match error.kind {
            storage::ErrorKind::Full => "make room on the disk of the repository, then run it again",
            storage::ErrorKind::Denied => {
                "check the permissions of the repository, and whether its disk is read-only (a restore can do without writing to \
                 it: `--no-checkpoint`)"
            }
            _ => return None,
        },
    };
    Some(hint.to_owned())
}

fn hint_for_store(error: &endpoint::Error) -> Option<String> {
    use std::io::ErrorKind;
    let hint = match error {
        endpoint::Error::NotFound { .. } => "name the directory of the store with `--store` or METASTASH_STORE",
        endpoint::Error::NotADirectory { .. } => "name the directory, the metadata.zip or the tar that holds the store",
        endpoint::Error::NoProject { .. } => {
            "`metastash ls SNAP` shows the projects of a snapshot as the first parts of paths"
        }
        endpoint::Error::Changed { .. } => "nothing was changed; run it again, best while nobody writes to the store",
        endpoint::Error::NotAFile { .. } => return None,
        endpoint::Error::ReadOnly { .. } => {
            "restore to an empty directory, or write a new backup with `metastash export`"
        }
        endpoint::Error::ZipWithin { .. } => {
            "unpack it, and name the folder; or take the files as they are with `--layout plain`"
        }
        endpoint::Error::MixedLayouts { .. } => {
            "`--layout plain` backs it up with names as they are; or move the folders of one layout elsewhere"
        }
        endpoint::Error::ZipAndOthers { .. } => {
            "name the metadata.zip itself, or take the files as they are with `--layout plain`"
        }
        endpoint::Error::SeveralBackups { .. } => "name one of them, or take them all over with `metastash import`",
        endpoint::Error::OtherLayout { .. } => {
            "is this the right store? An empty directory takes any layout; `--layout` says how names are to be read"
        }
        endpoint::Error::UnknownLayout { .. } => "update metastash on this machine",
        endpoint::Error::InTheWay { .. } => "remove it or move it elsewhere; nothing was changed",
        endpoint::Error::Damaged { .. } => "nothing of it was used; find a sound copy, for instance an older backup",
        endpoint::Error::Interrupted => return None,
        endpoint::Error::Database { source, .. } => return hint_for_database(source),
        endpoint::Error::OutcomeUnknown { .. } => {
            "it was changed as planned or not at all, and the checkpoint was kept; when the server is back, run it again: it puts \
             only what still differs"
        }
        endpoint::Error::NoTables { others, .. } if others.is_empty() => {
            "is this the right database and schema? `restore --create-tables` makes the tables in an empty one"
        }
        endpoint::Error::NoTables { others, .. } => {
            return Some(format!(
                "there are tables of {}: name one with `?identifier=` in the url; `restore --create-tables` makes others",
                others.join(", ")
            ));
        }
        endpoint::Error::MissingTables { .. } => {
            "may the user see them? Kylin makes them when it starts; if they were lost, restore into another, empty database; \
             `--layout kylin-old` reads the tables of the old generation, where there are such"
        }
        endpoint::Error::ForeignTable { .. } => "is the identifier right? `?identifier=` in the url names another",
        endpoint::Error::NoRow { .. } => {
            "nothing was changed; restore the projects that are sound one by one with `--project`, or mend the document"
        }
        endpoint::Error::NotAsWritten { .. } => {
            "the server changed what it was given: look for triggers, character sets and limits, then run it again"
        }
        endpoint::Error::Io { path, source, .. }
            if path == TEMPORARY_FILE && source.kind() == ErrorKind::StorageFull =>
        {
            "make room where temporary files lie, or name another directory for them with TMPDIR"
        }
        endpoint::Error::Io { source, .. } => match source.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => "check the permissions of the store",
            ErrorKind::StorageFull => "make room on the disk of the store, then run it again",
            _ => return None,
        },
    };
    Some(hint.to_owned())
}

fn hint_for_database(error: &SqlError) -> Option<String> {
    let hint = match error.fault {
        Fault::Unreachable => {
            "is the server up, and are host, port and TLS (`sslrootcert=`) right? Nothing was changed by halves; run it again"
        }
        Fault::Denied => {
            "check user and password (PGPASSWORD, ~/.pgpass, MYSQL_PWD) and rights: a backup needs SELECT on all tables, a \
             restore INSERT, UPDATE and DELETE, too"
        }
        Fault::NoDatabase => "check the name of the database after the last `/` of the url",
        Fault::Conflict => "others write the same rows: nothing was changed; run it again when there is less to do",
        Fault::Timeout => {
            "nothing was changed; `lock_timeout` and `statement_timeout` in the url set the limits in seconds"
        }
        Fault::Constraint => {
            "nothing was changed; another row holds what must be unique, or a value does not fit: `--after-truncate` removes what \
             only the store has, `metastash doctor` may say more"
        }
        Fault::TooLarge => {
            "nothing was changed; raise the limit of the server (MySQL: max_allowed_packet, Kylin advises 256M)"
        }
        Fault::Other => return None,
    };
    Some(hint.to_owned())
}
