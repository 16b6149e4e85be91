/* Lowering against a fake-quant simulation in double that is written from the definitions: integer
 * layers must give exactly its integers, float layers its values. Each layer gets the inputs that
 * the lowered model really had, so that one rounding does not hide behind another. */
#include <math.h>
#include <string.h>

#include "export/lower.h"
#include "tests/export/trace.h"

/* Folded weight of a layer of the source, from the definition. */
static float folded_weight(const rq_model *qat, const net_layer *layer, int64_t oc, int64_t at,
                           int channel, bool pixels)
{
    const float *wei =
        net_values(qat, rq_test_path("%s.rbr_reparam.conv", layer->block), RQ_SLOT_WEIGHT);
    double factor = 1.0;
    if (layer->bn) {
        const char *bn = rq_test_path("%s.rbr_reparam.bn", layer->block);
        factor = (double)net_values(qat, bn, RQ_SLOT_WEIGHT)[oc] /
                 sqrt((double)net_values(qat, bn, RQ_SLOT_VAR)[oc] + (double)1e-5f);
    }
    if (pixels)
        factor /= 255.0 * (double)qat->preprocess.std[channel];
    return wei[at] * (float)factor;
}

static double folded_bias(const rq_model *qat, const net_layer *layer, int64_t oc)
{
    if (!layer->bn)
        return (double)net_values(qat, rq_test_path("%s.rbr_reparam.conv", layer->block),
                                  RQ_SLOT_BIAS)[oc];
    const char *bn = rq_test_path("%s.rbr_reparam.bn", layer->block);
    const double sigma = sqrt((double)net_values(qat, bn, RQ_SLOT_VAR)[oc] + (double)1e-5f);
    return (double)net_values(qat, bn, RQ_SLOT_BIAS)[oc] -
           (double)net_values(qat, bn, RQ_SLOT_MEAN)[oc] *
               (double)net_values(qat, bn, RQ_SLOT_WEIGHT)[oc] / sigma;
}

typedef struct sim_layer {
    const rq_model *qat;
    const net_layer *layer;
    const double *src; /* integers q, p - z, or real values */
    const rq_shape *in;
    const rq_shape *out;
    bool pixels;
    float s_w; /* of the current channel; 0 for a float layer */
} sim_layer;

/* Sum over the taps inside the image, weights quantized when s_w is set. Zero padding: the border
 * is 0 in every representation, also for pixels minus their zero point. */
static double sim_acc(const sim_layer *sim, int64_t n, int64_t oy, int64_t ox, int64_t oc)
{
    const net_layer *layer = sim->layer;
    const int k = layer->kernel, pad = layer->dilation * (k / 2);
    const int64_t icg = sim->in->c / layer->groups;
    const int64_t group = oc / (layer->oc / layer->groups);
    double acc = 0.0;
    for (int ky = 0; ky < k; ky++)
        for (int kx = 0; kx < k; kx++)
            for (int64_t c = 0; c < icg; c++) {
                const int64_t y = oy * layer->stride + (int64_t)ky * layer->dilation - pad;
                const int64_t x = ox * layer->stride + (int64_t)kx * layer->dilation - pad;
                if (y < 0 || x < 0 || y >= sim->in->h || x >= sim->in->w)
                    continue;
                const int64_t channel = group * icg + c;
                double w =
                    (double)folded_weight(sim->qat, layer, oc, ((oc * icg + c) * k + ky) * k + kx,
                                          (int)channel, sim->pixels);
                if (sim->s_w > 0.0f) {
                    w = (double)rintf((float)w * (1.0f / sim->s_w));
                    w = fmin(fmax(w, -127.0), 127.0);
                }
                acc += w * sim->src[((n * sim->in->h + y) * sim->in->w + x) * sim->in->c + channel];
            }
    return acc;
}

