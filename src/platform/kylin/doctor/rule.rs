//! The rules by which documents are examined: each has a name that stays, a severity and a line that says what it is.

use std::fmt;

/// How bad it is when a rule is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Kylin's own samples break such rules: worth a look, no reason to refuse anything.
    Warning,
    /// Kylin can't load the document, or to import or restore it into a database will fail.
    Error,
}

/// What must hold of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "`description` says what each is")]
pub enum Rule {
    EmptyDocument,
    BrokenJson,
    NotAnObject,
    UnbindableField,
    MissingUuid,
    MissingField,
    TooLong,
    NoProject,
    OldField,
    MissingList,
    KeyMismatch,
    MetaKeyMismatch,
    ProjectNameMismatch,
    UnknownType,
    UnknownFolder,
    StrayFile,
    UnknownProject,
    UnknownTopFolder,
    MissingSystemUuid,
    DuplicateKey,
    DuplicateUuid,
    DuplicateAlias,
    DuplicateTableRelation,
    DuplicateColumnRelation,
    DuplicateColumnName,
    DuplicateColumnExpression,
    DuplicateJar,
    DuplicateUser,
    DuplicateName,
    DuplicateIgnoringCase,
    IndexPlanWithoutModel,
    DataflowWithoutModel,
    DataflowWithoutIndexPlan,
    ModelWithoutIndexPlan,
    ModelWithoutDataflow,
    ModelWithoutTable,
    ModelWithoutColumn,
    ModelWithoutColumnRelation,
    ModelWithoutTableRelation,
    DataflowWithoutSegment,
    SegmentListedTwice,
    SegmentOfOtherDataflow,
    SegmentWithoutDataflow,
    SegmentNotListed,
    LayoutWithoutSegment,
    LayoutWithoutDataflow,
    LayoutOfOtherDataflow,
    LayoutDetailsWithoutDataflow,
    ColumnWithoutRelation,
    ColumnRelationWithoutColumn,
    ColumnRelationWithoutModel,
    ColumnRelationNotUsed,
    TableRelationWithoutModel,
    TableRelationWithoutTable,
    TableRelationNotUsed,
    TableExdWithoutTable,
    KafkaWithoutTable,
    KafkaWithoutParser,
    ParserWithoutJar,
    StreamingJobWithoutModel,
    FusionModelWithoutModel,
    RecWithoutModel,
    AclWithoutProject,
}

/// All rules, in their order.
pub const ALL: [Rule; 63] = [
    Rule::EmptyDocument,
    Rule::BrokenJson,
    Rule::NotAnObject,
    Rule::UnbindableField,
    Rule::MissingUuid,
    Rule::MissingField,
    Rule::TooLong,
    Rule::NoProject,
    Rule::OldField,
    Rule::MissingList,
    Rule::KeyMismatch,
    Rule::MetaKeyMismatch,
    Rule::ProjectNameMismatch,
    Rule::UnknownType,
    Rule::UnknownFolder,
    Rule::StrayFile,
    Rule::UnknownProject,
    Rule::UnknownTopFolder,
    Rule::MissingSystemUuid,
    Rule::DuplicateKey,
    Rule::DuplicateUuid,
    Rule::DuplicateAlias,
    Rule::DuplicateTableRelation,
    Rule::DuplicateColumnRelation,
    Rule::DuplicateColumnName,
    Rule::DuplicateColumnExpression,
    Rule::DuplicateJar,
    Rule::DuplicateUser,
    Rule::DuplicateName,
    Rule::DuplicateIgnoringCase,
    Rule::IndexPlanWithoutModel,
    Rule::DataflowWithoutModel,
    Rule::DataflowWithoutIndexPlan,
    Rule::ModelWithoutIndexPlan,
    Rule::ModelWithoutDataflow,
    Rule::ModelWithoutTable,
    Rule::ModelWithoutColumn,
    Rule::ModelWithoutColumnRelation,
    Rule::ModelWithoutTableRelation,
    Rule::DataflowWithoutSegment,
    Rule::SegmentListedTwice,
    Rule::SegmentOfOtherDataflow,
    Rule::SegmentWithoutDataflow,
    Rule::SegmentNotListed,
    Rule::LayoutWithoutSegment,
    Rule::LayoutWithoutDataflow,
    Rule::LayoutOfOtherDataflow,
    Rule::LayoutDetailsWithoutDataflow,
    Rule::ColumnWithoutRelation,
    Rule::ColumnRelationWithoutColumn,
    Rule::ColumnRelationWithoutModel,
    Rule::ColumnRelationNotUsed,
    Rule::TableRelationWithoutModel,
    Rule::TableRelationWithoutTable,
    Rule::TableRelationNotUsed,
    Rule::TableExdWithoutTable,
    Rule::KafkaWithoutTable,
    Rule::KafkaWithoutParser,
    Rule::ParserWithoutJar,
    Rule::StreamingJobWithoutModel,
    Rule::FusionModelWithoutModel,
    Rule::RecWithoutModel,
    Rule::AclWithoutProject,
];

