//! The two passes over a source: what must be known of all of it, then the conversion of each document.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use super::origin::Opened;
use super::report::{Lines, reason_of, text_of};
use super::{LAYOUT, MigrateOptions};
use crate::endpoint::spool::Spool;
use crate::model::path::EntryPath;
use crate::monitor::{Monitor, Problem};
use crate::ops::documents::{Met, Taker, Unread};
use crate::ops::{Error, Result};
use crate::platform::kylin::migrate::{Account, Keys, Options, Rule, Survey, kept_instead, rule_of};

/// The first pass.
pub(super) fn survey(source: &Opened<'_>, options: &Options, monitor: &dyn Monitor) -> Result<Keys> {
    let all = Mutex::new(Survey::new(*options));
    let wanted = |path: &EntryPath| Survey::wants(&source.name_of(path), options);
    let takers =
        || -> Box<dyn Taker + '_> { Box::new(Surveyor { source, all: &all, some: Some(Survey::new(*options)) }) };
    // Those that can't be read are told when they are to be converted.
    source.with(|documents| documents.each(&wanted, &takers, &|_, _| {}, monitor))?;
    Ok(all.into_inner().unwrap_or_else(PoisonError::into_inner).finish())
}

struct Surveyor<'a> {
    source: &'a Opened<'a>,
    all: &'a Mutex<Survey>,
    /// What was seen so far; taken at the end.
    some: Option<Survey>,
}

impl Taker for Surveyor<'_> {
    fn take(&mut self, met: &Met<'_>, content: Option<&[u8]>) -> Result<()> {
        let some = self.some.as_mut().expect("it is taken when this is dropped");
        some.add(&self.source.name_of(met.path), content);
        Ok(())
    }
}

impl Drop for Surveyor<'_> {
    fn drop(&mut self) {
        if let Some(some) = self.some.take() {
            let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            *all = std::mem::take(&mut *all).merge(some);
        }
    }
}

/// What the second pass gives.
pub(super) struct Conversion {
    pub source: String,
    pub store: String,
    pub spool: Spool,
    pub lines: Lines,
    pub unread: Vec<Problem>,
    pub counted: Counted,
}

/// What is counted of documents of the source.
#[derive(Default)]
pub(super) struct Counted {
    pub account: Account,
    pub documents: u64,
    pub bytes: u64,
    pub kept: Vec<(EntryPath, String)>,
}

/// Documents that are kept instead of being converted, since others have the places they would have.
type Displaced = BTreeMap<EntryPath, Rival>;

/// Who has the place of a document.
struct Rival {
    /// The name of the place, in the new layout.
    place: String,
    /// The document that has it.
    by: EntryPath,
}

impl Conversion {
    /// Returns which documents want a place that another one has. Names of projects, tables and users may hold dots, so that
    /// documents of several projects may come to one name; who would win? Of those that want a place the first in the order
    /// of names has it, and before it one that became several.
    fn displaced(&self) -> Result<Displaced> {
        // There may be millions: names are looked at only where their hashes are the same.
        let hasher = RandomState::new();
        let mut hashes = Vec::new();
        self.spool.each_path(|path| hashes.extend(LAYOUT.name_of(path).map(|name| hasher.hash_one(name))));
        hashes.sort_unstable();
        let twice: HashSet<u64> = hashes.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
        let (mut met, mut wanted) = (BTreeSet::new(), BTreeSet::new());
        self.spool.each_path(|path| {
            if let Some(name) = LAYOUT.name_of(path).filter(|name| twice.contains(&hasher.hash_one(name)))
                && !met.insert(name.clone())
            {
                wanted.insert(name.to_string());
            }
        });
        let mut displaced = Displaced::new();
        if wanted.is_empty() {
            return Ok(displaced);
        }
        let mut rivals: BTreeMap<String, Vec<(bool, EntryPath)>> = BTreeMap::new();
        self.lines.each(|line| {
            let to = &line.fields["to"];
            let all = to.as_array().map_or(std::slice::from_ref(to), Vec::as_slice);
            for place in all.iter().filter_map(Value::as_str).filter(|place| wanted.contains(*place)) {
                rivals.entry(place.to_owned()).or_default().push((!to.is_array(), line.name.clone()));
            }
            Ok(())
        })?;
        for (place, mut rivals) in rivals {
            rivals.sort_unstable();
            let by = rivals.first().map(|(_, name)| name.clone());
            for (_, name) in rivals.into_iter().skip(1) {
                displaced.extend(by.clone().map(|by| (name, Rival { place: place.clone(), by })));
            }
        }
        match displaced.is_empty() {
            // One document that comes to the same place twice would be a fault of ours.
            true => Err(Error::NotMigrated {
                document: wanted.into_iter().next().unwrap_or_default(),
                why: "it would be there twice".to_owned(),
            }),
            false => Ok(displaced),
        }
    }
}

