//! Kylin's own metadata in both layouts, where there is some: what is migrated must equal what Kylin migrated.
//!
//! The trees are not part of the project. They are looked for in `../shared`, or where `METASTASH_SHARED` says.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use metastash::model::path::EntryPath;
use metastash::platform::kylin::migrate::{Account, Fate, Keys, Options, Refusal, Survey};
use serde_json::{Map, Value};

/// Names and contents.
type Tree = BTreeMap<String, Vec<u8>>;

fn shared() -> Option<PathBuf> {
    let shared = env::var_os("METASTASH_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    let data = shared.join("data/kylin");
    if !data.is_dir() {
        eprintln!("there are no trees of Kylin in {}: nothing is compared", data.display());
    }
    data.is_dir().then_some(data)
}

fn read_directory(root: &Path, below: &str, tree: &mut Tree) {
    for entry in fs::read_dir(root.join(below)).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{below}{}", entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            read_directory(root, &format!("{name}/"), tree);
        } else {
            tree.insert(name, fs::read(entry.path()).unwrap());
        }
    }
}

/// Reads a tree, or the zip in its folder.
fn read_tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    if !root.file_name().unwrap().to_str().unwrap().starts_with("zip_") {
        read_directory(root, "", &mut tree);
        return tree;
    }
    let zip = fs::read_dir(root).unwrap().next().unwrap().unwrap().path();
    let mut zip = zip::ZipArchive::new(File::open(zip).unwrap()).unwrap();
    for n in 0..zip.len() {
        let mut file = zip.by_index(n).unwrap();
        if file.is_file() {
            let mut content = Vec::new();
            file.read_to_end(&mut content).unwrap();
            tree.insert(file.name().unwrap().trim_start_matches('/').to_owned(), content);
        }
    }
    tree
}

/// Migrates a tree, and checks on the way that everything is accounted for.
fn migrate(old: &Tree, options: Options) -> (Keys, Tree, Vec<(String, Fate)>) {
    let path = |name: &String| EntryPath::new(name.as_bytes()).unwrap();
    let mut survey = Survey::new(options);
    for (name, content) in old {
        survey.add(&path(name), Survey::wants(&path(name), &options).then_some(content));
    }
    let keys = survey.finish();
    let (mut new, mut fates, mut account) = (Tree::new(), Vec::new(), Account::default());
    for (name, content) in old {
        let converted = keys.convert(&path(name), content, 1_700_000_000_000_000_000);
        account.add(&path(name), &converted);
        for document in converted.documents {
            account.see(&document.name, &document.content);
            let before = new.insert(document.name.to_string(), document.content);
            assert_eq!(before, None, "{} twice", document.name);
        }
        fates.push((name.clone(), converted.fate));
    }
    assert_eq!(account.imbalances(&keys), []);
    assert_eq!(account.documents(), old.len() as u64);
    (keys, new, fates)
}

const RENAMED: Options = Options { as_kylin: false, rename_built: true, new_identity: true, fresh_uuids: false };

const AS_KYLIN: Options = Options { as_kylin: true, rename_built: false, new_identity: false, fresh_uuids: false };

/// A tree in a form in which two are equal if they mean the same.
#[derive(Debug, Default, PartialEq)]
struct Canonical {
    documents: BTreeMap<String, Value>,
    /// The relations, as what they relate.
    relations: Vec<Vec<String>>,
}

fn canonical(tree: &Tree) -> Canonical {
    let parsed: BTreeMap<String, Map<String, Value>> = tree
        .iter()
        .filter(|(name, _)| !name.ends_with("kylin.properties") && !name.starts_with("_unmigrated/"))
        .filter_map(|(name, content)| Some((present(name), serde_json::from_slice(content).ok()?)))
        .collect();
    let text = |document: &Map<String, Value>, field: &str| document[field].as_str().unwrap().to_owned();
    let columns: BTreeMap<String, String> = parsed
        .iter()
        .filter(|(name, _)| name.starts_with("COMPUTE_COLUMN/"))
        .map(|(_, c)| (text(c, "uuid"), ["project", "tableIdentity", "columnName"].map(|f| text(c, f)).join(" ")))
        .collect();
    let mut canonical = Canonical::default();
    for (name, mut document) in parsed {
        match name.split('/').next().unwrap() {
            "CC_MODEL_RELATION" => {
                let column = columns[&text(&document, "cc_uuid")].clone();
                canonical.relations.push(vec![column, text(&document, "model_uuid")]);
                continue;
            }
            "TABLE_MODEL_RELATION" => {
                let fields = ["project", "model_uuid", "table_identity"];
                canonical.relations.push(fields.map(|field| text(&document, field)).to_vec());
                continue;
            }
            "COMPUTE_COLUMN" => {
                let fields = ["tableAlias", "expression", "innerExpression", "datatype", "comment"]
                    .map(|f| (f, document.remove(f)));
                let fields = fields.into_iter().map(|(f, value)| (f.to_owned(), value.unwrap_or_default())).collect();
                canonical.documents.insert(columns[&text(&document, "uuid")].clone(), Value::Object(fields));
                continue;
            }
            "MODEL" => {
                for column in document["computed_column_uuids"].as_array_mut().unwrap() {
                    *column = columns[column.as_str().unwrap()].clone().into();
                }
            }
            "SYSTEM" => {
                document.retain(|field, _| field != "create_time" && field != "version");
                document.retain(|field, _| field != "uuid" || !name.ends_with("/VERSION.json"));
            }
            "LAYOUT" => drop(document.remove("dataflow_id")),
            "PROJECT" => drop(document.remove("project")),
            // An earlier tool of Kylin's wrote another project than the present one does.
            "OBJECT_ACL" => drop(document.remove("project")),
            _ => {}
        }
        canonical.documents.insert(name, by_value(Value::Object(document)));
    }
    canonical.relations.sort_unstable();
    canonical
}

