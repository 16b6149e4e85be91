/* Written by make_images.py. */
/* clang-format off */
#ifndef RQ_TESTS_GOLDEN_IMAGES_CASES_H
#define RQ_TESTS_GOLDEN_IMAGES_CASES_H

/* result, source, scale denominator, w, h */
#define DECODE_CASES(X) \
    X("photo", "photo", 1, 200, 151) \
    X("portrait", "portrait", 1, 90, 121) \
    X("full_chroma", "full_chroma", 1, 33, 17) \
    X("progressive", "progressive", 1, 64, 49) \
    X("optimized", "optimized", 1, 40, 41) \
    X("grey", "grey", 1, 47, 31) \
    X("cmyk", "cmyk", 1, 29, 23) \
    X("cmyk_plain", "cmyk_plain", 1, 29, 23) \
    X("ycck", "ycck", 1, 31, 20) \
    X("rgb_stored", "rgb_stored", 1, 30, 21) \
    X("rotated", "rotated", 1, 26, 18) \
    X("odd_sampling", "odd_sampling", 1, 24, 8) \
    X("pixel", "pixel", 1, 1, 1) \
    X("tiny", "tiny", 1, 5, 3) \
    X("wide", "wide", 1, 700, 4) \
    X("tall", "tall", 1, 3, 500) \
    X("photo_2th", "photo", 2, 100, 76) \
    X("photo_4th", "photo", 4, 50, 38) \
    X("photo_8th", "photo", 8, 25, 19) \
    X("grey_2th", "grey", 2, 24, 16) \
    X("cmyk_2th", "cmyk", 2, 15, 12) \
    X("progressive_4th", "progressive", 4, 16, 13)

/* result, source, box x0, y0, x1, y1, output w, h, window x, y, w, h */
#define RESIZE_CASES(X) \
    X("resize_0", "photo", 0, 0, 200, 151, 64, 48, 0, 0, 64, 48) \
    X("resize_1", "photo", 0, 0, 200, 151, 95, 72, 16, 4, 63, 64) \
    X("resize_2", "photo", 0, 0, 200, 151, 7, 5, 0, 0, 7, 5) \
    X("resize_3", "photo", 0, 0, 200, 151, 1, 1, 0, 0, 1, 1) \
    X("resize_4", "photo", 0, 0, 200, 151, 200, 60, 100, 10, 60, 50) \
    X("resize_5", "photo", 0, 0, 200, 151, 50, 151, 3, 91, 47, 60) \
    X("resize_6", "photo", 0, 0, 200, 151, 200, 151, 150, 120, 50, 31) \
    X("resize_7", "photo", 0, 0, 200, 151, 430, 330, 380, 290, 50, 40) \
    X("resize_8", "photo", 10.25, 20.5, 150.75, 119.125, 48, 40, 0, 0, 48, 40) \
    X("resize_9", "photo", 100, 50, 200, 151, 40, 40, 0, 0, 40, 40) \
    X("resize_10", "photo", 0, 0, 0.5, 0.25, 9, 6, 0, 0, 9, 6) \
    X("resize_11", "portrait", 0.1, 0.1, 89.9, 120.9, 31, 47, 1, 2, 29, 44) \
    X("resize_12", "pixel", 0, 0, 1, 1, 6, 4, 0, 0, 6, 4) \
    X("resize_13", "tiny", 0, 0, 5, 3, 17, 11, 0, 0, 17, 11) \
    X("resize_14", "tiny", 0, 0, 5, 3, 2, 2, 0, 0, 2, 2) \
    X("resize_15", "wide", 0, 0, 700, 4, 37, 33, 0, 0, 37, 33) \
    X("resize_16", "wide", 0, 0, 700, 4, 2, 1, 0, 0, 2, 1) \
    X("resize_17", "tall", 0, 0, 3, 500, 33, 37, 0, 0, 33, 37)

/* result, source, resize, size */
#define EVALUATION_CASES(X) \
    X("evaluation_0", "photo", 64, 56) \
    X("evaluation_1", "photo", 71, 64) \
    X("evaluation_2", "photo", 69, 64) \
    X("evaluation_3", "photo", 151, 64) \
    X("evaluation_4", "photo", 40, 48) \
    X("evaluation_5", "photo", 40, 60) \
    X("evaluation_6", "portrait", 50, 43) \
    X("evaluation_7", "portrait", 33, 33) \
    X("evaluation_8", "grey", 33, 24) \
    X("evaluation_9", "cmyk", 26, 24) \
    X("evaluation_10", "rotated", 20, 15) \
    X("evaluation_11", "pixel", 5, 9) \
    X("evaluation_12", "tiny", 7, 10) \
    X("evaluation_13", "tiny", 32, 32) \
    X("evaluation_14", "wide", 8, 8) \
    X("evaluation_15", "wide", 3, 16) \
    X("evaluation_16", "tall", 8, 9)

/* result, source, crop x, y, w, h, size */
#define RESIZED_CROP_CASES(X) \
    X("crop_0", "photo", 20, 31, 110, 87, 48) \
    X("crop_1", "photo", 0, 0, 200, 151, 40) \
    X("crop_2", "photo", 199, 150, 1, 1, 8) \
    X("crop_3", "photo", 150, 100, 50, 51, 50) \
    X("crop_4", "grey", 3, 2, 30, 29, 32)

#endif
