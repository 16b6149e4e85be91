/* Names and descriptions of networks, and everything that can be wrong with one. */
#include "runtime/model/arch.h"

#include <string.h>

#include "runtime/base/random.h"

#include "tests/support/test.h"

static rq_error err;

static void test_arch_name__lists_all(void **state)
{
    (void)state;
    rq_arch arch;
    int n = 0;
    for (; rq_arch_name(n); n++) {
        assert_ok(rq_arch_parse(&arch, rq_arch_name(n), &err), &err);
        for (int i = 0; i < n; i++)
            assert_string_not_equal(rq_arch_name(i), rq_arch_name(n));
    }
    /* RepVGG, D2se and plus, QARepVGG, four kinds of four sizes of RepOpt-VGG */
    assert_int_equal(n, 13 + 2 + 10 + 16);
    assert_null(rq_arch_name(-1));
    assert_null(rq_arch_name(n + 1));
}

static void test_arch_parse__description(void **state)
{
    (void)state;
    rq_arch arch;
    assert_ok(rq_arch_parse(&arch, "repvgg:width=16,32;depth=1,3", &err), &err);
    assert_int_equal(arch.n_stages, 2);
    assert_int_equal(arch.depth[1], 3);
    assert_int_equal(arch.width[0], 16);
    assert_int_equal(arch.stride[1], 2);
    assert_false(arch.max_pool);
    assert_int_equal(arch.groups, 1);
    assert_int_equal(arch.block, RQ_BLOCK_REPVGG);
    assert_int_equal(arch.se, RQ_SE_NONE);
    assert_false(arch.aux[0] || arch.aux[1]);
    assert_string_equal(arch.name[1], "stage1");
    assert_int_equal(arch.classes, 1000);
    assert_ok(rq_arch_parse(&arch,
                            "repvgg:depth=1,2;width=8,16;stride=1,3;pool=max;groups=2;classes=10;"
                            "block=qarepvgg;se=post/4;aux=1,0;names=stem,body.blocks",
                            &err),
              &err);
    assert_int_equal(arch.stride[1], 3);
    assert_true(arch.max_pool);
    assert_int_equal(arch.groups, 2);
    assert_int_equal(arch.block, RQ_BLOCK_QAREPVGG);
    assert_int_equal(arch.se, RQ_SE_POST);
    assert_int_equal(arch.se_reduction, 4);
    assert_true(arch.aux[0] && arch.aux[1] && !arch.aux[2]);
    assert_string_equal(arch.name[0], "stem");
    assert_string_equal(arch.name[1], "body.blocks");
    assert_int_equal(arch.classes, 10);
    char path[RQ_STAGE_NAME_BYTES + 4];
    rq_arch_aux_path(&arch, 1, path);
    assert_string_equal(path, "body_aux");
}

static void test_arch_parse__words(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        rq_block block;
        rq_se_place se;
    } cases[] = {
        {"repvgg:depth=1;width=8;block=repvgg;se=none", RQ_BLOCK_REPVGG, RQ_SE_NONE},
        {"repvgg:depth=1;width=8;se=pre/8;block=target", RQ_BLOCK_TARGET, RQ_SE_PRE},
        {"repvgg:depth=1;width=8;block=hs", RQ_BLOCK_HS, RQ_SE_NONE},
        {"repvgg:depth=1;width=8;block=csla;se=post/1", RQ_BLOCK_CSLA, RQ_SE_POST},
        {"repvgg:block=repopt-repvgg;depth=1;width=8", RQ_BLOCK_REPOPT_REPVGG, RQ_SE_NONE},
        {"RepVGG-D2se", RQ_BLOCK_REPVGG, RQ_SE_PRE},
        {"RepVGGplus-L2pse", RQ_BLOCK_REPVGG, RQ_SE_POST},
        {"RepOpt-VGG-L1-csla", RQ_BLOCK_CSLA, RQ_SE_NONE},
        {"RepOpt-VGG-B2-repvgg", RQ_BLOCK_REPOPT_REPVGG, RQ_SE_NONE},
        {"QARepVGG-B2g4", RQ_BLOCK_QAREPVGG, RQ_SE_NONE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rq_arch arch;
        assert_ok(rq_arch_parse(&arch, cases[i].text, &err), &err);
        assert_int_equal(arch.block, cases[i].block);
        assert_int_equal(arch.se, cases[i].se);
    }
}

