"""What `run` and `watch` show: detections as lines, and on a terminal the live level of each stream below them.

On a terminal nothing is longer than a row: tables leave out columns, and lines leave out words, by their importance.
"""

import contextlib
import os
import queue
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType

import click
from rich.cells import cell_len
from rich.console import Console

from streamcnn.events import Detection, Event, Flood, Gap, Health, Measure, to_json

METER_WIDTH, METER_LEAST = 30, 8
METER_FLOOR_DBFS = -60.0
LABEL_WIDTH = 10
SPACE = "  "  # between the columns of a table
EMPTY_ROWS = 2  # above the meters: room for what others write
ERASE, NO_WRAP, WRAP = "\r\x1b[J", "\x1b[?7l", "\x1b[?7h"  # what a terminal understands
MAX_WAITING = 10_000  # events that may wait to be shown
POLL_S = 0.1
RESIZE_S = 0.25  # how soon the meters follow a terminal's new size
DRAIN_S = 2.0  # what a slow reader gets at the end
NOTE_STATE_AFTER = 2  # health events (seconds) with another state before it is said: a pause is not a fault


def wide_console() -> Console:
    """Return a console for tables: as wide as the terminal, and wide enough for any table in a file or a pipe."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def terminal_width() -> int | None:
    """Return how many characters fit into a row of the terminal; None for a file or a pipe, where any number does."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def can_redraw() -> bool:
    """Whether standard output is a terminal that can erase what was written."""
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


def is_in_front() -> bool:
    """Whether the terminal is ours at the moment: of a shell's background job (`run &`) it is not."""
    try:
        return os.tcgetpgrp(sys.stdout.fileno()) == os.getpgrp()
    except OSError:  # it controls no jobs
        return True


