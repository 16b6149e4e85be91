/* Networks by name: each name is short for a description. */
#include "runtime/model/arch.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define A0 "depth=1,2,4,14,1;width=48,48,96,192,1280"
#define A1 "depth=1,2,4,14,1;width=64,64,128,256,1280"
#define A2 "depth=1,2,4,14,1;width=64,96,192,384,1408"
#define B0 "depth=1,4,6,16,1;width=64,64,128,256,1280"
#define B1 "depth=1,4,6,16,1;width=64,128,256,512,2048"
#define B2 "depth=1,4,6,16,1;width=64,160,320,640,2560"
#define B3 "depth=1,4,6,16,1;width=64,192,384,768,2560"
#define L1 "depth=1,8,14,24,1;width=64,128,256,512,2048"
#define L2 "depth=1,8,14,24,1;width=64,160,320,640,2560"

/* RepVGGplus: L2 with its third stage in two halves, so that an auxiliary head fits between. */
#define PLUS_L2                                                                                    \
    "depth=1,8,14,12,12,1;width=64,160,320,640,640,2560;stride=2,2,2,2,1,2;aux=1,2,3;names="       \
    "stage0,stage1.blocks,stage2.blocks,stage3_first.blocks,stage3_second.blocks,stage4.blocks"

#define REPOPT(name, size)                                                                         \
    {"RepOpt-VGG-" name "-target", size ";block=target"},                                          \
        {"RepOpt-VGG-" name "-hs", size ";block=hs;classes=100"},                                  \
        {"RepOpt-VGG-" name "-csla", size ";block=csla"},                                          \
    {                                                                                              \
        "RepOpt-VGG-" name "-repvgg", size ";block=repopt-repvgg"                                  \
    }

static const struct {
    const char *name, *fields;
} known[] = {
    {"RepVGG-A0", A0},
    {"RepVGG-A1", A1},
    {"RepVGG-A2", A2},
    {"RepVGG-B0", B0},
    {"RepVGG-B1", B1},
    {"RepVGG-B1g2", B1 ";groups=2"},
    {"RepVGG-B1g4", B1 ";groups=4"},
    {"RepVGG-B2", B2},
    {"RepVGG-B2g2", B2 ";groups=2"},
    {"RepVGG-B2g4", B2 ";groups=4"},
    {"RepVGG-B3", B3},
    {"RepVGG-B3g2", B3 ";groups=2"},
    {"RepVGG-B3g4", B3 ";groups=4"},
    {"RepVGG-D2se", L2 ";se=pre/16"},
    {"RepVGGplus-L2pse", PLUS_L2 ";se=post/4"},
    {"QARepVGG-A0", A0 ";block=qarepvgg"},
    {"QARepVGG-A1", A1 ";block=qarepvgg"},
    {"QARepVGG-A2", A2 ";block=qarepvgg"},
    {"QARepVGG-B0", B0 ";block=qarepvgg"},
    {"QARepVGG-B1", B1 ";block=qarepvgg"},
    {"QARepVGG-B1g2", B1 ";block=qarepvgg;groups=2"},
    {"QARepVGG-B1g4", B1 ";block=qarepvgg;groups=4"},
    {"QARepVGG-B2", B2 ";block=qarepvgg"},
    {"QARepVGG-B2g2", B2 ";block=qarepvgg;groups=2"},
    {"QARepVGG-B2g4", B2 ";block=qarepvgg;groups=4"},
    REPOPT("B1", B1),
    REPOPT("B2", B2),
    REPOPT("L1", L1),
    REPOPT("L2", L2),
};

enum { N_KNOWN = sizeof known / sizeof known[0] };

const char *rq_arch_name(int i)
{
    return i >= 0 && i < N_KNOWN ? known[i].name : NULL;
}

/* Characters that both begin with, upper and lower case alike. */
static size_t common_prefix(const char *a, const char *b)
{
    size_t n = 0;
    while (a[n] && b[n] && strncasecmp(a + n, b + n, 1) == 0)
        n++;
    return n;
}

static rq_status fail_unknown(const char *text, rq_error *err)
{
    enum { MAX_LISTED = 240 };
    char names[MAX_LISTED + 32];
    size_t longest = 0, used = 0;
    for (size_t i = 0; i < N_KNOWN; i++) {
        const size_t n = common_prefix(text, known[i].name);
        longest = n > longest ? n : longest;
    }
    for (size_t i = 0; i < N_KNOWN && used < MAX_LISTED; i++)
        if (common_prefix(text, known[i].name) == longest) {
            (void)snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "",
                           known[i].name);
            used += strlen(names + used);
        }
    return rq_fail(err, RQ_ERR_USAGE,
                   "unknown architecture '%.80s'; known: %s%s; or describe one: "
                   "repvgg:depth=1,…;width=…",
                   text, names, used < MAX_LISTED ? "" : ", …");
}

rq_status rq_arch_parse(rq_arch *out, const char *text, rq_error *err)
{
    for (size_t i = 0; i < N_KNOWN; i++)
        if (strcmp(text, known[i].name) == 0)
            return rq_arch_parse_fields(out, known[i].fields, err);
    const size_t n = strlen(RQ_ARCH_PREFIX);
    if (strncmp(text, RQ_ARCH_PREFIX, n) != 0)
        return fail_unknown(text, err);
    const rq_status status = rq_arch_parse_fields(out, text + n, err);
    if (status)
        rq_error_prefix(err, "architecture '%.120s'", text);
    return status;
}
