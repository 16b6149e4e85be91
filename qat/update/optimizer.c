/* Tensors in runs of CHUNK elements, shared by the threads; sums in double, added in order. */
#include "qat/update/optimizer.h"

#include <assert.h>
#include <math.h>

#include "runtime/base/simd.h"

const char *const rq_optimizer_names[] = {"sgd", "adamw", NULL};

static const struct {
    int n_states;
    const char *state[RQ_MAX_STATES];
} kinds[] = {
    [RQ_OPTIMIZER_SGD] = {1, {"velocity", NULL}},
    [RQ_OPTIMIZER_ADAMW] = {2, {"exp_avg", "exp_avg_sq"}},
};

typedef struct opt_tensor {
    float *p; /* NULL: not trained */
    const float *gradient, *multiplier;
    float *state[RQ_MAX_STATES];
    size_t n;
    double decay, lr_scale;
} opt_tensor;

struct rq_optimizer {
    rq_arena arena;
    rq_optimizer_options options;
    rq_model *model;
    opt_tensor *tensors; /* [n_params] */
    int n_params;
    double *squares; /* sums of squared gradients, one per chunk of the largest tensor */
    int64_t steps;
};

enum { CHUNK = 16384 }; /* elements */

static size_t n_chunks(size_t n)
{
    return (n + CHUNK - 1) / CHUNK;
}

static rq_status add_tensor(rq_optimizer *optimizer, const rq_trainer *trainer, int i,
                            const rq_param_rule *rule, rq_error *err)
{
    const rq_optimizer_options *options = &optimizer->options;
    const rq_tensor *tensor = &optimizer->model->graph.params[i].tensor;
    opt_tensor *t = &optimizer->tensors[i];
    t->gradient = rq_trainer_gradient(trainer, i);
    if (!t->gradient || !rule->trained)
        return RQ_OK;
    t->p = rq_tensor_f32(tensor);
    t->n = rq_tensor_elems(tensor);
    t->multiplier = options->multipliers ? options->multipliers[i] : NULL;
    t->decay = rule->decays ? options->weight_decay : 0.0;
    t->lr_scale = rule->lr_scale;
    for (int k = 0; k < kinds[options->kind].n_states; k++)
        if (!(t->state[k] = rq_arena_array(&optimizer->arena, float, t->n)))
            return rq_no_memory(err);
    return RQ_OK;
}

static rq_status add_tensors(rq_optimizer *optimizer, const rq_trainer *trainer,
                             rq_param_rule *rules, rq_error *err)
{
    size_t largest = 0;
    RQ_TRY(rq_param_rules(rules, &optimizer->model->graph, &optimizer->options.rules, err));
    for (int i = 0; i < optimizer->n_params; i++) {
        RQ_TRY(add_tensor(optimizer, trainer, i, &rules[i], err));
        if (optimizer->tensors[i].n > largest)
            largest = optimizer->tensors[i].n;
    }
    optimizer->squares = rq_arena_array(&optimizer->arena, double, n_chunks(largest));
    return optimizer->squares ? RQ_OK : rq_no_memory(err);
}

rq_status rq_optimizer_create(rq_optimizer **out, const rq_trainer *trainer, rq_model *model,
                              const rq_optimizer_options *options, rq_error *err)
{
    if (options->multipliers && options->clip_grad > 0.0)
        return rq_fail(err, RQ_ERR_USAGE,
                       "--clip-grad: gradients that are multiplied element by element "
                       "(RepOptimizer) cannot be clipped");
    rq_optimizer *optimizer = rq_alloc(sizeof *optimizer);
    if (!optimizer)
        return rq_no_memory(err);
    optimizer->options = *options;
    optimizer->model = model;
    optimizer->n_params = model->graph.n_params;
    optimizer->tensors = rq_arena_array(&optimizer->arena, opt_tensor, optimizer->n_params);
    rq_param_rule *rules = rq_alloc_array(rq_param_rule, optimizer->n_params);
    const rq_status status = optimizer->tensors && rules
                                 ? add_tensors(optimizer, trainer, rules, err)
                                 : rq_no_memory(err);
    rq_free(rules);
    if (status)
        rq_optimizer_destroy(optimizer);
    else
        *out = optimizer;
    return status;
}

void rq_optimizer_destroy(rq_optimizer *optimizer)
{
    if (!optimizer)
        return;
    rq_arena_deinit(&optimizer->arena);
    rq_free(optimizer);
}

