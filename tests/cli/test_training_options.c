/* Recipes and what goes over them, fine-tuning, moving averages, logs: the options of training as
 * typed, seen in what they write. */
#include <dirent.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/support/small_set.h"

enum { PATH = 160 };

/* The number of this name in the object "options" of a result. */
static double option_of(const json_t *json, const char *name)
{
    const json_t *value = json_object_get(json_object_get(json, "options"), name);
    if (!value)
        fail_msg("no option %s in the result", name);
    return json_is_boolean(value) ? json_is_true(value) : json_number_value(value);
}

static const char *word_of(const json_t *json, const char *name)
{
    return json_string_value(json_object_get(json_object_get(json, "options"), name));
}

#define SMALL  "-r", "16", "-b", "4", "--threads", "1"
#define TRAIN  "train", small.images, "-a", SMALL_ARCH
#define RESULT "--json", "-o", small.out

/* ---- recipes ---- */

/* What is on the command line wins, before the recipe and after it; the rest is the
 * recipe's. */
static void test_recipe__command_line_wins(void **state)
{
    (void)state;
    const char *const *const orders[] = {
        (const char *const[]){TRAIN, SMALL, "--epochs", "1", "--lr", "0.02", "--no-nesterov",
                              "--recipe", "cifar", RESULT, NULL},
        (const char *const[]){TRAIN, "--recipe", "cifar", SMALL, "--epochs", "1", "--lr", "0.02",
                              "--no-nesterov", RESULT, NULL},
    };
    for (size_t i = 0; i < 2; i++) {
        rq_cli_run_argv(&small.run, NULL, orders[i]);
        assert_exit(&small.run, 0);
        assert_says_err(&small.run, "recipe cifar\n");
        assert_says_err(&small.run, "weight-decay=0.0005");
        json_t *json = rq_cli_json(&small.run);
        assert_close(option_of(json, "epochs"), 1.0, 0.0, 0.0);
        assert_close(option_of(json, "batch-size"), 4.0, 0.0, 0.0);
        assert_close(option_of(json, "lr"), 0.02, 0.0, 1e-9);
        assert_close(option_of(json, "nesterov"), 0.0, 0.0, 0.0);
        assert_close(option_of(json, "weight-decay"), 5e-4, 0.0, 1e-9);
        assert_close(option_of(json, "label-smoothing"), 0.1, 0.0, 1e-9);
        assert_close(option_of(json, "warmup-epochs"), 1.0, 0.0, 0.0);
        assert_string_equal(word_of(json, "augment"), "pad-crop");
        json_decref(json);
    }
}

/* Some values of each published recipe; batches of other sizes have their share of the rate. */
static void test_recipe__published_values(void **state)
{
    (void)state;
    static const struct {
        const char *recipe, *augment, *schedule;
        double decay, bias_lr, warmup, smoothing, mixup, clip, nesterov, identity;
    } all[] = {
        {"repvgg-120", "weak", "cosine", 1e-4, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0},
        {"repvgg-plus-300", "raug15", "timm", 4e-5, 1.0, 5.0, 0.1, 0.2, 0.0, 1.0, 1.0},
        {"repopt-120", "raug15", "timm", 4e-5, 1.0, 5.0, 0.1, 0.0, 0.0, 1.0, 1.0},
        {"hyper-search", "pad-crop", "timm", 4e-5, 1.0, 10.0, 0.1, 0.0, 5.0, 1.0, 1.0},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        rq_cli_run(&small.run, TRAIN, "--recipe", all[i].recipe, SMALL, "--val-resolution", "0",
                   "--val-resize", "0", "--epochs", "1", "-q", RESULT);
        json_t *json = rq_cli_json(&small.run);
        assert_string_equal(word_of(json, "augment"), all[i].augment);
        assert_string_equal(word_of(json, "schedule"), all[i].schedule);
        assert_close(option_of(json, "lr"), 0.1, 0.0, 1e-9);
        assert_close(json_number_value(json_object_get(json, "effective_lr")), 0.1 * 4 / 256, 0.0,
                     1e-8);
        assert_close(option_of(json, "weight-decay"), all[i].decay, 0.0, 1e-9);
        assert_close(option_of(json, "bias-lr"), all[i].bias_lr, 0.0, 0.0);
        assert_close(option_of(json, "warmup-epochs"), all[i].warmup, 0.0, 0.0);
        assert_close(option_of(json, "label-smoothing"), all[i].smoothing, 0.0, 1e-9);
        assert_close(option_of(json, "mixup"), all[i].mixup, 0.0, 1e-9);
        assert_close(option_of(json, "clip-grad"), all[i].clip, 0.0, 0.0);
        assert_close(option_of(json, "nesterov"), all[i].nesterov, 0.0, 0.0);
        assert_close(option_of(json, "decay-identity"), all[i].identity, 0.0, 0.0);
        json_decref(json);
    }
    rq_cli_run(&small.run, TRAIN, "--recipe", "repvgg-121", RESULT);
    assert_failure(&small.run, 2, "repvgg-120");
}

