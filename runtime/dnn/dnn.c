/* The engine: what every primitive is made and run with, and what the CPU has. */
#include "runtime/dnn/dnn.h"

#include "runtime/dnn/primitive.h"

size_t rq_dnn_primitive_count(void)
{
    return atomic_load(&rq_primitive_count);
}

rq_status rq_dnn_create(rq_dnn **out, rq_error *err)
{
    dnnl_status_t status;
    rq_dnn *dnn = rq_alloc(sizeof *dnn);
    if (!dnn)
        return rq_no_memory(err);
    if ((status = dnnl_engine_create(&dnn->engine, dnnl_cpu, 0)) ||
        (status = dnnl_stream_create(&dnn->stream, dnn->engine, dnnl_stream_default_flags))) {
        rq_dnn_destroy(dnn);
        return rq_dnnl_fail(err, status, "engine");
    }
    *out = dnn;
    return RQ_OK;
}

void rq_dnn_destroy(rq_dnn *dnn)
{
    if (!dnn)
        return;
    if (dnn->stream)
        (void)dnnl_stream_destroy(dnn->stream);
    if (dnn->engine)
        (void)dnnl_engine_destroy(dnn->engine);
    rq_arena_deinit(&dnn->weights);
    rq_free(dnn->scratch);
    rq_free(dnn);
}

void rq_dnn_expect_weights(rq_dnn *dnn, size_t size_bytes)
{
    dnn->weights.block_bytes = size_bytes;
}

rq_status rq_dnn_reserve_scratch(rq_dnn *dnn, size_t size_bytes, rq_error *err)
{
    if (size_bytes <= dnn->scratch_bytes)
        return RQ_OK;
    rq_free(dnn->scratch);
    dnn->scratch = rq_alloc(size_bytes);
    dnn->scratch_bytes = dnn->scratch ? size_bytes : 0;
    return dnn->scratch ? RQ_OK : rq_no_memory(err);
}

void *rq_dnn_scratch(const rq_dnn *dnn)
{
    return dnn->scratch;
}

/* ---- instruction sets ---- */

bool rq_dnn_u8s8_may_saturate(void)
{
    const unsigned isa = (unsigned)dnnl_get_effective_cpu_isa();
    const unsigned vnni = (unsigned)dnnl_cpu_isa_avx512_core_vnni;
    return (isa & vnni) != vnni;
}

bool rq_dnn_has_bf16(void)
{
    const unsigned isa = (unsigned)dnnl_get_effective_cpu_isa();
    const unsigned bf16 = (unsigned)dnnl_cpu_isa_avx512_core_bf16;
    return (isa & bf16) == bf16;
}

rq_dnn_isa rq_dnn_isa_level(void)
{
    static const unsigned bits[] = {
        [RQ_DNN_SSE41] = dnnl_cpu_isa_sse41,
        [RQ_DNN_AVX] = dnnl_cpu_isa_avx,
        [RQ_DNN_AVX2] = dnnl_cpu_isa_avx2,
        [RQ_DNN_AVX2_VNNI] = dnnl_cpu_isa_avx2_vnni,
        [RQ_DNN_AVX512] = dnnl_cpu_isa_avx512_core,
        [RQ_DNN_AVX512_VNNI] = dnnl_cpu_isa_avx512_core_vnni,
    };
    const unsigned isa = (unsigned)dnnl_get_effective_cpu_isa();
    int level = RQ_DNN_AVX512_VNNI;
    while (level > RQ_DNN_SSE41 && (isa & bits[level]) != bits[level])
        level--;
    return (rq_dnn_isa)level;
}
