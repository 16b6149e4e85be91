/* Descriptions of networks, read and written. Their blocks are built in arch_blocks.c. */
#include "runtime/model/arch.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Text that grows piece by piece. */
typedef struct writer {
    char *text;
    size_t size_bytes, used; /* used may pass size_bytes: the text is then cut */
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

/* ---- descriptions ---- */

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

/* Reads value number i of a field at *at and moves *at past it. */
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

/* A decimal number in min..max at *at, which moves past it. */
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

/* Which of the words is at *at, up to one of the characters in ends. */
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
    RQ_TRY(read_word(at, f, pool_words, 2, ",;", &pool, err));
    out->arch.max_pool = pool == 1;
    return RQ_OK;
}

static rq_status read_block(draft *out, field f, int i, const char **at, rq_error *err)
{
    (void)i;
    int block = 0;
    RQ_TRY(read_word(at, f, block_words, RQ_N_BLOCKS, ",;", &block, err));
    out->arch.block = (rq_block)block;
    return RQ_OK;
}

/* "none", "pre/16", "post/4" */
static rq_status read_se(draft *out, field f, int i, const char **at, rq_error *err)
{
    (void)i;
    int place = RQ_SE_NONE;
    RQ_TRY(read_word(at, f, se_words, RQ_N_SE_PLACES, "/,;", &place, err));
    out->arch.se = (rq_se_place)place;
    if (place == RQ_SE_NONE)
        return RQ_OK;
    if (**at != '/')
        return rq_fail(err, RQ_ERR_USAGE, "se: '/' and a number must follow %s", se_words[place]);
    ++*at;
    return read_number(at, f, 1, &out->arch.se_reduction, err);
}

static rq_status read_aux(draft *out, field f, int i, const char **at, rq_error *err)
{
    (void)i;
    int stage = 0;
    RQ_TRY(read_number(at, f, 0, &stage, err));
    if (out->arch.aux[stage])
        return rq_fail(err, RQ_ERR_USAGE, "aux: stage %d is given twice", stage);
    out->arch.aux[stage] = true;
    return RQ_OK;
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

/* "name=1,2,3" at *at, which moves to the ';' or the end after it. */
static rq_status read_field(const char **at, draft *out, rq_error *err)
{
    field f = DEPTH;
    RQ_TRY(find_field(*at, &f, err));
    if (out->n_values[f] > 0)
        return rq_fail(err, RQ_ERR_USAGE, "%s is given twice", fields[f].name);
    *at += strlen(fields[f].name);
    do {
        ++*at; /* over '=' or ',' */
        if (out->n_values[f] == fields[f].max_values)
            return rq_fail(err, RQ_ERR_USAGE, "%s has more than %d values", fields[f].name,
                           fields[f].max_values);
        RQ_TRY(fields[f].read(out, f, out->n_values[f], at, err));
        out->n_values[f]++;
    } while (**at == ',');
    if (**at && **at != ';')
        return rq_fail(err, RQ_ERR_USAGE, "%s: unexpected '%.40s'", fields[f].name, *at);
    return RQ_OK;
}

/* ---- rules for what has been read ---- */

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
                               "names: module '%s' cannot be next to module '%s'", paths[k],
                               paths[i]);
    return RQ_OK;
}

rq_status rq_arch_parse_fields(rq_arch *out, const char *at, rq_error *err)
{
    draft d = {.n_values = {0}};
    RQ_TRY(read_field(&at, &d, err));
    while (*at) {
        at++;
        RQ_TRY(read_field(&at, &d, err));
    }
    RQ_TRY(check_counts(&d, err));
    set_defaults(&d);
    RQ_TRY(check_depth(&d.arch, err));
    RQ_TRY(check_groups(&d.arch, err));
    RQ_TRY(check_additions(&d.arch, err));
    RQ_TRY(check_names(&d.arch, err));
    *out = d.arch;
    return RQ_OK;
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
    put(&w, "%s", RQ_ARCH_PREFIX);
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
