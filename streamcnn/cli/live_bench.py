"""`streamcnn bench --live`: what the way from the sound card to the wire takes on this machine.

It plays a signal into the sound server and hears it again, through the very parts that `run` is made of.
"""

import json
import os
import tempfile
import time
from contextlib import closing
from pathlib import Path

import click
import msgspec
import numpy as np
from rich.table import Table

from streamcnn.cli.screen import counted, wide_console
from streamcnn.config import Publish, Source
from streamcnn.daemon import service
from streamcnn.daemon.stream import StreamService
from streamcnn.errors import DeviceError
from streamcnn.events import Detection, Gap, Health
from streamcnn.graph import store
from streamcnn.journal.journal import Journal
from streamcnn.pipeline.listener import Listener, own_detector, stream_rate
from streamcnn.sources import opening
from streamcnn.sources.demo import demo_signal, ramp_spacing
from streamcnn.sources.soundcard import played
from streamcnn.system import Bell
from streamcnn.wire.publisher import Publisher

SETTLING_S = 3.0  # before anything counts
PERIOD_S = 10  # of the signal


def measure(nets: list[str], device: str, block: int, seconds: float) -> tuple[StreamService, dict]:
    """Play and hear for so many seconds; return the stream and what was found, as JSON has it.

    Raises DeviceError where nothing of what was played was heard.
    """
    graphs = [store.load(net) for net in nets]
    listeners = [Listener(graph.info.name, graph, own_detector(graph)) for graph in graphs]
    rate, news = stream_rate(listeners, None), Bell()
    # PulseAudio and PipeWire: what is played, not a microphone.
    os.environ.setdefault("PULSE_SOURCE", "@DEFAULT_MONITOR@")
    source = opening.opened(Source(device=device, block=block), rate, lambda: None)
    stream = StreamService("bench", source, listeners, 1.0, news)
    signal = demo_signal(source.rate, PERIOD_S * source.rate, source.rate)
    heard: list[int] = []
    gaps, worst, high_water, last, is_loud = 0, 0.0, 0.0, None, False
    journal = Journal()
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(Publisher(Publish(bind=f"ipc://{folder}/events"), journal)) as publisher,
    ):
        began, settled = time.monotonic(), False
        with played(device, source.rate, signal) as player:
            for event in service.run([stream], news, publisher, lambda: False, SETTLING_S + seconds, journal=journal):
                if not settled and time.monotonic() - began > SETTLING_S:
                    settled = True
                    for latency in stream.latencies.values():
                        latency.forget()
                match event:
                    case Detection(detector="ramp", phase="confirmed"):
                        heard.append(event.sample)
                    case Gap() if settled:
                        gaps += 1
                    case Health():
                        last, is_loud = event, is_loud or event.level_dbfs is not None
                        if settled:
                            worst, high_water = max(worst, event.worst_block), max(high_water, event.ring_high_water)
    spacings = np.diff(heard)
    off = spacings[np.abs(spacings) < 2 * ramp_spacing(source.rate)] - ramp_spacing(source.rate)
    if last is None or not is_loud or ("ramp" in nets and not heard):
        raise DeviceError(
            f"device '{device}': nothing of what was played was heard",
            "its input must be its own output: a monitor of the sound server, or a cable",
        )
    report = msgspec.to_builtins(last) | {
        "block": block,
        "rate": source.rate,
        "gaps": gaps,
        "worst_block": worst,
        "ring_high_water": high_water,
        "events": len(heard),
        "events_off_samples": int(np.abs(off).max(initial=0)),
        "player_underruns": player.underruns,
    }
    return stream, report


def show(report: dict, *, as_json: bool) -> None:
    """Print what was found."""
    if as_json:
        click.echo(json.dumps(report, indent=1, default=str))
        return
    console = wide_console()
    console.print(
        f"{report['rate']} Hz in blocks of {report['block']}; callback: {report['callback']}; "
        f"load: {report['load']:.1%} of a core",
        markup=False,
    )
    table = Table(box=None)
    for heading in ("", "median", "99 %", "99.9 %", "longest"):
        table.add_column(heading, justify="right" if heading else "left")
    rows = {
        "from callback to record, beyond the work": "record_latency_ms",
        "from record to wire": "wire_latency_ms",
        "in the callback": "callback_ms",
    }
    for name, key in rows.items():
        if report[key]:
            table.add_row(name, *(f"{report[key][share]:.3f} ms" for share in ("p50", "p99", "p999", "max")))
    console.print(table)
    console.print(
        f"worst block: {report['worst_block']:.1%} of its deadline; the ring was filled to {report['ring_high_water']:.1%}; "
        f"{report['overflows']} overflows, {report['lost_frames']} frames lost, {report['gaps']} gaps",
        markup=False,
    )
    if report["events"]:
        console.print(
            f"{report['events']} ramps heard, at most {report['events_off_samples']} samples from where they were played",
            markup=False,
        )
    if report["player_underruns"]:
        console.print(
            f"the player itself came too late {counted(report['player_underruns'], 'time')}: positions say nothing",
            markup=False,
        )
    drift = "not known yet" if report["drift_ppm"] is None else f"{report['drift_ppm']:+.1f} ppm"
    console.print(f"drift of the card's clock: {drift}", markup=False)
    for refused in report["not_permitted"]:
        console.print(f"not permitted: {refused}", markup=False)


def draw(stream: StreamService, report: dict, picture: Path) -> None:
    """Draw the latencies' histograms."""
    from streamcnn.cli.pictures import draw_latencies  # loads matplotlib

    draw_latencies(stream.latencies, f"{report['rate']} Hz, blocks of {report['block']}", picture)
    click.echo(f"drew {picture}", err=True)
