/* RandAugment as the published RepVGG recipes use it (preset "raug15"): two operations per image,
 * each drawn uniformly from 16 with a magnitude drawn uniformly from 0…14, always applied. A
 * magnitude of 10 is an operation's nominal maximum; those above exceed it.
 *
 *   operation                             argument at magnitude m
 *   AutoContrast Equalize Invert          none
 *   Rotate                                ±3 m degrees
 *   Posterize                             keep int(0.4 m) bits (0: black)
 *   Solarize                              invert levels >= int(25.6 m)
 *   SolarizeAdd                           add int(11 m) to levels < 128
 *   Color Contrast Brightness Sharpness   factor 0.18 m + 0.1 (1: unchanged)
 *   ShearX ShearY                         ±0.03 m
 *   TranslateXRel TranslateYRel           ±0.045 m of the width or height
 *   Cutout                                side max(2, 4 m), colour (125, 122, 113)
 *
 * Rotations, shears and translations interpolate bilinear or bicubic, drawn as the sign is; what
 * comes from outside is grey (128, 128, 128). Each operation gives PIL's levels, none apart (Pillow
 * 9.4: ImageOps.py, ImageEnhance.py, src/libImaging). */
#ifndef RQ_RUNTIME_IMAGE_RANDAUG_H
#define RQ_RUNTIME_IMAGE_RANDAUG_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/random.h"
#include "runtime/image/affine.h"

/* One row each: X(ENUMERATOR, function, name) */
#define RQ_RANDAUG_OPS(X)                                                                          \
    X(AUTO_CONTRAST, auto_contrast, "AutoContrast")                                                \
    X(EQUALIZE, equalize, "Equalize")                                                              \
    X(INVERT, invert, "Invert")                                                                    \
    X(ROTATE, rotate, "Rotate")                                                                    \
    X(POSTERIZE, posterize, "PosterizeTpu")                                                        \
    X(SOLARIZE, solarize, "Solarize")                                                              \
    X(SOLARIZE_ADD, solarize_add, "SolarizeAdd")                                                   \
    X(COLOR, color, "Color")                                                                       \
    X(CONTRAST, contrast, "Contrast")                                                              \
    X(BRIGHTNESS, brightness, "Brightness")                                                        \
    X(SHARPNESS, sharpness, "Sharpness")                                                           \
    X(SHEAR_X, shear_x, "ShearX")                                                                  \
    X(SHEAR_Y, shear_y, "ShearY")                                                                  \
    X(TRANSLATE_X, translate_x, "TranslateXRel")                                                   \
    X(TRANSLATE_Y, translate_y, "TranslateYRel")                                                   \
    X(CUTOUT, cutout, "Cutout")

typedef enum rq_randaug_op {
#define X(op, function, name) RQ_RANDAUG_##op,
    RQ_RANDAUG_OPS(X)
#undef X
        RQ_RANDAUG_N_OPS
} rq_randaug_op;

enum { RQ_RANDAUG_STEPS = 2, RQ_RANDAUG_MAGNITUDES = 15 };

/* One operation with all that chance decides about it; each uses its part. */
typedef struct rq_randaug_step {
    rq_randaug_op op;
    int magnitude; /* 0…RQ_RANDAUG_MAGNITUDES - 1 */
    bool negative;
    rq_interpolation interpolation;
    int x, y; /* centre of Cutout */
} rq_randaug_step;

const char *rq_randaug_name(rq_randaug_op op); /* the recipes' */

/* Six draws, whatever the operation. */
rq_randaug_step rq_randaug_draw(rq_random *random, int w, int h);

/* Bytes of scratch that the functions below need for an image of w x h pixels. */
size_t rq_randaug_scratch_bytes(int w, int h);

/* pixels: [h, w, 3] u8, changed in place. Nothing is allocated. */
void rq_randaug_apply(const rq_randaug_step *step, uint8_t *pixels, int w, int h, uint8_t *scratch);

/* RQ_RANDAUG_STEPS times draw and apply. */
void rq_randaug(rq_random *random, uint8_t *pixels, int w, int h, uint8_t *scratch);

#endif
