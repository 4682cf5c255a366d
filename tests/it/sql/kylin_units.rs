//! Business transactions on models that touch several tables, and what holds in every state between them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};

use super::connection::Result;
use super::kylin_client::{KylinClient, Unit, random_uuid, uuid_of};

/// How many models the units are about; there are fewer when some are removed.
pub(crate) const MODELS: u64 = 8;

/// What a unit did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    Created,
    Counted,
    Built,
    Dropped,
    Deleted,
}

/// Does the unit of this number, on one of a few models of a project: makes it, counts in all its documents at once,
/// adds or drops a segment, or removes all of it.
pub(crate) fn model_unit(client: &mut KylinClient, project: &str, number: u64) -> Result<Done> {
    let model = Model::new(project, number % MODELS, client.is_new());
    client.transaction(project, |unit| {
        let Some(dataflow) = unit.read(&model.name("DATAFLOW"))? else {
            model.create(unit)?;
            return Ok(Done::Created);
        };
        let segments = model.segments(&dataflow);
        let step = number / MODELS;
        let done = match step % 12 {
            11 => Done::Deleted,
            2 | 5 | 7 => Done::Built,
            4 | 8 if !segments.is_empty() => Done::Dropped,
            _ => Done::Counted,
        };
        match done {
            Done::Deleted => model.delete(unit, &segments)?,
            Done::Built => model.count(unit, |segments| segments.push(model.build(number)))?,
            Done::Dropped => {
                model.delete_segment(unit, &segments[0])?;
                model.count(unit, |segments| drop(segments.remove(0)))?;
            }
            _ => model.count(unit, |_| {})?,
        }
        if done == Done::Built {
            model.create_segment(unit, &segment_uuid(number))?;
        }
        Ok(done)
    })
}

struct Model {
    project: String,
    uuid: String,
    alias: String,
    is_new: bool,
}

fn segment_uuid(number: u64) -> String {
    hashed("segment", number)
}

fn hashed(what: &str, number: u64) -> String {
    let hash = blake3::hash(format!("{what} {number}").as_bytes());
    uuid_of(hash.as_bytes().first_chunk().unwrap())
}

impl Model {
    fn new(project: &str, number: u64, is_new: bool) -> Self {
        let uuid = hashed(&format!("model of {project}"), number);
        Self { project: project.to_owned(), uuid, alias: format!("unit_{number}"), is_new }
    }

    fn name(&self, type_name: &str) -> String {
        if self.is_new {
            return format!("{type_name}/{}", self.uuid);
        }
        let folder = match type_name {
            "MODEL" => "model_desc",
            "INDEX_PLAN" => "index_plan",
            "DATAFLOW" => "dataflow",
            other => panic!("no such document: {other}"),
        };
        format!("/{}/{folder}/{}.json", self.project, self.uuid)
    }

    fn layout_name(&self, segment: &str) -> String {
        match self.is_new {
            true => format!("LAYOUT/{segment}"),
            false => format!("/{}/dataflow_details/{}/{segment}.json", self.project, self.uuid),
        }
    }

    fn document(&self, more: &Json) -> Json {
        let mut json = json!({ "uuid": self.uuid, "project": self.project, "version": "5.0.2.0", "unit_count": 0 });
        json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json
    }

    fn create(&self, unit: &mut Unit<'_>) -> Result<()> {
        // Its key is new each time, its table and model are not: no two of them may be there at once.
        let relation = random_uuid();
        let model = json!({ "alias": self.alias, "fact_table": "UNITS.FACTS", "unit_relation": relation });
        unit.create(&self.name("MODEL"), &self.document(&model))?;
        unit.create(&self.name("INDEX_PLAN"), &self.document(&json!({ "indexes": [] })))?;
        let segments = if self.is_new { "segment_uuids" } else { "segments" };
        unit.create(&self.name("DATAFLOW"), &self.document(&json!({ segments: [] })))?;
        if self.is_new {
            let fields = json!({ "uuid": relation, "model_uuid": self.uuid, "table_identity": "UNITS.FACTS" });
            unit.create(&format!("TABLE_MODEL_RELATION/{relation}"), &self.document(&fields))?;
        }
        Ok(())
    }

    fn delete(&self, unit: &mut Unit<'_>, segments: &[String]) -> Result<()> {
        for segment in segments {
            self.delete_segment(unit, segment)?;
        }
        if let Some(model) = unit.read(&self.name("MODEL"))?.filter(|_| self.is_new) {
            unit.delete(&format!("TABLE_MODEL_RELATION/{}", model["unit_relation"].as_str().unwrap()))?;
        }
        for type_name in ["DATAFLOW", "INDEX_PLAN", "MODEL"] {
            unit.delete(&self.name(type_name))?;
        }
        Ok(())
    }

    fn segments(&self, dataflow: &Json) -> Vec<String> {
        let id = |segment: &Json| if self.is_new { segment.clone() } else { segment["id"].clone() };
        let list = &dataflow[if self.is_new { "segment_uuids" } else { "segments" }];
        list.as_array().unwrap().iter().map(|segment| id(segment).as_str().unwrap().to_owned()).collect()
    }

