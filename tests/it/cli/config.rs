//! Settings: the command line, the environment, profiles; which of them holds, what is refused, and hooks.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::Sandbox;

const DEFAULT: &str = "configuration/metastash/default.toml";

/// A sandbox with a profile.
fn with_profile(text: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write(DEFAULT, text);
    sandbox
}

/// Returns where a setting comes from, and its values.
fn setting(sandbox: &Sandbox, command: &mut Command, key: &str) -> (String, String) {
    let output = command.arg("--json").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let messages = super::messages(&output.stdout);
    let is_it = |message: &&serde_json::Value| message["message_type"] == "setting" && message["key"] == key;
    let found = messages.iter().find(is_it).unwrap_or_else(|| panic!("{key}: {messages:?}"));
    let here = sandbox.folder.path().display().to_string();
    let origin = found["origin"].as_str().unwrap().replace(&here, "[here]");
    (origin, found["values"][0].as_str().unwrap_or_default().to_owned())
}

#[test]
fn command_line_goes_before_environment_before_profile() {
    let sandbox = with_profile("repo = \"of profile\"\nstore = \"store\"\n");
    let config = |words: &str| sandbox.command(words);
    let of = |origin: &str, value: &str| (origin.to_owned(), value.to_owned());
    assert_eq!(
        setting(&sandbox, &mut config("config"), "repo"),
        of("profile, [here]/configuration/metastash/default.toml:1", "of profile")
    );
    let mut with_environment = config("config");
    with_environment.env("METASTASH_REPO", "of environment");
    let found = setting(&sandbox, &mut with_environment, "repo");
    assert_eq!(found, of("environment, METASTASH_REPO", "of environment"));
    let mut all = config("config --repo given");
    all.env("METASTASH_REPO", "of environment");
    assert_eq!(setting(&sandbox, &mut all, "repo"), of("command line", "given"));

    // The same order holds for what is done.
    sandbox.done("backup");
    assert!(sandbox.path("of profile/config").exists());
    assert!(sandbox.command("backup").env("METASTASH_REPO", "of environment").status().unwrap().success());
    assert!(sandbox.path("of environment/config").exists());
    assert!(sandbox.command("backup --repo given").env("METASTASH_REPO", "nowhere").status().unwrap().success());
    assert!(sandbox.path("given/config").exists() && !sandbox.path("nowhere").exists());
}

#[test]
fn options_of_commands_come_from_their_tables() {
    let sandbox = with_profile(
        "store = \"store\"\n[backup]\ntag = [\"by=profile\", \"place=here\"]\nskip-if-unchanged = true\n\
         [forget]\nkeep-last = 1\n[prune]\nmax-unused = \"0%\"\n",
    );
    sandbox.done("backup");
    assert!(sandbox.done("backup").starts_with("nothing changed"));
    // What the profile turns on can be turned off.
    assert!(sandbox.done("backup --skip-if-unchanged=false").contains("saved: 3 documents"));
    sandbox.done("forget latest");
    // What is given is instead of what the profile says, not besides.
    sandbox.done("backup --tag by=hand --label kept");
    let listed = sandbox.done("snapshots");
    assert!(listed.contains("by=profile, place=here") && listed.contains("kept, by=hand"), "{listed}");
    sandbox.write("store/NOTES", "changed\n");
    sandbox.settle();
    sandbox.done("backup");
    assert!(sandbox.done("forget").contains("forgot 1 snapshot, kept 2"));
    // Rules do not go together with names: these are meant.
    assert!(sandbox.done("forget kept").contains("forgot 1 snapshot"));
    let (code, found) = sandbox.json("config prune");
    let max_unused = found.iter().find(|message| message["key"] == "max-unused").unwrap();
    assert_eq!((code, &max_unused["values"][0]), (0, &serde_json::json!("0%")));
}

#[test]
fn profiles_are_named_or_are_files() {
    let sandbox = Sandbox::new();
    sandbox.write("configuration/metastash/nightly.toml", "repo = \"nightly\"\n");
    sandbox.write("mine.toml", "repo = \"mine\"\n");
    sandbox.write(DEFAULT, "repo = \"standard\"\n");
    for (words, folder) in [("--profile nightly", "nightly"), ("--profile ./mine.toml", "mine"), ("", "standard")] {
        sandbox.done(&format!("backup --store store {words}"));
        assert!(sandbox.path(folder).join("config").exists(), "{words}");
    }
    assert!(sandbox.command("init").env("METASTASH_PROFILE", "").status().unwrap().success());
    assert!(sandbox.path("meta_backups/config").exists(), "an empty name is no profile");
    assert!(sandbox.command("stats").env("XDG_CONFIG_HOME", "/dev/null").status().unwrap().success());
    sandbox.refused(
        "stats --profile missing",
        2,
        "error: there is no profile [here]/configuration/metastash/missing.toml
         hint: `--profile NAME` means NAME.toml in that folder, a name with a `/` any file",
    );
    // What stands in for Kylin's tool does what it is told, and nothing else.
    sandbox.refused("--profile nightly metastore list x", 2, "error: `metastore` takes no profile");
}

