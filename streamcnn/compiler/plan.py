"""A graph laid out as tables of numbers: what the compiled interpreter reads.

Theory. A layer reads its window straight out of the line before it, so history is kept exactly once. How much of a line must
be kept follows from the frame rules alone: when n input frames have been processed, a line holds counts(n) frames, and the
next frame that each of its readers makes reaches back to a known one. Everything repeats with the graph's period, so
looking at one period far from the start, and at the start itself, gives the exact bounds. Delay lines need no mechanism
of their own: a short path's line simply keeps its frames until the long path has caught up.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil

import numpy as np

from streamcnn.compiler import tables as T
from streamcnn.compiler.fusion import fused
from streamcnn.compiler.operations import Arena, Needs, operation
from streamcnn.compiler.partitions import Partition, is_tiny, partitions
from streamcnn.compiler.vector import LANES
from streamcnn.errors import GraphError
from streamcnn.graph import layers as L
from streamcnn.graph.graph import INPUT, Graph, Node
from streamcnn.graph.layer import size

# Input frames that run through all layers at a time: small enough for the L1 cache, large enough for vectors.
CHUNK = 256
SHORT = 1024  # values of history that are moved faster than any block is computed
MAX_VALUES = 2**28  # of history: a GiB of float32


@dataclass(frozen=True)
class Plan:
    """The tables of one graph: `nodes`, `links`, `lines` int64, `weights` float32, and how large the other arrays are.

    `lines`: as they are at a session's start. `constants`: float64, which stand before the float64 scratch. A block of n
    frames gives at most ceil(n / hop) + `output_slack` output frames. A clip net has a window of `length` frames that moves
    by `hop`, and the `steps` of each window on its `rows`.
    """

    nodes: np.ndarray
    links: np.ndarray
    lines: np.ndarray
    weights: np.ndarray
    arena_size: int
    constants: np.ndarray
    scratch_size: int
    wide_size: int
    chunk: int
    output_slack: int
    steps: np.ndarray = field(default_factory=lambda: np.zeros((0, T.STEP_COLUMNS), np.int64))
    rows: np.ndarray = field(default_factory=lambda: np.zeros((0, T.NODE_COLUMNS), np.int64))
    length: int = 0
    hop: int = 1


def plan(graph: Graph, chunk: int) -> Plan:
    """Lay out a graph's weights, lines and operations, for `chunk` input frames at a time."""
    _refuse_endless_history(graph)
    planar = chunk >= LANES and is_tiny(graph)
    made = fused(graph, sums=not planar)
    number = {name: k for k, name in enumerate([INPUT, *made])}
    cut = partitions(graph)
    lines, bursts = _lines(graph, number, chunk, cut)
    rows = Rows(graph, place_lines(lines, planar=planar), cut, planar=planar)
    for name, how in made.items():
        line = number[name]
        row = rows.add(
            how.node, line, [number[source] for source in how.node.inputs], int(bursts[line]), how.activation
        )
        if how.added is not None:
            rows.nodes[row][T.ADDED] = number[how.added]
    return rows.plan(rows.table, lines, chunk=chunk, output_slack=_output_slack(graph))


def give_room(line: np.ndarray, burst: int) -> None:
    """Fill in how many frames a line holds that gets at most `burst` frames at a time, and how it makes room for them.

    A move may not take longer than to write a burst, or a few hundred values: longer histories are mirrored.
    """
    least = line[T.HISTORY] + burst
    line[T.MIRRORED] = line[T.HISTORY] > burst and line[T.HISTORY] * line[T.CHANNELS] > SHORT
    line[T.SHIFT] = least if line[T.MIRRORED] else max(4 * burst, line[T.HISTORY])
    line[T.CAPACITY] = least + line[T.SHIFT]


