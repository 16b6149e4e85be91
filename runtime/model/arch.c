/* Names and descriptions of networks. What their blocks are made of is in arch_blocks.c. */
#include "runtime/model/arch.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* ---- names ---- */

#define A0 "depth=1,2,4,14,1;width=48,48,96,192,1280"
#define A1 "depth=1,2,4,14,1;width=64,64,128,256,1280"
#define A2 "depth=1,2,4,14,1;width=64,96,192,384,1408"
#define B0 "depth=1,4,6,16,1;width=64,64,128,256,1280"
#define B1 "depth=1,4,6,16,1;width=64,128,256,512,2048"
#define B2 "depth=1,4,6,16,1;width=64,160,320,640,2560"
#define B3 "depth=1,4,6,16,1;width=64,192,384,768,2560"
#define L1 "depth=1,8,14,24,1;width=64,128,256,512,2048"
#define L2 "depth=1,8,14,24,1;width=64,160,320,640,2560"

/* RepVGGplus: L2 with its third stage in two halves, so that an auxiliary head stands between. */
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

/* ---- texts of unknown length ---- */

typedef struct writer {
    char *text;
    size_t size_bytes, used; /* used may grow beyond size_bytes: the text is then cut */
} writer;

static void put(writer *w, const char *format, ...) RQ_PRINTF(2, 3);
static void put(writer *w, const char *format, ...)
{
    const bool fits = w->used < w->size_bytes;
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(fits ? w->text + w->used : NULL, fits ? w->size_bytes - w->used : 0,
                            format, args);
    va_end(args);
    w->used += n > 0 ? (size_t)n : 0;
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
    writer w = {names, sizeof names, 0};
    size_t longest = 0;
    for (size_t i = 0; i < N_KNOWN; i++) {
        const size_t n = common_prefix(text, known[i].name);
        longest = n > longest ? n : longest;
    }
    for (size_t i = 0; i < N_KNOWN && w.used < MAX_LISTED; i++)
        if (common_prefix(text, known[i].name) == longest)
            put(&w, "%s%s", w.used ? ", " : "", known[i].name);
    return rq_fail(err, RQ_ERR_USAGE,
                   "unknown architecture '%.80s'; known: %s%s; or describe one: "
                   "repvgg:depth=1,…;width=…",
                   text, names, w.used < MAX_LISTED ? "" : ", …");
}

/* ---- descriptions ---- */

static const char prefix[] = "repvgg:";

static const char *const block_words[RQ_N_BLOCKS] = {
#define X(code, function, word, activation) [RQ_BLOCK_##code] = (word),
    RQ_BLOCK_LIST(X)
#undef X
};

static const char *const pool_words[2] = {"conv", "max"};

static const char *const se_words[RQ_N_SE_PLACES] = {
    [RQ_SE_NONE] = "none", [RQ_SE_PRE] = "pre", [RQ_SE_POST] = "post"};

typedef enum field {
    DEPTH,
    WIDTH,
    STRIDE,
    POOL,
    GROUPS,
    BLOCK,
    SE,
    AUX,
    NAMES,
    CLASSES,
    N_FIELDS
} field;

/* What has been read so far. */
typedef struct draft {
    rq_arch arch;
    int n_values[N_FIELDS];
} draft;

/* Reads value number i of a field at *at, which moves behind it. */
typedef rq_status value_reader(draft *out, field f, int i, const char **at, rq_error *err);

static value_reader read_int, read_pool, read_block, read_se, read_aux, read_name;

