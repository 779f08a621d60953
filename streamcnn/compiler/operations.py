"""What each layer record becomes in the table of nodes: its operation, its numbers, and its weights' places."""

from collections.abc import Sequence

import numpy as np

from streamcnn.compiler import tables as T
from streamcnn.graph import layers as L
from streamcnn.graph.functions import MAX_PARAMETERS, defaults, number
from streamcnn.graph.layer import Shape, size

_BY_NORMALIZE = {"layer": T.BY_LAYER, "rms": T.BY_RMS, "unit": T.BY_UNIT}
_BY_MERGE = {
    "add": T.ADD, "subtract": T.SUBTRACT, "multiply": T.MULTIPLY, "average": T.AVERAGE, "maximum": T.MAXIMUM,
    "minimum": T.MINIMUM,
}  # fmt: skip


class Arena:
    """Collects arrays end to end and tells where each begins."""

    def __init__(self, dtype: type):
        self._dtype = dtype
        self._parts: list[np.ndarray] = []
        self._size = 0

    def add(self, array: np.ndarray | Sequence[float] | None) -> int:
        """Append an array; returns where it begins, NOTHING for None."""
        if array is None:
            return T.NOTHING
        part = np.ascontiguousarray(array, self._dtype).ravel()
        start = self._size
        self._parts.append(part)
        self._size += part.size
        return start

    def joined(self) -> np.ndarray:
        """Return all arrays as one."""
        return np.concatenate(self._parts) if self._parts else np.zeros(1, self._dtype)


def operation(
    row: np.ndarray, layer: L.Layer, shapes: list[Shape], output: Shape, weights: Arena, links: Arena
) -> tuple[int, int]:
    """Fill in a node's row; returns how many values of state it carries and how much scratch it needs.

    `shapes` and `output` are those of the inputs' and the output's frames.
    """
    function, arguments = getattr(layer, "activation", "linear"), None
    state = scratch = 0
    match layer:
        case L.Conv1D():
            row[T.OP], row[T.TAPS], row[T.DILATION], row[T.GROUPS] = T.CONV, layer.taps, layer.dilation, layer.groups
            row[T.KERNEL], row[T.BIAS], row[T.ROWS] = weights.add(layer.kernel), weights.add(layer.bias), 1
        case L.Dense():
            row[T.OP], row[T.TAPS], row[T.DILATION], row[T.GROUPS] = T.CONV, 1, 1, 1
            row[T.KERNEL], row[T.BIAS] = weights.add(layer.kernel), weights.add(layer.bias)
            row[T.ROWS] = size(shapes[0][:-1])
        case L.Conv1DTranspose():
            row[T.OP], row[T.TAPS], row[T.DILATION] = T.CONV_TRANSPOSE, layer.kernel.shape[0], layer.dilation
            row[T.KERNEL], row[T.BIAS] = weights.add(layer.kernel.transpose(0, 2, 1)), weights.add(layer.bias)
            row[T.CROP] = layer.crop
        case L.Activation():
            row[T.OP], arguments = T.FUNCTION_ONLY, layer.arguments
        case L.GLU():
            row[T.OP] = T.GLU
        case L.PReLU():
            row[T.OP], row[T.SCALE] = T.PRELU, weights.add(layer.slope)
        case L.Affine():
            row[T.OP], row[T.CENTER] = T.AFFINE, weights.add(layer.center)
            row[T.SCALE], row[T.SHIFT] = weights.add(layer.scale), weights.add(layer.offset)
        case L.Normalize():
            row[T.OP], row[T.BY], row[T.EPSILON] = T.NORMALIZE, _BY_NORMALIZE[layer.by], weights.add([layer.epsilon])
            row[T.SCALE], row[T.SHIFT] = weights.add(layer.scale), weights.add(layer.offset)
        case L.Select():
            row[T.OP], row[T.INDICES] = T.SELECT, links.add(layer.indices)
        case L.Pooling1D():
            row[T.OP], row[T.POOL], row[T.MEAN] = T.POOLING, layer.pool, layer.by == "average"
        case L.Repeat() | L.ZeroPadding1D() | L.Cropping1D() | L.Stack() | L.Unstack():
            row[T.OP] = T.COPY
        case L.Conv2D():
            row[T.OP], row[T.TAPS], row[T.DILATION], row[T.GROUPS] = (
                T.CONV_2D, layer.kernel.shape[0], layer.dilation, layer.groups
            )  # fmt: skip
            row[T.KERNEL], row[T.BIAS] = weights.add(layer.kernel), weights.add(layer.bias)
            row[T.BAND_TAPS], row[T.BAND_DILATION] = layer.kernel.shape[1], layer.band_dilation
            _bands(row, layer, shapes[0])
        case L.Pooling2D():
            row[T.OP], row[T.POOL], row[T.MEAN] = T.POOLING_2D, layer.pool, layer.by == "average"
            row[T.BAND_TAPS] = layer.band_pool
            _bands(row, layer, shapes[0])
        case L.Attention():
            row[T.OP], row[T.HEADS], row[T.CAUSAL] = T.ATTENTION, layer.heads, layer.causal
            row[T.ATTENTION_SCALE] = weights.add([layer.scale])
        case L.Merge():
            row[T.OP], row[T.BY] = T.MERGE, _BY_MERGE[layer.by]
        case L.Concatenate():
            row[T.OP] = T.CONCATENATE
        case L.SimpleRNN() | L.LSTM() | L.GRU():
            state, scratch = 2 * layer.units, 2 * (layer.gates + 1) * layer.units
            _recurrent(row, layer, weights)
        case _:
            raise AssertionError(f"the compiler does not know {layer.kind}")
    row[T.FUNCTION] = number(function)
    row[T.ARGUMENTS] = weights.add(_arguments(function if arguments is None else None, arguments))
    row[T.WIDTH] = layer.width if isinstance(layer, L.Normalize) else output[-1]
    return state, scratch


def _bands(row: np.ndarray, layer: L.Conv2D | L.Pooling2D, shape: Shape) -> None:
    row[T.BANDS_IN], row[T.BAND_STRIDE] = shape[0], layer.band_stride
    row[T.BANDS_OUT], row[T.BAND_LEFT] = layer.windows(shape[0])


def _recurrent(row: np.ndarray, layer: L.SimpleRNN | L.LSTM | L.GRU, weights: Arena) -> None:
    match layer:
        case L.SimpleRNN():
            row[T.OP] = T.SIMPLE_RNN
        case L.LSTM():
            row[T.OP] = T.LSTM
        case L.GRU():
            row[T.OP] = T.GRU_AFTER if layer.reset_after else T.GRU_BEFORE
    bias = layer.bias
    own, recurrent = (bias[0], bias[1]) if bias is not None and bias.ndim == 2 else (bias, None)
    row[T.KERNEL], row[T.RECURRENT] = weights.add(layer.kernel), weights.add(layer.recurrent_kernel)
    row[T.BIAS], row[T.RECURRENT_BIAS] = weights.add(own), weights.add(recurrent)
    row[T.GATE], row[T.GATE_ARGUMENTS] = number(layer.gate), weights.add(_arguments(layer.gate, None))


def _arguments(function: str | None, given: tuple[float, ...] | None) -> list[float]:
    arguments = defaults(function) if function is not None else given
    return [*arguments, *([0.0] * (MAX_PARAMETERS - len(arguments)))]