def counted(number: int, thing: str) -> str:
    """Return how many there are of a thing, for people: `1 frame`, `49,054 frames`."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def cut(text: str, width: int, *, keep_end: bool = False) -> str:
    """Return a text, without its end (or, with `keep_end`, its beginning) where there is no room for it."""
    if cell_len(text) <= width:
        return text
    while text and cell_len(text) >= width:
        text = text[1:] if keep_end else text[:-1]
    return f"…{text}" if keep_end else f"{text}…"


@dataclass(frozen=True)
class Column:
    """A column of a table: its heading and its cells.

    `rank`: how soon it is left out where there is little room, the highest first; 0 never is. `enough`: its cells are
    cut, down to so many characters, before other columns are left out; with `keep_end` their ends are kept.
    """

    heading: str
    cells: tuple[str, ...]
    rank: int = 0
    right: bool = False
    enough: int | None = None
    keep_end: bool = False

    @property
    def width(self) -> int:
        """How wide the whole column is."""
        return max(map(cell_len, (self.heading, *self.cells)))

    @property
    def least(self) -> int:
        """How wide it must be."""
        return self.width if self.enough is None else min(self.width, self.enough)

    def lines(self, width: int) -> list[str]:
        """Return heading and cells, each exactly so wide."""
        texts = [cut(text, width, keep_end=self.keep_end) for text in (self.heading, *self.cells)]
        pads = [" " * (width - cell_len(text)) for text in texts]
        return [pad + text if self.right else text + pad for text, pad in zip(texts, pads, strict=True)]


def table(columns: list[Column], width: int | None = None) -> list[str]:
    """Return the lines of a table, its headings first: all columns, or the most important ones that fit `width`."""
    widths = _widths(columns, width)
    cells = [column.lines(widths[column.heading]) for column in columns if column.heading in widths]
    lines = [SPACE.join(row).rstrip() for row in zip(*cells, strict=True)]
    return lines if width is None else [cut(line, width) for line in lines]


def _widths(columns: list[Column], width: int | None) -> dict[str, int]:
    """Return the width of each column that is shown, by its heading."""
    if width is None:
        return {column.heading: column.width for column in columns}
    widths, spare = {}, width + len(SPACE)
    for column in sorted(columns, key=lambda column: column.rank):
        needed = column.least + len(SPACE)
        if column.rank and needed > spare:
            break
        widths[column.heading] = column.least
        spare -= needed
    for column in columns:
        if column.heading in widths and column.enough is not None:  # it gives what is lacking, or gets what is left
            widths[column.heading] = max(1, min(column.width, column.least + spare))
            spare -= widths[column.heading] - column.least
    return widths


def describe(event: Detection | Measure | Flood | Gap, *, phase: bool = False, width: int | None = None) -> str:
    """Return an event as one line for people; with the `phase` of detections, if that is wanted.

    `width`: it has at most so many characters, and less words where that must be.
    """
    ways = _told(event, phase, width)
    if width is None:
        return next(ways)
    for line in ways:
        if cell_len(line) <= width:
            return line
    return cut(line, width)


def _told(event: Detection | Measure | Flood | Gap, phase: bool, width: int | None) -> Iterator[str]:
    """Tell an event in ever fewer words."""
    match event:
        case Gap():
            lost = lost_frames(event)
            yield f"gap  {event.stream}  from sample {event.start_sample}: {lost}, {event.cause}"
            yield f"gap  sample {event.start_sample}: {lost}, {event.cause}"
            yield f"gap  sample {event.start_sample}: {lost}"
        case Flood():
            more, first = f"{event.detector}: {counted(event.suppressed, 'more event')}", event.start_sample
            yield f"flood  {event.stream}  {more} in samples {first} to {event.end_sample}, not told one by one"
            yield f"flood  {more} in samples {first} to {event.end_sample}"
            yield f"flood  {more}"
        case Measure():
            time, values = clock_time(event), measured(event)
            what = f"{event.detector:<{LABEL_WIDTH}}  sample {event.sample:>10}  {values}"
            yield f"{time}  {event.stream}  {what}"
            yield f"{time}  {what}"
            yield f"{time}  {event.sample:>8}  {values}"
        case Detection():
            time, score = clock_time(event), f"{event.score:z.2f}"
            end = (f"  {event.phase}" if phase else "") + ("  (cut off)" if event.truncated else "")
            what = f"{event.label:<{LABEL_WIDTH}}  sample {event.sample:>10}  score {score}{end}"
            yield f"{time}  {event.stream}  {what}"
            yield f"{time}  {what}"
            where = f"  {event.sample:>8}  {score}"
            room = min(LABEL_WIDTH, max(1, width - len(time) - len(SPACE) - len(where)))
            yield f"{time}  {cut(event.label, room):<{room}}{where}"


def clock_time(event: Detection | Measure) -> str:
    """Return when an event was, for people: UTC, or seconds from the start where there is no UTC."""
    if event.time is not None:
        return event.time.strftime("%H:%M:%S.%f")[:-3]
    return "" if event.time_s is None else f"{event.time_s:.4f} s"


def measured(event: Measure) -> str:
    """Return the values of a measurement, for people."""
    return "  ".join(f"{name} {'-' if value is None else f'{value:z.4g}'}" for name, value in event.values.items())


def is_news(event: Detection | Measure | Flood | Gap) -> bool:
    """Whether an event is worth a line for people: a detection is one once, however many phases it has."""
    return not isinstance(event, Detection) or event.phase == "confirmed"


def lost_frames(gap: Gap) -> str:
    """Return what a gap cost, for people."""
    if gap.frames_error is None:
        return "frames lost (how many is unknown)"
    error = f" (give or take {gap.frames_error:,})" if gap.frames_error else ""
    return f"{counted(gap.frames, 'frame')} lost{error}"


def _lost(health: Health) -> str:
    """Return what a stream has lost so far, for people; nothing is no word."""
    if not health.overflows:
        return ""
    return f"{counted(health.lost_frames, 'frame')} lost in {counted(health.overflows, 'overflow')}"


def meter(health: Health, width: int | None = None) -> str:
    """Return a stream's level, state and counts as one line for people.

    `width`: it has at most so many characters: the bar gets shorter, then counts, bar and name are left out.
    """
    if health.state in ("opening", "stalled", "ended") and health.level_dbfs is None:
        peak = "-"  # there was no frame yet
    else:
        peak = "-inf" if health.level_dbfs is None else f"{health.level_dbfs:z.1f}"
    state = "NO SIGNAL" if health.state == "no signal" else health.state
    level, lost = f"{peak:>6} dBFS  {state}", _lost(health)
    lost = lost and f"  {lost}"
    for counts in (f"  {counted(health.detections, 'detection')}{lost}", lost, ""):
        bar = METER_WIDTH if width is None else width - cell_len(f"{health.stream}  [] {level}{counts}")
        if bar >= METER_LEAST:
            return f"{health.stream}  [{_bar(health, min(bar, METER_WIDTH))}] {level}{counts}"
    line = f"{health.stream}  {level.lstrip()}"
    return line if cell_len(line) <= width else cut(level.lstrip(), width)


def _bar(health: Health, width: int) -> str:
    level = METER_FLOOR_DBFS if health.level_dbfs is None else max(METER_FLOOR_DBFS, min(0.0, health.level_dbfs))
    filled = round(width * (1 - level / METER_FLOOR_DBFS))
    return "#" * filled + "." * (width - filled)


class Foot:
    """Lines that stay below all others on a terminal, such as meters; `lines` gives them for a width.

    The cursor rests above them, on the first of some empty rows. So what others write there (what is typed, the error
    of another program) gets rows of its own; and what is below the cursor is ours to erase, however the terminal breaks
    lines anew when its size changes. As long as we are a background job there are none.
    """

    def __init__(self, lines: Callable[[int], list[str]]):
        self._lines = lines
        self._size: os.terminal_size | None = None  # for which they stand there, None: they do not

    def draw(self, above: str | None = None) -> None:
        """Draw the lines anew, with one more line `above` them that stays."""
        text = self._eraser() + ("" if above is None else f"{above}\n")
        if is_in_front():
            self._size = shutil.get_terminal_size()
            text += self._rows(self._size)
        _write_out(text)

    def _rows(self, size: os.terminal_size) -> str:
        """Return the lines as they are written: a row each, and then back to where the cursor was."""
        lines = self._lines(size.columns)[: max(0, size.lines - EMPTY_ROWS)]
        rows = "\n" * EMPTY_ROWS + "\n".join(lines)
        up = EMPTY_ROWS + len(lines) - 1
        return f"{NO_WRAP}{rows}{WRAP}\x1b[{up}A\r" if lines else ""

    def follow_size(self) -> None:
        """Draw the lines anew where the terminal's size has changed."""
        if self._size not in (None, shutil.get_terminal_size()):
            self.draw()

    def clear(self) -> None:
        """Take the lines away."""
        _write_out(self._eraser())

    def _eraser(self) -> str:
        """Return what takes the lines away; nothing where they are not there, or the terminal is the shell's by now."""
        drawn, self._size = self._size is not None, None
        return ERASE if drawn and is_in_front() else ""


