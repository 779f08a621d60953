"""RTNeural's JSON models to graphs.

RTNeural itself skips layers whose type it does not know; here they are refused. A layer's `weights` are what Keras'
`layer.get_weights()` gave, unchanged; the key `activation` of a recurrent layer is already inside its cell.

In RTNeural a frame is a row of values, and all but the 2-D layers see no more than that: a dense, or a softmax, takes the
whole row. The 2-D layers see features in it, one after the other, each of so many filters. A conv2d moves along the features
by `strides` and with `padding`, as in Keras; along time it is causal and starts from zeros, whatever the padding, and gives a
frame for each one. Where Keras sees no padding along time, its frames are the same.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path

import numpy as np

from streamcnn.errors import GraphError, NetFileError, UnsupportedLayerError
from streamcnn.graph import layers as L
from streamcnn.graph.graph import Graph, NetInfo
from streamcnn.graph.layer import checked_shape, size
from streamcnn.importers.text import read_json

_ACTIVATIONS = ("tanh", "relu", "sigmoid", "softmax", "elu")
_AGAIN_2D = "export the net again; RTNeural's conv2d has no groups, and is dilated along time only"


def import_rtneural(path: str | PathLike[str], info: NetInfo | None = None) -> Graph:
    """Convert a model in RTNeural's JSON.

    Raises NetFileError for a file that is none, UnsupportedLayerError for a layer that RTNeural does not read or computes
    out of bounds, and GraphError where weights and shapes disagree; all name the layer.
    """
    path = Path(path)
    document = read_json(path)
    if not isinstance(document, dict) or not isinstance(document.get("layers"), list) or "in_shape" not in document:
        raise NetFileError(f"{path}: no RTNeural model: it has no 'in_shape' and 'layers'")
    try:
        layers, channels = _layers(document), _width(document["in_shape"])
        return Graph.sequential(layers, channels, info or NetInfo(name=path.stem))
    except GraphError as error:
        raise GraphError(f"{path}: {error.message}", error.remedy) from error
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise NetFileError(f"{path}: a damaged RTNeural model: {error!r}") from error


@dataclass(frozen=True)
class _Entry:
    """A layer in the file: what errors call it, its keys, its input's frames, as far as the file says, and their values."""

    name: str
    keys: dict
    frames: int | None
    width: int

    @cached_property
    def weights(self) -> list[np.ndarray]:
        """The arrays, the kernel mostly first."""
        return [np.array(w, np.float32) for w in self.keys.get("weights", [])]

    @property
    def bias(self) -> np.ndarray | None:
        """The array behind the kernel."""
        return self.weights[1] if len(self.weights) > 1 else None

    def whole(self, key: str, default: int | None = None) -> int:
        """Return a whole number from 1 on, which may stand in a list, as RTNeural reads it; raises GraphError for others."""
        value = self.keys[key] if default is None else self.keys.get(key, default)
        value = value[-1] if isinstance(value, list) and value else value
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise GraphError(f"its {key} is {value!r}, expected a whole number from 1 on")
        return value

    def refusal(self, reason: str, remedy: str) -> UnsupportedLayerError:
        """Return the error that refuses this layer."""
        return UnsupportedLayerError(self.name, reason, remedy)


def _layers(document: dict) -> list[L.Layer]:
    layers: list[L.Layer] = []
    width, frames = _width(document["in_shape"]), _frames(document["in_shape"], None)
    for number, keys in enumerate(document["layers"]):
        entry = _Entry(f"{number} ({keys['type']})", keys, frames, width)
        try:
            added = _records(entry)
            width = _output_width(added, width)
            _check_shape(entry, width)
        except GraphError as error:
            raise GraphError(f"layer '{entry.name}': {error.message}", error.remedy) from error
        frames = _frames(keys.get("shape"), frames)
        layers += added
    return layers


def _width(shape: list) -> int:
    """Return how many values a frame has; of four axes, the last two are features and filters."""
    axes = shape[2:] if len(shape) == 4 else shape[-1:]
    if None in axes:
        raise GraphError(f"the shape {shape} leaves open how many values a frame has", "give the net's Input fixed features")
    return math.prod(checked_shape(axes, f"the frame in the shape {shape}"))


