# Sourced by the cifar10 scripts, which take DIR [OUT]. Sets dir, and repqat (REPQAT, or this
# clone's, built if it is not there).
# shellcheck shell=bash disable=SC2034
[ $# -ge 1 ] || { echo "usage: $0 DIR [OUT]" >&2; exit 2; }
dir=$1
repqat=${REPQAT:-$(dirname "$0")/../build/release/bin/repqat}
[ -x "$repqat" ] || "$(dirname "$0")/../scripts/build.sh" release

# run ARGUMENT...: repqat; prints the command before and the time after it.
run() {
    printf '\n$ repqat %s\n' "$*"
    local start=$SECONDS
    "$repqat" "$@"
    echo "($((SECONDS - start)) s)"
}