/* Validation at another size than training becomes the model's preprocessing. */
static void test_recipe__sizes(void **state)
{
    (void)state;
    rq_cli_run(&small.run, TRAIN, "-r", "16", "--val-resolution", "24", "--val-resize", "28", "-b",
               "4", "--threads", "1", "--epochs", "1", "-q", "-o", small.out);
    assert_exit(&small.run, 0);
    rq_cli_run(&small.run, "inspect", small.out, "--json");
    json_t *json = rq_cli_json(&small.run);
    json_decref(json);
    assert_says_out(&small.run, "\"crop\": 24");
    assert_says_out(&small.run, "\"resize\": 28");
}

/* ---- fine-tuning ---- */

/* With all layers frozen, statistics of batch norms included, training changes no logit. */
static void test_freeze__everything(void **state)
{
    (void)state;
    char init[PATH], logits[2][PATH];
    (void)snprintf(init, PATH, "%s/init.bin", small.dir);
    SMALL_RUN(TRAIN, SMALL, "--epochs", "1", "-q", "-o", init);
    rq_cli_run(&small.run, "train", small.images, "--init", init, "-b", "4", "--threads", "1",
               "--epochs", "2", "--freeze", "stage0,stage1,linear", "--lr", "0.5", "-q", "-o",
               small.out);
    assert_exit(&small.run, 0);
    const char *const models[] = {init, small.out};
    size_t n[2];
    uint8_t *bytes[2];
    for (size_t i = 0; i < 2; i++) {
        (void)snprintf(logits[i], PATH, "%s/%zu.npy", small.dir, i);
        SMALL_RUN("evaluate", small.images, models[i], "--threads", "1", "--logits", logits[i]);
        bytes[i] = rq_test_read_file(logits[i], &n[i]);
    }
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(bytes[0], bytes[1], n[0]);
    rq_free(bytes[0]);
    rq_free(bytes[1]);
    rq_cli_run(&small.run, "train", small.images, "--init", init, "-b", "4", "--freeze", "stage7",
               "-o", small.out);
    assert_failure(&small.run, 2, "--freeze: no parameter is below 'stage7'");
    rq_cli_run(&small.run, "train", small.images, "--init", init, "-b", "4", "--lr-scale", "stage0",
               "-o", small.out);
    assert_failure(&small.run, 2, "--lr-scale: 'stage0' is not PREFIX=X");
}

/* A checkpoint of PyTorch with another head: all weights but the head's are taken. */
static void test_init__checkpoint_with_another_head(void **state)
{
    (void)state;
    static const char arch[] = "repvgg:depth=1,2,2;width=8,8,12;stride=2,1,2;classes=5";
    char pth[2][PATH];
    (void)snprintf(pth[0], PATH, "%s/tests/golden/checkpoints/repvgg_zip.pth", RQ_SOURCE_DIR);
    (void)snprintf(pth[1], PATH, "%s/tests/golden/checkpoints/repvgg_timm.safetensors",
                   RQ_SOURCE_DIR);
    for (size_t i = 0; i < 2; i++) {
        rq_cli_run(&small.run, "train", small.images, "-a", arch, "--classes", "2", "--init",
                   pth[i], SMALL, "--epochs", "1", "--freeze", "stage0", "-o", small.out);
        assert_exit(&small.run, 0);
        assert_says_err(&small.run, "has 5 outputs, not 2: it is not loaded");
        rq_cli_run(&small.run, "evaluate", small.images, small.out, "--threads", "1");
        assert_exit(&small.run, 0);
    }
    /* strict otherwise */
    rq_cli_run(&small.run, "train", small.images, "-a", SMALL_ARCH, "--init", pth[0], SMALL, "-q",
               "-o", small.out);
    assert_failure(&small.run, 1, "does not fit");
    rq_cli_run(&small.run, "train", small.images, "--init", pth[0], SMALL, "-q", "-o", small.out);
    assert_failure(&small.run, 2, "arch");
    rq_cli_run(&small.run, "train", small.images, "-a", arch, "--init", "/nowhere.pth", SMALL, "-o",
               small.out);
    assert_failure(&small.run, 1, "/nowhere.pth: ");
}