def _frames(shape: list | None, known: int | None) -> int | None:
    """Return how many frames a shape declares, `known` where it has no axis for them."""
    return shape[1] if len(shape or ()) > 2 else known


def _output_width(records: list[L.Layer], width: int) -> int:
    shape = (width,)
    for record in records:
        shape = record.output_shape(shape)
    return size(shape)


def _records(entry: _Entry) -> list[L.Layer]:
    kind = entry.keys["type"]
    make = _MAKERS.get(kind)
    if make is None:
        raise entry.refusal(
            f"RTNeural reads no layer of the type '{kind}'",
            f"express it with {', '.join(_MAKERS)}, or leave it out of the file where it changes no value",
        )
    try:
        made = make(entry)
    except KeyError as error:
        raise GraphError(f"it has no {error}, which a {kind} layer needs") from error
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise GraphError(f"its weights do not have the shape of a {kind} layer ({error})") from error
    activation = entry.keys.get("activation") or ""
    if kind in ("gru", "lstm", "activation") or not activation:
        return made
    return [*made, *_activation(entry)]


def _check_shape(entry: _Entry, width: int) -> None:
    declared = entry.keys.get("shape")
    if declared is not None and _width(declared) != width:
        remedy = _AGAIN_2D if entry.keys["type"] == "conv2d" else "export the net again"
        raise GraphError(f"it makes frames of {width} values, its shape says {_width(declared)}", remedy)


def _activation(entry: _Entry) -> list[L.Layer]:
    function = entry.keys["activation"]
    if function not in _ACTIVATIONS:
        raise entry.refusal(
            f"RTNeural does not define the activation '{function}'", f"use one of {', '.join(_ACTIVATIONS)}"
        )
    return [L.Activation(activation=function)]


def _lost(entry: _Entry, span: int) -> int:
    """Return how many frames a layer whose kernel reaches over `span` frames loses: none, or, 'valid', all but one of those.

    That shows in the lengths that the file declares, where it declares any. Raises GraphError where they are neither.
    """
    after = _frames(entry.keys.get("shape"), None)
    lost = 0 if entry.frames is None or after is None else entry.frames - after
    if lost not in (0, span - 1):
        raise GraphError(
            f"it makes {after} frames of {entry.frames}, which no padding does with a stride of 1 along time",
            "train it with a stride of 1 along time: RTNeural's files know no other",
        )
    return lost


def _conv1d(entry: _Entry) -> list[L.Layer]:
    kernel = entry.weights[0]
    taps, strides = entry.whole("kernel_size", kernel.shape[0]), entry.whole("strides", 1)
    if taps != kernel.shape[0]:
        raise GraphError(f"its kernel has {kernel.shape[0]} taps, kernel_size says {taps}")
    if strides != 1:
        raise entry.refusal(f"its strides are {strides}, which RTNeural overlooks in a conv1d", "train it with strides=1")
    dilation, groups = entry.whole("dilation", 1), entry.whole("groups", 1)
    padding = "valid" if _lost(entry, (taps - 1) * dilation + 1) else "causal"
    return [L.Conv1D(kernel=kernel, bias=entry.bias, dilation=dilation, groups=groups, padding=padding)]


def _plane(entry: _Entry) -> tuple[int, int]:
    """Return the features and filters that a 2-D layer sees in a frame."""
    features, filters = entry.whole("num_features_in"), entry.whole("num_filters_in")
    if features * filters != entry.width:
        raise GraphError(
            f"it reads {features} features of {filters} filters, its input has frames of {entry.width} values",
            f"let num_features_in times num_filters_in be {entry.width}",
        )
    return features, filters


