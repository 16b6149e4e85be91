/* The geometric transform: PIL's Image.transform(size, AFFINE, …) of an RGB image into one of the same size, bit for bit.
 * Source: Pillow 9.4, src/libImaging/Geometry.c, and Image.rotate for the matrix of a rotation. */
#ifndef RQ_RUNTIME_IMAGE_AFFINE_H
#define RQ_RUNTIME_IMAGE_AFFINE_H

#include <stdint.h>

/* Where the output pixel with its centre at (x, y) = (column + 0.5, row + 0.5) comes from:
 * (xx x + xy y + x0, yx x + yy y + y0). */
typedef struct rq_affine {
    double xx, xy, x0;
    double yx, yy, y0;
} rq_affine;

/* Counterclockwise about the centre of a w x h image. (Multiples of 90 degrees, which PIL does by
 * moving pixels, are nothing special here.) */
rq_affine rq_affine_rotation(double degrees, int w, int h);

typedef enum rq_interpolation {
    RQ_BILINEAR, /* of 2 x 2 pixels */
    RQ_BICUBIC,  /* of 4 x 4 */
} rq_interpolation;

/* src, dst: [h, w, 3] u8, not overlapping; the byte after src must be readable.
 * Pixels that come from outside become fill; near the border the outermost pixels are repeated. */
void rq_affine_apply(const rq_affine *affine, rq_interpolation interpolation, const uint8_t fill[3],
                     const uint8_t *src, int w, int h, uint8_t *dst);

#endif
