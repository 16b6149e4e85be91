# Sourced by the scripts that measure (run.sh, scaling.sh). Sets root, work (a temporary folder) and
# OMP_NUM_THREADS.
# shellcheck shell=bash disable=SC2034
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(nproc)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# build TREE TARGET...: targets of a clone of the project, as released; quiet unless it fails.
build() {
    (cd "$1" && cmake --preset release && cmake --build --preset release --target "${@:2}") >"$work/build.log" 2>&1 ||
        { cat "$work/build.log" >&2 && return 1; }
}

# The first number with this key in the JSON on stdin.
json_number() { grep -oE "\"$1\": [0-9.e+-]+" | head -1 | cut -d' ' -f2; }
