/* Sequences: random ones are merged exactly or refused, and refused at the border only where
 * merging would be wrong. Where parts begin, and what plans refuse. */
#include "fuse/linear_part.h"

#include <string.h>

#include "fuse/equivalent.h"
#include "tests/fuse/net.h"
#include "tests/fuse/reference.h"

static rq_error err;
static net n;

static int setup(void **state)
{
    (void)state;
    net_init(&n, 7);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rq_model_deinit(&n.model);
    return 0;
}

/* ---- random sequences ---- */

static int pick(int low, int high)
{
    return low + (int)rq_random_below(&n.random, (uint64_t)high - (uint64_t)low + 1);
}

static rq_conv_attr random_window(int groups)
{
    rq_conv_attr conv = {.groups = groups};
    for (int axis = 0; axis < 2; axis++) {
        conv.kernel[axis] = pick(1, 3);
        conv.stride[axis] = pick(1, 3);
        conv.pad[axis] = pick(0, 1) * pick(0, conv.kernel[axis] - 1);
        conv.dilation[axis] = pick(1, 3);
    }
    return conv;
}

/* A convolution, with a bias or without, or an average pool. */
static int random_operator(const char *name, int input)
{
    enum { C = 4 };
    rq_conv_attr window = random_window(1 << pick(0, 2));
    switch (pick(0, 4)) {
    case 0:
        window.dilation[0] = window.dilation[1] = 1;
        return net_avg_pool(&n, name, input, window);
    case 1:
        return net_biased_conv(&n, name, input, C, C, window);
    case 2: {
        char bn[32];
        (void)snprintf(bn, sizeof bn, "%s.bn", name);
        return net_batch_norm(&n, bn, net_conv(&n, name, input, C, C, window), C);
    }
    default:
        return net_conv(&n, name, input, C, C, window);
    }
}

static void fill(double *x, int size)
{
    for (int i = 0; i < size; i++)
        x[i] = rq_random_normal(&n.random);
}

/* The number of values at which whole over base is not node. */
static int count_wrong(const rq_conv_f64 *whole, int base, int node, const reference *want,
                       const reference *terms)
{
    const size_t size = rq_shape_elems(&want->shapes[node]);
    double *got = rq_alloc(size * sizeof *got);
    int n_wrong = 0;
    reference_window(&whole->conv, &want->shapes[base], &want->shapes[node], want->values[base],
                     got, reference_merged_weight, whole, false);
    for (size_t i = 0; i < size; i++)
        n_wrong += !(fabs(got[i] - want->values[node][i]) <= 0x1p-46 * terms->values[node][i]);
    rq_free(got);
    return n_wrong;
}

/* Sizes that whole gives are those of the graph. */
static void check_sizes(const rq_conv_f64 *whole, const rq_shape *in, const rq_shape *out)
{
    const int64_t sides[2][2] = {{in->h, out->h}, {in->w, out->w}};
    for (int axis = 0; axis < 2; axis++) {
        const rq_conv_attr *conv = &whole->conv;
        const int64_t reach = (int64_t)(conv->kernel[axis] - 1) * conv->dilation[axis] + 1;
        const int64_t room = sides[axis][0] + 2 * conv->pad[axis] - reach;
        assert_true(room >= 0);
        assert_int_equal(room / conv->stride[axis] + 1, sides[axis][1]);
    }
}

static void check_part(const rq_linear_part *part, const reference *want, const reference *terms)
{
    const rq_linear_value *value = rq_linear_value_of(part, part->node);
    double *memory = rq_alloc((value->n_elems + rq_linear_find_elems(value, value->equivalent.oc)) *
                              sizeof *memory);
    rq_conv_f64 whole = rq_conv_f64_at(&value->equivalent, memory);
    rq_equivalent_find(part, part->node, &whole, memory + value->n_elems);
    check_sizes(&whole, &want->shapes[part->base], &want->shapes[part->node]);
    assert_int_equal(count_wrong(&whole, part->base, part->node, want, terms), 0);
    rq_free(memory);
}

