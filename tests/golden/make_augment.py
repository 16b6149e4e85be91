#!/usr/bin/env python3
"""Write tests/golden/augment/: small pictures, and cases.h with the CRC-32 of what PIL makes of them with each of
RandAugment's operations at each magnitude.

Needs Pillow and numpy; the files in the repository come from Pillow 9.4.0 and numpy 1.24. Also reads pictures of
tests/golden/images. The operations and their arguments are those of the published RepVGG recipe (preset "raug15").
"""
import pathlib
import zlib

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

GOLDEN = pathlib.Path(__file__).parent
OUT = GOLDEN / "augment"
MAGNITUDES = 15
GREY = (128, 128, 128)
INTERPOLATIONS = [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC]


def noise(w, h):
    """Levels that interpolation and sharpening drive over both ends."""
    random = np.random.RandomState(1)
    pixels = random.randint(0, 256, (h, w, 3))
    extreme = random.randint(0, 2, (h, w, 1)) * 255
    return np.where(random.randint(0, 2, (h, w, 1)), pixels, extreme)


def narrow(w, h):
    """Few levels in red, one in green, two in blue."""
    y, x = np.mgrid[0:h, 0:w]
    return np.stack([100 + (x * y) % 21, np.full((h, w), 77), np.where(x > y, 250, 3)], -1)


def ramp(w, h):
    """All levels, unevenly often."""
    i = np.arange(w * h).reshape(h, w)
    return np.stack([i % 256, (i * i // 97) % 256, np.minimum(i // 2, 255)], -1)


PICTURES = {"noise": noise(32, 32), "narrow": narrow(24, 20), "ramp": ramp(36, 22)}

# of tests/golden/images, with w and h
IMAGES = [("full_chroma", 33, 17), ("optimized", 40, 41), ("tiny", 5, 3), ("pixel", 1, 1)]


def affine(image, matrix, resample):
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample, fillcolor=GREY)


def moves(image, maximum, m, move):
    """Both signs, both interpolations."""
    for sign in (1, -1):
        for resample in INTERPOLATIONS:
            yield move(image, sign * (m / 10.0) * maximum, resample)


def solarize_add(image, added):
    return image.point([min(255, i + added) if i < 128 else i for i in range(256)] * 3)


def cutouts(image, side):
    """Centres in both corners and in between."""
    w, h = image.size
    for x, y in ((0, 0), (w - 1, h - 1), (w // 2, h // 3)):
        out = image.copy()
        box = (max(0, x - side // 2), max(0, y - side // 2), min(w, x + side // 2), min(h, y + side // 2))
        out.paste((125, 122, 113), box)
        yield out


def enhance(kind):
    return lambda image, m: [kind(image).enhance((m / 10.0) * 1.8 + 0.1)]


# operation -> the variants of one magnitude
OPERATIONS = {
    "AUTO_CONTRAST": lambda image, m: [ImageOps.autocontrast(image)],
    "EQUALIZE": lambda image, m: [ImageOps.equalize(image)],
    "INVERT": lambda image, m: [ImageOps.invert(image)],
    "ROTATE": lambda image, m: moves(image, 30.0, m, lambda i, v, r: i.rotate(v, r, fillcolor=GREY)),
    "POSTERIZE": lambda image, m: [ImageOps.posterize(image, int((m / 10.0) * 4))],
    "SOLARIZE": lambda image, m: [ImageOps.solarize(image, int((m / 10.0) * 256))],
    "SOLARIZE_ADD": lambda image, m: [solarize_add(image, int((m / 10.0) * 110))],
    "COLOR": enhance(ImageEnhance.Color),
    "CONTRAST": enhance(ImageEnhance.Contrast),
    "BRIGHTNESS": enhance(ImageEnhance.Brightness),
    "SHARPNESS": enhance(ImageEnhance.Sharpness),
    "SHEAR_X": lambda image, m: moves(image, 0.3, m, lambda i, v, r: affine(i, (1, v, 0, 0, 1, 0), r)),
    "SHEAR_Y": lambda image, m: moves(image, 0.3, m, lambda i, v, r: affine(i, (1, 0, 0, v, 1, 0), r)),
    "TRANSLATE_X": lambda image, m: moves(image, 0.45, m, lambda i, v, r: affine(i, (1, 0, v * i.width, 0, 1, 0), r)),
    "TRANSLATE_Y": lambda image, m: moves(image, 0.45, m, lambda i, v, r: affine(i, (1, 0, 0, 0, 1, v * i.height), r)),
    "CUTOUT": lambda image, m: cutouts(image, int(max(2, (m / 10.0) * 40.0))),
}


def checksum(variants):
    return zlib.crc32(b"".join(v.tobytes() for v in variants))


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    sources, rows = [], []
    for name, pixels in PICTURES.items():
        (OUT / f"{name}.rgb").write_bytes(pixels.astype(np.uint8).tobytes())
        sources.append((f"augment/{name}", pixels.shape[1], pixels.shape[0]))
    sources += [(f"images/{name}", w, h) for name, w, h in IMAGES]
    for path, w, h in sources:
        image = Image.frombytes("RGB", (w, h), (GOLDEN / f"{path}.rgb").read_bytes())
        for op, variants in OPERATIONS.items():
            crcs = [checksum(variants(image, m)) for m in range(MAGNITUDES)]
            rows.append(f'"{path}", {w}, {h}, {op}, ' + ", ".join(f"0x{crc:08x}u" for crc in crcs))
    lines = ["/* Written by make_augment.py. */", "/* clang-format off */", "#ifndef RQ_TESTS_GOLDEN_AUGMENT_CASES_H",
             "#define RQ_TESTS_GOLDEN_AUGMENT_CASES_H", "",
             "/* source, w, h, operation, CRC-32 of its variants, one after the other, at magnitudes 0 to 14 */",
             "#define AUGMENT_CASES(X) \\"]
    lines += [f"    X({row}) \\" for row in rows[:-1]] + [f"    X({rows[-1]})", "", "#endif"]
    (OUT / "cases.h").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
