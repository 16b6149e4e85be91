/* Register tiles of 12 x 16 (AVX-512: 12 accumulators) and 6 x 16 (AVX2: 12 accumulators): enough
 * independent sums to hide the latency of a fused multiply-add, and few enough to stay in
 * registers. */
#include "runtime/dnn/panel_product.h"

#include <immintrin.h>

/* One tile: `rows` x 16 in vectors of `lanes`. */
#define DEFINE_PRODUCT(suffix, isa, rows, lanes, vector, load, store, zero, splat, fma)            \
    __attribute__((target(isa))) static inline void tile_##suffix(                                 \
        const float *a, size_t row_stride, size_t k_stride, const float *b, size_t n_k, float *c,  \
        bool add)                                                                                  \
    {                                                                                              \
        vector sum[rows][RQ_PANEL / (lanes)];                                                      \
        for (size_t r = 0; r < (rows); r++)                                                        \
            for (size_t v = 0; v < RQ_PANEL / (lanes); v++)                                        \
                sum[r][v] = add ? load(c + r * RQ_PANEL + v * (lanes)) : zero();                   \
        for (size_t k = 0; k < n_k; k++, a += k_stride, b += RQ_PANEL)                             \
            for (size_t r = 0; r < (rows); r++) {                                                  \
                const vector factor = splat(a[r * row_stride]);                                    \
                for (size_t v = 0; v < RQ_PANEL / (lanes); v++)                                    \
                    sum[r][v] = fma(factor, load(b + v * (lanes)), sum[r][v]);                     \
            }                                                                                      \
        for (size_t r = 0; r < (rows); r++)                                                        \
            for (size_t v = 0; v < RQ_PANEL / (lanes); v++)                                        \
                store(c + r * RQ_PANEL + v * (lanes), sum[r][v]);                                  \
    }                                                                                              \
                                                                                                   \
    __attribute__((target(isa))) static void product_##suffix(                                     \
        const float *a, size_t row_stride, size_t k_stride, const float *b, size_t n_k, float *c,  \
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

DEFINE_PRODUCT(avx512, "avx512f", 12, 16, __m512, _mm512_load_ps, _mm512_store_ps,
               _mm512_setzero_ps, _mm512_set1_ps, _mm512_fmadd_ps)
DEFINE_PRODUCT(avx2, "avx2,fma", 6, 8, __m256, _mm256_load_ps, _mm256_store_ps, _mm256_setzero_ps,
               _mm256_set1_ps, _mm256_fmadd_ps)

void rq_panel_product(const float *a, size_t row_stride, size_t k_stride, const float *b,
                      size_t n_k, float *c, size_t n_rows, bool add)
{
    if (__builtin_cpu_supports("avx512f"))
        product_avx512(a, row_stride, k_stride, b, n_k, c, n_rows, add);
    else
        product_avx2(a, row_stride, k_stride, b, n_k, c, n_rows, add);
}

bool rq_panel_product_available(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
