//! `metastash diff`

use anyhow::Result;
use clap::Args;
use metastash::model::entry::Entry;
use metastash::model::scope::Scope;
use metastash::ops::diff::{
    Change, Changed, Detail, Noise, diff_live, diff_live_contents, diff_snapshots, diff_snapshots_contents,
};
use metastash::repo::Repository;
use metastash::repo::snapshot::{Reference, Snapshot};
use serde_json::json;

use super::args::Global;
use super::at::AtArgs;
use super::browse::entry_fields;
use super::detail::{is_noise_alone, message, show_detail};
use super::exit::{Code, Usage};
use super::output::{Colour, Output, path_fields};
use super::progress::Progress;
use super::values::Side;
use super::{at, open, store};

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

pub(crate) fn run(args: &DiffArgs, global: &Global, output: &Output, progress: &Progress<'_>) -> Result<Code> {
    let repo = open::repository(global)?;
    let project = args.project.as_ref();
    let (before, after, is_partial) = sides(&repo, args, global, output, progress)?;
    let noise = if args.no_noise { Noise::none() } else { Noise::default() }.and(args.noise.iter().cloned());
    let mut noisy = 0;
    let show = |changed: Changed, detail: Option<Detail>| {
        noisy += u64::from(detail.as_ref().is_some_and(is_noise_alone));
        show(&changed, detail.as_ref(), output).map_err(metastash::ops::Error::Output)
    };
    let (report, scope) = match &after {
        Side::Live => {
            let store = store::source_like(global, &before.manifest.layout)?.store;
            let scope = project.cloned().unwrap_or_else(|| before.manifest.scope.clone());
            let report = if args.content {
                diff_live_contents(&repo, &before, &*store, &scope, &noise, progress, show)?
            } else {
                let mut show = show;
                diff_live(&repo, &before, &*store, &scope, progress, |changed| show(changed, None))?
            };
            (report, scope)
        }
        Side::Snapshot(reference) => {
            let after = open::snapshot_to_compare(&repo, reference, project, global)?;
            let scope = match project {
                Some(project) => project.clone(),
                None => common_scope(&before, &after)?,
            };
            let report = if args.content {
                diff_snapshots_contents(&repo, &before, &after, &scope, &noise, progress, show)?
            } else {
                let mut show = show;
                diff_snapshots(&repo, &before, &after, &scope, |changed| show(changed, None))?
            };
            (report, scope)
        }
    };
    progress.clear();
    output.say(&format!(
        "{}{} added, {} removed, {} changed{}, {} with other permissions{}",
        // Without this, a comparison that leaves out most of the store looks like one that found nothing.
        if scope == Scope::System { String::new() } else { format!("in {scope}: ") },
        report.added,
        report.removed,
        report.changed,
        if noisy > 0 { format!(" ({noisy} in noise only)") } else { String::new() },
        report.mode,
        if report.directories > 0 { format!("; directories: {}", report.directories) } else { String::new() },
    ))?;
    output.message(
        "diff_summary",
        json!({
            "added": report.added,
            "removed": report.removed,
            "changed": report.changed,
            "mode": report.mode,
            "directories": report.directories,
            "noise_only": args.content.then_some(noisy),
            "problems": report.problems,
            "project": scope.prefix().map(|name| String::from_utf8_lossy(name).into_owned()),
        }),
    )?;
    Ok(match report {
        report if report.problems > 0 || is_partial => Code::Unread,
        report if args.exit_code && report.is_different() => Code::Different,
        _ => Code::Done,
    })
}

/// Returns the two sides, and whether not all is known of the first.
fn sides(
    repo: &Repository,
    args: &DiffArgs,
    global: &Global,
    output: &Output,
    progress: &Progress<'_>,
) -> Result<(Snapshot, Side, bool)> {
    let Some(moment) = args.at.at else {
        let Some(before) = &args.before else { return Err(Usage("a snapshot is missing".to_owned()).into()) };
        let before = open::snapshot_to_compare(repo, before, args.project.as_ref(), global)?;
        return Ok((before, args.after.clone().unwrap_or(Side::Live), false));
    };
    if args.after.is_some() {
        let message = "with --at the moment is the first side, and only the second is named".to_owned();
        return Err(Usage(message).into());
    }
    let after = match &args.before {
        None => Side::Live,
        Some(reference) => reference.to_string().parse().map_err(Usage)?,
    };
    let report = at::snapshot(repo, moment, &args.at, None, global, output, progress)?;
    at::say(&report, moment, output)?;
    let is_partial = !report.gaps.is_empty();
    Ok((report.snapshot, after, is_partial))
}

/// Returns what both snapshots are about: what only one of them looked at is no difference.
fn common_scope(before: &Snapshot, after: &Snapshot) -> Result<Scope> {
    let (before, after) = (&before.manifest.scope, &after.manifest.scope);
    match (before.covers(after), after.covers(before)) {
        (true, _) => Ok(after.clone()),
        (_, true) => Ok(before.clone()),
        _ => {
            Err(Usage(format!("one snapshot holds {before} only, the other {after} only: there is nothing to compare"))
                .into())
        }
    }
}

fn show(changed: &Changed, detail: Option<&Detail>, output: &Output) -> std::io::Result<()> {
    let (sign, word, colour) = match changed.change {
        Change::Added => ('+', "added", Colour::Green),
        Change::Removed => ('-', "removed", Colour::Red),
        Change::Changed => ('M', "changed", Colour::Yellow),
        Change::Mode => ('m', "mode", Colour::Yellow),
    };
    let side = changed.after.as_ref().or(changed.before.as_ref());
    let slash = if side.is_some_and(|entry| entry.document().is_none()) { "/" } else { "" };
    output.coloured_result(colour, &format!("{sign} {}{slash}", changed.path))?;
    if !output.is_json() {
        return detail.map_or(Ok(()), |detail| show_detail(detail, output));
    }
    let mut fields = path_fields(&changed.path);
    let side = |entry: &Option<Entry>| entry.as_ref().map(entry_fields);
    fields.insert("change".to_owned(), json!(word));
    fields.insert("before".to_owned(), json!(side(&changed.before)));
    fields.insert("after".to_owned(), json!(side(&changed.after)));
    message(fields, detail, output)
}
