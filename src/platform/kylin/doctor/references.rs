//! What documents refer to must be there, in the same project.

use std::collections::{HashMap, HashSet};

use super::document::State;
use super::examination::{Collected, Row};
use super::examine::Fact;
use super::names::Name;
use super::{Fault, Generation, Rule, pairs};
use crate::platform::kylin::kind::Kind;

/// A reference: from documents of one kind, by their key or a fact, to one of another kind, of this name.
type Reference = (Kind, Option<Fact>, Kind, Rule);

const REFERENCES: [Reference; 8] = [
    (Kind::IndexPlan, None, Kind::Model, Rule::IndexPlanWithoutModel),
    (Kind::Dataflow, None, Kind::Model, Rule::DataflowWithoutModel),
    (Kind::Model, None, Kind::IndexPlan, Rule::ModelWithoutIndexPlan),
    (Kind::Model, None, Kind::Dataflow, Rule::ModelWithoutDataflow),
    (Kind::Model, Some(Fact::Table), Kind::TableInfo, Rule::ModelWithoutTable),
    (Kind::Layout, Some(Fact::Dataflow), Kind::Dataflow, Rule::LayoutWithoutDataflow),
    (Kind::TableExd, Some(Fact::Table), Kind::TableInfo, Rule::TableExdWithoutTable),
    (Kind::KafkaConfig, Some(Fact::Table), Kind::TableInfo, Rule::KafkaWithoutTable),
];

/// Those between kinds that the old generation does not have.
const NEW_REFERENCES: [Reference; 15] = [
    (Kind::Dataflow, None, Kind::IndexPlan, Rule::DataflowWithoutIndexPlan),
    (Kind::Model, Some(Fact::Column), Kind::ComputeColumn, Rule::ModelWithoutColumn),
    (Kind::Dataflow, Some(Fact::Segment), Kind::Segment, Rule::DataflowWithoutSegment),
    (Kind::Segment, Some(Fact::Dataflow), Kind::Dataflow, Rule::SegmentWithoutDataflow),
    (Kind::Layout, None, Kind::Segment, Rule::LayoutWithoutSegment),
    (Kind::LayoutDetails, Some(Fact::Dataflow), Kind::Dataflow, Rule::LayoutDetailsWithoutDataflow),
    (Kind::CcModelRelation, Some(Fact::Column), Kind::ComputeColumn, Rule::ColumnRelationWithoutColumn),
    (Kind::CcModelRelation, Some(Fact::Model), Kind::Model, Rule::ColumnRelationWithoutModel),
    (Kind::TableModelRelation, Some(Fact::Model), Kind::Model, Rule::TableRelationWithoutModel),
    (Kind::TableModelRelation, Some(Fact::Table), Kind::TableInfo, Rule::TableRelationWithoutTable),
    (Kind::KafkaConfig, Some(Fact::Parser), Kind::DataParser, Rule::KafkaWithoutParser),
    (Kind::DataParser, Some(Fact::Jar), Kind::JarInfo, Rule::ParserWithoutJar),
    (Kind::StreamingJob, Some(Fact::Model), Kind::Model, Rule::StreamingJobWithoutModel),
    (Kind::FusionModel, Some(Fact::Model), Kind::Model, Rule::FusionModelWithoutModel),
    (Kind::TmpRec, Some(Fact::Model), Kind::Model, Rule::RecWithoutModel),
];

/// Finds references to documents that are not there.
pub(super) fn find(collected: &Collected, faults: &mut Vec<Fault>) {
    let present = Present::of(collected);
    let new = if collected.generation == Generation::New { &NEW_REFERENCES[..] } else { &[] };
    for reference in REFERENCES.iter().chain(new) {
        check(collected, &present, reference, faults);
    }
    segments(collected, &present, faults);
    if collected.generation == Generation::New {
        pairs::find(collected, faults);
    }
    permissions(collected, faults);
}

/// The documents that are there, under all names by which others refer to them.
struct Present<'a> {
    collected: &'a Collected,
    rows: HashMap<(Name, Kind, Name), u32>,
    /// Those whose project is not known.
    unplaced: HashSet<(Kind, Name)>,
}

