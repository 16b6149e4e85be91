#!/usr/bin/env bash
# into_page.sh NAME TEXT PAGE: replaces the lines between <!-- NAME: begin --> and <!-- NAME: end
# --> of PAGE by the file TEXT.
set -euo pipefail
[ $# -eq 3 ] || { echo "usage: $0 NAME TEXT PAGE" >&2; exit 2; }
for mark in begin end; do
    grep -qxF "<!-- $1: $mark -->" "$3" || { echo "$0: $3 has no line <!-- $1: $mark -->" >&2; exit 1; }
done
awk -v name="$1" -v text="$2" '
    $0 == "<!-- " name ": end -->" { skip = 0 }
    !skip { print }
    $0 == "<!-- " name ": begin -->" { while ((getline line < text) > 0) print line; skip = 1 }' "$3" >"$3.new"
mv "$3.new" "$3"
