//! A day of change on a tree, or a part of one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::dice::{DAY, Dice, END, HOUR};
use super::edit;
use super::system;
use super::tree::{path, write};

/// How much of a tree changes in a day, as fractions of the documents present.
#[derive(Clone, Copy, Debug)]
pub struct Churn {
    /// Days of equal seeds on equal trees are equal.
    pub seed: u64,
    /// Documents that are rewritten.
    pub modified: f64,
    /// Documents under new names.
    pub added: f64,
    /// Documents that go.
    pub removed: f64,
}

impl Default for Churn {
    fn default() -> Self {
        Self { seed: 1, modified: 0.006, added: 0.003, removed: 0.001 }
    }
}

/// What a day changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Churned {
    /// Documents rewritten.
    pub modified: u64,
    /// Documents added.
    pub added: u64,
    /// Documents removed.
    pub removed: u64,
    /// The bytes of the contents written.
    pub bytes: u64,
}

/// Kinds that change often, with their share of the modified documents in percent. The rest is spread over all
/// other kinds that change at all.
const HOT: &[(&str, u64)] = &[("TABLE_INFO", 9), ("TABLE_EXD", 6), ("JOB_STATS", 5), ("SEGMENT", 30), ("LAYOUT", 30)];
/// The share of dataflows: a segment that comes or goes changes its dataflow as well.
const DATAFLOWS: u64 = 14;
/// Kinds without a member that changes.
const FIXED: &[&str] = &["SYSTEM", "COMPUTE_COLUMN", "CC_MODEL_RELATION", "TABLE_MODEL_RELATION"];
/// Kinds nothing refers to.
const LOOSE: &[&str] = &["JOB_STATS", "TABLE_EXD", "QUERY_RECORD", "HISTORY_SOURCE_USAGE", "ACL"];

/// One of equal parts of a day.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Which day after the tree's end, from 1.
    pub day: u32,
    /// Which part of it, from 0.
    pub number: u32,
    /// How many parts it has.
    pub of: u32,
}

impl Part {
    /// Returns the only part of a day that has one.
    pub fn whole(day: u32) -> Self {
        Self { day, number: 0, of: 1 }
    }
}

/// A tree that changes, and the names in it: to list a large one takes longer than to change a little of it.
pub struct Changing {
    dir: PathBuf,
    present: Present,
}

impl Changing {
    /// Lists a tree.
    pub fn open(dir: &Path) -> io::Result<Self> {
        Ok(Self { dir: dir.to_owned(), present: present(dir)? })
    }

    /// Changes it as a part of a day would; parts come in order.
    ///
    /// Documents are rewritten in place, added and unlinked; references stay complete. All written files get a time of
    /// the part. The counts are the fractions asked for, as long as the tree has enough documents to change.
    pub fn pass(&mut self, part: Part, churn: &Churn) -> io::Result<Churned> {
        let total: usize = self.present.values().map(Vec::len).sum();
        let length = DAY / u64::from(part.of);
        let day = END + u64::from(part.day.saturating_sub(1)) * DAY;
        let mut work = Work {
            dir: &self.dir,
            dice: Dice::new(churn.seed, [u64::MAX - 1, u64::from(part.day), u64::from(part.number)]),
            day,
            begin: day + u64::from(part.number) * length,
            length,
            present: &self.present,
            touched: BTreeSet::new(),
            created: BTreeSet::new(),
            unlinked: BTreeSet::new(),
            done: Churned::default(),
        };
        let mut dataflows = work.dataflows(share(total, churn.modified))?;
        work.remove(&mut dataflows, share(total, churn.removed))?;
        work.add(&mut dataflows, share(total, churn.added))?;
        work.rewrite(&dataflows)?;
        work.modify(share(total, churn.modified))?;
        let Work { created, unlinked, done, .. } = work;
        for (kind, key) in unlinked {
            self.present.entry(kind).or_default().retain(|present| *present != key);
        }
        for (kind, key) in created {
            let keys = self.present.entry(kind).or_default();
            if let Err(at) = keys.binary_search(&key) {
                keys.insert(at, key);
            }
        }
        Ok(done)
    }
}

