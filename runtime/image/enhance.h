/* Pillow's ImageEnhance (9.4): an image blended with a degenerate one, which a factor of 0 gives
 * alone, 1 not at all, and from which factors above 1 lead away. The levels are PIL's, none apart.
 *
 * pixels: [n_pixels, 3] u8 RGB, changed in place. factor >= 0. */
#ifndef RQ_RUNTIME_IMAGE_ENHANCE_H
#define RQ_RUNTIME_IMAGE_ENHANCE_H

#include <stddef.h>
#include <stdint.h>

typedef void (*rq_enhance)(uint8_t *pixels, size_t n_pixels, float factor);

void rq_enhance_brightness(uint8_t *pixels, size_t n_pixels, float factor); /* black */
void rq_enhance_contrast(uint8_t *pixels, size_t n_pixels, float factor);   /* the mean grey */
void rq_enhance_color(uint8_t *pixels, size_t n_pixels, float factor);      /* each pixel's grey */

/* The smoothed image, as it is at the border. pixels: [h, w, 3]; scratch: as many bytes. */
void rq_enhance_sharpness(uint8_t *pixels, int w, int h, float factor, uint8_t *scratch);

#endif
