/* Checkpoints: everything comes back bit for bit, and nothing but a whole checkpoint of the same
 * run is taken: other runs, other shapes, every cut and every flipped byte are refused. */
#include "qat/checkpoint.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "qat/prepare.h"
#include "runtime/model/tensorfile.h"
#include "tests/qat/net.h"

enum { SIDE = 6, CLASSES = 3, BATCH = 2 };

static const char RUN[] = "test form=qat images=12 batch=2 epochs=5 lr=0.1 seed=1";

/* A tiny qat model with its optimizer, after some steps. */
typedef struct training {
    rq_model model;
    rq_trainer *trainer;
    rq_optimizer *optimizer;
} training;

/* In place: the trainer points into the model. */
static void start(training *t, int steps, int64_t width)
{
    rq_error err = RQ_ERROR_INIT;
    net n;
    net_begin(&n, RQ_FORM_WITHBN, SIDE, CLASSES, 3);
    (void)net_head(&n, net_block(&n, "a", 0, width, NET_K3));
    assert_ok(rq_prepare_qat(&t->model, &n.model, RQ_QUANT_ALL, &err), &err);
    rq_model_deinit(&n.model);
    const rq_trainer_options options = {.batch = BATCH};
    const rq_optimizer_options optimizer = RQ_OPTIMIZER_OPTIONS_INIT;
    assert_ok(rq_trainer_create(&t->trainer, &t->model, &options, &err), &err);
    assert_ok(rq_optimizer_create(&t->optimizer, t->trainer, &t->model, &optimizer, &err), &err);
    for (int i = 0; i < steps; i++) {
        rq_step_result result;
        net_batch batch = net_random_batch(&t->model, BATCH, false, (uint64_t)i);
        assert_ok(rq_trainer_step(t->trainer, batch.pixels, batch.labels, &result, &err), &err);
        assert_ok(rq_optimizer_step(t->optimizer, 0.1, &err), &err);
        rq_free(batch.pixels);
    }
}

static void finish(training *t)
{
    rq_optimizer_destroy(t->optimizer);
    rq_trainer_destroy(t->trainer);
    rq_model_deinit(&t->model);
}

static void assert_same(const training *a, const training *b)
{
    for (int i = 0; i < a->model.graph.n_params; i++) {
        const rq_tensor *x = &a->model.graph.params[i].tensor;
        const size_t size_bytes = rq_tensor_elems(x) * rq_dtype_size(x->dtype);
        assert_memory_equal(x->data, b->model.graph.params[i].tensor.data, size_bytes);
        if (rq_optimizer_state(a->optimizer, i, 0))
            assert_memory_equal(rq_optimizer_state(a->optimizer, i, 0),
                                rq_optimizer_state(b->optimizer, i, 0), size_bytes);
    }
}

static void save(const training *t, const char *path)
{
    rq_error err = RQ_ERROR_INIT;
    const rq_progress progress = {3, 100.0 / 3.0};
    assert_ok(rq_checkpoint_save(path, &t->model, t->optimizer, &progress, RUN, &err), &err);
}

static rq_status load(training *t, const char *path, rq_error *err)
{
    rq_progress progress = {0, 0.0};
    return rq_checkpoint_load(path, &t->model, t->optimizer, &progress, RUN, err);
}

static void test_checkpoint__comes_back(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    const char *dir = rq_test_mkdir();
    char path[256], again[256];
    (void)snprintf(path, sizeof path, "%s/a.ckpt", dir);
    (void)snprintf(again, sizeof again, "%s/b.ckpt", dir);
    training trained, fresh;
    start(&trained, 4, 4);
    start(&fresh, 0, 4);
    save(&trained, path);
    rq_progress progress = {0, 0.0};
    assert_ok(rq_checkpoint_load(path, &fresh.model, fresh.optimizer, &progress, RUN, &err), &err);
    assert_int_equal(progress.epoch, 3);
    assert_close(progress.best_top1, 100.0 / 3.0, 0.0, 0.0);
    assert_same(&trained, &fresh);
    save(&fresh, again); /* and the file is a function of the state */
    size_t n, m;
    uint8_t *a = rq_test_read_file(path, &n), *b = rq_test_read_file(again, &m);
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n);
    rq_free(a);
    rq_free(b);
    finish(&trained);
    finish(&fresh);
    rq_test_rmdir(dir);
}

