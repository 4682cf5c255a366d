//! What 5.0.0 keeps in documents of its own must fit what it was taken out of: models and the relations to their tables
//! and computed columns, dataflows and their segments, segments and their details.

use std::collections::{HashMap, HashSet};

use super::document::State;
use super::examination::{Collected, Row};
use super::examine::Fact;
use super::names::Name;
use super::{Fault, Rule};
use crate::platform::kylin::kind::Kind;

/// A relation: of which kind, to what by which fact; what is wrong when a model lacks it, and when no model needs it.
type Relation = (Kind, Fact, Rule, Rule);

const RELATIONS: [Relation; 2] = [
    (Kind::TableModelRelation, Fact::Table, Rule::ModelWithoutTableRelation, Rule::TableRelationNotUsed),
    (Kind::CcModelRelation, Fact::Column, Rule::ModelWithoutColumnRelation, Rule::ColumnRelationNotUsed),
];

/// Finds what does not fit.
pub(super) fn find(collected: &Collected, faults: &mut Vec<Fault>) {
    for relation in RELATIONS {
        relations(collected, relation, faults);
    }
    columns(collected, faults);
    segments(collected, faults);
    layouts(collected, faults);
}

fn sound(collected: &Collected, kind: Kind) -> impl Iterator<Item = (usize, &Row)> {
    of_kind(collected, kind).filter(|(_, row)| row.state == State::Sound)
}

fn of_kind(collected: &Collected, kind: Kind) -> impl Iterator<Item = (usize, &Row)> {
    collected.rows.iter().enumerate().filter(move |(_, row)| row.kind == kind)
}

/// Tells whether a kind has a document that can't be read: it may be the one that is missed.
fn has_broken(collected: &Collected, kind: Kind) -> bool {
    of_kind(collected, kind).any(|(_, row)| row.state == State::Broken)
}

fn relations(collected: &Collected, (kind, fact, missing, unused): Relation, faults: &mut Vec<Fault>) {
    let related: HashSet<(Name, Name, Name)> = of_kind(collected, kind)
        .filter_map(|(n, row)| {
            let model = collected.all(n, Fact::Model).next()?;
            Some((row.project, model, collected.all(n, fact).next()?))
        })
        .collect();
    let models: HashMap<(Name, Name), usize> =
        sound(collected, Kind::Model).map(|(n, row)| ((row.project, row.key), n)).collect();
    let what = if fact == Fact::Table { "table" } else { "computed column" };
    if !has_broken(collected, kind) {
        for ((project, key), n) in &models {
            for name in collected.all(*n, fact).filter(|name| !related.contains(&(*project, *key, *name))) {
                let name = collected.text(name);
                let detail = format!("there is no {kind} to {what} `{name}`");
                faults.push(collected.fault(missing, *n, name, detail));
            }
        }
    }
    for (n, row) in sound(collected, kind) {
        let (Some(model), Some(name)) = (collected.all(n, Fact::Model).next(), collected.all(n, fact).next()) else {
            continue;
        };
        let Some(user) = models.get(&(row.project, model)) else { continue };
        if !collected.all(*user, fact).any(|used| used == name) {
            let (model, name) = (collected.text(model), collected.text(name));
            let detail = format!("model `{model}` does not use {what} `{name}`");
            faults.push(collected.fault(unused, n, name, detail));
        }
    }
}

fn columns(collected: &Collected, faults: &mut Vec<Fault>) {
    if has_broken(collected, Kind::CcModelRelation) {
        return;
    }
    let related: HashSet<(Name, Name)> = of_kind(collected, Kind::CcModelRelation)
        .flat_map(|(n, row)| collected.all(n, Fact::Column).map(|column| (row.project, column)))
        .collect();
    for (n, row) in sound(collected, Kind::ComputeColumn).filter(|(_, row)| !related.contains(&(row.project, row.key)))
    {
        let key = collected.text(row.key);
        let detail = format!("no {} names it", Kind::CcModelRelation);
        faults.push(collected.fault(Rule::ColumnWithoutRelation, n, key, detail));
    }
}

/// Returns the dataflow that each segment names.
fn dataflows_of_segments(collected: &Collected) -> HashMap<(Name, Name), Name> {
    let segments = sound(collected, Kind::Segment);
    let named = |(n, row): (usize, &Row)| Some(((row.project, row.key), collected.all(n, Fact::Dataflow).next()?));
    segments.filter_map(named).collect()
}

