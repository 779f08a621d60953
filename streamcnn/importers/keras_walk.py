"""The walk through a Keras model: each operation becomes records, vanishes because it does nothing at inference, or is refused.

Nothing is skipped. Nested models are walked in the place where they are called, and a layer that is used twice becomes two
nodes that share its weights. Layers are read by the tables of `keras_records`, `keras_plane` and, in a clip net, `keras_clip`;
here it is decided which of them, and what joins do.
"""

from dataclasses import replace

import numpy as np

from streamcnn.errors import GraphError, UnsupportedLayerError
from streamcnn.graph import layers as L
from streamcnn.graph.functions import POINTWISE
from streamcnn.graph.graph import INPUT, Node
from streamcnn.graph.layer import Shape, size
from streamcnn.importers.keras_clip import ATTENTIONS, CLIP, attention_place, clip_place
from streamcnn.importers.keras_context import Context, NeedsClipError, check_layer
from streamcnn.importers.keras_plane import PLANE, WITHIN, plane_records, within_records
from streamcnn.importers.keras_records import FRAME_WISE, JOINS, MERGES, records
from streamcnn.importers.keras_refusals import CLIP_REMEDY, VANISHING
from streamcnn.importers.keras_spectral import mel_place
from streamcnn.importers.sketch import Place, Sketch
from streamcnn.optional import keras_module

# Operations of keras.ops that mean just what the layers of their names mean, as `a + b` makes them.
OPERATIONS = ("Add", "Subtract", "Multiply", "Maximum", "Minimum")


def functional(model: object) -> object:
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


def input_frames(model: object, time_axis: int | None) -> int | None:
    """Return how many frames the inputs of a functional model have, None where any number will do.

    Raises UnsupportedLayerError where it is not clear which axis is time.
    """
    return model.inputs[0].shape[_time_axis(model.inputs[0], time_axis)]


def _time_axis(tensor: object, given: int | None) -> int:
    """Return which axis of an input is time: the given one, or that of variable length, or, but for planes, the first."""
    axes = tensor.shape[1:3]
    if given is not None:
        if not 1 <= given <= len(axes):
            raise GraphError(
                f"time_axis is {given}, but an input of the shape {tensor.shape} has {len(axes)} axes to be time"
            )
        return given
    variable = [axis for axis, length in enumerate(axes, 1) if length is None]
    if len(tensor.shape) < 4 and len(variable) != 1:
        return 1
    if len(variable) != 1:
        raise UnsupportedLayerError(
            tensor.name,
            f"an input of the shape {tuple(tensor.shape)} has two axes that may be time",
            "say which one it is: --time-axis 1 or 2",
        )
    return variable[0]


def _builtin_name(keras: object, function: object) -> str | None:
    name = getattr(function, "__name__", None)
    try:
        return name if name and keras.activations.get(name) is function else None
    except ValueError:
        return None


def _check_arguments(name: str, use: object, kind: str) -> bool:
    """Refuse a call with anything but tensors of the model: masks, initial states, constants, training=True.

    They change what is computed and stand nowhere among the layers. The one that may stand there is returned: whether an
    attention layer is called with a causal mask.
    """
    arguments = use.arguments
    places = {f"argument {k}": value for k, value in enumerate(arguments.args)} | arguments.kwargs
    causal = kind in ATTENTIONS and places.pop("use_causal_mask", False) is True
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
    return causal


def _attended(name: str, use: object, kind: str) -> list[object]:
    """Return the query, the value and, where there is one, the key that an attention layer is called with."""
    args, given = use.arguments.args, dict(use.arguments.kwargs)
    if kind == "Attention":  # which takes a list of them
        named = {
            "inputs": args[0] if args else given.pop("inputs", None),
            **dict(zip(("mask",), args[1:], strict=False)),
        }
        tensors = named.pop("inputs")
    else:
        named = dict(
            zip(("query", "value", "key", "query_mask", "value_mask", "key_mask", "attention_mask"), args, strict=False)
        )
        named |= given
        tensors = [named.pop(part, None) for part in ("query", "value", "key")]
    for argument, value in {**given, **named}.items():
        leaves = value if isinstance(value, (list, tuple)) else [value]
        if argument not in ("query", "value", "key") and any(hasattr(leaf, "_keras_history") for leaf in leaves):
            raise UnsupportedLayerError(
                name, f"it is called with {argument}, a tensor", "call it without a mask, or with use_causal_mask=True"
            )
    return [tensor for tensor in tensors if tensor is not None]