/// Changes a tree as the given day, counted from 1, would: see [`Changing::pass`].
pub fn churn(dir: &Path, day: u32, churn: &Churn) -> io::Result<Churned> {
    Changing::open(dir)?.pass(Part::whole(day), churn)
}

/// Returns how many documents a fraction is.
#[allow(
    clippy::cast_possible_truncation,
    reason = "counts of files are far below 2^53, and a float casts to an integer by saturating"
)]
fn share(total: usize, fraction: f64) -> u64 {
    (fraction * total as f64).round() as u64
}

type Present = BTreeMap<String, Vec<String>>;

/// Returns the sorted keys of all documents by kind.
fn present(dir: &Path) -> io::Result<Present> {
    let mut present = Present::new();
    for kind in fs::read_dir(dir)? {
        let kind = kind?;
        if !kind.file_type()?.is_dir() {
            continue;
        }
        let mut keys = Vec::new();
        for file in fs::read_dir(kind.path())? {
            let name = file?.file_name().to_string_lossy().into_owned();
            keys.extend(name.strip_suffix(".json").map(str::to_owned));
        }
        keys.sort_unstable();
        present.insert(kind.file_name().to_string_lossy().into_owned(), keys);
    }
    Ok(present)
}

/// A dataflow whose segments come and go today.
struct Dataflow {
    key: String,
    text: String,
    segments: Vec<String>,
}

struct Work<'a> {
    dir: &'a Path,
    dice: Dice,
    /// When the day begins, in milliseconds since 1970.
    day: u64,
    /// When the part of it begins.
    begin: u64,
    /// How long that is, in milliseconds.
    length: u64,
    present: &'a Present,
    /// What was changed or removed already and is left alone from then on.
    touched: BTreeSet<(String, String)>,
    created: BTreeSet<(String, String)>,
    unlinked: BTreeSet<(String, String)>,
    done: Churned,
}

