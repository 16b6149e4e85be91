/* Colour jitter, torchvision's ColorJitter(x, x, x): brightness, contrast and saturation, one after
 * the other in random order, each by a factor that is uniform between 1 - x and 1 + x. */
#ifndef RQ_RUNTIME_IMAGE_COLOR_JITTER_H
#define RQ_RUNTIME_IMAGE_COLOR_JITTER_H

#include "runtime/base/random.h"
#include "runtime/image/enhance.h"

enum { RQ_COLOR_JITTER_STEPS = 3 };

typedef struct rq_color_jitter_step {
    rq_enhance enhance;
    float factor;
} rq_color_jitter_step;

/* Five draws: two for the order, then a factor for each step. x: 0…1. */
void rq_color_jitter_draw(rq_random *random, double x, rq_color_jitter_step *out /* [STEPS] */);

/* Draw, and do the steps. pixels: [n_pixels, 3] u8 RGB, changed in place. */
void rq_color_jitter(rq_random *random, double x, uint8_t *pixels, size_t n_pixels);

#endif
