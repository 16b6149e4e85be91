#!/usr/bin/env python3
"""Write tests/golden/images/: small JPEGs, the pixels that PIL and torchvision make of them, and cases.h with the list.

Needs Pillow, numpy and torchvision; the files in the repository come from Pillow 9.4.0 (libjpeg-turbo 2.1.5),
torchvision 0.14.1 and numpy 1.24.

Usage: make_images.py [PHOTOGRAPHS]   With a folder of class folders of photographs, also writes photographs.h: the
CRC-32 of what Resize(256) and CenterCrop(224) make of each. The photographs themselves stay where they are.
"""
import io
import pathlib
import struct
import sys
import zlib

import numpy as np
import torchvision.transforms as transforms
import torchvision.transforms.functional as functional
from PIL import Image

OUT = pathlib.Path(__file__).parent / "images"
SOI, APP0, APP14, SOF0, SOS = 0xD8, 0xE0, 0xEE, 0xC0, 0xDA


def picture(seed, w, h, channels=3):
    """Smooth colours with edges and a little noise: compresses well and has something to blur."""
    random = np.random.RandomState(seed)
    y, x = np.mgrid[0:h, 0:w].astype(np.float64)
    planes = []
    for _ in range(channels):
        a, b, c, d = random.uniform(0.02, 0.3, 4)
        plane = 120 + 70 * np.sin(a * x + b * y) + 50 * np.sign(np.sin(c * x - d * y))
        planes.append(plane + random.normal(0, 6, (h, w)))
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)


