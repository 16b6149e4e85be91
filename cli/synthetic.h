/* A generated image class set: one shape per photograph-like picture, the class being the kind of
 * shape. For the demo and for tests that need something to learn without a download.
 *
 * Position, size, rotation, colours, background, clutter, noise and partial occlusion vary; some
 * pictures cannot be told (small and noisy, or a hexagon that is nearly a disc), so that no network
 * reaches 100 %. */
#ifndef RQ_CLI_SYNTHETIC_H
#define RQ_CLI_SYNTHETIC_H

#include "runtime/base/random.h"
#include "runtime/image/jpeg.h"

enum { RQ_SYNTHETIC_MAX_CLASSES = 10, RQ_SYNTHETIC_MAX_PER_CLASS = 1000000 };

/* How hard the pictures are. Lengths are in half sides of the picture, colours and noise in 0…1. */
typedef struct rq_synthetic_level {
    float min_radius, max_radius; /* of the shape */
    float max_stretch;            /* its longer axis over the shorter one */
    float min_contrast;           /* distance between the colours of shape and background */
    float texture;                /* depth of the background's blotches */
    int max_clutter;              /* small things in the background */
    float occluded_share;         /* pictures with a bar across the shape */
    float noise;                  /* standard deviation */
    float heavy_noise;            /* the same for some pictures */
    float heavy_share;            /* how many these are */
} rq_synthetic_level;

/* What rq_synthetic_write uses. Measured once with 500 training and 100 validation pictures of 64 x
 * 64 for each of 10 classes, seven plain 3x3 convolutions of 16 to 128 channels, SGD, shifts and
 * flips: 93.9 % top-1 after 18 epochs, most errors between disc and hexagon. */
extern const rq_synthetic_level rq_synthetic_demo;

/* "checker", "crescent", …, in label order (sorted); class_index < RQ_SYNTHETIC_MAX_CLASSES. */
const char *rq_synthetic_class_name(int class_index);

/* Draw one picture into pixels [side, side, 3]; equal for equal streams. canvas: scratch, [side,
 * side, 3]. */
void rq_synthetic_draw(const rq_synthetic_level *level, int class_index, int side,
                       rq_random *random, float *canvas, uint8_t *pixels);

/* Write dir/train/<class>/NNNN.jpg and dir/val/<class>/NNNN.jpg, of the first `classes` classes
 * (2…10), side 16…1024 pixels. dir is created when missing, its parent must exist; files of the
 * same names are replaced. Equal arguments give equal files, and picture number i of a class does
 * not depend on how many there are. Errors: RQ_ERR_ARG, RQ_ERR_IO, RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_synthetic_write(const char *dir, int classes, int train_per_class,
                                          int val_per_class, int side, uint64_t seed,
                                          rq_error *err);

#endif