def place_lines(lines: np.ndarray, *, planar: bool = False) -> int:
    """Fill in where lines lie, one after the other, and what they begin with; return the values they take in all."""
    end = 0
    for line in lines:
        channels, capacity = int(line[T.CHANNELS]), int(line[T.CAPACITY])
        run = -(-(capacity + LANES) // LANES) * LANES  # of one channel's frames, and a vector that may be stored behind
        line[T.FRAME_STEP], line[T.CHANNEL_STEP] = (4, 4 * run) if planar and channels > 1 else (4 * channels, 4)
        line[T.ORIGIN] = 4 * end + line[T.HISTORY] * line[T.FRAME_STEP]
        line[T.LIMIT] = capacity - line[T.HISTORY]
        end += run * channels
    return end


class Rows:
    """Fills the table of nodes; counts the arena's values, which the nodes' states come behind, and the scratch."""

    def __init__(self, graph: Graph, arena_size: int, cut: dict[str, Partition] | None = None, *, planar: bool = False):
        self.weights, self.links, self.constants = Arena(np.float32, LANES), Arena(np.int64), Arena(np.float64)
        self.arena_size, self.wide_size = arena_size, 0
        self.scratch_size = max(int(size(shape)) for shape in graph.shapes.values())
        self._graph, self._cut, self._planar = graph, cut or {}, planar
        self.nodes: list[np.ndarray] = []
        self._known: dict[str, tuple[np.ndarray, Needs]] = {}

    def add(self, node: Node, line: int, inputs: list[int], frames: int, activation: L.Activation | None = None) -> int:
        """Add a row for a node that makes a line from others, at most so many frames at a time; return its number.

        A node that is added twice, to work on other lines too, has its weights only once. `activation`: of another node, which
        it is to apply to its own frames.
        """
        graph, (row, needs) = self._graph, self._operation(node, activation)
        row = row.copy()
        row[T.LINKS], row[T.INPUTS] = self.links.add(inputs), len(inputs)
        row[T.LINE_IN], row[T.LINE_OUT] = inputs[0], line
        if needs.state:
            row[T.STATE] = self.arena_size
            self.arena_size += needs.state
        self.scratch_size = max(self.scratch_size, needs.scratch, frames * int(size(graph.shapes[node.name])))
        self.wide_size = max(self.wide_size, needs.wide)
        self.nodes.append(row)
        return len(self.nodes) - 1

    def plan(self, nodes: np.ndarray, lines: np.ndarray, **others: object) -> Plan:
        """Return the plan of these tables, with all that the rows hold and need."""
        return Plan(
            nodes=nodes,
            links=self.links.joined(),
            lines=lines,
            weights=self.weights.joined(),
            arena_size=self.arena_size,
            constants=self.constants.joined(),
            scratch_size=self.scratch_size,
            wide_size=self.wide_size,
            **others,
        )

    @property
    def table(self) -> np.ndarray:
        """All rows."""
        return np.array(self.nodes, np.int64).reshape(len(self.nodes), T.NODE_COLUMNS)

    def _operation(self, node: Node, activation: L.Activation | None) -> tuple[np.ndarray, Needs]:
        if node.name not in self._known:
            graph, row = self._graph, np.zeros(T.NODE_COLUMNS, np.int64)
            rule, shapes = graph.rules[node.name], [graph.shapes[name] for name in node.inputs]
            row[T.UP], row[T.DOWN], row[T.OLDEST], row[T.GRID] = rule.up, rule.down, rule.oldest, rule.grid
            row[T.NEWEST], row[T.RULE_TAIL] = rule.newest + rule.wait, rule.tail
            row[T.C_IN], row[T.C_OUT] = size(shapes[0]), size(graph.shapes[node.name])
            arenas = self.weights, self.links, self.constants
            shape = graph.shapes[node.name]
            self._known[node.name] = (
                row,
                operation(
                    row, node.layer, shapes, shape, arenas, activation, self._cut.get(node.name), planar=self._planar
                ),
            )
        return self._known[node.name]


def _refuse_endless_history(graph: Graph) -> None:
    """Raise GraphError where the windows reach so far back that no memory would hold what they see."""
    values = 0
    for node in graph.nodes:
        rule = graph.rules[node.name]
        reach = (abs(rule.oldest) + abs(rule.newest) + rule.wait + abs(rule.tail)) // rule.up
        values += reach * sum(size(graph.shapes[name]) for name in node.inputs)
    values += sum(size(shape) for shape in graph.shapes.values())
    refuse_beyond_memory(graph, values)


def refuse_beyond_memory(graph: Graph, values: int) -> None:
    """Raise GraphError where a net needs more values than any memory should hold."""
    if values > MAX_VALUES:
        raise GraphError(
            f"net '{graph.info.name}' needs {values * 4 >> 20} MiB for what it must remember, more than {MAX_VALUES * 4 >> 20}",
            "shorten its windows or its dilations",
        )


def _output_slack(graph: Graph) -> int:
    """Return by how much the output frames of a block can exceed its share, for a net that gives them in groups, or at once."""
    n = np.concatenate([[0], _one_period(graph)])
    ahead = graph.counts(n)[graph.output_name] * graph.hop - n
    return ceil(max(ahead.max() - ahead[1:].min(), ahead.max()) / Fraction(graph.hop))


def _one_period(graph: Graph) -> np.ndarray:
    """Return one period of numbers of input frames, so far from the start that all tensors have begun."""
    lead = max(t.first + t.delay for t in graph.timings.values()).__ceil__() + 1
    far = graph.period * (max(0, lead) // graph.period + 1)
    return np.arange(far, far + graph.period)


def _lines(
    graph: Graph, number: dict[str, int], chunk: int, cut: dict[str, Partition]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the table of the lines that tensors have by `number`, and how many frames each may get at a time."""
    n = np.concatenate([[0], _one_period(graph)])
    now, later, whole = graph.counts(n), graph.counts(n + chunk), graph.totals(n)
    first = graph.counts(chunk)
    lines = np.zeros((len(number), T.LINE_COLUMNS), np.int64)
    for node in graph.nodes:
        rule = graph.rules[node.name]
        for name in set(node.inputs) & set(number):
            line = lines[number[name]]
            kept = int(np.max(now[name] - rule.oldest_read(now[node.name]))) + rule.beyond
            beyond = int(np.max(rule.newest_read(whole[node.name] - 1) - (whole[name] - 1)))
            blocks = cut[node.name].history if node.name in cut else 0
            line[T.HISTORY] = max(line[T.HISTORY], kept, -rule.oldest_read(0), blocks)
            line[T.TAIL] = max(line[T.TAIL], beyond)
    bursts = np.zeros(len(number), np.int64)
    for name, k in number.items():
        line = lines[k]
        at_end = max(
            int(np.max(whole[name][1:] - now[name][1:])), int(whole[name][0])
        )  # at the start nothing has run yet
        bursts[k] = max(int(np.max(later[name] - now[name])), int(first[name]), at_end, 1)
        line[T.CHANNELS] = size(graph.shapes[name])
        give_room(line, max(int(bursts[k]), at_end + int(line[T.TAIL])))
    return lines, bursts