static void test_arch_describe__round_trip(void **state)
{
    (void)state;
    for (int i = 0; rq_arch_name(i); i++) {
        rq_arch arch, again;
        char text[RQ_ARCH_TEXT_BYTES];
        assert_ok(rq_arch_parse(&arch, rq_arch_name(i), &err), &err);
        rq_arch_describe(&arch, text);
        assert_ok(rq_arch_parse(&again, text, &err), &err);
        assert_true(rq_arch_is_same(&arch, &again));
        assert_int_equal(arch.classes, again.classes);
    }
}

static void test_arch_describe__leaves_defaults_out(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "repvgg:depth=1,2,4,14,1;width=48,48,96,192,1280",
        "repvgg:depth=1,2;width=8,16;stride=2,1;pool=max;groups=4;block=csla;se=pre/2;aux=0,1;"
        "names=a,b.c;classes=7",
    };
    rq_arch arch;
    char text[RQ_ARCH_TEXT_BYTES];
    for (size_t i = 0; i < 2; i++) {
        assert_ok(rq_arch_parse(&arch, texts[i], &err), &err);
        rq_arch_describe(&arch, text);
        assert_string_equal(text, texts[i]);
    }
    assert_ok(rq_arch_parse(&arch, "RepVGG-A0", &err), &err);
    rq_arch_describe(&arch, text);
    assert_string_equal(text, texts[0]);
}

/* Every field at its longest fits into RQ_ARCH_TEXT_BYTES. */
static void test_arch_describe__has_room(void **state)
{
    (void)state;
    rq_arch arch = {.n_stages = RQ_MAX_STAGES,
                    .max_pool = true,
                    .groups = RQ_MAX_CHANNELS,
                    .block = RQ_BLOCK_REPOPT_REPVGG,
                    .se = RQ_SE_POST,
                    .se_reduction = RQ_MAX_CHANNELS,
                    .classes = RQ_MAX_CHANNELS};
    for (int i = 0; i < RQ_MAX_STAGES; i++) {
        arch.depth[i] = RQ_MAX_DEPTH;
        arch.width[i] = RQ_MAX_CHANNELS;
        arch.stride[i] = 8;
        arch.aux[i] = true;
        memset(arch.name[i], 'a' + i, RQ_STAGE_NAME_BYTES - 1);
    }
    char text[RQ_ARCH_TEXT_BYTES];
    rq_arch_describe(&arch, text);
    assert_non_null(strstr(text, ";classes=1048576"));
    assert_true(strlen(text) < RQ_ARCH_TEXT_BYTES - 1);
}

static void test_arch_is_same__compares_all_but_classes(void **state)
{
    (void)state;
    static const char *const others[] = {
        "repvgg:depth=1,3;width=8,16",
        "repvgg:depth=1,2;width=8,24",
        "repvgg:depth=1,2;width=8,16;stride=2,1",
        "repvgg:depth=1,2;width=8,16;groups=2",
        "repvgg:depth=1,2;width=8,16;block=target",
        "repvgg:depth=1,2;width=8,16;se=pre/4",
        "repvgg:depth=1,2;width=8,16;aux=1",
        "repvgg:depth=1,2;width=8,16;names=stage0,stage1.blocks",
        "repvgg:depth=1;width=8",
    };
    rq_arch a, b;
    assert_ok(rq_arch_parse(&a, "repvgg:depth=1,2;width=8,16;classes=3", &err), &err);
    assert_ok(rq_arch_parse(&b, "repvgg:classes=5;width=8,16;depth=1,2;stride=2,2", &err), &err);
    assert_true(rq_arch_is_same(&a, &b));
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_ok(rq_arch_parse(&b, others[i], &err), &err);
        assert_false(rq_arch_is_same(&a, &b));
        assert_false(rq_arch_is_same(&b, &a));
    }
}