/// Spells all numbers that mean the same alike.
fn by_value(value: Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() && number.as_f64().unwrap().fract() == 0.0 => {
            format!("number {:.0}", number.as_f64().unwrap()).into()
        }
        Value::Number(number) => format!("number {number}").into(),
        Value::Array(values) => values.into_iter().map(by_value).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, by_value(value))).collect(),
        value => value,
    }
}

/// Returns the name that a document has now: an earlier tool of Kylin's called a folder otherwise.
fn present(name: &str) -> String {
    name.strip_prefix("_REC/").map_or_else(|| name.to_owned(), |key| format!("TMP_REC/{key}"))
}

/// What the table says of each pair.
fn verdicts(data: &Path) -> Vec<(String, String)> {
    let table = fs::read_to_string(data.join("README.md")).unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let cells = rows.map(|row| row.split(" | ").collect::<Vec<_>>()).filter(|cells| cells.len() == 6);
    cells.skip(1).map(|cells| (cells[0].to_owned(), cells[5].to_owned())).collect()
}

/// The documents byte for byte, with names instead of the ids that each migration makes anew; sorted.
fn by_bytes(tree: &Tree) -> Vec<(String, String)> {
    let id = |name: &str| name.rsplit('/').next().unwrap().strip_suffix(".json").map(str::to_owned);
    let mut columns = Vec::new();
    for (name, content) in tree.iter().filter(|(name, _)| name.starts_with("COMPUTE_COLUMN/")) {
        let column: Map<String, Value> = serde_json::from_slice(content).unwrap();
        let text = |field: &str| column[field].as_str().unwrap().to_owned();
        columns.push((id(name).unwrap(), ["project", "tableIdentity", "columnName"].map(text).join(" ")));
    }
    let mut documents = Vec::new();
    for (name, content) in tree.iter().filter(|(name, _)| !name.starts_with("SYSTEM/")) {
        let (mut name, mut text) = (present(name), String::from_utf8(content.clone()).unwrap());
        if name.contains("_MODEL_RELATION/") {
            text = text.replace(&id(&name).unwrap(), "the id of the relation");
            name = name.split('/').next().unwrap().to_owned();
        }
        for (id, column) in &columns {
            (name, text) = (name.replace(id, column), text.replace(id, column));
        }
        // Editors have added a line feed to some of Kylin's files.
        documents.push((name, text.trim_end_matches('\n').to_owned()));
    }
    documents.sort_unstable();
    documents
}

#[test]
fn pairs_are_what_kylin_makes_of_them() {
    let Some(data) = shared() else { return };
    let (mut pairs, mut same) = (0, 0);
    for (name, verdict) in verdicts(&data) {
        let is_as_kylin = verdict.starts_with("identical")
            || verdict.starts_with("older still")
            || verdict.starts_with("misnamed folder")
            || verdict.starts_with("only the OBJECT_ACL");
        if !is_as_kylin || name.starts_with("json_list") {
            continue;
        }
        let old = read_tree(&data.join("old").join(&name));
        let (_, mut new, fates) = migrate(&old, Options::default());
        assert!(migrate(&old, AS_KYLIN).1 == new, "{name} differs as Kylin does it");
        let mut expected = read_tree(&data.join("new").join(&name));
        if verdict.starts_with("misnamed folder") {
            // Its project lies in `_global.project`, and is kept as something unknown.
            assert!(fates.iter().any(|(name, fate)| name == "_global.project/sum_lc.json" && fate.is_problem()));
            expected.retain(|name, _| !name.starts_with("PROJECT/"));
        } else {
            if verdict.starts_with("older still") {
                // Kylin's tool stops at `<project>/project.json`; somebody named the document by hand.
                assert!(new.contains_key("PROJECT/default.json"), "{name}");
                new.retain(|name, _| !name.starts_with("PROJECT/"));
                expected.retain(|name, _| !name.starts_with("PROJECT/"));
            }
            assert!(fates.iter().all(|(_, fate)| !fate.is_problem()), "{name}: {fates:?}");
        }
        let (canonical_new, canonical_expected) = (canonical(&new), canonical(&expected));
        let names = |canonical: &Canonical| canonical.documents.keys().cloned().collect::<BTreeSet<_>>();
        let (ours, theirs) = (names(&canonical_new), names(&canonical_expected));
        assert_eq!(ours.symmetric_difference(&theirs).collect::<Vec<_>>(), Vec::<&String>::new(), "{name}");
        for (document, value) in &canonical_new.documents {
            assert_eq!(*value, canonical_expected.documents[document], "{name}: {document}");
        }
        assert_eq!(canonical_new.relations, canonical_expected.relations, "{name}");
        pairs += 1;
        // Of the others, somebody or an earlier tool has edited a few documents.
        if verdict == "identical" {
            let (ours, theirs) = (by_bytes(&new), by_bytes(&expected));
            same += ours.len();
            for (ours, theirs) in ours.iter().zip(&theirs) {
                assert_eq!(ours, theirs, "{name}");
            }
        }
    }
    eprintln!("{pairs} pairs, of which {same} documents are the same byte for byte");
    assert!(pairs >= 50 && same >= 400, "{pairs} {same}");
}

