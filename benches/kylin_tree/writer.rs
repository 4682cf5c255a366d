//! Writes all documents of one project.

use std::io;

use super::dice::{DAY, Dice, END, HOUR};
use super::names;
use super::project::{Model, Project};
use super::segments::Builder;
use super::system;
use super::tree::Tree;
use super::{models, tables};

/// Fills the tree with a project's documents up to the tree's limit.
pub fn write(project: &Project, tree: &mut Tree<'_>) -> io::Result<()> {
    tree.put("PROJECT", &project.name, project.created, &system::project(project))?;
    let mut dice = project.dice(0, 3);
    let permissions = system::permissions(project, &mut dice);
    tree.put("OBJECT_ACL", &project.uuid, project.created, &permissions)?;
    write_tables(project, tree)?;
    for position in 0..project.models.len() {
        write_model(project, position, tree)?;
    }
    write_users(project, tree)?;
    write_statistics(project, tree)?;
    if project.streams() {
        write_streaming(project, tree)?;
    }
    write_segments(project, tree)
}

fn write_tables(project: &Project, tree: &mut Tree<'_>) -> io::Result<()> {
    let streaming = streaming_tables(project);
    for (position, table) in project.tables.iter().enumerate() {
        let mut dice = project.dice(position, 4);
        let key = format!("{}.{}", project.name, table.identity());
        let content = tables::table(project, table, &mut dice, streaming.contains(&position));
        tree.put("TABLE_INFO", &key, table.modified, &content)?;
        if dice.chance(65) {
            let uuid = dice.uuid();
            let content = tables::extended(project, table, &mut dice, &uuid);
            tree.put("TABLE_EXD", &key, table.modified, &content)?;
        }
        if dice.chance(3) {
            let content = tables::internal(project, table, &mut dice);
            tree.put("INTERNAL_TABLE", &key, table.modified, &content)?;
        }
    }
    Ok(())
}

fn streaming_tables(project: &Project) -> Vec<usize> {
    let models = project.models.iter().filter(|model| model.streaming);
    let mut tables: Vec<usize> = models.map(|model| model.tables[0]).collect();
    tables.sort_unstable();
    tables.dedup();
    tables
}

fn write_model(project: &Project, position: usize, tree: &mut Tree<'_>) -> io::Result<()> {
    let (model, mut dice) = (&project.models[position], project.dice(position, 5));
    let at = model.modified;
    tree.put("MODEL", &model.uuid, at, &models::model(project, model, &mut dice))?;
    tree.put("INDEX_PLAN", &model.uuid, at, &models::index_plan(project, model, &mut dice))?;
    for &table in &model.tables {
        let (uuid, identity) = (dice.uuid(), project.tables[table].identity());
        let content = models::relation(project, model, "table_identity", &identity, &uuid);
        tree.put("TABLE_MODEL_RELATION", &uuid, at, &content)?;
    }
    for (i, computed) in model.computed.iter().enumerate() {
        let content = models::compute_column(project, model, &mut dice, i);
        tree.put("COMPUTE_COLUMN", computed, at, &content)?;
        let uuid = dice.uuid();
        let content = models::relation(project, model, "cc_uuid", computed, &uuid);
        tree.put("CC_MODEL_RELATION", &uuid, at, &content)?;
    }
    for &layout in model.layouts.iter().filter(|_| model.details) {
        let content = models::layout_details(project, model, &mut dice, layout);
        tree.put("LAYOUT_DETAILS", &format!("{}-{layout}", model.uuid), at, &content)?;
    }
    Ok(())
}

fn write_users(project: &Project, tree: &mut Tree<'_>) -> io::Result<()> {
    let (name, at) = (&project.name, project.created);
    for user in 0..project.users {
        let mut dice = project.dice(usize::try_from(user).unwrap_or(0), 6);
        let sid = names::user(user);
        tree.put("ACL", &format!("{name}.u.{sid}"), at, &system::row_acl(project, &mut dice))?;
        if dice.chance(50) {
            let content = system::queries(project, &mut dice);
            tree.put("QUERY_RECORD", &format!("{name}.{sid}"), at, &content)?;
        }
    }
    let mut dice = project.dice(0, 7);
    let group = system::row_acl(project, &mut dice);
    tree.put("ACL", &format!("{name}.g.ROLE_ANALYST"), at, &group)?;
    if dice.chance(40) {
        tree.put("SQL_BLACKLIST", name, at, &system::blacklist(project, &mut dice))?;
    }
    if dice.chance(40) {
        let view = format!("{}_OVERVIEW", name.to_uppercase());
        let content = system::logical_view(project, &mut dice, &view);
        tree.put("LOGICAL_VIEW", &view, at, &content)?;
    }
    Ok(())
}

