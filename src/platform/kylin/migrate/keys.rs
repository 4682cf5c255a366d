//! What the survey of a source came to: the ids and keys of the result.

use std::borrow::Cow;
use std::collections::HashMap;

use super::rule::InProject;
use super::{Choice, Converted, Options, Refusal, Survey, Tally, convert};
use crate::model::path::EntryPath;
use crate::platform::kylin::kind::Kind;

mod decide;

/// Which ids and keys documents get. It converts them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keys {
    options: Options,
    /// By project: models with a new id.
    models: HashMap<String, HashMap<String, String>>,
    /// By project and (old) model: segments with a new id.
    segments: HashMap<String, HashMap<String, HashMap<String, String>>>,
    /// By id: computed columns that several models of a project have.
    columns: HashMap<String, ColumnOwner>,
    /// The documents that get a key which several want.
    winners: HashMap<(Kind, String, String), EntryPath>,
    /// By `uuid`: projects.
    projects: HashMap<String, String>,
    /// By kind, project and key: tables and the like with a new `uuid`.
    tables: HashMap<(InProject, String, String), String>,
    /// By project and name in upper case: tables that are spelled otherwise.
    spelled: HashMap<String, HashMap<String, String>>,
    choices: Vec<Choice>,
    expected_segments: Tally,
    expected_columns: Tally,
    is_identity_unknown: bool,
}

/// The model whose text of a computed column is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ColumnOwner {
    /// The name of its document.
    pub(super) model: String,
    /// What the column says there.
    pub(super) said: [u8; 16],
}

impl Keys {
    /// Returns what the user decided.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Returns why the migration must not be made; nothing if it may.
    pub fn refusals(&self) -> Vec<Refusal> {
        let renamed = || self.choices.iter().flat_map(|choice| &choice.renamed);
        let claims: Vec<_> = renamed().filter(|claim| claim.is_built && !self.options.rename_built).cloned().collect();
        let built = (!claims.is_empty()).then_some(Refusal::BuiltDataDetached { claims });
        let is_unknown = self.is_identity_unknown && !self.options.new_identity;
        built.into_iter().chain(is_unknown.then_some(Refusal::IdentityUnknown)).collect()
    }

    /// Returns the ids that several claimed, in order.
    pub fn choices(&self) -> &[Choice] {
        &self.choices
    }

    /// Returns the (project, model, segment) that the result must have, as its documents `SEGMENT` say them.
    pub fn expected_segments(&self) -> Tally {
        self.expected_segments
    }

    /// Returns the (project, model, id of computed column) that the result must have, by `CC_MODEL_RELATION`.
    pub fn expected_columns(&self) -> Tally {
        self.expected_columns
    }

    /// Converts a document of the source. What it became depends on nothing but the arguments and the whole survey.
    ///
    /// Of what is dropped by its name, nothing is looked at but the name.
    pub fn convert(&self, name: &EntryPath, content: &[u8], time_ns: i64) -> Converted {
        convert::convert(self, name, content, time_ns)
    }

    /// Returns the id that what had this id of a model in a project has now.
    pub(super) fn model_id<'i>(&self, project: &str, id: &'i str) -> Cow<'i, str> {
        self.new_model_id(project, id).map_or(Cow::Borrowed(id), |id| Cow::Owned(id.to_owned()))
    }

    /// Returns the new id of a model, if it has one.
    pub(super) fn new_model_id(&self, project: &str, id: &str) -> Option<&str> {
        self.models.get(project)?.get(id).map(String::as_str)
    }

    /// Tells whether any model of the project has a new id.
    pub(super) fn has_new_ids(&self, project: &str) -> bool {
        self.models.contains_key(project)
    }

    /// Returns the id that a segment of a model has now; the model goes by its old id.
    pub(super) fn segment_id<'i>(&self, project: &str, model: &str, id: &'i str) -> Cow<'i, str> {
        let new = self.segments.get(project).and_then(|models| models.get(model)?.get(id));
        new.map_or(Cow::Borrowed(id), |id| Cow::Owned(id.clone()))
    }

    /// Returns whose text of a computed column is kept, if several models have it.
    pub(super) fn column_owner(&self, id: &str) -> Option<&ColumnOwner> {
        self.columns.get(id)
    }

    /// Returns the document that gets a key, if several want it.
    pub(super) fn winner(&self, kind: Kind, project: &str, key: &str) -> Option<&EntryPath> {
        if self.winners.is_empty() {
            return None;
        }
        self.winners.get(&(kind, project.to_owned(), Self::folded(kind, key)))
    }

    /// Returns a form of a key that is equal for keys which Kylin takes for the same.
    pub(super) fn folded(kind: Kind, key: &str) -> String {
        match kind {
            Kind::Project | Kind::UserInfo | Kind::UserGroup => key.to_lowercase(),
            _ => key.to_owned(),
        }
    }

    /// Returns the project with this `uuid`.
    pub(super) fn project_of_uuid(&self, uuid: &str) -> Option<&str> {
        self.projects.get(uuid).map(String::as_str)
    }

    /// Returns the new `uuid` of a table or the like, if it has one.
    pub(super) fn table_id(&self, kind: InProject, project: &str, key: &str) -> Option<&str> {
        if self.tables.is_empty() {
            return None;
        }
        self.tables.get(&(kind, project.to_owned(), key.to_owned())).map(String::as_str)
    }

    /// Returns how Kylin spells a table, if a model spells it otherwise.
    pub(super) fn spelling(&self, project: &str, table: &str) -> Option<String> {
        let upper = table.to_uppercase();
        let spelled = self.spelled.get(project).and_then(|tables| tables.get(&upper));
        let spelled = spelled.cloned().unwrap_or(upper);
        (spelled != table).then_some(spelled)
    }

    /// Decides who keeps what.
    pub(super) fn decide(survey: Survey) -> Self {
        decide::decide(survey)
    }
}
