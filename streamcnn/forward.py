"""The oracle: a slow, obvious forward of a graph over a whole signal.

It shares nothing with the engine but the layer records, computes in float64, and is meant to be read beside the
formulas in Keras' documentation. Tensors are (frames, values of a frame).
"""

import math
from collections.abc import Callable

import numpy as np

from streamcnn.graph import layers as L
from streamcnn.graph.energy import QUIET, SILENT
from streamcnn.graph.functions import defaults
from streamcnn.graph.graph import INPUT, Graph
from streamcnn.graph.layer import Shape, size
from streamcnn.graph.timing import FrameRule

Array = np.ndarray


def reference(graph: Graph, signal: Array) -> Array:
    """Return the graph's output for a whole signal.

    `signal`: (frames,) or (frames, values of a frame), any float. The result is float64 (output frames, outputs): what
    the engine's outputs joined, `flush` included, must equal.
    """
    made = reference_tensors(graph, signal)[graph.output_name]
    return made if graph.clip is None else made.reshape(graph.output_frames(len(signal)), graph.output_channels)


def reference_tensors(graph: Graph, signal: Array, dtype: type = np.float64) -> dict[str, Array]:
    """Return every tensor of the graph for a whole signal, by the name of the node that makes it.

    Of a clip net the frames of all windows, one window after the other. `dtype`: float32 shows how far off any float32
    computation of this net must be expected to be; weights, which are float32, take part in what the signal has.
    """
    signal = np.asarray(signal, dtype=dtype)
    signal = signal.reshape(len(signal), graph.input_channels)
    if graph.clip is None:
        return _tensors(graph, signal)
    starts = range(0, len(signal) - graph.clip.frames + 1, graph.clip.hop)
    windows = [_tensors(graph, signal[start : start + graph.clip.frames]) for start in starts]
    if not windows:
        return {name: np.empty((0, size(shape))) for name, shape in graph.shapes.items()}
    return {name: np.concatenate([window[name] for window in windows]) for name in graph.shapes}


def _tensors(graph: Graph, signal: Array) -> dict[str, Array]:
    """Return every tensor of the graph for a signal, or for one clip."""
    tensors = {INPUT: signal}
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for node in graph.nodes:
            inputs = [tensors[name] for name in node.inputs]
            if not node.layer.whole:  # they differ only where a signal is too short for Keras
                inputs = [x[: min(map(len, inputs))] for x in inputs]
            shape = graph.shapes[node.inputs[0]]
            made = _forward(node.layer, graph.rules[node.name], shape, *inputs)
            tensors[node.name] = made.astype(signal.dtype, copy=False)
    return tensors


