"""A front end's steps as layers, and a model behind them.

Theory. A front end turns samples into frames, and what comes before the model's first layer is in frames: so a model of F
frames sees a clip of as many samples as make F frames, and whatever the front end does at the ends of a signal it does at
the ends of each window.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from streamcnn.documents import Record
from streamcnn.errors import GraphError, StreamcnnError
from streamcnn.graph import layers as L
from streamcnn.graph.graph import INPUT, Node
from streamcnn.graph.layer import Shape, size
from streamcnn.graph.timing import FrameRule
from streamcnn.importers.front_end import (
    AmplitudeToDb,
    FrontEnd,
    LibrosaMel,
    LibrosaMfcc,
    LibrosaStft,
    Peak,
    PowerToDb,
    Preemphasis,
    Standardize,
    Step,
    TfLog,
    TfMel,
    TfMfcc,
    TfStft,
)
from streamcnn.importers.keras_context import NeedsClipError
from streamcnn.importers.keras_refusals import CLIP_REMEDY
from streamcnn.importers.scales import librosa_mel, tf_mel, tf_window
from streamcnn.importers.sketch import Place, Sketch
from streamcnn.importers.spectra import DB, centered, check_mirrored, clamped, logarithm, peak
from streamcnn.optional import scipy_module

PREFIX = "front/"  # of the names of a front end's nodes
FRAMING = (LibrosaMel, LibrosaStft, TfStft)  # the steps that make frames of samples


def framing(front: FrontEnd) -> FrameRule:
    """Return how a front end makes frames of samples."""
    for number, step in enumerate(front.steps):
        if isinstance(step.function[1], FRAMING):
            sketch = Sketch((1,), None, clip=False)
            _made(sketch, Place(INPUT, 1, 2), number, step, front.rate)
            return next(iter(sketch.nodes.values())).layer.rule(0)
    return FrameRule()


def samples(front: FrontEnd, frames: int) -> int:
    """Return how many samples make so many frames: as few as possible, but whole steps where the last ones overlap the end."""
    rule = framing(front)
    whole = rule.oldest == 0 and rule.tail == rule.down - 1
    return max(1, rule.down * frames - (0 if whole else rule.tail))


def length_class(front: FrontEnd, model_class: int, model_period: int) -> int:
    """Return the length class, in samples, of a net whose model takes frames of a length class."""
    rule = framing(front)
    return 0 if model_period == 1 else (model_class * rule.down - rule.tail) % (model_period * rule.down)


def put_before(front: FrontEnd, clip_frames: int | None, nodes: tuple[Node, ...], shape: Shape) -> tuple[Node, ...]:
    """Return the nodes of a front end and, behind them, those of a model that reads frames of a shape.

    `clip_frames`: the samples of a clip. Raises what `sketched` does, and GraphError where the frames do not fit the model.
    """
    sketch, place = sketched(front, clip_frames)
    place, made = sketch.frames(place, PREFIX + "frames"), sketch.shape(place)
    if size(made) != size(shape):
        raise GraphError(
            f"the front end gives frames of the shape {made}, the model reads {shape}",
            "give it the number of bands that the model was trained with",
        )
    if made != shape or not sketch.nodes:
        place = replace(place, node=sketch.add(PREFIX + "shape", L.Reshape(shape=shape), place.node))
    behind = [replace(n, inputs=tuple(place.node if i == INPUT else i for i in n.inputs)) for n in nodes]
    return (*sketch.nodes.values(), *behind)


def sketched(front: FrontEnd, clip_frames: int | None) -> tuple[Sketch, Place]:
    """Return the layers of a front end, on a stream or on clips of so many samples, and where its output stands.

    Raises NeedsClipError where a step has to know the whole signal, and GraphError where a step does not fit what comes
    before it; both name the step.
    """
    sketch, place = Sketch((1,), clip_frames, clip=clip_frames is not None), Place(INPUT, 1, 2)
    for number, step in enumerate(front.steps):
        place = _made(sketch, place, number, step, front.rate)
    return sketch, place


def _made(sketch: Sketch, place: Place, number: int, step: Step, rate: int) -> Place:
    """Add one step's layers; an error in it names the step."""
    name, settings = step.function
    try:
        return MAKERS[type(settings)](sketch, PREFIX + name, place, settings, rate)
    except NeedsClipError:
        raise
    except StreamcnnError as error:
        raise GraphError(f"front end, steps[{number}] ({name}): {error.message}", error.remedy) from error


