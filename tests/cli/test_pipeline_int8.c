/* The whole pipeline by commands on a tiny network: train, convert, insert_bn, qat_train,
 * export_int8; then the fake-quantized model and the integers must give the same logits, bit for
 * bit. Run again with other instruction sets, where other kernels compute both. */
#include <math.h>

#include "tests/support/small_set.h"

enum { PATH = 128, NPY_HEADER = 128, CLASSES = 3, PER_CLASS = 7, N = CLASSES * PER_CLASS };

static const char ARCH[] = "repvgg:depth=1,2,1;width=7,9,14;stride=1,2,2;groups=1;classes=3";

/* Photographs of the repository: by name, in an order that mixes kinds. */
static const char *const names[N] = {
    "photo",       "grey",         "progressive", "rotated",   "full_chroma",  "cmyk",  "portrait",
    "ycck",        "optimized",    "rgb_stored",  "photo",     "odd_sampling", "grey",  "rotated",
    "full_chroma", "odd_sampling", "portrait",    "optimized", "progressive",  "photo", "ycck"};

static char dir[64], images[PATH];
static rq_cli run;

static const char *in_dir(const char *name)
{
    return rq_test_path("%s/%s", dir, name);
}

static void make_images(void)
{
    static const char *const classes[CLASSES] = {"ant", "bee", "cat"};
    (void)snprintf(images, sizeof images, "%s/images", dir);
    small_mkdir(images);
    for (int split = 0; split < 2; split++) {
        char root[PATH + 8]; /* rq_test_path's texts are soon used again */
        (void)snprintf(root, sizeof root, "%s/%s", images, split ? "val" : "train");
        small_mkdir(root);
        for (int i = 0; i < N; i++) {
            const char *folder = rq_test_path("%s/%s", root, classes[i % CLASSES]);
            if (i < CLASSES)
                small_mkdir(folder);
            small_copy(names[(i + 5 * split) % N], rq_test_path("%s/%d.jpg", folder, i));
        }
    }
}

/* train, convert, insert_bn. */
static void make_withbn(const char *arch)
{
    SMALL_RUN("train", images, "-a", arch, "-r", "24", "-b", "7", "--epochs", "2", "--lr", "0.05",
              "--threads", "1", "-o", in_dir("train.bin"));
    SMALL_RUN("convert", in_dir("train.bin"), in_dir("deploy.bin"));
    SMALL_RUN("insert_bn", images, in_dir("deploy.bin"), in_dir("withbn.bin"), "-b", "7",
              "--threads", "1");
}

/* Once for all choices of layers. */
static int setup(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof dir, "%s", rq_test_mkdir());
    make_images();
    make_withbn(ARCH);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rq_cli_deinit(&run);
    rq_test_rmdir(dir);
    return 0;
}

/* Evaluate and return the logits, f32 [N, CLASSES], for rq_free; *result receives the JSON. */
static float *evaluate(const char *model, const char *batch, json_t **result)
{
    rq_cli_run(&run, "evaluate", images, in_dir(model), "--logits", in_dir("logits.npy"), "-b",
               batch, "--threads", "1", "--json");
    assert_exit(&run, 0);
    *result = rq_cli_json(&run);
    size_t size_bytes;
    uint8_t *file = rq_test_read_file(in_dir("logits.npy"), &size_bytes);
    assert_int_equal(size_bytes, NPY_HEADER + sizeof(float) * N * CLASSES);
    memmove(file, file + NPY_HEADER, size_bytes - NPY_HEADER);
    return (float *)(void *)file;
}

static int top_class(const float *logits)
{
    int best = 0;
    for (int k = 1; k < CLASSES; k++)
        best = logits[k] > logits[best] ? k : best;
    return best;
}

/* Fine-tune with a choice of layers and lower the result to integers. */
static void quantize(const char *layers, const char *epochs)
{
    SMALL_RUN("qat_train", images, "--base-weights", in_dir("withbn.bin"), "-b", "7", "--epochs",
              epochs, "--lr", "0.01", "--quantlayers", layers, "--threads", "1", "-o",
              in_dir("qat.bin"));
    SMALL_RUN("export_int8", in_dir("qat.bin"), in_dir("int8.bin"));
}

