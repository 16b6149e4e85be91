/* insert_bn on a model that f32 batch norms cannot represent: refused, and nothing is written. What
 * a user sees otherwise is tested in tests/cli/test_insert_bn.c. */
#include "cli/commands.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/image/jpeg.h"
#include "runtime/modelfile/modelfile.h"
#include "tests/calib/small_net.h"
#include "tests/support/capture.h"

enum { GREY = 200, SIDE = 16 };

static rq_error err;
static const char *dir;

static int setup(void **state)
{
    (void)state;
    uint8_t pixels[SIDE * SIDE * 3], *jpeg;
    size_t size_bytes;
    dir = rq_test_mkdir();
    memset(pixels, GREY, sizeof pixels);
    if (rq_jpeg_encode(pixels, SIDE, SIDE, 100, &jpeg, &size_bytes, &err))
        return -1;
    assert_int_equal(mkdir(rq_test_path("%s/grey", dir), 0777), 0);
    rq_test_write_file(rq_test_path("%s/grey/1.jpg", dir), jpeg, size_bytes);
    rq_free(jpeg);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rq_test_rmdir(dir);
    return 0;
}

/* Channel 0 of the first convolution: -magnitude times what a grey pixel is, and a bias that brings
 * it back near zero. */
static void save_net(const char *path, float magnitude)
{
    rq_model model;
    net_make(&model, 1);
    float *weight = rq_tensor_f32(rq_graph_tensor(&model.graph, 1, RQ_SLOT_WEIGHT));
    float *bias = rq_tensor_f32(rq_graph_tensor(&model.graph, 1, RQ_SLOT_BIAS));
    const rq_preprocess *p = &model.preprocess;
    memset(weight, 0, 27 * sizeof *weight);
    weight[4] = -magnitude; /* centre of the first input channel */
    bias[0] = magnitude * ((float)GREY / 255.0f - p->mean[0]) / p->std[0] + 1.0f;
    assert_ok(rq_model_save(&model, path, &err), &err);
    rq_model_deinit(&model);
}

static rq_status insert_bn(const char *base, const char *out)
{
    const char *text;
    return rq_test_command(&rq_command_insert_bn, &text, &err, dir, base, out);
}

static void test_insert_bn__refuses_to_change_the_function(void **state)
{
    (void)state;
    const char *base = rq_test_path("%s/base.bin", dir), *out = rq_test_path("%s/out.bin", dir);
    save_net(base, 1e9f);
    assert_fails(insert_bn(base, out), RQ_ERR_RANGE, &err);
    assert_says(&err, "out.bin: not written: the function would change");
    assert_int_not_equal(access(out, F_OK), 0);
    save_net(base, 1.0f); /* the same model with sane numbers */
    assert_ok(insert_bn(base, out), &err);
    assert_int_equal(access(out, F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_insert_bn__refuses_to_change_the_function, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
