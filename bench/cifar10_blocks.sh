#!/usr/bin/env bash
# Compares the family's kinds of blocks on CIFAR-10: trains one small network from two seeds as
# plain (one 3x3 convolution), RepVGG, RepOpt (plain, trained by RepOptimizer with scales that are
# searched first) and QARepVGG.
#
#   bench/cifar10_blocks.sh DIR [OUT]
#
#   DIR   CIFAR-10 as folders: train/<class>/*.jpg and test/<class>/*.jpg
#   OUT   for models and logs (default ./cifar10-blocks)
#
# docs/results.md holds the numbers of such a run; tests/models/ its models of seed 1.
set -euo pipefail
# shellcheck source=bench/cifar10_lib.sh
. "$(dirname "$0")/cifar10_lib.sh"
out=${2:-cifar10-blocks}
network='repvgg:depth=1,2,2,2;width=16,32,64,128;stride=1,2,2,2'
mkdir -p "$out"

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
