"""Keras models to graphs.

A model's operations are walked in the order in which Keras would run them; every operation either becomes layer records,
vanishes because it does nothing at inference, or is refused by name. Nothing is skipped. Nested models are walked in the
place where they are called, and a layer that is used twice becomes two nodes that share its weights.
"""

import os
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from streamcnn.errors import GraphError, NetFileError, UnsupportedLayerError
from streamcnn.graph import layers as L
from streamcnn.graph.graph import INPUT, Graph, NetInfo, Node, reached, total_period
from streamcnn.graph.layer import Shape, size
from streamcnn.importers.keras_context import Context, check_layer
from streamcnn.importers.keras_records import JOINS, MERGES, records
from streamcnn.importers.keras_refusals import VANISHING
from streamcnn.optional import keras_module
from streamcnn.quiet import quiet_libraries

if TYPE_CHECKING:
    import keras as keras_types

# Operations of keras.ops that mean just what the layers of their names mean, as `a + b` makes them.
OPERATIONS = ("Add", "Subtract", "Multiply", "Maximum", "Minimum")
OUTPUT = ""  # the key of a model's whole output among its tensors
MAX_UNPACKED_BYTES = 2**31


def load_keras(path: str | os.PathLike[str]) -> "keras_types.Model":
    """Load a `.keras` or `.h5` file without its optimizer and losses, and in safe mode: code stored in it is not run.

    Raises NetFileError for a file that is no Keras model, UnsupportedLayerError for one with code of its own in it, and
    MissingPartError without Keras.
    """
    path = Path(path)
    if not path.is_file():
        raise NetFileError(f"{path}: no such file")
    _refuse_bomb(path)
    keras = keras_module()
    try:
        with quiet_libraries():
            return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever its parts raise; all of it means that the file cannot be loaded
        reason = " ".join(str(error).split()) or repr(error)
        missing = re.search(r"Could not locate class '(\w+)'|Unknown layer: '?(\w+)", reason)
        if missing:
            reason = f"the class '{missing[1] or missing[2]}'"
        if missing or "lambda" in reason.lower():
            raise UnsupportedLayerError(
                path.name, f"it needs code of its own: {reason[:300]}", "express that part with Keras' own layers"
            ) from error
        raise NetFileError(
            f"{path}: Keras cannot load it: {reason[:300]}", "save it again with model.save('model.keras')"
        ) from error


def import_keras(model: "str | os.PathLike[str] | keras_types.Model", info: NetInfo | None = None) -> Graph:
    """Convert a model, given as a `.keras` or `.h5` file or as a live `keras.Model`.

    Several inputs become groups of channels of the one stream, in the model's order; several outputs stand side by side.
    Without `info` the net is named after the model.

    Raises UnsupportedLayerError, with layer, reason and remedy, for what does not stream exactly, GraphError where shapes
    or times do not fit, and what `load_keras` raises.
    """
    if isinstance(model, (str, os.PathLike)):
        model = load_keras(model)
    return _Walk().graph(_functional(model), info or NetInfo(name=model.name))


def keras_tensors(model: "keras_types.Model", signal: np.ndarray) -> dict[str, np.ndarray]:
    """Return what Keras computes for a whole signal (frames, values of a frame): each tensor of the model itself.

    The keys are the names of the graph's nodes that `import_keras` makes for them; those inside nested models are not among
    them; the model's outputs, side by side, stand under `OUTPUT`. The values are (frames, values of a frame).
    """
    functional, walk = _functional(model), _Walk()
    graph = walk.graph(functional, NetInfo())
    made = {walk.name_of(t): t for uses in functional._nodes_by_depth.values() for use in uses for t in use.outputs
            if walk.name_of(t) is not None}  # fmt: skip
    tensors = {node.name: made[node.name] for node in graph.nodes if node.name in made}
    probe = keras_module().Model(functional.inputs, [*tensors.values(), *functional.outputs])
    widths = np.cumsum([size(tuple(t.shape[2:])) for t in functional.inputs])[:-1]
    inputs = [
        part.reshape(1, len(signal), *t.shape[2:]).astype(np.float32)
        for part, t in zip(np.split(signal, widths, axis=1), functional.inputs, strict=True)
    ]
    for layer in probe.layers:
        if getattr(layer, "stateful", False) and hasattr(layer, "reset_state"):
            layer.reset_state()
    values = [np.asarray(value)[0] for value in probe(inputs, training=False)]
    arrays = [value.reshape(len(value), -1) for value in values]
    outputs = arrays[len(tensors) :]
    return {**dict(zip(tensors, arrays, strict=False)), OUTPUT: np.concatenate(outputs, axis=1)}


def fixed_length(model: "keras_types.Model") -> int | None:
    """Return how many frames a model's input has, None where any number will do."""
    return _functional(model).inputs[0].shape[1]


