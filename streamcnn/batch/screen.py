"""Where in a signal something may be decided: nets run over many chunks at once, their scores held against thresholds.

The scores come from Keras' kernels, which round in another order than the engine, on a GPU perhaps with fewer digits. So they
decide nothing. They only say where no score can reach its threshold, by a margin; elsewhere the engine computes again.

Theory. A score's excess is (score - threshold) / |threshold|, the greatest over the watched outputs: from 0 on something
may begin. The greatest of every run of a few output frames is kept. The margin is MARGIN, or SAFETY times the greatest
difference from the engine that was found in this very signal, whichever is more. It is measured where the excess is
greatest, now and then, and where the signal is louder than all before: rounding grows with what cancels, and a score near
its threshold may be the small difference of large values.

Where a detector smooths its scores, the thresholds are held against smoothed ones here too: single frames that reach a
threshold are many, and nothing comes of most of them. Smoothing becomes one layer more of the screened net.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from math import ceil, lcm

import numpy as np

from streamcnn.batch.chunks import Layout, bad_runs, merged
from streamcnn.batch.forward import computable, forward, refuse_inexpressible
from streamcnn.engine import Engine
from streamcnn.errors import RunError
from streamcnn.graph.graph import Graph, Node
from streamcnn.graph.layers import Activation, Conv1D

RUN = 64  # input frames, at least, for which one excess is kept
CHUNK = 1 << 16  # input frames, at least, of a chunk
CONTEXTS = 8  # a chunk is at least so many times as long as what it needs around it
FRAMES_AT_ONCE = {"cpu": 1 << 20, "gpu": 1 << 25}  # input frames
MARGIN = 0.02
SAFETY = 16
PROBE_EVERY = 16  # batches
LOUDER = 1.2  # times as loud as what has been probed
PROBE = 4096  # input frames
MOST_TAPS = 512  # of the smoothing; with more of them it would cost more than it spares


@dataclass(frozen=True)
class Screened:
    """A net as the screen sees it.

    `scale` multiplies the samples. `thresholds`: for each output, infinite where nothing is watched. `lead`: how many input
    frames before an output frame's own number times its hop must be processed to decide there.
    """

    graph: Graph
    scale: float
    thresholds: np.ndarray
    lead: int

    @property
    def run(self) -> int:
        """How many output frames share one excess."""
        return max(1, RUN // self.graph.hop)

    @property
    def behind(self) -> int:
        """How many input frames behind an output frame's own number times its hop it is known, at the latest."""
        return max(0, self.graph.first + self.graph.delay) + 1

    def excess(self, ops: object, scores: object) -> object:
        """Return the excess of each frame of scores (..., frames, outputs), by NumPy's or Keras' operations."""
        watched = np.flatnonzero(np.isfinite(self.thresholds))
        limits = np.finfo(np.float32)
        thresholds = np.clip(self.thresholds[watched], limits.min, limits.max).astype(np.float32)
        units = np.where(thresholds == 0, np.float32(1), np.maximum(np.abs(thresholds), limits.tiny))
        over = (ops.take(scores, watched, axis=-1) - thresholds) / units
        return ops.max(ops.where(over < np.inf, over, np.float32(np.inf)), axis=-1)  # what is NaN may be anything

    def runs(self, ops: object, excess: object) -> object:
        """Return the greatest excess of each run of frames, from that of each frame (chunks, frames)."""
        return ops.max(ops.reshape(excess, (-1, excess.shape[-1] // self.run, self.run)), axis=2)


def smoothed(graph: Graph, kept: float, frames: int) -> Graph:
    """Return a net whose scores are clipped to [0, 1] and smoothed over so many frames, as a detector does it.

    Over too many frames the net comes back as it is: a smoothed score first reaches a threshold in a frame where the score
    itself does, so nothing is missed.
    """
    scores, outputs = graph.output_name, graph.output_channels
    if kept == 0 or frames > MOST_TAPS or graph.shapes[scores] != (outputs,):
        return graph
    taps = (1 - kept) * kept ** np.arange(frames)[::-1]
    clip = Node(f"{scores}/clipped", Activation(activation="relu", settings=(0.0, 1.0, 0.0)), (scores,))
    kernel = np.repeat(taps[:, None, None], outputs, axis=2)
    return replace(
        graph,
        nodes=(*graph.nodes, clip, Node(f"{scores}/smoothed", Conv1D(kernel=kernel, groups=outputs), (clip.name,))),
    )


class Screen:
    """Screens signals for the nets of one stream; compiled when it first screens.

    `say` is told, a line each, what a user should know. Raises UnsupportedLayerError for a recurrent net.
    """

    def __init__(self, keras: object, device: str, nets: list[Screened], say: Callable[[str], None]):
        for net in nets:
            refuse_inexpressible(net.graph)
        self._nets, self._say = nets, say
        self._engines = [Engine(net.graph, scale=net.scale) for net in nets]
        self.period = lcm(*(engine.anchor for engine in self._engines))
        self.layout = _layout(nets, self.period, FRAMES_AT_ONCE[device])
        self._model = _model(keras, nets, self.layout)
        self.probed = 0  # frames that were computed twice to measure the margin

    @property
    def edge(self) -> int:
        """How far from a signal's ends what lies beyond them may change a decision, in frames."""
        return max(net.lead + net.behind for net in self._nets)

    def spans(self, blocks: Iterable[np.ndarray], *, mask_edges: bool = True) -> list[tuple[int, int]]:
        """Return where something may be decided: (first, end) of the frames to be processed, apart and in order.

        `blocks`: a whole signal, float32 (frames, channels). Frames that are not finite are such places too, and, unless edges
        are masked, what is near to them and to the signal's ends: there nets see zeros that the screen does not.
        """
        bad: list[tuple[int, int]] = []
        kept: list[list[np.ndarray]] = [[] for _ in self._nets]
        channels, frames = self._nets[0].graph.input_channels, 0

        def finite() -> Iterator[np.ndarray]:
            nonlocal frames
            for block in blocks:
                runs = bad_runs(block, frames)
                bad.extend(runs)
                frames += len(block)
                yield np.where(np.isfinite(block).all(axis=1, keepdims=True), block, np.float32(0)) if runs else block

        error = loudest = 0.0
        for number, chunks in enumerate(self.layout.batches(finite(), channels)):
            found = self.screen(chunks)
            for one, excess in zip(kept, found, strict=True):
                one.append(excess.reshape(-1))
            if number % PROBE_EVERY == 0:
                greatest = [np.unravel_index(np.argmax(excess), excess.shape) for excess in found]
                error = max(error, *(self._error(k, chunks, found[k], *at) for k, at in enumerate(greatest)))
            levels = np.abs(chunks[:, self.layout.before : self.layout.before + self.layout.chunk]).max(axis=2)
            if levels.max() > LOUDER * loudest:
                loudest = float(levels.max())
                chunk, frame = np.unravel_index(np.argmax(levels), levels.shape)
                places = [int(frame) // (net.run * net.graph.hop) for net in self._nets]
                error = max(error, *(self._error(k, chunks, found[k], chunk, run) for k, run in enumerate(places)))
        margin = max(MARGIN, SAFETY * error)
        alarms = (_spans(net, np.concatenate(one), margin) for net, one in zip(self._nets, kept, strict=True) if one)
        if not mask_edges:
            edges = [(0, 0), *bad, (frames, frames)]
            bad = [(max(0, first - self.edge), min(frames, end + self.edge)) for first, end in edges]
        return merged([*bad, *(span for spans in alarms for span in spans)])

    def screen(self, chunks: np.ndarray) -> list[np.ndarray]:
        """Return each net's excess (chunks, runs) of chunks cut by `layout`; where memory is short, in smaller batches."""
        parts, done = [], 0
        while done < len(chunks):
            some = chunks[done : done + self.layout.batch]
            try:
                parts.append(self._model.predict_on_batch(some))
            except Exception as error:
                if not _is_out_of_memory(error) or len(some) == 1:
                    raise RunError(
                        f"the batch forward failed with {len(some)} chunks of {self.layout.chunk} frames: {error}",
                        "replay without --batch",
                    ) from error
                self.layout = replace(self.layout, batch=len(some) // 2)
                self._say(f"out of memory: going on with {self.layout.batch} chunks at once")
                continue
            done += len(some)
        return [np.concatenate([np.asarray(part[str(k)]) for part in parts]) for k in range(len(self._nets))]

    def _error(self, number: int, chunks: np.ndarray, found: np.ndarray, chunk: int, run: int) -> float:
        """Return the greatest difference of a net's excess from the engine's around one run of a chunk."""
        net, engine, layout = self._nets[number], self._engines[number], self.layout
        runs = max(1, PROBE // (net.run * net.graph.hop))
        first = int(max(0, min(run - runs // 2, found.shape[1] - runs)))
        last = min(first + runs, found.shape[1])
        hop = net.run * net.graph.hop
        begin = first * hop // net.graph.period * net.graph.period  # `before` frames ahead of the first run
        engine.reset()
        scores = engine.process(chunks[chunk, begin : layout.before + last * hop + layout.after])
        skipped = (layout.before + first * hop - begin) // net.graph.hop
        self.probed += (last - first) * hop
        with np.errstate(invalid="ignore", over="ignore"):
            exact = net.excess(np, scores[skipped : skipped + (last - first) * net.run])[None]
            difference = np.abs(net.runs(np, exact)[0] - found[chunk, first:last])
        return float(np.nan_to_num(difference, nan=0.0).max())  # infinite both: nothing to be learned


def _layout(nets: list[Screened], period: int, frames_at_once: int) -> Layout:
    step = lcm(period, *(net.run * net.graph.hop for net in nets))
    before, after = _context(nets, period, step)
    chunk = step * ceil(max(CHUNK, CONTEXTS * (before + after)) / step)
    before, after = _context(nets, period, chunk)
    return Layout(before, chunk, after, max(1, frames_at_once // chunk))


def _context(nets: list[Screened], period: int, chunk: int) -> tuple[int, int]:
    """Return how many frames chunks need before them, a multiple of the period, and after them."""
    before, after = 0, 0
    for net in nets:
        timing = net.graph.output
        before = max(before, period * ceil(max(0, timing.back - timing.first) / period))
        after = max(after, ceil(max(0, timing.first + timing.ahead)))
        # Rounding inside the net may ask for a little more.
        while computable(net.graph, before, chunk + after)[0] > 0:
            before += period
        while computable(net.graph, before, chunk + after)[1] < chunk // net.graph.hop - 1:
            after += 1
    return before, after


def _model(keras: object, nets: list[Screened], layout: Layout) -> object:
    """Return a Keras model from chunks (chunks, before + chunk + after, channels) to each net's excess (chunks, runs)."""

    class Excess(keras.layers.Layer):
        def call(self, samples: object) -> dict[str, object]:
            made = {}
            for number, net in enumerate(nets):
                scores = forward(net.graph, keras, samples * np.float32(net.scale), layout.before)
                excess = net.excess(keras.ops, scores[:, : layout.chunk // net.graph.hop])
                made[str(number)] = net.runs(keras.ops, excess)
            return made

    samples = keras.Input((layout.before + layout.chunk + layout.after, nets[0].graph.input_channels))
    return keras.Model(samples, Excess()(samples))


def _spans(net: Screened, excess: np.ndarray, margin: float) -> Iterator[tuple[int, int]]:
    """Yield the frames that must be processed to decide runs with an excess of at least -margin."""
    hop = net.run * net.graph.hop
    for run in np.flatnonzero(excess >= -margin).tolist():
        yield max(0, run * hop - net.lead), (run + 1) * hop + net.behind


def _is_out_of_memory(error: Exception) -> bool:
    """Whether a backend had no memory left: each has an error of its own, and all say so."""
    return isinstance(error, MemoryError) or any(
        words in str(error).lower() for words in ("resource_exhausted", "out of memory", "oom when")
    )