/* A model file says its architecture; one that is not in training form is refused. */
static void test_init__model_file(void **state)
{
    (void)state;
    char init[PATH], deploy[PATH];
    (void)snprintf(init, PATH, "%s/init.bin", small.dir);
    (void)snprintf(deploy, PATH, "%s/deploy.bin", small.dir);
    SMALL_RUN(TRAIN, SMALL, "--epochs", "1", "-q", "-o", init);
    SMALL_RUN("convert", init, deploy);
    rq_cli_run(&small.run, "train", small.images, "--init", init, "-a", "RepVGG-A0", "-b", "4",
               "-o", small.out);
    assert_failure(&small.run, 1, "not the RepVGG-A0 of -a");
    rq_cli_run(&small.run, "train", small.images, "--init", deploy, "-b", "4", "-o", small.out);
    assert_failure(&small.run, 1, "form is deploy");
    /* another training set: its head and its class names */
    rq_cli_run(&small.run, "train", small.images, "--init", init, "--classes", "3", "-b", "4", "-q",
               "-o", small.out);
    assert_failure(&small.run, 1, "3 classes");
}

/* ---- averages, optimizers, logs ---- */

static void test_ema__saved_beside(void **state)
{
    (void)state;
    const char *best = rq_test_path("%s/out.best_ema.bin", small.dir);
    (void)unlink(best);
    rq_cli_run(&small.run, TRAIN, SMALL, "--epochs", "2", "--ema", "0.1", RESULT);
    assert_says_err(&small.run, " * average: Acc@1 ");
    json_t *json = rq_cli_json(&small.run);
    assert_true(json_is_number(json_object_get(json, "best_ema_top1")));
    json_decref(json);
    assert_true(small_exists(best));
    SMALL_RUN("evaluate", small.images, best, "--threads", "1");
    rq_cli_run(&small.run, TRAIN, SMALL, "--epochs", "1", "--ema", "1.5", "-o", small.out);
    assert_failure(&small.run, 2, "ema");
}

/* A share of 1 in every step: the average is the model. */
static void test_ema__of_a_quantized_model(void **state)
{
    (void)state;
    char qat[PATH], average[PATH], logits[2][PATH];
    small_deploy(small.dir);
    (void)snprintf(qat, PATH, "%s/q.bin", small.dir);
    (void)snprintf(average, PATH, "%s/q.best_ema.bin", small.dir);
    SMALL_RUN("insert_bn", small.images, rq_test_path("%s/deploy.bin", small.dir),
              rq_test_path("%s/withbn.bin", small.dir), "--threads", "1");
    SMALL_RUN("qat_train", small.images, "--base-weights", rq_test_path("%s/withbn.bin", small.dir),
              "-b", "4", "--epochs", "1", "--threads", "1", "--ema", "1", "--ema-rule", "plain",
              "-o", qat);
    const char *const models[] = {qat, average};
    size_t n[2];
    uint8_t *bytes[2];
    for (size_t i = 0; i < 2; i++) {
        (void)snprintf(logits[i], PATH, "%s/%zu.npy", small.dir, i);
        SMALL_RUN("evaluate", small.images, models[i], "--threads", "1", "--logits", logits[i]);
        bytes[i] = rq_test_read_file(logits[i], &n[i]);
    }
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(bytes[0], bytes[1], n[0]);
    rq_free(bytes[0]);
    rq_free(bytes[1]);
    SMALL_RUN("export_int8", average, rq_test_path("%s/i.bin", small.dir));
}

static void test_mixup__not_into_quantized_layers(void **state)
{
    (void)state;
    small_deploy(small.dir);
    const char *withbn = rq_test_path("%s/withbn.bin", small.dir);
    SMALL_RUN("insert_bn", small.images, rq_test_path("%s/deploy.bin", small.dir), withbn,
              "--threads", "1");
    rq_cli_run(&small.run, "qat_train", small.images, "--base-weights", withbn, "-b", "4",
               "--epochs", "1", "--mixup", "0.2", "-q", "-o", small.out);
    assert_failure(&small.run, 1, "mixup: the first layer is quantized");
}

