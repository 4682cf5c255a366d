//! Tests of whole migrations of small stores.

use std::collections::BTreeMap;

use super::{Account, Converted, Fate, Keys, Options, Remark, Survey};
use crate::model::path::EntryPath;

mod collisions;
mod examples;
mod kylin4;
mod property;
mod weaknesses;

const TIME_MS: i64 = 1_600_000_000_000;

fn path(text: &str) -> EntryPath {
    EntryPath::new(text.as_bytes()).unwrap()
}

/// What became of a store.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    /// The documents of the result: by name, path and content.
    documents: BTreeMap<String, (String, Vec<u8>)>,
    fates: BTreeMap<String, Fate>,
    remarks: BTreeMap<String, Vec<Remark>>,
    keys: Keys,
}

impl Outcome {
    fn text(&self, name: &str) -> &str {
        let names: Vec<_> = self.documents.keys().collect();
        let (_, content) = self.documents.get(name).unwrap_or_else(|| panic!("{name} is none of {names:?}"));
        std::str::from_utf8(content).unwrap()
    }

    fn json(&self, name: &str) -> serde_json::Value {
        serde_json::from_str(self.text(name)).unwrap()
    }

    /// The names of documents that begin so.
    fn names(&self, begin: &str) -> Vec<&str> {
        self.documents.keys().map(String::as_str).filter(|name| name.starts_with(begin)).collect()
    }

    fn path(&self, name: &str) -> &str {
        &self.documents[name].0
    }

    fn differences(&self, name: &str) -> Vec<&'static str> {
        let remarks = self.remarks.get(name).map(Vec::as_slice).unwrap_or_default();
        remarks.iter().map(|remark| remark.difference.name()).collect()
    }
}

/// Surveys a store.
fn survey<'s>(store: impl IntoIterator<Item = &'s (String, Vec<u8>)>, options: Options) -> Survey {
    let mut survey = Survey::new(options);
    for (name, content) in store {
        let name = path(name);
        survey.add(&name, Survey::wants(&name, &options).then_some(content));
    }
    survey
}

/// Converts a store and checks that everything is accounted for.
fn convert<'s>(keys: Keys, store: impl IntoIterator<Item = &'s (String, Vec<u8>)>) -> Outcome {
    let (documents, fates, remarks) = Default::default();
    let mut outcome = Outcome { documents, fates, remarks, keys };
    let mut account = Account::default();
    let mut count = 0;
    for (name, content) in store {
        let old = path(name);
        let converted = outcome.keys.convert(&old, content, TIME_MS * 1_000_000);
        account.add(&old, &converted);
        count += 1;
        let Converted { documents, fate, remarks } = converted;
        for document in documents {
            account.see(&document.name, &document.content);
            assert_eq!(document.time_ns, TIME_MS * 1_000_000);
            let (name, path) = (document.name.to_string(), document.path.to_string());
            let before = outcome.documents.insert(name.clone(), (path, document.content));
            assert_eq!(before, None, "{name} comes of two documents");
        }
        outcome.fates.insert(name.clone(), fate);
        outcome.remarks.insert(name.clone(), remarks);
    }
    assert_eq!(account.imbalances(&outcome.keys), []);
    assert_eq!(account.documents(), count);
    outcome
}

fn store(documents: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    documents.iter().map(|(name, content)| ((*name).to_owned(), content.as_bytes().to_vec())).collect()
}

fn migrate_with(documents: &[(&str, &str)], options: Options) -> Outcome {
    let store = store(documents);
    convert(survey(&store, options).finish(), &store)
}

fn migrate(documents: &[(&str, &str)]) -> Outcome {
    migrate_with(documents, Options::default())
}

const AS_KYLIN: Options = Options { as_kylin: true, rename_built: false, new_identity: false, fresh_uuids: false };
