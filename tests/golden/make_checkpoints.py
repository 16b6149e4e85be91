#!/usr/bin/env python3
"""Checkpoints as PyTorch writes them, one network of each block kind, and the logits they give.

    python3 tests/golden/make_checkpoints.py                  # needs torch 1.13; rewrites tests/golden/checkpoints/
    python3 tests/golden/make_checkpoints.py --all DIR        # every kind in every container, and RepVGG-A0
                                                              # and B1g4 at full size (about 1 GB)

The modules below are written from the published descriptions, with the published names: RepVGG and
RepVGGplus (repvgg.py, repvggplus.py, se_block.py), RepOptimizer (repoptvgg_model.py) and QARepVGG
(repvgg.py). Weights are PyTorch's defaults, statistics and parameters of batch norms random, scale
layers random. The logits are those of images/photo.jpg in eval mode, in float64 from the f32
parameters: Resize, CenterCrop, ImageNet's mean and std.

cases.json   [{"file", "arch", "resize", "crop", "logits": [...]}, ...]
"""

import argparse
import json
import os
import struct
from collections import OrderedDict

import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torchvision import transforms

HERE = os.path.dirname(os.path.abspath(__file__))
PHOTO = os.path.join(HERE, "images", "photo.jpg")


class SE(nn.Module):
    """se_block.py with true global pooling."""

    def __init__(self, channels, hidden):
        super().__init__()
        self.down = nn.Conv2d(channels, hidden, 1)
        self.up = nn.Conv2d(hidden, channels, 1)

    def forward(self, x):
        gate = F.adaptive_avg_pool2d(x, 1)
        return x * torch.sigmoid(self.up(F.relu(self.down(gate))))


