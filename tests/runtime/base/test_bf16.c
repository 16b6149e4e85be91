/* Rounding to bfloat16. */
#include "runtime/base/bf16.h"

#include <math.h>

#include "tests/support/test.h"

static float from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static void test_to__nearest_ties_to_even(void **state)
{
    (void)state;
    const struct {
        uint32_t bits;
        uint16_t want;
    } cases[] = {
        {0x00000000, 0x0000}, {0x80000000, 0x8000}, /* zeros */
        {0x3f800000, 0x3f80},                       /* 1 */
        {0x3f808000, 0x3f80}, {0x3f818000, 0x3f82}, /* half way: to the even one */
        {0x3f807fff, 0x3f80}, {0x3f808001, 0x3f81}, /* next to it */
        {0xbf818000, 0xbf82},                       /* and below 0 */
        {0x3fffffff, 0x4000},                       /* carries into the exponent */
        {0x7f7fffff, 0x7f80},                       /* beyond the largest */
        {0x7f800000, 0x7f80}, {0xff800000, 0xff80}, /* infinities */
        {0x00000001, 0x0000}, {0x0000ffff, 0x0001}, /* denormal numbers */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(rq_to_bf16(from_bits(cases[i].bits)), cases[i].want);
}

static void test_to__nan_stays_nan(void **state)
{
    (void)state;
    const uint32_t nans[] = {0x7fc00000, 0x7f800001, 0x7fffffff, 0xffffffff, 0xff800001};
    for (size_t i = 0; i < sizeof nans / sizeof nans[0]; i++)
        assert_true(isnan(rq_from_bf16(rq_to_bf16(from_bits(nans[i])))));
}

static void test_from__every_number_comes_back(void **state)
{
    (void)state;
    for (uint32_t x = 0; x <= UINT16_MAX; x++) {
        const float value = rq_from_bf16((uint16_t)x);
        if (!isnan(value))
            assert_int_equal(rq_to_bf16(value), x);
    }
    for (int i = -256; i <= 256; i++) /* integers that quantized layers read */
        assert_true(rq_from_bf16(rq_to_bf16((float)i)) == (float)i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_to__nearest_ties_to_even),
        cmocka_unit_test(test_to__nan_stays_nan),
        cmocka_unit_test(test_from__every_number_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
