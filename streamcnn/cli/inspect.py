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
from streamcnn.engine import Engine
from streamcnn.graph import store
from streamcnn.graph.graph import Graph

MEASURED_S = 0.2
MEASURED_BLOCK = 1024  # frames


@click.command("inspect", short_help="Show a net's layers and timing.")
@click.argument("net")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="PNG", help="Draw the weights.")
def command(net: str, as_json: bool, plot: Path | None) -> None:
    """Show the layers of NET (a file, or a shipped net's name), and where their frames stand in time.

    hop: input frames from one output frame to the next; first: where output frame 0 stands; delay: how many input
    frames later it becomes known; receptive field: how many input frames it can see; look-ahead: what a 'same' padding costs in
    latency.
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


def receptive_field(frames: int | None, rate: int | None = None) -> str:
    """Return a receptive field for people."""
    if frames is None:
        return "all that came before"
    return f"{frames} samples" if rate is None else f"{frames} ({frames / rate * 1e3:.3g} ms)"


def _facts(graph: Graph) -> dict:
    rate, rows = graph.info.rate, []
    for node in graph.nodes:
        timing, shapes = graph.timings[node.name], [graph.shapes[name] for name in node.inputs]
        waited = max(graph.timings[name].first + graph.timings[name].delay for name in node.inputs)
        macs = node.layer.macs(*shapes)
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
                "macs_per_second": float(macs * rate / timing.hop) if rate else None,
                # What looking ahead costs here: how much later its frames are known than those that it reads.
                "look_ahead": float(timing.first + timing.delay - waited)
                if node.layer.options.get("padding") == "same"
                else 0.0,
            }
        )
    info = graph.info
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
        "share_of_a_core": _share_of_a_core(graph),
        "layers": rows,
    }


def _share_of_a_core(graph: Graph) -> float | None:
    """Measure, for a moment, how much of this core the net takes at its rate; None without a rate."""
    if graph.info.rate is None:
        return None
    engine = Engine(graph)
    block = np.random.default_rng(0).normal(size=(MEASURED_BLOCK, graph.input_channels)).astype(np.float32)
    out = np.empty((engine.max_output_frames(len(block)), graph.output_channels), np.float32)
    engine.process_into(block, out)
    took, began = [], time.perf_counter()
    while time.perf_counter() - began < MEASURED_S or len(took) < 3:
        start = time.perf_counter()
        engine.process_into(block, out)
        took.append(time.perf_counter() - start)
    return float(np.median(took)) * graph.info.rate / MEASURED_BLOCK


def _print(facts: dict) -> None:
    console, rate = wide_console(), facts["rate"]
    share = "" if rate is None else f", {facts['share_of_a_core']:.2%} of this core"
    console.print(
        f"{facts['net']}: {rate or 'unknown'} Hz, frames of {tuple(facts['input_shape'])}, "
        f"labels {', '.join(facts['labels']) or '-'}, threshold {facts['threshold']}, "
        f"input scale {facts['input_scale']:g}, target lag {facts['target_lag']}{share}",
        markup=False,
    )
    if facts["period"] > 1 and any(row["options"].get("padding") == "same" for row in facts["layers"]):
        console.print(
            f"exact to the last frame for signals of N frames with N mod {facts['period']} = {facts['length_class']}"
        )
    table = Table(box=None)
    headings = (
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
    )
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
        )
    console.print(table)
