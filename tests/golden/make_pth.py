#!/usr/bin/python3
"""Checkpoints of every container and layout, for the tests of runtime/torch/checkpoint.c.

    /usr/bin/python3 tests/golden/make_pth.py      # needs torch 1.13; rewrites tests/golden/pth/

All hold the tensors of tensors() below, whose values follow a formula that test_checkpoint.c knows: element i,
counted row-major over the tensor as saved, is BASE + i * STEP. They differ in what is around them:

zip.pth            torch.save of the dict
zip_protocol4.pth  the same with pickle_protocol=4
deflated.pth       zip.pth packed again by Python's zipfile, deflated, with an archive comment
legacy.pth         _use_new_zipfile_serialization=False: the format before PyTorch 1.6
training.pth.tar   {epoch, arch, state_dict, best_acc1, optimizer, args, …}, names with "module." in front,
                   and objects of classes that no reader can know
legacy_training.pth.tar   the same in the old format
nested.pth         {"model": {"state_dict": …}, "ema": …}; the EMA's values are all 1000 larger
"""

import argparse
import collections
import datetime
import os
import zipfile

import numpy as np
import torch
from torch import nn

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pth")


def values(shape, base=0.0, step=1.0, dtype=torch.float32):
    n = int(np.prod(shape))
    return (base + step * torch.arange(n, dtype=torch.float64)).to(dtype).reshape(shape)


def tensors(base=0.0):
    """Strided ones are made so that what is saved, read row-major, follows the formula."""
    d = collections.OrderedDict()
    d["f32"] = values((2, 3), base - 1, 0.5)
    d["f16"] = values((2, 3), base - 1, 0.5, torch.float16)
    d["bf16"] = values((2, 3), base - 1, 0.5, torch.bfloat16)
    d["f64"] = values((2, 3), base + 0.1, 1 / 3, torch.float64)
    d["bool"] = values((2,), 0, 1) != 0
    d["u8"] = values((3,), 250, 1, torch.uint8)
    d["s8"] = values((3,), -3, 2, torch.int8)
    d["s16"] = values((3,), -300, 200, torch.int16)
    d["s32"] = values((3,), -70000, 100000, torch.int32)
    d["s64"] = values((), 1 << 40, 1, torch.int64)
    d["scalar"] = values((), base + 2.5, 1)
    d["empty"] = torch.empty(0, 3)
    d["parameter"] = nn.Parameter(values((4,), base + 10, 1))
    d["attributes"] = values((4,), base + 20, 1)
    d["attributes"].note = "a Python attribute"
    d["transposed"] = values((2, 3), base, 1).t().contiguous().t()
    d["slice"] = values((3, 5), base, 1)[:, 1:4]
    d["slice"].copy_(values((3, 3), base + 30, 1))
    d["steps"] = values((2, 8), base, 1)[:, ::2]
    d["steps"].copy_(values((2, 4), base + 50, 1))
    d["expanded"] = values((1,), base + 60, 1).expand(2, 3)
    d["channels_last"] = values((2, 3, 2, 2), base, 1).to(memory_format=torch.channels_last)
    shared = values((4, 3), base + 70, 1)
    d["shared"] = shared
    d["shared_row"] = shared[2]
    d["tied"] = d["parameter"]
    return d


class Config:
    """A class that is not there when the file is read."""

    def __init__(self):
        self.optim = {"lr": 0.1, "betas": (0.9, 0.999)}
        self.big = 1 << 100
        self.names = frozenset(["a", "b"])


def training():
    net = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return {
        "epoch": 3,
        "arch": "RepVGG-A0",
        "best_acc1": torch.tensor(71.5),
        "optimizer": optimizer.state_dict(),
        "args": argparse.Namespace(lr=0.1, out="a/b", seed=None, flag=True),
        "config": Config(),
        "date": datetime.datetime(2022, 3, 1),
        "loss": np.float64(0.25),
        "history": np.arange(4),
        "device": torch.device("cpu"),
        "size": torch.Size([1, 2]),
        "dtype": torch.float16,
        "sparse": torch.eye(2).to_sparse(),
        "model": "repvgg",
        "state_dict": collections.OrderedDict(("module." + k, v) for k, v in tensors().items()),
    }


def save(name, value, **options):
    torch.save(value, os.path.join(OUT, name), **options)


def deflate(source, target):
    with zipfile.ZipFile(os.path.join(OUT, source)) as old, \
            zipfile.ZipFile(os.path.join(OUT, target), "w", zipfile.ZIP_DEFLATED) as new:
        new.comment = b"packed again"
        for entry in sorted(old.namelist()):
            info = zipfile.ZipInfo(entry, (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(info, old.read(entry))


def main():
    os.makedirs(OUT, exist_ok=True)
    save("zip.pth", tensors())
    save("zip_protocol4.pth", tensors(), pickle_protocol=4)
    deflate("zip.pth", "deflated.pth")
    save("legacy.pth", tensors(), _use_new_zipfile_serialization=False)
    save("training.pth.tar", training())
    save("legacy_training.pth.tar", training(), _use_new_zipfile_serialization=False)
    save("nested.pth", {"model": {"state_dict": tensors()}, "ema": tensors(1000.0), "epoch": 1})


if __name__ == "__main__":
    main()
