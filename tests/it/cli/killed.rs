//! SIGKILL at random moments, again and again, of whatever writes to a repository: no snapshot that was ever seen is lost
//! or wrong, and what comes next works.

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metastash::model::hash::SnapshotId;
use metastash::repo::Repository;
use metastash::repo::config::Config;
use metastash::storage::local::LocalStorage;

use super::Sandbox;
use crate::support::{Contents, Dice, assert_sound, config, contents, contents_of, snapshots, text, view};

/// How many runs are killed, unless the environment asks for more.
const KILLS: u64 = 200;
/// Short, so that prunes delete. Nobody else is at it.
const GRACE_SECS: u64 = 1;
/// Snapshots that `forget` leaves.
const KEPT: usize = 4;

const COMMANDS: [&str; 5] = [
    "backup --store store",
    "restore --store target --after-truncate --allow-empty",
    "forget --keep-last 4",
    "prune --max-unused 0%",
    "repair",
];

struct Scene {
    sandbox: Sandbox,
    /// All snapshots that were ever seen, and what they hold.
    known: BTreeMap<SnapshotId, Contents>,
    /// How long each command takes.
    durations: [Duration; COMMANDS.len()],
    killed: [u64; COMMANDS.len()],
}

impl Scene {
    fn open(&self) -> Repository {
        Repository::open(Arc::new(LocalStorage::new(self.sandbox.path("r")))).unwrap()
    }

    fn seen(&self, folder: &str) -> Contents {
        contents_of(&view(&self.sandbox.path(folder)))
    }

    /// Changes some documents of the store.
    fn change(&self, dice: &mut Dice) {
        for _ in 0..1 + dice.below(4) {
            let path = self.sandbox.path(&format!("store/p{}/{}", dice.below(3), dice.below(40)));
            if dice.below(6) == 0 {
                let _ = fs::remove_file(path);
            } else {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text(dice.below(200) as u64, 300 + dice.below(3000))).unwrap();
            }
        }
    }

    /// Looks at the repository after a command that was killed or not. `before` are the states that a new snapshot may have.
    fn look(&mut self, command: usize, before: &[&Contents]) {
        let repo = self.open();
        assert_sound(&repo);
        let listed = snapshots(&repo);
        for snapshot in &listed {
            let found = contents(&repo, snapshot);
            match self.known.get(&snapshot.id) {
                Some(expected) => assert!(found == *expected, "{} is wrong", snapshot.id.short()),
                None => {
                    assert!(before.contains(&&found), "{}: a snapshot that nobody took", COMMANDS[command]);
                    self.known.insert(snapshot.id, found);
                }
            }
        }
        let is_listed = |id: &SnapshotId| listed.iter().any(|snapshot| snapshot.id == *id);
        let gone: Vec<SnapshotId> = self.known.keys().filter(|id| !is_listed(id)).copied().collect();
        if COMMANDS[command].starts_with("forget") {
            assert!(gone.is_empty() || listed.len() >= KEPT, "{gone:?}");
            gone.iter().for_each(|id| drop(self.known.remove(id)));
        } else {
            assert_eq!(gone, [], "{}: a snapshot is gone", COMMANDS[command]);
        }
    }

    /// Runs a command to its end, or kills it at a moment of its run.
    fn run(&mut self, command: usize, kill_after: Option<Duration>, dice: &mut Dice) {
        let (store, target) = (self.seen("store"), self.seen("target"));
        let listed = snapshots(&self.open());
        let chosen = (!listed.is_empty()).then(|| listed[dice.below(listed.len())].id);
        let began = Instant::now();
        let mut child = self.sandbox.command(COMMANDS[command]);
        child.args(["--repo", "r", "-q"]);
        if COMMANDS[command].starts_with("restore") {
            child.arg(chosen.unwrap().to_string());
        }
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        match kill_after {
            Some(after) => {
                std::thread::sleep(after);
                let _ = child.kill();
            }
            None => self.durations[command] = Duration::ZERO,
        }
        let output = child.wait_with_output().unwrap();
        match output.status.code() {
            Some(code) => assert_eq!(code, 0, "{}: {}", COMMANDS[command], String::from_utf8_lossy(&output.stderr)),
            None => self.killed[command] += 1,
        }
        if kill_after.is_none() {
            self.durations[command] = began.elapsed();
        }
        self.look(command, &[&store, &target]);
        if COMMANDS[command].starts_with("restore") {
            self.look_at_target(&target, &self.known[&chosen.unwrap()]);
        }
    }

    /// A restore that was killed leaves every document as it was or as it is to be.
    fn look_at_target(&self, before: &Contents, restored: &Contents) {
        for (path, found) in self.seen("target") {
            let is_left_over = path.starts_with(b".metastash-restore-");
            let is = |contents: &Contents| contents.get(&path) == Some(&found);
            assert!(is_left_over || is(before) || is(restored), "{}", String::from_utf8_lossy(&path));
        }
        for entry in fs::read_dir(self.sandbox.path("target")).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with(".metastash-restore-") {
                fs::remove_dir_all(path).unwrap();
            }
        }
    }
}

#[test]
fn committed_snapshot_survives_kill_9() {
    let kills = std::env::var("METASTASH_TEST_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    let sandbox = Sandbox::empty();
    let config = Config { grace_secs: GRACE_SECS, ..config() };
    Repository::create(Arc::new(LocalStorage::new(sandbox.path("r"))), config).unwrap();
    fs::create_dir(sandbox.path("target")).unwrap();
    let durations = [Duration::ZERO; COMMANDS.len()];
    let mut scene = Scene { sandbox, known: BTreeMap::new(), durations, killed: [0; COMMANDS.len()] };
    let mut dice = Dice::new(kills);
    (0..30).for_each(|_| scene.change(&mut dice));
    (0..COMMANDS.len()).for_each(|command| scene.run(command, None, &mut dice));
    let mut runs = 0;
    while scene.killed.iter().sum::<u64>() < kills {
        runs += 1;
        assert!(runs < kills * 20, "too few are caught: {:?}", scene.killed);
        // Half of the runs are backups: they are what goes on all day.
        let command = if dice.below(2) == 0 { 0 } else { dice.below(COMMANDS.len()) };
        if command == 0 {
            scene.change(&mut dice);
        }
        // The later half of a run is where it writes.
        let moment = 10 + u32::try_from(dice.below(110)).unwrap();
        scene.run(command, Some(scene.durations[command] * moment / 100), &mut dice);
        // What was begun is done by the next that comes to its end.
        if runs % 10 == 0 {
            (0..COMMANDS.len()).for_each(|command| scene.run(command, None, &mut dice));
        }
    }
    assert!(scene.killed.iter().all(|killed| *killed > 0), "{:?}", scene.killed);
    eprintln!("killed by command: {:?} of {runs} runs", scene.killed);
}
