"""A graph as tables of numbers: what the compiled interpreter reads.

Rules. Every tensor of the graph is a *line*: a buffer of frames, channels last, inside one float32 arena. Line 0 holds
the stream's own frames, line k+1 what node k makes. Frames are numbered from the session's start for ever; a line knows
the number of frames it has ever held (COUNT) and which one stands at its start (BASE). Frames with negative numbers are
the zeros that Keras pads with.

A layer reads its window straight out of the line before it, so history is kept exactly once, and a line is as long as
its longest-looking reader needs (HISTORY) plus room for several chunks, so that moving the history back to the
front stays rare.
"""

from dataclasses import dataclass

import numpy as np

from streamcnn.graph.graph import INPUT, Graph
from streamcnn.graph.layers import ACTIVATIONS, Activation, Conv1D, Dense, Layer

CHUNK = (
    256  # input frames that run through all layers at a time: small enough for the L1 cache, large enough for vectors
)

# Columns of the table of nodes.
OP, LINE_IN, LINE_OUT, UP, DOWN, OLDEST, NEWEST, TAPS, DILATION, C_IN, C_OUT, KERNEL, BIAS, FUNCTION = range(14)
OPS_WIDTH = 14
# Columns of the table of lines, which never changes ...
OFFSET, CHANNELS, CAPACITY, HISTORY = range(4)
LINES_WIDTH = 4
# ... and of the counters, which do.
COUNT, BASE = range(2)
COUNTERS_WIDTH = 2

CONV, POINTWISE = range(2)
NO_BIAS = -1


@dataclass(frozen=True)
class Plan:
    """The tables of one graph: `ops` and `lines` int64, `weights` float32, and how large the changing arrays are."""

    ops: np.ndarray
    lines: np.ndarray
    weights: np.ndarray
    arena_size: int
    scratch_size: int


def plan(graph: Graph) -> Plan:
    """Lay out a graph's weights, lines and operations."""
    weights = _Arena()
    number = {INPUT: 0} | {node.name: k + 1 for k, node in enumerate(graph.nodes)}
    ops = np.zeros((len(graph.nodes), OPS_WIDTH), np.int64)
    lines = np.zeros((len(graph.nodes) + 1, LINES_WIDTH), np.int64)
    for k, node in enumerate(graph.nodes):
        row, rule = ops[k], node.layer.rule
        row[LINE_IN], row[LINE_OUT] = number[node.input], k + 1
        row[UP], row[DOWN], row[OLDEST], row[NEWEST] = rule.up, rule.down, rule.oldest, rule.newest
        row[C_IN], row[C_OUT] = graph.channels[node.input], graph.channels[node.name]
        _operation(row, node.layer, weights)
        reader = max(frames - rule.oldest_read(rule.ready(frames)) for frames in _one_period(rule.up, rule.down))
        lines[row[LINE_IN], HISTORY] = max(lines[row[LINE_IN], HISTORY], reader)
    offset = 0
    for line, name in enumerate(number):
        history, channels = int(lines[line, HISTORY]), graph.channels[name]
        capacity = history + max(history, 4 * CHUNK)
        lines[line] = offset, channels, capacity, history
        offset += capacity * channels
    widest = max(graph.channels.values())
    return Plan(ops, lines, weights.joined(), offset, max(widest, CHUNK))


def initial_counters(lines: np.ndarray) -> np.ndarray:
    """Return the counters of a session's start: no frames yet, and HISTORY zeros before them."""
    counters = np.zeros((len(lines), COUNTERS_WIDTH), np.int64)
    counters[:, BASE] = -lines[:, HISTORY]
    return counters


def _operation(row: np.ndarray, layer: Layer, weights: "_Arena") -> None:
    match layer:
        case Conv1D():
            row[OP], row[TAPS], row[DILATION] = CONV, layer.taps, layer.dilation
            row[KERNEL], row[BIAS] = weights.add(layer.kernel), weights.add(layer.bias)
        case Dense():
            row[OP], row[TAPS], row[DILATION] = CONV, 1, 1
            row[KERNEL], row[BIAS] = weights.add(layer.kernel), weights.add(layer.bias)
        case Activation():
            row[OP] = POINTWISE
        case _:
            raise AssertionError(f"the compiler does not know {layer.kind}")
    row[FUNCTION] = ACTIVATIONS.index(layer.activation)


def _one_period(up: int, down: int) -> range:
    """Numbers of input frames over which a reader's distance to its oldest frame repeats."""
    return range(1000 * up * down, 1001 * up * down)


class _Arena:
    """Collects arrays end to end and tells where each begins."""

    def __init__(self):
        self._parts: list[np.ndarray] = []
        self._size = 0

    def add(self, array: np.ndarray | None) -> int:
        if array is None:
            return NO_BIAS
        start = self._size
        self._parts.append(array.ravel())
        self._size += array.size
        return start

    def joined(self) -> np.ndarray:
        return np.concatenate(self._parts) if self._parts else np.zeros(1, np.float32)
