//! What a restore refuses to do unless it is told by name that it may.

use std::collections::{BTreeMap, BTreeSet};

use super::fetch::content_of;
use super::restore::{Mode, Plan, RestoreOptions, documents};
use super::{Error, Result};
use crate::endpoint::{Listing, Outcome, Target};
use crate::model::entry::Document;
use crate::model::path::{EntryPath, escape};
use crate::model::scope::Scope;
use crate::platform::kylin::content::{identity, text_field};
use crate::platform::kylin::detect::only_project;
use crate::platform::kylin::layout::{Layout, is_project};
use crate::repo::Repository;
use crate::repo::snapshot::Snapshot;
use crate::repo::tree::Tree;

/// Models larger than this are not looked into.
const MODEL_BYTES_MAX: u64 = 64 << 20;

fn refuse<T>(danger: String, way_out: &str) -> Result<T> {
    Err(Error::Refused { danger, way_out: way_out.to_owned() })
}

/// Checks what can be told before the target is looked at.
pub(super) fn check_snapshot(snapshot: &Snapshot, tree: &Tree, scope: &Scope, options: &RestoreOptions) -> Result<()> {
    if options.mode == Mode::Merge {
        return Ok(());
    }
    let id = snapshot.id.short();
    if !snapshot.manifest.scope.covers(scope) && !options.allow.project_snapshot {
        return refuse(
            format!(
                "snapshot {id} holds {} only; truncating the whole store would remove all else",
                snapshot.manifest.scope
            ),
            "name the project with `--project`, or accept it with `--allow-project-snapshot`",
        );
    }
    if documents(tree, scope) == 0 && !options.allow.empty {
        if snapshot.manifest.is_checkpoint() {
            let before = match scope {
                Scope::System => "the store was empty before that restore".to_owned(),
                project => format!("{project} was not there before that restore"),
            };
            return refuse(
                format!("{before} ({scope}): undoing it would remove everything in it"),
                "`--allow-empty` accepts that",
            );
        }
        return refuse(
            format!(
                "snapshot {id} holds no document of this scope ({scope}); truncating would remove everything in it"
            ),
            "`--allow-empty` accepts that",
        );
    }
    if snapshot.manifest.is_incomplete() && !options.allow.incomplete {
        return refuse(
            format!(
                "documents that could not be read when snapshot {id} was taken ({}) may be removed by truncating",
                snapshot.manifest.counts.unread
            ),
            "restore without `--after-truncate`, or accept it with `--allow-incomplete`",
        );
    }
    Ok(())
}

/// Checks what would become of the target.
pub(super) fn check_plan(
    target: &dyn Target,
    repo: &Repository,
    listing: &dyn Listing,
    snapshot: &Snapshot,
    tree: &Tree,
    plan: &Plan,
    options: &RestoreOptions,
) -> Result<()> {
    let Ok(layout) = target.layout().parse::<Layout>() else { return Ok(()) };
    if !options.allow.other_system && plan.scope.contains(&layout.identity_path()) {
        check_identity(layout, repo, listing, snapshot, tree, plan, options)?;
    }
    if !options.allow.empty && !snapshot.manifest.is_checkpoint() {
        check_emptiness(snapshot, tree, plan)?;
    }
    if !options.allow.project_snapshot {
        check_completeness(repo, snapshot, tree, plan)?;
    }
    if options.allow.same_alias { Ok(()) } else { check_aliases(layout, repo, listing, tree, plan) }
}

/// Refuses to truncate everything to what has no project at all: it may be half a backup, or files that lie where one was.
fn check_emptiness(snapshot: &Snapshot, tree: &Tree, plan: &Plan) -> Result<()> {
    let has_project = tree.projects.keys().any(|name| is_project(name));
    if plan.scope != Scope::System || has_project || plan.removals.is_empty() {
        return Ok(());
    }
    let (id, count) = (snapshot.id.short(), plan.removals.len());
    refuse(
        format!("snapshot {id} holds no project; truncating would remove {count} documents"),
        "`--allow-empty` accepts that",
    )
}

/// Refuses to truncate everything to what is a backup of one project, though it does not say so.
fn check_completeness(repo: &Repository, snapshot: &Snapshot, tree: &Tree, plan: &Plan) -> Result<()> {
    if plan.scope != Scope::System || plan.removals.is_empty() {
        return Ok(());
    }
    // Most snapshots show at once that they hold more: only few entries are looked at.
    let mut failed = Ok(());
    let paths = repo.entries(tree, &Scope::System).map_while(|entry| entry.map_err(|e| failed = Err(e)).ok());
    let only = only_project(paths.map(|entry| entry.path));
    failed?;
    let Some(project) = only else { return Ok(()) };
    let others = plan.removals.iter().filter(|removal| removal.path.project() != Some(&project)).count();
    if others == 0 {
        return Ok(());
    }
    let (id, project) = (snapshot.id.short(), escape(&project));
    refuse(
        format!(
            "snapshot {id} looks like a backup of project {project} only; truncating would remove {others} documents \
             of other projects and of the system"
        ),
        "name the project with `--project`, or accept it with `--allow-project-snapshot`",
    )
}