static const struct {
    const char *name;
    value_reader *read;
    int max_values;
    int max;       /* of numbers */
    size_t offset; /* of the first number in rq_arch */
} fields[N_FIELDS] = {
    [DEPTH] = {"depth", read_int, RQ_MAX_STAGES, RQ_MAX_DEPTH, offsetof(rq_arch, depth)},
    [WIDTH] = {"width", read_int, RQ_MAX_STAGES, RQ_MAX_CHANNELS, offsetof(rq_arch, width)},
    [STRIDE] = {"stride", read_int, RQ_MAX_STAGES, 8, offsetof(rq_arch, stride)},
    [POOL] = {"pool", read_pool, 1, 0, 0},
    [GROUPS] = {"groups", read_int, 1, RQ_MAX_CHANNELS, offsetof(rq_arch, groups)},
    [BLOCK] = {"block", read_block, 1, 0, 0},
    [SE] = {"se", read_se, 1, RQ_MAX_CHANNELS, 0},
    [AUX] = {"aux", read_aux, RQ_MAX_STAGES, RQ_MAX_STAGES - 1, 0},
    [NAMES] = {"names", read_name, RQ_MAX_STAGES, 0, 0},
    [CLASSES] = {"classes", read_int, 1, RQ_MAX_CHANNELS, offsetof(rq_arch, classes)},
};

/* A decimal number in min..max at *at, which moves behind it. */
static rq_status read_number(const char **at, field f, int min, int *out, rq_error *err)
{
    const int max = fields[f].max;
    int value = 0;
    const char *digit = *at;
    for (; *digit >= '0' && *digit <= '9' && value <= max; digit++)
        value = 10 * value + (*digit - '0');
    if (digit == *at || value < min || value > max)
        return rq_fail(err, RQ_ERR_USAGE, "%s: '%.40s' does not begin with a number in %d..%d",
                       fields[f].name, *at, min, max);
    *at = digit;
    *out = value;
    return RQ_OK;
}

/* Which of the words stands at *at, up to one of the characters in ends. */
static rq_status read_word(const char **at, field f, const char *const *words, int n_words,
                           const char *ends, int *out, rq_error *err)
{
    const size_t size = strcspn(*at, ends);
    for (int i = 0; i < n_words; i++)
        if (strlen(words[i]) == size && strncmp(words[i], *at, size) == 0) {
            *at += size;
            *out = i;
            return RQ_OK;
        }
    char list[128] = "";
    writer w = {list, sizeof list, 0};
    for (int i = 0; i < n_words; i++)
        put(&w, "%s%s", i ? ", " : "", words[i]);
    return rq_fail(err, RQ_ERR_USAGE, "%s: '%.40s' does not begin with one of %s", fields[f].name,
                   *at, list);
}

static rq_status read_int(draft *out, field f, int i, const char **at, rq_error *err)
{
    int *values = (int *)(void *)((char *)&out->arch + fields[f].offset);
    return read_number(at, f, 1, &values[i], err);
}

static rq_status read_pool(draft *out, field f, int i, const char **at, rq_error *err)
{
    (void)i;
    int pool = 0;
    const rq_status status = read_word(at, f, pool_words, 2, ",;", &pool, err);
    out->arch.max_pool = pool == 1;
    return status;
}

static rq_status read_block(draft *out, field f, int i, const char **at, rq_error *err)
{
    (void)i;
    int block = 0;
    const rq_status status = read_word(at, f, block_words, RQ_N_BLOCKS, ",;", &block, err);
    out->arch.block = (rq_block)block;
    return status;
}

/* "none", "pre/16", "post/4" */
static rq_status read_se(draft *out, field f, int i, const char **at, rq_error *err)
{
    (void)i;
    int place = RQ_SE_NONE;
    const rq_status status = read_word(at, f, se_words, RQ_N_SE_PLACES, "/,;", &place, err);
    out->arch.se = (rq_se_place)place;
    if (status || place == RQ_SE_NONE)
        return status;
    if (**at != '/')
        return rq_fail(err, RQ_ERR_USAGE, "se: '/' and a number must follow %s", se_words[place]);
    ++*at;
    return read_number(at, f, 1, &out->arch.se_reduction, err);
}

