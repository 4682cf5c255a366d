//! `metastash restore` and `metastash undo`

use std::time::Instant;

use anyhow::Result;
use clap::Args;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use metastash::endpoint::Target;
use metastash::endpoint::location::Located;
use metastash::model::scope::Scope;
use metastash::ops::restore::{
    Allow, Mode, Plan, RestoreOptions, RestoreReport, last_checkpoint, plan_restore, restore,
};
use metastash::repo::Repository;
use metastash::repo::snapshot::{Reference, Snapshot};
use serde_json::{Value, json};

use super::args::Global;
use super::at::AtArgs;
use super::exit::{Code, Refusal};
use super::nodes::{Nodes, NodesArgs};
use super::output::{Output, bytes, count, path_fields, short};
use super::progress::Progress;
use super::{at, open, store};

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

pub(crate) fn run(args: &RestoreArgs, global: &Global, output: &Output, progress: &Progress<'_>) -> Result<Code> {
    let nodes = Nodes::parse(&args.nodes.kylin_urls)?;
    let repo = open::repository(global)?;
    let project = args.project.as_ref();
    let (snapshot, _) = at::named_or_at(&repo, args.snapshot.as_ref(), &args.at, project, global, output, progress)?;
    let target = store::target(global, &snapshot.manifest.layout, args.create_tables)?;
    refuse_foreign_latest(args, &snapshot, &target)?;
    let options = RestoreOptions {
        project: args.project.clone(),
        mode: if args.after_truncate { Mode::Truncate } else { Mode::Merge },
        keep_permissions: args.keep_permissions,
        leave_backup_files: false,
        checkpoint: !args.no_checkpoint,
        reloads: !nodes.is_empty(),
        allow: Allow {
            empty: args.allow_empty,
            incomplete: args.allow_incomplete,
            project_snapshot: args.allow_project_snapshot,
            other_system: args.allow_other_system,
            same_alias: args.allow_same_alias,
        },
        author: open::author(),
    };
    plan_or_restore(&*target.store, &repo, &snapshot, &options, args.dry_run, &nodes, output, progress)
}

/// Refuses to truncate a store to the latest backup of another: who says `latest` means a backup of this store.
fn refuse_foreign_latest(args: &RestoreArgs, snapshot: &Snapshot, target: &Located) -> Result<()> {
    let manifest = &snapshot.manifest;
    let is_own = manifest.store == target.store.location() && manifest.host == open::author().host;
    let is_empty_at = |place| std::fs::read_dir(place).map_or(true, |mut entries| entries.next().is_none());
    let is_empty = target.place.as_deref().is_some_and(is_empty_at);
    let is_meant = matches!(args.snapshot, Some(Reference::Name(_)));
    if is_own || is_empty || !args.after_truncate || is_meant {
        return Ok(());
    }
    let named = args.snapshot.as_ref().map_or_else(|| "--at".to_owned(), ToString::to_string);
    Err(Refusal {
        message: format!(
            "the repository has no backup of {}; `{named}` is of {}:{}",
            target.store.location(),
            manifest.host,
            manifest.store
        ),
        hint: format!("name it by its id if that is what you mean: {}", short(&snapshot.id)),
        code: 14,
    }
    .into())
}

pub(crate) fn undo(args: &UndoArgs, global: &Global, output: &Output, progress: &Progress<'_>) -> Result<Code> {
    let nodes = Nodes::parse(&args.nodes.kylin_urls)?;
    let repo = open::repository(global)?;
    let location = store::required_location(global)?;
    let checkpoint = last_checkpoint(&location, &repo, &open::author())?;
    let target = store::target_of_checkpoint(global, &checkpoint.manifest.layout)?;
    let options = RestoreOptions {
        project: Some(checkpoint.manifest.scope.clone()),
        mode: Mode::Truncate,
        keep_permissions: false,
        leave_backup_files: false,
        checkpoint: !args.no_checkpoint,
        reloads: !nodes.is_empty(),
        // What was there before may be there again, whatever it is.
        allow: Allow {
            empty: args.allow_empty,
            project_snapshot: true,
            other_system: true,
            same_alias: true,
            ..Allow::default()
        },
        author: open::author(),
    };
    plan_or_restore(&*target.store, &repo, &checkpoint, &options, args.dry_run, &nodes, output, progress)
}

#[expect(clippy::too_many_arguments, reason = "the two commands that restore meet here")]
fn plan_or_restore(
    target: &dyn Target,
    repo: &Repository,
    snapshot: &Snapshot,
    options: &RestoreOptions,
    dry_run: bool,
    nodes: &Nodes,
    output: &Output,
    progress: &Progress<'_>,
) -> Result<Code> {
    let began = Instant::now();
    let mut is_seen = true;
    let is_partial = if dry_run {
        let plan = plan_restore(target, repo, snapshot, options, progress)?;
        progress.clear();
        show_plan(&plan, snapshot, output)?;
        !plan.left_out.is_empty()
    } else {
        let report = restore(target, repo, snapshot, options, progress)?;
        progress.clear();
        show_report(&report, began.elapsed().as_secs_f64(), output)?;
        if !report.plan.is_empty() && !nodes.is_empty() {
            // Nodes may take their time. What is done should be seen to be done.
            output.finish()?;
            is_seen = nodes.reload(output, progress)?;
        }
        !report.plan.left_out.is_empty()
    };
    let mut code = Code::Done;
    if is_partial || !is_seen {
        code = Code::Unread;
    }
    if snapshot.manifest.is_incomplete() {
        let (id, unread) = (short(&snapshot.id), snapshot.manifest.counts.unread);
        output.result(&if snapshot.manifest.is_taken() {
            format!("snapshot {id} is incomplete: what could not be read when it was taken ({unread}) is not in it")
        } else {
            format!("snapshot {id} is incomplete: what is not known of that moment ({unread}) is as it was last known")
        })?;
        code = Code::Unread;
    }
    Ok(code)
}