def _preemphasis(sketch: Sketch, name: str, place: Place, step: Preemphasis, _rate: int) -> Place:
    start = (1.0, 0.0) if step.zi == 0 else (3.0, -1.0)  # librosa's state is 2 x[0] - x[1], to which x[0] is added
    return replace(place, node=sketch.add(name, L.Preemphasis(coefficient=step.coef, start=start), place.node))


def _spectrum(
    sketch: Sketch, name: str, place: Place, spectrum: Callable[[str], L.Spectrum], power: float | None
) -> Place:
    """Add a transform of a waveform, and raise its magnitudes to a power."""
    if sketch.shape(place) != (1,):
        raise GraphError(f"it needs a waveform, gets frames of the shape {sketch.shape(place)}", "put it first")
    by = "complex" if power is None else "power" if power == 2 else "magnitude"
    record = spectrum(by)
    if record.padding == "reflect":
        check_mirrored(name, sketch, place, record.span)
    made = Place(sketch.add(name, record, place.node), 1, 3 if power is None else 2)
    if power in (None, 1, 2):
        return made
    return replace(made, node=sketch.add(f"{name}/power", _power(power), made.node))


def _power(exponent: float) -> L.Layer:
    return L.Activation(activation="power", settings=(exponent, 0.0))


def _librosa_window(step: LibrosaStft | LibrosaMel) -> np.ndarray:
    length = step.win_length or step.n_fft
    if length > step.n_fft:
        raise GraphError(f"win_length is {length}, more than n_fft, {step.n_fft}", "give it at most n_fft")
    signal = scipy_module("signal")
    try:
        return centered(signal.get_window(step.window, length, fftbins=True), step.n_fft)
    except ValueError as error:
        raise GraphError(f"window '{step.window}': {error}", "use one of scipy.signal.get_window's") from error


