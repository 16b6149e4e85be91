#!/usr/bin/env python3
"""Twenty steps of training by PyTorch, a small network of each block kind, for the trainer's tests.

    python3 tests/golden/make_training.py    # needs torch 1.13 and torchvision; rewrites torch/training.safetensors

Networks and names are those of make_checkpoints.py, without auxiliary heads. In float64 from f32
parameters and u8 pixels, so the losses are closer to the truth than those of any f32 implementation:
SGD (lr 0.05, momentum 0.9, Nesterov), weight decay 1e-3 on tensors of two or more dimensions and on
"...identity.weight", csla's scales of convolutions constant, label smoothing 0.1, images normalised by ImageNet's mean and std.

    pixels u8 [STEPS, BATCH, SIDE, SIDE, 3], labels s64 [STEPS, BATCH]
    KIND.init.NAME          parameters and buffers at the start
    KIND.losses f32 [STEPS] of each step, before its update

__metadata__: KIND -> the network's description (arch.h).
"""

import numpy as np
import torch
import torch.nn.functional as F

from make_checkpoints import KINDS, Net, described
from make_torch import MEAN, STD, save

STEPS, BATCH, SIDE = 20, 6, 16


CONSTANT = ("scale_conv.weight", "scale_1x1.weight")  # in csla


def groups(net, kind):
    decayed, plain = [], []
    for name, param in net.named_parameters():
        if kind == "csla" and name.endswith(CONSTANT):
            continue
        (decayed if param.dim() >= 2 or name.endswith("identity.weight") else plain).append(param)
    return [{"params": decayed, "weight_decay": 1e-3}, {"params": plain, "weight_decay": 0.0}]


def train(net, kind, pixels, labels):
    mean = torch.tensor(MEAN, dtype=torch.float64).view(3, 1, 1)
    std = torch.tensor(STD, dtype=torch.float64).view(3, 1, 1)
    net.double().train()
    optimizer = torch.optim.SGD(groups(net, kind), lr=0.05, momentum=0.9, nesterov=True)
    losses = []
    for x, y in zip(pixels, labels):
        x = (torch.from_numpy(x).permute(0, 3, 1, 2).double() / 255 - mean) / std
        loss = F.cross_entropy(net(x), torch.from_numpy(y), label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def main():
    torch.manual_seed(3)
    random = np.random.default_rng(3)
    labels = random.integers(0, 5, (STEPS, BATCH))
    colours = random.integers(0, 256, (5, 1, 1, 3))  # of a class: there is something to learn
    noise = random.integers(0, 256, (STEPS, BATCH, SIDE, SIDE, 3))
    pixels = ((colours[labels] + noise) // 2).astype(np.uint8)
    tensors, arches = {"pixels": pixels, "labels": labels}, {}
    for kind, (sizes, block, plus, extra) in KINDS.items():
        if plus:
            continue
        net = Net(sizes["depth"], sizes["width"], sizes["stride"], sizes["classes"], block)
        arches[kind] = described(sizes, extra)
        for name, value in net.state_dict().items():
            tensors["%s.init.%s" % (kind, name)] = value.clone()
        tensors["%s.losses" % kind] = np.array(train(net, kind, pixels, labels))
    save("training.safetensors", tensors, command="python3 tests/golden/make_training.py",
         kinds=",".join(arches), **arches)


if __name__ == "__main__":
    main()