static void test_arch_parse__rejects(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "unknown architecture ''"},
        {"RepVGG-A9", "known: RepVGG-A0, RepVGG-A1, RepVGG-A2; or"},
        {"repvgg-a0", "known: RepVGG-A0; or"},
        {"RepVGG-A0 ", "known: RepVGG-A0; or"},
        {"RepOpt-VGG-L1", "RepOpt-VGG-L1-target, RepOpt-VGG-L1-hs, RepOpt-VGG-L1-csla, "
                          "RepOpt-VGG-L1-repvgg; or"},
        {"resnet50", "RepVGG-A0, "},
        {"resnet50", ", …; or describe one: repvgg:depth=1,…;width=…"},
        {"repvgg:", "does not begin with depth=, width=, stride=, pool=, groups=, block=, se=, "
                    "aux=, names= or classes="},
        {"repvgg:depth=1", "width is missing"},
        {"repvgg:width=8", "depth is missing"},
        {"repvgg:depth=1,2;width=8", "width has 1 values, depth has 2"},
        {"repvgg:depth=1;width=8;stride=1,2", "stride has 2 values"},
        {"repvgg:depth=1;width=8;names=a,b", "names has 2 values, depth has 1"},
        {"repvgg:depth=2;width=8", "begin with 1"},
        {"repvgg:depth=1;depth=1;width=8", "depth is given twice"},
        {"repvgg:depth=1;width=8;se=none;se=none", "se is given twice"},
        {"repvgg:depth=1;width=8;", "does not begin with"},
        {"repvgg:depth=1;width=8;;classes=3", "does not begin with"},
        {"repvgg:depth=1;width=8;colour=3", "colour"},
        {"repvgg:depths=1;width=8", "depths"},
        {"repvgg:depth;width=8", "depth"},
        {"repvgg:depth=1,;width=8", "depth: ';width"},
        {"repvgg:depth=,1;width=8", "depth: ',1"},
        {"repvgg:depth=1x;width=8", "unexpected 'x"},
        {"repvgg:depth=1;width=0", "width"},
        {"repvgg:depth=1;width=-8", "width"},
        {"repvgg:depth=1;width=99999999999999999999", "width"},
        {"repvgg:depth=1;width=1048577", "width"},
        {"repvgg:depth=1;width=8;stride=9", "stride: '9' does not begin with a number in 1..8"},
        {"repvgg:depth=1;width=8;pool=avg", "pool: 'avg' does not begin with one of conv, max"},
        {"repvgg:depth=1;width=8;pool=max,max", "pool has more than 1"},
        {"repvgg:depth=1,257;width=8,8", "depth"},
        {"repvgg:depth=1,200,200;width=8,8,8", "sums to 401"},
        {"repvgg:depth=1,1,1,1,1,1,1,1,1;width=1,1,1,1,1,1,1,1,1", "more than 8"},
        {"repvgg:depth=1;width=8;groups=1,2", "more than 1"},
        {"repvgg:depth=1,2;width=8,9;groups=2", "groups: 2 does not divide the 9 to 9"},
        {"repvgg:depth=1;width=8;classes=0", "classes"},
        {"repvgg:depth=1;width=8;block=", "block: '' does not begin with one of repvgg, qarepvgg, "
                                          "target, hs, csla, repopt-repvgg"},
        {"repvgg:depth=1;width=8;block=QARepVGG", "block: 'QARepVGG' does not"},
        {"repvgg:depth=1;width=8;block=repvggs", "block: 'repvggs'"},
        {"repvgg:depth=1;width=8;block=hs,hs", "block has more than 1"},
        {"repvgg:depth=1;width=8;se=16", "se: '16' does not begin with one of none, pre, post"},
        {"repvgg:depth=1;width=8;se=pre", "se: '/' and a number must follow pre"},
        {"repvgg:depth=1;width=8;se=pre/", "se: '' does not begin with a number in 1..1048576"},
        {"repvgg:depth=1;width=8;se=pre/0", "se: '0'"},
        {"repvgg:depth=1;width=8;se=none/4", "se: unexpected '/4'"},
        {"repvgg:depth=1,1;width=16,8;se=post/9", "se: 8 channels of stage1 / 9"},
        {"repvgg:depth=1;width=8;aux=", "aux: '' does not begin with a number in 0..7"},
        {"repvgg:depth=1;width=8;aux=8", "aux: '8'"},
        {"repvgg:depth=1,1;width=8,8;aux=1,1", "aux: stage 1 is given twice"},
        {"repvgg:depth=1,1;width=8,8;aux=2", "aux: there is no stage 2, the last is 1"},
        {"repvgg:depth=1;width=8;names=", "names: ''"},
        {"repvgg:depth=1;width=8;names=.a", "names: '.a'"},
        {"repvgg:depth=1;width=8;names=a.", "names: 'a.'"},
        {"repvgg:depth=1;width=8;names=a..b", "names: 'a..b'"},
        {"repvgg:depth=1;width=8;names=a-b", "names: unexpected '-b'"},
        {"repvgg:depth=1;width=8;names=aaaaaaaaaabbbbbbbbbbccccccccccdd", "1 to 31 characters"},
        {"repvgg:depth=1;width=8;names=aaaaaaaaaabbbbbbbbbbccccccccccd.", "1 to 31 characters"},
        {"repvgg:depth=1;width=8;names=linear", "module 'linear' cannot be next to"},
        {"repvgg:depth=1;width=8;names=gap.blocks", "'gap.blocks' cannot be next to"},
        {"repvgg:depth=1,1;width=8,8;names=a,a", "module 'a' cannot be next to module 'a'"},
        {"repvgg:depth=1,1;width=8,8;names=a.0,a", "module 'a.0' cannot be next to module 'a'"},
        {"repvgg:depth=1,1;width=8,8;names=a_aux,a;aux=1", "module 'a_aux' cannot be next to"},
        {"repvgg:depth=1,1;width=8,8;names=a.x,a.y;aux=0,1", "module 'a_aux' cannot be next to"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rq_arch arch;
        rq_model model;
        assert_fails(rq_arch_parse(&arch, cases[i].text, &err), RQ_ERR_USAGE, &err);
        assert_says(&err, cases[i].says);
        assert_fails(rq_arch_build(&model, cases[i].text, 0, &err), RQ_ERR_USAGE, &err);
        rq_model_deinit(&model);
    }
    rq_arch arch; /* names that only look alike are fine */
    assert_ok(rq_arch_parse(&arch, "repvgg:depth=1,1;width=8,8;names=a,ab.a", &err), &err);
    assert_ok(rq_arch_parse(&arch, "repvgg:depth=1,1;width=8,8;names=a.x,a.y;aux=1", &err), &err);
}

