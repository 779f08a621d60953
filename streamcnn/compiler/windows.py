"""A clip net laid out as tables: the work that its windows share, and the steps of each window.

Theory. What windows share (see `graph.clip`) runs on the stream, as any net does: nodes and lines with as much history as
windows still ask for. Each window has lines of its own, of fixed length and with the zeros of its own padding around
them. Going from the output back, the frames that are needed of each tensor are known: those of them that are shared are
taken from the stream's line, the others are computed, and ask for frames in their turn. So of a shared tensor a window
touches the edges, and the middle only where something needs it that is not shared.

The input's own line holds whole windows, so the history of the stream is at least a clip long.
"""

import numpy as np

from streamcnn.compiler import tables as T
from streamcnn.compiler.kernels.interpreter import PIECE
from streamcnn.compiler.plan import Plan, Rows, give_room, place_lines, refuse_beyond_memory
from streamcnn.graph.clip import Shared, common
from streamcnn.graph.graph import INPUT, Graph
from streamcnn.graph.layer import size
from streamcnn.graph.timing import FrameRule

Span = tuple[int, int]  # frames: the first, and the one after the last


def shared_parts(graph: Graph, *, share: bool = True) -> dict[str, Shared]:
    """Return what overlapping windows share of each tensor; of the input everything, with `share` False nothing else."""
    clip, parts = graph.clip, {INPUT: Shared(0, graph.clip.frames, graph.clip.hop)}
    for node in graph.nodes if share and clip.hop < clip.frames else ():
        together = None if node.layer.whole else common([parts.get(name) for name in node.inputs])
        part = together and together.through(graph.rules[node.name], graph.lengths[node.name])
        if part:
            parts[node.name] = part
    return parts


def needed_spans(graph: Graph, parts: dict[str, Shared]) -> tuple[dict[str, list[Span]], dict[str, list[Span]]]:
    """Return, by tensor, the frames that each window takes from the stream, and those that it computes itself."""
    asked: dict[str, list[Span]] = {graph.output_name: [(0, graph.lengths[graph.output_name])]}
    taken: dict[str, list[Span]] = {}
    computed: dict[str, list[Span]] = {}
    nodes = {node.name: node for node in graph.nodes}
    for name in (*reversed(nodes), INPUT):
        part = parts.get(name)
        wanted = _merged(asked.get(name, []))
        inside = [(max(first, part.first), min(end, part.end)) for first, end in wanted] if part else []
        taken[name] = [(first, end) for first, end in inside if first < end]
        computed[name] = [piece for span in wanted for piece in _outside(span, part)]
        if name == INPUT:
            break
        rule, layer = graph.rules[name], nodes[name].layer
        if rule.recurrent and computed[name]:
            computed[name] = [(0, computed[name][-1][1])]
        for source in nodes[name].inputs:
            length = graph.lengths[source]
            spans = [(0, length) if layer.whole else _read(rule, span, length) for span in computed[name]]
            asked.setdefault(source, []).extend(span for span in spans if span[0] < span[1])
    return taken, computed


def plan_windows(graph: Graph, chunk: int, *, share: bool) -> Plan:
    """Lay out a clip net's weights, lines, operations and steps, for `chunk` input frames at a time.

    `share`: let overlapping windows share what they can; without it each computes everything, to the same bits.
    """
    parts = shared_parts(graph, share=share)
    taken, computed = needed_spans(graph, parts)
    streamed = _streamed(graph, parts, taken)
    lines, bursts = _stream_lines(graph, parts, taken, streamed, chunk)
    stream = {name: number for number, name in enumerate([INPUT, *streamed])}
    # A tensor of which only padding is read has a line too, as its reader asks for one.
    read = {source for node in graph.nodes if computed[node.name] for source in node.inputs}
    held = [name for name in graph.shapes if taken[name] or computed[name] or name in read]
    local = {name: len(stream) + k for k, name in enumerate(held)}
    lines = np.concatenate([lines, _window_lines(graph, local, computed)])
    # The output's line counts windows; of the others all frames are there.
    for name, number in local.items():
        lines[number, T.COUNT] = 0 if name == graph.output_name else graph.lengths[name]
    arena_size = place_lines(lines)
    refuse_beyond_memory(graph, arena_size)
    rows = Rows(graph, arena_size)
    nodes = {node.name: node for node in graph.nodes}
    for name in streamed:
        rows.add(nodes[name], stream[name], [stream[source] for source in nodes[name].inputs], bursts[name])
    steps: list[list[int]] = []
    for name in local:
        steps += [[T.TAKE, 0, stream[name], local[name], first, end, parts[name].shift] for first, end in taken[name]]
        if computed[name]:
            before = rows.arena_size
            number = rows.add(nodes[name], local[name], [local[source] for source in nodes[name].inputs], PIECE)
            if rows.arena_size > before:
                steps.append([T.FORGET, 0, 0, 0, before, rows.arena_size, 0])
            number -= len(streamed)
            steps += [[T.COMPUTE_FRAMES, number, 0, local[name], first, end, 0] for first, end in computed[name]]
    rows.scratch_size = max(rows.scratch_size, *graph.lengths.values())  # the scores of one query of attention
    return rows.plan(
        rows.table[: len(streamed)],
        lines,
        chunk=chunk,
        output_slack=1,
        steps=np.array(steps, np.int64).reshape(len(steps), T.STEP_COLUMNS),
        rows=rows.table[len(streamed) :],
        length=graph.clip.frames,
        hop=graph.clip.hop,
    )


