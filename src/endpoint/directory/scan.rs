//! Listing a directory tree: names and stamps of everything in it, in parallel.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rayon::prelude::*;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Stat, fstat, statat};
use rustix::io::Errno;

use super::open::{DirectoryCache, mode_of, open_directory, open_root, stamp_of};
use super::read::FileReader;
use super::write::STAGING_PREFIX;
use crate::endpoint::{Error, Facts, Listing, Reader, Result, find_near};
use crate::model::clock::unix_ns;
use crate::model::entry::{Encoding, Stamp};
use crate::model::path::{EntryPath, compare_joined, escape};
use crate::model::scope::Scope;
use crate::monitor::{Monitor, Problem, Severity, Task};

/// How far the time of a file may lag behind the clock: two ticks of a slow kernel.
const CLOCK_LAG_NS: i64 = 20_000_000;
/// The same on a file system that keeps whole seconds only (some keep every second one).
const COARSE_CLOCK_LAG_NS: i64 = 2_000_000_000;
/// Files of one directory that a thread takes at once.
const FILES_AT_ONCE: usize = 256;

/// A directory tree at one time.
#[derive(Debug)]
pub(super) struct DirectoryListing {
    store: PathBuf,
    /// Not open when the directory does not exist.
    root: Option<OwnedFd>,
    scan_ns: i64,
    directories: Vec<Directory>,
    /// All entries in path order: number of the directory, number of the child.
    order: Vec<(u32, u32)>,
    obstacles: Vec<EntryPath>,
    /// Directories that are in the listing but could not be listed.
    unlisted: Vec<EntryPath>,
    problems: Vec<Problem>,
}

/// One directory and what is in it. Names are kept end to end: a million of them should not be a million allocations.
#[derive(Debug, Default)]
pub(super) struct Directory {
    path: Vec<u8>,
    names: Vec<u8>,
    children: Vec<Child>,
}

#[derive(Debug, Clone, Copy)]
struct Child {
    name_start: u32,
    name_bytes: u16,
    mode: u16,
    kind: ChildKind,
    size: u64,
    stamp: Stamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChildKind {
    Document,
    /// With its number among the directories, once it is listed.
    Directory(u32),
    /// Not in the listing.
    Left,
}

impl Directory {
    fn name(&self, child: &Child) -> &[u8] {
        &self.names[child.name_start as usize..][..usize::from(child.name_bytes)]
    }

    fn path_of(&self, name: &[u8]) -> Vec<u8> {
        if self.path.is_empty() { name.to_vec() } else { [&self.path, &b"/"[..], name].concat() }
    }
}

/// Lists the entries of a scope.
pub(super) fn scan(store: &Path, scope: &Scope, monitor: &dyn Monitor) -> Result<DirectoryListing> {
    let scan_ns = unix_ns(SystemTime::now());
    monitor.start(Task::Scan, None);
    let root = open_root(store).map_err(|e| match e {
        Errno::NOENT => Error::NotFound { store: store.display().to_string() },
        Errno::NOTDIR => Error::NotADirectory { store: store.display().to_string() },
        e => Error::io("open", store.display(), e),
    })?;
    let mut listing = nothing(store);
    listing.scan_ns = scan_ns;
    listing.walk(&root, scope, monitor)?;
    listing.root = Some(root);
    listing.sort();
    Ok(listing)
}

/// Returns the listing of a store that does not exist.
pub(super) fn nothing(store: &Path) -> DirectoryListing {
    DirectoryListing {
        store: store.to_owned(),
        root: None,
        scan_ns: 0,
        directories: Vec::new(),
        order: Vec::new(),
        obstacles: Vec::new(),
        unlisted: Vec::new(),
        problems: Vec::new(),
    }
}

impl DirectoryListing {
    /// Lists level by level: the directories of a level in parallel, and each large one in parallel too.
    fn walk(&mut self, root: &OwnedFd, scope: &Scope, monitor: &dyn Monitor) -> Result<()> {
        let top = self.top(root, scope)?;
        let mut level = self.take(vec![top], monitor);
        while !level.is_empty() {
            let listed = level.par_iter().map(|path| list(root, path, monitor)).collect();
            level = self.take(listed, monitor);
        }
        // An interrupted level looks empty: what was listed so far must not pass for the whole store.
        if monitor.is_interrupted() { Err(Error::Interrupted) } else { Ok(()) }
    }

    fn top(&self, root: &OwnedFd, scope: &Scope) -> Result<Listed> {
        let mut top = list_names(root, Vec::new()).map_err(|e| Error::io("list", self.store.display(), e))?;
        if let Some(project) = scope.prefix() {
            top.names_sorted
                .retain(|(start, length)| top.directory.names[*start as usize..][..usize::from(*length)] == *project);
            let stat = statat(root, project, AtFlags::SYMLINK_NOFOLLOW);
            if !stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory) {
                return Err(Error::NoProject { store: self.store.display().to_string(), scope: scope.clone() });
            }
        }
        Ok(stat_all(root, top))
    }

