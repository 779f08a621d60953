"""Keras models to graphs.

A model that streams becomes a graph that streams. One with a layer that needs its whole input at once becomes a clip net: a
graph for signals of one length, which slides over the stream as a window. A model of a fixed length says itself how long
that is.
"""

import os
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from streamcnn.errors import GraphError, NetFileError, UnsupportedLayerError
from streamcnn.graph.clip import Clip
from streamcnn.graph.graph import Graph, NetInfo, reached, total_period
from streamcnn.importers.keras_context import NeedsClipError
from streamcnn.importers.keras_walk import Walk, functional, input_frames
from streamcnn.optional import keras_module
from streamcnn.quiet import quiet_libraries

if TYPE_CHECKING:
    import keras as keras_types

OUTPUT = ""  # the key of a model's whole output among its tensors
MAX_UNPACKED_BYTES = 2**31
STEPS_OF_A_HOP = 8  # a window's usual hop is a whole number of steps of the slowest layer that has so many in a clip


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


def import_keras(
    model: "str | os.PathLike[str] | keras_types.Model",
    info: NetInfo | None = None,
    *,
    clip_frames: int | None = None,
    window_hop: int | None = None,
    time_axis: int | None = None,
) -> Graph:
    """Convert a model, given as a `.keras` or `.h5` file or as a live `keras.Model`.

    Several inputs become groups of channels of the one stream, in the model's order; several outputs stand side by side.
    Without `info` the net is named after the model. `clip_frames`: slide a window of so many input frames over the stream,
    each answered by itself; by default only where the model needs a whole clip and says how long. `window_hop`: how many
    frames the window moves by, by default about half of it. `time_axis`: which axis of the model's inputs is time, where that
    is not clear from their shape.

    Raises UnsupportedLayerError, with layer, reason and remedy, for what does not stream exactly, GraphError where shapes
    or times do not fit, and what `load_keras` raises.
    """
    if isinstance(model, (str, os.PathLike)):
        model = load_keras(model)
    walk = _walked(functional(model), clip_frames, time_axis)
    return _graph(walk, replace(info or NetInfo(name=model.name), time_axis=walk.time_axis), window_hop)


def _walked(model: object, clip_frames: int | None, time_axis: int | None) -> Walk:
    if clip_frames is None:
        try:
            return Walk(model, None, time_axis)
        except NeedsClipError:
            clip_frames = input_frames(model, time_axis)
            if clip_frames is None:
                raise
    return Walk(model, clip_frames, time_axis)


def _graph(walk: Walk, info: NetInfo, window_hop: int | None) -> Graph:
    nodes = reached(walk.nodes, walk.output)
    if walk.clip is not None:
        clip = Clip(walk.clip, walk.clip if window_hop is None else window_hop)
        graph = Graph(nodes, walk.input_shape, 0, info, clip)
        return graph if window_hop is not None else replace(graph, clip=Clip(walk.clip, _usual_hop(graph)))
    if window_hop is not None:
        raise GraphError(
            f"window_hop is {window_hop}, but the net streams by itself", "leave it out, or give clip_frames"
        )
    # A model of a fixed length pads for that length; one of any length is taken to get multiples of its strides.
    length_class = 0 if walk.frames is None else walk.frames % total_period(nodes)
    return Graph(nodes, walk.input_shape, length_class, info)


def _usual_hop(graph: Graph) -> int:
    """Return about half a clip, in whole steps of the strided layers that windows can share."""
    frames = graph.clip.frames
    hops = [timing.hop for name, timing in graph.timings.items() if graph.lengths[name] >= STEPS_OF_A_HOP]
    step = max([1, *(int(hop) for hop in hops if hop.denominator == 1)])
    return max(step, frames // 2 // step * step)


def keras_tensors(model: "keras_types.Model", signal: np.ndarray, graph: Graph) -> dict[str, np.ndarray]:
    """Return what Keras computes for a whole signal (frames, values of a frame): each tensor of the model itself.

    `graph`: the net that was made of the model. The keys are the names that its nodes would have; those inside nested models
    are not among them; the model's outputs, side by side, stand under `OUTPUT`. The values are (frames, values of a frame),
    of a clip net the frames of all windows, one window after the other.
    """
    model, clip = functional(model), graph.clip
    walk = _walked(model, clip.frames if clip else None, graph.info.time_axis)
    nodes = {node.name for node in reached(walk.nodes, walk.output)}
    tensors = {name: tensor for name, tensor in walk.tensors.items() if name in nodes}
    probe = keras_module().Model(model.inputs, [*tensors.values(), *model.outputs])
    for layer in probe.layers:
        if getattr(layer, "stateful", False) and hasattr(layer, "reset_state"):
            layer.reset_state()
    windows = _windows(signal, clip)
    # A MelSpectrogram takes its maximum of the whole batch: it must not come from another window.
    batches = windows[:, None] if "MelSpectrogram" in walk.kinds else [windows]
    answers = [probe(walk.inputs(batch), training=False) for batch in batches]
    values = [np.concatenate([np.asarray(value) for value in parts]) for parts in zip(*answers, strict=True)]
    arrays = [_frames(value, walk.time_of(tensor)) for value, tensor in zip(values, tensors.values(), strict=False)]
    outputs = [
        _frames(value, walk.time_of(tensor))
        for value, tensor in zip(values[len(tensors) :], model.outputs, strict=True)
    ]
    if clip is not None:
        outputs = [output.reshape(len(windows), -1) for output in outputs]
    return {**dict(zip(tensors, arrays, strict=True)), OUTPUT: np.concatenate(outputs, axis=1)}


def _windows(signal: np.ndarray, clip: Clip | None) -> np.ndarray:
    """Return the signals that Keras is given: the one, or all windows; float32 (windows, frames, values of a frame)."""
    starts = [0] if clip is None else range(0, len(signal) - clip.frames + 1, clip.hop)
    length = len(signal) if clip is None else clip.frames
    return np.stack([signal[start : start + length] for start in starts]).astype(np.float32)


def _frames(value: np.ndarray, time: int | None) -> np.ndarray:
    """Return a tensor of Keras (batch, ...) as (frames, values of a frame), one signal after the other."""
    if time is None:
        return value.reshape(len(value), -1)
    value = np.moveaxis(value, time, 1)
    return value.reshape(value.shape[0] * value.shape[1], -1)


def fixed_length(model: "keras_types.Model", graph: Graph) -> int | None:
    """Return how many frames a model's input has, None where any number will do; `graph` is the net that was made of it."""
    return None if graph.clip is not None else input_frames(functional(model), graph.info.time_axis)


def _refuse_bomb(path: Path) -> None:
    """Refuse an archive that would unpack to more than any net needs, before anything unpacks it."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError):
        return  # no archive (a .h5 file), or a damaged one: Keras says so
    if unpacked > max(MAX_UNPACKED_BYTES, 20 * path.stat().st_size):
        raise NetFileError(f"{path}: would unpack to {unpacked >> 20} MiB", "such a file is no net, but an attack")