def _librosa_stft(sketch: Sketch, name: str, place: Place, step: LibrosaStft | LibrosaMel, _rate: int) -> Place:
    window = _librosa_window(step)
    hop = step.hop_length or max(1, (step.win_length or step.n_fft) // 4)
    padding = {"constant": "zeros", "reflect": "reflect"}[step.pad_mode] if step.center else "valid"
    make = lambda by: L.Spectrum(window=window, hop=hop, fft_length=step.n_fft, padding=padding, by=by)  # noqa: E731
    return _spectrum(sketch, name, place, make, step.power)


def _librosa_mel(sketch: Sketch, name: str, place: Place, step: LibrosaMel, rate: int) -> Place:
    made = _librosa_stft(sketch, f"{name}/stft", place, step, rate)
    high_hz = rate / 2 if step.fmax is None else step.fmax
    slaney = step.norm is not None
    matrix = librosa_mel(rate, step.n_fft, step.n_mels, step.fmin, high_hz, htk=step.htk, slaney_norm=slaney)
    return _product(sketch, name, made, matrix)


def _product(sketch: Sketch, name: str, place: Place, matrix: np.ndarray) -> Place:
    return replace(place, node=sketch.add(name, L.Dense(kernel=matrix), place.node))


def _decibels(factor: int) -> Callable[..., Place]:
    """Return the maker of decibels of powers (`factor` 1) or of amplitudes (2)."""

    def make(sketch: Sketch, name: str, place: Place, step: PowerToDb | AmplitudeToDb, _rate: int) -> Place:
        scale = factor * DB
        reference = 1.0 if step.ref == "max" else step.ref
        record = logarithm(step.amin, scale, -scale * float(np.log(max(reference, step.amin))))
        if factor == 2:  # of amplitudes the sign does not count
            absolute = L.Activation(activation="relu", settings=(-1.0, float("inf"), 0.0))
            place = replace(place, node=sketch.add(f"{name}/absolute", absolute, place.node))
        made = replace(place, node=sketch.add(name, record, place.node))
        if step.ref == "max":
            if not sketch.clip:
                raise NeedsClipError(name, "it measures against the maximum of the whole signal", CLIP_REMEDY)
            # The record's own reference is 1, or the floor, if that is higher; the maximum is on the same scale.
            node = sketch.add(f"{name}/relative", L.Merge(by="subtract"), made.node, peak(sketch, name, made))
            made = replace(made, node=node)
        if step.top_db is None:
            return made
        return clamped(sketch, name, made, step.top_db, step.amin**factor)

    return make


def _librosa_mfcc(sketch: Sketch, name: str, place: Place, step: LibrosaMfcc, _rate: int) -> Place:
    bands = sketch.shape(place)[-1]
    matrix = _dct(bands, step.n_mfcc, step.dct_type, step.norm)
    if step.lifter:
        matrix = matrix * (1 + step.lifter / 2 * np.sin(np.pi * np.arange(1, 1 + step.n_mfcc) / step.lifter))
    return _product(sketch, name, place, matrix)


def _dct(bands: int, count: int, kind: int, norm: str | None) -> np.ndarray:
    """Return the matrix (bands, count) of a discrete cosine transform."""
    if count > bands:
        raise GraphError(f"{count} coefficients of {bands} bands", f"take at most {bands}")
    try:
        return scipy_module("fft").dct(np.eye(bands), type=kind, norm=norm, axis=1)[:, :count]
    except (ValueError, RuntimeError) as error:
        raise GraphError(
            f"a cosine transform of type {kind} of {bands} bands: {error}", "put it behind mel bands"
        ) from error


def _tf_stft(sketch: Sketch, name: str, place: Place, step: TfStft, _rate: int) -> Place:
    length = step.fft_length or 1 << (step.frame_length - 1).bit_length()
    if length < step.frame_length:
        raise GraphError(
            f"fft_length is {length}, less than frame_length, {step.frame_length}", "give it at least frame_length"
        )
    window, padding = tf_window(step.window, step.frame_length), "end" if step.pad_end else "valid"
    make = lambda by: L.Spectrum(  # noqa: E731
        window=window, hop=step.frame_step, fft_length=length, padding=padding, by=by
    )
    return _spectrum(sketch, name, place, make, step.power)


def _tf_mel(sketch: Sketch, name: str, place: Place, step: TfMel, rate: int) -> Place:
    bins = sketch.shape(place)[-1]
    if bins < 2:
        raise GraphError(f"it needs a spectrum, gets frames of {bins} value", "put tf.signal.stft before it")
    edges = step.lower_edge_hertz, step.upper_edge_hertz
    return _product(sketch, name, place, tf_mel(rate, bins, step.num_mel_bins, *edges))


def _tf_log(sketch: Sketch, name: str, place: Place, step: TfLog, _rate: int) -> Place:
    values = size(sketch.shape(place))
    added = L.Affine(scale=np.ones(values), offset=np.full(values, step.offset))
    chain = [("/offset", added), ("", logarithm(float(np.finfo(np.float32).tiny)))]
    return replace(place, node=sketch.chain(name, chain, place.node))


def _tf_mfcc(sketch: Sketch, name: str, place: Place, step: TfMfcc, _rate: int) -> Place:
    bands = sketch.shape(place)[-1]
    return _product(sketch, name, place, _dct(bands, step.coefficients or bands, 2, None) / np.sqrt(2 * bands))


def _of_clip(sketch: Sketch, name: str, place: Place, record: Callable[[int], L.Layer], *, over_time: bool) -> Place:
    """Normalize a whole clip, or each value of a frame over the clip's time."""
    if not sketch.clip:
        raise NeedsClipError(name, "it brings a whole clip to scale", CLIP_REMEDY)
    whole = sketch.vector(place, name)
    order = (*range(1, whole.rank), 0) if over_time else tuple(range(whole.rank))
    moved = sketch.permuted(whole, name, order)
    width = sketch.dims(moved)[-1] if over_time else size(sketch.dims(moved))
    scaled = replace(moved, node=sketch.add(name, record(width), moved.node))
    back = sketch.permuted(scaled, f"{name}/back", tuple(np.argsort(order).tolist()))
    return sketch.frames(back, name)


def _standardize(sketch: Sketch, name: str, place: Place, step: Standardize, _rate: int) -> Place:
    make = lambda width: L.Normalize(by="layer", width=width, epsilon=step.epsilon)  # noqa: E731
    return _of_clip(sketch, name, place, make, over_time=step.over == "time")


def _peak(sketch: Sketch, name: str, place: Place, step: Peak, _rate: int) -> Place:
    make = lambda width: L.Normalize(by="peak", width=width, epsilon=step.threshold)  # noqa: E731
    return _of_clip(sketch, name, place, make, over_time=False)


MAKERS: dict[type[Record], Callable[..., Place]] = {
    AmplitudeToDb: _decibels(2),
    LibrosaMel: _librosa_mel,
    LibrosaMfcc: _librosa_mfcc,
    LibrosaStft: _librosa_stft,
    Peak: _peak,
    PowerToDb: _decibels(1),
    Preemphasis: _preemphasis,
    Standardize: _standardize,
    TfLog: _tf_log,
    TfMel: _tf_mel,
    TfMfcc: _tf_mfcc,
    TfStft: _tf_stft,
}