    /// Keeps what a level of directories held and returns the paths of the next level.
    fn take(&mut self, listed: Vec<Listed>, monitor: &dyn Monitor) -> Vec<Vec<u8>> {
        let first = self.directories.len();
        for listed in listed {
            for problem in &listed.problems {
                monitor.problem(problem);
            }
            monitor.advance(listed.directory.children.len() as u64);
            self.problems.extend(listed.problems);
            self.obstacles.extend(listed.obstacles);
            self.unlisted.extend(listed.unlisted);
            self.directories.push(listed.directory);
        }
        let mut number = u32::try_from(self.directories.len()).expect("fewer than 2^32 directories");
        let mut next = Vec::new();
        for directory in &mut self.directories[first..] {
            let mut children = std::mem::take(&mut directory.children);
            for child in &mut children {
                if let ChildKind::Directory(slot) = &mut child.kind {
                    *slot = number;
                    number += 1;
                    next.push(directory.path_of(directory.name(child)));
                }
            }
            directory.children = children;
        }
        next
    }

    /// Puts the children of all directories into path order: a directory, then what is in it.
    fn sort(&mut self) {
        let total = self.directories.iter().map(|directory| directory.children.len()).sum();
        let mut order = Vec::with_capacity(total);
        let mut open: Vec<(u32, u32)> = vec![(0, 0)];
        while let Some((directory, child)) = open.pop() {
            let children = &self.directories[directory as usize].children;
            for number in child..u32::try_from(children.len()).expect("fewer than 2^32 names") {
                let kind = children[number as usize].kind;
                if kind != ChildKind::Left {
                    order.push((directory, number));
                }
                if let ChildKind::Directory(below) = kind {
                    open.push((directory, number + 1));
                    open.push((below, 0));
                    break;
                }
            }
        }
        self.order = order;
    }

    fn child(&self, n: usize) -> (&Directory, &Child) {
        let (directory, child) = self.order[n];
        let directory = &self.directories[directory as usize];
        (directory, &directory.children[child as usize])
    }

    /// Returns the directory of the n-th entry, its name, and its stamp and size when it was listed.
    pub(super) fn place(&self, n: usize) -> (&[u8], &[u8], Stamp, u64) {
        let (directory, child) = self.child(n);
        (&directory.path, directory.name(child), child.stamp, child.size)
    }
}

impl Listing for DirectoryListing {
    fn len(&self) -> usize {
        self.order.len()
    }

    fn path(&self, n: usize) -> EntryPath {
        let (directory, child) = self.child(n);
        // Its parts were checked when it was listed.
        match &directory.path[..] {
            [] => EntryPath::joined(&[directory.name(child)]),
            above => EntryPath::joined(&[above, directory.name(child)]),
        }
    }

    fn facts(&self, n: usize) -> Facts {
        let (_, child) = self.child(n);
        let size = (child.kind == ChildKind::Document).then_some(child.size);
        Facts { size, mode: Some(child.mode), encoding: Encoding::Plain, stamp: child.stamp }
    }

    fn find(&self, path: &EntryPath, near: usize) -> Option<usize> {
        find_near(self.order.len(), near, |n| {
            let (directory, child) = self.child(n);
            compare_joined(&directory.path, directory.name(child), path.as_bytes())
        })
    }

    fn obstacles(&self) -> &[EntryPath] {
        &self.obstacles
    }

    fn hides(&self, path: &EntryPath) -> bool {
        self.unlisted.iter().any(|directory| path.is_within(directory.as_bytes()))
    }

    fn problems(&self) -> &[Problem] {
        &self.problems
    }

    fn is_racy(&self, stamp: &Stamp) -> bool {
        is_recent(stamp.time_ns, stamp.version, self.scan_ns)
    }

    fn reader(&self) -> Box<dyn Reader + '_> {
        let directories = self.root.as_ref().map(|root| DirectoryCache::new(root.as_fd()));
        Box::new(FileReader::new(self, directories))
    }

    fn check_still_there(&self) -> Result<()> {
        let identity = |stat: Stat| (stat.st_dev, stat.st_ino);
        let listed = self.root.as_ref().map(|root| fstat(root).map(identity));
        let now = open_root(&self.store).and_then(|root| fstat(&root)).map(identity);
        match (listed, now) {
            (Some(Ok(listed)), Ok(now)) if listed == now => Ok(()),
            (_, Err(e)) => Err(Error::io("find any more the store", self.store.display(), e)),
            _ => Err(Error::Changed { path: self.store.display().to_string() }),
        }
    }
}

