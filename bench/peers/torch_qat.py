#!/usr/bin/python3
"""Times training steps of PyTorch (eager mode, CPU) on RepVGG-A0 in its merged form: convolution,
batch norm, ReLU.

    torch_qat.py BATCH SIDE [STEPS]

Prints lines "name value":

    torch_fp32   images/s of an FP32 step: forward, cross entropy, backward, SGD with momentum
    torch_qat    the same of the network fused and prepared for quantization-aware training by
                 PyTorch's default settings for x86 ('fbgemm': weights per channel, activations by
                 moving averages of their range)
    torch_mb     the most memory that the process held, in MB

Each speed is that of the median of STEPS steps (default 4), after one to warm up. Threads:
OMP_NUM_THREADS (default: all CPUs). Pixels and labels are random. Needs Debian's python3-torch
(1.13).
"""
import os
import resource
import sys
import time
import warnings

import torch
from torch import nn
from torch.ao import quantization

DEPTHS, WIDTHS, CLASSES = (1, 2, 4, 14, 1), (48, 48, 96, 192, 1280), 1000


class ConvBnRelu(nn.Module):
    def __init__(self, channels, width, stride):
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(self.bn(self.conv(x)))


class RepVggA0(nn.Module):
    def __init__(self):
        super().__init__()
        blocks, channels = [], 3
        for depth, width in zip(DEPTHS, WIDTHS):
            for i in range(depth):
                blocks.append(ConvBnRelu(channels, width, 2 if i == 0 else 1))
                channels = width
        self.quant = quantization.QuantStub()
        self.body = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(channels, CLASSES)
        self.dequant = quantization.DeQuantStub()

    def forward(self, x):
        return self.dequant(self.linear(torch.flatten(self.pool(self.body(self.quant(x))), 1)))


def prepared_for_qat():
    model = RepVggA0()
    model.train()
    for block in model.body:
        quantization.fuse_modules_qat(block, ['conv', 'bn', 'relu'], inplace=True)
    model.qconfig = quantization.get_default_qat_qconfig('fbgemm')
    return quantization.prepare_qat(model, inplace=True)


def images_per_second(model, batch, side, steps):
    images, labels = torch.randn(batch, 3, side, side), torch.randint(0, CLASSES, (batch,))
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)
    model.train()
    times = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        times.append(time.perf_counter() - start)
    return batch / sorted(times[1:])[steps // 2]


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit('usage: torch_qat.py BATCH SIDE [STEPS]')
    batch, side = int(sys.argv[1]), int(sys.argv[2])
    steps = int(sys.argv[3]) if len(sys.argv) == 4 else 4
    warnings.filterwarnings('ignore')  # of quantization settings that are going to change
    torch.set_num_threads(int(os.environ.get('OMP_NUM_THREADS', os.cpu_count())))
    torch.manual_seed(0)
    print('# with PyTorch', torch.__version__)
    print(f'torch_fp32 {images_per_second(RepVggA0(), batch, side, steps):.2f}', flush=True)
    print(f'torch_qat {images_per_second(prepared_for_qat(), batch, side, steps):.2f}')
    print(f'torch_mb {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.1f}')


main()
