//! One suite for every storage: it tries what the contract forbids.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use metastash::storage::local::LocalStorage;
use metastash::storage::memory::MemoryStorage;
use metastash::storage::{ErrorKind, Storage};

use crate::support::scratch;

/// Runs one case on a fresh one of each storage.
fn on_every_storage(case: impl Fn(&dyn Storage)) {
    let scratch = scratch();
    case(&MemoryStorage::new());
    case(&LocalStorage::new(scratch.path().join("not there yet/repo")));
}

fn names(storage: &dyn Storage, folder: &str) -> Vec<String> {
    let mut names: Vec<_> = storage.list(folder).unwrap().into_iter().map(|object| object.name).collect();
    names.sort();
    let mut alone = storage.names(folder).unwrap();
    alone.sort();
    assert_eq!(alone, names, "both ways of asking agree");
    names
}

fn kind<T: std::fmt::Debug>(result: metastash::storage::Result<T>) -> ErrorKind {
    result.unwrap_err().kind
}

#[test]
fn object_reads_back_whole_and_in_parts() {
    on_every_storage(|storage| {
        storage.put("packs/a", b"some bytes").unwrap();
        storage.put("config", b"").unwrap();
        assert_eq!(storage.read("packs/a").unwrap(), b"some bytes");
        assert_eq!(storage.read("config").unwrap(), b"");
        assert_eq!(storage.read_range("packs/a", 5, 5).unwrap(), b"bytes");
        assert_eq!(storage.read_range("packs/a", 10, 0).unwrap(), b"");
    });
}

#[test]
fn name_is_written_once() {
    on_every_storage(|storage| {
        storage.put("packs/a", b"first").unwrap();
        assert_eq!(kind(storage.put("packs/a", b"second")), ErrorKind::Exists);
        assert_eq!(storage.read("packs/a").unwrap(), b"first");
        assert_eq!(names(storage, "packs"), ["a"]);
    });
}

#[test]
fn missing_object_is_not_found() {
    on_every_storage(|storage| {
        assert_eq!(kind(storage.read("packs/a")), ErrorKind::NotFound);
        assert_eq!(kind(storage.read_range("packs/a", 0, 1)), ErrorKind::NotFound);
        assert_eq!(kind(storage.remove("packs/a")), ErrorKind::NotFound);
    });
}

#[test]
fn range_past_the_end_is_an_error() {
    on_every_storage(|storage| {
        storage.put("packs/a", b"some bytes").unwrap();
        for (offset, length) in [(5, 6), (11, 0), (0, 11), (u64::MAX, 1), (0, usize::MAX >> 1), (u64::MAX, usize::MAX)]
        {
            let result = storage.read_range("packs/a", offset, length);
            assert!(result.is_err(), "{length} from {offset}: {result:?}");
        }
    });
}

#[test]
fn list_shows_what_is_there_with_its_size() {
    on_every_storage(|storage| {
        assert_eq!(names(storage, "packs"), Vec::<String>::new(), "a folder never written is empty");
        storage.put("packs/a", b"12").unwrap();
        storage.put("packs/b", b"345").unwrap();
        storage.put("index/c", b"6").unwrap();
        storage.put("config", b"7").unwrap();
        assert_eq!(names(storage, "packs"), ["a", "b"]);
        assert!(
            storage.list("packs").unwrap().iter().all(|object| object.size_bytes == 2 + u64::from(object.name == "b"))
        );
        assert_eq!(names(storage, "index"), ["c"]);
    });
}

#[test]
fn list_after_remove_does_not_show_the_object() {
    on_every_storage(|storage| {
        storage.put("packs/a", b"1").unwrap();
        storage.put("packs/b", b"2").unwrap();
        storage.remove("packs/a").unwrap();
        assert_eq!(names(storage, "packs"), ["b"]);
        assert_eq!(kind(storage.read("packs/a")), ErrorKind::NotFound);
        storage.remove("packs/b").unwrap();
        assert_eq!(names(storage, "packs"), Vec::<String>::new());
    });
}

#[test]
fn object_is_as_old_as_its_name() {
    on_every_storage(|storage| {
        let mut object = storage.create().unwrap();
        object.write(b"some").unwrap();
        thread::sleep(Duration::from_millis(60));
        let before = storage.now().unwrap();
        thread::sleep(Duration::from_millis(20));
        object.finish("marks/a").unwrap();
        thread::sleep(Duration::from_millis(20));
        storage.put("marks/b", b"").unwrap();
        let listed = storage.list("marks").unwrap();
        let of = |name: &str| listed.iter().find(|object| object.name == name).unwrap().modified;
        assert!(before < of("a") && of("a") < of("b"), "what counts is when it was finished");
        thread::sleep(Duration::from_millis(20));
        assert!(of("b") < storage.now().unwrap());
        assert_eq!(names(storage, "tmp"), Vec::<String>::new());
    });
}

#[test]
fn unfinished_object_is_nowhere_to_be_seen() {
    on_every_storage(|storage| {
        let mut object = storage.create().unwrap();
        object.write(b"some").unwrap();
        assert_eq!(names(storage, "packs"), Vec::<String>::new());
        drop(object);
        assert_eq!(names(storage, "packs"), Vec::<String>::new());
        assert_eq!(names(storage, "tmp"), Vec::<String>::new(), "what was dropped is cleared away");
        let mut object = storage.create().unwrap();
        object.write(b"in ").unwrap();
        object.write(b"parts").unwrap();
        object.finish("packs/a").unwrap();
        assert_eq!(storage.read("packs/a").unwrap(), b"in parts");
    });
}

#[test]
fn of_puts_of_one_name_at_once_one_wins() {
    on_every_storage(|storage| {
        for round in 0..10 {
            let name = format!("marks/{round}");
            let start = Barrier::new(4);
            let put = |n: u8| {
                start.wait();
                storage.put(&name, &[n; 1000]).map(|()| n)
            };
            let results: Vec<_> = thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|n| scope.spawn(move || put(n))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let winners: Vec<u8> = results.iter().filter_map(|result| result.as_ref().ok().copied()).collect();
            let [winner] = winners[..] else { panic!("{results:?}") };
            assert_eq!(storage.read(&name).unwrap(), [winner; 1000]);
            assert!(results.into_iter().filter_map(Result::err).all(|error| error.kind == ErrorKind::Exists));
        }
    });
}

#[test]
fn objects_are_written_at_once_from_many_threads() {
    on_every_storage(|storage| {
        thread::scope(|scope| {
            for n in 0..8 {
                scope.spawn(move || (0..10).for_each(|m| storage.put(&format!("packs/{n}-{m}"), &[n]).unwrap()));
            }
        });
        assert_eq!(names(storage, "packs").len(), 80);
    });
}
