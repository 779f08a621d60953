"""What each layer record becomes in the table of nodes: its operation, its numbers, and its weights' places."""

from collections.abc import Sequence
from math import gcd, inf
from typing import NamedTuple

import numpy as np

from streamcnn.compiler import tables as T
from streamcnn.compiler.kernels.energy import REST
from streamcnn.compiler.kernels.linear import PHASE_COLUMNS
from streamcnn.compiler.kernels.tiles import MANY, packed
from streamcnn.compiler.partitions import Partition, block_of
from streamcnn.compiler.vector import LANES
from streamcnn.graph import layers as L
from streamcnn.graph.functions import MAX_PARAMETERS, defaults, number
from streamcnn.graph.layer import Shape, size
from streamcnn.graph.resample import GROUP
from streamcnn.graph.spectral import prime_factors

_BY_NORMALIZE = {"layer": T.BY_LAYER, "rms": T.BY_RMS, "unit": T.BY_UNIT, "peak": T.BY_PEAK}
_BY_SPECTRUM = {"magnitude": T.MAGNITUDE, "power": T.POWER, "complex": T.COMPLEX}
_BY_MERGE = {
    "add": T.ADD, "subtract": T.SUBTRACT, "multiply": T.MULTIPLY, "average": T.AVERAGE, "maximum": T.MAXIMUM,
    "minimum": T.MINIMUM,
}  # fmt: skip


# What products and activations clip to by the way, where a function is nothing else.
_BOUNDS = {"linear": (-inf, inf), "relu6": (0.0, 6.0), "hard_tanh": (-1.0, 1.0)}
_OPEN = _BOUNDS["linear"]


class Arena:
    """Collects arrays one after the other, each at a multiple of `align` values, and tells where each begins."""

    def __init__(self, dtype: type, align: int = 1):
        self._dtype = dtype
        self._align = align
        self._parts: list[np.ndarray] = []
        self._size = 0

    def add(self, array: np.ndarray | Sequence[float] | None) -> int:
        """Append an array; returns where it begins, NOTHING for None."""
        if array is None:
            return T.NOTHING
        part = np.ascontiguousarray(array, self._dtype).ravel()
        part = np.pad(part, (0, -part.size % self._align))
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
    row: np.ndarray,
    layer: L.Layer,
    shapes: list[Shape],
    output: Shape,
    arenas: tuple[Arena, Arena, Arena],
    activation: L.Activation | None,
    partition: Partition | None,
    *,
    planar: bool,
) -> Needs:
    """Fill in a node's row, append its weights, links and float64 constants to the arenas; return what else it needs.

    `shapes` and `output` are those of the inputs' and the output's frames. `activation`: to apply to the output, of a layer
    that has none. `partition`: of a long kernel. `planar`: whether lines have the frames of each channel side by side.
    """
    weights, links, constants = arenas
    acting = layer if activation is None else activation
    function = getattr(acting, "activation", "linear")
    arguments = acting.arguments if isinstance(acting, L.Activation) else defaults(function)
    bounds, needs = None, Needs()
    if isinstance(layer, (L.Conv1D, L.Dense, L.Conv1DTranspose, L.Conv2D, L.Activation)):
        bounds = _bounds(function, arguments)
    if bounds is None:
        bounds = _OPEN
    else:
        function = "linear"
    match layer:
        case L.Conv1D():
            row[T.TAPS], row[T.DILATION], row[T.GROUPS], row[T.ROWS] = layer.taps, layer.dilation, layer.groups, 1
            if partition:
                needs = _conv_long(row, layer, partition, weights)
            else:
                _conv(row, layer.kernel, layer.bias, weights, planar=planar)
        case L.Dense():
            row[T.TAPS], row[T.DILATION], row[T.GROUPS], row[T.ROWS] = 1, 1, 1, size(shapes[0][:-1])
            _conv(row, layer.kernel[None], layer.bias, weights, planar=planar)
        case L.Conv1DTranspose():
            _conv_transpose(row, layer, weights, links)
        case L.Activation():
            row[T.OP] = T.FUNCTION_ONLY
        case L.GLU():
            row[T.OP] = T.GLU
        case L.PReLU():
            row[T.OP], row[T.SCALE] = T.PRELU, weights.add(layer.slope)
        case L.Affine():
            center = np.zeros_like(layer.scale) if layer.center is None else layer.center
            row[T.OP], row[T.CENTER] = T.AFFINE, weights.add(center)
            row[T.SCALE], row[T.SHIFT_BY] = weights.add(layer.scale), weights.add(layer.offset)
        case L.Normalize():
            row[T.OP], row[T.BY], row[T.EPSILON] = T.NORMALIZE, _BY_NORMALIZE[layer.by], weights.add([layer.epsilon])
            row[T.SCALE], row[T.SHIFT_BY] = weights.add(layer.scale), weights.add(layer.offset)
        case L.Select():
            row[T.OP], row[T.INDICES] = T.SELECT, links.add(layer.indices)
        case L.Pooling1D():
            row[T.OP], row[T.POOL], row[T.MEAN] = T.POOLING, layer.pool, layer.by == "average"
            row[T.BANDS_IN] = row[T.BANDS_OUT] = row[T.BAND_TAPS] = row[T.BAND_STRIDE] = 1
            needs = Needs(wide=size(output))
        case L.Resample():
            row[T.OP], row[T.TAPS], row[T.KERNEL] = T.RESAMPLE, 2 * layer.half, weights.add(layer.phases)
            needs = Needs(scratch=GROUP)
        case L.InverseNorm():
            row[T.OP] = T.INVERSE_NORM
            needs = _windows(row, layer, links)
        case L.Repeat() | L.ZeroPadding1D() | L.Cropping1D() | L.Stack() | L.Unstack() | L.Reshape():
            row[T.OP] = T.COPY
        case L.Conv2D():
            row[T.OP], row[T.TAPS], row[T.DILATION], row[T.GROUPS] = (
                T.CONV_2D, layer.kernel.shape[0], layer.dilation, layer.groups
            )  # fmt: skip
            row[T.BAND_TAPS], row[T.BAND_DILATION] = layer.kernel.shape[1], layer.band_dilation
            _bands(row, layer, shapes[0])
            kernels = [_packed_groups(kernel, layer.bias, layer.groups) for kernel in layer.kernel]
            row[T.KERNEL] = weights.add(np.stack([kernel for kernel, _ in kernels]))
            row[T.BIAS] = weights.add(kernels[0][1])
            width = (int(row[T.BANDS_OUT]) - 1) * layer.band_stride + (layer.kernel.shape[1] - 1) * layer.band_dilation
            needs = Needs(scratch=(width + 1) * size(shapes[0][1:]))
        case L.Pooling2D():
            row[T.OP], row[T.POOL], row[T.MEAN] = T.POOLING, layer.pool, layer.by == "average"
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
            row[T.REFLECTED], row[T.SPECTRUM_WINDOW] = layer.padding == "reflect", weights.add(layer.window)
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
            row[T.SPARE] = (MANY + 1) * layer.gates * layer.units
            needs = Needs(2 * layer.units, int(row[T.SPARE]) + layer.units)
            _recurrent(row, layer, weights)
        case _:
            raise AssertionError(f"the compiler does not know {layer.kind}")
    row[T.FUNCTION] = number(function)
    row[T.ARGUMENTS] = weights.add(_padded(arguments))
    row[T.BOUNDS], row[T.NOTHING_ADDED] = weights.add([*bounds, *_OPEN]), weights.add([-0.0] * LANES)
    row[T.ADDED] = T.NOTHING
    row[T.WIDTH] = layer.width if isinstance(layer, L.Normalize) else output[-1]
    return needs


