//! The command line: output, exit codes, and that what is refused changes nothing.

mod at;
mod at_once;
mod bad_input;
mod config;
mod copy;
mod damage;
mod diff_content;
mod dropin;
mod everyday;
mod find;
mod forget;
mod guards;
mod help;
mod json;
mod killed;
mod kylin;
mod migrate;
mod mounts;
mod names;
mod native;
mod nodes;
mod prune;
mod readme;
mod restores;
mod signals;
mod tar;
mod transfer;
mod watch;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// What a command would look at if the environment of the tests had it.
const VARIABLES: [&str; 12] = [
    "METASTASH",
    "METASTASH_HOOK",
    "METASTASH_PROFILE",
    "METASTASH_REPO",
    "METASTASH_STORE",
    "METASTASH_KYLIN_URL",
    "METASTASH_KYLIN_USER",
    "METASTASH_KYLIN_PASSWORD",
    "KYLIN_HOME",
    "KYLIN_CONF",
    "LOGNAME",
    "RUST_BACKTRACE",
];

/// A working directory with a small store in it.
struct Sandbox {
    folder: TempDir,
}

/// What a run gave, with everything that varies from run to run replaced.
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

/// What lies in a directory: kind, permissions, time and content of everything.
type State = BTreeMap<PathBuf, (u32, i128, Vec<u8>)>;

impl Sandbox {
    /// Makes everything in a repository two days older.
    fn age(&self, repo: &str) {
        let repo = self.path(repo);
        for path in state(&repo).keys().map(|name| repo.join(name)).filter(|path| path.is_file()) {
            let file = fs::File::open(path).unwrap();
            let modified = file.metadata().unwrap().modified().unwrap();
            file.set_modified(modified - Duration::from_secs(48 * 3600)).unwrap();
        }
    }

    /// Makes a working directory in which `store` holds three documents of two projects.
    fn new() -> Self {
        let sandbox = Self::empty();
        sandbox.write("store/NOTES", "top\n");
        sandbox.write("store/sales/model/orders.json", "{\"a\":1}\n");
        sandbox.write("store/stock/model/shelf.json", "{\"b\":2}\n");
        sandbox.settle();
        sandbox
    }

    fn empty() -> Self {
        Self { folder: tempfile::Builder::new().prefix("metastash-test-").tempdir().unwrap() }
    }

    /// Waits until the next backup may trust the stamps of what was written.
    fn settle(&self) {
        std::thread::sleep(Duration::from_millis(60));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Puts the metadata of a Kylin with the projects `learn_kylin` and `retail` into a folder.
    fn write_kylin(&self, folder: &str) {
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/learn_kylin"), &self.path(folder));
        self.settle();
    }

    /// Returns the command with these words as arguments, in a clean environment.
    fn command(&self, words: &str) -> Command {
        let mut command = self.other_command(assert_cmd::cargo::cargo_bin!("metastash"));
        command.args(words.split_whitespace());
        command
    }

    fn other_command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        for name in VARIABLES {
            command.env_remove(name);
        }
        // Nobody's own profile is read.
        command.env("XDG_CONFIG_HOME", self.path("configuration"));
        command.env("TZ", "UTC").env("USER", "tester").current_dir(self.folder.path());
        command
    }

    fn run(&self, words: &str) -> Ran {
        self.ran(&self.command(words).output().unwrap())
    }

