/* The thresholds of the quantized sigmoid, and the search in them. */
#include "runtime/model/gate.h"

#include <assert.h>

/* thresholds[k - 1] is the smallest f32 that is not below log(p / (1 - p)) with p = (k - 1/2) /
 * 255: from there on 255 * sigmoid(x) rounds to k or more. Computed with 50 digits; k = 128 is 0,
 * where 127.5 rounds half to even. */
static const float thresholds[255] = {
    -0x1.8ee06cp2f,  -0x1.485042p2f,  -0x1.275e22p2f,  -0x1.11945ap2f,
    -0x1.013d8cp2f,  -0x1.e8487p1f,   -0x1.d262dp1f,   -0x1.bf8d8ep1f,
    -0x1.af038cp1f,  -0x1.a041b4p1f,  -0x1.92ec6cp1f,  -0x1.86c12ap1f,
    -0x1.7b8e1p1f,   -0x1.712cccp1f,  -0x1.677f44p1f,  -0x1.5e6d64p1f,
    -0x1.55e39ep1f,  -0x1.4dd1dap1f,  -0x1.462aacp1f,  -0x1.3ee2ccp1f,
    -0x1.37f09ep1f,  -0x1.314be8p1f,  -0x1.2aed9p1f,   -0x1.24cf66p1f,
    -0x1.1eec04p1f,  -0x1.193ea6p1f,  -0x1.13c318p1f,  -0x1.0e759cp1f,
    -0x1.0952d8p1f,  -0x1.0457dp1f,   -0x1.ff039ep0f,  -0x1.f59cccp0f,
    -0x1.ec76cp0f,   -0x1.e38d72p0f,  -0x1.dadd3cp0f,  -0x1.d262c2p0f,
    -0x1.ca1af2p0f,  -0x1.c202f8p0f,  -0x1.ba183cp0f,  -0x1.b25852p0f,
    -0x1.aac104p0f,  -0x1.a35042p0f,  -0x1.9c041ep0f,  -0x1.94dad4p0f,
    -0x1.8dd2b6p0f,  -0x1.86ea38p0f,  -0x1.801fe4p0f,  -0x1.797262p0f,
    -0x1.72e066p0f,  -0x1.6c68cp0f,   -0x1.660a4cp0f,  -0x1.5fc3fap0f,
    -0x1.5994ccp0f,  -0x1.537bcap0f,  -0x1.4d7814p0f,  -0x1.4788ccp0f,
    -0x1.41ad28p0f,  -0x1.3be462p0f,  -0x1.362dcp0f,   -0x1.308894p0f,
    -0x1.2af434p0f,  -0x1.257p0f,     -0x1.1ffb62p0f,  -0x1.1a95c6p0f,
    -0x1.153ea2p0f,  -0x1.0ff57p0f,   -0x1.0ab9b2p0f,  -0x1.058aeep0f,
    -0x1.0068bp0f,   -0x1.f6a51p-1f,  -0x1.ec9014p-1f, -0x1.e2919cp-1f,
    -0x1.d8a8e6p-1f, -0x1.ced53p-1f,  -0x1.c515c2p-1f, -0x1.bb69ecp-1f,
    -0x1.b1d106p-1f, -0x1.a84a66p-1f, -0x1.9ed572p-1f, -0x1.95718ep-1f,
    -0x1.8c1e26p-1f, -0x1.82daaap-1f, -0x1.79a69p-1f,  -0x1.70815p-1f,
    -0x1.676a6ap-1f, -0x1.5e615cp-1f, -0x1.5565acp-1f, -0x1.4c76e2p-1f,
    -0x1.43948ep-1f, -0x1.3abe3ap-1f, -0x1.31f37ap-1f, -0x1.2933e2p-1f,
    -0x1.207f0ep-1f, -0x1.17d492p-1f, -0x1.0f341p-1f,  -0x1.069d24p-1f,
    -0x1.fc1ee2p-2f, -0x1.eb1534p-2f, -0x1.da1c86p-2f, -0x1.c9342cp-2f,
    -0x1.b85b74p-2f, -0x1.a791b4p-2f, -0x1.96d648p-2f, -0x1.862888p-2f,
    -0x1.7587d6p-2f, -0x1.64f394p-2f, -0x1.546b24p-2f, -0x1.43edeep-2f,
    -0x1.337b5ap-2f, -0x1.2312d4p-2f, -0x1.12b3cap-2f, -0x1.025daap-2f,
    -0x1.e41fccp-3f, -0x1.c393dep-3f, -0x1.a31672p-3f, -0x1.82a676p-3f,
    -0x1.6242d6p-3f, -0x1.41ea82p-3f, -0x1.219c6ep-3f, -0x1.01578cp-3f,
    -0x1.c235a6p-4f, -0x1.81ca74p-4f, -0x1.416b72p-4f, -0x1.01169ap-4f,
    -0x1.8193b8p-5f, -0x1.010666p-5f, -0x1.01025ap-6f, 0.0f,
    0x1.01025cp-6f,  0x1.010668p-5f,  0x1.8193bap-5f,  0x1.01169cp-4f,
    0x1.416b74p-4f,  0x1.81ca76p-4f,  0x1.c235a8p-4f,  0x1.01578ep-3f,
    0x1.219c7p-3f,   0x1.41ea84p-3f,  0x1.6242d8p-3f,  0x1.82a678p-3f,
    0x1.a31674p-3f,  0x1.c393ep-3f,   0x1.e41fcep-3f,  0x1.025dacp-2f,
    0x1.12b3ccp-2f,  0x1.2312d6p-2f,  0x1.337b5cp-2f,  0x1.43edfp-2f,
    0x1.546b26p-2f,  0x1.64f396p-2f,  0x1.7587d8p-2f,  0x1.86288ap-2f,
    0x1.96d64ap-2f,  0x1.a791b6p-2f,  0x1.b85b76p-2f,  0x1.c9342ep-2f,
    0x1.da1c88p-2f,  0x1.eb1536p-2f,  0x1.fc1ee4p-2f,  0x1.069d26p-1f,
    0x1.0f3412p-1f,  0x1.17d494p-1f,  0x1.207f1p-1f,   0x1.2933e4p-1f,
    0x1.31f37cp-1f,  0x1.3abe3cp-1f,  0x1.43949p-1f,   0x1.4c76e4p-1f,
    0x1.5565aep-1f,  0x1.5e615ep-1f,  0x1.676a6cp-1f,  0x1.708152p-1f,
    0x1.79a692p-1f,  0x1.82daacp-1f,  0x1.8c1e28p-1f,  0x1.95719p-1f,
    0x1.9ed574p-1f,  0x1.a84a68p-1f,  0x1.b1d108p-1f,  0x1.bb69eep-1f,
    0x1.c515c4p-1f,  0x1.ced532p-1f,  0x1.d8a8e8p-1f,  0x1.e2919ep-1f,
    0x1.ec9016p-1f,  0x1.f6a512p-1f,  0x1.0068b2p0f,   0x1.058afp0f,
    0x1.0ab9b4p0f,   0x1.0ff572p0f,   0x1.153ea4p0f,   0x1.1a95c8p0f,
    0x1.1ffb64p0f,   0x1.257002p0f,   0x1.2af436p0f,   0x1.308896p0f,
    0x1.362dc2p0f,   0x1.3be464p0f,   0x1.41ad2ap0f,   0x1.4788cep0f,
    0x1.4d7816p0f,   0x1.537bccp0f,   0x1.5994cep0f,   0x1.5fc3fcp0f,
    0x1.660a4ep0f,   0x1.6c68c2p0f,   0x1.72e068p0f,   0x1.797264p0f,
    0x1.801fe6p0f,   0x1.86ea3ap0f,   0x1.8dd2b8p0f,   0x1.94dad6p0f,
    0x1.9c042p0f,    0x1.a35044p0f,   0x1.aac106p0f,   0x1.b25854p0f,
    0x1.ba183ep0f,   0x1.c202fap0f,   0x1.ca1af4p0f,   0x1.d262c4p0f,
    0x1.dadd3ep0f,   0x1.e38d74p0f,   0x1.ec76c2p0f,   0x1.f59ccep0f,
    0x1.ff03ap0f,    0x1.0457d2p1f,   0x1.0952dap1f,   0x1.0e759ep1f,
    0x1.13c31ap1f,   0x1.193ea8p1f,   0x1.1eec06p1f,   0x1.24cf68p1f,
    0x1.2aed92p1f,   0x1.314beap1f,   0x1.37f0ap1f,    0x1.3ee2cep1f,
    0x1.462aaep1f,   0x1.4dd1dcp1f,   0x1.55e3ap1f,    0x1.5e6d66p1f,
    0x1.677f46p1f,   0x1.712ccep1f,   0x1.7b8e12p1f,   0x1.86c12cp1f,
    0x1.92ec6ep1f,   0x1.a041b6p1f,   0x1.af038ep1f,   0x1.bf8d9p1f,
    0x1.d262d2p1f,   0x1.e84872p1f,   0x1.013d8ep2f,   0x1.11945cp2f,
    0x1.275e24p2f,   0x1.485044p2f,   0x1.8ee06ep2f};