static void test_checkpoint__before_the_first_validation(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    const char *dir = rq_test_mkdir();
    const char *path = rq_test_path("%s/a.ckpt", dir);
    training t;
    start(&t, 0, 4);
    rq_progress progress = {0, -1.0};
    assert_ok(rq_checkpoint_save(path, &t.model, t.optimizer, &progress, RUN, &err), &err);
    progress = (rq_progress){7, 7.0};
    assert_ok(rq_checkpoint_load(path, &t.model, t.optimizer, &progress, RUN, &err), &err);
    assert_int_equal(progress.epoch, 0);
    assert_close(progress.best_top1, -1.0, 0.0, 0.0);
    finish(&t);
    rq_test_rmdir(dir);
}

/* The message says what differs, there and here, however long the descriptions are. */
static void test_checkpoint__another_run(void **state)
{
    (void)state;
    const char *dir = rq_test_mkdir();
    const char *path = rq_test_path("%s/a.ckpt", dir);
    training t;
    start(&t, 1, 4);
    char long_run[900], other[900];
    static const char arch[] = "repvgg:depth=1,2,4,14,1;width=48,48,96,192,1280;stride=2,2,2,2,2";
    (void)snprintf(long_run, sizeof long_run, "%s %s epochs=20 %0300d lr=0.1", arch, RUN, 0);
    (void)snprintf(other, sizeof other, "%s %s epochs=21 %0300d lr=0.1", arch, RUN, 0);
    const rq_progress progress = {3, 1.0};
    rq_error err = RQ_ERROR_INIT;
    assert_ok(rq_checkpoint_save(path, &t.model, t.optimizer, &progress, long_run, &err), &err);
    static const char *const mine[] = {"lr=0.2", "", "a b c"};
    for (size_t i = 0; i < 3; i++) {
        rq_progress read = {0, 0.0};
        assert_fails(rq_checkpoint_load(path, &t.model, t.optimizer, &read, mine[i], &err),
                     RQ_ERR_FILE, &err);
        assert_says(&err, path);
        assert_says(&err, "another run");
    }
    rq_progress read = {0, 0.0};
    assert_fails(rq_checkpoint_load(path, &t.model, t.optimizer, &read, other, &err), RQ_ERR_FILE,
                 &err);
    assert_says(&err, "epochs=20");
    assert_says(&err, "epochs=21");
    finish(&t);
    rq_test_rmdir(dir);
}

static void test_checkpoint__other_shapes(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    const char *dir = rq_test_mkdir();
    const char *path = rq_test_path("%s/a.ckpt", dir);
    training four, five;
    start(&four, 1, 4);
    start(&five, 1, 5);
    save(&four, path);
    assert_fails(load(&five, path, &err), RQ_ERR_FILE, &err);
    assert_says(&err, path);
    assert_says(&err, "a.conv.weight has another shape than the model's");
    net n; /* another graph: a tensor is missing */
    rq_optimizer *optimizer = NULL;
    rq_trainer *trainer = NULL;
    net_begin(&n, RQ_FORM_TRAIN, SIDE, CLASSES, 1);
    (void)net_head(&n, net_conv(&n, "other", 0, 4, NET_K3, true));
    const rq_trainer_options options = {.batch = BATCH};
    const rq_optimizer_options optimizer_options = RQ_OPTIMIZER_OPTIONS_INIT;
    assert_ok(rq_trainer_create(&trainer, &n.model, &options, &err), &err);
    assert_ok(rq_optimizer_create(&optimizer, trainer, &n.model, &optimizer_options, &err), &err);
    rq_progress progress = {0, 0.0};
    assert_fails(rq_checkpoint_load(path, &n.model, optimizer, &progress, RUN, &err), RQ_ERR_FILE,
                 &err);
    assert_says(&err, path);
    assert_says(&err, "other.weight: the file has no such tensor");
    rq_optimizer_destroy(optimizer);
    rq_trainer_destroy(trainer);
    rq_model_deinit(&n.model);
    finish(&four);
    finish(&five);
    rq_test_rmdir(dir);
}

