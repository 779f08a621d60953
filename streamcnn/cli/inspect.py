"""`streamcnn inspect`: a net's layers and timing."""

import json
from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from streamcnn.cli.screen import wide_console
from streamcnn.graph import store
from streamcnn.graph.graph import Graph


@click.command("inspect", short_help="Show a net's layers and timing.")
@click.argument("net")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="PNG", help="Draw the weights.")
def command(net: str, as_json: bool, plot: Path | None) -> None:
    """Show the layers of NET (a file, or a shipped net's name), and where their frames stand in time.

    hop: input frames from one output frame to the next; first: where output frame 0 stands; delay: how many input
    frames later it becomes known; receptive field: how many input frames it can see.
    """
    graph = store.load(net)
    facts = _facts(graph)
    if as_json:
        click.echo(json.dumps(facts, indent=1))
    else:
        _print(facts)
    if plot is not None:
        from streamcnn.cli.pictures import draw_weights  # loads matplotlib

        draw_weights(graph, plot)
        click.echo(f"drew {plot}", err=True)


def _facts(graph: Graph) -> dict:
    rate = graph.info.rate
    rows = []
    for node in graph.nodes:
        timing = graph.timings[node.name]
        macs = node.layer.macs(*(graph.shapes[name] for name in node.inputs))
        rows.append(
            {
                "name": node.name,
                "kind": node.layer.kind,
                "inputs": list(node.inputs),
                "options": node.layer.options,
                "shape": list(graph.shapes[node.name]),
                "hop": float(timing.hop),
                "first": float(timing.first),
                "delay": float(timing.delay),
                "receptive_field": timing.receptive_field,
                "parameters": node.layer.parameters,
                "macs_per_frame": macs,
                "macs_per_second": float(macs * rate / timing.hop) if rate else None,
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
        "input_channels": graph.input_channels,
        "hop": graph.hop,
        "first": graph.first,
        "delay": graph.delay,
        "receptive_field": graph.receptive_field,
        "parameters": sum(row["parameters"] for row in rows),
        "layers": rows,
    }


def _print(facts: dict) -> None:
    console = wide_console()
    rate = facts["rate"]
    console.print(
        f"{facts['net']}: {rate or 'unknown'} Hz, {facts['input_channels']} input channels, "
        f"labels {', '.join(facts['labels']) or '-'}, threshold {facts['threshold']}, "
        f"input scale {facts['input_scale']:g}, target lag {facts['target_lag']}",
        markup=False,
    )
    table = Table(box=None)
    headings = ("layer", "kind", "channels", "hop", "first", "delay", "receptive field", "parameters", "MAC/s")
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("layer", "kind") else "right")
    for row in facts["layers"]:
        field = str(row["receptive_field"])
        if rate:
            field += f" ({row['receptive_field'] / rate * 1e3:.3g} ms)"
        macs = "-" if row["macs_per_second"] is None else f"{row['macs_per_second']:,.0f}"
        table.add_row(
            escape(row["name"]),
            row["kind"],
            str(row["channels"]),
            f"{row['hop']:g}",
            f"{row['first']:g}",
            f"{row['delay']:g}",
            field,
            f"{row['parameters']:,}",
            macs,
        )
    console.print(table)