fn write_statistics(project: &Project, tree: &mut Tree<'_>) -> io::Result<()> {
    let mut dice = project.dice(0, 8);
    for ago in 1..=(tree.left() / 40).min(120) {
        let day = END - ago * DAY;
        let built = project.models.iter().filter(|_| dice.chance(30)).take(12);
        let built: Vec<String> = built.map(|model| model.alias.clone()).collect();
        let content = system::job_stats(&project.name, &built, &mut dice, day);
        tree.put("JOB_STATS", &format!("{}.{day}", project.name), day + 20 * HOUR, &content)?;
    }
    Ok(())
}

fn write_streaming(project: &Project, tree: &mut Tree<'_>) -> io::Result<()> {
    let mut dice = project.dice(0, 9);
    let positions = streaming_tables(project);
    let identities: Vec<String> = positions.iter().map(|&table| project.tables[table].identity()).collect();
    let key = format!("{}.{}", project.name, tables::PARSER);
    tree.put("DATA_PARSER", &key, project.created, &tables::parser(project, &mut dice, &identities))?;
    for table in positions.into_iter().map(|position| &project.tables[position]) {
        let key = format!("{}.{}", project.name, table.identity());
        tree.put("KAFKA_CONFIG", &key, table.modified, &tables::kafka(project, table, &mut dice))?;
    }
    write_streaming_models(project, &mut dice, tree)
}

fn write_streaming_models(project: &Project, dice: &mut Dice, tree: &mut Tree<'_>) -> io::Result<()> {
    for model in project.models.iter().filter(|model| model.streaming) {
        tree.put("FUSION_MODEL", &model.uuid, model.modified, &tables::fusion(project, model))?;
        for kind in ["build", "merge"] {
            let content = tables::streaming_job(project, model, dice, kind);
            tree.put("STREAMING_JOB", &format!("{}_{kind}", model.uuid), model.modified, &content)?;
        }
    }
    Ok(())
}

/// Shares what is left of the limit among the models, two documents a segment; an odd one is a segment that was
/// not built yet and so has no LAYOUT.
fn write_segments(project: &Project, tree: &mut Tree<'_>) -> io::Result<()> {
    let left = tree.left().saturating_sub(project.models.len() as u64);
    let total: u64 = project.models.iter().map(|model| model.weight).sum();
    let (mut before, mut given) = (0, 0);
    for (position, model) in project.models.iter().enumerate() {
        before += model.weight;
        let until = left / 2 * before / total;
        let last = position + 1 == project.models.len();
        write_dataflow(project, position, until - given, last && left % 2 == 1, tree)?;
        given = until;
    }
    Ok(())
}

fn write_dataflow(project: &Project, position: usize, built: u64, fresh: bool, tree: &mut Tree<'_>) -> io::Result<()> {
    let model: &Model = &project.models[position];
    let builder = Builder::new(project, position, built + u64::from(fresh));
    let mut dice = project.dice(position, 10);
    let mut modified = model.modified;
    for number in 0..builder.uuids().len() {
        let fresh = fresh && number + 1 == builder.uuids().len();
        let segment = builder.segment(&mut dice, number, fresh);
        let content = builder.segment_document(&mut dice, &segment);
        tree.put("SEGMENT", segment.uuid, segment.built, &content)?;
        if !fresh {
            let content = builder.layout_document(&mut dice, &segment);
            tree.put("LAYOUT", segment.uuid, segment.built, &content)?;
        }
        modified = modified.max(segment.built);
    }
    let content = models::dataflow(project, model, &mut dice, builder.uuids(), modified);
    tree.put("DATAFLOW", &model.uuid, modified, &content)
}