    fn ran(&self, output: &Output) -> Ran {
        let here = self.folder.path().canonicalize().unwrap().display().to_string();
        let host = gethostname::gethostname().to_string_lossy().into_owned();
        let text = |bytes: &[u8]| {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            normal(&text.replace(&here, "[here]").replace(&format!("{host}:["), "[host]:["))
        };
        let code = output.status.code().expect("it was not ended by a signal");
        Ran { code, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Runs a command that must succeed without a word on standard error.
    fn done(&self, words: &str) -> String {
        let ran = self.run(words);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{words}: {}", ran.stdout);
        ran.stdout
    }

    /// Runs a command that must be refused with this code and these words, and change nothing at all.
    #[track_caller]
    fn refused(&self, words: &str, code: i32, stderr: &str) {
        self.refuses(&mut self.command(words), code, stderr);
    }

    #[track_caller]
    fn refuses(&self, command: &mut Command, code: i32, stderr: &str) {
        let before = state(self.folder.path());
        let ran = self.ran(&command.output().unwrap());
        assert_eq!((ran.stderr.as_str(), ran.code, ran.stdout.as_str()), (lines(stderr).as_str(), code, ""));
        let after = state(self.folder.path());
        assert!(before == after, "something was written: {:?} became {:?}", before.keys(), after.keys());
    }

    /// Runs a command with `--json`; returns its messages.
    #[track_caller]
    fn json(&self, words: &str) -> (i32, Vec<Value>) {
        let output = self.command(words).arg("--json").output().unwrap();
        (output.status.code().unwrap(), messages(&output.stdout))
    }

    /// Returns the full ids of all snapshots, oldest first.
    fn ids(&self, repo: &str) -> Vec<String> {
        let (code, list) = self.json(&format!("snapshots --repo {repo}"));
        assert_eq!(code, 0);
        list.iter().map(|snapshot| snapshot["id"].as_str().unwrap().to_owned()).collect()
    }
}

/// Returns the JSON objects of a stream, one a line, each with its type.
#[track_caller]
fn messages(stream: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(stream).unwrap();
    let messages: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    for message in &messages {
        assert!(message["message_type"].is_string(), "{message}");
    }
    messages
}

/// Returns text without the indentation that it has in a test.
fn lines(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect()
}

/// Replaces what varies from run to run: ids, times, stored sizes; and spaces that align columns.
fn normal(text: &str) -> String {
    let mut normal = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words: Vec<String> = line.split_whitespace().map(normal_word).collect();
        for n in 1..words.len() {
            let is_seconds = words[n] == "s" && words[n - 1].bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            if is_seconds {
                words[n - 1] = "N".to_owned();
            }
            let is_size = matches!(words[n - 1].as_str(), "stored" | "as") && n + 1 < words.len();
            if is_size && words[n + 1].starts_with(['B', 'K', 'M']) && words[n] != "0" {
                words[n] = "SIZE".to_owned();
                words[n + 1] = words[n + 1].trim_start_matches(|c: char| c.is_ascii_alphabetic()).to_owned();
            }
        }
        normal.push_str(&words.join(" ").replace("SIZE ,", "SIZE,"));
        normal.push('\n');
    }
    normal
}

fn normal_word(word: &str) -> String {
    let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let is_id = matches!(bare.len(), 10 | 64) && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_shaped = |separator: char, lengths: &[usize]| {
        let parts: Vec<&str> = bare.split(separator).collect();
        let fits =
            |(part, length): (&&str, &usize)| part.len() == *length && part.bytes().all(|byte| byte.is_ascii_digit());
        parts.len() == lengths.len() && parts.iter().zip(lengths).all(fits)
    };
    let replaced = if is_id {
        "ID"
    } else if is_shaped('-', &[4, 2, 2]) {
        "DATE"
    } else if is_shaped(':', &[2, 2, 2]) {
        "TIME"
    } else {
        return word.to_owned();
    };
    word.replace(bare, replaced)
}

/// Returns everything that lies in a directory.
fn state(root: &Path) -> State {
    let mut state = State::new();
    let mut open: Vec<PathBuf> = root.exists().then(|| root.to_owned()).into_iter().collect();
    while let Some(path) = open.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let mut time = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
        let mut content = Vec::new();
        if metadata.is_dir() {
            // Times of directories tell of files that came and went, which is allowed.
            time = 0;
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if metadata.is_file() {
            content = fs::read(&path).unwrap();
        }
        state.insert(path.strip_prefix(root).unwrap().to_owned(), (metadata.mode(), time, content));
    }
    state
}

/// Copies a directory with all that is in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Returns the names and bytes of all files in a directory.
fn contents(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = state(root).into_iter().filter(|(name, _)| root.join(name).is_file());
    files.map(|(name, (_, _, content))| (name.to_str().unwrap().to_owned(), content)).collect()
}

/// Writes a zip of these files, with `before` at the beginning of all names.
fn write_zip(files: &BTreeMap<String, Vec<u8>>, before: &str, to: &Path) {
    let mut writer = zip::ZipWriter::new(fs::File::create(to).unwrap());
    for (name, content) in files {
        writer.start_file(format!("{before}{name}"), zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap();
}

/// Returns the names and bytes of all documents in a zip, as another implementation reads them.
fn read_zip(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut archive = zip::ZipArchive::new(fs::File::open(path).unwrap()).unwrap();
    let mut files = BTreeMap::new();
    for n in 0..archive.len() {
        let mut file = archive.by_index(n).unwrap();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut file, &mut content).unwrap();
        let name = file.name().unwrap().into_owned();
        assert!(file.is_dir() || files.insert(name.clone(), content).is_none(), "{name}");
    }
    files
}