uint8_t rq_gate_level(float x)
{
    unsigned level = 0; /* thresholds up to here are <= x */
    for (unsigned step = 128; step > 0; step /= 2)
        level += x >= thresholds[level + step - 1] ? step : 0;
    return (uint8_t)level;
}

bool rq_is_gate(const rq_graph *graph, int node)
{
    return graph->nodes[node].op == RQ_OP_FAKE_QUANT &&
           rq_graph_producer(graph, node, 0)->op == RQ_OP_SIGMOID;
}

rq_status rq_gate_check(const rq_graph *graph, int node, rq_error *err)
{
    assert(rq_is_gate(graph, node));
    const float scale = *rq_tensor_f32(rq_graph_tensor(graph, node, RQ_SLOT_SCALE));
    if (scale == RQ_GATE_SCALE)
        return RQ_OK;
    return rq_fail(err, RQ_ERR_MODEL,
                   "%s: a quantized sigmoid has scale 1 / 255 (it is computed by a table), this "
                   "has %.9g",
                   graph->nodes[node].name, (double)scale);
}

/* The pooled value that the gate of a mul is computed from, -1 when it is no such chain; *found is
 * set when the chain contains the node. */
static int follow_gate(const rq_graph *graph, int mul, int node, bool *found)
{
    int i = graph->nodes[mul].input[1];
    for (; graph->nodes[i].n_inputs == 1; i = graph->nodes[i].input[0]) {
        *found |= i == node;
        if (graph->nodes[i].op == RQ_OP_GLOBAL_AVG_POOL)
            return graph->nodes[i].input[0];
    }
    return -1;
}

int rq_gate_source(const rq_graph *graph, int node)
{
    for (int i = node + 1; i < graph->n_nodes; i++) {
        bool found = false;
        if (graph->nodes[i].op != RQ_OP_MUL)
            continue;
        const int source = follow_gate(graph, i, node, &found);
        if (found && source >= 0)
            return source;
    }
    return -1;
}
