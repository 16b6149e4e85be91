#!/usr/bin/python3
"""Writes RepVGG-A0 in its merged form for ONNX Runtime (ort_a0.js), with random weights.

    onnx_a0.py DIR

DIR/a0_fp32.onnx   22 convolutions of 3x3 with ReLU, global average pooling, 1000 classes
DIR/a0_int8.onnx   the same with QuantizeLinear / DequantizeLinear pairs, as quantization tools for
                   ONNX Runtime write them: weights s8 with one scale per output channel (the
                   classifier's one for all), activations u8 with one scale each, biases s32

The batch size is free, the image has 224x224 pixels. All scales of activations are made up: speed
does not depend on them. Prints which version of onnx it ran with. Needs Debian's python3-onnx
(1.12), not PyTorch.
"""
import os
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# (output channels, stride) of each convolution
LAYERS = ([(48, 2), (48, 2), (48, 1), (96, 2)] + [(96, 1)] * 3 + [(192, 2)] + [(192, 1)] * 13 +
          [(1280, 2)])
CLASSES = 1000
ACTIVATION_SCALE = 0.02


class Network:
    """Nodes and initializers of a graph; if quantized, with QDQ pairs for values and weights."""

    def __init__(self, quantized):
        self.quantized = quantized
        self.random = np.random.default_rng(0)
        self.nodes = []
        self.initializers = []

    def constant(self, name, array):
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, op, inputs, output, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def activation(self, name, zero_point=0):
        """The value name, or what is left of it after u8."""
        if not self.quantized:
            return name
        scale = self.constant(name + '_scale', np.float32(ACTIVATION_SCALE))
        zero = self.constant(name + '_zero', np.uint8(zero_point))
        quantized = self.node('QuantizeLinear', [name, scale, zero], name + '_u8')
        return self.node('DequantizeLinear', [quantized, scale, zero], name + '_f32')

    def dequantized(self, name, integers, scale, zero_point, **attributes):
        inputs = [self.constant(name + '_int', integers), self.constant(name + '_scale', scale),
                  self.constant(name + '_zero', zero_point)]
        return self.node('DequantizeLinear', inputs, name, **attributes)

    def conv_parameters(self, name, weights):
        """Weights and bias (zero) of a convolution."""
        n = len(weights)
        if not self.quantized:
            return [self.constant(name + '_w', weights),
                    self.constant(name + '_b', np.zeros(n, np.float32))]
        scale = (np.abs(weights).max((1, 2, 3)) / 127).astype(np.float32)
        integers = np.round(weights / scale[:, None, None, None]).astype(np.int8)
        bias_scale = (scale * ACTIVATION_SCALE).astype(np.float32)
        return [self.dequantized(name + '_w', integers, scale, np.zeros(n, np.int8), axis=0),
                self.dequantized(name + '_b', np.zeros(n, np.int32), bias_scale,
                                 np.zeros(n, np.int32), axis=0)]

    def linear_parameters(self, name, weights):
        n = len(weights)
        if not self.quantized:
            return [self.constant(name + '_w', weights),
                    self.constant(name + '_b', np.zeros(n, np.float32))]
        scale = np.float32(np.abs(weights).max() / 127)
        integers = np.round(weights / scale).astype(np.int8)
        bias_scale = np.float32(scale * ACTIVATION_SCALE)
        return [self.dequantized(name + '_w', integers, scale, np.int8(0)),
                self.dequantized(name + '_b', np.zeros(n, np.int32), bias_scale, np.int32(0))]

    def normal(self, shape, deviation):
        return (self.random.standard_normal(shape) * deviation).astype(np.float32)


def repvgg_a0(quantized):
    net = Network(quantized)
    value, channels = net.activation('image', zero_point=128), 3
    for i, (width, stride) in enumerate(LAYERS):
        weights = net.normal((width, channels, 3, 3), np.sqrt(2 / (9 * channels)))
        conv = net.node('Conv', [value] + net.conv_parameters(f'conv{i}', weights), f'conv{i}',
                        kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[stride, stride])
        value = net.activation(net.node('Relu', [conv], f'relu{i}'))
        channels = width
    pooled = net.activation(net.node('GlobalAveragePool', [value], 'pooled'))
    flat = net.node('Flatten', [pooled], 'flat')
    weights = net.normal((CLASSES, channels), 0.02)
    net.node('Gemm', [flat] + net.linear_parameters('linear', weights), 'logits', transB=1)
    graph = helper.make_graph(
        net.nodes, 'RepVGG-A0',
        [helper.make_tensor_value_info('image', TensorProto.FLOAT, ['n', 3, 224, 224])],
        [helper.make_tensor_value_info('logits', TensorProto.FLOAT, ['n', CLASSES])],
        net.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 13)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


def main():
    if len(sys.argv) != 2:
        sys.exit('usage: onnx_a0.py DIR')
    onnx.save(repvgg_a0(False), os.path.join(sys.argv[1], 'a0_fp32.onnx'))
    onnx.save(repvgg_a0(True), os.path.join(sys.argv[1], 'a0_int8.onnx'))
    print('# with onnx', onnx.__version__)


main()