def _flat(shape: Shape) -> L.Layer:
    return L.Reshape(shape=(size(shape),))


class Walk:
    """One pass over a functional model and the models in it.

    `nodes` and `output`: what became of it, the node `output` making the model's outputs side by side. `clip`: the input
    frames of a clip net, None for one that streams by itself. `frames`: of a model of fixed length. `input_shape`: of the
    stream's frames. `time_axis`: of the model's inputs. `tensors`: the model's own tensors by the nodes that make them.
    `kinds`: of the layers that were met.

    Raises UnsupportedLayerError and GraphError as `import_keras` does, NeedsClipError among them where `clip` is None.
    """

    def __init__(self, model: object, clip: int | None, time_axis: int | None):
        keras = keras_module()
        self._builtin = lambda function: _builtin_name(keras, function)
        self._model = model
        self._places: dict[int, Place] = {}  # by the id of a tensor of the model
        self._used: set[int] = set()  # ids of the operations that have been met
        self.kinds: set[str] = set()
        self.clip = clip
        self.time_axis = _time_axis(model.inputs[0], time_axis)
        self.frames = input_frames(model, time_axis)
        if clip is not None and self.frames not in (None, clip):
            raise GraphError(
                f"a clip of {clip} frames, but the model takes {self.frames}", f"use --clip-frames {self.frames}"
            )
        shapes = [self._input_shape(tensor) for tensor in model.inputs]
        self.input_shape = (shapes[0] or (1,)) if len(shapes) == 1 else (sum(size(shape) for shape in shapes),)
        self._sketch = Sketch(self.input_shape, self.frames if clip is None else clip, clip=clip is not None)
        self._place_inputs(shapes)
        self._visit_all(model, "")
        self.output = self._joined_outputs([self._source(tensor, model) for tensor in model.outputs])
        self.nodes: tuple[Node, ...] = tuple(self._sketch.nodes.values())
        made = [tensor for uses in model._nodes_by_depth.values() for use in uses for tensor in use.outputs]
        self.tensors = {
            self._places[id(tensor)].node: tensor
            for tensor in made
            if id(tensor) in self._places and self._places[id(tensor)].node != INPUT
        }

    def time_of(self, tensor: object) -> int | None:
        """Return which axis of a tensor of the model is time, None for one of no such axis."""
        return self._places[id(tensor)].time

    def inputs(self, signals: np.ndarray) -> list[np.ndarray]:
        """Return signals (signals, frames, values of a frame) as the model's inputs."""
        shapes = [self._input_shape(tensor) for tensor in self._model.inputs]
        parts = np.split(signals, np.cumsum([size(shape) for shape in shapes])[:-1], axis=2)
        return [
            np.moveaxis(part.reshape(*part.shape[:2], *shape), 1, self.time_axis)
            for part, shape in zip(parts, shapes, strict=True)
        ]

    def _input_shape(self, tensor: object) -> Shape:
        """Return the shape of an input's frames: () for a signal without channels."""
        shape = tuple(tensor.shape[1:])
        if not shape or len(shape) > 3:
            raise UnsupportedLayerError(
                tensor.name, f"an input of the shape {tuple(tensor.shape)} is no signal", "use Input((None, channels))"
            )
        frame = shape[: self.time_axis - 1] + shape[self.time_axis :]
        if None in frame:
            raise UnsupportedLayerError(
                tensor.name,
                f"an input of the shape {tuple(tensor.shape)} has frames of variable shape",
                "give the model an Input of the shape (None, channels)",
            )
        if tensor.dtype not in ("float32", "float64"):
            raise UnsupportedLayerError(tensor.name, f"an input of {tensor.dtype}", "use an Input of float32")
        if len(tensor.shape) != len(self._model.inputs[0].shape) or tensor.shape[self.time_axis] != self.frames:
            lengths = [other.shape[1:] for other in self._model.inputs]
            raise UnsupportedLayerError(
                tensor.name, f"the inputs have the different shapes {lengths}", "give them the same length"
            )
        return frame

    def _place_inputs(self, shapes: list[Shape]) -> None:
        tensors = self._model.inputs
        if len(tensors) == 1:
            self._places[id(tensors[0])] = Place(INPUT, self.time_axis, len(shapes[0]) + 1)
            return
        start = 0
        for tensor, shape in zip(tensors, shapes, strict=True):
            places = tuple(range(start, start + size(shape)))
            node = self._sketch.add(tensor.name, L.Select(indices=places, shape=shape or (1,)), INPUT)
            self._places[id(tensor)] = Place(node, self.time_axis, len(shape) + 1)
            start += size(shape)

    def _joined_outputs(self, places: list[Place]) -> str:
        """Return the node that makes all outputs, side by side."""
        sketch = self._sketch
        if sketch.clip and len(places) > 1:  # each as the model has it, one behind the other
            places = [sketch.vector(place, "outputs") for place in places]
        if sketch.clip:
            places = [place if place.time is None else sketch.frames(place, "outputs") for place in places]
        names = [place.node for place in places]
        if len(names) > 1:
            flat = [
                place.node
                if len(sketch.shape(place)) <= 1
                else sketch.add("outputs/flat", _flat(sketch.shape(place)), place.node)
                for place in places
            ]
            names = [sketch.add("outputs", L.Concatenate(), *flat)]
        if names == [INPUT]:
            raise GraphError(f"model '{self._model.name}' has no layer that computes anything")
        return names[0]

    def _visit_all(self, model: object, prefix: str) -> None:
        for depth in sorted(model._nodes_by_depth, reverse=True):
            for use in model._nodes_by_depth[depth]:
                self._visit(use, prefix)

    def _visit(self, use: object, prefix: str) -> None:
        operation, kind = use.operation, type(use.operation).__name__
        if kind == "InputLayer":
            return
        self.kinds.add(kind)
        name = prefix + operation.name
        tensors = _attended(name, use, kind) if kind in ATTENTIONS else use.input_tensors
        places = [self._source(tensor, operation) for tensor in tensors]
        causal = _check_arguments(name, use, kind)
        if hasattr(operation, "_nodes_by_depth") or getattr(operation, "_functional", None) is not None:
            self._visit_nested(functional(operation), places, use, f"{name}/")
            return
        self._check_operation(name, operation)
        if kind in JOINS:
            made = self._join(operation, kind, name, places)
        elif kind in ATTENTIONS:
            if self.clip is None:
                raise NeedsClipError(name, f"{kind} compares every frame with every other one", CLIP_REMEDY)
            made = attention_place(self._sketch, operation, name, places, causal=causal)
        elif len(places) != 1:
            raise UnsupportedLayerError(
                name, f"{kind} reads {len(places)} tensors", "feed it one; states start at zero"
            )
        else:
            made = self._layer(operation, name, places[0], len(use.outputs[0].shape) - 1)
        self._places[id(use.outputs[0])] = made

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

    def _visit_nested(self, model: object, places: list[Place], use: object, prefix: str) -> None:
        """Walk a model that is called inside another one, its inputs being tensors of that one."""
        outer = self._places
        self._places = {id(tensor): place for tensor, place in zip(model.inputs, places, strict=True)}
        self._visit_all(model, prefix)
        made = [self._source(tensor, model) for tensor in model.outputs]
        self._places = outer
        self._places.update({id(tensor): place for tensor, place in zip(use.outputs, made, strict=True)})

    def _layer(self, layer: object, name: str, place: Place, rank: int) -> Place:
        """Return where the output of a layer with one input, of `rank` axes, stands."""
        kind, sketch = type(layer).__name__, self._sketch
        if kind in VANISHING:
            return place
        if kind == "SpectralNormalization":
            return self._layer(layer.layer, name, place, rank)
        if kind == "Permute":
            return self._permuted(layer, name, place)
        if kind == "MelSpectrogram":
            return mel_place(sketch, layer, name, place)
        if kind == "Reshape" and (made := self._reshaped_frames(layer, name, place)):
            return made
        if place.time is None or (sketch.clip and place.rank == 1):
            if kind in CLIP or kind in FRAME_WISE or place.rank == 1:
                return clip_place(sketch, layer, name, place, self._builtin)
            place = sketch.frames(place, name)
        elif kind in CLIP and place.time != 1 and not self._is_apart_from_time(layer, kind, place):
            if not sketch.clip:
                raise NeedsClipError(name, f"{kind} works along time, which is axis {place.time}", CLIP_REMEDY)
            return clip_place(sketch, layer, name, place, self._builtin)
        if kind in PLANE and place.rank == 3:
            place = place if place.time in (1, 2) else sketch.frames(place, name)
            return replace(
                place, node=sketch.chain(name, plane_records(layer, self._context(place), place.time), place.node)
            )
        try:
            if place.time != 1 and not self._is_apart_from_time(layer, kind, place):
                place = sketch.frames(place, name)
            inner = type(layer.layer).__name__ if kind == "TimeDistributed" else None
            if inner in WITHIN and place.rank == 3:
                chain = within_records(layer.layer, self._context(place))
            else:
                chain = records(layer, self._context(place))
            return replace(place, node=sketch.chain(name, chain, place.node), rank=rank)
        except NeedsClipError:
            if not sketch.clip:
                raise
            return clip_place(sketch, layer, name, place, self._builtin)

    def _context(self, place: Place) -> Context:
        return Context(self._sketch.length(place), self._sketch.shape(place), self._builtin, time=place.time or 1)

    def _is_apart_from_time(self, layer: object, kind: str, place: Place) -> bool:
        """Whether a layer works on each frame by itself, with the axis of time where it is."""
        if place.time == place.rank:  # the last axis, which many layers work along
            function = self._builtin(getattr(layer, "activation", None))
            return kind in ("ELU", "LeakyReLU", "ReLU") or (kind == "Activation" and function in POINTWISE)
        return kind in FRAME_WISE

    def _permuted(self, layer: object, name: str, place: Place) -> Place:
        """Exchange axes: those of a frame by picking values, and time by remembering where it went."""
        sketch, order = self._sketch, tuple(axis - 1 for axis in layer.dims)
        if place.time is None:
            return sketch.permuted(place, name, order)
        at = place.time - 1
        shape = sketch.shape(place)
        within = [axis - (axis > at) for axis in order if axis != at]
        made = replace(place, time=order.index(at) + 1)
        if within == sorted(within):
            return made
        values = np.arange(size(shape)).reshape(shape).transpose(within)
        select = L.Select(indices=tuple(values.ravel().tolist()), shape=values.shape)
        return replace(made, node=sketch.add(name, select, place.node))

    def _reshaped_frames(self, layer: object, name: str, place: Place) -> Place | None:
        """Reshape what stands before the axis of time, and what stands behind it; None where more than that is asked for."""
        sketch, target = self._sketch, tuple(int(n) for n in layer.target_shape)
        if place.time is None:
            return None
        shape, length = sketch.shape(place), sketch.length(place)
        before, behind = size(shape[: place.time - 1]), size(shape[place.time - 1 :])
        for k, frames in enumerate(target):
            frame = target[:k] + target[k + 1 :]
            if frames in (-1, length) and -1 not in frame and (size(frame[:k]), size(frame[k:])) == (before, behind):
                made = Place(place.node, k + 1, len(target))
                if frame in (shape, ()):
                    return made
                return replace(made, node=sketch.add(name, L.Reshape(shape=frame), made.node))
        return None

    def _join(self, operation: object, kind: str, name: str, places: list[Place]) -> Place:
        ranks = {place.rank for place in places}
        if len(places) < 2 or len(ranks) > 1:
            raise UnsupportedLayerError(
                name, f"{kind} of a single tensor, or of tensors of different rank", "join two of the same rank"
            )
        if kind == "Concatenate":
            return self._concatenated(name, places, operation.axis % (places[0].rank + 1))
        sketch, places = self._sketch, self._of_one_length(name, kind, self._of_one_time(name, kind, places))
        shapes = [sketch.shape(place) or (1,) for place in places]
        frame = tuple(max(axis) for axis in zip(*shapes, strict=True))
        nodes = [
            place.node if shape == frame else self._spread(f"{name}/{k}", place.node, shape, frame)
            for k, (place, shape) in enumerate(zip(places, shapes, strict=True))
        ]
        return replace(places[0], node=sketch.add(name, L.Merge(by=MERGES[kind]), *nodes))

    def _of_one_time(self, name: str, kind: str, places: list[Place]) -> list[Place]:
        """Return tensors so that the same axis is time in all of them."""
        if len({place.time for place in places}) == 1:
            return places
        if not self._sketch.clip:
            raise UnsupportedLayerError(
                name, f"{kind} of tensors in which different axes are time", "put a Permute before one of them"
            )
        return [self._sketch.frames(place, f"{name}/{k}") for k, place in enumerate(places)]

    def _of_one_length(self, name: str, kind: str, places: list[Place]) -> list[Place]:
        """Return tensors of one length: those of a single frame repeat it, as broadcasting does."""
        sketch, lengths = self._sketch, [self._sketch.length(place) for place in places]
        if places[0].time is None or 1 not in lengths or set(lengths) == {1}:
            return places
        if not sketch.clip:
            raise NeedsClipError(name, f"{kind} spreads one frame over the whole signal", CLIP_REMEDY)
        longest = max(lengths)
        return [
            place
            if length == longest
            else replace(place, node=sketch.add(f"{name}/{k}", L.Repeat(times=longest), place.node))
            for k, (place, length) in enumerate(zip(places, lengths, strict=True))
        ]

    def _concatenated(self, name: str, places: list[Place], axis: int) -> Place:
        """Join tensors along an axis: within the frames, or, in a clip, along time."""
        sketch, places = self._sketch, self._of_one_time(name, "Concatenate", places)
        time = places[0].time
        if axis == 0 or (axis == time and not sketch.clip):
            raise NeedsClipError(
                name,
                f"Concatenate along axis {axis} of {places[0].rank + 1}",
                f"concatenate channels: axis=-1, or {CLIP_REMEDY}",
            )
        if axis == time:
            places = [sketch.vector(place, f"{name}/{k}") for k, place in enumerate(places)]
        shapes = [sketch.shape(place) for place in places]
        along = axis - 1 - (places[0].time is not None and axis > places[0].time)
        nodes = [
            place.node if len(shape) == 1 else sketch.add(f"{name}/{k}", _flat(shape), place.node)
            for k, (place, shape) in enumerate(zip(places, shapes, strict=True))
        ]
        made = replace(places[0], node=sketch.add(name, L.Concatenate(), *nodes))
        if len(shapes[0]) > 1:
            starts = np.cumsum([0, *(size(shape) for shape in shapes)])
            parts = [
                start + np.arange(size(shape)).reshape(shape) for start, shape in zip(starts, shapes, strict=False)
            ]
            try:
                values = np.concatenate(parts, axis=along)
            except ValueError:
                raise GraphError(f"layer '{name}': cannot join frames of the shapes {shapes}") from None
            select = L.Select(indices=tuple(values.ravel().tolist()), shape=values.shape)
            made = replace(made, node=sketch.add(f"{name}/joined", select, made.node))
        return sketch.frames(made, name, time) if axis == time else made

    def _spread(self, name: str, source: str, shape: Shape, frame: Shape) -> str:
        """Repeat values along the axes of length 1, as broadcasting does."""
        places = np.broadcast_to(np.arange(size(shape)).reshape(shape), frame)
        return self._sketch.add(name, L.Select(indices=tuple(places.ravel().tolist()), shape=frame), source)

    def _source(self, tensor: object, operation: object) -> Place:
        if id(tensor) not in self._places:
            raise UnsupportedLayerError(
                operation.name, "it reads the state of a recurrent layer", "use the sequence that the layer returns"
            )
        return self._places[id(tensor)]
