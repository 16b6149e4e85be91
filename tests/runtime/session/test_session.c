/* Float sessions against the reference's plain loops (integer.h runs float operators in double),
 * merging, partial batches, the memory plan, and what sessions refuse. */
#include <stdio.h>
#include <string.h>

#include "runtime/base/random.h"
#include "runtime/model/arch.h"
#include "runtime/reference/integer.h"
#include "runtime/session/session.h"
#include "tests/support/test.h"

static const char ARCH[] = "repvgg:depth=1,3,2;width=8,12,20;stride=2,1,2;groups=2;classes=6";
enum { SIDE = 21, BATCH = 3, CLASSES = 6 };

/* Three branches per block, with batch statistics that matter. */
static void build(rq_model *model)
{
    rq_error err = RQ_ERROR_INIT;
    rq_random random = {5};
    assert_ok(rq_arch_build(model, ARCH, 0, &err), &err);
    rq_model_init_weights(model, 3);
    model->preprocess.crop = model->preprocess.resize = SIDE;
    for (int i = 0; i < model->graph.n_nodes; i++) {
        if (model->graph.nodes[i].op != RQ_OP_BATCH_NORM)
            continue;
        static const rq_slot slots[] = {RQ_SLOT_WEIGHT, RQ_SLOT_BIAS, RQ_SLOT_MEAN, RQ_SLOT_VAR};
        for (size_t k = 0; k < 4; k++) {
            const rq_tensor *tensor = rq_graph_tensor(&model->graph, i, slots[k]);
            for (size_t c = 0; c < rq_tensor_elems(tensor); c++)
                rq_tensor_f32(tensor)[c] = (float)(0.2 + rq_random_unit(&random));
        }
    }
}

static void draw(uint8_t *pixels, size_t n)
{
    rq_random random = {11};
    for (size_t i = 0; i < n; i++)
        pixels[i] = (uint8_t)rq_random_below(&random, 256);
}

static rq_session *open_session(const rq_model *model, int batch, rq_value_observer *observer)
{
    rq_error err = RQ_ERROR_INIT;
    rq_session *session = NULL;
    rq_session_options options = RQ_SESSION_OPTIONS_INIT;
    options.batch = batch;
    options.observer = observer;
    assert_ok(rq_session_create(&session, model, &options, &err), &err);
    return session;
}

static void test_session__equals_plain_loops(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_model model;
    uint8_t pixels[BATCH * SIDE * SIDE * 3];
    float got[BATCH * CLASSES], want[BATCH * CLASSES];
    build(&model);
    draw(pixels, sizeof pixels);
    rq_session *session = open_session(&model, BATCH, NULL);
    assert_ok(rq_session_run(session, pixels, BATCH, got, &err), &err);
    rq_session_destroy(session);
    /* the reference walks int8 forms only; a graph of float operators is one */
    model.form = RQ_FORM_INT8;
    assert_ok(rq_integer_run_ref(&model, pixels, BATCH, SIDE, SIDE, want, NULL, NULL, &err), &err);
    assert_all_close(got, want, BATCH * CLASSES, 1e-4, 1e-4);
    assert_true(rq_first_far(want, want + CLASSES, CLASSES, 1e-3, 0.0) <
                CLASSES); /* not constant */
    rq_model_deinit(&model);
}

static void ignore(void *context, int node, const void *value, const rq_shape *shape)
{
    (void)context;
    (void)node;
    (void)value;
    (void)shape;
}

static void test_session__merging_changes_nothing(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_model model;
    uint8_t pixels[BATCH * SIDE * SIDE * 3];
    float merged[BATCH * CLASSES], separate[BATCH * CLASSES];
    build(&model);
    draw(pixels, sizeof pixels);
    rq_session *session = open_session(&model, BATCH, NULL);
    assert_ok(rq_session_run(session, pixels, BATCH, merged, &err), &err);
    rq_session_destroy(session);
    session = open_session(&model, BATCH, ignore);
    assert_ok(rq_session_run(session, pixels, BATCH, separate, &err), &err);
    rq_session_destroy(session);
    assert_memory_equal(merged, separate, sizeof merged);
    rq_model_deinit(&model);
}

static void test_session__partial_batches_and_repeats(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_model model;
    uint8_t pixels[BATCH * SIDE * SIDE * 3];
    float whole[BATCH * CLASSES], part[BATCH * CLASSES];
    build(&model);
    draw(pixels, sizeof pixels);
    rq_session *session = open_session(&model, BATCH, NULL);
    rq_model_deinit(&model); /* a session needs its model only while it is created */
    assert_ok(rq_session_run(session, pixels, BATCH, whole, &err), &err);
    assert_ok(rq_session_run(session, pixels, 1, part, &err), &err);
    assert_memory_equal(part, whole, CLASSES * sizeof *part);
    assert_ok(rq_session_run(session, pixels, BATCH, part, &err), &err);
    assert_memory_equal(part, whole, sizeof part);
    assert_fails(rq_session_run(session, pixels, BATCH + 1, part, &err), RQ_ERR_ARG, &err);
    assert_fails(rq_session_run(session, pixels, 0, part, &err), RQ_ERR_ARG, &err);
    rq_session_destroy(session);
}

static void test_session__activations_share_memory(void **state)
{
    (void)state;
    rq_model model;
    build(&model);
    rq_session *session = open_session(&model, BATCH, NULL);
    const rq_session_info info = rq_session_get_info(session);
    /* a block of three branches has its input and three branches alive at once, not the whole
     * network */
    assert_true(info.activation_bytes <= 5 * info.largest_bytes);
    assert_true(info.activation_bytes >= 2 * info.largest_bytes);
    assert_int_equal(info.n_classes, CLASSES);
    rq_session_destroy(session);
    rq_model_deinit(&model);
}

static void test_session__reports_time_per_step(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_model model;
    uint8_t pixels[SIDE * SIDE * 3];
    float logits[CLASSES];
    build(&model);
    draw(pixels, sizeof pixels);
    rq_session *session = open_session(&model, 1, NULL);
    rq_step_time times[128];
    const int n = rq_session_n_steps(session);
    assert_in_range(n, 10, 128);
    assert_ok(rq_session_run_timed(session, pixels, 1, logits, times, &err), &err);
    double macs = 0.0;
    for (int i = 0; i < n; i++) {
        assert_non_null(times[i].name);
        assert_true(times[i].seconds >= 0.0);
        macs += times[i].macs;
    }
    assert_true(macs > 1e5);
    rq_session_destroy(session);
    rq_model_deinit(&model);
}

static void test_session__refuses_what_it_cannot_run(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_model model;
    rq_session *session = NULL;
    rq_session_options options = RQ_SESSION_OPTIONS_INIT;
    build(&model);
    options.batch = 0;
    assert_fails(rq_session_create(&session, &model, &options, &err), RQ_ERR_ARG, &err);
    options.batch = 1;
    rq_graph *graph = &model.graph;
    const int node = rq_graph_find_node(graph, "linear");
    graph->nodes[node].slot[RQ_SLOT_WEIGHT] = -1;
    assert_fails(rq_session_create(&session, &model, &options, &err), RQ_ERR_MODEL, &err);
    assert_says(&err, "linear");
    assert_null(session);
    rq_model_deinit(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_session__equals_plain_loops),
        cmocka_unit_test(test_session__merging_changes_nothing),
        cmocka_unit_test(test_session__partial_batches_and_repeats),
        cmocka_unit_test(test_session__activations_share_memory),
        cmocka_unit_test(test_session__reports_time_per_step),
        cmocka_unit_test(test_session__refuses_what_it_cannot_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
