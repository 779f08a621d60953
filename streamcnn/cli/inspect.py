"""`streamcnn inspect`: a net's layers and timing."""

import json
import time
from pathlib import Path

import click
import numpy as np
from rich.markup import escape
from rich.table import Table

from streamcnn.cli.options import announce_compilation
from streamcnn.cli.screen import wide_console
from streamcnn.compiler.windows import computed_frames, macs_per_window
from streamcnn.engine import Engine
from streamcnn.graph import store
from streamcnn.graph.graph import Graph
from streamcnn.stopwatch import Course

MEASURED_S = 0.2
MEASURED_BLOCK = 1024  # frames, at least
LONG_S = 3.0  # beyond which a net is not measured twice


@click.command("inspect", short_help="Show a net's layers and timing.")
@click.argument("net")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="PNG", help="Draw the weights.")
def command(net: str, as_json: bool, plot: Path | None) -> None:
    """Show the layers of NET (a file, or a shipped net's name), and where their frames stand in time.

    hop: input frames from one output frame to the next; first: where output frame 0 stands; delay: how many input
    frames later it becomes known; receptive field: how many input frames it can see; look-ahead: what a 'same' padding costs in
    latency. Of a clip net these are of one window, and 'computed' says how many frames of a layer each window costs, out of
    those that it has: the others are shared with the windows before it.
    """
    graph = store.load(net)
    announce_compilation()
    facts = _facts(graph)
    if as_json:
        click.echo(json.dumps(facts, indent=1, allow_nan=False))
    else:
        _print(facts)
    if plot is not None:
        from streamcnn.cli.pictures import draw_weights  # loads matplotlib

        draw_weights(graph, plot)
        click.echo(f"drew {plot}", err=True)


def _span(frames: int, rate: int | None) -> str:
    return f"{frames} samples" if rate is None else f"{frames} samples ({frames / rate * 1e3:.4g} ms)"


def receptive_field(frames: int | None, rate: int | None = None) -> str:
    """Return a receptive field for people."""
    if frames is None:
        return "all that came before"
    return f"{frames} samples" if rate is None else f"{frames} ({frames / rate * 1e3:.4g} ms)"


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


def _print(facts: dict) -> None:
    console, rate = wide_console(), facts["rate"]
    share = "" if rate is None else f", {facts['share_of_a_core']:.2%} of this core"
    console.print(
        f"{facts['net']}: {rate or 'unknown'} Hz, frames of {tuple(facts['input_shape'])}, "
        f"labels {', '.join(facts['labels']) or '-'}, threshold {facts['threshold']}, "
        f"input scale {facts['input_scale']:g}, target lag {facts['target_lag']}{share}",
        markup=False,
    )
    window = facts.get("window")
    if (
        window is None
        and facts["period"] > 1
        and any(row["options"].get("padding") == "same" for row in facts["layers"])
    ):
        console.print(
            f"exact to the last frame for signals of N frames with N mod {facts['period']} = {facts['length_class']}"
        )
    if window is not None:
        length, hop = (_span(window[name], rate) for name in ("frames", "hop"))
        console.print(
            f"a window of {length} that moves by {hop}: what windows share saves "
            f"{1 - window['macs'] / max(1, window['macs_unshared']):.1%} of their multiplications"
            + ("" if window["time_saved"] is None else f", and {window['time_saved']:.1%} of the time measured here")
        )
    table = Table(box=None)
    headings = [
        "layer",
        "kind",
        "frame",
        "hop",
        "first",
        "delay",
        "receptive field",
        "parameters",
        "MAC/s",
        "look-ahead",
    ]
    headings += [] if window is None else ["computed"]
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("layer", "kind") else "right")
    for row in facts["layers"]:
        ahead = row["look_ahead"]
        table.add_row(
            escape(row["name"]),
            row["kind"],
            "x".join(map(str, row["shape"])),
            f"{row['hop']:g}",
            f"{row['first']:g}",
            f"{row['delay']:g}",
            receptive_field(row["receptive_field"], rate).removesuffix(" samples"),
            f"{row['parameters']:,}",
            "-" if row["macs_per_second"] is None else f"{row['macs_per_second']:,.0f}",
            "" if not ahead else f"{ahead:g}" if rate is None else f"{ahead:g} ({ahead / rate * 1e3:.3g} ms)",
            *([] if window is None else [f"{row['computed']} of {row['frames']}"]),
        )
    console.print(table)
