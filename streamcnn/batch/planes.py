"""Layers on planes in Keras' operations: the bands are padded as the layer says, time is not padded at all."""

import numpy as np

from streamcnn.graph.layer import Shape
from streamcnn.graph.plane import Conv2D, Pooling2D


def conv_2d(ops: object, layer: Conv2D, x: object, shape: Shape) -> object:
    """Return the convolution, without its bias and activation, of frames (chunks, frames, values) of a shape."""
    bands, left = layer.windows(shape[0])
    span = (layer.kernel.shape[1] - 1) * layer.band_dilation + 1
    planes = _padded(ops, x, shape, left, (bands - 1) * layer.band_stride + span, 0.0)
    dilation = (layer.dilation, layer.band_dilation)
    # Striding is left to slices: no backend strides and dilates at once, or strides unevenly in a depthwise convolution.
    if layer.groups == 1:
        y = ops.conv(planes, layer.kernel, 1, "valid", "channels_last", dilation)
    elif layer.kernel.shape[2] == 1:
        taps, band_taps, _, outputs = layer.kernel.shape
        kernel = layer.kernel.reshape(taps, band_taps, layer.groups, outputs // layer.groups)
        y = ops.depthwise_conv(planes, kernel, 1, "valid", "channels_last", dilation)
    else:
        parts = ops.split(planes, layer.groups, axis=3), np.split(layer.kernel, layer.groups, axis=3)
        y = ops.concatenate(
            [
                ops.conv(part, kernel, 1, "valid", "channels_last", dilation)
                for part, kernel in zip(*parts, strict=True)
            ],
            axis=3,
        )
    return y[:, :: layer.stride, :: layer.band_stride]


def pooling_2d(ops: object, layer: Pooling2D, x: object, shape: Shape) -> object:
    """Return the pooled frames (chunks, frames, bands, channels) of frames (chunks, frames, values) of a shape."""
    bands, left = layer.windows(shape[0])
    needed = (bands - 1) * layer.band_stride + layer.band_pool
    pool, stride = (layer.pool, layer.band_pool), (layer.stride, layer.band_stride)
    if layer.by == "max":
        planes = _padded(ops, x, shape, left, needed, -np.inf)
        return ops.max_pool(planes, pool, stride, "valid", "channels_last")
    starts = np.arange(bands) * layer.band_stride - left
    counted = np.minimum(starts + layer.band_pool, shape[0]) - np.maximum(starts, 0)
    mean = ops.average_pool(_padded(ops, x, shape, left, needed, 0.0), pool, stride, "valid", "channels_last")
    return mean * (layer.band_pool / counted).astype(np.float32)[:, None]


def _padded(ops: object, x: object, shape: Shape, left: int, needed: int, value: float) -> object:
    """Return planes (chunks, frames, bands, channels) with as many bands as the windows need."""
    planes = ops.reshape(x, (-1, x.shape[1], *shape))
    right = max(0, needed - left - shape[0])
    return ops.pad(planes, ((0, 0), (0, 0), (left, right), (0, 0)), constant_values=value)[:, :, :needed]
