#!/usr/bin/env bash
# Times `metastash migrate` beside what reading and writing the same files costs, and prints a Markdown table.
set -euo pipefail
export LC_ALL=C

usage() {
    cat <<'END'
Usage: scripts/bench-migrate.sh [OPTION]...

Makes a tree of the layout before 5.0.0 and migrates it, to nothing (a dry run), a directory, a zip and a snapshot. Beside it
`cp -r` copies the source, which is as many files read and written, and the result, which is as many files written.

  --documents N     documents of the result, about (default 101110)
  --rounds N        how often everything is done; the medians count (default 3)
  --work DIR        where to work (default: a new directory in TMPDIR)
  --help            print this

Nothing is removed before the end: on ext4, making files is slower for minutes after as many were removed near by.
END
}

documents=101110 rounds=3 parent=${TMPDIR:-/tmp}
while (($#)); do
    case $1 in
    --documents | --rounds)
        [[ ${2:-} =~ ^[1-9][0-9]{0,8}$ ]] || { usage >&2; exit 2; }
        if [[ $1 == --documents ]]; then documents=$2; else rounds=$2; fi
        shift
        ;;
    --work)
        (($# >= 2)) || { usage >&2; exit 2; }
        parent=$2
        shift
        ;;
    -h | --help)
        usage
        exit
        ;;
    *)
        usage >&2
        exit 2
        ;;
    esac
    shift
done

cd "$(dirname "$0")/.."
cargo build --quiet --release --bin metastash --example generate
metastash=$PWD/target/release/metastash
work=$(mktemp -d "$parent/bench-migrate-XXXXXX")
trap 'rm -rf "$work"' EXIT
target/release/examples/generate --documents "$documents" --seed 1 --old "$work/old" >&2
cd "$work"
export METASTASH_REPO=$work/repository

# Prints seconds, processor seconds and KiB of a command, or fails.
measure() {
    local name=$1
    shift
    command time -f '%e %U %S %M' -o figures "$@" >said 2>&1 || { cat said >&2; exit 1; }
    local wall user system memory
    read -r wall user system memory <figures
    printf '%s\t%s\t%s\t%s\n' "$name" "$wall" "$(awk "BEGIN { print $user + $system }")" "$memory" >>all
}

for ((round = 1; round <= rounds; round++)); do
    measure 'cp -r of the source' cp -r old "source-$round"
    measure 'migrate --dry-run' "$metastash" migrate old --dry-run
    measure 'migrate to a directory' "$metastash" migrate old "new-$round"
    measure 'cp -r of the result' cp -r "new-$round" "result-$round"
    measure 'migrate to a zip' "$metastash" migrate old "new-$round.zip"
    METASTASH_REPO=$work/repository-$round measure 'migrate to a snapshot' "$metastash" migrate old snapshot:
    METASTASH_REPO=$work/repository-$round measure '… and again: nothing new' "$metastash" migrate old snapshot:
    measure 'migrate --verify' "$metastash" migrate --verify old "new-$round"
    printf 'round %d of %d\n' "$round" "$rounds" >&2
done

median() {
    sort -g | awk '{ values[NR] = $1 } END { print values[int((NR + 1) / 2)] }'
}

size() {
    find "$1" -type f -printf '%s\n' | awk '{ sum += $1 } END { printf "%d files, %.1f MB", NR, sum / 1e6 }'
}

printf 'source: %s; result: %s; %s processors\n\n' "$(size old)" "$(size new-1)" "$(nproc)"
printf '| what | s | processor s | peak memory | / cp -r of the source | / cp -r of the result |\n|---|---|---|---|---|---|\n'
of() {
    awk -F '\t' -v name="$1" -v column="$2" '$1 == name { print $column }' all | median
}
source=$(of 'cp -r of the source' 2) result=$(of 'cp -r of the result' 2)
cut -f 1 all | awk '!seen[$0]++' | while IFS= read -r name; do
    wall=$(of "$name" 2)
    awk -v name="$name" -v wall="$wall" -v cpu="$(of "$name" 3)" -v memory="$(of "$name" 4)" -v source="$source" \
        -v result="$result" 'BEGIN {
            printf "| %s | %.2f | %.1f | %d MB | %.2f | %.2f |\n", name, wall, cpu, memory / 1000, wall / source, wall / result
        }'
done