/// The second pass.
pub(super) fn convert(
    source: &Opened<'_>,
    keys: &Keys,
    options: &MigrateOptions,
    monitor: &dyn Monitor,
) -> Result<Conversion> {
    let mut displaced = Displaced::new();
    loop {
        let conversion = convert_but(source, keys, &displaced, options, monitor)?;
        let more = conversion.displaced()?;
        if more.is_empty() {
            return Ok(conversion);
        }
        // That is seldom, and all is converted anew without them.
        displaced.extend(more);
    }
}

fn convert_but(
    source: &Opened<'_>,
    keys: &Keys,
    displaced: &Displaced,
    options: &MigrateOptions,
    monitor: &dyn Monitor,
) -> Result<Conversion> {
    let (spool, lines, all) = (Spool::new()?, Lines::new()?, Mutex::new(Counted::default()));
    let unread = Unread::new(monitor);
    let wanted = |path: &EntryPath| !matches!(rule_of(&source.name_of(path)), Rule::Drop(_));
    let takers = || -> Box<dyn Taker + '_> {
        let counted = Counted::default();
        Box::new(Converter {
            source,
            keys,
            displaced,
            is_strict: options.strict,
            spool: &spool,
            lines: &lines,
            all: &all,
            counted,
        })
    };
    source.with(|documents| documents.each(&wanted, &takers, &|path, what| unread.tell(path, what), monitor))?;
    let mut counted = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    counted.kept.sort_unstable();
    lines.sort();
    let unread = [source.problems(), unread.finish()].concat();
    let (store, source) = (source.store.clone(), source.location.clone());
    Ok(Conversion { source, store, spool, lines, unread, counted })
}

struct Converter<'a> {
    source: &'a Opened<'a>,
    keys: &'a Keys,
    displaced: &'a Displaced,
    is_strict: bool,
    spool: &'a Spool,
    lines: &'a Lines,
    all: &'a Mutex<Counted>,
    counted: Counted,
}

impl Taker for Converter<'_> {
    fn take(&mut self, met: &Met<'_>, content: Option<&[u8]>) -> Result<()> {
        let name = self.source.name_of(met.path);
        let content = content.unwrap_or_default();
        let converted = match self.displaced.get(&name) {
            Some(Rival { place, by }) => kept_instead(&name, content, met.time_ns, place, by),
            None => self.keys.convert(&name, content, met.time_ns),
        };
        if converted.fate.is_problem() {
            let what = text_of(&converted.fate);
            if self.is_strict {
                return Err(Error::NotMigrated { document: name.to_string(), why: reason_of(&converted.fate) });
            }
            self.counted.kept.push((name.clone(), what));
        }
        self.lines.add(&name, &converted)?;
        self.counted.account.add(&name, &converted);
        self.counted.documents += 1;
        self.counted.bytes += content.len() as u64;
        for document in converted.documents {
            self.spool.put(document.path, &document.content, document.time_ns)?;
        }
        Ok(())
    }
}

impl Drop for Converter<'_> {
    fn drop(&mut self) {
        let some = std::mem::take(&mut self.counted);
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.account = std::mem::take(&mut all.account).merge(some.account);
        all.documents += some.documents;
        all.bytes += some.bytes;
        all.kept.extend(some.kept);
    }
}
