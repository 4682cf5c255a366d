//! The rooms know each other in one direction only.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// For each room the rooms it may use, besides itself.
const ARROWS: [(&str, &[&str]); 7] = [
    ("model", &[]),
    ("monitor", &["model"]),
    ("storage", &["model", "monitor"]),
    ("platform", &["model"]),
    ("endpoint", &["platform", "storage", "model", "monitor"]),
    ("repo", &["storage", "model", "monitor"]),
    ("ops", &["repo", "endpoint", "platform", "storage", "model", "monitor"]),
];

/// Returns what is wrong with the source file of a room: `path` is relative to `src`, as `repo/index.rs`.
fn faults(path: &str, source: &str) -> Vec<String> {
    let room = path.split(['/', '.']).next().unwrap_or_default();
    let depth = path.matches('/').count();
    let is_terminal = matches!(room, "cli" | "main");
    // Rules of style do not bind what tests say; arrows do.
    let is_of_tests = path.ends_with("/tests.rs") || path.contains("/tests/");
    let tested = if is_of_tests { 0 } else { source.find("#[cfg(test)]").unwrap_or(source.len()) };
    let mut faults = Vec::new();
    for (at, line) in code_lines(source) {
        let mut fault = |what: String| faults.push(format!("{path}: {what}: `{}`", line.trim()));
        for used in rooms_used(line, depth) {
            match ARROWS.iter().find(|(name, _)| *name == room) {
                _ if is_terminal && used == "cli" => {}
                _ if is_terminal => fault(format!("the terminal reaches into `{used}`, not through the public API")),
                Some((name, may)) if used != *name && !may.contains(&used) => {
                    fault(format!("`{room}` uses `{used}`"));
                }
                None if room != "lib" => fault(format!("`{room}` is no room that is known")),
                _ => {}
            }
        }
        if !is_terminal {
            if words(line).any(|word| word.starts_with("clap")) {
                fault("clap is for the terminal".to_owned());
            }
            if line.trim_start().starts_with("use metastash::") {
                fault("the library names itself `crate`".to_owned());
            }
            if words(line).any(|word| matches!(word, "println" | "eprintln" | "print" | "eprint")) && line.contains('!')
            {
                fault("the library does not print".to_owned());
            }
        }
        let is_own = line.trim_start().starts_with("use crate") || line.trim_start().starts_with("use super");
        if is_own && line.contains("::*") && at < tested {
            fault("a glob import hides an arrow".to_owned());
        }
        if words(line).any(|word| word == "async" || word == "await") {
            fault("async ends at the storage adapter".to_owned());
        }
        if line.contains(".unwrap()") && at < tested {
            fault("a failure is not handled".to_owned());
        }
    }
    faults
}

/// Returns the lines that are not comments, each with its place in the file.
fn code_lines(source: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    source.split_inclusive('\n').filter_map(move |line| {
        at += line.len();
        let code = line.split("//").next().unwrap_or_default();
        (!code.trim().is_empty()).then_some((at - line.len(), code))
    })
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// Returns the rooms that a line names, by `crate::room` or by `super::` as often as it takes to leave the room.
fn rooms_used(line: &str, depth: usize) -> Vec<&str> {
    let leave = "super::".repeat(depth.max(1) + usize::from(depth > 0));
    let known: Vec<&str> = ARROWS.iter().map(|(name, _)| *name).chain(["cli"]).collect();
    let mut used = Vec::new();
    for door in ["crate::", leave.as_str()] {
        for (at, _) in line.match_indices(door) {
            // `$crate` and a longer chain of `super` are something else.
            let rest = &line[at + door.len()..];
            let listed = rest.strip_prefix('{').map_or(rest, |list| list.split('}').next().unwrap_or_default());
            let many = if rest.starts_with('{') { listed.split(',').collect() } else { vec![listed] };
            used.extend(
                many.into_iter().filter_map(|part| words(part.trim_start()).next()).filter(|w| known.contains(w)),
            );
        }
    }
    used.retain(|room| *room != "cli" || !line.contains("mod cli"));
    used
}

fn sources(folder: &Path, prefix: &str, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.path().is_dir() {
            sources(&entry.path(), &format!("{name}/"), found);
        } else if name.ends_with(".rs") {
            found.push((name, fs::read_to_string(entry.path()).unwrap()));
        }
    }
}

fn all_sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut found);
    found
}

#[test]
fn arrows_between_rooms_point_one_way() {
    let sources = all_sources();
    assert!(sources.len() > 40, "the sources were found");
    let faults: Vec<String> = sources.iter().flat_map(|(path, source)| faults(path, source)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_room_is_in_the_list() {
    let sources = all_sources();
    let rooms: BTreeSet<&str> = sources.iter().filter_map(|(path, _)| Some(path.split_once('/')?.0)).collect();
    let known: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).chain(["cli"]).collect();
    assert!(rooms.is_subset(&known), "{rooms:?}");
}

#[test]
fn wrong_arrows_are_noticed() {
    let wrong = [
        ("repo/index.rs", "use crate::endpoint::Listing;"),
        ("repo/index.rs", "use crate::{model::hash::PackId, ops::backup};"),
        ("repo/mod.rs", "fn f() { crate::ops::backup::backup(); }"),
        ("repo/index.rs", "use super::super::ops::Error;"),
        ("endpoint/directory/scan.rs", "use crate::repo::Repository;"),
        ("endpoint/mod.rs", "use crate::ops;"),
        ("storage/local.rs", "use crate::repo::index::PACKS;"),
        ("model/path.rs", "use crate::monitor::Monitor;"),
        ("monitor/mod.rs", "use crate::storage::Storage;"),
        ("ops/backup.rs", "use crate::cli::args::Cli;"),
        ("ops/backup.rs", "use clap::Parser;"),
        ("ops/backup.rs", "use metastash::repo;"),
        ("ops/backup.rs", "use crate::repo::*;"),
        ("ops/backup.rs", "println!(\"done\");"),
        ("cli/args.rs", "use crate::ops::backup::backup;"),
        ("main.rs", "use crate::repo::Repository;"),
        ("repo/codec.rs", "async fn read() {}"),
        ("repo/codec.rs", "let raw = read().unwrap();"),
        ("attic/old.rs", "use crate::repo::Repository;"),
    ];
    for (path, line) in wrong {
        assert!(!faults(path, line).is_empty(), "{path}: {line}");
    }
}

#[test]
fn right_arrows_are_let_pass() {
    let right = [
        ("ops/backup.rs", "use crate::repo::{self, Repository};\nuse crate::endpoint::Source;"),
        ("repo/tree/read.rs", "use crate::repo::{Error, Repository};\nuse super::LeafRef;"),
        ("repo/index.rs", "use crate::storage::Storage; // not crate::ops\n/// As [`crate::ops`] does.\n"),
        ("repo/index.rs", "use rayon::prelude::*;"),
        ("cli/args.rs", "use clap::Parser;\nuse metastash::ops::check::Part;\nuse crate::cli::open;"),
        ("model/path.rs", "#[cfg(test)]\nmod tests {\n    use super::*;\n    fn f() { g().unwrap(); }\n}\n"),
    ];
    for (path, source) in right {
        assert_eq!(faults(path, source), Vec::<String>::new());
    }
}
