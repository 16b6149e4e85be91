/* Building and copying graphs. */
#include "runtime/model/graph.h"

#include <stdio.h>

#include "tests/support/test.h"

static rq_error err;

/* input -> conv (weight 1..) -> relu */
static void make_chain(rq_graph *graph)
{
    const int64_t dims[4] = {2, 3, 1, 1};
    int node;
    assert_ok(rq_graph_add_node(graph, RQ_OP_INPUT, "input", 0, NULL, &node, &err), &err);
    assert_int_equal(node, 0);
    assert_ok(rq_graph_add_node(graph, RQ_OP_CONV, "a.conv", 1, &node, &node, &err), &err);
    assert_ok(rq_graph_add_param(graph, node, RQ_SLOT_WEIGHT, RQ_F32, 4, dims, &err), &err);
    graph->nodes[node].conv = (rq_conv_attr){{1, 1}, {1, 1}, {0, 0}, {1, 1}, 1};
    for (int i = 0; i < 6; i++)
        rq_tensor_f32(rq_graph_tensor(graph, node, RQ_SLOT_WEIGHT))[i] = (float)(i + 1);
    assert_ok(rq_graph_add_node(graph, RQ_OP_RELU, "a.relu", 1, &node, &node, &err), &err);
}

static void test_graph_build__names_and_slots(void **state)
{
    (void)state;
    rq_graph graph = RQ_GRAPH_INIT;
    make_chain(&graph);
    assert_int_equal(graph.n_nodes, 3);
    assert_int_equal(graph.n_params, 1);
    assert_string_equal(graph.params[0].name, "a.conv.weight");
    assert_int_equal(rq_graph_find_node(&graph, "a.relu"), 2);
    assert_int_equal(rq_graph_find_node(&graph, "a"), -1);
    assert_int_equal(rq_graph_find_param(&graph, "a.conv.weight"), 0);
    assert_int_equal(rq_graph_find_param(&graph, ""), -1);
    assert_null(rq_graph_tensor(&graph, 1, RQ_SLOT_BIAS));
    assert_int_equal((uintptr_t)rq_graph_tensor(&graph, 1, RQ_SLOT_WEIGHT)->data % RQ_ALIGNMENT, 0);
    rq_graph_deinit(&graph);
    assert_int_equal(graph.n_nodes, 0);
}

static void test_graph_build__many_nodes(void **state)
{
    (void)state;
    rq_graph graph = RQ_GRAPH_INIT;
    int last;
    assert_ok(rq_graph_add_node(&graph, RQ_OP_INPUT, "0", 0, NULL, &last, &err), &err);
    for (int i = 1; i < RQ_MAX_NODES; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "%d", i);
        assert_ok(rq_graph_add_node(&graph, RQ_OP_RELU, name, 1, &last, &last, &err), &err);
    }
    assert_int_equal(last, RQ_MAX_NODES - 1);
    assert_string_equal(graph.nodes[1000].name, "1000");
    assert_fails(rq_graph_add_node(&graph, RQ_OP_RELU, "more", 1, &last, NULL, &err), RQ_ERR_MODEL,
                 &err);
    assert_says(&err, "more than");
    rq_graph_deinit(&graph);
}

static void test_graph_add_node__rejects(void **state)
{
    (void)state;
    rq_graph graph = RQ_GRAPH_INIT;
    make_chain(&graph);
    const int bad[][1] = {{3}, {-1}};
    for (size_t i = 0; i < 2; i++) {
        assert_fails(rq_graph_add_node(&graph, RQ_OP_RELU, "x", 1, bad[i], NULL, &err),
                     RQ_ERR_MODEL, &err);
        assert_says(&err, "x: input 0");
    }
    const int many[RQ_MAX_INPUTS + 1] = {0};
    assert_fails(rq_graph_add_node(&graph, RQ_OP_ADD, "x", RQ_MAX_INPUTS + 1, many, NULL, &err),
                 RQ_ERR_MODEL, &err);
    assert_fails(rq_graph_add_node(&graph, RQ_OP_RELU, "a.conv", 1, many, NULL, &err), RQ_ERR_MODEL,
                 &err);
    assert_says(&err, "a.conv");
    assert_fails(rq_graph_add_node(&graph, RQ_OP_RELU, "", 1, many, NULL, &err), RQ_ERR_MODEL,
                 &err);
    assert_int_equal(graph.n_nodes, 3);
    rq_graph_deinit(&graph);
}