static void test_sequences__are_exact_or_refused(void **state)
{
    (void)state;
    int n_merged = 0, n_refused = 0;
    for (int i = 0; i < 600; i++) {
        enum { H = 17, W = 15 };
        rq_linear_part part;
        double x[H * W * 3];
        rq_model_deinit(&n.model);
        net_init(&n, (uint64_t)i);
        const int base = net_stem(&n, 4);
        int node = base;
        for (int k = 0; k < pick(2, 3); k++) {
            char name[16];
            (void)snprintf(name, sizeof name, "op%d", k);
            node = random_operator(name, node);
        }
        rq_shape shapes[16];
        if (rq_graph_shapes(&n.model.graph, 1, H, W, shapes, &err))
            continue; /* the kernels reach over more than there is */
        const rq_status status =
            rq_linear_part_init(&part, &n.model.graph, shapes, node, base, &err);
        if (status) {
            assert_int_equal(status, RQ_ERR_MODEL);
            assert_says(&err, "with zeros");
            n_refused++;
            continue;
        }
        fill(x, H * W * 3);
        reference want = reference_run(&n.model.graph, H, W, x, false);
        reference terms = reference_run(&n.model.graph, H, W, x, true);
        check_part(&part, &want, &terms);
        reference_deinit(&want);
        reference_deinit(&terms);
        rq_linear_part_deinit(&part);
        n_merged++;
    }
    assert_true(n_merged > 100 && n_refused > 100);
}

/* ---- the border rule is necessary ---- */

/* outer after inner, whatever stands at the border. */
static void compose_anyway(rq_conv_f64 *out, int inner, int outer, double **memory)
{
    const rq_graph *graph = &n.model.graph;
    const rq_conv_f64 identity = {.oc = 4, .ic = 4, .conv = square(1, 1, 4), .n_rows = 4};
    const rq_window first = rq_linear_window(graph, inner, 4),
                    last = rq_linear_window(graph, outer, 4);
    rq_conv_f64 x, middle;
    size_t size = 0;
    memory[0] = rq_alloc(8 * sizeof(double));
    x = rq_conv_f64_at(&identity, memory[0]);
    rq_conv_f64_set_identity(&x);
    assert_true(rq_conv_f64_sequence(&middle, &first, &x) && rq_conv_f64_elems(&middle, &size));
    memory[1] = rq_alloc(size * sizeof(double));
    middle = rq_conv_f64_at(&middle, memory[1]);
    rq_conv_f64_compose(&middle, &first, &x);
    assert_true(rq_conv_f64_sequence(out, &last, &middle) && rq_conv_f64_elems(out, &size));
    memory[2] = rq_alloc(size * sizeof(double));
    *out = rq_conv_f64_at(out, memory[2]);
    rq_conv_f64_compose(out, &last, &middle);
}

/* Whether some image size shows that the composition is not the graph. */
static bool is_wrong_somewhere(int base, int inner, int outer)
{
    enum { LARGEST = 24 };
    double x[LARGEST * LARGEST * 3], *memory[3];
    rq_conv_f64 whole;
    bool wrong = false;
    compose_anyway(&whole, inner, outer, memory);
    for (int side = 6; side <= LARGEST && !wrong; side++) {
        rq_shape shapes[16];
        if (rq_graph_shapes(&n.model.graph, 1, side, side, shapes, &err))
            continue;
        fill(x, side * side * 3);
        reference want = reference_run(&n.model.graph, side, side, x, false);
        reference terms = reference_run(&n.model.graph, side, side, x, true);
        wrong = count_wrong(&whole, base, outer, &want, &terms) > 0;
        reference_deinit(&want);
        reference_deinit(&terms);
    }
    for (int i = 0; i < 3; i++)
        rq_free(memory[i]);
    return wrong;
}

