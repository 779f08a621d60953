"""Keras models to graphs. With training, the only file that knows Keras.

A model's operations are walked in the order in which Keras would run them; every operation either becomes a layer
record, vanishes because it does nothing at inference, or is refused by name. Nothing is skipped.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from streamcnn.errors import GraphError, MissingPartError, NetFileError, UnsupportedLayerError
from streamcnn.graph.graph import INPUT, Graph, NetInfo, Node
from streamcnn.graph.layers import ACTIVATIONS, Activation, Conv1D, Dense, Layer
from streamcnn.quiet import quiet_libraries

if TYPE_CHECKING:
    import keras as keras_types

_AT_INFERENCE_NOTHING = {
    "Dropout",
    "SpatialDropout1D",
    "GaussianNoise",
    "GaussianDropout",
    "AlphaDropout",
    "ActivityRegularization",
    "InputLayer",
}


def keras_module() -> object:
    """Import Keras, quietly.

    Raises MissingPartError where it is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    try:
        with quiet_libraries():
            import keras
    except ImportError as error:
        raise MissingPartError(
            f"Keras models need Keras, which cannot be loaded ({error})",
            "pip install 'streamcnn[keras]'; running a converted net does not need it",
        ) from error
    return keras


def import_keras(model: "str | os.PathLike[str] | keras_types.Model", info: NetInfo | None = None) -> Graph:
    """Convert a model, given as a `.keras` or `.h5` file or as a live `keras.Model`.

    A file is loaded without its optimizer and losses, and in safe mode: code stored in it is not run. Without `info`
    the net is named after the model.

    Raises NetFileError for a file that is no Keras model, UnsupportedLayerError, with layer, reason and remedy, for
    what does not stream exactly, GraphError where shapes do not fit, and MissingPartError without Keras.
    """
    if isinstance(model, (str, os.PathLike)) and not Path(model).is_file():
        raise NetFileError(f"{model}: no such file")
    keras = keras_module()
    if not isinstance(model, keras.Model):
        model = _loaded(keras, Path(model))
    functional = getattr(model, "_functional", model)
    if not hasattr(functional, "_nodes_by_depth"):
        raise UnsupportedLayerError(
            model.name,
            f"a {type(model).__name__} model has no graph of layers to read",
            "build it with keras.Sequential or the functional API, with an Input of its shape",
        )
    return _Walk(functional).graph(info or NetInfo(name=model.name))


def _loaded(keras: object, path: Path) -> "keras_types.Model":
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise NetFileError(
            f"{path}: Keras cannot load it: {reason[0] if reason else repr(error)}",
            "save it again with model.save('model.keras')",
        ) from error


class _Walk:
    """One pass over a functional model."""

    def __init__(self, model: object):
        self._model = model
        self._names: dict[int, str] = {}  # id of a Keras tensor -> node that makes it
        self._nodes: list[Node] = []

    def graph(self, info: NetInfo) -> Graph:
        inputs, outputs = self._model.inputs, self._model.outputs
        if len(inputs) != 1 or len(outputs) != 1:
            raise UnsupportedLayerError(
                self._model.name, f"has {len(inputs)} inputs and {len(outputs)} outputs", "use a model with one of each"
            )
        shape = inputs[0].shape
        if len(shape) != 3 or shape[2] is None:
            raise UnsupportedLayerError(
                inputs[0].name,
                f"input of shape {tuple(shape)}, expected (batch, time, channels)",
                "give the model an Input of shape (None, channels)",
            )
        self._names[id(inputs[0])] = INPUT
        for depth in sorted(self._model._nodes_by_depth, reverse=True):
            for use in self._model._nodes_by_depth[depth]:
                self._visit(use)
        output = self._names[id(outputs[0])]
        if not self._nodes:
            raise GraphError(f"model '{self._model.name}' has no layer that computes anything")
        if output != self._nodes[-1].name:
            raise UnsupportedLayerError(output, "its output is not the model's last layer", "remove what follows it")
        graph = Graph(tuple(self._nodes), shape[2], info)
        graph.channels  # noqa: B018 (checks every shape)
        return graph

    def _visit(self, use: object) -> None:
        layer = use.operation
        kind = type(layer).__name__
        if kind == "InputLayer":
            return
        if len(use.input_tensors) != 1:
            raise UnsupportedLayerError(
                layer.name, f"{kind} joins {len(use.input_tensors)} tensors", "this version streams chains of layers"
            )
        source = self._names[id(use.input_tensors[0])]
        if kind in _AT_INFERENCE_NOTHING:
            self._names[id(use.outputs[0])] = source
            return
        taken = {node.name for node in self._nodes} | {INPUT}
        name = layer.name if layer.name not in taken else f"{layer.name}_{len(self._nodes)}"
        self._nodes.append(Node(name, _record(layer), source))
        self._names[id(use.outputs[0])] = name


def _record(layer: object) -> Layer:
    """Return the record of one Keras layer."""
    kind = type(layer).__name__
    if not type(layer).__module__.startswith("keras."):
        raise UnsupportedLayerError(
            layer.name, f"{kind} is a class of the model's own", "express it with Keras' own layers"
        )
    make = _RECORDS.get(kind)
    if make is None:
        raise UnsupportedLayerError(
            layer.name, f"{kind} is not supported", f"this version streams {', '.join(_RECORDS)}"
        )
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise UnsupportedLayerError(layer.name, "data_format is 'channels_first'", "train it with 'channels_last'")
    try:
        return make(layer)
    except GraphError as error:
        raise GraphError(f"layer '{layer.name}': {error.message}", error.remedy) from None


def _conv1d(layer: object) -> Conv1D:
    for option, value in [("strides", layer.strides[0]), ("groups", layer.groups)]:
        if value != 1:
            raise UnsupportedLayerError(layer.name, f"{option} is {value}", f"this version streams {option} of 1")
    if layer.padding not in ("causal", "valid"):
        raise UnsupportedLayerError(
            layer.name, f"padding is '{layer.padding}', which looks into the future", "train it with padding='causal'"
        )
    return Conv1D(
        kernel=_array(layer.kernel),
        bias=_array(layer.bias),
        padding=layer.padding,
        dilation=int(layer.dilation_rate[0]),
        activation=_activation(layer),
    )


def _dense(layer: object) -> Dense:
    return Dense(kernel=_array(layer.kernel), bias=_array(layer.bias), activation=_activation(layer))


def _activation(layer: object) -> str:
    name = getattr(layer.activation, "__name__", str(layer.activation))
    if name not in ACTIVATIONS:
        raise UnsupportedLayerError(
            layer.name, f"activation '{name}' is not supported", f"this version has {', '.join(ACTIVATIONS)}"
        )
    return name


def _array(variable: object) -> np.ndarray | None:
    return None if variable is None else np.asarray(variable.value if hasattr(variable, "value") else variable)


_RECORDS = {
    "Conv1D": _conv1d,
    "Dense": _dense,
    "Activation": lambda layer: Activation(activation=_activation(layer)),
    "ReLU": lambda layer: Activation(activation=_plain_relu(layer)),
}


def _plain_relu(layer: object) -> str:
    if layer.max_value is not None or layer.negative_slope != 0 or layer.threshold != 0:
        raise UnsupportedLayerError(
            layer.name, "a ReLU with max_value, negative_slope or threshold is not supported", "use a plain ReLU"
        )
    return "relu"