/// Refuses to make one system another: its identity, nodes and users would be those of the snapshot's.
fn check_identity(
    layout: Layout,
    repo: &Repository,
    listing: &dyn Listing,
    snapshot: &Snapshot,
    tree: &Tree,
    plan: &Plan,
    options: &RestoreOptions,
) -> Result<()> {
    const WAY_OUT: &str = "restore single projects with `--project`, or accept that the target becomes another system with \
                           `--allow-other-system`";
    let path = layout.identity_path();
    let entry = repo.entry(tree, &path)?;
    let Some(n) = listing.find(&path, 0) else { return Ok(()) };
    let Some(document) = entry.as_ref().and_then(|entry| entry.document()) else {
        let is_removed = plan.removals.iter().any(|removal| removal.path == path);
        let danger = format!("snapshot {} does not tell of which system it is", snapshot.id.short());
        // Whoever accepts that most is lost accepts this too.
        let is_accepted = options.allow.empty || options.allow.project_snapshot;
        return if is_removed && !is_accepted { refuse(danger, WAY_OUT) } else { Ok(()) };
    };
    let (theirs, ours) = (content_of(repo, document)?, live_content(listing, n)?);
    let (theirs, ours) = (identity(layout, &theirs), identity(layout, &ours));
    if theirs == ours {
        return Ok(());
    }
    refuse(
        format!("snapshot {} is of the system {theirs}, the target is the system {ours}", snapshot.id.short()),
        WAY_OUT,
    )
}

fn live_content(listing: &dyn Listing, n: usize) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    match listing.reader().read(n, MODEL_BYTES_MAX, &mut content)? {
        Outcome::Read(_) => Ok(content),
        Outcome::TooLarge => refuse(
            format!("{} of the target is too large for what it is", listing.path(n)),
            "look at it; `metastash doctor` may say more",
        ),
    }
}

/// Aliases of models that a project has, each with the models that have it.
type Aliases = BTreeMap<String, Vec<EntryPath>>;

/// Refuses a restore after which two models of a project would have one alias, unless they had it before, or all of them
/// have it in the snapshot. What counts is what each model will say, not what it says now.
fn check_aliases(layout: Layout, repo: &Repository, listing: &dyn Listing, tree: &Tree, plan: &Plan) -> Result<()> {
    let puts: BTreeMap<&EntryPath, &Document> = plan
        .puts
        .iter()
        .filter(|put| layout.is_model(&put.path))
        .filter_map(|put| Some((&put.path, put.document.as_ref()?)))
        .collect();
    let projects: BTreeSet<&[u8]> = puts.keys().filter_map(|path| path.project()).collect();
    if projects.is_empty() {
        return Ok(());
    }
    let removed: BTreeSet<u32> = plan.removals.iter().map(|removal| removal.found).collect();
    let replaced: BTreeSet<u32> = plan.puts.iter().filter_map(|put| put.replaces).collect();
    let (mut before, mut after): (BTreeMap<Vec<u8>, Aliases>, BTreeMap<Vec<u8>, Aliases>) = Default::default();
    let add = |to: &mut BTreeMap<Vec<u8>, Aliases>, path: &EntryPath, content: &[u8]| {
        // A model whose alias can't be read is none that Kylin could take for another.
        if let (Some(project), Ok(alias)) = (path.project(), text_field(content, "alias")) {
            let aliases = to.entry(project.to_vec()).or_default();
            aliases.entry(alias.into_owned()).or_default().push(path.clone());
        }
    };
    for n in listing.numbers() {
        let path = listing.path(n as usize);
        if !layout.is_model(&path) || !path.project().is_some_and(|project| projects.contains(project)) {
            continue;
        }
        let content = live_content(listing, n as usize)?;
        add(&mut before, &path, &content);
        if !removed.contains(&n) && !replaced.contains(&n) {
            add(&mut after, &path, &content);
        }
    }
    for (path, document) in puts {
        add(&mut after, path, &content_of(repo, document)?);
    }
    for (project, aliases) in after {
        for (alias, mut models) in aliases.into_iter().filter(|(_, models)| models.len() > 1) {
            models.sort_unstable();
            let had = before.get(&project).and_then(|aliases| aliases.get(&alias));
            if had.is_some_and(|had| models.iter().all(|model| had.contains(model))) || all_in(repo, tree, &models)? {
                continue;
            }
            let names: Vec<String> = models.iter().map(EntryPath::to_string).collect();
            return refuse(
                format!(
                    "project {} would have {} models named {alias}: {}",
                    escape(&project),
                    names.len(),
                    names.join(", ")
                ),
                "rename one in Kylin first, restore with `--after-truncate` to remove what only the store has, or accept \
                 it with `--allow-same-alias`",
            );
        }
    }
    Ok(())
}

fn all_in(repo: &Repository, tree: &Tree, paths: &[EntryPath]) -> Result<bool> {
    for path in paths {
        if repo.entry(tree, path)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}