#[test]
fn invalid_configuration_is_an_error_never_ignored() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store");
    for (text, line, message) in [
        ("rpo = \"x\"", 1, "unknown key `rpo`"),
        ("keep-last = 3", 1, "`keep-last` is an option of some commands only"),
        ("\n[forgett]", 2, "there is no command `forgett`"),
        ("[metastore]\nx = 1", 1, "`metastore` takes no settings"),
        ("[forget]\nkeep-lst = 3", 2, "unknown key `keep-lst`"),
        (
            "[forget]\nkeep-last = \"many\"",
            2,
            "invalid value 'many' for '--keep-last <N>': invalid digit found in string",
        ),
        ("[forget]\nkeep-last = 0", 2, "invalid value '0' for '--keep-last <N>': 0 is not in 1..=4294967295"),
        ("[forget]\nkeep-last = 1.5", 2, "`keep-last` can't be set to this"),
        ("[forget]\nkeep-last = [1, 2]", 2, "`keep-last` can't be set to this"),
        (
            "[backup]\ntag = [\"a\"]",
            2,
            "invalid value 'a' for '--tag <KEY=VALUE>': a key, `=` and a value are expected",
        ),
        ("[backup]\nskip-if-unchanged = \"yes\"", 2, "`skip-if-unchanged` is true or false"),
        ("[restore]\nallow-empty = true", 2, "`allow-empty` is nothing for a profile"),
        ("[restore]\nafter-truncate = true", 2, "`after-truncate` is nothing for a profile"),
        ("[backup]\nforce = false", 2, "`force` is nothing for a profile"),
        ("[hooks]\nbefor = \"x\"", 2, "unknown hook `befor`"),
        ("[hooks]\nbefore = [\"x\"]", 2, "`before` can't be set to this"),
        ("repo = \"a\"\nrepo = \"b\"", 2, "duplicate key"),
        ("repo = ", 1, "string values must be quoted, expected literal string"),
    ] {
        sandbox.write(DEFAULT, text);
        // Whatever the command: what is wrong is told when it does no harm yet.
        for words in ["stats", "config", "backup --store store --dry-run", "snapshots --json"] {
            let ran = sandbox.run(words);
            assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{text}: {}", ran.stderr);
            let expected = format!("[here]/{DEFAULT}:{line}: {message}");
            assert!(ran.stderr.contains(&expected), "{text}: {}", ran.stderr);
            assert!(ran.stderr.contains("hint"), "{text}: {}", ran.stderr);
        }
    }
    // Not even UTF-8, a folder, and one that nobody can read.
    fs::write(sandbox.path(DEFAULT), [0xff]).unwrap();
    assert_eq!(sandbox.run("stats").code, 1);
    sandbox.write("folder.toml/x", "");
    assert_eq!(sandbox.run("stats --profile ./folder.toml").code, 1);
}

#[test]
fn profile_that_others_could_misuse_is_refused() {
    let sandbox = with_profile("store = \"postgresql://metastash:secret@127.0.0.1:9/kylin\"\n");
    let path = sandbox.path(DEFAULT);
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let ran = sandbox.run("config");
    assert_eq!(ran.code, 14, "{}", ran.stderr);
    assert!(ran.stderr.contains("holds a password, and may be read by others"), "{}", ran.stderr);
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let shown = sandbox.done("config");
    assert!(shown.contains("(with a password, not shown)") && !shown.contains("secret"), "{shown}");

    sandbox.write(DEFAULT, "[hooks]\nbefore = \"touch was-run\"\n");
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    let ran = sandbox.run("backup --store store");
    assert_eq!(ran.code, 14, "{}", ran.stderr);
    assert!(!sandbox.path("was-run").exists());
}