/* Damaged descriptions are refused, or they describe what they are read as. */
static void test_arch_parse__random_damage(void **state)
{
    (void)state;
    static const char letters[] = "0123456789,;=/._-:abcdefghijklmnopqrstuvwxyz";
    rq_random random = {23};
    int n_good = 0, n_bad = 0;
    for (int i = 0; i < 20000; i++) {
        rq_arch arch, again;
        char text[RQ_ARCH_TEXT_BYTES];
        const uint64_t which = rq_random_below(&random, 41), n = 1 + rq_random_below(&random, 3);
        assert_ok(rq_arch_parse(&arch, rq_arch_name((int)which), &err), &err);
        rq_arch_describe(&arch, text);
        const size_t size = strlen(text), prefix = strlen("repvgg:");
        for (uint64_t k = 0; k < n; k++)
            text[prefix + rq_random_below(&random, size - prefix)] =
                letters[rq_random_below(&random, sizeof letters)]; /* the NUL too */
        if (rq_arch_parse(&arch, text, &err) != RQ_OK) {
            assert_int_equal(err.code, RQ_ERR_USAGE);
            n_bad++;
            continue;
        }
        rq_arch_describe(&arch, text);
        assert_ok(rq_arch_parse(&again, text, &err), &err);
        assert_true(rq_arch_is_same(&arch, &again) && arch.classes == again.classes);
        n_good++;
    }
    assert_true(n_good > 500 && n_bad > 1000);
}

static void test_arch_build__rejects_class_counts(void **state)
{
    (void)state;
    rq_model model;
    assert_fails(rq_arch_build(&model, "RepVGG-A0", -1, &err), RQ_ERR_USAGE, &err);
    assert_fails(rq_arch_build(&model, "RepVGG-A0", RQ_MAX_CHANNELS + 1, &err), RQ_ERR_USAGE, &err);
    assert_says(&err, "1048577 classes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arch_name__lists_all),
        cmocka_unit_test(test_arch_parse__description),
        cmocka_unit_test(test_arch_parse__words),
        cmocka_unit_test(test_arch_describe__round_trip),
        cmocka_unit_test(test_arch_describe__leaves_defaults_out),
        cmocka_unit_test(test_arch_describe__has_room),
        cmocka_unit_test(test_arch_is_same__compares_all_but_classes),
        cmocka_unit_test(test_arch_parse__rejects),
        cmocka_unit_test(test_arch_parse__random_damage),
        cmocka_unit_test(test_arch_build__rejects_class_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
