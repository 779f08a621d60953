"""A graph on many chunks of a signal at once, in Keras' operations.

Rules. A chunk is computed without any padding: a layer gives those output frames whose whole window lies inside the frames
that it gets, and a chunk brings enough frames on both sides for the wanted ones. Frames are numbered from the chunk's own
start, a multiple of the net's period, so one arithmetic holds for all chunks: what a layer reads follows from its
`FrameRule`, as in the engine, and causal, valid and same are all alike. What the signal's ends change is not computed here.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from streamcnn.batch.energy import inverse_norm
from streamcnn.batch.planes import conv_2d, pooling_2d
from streamcnn.batch.spectra import spectrum
from streamcnn.errors import UnsupportedLayerError
from streamcnn.graph import layers as L
from streamcnn.graph.functions import POINTWISE
from streamcnn.graph.graph import INPUT, Graph
from streamcnn.graph.layer import Shape
from streamcnn.graph.timing import FrameRule

# How Keras calls the parameters of the functions that have some, in the order of ours.
_PARAMETERS = {
    "relu": ("negative_slope", "max_value", "threshold"),
    "leaky_relu": ("negative_slope",),
    "elu": ("alpha",),
    "celu": ("alpha",),
    "squareplus": ("b",),
    "soft_shrink": ("threshold",),
    "hard_shrink": ("threshold",),
    "gelu": ("approximate",),
    "threshold": ("threshold", "default_value"),
}


@dataclass(frozen=True)
class _Frames:
    """A tensor (chunks, frames, values of a frame) whose frames have the numbers `first` to `last`."""

    tensor: object
    first: int
    last: int

    def cut(self, first: int, last: int) -> "_Frames":
        """Return the frames from `first` to `last`."""
        if (first, last) == (self.first, self.last):
            return self
        return _Frames(self.tensor[:, first - self.first : last - self.first + 1], first, last)


def refuse_inexpressible(graph: Graph) -> None:
    """Raise UnsupportedLayerError for the first layer that cannot be computed chunk by chunk."""
    if graph.clip is not None:
        raise UnsupportedLayerError(
            graph.output_name,
            f"net '{graph.info.name}' answers whole clips of {graph.clip.frames} frames, which are not cut into chunks",
            "replay without --batch",
        )
    for node in graph.nodes:
        if graph.rules[node.name].recurrent:
            raise UnsupportedLayerError(
                node.name,
                f"{node.layer.kind} carries its state through the whole signal, so that chunks cannot be computed apart",
                "replay without --batch",
            )


def computable(graph: Graph, before: int, after: int) -> tuple[int, int]:
    """Return the first and the last output frame that a chunk of the input frames -before to after-1 has."""
    spans = {INPUT: (-before, after - 1)}
    for node in graph.nodes:
        first = max(spans[name][0] for name in node.inputs)
        last = min(spans[name][1] for name in node.inputs)
        spans[node.name] = _given(graph.rules[node.name], first, last)
    return spans[graph.output_name]


def forward(graph: Graph, keras: object, chunks: object, before: int) -> object:
    """Return the output frames from number 0 on of chunks whose first input frame has the number -before.

    `chunks`: a tensor (chunks, frames, channels). The result is (chunks, output frames, outputs).
    """
    tensors = {INPUT: _Frames(chunks, -before, chunks.shape[1] - before - 1)}
    for node in graph.nodes:
        rule, inputs = graph.rules[node.name], [tensors[name] for name in node.inputs]
        first, last = max(x.first for x in inputs), min(x.last for x in inputs)
        shape = graph.shapes[node.inputs[0]]
        given = _given(rule, first, last)
        # Every window that is needed, and nothing more: a strided layer then begins with its first window.
        low, high = rule.oldest_read(given[0]), rule.newest_read(given[1])
        cut = [x.cut(low, high).tensor for x in inputs]
        made = _layer(keras.ops, keras.activations, node.layer, shape, *cut)
        extra = _surplus(node.layer, given[0] - low * rule.up)
        tensors[node.name] = _Frames(made[:, extra : extra + given[1] - given[0] + 1], *given)
    result = tensors[graph.output_name]
    return result.cut(0, result.last).tensor


def _given(rule: FrameRule, first: int, last: int) -> tuple[int, int]:
    """Return which output frames have their whole windows within the input frames first to last."""
    return -((rule.oldest - first * rule.up) // rule.down), ((last + 1) * rule.up - 1 - rule.newest) // rule.down


def _surplus(layer: L.Layer, frames: int) -> int:
    """Return how many frames of a layer's output come before the first wanted one, which is so many after its first input."""
    if isinstance(layer, L.Conv1DTranspose):
        return frames + layer.crop
    return frames if isinstance(layer, L.Repeat | L.Unstack) else 0


