#!/usr/bin/env python3
"""Golden tensors from PyTorch for the tests of training and quantization.

    python3 tests/golden/make_torch.py      # needs torch 1.13; rewrites torch/*.safetensors here

Regenerating is a reviewed step: the files are part of the tests. Each file is a safetensors
container whose __metadata__ holds the command, the torch version and the constants of its cases.
Activations and their gradients are [N, H, W, C], weights PyTorch's [OC, IC/G, KH, KW]; integers are
exact. "d." is the gradient of the loss. What is not said to be f32 was computed in float64 from f32
inputs and rounded once at the end, so it is closer to the truth than any f32 implementation.

conv_bn.safetensors     y = relu(bn(conv(x))) in training mode, loss = sum(y * r), for the cases
    k3s1, k3s2, k3g2, k1s1; stride, pad and groups stand in the metadata under the case's name.
    in:  CASE.{x,weight,gamma,beta,mean,var,r}
    out: CASE.{y,d.x,d.weight,d.gamma,d.beta}, and the running statistics afterwards,
         CASE.{new_mean,new_var}

block.safetensors       training-form RepVGG, parameters by state_dict name
    block.*  one block 6 -> 6 with all three branches, loss = sum(y * r).
             in: x, r, init.NAME; out: y, d.x, d.NAME, and the buffers afterwards, after.NAME
    net.*    repvgg:depth=1,1,1;width=8,8,16;stride=1,1,2;classes=5 on net.pixels u8
             [4, 12, 12, 3], normalised (p / 255 - mean) / std with ImageNet's numbers, and
             net.labels s64, from net.init.NAME.
             net.LOSS.*, LOSS = plain or smooth (label smoothing 0.1): logits, loss and d.NAME of
             the first step; after1.NAME and after3.NAME, parameters and buffers after one and
             three SGD steps on this batch (lr 0.1, momentum 0.9, weight decay 1e-4 on tensors of
             two or more dimensions, no Nesterov)

fake_quant.safetensors  f32 throughout: fake_quantize_per_tensor_affine (0..255, zero point 0) in
    the cases pow2, where every tie is exact, and odd; fake_quantize_per_channel_affine (-127..127,
    axis 0) in the case channel.
    in: CASE.{x,scale,g}; out: CASE.{y,d.x}, d.x the straight-through gradient of sum(y * g)

qat_block.safetensors   f32 throughout: torch's fused QAT module ConvBnReLU2d and an activation
    quantizer behind it, in the cases train (batch statistics) and frozen (running statistics).
    The input is quantized already: x = s_x * q_x. Weight scale = max |w * gamma / sigma| / 127 per
    channel, q in -127..127; the activation's scale is that of its first batch, max / 255.
    loss = sum(y * r). No weight and no activation is nearer than MARGIN steps to a tie, so the
    integers do not depend on rounding in between.
    in:  q_x u8, s_x, weight, gamma, beta, mean, var, r
    out: CASE.{s_w,s_y,pre,y,d.x,d.weight,d.gamma,d.beta,new_mean,new_var}, pre being relu's output
         before the quantizer
"""

import json
import os
import struct
import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.intrinsic.qat import ConvBnReLU2d
from torch.ao.quantization import (FakeQuantize, MovingAverageMinMaxObserver,
                                   PerChannelMinMaxObserver, QConfig)

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "torch")
EPS = 1e-5
MARGIN = 1e-3
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
DTYPES = {np.dtype("<f4"): "F32", np.dtype("u1"): "U8", np.dtype("<i8"): "I64"}


def save(name, tensors, **metadata):
    """Write a safetensors file: 8 bytes of header length, a JSON header, raw little-endian data."""
    header = {"__metadata__": {"command": "python3 tests/golden/make_torch.py",
                               "torch": torch.__version__, **metadata}}
    blobs, offset = [], 0
    for key, value in tensors.items():
        array = value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        if array.dtype == np.float64:
            array = array.astype("<f4")
        blob = np.ascontiguousarray(array).tobytes()
        header[key] = {"dtype": DTYPES[array.dtype], "shape": list(array.shape),
                       "data_offsets": [offset, offset + len(blob)]}
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(OUT, name), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def nhwc(x):
    return x.permute(0, 2, 3, 1)


