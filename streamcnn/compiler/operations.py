"""What each layer record becomes in the table of nodes: its operation, its numbers, and its weights' places."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from streamcnn.compiler import tables as T
from streamcnn.compiler.kernels.linear import FEW_CHANNELS
from streamcnn.compiler.kernels.tiles import MANY, packed
from streamcnn.graph import layers as L
from streamcnn.graph.functions import MAX_PARAMETERS, defaults, number
from streamcnn.graph.layer import Shape, size
from streamcnn.graph.spectral import prime_factors

_BY_NORMALIZE = {"layer": T.BY_LAYER, "rms": T.BY_RMS, "unit": T.BY_UNIT, "peak": T.BY_PEAK}
_BY_SPECTRUM = {"magnitude": T.MAGNITUDE, "power": T.POWER, "complex": T.COMPLEX}
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


class Needs(NamedTuple):
    """What a node needs beside its row: values of state, values of scratch, and float64 values of scratch."""

    state: int = 0
    scratch: int = 0
    wide: int = 0


def operation(
    row: np.ndarray, layer: L.Layer, shapes: list[Shape], output: Shape, weights: Arena, links: Arena, constants: Arena
) -> Needs:
    """Fill in a node's row, and append its weights, links and float64 constants; return what else it needs.

    `shapes` and `output` are those of the inputs' and the output's frames.
    """
    function, arguments = getattr(layer, "activation", "linear"), None
    needs = Needs()
    match layer:
        case L.Conv1D():
            row[T.OP], row[T.TAPS], row[T.DILATION], row[T.GROUPS] = T.CONV, layer.taps, layer.dilation, layer.groups
            row[T.ROWS] = 1
            _product(row, layer.kernel, layer.bias, weights)
        case L.Dense():
            row[T.OP], row[T.TAPS], row[T.DILATION], row[T.GROUPS] = T.CONV, 1, 1, 1
            row[T.ROWS] = size(shapes[0][:-1])
            _product(row, layer.kernel[None], layer.bias, weights)
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
            needs = Needs(wide=size(output))
        case L.Repeat() | L.ZeroPadding1D() | L.Cropping1D() | L.Stack() | L.Unstack() | L.Reshape():
            row[T.OP] = T.COPY
        case L.Conv2D():
            row[T.OP], row[T.TAPS], row[T.DILATION], row[T.GROUPS] = (
                T.CONV_2D, layer.kernel.shape[0], layer.dilation, layer.groups
            )  # fmt: skip
            row[T.BAND_TAPS], row[T.BAND_DILATION] = layer.kernel.shape[1], layer.band_dilation
            _bands(row, layer, shapes[0])
            if layer.groups > 1:
                row[T.KERNEL], row[T.BIAS] = weights.add(layer.kernel), weights.add(layer.bias)
            else:
                kernels = [packed(kernel, layer.bias) for kernel in layer.kernel]
                row[T.KERNEL] = weights.add(np.stack([kernel for kernel, _ in kernels]))
                row[T.BIAS] = weights.add(kernels[0][1])
                width = (
                    (int(row[T.BANDS_OUT]) - 1) * layer.band_stride
                    + (layer.kernel.shape[1] - 1) * layer.band_dilation
                    + 1
                )
                needs = Needs(scratch=width * size(shapes[0][1:]))
        case L.Pooling2D():
            row[T.OP], row[T.POOL], row[T.MEAN] = T.POOLING_2D, layer.pool, layer.by == "average"
            row[T.BAND_TAPS] = layer.band_pool
            needs = Needs(wide=output[-1])
            _bands(row, layer, shapes[0])
        case L.Attention():
            row[T.OP], row[T.HEADS], row[T.CAUSAL] = T.ATTENTION, layer.heads, layer.causal
            row[T.ATTENTION_SCALE] = weights.add([layer.scale])
        case L.Spectrum():
            row[T.OP], row[T.SPAN], row[T.FFT], row[T.RESULT] = (
                T.SPECTRUM, layer.span, layer.fft_length, _BY_SPECTRUM[layer.by]
            )  # fmt: skip
            row[T.MIRRORED], row[T.SPECTRUM_WINDOW] = layer.padding == "reflect", weights.add(layer.window)
            needs = Needs(wide=_transform(row, layer.fft_length, links, constants))
        case L.Polar():
            row[T.OP], row[T.PAIRS], row[T.ANGLE] = T.POLAR, layer.width, layer.by == "angle"
        case L.Preemphasis():
            row[T.OP], row[T.COEFFICIENTS] = T.PREEMPHASIS, weights.add([layer.coefficient, *layer.start])
        case L.Merge():
            row[T.OP], row[T.BY] = T.MERGE, _BY_MERGE[layer.by]
        case L.Concatenate():
            row[T.OP] = T.CONCATENATE
        case L.SimpleRNN() | L.LSTM() | L.GRU():
            needs = Needs(2 * layer.units, (MANY + 1) * layer.gates * layer.units)
            _recurrent(row, layer, weights)
        case _:
            raise AssertionError(f"the compiler does not know {layer.kind}")
    row[T.FUNCTION] = number(function)
    row[T.ARGUMENTS] = weights.add(_arguments(function if arguments is None else None, arguments))
    row[T.WIDTH] = layer.width if isinstance(layer, L.Normalize) else output[-1]
    return needs


def _product(row: np.ndarray, kernel: np.ndarray, bias: np.ndarray | None, weights: Arena) -> None:
    """Add a kernel (taps, channels, outputs) as the product that the row's groups and outputs call for reads it."""
    if row[T.GROUPS] == 1 and (kernel.shape[1] > 1 or kernel.shape[2] > FEW_CHANNELS):
        kernel, bias = packed(kernel, bias)
    row[T.KERNEL], row[T.BIAS] = weights.add(kernel), weights.add(bias)