static void test_border_rule__is_necessary(void **state)
{
    (void)state;
    int n_refused = 0, n_merged = 0;
    for (int i = 0; i < 80; i++) {
        rq_model_deinit(&n.model);
        net_init(&n, (uint64_t)i);
        const int base = net_relu(&n, "x", net_conv(&n, "stem", 0, 3, 4, square(1, 1, 1)));
        const rq_conv_attr inner = random_window(1);
        rq_conv_attr outer = random_window(1);
        outer.stride[0] = outer.stride[1] = 1; /* larger ones may step over what is wrong */
        const int first = pick(0, 3) == 0 ? net_biased_conv(&n, "inner", base, 4, 4, inner)
                                          : net_conv(&n, "inner", base, 4, 4, inner);
        const int last = net_conv(&n, "outer", first, 4, 4, outer);
        rq_linear_part part;
        rq_shape shapes[8];
        assert_ok(rq_graph_shapes(&n.model.graph, 1, 32, 32, shapes, &err), &err);
        const bool refused =
            rq_linear_part_init(&part, &n.model.graph, shapes, last, base, &err) != RQ_OK;
        rq_linear_part_deinit(&part);
        if (refused != is_wrong_somewhere(base, first, last))
            fail_msg("sequence %d: %s, but it is %s", i, refused ? "refused" : "merged",
                     refused ? "exact" : "wrong");
        n_refused += refused;
        n_merged += !refused;
    }
    assert_true(n_refused > 10 && n_merged > 10);
}

/* ---- refusals name both nodes ---- */

static void expect_refused(int node, int base, const char *says)
{
    rq_linear_part part;
    rq_shape shapes[32];
    assert_ok(rq_graph_shapes(&n.model.graph, 1, 32, 32, shapes, &err), &err);
    assert_fails(rq_linear_part_init(&part, &n.model.graph, shapes, node, base, &err), RQ_ERR_MODEL,
                 &err);
    assert_says(&err, says);
    assert_null(part.values);
}

static void test_plan__refuses_padding_behind_a_bias(void **state)
{
    (void)state;
    const int x = net_stem(&n, 4);
    const int first = net_conv(&n, "b.first", x, 4, 4, square(1, 1, 1));
    const int normal = net_batch_norm(&n, "b.normal", first, 4);
    const int second = net_conv(&n, "b.second", normal, 4, 4, square(3, 1, 1));
    expect_refused(second, x, "b.second: it pads b.normal with zeros, but that value's bias");
    const int biased = net_biased_conv(&n, "b.biased", x, 4, 4, square(1, 1, 1));
    const int pool = net_avg_pool(&n, "b.pool", biased, square(3, 1, 1));
    expect_refused(pool, x, "b.pool: it pads b.biased with zeros");
}

static void test_plan__refuses_padding_that_is_still_reached(void **state)
{
    (void)state;
    const int x = net_stem(&n, 4);
    const int first = net_conv(&n, "b.first", x, 4, 4, square(3, 1, 1));
    const int second = net_conv(&n, "b.second", first, 4, 4, square(3, 1, 1));
    expect_refused(second, x, "b.second: it pads b.first with zeros, but that value's kernel (3x3");
    net_geometry(&n, "b.first")->pad[0] = net_geometry(&n, "b.first")->pad[1] = 2;
    rq_linear_part part;
    rq_shape shapes[32];
    assert_ok(rq_graph_shapes(&n.model.graph, 1, 32, 32, shapes, &err), &err);
    assert_ok(rq_linear_part_init(&part, &n.model.graph, shapes, second, x, &err), &err);
    rq_linear_part_deinit(&part);
}

static void test_plan__refuses_other_values(void **state)
{
    (void)state;
    const int x = net_stem(&n, 4);
    const int y = net_relu(&n, "y", x);
    const int inputs[2] = {net_conv(&n, "b.a", x, 4, 4, square(1, 1, 1)),
                           net_conv(&n, "b.b", y, 4, 4, square(1, 1, 1))};
    const int sum = net_add(&n, RQ_OP_ADD, "b.add", 2, inputs);
    expect_refused(sum, y, "b.a: it reads stem.relu, not y; only branches of one value");
    expect_refused(sum, x, "y: relu is not linear; it cannot be merged with branches of stem.relu");
}

static void test_plan__refuses_sizes_beyond_the_limits(void **state)
{
    (void)state;
    const int x = net_stem(&n, 4);
    rq_conv_attr far = {{2, 2}, {1, 1}, {0, 0}, {1, 1}, 1};
    const int first = net_conv(&n, "b.first", x, 4, 4, far);
    const int second = net_conv(&n, "b.second", first, 4, 4, far);
    net_geometry(&n, "b.first")->stride[0] = 1 << 10;
    net_geometry(&n, "b.second")->dilation[0] = 1 << 10;
    rq_linear_part part;
    rq_shape shapes[8] = {{.c = 3}, {.c = 4}, {.c = 4}, {.c = 4}, {.c = 4}};
    assert_fails(rq_linear_part_init(&part, &n.model.graph, shapes, second, x, &err), RQ_ERR_MODEL,
                 &err);
    assert_says(&err, "b.second: merged with b.first, its kernel, stride or padding is over 16384");
}

