"""What `run` and `watch` show: detections as lines, and on a terminal the live level of each stream below them."""

import sys
from types import TracebackType

import click
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from streamcnn.events import Detection, Event, Gap, Health, to_json

METER_WIDTH = 30
METER_FLOOR_DBFS = -60.0
NOTE_STATE_AFTER = 2  # health events (seconds) with another state before it is said: a pause is not a fault


def wide_console() -> Console:
    """Return a console for tables: as wide as the terminal, and wide enough for any table in a file or a pipe."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def describe(event: Detection | Gap) -> str:
    """Return an event as one line for people."""
    if isinstance(event, Gap):
        frames = event.frames if event.frames_error is not None else "an unknown number of"
        return f"gap        {event.stream}  from sample {event.start_sample}: {frames} frames lost, {event.cause}"
    time = event.time.strftime("%H:%M:%S.%f")[:-3] if event.time else f"{event.time_s or 0:.4f} s"
    end = "  (cut off)" if event.truncated else ""
    return f"{time}  {event.stream}  {event.label:<10}  sample {event.sample:>10}  score {event.score:.2f}{end}"


def meter(health: Health) -> str:
    """Return a stream's level, state and counts as one line for people."""
    level = METER_FLOOR_DBFS if health.level_dbfs is None else max(METER_FLOOR_DBFS, min(0.0, health.level_dbfs))
    filled = round(METER_WIDTH * (1 - level / METER_FLOOR_DBFS))
    peak = "-inf" if health.level_dbfs is None else f"{health.level_dbfs:.1f}"
    lost = f"  {health.lost_frames} frames lost in {health.overflows} overflows" if health.overflows else ""
    state = "NO SIGNAL" if health.state == "no signal" else health.state
    return (
        f"{health.stream}  [{'#' * filled}{'.' * (METER_WIDTH - filled)}] {peak:>6} dBFS  {state}  "
        f"{health.detections} detections{lost}"
    )


class RunScreen:
    """Shows events as they happen: lines on standard output, notes on standard error, meters on a terminal."""

    def __init__(self, *, as_json: bool):
        self._as_json = as_json
        self._console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self._live = (
            Live(console=self._console, auto_refresh=False, transient=True) if self._console.is_terminal else None
        )
        self._health: dict[str, Health] = {}
        self._rates: dict[str, int] = {}
        self._said: dict[str, str] = {}
        self._unlike: dict[str, int] = {}

    def add_stream(self, name: str, rate: int) -> None:
        """Announce a stream and its rate in Hz."""
        self._rates[name] = rate
        self._unlike[name] = 0

    def note(self, text: str) -> None:
        """Say something that is not an event."""
        click.echo(f"streamcnn: {text}", err=True)

    def show(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Health):
            self._health[event.stream] = event
            if self._live is None:
                self._note_state(event)
            else:
                self._live.update(Group(*(Text(meter(h)) for h in self._health.values())), refresh=True)
        if self._as_json:
            self._line(to_json(event).decode())
        elif not isinstance(event, Health):
            self._line(describe(event))

    def __enter__(self) -> "RunScreen":
        """Begin to show meters."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Take the meters away and sum up."""
        if self._live is not None:
            self._live.stop()
        for name, health in self._health.items():
            seconds = health.sample / self._rates.get(name, 1)
            lost = f", {health.lost_frames} frames lost in {health.overflows} overflows" if health.overflows else ""
            self.note(f"stream '{name}' ended: {health.detections} detections in {seconds:.1f} s of signal{lost}")

    def _line(self, text: str) -> None:
        if self._live is not None:
            self._console.print(text, markup=False)
        else:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()

    def _note_state(self, health: Health) -> None:
        """Where there is no meter, say at first what the level is, and then when the signal stops or comes back."""
        if health.state == self._said.get(health.stream) or health.state == "ended":
            self._unlike[health.stream] = 0
            return
        self._unlike[health.stream] += 1
        if self._unlike[health.stream] >= NOTE_STATE_AFTER or health.state == "running":
            self._said[health.stream] = health.state
            self.note(meter(health))
