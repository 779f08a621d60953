"""Keras models to graphs.

A model that streams becomes a graph that streams. One with a layer that needs its whole input at once becomes a clip net: a
graph for signals of one length, which slides over the stream as a window. A model of a fixed length says itself how long
that is.
"""

import os
import re
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from streamcnn.errors import GraphError, NetFileError, UnsupportedLayerError
from streamcnn.graph.clip import Clip
from streamcnn.graph.graph import LONG, Graph, NetInfo, Node, reached, total_period
from streamcnn.graph.layers import Shape, Stack
from streamcnn.importers.front_end import FrontEnd
from streamcnn.importers.front_layers import framing, put_before, samples, sketched
from streamcnn.importers.front_layers import length_class as front_length_class
from streamcnn.importers.keras_context import NeedsClipError
from streamcnn.importers.keras_walk import Walk, functional, input_frames
from streamcnn.optional import keras_module
from streamcnn.quiet import quiet_libraries

if TYPE_CHECKING:
    import keras as keras_types

MAX_UNPACKED_BYTES = 2**31
MOST_CLASSES = 1024  # of lengths, that are tried
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
        with quiet_libraries(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a file holds beside a model, it says to whoever made it
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
    front_end: FrontEnd | None = None,
) -> Graph:
    """Convert a model, given as a `.keras` or `.h5` file or as a live `keras.Model`.

    Several inputs become groups of channels of the one stream, in the model's order; several outputs stand side by side.
    Without `info` the net is named after the model. `clip_frames`: slide a window of so many frames of the stream over it,
    each answered by itself; by default only where the model needs a whole clip and says how long. `window_hop`: how many
    frames the window moves by, by default about half of it. `time_axis`: which axis of the model's inputs is time, where that
    is not clear from their shape. `front_end`: what makes the frames that the model reads of the stream's samples.

    Raises UnsupportedLayerError, with layer, reason and remedy, for what does not stream exactly, GraphError where shapes
    or times do not fit, and what `load_keras` raises.
    """
    if isinstance(model, (str, os.PathLike)):
        model = load_keras(model)
    info, model = info or NetInfo(name=model.name), functional(model)
    if front_end is None:
        walk = walked(model, clip_frames, time_axis)
    else:
        walk, clip_frames = _behind(front_end, model, clip_frames, time_axis)
    nodes, shape, length_class = reached(walk.nodes, walk.output), walk.input_shape, 0
    if walk.clip is None:
        # A model of a fixed length pads for that length; one of any length is taken to get multiples of its strides, if
        # its reshapes, which must come out even, let it.
        period = total_period(nodes)
        length_class = _even_class(nodes, shape, period) if walk.frames is None else walk.frames % period
    info = replace(info, time_axis=walk.time_axis)
    if front_end is not None:
        length_class, own = front_length_class(front_end, length_class, total_period(nodes)), len(nodes)
        nodes, shape = put_before(front_end, None if walk.clip is None else clip_frames, nodes, shape), (1,)
        info = replace(info, rate=front_end.rate, front_nodes=len(nodes) - own)
    if walk.clip is not None:
        clip = Clip(clip_frames or walk.clip, window_hop or 1)
        graph = Graph(nodes, shape, 0, info, clip)
        return graph if window_hop is not None else replace(graph, clip=Clip(clip.frames, _usual_hop(graph)))
    if window_hop is not None:
        raise GraphError(
            f"window_hop is {window_hop}, but the net streams by itself", "leave it out, or give clip_frames"
        )
    return Graph(nodes, shape, length_class, info)


def _even_class(nodes: tuple[Node, ...], shape: Shape, period: int) -> int:
    """Return the first length class for which all frames that are stacked come out even, 0 where none does."""
    stacks = [node for node in nodes if isinstance(node.layer, Stack)]
    for length_class in range(min(period, MOST_CLASSES)) if stacks else ():
        totals = Graph(nodes, shape, length_class).totals(length_class + period * -(-LONG // period))
        if all(totals[node.inputs[0]] % node.layer.frames == 0 for node in stacks):
            return length_class
    return 0


def walked(model: object, clip_frames: int | None, time_axis: int | None) -> Walk:
    """Walk through a functional model: as one that streams, or, given or needing a clip, as a clip net."""
    if clip_frames is None:
        try:
            return Walk(model, None, time_axis)
        except NeedsClipError:
            clip_frames = input_frames(model, time_axis)
            if clip_frames is None:
                raise
    return Walk(model, clip_frames, time_axis)


def _behind(
    front_end: FrontEnd, model: object, clip_frames: int | None, time_axis: int | None
) -> tuple[Walk, int | None]:
    """Walk through a model behind a front end; return also how many samples a clip has, None for a net that streams."""
    wanted = input_frames(model, time_axis)
    if clip_frames is not None:
        given = int(framing(front_end).total(clip_frames))
        if given != wanted and wanted is not None:
            raise GraphError(
                f"a clip of {clip_frames} samples makes {given} frames, but the model takes {wanted}",
                f"use --clip-frames {samples(front_end, wanted)}",
            )
        if given < 1:
            raise GraphError(
                f"a clip of {clip_frames} samples is too short for one frame", f"use at least {samples(front_end, 1)}"
            )
        return Walk(model, given, time_axis), clip_frames
    walk = walked(model, None, time_axis)
    try:
        if walk.clip is None:
            sketched(front_end, None)
            return walk, None
    except NeedsClipError:
        if wanted is None:
            raise
        walk = Walk(model, wanted, time_axis)
    return walk, samples(front_end, walk.clip)


def _usual_hop(graph: Graph) -> int:
    """Return about half a clip, in whole steps of the strided layers that windows can share."""
    frames = graph.clip.frames
    hops = [timing.hop for name, timing in graph.timings.items() if graph.lengths[name] >= STEPS_OF_A_HOP]
    step = max([1, *(int(hop) for hop in hops if hop.denominator == 1)])
    return max(step, frames // 2 // step * step)


def _refuse_bomb(path: Path) -> None:
    """Refuse an archive that would unpack to more than any net needs, before anything unpacks it."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError):
        return  # no archive (a .h5 file), or a damaged one: Keras says so
    if unpacked > max(MAX_UNPACKED_BYTES, 20 * path.stat().st_size):
        raise NetFileError(f"{path}: would unpack to {unpacked >> 20} MiB", "such a file is no net, but an attack")
