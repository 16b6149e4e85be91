#!/usr/bin/env bash
# Runs every command line of README.md and docs/tour.md, as printed, in an empty folder.
#
#   test_commands.sh SOURCE_DIR BIN_DIR        BIN_DIR: the folder of the repqat to run
#
# A command line is a line in a block fenced as ```sh; other blocks show output or are not for the
# shell. The page's folder holds stand-ins for what readers bring along: the folder imagenet/ (five
# generated classes) and RepVGG-A0-train.pth (a small network), and for the scripts of this
# repository, which would build, install and test. Values of a few options are replaced, by the
# list below, so that a run takes seconds. Prints one line per command and a summary like cmocka's.
set -euo pipefail
[ $# -eq 2 ] || { echo "usage: $0 SOURCE_DIR BIN_DIR" >&2; exit 2; }
source=$(cd "$1" && pwd)
bin=$(cd "$2" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # small networks; other tests run at the same time

# OPTION VALUE: any value of OPTION becomes VALUE.
replacements="
--train-images 16
--val-images 4
--epochs 1
--qat-epochs 1
--max-drop 100
-b 8
-a 'repvgg:depth=1,2,2;width=8,8,12;stride=2,1,2;classes=5' RepVGG-A0
"

# replace LINE: the command line to run. A third word in the list limits it to that value.
replace() {
    local line=$1 option value only
    while read -r option value only; do
        [ -n "$option" ] || continue
        line=$(printf '%s' "$line" | sed -E "s@( $option) ${only:-[^ ]+}( |\$)@\1 $value\2@g")
    done <<<"$replacements"
    printf '%s' "$line"
}

# commands PAGE: its command lines, each with the number of its first line in front.
commands() {
    awk '/^```sh$/ { inside = 1; next }
        /^```/ { inside = 0; next }
        !inside || /^ *(#|$)/ { next }
        { if (text == "") first = NR
          if (sub(/\\$/, "")) { text = text $0; next }
          print first, text $0
          text = "" }' "$1"
}

# The folder in which a page is read: that of a fresh clone, as far as its commands see it.
make_folder() {
    local dir=$1 script class split
    mkdir -p "$dir/build/release" "$dir/scripts" "$dir/imagenet/train" "$dir/imagenet/val"
    ln -s "$bin" "$dir/build/release/bin"
    ln -s "$source/tests" "$source/docs" "$dir"
    for script in "$source"/scripts/*.sh; do # they exist, they can be run, and bash can read them
        printf '#!/bin/sh\n[ -x "%s" ] && bash -n "%s"\n' "$script" "$script" >"$dir/scripts/${script##*/}"
        chmod +x "$dir/scripts/${script##*/}"
    done
    for split in train val; do
        for class in $(ls "$work/demo/images/$split" | head -n 5); do
            ln -s "$work/demo/images/$split/$class" "$dir/imagenet/$split/$class"
        done
    done
    cp "$source/tests/golden/checkpoints/repvgg_zip.pth" "$dir/RepVGG-A0-train.pth"
}

# run_page PAGE: its commands one after the other in one shell; appends a line per command to results.
run_page() {
    local page=$1 dir=$work/${1//\//_} number line
    make_folder "$dir"
    cd "$dir"
    unset -v OLDPWD
    while read -r number line <&3; do
        line=$(replace "$line")
        echo "[ RUN      ] $page:$number: $line"
        if eval "$line" >"$work/log" 2>&1 </dev/null; then
            echo ok >>"$work/results"
            echo "[       OK ] $page:$number"
        else
            echo "exit code $?" >>"$work/log"
            echo "failed $page:$number" >>"$work/results"
            cat "$work/log"
            echo "[  FAILED  ] $page:$number"
        fi
    done 3< <(commands "$source/$page")
}

"$bin/repqat" demo --dir "$work/demo" --train-images 16 --val-images 4 --epochs 1 --qat-epochs 1 \
    >"$work/log" 2>&1 || { cat "$work/log"; echo "the stand-ins cannot be made"; exit 1; }
: >"$work/results"
for page in README.md docs/tour.md; do
    (run_page "$page")
done

passed=$(grep -c '^ok$' "$work/results" || true)
failed=$(grep -c '^failed' "$work/results" || true)
echo "[  PASSED  ] $passed test(s)."
[ "$failed" -eq 0 ] || echo "[  FAILED  ] $failed test(s), listed above"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
