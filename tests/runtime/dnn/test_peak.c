/* Measured peaks: numbers that can be, and the instruction of oneDNN's level. How high they are is
 * not tested. */
#include "runtime/dnn/peak.h"

#include <math.h>
#include <string.h>

#include <omp.h>

#include "runtime/dnn/dnn.h"
#include "tests/support/test.h"

static void test_measure_peak__is_positive_and_finite(void **state)
{
    (void)state;
    const int threads = omp_get_max_threads();
    for (int n = 1; n <= 3; n++) {
        omp_set_num_threads(n);
        for (int type = 0; type < RQ_N_PEAK_TYPES; type++) {
            const rq_peak peak = rq_measure_peak((rq_peak_type)type);
            print_message("%d threads: %.1f GOP/s (%s)\n", n, peak.gops, peak.instruction);
            assert_true(isfinite(peak.gops) && peak.gops > 0.0);
        }
    }
    omp_set_num_threads(threads);
}

static void test_measure_peak__follows_the_instruction_set(void **state)
{
    (void)state;
    static const char *const f32[] = {
        [RQ_DNN_SSE41] = "mulps + addps xmm", [RQ_DNN_AVX] = "vmulps + vaddps ymm",
        [RQ_DNN_AVX2] = "vfmadd231ps ymm",    [RQ_DNN_AVX2_VNNI] = "vfmadd231ps ymm",
        [RQ_DNN_AVX512] = "vfmadd231ps zmm",  [RQ_DNN_AVX512_VNNI] = "vfmadd231ps zmm",
    };
    const rq_dnn_isa level = rq_dnn_isa_level();
    const bool has_vnni = level == RQ_DNN_AVX2_VNNI || level == RQ_DNN_AVX512_VNNI;
    const rq_peak int8 = rq_measure_peak(RQ_PEAK_INT8);
    assert_string_equal(rq_measure_peak(RQ_PEAK_F32).instruction, f32[level]);
    assert_int_equal(strncmp(int8.instruction, "vpdpbusd ", 9) == 0, has_vnni);
    assert_true(level != RQ_DNN_AVX512_VNNI || !rq_dnn_u8s8_may_saturate());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_measure_peak__is_positive_and_finite),
        cmocka_unit_test(test_measure_peak__follows_the_instruction_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