def _conv(row: np.ndarray, kernel: np.ndarray, bias: np.ndarray | None, weights: Arena, *, planar: bool) -> None:
    """Choose the operation for a kernel (taps, channels of a group, outputs), and add its weights as that reads them."""
    groups, outputs = int(row[T.GROUPS]), kernel.shape[2]
    _shape_of_tiles(row)
    if planar:
        row[T.OP] = T.CONV_PLANAR
        bias = np.zeros(outputs) if bias is None else bias
    elif groups == outputs > 1 and kernel.shape[1] == 1:
        # Channels side by side as the lanes of a packed kernel are what a depthwise tile reads.
        row[T.OP], (kernel, bias) = T.CONV_DEPTHWISE, packed(kernel, bias)
    else:
        row[T.OP], (kernel, bias) = T.CONV if groups == 1 else T.CONV_GROUPED, _packed_groups(kernel, bias, groups)
    row[T.KERNEL], row[T.BIAS] = weights.add(kernel), weights.add(bias)


def _windows(row: np.ndarray, layer: L.InverseNorm, links: Arena) -> Needs:
    """Lay out the windows of a moving norm: each output's own, and the one with the guard before it."""
    windows, place, block = [], 0, block_of(layer)
    for length, lag in zip(layer.lengths, layer.lags, strict=True):
        for frames in (length, length + layer.guard):
            blocks = frames // block + 2
            windows.append((frames, lag, block, blocks, place))
            place += REST + block + blocks
    row[T.WINDOWS] = links.add(np.array(windows))
    return Needs(state=-(-2 * place // LANES) * LANES)


def _shape_of_tiles(row: np.ndarray) -> None:
    """Fill in how tiles see a convolution with channels last."""
    channels, taps = int(row[T.C_IN] // row[T.ROWS]), int(row[T.TAPS])
    row[T.OUTPUTS], row[T.ROW_STEP] = row[T.C_OUT] // row[T.ROWS], 4 * row[T.DOWN] * channels
    tap_step = 4 * int(row[T.DILATION]) * channels
    if channels == 1:
        row[T.CHAIN], row[T.TILE_TAPS], row[T.TILE_CHANNELS], row[T.CHANNEL_STEP_IN] = 1, 1, taps, tap_step
    else:
        row[T.TILE_TAPS], row[T.TILE_CHANNELS], row[T.TAP_STEP], row[T.CHANNEL_STEP_IN] = taps, channels, tap_step, 4


def _packed_groups(kernel: np.ndarray, bias: np.ndarray | None, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a kernel and its bias packed group by group."""
    biases = [None] * groups if bias is None else np.split(bias, groups)
    parts = [packed(*part) for part in zip(np.split(kernel, groups, axis=2), biases, strict=True)]
    return np.stack([part for part, _ in parts]), np.stack([part for _, part in parts])


def _conv_long(row: np.ndarray, layer: L.Conv1D, partition: Partition, weights: Arena) -> Needs:
    """Cut a long kernel: its newest taps as they are, the others as spectra (outputs, bins, partitions, channels, 2, lanes)."""
    size, count, lead = partition
    inputs, outputs = layer.kernel.shape[1:]
    row[T.OP], row[T.PARTITION], row[T.PARTITIONS], row[T.LEAD] = T.CONV_LONG, size, count, lead
    newest_first = np.zeros(((count + lead) * size, inputs, outputs))
    newest_first[: layer.taps] = layer.kernel[::-1]
    head, bias = packed(newest_first[: lead * size][::-1], layer.bias)
    row[T.KERNEL], row[T.BIAS] = weights.add(head), weights.add(bias)
    parts = newest_first[lead * size :].reshape(count, size, inputs, outputs)
    spectra = np.fft.rfft(parts, 2 * size, axis=1).transpose(1, 0, 2, 3)  # (bins, partitions, inputs, outputs)
    vectors = -(-outputs // LANES)
    spectra = np.pad(spectra, ((0, 0), (0, 0), (0, 0), (0, vectors * LANES - outputs)))
    spectra = spectra.reshape(*spectra.shape[:3], vectors, LANES).transpose(3, 0, 1, 2, 4)
    row[T.SPECTRA] = weights.add(np.stack([spectra.real, spectra.imag], axis=-2))
    row[T.ROOTS] = weights.add(np.concatenate([_roots(size, size), _roots(2 * size, size + 1)]))
    state = 2 * count * inputs * (size + 1) + (size + 1) * outputs
    return Needs(state=-(-state // LANES) * LANES, scratch=4 * LANES * (size + 1))


def _conv_transpose(row: np.ndarray, layer: L.Conv1DTranspose, weights: Arena, links: Arena) -> None:
    """Sort a transposed convolution's taps by the phase of the stride, oldest first.

    Output frame i, which with the crop is `at`, sees tap j of input frame n where at = n*stride + j*dilation. So the taps
    of the frames of one phase are stride/g apart, for g the greatest common divisor of stride and dilation, and their input
    frames dilation/g: a convolution.
    """
    kernel, stride = layer.kernel.transpose(0, 2, 1), layer.stride
    shared = gcd(stride, layer.dilation)
    phases = np.zeros((stride, PHASE_COLUMNS), np.int64)
    for phase in range(stride):
        taps = [j for j in range(len(kernel)) if (phase - j * layer.dilation) % stride == 0][::-1]
        phases[phase, 0] = len(taps)
        if taps:
            phases[phase, 1] = (phase - taps[0] * layer.dilation) // stride
            phases[phase, 2] = weights.add(packed(kernel[taps], None)[0])
    row[T.OP], row[T.DILATION], row[T.CROP] = T.CONV_TRANSPOSE, layer.dilation // shared, layer.crop
    row[T.PHASES], row[T.BIAS] = links.add(phases), weights.add(packed(kernel[:1], layer.bias)[1])


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
    row[T.GATE], row[T.GATE_ARGUMENTS] = number(layer.gate), weights.add(_padded(defaults(layer.gate)))


def _bounds(function: str, arguments: tuple[float, ...]) -> tuple[float, float] | None:
    """Return what a function clips to, None where it does anything else."""
    if function == "relu":
        slope, limit, threshold = arguments
        return (0.0, limit) if slope == 0 and threshold == 0 else None
    return _BOUNDS.get(function)


def _padded(arguments: tuple[float, ...]) -> list[float]:
    return [*arguments, *([0.0] * (MAX_PARAMETERS - len(arguments)))]
