/* Lists of prefixes against parameter names. */
#include "qat/update/param_rules.h"

#include <string.h>

#include "runtime/base/options.h"

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static bool is_below(const char *name, const char *prefix, size_t n_prefix)
{
    return strncmp(name, prefix, n_prefix) == 0 &&
           (name[n_prefix] == '.' || name[n_prefix] == '\0');
}

/* One entry of a list, text up to a comma; *rest receives what follows, NULL at the end. */
typedef struct entry {
    const char *text;
    size_t n;        /* bytes in all */
    size_t n_prefix; /* up to '=' */
} entry;

static entry next_entry(const char **rest)
{
    const char *text = *rest;
    const size_t n = strcspn(text, ",");
    const char *equals = memchr(text, '=', n);
    *rest = text[n] ? text + n + 1 : NULL;
    return (entry){text, n, equals ? (size_t)(equals - text) : n};
}

static rq_status require_match(const rq_graph *graph, const entry *e, const char *option,
                               rq_error *err)
{
    for (int i = 0; i < graph->n_params && e->n_prefix; i++)
        if (is_below(graph->params[i].name, e->text, e->n_prefix))
            return RQ_OK;
    return rq_fail(err, RQ_ERR_USAGE, "--%s: no parameter is below '%.*s'", option,
                   (int)e->n_prefix, e->text);
}

static rq_status parse_factor(const entry *e, double *factor, rq_error *err)
{
    char number[32] = "";
    const size_t n = e->n - e->n_prefix;
    if (n > 1 && n <= sizeof number) {
        memcpy(number, e->text + e->n_prefix + 1, n - 1);
        number[n - 1] = '\0';
    }
    return rq_parse_float(number, 0.0, RQ_MAX_LR_SCALE, factor)
               ? RQ_OK
               : rq_fail(err, RQ_ERR_USAGE, "--lr-scale: '%.*s' is not PREFIX=X, X from 0 to %d",
                         (int)e->n, e->text, RQ_MAX_LR_SCALE);
}

static rq_status check_freeze(const rq_graph *graph, const char *freeze, rq_error *err)
{
    for (const char *rest = freeze; rest;) {
        const entry e = next_entry(&rest);
        RQ_TRY(require_match(graph, &e, "freeze", err));
    }
    return RQ_OK;
}

static bool is_frozen(const char *name, const char *freeze)
{
    for (const char *rest = freeze; rest;) {
        const entry e = next_entry(&rest);
        if (is_below(name, e.text, e.n))
            return true;
    }
    return false;
}

/* Multiply into the rules' lr_scale the factors of the longest prefixes. */
static rq_status apply_lr_scales(rq_param_rule *rules, const rq_graph *graph, const char *list,
                                 rq_error *err)
{
    for (int i = 0; i < graph->n_params; i++) {
        size_t longest = 0;
        double factor = 1.0;
        for (const char *rest = list; rest;) {
            const entry e = next_entry(&rest);
            double found;
            RQ_TRY(parse_factor(&e, &found, err));
            RQ_TRY(require_match(graph, &e, "lr-scale", err));
            if (e.n_prefix < longest || !is_below(graph->params[i].name, e.text, e.n_prefix))
                continue;
            longest = e.n_prefix;
            factor = found;
        }
        rules[i].lr_scale *= factor;
    }
    return RQ_OK;
}

static bool decays(const rq_param *param, const rq_rule_options *options)
{
    return param->tensor.rank >= 2 ||
           (options->decay_identity && ends_with(param->name, "identity.weight"));
}

rq_status rq_param_rules(rq_param_rule *rules, const rq_graph *graph,
                         const rq_rule_options *options, rq_error *err)
{
    RQ_TRY(check_freeze(graph, options->freeze, err));
    for (int i = 0; i < graph->n_params; i++) {
        const rq_param *param = &graph->params[i];
        rules[i] = (rq_param_rule){
            .trained = !is_frozen(param->name, options->freeze),
            .decays = decays(param, options) && !(options->custom_l2 && options->custom_l2[i]),
            .lr_scale = ends_with(param->name, "bias") ? options->bias_lr : 1.0,
        };
    }
    return apply_lr_scales(rules, graph, options->lr_scales, err);
}

rq_status rq_frozen_nodes(bool *frozen, const rq_graph *graph, const char *freeze, rq_error *err)
{
    RQ_TRY(check_freeze(graph, freeze, err));
    for (int i = 0; i < graph->n_nodes; i++) {
        const int gamma = graph->nodes[i].slot[RQ_SLOT_WEIGHT];
        frozen[i] = graph->nodes[i].op == RQ_OP_BATCH_NORM && gamma >= 0 &&
                    is_frozen(graph->params[gamma].name, freeze);
    }
    return RQ_OK;
}