/* The layer's outputs in the lowered model against the simulation. s_y 0: a float layer. */
static void check_layer(const sim_layer *layer, const double *got, float s_x, float s_y)
{
    sim_layer sim = *layer;
    const float *scales = net_values(sim.qat, rq_test_path("%s.rbr_reparam.conv", sim.layer->block),
                                     RQ_SLOT_WEIGHT_SCALE);
    int n_inside = 0;
    for (int64_t i = 0; i < (int64_t)rq_shape_elems(sim.out); i++) {
        const int64_t oc = i % sim.out->c, ox = i / sim.out->c % sim.out->w;
        const int64_t oy = i / sim.out->c / sim.out->w % sim.out->h;
        const int64_t n = i / sim.out->c / sim.out->w / sim.out->h;
        const double bias = folded_bias(sim.qat, sim.layer, oc);
        sim.s_w = s_y > 0.0f ? scales[oc] : 0.0f;
        const double acc = sim_acc(&sim, n, oy, ox, oc);
        if (s_y > 0.0f) {
            const double step = (double)s_x * (double)sim.s_w;
            const double b = rint(bias / step);
            const float m = (float)(step / (double)s_y);
            assert_true(fabs(acc) + fabs(b) < 0x1p24); /* then the rule is exact in double */
            const double q = rint((double)(float)((acc + b) * (double)m));
            assert_true(got[i] == fmin(fmax(q, 0.0), 255.0));
            /* and within half a step of the unrounded real value, up to the rounding of the bias */
            const double real = fmin(fmax((acc * step + bias) / (double)s_y, 0.0), 255.0);
            assert_close(got[i], real, 0.5 + 0.5 * step / (double)s_y + 1e-4, 0.0);
            n_inside += got[i] > 0.0 && got[i] < 255.0;
        } else {
            assert_close(got[i], acc + bias, 1e-5, 1e-5);
            n_inside++;
        }
    }
    assert_true(n_inside > (int)rq_shape_elems(sim.out) / 10);
}

/* The input of a convolution on pixels: p - z. */
static source_value centred_pixels(const rq_model *qat, const trace *seen)
{
    static double values[N_PIXELS];
    for (int i = 0; i < N_PIXELS; i++)
        values[i] =
            (double)seen->pixels[i] - (double)rq_pixel_zero_point(qat->preprocess.mean[i % 3]);
    return (source_value){values, {BATCH, NET_SIDE, NET_SIDE, 3, RQ_F32}, RQ_PIXEL_SCALE};
}

/* One conv of the source; returns what the next one reads. */
static source_value check_conv(const rq_model *qat, const rq_model *lowered, const trace *seen,
                               const net_layer *layer, source_value in)
{
    const float s_y = quant_scale(qat, rq_test_path("%s.quant", layer->block));
    const source_value out =
        traced(lowered, seen, rq_test_path("%s.rbr_reparam.conv", layer->block), s_y);
    sim_layer sim = {
        .qat = qat, .layer = layer, .src = in.values, .in = &in.shape, .out = &out.shape};
    if (layer->quantized) {
        sim.pixels = in.shape.dtype == RQ_F32;
        check_layer(&sim, out.values, in.scale, s_y);
        return out;
    }
    if (in.scale > 0.0f) /* a float layer after quantized values reads them dequantized */
        sim.src = traced(lowered, seen, rq_test_path("%s.quant.dequantize", layer[-1].block), 0.0f)
                      .values;
    check_layer(&sim, out.values, 0.0f, 0.0f);
    const source_value relu =
        traced(lowered, seen, rq_test_path("%s.nonlinearity", layer->block), 0.0f);
    for (size_t i = 0; i < rq_shape_elems(&relu.shape); i++)
        assert_true(relu.values[i] == fmax(out.values[i], 0.0));
    if (s_y == 0.0f)
        return relu;
    const source_value quant = traced(lowered, seen, rq_test_path("%s.quant", layer->block), s_y);
    for (size_t i = 0; i < rq_shape_elems(&quant.shape); i++) {
        const double q = rint((double)((float)relu.values[i] * (1.0f / s_y)));
        assert_true(quant.values[i] == fmin(q, 255.0));
    }
    return quant;
}