def _layer(ops: object, activations: object, layer: L.Layer, shape: Shape, x: object, *more: object) -> object:
    """Return a layer's output from all the input frames that it needs; `shape` is that of its first input's frames."""
    frames, width = x.shape[1], shape[-1]
    match layer:
        case L.Conv1D():
            steps = 1 if layer.dilation > 1 else layer.stride  # no backend does both at once
            y = ops.conv(x, layer.kernel, steps, "valid", "channels_last", layer.dilation)
            return _activated(ops, activations, layer, _plus(y[:, :: layer.stride // steps], layer.bias))
        case L.Conv1DTranspose():
            return _activated(ops, activations, layer, _plus(_conv_transpose(ops, layer, x), layer.bias))
        case L.Dense():
            rows = ops.reshape(x, (-1, frames, x.shape[2] // width, width))
            y = _activated(ops, activations, layer, _plus(ops.matmul(rows, layer.kernel), layer.bias))
            return ops.reshape(y, (-1, frames, x.shape[2] // width * layer.kernel.shape[1]))
        case L.Activation():
            rows = ops.reshape(x, (-1, frames, x.shape[2] // width, width))
            y = _function(ops, activations, layer.activation, layer.arguments)(rows)
            return ops.reshape(y, (-1, frames, x.shape[2]))
        case L.GLU():
            half = x.shape[2] // 2
            return x[:, :, :half] * ops.sigmoid(x[:, :, half:])
        case L.PReLU():
            return ops.where(x >= 0, x, x * layer.slope)
        case L.Affine():
            return (x if layer.center is None else x - layer.center) * layer.scale + layer.offset
        case L.Normalize():
            rows = ops.reshape(x, (-1, frames, x.shape[2] // layer.width, layer.width))
            return ops.reshape(_normalized(ops, layer, rows), (-1, frames, x.shape[2]))
        case L.Select():
            if layer.indices.min() < 0:
                x = ops.pad(x, ((0, 0), (0, 0), (0, 1)))
            return ops.take(x, layer.indices % x.shape[2], axis=2)
        case L.Conv2D():
            planes = _activated(ops, activations, layer, _plus(conv_2d(ops, layer, x, shape), layer.bias))
            return ops.reshape(planes, (-1, planes.shape[1], planes.shape[2] * planes.shape[3]))
        case L.Pooling2D():
            planes = pooling_2d(ops, layer, x, shape)
            return ops.reshape(planes, (-1, planes.shape[1], planes.shape[2] * planes.shape[3]))
        case L.Pooling1D(by="max"):
            return ops.max_pool(x, layer.pool, layer.stride, "valid", "channels_last")
        case L.Pooling1D():
            return ops.average_pool(x, layer.pool, layer.stride, "valid", "channels_last")
        case L.Repeat():
            return ops.repeat(x, layer.times, axis=1)
        case L.ZeroPadding1D() | L.Cropping1D() | L.Reshape():
            return x  # the frames get other numbers, or another shape
        case L.Stack():
            return ops.reshape(x, (-1, frames // layer.frames, layer.frames * x.shape[2]))
        case L.Unstack():
            return ops.reshape(x, (-1, frames * layer.frames, x.shape[2] // layer.frames))
        case L.Spectrum():
            return spectrum(ops, layer, x)
        case L.Polar():
            pairs = ops.reshape(x, (-1, frames, x.shape[2] // (2 * layer.width), 2, layer.width))
            re, im = pairs[:, :, :, 0], pairs[:, :, :, 1]
            y = ops.square(re) + ops.square(im) if layer.by == "power" else ops.arctan2(im, re)
            return ops.reshape(y, (-1, frames, x.shape[2] // 2))
        case L.InverseNorm():
            return inverse_norm(ops, layer, x)
        case L.Preemphasis():
            return x[:, 1:] - layer.coefficient * x[:, :-1]
        case L.Merge():
            return _merged(ops, layer.by, (x, *more))
        case L.Concatenate():
            return ops.concatenate([x, *more], axis=2)
    raise AssertionError(f"the batch forward does not know {layer.kind}")


def _plus(x: object, bias: np.ndarray | None) -> object:
    return x if bias is None else x + bias


def _conv_transpose(ops: object, layer: L.Conv1DTranspose, x: object) -> object:
    """Return stride*frames outputs, the first of which stands at the first input frame, by a convolution of the input with
    stride-1 zeros behind each of its frames.
    """
    frames, channels = x.shape[1], x.shape[2]
    gaps = ops.zeros_like(x[:, :, None, :])
    spread = ops.concatenate([x[:, :, None, :], *([gaps] * (layer.stride - 1))], axis=2)
    spread = ops.reshape(spread, (-1, frames * layer.stride, channels))
    padded = ops.pad(spread, ((0, 0), (layer.span - 1, 0), (0, 0)))
    kernel = np.ascontiguousarray(layer.kernel[::-1].transpose(0, 2, 1))
    return ops.conv(padded, kernel, 1, "valid", "channels_last", layer.dilation)


def _activated(ops: object, activations: object, layer: L.Layer, x: object) -> object:
    return _function(ops, activations, layer.activation, POINTWISE.get(layer.activation, ()))(x)


def _function(ops: object, activations: object, name: str, arguments: tuple[float, ...]) -> Callable[[object], object]:
    if name == "linear":
        return lambda x: x
    if name == "sparsemax":  # Keras' own is for two axes only
        return lambda x: ops.reshape(activations.sparsemax(ops.reshape(x, (-1, x.shape[-1]))), (-1, *x.shape[1:]))
    if name == "log":
        floor, scale, offset = arguments
        return lambda x: scale * ops.log(ops.maximum(x, floor)) + offset
    if name == "power":
        return lambda x: ops.power(ops.maximum(x, arguments[1]), arguments[0])
    values = dict(zip(_PARAMETERS.get(name, ()), arguments, strict=True))
    if name == "relu" and values["max_value"] == float("inf"):
        del values["max_value"]
    if name == "gelu":
        values["approximate"] = bool(values["approximate"])
    function = getattr(activations, name)
    return lambda x: function(x, **values)


def _normalized(ops: object, layer: L.Normalize, x: object) -> object:
    if layer.by == "layer":
        x = x - ops.mean(x, axis=-1, keepdims=True)
    squares = ops.square(x)
    if layer.by == "unit":
        x = x / ops.sqrt(ops.maximum(ops.sum(squares, axis=-1, keepdims=True), layer.epsilon))
    else:
        x = x / ops.sqrt(ops.mean(squares, axis=-1, keepdims=True) + layer.epsilon)
    return _plus(x if layer.scale is None else x * layer.scale, layer.offset)


def _merged(ops: object, by: str, inputs: tuple[object, ...]) -> object:
    combine = {"maximum": ops.maximum, "minimum": ops.minimum, "multiply": ops.multiply, "subtract": ops.subtract}
    result = inputs[0]
    for one in inputs[1:]:
        result = combine.get(by, ops.add)(result, one)
    return result / len(inputs) if by == "average" else result
