#!/usr/bin/python3
"""Times the usual preprocessing for ImageNet of torchvision (Pillow), in one process of one thread.

    torch_loader.py IMAGES

IMAGES: a folder with JPEG files, at any depth. All are read into memory first; decoding is part of
the time. Prints lines "name value", in images/s:

    torch_train   RandomResizedCrop(224), RandomHorizontalFlip, ToTensor, Normalize
    torch_eval    Resize(256), CenterCrop(224), ToTensor, Normalize

Each is the best of 3 passes over all files (the first warms up). Needs Debian's python3-torchvision
(0.14).
"""
import glob
import io
import os
import sys
import time

import PIL
import torch
import torchvision
from PIL import Image
from torchvision import transforms

PASSES = 3
NORMALIZE = [transforms.ToTensor(),
             transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
TRANSFORMS = {
    'torch_train': [transforms.RandomResizedCrop(224),
                    transforms.RandomHorizontalFlip()] + NORMALIZE,
    'torch_eval': [transforms.Resize(256), transforms.CenterCrop(224)] + NORMALIZE,
}


def images_per_second(files, transform):
    start = time.perf_counter()
    for data in files:
        transform(Image.open(io.BytesIO(data)).convert('RGB'))
    return len(files) / (time.perf_counter() - start)


def main():
    if len(sys.argv) != 2:
        sys.exit('usage: torch_loader.py IMAGES')
    paths = sorted(path for path in glob.glob(os.path.join(sys.argv[1], '**', '*'), recursive=True)
                   if path.lower().endswith(('.jpeg', '.jpg')))
    if not paths:
        sys.exit(f'torch_loader.py: no JPEG files in {sys.argv[1]}')
    files = []
    for path in paths:
        with open(path, 'rb') as file:
            files.append(file.read())
    torch.set_num_threads(1)
    print(f'# with torchvision {torchvision.__version__} and Pillow {PIL.__version__}')
    for name, steps in TRANSFORMS.items():
        transform = transforms.Compose(steps)
        best = max(images_per_second(files, transform) for _ in range(PASSES))
        print(f'{name} {best:.1f}', flush=True)


main()
