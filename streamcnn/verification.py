"""Checks that a net streams what its model computes, before anybody relies on it.

The engine streams a signal at several block sizes; the outputs must be the same bits at each, and equal to the model's
answer to the whole signal within law 1: the greater of 1e-5 of the output's scale and what float32 must be expected to be
off, measured on the float64 reference. Where they differ, the first layer that does is named.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from streamcnn.engine import Engine
from streamcnn.errors import InputError, VerificationError
from streamcnn.forward import reference, reference_tensors
from streamcnn.graph.graph import Graph
from streamcnn.graph.layer import size
from streamcnn.importers.keras_oracle import OUTPUT, keras_tensors

BLOCKS = (1, 7, 64, 1000)
RELATIVE_TOLERANCE = 1e-5
ROUNDINGS = 4  # two computations, each adding up in an order of its own
SEED = 20
LEAST_FRAMES = 2000
OWN_MODEL = "verify a net against the model that it was made of"

Oracle = Callable[[np.ndarray], dict[str, np.ndarray]]  # a whole signal -> tensors by the names of the graph's nodes


@dataclass(frozen=True)
class Verdict:
    """What one signal showed. Errors are absolute, on the output; `allowed` is the greatest that is.

    `wanted_outputs`: how many frames the model gives. `diverging`: the first layer whose own output is off, with its
    error and what is allowed there, where there is one. `decisions`: output frames on different sides of the threshold,
    None without a threshold.
    """

    signal: str
    frames: int
    outputs: int
    wanted_outputs: int
    max_error: float
    mean_error: float
    allowed: float
    same_bits: bool
    same_length: bool
    diverging: tuple[str, float, float] | None
    decisions: int | None

    @property
    def passed(self) -> bool:
        """Whether the net may be relied on, as far as this signal shows."""
        return self.same_length and self.same_bits and self.max_error <= self.allowed


def check_signal(graph: Graph, oracle: Oracle | None, signal: np.ndarray, name: str) -> Verdict:
    """Stream one signal, float32 (frames, values of a frame), and compare it with the model's answer.

    `oracle`: None compares with the float64 reference alone. Raises VerificationError where net and model have other shapes.
    """
    exact = reference_tensors(graph, signal)
    truth = exact[graph.output_name].reshape(-1, graph.output_channels)
    expected = {**exact, OUTPUT: truth} if oracle is None else oracle(signal)
    width = expected[OUTPUT].shape[1]
    if width % graph.output_channels or (graph.clip is None and width != graph.output_channels):
        raise VerificationError(
            f"net '{graph.info.name}' gives {graph.output_channels} values at a time, the model {width}", OWN_MODEL
        )
    output = expected[OUTPUT].reshape(-1, graph.output_channels)
    streams = [_streamed(graph, signal, block) for block in BLOCKS]
    got = streams[-1]
    same_length = got.shape == output.shape
    errors = np.abs(got - output) if same_length else np.array([np.inf])
    rounding = float32_rounding(graph, signal, exact)
    allowed = allowed_error(truth, rounding[graph.output_name]) if same_length else 0.0
    threshold = graph.info.threshold
    decisions = None
    if threshold is not None and same_length:
        decisions = int(((got >= threshold) != (output >= threshold)).any(axis=1).sum())
    return Verdict(
        signal=name,
        frames=len(signal),
        outputs=len(got),
        wanted_outputs=len(output),
        max_error=float(np.max(errors, initial=0)),
        mean_error=float(errors.mean()) if errors.size else 0.0,
        allowed=allowed,
        same_bits=all(np.array_equal(got, other, equal_nan=True) for other in streams),
        same_length=same_length,
        diverging=_first_diverging(graph, expected, exact, rounding),
        decisions=decisions,
    )


def keras_oracle(model: object, graph: Graph) -> Oracle:
    """Return the oracle that a live Keras model is for the net made of it: the model behind the net's own front end.

    The oracle raises VerificationError where the model does not take what the net takes.
    """

    def tensors(signal: np.ndarray) -> dict[str, np.ndarray]:
        try:
            return keras_tensors(model, model_inputs(graph, signal), graph)
        except ValueError as error:  # what Keras and NumPy say of shapes
            reason = str(error).splitlines()[0]
            shape = "x".join(map(str, graph.input_shape))
            raise VerificationError(
                f"the model does not take frames of {shape}, as net '{graph.info.name}' does ({reason})", OWN_MODEL
            ) from error

    return tensors


def model_inputs(graph: Graph, signal: np.ndarray) -> np.ndarray:
    """Return what the model of a net sees of a signal, float32 (windows, frames, values of a frame).

    The whole signal, or each window of a clip net, and where there is a front end, what its reference makes of that.
    """
    front, clip = graph.front_end, graph.clip
    if front is not None:
        frames = reference(front, signal)
        length = len(frames) if clip is None else front.lengths[front.output_name]
        return frames.reshape(-1 if clip else 1, length, size(front.shapes[front.output_name])).astype(np.float32)
    starts = [0] if clip is None else range(0, len(signal) - clip.frames + 1, clip.hop)
    length = len(signal) if clip is None else clip.frames
    return np.stack([signal[start : start + length] for start in starts]).astype(np.float32)


def random_signal(graph: Graph, fixed: int | None = None) -> np.ndarray:
    """Return noise for a check: of the graph's length class, long enough for every layer, float32.

    `fixed`: the model's own length, where it takes no other.
    """
    frames = fixed or whole_length(graph, max(LEAST_FRAMES, 2 * (graph.receptive_field or 0)))
    return np.random.default_rng(SEED).normal(size=(frames, size(graph.input_shape))).astype(np.float32)


def fitted(graph: Graph, signal: np.ndarray, fixed: int | None = None) -> np.ndarray:
    """Return a user's signal cut to a length that the model takes: its own, or the longest of the graph's class.

    Raises InputError where it is too short to give an output.
    """
    if fixed is not None:
        return np.resize(signal, (fixed, signal.shape[1])) if len(signal) < fixed else signal[:fixed]
    clip = graph.clip
    if clip is not None and len(signal) >= clip.frames:
        return signal[: len(signal) - (len(signal) - clip.frames) % clip.hop]
    fitting = signal[: len(signal) - (len(signal) - graph.length_class) % graph.period]
    if len(fitting) == 0 or min(graph.totals(len(fitting)).values()) < 1:
        raise InputError(
            f"{len(signal)} frames are too few to give net '{graph.info.name}' one output",
            f"give at least {whole_length(graph, 1) if clip is None else clip.frames}",
        )
    return fitting


def whole_length(graph: Graph, least: int) -> int:
    """Return a length of the graph's class, of at least so many frames, for which every layer has some output."""
    frames = graph.length_class + graph.period * -(-least // graph.period)
    while min(graph.totals(frames).values()) < 1:
        frames += graph.period
    return frames


def _streamed(graph: Graph, signal: np.ndarray, block: int) -> np.ndarray:
    engine = Engine(graph, prewarm=False)
    blocks = np.split(signal, range(block, len(signal), block))
    return np.concatenate([*(engine.process(part) for part in blocks), engine.flush()])


def float32_rounding(graph: Graph, signal: np.ndarray, exact: dict[str, np.ndarray]) -> dict[str, float]:
    """Return, for each tensor, how far off the reference is when it computes in float32.

    `exact`: what `reference_tensors` gives for the signal, in the graph's order.

    No float32 computation of the net can be expected to be closer, Keras' own neither. It is measured on the reference, not
    on the model that is checked: a model that is another one must not widen its own tolerance.
    """
    rounded, largest, rounding = reference_tensors(graph, signal, np.float32), 0.0, {}
    for name, values in exact.items():
        # Within a layer large values may cancel to small ones: what float32 loses of them is not seen between layers.
        largest = max(largest, float(np.max(np.abs(values), initial=0)))
        measured = float(np.max(np.abs(rounded[name] - values), initial=0))
        rounding[name] = max(measured, float(np.finfo(np.float32).eps) / 2 * largest)
    return rounding


def allowed_error(exact: np.ndarray, rounding: float) -> float:
    """Return the error that law 1 allows: 1e-5 of the output's scale, or what float32 must be expected to be off."""
    return max(RELATIVE_TOLERANCE * float(np.max(np.abs(exact), initial=0)), ROUNDINGS * rounding)


def _first_diverging(
    graph: Graph, expected: dict[str, np.ndarray], exact: dict[str, np.ndarray], rounding: dict[str, float]
) -> tuple[str, float, float] | None:
    """Return the first node whose reference is not what the model computes there."""
    for node in graph.nodes:
        theirs, ours = expected.get(node.name), exact[node.name]
        if theirs is None:
            continue
        if theirs.shape != ours.shape:
            return node.name, float("inf"), 0.0
        error, allowed = float(np.max(np.abs(theirs - ours), initial=0)), allowed_error(ours, rounding[node.name])
        if not error <= allowed:
            return node.name, error, allowed
    return None
