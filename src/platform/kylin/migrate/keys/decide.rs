//! The decisions between the two passes. All claims are sorted first, so the order in which they came leaves no trace.

use std::collections::{HashMap, HashSet};

use super::super::Survey;
use super::super::choice::{Choice, Claim, Contested, Move};
use super::super::ids::{IdOf, derived};
use super::super::survey::{ColumnClaim, Evidence, KeyClaim, Misnamed, ModelClaim, Owner, SegmentClaim, TableClaim};
use super::{ColumnOwner, Keys};

pub(super) fn decide(mut survey: Survey) -> Keys {
    let mut keys = Keys { options: survey.options, is_identity_unknown: survey.is_identity_unknown, ..Keys::default() };
    keys.decide_keys(survey.keys);
    for Misnamed { kind, name, owner, columns, segments } in survey.misnamed {
        if keys.winner(kind, &owner.project, &owner.model).is_none_or(|winner| *winner == name) {
            survey.columns.extend(columns);
            survey.segments.extend(segments);
        }
    }
    let documents: HashSet<(&str, &str)> =
        survey.documents.iter().map(|(project, model)| (&**project, &**model)).collect();
    let weigh = |project: &str, model: &str, evidence: &mut Evidence| {
        if *evidence == Evidence::Details && !documents.contains(&(project, model)) {
            *evidence = Evidence::Nothing;
        }
    };
    for ModelClaim { id, project, evidence } in &mut survey.models {
        weigh(project, id, evidence);
    }
    for SegmentClaim { owner, evidence, .. } in &mut survey.segments {
        weigh(&owner.project, &owner.model, evidence);
    }
    keys.decide_models(survey.models);
    let segments = one_each(survey.segments);
    keys.decide_segments(&segments);
    keys.find_moves(&segments);
    keys.decide_columns(survey.columns);
    keys.decide_tables(survey.tables);
    let mut projects = survey.projects;
    // Of projects with the same `uuid` the first is taken.
    projects.sort_unstable_by(|a, b| b.cmp(a));
    keys.projects = projects.into_iter().collect();
    let mut spelled = survey.spelled;
    spelled.sort_unstable_by(|a, b| b.cmp(a));
    for (project, upper, name) in spelled {
        keys.spelled.entry(project).or_default().insert(upper, name);
    }
    keys
}

/// Sorts the claims to segments and joins those of the same model to the same segment.
fn one_each(mut segments: Vec<SegmentClaim>) -> Vec<SegmentClaim> {
    segments.sort_unstable();
    segments.dedup_by(|next, kept| {
        let is_same = next.id == kept.id && next.owner == kept.owner;
        if is_same {
            kept.evidence = kept.evidence.max(next.evidence);
            kept.is_listed |= next.is_listed;
        }
        is_same
    });
    segments
}

/// Returns who keeps an id, of those who claim it in order: the first of those with the best evidence for built data.
fn keeper(evidence: impl Iterator<Item = Evidence>) -> usize {
    let mut best = (0, Evidence::Nothing);
    for (n, evidence) in evidence.enumerate() {
        if evidence > best.1 {
            best = (n, evidence);
        }
    }
    best.0
}

impl Keys {
    fn decide_models(&mut self, mut claims: Vec<ModelClaim>) {
        claims.sort_unstable();
        claims.dedup_by(|next, kept| {
            let is_same = next.id == kept.id && next.project == kept.project;
            if is_same {
                kept.evidence = kept.evidence.max(next.evidence);
            }
            is_same
        });
        for group in claims.chunk_by(|a, b| a.id == b.id).filter(|group| group.len() > 1) {
            let keeper = keeper(group.iter().map(|claim| claim.evidence));
            let claim = |n: usize| {
                let ModelClaim { id, project, evidence } = &group[n];
                let id = if n == keeper { id.to_string() } else { derived(IdOf::Model, &[project, id]) };
                let is_built = *evidence > Evidence::Nothing;
                Claim { project: project.to_string(), within: None, id, is_built, moves: Vec::new() }
            };
            let id = group[0].id.to_string();
            let renamed: Vec<_> = (0..group.len()).filter(|n| *n != keeper).map(claim).collect();
            for claim in &renamed {
                self.models.entry(claim.project.clone()).or_default().insert(id.clone(), claim.id.clone());
            }
            self.choices.push(Choice { of: Contested::Model, id, kept: claim(keeper), renamed });
        }
    }

