/* Register tiles of 12 x 16 (AVX-512: 12 accumulators) and 6 x 16 (AVX2: 12 accumulators): enough
 * independent sums to hide the latency of a fused multiply-add, and few enough to stay in
 * registers. */
#include "runtime/dnn/panel_product.h"

#include <assert.h>
#include <immintrin.h>

/* One tile: `rows` x 16 in vectors of `lanes`; word: of a and b, factor: a vector of them. */
#define DEFINE_PRODUCT(suffix, isa, rows, lanes, word, factor, load_factor, splat, vector, load,   \
                       store, zero, fma)                                                           \
    __attribute__((target(isa))) static inline void tile_##suffix(                                 \
        const word *a, size_t row_stride, size_t k_stride, const word *b, size_t n_k, float *c,    \
        bool add)                                                                                  \
    {                                                                                              \
        vector sum[rows][RQ_PANEL / (lanes)];                                                      \
        for (size_t r = 0; r < (rows); r++)                                                        \
            for (size_t v = 0; v < RQ_PANEL / (lanes); v++)                                        \
                sum[r][v] = add ? load(c + r * RQ_PANEL + v * (lanes)) : zero();                   \
        for (size_t k = 0; k < n_k; k++, a += k_stride, b += RQ_PANEL)                             \
            for (size_t r = 0; r < (rows); r++) {                                                  \
                const factor left = splat(a[r * row_stride]);                                      \
                for (size_t v = 0; v < RQ_PANEL / (lanes); v++)                                    \
                    sum[r][v] = fma(left, load_factor(b + v * (lanes)), sum[r][v]);                \
            }                                                                                      \
        for (size_t r = 0; r < (rows); r++)                                                        \
            for (size_t v = 0; v < RQ_PANEL / (lanes); v++)                                        \
                store(c + r * RQ_PANEL + v * (lanes), sum[r][v]);                                  \
    }                                                                                              \
                                                                                                   \
    __attribute__((target(isa))) static void product_##suffix(                                     \
        const word *a, size_t row_stride, size_t k_stride, const word *b, size_t n_k, float *c,    \
        size_t n_rows, bool add)                                                                   \
    {                                                                                              \
        for (size_t r = 0; r < n_rows; r += (rows)) {                                              \
            if (add)                                                                               \
                tile_##suffix(a + r * row_stride, row_stride, k_stride, b, n_k, c + r * RQ_PANEL,  \
                              true);                                                               \
            else                                                                                   \
                tile_##suffix(a + r * row_stride, row_stride, k_stride, b, n_k, c + r * RQ_PANEL,  \
                              false);                                                              \
        }                                                                                          \
    }

#define LOAD_PAIRS(at)     (__m512bh) _mm512_load_si512(at)
#define SPLAT_PAIR(pair)   (__m512bh) _mm512_set1_epi32((int)(pair))
#define FMA_PAIRS(a, b, c) _mm512_dpbf16_ps(c, a, b)

DEFINE_PRODUCT(avx512, "avx512f", 12, 16, float, __m512, _mm512_load_ps, _mm512_set1_ps, __m512,
               _mm512_load_ps, _mm512_store_ps, _mm512_setzero_ps, _mm512_fmadd_ps)
DEFINE_PRODUCT(avx2, "avx2,fma", 6, 8, float, __m256, _mm256_load_ps, _mm256_set1_ps, __m256,
               _mm256_load_ps, _mm256_store_ps, _mm256_setzero_ps, _mm256_fmadd_ps)
DEFINE_PRODUCT(bf16, "avx512f,avx512bf16", 12, 16, uint32_t, __m512bh, LOAD_PAIRS, SPLAT_PAIR,
               __m512, _mm512_load_ps, _mm512_store_ps, _mm512_setzero_ps, FMA_PAIRS)

void rq_panel_product(const float *a, size_t row_stride, size_t k_stride, const float *b,
                      size_t n_k, float *c, size_t n_rows, bool add)
{
    assert(n_rows % RQ_PANEL_ROWS == 0);
    if (__builtin_cpu_supports("avx512f"))
        product_avx512(a, row_stride, k_stride, b, n_k, c, n_rows, add);
    else
        product_avx2(a, row_stride, k_stride, b, n_k, c, n_rows, add);
}

void rq_panel_product_bf16(const uint32_t *a, size_t row_stride, size_t k_stride, const uint32_t *b,
                           size_t n_k, float *c, size_t n_rows, bool add)
{
    assert(n_rows % RQ_PANEL_ROWS == 0);
    product_bf16(a, row_stride, k_stride, b, n_k, c, n_rows, add);
}

bool rq_panel_product_available(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

bool rq_panel_product_has_bf16(void)
{
    return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
}
