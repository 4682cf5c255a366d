//! The help.

use super::Sandbox;

/// Returns the commands that the help lists.
fn commands(sandbox: &Sandbox) -> Vec<String> {
    let help = text(sandbox, "--help");
    let list = help.split_once("Commands:\n").unwrap().1.split_once("\n\n").unwrap().0;
    let names = list.lines().filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(ToOwned::to_owned).collect()
}

fn text(sandbox: &Sandbox, words: &str) -> String {
    let output = sandbox.command(words).output().unwrap();
    assert!(output.status.success(), "{words}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_example_is_accepted() {
    let sandbox = Sandbox::empty();
    let commands = commands(&sandbox);
    assert!(commands.len() >= 11, "{commands:?}");
    for command in &commands {
        let help = text(&sandbox, &format!("{command} --help"));
        let (_, examples) = help.split_once("Example").unwrap_or_else(|| panic!("{command} has no example"));
        let mut found = 0;
        for line in examples.lines().filter_map(|line| line.split_once("metastash ")) {
            // What follows is for the shell, or for the reader.
            let words = line.1.split([';', '>', '(', '|']).next().unwrap();
            text(&sandbox, &format!("{words} --help"));
            assert!(words.split_whitespace().any(|word| word == command), "{words} is no example of {command}");
            found += 1;
        }
        assert!(found > 0, "{command} has no example");
    }
}

#[test]
fn help_names_the_exit_codes() {
    let help = text(&Sandbox::empty(), "--help");
    for code in
        ["0 ok", "1 error", "2 usage", "3 finished", "4 diff", "10 no", "13 integrity", "14 refused", "17 format"]
    {
        assert!(help.contains(code), "{code}");
    }
}

#[test]
fn version_is_that_of_the_package() {
    assert_eq!(text(&Sandbox::empty(), "--version"), concat!("metastash ", env!("CARGO_PKG_VERSION"), "\n"));
}
