/* conv_limit inference|training BATCH SIDE
 *
 * The time that oneDNN's convolutions of RepVGG-A0 take by themselves: the limit for a program that
 * computes with oneDNN. Each of the 22 3x3 layers is one primitive, in the memory layout that
 * oneDNN chooses, and runs alone: twice to warm up, then at least 5 times and for up to 0.4 seconds
 * (300 runs). The best time counts, and the times of all layers are added. Pooling, the classifier
 * and whatever is between the layers are not included.
 *
 * Prints lines "name value":
 *
 *   inference   limit_fp32         ms per image, f32, with bias and ReLU in the primitive
 *               limit_int8         the same, u8 x s8 -> u8, one scale per output channel
 *   training    limit_train_f32    images per second: forward, gradient of the weights, and
 *               limit_train_bf16   gradient of the source (not for the first layer)
 *
 * A figure for which oneDNN has no primitive on this CPU is left out. The number of threads is
 * OMP_NUM_THREADS. Written for oneDNN 2 (Debian 12: libdnnl-dev 2.6.3). */
#include <oneapi/dnnl/dnnl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if DNNL_VERSION_MAJOR != 2
#error "conv_limit.c uses the C interface of oneDNN 2"
#endif

enum { WARM_UP = 2, MIN_RUNS = 5, MAX_RUNS = 300 };
#define MAX_SECONDS    0.4
#define NO_PRIMITIVE   (-1.0) /* instead of a time */
#define CHECK(call)    check((call), __LINE__)
#define N_ELEMS(array) (sizeof(array) / sizeof((array)[0]))

static dnnl_engine_t engine;
static dnnl_stream_t stream;

static void check(dnnl_status_t status, int line)
{
    if (status != dnnl_success) {
        (void)fprintf(stderr, "conv_limit: oneDNN's status %d in line %d\n", (int)status, line);
        exit(1);
    }
}

