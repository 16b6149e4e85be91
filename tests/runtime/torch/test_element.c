/* Element types: every half and bfloat16 against its definition, and the others' edges. */
#include "runtime/torch/element.h"

#include <math.h>
#include <string.h>

#include "tests/support/test.h"

/* A binary floating-point number by its parts (IEEE 754): sign, exponent, fraction. */
static double decode(uint32_t bits, int exponent_bits, int fraction_bits)
{
    const int bias = (1 << (exponent_bits - 1)) - 1, top = (1 << exponent_bits) - 1;
    const int exponent = (int)(bits >> fraction_bits) & top;
    const double fraction = ldexp((double)(bits & ((1u << fraction_bits) - 1)), -fraction_bits);
    const double sign = bits >> (exponent_bits + fraction_bits) & 1 ? -1.0 : 1.0;
    if (exponent == top)
        return fraction == 0.0 ? sign * (double)INFINITY : (double)NAN;
    return sign * (exponent ? ldexp(1.0 + fraction, exponent - bias) : ldexp(fraction, 1 - bias));
}

static void check_16_bits(rq_element element, int exponent_bits, int fraction_bits)
{
    for (uint32_t bits = 0; bits < 1u << 16; bits++) {
        const unsigned char bytes[2] = {(unsigned char)bits, (unsigned char)(bits >> 8)};
        const double want = decode(bits, exponent_bits, fraction_bits);
        float got;
        rq_element_to_f32(&got, element, bytes, 1, 1);
        if (isnan(want))
            assert_true(isnan(got));
        else
            assert_true((double)got == want && !signbit(got) == !signbit(want));
    }
}

static void test_to_f32__every_half(void **state)
{
    (void)state;
    check_16_bits(RQ_ELEMENT_F16, 5, 10);
}

static void test_to_f32__every_bfloat16(void **state)
{
    (void)state;
    check_16_bits(RQ_ELEMENT_BF16, 8, 7);
}

static void test_to_f32__rounds_doubles_once(void **state)
{
    (void)state;
    const double values[] = {1.0 + 0x1p-24, 1.0 + 0x1.8p-23, 1e-50, -1e300, 1.0 / 3.0};
    const float want[] = {1.0f, 1.0f + 0x1p-22f, 0.0f, -INFINITY, 1.0f / 3.0f};
    float got[5];
    rq_element_to_f32(got, RQ_ELEMENT_F64, (const unsigned char *)values, 1, 5);
    assert_memory_equal(got, want, sizeof want);
}

/* Unaligned sources, and steps over several elements or none. */
static void test_to__steps(void **state)
{
    (void)state;
    const int16_t values[] = {-300, 1, 2, 32767};
    unsigned char bytes[1 + sizeof values];
    float real[4];
    int64_t whole[4];
    memcpy(bytes + 1, values, sizeof values);
    rq_element_to_f32(real, RQ_ELEMENT_S16, bytes + 1, 3, 2);
    assert_true(real[0] == -300.0f && real[1] == 32767.0f);
    rq_element_to_s64(whole, RQ_ELEMENT_S16, bytes + 1, 1, 4);
    assert_true(whole[0] == -300 && whole[3] == 32767);
    rq_element_to_s64(whole, RQ_ELEMENT_S16, bytes + 1, 0, 4);
    assert_true(whole[0] == -300 && whole[3] == -300);
    const float floats[3] = {1.0f, 2.0f, 3.0f};
    rq_element_to_f32(real, RQ_ELEMENT_F32, (const unsigned char *)floats, 2, 2);
    assert_true(real[0] == 1.0f && real[1] == 3.0f);
}

static void test_to_s64__edges(void **state)
{
    (void)state;
    const int64_t large = INT64_MIN;
    const int32_t small = INT32_MIN;
    const unsigned char bytes[2] = {0x80, 2};
    int64_t got;
    rq_element_to_s64(&got, RQ_ELEMENT_S64, (const unsigned char *)&large, 1, 1);
    assert_true(got == INT64_MIN);
    rq_element_to_s64(&got, RQ_ELEMENT_S32, (const unsigned char *)&small, 1, 1);
    assert_true(got == INT32_MIN);
    rq_element_to_s64(&got, RQ_ELEMENT_S8, bytes, 1, 1);
    assert_true(got == -128);
    rq_element_to_s64(&got, RQ_ELEMENT_U8, bytes, 1, 1);
    assert_true(got == 128);
    rq_element_to_s64(&got, RQ_ELEMENT_BOOL, bytes + 1, 1, 1); /* any byte but 0 is true */
    assert_true(got == 1);
}

static void test_names(void **state)
{
    (void)state;
    rq_element element = RQ_N_ELEMENTS;
    assert_true(rq_element_of_storage("BFloat16StorageX", 15, &element));
    assert_int_equal(element, RQ_ELEMENT_BF16);
    assert_false(rq_element_of_storage("BFloat16Storage", 14, &element));
    assert_true(rq_element_of_safetensors("F64", &element));
    assert_int_equal(element, RQ_ELEMENT_F64);
    assert_false(rq_element_of_safetensors("F8_E4M3", &element));
    assert_string_equal(rq_element_name(RQ_ELEMENT_F16), "float16");
    assert_int_equal(rq_element_size(RQ_ELEMENT_C128), 16);
    assert_int_equal(rq_element_kind_of(RQ_ELEMENT_C64), RQ_ELEMENT_OTHER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_to_f32__every_half),
        cmocka_unit_test(test_to_f32__every_bfloat16),
        cmocka_unit_test(test_to_f32__rounds_doubles_once),
        cmocka_unit_test(test_to__steps),
        cmocka_unit_test(test_to_s64__edges),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
