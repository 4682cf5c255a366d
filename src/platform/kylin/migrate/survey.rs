//! The first pass: what must be known of the whole source before a document can be converted.

use std::sync::Arc;

use super::case::{new_name, required};
use super::fate::Why;
use super::ids::IdOf;
use super::jackson::{Object, Value, decode, read};
use super::rule::{Form, InProject, Rule, rule_of};
use super::{Keys, Options, dataflow, model, plain, system};
use crate::model::path::EntryPath;
use crate::platform::kylin::content::text_field;
use crate::platform::kylin::kind::Kind;

/// What is known of some documents of the source. The order in which they were added and merged leaves no trace.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    pub(super) options: Options,
    pub(super) models: Vec<ModelClaim>,
    pub(super) segments: Vec<SegmentClaim>,
    /// Models, by project, that have a document: details without one are left over, and speak for nothing.
    pub(super) documents: Vec<(Arc<str>, Box<str>)>,
    pub(super) columns: Vec<ColumnClaim>,
    pub(super) misnamed: Vec<Misnamed>,
    pub(super) keys: Vec<KeyClaim>,
    /// The `uuid` of projects, and their names.
    pub(super) projects: Vec<(String, String)>,
    pub(super) tables: Vec<TableClaim>,
    /// Tables whose names are not all upper case: the project, the name in upper case, and the name.
    pub(super) spelled: Vec<(String, String, String)>,
    pub(super) is_identity_unknown: bool,
}

/// What speaks for data that was built under an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Evidence {
    /// Nothing.
    Nothing,
    /// A segment that is not just being built.
    Segment,
    /// The details of what was built for a model that has a document.
    Details,
}

/// A project that has something under the id of a model.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ModelClaim {
    pub(super) id: Box<str>,
    pub(super) project: Arc<str>,
    pub(super) evidence: Evidence,
}

/// A model that has something under the id of a segment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SegmentClaim {
    pub(super) id: Box<str>,
    pub(super) owner: Arc<Owner>,
    pub(super) evidence: Evidence,
    /// The dataflow lists it.
    pub(super) is_listed: bool,
}

/// The model that has a segment or a column. There may be very many of these: they share it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Owner {
    pub(super) project: Arc<str>,
    pub(super) model: Box<str>,
}

/// A model that has a computed column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ColumnClaim {
    /// The id of the column in the whole project.
    pub(super) id: Box<str>,
    /// The name of the model's document.
    pub(super) file: Box<str>,
    pub(super) said: [u8; 16],
    pub(super) owner: Arc<Owner>,
}

/// A model or dataflow whose `uuid` is not its name: its claims count only if no other has that `uuid`.
#[derive(Debug, Clone)]
pub(super) struct Misnamed {
    pub(super) kind: Kind,
    pub(super) name: EntryPath,
    pub(super) owner: Arc<Owner>,
    pub(super) columns: Vec<ColumnClaim>,
    pub(super) segments: Vec<SegmentClaim>,
}

/// A document that would have a key that others may want as well.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KeyClaim {
    pub(super) kind: Kind,
    pub(super) project: Box<str>,
    /// The key, or what is the same for keys that Kylin takes for the same.
    pub(super) key: Box<str>,
    /// A claim with a lower number goes first.
    pub(super) rank: u8,
    pub(super) name: EntryPath,
}

/// A table, or the like, with a `uuid`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TableClaim {
    pub(super) kind: InProject,
    pub(super) uuid: Box<str>,
    pub(super) project: Box<str>,
    pub(super) key: Box<str>,
}

impl Survey {
    /// Starts a survey.
    pub fn new(options: Options) -> Self {
        Self { options, ..Self::default() }
    }

    /// Tells whether the survey must see the content of a document.
    pub fn wants(name: &EntryPath, options: &Options) -> bool {
        let Rule::Convert(form) = rule_of(name) else { return false };
        match form {
            Form::Identity
            | Form::Project { .. }
            | Form::UserGroups
            | Form::Model { .. }
            | Form::Dataflow { .. }
            | Form::IndexPlan { .. }
            | Form::Parser { .. } => true,
            Form::Global { kind, file } => plain::is_claimed_by_content(kind, file),
            Form::InProject { kind, .. } => options.fresh_uuids && kind.id_of().is_some(),
            _ => false,
        }
    }

