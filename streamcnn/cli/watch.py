"""`streamcnn watch`: follow a running daemon."""

import itertools
import signal
import sys
import time
from pathlib import Path

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from streamcnn.cli.screen import clock_time, describe, lost_frames, measured, meter
from streamcnn.config import DEFAULT_ENDPOINT
from streamcnn.errors import SubscribeError
from streamcnn.events import Detection, Event, Flood, Gap, Health, Measure, to_json
from streamcnn.wire.subscriber import Subscriber

ROWS = 15
REFRESH_S = 0.25
SILENT_S = 3.0  # after so long without a word something is wrong: the daemon says one each second
Shown = Detection | Measure | Flood | Gap


@click.command("watch", short_help="Follow a running daemon's events.")
@click.argument("endpoint", default=DEFAULT_ENDPOINT)
@click.option(
    "--topic",
    "topics",
    multiple=True,
    metavar="T",
    help="Only topics that begin with T, such as 'detection.mic0.'; may be given several times.",
)
@click.option("--json", "as_json", is_flag=True, help="Print every event as a line of JSON.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after N events.")
@click.option(
    "--backfill",
    metavar="ENDPOINT|none",
    help="Where to ask for events that were missed. [default: one port, or one name, further]",
)
@click.option(
    "--cursor",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Remember there what was seen, and begin behind it the next time.",
)
@click.option("--key", type=click.Path(path_type=Path), metavar="FILE", help="Our own secret key ('streamcnn keys').")
@click.option("--server-key", type=click.Path(path_type=Path), metavar="FILE", help="The daemon's public key.")
def command(
    endpoint: str,
    topics: tuple[str, ...],
    as_json: bool,
    count: int | None,
    backfill: str | None,
    cursor: Path | None,
    key: Path | None,
    server_key: Path | None,
) -> None:
    """Follow the events that a daemon publishes at ENDPOINT: a live table on a terminal, lines elsewhere.

    A daemon that is not there yet is waited for, and what was missed is fetched. Ctrl-C ends it.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with Subscriber(
        endpoint, topics or ("",), backfill=backfill, cursor=cursor, key=key, server_key=server_key
    ) as subscriber:
        if as_json or not sys.stdout.isatty():
            _lines(subscriber, as_json, count)
        else:
            _table(subscriber, endpoint, count)


def _lines(subscriber: Subscriber, as_json: bool, count: int | None) -> None:
    for number in itertools.count(1):
        try:
            event = next(subscriber)
        except SubscribeError as error:
            click.echo(f"streamcnn: {error}", err=True)
            continue
        if as_json:
            print(to_json(event).decode(), flush=True)
        elif isinstance(event, Health):
            print(meter(event), flush=True)
        else:
            print(describe(event, phase=True), flush=True)
        if number == count:
            subscriber.done()
            return


def _table(subscriber: Subscriber, endpoint: str, count: int | None) -> None:
    latest: dict[str, Shown] = {}  # by id, so that a tag's later phases take its row with them
    health: dict[str, Health] = {}
    seen = drawn_s = 0
    with Live(console=Console(), auto_refresh=False) as live:
        live.update(Text(f"waiting for events from {endpoint} ..."), refresh=True)
        while count is None or seen < count:
            try:
                event: Event | None = subscriber.receive(REFRESH_S)
            except SubscribeError as error:
                live.console.print(f"streamcnn: {error}", markup=False)
                continue
            if event is not None:
                seen += 1
            if isinstance(event, Health):
                health[event.stream] = event
            elif event is not None:
                latest.pop(row := _row_of(event, seen), None)  # to the top again
                latest[row] = event
                while len(latest) > ROWS:
                    del latest[next(iter(latest))]
            now = time.monotonic()
            if (health or latest) and (event is None or now - drawn_s > REFRESH_S or seen == count):
                drawn_s, silent_s = now, now - subscriber.heard_s
                silence = f"nothing heard from {endpoint} for {silent_s:.0f} s" if silent_s > SILENT_S else ""
                meters = (Text(meter(one)) for one in health.values())
                live.update(Group(*meters, _rows(latest), Text(silence, style="red")), refresh=True)


def _row_of(event: Shown, seen: int) -> str:
    """Return which row of the table an event takes: that of what it is the next word about."""
    match event:
        case Detection():
            return event.id
        case Measure():
            return event.topic
    return f"{seen}"


def _rows(latest: dict[str, Shown]) -> Table:
    table = Table(box=None)
    for heading, justify in [
        ("time (UTC)", "left"),
        ("stream", "left"),
        ("detector", "left"),
        ("label", "left"),
        ("sample", "right"),
        ("score", "right"),
        ("phase", "left"),
    ]:
        table.add_column(heading, justify=justify)
    for event in reversed(latest.values()):
        match event:
            case Gap():
                cells = ("", event.stream, "gap", event.cause, str(event.start_sample), lost_frames(event), "")
            case Flood():
                cells = (
                    "",
                    event.stream,
                    event.detector,
                    f"{event.suppressed} more",
                    str(event.start_sample),
                    "",
                    "flood",
                )
            case Measure():
                cells = (
                    clock_time(event),
                    event.stream,
                    event.detector,
                    measured(event),
                    str(event.sample),
                    "",
                    "measure",
                )
            case Detection():
                what, score = (event.detector, event.label), f"{event.score:.2f}"
                cells = (clock_time(event), event.stream, *what, str(event.sample), score, event.phase)
        # As texts: what came over the wire is no markup.
        table.add_row(*(Text(cell) for cell in cells), style=_style(event))
    return table


def _style(event: Shown) -> str | None:
    if isinstance(event, Gap | Flood):
        return "red"
    return "dim" if isinstance(event, Detection) and event.phase in ("provisional", "retracted") else None
