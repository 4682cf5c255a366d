//! `--at`: from a moment to a snapshot of it.

use anyhow::Result;
use clap::Args;
use metastash::model::log::Moment;
use metastash::model::scope::Scope;
use metastash::monitor::{Monitor, Problem, Severity};
use metastash::ops::at::{AtOptions, AtReport, Gap, materialize};
use metastash::ops::history::History;
use metastash::repo::Repository;
use metastash::repo::snapshot::{Reference, Snapshot};
use serde_json::json;

use super::args::Global;
use super::exit::{Refusal, Usage};
use super::output::{Output, count, local_time, short, utc_time};
use super::progress::Progress;
use super::values::parse_moment;
use super::{open, store};

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

/// Returns the history of a store: of the one that a snapshot was taken of, or of the one that is named, or of the only
/// one there is.
pub(crate) fn history(
    repo: &Repository,
    of: Option<&Snapshot>,
    must_have_log: bool,
    global: &Global,
) -> Result<History> {
    let mut all = History::all(repo)?;
    if let Some(snapshot) = of {
        let manifest = &snapshot.manifest;
        all.retain(|history| {
            (&history.host, &history.store, &history.layout) == (&manifest.host, &manifest.store, &manifest.layout)
        });
        return all.pop().ok_or_else(|| unknown(&manifest.store));
    }
    let named = store::location(global);
    if let Some(store) = &named {
        all.retain(|history| history.store == *store);
        if all.is_empty() {
            return Err(unknown(store));
        }
        let host = open::author().host;
        if all.iter().any(|history| history.host == host) {
            all.retain(|history| history.host == host);
        }
    }
    if all.iter().any(History::has_log) && (must_have_log || named.is_some()) {
        all.retain(History::has_log);
    }
    match <[History; 1]>::try_from(all) {
        Ok([history]) => Ok(history),
        Err(none) if none.is_empty() => Err(Refusal {
            message: "the repository has no snapshot of a whole store".to_owned(),
            hint: "`metastash snapshots` lists what there is".to_owned(),
            code: 1,
        }
        .into()),
        Err(several) => {
            let names: Vec<String> =
                several.iter().map(|history| format!("{}:{}", history.host, history.store)).collect();
            let message = format!("the repository has snapshots of several stores ({})", names.join(", "));
            Err(Usage(format!("{message}: name the one that is meant with `--store`")).into())
        }
    }
}

fn unknown(store: &str) -> anyhow::Error {
    let message = format!("the repository has no snapshot of all of {store}");
    let hint =
        "name the store whose history is meant with `--store`; `metastash snapshots` lists what there is".to_owned();
    Refusal { message, hint, code: 1 }.into()
}

/// Returns a snapshot of the state at a moment, made if there is none yet.
pub(crate) fn snapshot(
    repo: &Repository,
    moment: Moment,
    args: &AtArgs,
    of: Option<&Snapshot>,
    global: &Global,
    output: &Output,
    progress: &Progress<'_>,
) -> Result<AtReport> {
    let history = history(repo, of, true, global)?;
    let options = AtOptions { allow_gaps: args.allow_gaps, author: open::author() };
    let report = materialize(repo, &history, moment, &options, progress)?;
    progress.clear();
    if let (Some((first, last)), Moment::Record(id)) = (report.split, moment) {
        let what = format!("it is of a transaction with the records {first} to {last}, of which none is taken");
        progress.problem(&Problem { severity: Severity::Remark, path: format!("record {id}"), what });
    }
    let (time, record) = match moment {
        Moment::Time(time_ms) => (Some(utc_time(time_ms)), None),
        Moment::Record(id) => (None, Some(id)),
    };
    output.message(
        "moment",
        json!({
            "snapshot": report.snapshot.id.to_string(),
            "base": report.base.id.to_string(),
            "is_new": report.is_new,
            "time": time,
            "record": record,
            "records": report.records,
            "last_record": report.last,
            "split": report.split.map(|(first, last)| [first, last]),
            "is_beside_older": report.is_beside_older,
            "gaps": report.gaps.iter().map(Gap::to_string).collect::<Vec<_>>(),
        }),
    )?;
    Ok(report)
}

/// Says what the snapshot of a moment was made of.
pub(crate) fn say(report: &AtReport, moment: Moment, output: &Output) -> Result<()> {
    let moment = match moment {
        Moment::Time(time_ms) => local_time(time_ms),
        Moment::Record(id) => format!("record {id}"),
    };
    let (snapshot, base) = (short(&report.snapshot.id), short(&report.base.id));
    if snapshot == base {
        output.say(&format!("as of {moment}: snapshot {snapshot}, with nothing to replay after it"))?;
    } else {
        let records = count(report.records, "record");
        output.say(&format!("as of {moment}: snapshot {snapshot}, made of {base} and {records} after it"))?;
    }
    if report.is_beside_older {
        output.say(&format!("jobs, rules and offsets are as of snapshot {base}: no log tells of them"))?;
    }
    Ok(())
}

/// Returns the snapshot that is named, or one of a moment, then of the store of the one that is named, and whether not all is
/// known of that.
pub(crate) fn named_or_at(
    repo: &Repository,
    named: Option<&Reference>,
    args: &AtArgs,
    project: Option<&Scope>,
    global: &Global,
    output: &Output,
    progress: &Progress<'_>,
) -> Result<(Snapshot, bool)> {
    let named = match named {
        None => None,
        Some(reference) if args.at.is_some() => Some(open::snapshot(repo, reference, None, global)?),
        Some(reference) => Some(open::snapshot(repo, reference, project, global)?),
    };
    match (args.at, named) {
        (Some(moment), named) => {
            let report = snapshot(repo, moment, args, named.as_ref(), global, output, progress)?;
            say(&report, moment, output)?;
            let is_partial = !report.gaps.is_empty();
            Ok((report.snapshot, is_partial))
        }
        (None, Some(named)) => Ok((named, false)),
        (None, None) => Err(Usage("a snapshot is missing".to_owned()).into()),
    }
}
