/* Cutout (DeVries and Taylor 2017, arXiv 1708.04552): a square of one colour at a random place. */
#ifndef RQ_RUNTIME_IMAGE_CUTOUT_H
#define RQ_RUNTIME_IMAGE_CUTOUT_H

#include <stdint.h>

typedef struct rq_cutout {
    int side; /* of the square; 0: none */
    uint8_t fill[3];
} rq_cutout;

/* Fill columns x - side / 2 up to side further ones, and rows alike, as far as they lie in the
 * image. pixels: [h, w, 3] u8; the centre x, y lies in the image. */
void rq_cutout_apply(const rq_cutout *cutout, uint8_t *pixels, int w, int h, int x, int y);

#endif
