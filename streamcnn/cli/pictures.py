"""Pictures of nets and replays. The only file that knows matplotlib."""

from pathlib import Path

import numpy as np

from streamcnn.config import Stream
from streamcnn.engine import Engine
from streamcnn.errors import InputError, MissingPartError
from streamcnn.events import Detection, Event
from streamcnn.graph.graph import Graph
from streamcnn.graph.resample import resampler
from streamcnn.inference.latency import Latency, quantiles_s, seconds_at
from streamcnn.pipeline.listener import Listener, load_listeners
from streamcnn.sources.wav import AudioFile

COLUMNS = 3000  # a picture has no more columns than that: longer signals are drawn as their envelope
BLOCK = 16384
FEW_EVENTS = 40


def draw_replay(path: Path, stream: Stream, events: list[Event], picture: Path) -> None:
    """Draw a file's signal, the scores of each of its nets, and the detections, over seconds."""
    pyplot = _pyplot()
    nets = load_listeners(stream)
    heights = [2.2, *(2.2 if net.kind == "peak" else 1.2 + 0.2 * len(net.watched) for net in nets)]
    figure, axes = pyplot.subplots(
        len(heights), 1, sharex=True, figsize=(12, sum(heights)), squeeze=False, height_ratios=heights
    )
    rows = axes[:, 0]
    with AudioFile(path, stream.source.channels) as file:
        rate, step = file.rate, max(1, file.frames // COLUMNS)
        signal = _Envelope(step, rate)
        draws = [
            _Peaks(net, stream, rate, step) if net.kind == "peak" else _Tags(net, stream, rate, step) for net in nets
        ]
        for block in file.blocks(BLOCK):
            signal.add(block[:, 0])
            for one in draws:
                one.add(block)
    signal.draw(rows[0], "tab:blue")
    rows[0].set_ylabel("signal")
    rows[0].set_title(path.name, loc="left")
    for net, one, axis in zip(nets, draws, rows[1:], strict=True):
        one.draw(axis, rows[0], [e for e in events if isinstance(e, Detection) and e.detector == net.name])
        axis.set_ylabel(f"score of {net.name}")
    rows[-1].set_xlabel("seconds")
    _save(figure, picture)


class _Scores:
    """A net's scores over a file's blocks: `hop_s` apart, of which the first stands at `first_s` and is known at `known_s`."""

    def __init__(self, net: Listener, stream: Stream, rate: int):
        own = net.graph.info.rate or rate
        self._resampler = None if own == rate else Engine(resampler(rate, own, net.graph.input_channels))
        self._engine = engine = Engine(net.graph, scale=stream.source.gain * net.graph.info.input_scale)
        ahead_s = 0.0 if self._resampler is None else self._resampler.delay / rate
        self.hop_s, self.first_s = engine.hop / own, engine.first / own
        self.known_s = (engine.first + engine.delay) / own + ahead_s

    def of(self, block: np.ndarray) -> np.ndarray:
        """Return the scores that become known with a block."""
        return self._engine.process(block if self._resampler is None else self._resampler.process(block))


class _Peaks:
    """The highest score of a net over the time at which it is known, and its peaks where they were decided."""

    def __init__(self, net: Listener, stream: Stream, rate: int, step: int):
        self._threshold, self._rate, self._scores = net.thresholds[net.labels[0]], rate, _Scores(net, stream, rate)
        hop_s = self._scores.hop_s
        self._trace = _Envelope(max(1, int(step / rate / hop_s)), 1 / hop_s, self._scores.known_s)

    def add(self, block: np.ndarray) -> None:
        self._trace.add(self._scores.of(block).max(axis=1, initial=-np.inf))

    def draw(self, axis: object, signal: object, found: list[Detection]) -> None:
        self._trace.draw(axis, "tab:gray")
        threshold = f"threshold {self._threshold:g}"
        axis.axhline(self._threshold, color="tab:red", linewidth=0.8, linestyle="--", label=threshold)
        axis.plot(
            [event.decided_sample / self._rate for event in found],
            [event.score for event in found],
            "v",
            color="tab:red",
            markersize=5,
            label=f"{len(found)} detections, when decided",
        )
        _mark(signal, [event.sample / self._rate for event in found])
        axis.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize="small", frameon=False)


