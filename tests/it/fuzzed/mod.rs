//! What fuzzing tries, tried without a fuzzer: each seed, each finding of before, and some thousand changes of them.
//!
//! `scripts/fuzz.sh` is the long run. What it finds is put into `fuzz/seeds`, where these tests find it.

mod decoders;
mod seeds;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Changes that are tried of each seed.
const CHANGES: u64 = 400;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds")
}

/// Numbers that are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Returns a number below `end`.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap()
    }
}

/// Changes some bytes as damage, or someone hostile, would.
fn change(bytes: &mut Vec<u8>, others: &[Vec<u8>], numbers: &mut Numbers) {
    const TELLING: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b'/', b'"', b'\n'];
    for _ in 0..=numbers.below(3) {
        let at = numbers.below(bytes.len());
        match numbers.below(7) {
            _ if bytes.is_empty() => bytes.push(numbers.next().to_le_bytes()[0]),
            0 => bytes[at] ^= 1 << numbers.below(8),
            1 => bytes[at] = TELLING[numbers.below(TELLING.len())],
            2 => bytes.truncate(at),
            3 => drop(bytes.remove(at)),
            4 => bytes.insert(at, TELLING[numbers.below(TELLING.len())]),
            5 => {
                let end = (at + 1 + numbers.below(64)).min(bytes.len());
                bytes.extend_from_within(at..end);
            }
            _ => {
                let other = &others[numbers.below(others.len())];
                bytes.truncate(at);
                bytes.extend_from_slice(&other[numbers.below(other.len())..]);
            }
        }
    }
}

fn seeds_of(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(folder().join(target)).unwrap_or_else(|e| panic!("{target} has no seeds: {e}"));
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect()
}

/// Gives bytes to a target. What makes it panic is kept in a file, whose name is in the message.
fn give(target: &str, run: fn(&[u8]), what: &Path, bytes: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| run(bytes))).is_err() {
        let kept = std::env::temp_dir().join(format!("metastash-fuzzed-{target}"));
        fs::write(&kept, bytes).unwrap();
        panic!("{target} panics at a change of {}, kept as {}", what.display(), kept.display());
    }
}

#[test]
fn every_seed_and_changes_of_it_are_decoded_or_refused() {
    for (target, run) in decoders::ALL {
        let seeds = seeds_of(target);
        assert!(!seeds.is_empty(), "{target} has no seeds");
        let all: Vec<Vec<u8>> = seeds.iter().map(|(_, bytes)| bytes.clone()).collect();
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        for (file, bytes) in &seeds {
            give(target, run, file, bytes);
            for _ in 0..CHANGES {
                let mut changed = bytes.clone();
                change(&mut changed, &all, &mut numbers);
                give(target, run, file, &changed);
            }
        }
    }
}

#[test]
fn every_target_is_known_to_the_fuzzer() {
    let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let mut files: Vec<String> = fs::read_dir(targets)
        .unwrap()
        .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    files.sort();
    let mut known = decoders::ALL.map(|(target, _)| target.to_owned());
    known.sort();
    assert_eq!(files, known);
}

/// Seeds are of the formats as they are now. With METASTASH_WRITE_SEEDS they are made again: all but findings, which begin
/// with `found-`, and stay.
#[test]
fn seeds_are_what_the_encoders_make() {
    let is_asked_for = std::env::var_os("METASTASH_WRITE_SEEDS").is_some();
    for (target, name, bytes) in seeds::all() {
        let folder = folder().join(target);
        let file = folder.join(name);
        if is_asked_for {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&file, &bytes).unwrap();
        }
        let is_same = fs::read(&file).is_ok_and(|found| found == bytes);
        assert!(is_same, "{} is another: METASTASH_WRITE_SEEDS=1 makes it again", file.display());
    }
}