static void test_checkpoint__other_files(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    const char *dir = rq_test_mkdir();
    char path[256];
    (void)snprintf(path, sizeof path, "%s/a.bin", dir);
    training t;
    start(&t, 1, 4);
    assert_fails(load(&t, path, &err), RQ_ERR_IO, &err); /* missing */
    assert_says(&err, path);
    assert_fails(load(&t, dir, &err), RQ_ERR_IO, &err); /* a folder */
    assert_says(&err, dir);
    assert_ok(rq_trainer_settle(t.trainer, &err), &err);
    assert_ok(rq_model_save(&t.model, path, &err), &err); /* a model */
    assert_fails(load(&t, path, &err), RQ_ERR_FILE, &err);
    assert_says(&err, path);
    assert_says(&err, "not a training checkpoint");
    /* a file that any safetensors program could have written: no checksums */
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"repqat-checkpoint\",\"epoch\":\"1\",\"best_top1\":\"1\","
        "\"run\":\"x\"}}";
    unsigned char plain[8 + sizeof header - 1] = {sizeof header - 1};
    memcpy(plain + 8, header, sizeof header - 1);
    rq_test_write_file(path, plain, sizeof plain);
    assert_fails(load(&t, path, &err), RQ_ERR_FILE, &err);
    assert_says(&err, "not a training checkpoint");
    finish(&t);
    rq_test_rmdir(dir);
}

/* Metadata that no training wrote. */
static void test_checkpoint__wrong_progress(void **state)
{
    (void)state;
    static const char *const wrong[][2] = {
        {"epoch", "-1"},          {"epoch", "x"},       {"epoch", ""},
        {"epoch", "99999999999"}, {"best_top1", "nan"}, {"best_top1", "101"},
        {"best_top1", "-2"},      {"best_top1", ""},    {"format", "repqat"},
    };
    const char *dir = rq_test_mkdir();
    const char *path = rq_test_path("%s/a.ckpt", dir);
    training t;
    start(&t, 0, 4);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        rq_error err = RQ_ERROR_INIT;
        rq_text_pair pairs[] = {
            {"format", "repqat-checkpoint"}, {"epoch", "1"}, {"best_top1", "50"}, {"run", RUN}};
        for (size_t k = 0; k < 4; k++)
            if (strcmp(pairs[k].key, wrong[i][0]) == 0)
                pairs[k].value = wrong[i][1];
        const float one = 1.0f;
        const rq_param param = {"x", {RQ_F32, 1, {1}, (void *)(uintptr_t)&one}};
        assert_ok(rq_tensorfile_write(path, &param, 1, pairs, 4, &err), &err);
        assert_fails(load(&t, path, &err), RQ_ERR_FILE, &err);
        assert_says(&err, "not a training checkpoint");
    }
    finish(&t);
    rq_test_rmdir(dir);
}