/// Documents with what models and segments are instead of their ids, where Kylin gave some new ids too; sorted.
fn by_what_they_are(canonical: &Canonical) -> Vec<String> {
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    for (name, document) in &canonical.documents {
        let key = |begin: &str| name.strip_prefix(begin)?.strip_suffix(".json").map(str::to_owned);
        if let Some(id) = key("MODEL/") {
            labels.insert(id, format!("model {} {}", document["project"], document["alias"]));
        } else if let Some(id) = key("SEGMENT/") {
            let what = ["model_uuid", "name", "segRange", "create_time_utc"].map(|field| document[field].to_string());
            labels.insert(id, format!("segment {}", what.join(" ")));
        }
    }
    let labelled = |text: &str| labels.get(text).cloned().unwrap_or_else(|| text.to_owned());
    // What a segment is names its model, whose id may be new as well.
    let inner = |label: String| labels.iter().fold(label, |label, (id, what)| label.replace(id, what));
    let mut documents: Vec<String> = Vec::new();
    for (name, document) in &canonical.documents {
        let mut document = document.clone();
        if let Some(fields) = document.as_object_mut() {
            fields.remove("meta_key");
            for field in ["uuid", "model_uuid", "dataflow"] {
                if let Some(Value::String(text)) = fields.get_mut(field) {
                    *text = inner(labelled(text));
                }
            }
            if let Some(Value::Array(segments)) = fields.get_mut("segment_uuids") {
                let mut texts: Vec<_> = segments.iter().map(|id| inner(labelled(id.as_str().unwrap()))).collect();
                texts.sort_unstable();
                *segments = texts.into_iter().map(Value::from).collect();
            }
        }
        let kind = name.split('/').next().unwrap();
        documents.push(format!("{kind} {document}"));
    }
    let relations = canonical.relations.iter();
    documents.extend(relations.map(|relation| relation.iter().map(|id| labelled(id)).collect::<Vec<_>>().join(" ")));
    documents.sort_unstable();
    documents
}

#[test]
fn what_kylin_gave_new_ids_is_the_same_but_for_these() {
    let Some(data) = shared() else { return };
    let (keys, new, _) = migrate(&read_tree(&data.join("old/multi_partition_date_type")), RENAMED);
    assert_eq!(keys.choices().len(), 22);
    let ours = by_what_they_are(&canonical(&new));
    let theirs: BTreeSet<_> =
        by_what_they_are(&canonical(&read_tree(&data.join("new/multi_partition_date_type")))).into_iter().collect();
    // One model was added there later.
    let missing: Vec<_> = ours.iter().filter(|document| !theirs.contains(*document)).collect();
    assert!(missing.is_empty() && ours.len() == 156, "{} {missing:#?}", ours.len());
}

/// Whether this is a UUID as Java's `writeUTF` writes it, or its text alone.
fn is_identity(document: &[u8]) -> bool {
    let text = document.strip_prefix(&[0, 36]).unwrap_or(document);
    let is_digit = |(n, &byte): (usize, &u8)| match n {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    text.len() == 36 && text.iter().enumerate().all(is_digit)
}

#[test]
fn no_old_tree_loses_a_document() {
    let Some(data) = shared() else { return };
    for tree in fs::read_dir(data.join("old")).unwrap() {
        let tree = tree.unwrap().path();
        let name = tree.file_name().unwrap().to_str().unwrap().to_owned();
        if name.starts_with("json_list") {
            continue;
        }
        let old = read_tree(&tree);
        let (keys, new, fates) = migrate(&old, RENAMED);
        assert_eq!(keys.refusals(), []);
        let kept = new.keys().filter(|name| name.starts_with("_unmigrated/")).count();
        let problems: Vec<_> = fates.iter().filter(|(_, fate)| fate.is_problem()).collect();
        assert_eq!(kept, problems.len(), "{name}: {problems:#?}");
        // Some copies of these trees have a printed dump of this document in place of it.
        let is_unknown = old.get("UUID").is_some_and(|document| !is_identity(document));
        let refusals = migrate(&old, Options { rename_built: true, ..Options::default() }).0.refusals();
        assert_eq!(refusals == [Refusal::IdentityUnknown], is_unknown, "{name}");
        eprintln!("{name}: {} -> {}; {} choices; {problems:#?}", old.len(), new.len(), keys.choices().len());
    }
}