def f32_normal(*shape):
    """Random values that f32 holds exactly, as float64."""
    return torch.randn(*shape, dtype=torch.float32).double()


def f32_uniform(low, high, n):
    return (low + (high - low) * torch.rand(n, dtype=torch.float32)).double()


# ---- conv + batch norm + relu ----

def conv_bn_case(kernel, stride, pad, groups, ic, oc):
    conv = nn.Conv2d(ic, oc, kernel, stride, pad, groups=groups, bias=False).double()
    bn = nn.BatchNorm2d(oc, eps=EPS).double()
    conv.weight.data = 0.3 * f32_normal(*conv.weight.shape)
    conv.weight.data = conv.weight.data.float().double()
    bn.weight.data, bn.bias.data = f32_uniform(0.5, 1.5, oc), f32_uniform(-0.5, 0.5, oc)
    bn.running_mean, bn.running_var = f32_uniform(-1, 1, oc), f32_uniform(0.5, 2, oc)
    out = {"weight": conv.weight, "gamma": bn.weight, "beta": bn.bias,
           "mean": bn.running_mean.clone(), "var": bn.running_var.clone()}
    x = f32_normal(2, ic, 7, 9).requires_grad_()
    y = F.relu(bn(conv(x)))
    r = f32_normal(*y.shape)
    (y * r).sum().backward()
    out.update({"x": nhwc(x), "r": nhwc(r), "y": nhwc(y), "d.x": nhwc(x.grad),
                "d.weight": conv.weight.grad, "d.gamma": bn.weight.grad, "d.beta": bn.bias.grad,
                "new_mean": bn.running_mean, "new_var": bn.running_var})
    return out


def make_conv_bn():
    cases = {"k3s1": (3, 1, 1, 1, 3, 8), "k3s2": (3, 2, 1, 1, 5, 7), "k3g2": (3, 1, 1, 2, 6, 8),
             "k1s1": (1, 1, 0, 1, 7, 5)}
    tensors, metadata = {}, {"eps": str(EPS), "momentum": "0.1"}
    for name, (kernel, stride, pad, groups, ic, oc) in cases.items():
        case = conv_bn_case(kernel, stride, pad, groups, ic, oc)
        tensors.update({f"{name}.{key}": value for key, value in case.items()})
        metadata[name] = f"kernel={kernel} stride={stride} pad={pad} groups={groups}"
    save("conv_bn.safetensors", tensors, **metadata)


# ---- RepVGG, training form ----

def conv_bn(ic, oc, kernel, stride, pad):
    layer = nn.Sequential()
    layer.add_module("conv", nn.Conv2d(ic, oc, kernel, stride, pad, bias=False))
    layer.add_module("bn", nn.BatchNorm2d(oc, eps=EPS))
    return layer


class Block(nn.Module):
    def __init__(self, ic, oc, stride):
        super().__init__()
        self.rbr_identity = nn.BatchNorm2d(ic, eps=EPS) if ic == oc and stride == 1 else None
        self.rbr_dense = conv_bn(ic, oc, 3, stride, 1)
        self.rbr_1x1 = conv_bn(ic, oc, 1, stride, 0)

    def forward(self, x):
        y = self.rbr_dense(x) + self.rbr_1x1(x)
        return F.relu(y if self.rbr_identity is None else y + self.rbr_identity(x))


class Net(nn.Module):
    """repvgg:depth=1,1,1;width=8,8,16;stride=1,1,2;classes=5"""

    def __init__(self):
        super().__init__()
        self.stage0 = Block(3, 8, 1)
        self.stage1 = nn.Sequential(Block(8, 8, 1))
        self.stage2 = nn.Sequential(Block(8, 16, 2))
        self.linear = nn.Linear(16, 5)

    def forward(self, x):
        x = self.stage2(self.stage1(self.stage0(x)))
        return self.linear(x.mean(dim=(2, 3)))


def randomize_bn(module):
    for bn in module.modules():
        if isinstance(bn, nn.BatchNorm2d):
            n = bn.num_features
            bn.weight.data, bn.bias.data = f32_uniform(0.5, 1.5, n), f32_uniform(-0.5, 0.5, n)


def state(prefix, module):
    return {prefix + name: value.clone() for name, value in module.state_dict().items()}


def grads(prefix, module):
    return {prefix + name: p.grad.clone() for name, p in module.named_parameters()}