def conv_bn(ci, co, k, stride, groups):
    return nn.Sequential(OrderedDict([
        ("conv", nn.Conv2d(ci, co, k, stride, k // 2, groups=groups, bias=False)),
        ("bn", nn.BatchNorm2d(co)),
    ]))


class RepVGGBlock(nn.Module):
    def __init__(self, ci, co, stride, groups=1, se=0, post_se=0):
        super().__init__()
        if se:
            self.se = SE(co, co // se)
        if post_se:
            self.post_se = SE(co, co // post_se)
        if ci == co and stride == 1:
            self.rbr_identity = nn.BatchNorm2d(ci)
        self.rbr_dense = conv_bn(ci, co, 3, stride, groups)
        self.rbr_1x1 = conv_bn(ci, co, 1, stride, groups)

    def forward(self, x):
        y = self.rbr_dense(x) + self.rbr_1x1(x)
        if hasattr(self, "rbr_identity"):
            y = y + self.rbr_identity(x)
        y = F.relu(self.se(y) if hasattr(self, "se") else y)
        return self.post_se(y) if hasattr(self, "post_se") else y


class QARepVGGBlock(nn.Module):
    """y = relu(bn(bn(conv3x3(x)) + conv1x1(x) + x))"""

    def __init__(self, ci, co, stride, groups=1):
        super().__init__()
        self.bn = nn.BatchNorm2d(co)
        self.has_identity = ci == co and stride == 1
        self.rbr_dense = conv_bn(ci, co, 3, stride, groups)
        self.rbr_1x1 = nn.Conv2d(ci, co, 1, stride, groups=groups, bias=False)

    def forward(self, x):
        y = self.rbr_dense(x) + self.rbr_1x1(x)
        return F.relu(self.bn(y + x if self.has_identity else y))


class ScaleLayer(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(channels) * 2 - 0.2)

    def forward(self, x):
        return x * self.weight[None, :, None, None]


class RepOptBlock(nn.Module):
    """kind target, hs or csla (one form), repvgg: names of repoptvgg_model.py"""

    def __init__(self, ci, co, stride, kind, post_se=0):
        super().__init__()
        identity = ci == co and stride == 1
        self.kind = kind
        if kind == "repvgg":
            self.conv_3x3 = nn.Conv2d(ci, co, 3, stride, 1, bias=False)
            self.bn_3x3 = nn.BatchNorm2d(co)
            self.conv_1x1 = nn.Conv2d(ci, co, 1, stride, bias=False)
            self.bn_1x1 = nn.BatchNorm2d(co)
            if identity:
                self.bn_identity = nn.BatchNorm2d(ci)
        else:
            self.conv = nn.Conv2d(ci, co, 3, stride, 1, bias=False)
            self.bn = nn.BatchNorm2d(co)
            if kind != "target":
                self.conv_1x1 = nn.Conv2d(ci, co, 1, stride, bias=False)
                self.scale_conv = ScaleLayer(co)
                self.scale_1x1 = ScaleLayer(co)
                if identity:
                    self.scale_identity = ScaleLayer(co)
        if post_se:
            self.post_se = SE(co, co // post_se)

    def forward(self, x):
        if self.kind == "repvgg":
            y = self.bn_3x3(self.conv_3x3(x)) + self.bn_1x1(self.conv_1x1(x))
            if hasattr(self, "bn_identity"):
                y = y + self.bn_identity(x)
        elif self.kind == "target":
            y = self.bn(self.conv(x))
        else:
            y = self.scale_conv(self.conv(x)) + self.scale_1x1(self.conv_1x1(x))
            if hasattr(self, "scale_identity"):
                y = y + self.scale_identity(x)
            y = self.bn(y)
        y = F.relu(y)
        return self.post_se(y) if hasattr(self, "post_se") else y


class Wrapped(nn.Module):
    """RepVGGplus keeps a stage's blocks under .blocks"""

    def __init__(self, blocks):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class Net(nn.Module):
    """block(ci, co, stride, layer) -> module; plus: RepVGGplus with its auxiliary heads, which evaluation
    does not run"""

    def __init__(self, depth, width, stride, classes, block, plus=False):
        super().__init__()
        self.stage0 = block(3, width[0], stride[0], 0)
        self.body, channels, layer = ["stage0"], width[0], 1

        def aux(name, channels):
            conv = conv_bn(channels, channels, 3, 2, 1)
            conv.add_module("relu", nn.ReLU())
            setattr(self, name, nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                                              nn.Linear(channels, classes)))

        for s in range(1, len(depth)):
            blocks = []
            for i in range(depth[s]):
                blocks.append(block(channels, width[s], stride[s] if i == 0 else 1, layer))
                channels, layer = width[s], layer + 1
            if not plus:
                self._stage("stage%d" % s, nn.Sequential(*blocks))
            elif s == len(depth) - 2:  # stage3 in two halves
                self._stage("stage%d_first" % s, Wrapped(blocks[:depth[s] // 2]))
                self._stage("stage%d_second" % s, Wrapped(blocks[depth[s] // 2:]))
                aux("stage%d_first_aux" % s, channels)
            else:
                self._stage("stage%d" % s, Wrapped(blocks))
                if s < len(depth) - 1:
                    aux("stage%d_aux" % s, channels)
        self.linear = nn.Linear(channels, classes)

    def _stage(self, name, stage):
        setattr(self, name, stage)
        self.body.append(name)

    def forward(self, x):
        for name in self.body:
            x = getattr(self, name)(x)
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))


def randomize(net, image):
    """Random batch norms about the statistics of one image, so that values keep their size."""
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        nn.init.uniform_(norm.weight, 0.3, 1.5)
        nn.init.uniform_(norm.bias, -0.5, 0.5)
    with torch.no_grad():
        net.train()(torch.cat([image, image.flip(3)]).float())
    for norm in norms:
        norm.running_mean += norm.running_var.sqrt() * torch.empty_like(norm.running_mean).uniform_(-0.3, 0.3)
        norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.5, 2.0)
        norm.num_batches_tracked.fill_(1234)


# ---- containers ----

TIMM = [("rbr_dense", "conv_kxk"), ("rbr_1x1", "conv_1x1"), ("rbr_identity", "identity"),
        (".se.down", ".attn.fc1"), (".se.up", ".attn.fc2"), ("linear.", "head.fc.")]


def timm_name(name):
    parts = name.split(".")
    if parts[0] == "stage0":
        parts[0] = "stem"
    elif parts[0].startswith("stage"):
        parts[0] = "stages.%d" % (int(parts[0][5:]) - 1)
    name = ".".join(parts)
    for official, timm in TIMM:
        name = name.replace(official, timm)
    return name


def save_safetensors(state, path):
    kinds = {torch.float32: "F32", torch.int64: "I64"}
    header, data = {}, b""
    for name, tensor in sorted(state.items()):
        raw = tensor.contiguous().numpy().tobytes()
        header[name] = {"dtype": kinds[tensor.dtype], "shape": list(tensor.shape),
                        "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def prefixed(state):
    return OrderedDict(("module." + name, tensor) for name, tensor in state.items())


CONTAINERS = {
    "zip": (".pth", lambda state, path: torch.save(state, path)),
    "legacy": (".pth", lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False)),
    "module": (".pth.tar", lambda state, path: torch.save(
        {"epoch": 3, "arch": "x", "state_dict": prefixed(state), "best_acc1": 71.5,
         "optimizer": {"state": {}, "param_groups": [{"lr": 0.1, "params": [0, 1]}]}}, path)),
    "nested": (".pth", lambda state, path: torch.save(
        {"model": {"state_dict": prefixed(state)}, "config": argparse.Namespace(lr=0.1)}, path)),
    "timm": (".safetensors", lambda state, path: save_safetensors(
        {timm_name(name): tensor for name, tensor in state.items()}, path)),
}

# ---- networks ----

SMALL = {"depth": [1, 2, 2], "width": [8, 8, 12], "stride": [2, 1, 2], "classes": 5}
PLUS = {"depth": [1, 1, 2, 1], "width": [8, 8, 12, 16], "stride": [2, 2, 1, 2], "classes": 5}


def described(sizes, extra=""):
    join = lambda values: ",".join(map(str, values))
    return "repvgg:depth=%s;width=%s;stride=%s;classes=%d%s" % (
        join(sizes["depth"]), join(sizes["width"]), join(sizes["stride"]), sizes["classes"], extra)


PLUS_DESCRIBED = ("repvgg:depth=1,1,1,1,1;width=8,8,12,12,16;stride=2,2,1,1,2;classes=5;se=post/4;aux=1,2;"
                  "names=stage0,stage1.blocks,stage2_first.blocks,stage2_second.blocks,stage3.blocks")


def grouped(groups):
    return lambda ci, co, stride, layer: RepVGGBlock(
        ci, co, stride, groups if layer >= 2 and layer % 2 == 0 else 1)


def repopt(kind, post_se=0):
    return lambda ci, co, stride, layer: RepOptBlock(ci, co, stride, kind, post_se)


KINDS = {  # name: (sizes, block, RepVGGplus, description)
    "repvgg": (SMALL, grouped(1), False, ""),
    "grouped": (SMALL, grouped(2), False, ";groups=2"),
    "pre_se": (SMALL, lambda ci, co, s, layer: RepVGGBlock(ci, co, s, se=4), False, ";se=pre/4"),
    "post_se": (SMALL, lambda ci, co, s, layer: RepVGGBlock(ci, co, s, post_se=4), False, ";se=post/4"),
    "plus": (PLUS, lambda ci, co, s, layer: RepVGGBlock(ci, co, s, post_se=4), True, None),
    "qarepvgg": (SMALL, lambda ci, co, s, layer: QARepVGGBlock(ci, co, s), False, ";block=qarepvgg"),
    "target": (SMALL, repopt("target"), False, ";block=target"),
    "target_se": (SMALL, repopt("target", 4), False, ";block=target;se=post/4"),
    "hs": (SMALL, repopt("hs"), False, ";block=hs"),
    "csla": (SMALL, repopt("csla"), False, ";block=csla"),
    "repopt_repvgg": (SMALL, repopt("repvgg"), False, ";block=repopt-repvgg"),
}
HAS_TIMM_NAMES = ("repvgg", "grouped", "pre_se")

A0 = {"depth": [1, 2, 4, 14, 1], "width": [48, 48, 96, 192, 1280], "stride": [2] * 5, "classes": 1000}
B1 = {"depth": [1, 4, 6, 16, 1], "width": [64, 128, 256, 512, 2048], "stride": [2] * 5, "classes": 1000}


def photograph(resize, crop):
    image = Image.open(PHOTO).convert("RGB")
    pixels = transforms.Compose([transforms.Resize(resize), transforms.CenterCrop(crop),
                                 transforms.PILToTensor()])(image).double() / 255
    mean = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64).view(3, 1, 1)
    return ((pixels - mean) / std)[None]


def write(out, cases, name, arch, net, containers, resize, crop):
    image = photograph(resize, crop)
    randomize(net, image)
    state = net.eval().state_dict()
    for container in containers:
        suffix, save = CONTAINERS[container]
        file = "%s_%s%s" % (name, container, suffix)
        save(state, os.path.join(out, file))
        cases.append({"file": file, "arch": arch, "resize": resize, "crop": crop})
    with torch.no_grad():
        logits = net.double()(image)[0].tolist()
    for case in cases[-len(containers):]:
        case["logits"] = [float("%.9g" % logit) for logit in logits]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--all", metavar="DIR")
    arguments = parser.parse_args()
    out = arguments.all or os.path.join(HERE, "checkpoints")
    os.makedirs(out, exist_ok=True)
    torch.manual_seed(1)
    cases = []
    for i, (name, (sizes, block, plus, extra)) in enumerate(KINDS.items()):
        net = Net(sizes["depth"], sizes["width"], sizes["stride"], sizes["classes"], block, plus)
        fitting = [c for c in CONTAINERS if c != "timm" or name in HAS_TIMM_NAMES]
        some = fitting if name == "repvgg" else [fitting[i % len(fitting)]]
        arch = PLUS_DESCRIBED if plus else described(sizes, extra)
        write(out, cases, name, arch, net, fitting if arguments.all else some, 256, 224)
    if arguments.all:
        for name, sizes, groups in (("RepVGG-A0", A0, 1), ("RepVGG-B1g4", B1, 4)):
            net = Net(sizes["depth"], sizes["width"], sizes["stride"], sizes["classes"], grouped(groups))
            write(out, cases, name, name, net, list(CONTAINERS), 256, 224)
    with open(os.path.join(out, "cases.json"), "w") as file:
        json.dump(cases, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