static rq_status read_aux(draft *out, field f, int i, const char **at, rq_error *err)
{
    (void)i;
    int stage = 0;
    const rq_status status = read_number(at, f, 0, &stage, err);
    if (!status && out->arch.aux[stage])
        return rq_fail(err, RQ_ERR_USAGE, "aux: stage %d stands twice", stage);
    out->arch.aux[stage] = true;
    return status;
}

/* A module path: letters, digits and '_', in parts between dots. */
static rq_status read_name(draft *out, field f, int i, const char **at, rq_error *err)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
    char *name = out->arch.name[i];
    size_t size = 0;
    for (;;) {
        const size_t part = strspn(*at + size, allowed);
        size += part;
        if (part == 0 || size >= RQ_STAGE_NAME_BYTES)
            return rq_fail(err, RQ_ERR_USAGE,
                           "%s: '%.40s' does not begin with a path of letters, digits, '_' and "
                           "single dots, of 1 to %d characters",
                           fields[f].name, *at, RQ_STAGE_NAME_BYTES - 1);
        if ((*at)[size] != '.')
            break;
        size++;
    }
    memcpy(name, *at, size);
    *at += size;
    return RQ_OK;
}

static rq_status find_field(const char *at, field *out, rq_error *err)
{
    const size_t size = strcspn(at, "=;");
    for (int f = 0; f < N_FIELDS; f++)
        if (strlen(fields[f].name) == size && strncmp(fields[f].name, at, size) == 0 &&
            at[size] == '=') {
            *out = (field)f;
            return RQ_OK;
        }
    char list[128] = "";
    writer w = {list, sizeof list, 0};
    for (int f = 0; f < N_FIELDS; f++)
        put(&w, "%s%s=", f == 0 ? "" : f < N_FIELDS - 1 ? ", " : " or ", fields[f].name);
    return rq_fail(err, RQ_ERR_USAGE, "'%.40s' does not begin with %s", at, list);
}

/* "name=1,2,3" at *at, which moves to the ';' or the end behind it. */
static rq_status read_field(const char **at, draft *out, rq_error *err)
{
    field f = DEPTH;
    rq_status status = find_field(*at, &f, err);
    if (status)
        return status;
    if (out->n_values[f] > 0)
        return rq_fail(err, RQ_ERR_USAGE, "%s stands twice", fields[f].name);
    *at += strlen(fields[f].name);
    do {
        ++*at; /* over '=' or ',' */
        if (out->n_values[f] == fields[f].max_values)
            return rq_fail(err, RQ_ERR_USAGE, "%s has more than %d values", fields[f].name,
                           fields[f].max_values);
        status = fields[f].read(out, f, out->n_values[f], at, err);
        if (status)
            return status;
        out->n_values[f]++;
    } while (**at == ',');
    if (**at && **at != ';')
        return rq_fail(err, RQ_ERR_USAGE, "%s: unexpected '%.40s'", fields[f].name, *at);
    return RQ_OK;
}

/* ---- what a description must be besides readable ---- */

static rq_status check_counts(const draft *d, rq_error *err)
{
    static const field per_stage[] = {WIDTH, STRIDE, NAMES};
    const int n = d->n_values[DEPTH];
    for (int f = DEPTH; f <= WIDTH; f++)
        if (d->n_values[f] == 0)
            return rq_fail(err, RQ_ERR_USAGE, "%s is missing", fields[f].name);
    for (size_t i = 0; i < sizeof per_stage / sizeof per_stage[0]; i++) {
        const field f = per_stage[i];
        if (d->n_values[f] > 0 && d->n_values[f] != n)
            return rq_fail(err, RQ_ERR_USAGE, "%s has %d values, depth has %d", fields[f].name,
                           d->n_values[f], n);
    }
    return RQ_OK;
}