def make_one_block():
    block = Block(6, 6, 1).double()
    block.load_state_dict({k: v.float().double() if v.is_floating_point() else v
                           for k, v in block.state_dict().items()})
    randomize_bn(block)
    x = f32_normal(3, 6, 5, 7).requires_grad_()
    tensors = state("block.init.", block)
    y = block(x)
    r = f32_normal(*y.shape)
    (y * r).sum().backward()
    tensors.update({"block.x": nhwc(x), "block.r": nhwc(r), "block.y": nhwc(y),
                    "block.d.x": nhwc(x.grad)})
    tensors.update(grads("block.d.", block))
    after = state("block.after.", block)
    tensors.update({key: after[key] for key in after if "running" in key or "tracked" in key})
    return tensors


def train_steps(initial, x, labels, smoothing, prefix):
    net = Net().double()
    net.load_state_dict(initial)
    decay = [p for p in net.parameters() if p.dim() >= 2]
    rest = [p for p in net.parameters() if p.dim() < 2]
    sgd = torch.optim.SGD([{"params": decay, "weight_decay": 1e-4}, {"params": rest}], lr=0.1,
                          momentum=0.9)
    tensors = {}
    for step in range(1, 4):
        logits = net(x)
        loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        sgd.zero_grad()
        loss.backward()
        if step == 1:
            tensors.update({prefix + "logits": logits, prefix + "loss": loss.reshape(1)})
            tensors.update(grads(prefix + "d.", net))
        sgd.step()
        if step in (1, 3):
            tensors.update(state(f"{prefix}after{step}.", net))
    return tensors


def make_block():
    tensors = make_one_block()
    net = Net()
    randomize_bn(net)
    initial = {k: v.float().double() if v.is_floating_point() else v
               for k, v in net.state_dict().items()}
    tensors.update({"net.init." + key: value for key, value in initial.items()})
    pixels = torch.randint(0, 256, (4, 12, 12, 3), dtype=torch.uint8)
    labels = torch.tensor([3, 0, 4, 1])
    mean, std = torch.tensor(MEAN).double(), torch.tensor(STD).double()
    x = ((pixels.double() / 255 - mean) / std).permute(0, 3, 1, 2)
    tensors.update({"net.pixels": pixels, "net.labels": labels})
    for name, smoothing in (("plain", 0.0), ("smooth", 0.1)):
        tensors.update(train_steps(initial, x, labels, smoothing, f"net.{name}."))
    save("block.safetensors", tensors,
         arch="repvgg:depth=1,1,1;width=8,8,16;stride=1,1,2;classes=5",
         eps=str(EPS), lr="0.1", momentum="0.9", weight_decay="1e-4", label_smoothing="0.1")


# ---- fake quantization ----

def fake_quant_case(x, scale, quantize):
    x = x.clone().requires_grad_()
    g = torch.randn_like(x)
    y = quantize(x)
    (y * g).sum().backward()
    return {"x": x, "scale": scale.reshape(-1), "g": g, "y": y, "d.x": x.grad}


def make_fake_quant():
    tensors = {}
    ties = (torch.arange(-8, 520, dtype=torch.float32) / 2 + 0.5).reshape(1, -1) / 2
    for name, scale in (("pow2", 0.5), ("odd", 0.0123)):
        scale = torch.tensor(scale, dtype=torch.float32)
        spread = torch.randn(1, 400, dtype=torch.float32) * 150 * scale
        x = torch.cat([ties * (scale / 0.5), spread, torch.tensor([[0.0, -0.0, 1e6, -1e6]])], 1)
        case = fake_quant_case(x, scale, lambda v, s=scale: torch.fake_quantize_per_tensor_affine(
            v, float(s), 0, 0, 255))
        tensors.update({f"{name}.{key}": value for key, value in case.items()})
    scale = torch.tensor([0.5, 0.0123, 2.0 ** -12, 3.7], dtype=torch.float32)
    steps = torch.cat([torch.arange(-130, 131, dtype=torch.float32) + 0.5,
                       torch.randn(199, dtype=torch.float32) * 80])
    x = scale.reshape(4, 1) * steps.reshape(1, -1)
    case = fake_quant_case(x, scale, lambda v: torch.fake_quantize_per_channel_affine(
        v, scale, torch.zeros(4, dtype=torch.int32), 0, -127, 127))
    tensors.update({f"channel.{key}": value for key, value in case.items()})
    save("fake_quant.safetensors", tensors)