static void test_graph_add_param__rejects(void **state)
{
    (void)state;
    rq_graph graph = RQ_GRAPH_INIT;
    make_chain(&graph);
    const int64_t dims[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1}, negative[1] = {-1},
                  huge[3] = {INT64_MAX, INT64_MAX, 4};
    assert_fails(rq_graph_add_param(&graph, 1, RQ_SLOT_WEIGHT, RQ_F32, 4, dims, &err), RQ_ERR_MODEL,
                 &err);
    assert_says(&err, "a.conv.weight");
    assert_fails(rq_graph_add_param(&graph, 1, RQ_SLOT_BIAS, RQ_F32, 9, dims, &err), RQ_ERR_MODEL,
                 &err);
    assert_says(&err, "rank 9");
    assert_fails(rq_graph_add_param(&graph, 1, RQ_SLOT_BIAS, RQ_F32, 1, negative, &err),
                 RQ_ERR_MODEL, &err);
    assert_fails(rq_graph_add_param(&graph, 1, RQ_SLOT_BIAS, RQ_F32, 3, huge, &err), RQ_ERR_MODEL,
                 &err);
    const rq_tensor *weight = rq_graph_tensor(&graph, 1, RQ_SLOT_WEIGHT);
    assert_fails(rq_graph_copy_param(&graph, 1, RQ_SLOT_BIAS, "a.conv.weight", weight, &err),
                 RQ_ERR_MODEL, &err);
    assert_int_equal(graph.n_params, 1);
    rq_graph_deinit(&graph);
}

static void test_graph_only_reader__and_next(void **state)
{
    (void)state;
    rq_graph graph = RQ_GRAPH_INIT;
    make_chain(&graph);
    const int both[2] = {2, 1}, twice[2] = {3, 3};
    assert_int_equal(rq_graph_only_reader(&graph, 1), 2);
    assert_int_equal(rq_graph_next(&graph, 1, RQ_OP_RELU), 2);
    assert_int_equal(rq_graph_next(&graph, 1, RQ_OP_BATCH_NORM), -1);
    assert_int_equal(rq_graph_only_reader(&graph, 2), -1);
    assert_ok(rq_graph_add_node(&graph, RQ_OP_ADD, "add", 2, both, NULL, &err), &err);
    assert_ok(rq_graph_add_node(&graph, RQ_OP_ADD, "double", 2, twice, NULL, &err), &err);
    assert_int_equal(rq_graph_only_reader(&graph, 0), 1);
    assert_int_equal(rq_graph_only_reader(&graph, 1), -1);
    assert_int_equal(rq_graph_next(&graph, 2, RQ_OP_ADD), 3);
    assert_int_equal(rq_graph_only_reader(&graph, 3), -1);
    assert_ptr_equal(rq_graph_producer(&graph, 3, 0), &graph.nodes[2]);
    assert_ptr_equal(rq_graph_producer(&graph, 3, 1), &graph.nodes[1]);
    rq_graph_deinit(&graph);
}

static void test_graph_conv_shape__conv_and_linear(void **state)
{
    (void)state;
    const rq_conv_attr wide = {{3, 2}, {2, 1}, {1, 0}, {1, 1}, 1};
    const rq_conv_attr one_pixel = {{1, 1}, {1, 1}, {0, 0}, {1, 1}, 1};
    rq_node nodes[3] = {{.op = RQ_OP_INPUT},
                        {.op = RQ_OP_CONV, .n_inputs = 1, .input = {0}, .conv = wide},
                        {.op = RQ_OP_LINEAR, .n_inputs = 1, .input = {1}}};
    const rq_graph graph = {.nodes = nodes, .n_nodes = 3};
    const rq_shape shapes[3] = {{2, 5, 4, 3, RQ_F32}, {2, 3, 3, 7, RQ_F32}, {2, 3, 3, 9, RQ_F32}};
    rq_conv_shape shape = rq_graph_conv_shape(&graph, shapes, 1);
    assert_memory_equal(&shape, ((int64_t[]){2, 5, 4, 3, 3, 3, 7}), 7 * sizeof(int64_t));
    assert_memory_equal(&shape.conv, &wide, sizeof wide);
    shape = rq_graph_conv_shape(&graph, shapes, 2);
    assert_memory_equal(&shape, ((int64_t[]){2, 3, 3, 7, 3, 3, 9}), 7 * sizeof(int64_t));
    assert_memory_equal(&shape.conv, &one_pixel, sizeof one_pixel);
}

/* a.relu is the output; b.relu, made from a.conv through b.scale, an auxiliary one. */
static void test_graph_outputs__and_what_they_need(void **state)
{
    (void)state;
    rq_graph graph = RQ_GRAPH_INIT;
    const int conv = 1;
    int b, last;
    bool needed[8];
    make_chain(&graph);
    assert_true(rq_graph_is_output(&graph, 2));
    assert_ok(rq_graph_add_node(&graph, RQ_OP_SCALE, "b.scale", 1, &conv, &b, &err), &err);
    assert_ok(rq_graph_add_node(&graph, RQ_OP_RELU, "b.relu", 1, &b, &b, &err), &err);
    assert_ok(rq_graph_add_node(&graph, RQ_OP_ADD, "add", 2, (const int[]){2, conv}, &last, &err),
              &err);
    static const bool is_output[6] = {false, false, false, false, true, true};
    static const bool is_needed[6] = {true, true, true, false, false, true};
    rq_graph_find_needed(&graph, needed);
    for (int i = 0; i < graph.n_nodes; i++) {
        assert_int_equal(rq_graph_is_output(&graph, i), is_output[i]);
        assert_int_equal(needed[i], is_needed[i]);
    }
    assert_int_equal(rq_graph_only_reader(&graph, b), -1);
    assert_int_equal(rq_graph_only_reader(&graph, last), -1);
    rq_graph_deinit(&graph);
}

