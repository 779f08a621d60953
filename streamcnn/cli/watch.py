"""`streamcnn watch`: follow a running daemon."""

import itertools
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from streamcnn.cli.numbers import Whole
from streamcnn.cli.screen import (
    Column,
    can_redraw,
    clock_time,
    counted,
    describe,
    is_in_front,
    lost_frames,
    measured,
    meter,
    table,
)
from streamcnn.endpoint import DEFAULT_ENDPOINT
from streamcnn.errors import SubscribeError
from streamcnn.events import Detection, Event, Flood, Gap, Health, Measure, to_json
from streamcnn.wire.subscriber import Subscriber

ROWS, NOTES = 15, 3
LABEL_ENOUGH = 16  # characters of a label, before other columns are left out for it
RANKS = {"stream": 1, "detector": 2, "phase": 3}  # what is left out where there is little room, the last first
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
@click.option("--count", type=Whole(1), metavar="N", help="End after N events.")
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

    A terminal that can only print (TERM=dumb) gets lines, too. The last table stays on the terminal.

    A daemon that is not there yet is waited for, and what was missed is fetched. Ctrl-C ends it.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with Subscriber(
        endpoint, topics or ("",), backfill=backfill, cursor=cursor, key=key, server_key=server_key
    ) as subscriber:
        if as_json or not (can_redraw() and is_in_front()):
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


class _Board:
    """What the table shows: how streams are doing, the latest events, and what went wrong last."""

    def __init__(self, endpoint: str):
        self.silent_s = 0.0  # how long nothing has been heard
        self._endpoint = endpoint
        self._health: dict[str, Health] = {}
        self._latest: dict[str, Shown] = {}  # by id, so that a tag's later phases take its row with them
        self._notes: deque[str] = deque(maxlen=NOTES)
        self._seen = 0

    def take(self, event: Event) -> None:
        """Show an event from now on."""
        self._seen += 1
        if isinstance(event, Health):
            self._health[event.stream] = event
            return
        self._latest.pop(row := _row_of(event, self._seen), None)  # to the top again
        self._latest[row] = event
        while len(self._latest) > ROWS:
            del self._latest[next(iter(self._latest))]

    def note(self, text: str) -> None:
        """Show that something went wrong; once, where it does so again and again."""
        if text not in self._notes:
            self._notes.append(text)

    def drawn(self, width: int) -> Group:
        """Return everything as it is drawn on a terminal."""
        notes = [Text(f"streamcnn: {note}", "red") for note in self._notes]
        if not self._health and not self._latest:
            return Group(*notes, Text(f"waiting for events from {self._endpoint} ..."))
        if self.silent_s > SILENT_S:
            notes.append(Text(f"nothing heard from {self._endpoint} for {self.silent_s:.0f} s", "red"))
        meters = [_line(meter(health, width)) for health in self._health.values()]
        return Group(*notes, *meters, *_rows(list(reversed(self._latest.values())), width))


def _table(subscriber: Subscriber, endpoint: str, count: int | None) -> None:
    """Draw a table on a screen of its own, which no resizing disturbs; the last one stays on the terminal."""
    console, board = Console(force_terminal=True, highlight=False), _Board(endpoint)
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            _follow(subscriber, board, lambda: live.update(board.drawn(console.width), refresh=True), count)
    finally:
        console.print(board.drawn(console.width))


def _follow(subscriber: Subscriber, board: _Board, draw: Callable[[], None], count: int | None) -> None:
    """Show what the subscriber hears; without end, or until it has heard `count` events."""
    draw()
    drawn_s, seen = time.monotonic(), 0
    while count is None or seen < count:
        event = None
        try:
            event = subscriber.receive(REFRESH_S)
        except SubscribeError as error:
            board.note(str(error))
        if event is not None:
            board.take(event)
            seen += 1
        now = time.monotonic()
        if event is None or now - drawn_s > REFRESH_S:
            board.silent_s, drawn_s = now - subscriber.heard_s, now
            draw()
    subscriber.done()


def _row_of(event: Shown, seen: int) -> str:
    """Return which row of the table an event takes: that of what it is the next word about."""
    match event:
        case Detection():
            return event.id
        case Measure():
            return event.topic
    return f"{seen}"


def _rows(events: list[Shown], width: int) -> list[Text]:
    """Return the table's lines: a heading, and a row for each event."""
    headings = ("time (UTC)", "stream", "detector", "label", "sample", "score", "phase")
    columns = []
    for heading, *cells in zip(headings, *map(_cells, events), strict=True):
        enough, right = LABEL_ENOUGH if heading == "label" else None, heading in ("sample", "score")
        columns.append(Column(heading, tuple(cells), RANKS.get(heading, 0), right, enough))
    heading, *rows = table(columns, width)
    return [_line(heading, "bold"), *(_line(row, _style(event)) for row, event in zip(rows, events, strict=True))]


def _cells(event: Shown) -> tuple[str, ...]:
    match event:
        case Gap():
            return "gap", event.stream, "", f"{lost_frames(event)}, {event.cause}", str(event.start_sample), "", ""
        case Flood():
            more = counted(event.suppressed, "more event")
            return "flood", event.stream, event.detector, more, str(event.start_sample), "", ""
        case Measure():
            time, where = clock_time(event), (event.stream, event.detector)
            return time, *where, measured(event), str(event.sample), "", "measure"
        case Detection():
            time, what = clock_time(event), (event.stream, event.detector, event.label)
            return time, *what, str(event.sample), f"{event.score:z.2f}", event.phase


def _line(text: str, style: str = "") -> Text:
    """Return a row of the screen. As a text: what came over the wire is no markup."""
    return Text(text, style, no_wrap=True, overflow="crop")


def _style(event: Shown) -> str:
    if isinstance(event, Gap | Flood):
        return "red"
    return "dim" if isinstance(event, Detection) and event.phase in ("provisional", "retracted") else ""