def _functional(model: object) -> object:
    """Return the graph of layers behind a model; refuses models whose computation is code of their own."""
    call = getattr(type(model).call, "__module__", "")
    functional = getattr(model, "_functional", None) or model
    if not hasattr(functional, "_nodes_by_depth") or not call.startswith("keras."):
        raise UnsupportedLayerError(
            model.name,
            f"a {type(model).__name__} model has no graph of layers to read, or code of its own around it",
            "build it with keras.Sequential or the functional API, with an Input of its shape",
        )
    return functional


def _refuse_bomb(path: Path) -> None:
    """Refuse an archive that would unpack to more than any net needs, before anything unpacks it."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError):
        return  # no archive (a .h5 file), or a damaged one: Keras says so
    if unpacked > max(MAX_UNPACKED_BYTES, 20 * path.stat().st_size):
        raise NetFileError(f"{path}: would unpack to {unpacked >> 20} MiB", "such a file is no net, but an attack")


def _builtin_name(keras: object, function: object) -> str | None:
    name = getattr(function, "__name__", None)
    try:
        return name if name and keras.activations.get(name) is function else None
    except ValueError:
        return None


def _check_arguments(name: str, use: object) -> None:
    """Refuse a call with anything but tensors of the model: masks, initial states, constants, training=True.

    They change what is computed and stand nowhere among the layers.
    """
    arguments = use.arguments
    places = {f"argument {k}": value for k, value in enumerate(arguments.args)} | arguments.kwargs
    for place, value in places.items():
        if isinstance(value, dict):
            raise UnsupportedLayerError(
                name, "it is called with a dictionary of tensors", "call it with a list of them"
            )
        for leaf in value if isinstance(value, (list, tuple)) else [value]:
            if leaf is not None and leaf is not False and not hasattr(leaf, "_keras_history"):
                raise UnsupportedLayerError(
                    name, f"it is called with {place} = {str(leaf)[:60]!r}, a constant", "express it with a layer"
                )


class _Walk:
    """One pass over a functional model and the models in it."""

    def __init__(self):
        keras = keras_module()
        self._builtin = lambda function: _builtin_name(keras, function)
        self._names: dict[int, str] = {}  # id of a Keras tensor -> node that makes it
        self._nodes: dict[str, Node] = {}
        self._used: set[int] = set()  # ids of the operations that have been met

    def graph(self, model: object, info: NetInfo) -> Graph:
        """Return the graph of a model."""
        shape, frames = self._inputs(model.inputs)
        self._visit_all(model, "")
        outputs = [self._source(tensor, model) for tensor in model.outputs]
        if len(outputs) > 1:
            outputs = [self._add("outputs", L.Concatenate(), tuple(outputs))]
        if outputs == [INPUT]:
            raise GraphError(f"model '{model.name}' has no layer that computes anything")
        nodes = reached(list(self._nodes.values()), outputs[0])
        # A model of a fixed length pads for that length; one of any length is taken to get multiples of its strides.
        length_class = 0 if frames is None else frames % total_period(nodes)
        return Graph(nodes, shape, length_class, info)

    def name_of(self, tensor: object) -> str | None:
        """Return the node that makes a tensor of the model itself, None for others and for the model's input."""
        name = self._names.get(id(tensor))
        return None if name == INPUT else name

    def _inputs(self, tensors: list) -> tuple[Shape, int | None]:
        shapes, lengths = [], set()
        for tensor in tensors:
            _batch, *rest = tensor.shape
            if not rest or None in rest[1:]:
                raise UnsupportedLayerError(
                    tensor.name,
                    f"an input of the shape {tuple(tensor.shape)} has frames of variable shape",
                    "give the model an Input of the shape (None, channels)",
                )
            if len(rest) == 1 and rest[0] is None:
                raise UnsupportedLayerError(tensor.name, "an input without channels", "use Input((None, 1))")
            if tensor.dtype not in ("float32", "float64"):
                raise UnsupportedLayerError(tensor.name, f"an input of {tensor.dtype}", "use an Input of float32")
            lengths.add(rest[0])
            shapes.append(tuple(rest[1:]))
        if len(lengths) > 1:
            raise UnsupportedLayerError(
                tensors[-1].name, f"the inputs have the different lengths {lengths}", "give them the same length"
            )
        if len(tensors) == 1:
            self._names[id(tensors[0])] = INPUT
            return shapes[0] or (1,), lengths.pop()
        start = 0
        for tensor, shape in zip(tensors, shapes, strict=True):
            places = tuple(range(start, start + size(shape)))
            select = L.Select(indices=places, shape=shape or (1,))
            self._names[id(tensor)] = self._add(tensor.name, select, (INPUT,))
            start += size(shape)
        return (start,), lengths.pop()

    def _visit_all(self, model: object, prefix: str) -> None:
        for depth in sorted(model._nodes_by_depth, reverse=True):
            for use in model._nodes_by_depth[depth]:
                self._visit(use, prefix)

    def _visit(self, use: object, prefix: str) -> None:
        operation, kind = use.operation, type(use.operation).__name__
        if kind == "InputLayer":
            return
        inputs = tuple(self._source(tensor, operation) for tensor in use.input_tensors)
        name = prefix + operation.name
        _check_arguments(name, use)
        if hasattr(operation, "_nodes_by_depth") or getattr(operation, "_functional", None) is not None:
            self._visit_nested(_functional(operation), inputs, use, f"{name}/")
            return
        self._check_operation(name, operation)
        if kind in JOINS:
            made = self._join(operation, kind, name, inputs, [tensor.shape for tensor in use.input_tensors])
        elif len(inputs) != 1:
            raise UnsupportedLayerError(
                name, f"{kind} reads {len(inputs)} tensors", "feed it one; states start at zero"
            )
        elif kind in VANISHING:
            made = inputs[0]
        else:
            made = self._chain(operation, name, inputs[0], use.input_tensors[0].shape)
        self._names[id(use.outputs[0])] = made

    def _check_operation(self, name: str, operation: object) -> None:
        check_layer(operation)
        is_layer = hasattr(operation, "compute_dtype")
        if not is_layer and type(operation).__name__ not in OPERATIONS:
            raise UnsupportedLayerError(
                name, f"keras.ops.{type(operation).__name__.lower()} is not a layer", "use the layer of that meaning"
            )
        if getattr(operation, "stateful", False) and id(operation) in self._used:
            raise UnsupportedLayerError(
                name, "a stateful layer is used twice, the second use going on from the first", "use two layers"
            )
        self._used.add(id(operation))

    def _visit_nested(self, model: object, inputs: tuple[str, ...], use: object, prefix: str) -> None:
        """Walk a model that is called inside another one, its inputs being nodes of that one."""
        outer = self._names
        self._names = {id(tensor): source for tensor, source in zip(model.inputs, inputs, strict=True)}
        self._visit_all(model, prefix)
        made = [self._source(tensor, model) for tensor in model.outputs]
        self._names = outer
        self._names.update({id(tensor): source for tensor, source in zip(use.outputs, made, strict=True)})

    def _chain(self, layer: object, name: str, source: str, shape: tuple) -> str:
        context = Context(shape[1], tuple(shape[2:]), self._builtin)
        for suffix, record in records(layer, context):
            source = self._add(name + suffix, record, (source,))
        return source

    def _join(self, operation: object, kind: str, name: str, inputs: tuple[str, ...], shapes: list[tuple]) -> str:
        ranks = {len(shape) for shape in shapes}
        if len(inputs) < 2 or len(ranks) > 1:
            raise UnsupportedLayerError(
                name, f"{kind} of a single tensor, or of tensors of different rank", "join two of the same rank"
            )
        if kind == "Concatenate":
            if operation.axis not in (-1, max(ranks) - 1) or max(ranks) != 3:
                raise UnsupportedLayerError(
                    name, f"Concatenate along axis {operation.axis} of {max(ranks)}", "concatenate channels: axis=-1"
                )
            return self._add(name, L.Concatenate(), inputs)
        if any(shape[1] == 1 for shape in shapes) and any(shape[1] != 1 for shape in shapes):
            raise UnsupportedLayerError(
                name, f"{kind} spreads one frame over the whole signal", "that frame is known only at the signal's end"
            )
        frame = tuple(max(axis) for axis in zip(*(shape[2:] for shape in shapes), strict=True))
        spread = tuple(
            source if tuple(shape[2:]) == frame else self._spread(f"{name}/{k}", source, tuple(shape[2:]), frame)
            for k, (source, shape) in enumerate(zip(inputs, shapes, strict=True))
        )
        return self._add(name, L.Merge(by=MERGES[kind]), spread)

    def _spread(self, name: str, source: str, shape: Shape, frame: Shape) -> str:
        """Repeat values along the axes of length 1, as broadcasting does."""
        places = np.broadcast_to(np.arange(size(shape)).reshape(shape), frame)
        return self._add(name, L.Select(indices=tuple(places.ravel().tolist()), shape=frame), (source,))

    def _source(self, tensor: object, operation: object) -> str:
        if id(tensor) not in self._names:
            raise UnsupportedLayerError(
                operation.name, "it reads the state of a recurrent layer", "use the sequence that the layer returns"
            )
        return self._names[id(tensor)]

    def _add(self, name: str, layer: L.Layer, inputs: tuple[str, ...]) -> str:
        unique, number = name, 1
        while unique in self._nodes or unique == INPUT:
            unique, number = f"{name}_{number}", number + 1
        self._nodes[unique] = Node(unique, layer, inputs)
        return unique
