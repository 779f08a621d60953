"""What Keras' layers that need a whole clip become: records on one long frame, or on frames whose number is known.

Rules. Each function takes a layer with one input and says where its output stands. In a clip every length is known, so there
is no new arithmetic: pooling over time is pooling by a window as long as the tensor, a layer along time is one within a
single frame that holds the whole tensor, running backwards is running on reversed frames, and the last state is what
cropping leaves.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from streamcnn.errors import UnsupportedLayerError
from streamcnn.graph import layers as L
from streamcnn.graph.layer import size
from streamcnn.importers.keras_context import Chain, Context, array, check_layer
from streamcnn.importers.keras_records import cells, normalization, records
from streamcnn.importers.sketch import Place, Sketch

Builtin = Callable[[object], str | None]
MERGE_MODES = {"sum": "add", "ave": "average", "mul": "multiply"}


def clip_place(sketch: Sketch, layer: object, name: str, place: Place, builtin: Builtin) -> Place:
    """Return where the output of a layer stands that can only be computed of a whole clip.

    Raises UnsupportedLayerError where not even that is possible.
    """
    kind = type(layer).__name__
    check_layer(layer)
    return CLIP.get(kind, _within)(sketch, layer, name, place, builtin)


def _within(sketch: Sketch, layer: object, name: str, place: Place, builtin: Builtin) -> Place:
    """Apply a layer that works within each frame to the one frame that the whole clip is."""
    whole = sketch.vector(place, name)
    chain = records(layer, Context(None, sketch.shape(whole), builtin, leading=1))
    node = sketch.chain(name, chain, whole.node)
    return _as_before(sketch, Place(node, None, place.rank), name, place)


def _as_before(sketch: Sketch, made: Place, name: str, place: Place) -> Place:
    """Return a tensor that is one frame so that its frames follow the axis that they followed before."""
    if place.time is None or len(sketch.dims(made)) == 1:
        return made
    return sketch.frames(made, name, place.time)


def _flatten(sketch: Sketch, _layer: object, name: str, place: Place, _builtin: Builtin) -> Place:
    whole = sketch.vector(place, name)
    return sketch.reshaped(whole, name, (size(sketch.dims(whole)),))


def _reshape(sketch: Sketch, layer: object, name: str, place: Place, _builtin: Builtin) -> Place:
    whole, target = sketch.vector(place, name), tuple(int(n) for n in layer.target_shape)
    known = size(tuple(n for n in target if n != -1))
    target = tuple(size(sketch.dims(whole)) // known if n == -1 else n for n in target)
    # `reshaped` refuses what does not come out even.
    return sketch.reshaped(whole, name, target)


def _global_pooling(by: str, axes: int) -> Callable[..., Place]:
    def make(sketch: Sketch, layer: object, name: str, place: Place, _builtin: Builtin) -> Place:
        moving = sketch.frames(place, name, place.time if place.time in range(1, axes + 1) else 1)
        frames = sketch.length(moving)
        if axes == 1:
            record: L.Layer = L.Pooling1D(by=by, pool=frames, stride=frames)
        else:
            bands = sketch.shape(moving)[0]
            record = L.Pooling2D(by=by, pool=frames, band_pool=bands, stride=frames, band_stride=bands)
        made = Place(sketch.add(name, record, moving.node), None, 1)
        channels = sketch.dims(place)[-1]
        made = sketch.reshaped(replace(made, rank=len(sketch.shape(made))), name, (channels,))
        return sketch.reshaped(made, name, (1,) * axes + (channels,)) if layer.keepdims else made

    return make


def reversed_frames(sketch: Sketch, name: str, place: Place) -> Place:
    """Return a tensor with its frames in reversed order."""
    whole = sketch.vector(place, f"{name}/reversed")
    frames, *rest = sketch.dims(whole)
    order = np.arange(size(sketch.dims(whole))).reshape(frames, -1)[::-1].ravel()
    select = L.Select(indices=tuple(order.tolist()), shape=(frames, *rest))
    turned = replace(whole, node=sketch.add(f"{name}/reversed", select, whole.node))
    return sketch.frames(turned, f"{name}/reversed")


def _recurrent(sketch: Sketch, layer: object, name: str, place: Place, builtin: Builtin) -> Place:
    moving = sketch.frames(place, name)
    if layer.go_backwards:
        moving = reversed_frames(sketch, name, moving)
    node = sketch.chain(name, cells(layer, Context(sketch.length(moving), sketch.shape(moving), builtin)), moving.node)
    made = Place(node, 1, 2)
    return made if layer.return_sequences else _last(sketch, name, made)


def _last(sketch: Sketch, name: str, place: Place) -> Place:
    crop = L.Cropping1D(left=sketch.length(place) - 1, right=0)
    return Place(sketch.add(f"{name}/last", crop, place.node), None, 1)


def _bidirectional(sketch: Sketch, layer: object, name: str, place: Place, builtin: Builtin) -> Place:
    for inner in (layer.forward_layer, layer.backward_layer):
        check_layer(inner)
        if not hasattr(inner, "cell") or getattr(inner, "stateful", False):
            raise UnsupportedLayerError(name, "it wraps something else than a recurrent layer", "wrap GRU or LSTM")
    moving = sketch.frames(place, name)
    forward = _recurrent(sketch, layer.forward_layer, f"{name}/forward", moving, builtin)
    backward = _recurrent(sketch, layer.backward_layer, f"{name}/backward", moving, builtin)
    if layer.return_sequences:
        backward = reversed_frames(sketch, f"{name}/backward", backward)
    if layer.merge_mode is None:
        raise UnsupportedLayerError(name, "it gives two outputs (merge_mode=None)", "use merge_mode='concat'")
    join = L.Concatenate() if layer.merge_mode == "concat" else L.Merge(by=MERGE_MODES[layer.merge_mode])
    return replace(forward, node=sketch.add(name, join, forward.node, backward.node))


def _repeat_vector(sketch: Sketch, layer: object, name: str, place: Place, _builtin: Builtin) -> Place:
    whole = sketch.vector(place, name)
    return Place(sketch.add(name, L.Repeat(times=int(layer.n)), whole.node), 1, 2)


def _group_normalization(sketch: Sketch, layer: object, name: str, place: Place, _builtin: Builtin) -> Place:
    whole = sketch.vector(place, name)
    dims = sketch.dims(whole)
    axis = (layer.axis if layer.axis < 0 else layer.axis - 1) % len(dims)
    groups = dims[axis] if layer.groups == -1 else int(layer.groups)
    # Each group's values together: the axis of the groups first.
    order = np.moveaxis(np.arange(size(dims)).reshape(*dims[:axis], groups, -1, *dims[axis + 1 :]), axis, 0).ravel()
    chain: Chain = [
        ("/grouped", _picked(order, dims)),
        ("/normalized", L.Normalize(by="layer", width=size(dims) // groups, epsilon=float(layer.epsilon))),
        ("/ungrouped", _picked(np.argsort(order), dims)),
    ]
    if layer.scale or layer.center:
        along = tuple(n if k == axis else 1 for k, n in enumerate(dims))
        scale = array(layer.gamma) if layer.scale else np.ones(dims[axis])
        offset = array(layer.beta) if layer.center else np.zeros(dims[axis])
        spread = [np.broadcast_to(values.reshape(along), dims).ravel() for values in (scale, offset)]
        chain.append(("/scaled", L.Affine(scale=spread[0], offset=spread[1])))
    made = replace(whole, node=sketch.chain(name, chain, whole.node))
    return _as_before(sketch, made, name, place)


def _picked(order: np.ndarray, shape: tuple[int, ...]) -> L.Layer:
    return L.Select(indices=tuple(order.tolist()), shape=shape)


def _along_axes(sketch: Sketch, layer: object, name: str, place: Place, _builtin: Builtin) -> Place:
    """A normalization or softmax along any axes: those are brought to the end, and back."""
    whole = sketch.vector(place, name)
    given = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    axes = [(axis if axis < 0 else axis - 1) % whole.rank for axis in given]
    others = [axis for axis in range(whole.rank) if axis not in axes]
    order = (*others, *axes)
    moved = sketch.permuted(whole, name, order)
    dims = sketch.dims(moved)
    if type(layer).__name__ == "Softmax":
        flat = sketch.reshaped(moved, name, (*dims[: len(others)], size(dims[len(others) :])))
        done = Place(sketch.add(name, L.Activation(activation="softmax"), flat.node), None, flat.rank)
        made = sketch.reshaped(done, name, dims)
    else:
        record = normalization(layer, size(dims[len(others) :]), whole.rank + 1)
        made = replace(moved, node=sketch.add(name, record, moved.node))
    back = sketch.permuted(made, f"{name}/back", tuple(np.argsort(order).tolist()))
    return _as_before(sketch, back, name, place)


def _batch_normalization(sketch: Sketch, layer: object, name: str, place: Place, _builtin: Builtin) -> Place:
    """Normalize along another axis than the last: that one is brought to the end, and back."""
    whole = sketch.vector(place, name)
    axis = layer.axis[0] if isinstance(layer.axis, (list, tuple)) else layer.axis
    axis = (axis if axis < 0 else axis - 1) % whole.rank
    order = (*(k for k in range(whole.rank) if k != axis), axis)
    moved = sketch.permuted(whole, name, order)
    dims, values = sketch.dims(moved), [layer.moving_mean, layer.moving_variance]
    mean, variance = (array(value).astype(np.float64) for value in values)
    scale = (array(layer.gamma) if layer.scale else 1) / np.sqrt(variance + layer.epsilon)
    offset = (array(layer.beta) if layer.center else 0) - mean * scale
    spread = [np.broadcast_to(value, dims).ravel() for value in (scale, offset)]
    made = replace(moved, node=sketch.add(name, L.Affine(scale=spread[0], offset=spread[1]), moved.node))
    back = sketch.permuted(made, f"{name}/back", tuple(np.argsort(order).tolist()))
    return _as_before(sketch, back, name, place)


def _prelu(sketch: Sketch, layer: object, name: str, place: Place, _builtin: Builtin) -> Place:
    whole = sketch.vector(place, name)
    slope = np.broadcast_to(array(layer.alpha), sketch.dims(whole)).ravel()
    made = replace(whole, node=sketch.add(name, L.PReLU(slope=slope), whole.node))
    return _as_before(sketch, made, name, place)


def attention_place(sketch: Sketch, layer: object, name: str, places: list[Place], *, causal: bool) -> Place:
    """Return where the output of an attention layer stands; `places`: of query, value and, unless it is the value, key."""
    check_layer(layer)
    kind = type(layer).__name__
    query, value, key = places[0], places[1], places[2] if len(places) > 2 else places[1]
    if any(place.rank != 2 for place in places):
        raise UnsupportedLayerError(name, "it attends to tensors of more than one axis of frames", "flatten the frames")
    query, value, key = (
        sketch.frames(place, f"{name}/{part}") for part, place in (("query", query), ("value", value), ("key", key))
    )
    if kind == "Attention":
        if layer.score_mode != "dot":
            raise UnsupportedLayerError(name, f"its score_mode is '{layer.score_mode}'", "use score_mode='dot'")
        scale = 1.0 if layer.scale is None else float(array(layer.scale))
        record = L.Attention(heads=1, scale=scale, causal=causal)
        return Place(sketch.add(name, record, query.node, key.node, value.node), 1, 2)
    if getattr(layer, "_sliding_window", None) or getattr(layer, "sliding_window", None):
        raise UnsupportedLayerError(name, "it attends to a sliding window", "use sliding_window=None")
    if getattr(layer, "_attention_axes", None) not in (None, (1,), [1]):
        raise UnsupportedLayerError(
            name, f"it attends along the axes {layer._attention_axes}", "leave attention_axes out"
        )
    projected = {
        part: _projected(sketch, getattr(layer, f"_{part}_dense"), f"{name}/{part}", place)
        for part, place in (("query", query), ("key", key), ("value", value))
    }
    heads, width = array(layer._query_dense.kernel).shape[1:]
    if kind == "GroupedQueryAttention" or kind == "GroupQueryAttention":
        for part in ("key", "value"):
            few, depth = array(getattr(layer, f"_{part}_dense").kernel).shape[1:]
            places_ = np.repeat(np.arange(few * depth).reshape(few, depth), heads // few, axis=0).ravel()
            projected[part] = sketch.add(f"{name}/{part}/repeated", _picked(places_, (len(places_),)), projected[part])
    record = L.Attention(heads=int(heads), scale=float(width) ** -0.5, causal=causal)
    made = sketch.add(f"{name}/attention", record, projected["query"], projected["key"], projected["value"])
    if getattr(layer, "_use_gate", getattr(layer, "use_gate", False)):
        gate = _projected(sketch, layer._gate_dense, f"{name}/gate", query)
        gate = sketch.add(f"{name}/gate/sigmoid", L.Activation(activation="sigmoid"), gate)
        made = sketch.add(f"{name}/gated", L.Merge(by="multiply"), made, gate)
    output = layer._output_dense
    kernel, bias = array(output.kernel), array(output.bias)
    if kernel.ndim != 3:
        raise UnsupportedLayerError(name, f"its output has the shape {kernel.shape[2:]}", "give it one axis of outputs")
    dense = L.Dense(kernel=kernel.reshape(-1, kernel.shape[-1]), bias=bias)
    return Place(sketch.add(name, dense, made), 1, 2)


def _projected(sketch: Sketch, layer: object, name: str, place: Place) -> str:
    """Project each frame to all heads, side by side."""
    kernel, bias = array(layer.kernel), array(layer.bias)
    dense = L.Dense(kernel=kernel.reshape(kernel.shape[0], -1), bias=None if bias is None else bias.ravel())
    return sketch.add(name, dense, place.node)


ATTENTIONS = ("Attention", "GroupQueryAttention", "GroupedQueryAttention", "MultiHeadAttention")
CLIP: dict[str, Callable[..., Place]] = {
    "BatchNormalization": _batch_normalization,
    "Bidirectional": _bidirectional,
    "Flatten": _flatten,
    "GRU": _recurrent,
    "GlobalAveragePooling1D": _global_pooling("average", 1),
    "GlobalAveragePooling2D": _global_pooling("average", 2),
    "GlobalMaxPooling1D": _global_pooling("max", 1),
    "GlobalMaxPooling2D": _global_pooling("max", 2),
    "GroupNormalization": _group_normalization,
    "LSTM": _recurrent,
    "LayerNormalization": _along_axes,
    "PReLU": _prelu,
    "RMSNormalization": _along_axes,
    "RNN": _recurrent,
    "RepeatVector": _repeat_vector,
    "Reshape": _reshape,
    "SimpleRNN": _recurrent,
    "Softmax": _along_axes,
    "UnitNormalization": _along_axes,
}