/// Tells whether a file with these times may have been written when a scan began, or later: it may be written again
/// without its times moving.
pub(in crate::endpoint) fn is_recent(modified_ns: i64, changed_ns: i64, scan_ns: i64) -> bool {
    let is_coarse = changed_ns % 1_000_000_000 == 0;
    modified_ns.max(changed_ns) >= scan_ns - if is_coarse { COARSE_CLOCK_LAG_NS } else { CLOCK_LAG_NS }
}

#[derive(Debug, Default)]
struct Listed {
    directory: Directory,
    /// Start and length of each name, sorted by name, until they are made children.
    names_sorted: Vec<(u32, u16)>,
    obstacles: Vec<EntryPath>,
    unlisted: Vec<EntryPath>,
    problems: Vec<Problem>,
}

/// Lists one directory. One that can't be listed holds nothing but a problem.
fn list(root: &OwnedFd, path: &[u8], monitor: &dyn Monitor) -> Listed {
    if monitor.is_interrupted() {
        return Listed::default();
    }
    let listed = open_directory(root.as_fd(), path).and_then(|directory| {
        let names = list_names(&directory, path.to_vec())?;
        Ok(stat_all(&directory, names))
    });
    listed.unwrap_or_else(|e| Listed {
        unlisted: EntryPath::new(path).into_iter().collect(),
        problems: vec![Problem {
            severity: Severity::Unread,
            path: escape(path),
            what: format!("cannot list this directory: {}", std::io::Error::from(e)),
        }],
        ..Listed::default()
    })
}

fn list_names(fd: &OwnedFd, path: Vec<u8>) -> std::result::Result<Listed, Errno> {
    let mut directory = Directory { path, ..Directory::default() };
    let mut names_sorted = Vec::new();
    for entry in Dir::read_from(fd)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let start = u32::try_from(directory.names.len()).map_err(|_| Errno::OVERFLOW)?;
        let length = u16::try_from(name.len()).map_err(|_| Errno::NAMETOOLONG)?;
        directory.names.extend_from_slice(name);
        names_sorted.push((start, length));
    }
    let names = &directory.names;
    names_sorted.par_sort_unstable_by_key(|(start, length)| &names[*start as usize..][..usize::from(*length)]);
    Ok(Listed { directory, names_sorted, ..Listed::default() })
}

fn stat_all(fd: &OwnedFd, mut listed: Listed) -> Listed {
    let names = std::mem::take(&mut listed.names_sorted);
    let directory = &listed.directory;
    let (children, problems): (Vec<Child>, Vec<Option<Box<Problem>>>) = names
        .par_iter()
        .with_min_len(FILES_AT_ONCE)
        .map(|(start, length)| stat_one(fd, directory, *start, *length))
        .unzip();
    let problems: Vec<Problem> = problems.into_iter().flatten().map(|problem| *problem).collect();
    let left = children.iter().filter(|child| child.kind == ChildKind::Left);
    listed.obstacles = left.filter_map(|child| EntryPath::new(directory.path_of(directory.name(child))).ok()).collect();
    listed.problems = problems;
    listed.directory.children = children;
    listed
}

fn stat_one(fd: &OwnedFd, directory: &Directory, name_start: u32, name_bytes: u16) -> (Child, Option<Box<Problem>>) {
    let left = ChildKind::Left;
    let mut child = Child { name_start, name_bytes, mode: 0, kind: left, size: 0, stamp: Stamp::default() };
    let name = directory.name(&child);
    let problem =
        |severity, what: String| Some(Box::new(Problem { severity, path: escape(&directory.path_of(name)), what }));
    if directory.path.is_empty() && name.starts_with(STAGING_PREFIX.as_bytes()) {
        let what = "left behind by a restore that was cut off, or one is running; if none is, remove it".to_owned();
        return (child, problem(Severity::Skipped, what));
    }
    if let Err(e) = EntryPath::new(directory.path_of(name)) {
        return (child, problem(Severity::Unread, e.to_string()));
    }
    let stat = match statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(e) => return (child, problem(Severity::Unread, format!("cannot stat it: {}", std::io::Error::from(e)))),
    };
    child.mode = mode_of(&stat);
    child.stamp = stamp_of(&stat);
    child.size = u64::try_from(stat.st_size).unwrap_or(0);
    let what = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            child.kind = ChildKind::Document;
            return (child, None);
        }
        FileType::Directory => {
            child.kind = ChildKind::Directory(u32::MAX);
            return (child, None);
        }
        FileType::Symlink => "a symlink",
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Unknown => "of an unknown type",
    };
    (child, problem(Severity::Skipped, format!("is {what}, not a document; it is not followed and not kept")))
}