class _Tags:
    """The scores of a net's labels as bands of grey, over the time that they are about, and its tags as frames."""

    def __init__(self, net: Listener, stream: Stream, rate: int, step: int):
        self._net, self._rate = net, rate
        self._scores = scores = _Scores(net, stream, rate)
        about = scores.first_s - net.graph.info.target_lag / (net.graph.info.rate or rate)
        self._columns = [net.labels.index(label) for label in net.watched]
        columns = max(1, int(step / rate / scores.hop_s))
        self._traces = [_Envelope(columns, 1 / scores.hop_s, about) for _ in net.watched]

    def add(self, block: np.ndarray) -> None:
        scores = self._scores.of(block)
        for column, trace in zip(self._columns, self._traces, strict=True):
            trace.add(scores[:, column])

    def draw(self, axis: object, signal: object, found: list[Detection]) -> None:
        labels = self._net.watched
        bands = np.stack([trace.highs for trace in self._traces])
        begin, end = self._traces[0].span_s
        extent = (begin, end, len(labels) - 0.5, -0.5)
        axis.imshow(bands, aspect="auto", cmap="Greys", vmin=0, vmax=1, extent=extent, interpolation="nearest")
        axis.set_yticks(range(len(labels)), labels, fontsize="small")
        ended = [event for event in found if event.phase == "ended"]
        for event in ended:
            start, length = event.start_sample / self._rate, (event.end_sample - event.start_sample) / self._rate
            at = labels.index(event.label)
            axis.broken_barh([(start, length)], (at - 0.5, 1), facecolor="none", edgecolor="tab:red", linewidth=1.5)
            signal.axvspan(start, start + length, color="tab:red", alpha=0.25)
            if len(ended) <= FEW_EVENTS:
                high = signal.get_ylim()[1]
                signal.text(start, high, event.label, fontsize="x-small", va="top", color="tab:red", clip_on=True)
        axis.set_title(f"{len(ended)} tags", loc="right", fontsize="small")


def draw_latencies(latencies: dict[str, Latency], title: str, picture: Path) -> None:
    """Draw how often each latency came, both on logarithmic scales, with its median and its 99th and 99.9th hundredths."""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(
        len(latencies), 1, figsize=(9, 2.4 * len(latencies) + 0.6), squeeze=False, sharex=True
    )
    for axis, (name, latency) in zip(axes[:, 0], latencies.items(), strict=True):
        counts = latency.recent
        edges = np.concatenate([[0], seconds_at(np.arange(len(counts)))]) * 1e3
        used = np.flatnonzero(counts)
        if len(used):
            span = slice(used[0], used[-1] + 1)
            axis.stairs(counts[span], edges[span.start : span.stop + 1], fill=True, color="tab:blue", alpha=0.8)
            for share, style in ((0.5, "-"), (0.99, "--"), (0.999, ":")):
                (at,) = quantiles_s(counts, (share,))
                label = f"{share:.1%}: {at * 1e3:.3g} ms"
                axis.axvline(at * 1e3, color="tab:red", linestyle=style, linewidth=1, label=label)
            axis.legend(fontsize="small")
        axis.set_title(f"{name} ({counts.sum()} times)", loc="left", fontsize="medium")
        axis.set_yscale("log")
        axis.set_ylabel("how often")
    axes[-1, 0].set_xscale("log")
    axes[-1, 0].set_xlabel("milliseconds")
    figure.suptitle(title, fontsize="medium")
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

    @property
    def highs(self) -> np.ndarray:
        return np.concatenate(self._highs or [self._rest])

    @property
    def span_s(self) -> tuple[float, float]:
        return self._start_s, self._start_s + len(self.highs) * self._step / self._rate

    def draw(self, axis: object, color: str) -> None:
        low, high = np.concatenate(self._lows or [self._rest]), self.highs
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