fn show_plan(plan: &Plan, snapshot: &Snapshot, output: &Output) -> Result<()> {
    output.long_result(plan)?;
    if output.is_json() {
        for put in &plan.puts {
            let mut fields = path_fields(&put.path);
            let action = if put.replaces.is_some() { "replace" } else { "add" };
            fields.insert("action".to_owned(), json!(action));
            fields.insert("size".to_owned(), json!(put.document.as_ref().map(|document| document.size)));
            output.message("restore_step", fields.into())?;
        }
        for removal in &plan.removals {
            let mut fields = path_fields(&removal.path);
            fields.insert("action".to_owned(), json!("remove"));
            output.message("restore_step", fields.into())?;
        }
    }
    show_left_out(plan, output)?;
    if !plan.counts.is_empty() {
        output.say(&counts_table(plan).to_string())?;
    }
    if let Some(advice) = &plan.advice {
        output.result(&format!("advice: {advice}"))?;
    }
    output.say(&format!(
        "would restore {} of snapshot {}: {}; nothing was changed",
        scope_words(plan),
        short(&snapshot.id),
        summary(plan)
    ))?;
    output.message("restore_plan", plan_fields(plan, snapshot))?;
    Ok(())
}

pub(crate) fn show_report(report: &RestoreReport, seconds: f64, output: &Output) -> Result<()> {
    if !report.plan.is_empty() {
        output.detail(report.plan.to_string().trim_end())?;
    }
    show_left_out(&report.plan, output)?;
    if let Some(checkpoint) = &report.checkpoint {
        output.say(&format!("checkpoint {} saved: `metastash undo` puts it back", short(&checkpoint.id)))?;
    }
    output.say(&format!(
        "restored {} of snapshot {}: {}, wrote {}, {seconds:.2} s",
        scope_words(&report.plan),
        short(&report.snapshot.id),
        summary(&report.plan),
        bytes(report.bytes_written)
    ))?;
    let mut fields = plan_fields(&report.plan, &report.snapshot);
    fields["checkpoint"] = json!(report.checkpoint.as_ref().map(|checkpoint| checkpoint.id.to_string()));
    fields["bytes_written"] = json!(report.bytes_written);
    fields["seconds"] = json!(seconds);
    output.message("restore_summary", fields)?;
    Ok(())
}

/// Says which documents have no place in the target: nothing is left out in silence.
fn show_left_out(plan: &Plan, output: &Output) -> Result<()> {
    let Some(first) = plan.left_out.first() else { return Ok(()) };
    output.result(&format!(
        "left out, since the store has no place for it: {} ({first}{})",
        count(plan.left_out.len() as u64, "document"),
        if plan.left_out.len() > 1 { ", …" } else { "" }
    ))?;
    Ok(())
}

fn summary(plan: &Plan) -> String {
    let total = plan.total();
    format!(
        "{} added, {} replaced, {} removed, {} kept that only the store has, {} unchanged{}",
        count(total.add, "document"),
        total.replace,
        total.remove,
        total.keep,
        plan.same,
        if plan.left > 0 { format!(", {} left as they are", plan.left) } else { String::new() },
    )
}

fn scope_words(plan: &Plan) -> String {
    if plan.scope == Scope::System { "all".to_owned() } else { plan.scope.to_string() }
}

fn counts_table(plan: &Plan) -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    table.set_header(["project", "kind", "add", "replace", "remove", "keep"]);
    let or_dash = |name: &str| if name.is_empty() { "-".to_owned() } else { name.to_owned() };
    for ((project, kind), counts) in &plan.counts {
        let numbers = [counts.add, counts.replace, counts.remove, counts.keep].map(|number| number.to_string());
        table.add_row([or_dash(project), or_dash(kind)].into_iter().chain(numbers));
    }
    for column in 2..6 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn plan_fields(plan: &Plan, snapshot: &Snapshot) -> Value {
    let total = plan.total();
    let by_kind: Vec<Value> = plan
        .counts
        .iter()
        .map(|((project, kind), counts)| {
            json!({
                "project": project,
                "kind": kind,
                "add": counts.add,
                "replace": counts.replace,
                "remove": counts.remove,
                "keep": counts.keep,
            })
        })
        .collect();
    json!({
        "snapshot": snapshot.id.to_string(),
        "project": plan.scope.prefix().map(|name| String::from_utf8_lossy(name).into_owned()),
        "mode": if plan.mode == Mode::Truncate { "truncate" } else { "merge" },
        "add": total.add,
        "replace": total.replace,
        "remove": total.remove,
        "keep": total.keep,
        "same": plan.same,
        "left": plan.left,
        "left_out": plan.left_out.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "counts": by_kind,
        "advice": plan.advice,
    })
}