impl Work<'_> {
    fn read(&self, kind: &str, key: &str) -> io::Result<String> {
        fs::read_to_string(path(self.dir, kind, key))
    }

    fn write(&mut self, kind: &str, key: &str, at: u64, content: &str) -> io::Result<()> {
        self.touched.insert((kind.to_owned(), key.to_owned()));
        self.done.bytes += content.len() as u64;
        fs::create_dir_all(self.dir.join(kind))?;
        write(&path(self.dir, kind, key), at, content)
    }

    /// Returns a time of the part of the day.
    fn time(&mut self) -> u64 {
        self.begin + self.dice.below(self.length)
    }

    /// Returns up to `count` keys of a kind at random, none that was changed already.
    fn choose(&mut self, kind: &str, count: u64) -> Vec<String> {
        let mut keys: Vec<&String> = self.present.get(kind).into_iter().flatten().collect();
        let mut chosen = Vec::new();
        while (chosen.len() as u64) < count && !keys.is_empty() {
            let key = keys.swap_remove(self.dice.index(keys.len()));
            if !self.touched.contains(&(kind.to_owned(), key.clone())) {
                chosen.push(key.clone());
            }
        }
        chosen
    }

    fn dataflows(&mut self, modified: u64) -> io::Result<Vec<Dataflow>> {
        let mut dataflows = Vec::new();
        for key in self.choose("DATAFLOW", (modified * DATAFLOWS).div_ceil(100)) {
            let text = self.read("DATAFLOW", &key)?;
            let segments = edit::array_of(&text, "segment_uuids").unwrap_or_default();
            let segments = segments.split(',').map(|uuid| uuid.trim().trim_matches('"').to_owned());
            let segments = segments.filter(|uuid| !uuid.is_empty()).collect();
            dataflows.push(Dataflow { key, text, segments });
        }
        Ok(dataflows)
    }

    /// Removes the oldest segments of the dataflows, and some documents nothing refers to.
    fn remove(&mut self, dataflows: &mut [Dataflow], count: u64) -> io::Result<()> {
        let segments = count * 85 / 100;
        while self.done.removed + 2 <= segments {
            let before = self.done.removed;
            // A dataflow keeps a few, which new ones are made after.
            for dataflow in dataflows.iter_mut().filter(|dataflow| dataflow.segments.len() > 4) {
                if self.done.removed + 2 <= segments {
                    let uuid = dataflow.segments.remove(0);
                    self.unlink("LAYOUT", &uuid)?;
                    self.unlink("SEGMENT", &uuid)?;
                }
            }
            if self.done.removed == before {
                break;
            }
        }
        for kind in LOOSE {
            let left = count.saturating_sub(self.done.removed);
            let some = if *kind == "ACL" { left } else { left.div_ceil(2) };
            for key in self.choose(kind, some) {
                self.unlink(kind, &key)?;
            }
        }
        Ok(())
    }

    fn unlink(&mut self, kind: &str, key: &str) -> io::Result<()> {
        match fs::remove_file(path(self.dir, kind, key)) {
            Ok(()) => {
                self.unlinked.insert((kind.to_owned(), key.to_owned()));
                self.done.removed += 1;
            }
            // A segment that was never built has no layouts.
            Err(error) if error.kind() == io::ErrorKind::NotFound => (),
            Err(error) => return Err(error),
        }
        self.touched.insert((kind.to_owned(), key.to_owned()));
        Ok(())
    }

    fn add(&mut self, dataflows: &mut [Dataflow], count: u64) -> io::Result<()> {
        self.add_statistics(dataflows, count / 10)?;
        if count >= 20 {
            let usage = system::source_usage(&mut self.dice, self.day);
            self.create(usage.kind, &usage.key, usage.modified, &usage.content)?;
        }
        while self.done.added < count {
            let before = self.done.added;
            for dataflow in dataflows.iter_mut() {
                if self.done.added < count {
                    self.add_segment(dataflow, self.done.added + 1 < count)?;
                }
            }
            if self.done.added == before {
                break;
            }
        }
        Ok(())
    }

    /// Writes a new document; one that is there already stays, and is not counted.
    fn create(&mut self, kind: &str, key: &str, at: u64, content: &str) -> io::Result<()> {
        if !path(self.dir, kind, key).exists() {
            self.write(kind, key, at, content)?;
            self.created.insert((kind.to_owned(), key.to_owned()));
            self.done.added += 1;
        }
        Ok(())
    }

    /// Adds the day's JOB_STATS of the projects that build something.
    fn add_statistics(&mut self, dataflows: &[Dataflow], count: u64) -> io::Result<()> {
        let mut aliases: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for dataflow in dataflows {
            let Ok(model) = self.read("MODEL", &dataflow.key) else {
                continue;
            };
            if let (Some(project), Some(alias)) = (edit::text_of(&model, "project"), edit::text_of(&model, "alias")) {
                aliases.entry(project.to_owned()).or_default().push(alias.to_owned());
            }
        }
        for (project, aliases) in aliases {
            if self.done.added < count {
                let content = system::job_stats(&project, &aliases, &mut self.dice, self.day);
                self.create("JOB_STATS", &format!("{project}.{}", self.day), self.day + 20 * HOUR, &content)?;
            }
        }
        Ok(())
    }

    /// Adds a segment after the last built one, and its layouts.
    fn add_segment(&mut self, dataflow: &mut Dataflow, with_layouts: bool) -> io::Result<()> {
        let newest = dataflow.segments.iter().rev().find_map(|uuid| self.read("SEGMENT", uuid).ok());
        let built = dataflow.segments.iter().rev().take(9).find_map(|uuid| {
            let layout = self.read("LAYOUT", uuid).ok()?;
            Some((self.read("SEGMENT", uuid).ok()?, layout))
        });
        let (Some(start), Some((segment, layout))) = (newest.as_deref().and_then(edit::end_of), built) else {
            return Ok(());
        };
        let (uuid, at) = (self.dice.uuid(), self.time());
        let segment = edit::next_segment(&segment, &uuid, start, &mut self.dice, at);
        self.create("SEGMENT", &uuid, at, &segment)?;
        if with_layouts {
            let layout = edit::next_layout(&layout, &uuid, &mut self.dice, at);
            self.create("LAYOUT", &uuid, at, &layout)?;
        }
        dataflow.segments.push(uuid);
        Ok(())
    }

    /// Writes the dataflows with the segments they have now.
    fn rewrite(&mut self, dataflows: &[Dataflow]) -> io::Result<()> {
        for dataflow in dataflows {
            let at = self.time();
            let mut text = edit::modified("DATAFLOW", &dataflow.text, &mut self.dice, at);
            if let Some(old) = edit::array_of(&dataflow.text, "segment_uuids") {
                let uuids: Vec<String> = dataflow.segments.iter().map(|uuid| format!("\"{uuid}\"")).collect();
                text = text.replacen(&format!("[{old}]"), &format!("[ {} ]", uuids.join(", ")), 1);
            }
            self.write("DATAFLOW", &dataflow.key, at, &text)?;
            self.done.modified += 1;
        }
        Ok(())
    }

    fn modify(&mut self, count: u64) -> io::Result<()> {
        if count > self.done.modified
            && self.present.get("SYSTEM").is_some_and(|keys| keys.iter().any(|k| k == "_image"))
        {
            let end = self.begin + self.length;
            let (at, offset) = (end - 1, end / 7_919);
            self.write("SYSTEM", "_image", at, &format!("{{\"offset\":{offset}}}"))?;
            self.done.modified += 1;
        }
        self.modify_cold(count * 6 / 100)?;
        for (kind, percent) in HOT {
            self.modify_some(kind, count * percent / 100, count)?;
        }
        // What rounding and small kinds left over.
        for kind in ["LAYOUT", "SEGMENT", "TABLE_INFO", "USER_INFO"] {
            self.modify_some(kind, count, count)?;
        }
        Ok(())
    }

    /// Modifies some of the documents that seldom change, whatever their kind.
    fn modify_cold(&mut self, count: u64) -> io::Result<()> {
        let hot = |kind: &str| kind == "DATAFLOW" || HOT.iter().any(|(hot, _)| *hot == kind);
        let cold = self.present.iter().filter(|(kind, _)| !hot(kind) && !FIXED.contains(&kind.as_str()));
        let mut cold: Vec<&str> = cold.flat_map(|(kind, keys)| keys.iter().map(move |_| kind.as_str())).collect();
        let mut drawn: BTreeMap<String, u64> = BTreeMap::new();
        for _ in 0..count.min(cold.len() as u64) {
            let kind = cold.swap_remove(self.dice.index(cold.len()));
            *drawn.entry(kind.to_owned()).or_default() += 1;
        }
        for (kind, part) in drawn {
            self.modify_some(&kind, part, u64::MAX)?;
        }
        Ok(())
    }

    /// Modifies up to `part` documents of a kind, as long as fewer than `limit` were modified in all.
    fn modify_some(&mut self, kind: &str, part: u64, limit: u64) -> io::Result<()> {
        let part = part.min(limit.saturating_sub(self.done.modified));
        for key in self.choose(kind, part) {
            let (text, at) = (self.read(kind, &key)?, self.time());
            let text = edit::modified(kind, &text, &mut self.dice, at);
            self.write(kind, &key, at, &text)?;
            self.done.modified += 1;
        }
        Ok(())
    }
}
