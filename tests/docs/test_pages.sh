#!/usr/bin/env bash
# The pages can be read and their links lead somewhere.
#
#   test_pages.sh SOURCE_DIR
#
# Two tests for each page: no line over 100 characters, but for tables, fenced or indented code and
# the addresses of links; and every relative link names a file, and a heading where it has a #.
# Prints a summary like cmocka's.
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: $0 SOURCE_DIR" >&2; exit 2; }
cd "$1"
export LC_ALL=C.UTF-8 # characters, not bytes
max=100
passed=0
failed=0

judge() { # NAME FINDINGS
    if [ -z "$2" ]; then
        echo "[       OK ] $1"
        passed=$((passed + 1))
    else
        printf '%s\n[  FAILED  ] %s\n' "$2" "$1"
        failed=$((failed + 1))
    fi
}

long_lines() {
    local number=0 fenced='' line text
    while IFS= read -r line || [ -n "$line" ]; do
        number=$((number + 1))
        case $line in
        '```'*) [ -n "$fenced" ] && fenced='' || fenced=yes ;;
        '|'* | '    '*) continue ;;
        esac
        [ -z "$fenced" ] && [ ${#line} -gt $max ] || continue
        text=$(sed -E 's/\]\([^)]*\)/]()/g; s@<?https?://[^ )>]*>?@@g' <<<"$line")
        [ ${#text} -le $max ] || echo "$1:$number: ${#text} characters"
    done <"$1"
}

# The anchors of a page's headings, as GitHub makes them.
anchors() {
    sed -nE '/^```/,/^```/d; s/^#+ +//p' "$1" | tr '[:upper:]' '[:lower:]' | sed -E "s/[^a-z0-9 _-]//g; s/ /-/g"
}

dead_links() {
    local link file anchor
    grep -oE '\]\([^)]+\)' "$1" | sed -E 's/^\]\((.*)\)$/\1/' | while read -r link; do
        case $link in http*) continue ;; esac
        file=${link%%#*}
        anchor=${link#"$file"}
        file=${file:+$(dirname "$1")/$file}
        file=${file:-$1}
        if [ ! -e "$file" ]; then
            echo "$1: $link: no such file"
        elif [ -n "$anchor" ] && ! anchors "$file" | grep -qxF -- "${anchor#\#}"; then
            echo "$1: $link: no such heading"
        fi
    done
}

while IFS= read -r page; do
    judge "$page: lines" "$(long_lines "$page")"
    judge "$page: links" "$(dead_links "$page")"
done < <(find README.md CHANGELOG.md CONTRIBUTING.md bench docs tests -name '*.md' | sort)

echo "[  PASSED  ] $passed test(s)."
[ "$failed" -eq 0 ] || echo "[  FAILED  ] $failed test(s), listed above"
[ "$failed" -eq 0 ]