#[test]
fn hooks_are_run_before_and_after_and_on_failure() {
    let sandbox = with_profile(
        "store = \"store\"\n[hooks]\nbefore = \"echo before $METASTASH_COMMAND >> log; echo noise\"\n\
         after = \"echo after $METASTASH_EXIT_CODE >> log\"\n\
         on-failure = \"echo failed $METASTASH_EXIT_CODE: $METASTASH_ERROR >> log\"\n",
    );
    let log = || {
        let text = fs::read_to_string(sandbox.path("log"));
        let _ = fs::remove_file(sandbox.path("log"));
        text
    };
    // What hooks print does not come between the results.
    let output = sandbox.command("backup --json").output().unwrap();
    super::messages(&output.stdout);
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), "noise\n"));
    assert_eq!(log().unwrap(), "before backup\nafter 0\n");
    let ran = sandbox.run("restore nothing-like-it");
    assert_eq!(ran.code, 1);
    assert_eq!(log().unwrap(), "before restore\nfailed 1: there is no snapshot `nothing-like-it`\n");
    // A document that can't be read: it finished.
    std::os::unix::fs::symlink("nowhere", sandbox.path("store/link")).unwrap();
    assert_eq!(sandbox.run("backup").code, 3);
    assert_eq!(log().unwrap(), "before backup\nafter 3\n");
    // Where nothing is done, nothing is to be done about it.
    for words in ["backup --dry-run", "snapshots", "ls latest", "config"] {
        sandbox.run(words);
        assert!(log().is_err(), "{words}");
    }
    // A watch runs them with each backup.
    sandbox.run("watch --runs 1");
    assert_eq!(log().unwrap(), "before watch\nafter 3\n");
}

#[test]
fn hook_that_fails_is_told_and_has_its_effect() {
    let sandbox = with_profile(
        "store = \"store\"\n[hooks]\nbefore = \"exit 7\"\non-failure = \"echo $METASTASH_ERROR >> log; exit 1\"\n",
    );
    let ran = sandbox.run("backup");
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert_eq!(
        ran.stderr,
        "warning: the hook `on-failure` failed: exit status: 1\nerror: the hook `before` failed: exit status: 7\n"
    );
    assert_eq!(sandbox.read("log"), "the hook `before` failed: exit status: 7\n");
    assert!(!sandbox.path("meta_backups").exists(), "the backup was not begun");
    sandbox.write(DEFAULT, "store = \"store\"\n[hooks]\nafter = \"exit 7\"\n");
    let ran = sandbox.run("backup");
    assert_eq!((ran.code, ran.stderr.as_str()), (1, "error: the hook `after` failed: exit status: 7\n"));
    assert_eq!(sandbox.ids("meta_backups").len(), 1, "the backup was made");
}

#[test]
fn hook_that_runs_metastash_has_no_hooks_itself() {
    let program = assert_cmd::cargo::cargo_bin!("metastash").display().to_string();
    let sandbox = with_profile(&format!(
        "store = \"store\"\n[hooks]\nbefore = \"echo once >> log\"\nafter = \"{program} check -q\"\n"
    ));
    sandbox.done("backup -q");
    assert_eq!(sandbox.read("log"), "once\n");
}

#[test]
fn example_of_a_profile_holds() {
    let sandbox = Sandbox::new();
    let example = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/profile.toml");
    let text = fs::read_to_string(example).unwrap();
    sandbox.write("example.toml", &text);
    sandbox.done("config --profile ./example.toml");
    // So do the settings that are commented out in it.
    let is_setting =
        |line: &str| line.strip_prefix("# ").is_some_and(|rest| rest.contains(" = ") || rest.starts_with('['));
    let all: Vec<&str> = text.lines().map(|line| if is_setting(line) { &line[2..] } else { line }).collect();
    assert!(all.len() > 10);
    sandbox.write("all.toml", &all.join("\n"));
    fs::set_permissions(sandbox.path("all.toml"), Permissions::from_mode(0o600)).unwrap();
    let shown = sandbox.done("config --profile ./all.toml");
    assert!(shown.contains("forget.keep-daily"), "{shown}");
}

#[test]
fn every_command_has_a_manual_page() {
    let sandbox = Sandbox::new();
    assert!(sandbox.done("man").contains(".TH metastash 1"));
    let ran = sandbox.run("man pages");
    assert_eq!(ran.code, 1, "a folder that is not there is none of ours: {}", ran.stderr);
    fs::create_dir(sandbox.path("pages")).unwrap();
    sandbox.done("man pages");
    let help = sandbox.done("help");
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| *line != "Options:");
    let names: Vec<&str> =
        commands.map(|line| line.split_whitespace().next().unwrap()).filter(|name| *name != "help").collect();
    assert!(names.len() > 20 && names.contains(&"config"), "{help}");
    for name in names.into_iter().take_while(|name| *name != "Global") {
        let page = sandbox.read(&format!("pages/metastash-{name}.1"));
        assert!(page.contains(".SH NAME") && page.contains("Example"), "{name}");
    }
}
