"""Spectra as records, whoever asks for them: windows, mel scales, decibels, and clamping below a clip's maximum.

Places are those of a `Sketch`, and the values of a frame are worked on along its last axis.
"""

import math
from dataclasses import replace

import numpy as np

from streamcnn.errors import GraphError
from streamcnn.graph import layers as L
from streamcnn.graph.layer import size
from streamcnn.importers.keras_context import NeedsClipError
from streamcnn.importers.keras_refusals import CLIP_REMEDY
from streamcnn.importers.sketch import Place, Sketch

LARGEST = float(np.finfo(np.float32).max)
DB = 10 / math.log(10)  # times the natural logarithm of a power


def centered(window: np.ndarray, length: int) -> np.ndarray:
    """Return a window in the middle of a frame of `length` samples, the odd zero behind it."""
    left = (length - len(window)) // 2
    return np.pad(window, (left, length - len(window) - left))


def check_mirrored(name: str, sketch: Sketch, place: Place, fft_length: int) -> None:
    """Raise GraphError where a clip is too short to be mirrored by half a frame."""
    frames = sketch.length(place)
    if sketch.clip and frames <= fft_length // 2:
        raise GraphError(
            f"layer '{name}': a clip of {frames} samples cannot be mirrored by {fft_length // 2} at its ends",
            f"use a clip of more than {fft_length // 2} samples",
        )


def logarithm(floor: float, scale: float = 1.0, offset: float = 0.0) -> L.Layer:
    """Return scale * log(max(x, floor)) + offset; the floor is a positive number."""
    if not floor > 0:
        raise GraphError(f"the logarithm's floor is {floor!r}, expected a number above 0", "silence has no logarithm")
    return L.Activation(activation="log", settings=(floor, scale, offset))


def decibels(floor: float, reference: float) -> L.Layer:
    """Return 10 * log10(max(x, floor)) - 10 * log10(max(|reference|, floor))."""
    return logarithm(floor, DB, -DB * math.log(max(abs(reference), floor)))


def never_clamps(range_db: float, floor: float) -> bool:
    """Whether no float32 power can lie so many decibels above the floor."""
    return range_db >= DB * (math.log(LARGEST) - math.log(floor))


def peak(sketch: Sketch, name: str, place: Place) -> str:
    """Return a node that repeats, in every frame, the largest value of the whole clip; needs a clip."""
    frames, shape = sketch.length(place), sketch.shape(place)
    values = size(shape)
    chain: list[tuple[str, L.Layer]] = [
        ("/peak/frames", L.Pooling1D(by="max", pool=frames, stride=frames)),
        ("/peak/values", L.Reshape(shape=(values, 1))),
        ("/peak", L.Pooling2D(by="max", pool=1, stride=1, band_pool=values, band_stride=values)),
        ("/peak/again", L.Repeat(times=frames)),
        ("/peak/spread", L.Select(indices=(0,) * values, shape=shape)),
    ]
    return sketch.chain(name, chain, place.node)


def clamped(sketch: Sketch, name: str, place: Place, range_db: float, floor: float) -> Place:
    """Raise what lies farther below the whole clip's maximum than `range_db` to that.

    Raises NeedsClipError outside of a clip, where that can ever happen.
    """
    if never_clamps(range_db, floor):
        return place
    if not range_db >= 0:
        raise GraphError(f"layer '{name}': top_db is {range_db!r}, expected a number from 0 on")
    if not sketch.clip:
        raise NeedsClipError(
            name,
            f"it clamps to {range_db:g} dB below the maximum of the whole signal, which no stream knows",
            f"train it with top_db=1e9, which never clamps, or {CLIP_REMEDY}",
        )
    values = size(sketch.shape(place))
    lowered = L.Affine(scale=np.ones(values), offset=np.full(values, -range_db))
    floor_node = sketch.add(f"{name}/floor", lowered, peak(sketch, name, place))
    return replace(place, node=sketch.add(f"{name}/clamped", L.Merge(by="maximum"), place.node, floor_node))
