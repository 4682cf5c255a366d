//! What was examined, collected compactly, and the search for faults between documents once all are there.

use std::collections::{HashMap, HashSet};

use super::document::State;
use super::examine::{Examined, Fact, kind_of};
use super::names::{Name, Names};
use super::place::{Place, UNPLACED};
use super::{Fault, Generation, Rule, references, unique};
use crate::model::path::{EntryPath, escape};
use crate::platform::kylin::kind::Kind;

/// Collects what was examined, in any order, and finds the faults between documents.
#[derive(Debug)]
pub struct Examination {
    collected: Collected,
    faults: Vec<Fault>,
    /// The projects that documents are in, each with the first of them.
    projects: HashMap<Name, EntryPath>,
    has_system_uuid: bool,
}

impl Examination {
    /// Begins the examination of a store.
    pub fn new(generation: Generation) -> Self {
        let collected = Collected { generation, names: Names::default(), rows: Vec::new(), facts: Vec::new() };
        Self { collected, faults: Vec::new(), projects: HashMap::new(), has_system_uuid: false }
    }

    /// Adds a document, which must have been examined as one of the same generation.
    pub fn push(&mut self, examined: Examined) {
        let place = Place::of(self.collected.generation, &examined.path);
        if let Some(project) = place.project() {
            let project = self.collected.names.insert(project);
            self.has_project(project, &examined.path);
        }
        if let Some(kind) = kind_of(&place) {
            self.has_system_uuid |= kind == Kind::System && place.key == b"UUID";
            self.collected.push(kind, &place, &examined);
        }
        self.faults.extend(examined.faults);
    }

    fn has_project(&mut self, project: Name, path: &EntryPath) {
        match self.projects.get_mut(&project) {
            None => drop(self.projects.insert(project, path.clone())),
            Some(first) if path < first => *first = path.clone(),
            Some(_) => {}
        }
    }

    /// Adds what another examination of the same store collected.
    pub fn merge(&mut self, other: Self) {
        assert_eq!(self.collected.generation, other.collected.generation, "a store has one layout");
        let names = self.collected.append(&other.collected);
        for (project, path) in &other.projects {
            self.has_project(names[project.index()], path);
        }
        self.faults.extend(other.faults);
        self.has_system_uuid |= other.has_system_uuid;
    }

    /// Returns all faults, of single documents and between them, in the order of paths and rules.
    ///
    /// `is_system` tells that all of a store was examined, not only some projects of it.
    pub fn finish(self, is_system: bool) -> Vec<Fault> {
        let Self { collected, mut faults, projects, has_system_uuid } = self;
        faults.extend(unknown_projects(&collected, projects));
        if is_system && !has_system_uuid && collected.generation == Generation::New {
            let path = EntryPath::new(&b"_global/SYSTEM/UUID"[..]).expect("it is a path");
            let detail = "the document is missing".to_owned();
            faults.push(Fault::of(Rule::MissingSystemUuid, collected.generation, path, "", detail));
        }
        unique::find(&collected, &mut faults);
        references::find(&collected, &mut faults);
        faults.sort_unstable_by(|a, b| {
            (&a.path, a.rule, &a.subject, &a.detail).cmp(&(&b.path, b.rule, &b.subject, &b.detail))
        });
        faults.dedup();
        faults
    }
}

fn unknown_projects(collected: &Collected, projects: HashMap<Name, EntryPath>) -> Vec<Fault> {
    let known: HashSet<Name> =
        collected.rows.iter().filter(|row| row.kind == Kind::Project).map(|row| row.key).collect();
    let unknown = projects.into_iter().filter(|(project, _)| !known.contains(project));
    let fault = |(project, path)| {
        let project = collected.text(project);
        let (rule, what) = match collected.generation {
            Generation::New => (Rule::UnknownProject, "there are documents of project"),
            Generation::Old => (Rule::UnknownTopFolder, "there is a folder"),
        };
        let detail = format!("{what} `{project}`, but no document of a project of that name");
        Fault::of(rule, collected.generation, path, project, detail).of_several()
    };
    unknown.map(fault).collect()
}

/// A document, as far as the rules between documents need it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) project: Name,
    pub(super) key: Name,
    folder: Name,
    rest: Name,
    /// Where its facts end; they begin where those of the row before end.
    facts_end: u32,
    pub(super) kind: Kind,
    pub(super) state: State,
}

/// All documents that rules are about.
#[derive(Debug)]
pub(super) struct Collected {
    pub(super) generation: Generation,
    pub(super) names: Names,
    pub(super) rows: Vec<Row>,
    facts: Vec<(Fact, Name)>,
}

impl Collected {
    fn push(&mut self, kind: Kind, place: &Place<'_>, examined: &Examined) {
        for (fact, text) in examined.facts.iter() {
            self.facts.push((fact, self.names.insert(text)));
        }
        self.rows.push(Row {
            project: self.names.insert(place.project),
            key: self.names.insert(place.key),
            folder: self.names.insert(place.folder),
            rest: self.names.insert(place.rest),
            facts_end: facts_end(self.facts.len()),
            kind,
            state: examined.state,
        });
    }