    /// Returns what the list of segments gets for a new one.
    fn build(&self, number: u64) -> Json {
        let uuid = segment_uuid(number);
        if self.is_new { json!(uuid) } else { json!({ "id": uuid, "status": "READY" }) }
    }

    fn count(&self, unit: &mut Unit<'_>, change: impl FnOnce(&mut Vec<Json>)) -> Result<()> {
        let add = |json: &mut Json| json["unit_count"] = json!(json["unit_count"].as_i64().unwrap() + 1);
        unit.update(&self.name("DATAFLOW"), |json| {
            add(json);
            let segments = if self.is_new { "segment_uuids" } else { "segments" };
            change(json[segments].as_array_mut().unwrap());
        })?;
        unit.update(&self.name("INDEX_PLAN"), add)?;
        unit.update(&self.name("MODEL"), add)
    }

    fn create_segment(&self, unit: &mut Unit<'_>, segment: &str) -> Result<()> {
        if self.is_new {
            let fields = json!({ "uuid": segment, "model_uuid": self.uuid, "status": "READY" });
            unit.create(&format!("SEGMENT/{segment}"), &self.document(&fields))?;
        }
        let fields = json!({ "uuid": segment, "dataflow": self.uuid, "layouts": [] });
        unit.create(&self.layout_name(segment), &self.document(&fields))
    }

    fn delete_segment(&self, unit: &mut Unit<'_>, segment: &str) -> Result<()> {
        if self.is_new {
            unit.delete(&format!("SEGMENT/{segment}"))?;
        }
        unit.delete(&self.layout_name(segment)).map(drop)
    }
}

/// What was found of one model.
#[derive(Debug, Default)]
struct Found {
    counts: BTreeMap<&'static str, i64>,
    listed: BTreeSet<String>,
    // None in the old layout, where the list has them.
    segments: Option<BTreeSet<String>>,
    layouts: BTreeSet<String>,
    relation: Option<String>,
    relations: BTreeSet<String>,
}

/// Tells what does not hold in documents that should be as one moment saw them; returns how many models hold. Names may
/// be those of rows, of files, or paths in snapshots: any with `TYPE/key` in them, or of the old layout.
pub(crate) fn check_invariants(documents: &BTreeMap<String, Vec<u8>>) -> Result<usize, String> {
    let mut models: BTreeMap<String, Found> = BTreeMap::new();
    for (name, content) in documents {
        let Some(kind) = kind_of(name) else { continue };
        let Ok(json) = serde_json::from_slice::<Json>(content) else { continue };
        let Some(count) = json["unit_count"].as_i64() else { continue };
        let text = |field: &str| json[field].as_str().unwrap_or_default().to_owned();
        let owner = match kind {
            "SEGMENT" | "TABLE_MODEL_RELATION" => text("model_uuid"),
            "LAYOUT" => text("dataflow"),
            _ => text("uuid"),
        };
        let found = models.entry(owner).or_default();
        match kind {
            "SEGMENT" => drop(found.segments.get_or_insert_default().insert(text("uuid"))),
            "LAYOUT" => drop(found.layouts.insert(text("uuid"))),
            "TABLE_MODEL_RELATION" => drop(found.relations.insert(text("uuid"))),
            _ => drop(found.counts.insert(kind, count)),
        }
        if kind == "MODEL" {
            found.relation = json["unit_relation"].as_str().map(str::to_owned);
        }
        let list = ["segment_uuids", "segments"].into_iter().find_map(|field| json[field].as_array());
        for segment in list.into_iter().flatten() {
            let uuid = segment.as_str().or(segment["id"].as_str()).unwrap_or_default();
            found.listed.insert(uuid.to_owned());
        }
        if json["segment_uuids"].is_array() {
            found.segments.get_or_insert_default();
        }
    }
    for (uuid, found) in &models {
        let counts: BTreeSet<i64> = found.counts.values().copied().collect();
        let is_whole = found.counts.len() == 3 && counts.len() == 1;
        let has_segments = found.segments.as_ref().is_none_or(|segments| *segments == found.listed);
        let is_new = found.segments.is_some();
        let is_related = !is_new || found.relations.iter().eq(&found.relation);
        if !(is_whole && has_segments && found.layouts == found.listed && is_related) {
            return Err(format!("model {uuid}: {found:?}"));
        }
    }
    Ok(models.len())
}

fn kind_of(name: &str) -> Option<&'static str> {
    let kinds = ["MODEL", "INDEX_PLAN", "DATAFLOW", "SEGMENT", "LAYOUT", "TABLE_MODEL_RELATION"];
    let old = [("model_desc", 0), ("index_plan", 1), ("dataflow", 2), ("dataflow_details", 4)];
    name.split('/').find_map(|part| {
        let old = old.iter().find(|(folder, _)| *folder == part).map(|(_, kind)| kinds[*kind]);
        kinds.into_iter().find(|kind| *kind == part).or(old)
    })
}
