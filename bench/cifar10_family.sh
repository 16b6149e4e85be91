#!/usr/bin/env bash
# INT8 of the family's other members on CIFAR-10. Small networks with squeeze-and-excitation before
# the ReLU (as RepVGG-D2se), after it with auxiliary heads (as RepVGGplus-L2pse), and with groups
# (as the g4 models) are trained for a few epochs, quantized, exported and compared with their FP32
# form.
#
#   bench/cifar10_family.sh DIR [OUT]
#
#   DIR   CIFAR-10 as folders: train/<class>/*.jpg and test/<class>/*.jpg
#   OUT   for models and logs (default ./cifar10-family)
set -euo pipefail
# shellcheck source=bench/cifar10_lib.sh
. "$(dirname "$0")/cifar10_lib.sh"
out=${2:-cifar10-family}
mkdir -p "$out"

sizes='depth=1,2,2,2;width=16,32,64,128;stride=1,2,2,2'
for kind in 'pre_se se=pre/16' 'post_se se=post/4;aux=1,2' 'groups groups=4'; do
    read -r name fields <<<"$kind"
    path=$out/$name
    run train "$dir" -a "repvgg:$sizes;$fields" -r 32 -b 64 --epochs 3 --lr 0.1 --warmup-epochs 0.3 --wd 2e-3 \
        --nesterov --seed 1 -p 0 -o "$path.train.bin" 2>"$path.train.log"
    run convert "$path.train.bin" "$path.deploy.bin"
    run insert_bn "$dir" "$path.deploy.bin" "$path.withbn.bin" 2>"$path.insert_bn.log"
    run qat_train "$dir" --base-weights "$path.withbn.bin" --epochs 1 -b 64 --lr 2e-3 --wd 4e-5 --seed 1 -p 0 \
        -o "$path.qat.bin" 2>"$path.qat.log"
    run export_int8 "$path.qat.bin" "$path.int8.bin"
    run compare "$dir" "$path.deploy.bin" "$path.int8.bin" --qat "$path.qat.bin"
done