/* 512x512 taps over 512x512 take 2^36 multiply-adds, the third time 2^38. */
static void test_plan__refuses_work_without_end(void **state)
{
    (void)state;
    const rq_conv_attr wide = {{512, 512}, {1, 1}, {0, 0}, {1, 1}, 1};
    const rq_shape shapes[8] = {{.c = 3}, {.c = 1}, {.c = 1}, {.c = 1}, {.c = 1}, {.c = 1}};
    const int x = net_stem(&n, 1);
    const int second = net_conv(&n, "b.second", net_conv(&n, "b.first", x, 1, 1, wide), 1, 1, wide);
    const int third = net_conv(&n, "b.third", second, 1, 1, wide);
    rq_linear_part part;
    assert_ok(rq_linear_part_init(&part, &n.model.graph, shapes, second, x, &err), &err);
    assert_true(rq_linear_value_of(&part, second)->work >= 0x1p36);
    rq_linear_part_deinit(&part);
    assert_fails(rq_linear_part_init(&part, &n.model.graph, shapes, third, x, &err), RQ_ERR_MODEL,
                 &err);
    assert_says(&err, "b.third: merging takes more than 1.37439e+11 multiply-adds");
}

/* ---- where parts begin ---- */

static int base_of(int node)
{
    int base = -1;
    assert_ok(rq_linear_base(&n.model.graph, node, &base, &err), &err);
    return base;
}

static void test_base__of_operators(void **state)
{
    (void)state;
    const int x = net_stem(&n, 4);
    const int conv = net_conv(&n, "conv", x, 4, 4, square(3, 1, 1));
    const int bn = net_batch_norm(&n, "bn", conv, 4);
    const int next = net_conv(&n, "next", bn, 4, 4, square(3, 1, 1));
    const int scaled = net_scale(&n, "scaled", net_batch_norm(&n, "next.bn", next, 4), 4);
    assert_int_equal(base_of(conv), x);
    assert_int_equal(base_of(bn), x);
    assert_int_equal(base_of(next), bn);
    assert_int_equal(base_of(scaled), bn);
    assert_int_equal(base_of(net_scale(&n, "alone", x, 4)), x);
}

static void test_base__of_sums(void **state)
{
    (void)state;
    const int x = net_stem(&n, 4);
    const int conv = net_conv(&n, "conv", x, 4, 4, square(3, 1, 1));
    const int deep = net_conv(&n, "deep", net_conv(&n, "mid", conv, 4, 4, square(1, 1, 1)), 4, 4,
                              square(1, 1, 1));
    const int same[2] = {deep, deep}, near[2] = {conv, deep}, far[2] = {deep, x};
    assert_int_equal(base_of(net_add(&n, RQ_OP_ADD, "same", 2, same)), deep);
    assert_int_equal(base_of(net_add(&n, RQ_OP_ADD, "near", 2, near)), conv);
    const int sum = net_add(&n, RQ_OP_ADD, "far", 2, far);
    assert_int_equal(base_of(sum), x);
    assert_int_equal(base_of(net_batch_norm(&n, "post", sum, 4)), x);
    const int relu = net_relu(&n, "relu", deep);
    const int other[2] = {sum, net_scale(&n, "scaled", relu, 4)};
    const int bad = net_add(&n, RQ_OP_ADD, "bad", 2, other);
    int base;
    assert_fails(rq_linear_base(&n.model.graph, bad, &base, &err), RQ_ERR_MODEL, &err);
    assert_says(&err, "relu: relu is not linear; the sum bad cannot merge it with a branch of");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_sequences__are_exact_or_refused),
        TEST(test_border_rule__is_necessary),
        TEST(test_plan__refuses_padding_behind_a_bias),
        TEST(test_plan__refuses_padding_that_is_still_reached),
        TEST(test_plan__refuses_other_values),
        TEST(test_plan__refuses_sizes_beyond_the_limits),
        TEST(test_plan__refuses_work_without_end),
        TEST(test_base__of_operators),
        TEST(test_base__of_sums),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