def _write_out(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


class RunScreen:
    """Shows events as they happen: lines on standard output, notes on standard error, meters on a terminal.

    The writing is done by a thread of its own: whoever reads our output may stop reading (a paused terminal), and that
    must stop neither the detection nor the publishing. `waits`: whether the source can wait for such a reader; if not,
    lines that find no room are dropped and counted.
    """

    def __init__(self, *, as_json: bool):
        self.waits = False
        self._as_json = as_json
        self._foot = Foot(self._meters) if can_redraw() else None
        self._health: dict[str, Health] = {}
        self._rates: dict[str, int] = {}
        self._said: dict[str, str] = {}
        self._unlike: dict[str, int] = {}
        self._last: dict[str, Health] = {}
        self._ended: dict[str, int] = {}  # reports, since it has
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
        self._writer.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Show what is waiting, take the meters away and sum up."""
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=DRAIN_S)
        self._writer.join(DRAIN_S)
        if self._foot is not None and not self.stuck:
            with contextlib.suppress(OSError):  # of a terminal that has gone
                self._foot.clear()
        for name, health in self._health.items():
            seconds = health.sample / self._rates.get(name, 1)
            heard, lost = counted(health.detections, "detection"), _lost(health)
            self.note(f"stream '{name}' ended: {heard} in {seconds:.1f} s of signal{lost and f', {lost}'}")
        dropped = self._dropped + self._waiting.qsize()
        if dropped and not isinstance(self._error, BrokenPipeError):
            were = f"{counted(dropped, 'event')} {'was' if dropped == 1 else 'were'}"
            self.note(f"{were} not shown: the reader of standard output was too slow")

    @property
    def stuck(self) -> bool:
        """Whether the writing still waits for a reader that does not read."""
        return self._writer.is_alive()

    def _write_all(self) -> None:
        try:
            while (event := self._next()) is not None:
                self._write(event)
        except OSError as error:
            self._error = error

    def _next(self) -> Event | None:
        """Wait for what is to be shown next; meanwhile the meters follow the terminal's size."""
        while self._foot is not None:
            with contextlib.suppress(queue.Empty):
                return self._waiting.get(timeout=RESIZE_S)
            self._foot.follow_size()
        return self._waiting.get()

    def _write(self, event: Event) -> None:
        if isinstance(event, Health):
            self._note_trouble(event)
            self._show_state(event)
        if self._as_json:
            self._line(to_json(event).decode())
        elif not isinstance(event, Health) and is_news(event):
            self._line(describe(event, width=self._foot and terminal_width()))

    def _line(self, text: str) -> None:
        if self._foot is not None:
            self._foot.draw(text)
        else:
            _write_out(text + "\n")

    def _tell(self, text: str) -> None:
        """Say something that is not an event; the meters make room for it, until they are drawn again."""
        if self._foot is not None:
            self._foot.clear()
        self.note(text)

    def _meters(self, width: int) -> list[str]:
        return [meter(health, width) for health in self._last.values()]

    def _show_state(self, health: Health) -> None:
        if self._foot is not None and is_in_front():
            self._foot.draw()
        else:
            self._note_state(health)

    def _note_trouble(self, health: Health) -> None:
        """Say once what is not as it should be: what is not permitted, nets that are switched off, a recording that ended."""
        before = self._last.get(health.stream)
        self._last[health.stream] = health
        name = f"stream '{health.stream}'"
        self._ended[health.stream] = self._ended.get(health.stream, 0) + 1 if health.state == "ended" else 0
        if self._ended[health.stream] == NOTE_STATE_AFTER:  # once, all of them say so
            self._tell(f"{name} has ended, as its input has; the others go on")
        if before is None:
            if health.callback == "Python":
                self._tell(f"{name}: this sounddevice takes no callback in machine code: it runs in Python")
            for refused in health.not_permitted:
                self._tell(f"{name}: without {refused}")
        behind, off = health.state == "behind", health.nets_off
        if behind != (before is not None and before.state == "behind") or off != (before.nets_off if before else ()):
            costs = ", ".join(f"{net} {cost:.1%}" for net, cost in health.costs.items())
            switched = f"; switched off: {', '.join(off)}" if off else ""
            state = "inference is behind" if behind else "inference keeps up"
            self._tell(f"{name}: {state}{switched}; each net's share of a core: {costs}")
        for name, text in (("recording", health.recording_error), ("clips", health.clips_error)):
            if text is not None and (before is None or getattr(before, f"{name}_error") is None):
                self._tell(f"{text}; listening goes on")
        if health.wire is not None and (before is None or before.wire is None):
            self._tell(f"{health.wire}; listening and publishing go on")
        told = None if before is None else before.journal
        if (health.journal is None) != (told is None):
            self._tell(f"journal: {health.journal or 'all is well again'}; listening and publishing go on")

    def _note_state(self, health: Health) -> None:
        """Where there is no meter, say at first what the level is, and then when the signal stops or comes back."""
        if health.state == self._said.get(health.stream) or health.state == "ended":
            self._unlike[health.stream] = 0
            return
        self._unlike[health.stream] += 1
        if self._unlike[health.stream] >= NOTE_STATE_AFTER or health.state == "running":
            self._said[health.stream] = health.state
            self._tell(meter(health))