/* Largest difference of any logit between the two models, relative to the largest logit; every
 * prediction must be the same, and so must the numbers that are printed. */
static double compare_models(void)
{
    json_t *of_qat, *of_int8;
    float *qat = evaluate("qat.bin", "4", &of_qat), *int8 = evaluate("int8.bin", "5", &of_int8);
    double largest = 0.0, difference = 0.0;
    for (int i = 0; i < N * CLASSES; i++) {
        assert_true(isfinite(qat[i]));
        largest = fmax(largest, fabs((double)qat[i]));
        difference = fmax(difference, fabs((double)qat[i] - (double)int8[i]));
    }
    for (int i = 0; i < N; i++)
        assert_int_equal(top_class(qat + i * CLASSES), top_class(int8 + i * CLASSES));
    assert_true(largest > 0.0);
    assert_close(rq_json_double(of_qat, "top1"), rq_json_double(of_int8, "top1"), 0.0, 0.0);
    assert_close(rq_json_double(of_qat, "top5"), rq_json_double(of_int8, "top5"), 0.0, 0.0);
    assert_int_equal(rq_json_double(of_qat, "images"), N);
    json_decref(of_qat);
    json_decref(of_int8);
    rq_free(qat);
    rq_free(int8);
    return difference / largest;
}

static void test_pipeline__all_layers(void **state)
{
    (void)state;
    quantize("all", "3");
    assert_close(compare_models(), 0.0, 0.0, 0.0);
    rq_cli_run(&run, "inspect", in_dir("int8.bin"));
    assert_exit(&run, 0);
}

/* Layers that stay in float are computed alike too: batch norm folded, the same kernels. */
static void test_pipeline__but_first_and_linear(void **state)
{
    (void)state;
    quantize("exclud_first_and_linear", "2");
    assert_close(compare_models(), 0.0, 0.0, 0.0);
}

static void test_pipeline__but_first_and_last(void **state)
{
    (void)state;
    quantize("exclud_first_and_last", "2");
    assert_close(compare_models(), 0.0, 0.0, 0.0);
}

/* Groups, squeeze-and-excitation in both places, auxiliary heads, max_pools, all kinds of blocks. */
static void test_pipeline__family(void **state)
{
    (void)state;
    static const char *const archs[] = {
        "repvgg:depth=1,2,2;width=6,8,12;stride=1,2,2;groups=2;classes=3",
        "repvgg:depth=1,2,2;width=8,12,12;stride=1,2,2;groups=4;classes=3",
        "repvgg:depth=1,2,1;width=7,9,14;stride=1,2,2;se=pre/3;classes=3",
        "repvgg:depth=1,2,1;width=8,9,14;stride=1,2,2;se=post/4;aux=1;classes=3",
        "repvgg:depth=1,2,1;width=7,9,14;stride=1,2,2;block=qarepvgg;se=post/2;classes=3",
        "repvgg:depth=1,2,1;width=7,9,14;stride=1,2,2;block=target;classes=3",
        "repvgg:depth=1,2,1;width=7,9,14;stride=1,2,2;block=csla;se=pre/2;classes=3",
        "repvgg:depth=1,2,1;width=7,9,14;stride=1,2,2;pool=max;classes=3",
        "repvgg:depth=1,2,1;width=8,9,14;stride=2,2,3;pool=max;se=post/4;aux=1;classes=3",
    };
    for (size_t i = 0; i < sizeof archs / sizeof archs[0]; i++) {
        make_withbn(archs[i]);
        quantize("all", "2");
        assert_close(compare_models(), 0.0, 0.0, 0.0);
    }
    /* the last step, which takes its time to measure speed */
    rq_cli_run(&run, "compare", images, in_dir("deploy.bin"), in_dir("int8.bin"), "--qat",
               in_dir("qat.bin"), "--threads", "1", "--json");
    assert_exit(&run, 0);
    json_t *result = rq_cli_json(&run);
    assert_non_null(json_object_get(result, "agreement"));
    json_decref(result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pipeline__all_layers),
        cmocka_unit_test(test_pipeline__but_first_and_linear),
        cmocka_unit_test(test_pipeline__but_first_and_last),
        cmocka_unit_test(test_pipeline__family),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
