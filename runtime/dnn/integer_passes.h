/* The passes over integers around the convolutions, as u8 (form int8) or as integer-valued f32
 * (form qat): the rule of reference/integer.h for whole tensors, in parallel over pixels and vectorised over
 * channels. Sizes are in elements; src and dst do not overlap unless said. */
#ifndef RQ_RUNTIME_DNN_INTEGER_PASSES_H
#define RQ_RUNTIME_DNN_INTEGER_PASSES_H

#include <stdbool.h>

#include "runtime/model/quant.h"

/* The image with a border: dst [n, h + 2 pad[0], w + 2 pad[1], 3] = src [n, h, w, 3] inside,
 * zero_point[3] on the border. */
void rq_pad_image(const uint8_t *src, void *dst, bool as_f32, size_t n, size_t h, size_t w,
                  const int pad[2], const uint8_t *zero_point);

/* [n, pixels, channels] -> [n, channels]: the output rule over exact sums of pixels. */
void rq_pool_integers(const void *src, void *dst, bool as_f32, size_t n, size_t pixels,
                      size_t channels, const rq_rule *rule);

/* dst = rq_gate_level(src). */
void rq_gate_levels(const float *src, void *dst, bool as_f32, size_t n);

/* The output rule over (src[i, p, c] - zero_point) * gate[i, c], n images of pixels x channels. */
void rq_gate_integers(const void *src, const void *gate, void *dst, bool as_f32, size_t n,
                      size_t pixels, size_t channels, uint8_t zero_point, const rq_rule *rule);

/* q = clamp(rne(x / scale) + zero_point), x * (1 / scale) in f32; as f32, dst may be src. */
void rq_quantize(const float *src, void *dst, bool as_f32, size_t n, rq_qparams y);

/* x = scale * (q - zero_point); as f32, dst may be src. */
void rq_dequantize(const void *src, bool as_f32, float *dst, size_t n, rq_qparams x);

#endif
