"""Pictures of nets and replays. The only file that knows matplotlib."""

from pathlib import Path

import numpy as np

from streamcnn.config import Stream
from streamcnn.engine import Engine
from streamcnn.errors import InputError, MissingPartError
from streamcnn.events import Detection, Event
from streamcnn.graph.graph import Graph
from streamcnn.listener import load_listeners
from streamcnn.sources.wav import AudioFile

COLUMNS = 3000  # a picture has no more columns than that: longer signals are drawn as their envelope
BLOCK = 16384
FEW_EVENTS = 40


def draw_replay(path: Path, stream: Stream, events: list[Event], picture: Path) -> None:
    """Draw a file's signal, the score of each of its nets, and the detections, over seconds."""
    pyplot = _pyplot()
    nets = load_listeners(stream)
    figure, axes = pyplot.subplots(1 + len(nets), 1, sharex=True, figsize=(12, 2.2 * (1 + len(nets))), squeeze=False)
    rows = axes[:, 0]
    with AudioFile(path, stream.source.channels) as file:
        rate, step = file.rate, max(1, file.frames // COLUMNS)
        engines = [Engine(net.graph, scale=stream.source.gain * net.graph.info.input_scale) for net in nets]
        traces = [_Envelope(step, rate)] + [
            _Envelope(max(1, step // engine.hop), rate / engine.hop, (engine.first + engine.delay) / rate)
            for engine in engines
        ]
        for block in file.blocks(BLOCK):
            traces[0].add(block[:, 0])
            for engine, trace in zip(engines, traces[1:], strict=True):
                trace.add(engine.process(block).max(axis=1, initial=-np.inf))
    traces[0].draw(rows[0], "tab:blue")
    rows[0].set_ylabel("signal")
    rows[0].set_title(path.name, loc="left")
    for net, trace, axis in zip(nets, traces[1:], rows[1:], strict=True):
        trace.draw(axis, "tab:gray")
        axis.axhline(
            net.threshold, color="tab:red", linewidth=0.8, linestyle="--", label=f"threshold {net.threshold:g}"
        )
        found = [event for event in events if isinstance(event, Detection) and event.detector == net.name]
        axis.plot(
            [event.decided_sample / rate for event in found],
            [event.score for event in found],
            "v",
            color="tab:red",
            markersize=5,
            label=f"{len(found)} detections, when decided",
        )
        _mark(rows[0], [event.sample / rate for event in found])
        axis.set_ylabel(f"score of {net.name}")
        axis.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize="small", frameon=False)
    rows[-1].set_xlabel("seconds")
    _save(figure, picture)


def _mark(axis: object, seconds: list[float]) -> None:
    """Mark where events stand in the signal: lines while there are few, a row of ticks at the top otherwise."""
    height = 1.0 if len(seconds) <= FEW_EVENTS else 0.08
    for at in seconds:
        axis.axvline(at, ymin=1 - height, color="tab:red", linewidth=0.8, alpha=0.7)


def draw_weights(graph: Graph, picture: Path) -> None:
    """Draw each layer's kernel; a single filter beside the matched filter of the net's template."""
    pyplot = _pyplot()
    nodes = [node for node in graph.nodes if "kernel" in node.layer.weights]
    if not nodes:
        raise InputError(f"net '{graph.info.name}' has no layer with a kernel to draw")
    figure, axes = pyplot.subplots(len(nodes), 1, figsize=(8, 2.6 * len(nodes) + 0.6), squeeze=False)
    for node, axis in zip(nodes, axes[:, 0], strict=True):
        kernel = node.layer.kernel
        axis.set_title(f"{node.name} ({node.layer.kind}), kernel {kernel.shape}")
        if kernel.ndim == 3 and kernel.shape[1:] == (1, 1):
            _draw_filter(axis, kernel[:, 0, 0], _matched_filter(graph, len(kernel)))
        else:
            # Taps (or inputs) downwards, outputs to the right; the input channels of a tap stand together.
            table = kernel.reshape(-1, kernel.shape[-1])
            limit = float(np.abs(table).max()) or 1.0
            image = axis.imshow(table, aspect="auto", cmap="RdBu", vmin=-limit, vmax=limit, interpolation="nearest")
            figure.colorbar(image, ax=axis)
            axis.locator_params(integer=True, min_n_ticks=1)
            axis.set_xlabel("output channel")
            axis.set_ylabel("tap x input" if kernel.ndim == 3 else "input channel")
    _save(figure, picture)


def _draw_filter(axis: object, taps: np.ndarray, matched: np.ndarray | None) -> None:
    at = np.arange(len(taps))
    if matched is None:
        axis.bar(at, taps, width=0.6)
    else:
        axis.bar(at - 0.2, taps, width=0.4, label="trained weights")
        axis.bar(at + 0.2, matched, width=0.4, label="matched filter of the template, answering 1", color="tab:orange")
        axis.legend(fontsize="small")
    axis.axhline(0, color="black", linewidth=0.6)
    axis.set_xlabel("tap (the last one is the newest sample)")
    axis.set_ylabel("weight")


def _matched_filter(graph: Graph, taps: int) -> np.ndarray | None:
    """Return the filter that correlates with the net's template and answers 1 to it, or None where there is none."""
    template = np.asarray(graph.info.template) * graph.info.input_scale
    end = taps - graph.info.target_lag
    if len(template) == 0 or end < len(template):
        return None
    matched = np.zeros(taps)
    matched[end - len(template) : end] = template / np.dot(template, template)
    return matched


class _Envelope:
    """The least and the greatest of every `step` values, collected block by block."""

    def __init__(self, step: int, rate: float, start_s: float = 0.0):
        self._step, self._rate, self._start_s = step, rate, start_s
        self._rest = np.empty(0, np.float32)
        self._lows: list[np.ndarray] = []
        self._highs: list[np.ndarray] = []

    def add(self, values: np.ndarray) -> None:
        values = np.concatenate([self._rest, values])
        whole = len(values) - len(values) % self._step
        bins, self._rest = values[:whole].reshape(-1, self._step), values[whole:]
        self._lows.append(bins.min(axis=1))
        self._highs.append(bins.max(axis=1))

    def draw(self, axis: object, color: str) -> None:
        low, high = np.concatenate(self._lows or [self._rest]), np.concatenate(self._highs or [self._rest])
        seconds = self._start_s + np.arange(len(low)) * self._step / self._rate
        if self._step == 1:
            axis.plot(seconds, high, color=color, linewidth=0.8)
        else:
            axis.fill_between(seconds, low, high, color=color, linewidth=0.5)


def _pyplot() -> object:
    try:
        import matplotlib
    except ImportError as error:
        raise MissingPartError(
            "pictures need matplotlib, which is not installed", "pip install 'streamcnn[plot]'"
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _save(figure: object, picture: Path) -> None:
    try:
        figure.tight_layout()
        figure.savefig(picture, dpi=120)
    except (OSError, ValueError) as error:
        raise InputError(f"{picture}: cannot be drawn: {error}", "end the name with .png") from error
