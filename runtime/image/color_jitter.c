/* Drawn first, then done. */
#include "runtime/image/color_jitter.h"

void rq_color_jitter_draw(rq_random *random, double x, rq_color_jitter_step *out)
{
    static const rq_enhance enhance[] = {rq_enhance_brightness, rq_enhance_contrast,
                                         rq_enhance_color};
    uint32_t order[RQ_COLOR_JITTER_STEPS] = {0, 1, 2};
    rq_random_shuffle(random, order, RQ_COLOR_JITTER_STEPS);
    for (int i = 0; i < RQ_COLOR_JITTER_STEPS; i++) {
        out[i].enhance = enhance[order[i]];
        out[i].factor = (float)(1.0 - x + 2.0 * x * rq_random_unit(random));
    }
}

void rq_color_jitter(rq_random *random, double x, uint8_t *pixels, size_t n_pixels)
{
    rq_color_jitter_step steps[RQ_COLOR_JITTER_STEPS];
    rq_color_jitter_draw(random, x, steps);
    for (int i = 0; i < RQ_COLOR_JITTER_STEPS; i++)
        steps[i].enhance(pixels, n_pixels, steps[i].factor);
}
