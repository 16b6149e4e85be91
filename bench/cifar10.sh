#!/usr/bin/env bash
# The whole pipeline on CIFAR-10: FP32 training, deploy form, batch norm, QAT, INT8, comparison.
#
#   bench/cifar10.sh DIR [OUT]     DIR: train/<class>/*.jpg and test/<class>/*.jpg; OUT: models and logs (default ./cifar10-run)
#
# Takes about 40 minutes on 2 cores. docs/results.md holds the numbers of such a run. Each command is printed before it runs.
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: $0 DIR [OUT]" >&2; exit 2; }
dir=$1
out=${2:-cifar10-run}
repqat=${REPQAT:-$(dirname "$0")/../build/release/bin/repqat}
[ -x "$repqat" ] || "$(dirname "$0")/../scripts/build.sh" release
arch='repvgg:depth=1,3,3,2;width=32,64,128,128;stride=1,2,1,2'
precision=f32
grep -qw avx512_bf16 /proc/cpuinfo && precision=bf16
mkdir -p "$out"

run() {
    printf '\n$ repqat %s\n' "$*"
    local start=$SECONDS
    "$repqat" "$@"
    echo "($((SECONDS - start)) s)"
}

run train "$dir" -a "$arch" -r 32 -b 128 --epochs 13 --lr 0.1 --warmup-epochs 1 --wd 5e-4 --nesterov \
    --label-smoothing 0.1 --precision $precision --seed 1 -p 100 --profile -o "$out/train.bin" 2>"$out/train.log"
run convert "$out/train.bin" "$out/deploy.bin"
run verify "$out/train.bin" "$out/deploy.bin" --data "$dir"
run evaluate "$dir" "$out/train.bin" -b 100
run evaluate "$dir" "$out/deploy.bin" -b 100
run insert_bn "$dir" "$out/deploy.bin" "$out/withbn.bin" 2>"$out/insert_bn.log"
run evaluate "$dir" "$out/withbn.bin" -b 100
run qat_train "$dir" --base-weights "$out/withbn.bin" --epochs 3 -b 128 --lr 2e-3 --wd 4e-5 \
    --precision $precision --seed 1 -p 100 --profile -o "$out/qat.bin" 2>"$out/qat_train.log"
run export_int8 "$out/qat.bin" "$out/int8.bin"
run evaluate "$dir" "$out/qat.bin" -b 100
run evaluate "$dir" "$out/int8.bin" -b 100
run compare "$dir" "$out/deploy.bin" "$out/int8.bin" --qat "$out/qat.bin" --max-drop 0.3
printf '\ntotal: %d s\n' "$SECONDS"
