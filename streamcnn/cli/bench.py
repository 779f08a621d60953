"""`streamcnn bench`: what this machine can run."""

import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
from rich.table import Table

from streamcnn.cli.numbers import Real, Whole
from streamcnn.cli.options import announce_compilation
from streamcnn.cli.screen import wide_console
from streamcnn.compiler.vector import LANES
from streamcnn.engine import Engine
from streamcnn.errors import InputError
from streamcnn.graph import store
from streamcnn.graph.graph import MAX_RATE, Graph
from streamcnn.stopwatch import Course, flop_per_second

NETS = ("ramp", "ramp_robust", "digits")
BLOCKS = (64, 256, 1024)  # frames, as sound cards have them
ROUNDS = 5
COURSE_S = 1.0  # of signal, at least
WINDOWS = 8  # of a clip net, at least


@click.command("bench", short_help="Measure what this machine can run.")
@click.argument("nets", nargs=-1, metavar="[NET]...")
@click.option("--block", "blocks", type=Whole(1, 1 << 20), multiple=True, metavar="FRAMES",
              help="Frames of a block; more than one may be given.")  # fmt: skip
@click.option(
    "--rate", type=Whole(1, MAX_RATE), metavar="HZ", help="Sample rate, for nets that do not know theirs."
)
@click.option("--live", is_flag=True, help="Measure the way from the sound card to the wire: play, and hear it.")
@click.option(
    "--device", default="pulse", show_default=True, metavar="NAME", help="For --live: a device that hears itself."
)
@click.option(
    "--seconds", type=Real(1, 86400), default=20.0, show_default=True, help="For --live: how long."
)
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="PNG", help="For --live: draw the latencies' histograms."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    nets: tuple[str, ...],
    blocks: tuple[int, ...],
    rate: int | None,
    live: bool,
    device: str,
    seconds: float,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Measure NETs (files, or shipped nets' names; all shipped ones by default) on one core of this machine.

    share: of the core, for one stream in real time; streams: how many one core carries; worst block: the longest that a block
    takes by itself, against its deadline, the time until the next block. Nothing else should run meanwhile.
    """
    if live:
        _live(list(nets or ("ramp",)), device, blocks, seconds, plot, as_json=as_json)
        return
    if plot is not None:
        raise InputError("--plot is for --live", "give both")
    graphs = [store.load(net) for net in nets or NETS]
    for graph in graphs:
        if graph.info.rate is None and rate is None:
            raise InputError(f"net '{graph.info.name}' does not know its sample rate", "say it: --rate HZ")
    announce_compilation()
    if hasattr(os, "sched_setaffinity"):  # a thread that is moved finds its caches cold
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    peak = flop_per_second()
    rows = [row for graph in graphs for row in _measured(graph, blocks or BLOCKS, graph.info.rate or rate)]
    machine = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "vector_lanes": LANES,
        "flop_per_second": peak,
        "python": platform.python_version(),
    }
    if as_json:
        click.echo(json.dumps({"machine": machine, "rows": rows}, indent=1, allow_nan=False))
    else:
        _print(machine, rows)


def _live(
    nets: list[str], device: str, blocks: tuple[int, ...], seconds: float, plot: Path | None, *, as_json: bool
) -> None:
    from streamcnn.cli import live_bench  # loads ZeroMQ and PortAudio

    if len(blocks) > 1:
        raise InputError(f"--live measures one block size, {len(blocks)} are given")
    announce_compilation()
    stream, report = live_bench.measure(nets, device, blocks[0] if blocks else 256, seconds)
    live_bench.show(report, as_json=as_json)
    if plot is not None:
        live_bench.draw(stream, report, plot)


def _measured(graph: Graph, blocks: tuple[int, ...], rate: int) -> Iterator[dict]:
    """Return a net's rows of the table, one for each block size."""
    for block in blocks:
        engine = Engine(graph, max_block=block)
        course = Course(engine, block, -(-_frames(graph, rate) // block))
        course.seconds_per_frame()  # what is cold is warm after it
        second = float(np.median([course.seconds_per_frame() for _ in range(ROUNDS)]))
        worst = float(course.seconds_per_block().max())
        yield {
            "net": store.identity(graph),
            "rate": rate,
            "block": block,
            "seconds_per_frame": second,
            "share_of_a_core": second * rate,
            "streams_per_core": int(1 / (second * rate)),
            "worst_block_s": worst,
            "deadline_s": block / rate,
        }


def _frames(graph: Graph, rate: int) -> int:
    """Return how many input frames show all that a net does: everything repeats, and every history is moved, within them."""
    whole = 2 * graph.period + (graph.receptive_field or 0)
    if graph.clip is not None:
        whole = graph.clip.frames + WINDOWS * graph.clip.hop
    return max(round(COURSE_S * rate), whole)


def _processor() -> str:
    """Return the processor's name, as well as it is known."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith(("model name", "Model"))]
    return names[0] if names else platform.processor() or platform.machine()


def _print(machine: dict, rows: list[dict]) -> None:
    console = wide_console()
    console.print(
        f"{machine['processor']}, {machine['cores']} cores; one of them does at most "
        f"{machine['flop_per_second'] / 1e9:.0f} GFLOP/s, {machine['vector_lanes']} numbers at a time",
        markup=False,
    )
    table = Table(box=None)
    for heading in ("net", "rate", "block", "ns/sample", "share", "streams", "worst block", "of its deadline"):
        table.add_column(heading, justify="left" if heading == "net" else "right")
    for row in rows:
        table.add_row(
            row["net"],
            f"{row['rate']} Hz",
            str(row["block"]),
            f"{row['seconds_per_frame'] * 1e9:.1f}",
            f"{row['share_of_a_core']:.2%}",
            f"{row['streams_per_core']:,}",
            f"{row['worst_block_s'] * 1e6:.1f} us",
            f"{row['worst_block_s'] / row['deadline_s']:.2%}",
        )
    console.print(table)
