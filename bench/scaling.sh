#!/usr/bin/env bash
# The time of an INT8 session of RepVGG-A0 for different batches, resolutions, widths and numbers of
# threads, next to a model of it.
#
#   bench/scaling.sh
#
# The model: a batch of b images takes
#
#   t = sum over layers of  b * operations / (e * P)  +  bytes of weights / B
#
#   P   peak of the threads' multiply-add instructions, as bench --layers measures it
#   e   share of P that kernels reach
#   B   bytes of weights per second, with everything else that a layer costs whatever the batch
#
# e and B are fitted to the series of batches by least squares of relative errors; the other series
# are predicted with the same two numbers. Writes docs/scaling.svg, and a table between the marks of
# docs/notes/speed.md. Takes about two minutes.
set -euo pipefail
# shellcheck source=bench/lib.sh
. "$(dirname "$0")/lib.sh"
build "$root" repqat make_models
repqat=$root/build/release/bin/repqat
points=$work/points

# arch WIDTH: RepVGG-A0 with its channels times WIDTH.
arch() {
    awk -v m="$1" 'BEGIN { printf "repvgg:depth=1,2,4,14,1;width=%d,%d,%d,%d,%d;stride=2,2,2,2,2", 48 * m < 64 ? 48 * m : 64, 48 * m, 96 * m, 192 * m, 1280 * m }'
}

# measure SERIES X WIDTH BATCH RESOLUTION THREADS: one point.
measure() {
    mkdir -p "$work/$3"
    [ -e "$work/$3/int8.bin" ] || "$root/build/release/bench/make_models" "$work/$3" "$(arch "$3")"
    "$repqat" bench "$work/$3/int8.bin" -b "$4" -r "$5" --threads "$6" --json >"$work/out"
    echo "$1 $2 $3 $4 $5 $6 $(json_number median_ms <"$work/out")" | tee -a "$points" >&2
}

all=$OMP_NUM_THREADS
for batch in 1 2 4 8 16 32; do measure batch $batch 1 $batch 224 "$all"; done
for side in 96 128 160 224 320 384; do measure resolution $side 1 8 $side "$all"; done
for width in 0.5 1 1.5 2 3; do measure width $width $width 8 224 "$all"; done
counts=()
for ((threads = 1; threads < all; threads *= 2)); do counts+=("$threads"); done
for threads in "${counts[@]}" "$all"; do
    measure threads "$threads" 1 8 224 "$threads"
    "$repqat" bench "$work/1/int8.bin" -b 1 --threads "$threads" --repeat 20 --layers --json |
        grep -oE '"peak_int8": \{[^}]*' | json_number gops | sed "s/^/$threads /" >>"$work/peaks"
done

awk -v svg="$root/docs/scaling.svg" -f "$root/bench/scaling.awk" "$work/peaks" "$points" >"$work/tables"
"$root/bench/into_page.sh" scaling "$work/tables" "$root/docs/notes/speed.md"
cat "$work/tables"