/* ---- clipping ---- */

/* Sum of squares; eight sums, so that the compiler may keep them in one vector. */
RQ_SIMD static double square_sum(const float *x, size_t n)
{
    enum { LANES = 8 };
    double sums[LANES] = {0.0}, total = 0.0;
    for (size_t i = 0; i + LANES <= n; i += LANES)
        for (size_t k = 0; k < LANES; k++)
            sums[k] += (double)x[i + k] * (double)x[i + k];
    for (size_t i = n - n % LANES; i < n; i++)
        total += (double)x[i] * (double)x[i];
    for (size_t k = 0; k < LANES; k++)
        total += sums[k];
    return total;
}

static double tensor_square_sum(const rq_optimizer *optimizer, const opt_tensor *t)
{
    double total = 0.0;
#pragma omp parallel for schedule(static) if (t->n > CHUNK)
    for (size_t i = 0; i < t->n; i += CHUNK)
        optimizer->squares[i / CHUNK] =
            square_sum(t->gradient + i, t->n - i < CHUNK ? t->n - i : CHUNK);
    for (size_t k = 0; k < n_chunks(t->n); k++)
        total += optimizer->squares[k];
    return total;
}

/* The factor that brings the norm of all gradients down to the limit. */
static rq_status clip_factor(const rq_optimizer *optimizer, double *clip, rq_error *err)
{
    double total = 0.0;
    *clip = 1.0;
    if (!(optimizer->options.clip_grad > 0.0))
        return RQ_OK;
    for (int i = 0; i < optimizer->n_params; i++) {
        if (!optimizer->tensors[i].p)
            continue;
        const double sum = tensor_square_sum(optimizer, &optimizer->tensors[i]);
        if (!isfinite(sum))
            return rq_fail(err, RQ_ERR_RANGE, "the gradient of %s is not finite",
                           optimizer->model->graph.params[i].name);
        total += sum;
    }
    *clip = fmin(1.0, optimizer->options.clip_grad / (sqrt(total) + 1e-6)); /* PyTorch's 1e-6 */
    return RQ_OK;
}

/* ---- a step ---- */

static void update_chunk(const rq_optimizer *optimizer, const opt_tensor *t, size_t i, double lr,
                         double clip)
{
    rq_update u = {
        .n = t->n - i < CHUNK ? t->n - i : CHUNK,
        .p = t->p + i,
        .gradient = t->gradient + i,
        .multiplier = t->multiplier ? t->multiplier + i : NULL,
        .lr = lr * t->lr_scale,
        .decay = t->decay,
        .clip = clip,
        .step = optimizer->steps,
    };
    for (int k = 0; k < kinds[optimizer->options.kind].n_states; k++)
        u.state[k] = t->state[k] + i;
    if (optimizer->options.kind == RQ_OPTIMIZER_SGD)
        rq_sgd_update(&u, &optimizer->options.sgd);
    else
        rq_adamw_update(&u, &optimizer->options.adamw);
}

rq_status rq_optimizer_step(rq_optimizer *optimizer, double lr, rq_error *err)
{
    double clip;
    RQ_TRY(clip_factor(optimizer, &clip, err));
    optimizer->steps++;
    for (int k = 0; k < optimizer->n_params; k++) {
        const opt_tensor *t = &optimizer->tensors[k];
        if (!t->p)
            continue;
#pragma omp parallel for schedule(static) if (t->n > CHUNK)
        for (size_t i = 0; i < t->n; i += CHUNK)
            update_chunk(optimizer, t, i, lr, clip);
    }
    return RQ_OK;
}

/* ---- state ---- */

int rq_optimizer_n_states(const rq_optimizer *optimizer)
{
    return kinds[optimizer->options.kind].n_states;
}

const char *rq_optimizer_state_name(const rq_optimizer *optimizer, int k)
{
    assert(k >= 0 && k < kinds[optimizer->options.kind].n_states);
    return kinds[optimizer->options.kind].state[k];
}

float *rq_optimizer_state(const rq_optimizer *optimizer, int param, int k)
{
    return optimizer->tensors[param].state[k];
}

int64_t rq_optimizer_steps(const rq_optimizer *optimizer)
{
    return optimizer->steps;
}

void rq_optimizer_set_steps(rq_optimizer *optimizer, int64_t steps)
{
    optimizer->steps = steps;
}