static void set_defaults(draft *d)
{
    rq_arch *arch = &d->arch;
    arch->n_stages = d->n_values[DEPTH];
    for (int i = 0; i < arch->n_stages; i++) {
        if (d->n_values[STRIDE] == 0)
            arch->stride[i] = 2;
        if (d->n_values[NAMES] == 0)
            (void)snprintf(arch->name[i], sizeof arch->name[i], "stage%d", i);
    }
    if (d->n_values[GROUPS] == 0)
        arch->groups = 1;
    if (d->n_values[CLASSES] == 0)
        arch->classes = 1000;
}

static rq_status check_depth(const rq_arch *arch, rq_error *err)
{
    int total = 0;
    if (arch->depth[0] != 1)
        return rq_fail(err, RQ_ERR_USAGE, "depth must begin with 1 (stage0 is one block)");
    for (int i = 0; i < arch->n_stages; i++)
        total += arch->depth[i];
    if (total > RQ_MAX_DEPTH)
        return rq_fail(err, RQ_ERR_USAGE, "depth sums to %d blocks, the limit is %d", total,
                       RQ_MAX_DEPTH);
    return RQ_OK;
}

static rq_status check_groups(const rq_arch *arch, rq_error *err)
{
    int layer = 0, ic = 3;
    for (int stage = 0; stage < arch->n_stages; stage++)
        for (int block = 0; block < arch->depth[stage]; block++, layer++) {
            const int groups = rq_arch_layer_groups(arch, layer);
            if (ic % groups != 0 || arch->width[stage] % groups != 0)
                return rq_fail(err, RQ_ERR_USAGE,
                               "groups: %d does not divide the %d to %d channels of layer %d "
                               "(stage%d)",
                               groups, ic, arch->width[stage], layer, stage);
            ic = arch->width[stage];
        }
    return RQ_OK;
}

static rq_status check_additions(const rq_arch *arch, rq_error *err)
{
    for (int i = 0; i < arch->n_stages; i++)
        if (arch->se != RQ_SE_NONE && arch->width[i] < arch->se_reduction)
            return rq_fail(err, RQ_ERR_USAGE, "se: %d channels of stage%d / %d are none",
                           arch->width[i], i, arch->se_reduction);
    for (int i = arch->n_stages; i < RQ_MAX_STAGES; i++)
        if (arch->aux[i])
            return rq_fail(err, RQ_ERR_USAGE, "aux: there is no stage %d, the last is %d", i,
                           arch->n_stages - 1);
    return RQ_OK;
}

/* Is a the path of b, or of a module that holds b? */
static bool holds_path(const char *a, const char *b)
{
    const size_t n = strlen(a);
    return strncmp(a, b, n) == 0 && (b[n] == '\0' || b[n] == '.');
}

/* No two modules of the network have the same path. */
static rq_status check_names(const rq_arch *arch, rq_error *err)
{
    char paths[2 * RQ_MAX_STAGES + 3][RQ_STAGE_NAME_BYTES + 4] = {"input", "gap", "linear"};
    int n = 3;
    for (int i = 0; i < arch->n_stages; i++)
        (void)snprintf(paths[n++], sizeof paths[0], "%s", arch->name[i]);
    for (int i = 0; i < arch->n_stages; i++)
        if (arch->aux[i])
            rq_arch_aux_path(arch, i, paths[n++]);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < n; k++)
            if (i != k && holds_path(paths[i], paths[k]))
                return rq_fail(err, RQ_ERR_USAGE,
                               "names: module '%s' cannot stand beside module '%s'", paths[k],
                               paths[i]);
    return RQ_OK;
}

static rq_status parse_fields(rq_arch *out, const char *at, rq_error *err)
{
    draft d = {.n_values = {0}};
    rq_status status = read_field(&at, &d, err);
    while (!status && *at) {
        at++;
        status = read_field(&at, &d, err);
    }
    if (!status)
        status = check_counts(&d, err);
    if (status)
        return status;
    set_defaults(&d);
    static rq_status (*const checks[])(const rq_arch *arch, rq_error *err) = {
        check_depth, check_groups, check_additions, check_names};
    for (size_t i = 0; i < sizeof checks / sizeof checks[0] && !status; i++)
        status = checks[i](&d.arch, err);
    if (!status)
        *out = d.arch;
    return status;
}

