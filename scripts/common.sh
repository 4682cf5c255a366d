# What the scripts here have in common: to be sourced.

fail() { # MESSAGE [HINT]
    printf 'error: %s\n' "$1" >&2
    [[ -z ${2-} ]] || printf 'hint: %s\n' "$2" >&2
    exit 1
}

# Says what is wrong with the arguments, and how they are meant: `usage` is the script's own.
wrong_usage() { # MESSAGE
    printf 'error: %s\n\n' "$1" >&2
    usage >&2
    exit 2
}

step() { # TITLE
    printf '\n== %s\n' "$1"
}
