"""A graph laid out as tables of numbers: what the compiled interpreter reads.

Theory. A layer reads its window straight out of the line before it, so history is kept exactly once. How much of a line must
be kept follows from the frame rules alone: when n input frames have been processed, a line holds counts(n) frames, and the
next frame that each of its readers makes reaches back to a known one. Everything repeats with the graph's period, so
looking at one period far from the start, and at the start itself, gives the exact bounds. Delay lines need no mechanism
of their own: a short path's line simply keeps its frames until the long path has caught up.
"""

from dataclasses import dataclass

import numpy as np

from streamcnn.compiler import tables as T
from streamcnn.compiler.operations import Arena, operation
from streamcnn.errors import GraphError
from streamcnn.graph.graph import INPUT, Graph
from streamcnn.graph.layer import size

# Input frames that run through all layers at a time: small enough for the L1 cache, large enough for vectors.
CHUNK = 256
MAX_VALUES = 2**28  # of history: a GiB of float32


@dataclass(frozen=True)
class Plan:
    """The tables of one graph: `nodes`, `links`, `lines` int64, `weights` float32, and how large the other arrays are.

    A block of n frames gives at most ceil(n / hop) + `output_slack` output frames.
    """

    nodes: np.ndarray
    links: np.ndarray
    lines: np.ndarray
    weights: np.ndarray
    arena_size: int
    scratch_size: int
    chunk: int
    output_slack: int


def plan(graph: Graph, chunk: int) -> Plan:
    """Lay out a graph's weights, lines and operations, for `chunk` input frames at a time."""
    weights, links = Arena(np.float32), Arena(np.int64)
    number = {INPUT: 0} | {node.name: k + 1 for k, node in enumerate(graph.nodes)}
    nodes = np.zeros((len(graph.nodes), T.NODE_COLUMNS), np.int64)
    _refuse_endless_history(graph)
    lines, bursts = _lines(graph, chunk)
    arena_size = int((lines[:, T.CAPACITY] * lines[:, T.CHANNELS]).sum())
    scratch_size = max(int(size(shape)) for shape in graph.shapes.values())
    for row, node in zip(nodes, graph.nodes, strict=True):
        rule, shapes = graph.rules[node.name], [graph.shapes[name] for name in node.inputs]
        row[T.LINKS], row[T.INPUTS] = links.add([number[name] for name in node.inputs]), len(node.inputs)
        row[T.LINE_IN], row[T.LINE_OUT] = number[node.inputs[0]], number[node.name]
        row[T.UP], row[T.DOWN], row[T.OLDEST], row[T.NEWEST] = rule.up, rule.down, rule.oldest, rule.newest + rule.wait
        row[T.RULE_TAIL] = rule.tail
        row[T.C_IN], row[T.C_OUT] = size(shapes[0]), size(graph.shapes[node.name])
        state, scratch = operation(row, node.layer, shapes, graph.shapes[node.name], weights, links)
        row[T.STATE] = arena_size if state else row[T.STATE]
        arena_size += state
        scratch_size = max(scratch_size, scratch, bursts[number[node.name]] * int(row[T.C_OUT]))
    return Plan(nodes, links.joined(), lines, weights.joined(), arena_size, scratch_size, chunk, _output_slack(graph))


def initial_counters(lines: np.ndarray) -> np.ndarray:
    """Return the counters of a session's start: no frames yet, and HISTORY zeros before them."""
    counters = np.zeros((len(lines), T.COUNTER_COLUMNS), np.int64)
    counters[:, T.BASE] = -lines[:, T.HISTORY]
    return counters


def _refuse_endless_history(graph: Graph) -> None:
    """Raise GraphError where the windows reach so far back that no memory would hold what they see."""
    values = 0
    for node in graph.nodes:
        rule = graph.rules[node.name]
        reach = (abs(rule.oldest) + abs(rule.newest) + rule.wait + abs(rule.tail)) // rule.up
        values += reach * sum(size(graph.shapes[name]) for name in node.inputs)
    values += sum(size(shape) for shape in graph.shapes.values())
    if values > MAX_VALUES:
        raise GraphError(
            f"net '{graph.info.name}' needs {values * 4 >> 20} MiB for what it must remember, more than {MAX_VALUES * 4 >> 20}",
            "shorten its windows or its dilations",
        )


def _output_slack(graph: Graph) -> int:
    """Return by how much the output frames of a block can exceed its share, for a net that gives them in groups, or at once."""
    n = np.concatenate([[0], _one_period(graph)])
    ahead = graph.counts(n)[graph.output_name] * graph.hop - n
    return -(-int(max(ahead.max() - ahead[1:].min(), ahead.max())) // graph.hop)


def _one_period(graph: Graph) -> np.ndarray:
    """Return one period of numbers of input frames, so far from the start that all tensors have begun."""
    lead = max(t.first + t.delay for t in graph.timings.values()).__ceil__() + 1
    far = graph.period * (max(0, lead) // graph.period + 1)
    return np.arange(far, far + graph.period)


def _lines(graph: Graph, chunk: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the table of lines, and how many frames each may get at a time."""
    n = np.concatenate([[0], _one_period(graph)])
    now, later, whole = graph.counts(n), graph.counts(n + chunk), graph.totals(n)
    first = graph.counts(chunk)
    lines = np.zeros((len(now), T.LINE_COLUMNS), np.int64)
    number = {name: k for k, name in enumerate(now)}
    for node in graph.nodes:
        rule = graph.rules[node.name]
        for name in node.inputs:
            line = lines[number[name]]
            kept = int(np.max(now[name] - rule.oldest_read(now[node.name])))
            beyond = int(np.max(rule.newest_read(whole[node.name] - 1) - (whole[name] - 1)))
            line[T.HISTORY] = max(line[T.HISTORY], kept, -rule.oldest_read(0))
            line[T.TAIL] = max(line[T.TAIL], beyond)
    bursts, offset = np.zeros(len(now), np.int64), 0
    for name, k in number.items():
        line = lines[k]
        at_end = max(
            int(np.max(whole[name][1:] - now[name][1:])), int(whole[name][0])
        )  # at the start nothing has run yet
        bursts[k] = max(int(np.max(later[name] - now[name])), int(first[name]), at_end, 1)
        line[T.CHANNELS] = size(graph.shapes[name])
        room = max(4 * chunk, 2 * bursts[k], line[T.HISTORY], at_end + line[T.TAIL])
        line[T.CAPACITY] = line[T.HISTORY] + room
        line[T.OFFSET] = offset
        offset += line[T.CAPACITY] * line[T.CHANNELS]
    return lines, bursts