def jpeg(pixels, mode="RGB", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if mode == "L" else pixels, mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def segments(data):
    """(marker, payload) of each segment up to the scan, then the scan's data."""
    found, at = [], 2
    while True:
        marker, size = data[at + 1], struct.unpack(">H", data[at + 2:at + 4])[0]
        found.append((marker, data[at + 4:at + 2 + size]))
        at += 2 + size
        if marker == SOS:
            return found, data[at:]


def join(found, scan):
    parts = [bytes([0xFF, SOI])]
    for marker, payload in found:
        parts.append(bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload)
    return b"".join(parts) + scan


def without(data, *markers):
    found, scan = segments(data)
    return join([s for s in found if s[0] not in markers], scan)


def with_adobe(data, transform):
    """The file with an Adobe marker that declares this colour transform, and no JFIF marker."""
    found, scan = segments(without(data, APP0, APP14))
    return join([(APP14, b"Adobe\0\x64\0\0\0\0" + bytes([transform]))] + found, scan)


def odd_sampling():
    """24x8, luma 3x1: sampling that TurboJPEG has no name for. One MCU, written by hand with the standard tables."""
    found, _ = segments(jpeg(np.full((8, 24, 3), 128, np.uint8), quality=75, subsampling=0))
    sof = dict(found)[SOF0]
    sof = sof[:7] + bytes([0x31]) + sof[8:]
    # luma: three blocks with DC differences +5, +6, -7 (category 3 = 100) and end of block 1010; chroma: 00 00 each
    bits = "100101" "1010" "100110" "1010" "100000" "1010" "0000" "0000"
    bits += "1" * (-len(bits) % 8)
    scan = bytes(int(bits[i:i + 8], 2) for i in range(0, len(bits), 8)) + b"\xff\xd9"
    return join([(m, sof if m == SOF0 else p) for m, p in found], scan)


EXIF_ROTATED = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"

SOURCES = {
    "photo": jpeg(picture(1, 200, 151), quality=80),
    "portrait": jpeg(picture(2, 90, 121), quality=85, subsampling=1),
    "full_chroma": jpeg(picture(3, 33, 17), quality=90, subsampling=0),
    "progressive": jpeg(picture(4, 64, 49), quality=75, progressive=True),
    "optimized": jpeg(picture(5, 40, 41), quality=30, optimize=True),
    "grey": jpeg(picture(6, 47, 31, 1), "L", quality=85),
    "cmyk": jpeg(picture(7, 29, 23, 4), "CMYK", quality=85),
    "cmyk_plain": without(jpeg(picture(8, 29, 23, 4), "CMYK", quality=85), APP14),
    "ycck": with_adobe(jpeg(picture(9, 31, 20, 4), "CMYK", quality=85), 2),
    "rgb_stored": with_adobe(jpeg(picture(10, 30, 21), quality=85, subsampling=0), 0),
    "rotated": jpeg(picture(11, 26, 18), quality=85, exif=EXIF_ROTATED),
    "odd_sampling": odd_sampling(),
    "pixel": jpeg(picture(12, 1, 1), quality=85),
    "tiny": jpeg(picture(13, 5, 3), quality=85),
    "wide": jpeg(picture(14, 700, 4), quality=70),
    "tall": jpeg(picture(15, 3, 500), quality=70),
}

# source, denominator
SCALED = [("photo", 2), ("photo", 4), ("photo", 8), ("grey", 2), ("cmyk", 2), ("progressive", 4)]

# source, box, output, window
RESIZES = [
    ("photo", (0, 0, 200, 151), (64, 48), (0, 0, 64, 48)),
    ("photo", (0, 0, 200, 151), (95, 72), (16, 4, 63, 64)),
    ("photo", (0, 0, 200, 151), (7, 5), (0, 0, 7, 5)),
    ("photo", (0, 0, 200, 151), (1, 1), (0, 0, 1, 1)),
    ("photo", (0, 0, 200, 151), (200, 60), (100, 10, 60, 50)),
    ("photo", (0, 0, 200, 151), (50, 151), (3, 91, 47, 60)),
    ("photo", (0, 0, 200, 151), (200, 151), (150, 120, 50, 31)),
    ("photo", (0, 0, 200, 151), (430, 330), (380, 290, 50, 40)),
    ("photo", (10.25, 20.5, 150.75, 119.125), (48, 40), (0, 0, 48, 40)),
    ("photo", (100, 50, 200, 151), (40, 40), (0, 0, 40, 40)),
    ("photo", (0, 0, 0.5, 0.25), (9, 6), (0, 0, 9, 6)),
    ("portrait", (0.1, 0.1, 89.9, 120.9), (31, 47), (1, 2, 29, 44)),
    ("pixel", (0, 0, 1, 1), (6, 4), (0, 0, 6, 4)),
    ("tiny", (0, 0, 5, 3), (17, 11), (0, 0, 17, 11)),
    ("tiny", (0, 0, 5, 3), (2, 2), (0, 0, 2, 2)),
    ("wide", (0, 0, 700, 4), (37, 33), (0, 0, 37, 33)),
    ("wide", (0, 0, 700, 4), (2, 1), (0, 0, 2, 1)),
    ("tall", (0, 0, 3, 500), (33, 37), (0, 0, 33, 37)),
]

# source, resize, size
EVALUATIONS = [
    ("photo", 64, 56), ("photo", 71, 64), ("photo", 69, 64), ("photo", 151, 64), ("photo", 40, 48), ("photo", 40, 60),
    ("portrait", 50, 43), ("portrait", 33, 33), ("grey", 33, 24), ("cmyk", 26, 24), ("rotated", 20, 15),
    ("pixel", 5, 9), ("tiny", 7, 10), ("tiny", 32, 32), ("wide", 8, 8), ("wide", 3, 16), ("tall", 8, 9),
]

# source, x, y, w, h, size
RESIZED_CROPS = [
    ("photo", 20, 31, 110, 87, 48), ("photo", 0, 0, 200, 151, 40), ("photo", 199, 150, 1, 1, 8), ("photo", 150, 100, 50, 51, 50),
    ("grey", 3, 2, 30, 29, 32),
]


def load(name, scale=1):
    image = Image.open(io.BytesIO(SOURCES[name]))
    if scale > 1:
        image.draft("RGB" if image.mode == "RGB" else image.mode, (image.width // scale, image.height // scale))
    return image.convert("RGB")


def write(name, image):
    (OUT / f"{name}.rgb").write_bytes(np.asarray(image).tobytes())


def numbers(*values):
    return [format(v, "g") for v in values]


def write_header(name, tables):
    """tables: (comment, macro, rows) each; a row is the arguments of X."""
    guard = f"RQ_TESTS_GOLDEN_IMAGES_{name.upper()}_H"
    lines = ["/* Written by make_images.py. */", "/* clang-format off */", f"#ifndef {guard}", f"#define {guard}", ""]
    for comment, macro, rows in tables:
        lines += [f"/* {comment} */", f"#define {macro}(X) \\"]
        lines += [f"    X({', '.join(row)}) \\" for row in rows[:-1]]
        lines += [f"    X({', '.join(rows[-1])})", ""]
    lines.append("#endif")
    (OUT / f"{name}.h").write_text("\n".join(lines) + "\n")


def write_photographs(folder):
    both = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    rows = []
    for path in sorted(folder.glob("*/*")):
        pixels = np.asarray(both(Image.open(path).convert("RGB"))).tobytes()
        rows.append([f'"{path.relative_to(folder)}"', f"0x{zlib.crc32(pixels):08x}u"])
    write_header("photographs", [("path, CRC-32 of u8 [224, 224, 3]", "PHOTOGRAPHS", rows)])


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for old in [*OUT.glob("*.jpg"), *OUT.glob("*.rgb")]:
        old.unlink()
    tables = []

    def table(comment, macro, rows):
        tables.append((comment, macro, rows))

    rows = []
    for name, data in SOURCES.items():
        (OUT / f"{name}.jpg").write_bytes(data)
        image = load(name)
        write(name, image)
        rows.append([f'"{name}"', f'"{name}"', "1"] + numbers(*image.size))
    for name, scale in SCALED:
        image = load(name, scale)
        write(f"{name}_{scale}th", image)
        rows.append([f'"{name}_{scale}th"', f'"{name}"'] + numbers(scale, *image.size))
    table("result, source, scale denominator, w, h", "DECODE_CASES", rows)

    rows = []
    for i, (name, box, size, (x, y, w, h)) in enumerate(RESIZES):
        image = load(name).resize(size, Image.Resampling.BILINEAR, box).crop((x, y, x + w, y + h))
        write(f"resize_{i}", image)
        rows.append([f'"resize_{i}"', f'"{name}"'] + numbers(*box, *size, x, y, w, h))
    table("result, source, box x0, y0, x1, y1, output w, h, window x, y, w, h", "RESIZE_CASES", rows)

    rows = []
    for i, (name, resize, size) in enumerate(EVALUATIONS):
        both = transforms.Compose([transforms.Resize(resize), transforms.CenterCrop(size)])
        write(f"evaluation_{i}", both(load(name)))
        rows.append([f'"evaluation_{i}"', f'"{name}"'] + numbers(resize, size))
    table("result, source, resize, size", "EVALUATION_CASES", rows)

    rows = []
    for i, (name, x, y, w, h, size) in enumerate(RESIZED_CROPS):
        write(f"crop_{i}", functional.resized_crop(load(name), y, x, h, w, [size, size]))
        rows.append([f'"crop_{i}"', f'"{name}"'] + numbers(x, y, w, h, size))
    table("result, source, crop x, y, w, h, size", "RESIZED_CROP_CASES", rows)

    write_header("cases", tables)
    if len(sys.argv) > 1:
        write_photographs(pathlib.Path(sys.argv[1]))


if __name__ == "__main__":
    main()