fn segments(collected: &Collected, faults: &mut Vec<Fault>) {
    let of_segments = dataflows_of_segments(collected);
    for (n, row) in sound(collected, Kind::Dataflow) {
        let mut seen = HashSet::new();
        for segment in collected.all(n, Fact::Segment) {
            let name = || collected.text(segment);
            if !seen.insert(segment) {
                let detail = format!("segment `{}` is listed again", name());
                faults.push(collected.fault(Rule::SegmentListedTwice, n, name(), detail));
                continue;
            }
            if let Some(other) = of_segments.get(&(row.project, segment)).filter(|other| **other != row.key) {
                let detail = format!("segment `{}` is of DATAFLOW `{}`", name(), collected.text(*other));
                faults.push(collected.fault(Rule::SegmentOfOtherDataflow, n, name(), detail));
            }
        }
    }
}

fn layouts(collected: &Collected, faults: &mut Vec<Fault>) {
    let of_segments = dataflows_of_segments(collected);
    for (n, row) in sound(collected, Kind::Layout) {
        let Some(dataflow) = collected.all(n, Fact::Dataflow).next() else { continue };
        if let Some(other) = of_segments.get(&(row.project, row.key)).filter(|other| **other != dataflow) {
            let (dataflow, other) = (collected.text(dataflow), collected.text(*other));
            let detail = format!("`dataflow` is `{dataflow}`, but the segment is of `{other}`");
            faults.push(collected.fault(Rule::LayoutOfOtherDataflow, n, dataflow, detail));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::platform::kylin::doctor::Generation;
    use crate::platform::kylin::doctor::samples::{SOUND, check};

    /// Checks a sound store in which one document is another, and some are added.
    #[track_caller]
    fn with(path: &str, content: &str, more: &[(&str, &str)], expected: &[&str]) {
        let mut documents: Vec<(&str, &str)> = SOUND.into_iter().filter(|(other, _)| *other != path).collect();
        documents.push((path, content));
        documents.extend(more);
        check(Generation::New, &documents, expected);
    }

    #[test]
    fn relations_are_those_of_the_models() {
        let model = r#"{"uuid":"m","project":"p","alias":"a","fact_table":"D.K","computed_column_uuids":[]}"#;
        let expected = [
            "column-relation-not-used p/CC_MODEL_RELATION/r c",
            "table-relation-not-used p/TABLE_MODEL_RELATION/r D.T",
        ];
        with("p/MODEL/m", model, &[], &expected);
        let relation = r#"{"uuid":"x","project":"p","cc_uuid":"c","model_uuid":"m"}"#;
        let shared = ["duplicate-column-relation p/CC_MODEL_RELATION/r /CC_MODEL_RELATION/c`, `m"];
        with("p/CC_MODEL_RELATION/x", relation, &[], &shared);
        for (missing, expected) in [
            ("p/TABLE_MODEL_RELATION/r", &["model-without-table-relation p/MODEL/m D.T"][..]),
            (
                "p/CC_MODEL_RELATION/r",
                &["column-without-relation p/COMPUTE_COLUMN/c c", "model-without-column-relation p/MODEL/m c"],
            ),
        ] {
            let rest: Vec<_> = SOUND.into_iter().filter(|(path, _)| *path != missing).collect();
            check(Generation::New, &rest, expected);
        }
    }

    #[test]
    fn segments_are_of_one_dataflow() {
        let twice = r#"{"uuid":"m","project":"p","segment_uuids":["s","s"]}"#;
        with("p/DATAFLOW/m", twice, &[], &["segment-listed-twice p/DATAFLOW/m s"]);
        let other = [
            ("p/MODEL/n", r#"{"uuid":"n","project":"p","alias":"b","computed_column_uuids":[]}"#),
            ("p/INDEX_PLAN/n", r#"{"uuid":"n","project":"p"}"#),
        ];
        let listed = r#"{"uuid":"n","project":"p","segment_uuids":["s"]}"#;
        with("p/DATAFLOW/n", listed, &other, &["segment-of-other-dataflow p/DATAFLOW/n s"]);
        let details = r#"{"uuid":"s","project":"p","dataflow":"n"}"#;
        let dataflow = ("p/DATAFLOW/n", r#"{"uuid":"n","project":"p","segment_uuids":[]}"#);
        let more = [&other[..], &[dataflow]].concat();
        with("p/LAYOUT/s", details, &more, &["layout-of-other-dataflow p/LAYOUT/s n"]);
    }

    #[test]
    fn models_that_others_name() {
        let mapping = r#"{"uuid":"f","project":"p","model_mapping":{"m":null,"gone":{}}}"#;
        with("p/FUSION_MODEL/f", mapping, &[], &["fusion-model-without-model p/FUSION_MODEL/f gone"]);
        let rec = r#"{"uuid":"gone","project":"p","rec_items":[]}"#;
        with("p/TMP_REC/p.gone", rec, &[], &["rec-without-model p/TMP_REC/p.gone gone"]);
    }
}
