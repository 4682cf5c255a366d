#!/usr/bin/env bash
# Changes the core one place at a time, and tells which changes no test notices.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
    cat <<'END'
Usage: scripts/mutants.sh [--shard N/M] [FILE...]

Runs cargo-mutants over model, repo and ops, or over the files that are named, with all tests that need no server and no process
of their own. What survives is printed in the end, and stands in target/mutants/mutants.out/missed.txt.

All of it is some three thousand changes of a minute or two each on two cores: days. So a part of it is run at a time.

  --shard N/M  only every M-th of them, the N-th from 0
  --help       print this

Example: scripts/mutants.sh --shard 3/200
END
}

shard=() files=()
while (($#)); do
    case $1 in
    --shard)
        (($# >= 2)) || wrong_usage '--shard takes a value'
        [[ $2 =~ ^[0-9]+/[0-9]+$ ]] || wrong_usage '--shard takes N/M'
        shard=(--shard "$2" --sharding round-robin)
        shift
        ;;
    -h | --help)
        usage
        exit
        ;;
    -*) wrong_usage "unknown option: $1" ;;
    *) files+=(--file "$1") ;;
    esac
    shift
done

cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset METASTASH_REPO METASTASH_STORE KYLIN_HOME
cargo mutants --version >/dev/null 2>&1 || fail 'cargo-mutants is missing' 'cargo install --locked cargo-mutants'
((${#files[@]})) || files=(--file 'src/model/**' --file 'src/repo/**' --file 'src/ops/**')

mkdir -p target/mutants
# Unit tests, and of the others those that take seconds.
cargo mutants --output target/mutants --cargo-arg=--locked --jobs 1 --timeout 300 --no-times "${shard[@]}" "${files[@]}" \
    -- --lib --test it -- --skip sql:: --skip cli:: --skip fuzzed:: --skip crowd:: --skip interleave:: --skip power::
