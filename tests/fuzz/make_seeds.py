#!/usr/bin/python3
"""Seeds for the fuzz targets: the smallest files of every kind.

    /usr/bin/python3 tests/fuzz/make_seeds.py      # needs torch 1.13; writes tests/fuzz/corpus/*/seed_*
"""

import argparse
import io
import json
import os
import struct
import zipfile
from collections import OrderedDict

import torch

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")


def write(target, name, data):
    folder = os.path.join(OUT, target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "seed_" + name), "wb") as file:
        file.write(data)


def saved(value, **options):
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def packed(data, method):
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w", method) as new:
        for name in old.namelist():
            new.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), old.read(name), method)
    return file.getvalue()


def safetensors(entries, metadata):
    header, data = {"__metadata__": metadata}, b""
    for name, dtype, shape, content in entries:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def main():
    weights = OrderedDict(w=torch.arange(4.0).reshape(2, 2).t(), n=torch.tensor(3))
    halves = {"module.h": torch.ones(2, dtype=torch.half), "d": torch.nn.Parameter(torch.ones(1, dtype=torch.double))}
    training = {"state_dict": {"a": torch.ones(1)}, "args": argparse.Namespace(lr=0.1, betas=(1, 2), big=1 << 70),
                "names": frozenset(["x"]), "loss": [0.5, None, True]}
    for name, value in (("weights", weights), ("halves", halves), ("training", training)):
        stored = saved(value)
        write("checkpoint", name + "_legacy", saved(value, _use_new_zipfile_serialization=False))
        write("checkpoint", name + "_deflated", packed(stored, zipfile.ZIP_DEFLATED))
        for protocol in (2, 4):
            with zipfile.ZipFile(io.BytesIO(saved(value, pickle_protocol=protocol))) as archive:
                pickled = archive.read("archive/data.pkl")
            write("pickle", "%s_%d" % (name, protocol), pickled)
            write("torch_object", "%s_%d" % (name, protocol), pickled)
    write("checkpoint", "weights_zip", saved(weights))
    write("zip", "torch", saved({}))
    write("zip", "deflated", packed(saved({}), zipfile.ZIP_DEFLATED))
    container = safetensors([("module.a", "F16", [2], b"\0\1\2\3"), ("b", "F32", [1, 1], b"\0\0\0\0")], {"k": "v"})
    write("checkpoint", "safetensors", container)
    write("tensorfile", "foreign", container)


if __name__ == "__main__":
    main()
