#!/usr/bin/env bash
# Installs what is missing, then checks formatting, lints, documentation, the README's first commands, and runs all tests.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
    cat <<'END'
Usage: scripts/test.sh [--long]

Installs what is missing (a compiler, PostgreSQL and MariaDB, which tests start themselves, and a module for Python) and
runs everything that CI runs: needs a Rust toolchain, or rustup.

  --long   run the property tests with many more cases (2000, or PROPTEST_CASES), more plays of prunes among backups (200, or
           METASTASH_TEST_SEEDS), ten thousand kills (METASTASH_TEST_KILLS), a hundred thousand operations at once
           (METASTASH_TEST_OPERATIONS), ten thousand snapshots, a minute of each fuzzing target, and the count of lines that
           tests run (scripts/fuzz.sh and scripts/coverage.sh say what these need)
  --help   print this
END
}

# Tells whether there is a program, also where PATH does not lead everyone.
has() { # PROGRAM
    command -v "$1" >/dev/null || [[ -x /usr/sbin/$1 ]] || compgen -G "/usr/lib/postgresql/*/bin/$1" >/dev/null
}

# Tells whether there is a Python that contrib/read_repo.py can run in.
has_python() {
    local python
    for python in python3 /usr/bin/python3; do
        ! "$python" -c 'import zstandard' 2>/dev/null || return 0
    done
    return 1
}

# Installs a compiler and the servers on which databases are tested, as far as they are missing. None needs to run.
install_packages() {
    local packages=() as_root=()
    has cc || packages+=(gcc libc6-dev)
    has postgres || packages+=(postgresql)
    has mariadbd || packages+=(mariadb-server)
    has openssl || packages+=(openssl)
    has_python || packages+=(python3-zstandard)
    ((${#packages[@]})) || return 0
    command -v apt-get >/dev/null || fail 'programs are missing' "install what Debian has as ${packages[*]}"
    if ((EUID != 0)); then
        command -v sudo >/dev/null || fail 'programs are missing' "as root: apt-get install ${packages[*]}"
        as_root=(sudo)
    fi
    "${as_root[@]}" apt-get update
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}"
}

install_toolchain() {
    local component command
    if ! command -v cargo >/dev/null && [[ -x ${CARGO_HOME:-${HOME-}/.cargo}/bin/cargo ]]; then
        PATH=${CARGO_HOME:-${HOME-}/.cargo}/bin:$PATH
    fi
    command -v cargo >/dev/null || fail 'no Rust toolchain is installed' 'install rustup: https://rustup.rs'
    # With rustup, rust-toolchain.toml names the toolchain; most versions of rustup install it on first use.
    if command -v rustup >/dev/null && ! cargo --version >/dev/null 2>&1; then
        rustup toolchain install
    fi
    for component in rustfmt clippy; do
        command=${component/rustfmt/fmt}
        if ! cargo "$command" --version >/dev/null 2>&1; then
            command -v rustup >/dev/null || fail "the Rust toolchain has no $component" 'install it, or use rustup'
            rustup component add "$component"
        fi
    done
    cargo --version
}

# Prints the first code block of the README. If commands in it have a `$ `, the other lines are output and left out.
first_commands() {
    awk '
        /^```/ { if (inside) exit; inside = 1; next }
        inside { lines[++count] = $0; if (sub(/^\$ /, "")) prompted[++prompts] = $0 }
        END { if (prompts) { for (i = 1; i <= prompts; i++) print prompted[i] }
              else { for (i = 1; i <= count; i++) print lines[i] } }' README.md
}

# Runs them in a copy, so that the repository that they make is new, and stays out of here.
try_readme() {
    local copy=$1 commands
    [[ -f README.md ]] || fail 'there is no README.md'
    commands=$(first_commands)
    [[ -n $commands ]] || fail 'README.md has no code block'
    printf '%s\n' "$commands"
    tar -c --exclude=./target --exclude=./fuzz/target --exclude=./fuzz/corpus --exclude=./.git --exclude=./meta_backups . | tar -x -C "$copy"
    (cd "$copy" && bash -euo pipefail -c "$commands")
    "$CARGO_TARGET_DIR/release/metastash" --repo "$copy/meta_backups" check --read-data
}

is_long=
for argument in "$@"; do
    case $argument in
    --long) is_long=1 ;;
    -h | --help)
        usage
        exit
        ;;
    *)
        wrong_usage "unknown option: $argument"
        ;;
    esac
done

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# What is set for backups at home must not lead tests to them.
unset METASTASH_REPO METASTASH_STORE METASTASH_PROFILE KYLIN_HOME
export XDG_CONFIG_HOME=/nonexistent
CARGO_TARGET_DIR=$(realpath -m "${CARGO_TARGET_DIR:-target}")
export CARGO_TARGET_DIR
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT

step 'tools'
install_packages
install_toolchain

step 'bash -n'
for script in scripts/*.sh .ci/run; do
    bash -n "$script"
    printf '%s\n' "$script"
done

sh -n tests/it/sql/server.sh
printf 'tests/it/sql/server.sh\n'

step 'cargo fmt --check'
cargo fmt --check

step 'cargo clippy'
cargo clippy --locked --all-targets -- -D warnings

step 'cargo doc'
RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps

step 'cargo build --release'
cargo build --locked --release

step "the README's first commands"
try_readme "$temporary"

if [[ -n $is_long ]]; then
    export PROPTEST_CASES=${PROPTEST_CASES:-2000}
    export METASTASH_TEST_SEEDS=${METASTASH_TEST_SEEDS:-200}
    export METASTASH_TEST_KILLS=${METASTASH_TEST_KILLS:-10000}
    export METASTASH_TEST_OPERATIONS=${METASTASH_TEST_OPERATIONS:-100000}
    step "cargo test, $PROPTEST_CASES cases of each property"
else
    step 'cargo test'
fi
cargo test --locked
if [[ -n $is_long ]]; then
    step 'ten thousand snapshots'
    cargo test --locked --test it scale:: -- --ignored --nocapture
    step 'scripts/fuzz.sh'
    scripts/fuzz.sh
    step 'scripts/coverage.sh'
    # The lines do not get more with the cases.
    env -u PROPTEST_CASES -u METASTASH_TEST_SEEDS -u METASTASH_TEST_KILLS -u METASTASH_TEST_OPERATIONS scripts/coverage.sh
fi

printf '\nAll passed in %d min %02d s.\n' $((SECONDS / 60)) $((SECONDS % 60))