/* The loss of the first progress line. */
static double first_loss(void)
{
    const char *loss = strstr(small.run.err, "Loss ");
    assert_non_null(loss);
    return strtod(loss + strlen("Loss "), NULL);
}

/* Its part of the loss is printed with the rest, and only RepVGG's blocks have it. */
static void test_custom_l2__blocks_of_repvgg(void **state)
{
    (void)state;
    const char *target = rq_test_path("%s;block=target", SMALL_ARCH);
    rq_cli_run(&small.run, TRAIN, SMALL, "--epochs", "1", "--wd", "0.5", "-o", small.out);
    assert_exit(&small.run, 0);
    const double plain = first_loss();
    rq_cli_run(&small.run, TRAIN, SMALL, "--epochs", "1", "--wd", "0.5", "-o", small.out,
               "--custom-l2");
    assert_exit(&small.run, 0);
    assert_true(first_loss() > plain + 0.1);
    rq_cli_run(&small.run, "train", small.images, "-a", target, SMALL, "--epochs", "1",
               "--custom-l2", "-q", "-o", rq_test_path("%s/none.bin", small.dir));
    assert_failure(&small.run, 2, "--custom-l2");
    assert_false(small_exists(rq_test_path("%s/none.bin", small.dir)));
}

/* How many event files (tests/qat/run/test_event_file.c reads what is in them) a folder has. */
static int count_event_files(const char *folder)
{
    int n = 0;
    DIR *stream = opendir(folder);
    assert_non_null(stream);
    for (const struct dirent *entry; (entry = readdir(stream));)
        n += strncmp(entry->d_name, "events.out.tfevents.", 20) == 0;
    (void)closedir(stream);
    return n;
}

/* Each line of the log is an object; steps and epochs are there, and a second run appends. */
static void test_log_dir__json_lines(void **state)
{
    (void)state;
    char logs[PATH], path[PATH + 32];
    (void)snprintf(logs, PATH, "%s/logs", small.dir);
    (void)snprintf(path, sizeof path, "%s/train.jsonl", logs);
    for (int time = 1; time <= 2; time++) {
        int n_start = 0, n_step = 0, n_epoch = 0;
        SMALL_RUN(TRAIN, SMALL, "--epochs", "2", "-p", "1", "-q", "--log-dir", logs, "-o",
                  small.out);
        size_t n;
        char *text = (char *)rq_test_read_file(path, &n);
        assert_int_equal(text[n - 1], '\n');
        for (char *line = text; line < text + n;) {
            char *end = memchr(line, '\n', (size_t)(text + n - line));
            json_t *json = json_loadb(line, (size_t)(end - line), 0, NULL);
            assert_non_null(json);
            const char *event = json_string_value(json_object_get(json, "event"));
            assert_true(json_is_integer(json_object_get(json, "epoch")));
            assert_true(json_is_integer(json_object_get(json, "step")));
            n_start += strcmp(event, "start") == 0;
            if (strcmp(event, "step") == 0) {
                static const char *const keys[] = {"lr", "loss", "top1", "img_per_s"};
                for (size_t k = 0; k < 4; k++)
                    assert_true(json_is_number(json_object_get(json, keys[k])));
                n_step++;
            } else if (strcmp(event, "epoch") == 0) {
                assert_true(json_is_number(json_object_get(json, "val_top1")));
                assert_true(json_is_null(json_object_get(json, "val_ema_top1")));
                n_epoch++;
            }
            json_decref(json);
            line = end + 1;
        }
        rq_free(text);
        assert_int_equal(n_start, time);
        assert_int_equal(n_step, 4 * time);
        assert_int_equal(n_epoch, 2 * time);
        assert_int_equal(count_event_files(logs), time);
    }
    rq_cli_run(&small.run, TRAIN, SMALL, "--epochs", "1", "--log-dir", small.images, "-q", "-o",
               rq_test_path("%s/train/cat/0.jpg/x", small.images));
    assert_exit(&small.run, 1);
    rq_cli_run(&small.run, TRAIN, SMALL, "--epochs", "1", "--log-dir", "/dev/null", "-q", "-o",
               small.out);
    assert_failure(&small.run, 1, "/dev/null");
}