/* The mean over the image, quantized to scale s_y when the pool is. */
static source_value check_pool(const rq_model *qat, const rq_model *lowered, const trace *seen,
                               source_value in)
{
    const float s_y = quant_scale(qat, "gap.quant");
    const bool integer = in.scale > 0.0f && s_y > 0.0f;
    const source_value out = traced(lowered, seen, "gap", s_y);
    const int64_t n_pixels = in.shape.h * in.shape.w, c = in.shape.c;
    for (int64_t i = 0; i < BATCH * c; i++) {
        double sum = 0.0;
        for (int64_t p = 0; p < n_pixels; p++)
            sum += in.values[(i / c * n_pixels + p) * c + i % c];
        if (integer) {
            const float m = (float)((double)in.scale / ((double)s_y * (double)n_pixels));
            assert_true(out.values[i] == fmin(rint((double)((float)sum * m)), 255.0));
        } else {
            const double scale = in.scale > 0.0f ? (double)in.scale : 1.0;
            assert_close(out.values[i], scale * sum / (double)n_pixels, 1e-6, 1e-5);
        }
    }
    return integer || s_y == 0.0f ? (source_value){out.values, out.shape, integer ? s_y : 0.0f}
                                  : traced(lowered, seen, "gap.quant", s_y);
}

static void check_logits(const rq_model *qat, const trace *seen, source_value in)
{
    const float *wei = net_values(qat, "linear", RQ_SLOT_WEIGHT);
    const float *bias = net_values(qat, "linear", RQ_SLOT_BIAS);
    const float *s_w = net_values(qat, "linear", RQ_SLOT_WEIGHT_SCALE);
    const int64_t ic = in.shape.c, classes = qat->n_classes;
    for (int64_t i = 0; i < BATCH * classes; i++) {
        const int64_t k = i % classes;
        double acc = 0.0;
        for (int64_t c = 0; c < ic; c++) {
            const float w = wei[k * ic + c];
            const double q = s_w ? (double)rintf(w * (1.0f / s_w[k])) : (double)w;
            acc += q * in.values[i / classes * ic + c];
        }
        if (s_w) {
            const double step = (double)in.scale * (double)s_w[k];
            const double b = rint((double)bias[k] / step);
            assert_true(seen->logits[i] == (float)((acc + b) * (double)(float)step));
            assert_close(seen->logits[i], acc * step + (double)bias[k], 0.51 * step, 1e-6);
        } else {
            const double scale = in.scale > 0.0f ? (double)in.scale : 1.0;
            assert_close(seen->logits[i], scale * acc + (double)bias[k], 1e-5, 1e-5);
        }
    }
}

static void check_net(const net_spec *spec, const rq_model *qat, const rq_model *lowered)
{
    trace seen;
    run_lowered(lowered, &seen);
    source_value value;
    if (spec->layers[0].quantized)
        value = centred_pixels(qat, &seen);
    else
        value = traced(lowered, &seen, "input", 0.0f);
    for (const net_layer *layer = spec->layers; layer->block; layer++)
        value = check_conv(qat, lowered, &seen, layer, value);
    value = check_pool(qat, lowered, &seen, value);
    check_logits(qat, &seen, value);
    free_trace(&seen);
}

static void lower_and_check(const net_spec *spec, rq_lower_report *report)
{
    rq_model qat, lowered;
    rq_error err = RQ_ERROR_INIT;
    net_build(&qat, spec);
    const rq_lower_options options = {.report = report};
    assert_ok(rq_lower(&lowered, &qat, &options, &err), &err);
    assert_int_equal(lowered.form, RQ_FORM_INT8);
    assert_int_equal(lowered.n_classes, spec->classes);
    assert_string_equal(lowered.arch, "test");
    check_net(spec, &qat, &lowered);
    rq_model_deinit(&lowered);
    rq_model_deinit(&qat);
}

/* ---- whole networks ---- */

static void test_lower__all_layers(void **state)
{
    (void)state;
    rq_lower_report report;
    lower_and_check(&net_all_quantized, &report);
    assert_int_equal(report.n_integer_layers, 5);
    assert_int_equal(report.n_float_layers, 0);
    assert_int_equal(report.n_channels, 5 + 6 + 8 + 7 + 5);
    assert_int_equal(report.n_wide_layers, 0);
    assert_true(report.acc_max > 100000 && report.acc_max < RQ_ACC_EXACT);
}

