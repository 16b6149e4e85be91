#!/usr/bin/env bash
# PyTorch writes every kind of network in every container, and two at full size (1 GB in /tmp); ours must give its logits.
#   tests/golden/test_torch.sh TEST_PROGRAM      exit 77, a skip for ctest, where there is no torch
set -euo pipefail
python3=/usr/bin/python3
"$python3" -c 'import torch, torchvision' 2>/dev/null || {
    echo "skipped: python3-torch and python3-torchvision are not installed"
    exit 77
}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
"$python3" "$(dirname "$0")/make_checkpoints.py" --all "$out"
RQ_CHECKPOINTS=$out "$1"