impl Rule {
    /// Returns the name, which never changes.
    pub const fn as_str(self) -> &'static str {
        self.facts().0
    }

    /// Returns how bad it is.
    pub const fn severity(self) -> Severity {
        self.facts().1
    }

    /// Returns one line that says what is wrong.
    pub const fn description(self) -> &'static str {
        self.facts().2
    }

    /// Tells whether Kylin or its database refuses or misreads documents of 5.0.0 and later that break the rule, so that
    /// whoever makes such documents must not. Of the others healthy stores have some.
    pub const fn is_hard(self) -> bool {
        match self.severity() {
            Severity::Error => true,
            Severity::Warning => matches!(
                self,
                Self::IndexPlanWithoutModel
                    | Self::DataflowWithoutModel
                    | Self::DataflowWithoutIndexPlan
                    | Self::DataflowWithoutSegment
                    | Self::SegmentWithoutDataflow
                    | Self::SegmentNotListed
                    | Self::SegmentListedTwice
                    | Self::SegmentOfOtherDataflow
                    | Self::ModelWithoutColumn
                    | Self::ModelWithoutColumnRelation
                    | Self::ModelWithoutTableRelation
                    | Self::ColumnWithoutRelation
                    | Self::ColumnRelationWithoutColumn
                    | Self::ColumnRelationWithoutModel
                    | Self::ColumnRelationNotUsed
                    | Self::TableRelationWithoutModel
                    | Self::TableRelationNotUsed
            ),
        }
    }

    #[rustfmt::skip] // A table: one rule, one line.
    const fn facts(self) -> (&'static str, Severity, &'static str) {
        use Severity::{Error, Warning};
        match self {
            Self::EmptyDocument => ("empty-document", Error, "the document is empty or holds nothing but blanks"),
            Self::BrokenJson => ("broken-json", Error, "the content is no JSON"),
            Self::NotAnObject => ("not-an-object", Error, "the content is JSON, but no object"),
            Self::UnbindableField => ("unbindable-field", Error, "a field has a value that Kylin can't read, so it takes the document for broken"),
            Self::MissingUuid => ("missing-uuid", Error, "there is no `uuid`, so a database refuses the document"),
            Self::MissingField => ("missing-field", Error, "there is no value for a column that must have one"),
            Self::TooLong => ("too-long", Error, "the key or `uuid` is longer than its column"),
            Self::NoProject => ("no-project", Error, "the document does not say of which project it is"),
            Self::OldField => ("old-field", Error, "a field is there that only documents of before 5.0.0 have"),
            Self::MissingList => ("missing-list", Error, "the list of what belongs to the document is missing"),
            Self::KeyMismatch => ("key-mismatch", Error, "the key is not what the content says"),
            Self::MetaKeyMismatch => ("meta-key-mismatch", Error, "`meta_key` in the content overrides the key"),
            Self::ProjectNameMismatch => ("project-name-mismatch", Warning, "the `name` of a project is not its key; Kylin goes by the key"),
            Self::UnknownType => ("unknown-type", Error, "the folder is no type of Kylin's, which stops it from loading anything"),
            Self::UnknownFolder => ("unknown-folder", Warning, "the folder or file is none that Kylin knows; it is ignored"),
            Self::StrayFile => ("stray-file", Error, "the file is no document, and Kylin refuses to load or restore what holds it"),
            Self::UnknownProject => ("unknown-project", Warning, "there are documents of a project that has no document of its own"),
            Self::UnknownTopFolder => ("unknown-top-folder", Error, "a folder belongs to no project, which makes Kylin refuse to restore"),
            Self::MissingSystemUuid => ("missing-system-uuid", Warning, "the document that identifies the system is missing"),
            Self::DuplicateKey => ("duplicate-key", Error, "several projects have a document of the same type and key"),
            Self::DuplicateUuid => ("duplicate-uuid", Error, "several documents of a type have the same `uuid`"),
            Self::DuplicateAlias => ("duplicate-alias", Error, "several models of a project have the same name"),
            Self::DuplicateTableRelation => ("duplicate-table-relation", Error, "several documents relate the same table and model"),
            Self::DuplicateColumnRelation => ("duplicate-column-relation", Error, "several documents relate the same computed column and model"),
            Self::DuplicateColumnName => ("duplicate-column-name", Error, "several computed columns of a table have the same name"),
            Self::DuplicateColumnExpression => ("duplicate-column-expression", Error, "several computed columns of a table have the same expression"),
            Self::DuplicateJar => ("duplicate-jar", Error, "several documents are about a jar of the same name"),
            Self::DuplicateUser => ("duplicate-user", Error, "several documents are about the same user"),
            Self::DuplicateName => ("duplicate-name", Error, "several documents have the same `name`, which a database keeps unique"),
            Self::DuplicateIgnoringCase => ("duplicate-ignoring-case", Warning, "names differ in upper and lower case only, which MySQL takes for the same"),
            Self::IndexPlanWithoutModel => ("index-plan-without-model", Warning, "an index plan has no model"),
            Self::DataflowWithoutModel => ("dataflow-without-model", Warning, "a dataflow has no model"),
            Self::DataflowWithoutIndexPlan => ("dataflow-without-index-plan", Warning, "a dataflow has no index plan"),
            Self::ModelWithoutIndexPlan => ("model-without-index-plan", Warning, "a model has no index plan"),
            Self::ModelWithoutDataflow => ("model-without-dataflow", Warning, "a model has no dataflow"),
            Self::ModelWithoutTable => ("model-without-table", Warning, "a model uses a table that is not there"),
            Self::ModelWithoutColumn => ("model-without-column", Warning, "a model uses a computed column that is not there"),
            Self::ModelWithoutColumnRelation => ("model-without-column-relation", Warning, "a model uses a computed column that it is not related to"),
            Self::ModelWithoutTableRelation => ("model-without-table-relation", Warning, "a model uses a table that it is not related to"),
            Self::DataflowWithoutSegment => ("dataflow-without-segment", Warning, "a dataflow lists a segment that is not there"),
            Self::SegmentListedTwice => ("segment-listed-twice", Warning, "a dataflow lists a segment twice"),
            Self::SegmentOfOtherDataflow => ("segment-of-other-dataflow", Warning, "a dataflow lists a segment that is of another one"),
            Self::SegmentWithoutDataflow => ("segment-without-dataflow", Warning, "a segment has no dataflow"),
            Self::SegmentNotListed => ("segment-not-listed", Warning, "the dataflow of a segment does not list it"),
            Self::LayoutWithoutSegment => ("layout-without-segment", Warning, "the details of a segment have no segment"),
            Self::LayoutWithoutDataflow => ("layout-without-dataflow", Warning, "the details of a segment have no dataflow"),
            Self::LayoutOfOtherDataflow => ("layout-of-other-dataflow", Warning, "the details of a segment name another dataflow than the segment"),
            Self::LayoutDetailsWithoutDataflow => ("layout-details-without-dataflow", Warning, "the details of a layout have no dataflow"),
            Self::ColumnWithoutRelation => ("column-without-relation", Warning, "a computed column is related to no model"),
            Self::ColumnRelationWithoutColumn => ("column-relation-without-column", Warning, "a model is related to a computed column that is not there"),
            Self::ColumnRelationWithoutModel => ("column-relation-without-model", Warning, "a computed column is related to a model that is not there"),
            Self::ColumnRelationNotUsed => ("column-relation-not-used", Warning, "a model is related to a computed column that it does not use"),
            Self::TableRelationWithoutModel => ("table-relation-without-model", Warning, "a table is related to a model that is not there"),
            Self::TableRelationWithoutTable => ("table-relation-without-table", Warning, "a model is related to a table that is not there"),
            Self::TableRelationNotUsed => ("table-relation-not-used", Warning, "a model is related to a table that it does not use"),
            Self::TableExdWithoutTable => ("table-exd-without-table", Warning, "statistics have no table"),
            Self::KafkaWithoutTable => ("kafka-without-table", Warning, "a Kafka source has no table"),
            Self::KafkaWithoutParser => ("kafka-without-parser", Warning, "a Kafka source names a parser that is not there"),
            Self::ParserWithoutJar => ("parser-without-jar", Warning, "a parser names a jar that is not there"),
            Self::StreamingJobWithoutModel => ("streaming-job-without-model", Warning, "a streaming job has no model"),
            Self::FusionModelWithoutModel => ("fusion-model-without-model", Warning, "a fusion model has a part that is not there"),
            Self::RecWithoutModel => ("rec-without-model", Warning, "recommendations have no model"),
            Self::AclWithoutProject => ("acl-without-project", Warning, "permissions are for a project that is not there"),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_rule_is_listed_once_under_its_own_kebab_case_name() {
        assert!(ALL.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(ALL[ALL.len() - 1], Rule::AclWithoutProject, "the last one");
        let names: BTreeSet<_> = ALL.iter().map(|rule| rule.as_str()).collect();
        assert_eq!(names.len(), ALL.len());
        assert!(names.iter().all(|name| name.bytes().all(|byte| byte == b'-' || byte.is_ascii_lowercase())));
    }
}