    /// Adds a document of the source: its name, and its content if the survey [wants](Self::wants) that.
    pub fn add(&mut self, name: &EntryPath, content: Option<&[u8]>) {
        let Rule::Convert(form) = rule_of(name) else { return };
        match form {
            Form::Details { project, model, segment } => {
                let owner = self.owner(project, model);
                self.claim_model(model, &owner.project, Evidence::Details);
                let (id, evidence) = (segment.into(), Evidence::Details);
                self.segments.push(SegmentClaim { id, owner, evidence, is_listed: false });
            }
            // Broken or not: what is wrong with it is said when it is converted.
            Form::Model { project, model } | Form::Dataflow { project, model } => {
                self.documents.push((project.into(), model.into()));
            }
            Form::FusionModel { project, model } => self.claim_model(model, &project.into(), Evidence::Nothing),
            Form::StreamingJob { project, job } => {
                self.claim_model(plain::split_job(job).0, &project.into(), Evidence::Nothing);
                self.claim_key(Kind::StreamingJob, project, job, 0, name);
            }
            Form::Global { kind, file } if !plain::is_claimed_by_content(kind, file) => {
                self.claim_key(kind.kind(), "", plain::global_key(kind, file, None), 0, name);
            }
            // Kylin's tool leaves the project out of these keys.
            Form::InProject { kind: kind @ (InProject::JobStats | InProject::QueryRecord), key, .. }
                if self.options.as_kylin =>
            {
                self.claim_key(kind.kind(), "", key, 0, name);
            }
            Form::InProject { kind: InProject::Table, project, key } => {
                let upper = key.to_uppercase();
                if upper != key {
                    self.spelled.push((project.to_owned(), upper, key.to_owned()));
                }
            }
            _ => {}
        }
        // What is broken claims nothing; why it is broken is said when it is converted.
        if let Some(content) = content {
            let _ = self.add_content(name, form, content);
        }
    }

    fn add_content(&mut self, name: &EntryPath, form: Form<'_>, content: &[u8]) -> Result<(), Why> {
        match form {
            Form::Identity => {
                self.is_identity_unknown |= system::identity(content).is_none();
                return Ok(());
            }
            // Index plans are large, and only one field of them matters.
            Form::IndexPlan { project, model } => {
                let uuid = match text_field(content, "uuid") {
                    Ok(uuid) => uuid.into_owned(),
                    Err(_) => required(&object(&decode(content)?.0)?, "uuid")?,
                };
                new_name(Kind::IndexPlan, &uuid)?;
                let rank = u8::from(uuid != model);
                self.claim_model(&uuid, &project.into(), Evidence::Nothing);
                self.claim_key(Kind::IndexPlan, project, &uuid, rank, name);
                return Ok(());
            }
            _ => {}
        }
        let (text, _) = decode(content)?;
        let object = object(&text)?;
        match form {
            Form::Project { project, is_inside } => {
                self.claim_key(Kind::Project, "", project, u8::from(is_inside), name);
                self.projects.extend(object.text("uuid").map(|uuid| (uuid.into_owned(), project.to_owned())));
            }
            Form::UserGroups => {
                for group in plain::groups(&object)? {
                    self.claim_key(Kind::UserGroup, "", &group, 1, name);
                }
            }
            Form::Global { kind, file } if plain::is_claimed_by_content(kind, file) => {
                let key = plain::global_key(kind, file, (!self.options.as_kylin).then_some(&object));
                new_name(kind.kind(), key)?;
                self.claim_key(kind.kind(), "", key, 0, name);
            }
            Form::Parser { project, class } => {
                let says = plain::class_of(&object, class);
                new_name(Kind::DataParser, &format!("{project}.{says}"))?;
                self.claim_key(Kind::DataParser, project, &says, u8::from(says != class), name);
            }
            Form::InProject { kind, project, key } if self.options.fresh_uuids && kind.id_of().is_some() => {
                if let Some(uuid) = object.text("uuid") {
                    let uuid = (&*uuid).into();
                    self.tables.push(TableClaim { kind, uuid, project: project.into(), key: key.into() });
                }
            }
            Form::Model { project, model } => self.add_model(name, (project, model), &object)?,
            Form::Dataflow { project, model } => self.add_dataflow(name, (project, model), &object)?,
            _ => {}
        }
        Ok(())
    }

