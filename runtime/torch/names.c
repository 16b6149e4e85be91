/* Names by a table of parts: a name is a block, a module within it, and a rest that stays. */
#include "runtime/torch/names.h"

#include <stdio.h>
#include <string.h>

/* Indices are rq_naming. */
static const char *const stems[2] = {"stage0.", "stem."};
static const char *const stages[2] = {"stage", "stages."};
static const int first_stages[2] = {1, 0};
static const char *const heads[2] = {"linear.", "head.fc."};
static const char *const modules[][2] = {
    {"rbr_dense.", "conv_kxk."},       {"rbr_1x1.", "conv_1x1."}, {"rbr_identity.", "identity."},
    {"rbr_reparam.", "reparam_conv."}, {"se.down.", "attn.fc1."}, {"se.up.", "attn.fc2."},
};
enum { N_MODULES = sizeof modules / sizeof modules[0], MAX_NUMBER = 999 };

/* Is prefix at *at? Then *at moves past it. */
static bool skip(const char **at, const char *prefix)
{
    const size_t n = strlen(prefix);
    if (strncmp(*at, prefix, n) != 0)
        return false;
    *at += n;
    return true;
}

/* "13." at *at, which moves past it. */
static bool skip_number(const char **at, int *out)
{
    const char *digit = *at;
    int value = 0;
    for (; *digit >= '0' && *digit <= '9' && value <= MAX_NUMBER; digit++)
        value = 10 * value + (*digit - '0');
    if (digit == *at || *digit != '.' || value > MAX_NUMBER)
        return false;
    *at = digit + 1;
    *out = value;
    return true;
}

/* A block other than the stem: its stage, counted from 0 after the stem, and its number. */
static bool skip_block(const char **at, rq_naming naming, int *stage, int *block)
{
    const char *next = *at;
    if (!skip(&next, stages[naming]) || !skip_number(&next, stage) || !skip_number(&next, block) ||
        *stage < first_stages[naming])
        return false;
    *stage -= first_stages[naming];
    *at = next;
    return true;
}

bool rq_naming_of(const char *name, rq_naming *out)
{
    for (int i = RQ_NAMING_OWN; i <= RQ_NAMING_TIMM; i++) {
        const rq_naming naming = (rq_naming)i;
        const char *at = name;
        int stage, block;
        if (skip(&at, stems[naming]) || skip(&at, heads[naming]) ||
            skip_block(&at, naming, &stage, &block)) {
            *out = naming;
            return true;
        }
    }
    return false;
}

/* The module at *at in the other convention; "" where it has no name of its own. */
static const char *rename_module(const char **at, rq_naming from, rq_naming to)
{
    for (size_t i = 0; i < N_MODULES; i++)
        if (skip(at, modules[i][from]))
            return modules[i][to];
    return "";
}

bool rq_rename(char *out, size_t size_bytes, const char *name, rq_naming from, rq_naming to)
{
    char place[32] = "";
    const char *rest = name, *module = "";
    int stage = 0, block = 0;
    if (skip(&rest, heads[from])) {
        module = heads[to];
    } else if (skip(&rest, stems[from])) {
        (void)snprintf(place, sizeof place, "%s", stems[to]);
        module = rename_module(&rest, from, to);
    } else if (skip_block(&rest, from, &stage, &block)) {
        (void)snprintf(place, sizeof place, "%s%d.%d.", stages[to], stage + first_stages[to],
                       block);
        module = rename_module(&rest, from, to);
    }
    const int length = snprintf(out, size_bytes, "%s%s%s", place, module, rest);
    return length >= 0 && (size_t)length < size_bytes;
}
