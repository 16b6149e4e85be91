/* Two conventions for the names of a RepVGG network's parameters.
 *
 *   the authors', and ours          timm's (byobnet.py)
 *   stage0.                         stem.
 *   stage1.0. … stage4.0.           stages.0.0. … stages.3.0.
 *   rbr_dense.conv  rbr_dense.bn    conv_kxk.conv  conv_kxk.bn
 *   rbr_1x1.conv    rbr_1x1.bn      conv_1x1.conv  conv_1x1.bn
 *   rbr_identity                    identity
 *   rbr_reparam                     reparam_conv
 *   se.down  se.up                  attn.fc1  attn.fc2
 *   linear                          head.fc
 *
 * All other networks' names are used as they are. */
#ifndef RQ_RUNTIME_TORCH_NAMES_H
#define RQ_RUNTIME_TORCH_NAMES_H

#include <stdbool.h>
#include <stddef.h>

typedef enum rq_naming { RQ_NAMING_OWN, RQ_NAMING_TIMM } rq_naming;

/* The convention to which name belongs for certain; false when it could be either or neither. */
bool rq_naming_of(const char *name, rq_naming *out);

/* A name of the one convention in the other, NUL-terminated into out. A name without a part of
 * from's column is copied. False when it does not fit into size_bytes. */
bool rq_rename(char *out, size_t size_bytes, const char *name, rq_naming from, rq_naming to);

#endif
