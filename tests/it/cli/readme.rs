//! What the README promises.

use std::fs;
use std::path::Path;

use super::{Sandbox, lines};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn first_command_of_the_readme_works() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(project.join("README.md")).unwrap();
    let block = readme.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let words = block.trim().strip_prefix("cargo run --release -- ").expect("the first command runs from the sources");
    let sandbox = Sandbox::empty();
    copy(&project.join("fixtures/learn_kylin"), &sandbox.path("fixtures/learn_kylin"));
    let said = sandbox.done(words);
    assert!(
        said.starts_with(&lines("created repository meta_backups\nsnapshot ID saved: ").trim_end().to_owned()),
        "{said}"
    );
    assert!(said.contains("0 changed, 0 removed, 0 unchanged"), "{said}");
}
