#!/usr/bin/env bash
# Fuzzes every decoder for a while. What is found is kept in fuzz/artifacts.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# Most megabytes of one allocation, and of all memory. No input is larger than a few thousand bytes: what asks for more
# than this believes a length that nothing stands behind.
readonly ALLOCATION_MB_MAX=64
readonly MEMORY_MB_MAX=512
# Of a tar, the window of its compression may be 128 MiB: `zstd --long` makes such.
readonly TAR_ALLOCATION_MB_MAX=144
# Most seconds that one input may take.
readonly INPUT_SECS_MAX=10

usage() {
    cat <<'END'
Usage: scripts/fuzz.sh [--seconds N] [TARGET...]

Runs each target (all that are in fuzz/fuzz_targets, or those named) for N seconds, from the seeds in fuzz/seeds and what
earlier runs found worth keeping in fuzz/corpus. Needs rustup with a nightly compiler, and cargo-fuzz.

  --seconds N   seconds of each target (60)
  --help        print this
END
}

seconds=60
targets=()
while (($#)); do
    case $1 in
    --seconds)
        [[ ${2-} =~ ^[1-9][0-9]*$ ]] || wrong_usage '--seconds needs a number'
        seconds=$2
        shift
        ;;
    -h | --help)
        usage
        exit
        ;;
    -*) wrong_usage "unknown option: $1" ;;
    *) targets+=("$1") ;;
    esac
    shift
done

cd "$(dirname "${BASH_SOURCE[0]}")/.."
if ((${#targets[@]} == 0)); then
    for file in fuzz/fuzz_targets/*.rs; do
        targets+=("$(basename "$file" .rs)")
    done
fi
for target in "${targets[@]}"; do
    [[ -f fuzz/fuzz_targets/$target.rs ]] || wrong_usage "there is no target $target"
done
command -v rustup >/dev/null || fail 'rustup is missing: a nightly compiler is needed beside the other' 'https://rustup.rs'
rustup run nightly rustc --version >/dev/null 2>&1 ||
    fail 'there is no nightly compiler' 'rustup toolchain install nightly --profile minimal'
command -v cargo-fuzz >/dev/null || fail 'cargo-fuzz is missing' 'cargo install --locked cargo-fuzz'

# The targets have a folder of their own for what is built, whatever is set for the tests.
unset CARGO_TARGET_DIR
step 'build'
cargo +nightly fuzz build

found=()
for target in "${targets[@]}"; do
    step "$target, $seconds s"
    mkdir -p "fuzz/corpus/$target"
    allocation_mb_max=$ALLOCATION_MB_MAX
    [[ $target != tar ]] || allocation_mb_max=$TAR_ALLOCATION_MB_MAX
    log=$(mktemp)
    if cargo +nightly fuzz run "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- -max_total_time="$seconds" \
        -malloc_limit_mb="$allocation_mb_max" -rss_limit_mb="$MEMORY_MB_MAX" -timeout="$INPUT_SECS_MAX" \
        -print_final_stats=1 >"$log" 2>&1; then
        grep -E '^stat::(number_of_executed_units|peak_rss_mb)|^#[0-9]+.*DONE' "$log"
    else
        found+=("$target")
        tail -n 60 "$log" >&2
    fi
    rm -f "$log"
done

((${#found[@]} == 0)) ||
    fail "found something in: ${found[*]}" 'it is in fuzz/artifacts: mend it, and put it into fuzz/seeds as found-NAME'
printf '\nNothing was found in %d targets.\n' "${#targets[@]}"