def computed_frames(graph: Graph, *, share: bool = True) -> dict[str, int]:
    """Return how many frames of each node are computed for each window, those on the stream included."""
    parts = shared_parts(graph, share=share)
    taken, computed = needed_spans(graph, parts)
    streamed = _streamed(graph, parts, taken)
    return {
        node.name: sum(end - first for first, end in computed[node.name])
        + (parts[node.name].shift if node.name in streamed else 0)
        for node in graph.nodes
    }


def macs_per_window(graph: Graph, *, share: bool = True) -> int:
    """Return how many multiplications a clip net takes for each window."""
    frames = computed_frames(graph, share=share)
    return sum(
        frames[node.name] * node.layer.macs(*(graph.shapes[name] for name in node.inputs)) for node in graph.nodes
    )


def _merged(spans: list[Span]) -> list[Span]:
    """Return the same frames as spans apart from each other, in order."""
    merged: list[Span] = []
    for first, end in sorted(spans):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((first, end))
    return merged


def _outside(span: Span, part: Shared | None) -> list[Span]:
    first, end = span
    if part is None:
        return [span]
    pieces = [(first, min(end, part.first)), (max(first, part.end), end)]
    return [(first, end) for first, end in pieces if first < end]


def _read(rule: FrameRule, span: Span, length: int) -> Span:
    """Return which of an input's frames, of `length` in all, a span of output frames reads."""
    newest = rule.newest_read(span[1] - 1) + rule.beyond
    return max(0, rule.oldest_read(span[0]) - rule.beyond), min(length, newest + 1)


def _streamed(graph: Graph, parts: dict[str, Shared], taken: dict[str, list[Span]]) -> list[str]:
    """Return the tensors that are computed on the stream, in the order of computation."""
    wanted = {name for name in parts if taken[name]}
    for node in reversed(graph.nodes):
        if node.name in wanted:
            wanted.update(node.inputs)
    return [node.name for node in graph.nodes if node.name in wanted]


def _stream_lines(
    graph: Graph, parts: dict[str, Shared], taken: dict[str, list[Span]], streamed: list[str], chunk: int
) -> tuple[np.ndarray, dict[str, int]]:
    """Return the table of the stream's lines, and how many frames each may get at a time.

    All that happens repeats with the windows' hop, once the first window is complete.
    """
    clip = graph.clip
    n = np.arange(clip.frames + 2 * clip.hop)
    now, later = ({INPUT: frames} for frames in (n, n + chunk))
    nodes = [node for node in graph.nodes if node.name in streamed]
    for node in nodes:
        for counts in (now, later):
            available = np.minimum.reduce([counts[name] for name in node.inputs])
            counts[node.name] = graph.rules[node.name].ready(available)
    windows = np.maximum(0, (n - clip.frames) // clip.hop + 1)  # that have been made
    lines = np.zeros((len(now), T.LINE_COLUMNS), np.int64)
    bursts = {}
    for line, name in zip(lines, now, strict=True):
        history = 0
        if taken[name]:
            history = int(np.max(now[name] - taken[name][0][0] - windows * parts[name].shift))
        for node in nodes:
            if name in node.inputs:
                rule = graph.rules[node.name]
                history = max(history, int(np.max(now[name] - rule.oldest_read(now[node.name]))), -rule.oldest_read(0))
        # At the start nothing has run yet, even of what no frame is needed for.
        bursts[name] = max(1, int(np.max(later[name] - now[name])), int(later[name][0]))
        line[T.CHANNELS], line[T.HISTORY] = size(graph.shapes[name]), max(0, history)
        give_room(line, bursts[name])
    return lines, bursts


def _window_lines(graph: Graph, local: dict[str, int], computed: dict[str, list[Span]]) -> np.ndarray:
    """Return the table of the windows' own lines: a tensor's frames, with the zeros around them that its readers see."""
    lines = np.zeros((len(local), T.LINE_COLUMNS), np.int64)
    for line, name in zip(lines, local, strict=True):
        length = graph.lengths[name]
        line[T.CHANNELS] = size(graph.shapes[name])
        for node in graph.nodes:
            if name in node.inputs and not node.layer.whole and computed[node.name]:
                rule = graph.rules[node.name]
                line[T.HISTORY] = max(line[T.HISTORY], -rule.oldest_read(0))
                line[T.TAIL] = max(line[T.TAIL], rule.newest_read(graph.lengths[node.name] - 1) - (length - 1))
        line[T.CAPACITY] = line[T.HISTORY] + length + line[T.TAIL]
    return lines
