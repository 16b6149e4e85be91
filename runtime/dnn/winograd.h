/* Winograd's convolution F(4x4, 3x3) in f32 or bf16: forward, gradient of the source, gradient of
 * the weights, and forward with packed weights, bias and ReLU for inference, of 3x3 convolutions
 * with stride 1, padding 1, one group.
 *
 * The image is cut into tiles of 4x4 outputs, which read 6x6 inputs. With the constant matrices
 * B [6, 6], G [6, 3], A [6, 4]:
 *
 *   forward   Y = A' ((G g G') o (B' d B)) A      summed over input channels before A
 *   dsrc      the same with the kernel turned by 180 degrees and channels exchanged
 *   dwei      dg = G' (sum over tiles (B' d B) o (A dY A')) G
 *
 * where o is elementwise: at each of the 36 points an ordinary matrix product over channels or
 * tiles. That takes 36 multiplications for 16 outputs where the direct sum takes 144. Transforms
 * are additions and small factors; tiles are taken in chunks that stay in the caches.
 *
 * Numbers that are multiplied are f32, or bf16 on CPUs with AVX512-BF16: pixels then are bf16, and
 * transformed ones are rounded to bf16 once more; all else is f32.
 *
 * Rounding: the transforms add numbers of unequal size, so its share in the result is larger than
 * of a direct sum of numbers of the same type, in bf16 by a factor of 3 (source that is smooth, and
 * not negative) to 5 (noise): 0.7 to 1.2 % of the results' standard deviation. Not for integer
 * sums, which must be exact.
 *
 * Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks (arXiv 1509.09308),
 * section 4.2, with other points: 0, +-sqrt(1/2), +-sqrt(2) and infinity, where the paper has 1 and
 * 2 and, in bf16, twice the error. */
#ifndef RQ_RUNTIME_DNN_WINOGRAD_H
#define RQ_RUNTIME_DNN_WINOGRAD_H

#include "runtime/dnn/dnn.h"
#include "runtime/model/graph.h"

enum { RQ_WINOGRAD_TILE = 4 }; /* outputs on a side */

/* A plan; plain data. */
typedef struct rq_winograd {
    size_t n, h, w, ic, oc;
    size_t tiles_h, tiles_w, n_tiles; /* of one image, of all */
    size_t n_threads;
    size_t weight_tiles; /* tiles of one chunk of the weights' gradient */
    rq_precision precision;
} rq_winograd;

/* Is it possible, and does it pay (channels in multiples of 16 from 32 on, sides from 4 on of which
 * tiles are at least half full, a CPU with the instructions)? */
bool rq_winograd_suits(const rq_conv_shape *shape, rq_precision precision);

/* The shape suits. n_threads: OpenMP's, at most, when it runs. */
void rq_winograd_init(rq_winograd *out, const rq_conv_shape *shape, rq_precision precision,
                      int n_threads);

/* Memory that each of the three needs while it runs, a multiple of 64; aligned to 64 bytes, zeroed
 * once before its first use. */
size_t rq_winograd_scratch_bytes(const rq_winograd *winograd);

/* src, dsrc [N, H, W, IC]; dst, ddst [N, H, W, OC]; wei, dwei [OC, IC, 3, 3]; all overwritten where
 * not const. src and ddst: of the precision's type, f32 or bf16 (base/bf16.h). The result of
 * forward and backward_data does not depend on the number of threads. */
void rq_winograd_forward(const rq_winograd *winograd, const void *src, const float *wei, float *dst,
                         void *scratch);

/* The same in f32 with weights that are packed once, [rq_winograd_packed_size] floats aligned to 64
 * bytes, zeroed before; dst = conv + bias (NULL: none), and ReLU. The sums are forward's, bit for bit. */
size_t rq_winograd_packed_size(const rq_winograd *winograd);
void rq_winograd_pack(const rq_winograd *winograd, const float *wei, float *packed);
void rq_winograd_infer(const rq_winograd *winograd, const float *src, const float *packed,
                       const float *bias, bool relu, float *dst, void *scratch);

/* dsrc: f32, or bf16 (RQ_PRECISION_BF16 only). */
void rq_winograd_backward_data(const rq_winograd *winograd, const void *ddst, const float *wei,
                               void *dsrc, bool bf16_dsrc, void *scratch);
void rq_winograd_backward_weights(const rq_winograd *winograd, const void *src, const void *ddst,
                                  float *dwei, void *scratch);

#endif
