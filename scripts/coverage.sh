#!/usr/bin/env bash
# Measures which lines of src the tests run, and fails if those of the core are too few.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# Lines of the core (model, repo, ops, storage) that must be run, in percent.
readonly CORE_PERCENT_MIN=95

usage() {
    cat <<'END'
Usage: scripts/coverage.sh [--report | --uncovered]

Runs all tests with counters in every line (cargo-llvm-cov), prints the lines that were run by room, and fails if those of
the core (model, repo, ops, storage) are less than 95 %. Tests inside src are run, but their own lines are not counted.

  --report     run nothing: count what the last run left
  --uncovered  as --report, and print the lines of the core that were not run
  --help       print this
END
}

# Prints `ROOM PATH LINE COUNT` for each line of code in an lcov report, but for those of tests: whole files of tests, and
# all that follows the first `#[cfg(test)]` that stands before a module with a body, which is the last thing in its file.
lines_of() { # REPORT
    awk -F '[:,]' '
        /^SF:/ {
            path = substr($0, 4)
            if (!sub(/^.*\/src\//, "", path)) path = ""
            file = substr($0, 4)
            end = 1e9
            at = 0
            if (path ~ /(^|\/)tests(\.rs$|\/)/) path = ""
            if (path != "") {
                pending = 0
                while ((getline text < file) > 0) {
                    at++
                    if (pending && text ~ /^(pub(\([a-z]+\))? )?mod [a-z_]+ \{/) { end = at - 1; break }
                    pending = (text ~ /^#\[cfg\(test\)\]/) || (pending && text ~ /^#\[/)
                }
                close(file)
                room = path
                sub(/[\/.].*/, "", room)
            }
        }
        /^DA:/ && path != "" && $2 < end { print room, path, $2, $3 }' "$1"
}

is_report=
is_uncovered=
for argument in "$@"; do
    case $argument in
    --report) is_report=1 ;;
    --uncovered)
        is_report=1
        is_uncovered=1
        ;;
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
unset METASTASH_REPO METASTASH_STORE KYLIN_HOME
cargo llvm-cov --version >/dev/null 2>&1 ||
    fail 'cargo-llvm-cov is missing' 'cargo install --locked cargo-llvm-cov, and rustup component add llvm-tools'

temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
if [[ -z $is_report ]]; then
    step 'tests with counters'
    cargo llvm-cov clean --workspace
    cargo llvm-cov --locked --no-report
fi

step 'lines that tests run'
cargo llvm-cov report --lcov --output-path "$temporary/lcov" 2>/dev/null || fail 'there is no run to report' 'run without --report'
lines_of "$temporary/lcov" >"$temporary/lines"
if [[ -n $is_uncovered ]]; then
    awk '$1 ~ /^(model|repo|ops|storage)$/ && $4 == 0 { print "src/" $2 ":" $3 }' "$temporary/lines"
fi
awk -v min="$CORE_PERCENT_MIN" '
    { all[$1]++; run[$1] += $4 > 0 }
    function show(name, part, whole) { printf "%-10s %6d of %6d lines  %6.2f %%\n", name, part, whole, 100 * part / whole }
    END {
        rooms = split("model repo ops storage endpoint platform monitor cli main", name, " ")
        for (i = 1; i <= rooms; i++) {
            if (!all[name[i]]) continue
            show(name[i], run[name[i]], all[name[i]])
            if (i <= 4) { core += all[name[i]]; core_run += run[name[i]] }
        }
        if (!core) { print "error: no line of the core was found" > "/dev/stderr"; exit 1 }
        show("the core", core_run, core)
        if (100 * core_run < min * core) {
            printf "error: less than %d %% of the lines of the core are run\n", min > "/dev/stderr"
            exit 1
        }
    }' "$temporary/lines"