    fn add_model(&mut self, name: &EntryPath, (project, file): (&str, &str), object: &Object<'_>) -> Result<(), Why> {
        new_name(Kind::Model, file)?;
        let model = model::read(project, object)?;
        let owner = Arc::new(Owner { project: project.into(), model: model.uuid.as_str().into() });
        let column = |column: &model::Column| {
            let (id, file, owner) = (column.id.as_str().into(), file.into(), Arc::clone(&owner));
            ColumnClaim { id, file, said: column.said, owner }
        };
        let columns = model.columns.iter().map(column).collect();
        self.documents.push((Arc::clone(&owner.project), owner.model.clone()));
        self.claim_model(file, &owner.project, Evidence::Nothing);
        self.claim_model(&model.uuid, &owner.project, Evidence::Nothing);
        self.add_claims(file, Misnamed { kind: Kind::Model, name: name.clone(), owner, columns, segments: Vec::new() });
        Ok(())
    }

    fn add_dataflow(
        &mut self,
        name: &EntryPath,
        (project, file): (&str, &str),
        object: &Object<'_>,
    ) -> Result<(), Why> {
        new_name(Kind::Dataflow, file)?;
        let dataflow = dataflow::read(object)?;
        let owner = self.owner(project, &dataflow.uuid);
        let evidence = |is_ready| if is_ready { Evidence::Segment } else { Evidence::Nothing };
        let segment = |segment: &dataflow::Segment| {
            let (id, owner) = (segment.id.as_str().into(), Arc::clone(&owner));
            SegmentClaim { id, owner, evidence: evidence(segment.is_ready), is_listed: true }
        };
        let segments = dataflow.segments.iter().map(segment).collect();
        let most = evidence(dataflow.segments.iter().any(|segment| segment.is_ready));
        self.documents.push((Arc::clone(&owner.project), owner.model.clone()));
        self.claim_model(file, &owner.project, most);
        self.claim_model(&dataflow.uuid, &owner.project, most);
        self.add_claims(
            file,
            Misnamed { kind: Kind::Dataflow, name: name.clone(), owner, columns: Vec::new(), segments },
        );
        Ok(())
    }

    /// Adds the claims of a model or dataflow: at once, or when it is known whether it is the one with its `uuid`.
    fn add_claims(&mut self, file: &str, document: Misnamed) {
        let Owner { project, model } = &*document.owner;
        let is_misnamed = **model != *file;
        self.claim_key(document.kind, project, model, u8::from(is_misnamed), &document.name);
        if is_misnamed {
            self.misnamed.push(document);
        } else {
            self.columns.extend(document.columns);
            self.segments.extend(document.segments);
        }
    }

    /// Returns an owner of segments, that of the last ones if it is the same.
    fn owner(&self, project: &str, model: &str) -> Arc<Owner> {
        let last = self.segments.last().map(|segment| &segment.owner);
        match last.filter(|last| *last.project == *project && *last.model == *model) {
            Some(last) => Arc::clone(last),
            None => Arc::new(Owner { project: project.into(), model: model.into() }),
        }
    }

    fn claim_model(&mut self, id: &str, project: &Arc<str>, evidence: Evidence) {
        let claim = ModelClaim { id: id.into(), project: Arc::clone(project), evidence };
        if self.models.last() != Some(&claim) {
            self.models.push(claim);
        }
    }

    fn claim_key(&mut self, kind: Kind, project: &str, key: &str, rank: u8, name: &EntryPath) {
        let key = Keys::folded(kind, key).into();
        self.keys.push(KeyClaim { kind, project: project.into(), key, rank, name: name.clone() });
    }

    /// Joins with another survey, of other documents.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.models.extend(other.models);
        self.segments.extend(other.segments);
        self.documents.extend(other.documents);
        self.columns.extend(other.columns);
        self.misnamed.extend(other.misnamed);
        self.keys.extend(other.keys);
        self.projects.extend(other.projects);
        self.tables.extend(other.tables);
        self.spelled.extend(other.spelled);
        self.is_identity_unknown |= other.is_identity_unknown;
        self
    }

    /// Decides who keeps what.
    pub fn finish(self) -> Keys {
        Keys::decide(self)
    }
}

fn object(text: &str) -> Result<Object<'_>, Why> {
    match read(text)?.value {
        Value::Object(object) => Ok(object),
        _ => Err(Why::NoObject),
    }
}

impl TableClaim {
    /// Returns what its new id would be of.
    pub(super) fn id_of(&self) -> IdOf {
        self.kind.id_of().unwrap_or(IdOf::Table)
    }
}
