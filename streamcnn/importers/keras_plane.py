"""Keras' layers on planes: two axes, one of which is time, and channels."""

from collections.abc import Callable

import numpy as np

from streamcnn.errors import UnsupportedLayerError
from streamcnn.graph import layers as L
from streamcnn.graph.layer import Shape
from streamcnn.importers.keras_context import Chain, Context, array
from streamcnn.importers.keras_records import activated, one, renamed


def plane_records(layer: object, context: Context, time: int) -> Chain:
    """Return the chain of records of a layer in `PLANE`; `time` is the axis of time, 1 or 2, and the other one is the bands."""
    return PLANE[type(layer).__name__](layer, context, time)


def _pair(pair: tuple, time: int) -> tuple:
    """Return what a layer says of its two axes as (time, bands)."""
    return tuple(pair) if time == 1 else (pair[1], pair[0])


def _kernel(kernel: object, time: int) -> np.ndarray:
    kernel = array(kernel)
    return kernel if time == 1 else kernel.transpose(1, 0, 2, 3)


def _convolution(layer: object, kernel: np.ndarray, bias: object, groups: int, time: int) -> Callable[[str], L.Layer]:
    stride, band_stride = (int(n) for n in _pair(layer.strides, time))
    dilation, band_dilation = (int(n) for n in _pair(layer.dilation_rate, time))

    def make(activation: str) -> L.Layer:
        return L.Conv2D(
            kernel=kernel,
            bias=array(bias),
            padding=layer.padding,
            stride=stride,
            band_stride=band_stride,
            dilation=dilation,
            band_dilation=band_dilation,
            groups=groups,
            activation=activation,
        )

    return make


def _conv_2d(layer: object, context: Context, time: int) -> Chain:
    make = _convolution(layer, _kernel(layer.kernel, time), layer.bias, int(layer.groups), time)
    return activated(layer, context, make)


def _depthwise(layer: object, kernel: object, bias: object, time: int) -> Callable[[str], L.Layer]:
    """A depthwise convolution is one in as many groups as there are channels."""
    kernel = _kernel(kernel, time)
    taps, bands, channels, multiplier = kernel.shape
    return _convolution(layer, kernel.reshape(taps, bands, 1, channels * multiplier), bias, channels, time)


def _depthwise_conv_2d(layer: object, context: Context, time: int) -> Chain:
    return activated(layer, context, _depthwise(layer, layer.kernel, layer.bias, time))


def _separable_conv_2d(layer: object, context: Context, time: int) -> Chain:
    depthwise = _depthwise(layer, layer.depthwise_kernel, None, time)("linear")
    between = context._replace(shape=depthwise.output_shape(context.shape))
    pointwise = array(layer.pointwise_kernel)

    def make(activation: str) -> L.Layer:
        return L.Dense(kernel=pointwise.reshape(pointwise.shape[2:]), bias=array(layer.bias), activation=activation)

    return [("/depthwise", depthwise), *renamed("pointwise", activated(layer, between, make))]


def _pooling(by: str) -> Callable[[object, Context, int], Chain]:
    def make(layer: object, _context: Context, time: int) -> Chain:
        (pool, band_pool), (stride, band_stride) = _pair(layer.pool_size, time), _pair(layer.strides, time)
        record = L.Pooling2D(
            by=by,
            pool=int(pool),
            band_pool=int(band_pool),
            stride=int(stride),
            band_stride=int(band_stride),
            padding=layer.padding,
        )
        return one(record)

    return make


def _bands(shape: Shape, places: list[int]) -> L.Layer:
    """Return the record that picks bands of a frame by their places; -1 is a band of zeros."""
    bands, channels = shape
    values = np.arange(bands * channels).reshape(shape)
    picked = [values[place] if place >= 0 else np.full(channels, -1) for place in places]
    return L.Select(indices=tuple(np.concatenate(picked).tolist()), shape=(len(places), channels))


def _zero_padding_2d(layer: object, context: Context, time: int) -> Chain:
    (before, after), (low, high) = _pair(layer.padding, time)
    places = [-1] * low + list(range(context.shape[0])) + [-1] * high
    return [("/time", L.ZeroPadding1D(left=before, right=after)), ("/bands", _bands(context.shape, places))]


def _cropping_2d(layer: object, context: Context, time: int) -> Chain:
    (before, after), (low, high) = _pair(layer.cropping, time)
    places = list(range(low, context.shape[0] - high))
    return [("/time", L.Cropping1D(left=before, right=after)), ("/bands", _bands(context.shape, places))]


def _up_sampling_2d(layer: object, context: Context, time: int) -> Chain:
    if layer.interpolation != "nearest":
        raise UnsupportedLayerError(layer.name, f"it interpolates ({layer.interpolation})", "use 'nearest'")
    times, band_times = _pair(layer.size, time)
    places = np.repeat(np.arange(context.shape[0]), int(band_times)).tolist()
    return [("/time", L.Repeat(times=int(times))), ("/bands", _bands(context.shape, places))]


PLANE: dict[str, Callable[[object, Context, int], Chain]] = {
    "AveragePooling2D": _pooling("average"),
    "Conv2D": _conv_2d,
    "Cropping2D": _cropping_2d,
    "DepthwiseConv2D": _depthwise_conv_2d,
    "MaxPooling2D": _pooling("max"),
    "SeparableConv2D": _separable_conv_2d,
    "UpSampling2D": _up_sampling_2d,
    "ZeroPadding2D": _zero_padding_2d,
}


def within_records(layer: object, context: Context) -> Chain:
    """Return the records of a layer in `WITHIN` that works on each frame (bands, channels) by itself, the bands as its time."""
    return WITHIN[type(layer).__name__](layer, context)


def _conv_1d_within(layer: object, context: Context) -> Chain:
    if layer.padding == "causal":
        raise UnsupportedLayerError(layer.name, "it pads the bands causally", "use padding='same' or 'valid'")

    def make(activation: str) -> L.Layer:
        return L.Conv2D(
            kernel=array(layer.kernel)[None],
            bias=array(layer.bias),
            padding=layer.padding,
            band_stride=int(layer.strides[0]),
            band_dilation=int(layer.dilation_rate[0]),
            groups=int(layer.groups),
            activation=activation,
        )

    return activated(layer, context, make)


def _pooling_within(by: str) -> Callable[[object, Context], Chain]:
    def make(layer: object, _context: Context) -> Chain:
        pool, stride = int(layer.pool_size[0]), int(layer.strides[0])
        return one(L.Pooling2D(by=by, pool=1, stride=1, band_pool=pool, band_stride=stride, padding=layer.padding))

    return make


def _global_pooling_within(by: str) -> Callable[[object, Context], Chain]:
    def make(layer: object, context: Context) -> Chain:
        bands, channels = context.shape
        pooled = L.Pooling2D(by=by, pool=1, stride=1, band_pool=bands, band_stride=bands)
        shape = (1, channels) if layer.keepdims else (channels,)
        return [("/pooled", pooled), ("", L.Reshape(shape=shape))]

    return make


WITHIN: dict[str, Callable[[object, Context], Chain]] = {
    "AveragePooling1D": _pooling_within("average"),
    "Conv1D": _conv_1d_within,
    "GlobalAveragePooling1D": _global_pooling_within("average"),
    "GlobalMaxPooling1D": _global_pooling_within("max"),
    "MaxPooling1D": _pooling_within("max"),
}
