"""`streamcnn watch`: follow a running daemon."""

import itertools
import signal
import sys

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from streamcnn.cli.screen import describe, is_news, lost_frames, meter
from streamcnn.config import DEFAULT_ENDPOINT
from streamcnn.errors import SubscribeError
from streamcnn.events import Detection, Event, Gap, Health, to_json
from streamcnn.wire.subscriber import Subscriber

ROWS = 15
REFRESH_S = 0.25


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
def command(endpoint: str, topics: tuple[str, ...], as_json: bool, count: int | None) -> None:
    """Follow the events that a daemon publishes at ENDPOINT: a live table on a terminal, lines elsewhere.

    A daemon that is not there yet is waited for. Ctrl-C ends it.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with Subscriber(endpoint, topics or ("",)) as subscriber:
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
        elif is_news(event):
            print(describe(event), flush=True)
        if number == count:
            return


def _table(subscriber: Subscriber, endpoint: str, count: int | None) -> None:
    latest: dict[str, Detection | Gap] = {}  # by id, so that a tag's later phases take its row
    health: dict[str, Health] = {}
    seen = 0
    with Live(console=Console(), auto_refresh=False) as live:
        live.update(Text(f"waiting for events from {endpoint} ..."), refresh=True)
        while count is None or seen < count:
            try:
                event: Event | None = subscriber.receive(REFRESH_S)
            except SubscribeError as error:
                live.console.print(f"streamcnn: {error}", markup=False)
                continue
            if event is None:
                continue
            seen += 1
            if isinstance(event, Health):
                health[event.stream] = event
            else:
                latest[event.id if isinstance(event, Detection) else f"gap {seen}"] = event
                while len(latest) > ROWS:
                    del latest[next(iter(latest))]
            live.update(Group(*(Text(meter(h)) for h in health.values()), _rows(latest)), refresh=True)


def _rows(latest: dict[str, Detection | Gap]) -> Table:
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
        if isinstance(event, Gap):
            cells = ("", event.stream, "gap", event.cause, str(event.start_sample), lost_frames(event), "")
        else:
            time = event.time.strftime("%H:%M:%S.%f")[:-3] if event.time else ""
            cells = (
                time,
                event.stream,
                event.detector,
                event.label,
                str(event.sample),
                f"{event.score:.2f}",
                event.phase,
            )
        # As texts: what came over the wire is no markup.
        table.add_row(*(Text(cell) for cell in cells), style=_style(event))
    return table


def _style(event: Detection | Gap) -> str | None:
    if isinstance(event, Gap):
        return "red"
    return "dim" if event.phase in ("provisional", "retracted") else None