def _conv2d(entry: _Entry) -> list[L.Layer]:
    features, filters = _plane(entry)
    kernel, stride = entry.weights[0], entry.whole("strides")
    axes = (entry.whole("kernel_size_time"), entry.whole("kernel_size_feature"), filters, entry.whole("num_filters_out"))
    if kernel.shape != axes:
        raise GraphError(f"its kernel has the shape {kernel.shape}, its keys say {axes}", _AGAIN_2D)
    layer = L.Conv2D(kernel=kernel, bias=entry.bias, band_stride=stride, dilation=entry.whole("dilation"))
    _lost(entry, layer.span)
    places = np.arange(entry.width).reshape(features, filters)
    places = np.pad(places, (_edges(entry, features, kernel.shape[1], stride), (0, 0)), constant_values=-1)
    return [
        L.ZeroPadding1D(left=layer.span - 1, right=0),
        L.Select(indices=places.ravel(), shape=places.shape),
        layer,
        L.Reshape(shape=(size(layer.output_shape(places.shape)),)),
    ]


def _edges(entry: _Entry, features: int, taps: int, stride: int) -> tuple[int, int]:
    """Return how many features of zeros stand below and above those of a frame."""
    padding = entry.keys["padding"]
    if padding == "valid":
        return 0, 0
    if padding != "same":
        raise GraphError(f"its padding is {padding!r}, expected 'valid' or 'same'", "say which one it was trained with")
    zeros = max(taps - (features % stride or stride), 0)
    below = zeros // 2
    # RTNeural cuts a window at one edge only.
    if below and (below - 1) // stride * stride - below + taps > features:
        raise entry.refusal(
            f"its kernel of {taps} features reaches beyond both edges of {features} features, where RTNeural reads values "
            "that are not the frame's",
            f"use a kernel of at most {features} features",
        )
    return below, zeros - below


def _batchnorm(entry: _Entry) -> list[L.Layer]:
    return _normalization(entry, entry.width)


def _batchnorm2d(entry: _Entry) -> list[L.Layer]:
    return _normalization(entry, _plane(entry)[1])


def _normalization(entry: _Entry, channels: int) -> list[L.Layer]:
    """Return the normalization of so many channels, again and again along a frame."""
    weights = entry.weights
    if len(weights) not in (2, 4):
        raise GraphError(f"a batch normalization has 2 or 4 arrays, this one {len(weights)}")
    if any(w.shape != (channels,) for w in weights):
        raise GraphError(f"its arrays have the shapes {[w.shape for w in weights]}, expected {(channels,)}")
    gamma, beta = weights[:2] if len(weights) == 4 else (np.ones(channels), np.zeros(channels))
    mean, variance = (w.astype(np.float64) for w in weights[-2:])
    scale = gamma / np.sqrt(variance + float(entry.keys["epsilon"]))
    times = entry.width // channels
    return [L.Affine(scale=np.tile(scale, times), offset=np.tile(beta - mean * scale, times))]


def _prelu(entry: _Entry) -> list[L.Layer]:
    return [L.PReLU(slope=np.broadcast_to(entry.weights[0].ravel(), (entry.width,)))]


def _dense(entry: _Entry) -> list[L.Layer]:
    kernel = entry.weights[0]
    if len(entry.keys.get("shape") or ()) == 4 and kernel.shape[0] != entry.width:
        raise entry.refusal(
            f"it has weights for the {kernel.shape[0]} filters of each feature, where RTNeural's dense reads the "
            f"{entry.width} values of a whole frame",
            f"put Reshape((-1, {entry.width})) before it in training, and leave that out of the file",
        )
    return [L.Dense(kernel=kernel, bias=entry.bias)]


def _gru(entry: _Entry) -> list[L.Layer]:
    bias = entry.weights[2] if len(entry.weights) > 2 else None
    return [
        L.GRU(
            kernel=entry.weights[0],
            recurrent_kernel=entry.weights[1],
            bias=bias,
            reset_after=bias is None or bias.ndim == 2,
        )
    ]


def _lstm(entry: _Entry) -> list[L.Layer]:
    bias = entry.weights[2] if len(entry.weights) > 2 else None
    return [L.LSTM(kernel=entry.weights[0], recurrent_kernel=entry.weights[1], bias=bias)]


_MAKERS: dict[str, Callable[[_Entry], list[L.Layer]]] = {
    "dense": _dense,
    "time-distributed-dense": _dense,
    "conv1d": _conv1d,
    "conv2d": _conv2d,
    "gru": _gru,
    "lstm": _lstm,
    "batchnorm": _batchnorm,
    "batchnorm2d": _batchnorm2d,
    "prelu": _prelu,
    "activation": _activation,
}