    fn decide_segments(&mut self, claims: &[SegmentClaim]) {
        for group in claims.chunk_by(|a, b| a.id == b.id) {
            let keeper = keeper(group.iter().map(|claim| claim.evidence));
            let claim = |n: usize| {
                let SegmentClaim { id, owner, evidence, .. } = &group[n];
                let Owner { project, model } = &**owner;
                let id = if n == keeper { id.to_string() } else { derived(IdOf::Segment, &[project, model, id]) };
                let (within, is_built) = (Some(model.to_string()), *evidence > Evidence::Nothing);
                Claim { project: project.to_string(), within, id, is_built, moves: Vec::new() }
            };
            if group.len() > 1 {
                let id = group[0].id.to_string();
                let renamed: Vec<_> = (0..group.len()).filter(|n| *n != keeper).map(claim).collect();
                for Claim { project, within, id: new, .. } in &renamed {
                    let models = self.segments.entry(project.clone()).or_default();
                    let model = models.entry(within.clone().unwrap_or_default()).or_default();
                    model.insert(id.clone(), new.clone());
                }
                self.choices.push(Choice { of: Contested::Segment, id, kept: claim(keeper), renamed });
            }
            for SegmentClaim { id, owner, .. } in group.iter().filter(|claim| claim.is_listed) {
                let Owner { project, model } = &**owner;
                let segment = self.segment_id(project, model, id);
                self.expected_segments.add(&[project, &self.model_id(project, model), &segment]);
            }
        }
    }

    /// Lists the folders of built data whose model or segment has a new id: with the model if that has one, or else with
    /// the segment.
    fn find_moves(&mut self, segments: &[SegmentClaim]) {
        let mut moves: HashMap<(Contested, String, String, String), Vec<Move>> = HashMap::new();
        for SegmentClaim { id, owner, .. } in segments.iter().filter(|claim| claim.evidence > Evidence::Nothing) {
            let Owner { project, model } = &**owner;
            let (new_model, new) = (self.model_id(project, model), self.segment_id(project, model, id));
            let (is_model, is_segment) = (*new_model != **model, *new != **id);
            if is_model || is_segment {
                let (of, old) = if is_model { (Contested::Model, model) } else { (Contested::Segment, id) };
                let within = if is_model { String::new() } else { model.to_string() };
                let from = format!("{project}/parquet/{model}/{id}");
                let to = format!("{project}/parquet/{new_model}/{new}");
                let at = (of, old.to_string(), project.to_string(), within);
                moves.entry(at).or_default().push(Move { from, to });
            }
        }
        for choice in &mut self.choices {
            for claim in &mut choice.renamed {
                let within = claim.within.clone().unwrap_or_default();
                let at = (choice.of, choice.id.clone(), claim.project.clone(), within);
                claim.moves = moves.remove(&at).unwrap_or_default();
                claim.moves.sort_unstable();
            }
        }
    }

    fn decide_columns(&mut self, mut claims: Vec<ColumnClaim>) {
        // Those of one model were added together, and stay in its order.
        claims.sort_by(|a, b| (&a.id, &a.file).cmp(&(&b.id, &b.file)));
        for group in claims.chunk_by(|a, b| a.id == b.id) {
            if group.len() > 1 {
                let owner = ColumnOwner { model: group[0].file.to_string(), said: group[0].said };
                self.columns.insert(group[0].id.to_string(), owner);
            }
            let mut models = HashSet::new();
            for ColumnClaim { id, owner, .. } in group {
                let Owner { project, model } = &**owner;
                let model = self.model_id(project, model);
                if models.insert(model.to_string()) || self.options.as_kylin {
                    self.expected_columns.add(&[project, &model, id]);
                }
            }
        }
    }

    fn decide_keys(&mut self, mut claims: Vec<KeyClaim>) {
        claims.sort_unstable();
        let group = |a: &KeyClaim, b: &KeyClaim| (a.kind, &a.project, &a.key) == (b.kind, &b.project, &b.key);
        for group in claims.chunk_by(group).filter(|group| group.iter().any(|claim| claim.name != group[0].name)) {
            let KeyClaim { kind, project, key, name, .. } = &group[0];
            self.winners.insert((*kind, project.to_string(), key.to_string()), name.clone());
        }
    }

    fn decide_tables(&mut self, mut claims: Vec<TableClaim>) {
        claims.sort_unstable();
        claims.dedup();
        for group in claims.chunk_by(|a, b| (a.kind, &a.uuid) == (b.kind, &b.uuid)).filter(|group| group.len() > 1) {
            let claim = |n: usize| {
                let TableClaim { uuid, project, key, .. } = &group[n];
                let id = if n == 0 { uuid.to_string() } else { derived(group[n].id_of(), &[project, key]) };
                let (project, within) = (project.to_string(), Some(key.to_string()));
                Claim { project, within, id, is_built: false, moves: Vec::new() }
            };
            let renamed: Vec<_> = (1..group.len()).map(claim).collect();
            for (table, claim) in group[1..].iter().zip(&renamed) {
                let at = (table.kind, table.project.to_string(), table.key.to_string());
                self.tables.insert(at, claim.id.clone());
            }
            let id = group[0].uuid.to_string();
            self.choices.push(Choice { of: Contested::Table, id, kept: claim(0), renamed });
        }
        self.choices.sort_unstable();
    }
}