impl<'a> Present<'a> {
    fn of(collected: &'a Collected) -> Self {
        let mut present = Self { collected, rows: HashMap::new(), unplaced: HashSet::new() };
        for (n, row) in collected.rows.iter().enumerate() {
            let number = u32::try_from(n).expect("documents are counted in 32 bits");
            if collected.is_unplaced(row) {
                present.unplaced.insert((row.kind, row.key));
                continue;
            }
            let mut add = |name| {
                present.rows.insert((row.project, row.kind, name), number);
            };
            if collected.all(n, Fact::Name).map(&mut add).count() == 0 {
                add(row.key);
            }
            // Which of its names is wrong is not known.
            if row.state == State::Misnamed {
                add(collected.uuid(n));
            }
        }
        present
    }

    fn get(&self, project: Name, kind: Kind, name: Name) -> Option<usize> {
        self.rows.get(&(project, kind, name)).map(|row| *row as usize)
    }

    /// Tells whether a document is there, be it one that can't be read and of which only the key is known.
    fn has(&self, project: Name, kind: Kind, name: Name) -> bool {
        self.get(project, kind, name).is_some() || self.has_unplaced(project, kind, name)
    }

    fn has_unplaced(&self, project: Name, kind: Kind, name: Name) -> bool {
        let prefix: &[u8] = match kind {
            _ if self.unplaced.is_empty() => return false,
            Kind::TableInfo | Kind::DataParser => b".",
            // The only type of jars there is.
            Kind::JarInfo => b".STREAMING_CUSTOM_PARSER_",
            _ => return self.unplaced.contains(&(kind, name)),
        };
        let names = &self.collected.names;
        let key = names.find(&[names.get(project), prefix, names.get(name)].concat());
        key.is_some_and(|key| self.unplaced.contains(&(kind, key)))
    }
}

fn check(collected: &Collected, present: &Present<'_>, reference: &Reference, faults: &mut Vec<Fault>) {
    let (from, by, to, rule) = *reference;
    for (n, row) in readable(collected, from) {
        let missing = |name: &Name| !present.has(row.project, to, *name);
        let fault = |name: Name| {
            let name = collected.text(name);
            let detail = format!("{} `{name}` is not there", called(collected.generation, to));
            collected.fault(rule, n, name, detail)
        };
        match by {
            Some(fact) => faults.extend(collected.all(n, fact).filter(missing).map(fault)),
            // Which of its names is wrong is not known, if it is misnamed.
            None if row.state == State::Misnamed && !missing(&collected.uuid(n)) => {}
            None => faults.extend(Some(row.key).filter(missing).map(fault)),
        }
    }
}

fn readable(collected: &Collected, kind: Kind) -> impl Iterator<Item = (usize, &Row)> {
    let rows = collected.rows.iter().enumerate();
    rows.filter(move |(_, row)| row.kind == kind && row.state != State::Broken)
}

/// Returns what a generation calls a kind.
fn called(generation: Generation, kind: Kind) -> &'static str {
    match (generation, kind) {
        (Generation::Old, Kind::Model) => "model_desc",
        (Generation::Old, Kind::IndexPlan) => "index_plan",
        (Generation::Old, Kind::Dataflow) => "dataflow",
        (Generation::Old, Kind::TableInfo) => "table",
        (_, kind) => kind.name(),
    }
}

/// A segment must be listed by its dataflow. In the old generation it is nowhere else, and its details refer to it.
fn segments(collected: &Collected, present: &Present<'_>, faults: &mut Vec<Fault>) {
    let listed: HashSet<(usize, Name)> = readable(collected, Kind::Dataflow)
        .flat_map(|(n, _)| collected.all(n, Fact::Segment).map(move |segment| (n, segment)))
        .collect();
    let (kind, rule) = match collected.generation {
        Generation::New => (Kind::Segment, Rule::SegmentNotListed),
        Generation::Old => (Kind::Layout, Rule::LayoutWithoutSegment),
    };
    for (n, row) in readable(collected, kind).filter(|(_, row)| row.state == State::Sound) {
        let segment = collected.all(n, Fact::Segment).next().unwrap_or(row.key);
        let Some(name) = collected.all(n, Fact::Dataflow).next() else { continue };
        let Some(dataflow) = present.get(row.project, Kind::Dataflow, name) else { continue };
        if collected.rows[dataflow].state != State::Broken && !listed.contains(&(dataflow, segment)) {
            let dataflow = called(collected.generation, Kind::Dataflow);
            let (segment, name) = (collected.text(segment), collected.text(name));
            let detail = format!("{dataflow} `{name}` does not list segment `{segment}`");
            faults.push(collected.fault(rule, n, segment, detail));
        }
    }
}

