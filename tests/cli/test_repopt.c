/* RepOptimizer as typed: scales are searched, a plain network is trained with them and converted as
 * any other; what does not go together is refused. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>

#include "tests/support/small_set.h"

enum { PATH = 160 };

static char scales[PATH], target[PATH];

static const char plain[] = "repvgg:depth=1,2;width=8,8;block=target";
static const char branched[] = "repvgg:depth=1,2;width=8,8";
static const char constant[] = "repvgg:depth=1,2;width=8,8;block=csla";
static const char other_classes[] = "repvgg:depth=1,2;width=8,8;block=target;classes=100";

#define SMALL "-r", "16", "-b", "4", "--threads", "1"

static int setup(void **state)
{
    (void)small_setup(state);
    (void)snprintf(scales, PATH, "%s/scales.bin", small.dir);
    (void)snprintf(target, PATH, "%s/target.bin", small.dir);
    return 0;
}

/* Whatever the architecture's blocks and classes. */
static void search(const char *arch)
{
    SMALL_RUN("hyper_search", small.images, "-a", arch, SMALL, "--epochs", "2", "--warmup-epochs",
              "0", "-o", scales);
}

static void test_search_then_train(void **state)
{
    (void)state;
    search(other_classes);
    rq_cli_run(&small.run, "inspect", scales);
    assert_exit(&small.run, 0);
    assert_says_out(&small.run, "block=hs");
    assert_says_out(&small.run, "stage1.1.scale_identity");
    SMALL_RUN("train", small.images, "-a", plain, "--scales", scales, SMALL, "--epochs", "2", "-o",
              target);
    SMALL_RUN("convert", target, rq_test_path("%s/deploy.bin", small.dir));
    SMALL_RUN("verify", target, rq_test_path("%s/deploy.bin", small.dir));
}

/* How many values of a tensor in a model file, a safetensors file, are not value. */
static size_t count_other(const char *path, const char *name, float value)
{
    size_t size_bytes, n_other = 0;
    uint64_t header_bytes;
    uint8_t *bytes = rq_test_read_file(path, &size_bytes);
    memcpy(&header_bytes, bytes, sizeof header_bytes);
    const char *text = (const char *)bytes + sizeof header_bytes;
    json_t *header = json_loadb(text, header_bytes, 0, NULL);
    const json_t *offsets = json_object_get(json_object_get(header, name), "data_offsets");
    assert_int_equal(json_array_size(offsets), 2);
    const json_int_t begin = json_integer_value(json_array_get(offsets, 0));
    const json_int_t end = json_integer_value(json_array_get(offsets, 1));
    for (json_int_t at = begin; at < end; at += (json_int_t)sizeof value) {
        float found;
        memcpy(&found, text + header_bytes + at, sizeof found);
        n_other += found != value;
    }
    json_decref(header);
    rq_free(bytes);
    return n_other;
}

/* A csla network's convolution scales stay what they are, its identity scales do not, and in the
 * search none does. */
static void test_csla_keeps_its_scales(void **state)
{
    (void)state;
    const float initial = sqrtf(2.0f);
    SMALL_RUN("train", small.images, "-a", constant, SMALL, "--epochs", "2", "--lr", "0.1", "-o",
              target);
    assert_int_equal(count_other(target, "stage1.1.scale_conv.weight", initial), 0);
    assert_int_equal(count_other(target, "stage1.1.scale_1x1.weight", initial), 0);
    assert_true(count_other(target, "stage1.1.scale_identity.weight", 1.0f) > 0);
    search(branched);
    assert_true(count_other(scales, "stage1.1.scale_conv.weight", initial) > 0);
}

/* Resuming is for the same scales, not for others in a file of the same name. */
static void test_resume_wants_the_same_scales(void **state)
{
    (void)state;
    search(branched);
    SMALL_RUN("train", small.images, "-a", plain, "--scales", scales, SMALL, "--epochs", "2", "-o",
              target);
    SMALL_RUN("train", small.images, "-a", plain, "--scales", scales, SMALL, "--epochs", "2",
              "--resume", "auto", "-o", target);
    SMALL_RUN("hyper_search", small.images, "-a", branched, SMALL, "--epochs", "1", "--seed", "5",
              "-o", scales);
    rq_cli_run(&small.run, "train", small.images, "-q", "-a", plain, "--scales", scales, SMALL,
               "--epochs", "2", "--resume", "auto", "-o", target);
    assert_one_line(&small.run, "train", "target.bin.ckpt");
}

static void test_refusals(void **state)
{
    (void)state;
    search(branched);
    rq_cli_run(&small.run, "train", small.images, "-q", "-a", plain, "--scales", scales, SMALL,
               "--clip-grad", "1", "-o", target);
    assert_failure(&small.run, 2, "--clip-grad");
    rq_cli_run(&small.run, "train", small.images, "-q", "-a", branched, "--scales", scales, SMALL,
               "-o", target);
    assert_failure(&small.run, 2, "block=target");
    rq_cli_run(&small.run, "train", small.images, "-q", "-a",
               "repvgg:depth=1,1;width=8,8;block=target", "--scales", scales, SMALL, "-o", target);
    assert_one_line(&small.run, "train", "scales.bin: stage1.1.scale_conv.weight is of a layer");
    rq_cli_run(&small.run, "train", small.images, "-q", "-a", plain, "--scales",
               small_cut(scales, rq_test_path("%s/cut.bin", small.dir)), SMALL, "-o", target);
    assert_one_line(&small.run, "train", "cut.bin: ");
    rq_cli_run(&small.run, "train", small.images, "-q", "-a", plain, "--scales",
               rq_test_path("%s/none.pth", small.dir), SMALL, "-o", target);
    assert_one_line(&small.run, "train", "none.pth");
    rq_cli_run(&small.run, "hyper_search", small.images, "-q", SMALL, "-o", scales);
    assert_failure(&small.run, 2, "--arch");
    assert_false(small_exists(target));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_search_then_train, setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_csla_keeps_its_scales, setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_resume_wants_the_same_scales, setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_refusals, setup, small_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