# ---- one QAT layer ----

QCONFIG = QConfig(
    activation=FakeQuantize.with_args(observer=MovingAverageMinMaxObserver, quant_min=0,
                                      quant_max=255, dtype=torch.quint8,
                                      qscheme=torch.per_tensor_affine, averaging_constant=0.01),
    weight=FakeQuantize.with_args(observer=PerChannelMinMaxObserver, quant_min=-127, quant_max=127,
                                  dtype=torch.qint8, qscheme=torch.per_channel_symmetric))


def tie_distance(steps):
    """Distance of the nearest value to a tie, in steps."""
    steps = steps[steps.abs() < 300]
    return float((steps - torch.floor(steps) - 0.5).abs().min())


def qat_case(inputs, frozen):
    oc, ic = inputs["weight"].shape[:2]
    layer = ConvBnReLU2d(ic, oc, 3, padding=1, eps=EPS, momentum=0.1, qconfig=QCONFIG)
    quantizer = QCONFIG.activation()
    layer.weight.data = inputs["weight"].clone()
    layer.bn.weight.data, layer.bn.bias.data = inputs["gamma"].clone(), inputs["beta"].clone()
    layer.bn.running_mean = inputs["mean"].clone()
    layer.bn.running_var = inputs["var"].clone()
    layer.train()
    if frozen:
        layer.freeze_bn_stats()
    factor = layer.bn.weight / torch.sqrt(layer.bn.running_var + EPS)
    folded = layer.weight * factor.reshape(-1, 1, 1, 1)
    x = (inputs["q_x"].float() * inputs["s_x"]).permute(0, 3, 1, 2).contiguous().requires_grad_()
    pre = layer(x)
    y = quantizer(pre)
    (y * inputs["r"].permute(0, 3, 1, 2)).sum().backward()
    s_w, s_y = layer.weight_fake_quant.scale, quantizer.scale
    assert torch.all(quantizer.zero_point == 0)
    margin = min(tie_distance(folded / s_w.reshape(-1, 1, 1, 1)), tie_distance(pre[pre > 0] / s_y))
    return margin, {"s_w": s_w, "s_y": s_y.reshape(1), "pre": nhwc(pre), "y": nhwc(y),
                    "d.x": nhwc(x.grad), "d.weight": layer.weight.grad,
                    "d.gamma": layer.bn.weight.grad, "d.beta": layer.bn.bias.grad,
                    "new_mean": layer.bn.running_mean, "new_var": layer.bn.running_var}


def qat_inputs(seed):
    torch.manual_seed(seed)
    ic, oc = 4, 5
    return {"q_x": torch.randint(0, 256, (2, 5, 6, ic), dtype=torch.uint8),
            "s_x": torch.tensor([0.0234], dtype=torch.float32),
            "weight": 0.2 * torch.randn(oc, ic, 3, 3), "gamma": f32_uniform(0.5, 1.5, oc).float(),
            "beta": f32_uniform(-0.5, 0.5, oc).float(), "mean": f32_uniform(-1, 1, oc).float(),
            "var": f32_uniform(1, 4, oc).float(), "r": torch.randn(2, 5, 6, oc)}


def make_qat_block():
    for seed in range(1000):
        inputs = qat_inputs(seed)
        cases = {name: qat_case(inputs, name == "frozen") for name in ("train", "frozen")}
        if min(margin for margin, _ in cases.values()) > MARGIN:
            break
    else:
        sys.exit("no seed keeps its distance from ties")
    tensors = dict(inputs)
    for name, (_, case) in cases.items():
        tensors.update({f"{name}.{key}": value for key, value in case.items()})
    save("qat_block.safetensors", tensors, seed=str(seed), eps=str(EPS), momentum="0.1",
         averaging_constant="0.01", margin=str(MARGIN),
         attributes="kernel=3 stride=1 pad=1 groups=1")


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    os.makedirs(OUT, exist_ok=True)
    for make in (make_conv_bn, make_block, make_fake_quant, make_qat_block):
        torch.manual_seed(20240229)
        make()


if __name__ == "__main__":
    main()
