"""What `run` and `watch` show: detections as lines, and on a terminal the live level of each stream below them."""

import contextlib
import queue
import sys
import threading
from collections.abc import Callable
from types import TracebackType

import click
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from streamcnn.events import Detection, Event, Flood, Gap, Health, Measure, to_json

METER_WIDTH = 30
METER_FLOOR_DBFS = -60.0
MAX_WAITING = 10_000  # events that may wait to be shown
POLL_S = 0.1
DRAIN_S = 2.0  # what a slow reader gets at the end
NOTE_STATE_AFTER = 2  # health events (seconds) with another state before it is said: a pause is not a fault


def wide_console() -> Console:
    """Return a console for tables: as wide as the terminal, and wide enough for any table in a file or a pipe."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def describe(event: Detection | Measure | Flood | Gap, *, phase: bool = False) -> str:
    """Return an event as one line for people; with the `phase` of detections, if that is wanted."""
    match event:
        case Gap():
            lost = lost_frames(event)
            return f"gap  {event.stream}  from sample {event.start_sample}: {lost} frames lost, {event.cause}"
        case Flood():
            span = f"samples {event.start_sample} to {event.end_sample}"
            return f"flood  {event.stream}  {event.detector}: {event.suppressed} more events in {span}, not told one by one"
    time = clock_time(event)
    if isinstance(event, Measure):
        return f"{time}  {event.stream}  {event.detector:<10}  sample {event.sample:>10}  {measured(event)}"
    told = f"  {event.phase}" if phase else ""
    end = "  (cut off)" if event.truncated else ""
    return f"{time}  {event.stream}  {event.label:<10}  sample {event.sample:>10}  score {event.score:.2f}{told}{end}"


def clock_time(event: Detection | Measure) -> str:
    """Return when an event was, for people: UTC, or seconds from the start where there is no UTC."""
    if event.time is not None:
        return event.time.strftime("%H:%M:%S.%f")[:-3]
    return "" if event.time_s is None else f"{event.time_s:.4f} s"


def measured(event: Measure) -> str:
    """Return the values of a measurement, for people."""
    return "  ".join(f"{name} {'-' if value is None else f'{value:.4g}'}" for name, value in event.values.items())


def is_news(event: Detection | Measure | Flood | Gap) -> bool:
    """Whether an event is worth a line for people: a detection is one once, however many phases it has."""
    return not isinstance(event, Detection) or event.phase == "confirmed"


def lost_frames(gap: Gap) -> str:
    """Return how many frames a gap cost, for people."""
    if gap.frames_error is None:
        return "an unknown number of"
    return f"{gap.frames} (give or take {gap.frames_error})" if gap.frames_error else str(gap.frames)


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
    """Shows events as they happen: lines on standard output, notes on standard error, meters on a terminal.

    The writing is done by a thread of its own: whoever reads our output may stop reading (a paused terminal), and that
    must stop neither the detection nor the publishing. `waits`: whether the source can wait for such a reader; if not,
    lines that find no room are dropped and counted.
    """

    def __init__(self, *, as_json: bool):
        self.waits = False
        self._as_json = as_json
        self._console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self._live = (
            Live(console=self._console, auto_refresh=False, transient=True) if self._console.is_terminal else None
        )
        self._health: dict[str, Health] = {}
        self._rates: dict[str, int] = {}
        self._said: dict[str, str] = {}
        self._unlike: dict[str, int] = {}
        self._last: dict[str, Health] = {}
        self._waiting: queue.Queue[Event | None] = queue.Queue(MAX_WAITING)
        self._dropped = 0
        self._error: OSError | None = None
        self._writer = threading.Thread(target=self._write_all, name="screen", daemon=True)

    def add_stream(self, name: str, rate: int) -> None:
        """Announce a stream and its rate in Hz."""
        self._rates[name] = rate
        self._unlike[name] = 0

    def note(self, text: str) -> None:
        """Say something that is not an event."""
        click.echo(f"streamcnn: {text}", err=True)

    def show(self, event: Event, stopped: Callable[[], bool]) -> None:
        """Have one event shown; where the screen waits, it does so until there is room or `stopped()`.

        Raises the OSError that the writing ended with.
        """
        if self._error is not None:
            raise self._error
        if isinstance(event, Health):
            self._health[event.stream] = event
        while True:
            try:
                self._waiting.put(event, timeout=POLL_S if self.waits else 0)
            except queue.Full:
                if self.waits and not stopped() and self._error is None:
                    continue
                self._dropped += 1
            return

    def __enter__(self) -> "RunScreen":
        """Begin to show."""
        if self._live is not None:
            self._live.start()
        self._writer.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Show what is waiting, take the meters away and sum up."""
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=DRAIN_S)
        self._writer.join(DRAIN_S)
        if self._live is not None and not self.stuck:
            self._live.stop()
        for name, health in self._health.items():
            seconds = health.sample / self._rates.get(name, 1)
            lost = f", {health.lost_frames} frames lost in {health.overflows} overflows" if health.overflows else ""
            self.note(f"stream '{name}' ended: {health.detections} detections in {seconds:.1f} s of signal{lost}")
        dropped = self._dropped + self._waiting.qsize()
        if dropped and not isinstance(self._error, BrokenPipeError):
            self.note(f"{dropped} events were not shown: the reader of standard output was too slow")

    @property
    def stuck(self) -> bool:
        """Whether the writing still waits for a reader that does not read."""
        return self._writer.is_alive()

    def _write_all(self) -> None:
        try:
            while (event := self._waiting.get()) is not None:
                self._write(event)
        except OSError as error:
            self._error = error

    def _write(self, event: Event) -> None:
        if isinstance(event, Health):
            self._note_trouble(event)
            if self._live is None:
                self._note_state(event)
            else:
                self._live.update(Group(*(Text(meter(h)) for h in self._health.values())), refresh=True)
        if self._as_json:
            self._line(to_json(event).decode())
        elif not isinstance(event, Health) and is_news(event):
            self._line(describe(event))

    def _line(self, text: str) -> None:
        if self._live is not None:
            self._console.print(text, markup=False)
        else:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()

    def _note_trouble(self, health: Health) -> None:
        """Say once what is not as it should be: what is not permitted, nets that are switched off, a recording that ended."""
        before = self._last.get(health.stream)
        self._last[health.stream] = health
        name = f"stream '{health.stream}'"
        if before is None:
            if health.callback == "Python":
                self.note(f"{name}: this sounddevice takes no callback in machine code: it runs in Python")
            for refused in health.not_permitted:
                self.note(f"{name}: without {refused}")
        behind, off = health.state == "behind", health.nets_off
        if behind != (before is not None and before.state == "behind") or off != (before.nets_off if before else ()):
            costs = ", ".join(f"{net} {cost:.1%}" for net, cost in health.costs.items())
            switched = f"; switched off: {', '.join(off)}" if off else ""
            state = "inference is behind" if behind else "inference keeps up"
            self.note(f"{name}: {state}{switched}; each net's share of a core: {costs}")
        for name, text in (("recording", health.recording_error), ("clips", health.clips_error)):
            if text is not None and (before is None or getattr(before, f"{name}_error") is None):
                self.note(f"{text}; listening goes on")
        told = None if before is None else before.journal
        if (health.journal is None) != (told is None):
            self.note(f"journal: {health.journal or 'all is well again'}; listening and publishing go on")

    def _note_state(self, health: Health) -> None:
        """Where there is no meter, say at first what the level is, and then when the signal stops or comes back."""
        if health.state == self._said.get(health.stream) or health.state == "ended":
            self._unlike[health.stream] = 0
            return
        self._unlike[health.stream] += 1
        if self._unlike[health.stream] >= NOTE_STATE_AFTER or health.state == "running":
            self._said[health.stream] = health.state
            self.note(meter(health))
