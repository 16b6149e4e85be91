/* JPEG files to 8-bit RGB, as PIL's Image.open(f).convert("RGB") gives them. The only file that
 * uses libjpeg-turbo.
 *
 * Accurate DCT and smooth chroma upsampling, as PIL asks for. Greyscale is spread to three
 * channels. CMYK and YCCK samples are taken as stored inverted, Adobe marker or not: of the stored
 * C', M', Y', K' comes
 *
 *     R = K' - (255 - C') * K' / 255, rounded; G and B alike.
 *
 * EXIF rotation is not applied (torchvision's ImageFolder does not either). Truncated or damaged
 * data is an error, never half an image. The tests compare with PIL, level for level. */
#ifndef RQ_RUNTIME_IMAGE_JPEG_H
#define RQ_RUNTIME_IMAGE_JPEG_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

enum { RQ_MAX_IMAGE_SIDE = 32768 };
#define RQ_MAX_IMAGE_PIXELS (178956970ull) /* PIL's own decompression-bomb limit */

/* No data holds more pixels per byte than this, since each 8x8 block takes a bit: a header that
 * claims more is refused before memory is reserved for it. (A factor 4 is left for unusual
 * sampling.) */
enum { RQ_MAX_PIXELS_PER_BYTE = 2048 };

/* An owned, growing RGB image: pixels [h, w, 3]. Zero-initialise; memory is reused from call to
 * call. */
typedef struct rq_image {
    uint8_t *pixels;
    int w, h;
    size_t capacity_bytes;
} rq_image;
void rq_image_deinit(rq_image *image);

/* Make room for w x h pixels; what was there is lost. Errors: RQ_ERR_ARG (w or h not positive),
 * RQ_ERR_NOMEM; the image is then empty. */
RQ_NODISCARD rq_status rq_image_reserve(rq_image *image, int w, int h, rq_error *err);

typedef struct rq_jpeg_decoder rq_jpeg_decoder; /* one per thread */
RQ_NODISCARD rq_status rq_jpeg_decoder_create(rq_jpeg_decoder **out, rq_error *err);
void rq_jpeg_decoder_destroy(rq_jpeg_decoder *decoder); /* NULL is fine */

/* Read the header only. Errors: RQ_ERR_IMAGE (not a JPEG: says what it looks like; damaged; sizes
 * over the limits). */
RQ_NODISCARD rq_status rq_jpeg_size(rq_jpeg_decoder *decoder, const uint8_t *data,
                                    size_t size_bytes, int *w, int *h, rq_error *err);

/* Decode at 1/scale_denominator (1, 2, 4 or 8: the DCT's own downscaling, sides round up; the
 * library may take a finer scale with the same sides for images under 16 pixels). What comes out
 * depends on this data only, not on images before it. Errors: RQ_ERR_IMAGE (also for every warning
 * of the library: premature end, corrupt data), RQ_ERR_ARG (the denominator), RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_jpeg_decode(rq_jpeg_decoder *decoder, const uint8_t *data,
                                      size_t size_bytes, int scale_denominator, rq_image *out,
                                      rq_error *err);

/* Encode [h, w, 3] RGB, 4:4:4, quality 1…100; *out belongs to the caller (rq_free). For generated
 * data sets and tests. Errors: RQ_ERR_ARG, RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_jpeg_encode(const uint8_t *pixels, int w, int h, int quality,
                                      uint8_t **out, size_t *out_size_bytes, rq_error *err);

#endif
