/* Values: what one unit writes and others read, with their gradients.
 *
 * A value stores numbers, and real = number * scale, with one scale per tensor, or one per channel
 * where the numbers are the sums of a quantized convolution. The numbers of quantized values are
 * integers, q - zero_point. Gradients are with respect to the numbers. Each reader writes its
 * gradient into a buffer of its own, and the producer adds them up as it reads them. Numbers and
 * gradients that convolutions read as bf16 are stored as bf16 wherever one pass can write them
 * so. */
#ifndef RQ_QAT_STEP_VALUES_H
#define RQ_QAT_STEP_VALUES_H

#include "qat/step/eltwise_passes.h"
#include "qat/step/units.h"

struct tr_value {
    rq_shape shape;
    float *data;                /* [N, H, W, C]; NULL where nobody reads them as f32 */
    uint16_t *bf16;             /* the same as bf16, or NULL */
    float scale;                /* real = scale * number (channel_scale NULL) */
    const float *channel_scale; /* [C]: real = channel_scale[c] * number */
    /* Where the numbers are exact integer sums, to which the output rule applies, one of these: */
    struct tr_conv *quantized_conv;     /* the quantized convolution that made them */
    const struct tr_value *pool_source; /* the quantized value whose pixels they sum */
    bool quantized;                     /* numbers are q - zero_point, q 0 to 255 */
    bool is_u8;                         /* quantized, without zero point whatever the range */
    uint8_t *u8;     /* with is_u8: the numbers as bytes; NULL: nobody reads them */
    float *expanded; /* u8 or bf16 as f32, for rq_trainer_value; NULL before it was asked */
    bool is_gate;    /* a quantized sigmoid: its scale is RQ_GATE_SCALE */
    uint8_t zero_point;
    bool needs_gradient;
    float *gradient[TR_MAX_READERS]; /* one per reader that leaves f32 */
    int n_readers;
    /* The whole gradient as bf16. Either the only reader leaves it so, and n_readers is 0; or a
     * convolution in bf16 made the value, and rounds into here what the readers left as f32. NULL:
     * neither. */
    uint16_t *gradient_bf16;
};

/* A value of the node's shape, without memory for numbers. */
RQ_NODISCARD rq_status tr_value_create(tr_value **out, rq_trainer *trainer, int node,
                                       rq_error *err);

/* The unit that writes the value; NULL for the image, or while that unit is not made yet. */
const tr_unit *tr_producer(const rq_trainer *trainer, const tr_value *value);

/* Does the unit's own pass write its value as bf16 and u8, where asked? The others write f32. */
bool tr_writes_all_types(const tr_unit *unit);

/* The gradients that all readers left, added up in the first's buffer, which is returned. */
float *tr_summed_gradient(const tr_value *value);

/* The gradients of a value from element `first` on. */
tr_pass_gradients tr_gradients_from(const tr_value *value, size_t first);

/* n elements of f32 as bf16, by all threads. */
void tr_round(uint16_t *dst, const float *src, size_t n);

#endif
