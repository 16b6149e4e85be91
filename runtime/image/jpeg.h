/* JPEG files to 8-bit RGB, as PIL's Image.open(f).convert("RGB") gives them. The only file that uses libjpeg-turbo.
 *
 * Greyscale is spread to three channels; CMYK and YCCK (Adobe: stored inverted) are converted by PIL's rule
 * R = 255 - min(255, C + K)… as measured against PIL in the tests. EXIF rotation is not applied (torchvision's
 * ImageFolder does not either). Truncated or damaged data is an error, never half an image. */
#ifndef RQ_RUNTIME_IMAGE_JPEG_H
#define RQ_RUNTIME_IMAGE_JPEG_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

enum { RQ_MAX_IMAGE_SIDE = 32768 };
#define RQ_MAX_IMAGE_PIXELS (178956970ull) /* PIL's own decompression-bomb limit */

/* An owned, growing RGB image: pixels [h, w, 3]. Zero-initialise; memory is reused from call to call. */
typedef struct rq_image {
    uint8_t *pixels;
    int w, h;
    size_t capacity_bytes;
} rq_image;
void rq_image_deinit(rq_image *image);
RQ_NODISCARD rq_status rq_image_reserve(rq_image *image, int w, int h, rq_error *err);

typedef struct rq_jpeg_decoder rq_jpeg_decoder; /* one per thread */
RQ_NODISCARD rq_status rq_jpeg_decoder_create(rq_jpeg_decoder **out, rq_error *err);
void rq_jpeg_decoder_destroy(rq_jpeg_decoder *decoder);

/* Read the header only. Errors: RQ_ERR_IMAGE (not a JPEG: says what it looks like; sizes over the limits). */
RQ_NODISCARD rq_status rq_jpeg_size(rq_jpeg_decoder *decoder, const uint8_t *data,
                                    size_t size_bytes, int *w, int *h, rq_error *err);

/* Decode at 1/scale_denominator (1, 2, 4 or 8: the DCT's own downscaling, sides round up).
 * Errors: RQ_ERR_IMAGE (also for every warning of the library: premature end, corrupt data), RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_jpeg_decode(rq_jpeg_decoder *decoder, const uint8_t *data,
                                      size_t size_bytes, int scale_denominator, rq_image *out,
                                      rq_error *err);

/* Encode [h, w, 3] RGB, 4:4:4, quality 1…100; *out belongs to the caller (rq_free). For generated data sets and tests. */
RQ_NODISCARD rq_status rq_jpeg_encode(const uint8_t *pixels, int w, int h, int quality,
                                      uint8_t **out, size_t *out_size_bytes, rq_error *err);

#endif