    /// Appends other documents, and returns the new names for theirs.
    fn append(&mut self, other: &Self) -> Vec<Name> {
        let names: Vec<Name> = other.names.iter().map(|name| self.names.insert(name)).collect();
        let new = |name: Name| names[name.index()];
        let start = self.facts.len();
        self.facts.extend(other.facts.iter().map(|(fact, name)| (*fact, new(*name))));
        self.rows.extend(other.rows.iter().map(|row| Row {
            project: new(row.project),
            key: new(row.key),
            folder: new(row.folder),
            rest: new(row.rest),
            facts_end: facts_end(start + row.facts_end as usize),
            ..*row
        }));
        names
    }

    /// Returns the values of a fact of a document.
    pub(super) fn all(&self, row: usize, wanted: Fact) -> impl Iterator<Item = Name> {
        let start = row.checked_sub(1).map_or(0, |before| self.rows[before].facts_end as usize);
        let facts = &self.facts[start..self.rows[row].facts_end as usize];
        facts.iter().filter(move |(fact, _)| *fact == wanted).map(|(_, name)| *name)
    }

    /// Returns the `uuid` of a document, if it has one.
    pub(super) fn uuid(&self, row: usize) -> Name {
        self.all(row, Fact::Uuid).next().unwrap_or(self.rows[row].key)
    }

    /// Returns a name as text.
    pub(super) fn text(&self, name: Name) -> String {
        escape(self.names.get(name))
    }

    /// Returns the path of a document.
    pub(super) fn path(&self, row: usize) -> EntryPath {
        let row = &self.rows[row];
        let parts = [row.project, row.folder, row.rest].map(|name| self.names.get(name));
        EntryPath::new(parts.join(&b'/')).expect("it was put together from the parts of a path")
    }

    /// Tells whether a document's project is unknown.
    pub(super) fn is_unplaced(&self, row: &Row) -> bool {
        self.names.get(row.project) == UNPLACED
    }

    /// Makes a fault of a document.
    pub(super) fn fault(&self, rule: Rule, row: usize, subject: impl Into<String>, detail: String) -> Fault {
        Fault::of(rule, self.generation, self.path(row), subject, detail)
    }
}

fn facts_end(count: usize) -> u32 {
    u32::try_from(count).expect("facts are counted in 32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::kylin::doctor::examine;
    use crate::platform::kylin::doctor::samples::{SOUND, check, faults};

    #[test]
    fn projects_without_a_document() {
        let relation = ("q/FUSION_MODEL/f", r#"{"uuid":"f","project":"q"}"#);
        check(Generation::New, &[relation], &["unknown-project q/FUSION_MODEL/f q"]);
        check(Generation::New, &[relation, ("q/PROJECT/q", r#"{"uuid":"u","name":"q"}"#)], &[]);
        check(Generation::New, &[relation, ("q/PROJECT/q", "{")], &["broken-json q/PROJECT/q "]);
        check(Generation::New, &[("_global/USER_GROUP/G", r#"{"uuid":"u","project":"_global"}"#)], &[]);
        let rule = ("q/rule/r.json", "{}");
        check(Generation::Old, &[rule], &["unknown-top-folder q/rule/r.json q"]);
        check(Generation::Old, &[rule, ("q/project/q.json", "{}")], &[]);
    }

    #[test]
    fn a_whole_system_has_a_uuid() {
        let rules = |documents: &[(&str, &str)], is_system| {
            let found = faults(Generation::New, documents, is_system);
            found.iter().map(|fault| fault.rule).collect::<Vec<_>>()
        };
        assert_eq!(rules(&[], true), [Rule::MissingSystemUuid]);
        assert_eq!(rules(&[], false), []);
        assert_eq!(rules(&[("_global/SYSTEM/UUID", r#"{"uuid":"u","name":"UUID"}"#)], true), []);
    }

    #[test]
    fn neither_order_nor_parts_matter() {
        let mut documents = SOUND.to_vec();
        documents.retain(|(path, _)| !path.contains("/MODEL/") && !path.contains("/TABLE_INFO/"));
        documents.push(("q/STREAMING_JOB/m_build", r#"{"uuid":"m_build","project":"q","model_id":"m"}"#));
        let all = faults(Generation::New, &documents, true);
        assert!(all.len() > 5, "{all:#?}");
        documents.reverse();
        let mut parts = [Examination::new(Generation::New), Examination::new(Generation::New)];
        for (n, (path, content)) in documents.iter().enumerate() {
            let path = EntryPath::new(path.as_bytes()).unwrap();
            parts[n % 2].push(examine(Generation::New, &path, content.as_bytes()));
        }
        let [mut one, other] = parts;
        one.merge(other);
        assert_eq!(one.finish(true), all);
    }
}
