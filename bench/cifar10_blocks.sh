#!/usr/bin/env bash
# The family's kinds of blocks side by side on CIFAR-10: one small network, trained from two seeds as plain (one 3x3
# convolution), RepVGG, RepOpt (plain, trained by RepOptimizer with scales that are searched first) and QARepVGG.
#
#   bench/cifar10_blocks.sh DIR [OUT]     DIR: train/<class>/*.jpg and test/<class>/*.jpg; OUT: models and logs
#
# docs/results.md holds the numbers of such a run; tests/models/ its models of seed 1.
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: $0 DIR [OUT]" >&2; exit 2; }
dir=$1
out=${2:-cifar10-blocks}
repqat=${REPQAT:-$(dirname "$0")/../build/release/bin/repqat}
[ -x "$repqat" ] || "$(dirname "$0")/../scripts/build.sh" release
network='repvgg:depth=1,2,2,2;width=16,32,64,128;stride=1,2,2,2'
mkdir -p "$out"

run() {
    printf '\n$ repqat %s\n' "$*"
    local start=$SECONDS
    "$repqat" "$@"
    echo "($((SECONDS - start)) s)"
}

options=(--recipe cifar --epochs 12 -p 0)
run hyper_search "$dir" -a "$network;block=target" "${options[@]}" --seed 1 -o "$out/scales.bin" 2>"$out/scales.log"
for seed in 1 2; do
    for kind in 'plain target' 'repvgg repvgg' "repopt target --scales $out/scales.bin" 'qarepvgg qarepvgg'; do
        read -r name block scales <<<"$kind"
        # shellcheck disable=SC2086 # no option, or one with its value
        run train "$dir" -a "$network;block=$block" $scales "${options[@]}" --seed $seed -o "$out/$name$seed.bin" \
            2>"$out/$name$seed.log"
    done
done