rq_status rq_arch_parse(rq_arch *out, const char *text, rq_error *err)
{
    for (size_t i = 0; i < N_KNOWN; i++)
        if (strcmp(text, known[i].name) == 0)
            return parse_fields(out, known[i].fields, err);
    if (strncmp(text, prefix, strlen(prefix)) != 0)
        return fail_unknown(text, err);
    const rq_status status = parse_fields(out, text + strlen(prefix), err);
    if (status)
        rq_error_prefix(err, "architecture '%.120s'", text);
    return status;
}

/* ---- from structs ---- */

int rq_arch_layer_groups(const rq_arch *arch, int layer)
{
    return layer >= 2 && layer % 2 == 0 ? arch->groups : 1;
}

void rq_arch_aux_path(const rq_arch *arch, int stage, char path[RQ_STAGE_NAME_BYTES + 4])
{
    const char *name = arch->name[stage];
    (void)snprintf(path, RQ_STAGE_NAME_BYTES + 4, "%.*s_aux", (int)strcspn(name, "."), name);
}

/* One "name=…" per call, with ',' between the values of a stage each. */
static void put_ints(writer *w, const char *name, const int *values, int n)
{
    for (int i = 0; i < n; i++)
        put(w, "%s%d", i ? "," : name, values[i]);
}

static bool has_default_names(const rq_arch *arch)
{
    char name[RQ_STAGE_NAME_BYTES];
    bool is_default = true;
    for (int i = 0; i < arch->n_stages; i++) {
        (void)snprintf(name, sizeof name, "stage%d", i);
        is_default = is_default && strcmp(name, arch->name[i]) == 0;
    }
    return is_default;
}

static bool has_default_strides(const rq_arch *arch)
{
    bool is_default = true;
    for (int i = 0; i < arch->n_stages; i++)
        is_default = is_default && arch->stride[i] == 2;
    return is_default;
}

void rq_arch_describe(const rq_arch *arch, char text[RQ_ARCH_TEXT_BYTES])
{
    writer w = {text, RQ_ARCH_TEXT_BYTES, 0};
    put(&w, "%s", prefix);
    put_ints(&w, "depth=", arch->depth, arch->n_stages);
    put_ints(&w, ";width=", arch->width, arch->n_stages);
    if (!has_default_strides(arch))
        put_ints(&w, ";stride=", arch->stride, arch->n_stages);
    if (arch->max_pool)
        put(&w, ";pool=%s", pool_words[1]);
    if (arch->groups != 1)
        put(&w, ";groups=%d", arch->groups);
    if (arch->block != RQ_BLOCK_REPVGG)
        put(&w, ";block=%s", block_words[arch->block]);
    if (arch->se != RQ_SE_NONE)
        put(&w, ";se=%s/%d", se_words[arch->se], arch->se_reduction);
    for (int i = 0, n = 0; i < arch->n_stages; i++)
        if (arch->aux[i])
            put(&w, "%s%d", n++ ? "," : ";aux=", i);
    for (int i = 0; i < arch->n_stages && !has_default_names(arch); i++)
        put(&w, "%s%s", i ? "," : ";names=", arch->name[i]);
    if (arch->classes != 1000)
        put(&w, ";classes=%d", arch->classes);
}

bool rq_arch_is_same(const rq_arch *a, const rq_arch *b)
{
    char text_a[RQ_ARCH_TEXT_BYTES], text_b[RQ_ARCH_TEXT_BYTES];
    rq_arch with_same_classes = *b;
    with_same_classes.classes = a->classes;
    rq_arch_describe(a, text_a);
    rq_arch_describe(&with_same_classes, text_b);
    return strcmp(text_a, text_b) == 0;
}
