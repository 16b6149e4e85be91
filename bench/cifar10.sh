#!/usr/bin/env bash
# Runs the whole pipeline on CIFAR-10: FP32 training, deploy form, batch norm, QAT, INT8,
# comparison.
#
#   bench/cifar10.sh DIR [OUT]
#
#   DIR   CIFAR-10 as folders: train/<class>/*.jpg and test/<class>/*.jpg
#   OUT   for models and logs (default ./cifar10-run)
#
# docs/results.md holds the numbers of such a run. Each command is printed before it runs.
set -euo pipefail
# shellcheck source=bench/cifar10_lib.sh
. "$(dirname "$0")/cifar10_lib.sh"
out=${2:-cifar10-run}
arch='repvgg:depth=1,2,2,2;width=32,64,256,256;stride=1,2,2,2;pool=max;block=target'
precision=f32
grep -qw avx512_bf16 /proc/cpuinfo && precision=bf16
mkdir -p "$out"

sgd=(-b 64 --epochs 100 --wd 1e-3 --nesterov --label-smoothing 0.1 --alternate-flips --precision "$precision" -p 100 --profile)

# First crops of 24 pixels with mixup, then whole images; the learning rate goes on where it was. No
# validation, which would take a tenth of the time: the result is the average of the weights at the
# end of training, and only then are test images seen.
run train "$dir/train" -a "$arch" -r 24 --resize 32 --padding 0 --mixup 0.2 --budget 16m --lr 0.1 --min-lr 0.05 --warmup-epochs 1 \
    --seed 1 "${sgd[@]}" -o "$out/crops.bin" 2>"$out/crops.log"
run train "$dir/train" --init "$out/crops.bin" -r 32 --val-resolution 32 --padding-mode reflect --budget 25m --lr 0.05 --min-lr 0.002 \
    --ema 0.0005 --ema-rule plain --seed 2 "${sgd[@]}" -o "$out/train.bin" 2>"$out/train.log"
mv "$out/train.best_ema.bin" "$out/average.bin"
run convert "$out/average.bin" "$out/deploy.bin"
run verify "$out/average.bin" "$out/deploy.bin" --data "$dir"
run insert_bn "$dir" "$out/deploy.bin" "$out/withbn.bin" -b 64 -n 300 --padding-mode reflect 2>"$out/insert_bn.log"
run qat_train "$dir" --base-weights "$out/withbn.bin" --epochs 1 -b 64 --lr 2e-3 --wd 4e-5 --seed 1 \
    --label-smoothing 0.1 --padding-mode reflect -p 100 --profile -o "$out/qat.bin" 2>"$out/qat_train.log"
run export_int8 "$out/qat.bin" "$out/int8.bin"
for form in average deploy withbn qat int8; do
    run evaluate "$dir" "$out/$form.bin" -b 100
done
run compare "$dir" "$out/deploy.bin" "$out/int8.bin" --qat "$out/qat.bin" --max-drop 0.3
printf '\ntotal: %d s\n' "$SECONDS"