static void test_lower__geometries(void **state)
{
    (void)state;
    const net_spec spec = {
        .layers = {{"stage0", 6, 3, 1, 3, 1, true, true}, /* a grouped layer on pixels */
                   {"stage1.0", 6, 3, 1, 6, 1, true, true},
                   {"stage2.0", 9, 3, 1, 3, 2, false, true},
                   {"stage3.0", 4, 5, 2, 1, 1, true, true}},
        .classes = 3,
        .linear_quantized = true,
        .pool_quantized = true,
    };
    rq_lower_report report;
    lower_and_check(&spec, &report);
    assert_int_equal(report.n_integer_layers, 5);
}

static void test_lower__first_and_linear_in_float(void **state)
{
    (void)state;
    net_spec spec = net_all_quantized;
    spec.layers[0].quantized = false;
    spec.linear_quantized = false;
    spec.pool_quantized = false;
    rq_lower_report report;
    lower_and_check(&spec, &report);
    assert_int_equal(report.n_integer_layers, 3);
    assert_int_equal(report.n_float_layers, 2);
}

static void test_lower__first_and_last_in_float(void **state)
{
    (void)state;
    net_spec spec = net_all_quantized;
    spec.layers[0].quantized = false;
    spec.layers[3].quantized = false;
    spec.linear_quantized = false;
    spec.pool_quantized = false;
    rq_lower_report report;
    lower_and_check(&spec, &report);
    assert_int_equal(report.n_integer_layers, 2);
    assert_int_equal(report.n_float_layers, 3);
}

static void test_lower__a_float_layer_in_between(void **state)
{
    (void)state;
    net_spec spec = net_all_quantized;
    spec.layers[1].quantized = false;
    rq_lower_report report;
    lower_and_check(&spec, &report);
    assert_int_equal(report.n_integer_layers, 4);
    assert_int_equal(report.n_float_layers, 1);
}

/* Dead channels keep their bias; a channel whose bias dwarfs its weights keeps it too. */
static void test_lower__dead_channels_and_huge_bias(void **state)
{
    (void)state;
    rq_model qat, lowered;
    rq_error err = RQ_ERROR_INIT;
    net_build(&qat, &net_all_quantized);
    const char *conv = "stage1.0.rbr_reparam.conv", *bn = "stage1.0.rbr_reparam.bn";
    memset(net_values(&qat, conv, RQ_SLOT_WEIGHT), 0, 5 * 9 * sizeof(float));
    net_values(&qat, bn, RQ_SLOT_WEIGHT)[1] = 0.0f;
    for (int i = 0; i < 5 * 9; i++)
        net_values(&qat, conv, RQ_SLOT_WEIGHT)[2 * 45 + i] = 1e-12f;
    net_values(&qat, bn, RQ_SLOT_BIAS)[0] = 1.0f;
    net_values(&qat, bn, RQ_SLOT_BIAS)[1] = 2.0f;
    net_values(&qat, bn, RQ_SLOT_BIAS)[2] = 3.0f;
    for (int i = 0; i < 3; i++)
        net_values(&qat, bn, RQ_SLOT_MEAN)[i] = 0.0f;
    net_set_weight_scale(&qat, rq_graph_find_node(&qat.graph, conv),
                         quant_scale(&qat, "stage0.quant"));
    assert_ok(rq_lower(&lowered, &qat, NULL, &err), &err);
    trace seen;
    run_lowered(&lowered, &seen);
    const source_value out = traced(&lowered, &seen, conv, 0.0f);
    const double s_y = (double)quant_scale(&qat, "stage1.0.quant");
    for (size_t i = 0; i < rq_shape_elems(&out.shape); i++)
        if (i % 6 < 3)
            assert_close(out.values[i], fmin((double)(i % 6 + 1) / s_y, 255.0), 0.5001, 0.0);
    free_trace(&seen);
    rq_model_deinit(&lowered);
    rq_model_deinit(&qat);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lower__all_layers),
        cmocka_unit_test(test_lower__geometries),
        cmocka_unit_test(test_lower__first_and_linear_in_float),
        cmocka_unit_test(test_lower__first_and_last_in_float),
        cmocka_unit_test(test_lower__a_float_layer_in_between),
        cmocka_unit_test(test_lower__dead_channels_and_huge_bias),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
