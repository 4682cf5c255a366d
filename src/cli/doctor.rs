//! `metastash doctor`

use anyhow::Result;
use clap::Args;
use metastash::model::hash::SnapshotId;
use metastash::model::scope::Scope;
use metastash::ops::doctor::{DoctorReport, examine_live, examine_snapshot};
use metastash::platform::kylin::doctor::{Fault, Severity};
use metastash::repo::Repository;
use metastash::repo::snapshot::Reference;
use serde_json::json;

use super::args::Global;
use super::exit::Code;
use super::output::{Output, count, path_fields, short};
use super::progress::Progress;
use super::values::Side;
use super::{open, store};

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

pub(crate) fn run(args: &DoctorArgs, global: &Global, output: &Output, progress: &Progress<'_>) -> Result<Code> {
    // The live store is examined without a repository too, unless it is to be compared.
    let repo = match (&args.side, &args.since) {
        (Side::Live, None) => open::repository_or_new(global)?.0,
        _ => open::repository(global)?,
    };
    let (mut report, what) = examine(&args.side, args, &repo, global, progress)?;
    let since = match &args.since {
        None => None,
        Some(since) => {
            let (before, since) = examine(&Side::Snapshot(since.clone()), args, &repo, global, progress)?;
            report.leave_new(&before);
            Some(since)
        }
    };
    progress.clear();
    report.faults.iter().try_for_each(|fault| show(fault, output))?;
    let severe = |severity| report.faults.iter().filter(|fault| fault.rule.severity() == severity).count() as u64;
    let (errors, warnings) = (severe(Severity::Error), severe(Severity::Warning));
    output.say(&format!(
        "{}: {}, {} in {}{}",
        what.text,
        count(errors, "error"),
        count(warnings, "warning"),
        count(report.documents, "document"),
        since.as_ref().map(|since| format!(", not counting what {} has too", since.text)).unwrap_or_default()
    ))?;
    output.message(
        "doctor_summary",
        json!({
            "snapshot": what.id.map(|id| id.to_string()),
            "store": if what.id.is_none() { Some(what.text) } else { None },
            "since": since.and_then(|since| since.id).map(|id| id.to_string()),
            "documents": report.documents,
            "errors": errors,
            "warnings": warnings,
            "unread": report.unread,
        }),
    )?;
    Ok(match report {
        report if report.unread > 0 => Code::Unread,
        report if args.exit_code && !report.faults.is_empty() => Code::Different,
        _ => Code::Done,
    })
}

/// What was examined.
struct What {
    text: String,
    /// Nothing for the live store.
    id: Option<SnapshotId>,
}

fn examine(
    side: &Side,
    args: &DoctorArgs,
    repo: &Repository,
    global: &Global,
    progress: &Progress<'_>,
) -> Result<(DoctorReport, What)> {
    match side {
        Side::Live => {
            let store = store::source(global)?.store;
            let scope = args.project.clone().unwrap_or(Scope::System);
            Ok((examine_live(repo, &*store, &scope, progress)?, What { text: store.location(), id: None }))
        }
        Side::Snapshot(reference) => {
            let snapshot = open::snapshot(repo, reference, args.project.as_ref(), global)?;
            let scope = args.project.clone().unwrap_or_else(|| snapshot.manifest.scope.clone());
            let report = examine_snapshot(repo, &snapshot, &scope, progress)?;
            let id = snapshot.id;
            Ok((report, What { text: format!("snapshot {}", short(&id)), id: Some(id) }))
        }
    }
}

fn show(fault: &Fault, output: &Output) -> Result<()> {
    let severity = match fault.rule.severity() {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    output.result(&format!("{severity} {} {}: {}", fault.rule.as_str(), fault.path, fault.detail))?;
    if output.is_json() {
        let mut fields = path_fields(&fault.path);
        fields.insert("severity".to_owned(), json!(severity));
        fields.insert("rule".to_owned(), json!(fault.rule.as_str()));
        fields.insert("description".to_owned(), json!(fault.rule.description()));
        fields.insert("project".to_owned(), json!(fault.project));
        fields.insert("detail".to_owned(), json!(fault.detail));
        output.message("fault", fields.into())?;
    }
    Ok(())
}
