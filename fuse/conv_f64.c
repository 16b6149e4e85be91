/* Loops over output channels, taps and input channels; the channels of a tap are innermost. */
#include "fuse/conv_f64.h"

#include <assert.h>
#include <string.h>

#include "runtime/base/size.h"

static int64_t group_inputs(const rq_conv_f64 *conv)
{
    return conv->ic / conv->conv.groups;
}

static int64_t taps(const rq_conv_f64 *conv)
{
    return (int64_t)conv->conv.kernel[0] * conv->conv.kernel[1];
}

/* The first input channel that output channel c sees. */
static int64_t first_input(const rq_conv_f64 *conv, int64_t c)
{
    return c / (conv->oc / conv->conv.groups) * group_inputs(conv);
}

bool rq_conv_f64_elems(const rq_conv_f64 *conv, size_t *out)
{
    const int64_t dims[4] = {conv->n_rows, conv->conv.kernel[0], conv->conv.kernel[1],
                             group_inputs(conv)};
    size_t n;
    return rq_dims_elems(dims, 4, &n) && rq_add_size(n, (size_t)conv->n_rows, out);
}

rq_conv_f64 rq_conv_f64_at(const rq_conv_f64 *geometry, double *memory)
{
    rq_conv_f64 conv = *geometry;
    conv.weight = memory;
    conv.bias = memory + (size_t)geometry->n_rows * rq_conv_f64_row(geometry);
    return conv;
}

rq_conv_f64 rq_conv_f64_slice(const rq_conv_f64 *geometry, int64_t first, int64_t n_rows)
{
    assert(first >= 0 && n_rows >= 0 && first + n_rows <= geometry->oc);
    rq_conv_f64 conv = *geometry;
    conv.first = first;
    conv.n_rows = n_rows;
    return conv;
}

void rq_conv_f64_set_identity(rq_conv_f64 *conv)
{
    for (int64_t c = 0; c < conv->n_rows; c++) {
        conv->weight[c] = 1.0;
        conv->bias[c] = 0.0;
    }
}

void rq_conv_f64_round(const rq_conv_f64 *conv, float *weight, float *bias)
{
    const int64_t icg = group_inputs(conv), n_taps = taps(conv);
    weight += conv->first * icg * n_taps;
    for (int64_t c = 0; c < conv->n_rows; c++) {
        const double *source = conv->weight + c * n_taps * icg;
        for (int64_t ic = 0; ic < icg; ic++)
            for (int64_t tap = 0; tap < n_taps; tap++)
                *weight++ = (float)source[tap * icg + ic];
        bias[conv->first + c] = (float)conv->bias[c];
    }
}

void rq_conv_f64_assign(rq_conv_f64 *conv, const float *weight, const float *bias)
{
    const int64_t icg = group_inputs(conv), n_taps = taps(conv);
    weight += conv->first * icg * n_taps;
    for (int64_t c = 0; c < conv->n_rows; c++) {
        double *row = conv->weight + c * n_taps * icg;
        for (int64_t ic = 0; ic < icg; ic++)
            for (int64_t tap = 0; tap < n_taps; tap++)
                row[tap * icg + ic] = (double)*weight++;
        conv->bias[c] = bias ? (double)bias[conv->first + c] : 0.0;
    }
}