static void test_graph_clone__is_deep(void **state)
{
    (void)state;
    rq_graph graph = RQ_GRAPH_INIT, copy;
    make_chain(&graph);
    assert_ok(rq_graph_clone(&copy, &graph, &err), &err);
    rq_tensor_f32(&graph.params[0].tensor)[0] = -1.0f;
    rq_graph_deinit(&graph);
    assert_int_equal(copy.n_nodes, 3);
    assert_string_equal(copy.nodes[1].name, "a.conv");
    assert_int_equal(copy.nodes[1].conv.groups, 1);
    assert_int_equal(copy.nodes[2].input[0], 1);
    assert_string_equal(copy.params[0].name, "a.conv.weight");
    for (int i = 0; i < 6; i++)
        assert_close(rq_tensor_f32(&copy.params[0].tensor)[i], i + 1, 0, 0);
    rq_graph_deinit(&copy);
}

static void test_graph_clone__no_memory(void **state)
{
    (void)state;
    rq_graph graph = RQ_GRAPH_INIT, copy;
    make_chain(&graph);
    rq_alloc_test_fail_after(0);
    const rq_status status = rq_graph_clone(&copy, &graph, &err);
    rq_alloc_test_fail_after(-1);
    assert_int_equal(status, RQ_ERR_NOMEM);
    rq_graph_deinit(&copy);
    rq_graph_deinit(&graph);
}

static void count_close(void *object)
{
    ++*(int *)object;
}

static void test_graph_own__closes_with_the_graph(void **state)
{
    (void)state;
    rq_graph graph = RQ_GRAPH_INIT, copy;
    const rq_mapping none = {NULL, 0};
    float values[6] = {1, 2, 3, 4, 5, 6};
    const rq_tensor source = {.dtype = RQ_F32, .rank = 1, .dim = {6}, .data = values};
    int n_first = 0, n_second = 0, node;
    assert_ok(rq_graph_own(&graph, &n_first, count_close, &none, &err), &err);
    assert_ok(rq_graph_own(&graph, &n_second, count_close, &none, &err), &err);
    assert_ok(rq_graph_add_node(&graph, RQ_OP_SCALE, "s", 0, NULL, &node, &err), &err);
    assert_ok(rq_graph_view_param(&graph, node, RQ_SLOT_WEIGHT, "w", &source, &err), &err);
    assert_fails(rq_graph_view_param(&graph, node, RQ_SLOT_BIAS, "w", &source, &err), RQ_ERR_MODEL,
                 &err);
    assert_ptr_equal(graph.params[0].tensor.data, values);
    rq_graph_release_node(&graph, node); /* not of a mapping: nothing happens */
    assert_ok(rq_graph_clone(&copy, &graph, &err), &err);
    assert_int_equal(n_first + n_second, 0);
    rq_graph_deinit(&graph);
    assert_int_equal(n_first, 1);
    assert_int_equal(n_second, 1);
    assert_true(copy.params[0].tensor.data != values);
    assert_memory_equal(copy.params[0].tensor.data, values, sizeof values);
    rq_graph_deinit(&copy);
    assert_int_equal(n_first + n_second, 2);
}

static void test_graph_own__no_memory(void **state)
{
    (void)state;
    rq_graph graph = RQ_GRAPH_INIT;
    const rq_mapping none = {NULL, 0};
    int n_closed = 0;
    rq_alloc_test_fail_after(0);
    const rq_status status = rq_graph_own(&graph, &n_closed, count_close, &none, &err);
    rq_alloc_test_fail_after(-1);
    assert_int_equal(status, RQ_ERR_NOMEM);
    rq_graph_deinit(&graph);
    assert_int_equal(n_closed, 0); /* still the caller's */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_graph_build__names_and_slots),
        cmocka_unit_test(test_graph_build__many_nodes),
        cmocka_unit_test(test_graph_add_node__rejects),
        cmocka_unit_test(test_graph_add_param__rejects),
        cmocka_unit_test(test_graph_only_reader__and_next),
        cmocka_unit_test(test_graph_conv_shape__conv_and_linear),
        cmocka_unit_test(test_graph_outputs__and_what_they_need),
        cmocka_unit_test(test_graph_clone__is_deep),
        cmocka_unit_test(test_graph_clone__no_memory),
        cmocka_unit_test(test_graph_own__closes_with_the_graph),
        cmocka_unit_test(test_graph_own__no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