/* Cut at every length, and each byte flipped. */
static void test_checkpoint__damage(void **state)
{
    (void)state;
    const char *dir = rq_test_mkdir();
    char path[256], damaged[256];
    (void)snprintf(path, sizeof path, "%s/a.ckpt", dir);
    (void)snprintf(damaged, sizeof damaged, "%s/damaged.ckpt", dir);
    training t;
    start(&t, 1, 1);
    save(&t, path);
    size_t n;
    uint8_t *bytes = rq_test_read_file(path, &n);
    rq_test_write_file(damaged, bytes, n);
    const int fd = open(damaged, O_RDWR);
    assert_true(fd >= 0);
    for (size_t i = 0; i < n; i++) {
        rq_error err = RQ_ERROR_INIT;
        const uint8_t flipped = bytes[i] ^ (uint8_t)(1 << i % 8);
        assert_int_equal(pwrite(fd, &flipped, 1, (off_t)i), 1);
        assert_fails(load(&t, damaged, &err), RQ_ERR_FILE, &err);
        assert_says(&err, damaged);
        assert_int_equal(pwrite(fd, &bytes[i], 1, (off_t)i), 1);
    }
    rq_error err = RQ_ERROR_INIT;
    assert_ok(load(&t, damaged, &err), &err); /* whole again */
    for (size_t i = n; i-- > 0;) {
        assert_int_equal(ftruncate(fd, (off_t)i), 0);
        assert_fails(load(&t, damaged, &err), RQ_ERR_FILE, &err);
        assert_says(&err, damaged);
    }
    (void)close(fd);
    rq_free(bytes);
    finish(&t);
    rq_test_rmdir(dir);
}

/* A checkpoint that is refused leaves the model and the optimizer as they were. */
static void test_checkpoint__refused_leaves_the_state(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    const char *dir = rq_test_mkdir();
    const char *path = rq_test_path("%s/a.ckpt", dir);
    training trained, t, same;
    start(&trained, 3, 4);
    start(&t, 1, 4);
    start(&same, 1, 4);
    save(&trained, path);
    size_t n;
    uint8_t *bytes = rq_test_read_file(path, &n);
    bytes[n - 5] ^= 1; /* the last tensor */
    rq_test_write_file(path, bytes, n);
    rq_free(bytes);
    rq_progress progress = {9, 9.0};
    assert_fails(rq_checkpoint_load(path, &t.model, t.optimizer, &progress, RUN, &err), RQ_ERR_FILE,
                 &err);
    assert_same(&t, &same);
    assert_int_equal(progress.epoch, 9);
    assert_close(progress.best_top1, 9.0, 0.0, 0.0);
    finish(&trained);
    finish(&t);
    finish(&same);
    rq_test_rmdir(dir);
}

static void test_save__keeps_the_previous_file(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    const char *dir = rq_test_mkdir();
    const char *path = rq_test_path("%s/a.ckpt", dir);
    training t;
    start(&t, 1, 4);
    const rq_progress progress = {1, 1.0};
    save(&t, path);
    for (long i = 0; i < 4; i++) {
        rq_alloc_test_fail_after(i);
        assert_int_equal(rq_checkpoint_save(path, &t.model, t.optimizer, &progress, "x", &err),
                         RQ_ERR_NOMEM);
        rq_alloc_test_fail_after(-1);
        assert_ok(load(&t, path, &err), &err);
    }
    const char *nowhere = rq_test_path("%s/no/a.ckpt", dir);
    assert_fails(rq_checkpoint_save(nowhere, &t.model, t.optimizer, &progress, RUN, &err),
                 RQ_ERR_IO, &err);
    assert_says(&err, nowhere);
    finish(&t);
    rq_test_rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checkpoint__comes_back),
        cmocka_unit_test(test_checkpoint__before_the_first_validation),
        cmocka_unit_test(test_checkpoint__another_run),
        cmocka_unit_test(test_checkpoint__other_shapes),
        cmocka_unit_test(test_checkpoint__other_files),
        cmocka_unit_test(test_checkpoint__wrong_progress),
        cmocka_unit_test(test_checkpoint__damage),
        cmocka_unit_test(test_checkpoint__refused_leaves_the_state),
        cmocka_unit_test(test_save__keeps_the_previous_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
