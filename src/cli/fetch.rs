//! `metastash metastore fetch` and `list`: files of the live store, by their names

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::Zoned;
use metastash::endpoint::directory::DirectoryStore;
use metastash::endpoint::location::{self, Reading};
use metastash::endpoint::{Listing, Outcome, Put, Target};
use metastash::model::entry::Document;
use metastash::model::hash::ContentId;
use metastash::model::path::EntryPath;
use metastash::model::scope::Scope;
use metastash::monitor::Silent;
use metastash::platform::kylin::layout::{Layout, Level};

use super::args::Global;
use super::exit::{Code, Refusal, Usage};
use super::output::{Output, count};
use super::store;

/// The files of the live store under their own names; of a database, those that a backup of it would have.
struct Files {
    listing: Box<dyn Listing>,
    layout: Option<Layout>,
}

impl Files {
    fn open(global: &Global) -> Result<Self> {
        let (store, layout) = match store::place(global)? {
            store::Place::Files(path) => (location::open(&path, Reading::Plain)?.store, None),
            store::Place::Database { .. } => {
                let store = store::source(global)?.store;
                let layout = if store.layout() == Layout::Old.name() { Layout::Old } else { Layout::New(Level::Core) };
                (store, Some(layout))
            }
        };
        Ok(Self { listing: store.scan(&Scope::System, &Silent)?, layout })
    }

    /// Returns the name of what is listed at a path; nothing for what lies beside the documents.
    fn name(&self, path: EntryPath) -> Option<EntryPath> {
        match self.layout {
            None => Some(path),
            Some(layout) => layout.name_of(&path),
        }
    }

    /// Returns the files at or below a name, and their numbers.
    fn below(&self, target: &str) -> Vec<(u32, EntryPath)> {
        let target = target.trim_matches('/').as_bytes();
        let is_below = |name: &EntryPath| {
            target.is_empty() || name.is_within(target) || name.as_bytes() == [target, b".json"].concat()
        };
        let files = self.listing.numbers().map(|n| (n, self.listing.found(n as usize)));
        let named =
            files.filter(|(_, found)| found.size.is_some()).filter_map(|(n, found)| Some((n, self.name(found.path)?)));
        named.filter(|(_, name)| is_below(name)).collect()
    }
}

pub(super) fn list(folder: &str, global: &Global, output: &Output) -> Result<Code> {
    let files = Files::open(global)?;
    let depth = folder.trim_matches('/').split('/').filter(|part| !part.is_empty()).count();
    let child = |(_, name): (u32, EntryPath)| {
        let parts: Vec<&[u8]> = name.parts().take(depth + 1).collect();
        EntryPath::new(parts.join(&b'/')).map(|path| format!("/{path}"))
    };
    let children: BTreeSet<String> = files.below(folder).into_iter().filter_map(|file| child(file).ok()).collect();
    if children.is_empty() {
        output.result(&format!("{folder} is not exist"))?;
        return Err(Refusal {
            message: format!("the store has nothing at {folder}"),
            hint: "`metastash metastore list /` shows what is at the top".to_owned(),
            code: 1,
        }
        .into());
    }
    output.result(&format!("[{}]", children.into_iter().collect::<Vec<_>>().join(", ")))?;
    Ok(Code::Done)
}

pub(super) fn fetch(target: &str, directory: Option<&Path>, global: &Global, output: &Output) -> Result<Code> {
    let home = std::env::var_os("KYLIN_HOME").map(PathBuf::from);
    let directory = match (directory, home) {
        (Some(directory), _) if directory.is_dir() => directory.to_owned(),
        (Some(directory), _) => {
            let message = format!("there is no directory {}", directory.display());
            return Err(Refusal { message, hint: "create it, or check the spelling".to_owned(), code: 1 }.into());
        }
        (None, Some(home)) => home.join("meta_fetch"),
        (None, None) => return Err(Usage("fetch: name a directory, or set KYLIN_HOME".to_owned()).into()),
    };
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let folder = directory.join(Zoned::now().strftime("%Y-%m-%d-%H-%M-%S_fetch").to_string());
    let files = Files::open(global)?;
    let mut wanted = files.below(target);
    if wanted.is_empty() {
        let message = format!("the store has nothing at {target}");
        return Err(Refusal {
            message,
            hint: "`metastash metastore list /` shows what is at the top".to_owned(),
            code: 1,
        }
        .into());
    }
    // As Kylin: the project that is fetched, or whose part is, and the identity of the store.
    let last = target.trim_matches('/').rsplit('/').next().unwrap_or_default();
    for also in [
        format!("_global/project/{last}.json"),
        "UUID".to_owned(),
        format!("PROJECT/{last}.json"),
        "SYSTEM/UUID.json".to_owned(),
    ] {
        wanted.extend(files.below(&also));
    }
    wanted.sort_unstable();
    wanted.dedup();
    write_to(&folder, &files, &wanted)?;
    output.say(&format!("{} fetched to {}", count(wanted.len() as u64, "document"), folder.display()))?;
    Ok(Code::Done)
}

/// Writes files to a folder that appears when all are there.
fn write_to(folder: &Path, files: &Files, wanted: &[(u32, EntryPath)]) -> Result<()> {
    let destination = DirectoryStore::open_target(folder)?;
    let empty = destination.scan_target(&Scope::System, &Silent)?;
    let put = |(n, path): &(u32, EntryPath)| {
        let found = files.listing.found(*n as usize);
        let document =
            Document { content: ContentId::of(b""), size: found.size.unwrap_or_default(), pieces: Box::default() };
        Put {
            path: path.clone(),
            document: Some(document),
            mode: found.mode,
            encoding: found.encoding,
            time_ns: found.stamp.time_ns,
            replaces: None,
        }
    };
    let puts: Vec<Put> = wanted.iter().map(put).collect();
    let staging = destination.begin(&*empty, &puts)?;
    let (mut reader, mut writer) = (files.listing.reader(), staging.writer());
    reader.prepare(&wanted.iter().map(|(n, _)| *n).collect::<Vec<_>>())?;
    for (at, (n, _)) in wanted.iter().enumerate() {
        let mut content = Vec::new();
        writer.begin(at)?;
        match reader.read(*n as usize, 1 << 20, &mut content)? {
            Outcome::Read(_) => writer.append(&content)?,
            Outcome::TooLarge => {
                let mut stream = reader.stream(*n as usize)?;
                let mut buffer = vec![0; 1 << 20];
                loop {
                    match std::io::Read::read(&mut stream, &mut buffer)? {
                        0 => break,
                        bytes => writer.append(&buffer[..bytes])?,
                    }
                }
                stream.finish()?.context("a document changed while it was fetched; run it again")?;
            }
        }
        writer.finish()?;
    }
    drop(writer);
    Ok(staging.commit(&[], &Silent)?)
}