def _forward(layer: L.Layer, rule: FrameRule, shape: Shape, x: Array, *more: Array) -> Array:
    """Return the output of one layer; `shape` is that of its first input's frames."""
    width = shape[-1]
    match layer:
        case L.Conv1D():
            return _conv(layer, rule, x)
        case L.Conv1DTranspose():
            return _conv_transpose(layer, rule, x)
        case L.Dense():
            rows = x.reshape(-1, width) @ layer.kernel + (0 if layer.bias is None else layer.bias)
            return function(layer.activation)(rows).reshape(len(x), x.shape[1] // width * layer.kernel.shape[1])
        case L.Activation():
            return function(layer.activation, layer.arguments)(x.reshape(-1, width)).reshape(x.shape)
        case L.GLU():
            first, second = np.split(x, 2, axis=1)
            return first * _sigmoid(second)
        case L.PReLU():
            return np.where(x >= 0, x, x * layer.slope)
        case L.Affine():
            center = 0 if layer.center is None else layer.center
            return (x - center) * layer.scale + layer.offset
        case L.Normalize():
            return _normalize(layer, x.reshape(-1, layer.width)).reshape(x.shape)
        case L.Reshape():
            return x
        case L.Select():
            return np.pad(x, ((0, 0), (0, 1)))[:, layer.indices]
        case L.Conv2D():
            return _conv_2d(layer, rule, x.reshape(len(x), *shape))
        case L.Pooling1D():
            return _pool(layer, rule, x)
        case L.Pooling2D():
            return _pool_2d(layer, rule, x.reshape(len(x), *shape))
        case L.Spectrum():
            return _spectrum(layer, rule, x)
        case L.Polar():
            re, im = np.moveaxis(x.reshape(len(x), x.shape[1] // (2 * layer.width), 2, layer.width), 2, 0)
            y = re**2 + im**2 if layer.by == "power" else np.arctan2(im, re)
            return y.reshape(len(x), x.shape[1] // 2)
        case L.Preemphasis():
            y = x - layer.coefficient * np.concatenate([np.zeros_like(x[:1]), x[:-1]])
            y[:1] = layer.start[0] * x[:1] + (layer.start[1] * x[1:2] if len(x) > 1 else 0)
            return y
        case L.Attention():
            return _attention(layer, x, *more)
        case L.InverseNorm():
            return _inverse_norm(layer, rule, x)
        case L.Resample():
            return _resample(layer, rule, x)
        case L.Repeat():
            return np.repeat(x, layer.times, axis=0)
        case L.ZeroPadding1D():
            return np.pad(x, ((layer.left, layer.right), (0, 0)))
        case L.Cropping1D():
            return x[layer.left : max(layer.left, len(x) - layer.right)]
        case L.Stack():
            whole = len(x) - len(x) % layer.frames
            return x[:whole].reshape(whole // layer.frames, size(layer.shape))
        case L.Unstack():
            return x.reshape(len(x) * layer.frames, size(layer.shape))
        case L.SimpleRNN() | L.LSTM() | L.GRU():
            return _recurrent(layer, x)
        case L.Merge():
            return _merge(layer.by, (x, *more))
        case L.Concatenate():
            return np.concatenate([x, *more], axis=1)
    raise AssertionError(f"the reference does not know {layer.kind}")


def _padded(rule: FrameRule, span: int, x: Array) -> tuple[Array, int]:
    """Return x with the zeros that its windows of `span` frames reach into, and the number of windows."""
    windows = int(rule.total(len(x)))
    left = -rule.oldest
    right = max(0, (windows - 1) * rule.down + span - left - len(x))
    return np.pad(x, ((left, right), (0, 0))), windows


def _resample(layer: L.Resample, rule: FrameRule, x: Array) -> Array:
    """Sum up, for each output frame, the frames around its position, zeros beyond the ends."""
    positions = np.arange(int(rule.total(len(x)))) * layer.down
    padded = np.pad(x, ((layer.half, layer.half + 1), (0, 0)))
    first = positions // layer.up + 1
    windows = padded[first[:, None] + np.arange(2 * layer.half)]  # (frames, taps, channels)
    return np.einsum("tkc,tk->tc", windows, layer.phases[positions % layer.up].astype(x.dtype))


def _inverse_norm(layer: L.InverseNorm, rule: FrameRule, x: Array) -> Array:
    """Sum up the squares of each window, and of it with what came before."""
    padded, frames = _padded(rule, layer.span, x)
    squares = (padded.astype(np.float64) ** 2).sum(axis=1)
    y = np.zeros((frames, len(layer.lengths)))
    for k, (length, lag) in enumerate(zip(layer.lengths, layer.lags, strict=True)):
        own, whole = (
            np.convolve(squares, np.ones(span), "valid")[-frames - lag :][:frames] if frames else np.zeros(0)
            for span in (length, length + layer.guard)
        )
        heard = (own > SILENT) & (own > QUIET * whole)
        y[heard, k] = 1 / np.sqrt(own[heard])
        y[:, k] += 0 * whole
    return y.astype(x.dtype)


def _conv(layer: L.Conv1D, rule: FrameRule, x: Array) -> Array:
    padded, frames = _padded(rule, layer.span, x)
    kernel = layer.kernel
    y = np.zeros((frames, kernel.shape[2]), x.dtype)
    inputs, outputs = kernel.shape[1], kernel.shape[2] // layer.groups
    for tap in range(layer.taps):
        window = padded[tap * layer.dilation :][: (frames - 1) * layer.stride + 1 if frames else 0 : layer.stride]
        for group in range(layer.groups):
            to = slice(group * outputs, (group + 1) * outputs)
            y[:, to] += window[:, group * inputs : (group + 1) * inputs] @ kernel[tap, :, to]
    return function(layer.activation)(y if layer.bias is None else y + layer.bias)


def _conv_transpose(layer: L.Conv1DTranspose, rule: FrameRule, x: Array) -> Array:
    frames, kernel = int(rule.total(len(x))), layer.kernel
    full = np.zeros((len(x) * layer.stride + layer.span + frames, kernel.shape[1]), x.dtype)
    for n, frame in enumerate(x):
        for tap in range(len(kernel)):
            full[n * layer.stride + tap * layer.dilation] += kernel[tap] @ frame
    y = full[layer.crop : layer.crop + frames]
    return function(layer.activation)(y if layer.bias is None else y + layer.bias)


def _pool(layer: L.Pooling1D, rule: FrameRule, x: Array) -> Array:
    frames = int(rule.total(len(x)))
    y = np.zeros((frames, x.shape[1]), x.dtype)
    for i in range(frames):
        start = i * layer.stride + rule.oldest
        seen = x[max(0, start) : start + layer.pool]
        y[i] = seen.max(axis=0) if layer.by == "max" else seen.mean(axis=0)
    return y


def _conv_2d(layer: L.Conv2D, rule: FrameRule, x: Array) -> Array:
    bands, left = layer.windows(x.shape[1])
    padded, frames = _padded(rule, layer.span, x.reshape(len(x), x.shape[1] * x.shape[2]))
    right = max(
        0, (bands - 1) * layer.band_stride + (layer.kernel.shape[1] - 1) * layer.band_dilation + 1 - left - x.shape[1]
    )
    padded = np.pad(padded.reshape(len(padded), *x.shape[1:]), ((0, 0), (left, right), (0, 0)))
    kernel = layer.kernel
    inputs, outputs = kernel.shape[2], kernel.shape[3] // layer.groups
    y = np.zeros((frames, bands, kernel.shape[3]), x.dtype)
    for tap, band_tap in np.ndindex(kernel.shape[:2]):
        window = padded[tap * layer.dilation :][: (frames - 1) * layer.stride + 1 if frames else 0 : layer.stride]
        window = window[:, band_tap * layer.band_dilation :][
            :, : (bands - 1) * layer.band_stride + 1 : layer.band_stride
        ]
        for group in range(layer.groups):
            to = slice(group * outputs, (group + 1) * outputs)
            y[..., to] += window[..., group * inputs : (group + 1) * inputs] @ kernel[tap, band_tap, :, to]
    y = y if layer.bias is None else y + layer.bias
    return function(layer.activation)(y.reshape(-1, y.shape[2])).reshape(frames, bands * y.shape[2])


def _pool_2d(layer: L.Pooling2D, rule: FrameRule, x: Array) -> Array:
    frames, (bands, left) = int(rule.total(len(x))), layer.windows(x.shape[1])
    y = np.zeros((frames, bands, x.shape[2]), x.dtype)
    for i, band in np.ndindex(frames, bands):
        start, low = i * layer.stride + rule.oldest, band * layer.band_stride - left
        seen = x[max(0, start) : start + layer.pool, max(0, low) : low + layer.band_pool]
        y[i, band] = seen.max(axis=(0, 1)) if layer.by == "max" else seen.mean(axis=(0, 1))
    return y.reshape(frames, bands * x.shape[2])


def _spectrum(layer: L.Spectrum, rule: FrameRule, x: Array) -> Array:
    frames, left = int(rule.total(len(x))), -rule.oldest
    right = max(0, (frames - 1) * layer.hop + layer.span - left - len(x))
    mirrored = layer.padding == "reflect" and len(x) > 0
    padded = np.pad(x, ((left, right), (0, 0)), "reflect" if mirrored else "constant")
    y = np.zeros((frames, x.shape[1], layer.bins), complex)
    for i in range(frames):
        cut = padded[i * layer.hop :][: layer.span] * layer.window[:, None]
        y[i] = np.fft.rfft(cut, layer.fft_length, axis=0).T
    parts = {"magnitude": np.abs(y), "power": np.abs(y) ** 2, "complex": np.stack([y.real, y.imag], axis=3)}[layer.by]
    return parts.reshape(frames, int(np.prod(parts.shape[1:])))


def _attention(layer: L.Attention, queries: Array, keys: Array, values: Array) -> Array:
    q, k, v = (x.reshape(len(x), layer.heads, -1) for x in (queries, keys, values))
    scores = np.einsum("qhc,khc->hqk", q, k) * layer.scale
    if layer.causal:
        scores = np.where(np.arange(len(k)) <= np.arange(len(q))[:, None], scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    weights = weights / weights.sum(axis=2, keepdims=True)
    return np.einsum("hqk,khc->qhc", weights, v).reshape(len(q), -1)


def _normalize(layer: L.Normalize, x: Array) -> Array:
    match layer.by:
        case "layer":
            x = x - x.mean(axis=1, keepdims=True)
            x = x / np.sqrt((x**2).mean(axis=1, keepdims=True) + layer.epsilon)
        case "rms":
            x = x / np.sqrt((x**2).mean(axis=1, keepdims=True) + layer.epsilon)
        case "unit":
            x = x / np.sqrt(np.maximum((x**2).sum(axis=1, keepdims=True), layer.epsilon))
        case "peak":
            peak = np.abs(x).max(axis=1, keepdims=True)
            x = x / np.where(peak < layer.epsilon, 1, peak)
    scaled = x if layer.scale is None else x * layer.scale
    return scaled if layer.offset is None else scaled + layer.offset


def _merge(by: str, inputs: tuple[Array, ...]) -> Array:
    match by:
        case "subtract":
            return inputs[0] - inputs[1]
        case "average":
            return sum(inputs) / len(inputs)
    return {"add": np.add, "multiply": np.multiply, "maximum": np.maximum, "minimum": np.minimum}[by].reduce(inputs)


def _recurrent(layer: L.SimpleRNN | L.LSTM | L.GRU, x: Array) -> Array:
    act, gate, units = function(layer.activation), function(layer.gate), layer.units
    kernel, recurrent = layer.kernel, layer.recurrent_kernel
    bias = np.zeros(kernel.shape[1], x.dtype) if layer.bias is None else layer.bias
    h, c, y = np.zeros(units, x.dtype), np.zeros(units, x.dtype), np.zeros((len(x), units), x.dtype)
    for i, frame in enumerate(x):
        match layer:
            case L.SimpleRNN():
                h = act(frame @ kernel + bias + h @ recurrent)
            case L.LSTM():
                z = frame @ kernel + h @ recurrent + bias
                i_gate, f_gate, o_gate = gate(z[:units]), gate(z[units : 2 * units]), gate(z[3 * units :])
                c = f_gate * c + i_gate * act(z[2 * units : 3 * units])
                h = o_gate * act(c)
            case L.GRU():
                h = _gru_step(layer, frame @ kernel, recurrent, bias, h, act, gate)
        y[i] = h
    return y


def _gru_step(layer: L.GRU, from_input: Array, recurrent: Array, bias: Array, h: Array, act: Callable, gate: Callable):
    u = layer.units
    if layer.reset_after:
        bias = bias if bias.ndim == 2 else np.stack([bias, bias])
        a, b = from_input + bias[0], h @ recurrent + bias[1]
        z, r = gate(a[:u] + b[:u]), gate(a[u : 2 * u] + b[u : 2 * u])
        candidate = act(a[2 * u :] + r * b[2 * u :])
    else:
        a = from_input + bias
        b = h @ recurrent[:, : 2 * u]
        z, r = gate(a[:u] + b[:u]), gate(a[u : 2 * u] + b[u:])
        candidate = act(a[2 * u :] + (r * h) @ recurrent[:, 2 * u :])
    return z * h + (1 - z) * candidate


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _softplus(x: Array) -> Array:
    return np.logaddexp(x, 0)


def _relu(x: Array, negative_slope: float, max_value: float, threshold: float) -> Array:
    below = negative_slope * (x - threshold) if negative_slope else 0 * np.nan_to_num(x, posinf=0, neginf=0)
    below = np.where(np.isnan(x), x, below)
    return np.where(x > threshold, np.minimum(x, max_value), below)


def _log_softmax(x: Array) -> Array:
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _sparsemax(x: Array) -> Array:
    """Sparsemax as Keras has it (3.5 to 3.15, all backends).

    Its threshold takes the sum of all running sums over the support, where Martins and Astudillo (ICML 2016, algorithm 1)
    take the last of them. A net was trained with what Keras computes, so that is what streams.
    """
    ordered = -np.sort(-x, axis=-1)
    sums = np.cumsum(ordered, axis=-1)
    inside = ordered - (sums - 1) / np.arange(1, x.shape[-1] + 1) > 0
    tau = ((sums * inside).sum(axis=-1) - 1) / inside.sum(axis=-1)
    return np.maximum(x - tau[..., None], 0)


def _gelu(x: Array, approximate: float) -> Array:
    if approximate:
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2)))


_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
_FUNCTIONS: dict[str, Callable[..., Array]] = {
    "linear": lambda x: x,
    "relu": _relu,
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "leaky_relu": lambda x, slope: np.where(x >= 0, x, slope * x),
    "relu6": lambda x: np.clip(x, 0, 6),
    "elu": lambda x, alpha: np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0))),
    "selu": lambda x: _SELU_SCALE * np.where(x >= 0, x, _SELU_ALPHA * np.expm1(np.minimum(x, 0))),
    "celu": lambda x, alpha: np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(np.minimum(x, 0) / alpha)),
    "softplus": _softplus,
    "softsign": lambda x: x / (np.abs(x) + 1),
    "squareplus": lambda x, b: 0.5 * (x + np.sqrt(x**2 + b)),
    "soft_shrink": lambda x, t: np.sign(x) * np.maximum(np.abs(x) - t, 0),
    "hard_shrink": lambda x, t: np.where(np.abs(x) > t, x, 0),
    "sparse_plus": lambda x: np.where(x <= -1, 0, np.where(x >= 1, x, 0.25 * (x + 1) ** 2)),
    "silu": lambda x: x * _sigmoid(x),
    "gelu": _gelu,
    "tanh_shrink": lambda x: x - np.tanh(x),
    "threshold": lambda x, t, value: np.where(x > t, x, value),
    "sparse_sigmoid": lambda x: np.clip(0.5 * (x + 1), 0, 1),
    "exponential": np.exp,
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hard_silu": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "log_sigmoid": lambda x: -_softplus(-x),
    "log": lambda x, floor, scale, offset: scale * np.log(np.maximum(x, floor)) + offset,
    "power": lambda x, exponent, floor: np.maximum(x, floor) ** exponent,
    "softmax": lambda x: np.exp(_log_softmax(x)),
    "log_softmax": _log_softmax,
    "sparsemax": _sparsemax,
}


def function(name: str, arguments: tuple[float, ...] | None = None) -> Callable[[Array], Array]:
    """Return an activation function on (rows, values), with its default parameters where none are given."""
    arguments = defaults(name) if arguments is None else arguments
    return lambda x: _FUNCTIONS[name](x, *arguments)
