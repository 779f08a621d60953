"""RTNeural's JSON models to graphs.

RTNeural itself skips layers whose type it does not know; here they are refused. A layer's `weights` are what Keras'
`layer.get_weights()` gave, unchanged; the key `activation` of a recurrent layer is already inside its cell.
"""

from collections.abc import Callable
from os import PathLike
from pathlib import Path

import numpy as np

from streamcnn.errors import GraphError, NetFileError, UnsupportedLayerError
from streamcnn.graph import layers as L
from streamcnn.graph.graph import Graph, NetInfo
from streamcnn.importers.text import read_json

_Inputs = tuple[int | None, int]  # frames, as far as the model says, and channels of a layer's input
_ACTIVATIONS = ("tanh", "relu", "sigmoid", "softmax", "elu")


def import_rtneural(path: str | PathLike[str], info: NetInfo | None = None) -> Graph:
    """Convert a model in RTNeural's JSON.

    Raises NetFileError for a file that is none, UnsupportedLayerError for a type that RTNeural does not define, and
    GraphError where weights and shapes disagree; all name the layer.
    """
    path = Path(path)
    document = read_json(path)
    if not isinstance(document, dict) or not isinstance(document.get("layers"), list) or "in_shape" not in document:
        raise NetFileError(f"{path}: no RTNeural model: it has no 'in_shape' and 'layers'")
    try:
        channels = int(document["in_shape"][-1])
        layers: list[L.Layer] = []
        width, frames = channels, document["in_shape"][-2] if len(document["in_shape"]) > 2 else None
        for number, entry in enumerate(document["layers"]):
            added = _records(f"{number} ({entry['type']})", entry, width, frames)
            frames = entry["shape"][-2] if len(entry.get("shape") or ()) > 2 else frames
            layers += added
            for record in added:
                width = _output_width(f"{number} ({entry['type']})", record, width)
            _check_shape(number, entry, width)
        return Graph.sequential(layers, channels, info or NetInfo(name=path.stem))
    except GraphError as error:
        raise GraphError(f"{path}: {error.message}", error.remedy) from error
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise NetFileError(f"{path}: a damaged RTNeural model: {error!r}") from error


def _output_width(name: str, record: L.Layer, width: int) -> int:
    try:
        return record.output_shape((width,))[0]
    except GraphError as error:
        raise GraphError(f"layer '{name}': {error.message}", error.remedy) from error


def _records(name: str, entry: dict, width: int, frames: int | None) -> list[L.Layer]:
    kind = entry["type"]
    make = _MAKERS.get(kind)
    if make is None:
        raise UnsupportedLayerError(
            name, f"RTNeural does not define the type '{kind}'", f"express it with {', '.join(_MAKERS)}"
        )
    try:
        record = make(entry, [np.array(w, np.float32) for w in entry.get("weights", [])], (frames, width))
    except GraphError as error:
        raise GraphError(f"layer '{name}': {error.message}", error.remedy) from error
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise GraphError(f"layer '{name}': its weights do not have the shape of a {kind} layer ({error})") from error
    activation = entry.get("activation") or ""
    if kind in ("gru", "lstm", "activation") or not activation:
        return [record]
    return [record, _activation(name, activation)]


def _activation(name: str, function: str) -> L.Activation:
    if function not in _ACTIVATIONS:
        raise UnsupportedLayerError(
            name, f"RTNeural does not define the activation '{function}'", f"use one of {', '.join(_ACTIVATIONS)}"
        )
    return L.Activation(activation=function)


def _check_shape(number: int, entry: dict, width: int) -> None:
    declared = entry.get("shape")
    if declared is not None and int(declared[-1]) != width:
        raise GraphError(
            f"layer '{number} ({entry['type']})': its weights make {width} channels, its shape says {declared[-1]}"
        )


def _first(option: object, default: int) -> int:
    value = option[0] if isinstance(option, list) else option
    return default if value is None else int(value)


def _conv1d(entry: dict, weights: list[np.ndarray], inputs: _Inputs) -> L.Layer:
    kernel, bias = (weights[0], weights[1] if len(weights) > 1 else None)
    taps = _first(entry.get("kernel_size"), kernel.shape[0])
    if taps != kernel.shape[0]:
        raise GraphError(f"its kernel has {kernel.shape[0]} taps, kernel_size says {taps}")
    dilation, groups = _first(entry.get("dilation"), 1), _first(entry.get("groups"), 1)
    # Whether a model was trained causally or 'valid' shows in the lengths that it declares, where it declares any.
    before, after = inputs[0], entry["shape"][-2] if len(entry.get("shape") or ()) > 2 else None
    lost = 0 if before is None or after is None else before - after
    if lost not in (0, (taps - 1) * dilation):
        raise GraphError(f"it makes {after} frames of {before}, which neither 'causal' nor 'valid' padding does")
    padding = "valid" if lost else "causal"
    return L.Conv1D(kernel=kernel, bias=bias, dilation=dilation, groups=groups, padding=padding)


def _batchnorm(entry: dict, weights: list[np.ndarray], inputs: _Inputs) -> L.Layer:
    if len(weights) not in (2, 4):
        raise GraphError(f"a batchnorm has 2 or 4 arrays, this one {len(weights)}")
    gamma, beta = weights[:2] if len(weights) == 4 else (np.ones(inputs[1]), np.zeros(inputs[1]))
    mean, variance = (w.astype(np.float64) for w in weights[-2:])
    scale = gamma / np.sqrt(variance + float(entry["epsilon"]))
    return L.Affine(scale=scale, offset=beta - mean * scale)


def _prelu(_entry: dict, weights: list[np.ndarray], inputs: _Inputs) -> L.Layer:
    return L.PReLU(slope=np.broadcast_to(weights[0].ravel(), (inputs[1],)))


def _dense(_entry: dict, weights: list[np.ndarray], _inputs: _Inputs) -> L.Layer:
    return L.Dense(kernel=weights[0], bias=weights[1] if len(weights) > 1 else None)


def _gru(_entry: dict, weights: list[np.ndarray], _inputs: _Inputs) -> L.Layer:
    bias = weights[2] if len(weights) > 2 else None
    return L.GRU(
        kernel=weights[0],
        recurrent_kernel=weights[1],
        bias=bias,
        reset_after=bias is None or bias.ndim == 2,
    )


def _lstm(_entry: dict, weights: list[np.ndarray], _inputs: _Inputs) -> L.Layer:
    return L.LSTM(kernel=weights[0], recurrent_kernel=weights[1], bias=weights[2] if len(weights) > 2 else None)


_MAKERS: dict[str, Callable[[dict, list[np.ndarray], _Inputs], L.Layer]] = {
    "dense": _dense,
    "time-distributed-dense": _dense,
    "conv1d": _conv1d,
    "gru": _gru,
    "lstm": _lstm,
    "batchnorm": _batchnorm,
    "prelu": _prelu,
    "activation": lambda entry, _weights, _inputs: _activation("activation", entry["activation"]),
}
