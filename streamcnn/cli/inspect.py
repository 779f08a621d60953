"""`streamcnn inspect`: a net's timing, cost and layers."""

import json
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np

from streamcnn.cli.options import announce_compilation
from streamcnn.cli.screen import Column, counted, table, terminal_width
from streamcnn.compiler.windows import computed_frames, macs_per_window
from streamcnn.engine import Engine
from streamcnn.graph import store
from streamcnn.graph.graph import Graph
from streamcnn.stopwatch import Course

MEASURED_S = 0.2
MEASURED_BLOCK = 1024  # frames, at least
LONG_S = 3.0  # beyond which a net is not measured twice
LEAST_SHARE = 0.0001  # of a core: of less nobody wants to know how much
SUMMARY_WIDTH = 80
NAME_ENOUGH = 16  # characters of a layer's name, before columns are left out for it


@click.command("inspect", short_help="Show a net's layers and timing.")
@click.argument("net")
@click.option("--layers", is_flag=True, help="Show a table of the layers, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="PNG", help="Draw the weights.")
def command(net: str, layers: bool, as_json: bool, plot: Path | None) -> None:
    """Show what NET (a file, or a shipped net's name) hears, when its answers are known, and what it costs here.

    hop: input frames from one output frame to the next; first: where output frame 0 stands; delay: how many input
    frames later it becomes known; receptive field: how many input frames it can see; look-ahead: what 'same' padding
    costs in latency.

    --layers tells the same of each layer, on a terminal in as many columns as it has room for. Of a clip net these are
    of one window, and 'computed' says how many frames of a layer each window costs, out of those that it has: the
    others are shared with the windows before it.
    """
    graph = store.load(net)
    announce_compilation()
    facts = _facts(graph)
    if as_json:
        click.echo(json.dumps(facts, indent=1, allow_nan=False))
    else:
        click.echo("\n".join(_wrapped(list(_summary(facts)), min(SUMMARY_WIDTH, terminal_width() or SUMMARY_WIDTH))))
        if layers:
            click.echo("\n".join(["", *table(_columns(facts), terminal_width())]))
    if plot is not None:
        from streamcnn.cli.pictures import draw_weights  # loads matplotlib

        draw_weights(graph, plot)
        click.echo(f"drew {plot}", err=True)


def _span(frames: float, rate: int | None) -> str:
    """Return a number of input frames for people, and how long they last."""
    number = int(frames) if frames == int(frames) else round(frames, 2)
    return f"{counted(number, 'sample')}{_duration(frames, rate)}"


def _duration(frames: float, rate: int | None) -> str:
    return f" ({frames / rate * 1e3:.4g} ms)" if rate and frames else ""


def receptive_field(frames: int | None, rate: int | None = None) -> str:
    """Return a receptive field for people."""
    return "all that came before" if frames is None else _span(frames, rate)


def _facts(graph: Graph) -> dict:
    rate, rows = graph.info.rate, []
    computed = {} if graph.clip is None else computed_frames(graph)
    for node in graph.nodes:
        timing, shapes = graph.timings[node.name], [graph.shapes[name] for name in node.inputs]
        waited = max(graph.timings[name].first + graph.timings[name].delay for name in node.inputs)
        macs = node.layer.macs(*shapes)
        frames_per_input = 1 / timing.hop if graph.clip is None else computed[node.name] / graph.clip.hop
        rows.append(
            {
                "name": node.name,
                "kind": node.layer.kind,
                "inputs": list(node.inputs),
                "options": store.plain(node.layer.options),
                "shape": list(graph.shapes[node.name]),
                "hop": float(timing.hop),
                "first": float(timing.first),
                "delay": float(timing.delay),
                "receptive_field": timing.receptive_field,
                "parameters": node.layer.parameters,
                "macs_per_frame": macs,
                "macs_per_second": float(macs * rate * frames_per_input) if rate else None,
                **({} if graph.clip is None else {"frames": graph.lengths[node.name], "computed": computed[node.name]}),
                # What looking ahead costs here: how much later its frames are known than those that it reads.
                "look_ahead": float(timing.first + timing.delay - waited)
                if node.layer.options.get("padding") == "same"
                else 0.0,
            }
        )
    info = graph.info
    costs = _seconds_per_frame(graph) if rate or graph.clip else []
    return {
        "net": store.identity(graph),
        "rate": rate,
        "labels": list(info.labels),
        "target_lag": info.target_lag,
        "input_scale": info.input_scale,
        "threshold": info.threshold,
        "input_shape": list(graph.input_shape),
        "hop": graph.hop,
        "first": graph.first,
        "delay": graph.delay,
        "receptive_field": graph.receptive_field,
        "warmup_frames": info.warmup_frames,
        "prewarm": info.prewarm,
        "length_class": graph.length_class,
        "period": graph.period,
        "parameters": sum(row["parameters"] for row in rows),
        "macs_per_second": sum(row["macs_per_second"] for row in rows) if rate else None,
        "share_of_a_core": costs[0] * rate if rate else None,
        **({} if graph.clip is None else {"window": _window(graph, *costs)}),
        "layers": rows,
    }


def _window(graph: Graph, shared_s: float, alone_s: float | None = None) -> dict:
    """Return what there is to know of a clip net's window: its length and hop, and what sharing work saves, as measured."""
    return {
        "frames": graph.clip.frames,
        "hop": graph.clip.hop,
        "macs": macs_per_window(graph),
        "macs_unshared": macs_per_window(graph, share=False),
        "time_saved": None if alone_s is None else 1 - shared_s / alone_s,
    }


def _seconds_per_frame(graph: Graph) -> list[float]:
    """Measure, for a moment, what an input frame costs here; of a clip net also what it would if windows shared nothing.

    Of a net that takes very long for a window, just that.
    """
    engines = [Engine(graph)] if graph.clip is None else [Engine(graph, share=share) for share in (True, False)]
    size = MEASURED_BLOCK if graph.clip is None else graph.clip.hop * -(-MEASURED_BLOCK // graph.clip.hop)
    first = 1 if graph.clip is None else -(-graph.clip.frames // size)  # the blocks that fill the first window
    courses = []
    for engine in engines:
        if Course(engine, size, first).seconds_per_frame() * size * first > LONG_S:
            return [Course(engine, size, 1).seconds_per_frame()]
        courses.append(Course(engine, size, 1))
    took: list[list[float]] = [[] for _ in engines]
    began = time.perf_counter()
    while time.perf_counter() - began < MEASURED_S * len(engines) or len(took[0]) < 3:
        for course, times in zip(courses, took, strict=True):
            times.append(course.seconds_per_frame())
    return [float(np.median(times)) for times in took]


def _wrapped(facts: list[tuple[str, str]], width: int) -> list[str]:
    """Return facts as lines `name: value`, the values below each other."""
    indent = max(len(name) for name, _ in facts) + len(": ")
    lines = []
    for name, value in facts:
        first, *others = textwrap.wrap(value, max(8, width - indent), break_on_hyphens=False)
        lines += [f"{name + ':':<{indent}}{first}", *(" " * indent + other for other in others)]
    return lines


def _summary(facts: dict) -> Iterator[tuple[str, str]]:
    """Tell what there is to know of the whole net, as names and values."""
    rate, window = facts["rate"], facts.get("window")
    yield "net", facts["net"]
    yield "rate", "unknown" if rate is None else f"{rate} Hz"
    yield "labels", ", ".join(facts["labels"]) or "none"
    yield "input", f"frames of {_shape(facts['input_shape'])} value{'' if facts['input_shape'] == [1] else 's'}"
    if window is not None:
        yield "window", f"{_span(window['frames'], rate)} that move by {_span(window['hop'], rate)}"
    yield "hop", _span(facts["hop"], rate)
    yield "first", f"sample {facts['first']}"
    yield "delay", _span(facts["delay"], rate)
    yield "receptive field", receptive_field(facts["receptive_field"], rate)
    if facts["warmup_frames"]:
        yield "warm-up", _span(facts["warmup_frames"], rate)
    yield "threshold", "none" if facts["threshold"] is None else f"{facts['threshold']:g}"
    yield "input scale", f"{facts['input_scale']:g}"
    yield "target lag", _span(facts["target_lag"], rate)
    yield "cost", ", ".join(_costs(facts))
    if window is None:
        yield from _padding(facts)
    else:
        yield "shared", ", ".join(_shared(window))


def _costs(facts: dict) -> Iterator[str]:
    yield counted(facts["parameters"], "parameter")
    if facts["rate"] is not None:
        share = facts["share_of_a_core"]
        yield f"{facts['macs_per_second']:,.0f} MAC/s"
        yield f"{share:.2%} of this core" if share >= LEAST_SHARE else f"less than {LEAST_SHARE:.2%} of this core"


def _shared(window: dict) -> Iterator[str]:
    """Tell what a clip net saves, as its windows have work in common."""
    yield f"saves {1 - window['macs'] / max(1, window['macs_unshared']):.1%} of the multiplications"
    if window["time_saved"] is not None:
        yield f"{window['time_saved']:.1%} of the time measured here"


def _padding(facts: dict) -> Iterator[tuple[str, str]]:
    """Tell what 'same' padding costs: how much later answers are known, and for which files the last ones are exact."""
    waited: dict[str, float] = {}
    for row in facts["layers"]:
        waited[row["name"]] = row["look_ahead"] + max(waited.get(name, 0) for name in row["inputs"])
    ahead, layers = max(waited.values()), sum(row["look_ahead"] > 0 for row in facts["layers"])
    padding = f"{_span(ahead, facts['rate'])}, by the 'same' padding of {counted(layers, 'layer')}"
    yield "look-ahead", padding if layers else "none"
    if facts["period"] > 1 and any(row["options"].get("padding") == "same" for row in facts["layers"]):
        rule = f"N mod {facts['period']} = {facts['length_class']}"
        yield "last frames", f"exact for signals of N frames with {rule}"


def _columns(facts: dict) -> list[Column]:
    """Return the table of layers."""
    rate, rows = facts["rate"], facts["layers"]

    def column(heading: str, rank: int, tell: Callable[[dict], str], **how: object) -> Column:
        return Column(heading, tuple(map(tell, rows)), rank, **how)

    def number(heading: str, rank: int, tell: Callable[[dict], str]) -> Column:
        return column(heading, rank, tell, right=True)

    columns = [
        column("layer", 0, lambda row: row["name"], enough=NAME_ENOUGH, keep_end=True),
        column("kind", 2, lambda row: row["kind"]),
        number("frame", 5, lambda row: _shape(row["shape"])),
        number("hop", 1, lambda row: f"{row['hop']:g}"),
        number("first", 9, lambda row: f"{row['first']:g}"),
        number("delay", 3, lambda row: f"{row['delay']:g}"),
        number("receptive field", 6, lambda row: _brief(row["receptive_field"], rate)),
        number("parameters", 7, lambda row: f"{row['parameters']:,}"),
        number("MAC/s", 4, lambda row: "-" if rate is None else f"{row['macs_per_second']:,.0f}"),
        number("look-ahead", 8, lambda row: _brief(row["look_ahead"], rate) if row["look_ahead"] else ""),
    ]
    if "window" in facts:
        columns.append(number("computed", 5, lambda row: f"{row['computed']} of {row['frames']}"))
    return columns


def _brief(frames: float | None, rate: int | None) -> str:
    return receptive_field(None) if frames is None else f"{frames:,.10g}{_duration(frames, rate)}"


def _shape(shape: list[int]) -> str:
    return "x".join(map(str, shape))