fn permissions(collected: &Collected, faults: &mut Vec<Fault>) {
    let mut projects = collected.rows.iter().filter(|row| row.kind == Kind::Project);
    if projects.any(|row| row.state == State::Broken) {
        return; // Its uuid may be the one that is not found.
    }
    let known: HashSet<Name> = readable(collected, Kind::Project).map(|(n, _)| collected.uuid(n)).collect();
    for (n, row) in readable(collected, Kind::ObjectAcl).filter(|(_, row)| !known.contains(&row.key)) {
        let uuid = collected.text(row.key);
        let detail = format!("there is no project whose `uuid` is `{uuid}`");
        faults.push(collected.fault(Rule::AclWithoutProject, n, uuid, detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::kylin::doctor::samples::{self, SOUND};

    /// What is found when a document of a sound store is missing.
    const MISSING: [(&str, &[&str]); 11] = [
        ("p/PROJECT/p", &["acl-without-project p/OBJECT_ACL/P P", "unknown-project p/CC_MODEL_RELATION/r p"]),
        (
            "p/MODEL/m",
            &[
                "column-relation-without-model p/CC_MODEL_RELATION/r m",
                "dataflow-without-model p/DATAFLOW/m m",
                "index-plan-without-model p/INDEX_PLAN/m m",
                "streaming-job-without-model p/STREAMING_JOB/m_build m",
                "table-relation-without-model p/TABLE_MODEL_RELATION/r m",
                "table-relation-without-model p/TABLE_MODEL_RELATION/r2 m",
            ],
        ),
        ("p/INDEX_PLAN/m", &["dataflow-without-index-plan p/DATAFLOW/m m", "model-without-index-plan p/MODEL/m m"]),
        (
            "p/DATAFLOW/m",
            &[
                "layout-details-without-dataflow p/LAYOUT_DETAILS/m-1 m",
                "layout-without-dataflow p/LAYOUT/s m",
                "model-without-dataflow p/MODEL/m m",
                "segment-without-dataflow p/SEGMENT/s m",
            ],
        ),
        ("p/SEGMENT/s", &["dataflow-without-segment p/DATAFLOW/m s", "layout-without-segment p/LAYOUT/s s"]),
        ("p/LAYOUT/s", &[]),
        (
            "p/COMPUTE_COLUMN/c",
            &["column-relation-without-column p/CC_MODEL_RELATION/r c", "model-without-column p/MODEL/m c"],
        ),
        (
            "p/TABLE_INFO/p.D.T",
            &[
                "model-without-table p/MODEL/m D.T",
                "table-exd-without-table p/TABLE_EXD/p.D.T D.T",
                "table-relation-without-table p/TABLE_MODEL_RELATION/r D.T",
            ],
        ),
        (
            "p/TABLE_INFO/p.D.K",
            &[
                "kafka-without-table p/KAFKA_CONFIG/p.D.K D.K",
                "model-without-table p/MODEL/m D.K",
                "table-relation-without-table p/TABLE_MODEL_RELATION/r2 D.K",
            ],
        ),
        ("p/DATA_PARSER/p.x.P", &["kafka-without-parser p/KAFKA_CONFIG/p.D.K x.P"]),
        ("p/JAR_INFO/p.T_j.jar", &["parser-without-jar p/DATA_PARSER/p.x.P j.jar"]),
    ];

    #[test]
    fn what_is_missing_is_told_where_it_is_referred_to() {
        samples::check(Generation::New, &SOUND, &[]);
        for (missing, expected) in MISSING {
            let rest: Vec<_> = SOUND.into_iter().filter(|(path, _)| *path != missing).collect();
            samples::check(Generation::New, &rest, expected);
        }
    }

    #[test]
    fn what_is_broken_is_told_once() {
        for (path, _) in SOUND {
            let mut documents = SOUND.to_vec();
            documents.retain(|(other, _)| *other != path);
            let (project, key) = path.split_once('/').unwrap();
            let unplaced = format!("_unplaced/{}", key.replace("p.T_j.jar", "p.STREAMING_CUSTOM_PARSER_j.jar"));
            let is_field = project == "p" && !path.contains("/PROJECT/") && !path.contains("/OBJECT_ACL/");
            let at = if is_field { &unplaced[..] } else { path };
            documents.push((at, "{"));
            samples::check(Generation::New, &documents, &[&format!("broken-json {at} ")]);
        }
    }

    #[test]
    fn segments_and_what_is_elsewhere() {
        let mut documents = SOUND.to_vec();
        documents.push(("p/SEGMENT/t", r#"{"uuid":"t","project":"p","model_uuid":"m"}"#));
        samples::check(Generation::New, &documents, &["segment-not-listed p/SEGMENT/t t"]);
        let mut documents = SOUND.to_vec();
        documents.extend([
            ("q/PROJECT/q", r#"{"uuid":"Q","name":"q"}"#),
            ("q/STREAMING_JOB/m_merge", r#"{"uuid":"m_merge","project":"q","model_id":"m"}"#),
        ]);
        samples::check(Generation::New, &documents, &["streaming-job-without-model q/STREAMING_JOB/m_merge m"]);
        let mut documents = SOUND.to_vec();
        documents.retain(|(path, _)| *path != "p/MODEL/m");
        documents.push(("p/MODEL/x", r#"{"uuid":"m","project":"p","alias":"a","computed_column_uuids":["c"]}"#));
        samples::check(Generation::New, &documents, &["key-mismatch p/MODEL/x "]);
    }

    #[test]
    fn references_of_the_old_generation() {
        let sound = [
            ("p/project/p.json", r#"{"uuid":"P"}"#),
            ("p/object_acl/P", "{}"),
            ("p/model_desc/m.json", r#"{"uuid":"m","fact_table":"D.T","join_tables":[{"table":"d.k"}]}"#),
            ("p/index_plan/m.json", r#"{"uuid":"m"}"#),
            ("p/dataflow/m.json", r#"{"uuid":"m","segments":[{"id":"s","name":"n"}]}"#),
            ("p/dataflow_details/m/s.json", r#"{"uuid":"s"}"#),
            ("p/table/D.T.json", "{}"),
            ("p/table/D.K.json", "{}"),
            ("p/table_exd/D.T.json", "{}"),
            ("p/kafka/D.K.json", r#"{"parser_name":"x.P"}"#),
        ];
        samples::check(Generation::Old, &sound, &[]);
        let missing: [(&str, &[&str]); 5] = [
            (
                "p/model_desc/m.json",
                &["dataflow-without-model p/dataflow/m.json m", "index-plan-without-model p/index_plan/m.json m"],
            ),
            ("p/index_plan/m.json", &["model-without-index-plan p/model_desc/m.json m"]),
            (
                "p/dataflow/m.json",
                &[
                    "layout-without-dataflow p/dataflow_details/m/s.json m",
                    "model-without-dataflow p/model_desc/m.json m",
                ],
            ),
            (
                "p/table/D.T.json",
                &["model-without-table p/model_desc/m.json D.T", "table-exd-without-table p/table_exd/D.T.json D.T"],
            ),
            (
                "p/table/D.K.json",
                &["kafka-without-table p/kafka/D.K.json D.K", "model-without-table p/model_desc/m.json D.K"],
            ),
        ];
        for (missing, expected) in missing {
            let rest: Vec<_> = sound.into_iter().filter(|(path, _)| *path != missing).collect();
            samples::check(Generation::Old, &rest, expected);
        }
        let details = [&sound[..], &[("p/dataflow_details/m/t.json", "{}")]].concat();
        samples::check(Generation::Old, &details, &["layout-without-segment p/dataflow_details/m/t.json t"]);
        let acl = [&sound[..], &[("_global/acl/R", "{}")]].concat();
        samples::check(Generation::Old, &acl, &["acl-without-project _global/acl/R R"]);
    }
}
