"""Checks that a net streams what its model computes, before anybody relies on it.

The engine streams a signal at several block sizes; the outputs must be the same bits at each, and equal to the model's answer
to the whole signal within law 1: the greater of 1e-5 of the output's scale and twice the model's own error against a
float64 reference. Where they differ, the first layer that does is named.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from streamcnn.engine import Engine
from streamcnn.forward import reference_tensors
from streamcnn.graph.graph import Graph
from streamcnn.graph.layer import size

BLOCKS = (1, 7, 64, 1000)
RELATIVE_TOLERANCE = 1e-5
SEED = 20
LEAST_FRAMES = 2000

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

    `oracle`: None compares with the float64 reference alone.
    """
    exact = reference_tensors(graph, signal)
    expected = exact if oracle is None else oracle(signal)
    output, truth = expected[graph.output_name], exact[graph.output_name]
    streams = [_streamed(graph, signal, block) for block in BLOCKS]
    got = streams[-1]
    same_length = got.shape == output.shape
    errors = np.abs(got - output) if same_length else np.array([np.inf])
    allowed = _allowed(output, truth) if same_length else 0.0
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
        diverging=_first_diverging(graph, expected, exact),
        decisions=decisions,
    )


def random_signal(graph: Graph, fixed: int | None = None) -> np.ndarray:
    """Return noise for a check: of the graph's length class, long enough for every layer, float32.

    `fixed`: the model's own length, where it takes no other.
    """
    frames = fixed or _length(graph, max(LEAST_FRAMES, 2 * (graph.receptive_field or 0)))
    return np.random.default_rng(SEED).normal(size=(frames, size(graph.input_shape))).astype(np.float32)


def fitted(graph: Graph, signal: np.ndarray, fixed: int | None = None) -> np.ndarray:
    """Return a user's signal cut to a length that the model takes: its own, or the longest of the graph's class."""
    if fixed is not None:
        return np.resize(signal, (fixed, signal.shape[1])) if len(signal) < fixed else signal[:fixed]
    return signal[: len(signal) - (len(signal) - graph.length_class) % graph.period]


def _length(graph: Graph, least: int) -> int:
    frames = graph.length_class + graph.period * -(-least // graph.period)
    while min(graph.totals(frames).values()) < 1:
        frames += graph.period
    return frames


def _streamed(graph: Graph, signal: np.ndarray, block: int) -> np.ndarray:
    engine = Engine(graph, prewarm=False)
    blocks = np.split(signal, range(block, len(signal), block))
    return np.concatenate([*(engine.process(part) for part in blocks), engine.flush()])


def _allowed(output: np.ndarray, exact: np.ndarray) -> float:
    own = np.max(np.abs(output - exact), initial=0) if output.shape == exact.shape else 0.0
    scale = np.max(np.abs(exact), initial=0)
    return float(max(RELATIVE_TOLERANCE * max(1.0, scale), 2 * min(own, 100 * RELATIVE_TOLERANCE * max(1.0, scale))))


def _first_diverging(
    graph: Graph, expected: dict[str, np.ndarray], exact: dict[str, np.ndarray]
) -> tuple[str, float, float] | None:
    """Return the first node whose reference is not what the model computes there."""
    for node in graph.nodes:
        theirs, ours = expected.get(node.name), exact[node.name]
        if theirs is None:
            continue
        if theirs.shape != ours.shape:
            return node.name, float("inf"), 0.0
        error = float(np.max(np.abs(theirs - ours), initial=0))
        # A float32 model is allowed a hundred times the tolerance here: its own rounding grows from layer to layer.
        allowed = 100 * RELATIVE_TOLERANCE * max(1.0, float(np.max(np.abs(ours), initial=0)))
        if not error <= allowed:
            return node.name, error, allowed
    return None