static int greatest_common_divisor(int a, int b)
{
    while (b != 0) {
        const int rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* ---- sums ---- */

/* Does a reach further than b on an axis, or as far with more taps? */
static bool is_wider(const rq_conv_attr *a, const rq_conv_attr *b, int axis)
{
    const int64_t reach_a = (int64_t)(a->kernel[axis] - 1) * a->dilation[axis];
    const int64_t reach_b = (int64_t)(b->kernel[axis] - 1) * b->dilation[axis];
    return reach_a > reach_b || (reach_a == reach_b && a->kernel[axis] > b->kernel[axis]);
}

/* Where a branch's taps lie in the sum, on one axis: tap i at first + i * step. */
typedef struct placement {
    int first, step;
} placement;

static placement place(const rq_conv_attr *sum, const rq_conv_attr *branch, int axis)
{
    return (placement){(sum->pad[axis] - branch->pad[axis]) / sum->dilation[axis],
                       branch->dilation[axis] / sum->dilation[axis]};
}

static bool fits(const rq_conv_attr *sum, const rq_conv_attr *branch, int axis)
{
    const placement at = place(sum, branch, axis);
    const int dilation = sum->dilation[axis], n = branch->kernel[axis];
    return branch->stride[axis] == sum->stride[axis] &&
           (sum->pad[axis] - branch->pad[axis]) % dilation == 0 &&
           (n == 1 || branch->dilation[axis] % dilation == 0) && at.first >= 0 &&
           at.first + (n - 1) * at.step < sum->kernel[axis];
}

int rq_conv_f64_cover(rq_conv_f64 *sum, const rq_conv_f64 *const *branches, int n)
{
    *sum = rq_conv_f64_slice(branches[0], 0, branches[0]->oc);
    rq_conv_attr *all = &sum->conv;
    for (int i = 1; i < n; i++) {
        const rq_conv_attr *conv = &branches[i]->conv;
        for (int axis = 0; axis < 2; axis++)
            if (is_wider(conv, all, axis)) {
                all->kernel[axis] = conv->kernel[axis];
                all->stride[axis] = conv->stride[axis];
                all->pad[axis] = conv->pad[axis];
                all->dilation[axis] = conv->dilation[axis];
            }
        all->groups = greatest_common_divisor(all->groups, conv->groups);
    }
    for (int i = 0; i < n; i++)
        if (!fits(all, &branches[i]->conv, 0) || !fits(all, &branches[i]->conv, 1))
            return i;
    return -1;
}

bool rq_conv_f64_same_geometry(const rq_conv_f64 *a, const rq_conv_f64 *b)
{
    const bool same = memcmp(&a->conv, &b->conv, sizeof a->conv) == 0;
    return same && a->oc == b->oc && a->ic == b->ic;
}

typedef void row_function(double *sum, double *branch, int64_t n);

/* All rows of a branch with the part of the sum's rows over which they lie. */
static void pair_rows(const rq_conv_f64 *sum, const rq_conv_f64 *branch, row_function *function)
{
    assert(sum->first == branch->first && sum->n_rows == branch->n_rows);
    const placement y_at = place(&sum->conv, &branch->conv, 0);
    const placement x_at = place(&sum->conv, &branch->conv, 1);
    const int64_t sum_icg = group_inputs(sum), icg = group_inputs(branch);
    double *row = branch->weight;
    for (int64_t c = 0; c < branch->n_rows; c++) {
        const int64_t oc = branch->first + c;
        const int64_t first = first_input(branch, oc) - first_input(sum, oc);
        for (int64_t y = 0; y < branch->conv.kernel[0]; y++)
            for (int64_t x = 0; x < branch->conv.kernel[1]; x++, row += icg) {
                const int64_t tap =
                    (y_at.first + y * y_at.step) * sum->conv.kernel[1] + x_at.first + x * x_at.step;
                function(sum->weight + (c * taps(sum) + tap) * sum_icg + first, row, icg);
            }
    }
    function(sum->bias, branch->bias, sum->n_rows);
}

static void add_row(double *sum, double *branch, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        sum[i] += branch[i];
}

static void cut_row(double *sum, double *branch, int64_t n)
{
    memcpy(branch, sum, (size_t)n * sizeof *branch);
}

void rq_conv_f64_add(rq_conv_f64 *sum, const rq_conv_f64 *branch)
{
    pair_rows(sum, branch, add_row);
}

void rq_conv_f64_add_backward(rq_conv_f64 *dbranch, const rq_conv_f64 *dsum)
{
    pair_rows(dsum, dbranch, cut_row);
}

/* ---- sequences ---- */

/* One axis of outer after inner; false beyond the limits. */
static bool sequence_axis(rq_conv_attr *out, const rq_conv_attr *outer, const rq_conv_attr *inner,
                          int axis)
{
    const int64_t step = (int64_t)outer->dilation[axis] * inner->stride[axis];
    const int64_t outer_reach = (outer->kernel[axis] - 1) * step;
    const int64_t inner_reach = (int64_t)(inner->kernel[axis] - 1) * inner->dilation[axis];
    const int64_t stride = (int64_t)outer->stride[axis] * inner->stride[axis];
    const int64_t pad = inner->pad[axis] + (int64_t)outer->pad[axis] * inner->stride[axis];
    int64_t dilation = outer_reach == 0 ? inner->dilation[axis] : inner_reach == 0 ? step : -1;
    if (step > RQ_MAX_SIDE || stride > RQ_MAX_SIDE || pad > RQ_MAX_SIDE)
        return false;
    if (dilation < 0)
        dilation = greatest_common_divisor((int)step, inner->dilation[axis]);
    const int64_t kernel = (outer_reach + inner_reach) / dilation + 1;
    if (kernel > RQ_MAX_SIDE)
        return false;
    out->kernel[axis] = (int)kernel;
    out->stride[axis] = (int)stride;
    out->pad[axis] = (int)pad;
    out->dilation[axis] = (int)dilation;
    return true;
}

bool rq_conv_f64_sequence(rq_conv_f64 *out, const rq_window *outer, const rq_conv_f64 *inner)
{
    *out = (rq_conv_f64){.oc = outer->oc, .ic = inner->ic, .n_rows = outer->oc};
    out->conv.groups = greatest_common_divisor(outer->conv.groups, inner->conv.groups);
    return sequence_axis(&out->conv, &outer->conv, &inner->conv, 0) &&
           sequence_axis(&out->conv, &outer->conv, &inner->conv, 1);
}

double rq_conv_f64_sequence_work(const rq_window *outer, const rq_conv_f64 *inner)
{
    const int64_t channels = inner->oc / outer->conv.groups;
    const double n_outer =
        (double)outer->oc * (double)channels * outer->conv.kernel[0] * outer->conv.kernel[1];
    return n_outer * (double)(taps(inner) * group_inputs(inner));
}

/* Outer weight (e, i, v) meets inner row (d, u) in row (e, tap) of the whole: e is an output
 * channel, d the i-th channel between that e sees, v and u are taps. */
typedef struct sequence {
    const rq_window *outer;
    const rq_conv_f64 *inner, *all;
    int64_t channels; /* between, that one e sees */
    int step[2][2];   /* of outer's and of inner's taps among those of the whole, by axis */
} sequence;

static sequence sequence_init(const rq_window *outer, const rq_conv_f64 *inner,
                              const rq_conv_f64 *all)
{
    sequence s = {outer, inner, all, inner->oc / outer->conv.groups, {{0}}};
    for (int axis = 0; axis < 2; axis++) {
        const int dilation = all->conv.dilation[axis];
        s.step[0][axis] = outer->conv.dilation[axis] * inner->conv.stride[axis] / dilation;
        s.step[1][axis] = inner->conv.dilation[axis] / dilation;
    }
    return s;
}

/* What is done with a row of the whole and one of inner, n numbers each, and an outer weight. */
typedef double row_product(double *all, double *inner, int64_t n, double weight);

static double add_to_all(double *all, double *inner, int64_t n, double weight)
{
    for (int64_t c = 0; c < n; c++)
        all[c] += weight * inner[c];
    return 0.0;
}

static double add_to_inner(double *all, double *inner, int64_t n, double weight)
{
    for (int64_t c = 0; c < n; c++)
        inner[c] += weight * all[c];
    return 0.0;
}

static double dot(double *all, double *inner, int64_t n, double weight)
{
    (void)weight;
    double sum = 0.0;
    for (int64_t c = 0; c < n; c++)
        sum += all[c] * inner[c];
    return sum;
}

/* The rows of one outer weight: all is the whole's row of its tap and inner's first; inner's rows
 * follow one another. Gives the sum of the products. */
static inline double over_inner_taps(const sequence *s, double *all, double *inner, double weight,
                                     row_product *product)
{
    const int64_t n = group_inputs(s->inner), row = group_inputs(s->all);
    double sum = 0.0;
    for (int64_t y = 0; y < s->inner->conv.kernel[0]; y++)
        for (int64_t x = 0; x < s->inner->conv.kernel[1]; x++, inner += n) {
            const int64_t tap = y * s->step[1][0] * s->all->conv.kernel[1] + x * s->step[1][1];
            sum += product(all + tap * row, inner, n, weight);
        }
    return sum;
}

/* All weights of outer between d and e, the biases' product included in each; dweight (NULL: not
 * wanted) grows by the sums. */
static inline void over_outer_taps(const sequence *s, int64_t e, int64_t i, row_product *product,
                                   float *dweight)
{
    const rq_conv_attr *conv = &s->outer->conv;
    const int64_t d = e / (s->outer->oc / conv->groups) * s->channels + i;
    const int64_t row = group_inputs(s->all), first = first_input(s->inner, d);
    const int64_t held = e - s->all->first;
    double *all = s->all->weight + held * taps(s->all) * row + first - first_input(s->all, e);
    double *inner = s->inner->weight + d * taps(s->inner) * group_inputs(s->inner);
    int64_t index = (e * s->channels + i) * conv->kernel[0] * conv->kernel[1];
    for (int64_t y = 0; y < conv->kernel[0]; y++)
        for (int64_t x = 0; x < conv->kernel[1]; x++, index++) {
            const int64_t tap = y * s->step[0][0] * s->all->conv.kernel[1] + x * s->step[0][1];
            const double weight = s->outer->weight
                                      ? (double)s->outer->weight[index]
                                      : 1.0 / ((double)conv->kernel[0] * conv->kernel[1]);
            double sum = product(s->all->bias + held, s->inner->bias + d, 1, weight);
            sum += over_inner_taps(s, all + tap * row, inner, weight, product);
            if (dweight)
                dweight[index] += (float)sum;
        }
}

/* Below this many multiply-adds threads cost more than they gain. */
#define SERIAL_WORK 1e5

void rq_conv_f64_compose(rq_conv_f64 *out, const rq_window *outer, const rq_conv_f64 *inner)
{
    assert(inner->n_rows == inner->oc);
    const sequence s = sequence_init(outer, inner, out);
    const bool parallel = rq_conv_f64_sequence_work(outer, inner) > SERIAL_WORK;
    memset(out->weight, 0, (size_t)out->n_rows * rq_conv_f64_row(out) * sizeof *out->weight);
#pragma omp parallel for schedule(static) if (parallel)
    for (int64_t c = 0; c < out->n_rows; c++) {
        const int64_t e = out->first + c;
        out->bias[c] = outer->bias ? (double)outer->bias[e] : 0.0;
        for (int64_t i = 0; i < s.channels; i++)
            over_outer_taps(&s, e, i, add_to_all, NULL);
    }
}

void rq_conv_f64_compose_dweight(float *dweight, const rq_conv_f64 *dout, const rq_window *outer,
                                 const rq_conv_f64 *inner)
{
    assert(dout->n_rows == dout->oc && inner->n_rows == inner->oc);
    const sequence s = sequence_init(outer, inner, dout);
    const bool parallel = rq_conv_f64_sequence_work(outer, inner) > SERIAL_WORK;
#pragma omp parallel for schedule(static) if (parallel)
    for (int64_t e = 0; e < outer->oc; e++)
        for (int64_t i = 0; i < s.channels; i++)
            over_outer_taps(&s, e, i, dot, dweight);
}

void rq_conv_f64_compose_dinner(rq_conv_f64 *dinner, const rq_conv_f64 *dout,
                                const rq_window *outer)
{
    assert(dout->n_rows == dout->oc && dinner->n_rows == dinner->oc);
    const sequence s = sequence_init(outer, dinner, dout);
    const int64_t group_outputs = outer->oc / outer->conv.groups;
    const bool parallel = rq_conv_f64_sequence_work(outer, dinner) > SERIAL_WORK;
    memset(dinner->weight, 0,
           (size_t)dinner->oc * rq_conv_f64_row(dinner) * sizeof *dinner->weight);
#pragma omp parallel for schedule(static) if (parallel)
    for (int64_t d = 0; d < dinner->oc; d++) { /* all e that see d */
        const int64_t group = d / s.channels;
        dinner->bias[d] = 0.0;
        for (int64_t k = 0; k < group_outputs; k++)
            over_outer_taps(&s, group * group_outputs + k, d % s.channels, add_to_inner, NULL);
    }
}