static double now(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* A 3x3 layer, padded by 1: [batch, ic, side, side] -> [batch, oc, side / stride, ...]. */
typedef struct layer {
    int batch, ic, side, oc, stride;
} layer;

static int side_of_output(const layer *l)
{
    return (l->side - 1) / l->stride + 1;
}

typedef enum task { INFERENCE, FORWARD, BACKWARD_DATA, BACKWARD_WEIGHTS } task;

/* ---- a layer's primitive ---- */

typedef struct descs {
    dnnl_memory_desc_t src, wei, bias, dst;
} descs;

static void describe(descs *out, const layer *l, dnnl_data_type_t data, dnnl_data_type_t weights)
{
    const int64_t side = side_of_output(l);
    const dnnl_dims_t src = {l->batch, l->ic, l->side, l->side};
    const dnnl_dims_t wei = {l->oc, l->ic, 3, 3};
    const dnnl_dims_t bias = {l->oc};
    const dnnl_dims_t dst = {l->batch, l->oc, side, side};
    CHECK(dnnl_memory_desc_init_by_tag(&out->src, 4, src, data, dnnl_format_tag_any));
    CHECK(dnnl_memory_desc_init_by_tag(&out->wei, 4, wei, weights, dnnl_format_tag_any));
    CHECK(dnnl_memory_desc_init_by_tag(&out->bias, 1, bias, dnnl_f32, dnnl_a));
    CHECK(dnnl_memory_desc_init_by_tag(&out->dst, 4, dst, data, dnnl_format_tag_any));
}

/* Bias, ReLU and, for INT8, a scale for each output channel. */
static dnnl_primitive_attr_t inference_attr(const layer *l, dnnl_data_type_t weights)
{
    dnnl_primitive_attr_t attr;
    dnnl_post_ops_t post_ops;
    CHECK(dnnl_primitive_attr_create(&attr));
    CHECK(dnnl_post_ops_create(&post_ops));
    CHECK(dnnl_post_ops_append_eltwise(post_ops, 1.0f, dnnl_eltwise_relu, 0.0f, 0.0f));
    CHECK(dnnl_primitive_attr_set_post_ops(attr, post_ops));
    CHECK(dnnl_post_ops_destroy(post_ops));
    if (weights == dnnl_s8) {
        enum { MAX_CHANNELS = 1280, PER_CHANNEL = 1 << 1 };
        float scales[MAX_CHANNELS];
        for (int k = 0; k < l->oc; k++)
            scales[k] = 0.001f;
        CHECK(dnnl_primitive_attr_set_output_scales(attr, l->oc, PER_CHANNEL, scales));
    }
    return attr;
}

/* NULL where oneDNN has no primitive. */
static dnnl_primitive_desc_t create_desc(const layer *l, task what, dnnl_data_type_t data,
                                         dnnl_data_type_t weights)
{
    const dnnl_dims_t strides = {l->stride, l->stride}, padding = {1, 1};
    const dnnl_alg_kind_t direct = dnnl_convolution_direct;
    dnnl_convolution_desc_t conv;
    dnnl_primitive_desc_t desc = NULL, hint = NULL; /* backward primitives need the forward one */
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t status;
    descs d;
    describe(&d, l, data, weights);
    if (what == INFERENCE) {
        attr = inference_attr(l, weights);
        CHECK(dnnl_convolution_forward_desc_init(&conv, dnnl_forward_inference, direct, &d.src,
                                                 &d.wei, &d.bias, &d.dst, strides, padding,
                                                 padding));
    } else {
        CHECK(dnnl_convolution_forward_desc_init(&conv, dnnl_forward_training, direct, &d.src,
                                                 &d.wei, NULL, &d.dst, strides, padding, padding));
    }
    status = dnnl_primitive_desc_create(&desc, &conv, attr, engine, NULL);
    if (status == dnnl_success && (what == BACKWARD_DATA || what == BACKWARD_WEIGHTS)) {
        hint = desc;
        desc = NULL;
        if (what == BACKWARD_DATA)
            CHECK(dnnl_convolution_backward_data_desc_init(&conv, direct, &d.src, &d.wei, &d.dst,
                                                           strides, padding, padding));
        else
            CHECK(dnnl_convolution_backward_weights_desc_init(&conv, direct, &d.src, &d.wei, NULL,
                                                              &d.dst, strides, padding, padding));
        status = dnnl_primitive_desc_create(&desc, &conv, NULL, engine, hint);
        CHECK(dnnl_primitive_desc_destroy(hint));
    }
    if (attr)
        CHECK(dnnl_primitive_attr_destroy(attr));
    if (status == dnnl_unimplemented)
        return NULL;
    CHECK(status);
    return desc;
}

/* ---- its time ---- */

/* What a primitive reads and writes, and where its description has the memory's layout. */
typedef struct argument {
    int arg;
    dnnl_query_t query;
    int index;
} argument;

static const argument arguments[][4] = {
    [INFERENCE] = {{DNNL_ARG_SRC, dnnl_query_src_md, 0},
                   {DNNL_ARG_WEIGHTS, dnnl_query_weights_md, 0},
                   {DNNL_ARG_BIAS, dnnl_query_weights_md, 1},
                   {DNNL_ARG_DST, dnnl_query_dst_md, 0}},
    [FORWARD] = {{DNNL_ARG_SRC, dnnl_query_src_md, 0},
                 {DNNL_ARG_WEIGHTS, dnnl_query_weights_md, 0},
                 {DNNL_ARG_DST, dnnl_query_dst_md, 0}},
    [BACKWARD_DATA] = {{DNNL_ARG_DIFF_SRC, dnnl_query_diff_src_md, 0},
                       {DNNL_ARG_WEIGHTS, dnnl_query_weights_md, 0},
                       {DNNL_ARG_DIFF_DST, dnnl_query_diff_dst_md, 0}},
    [BACKWARD_WEIGHTS] = {{DNNL_ARG_SRC, dnnl_query_src_md, 0},
                          {DNNL_ARG_DIFF_WEIGHTS, dnnl_query_diff_weights_md, 0},
                          {DNNL_ARG_DIFF_DST, dnnl_query_diff_dst_md, 0}},
};

/* Every byte is 1: no zeros, and as floats no denormal numbers, which would be slow. */
static dnnl_memory_t create_memory(const dnnl_memory_desc_t *desc)
{
    dnnl_memory_t memory;
    void *data;
    CHECK(dnnl_memory_create(&memory, desc, engine, DNNL_MEMORY_ALLOCATE));
    CHECK(dnnl_memory_get_data_handle(memory, &data));
    memset(data, 1, dnnl_memory_desc_get_size(desc));
    return memory;
}

static double best_seconds(dnnl_primitive_t primitive, int n_args, const dnnl_exec_arg_t *args)
{
    double best = 1e9, begin = 0.0;
    for (int run = -WARM_UP; run < MIN_RUNS || (run < MAX_RUNS && now() - begin < MAX_SECONDS);
         run++) {
        const double start = now();
        CHECK(dnnl_primitive_execute(primitive, stream, n_args, args));
        CHECK(dnnl_stream_wait(stream));
        const double seconds = now() - start;
        if (run < 0)
            begin = now();
        else if (seconds < best)
            best = seconds;
    }
    return best;
}

static double measure(const layer *l, task what, dnnl_data_type_t data, dnnl_data_type_t weights)
{
    dnnl_primitive_desc_t desc = create_desc(l, what, data, weights);
    if (!desc)
        return NO_PRIMITIVE;
    dnnl_primitive_t primitive;
    CHECK(dnnl_primitive_create(&primitive, desc));
    dnnl_exec_arg_t args[4];
    int n_args = 0;
    for (const argument *a = arguments[what]; n_args < 4 && a->arg; a++, n_args++)
        args[n_args] = (dnnl_exec_arg_t){
            a->arg, create_memory(dnnl_primitive_desc_query_md(desc, a->query, a->index))};
    const double seconds = best_seconds(primitive, n_args, args);
    for (int i = 0; i < n_args; i++)
        CHECK(dnnl_memory_destroy(args[i].memory));
    CHECK(dnnl_primitive_destroy(primitive));
    CHECK(dnnl_primitive_desc_destroy(desc));
    return seconds;
}

/* ---- the network ---- */

/* Sum over the layers of RepVGG-A0 and the tasks from first to last, in seconds. */
static double network(int batch, int side, task first, task last, dnnl_data_type_t data,
                      dnnl_data_type_t weights)
{
    static const struct {
        int depth, width;
    } stages[] = {{1, 48}, {2, 48}, {4, 96}, {14, 192}, {1, 1280}};
    double sum = 0.0;
    layer l = {batch, 3, side, 0, 0};
    for (size_t s = 0; s < N_ELEMS(stages); s++)
        for (int i = 0; i < stages[s].depth; i++) {
            l.oc = stages[s].width;
            l.stride = i == 0 ? 2 : 1;
            for (task d = first; d <= last; d++) {
                if (d == BACKWARD_DATA && l.ic == 3) /* nobody needs the image's gradient */
                    continue;
                const double seconds = measure(&l, d, data, weights);
                if (seconds < 0.0)
                    return NO_PRIMITIVE;
                sum += seconds;
            }
            l.side = side_of_output(&l);
            l.ic = l.oc;
        }
    return sum;
}

static void print_inference(const char *name, int batch, int side, dnnl_data_type_t data,
                            dnnl_data_type_t weights)
{
    const double seconds = network(batch, side, INFERENCE, INFERENCE, data, weights);
    if (seconds > 0.0)
        (void)printf("%s %.3f\n", name, 1e3 * seconds / batch);
}

static void print_training(const char *name, int batch, int side, dnnl_data_type_t type)
{
    const double seconds = network(batch, side, FORWARD, BACKWARD_WEIGHTS, type, type);
    if (seconds > 0.0)
        (void)printf("%s %.2f\n", name, batch / seconds);
}

/* A whole number from 1 to 4096, or 0. */
static int parse(const char *text)
{
    char *end;
    const long value = strtol(text, &end, 10);
    return *end == '\0' && value >= 1 && value <= 4096 ? (int)value : 0;
}

int main(int argc, char **argv)
{
    const int batch = argc == 4 ? parse(argv[2]) : 0, side = argc == 4 ? parse(argv[3]) : 0;
    const bool training = argc == 4 && strcmp(argv[1], "training") == 0;
    if (!batch || !side || (!training && strcmp(argv[1], "inference") != 0)) {
        (void)fprintf(stderr, "usage: conv_limit inference|training BATCH SIDE\n");
        return 2;
    }
    const dnnl_version_t *version = dnnl_version();
    CHECK(dnnl_engine_create(&engine, dnnl_cpu, 0));
    CHECK(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags));
    (void)printf("# with oneDNN %d.%d.%d\n", version->major, version->minor, version->patch);
    if (training) {
        print_training("limit_train_f32", batch, side, dnnl_f32);
        print_training("limit_train_bf16", batch, side, dnnl_bf16);
    } else {
        print_inference("limit_fp32", batch, side, dnnl_f32, dnnl_f32);
        print_inference("limit_int8", batch, side, dnnl_u8, dnnl_s8);
    }
    CHECK(dnnl_stream_destroy(stream));
    CHECK(dnnl_engine_destroy(engine));
    return 0;
}