static void test_profile__every_layer(void **state)
{
    (void)state;
    rq_cli_run(&small.run, TRAIN, SMALL, "--epochs", "1", "--profile", "-o", small.out);
    assert_exit(&small.run, 0);
    assert_says_err(&small.run, "ms/image: conv forward");
    assert_says_err(&small.run, "conv           stage1.0.rbr_1x1.conv\n");
    assert_says_err(&small.run, "norm, sum, act stage0.nonlinearity\n");
    assert_not_err(&small.run, "nan");
}

/* A bar is drawn on a terminal, and nowhere else. */
static void test_progress__on_a_terminal_only(void **state)
{
    (void)state;
    char command[4 * PATH];
    (void)snprintf(command, sizeof command,
                   "%s train %s -a '" SMALL_ARCH "' -r 16 -b 4 --threads 1 --epochs 1 -o %s",
                   RQ_PROGRAM, small.images, small.out);
    const rq_cli_options terminal = {.program = "/usr/bin/script"};
    rq_cli_run_with(&small.run, &terminal, "-q", "-e", "-c", command, "/dev/null");
    assert_exit(&small.run, 0);
    assert_says_out(&small.run, "epoch 0 [============            ] 1/2");
    assert_says_out(&small.run, "\r\033[K"); /* and taken away again */
    rq_cli_run(&small.run, TRAIN, SMALL, "--epochs", "1", "-o", small.out);
    assert_exit(&small.run, 0);
    assert_not_err(&small.run, "epoch 0 [");
    assert_not_err(&small.run, "\r");
}

/* Options that change the course of training make another run; the others do not. */
static void test_resume__what_may_change(void **state)
{
    (void)state;
    char ckpt[PATH + 32];
    (void)snprintf(ckpt, sizeof ckpt, "%s.ckpt", small.out);
    SMALL_RUN(TRAIN, SMALL, "--epochs", "1", "-q", "-o", small.out);
    SMALL_RUN(TRAIN, SMALL, "--epochs", "1", "-q", "-o", small.out, "--resume", "auto", "-j", "1",
              "-p", "3", "--val-batch-size", "2", "--save-every", "1");
    static const char *const others[][2] = {
        {"--lr", "0.2"},
        {"--optimizer", "adamw"},
        {"--ema", "0.1"},
        {"--mixup", "0.1"},
        {"--clip-grad", "2"},
        {"--schedule", "timm"},
        {"--lr-scale", "linear=2"},
        {"--freeze", "stage0"},
        {"--augment", "raug15"},
        {"--resize", "48"},
        {"--padding", "2"},
        {"--padding-mode", "reflect"},
        {"--color-jitter", "0.1"},
        {"--weight-decay", "0"},
    };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        rq_cli_run(&small.run, TRAIN, SMALL, "--epochs", "1", "-q", "-o", small.out, "--resume",
                   ckpt, others[i][0], others[i][1]);
        assert_failure(&small.run, 1, "another run");
        assert_says_err(&small.run, others[i][0] + 2);
    }
    /* a run that begins anew says what it will replace */
    rq_cli_run(&small.run, TRAIN, SMALL, "--epochs", "1", "-o", small.out);
    assert_exit(&small.run, 0);
    assert_says_err(&small.run, "is the state of an earlier run (1 epochs)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recipe__command_line_wins),
        cmocka_unit_test(test_recipe__published_values),
        cmocka_unit_test(test_recipe__sizes),
        cmocka_unit_test(test_freeze__everything),
        cmocka_unit_test(test_init__checkpoint_with_another_head),
        cmocka_unit_test(test_init__model_file),
        cmocka_unit_test(test_ema__saved_beside),
        cmocka_unit_test(test_ema__of_a_quantized_model),
        cmocka_unit_test(test_mixup__not_into_quantized_layers),
        cmocka_unit_test(test_custom_l2__blocks_of_repvgg),
        cmocka_unit_test(test_log_dir__json_lines),
        cmocka_unit_test(test_profile__every_layer),
        cmocka_unit_test(test_progress__on_a_terminal_only),
        cmocka_unit_test(test_resume__what_may_change),
    };
    return cmocka_run_group_tests(tests, small_setup, small_teardown);
}