def _bands(row: np.ndarray, layer: L.Conv2D | L.Pooling2D, shape: Shape) -> None:
    row[T.BANDS_IN], row[T.BAND_STRIDE] = shape[0], layer.band_stride
    row[T.BANDS_OUT], row[T.BAND_LEFT] = layer.windows(shape[0])


def _transform(row: np.ndarray, length: int, links: Arena, constants: Arena) -> int:
    """Set up a Fourier transform of `length` real values; return how many values its buffers have."""
    even = length % 2 == 0
    points = length // 2 if even else length
    row[T.CONSTANTS] = constants.add(_roots(points, points))
    if even:
        constants.add(_roots(length, points + 1))
    factors = _factors(points)
    row[T.FACTORS] = links.add([len(factors), *factors])
    return 4 * points


def _roots(order: int, count: int) -> np.ndarray:
    """Return exp(-2*pi*1j*k/order) for the first k, real and imaginary parts."""
    angles = 2 * np.pi * np.arange(count) / order
    return np.stack([np.cos(angles), -np.sin(angles)], axis=1)


def _factors(number: int) -> list[int]:
    """Return what a transform's length is a product of: fours, at most one two, and odd primes."""
    primes = prime_factors(number)
    twos = primes.count(2)
    return [4] * (twos // 2) + [2] * (twos % 2) + primes[twos:]


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
    products = {
        (T.KERNEL, T.BIAS): (layer.kernel, own),
        (T.RECURRENT, T.RECURRENT_BIAS): (layer.recurrent_kernel, recurrent),
    }
    if row[T.OP] == T.GRU_BEFORE:
        gates, candidate = np.split(layer.recurrent_kernel, [2 * layer.units], axis=1)
        products[T.RECURRENT, T.RECURRENT_BIAS] = gates, None
        row[T.CANDIDATE] = weights.add(packed(candidate[None], None)[0])
    for columns, product in products.items():
        for column, array in zip(columns, packed(product[0][None], product[1]), strict=True):
            row[column] = weights.add(array)
    row[T.GATE], row[T.GATE_ARGUMENTS] = number(layer.gate), weights.add(_arguments(layer.gate, None))


def _arguments(function: str | None, given: tuple[float, ...] | None) -> list[float]:
    arguments = defaults(function) if function is not None else given
    return [*arguments, *([0.0] * (MAX_PARAMETERS - len(arguments)))]
