"""What people see on terminals: lines that fit, meters that follow a new size, and errors on rows of their own."""

import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from fcntl import ioctl
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from streamcnn.cli.screen import Column, counted, cut, describe, meter, table
from streamcnn.cli.watch import _Board
from streamcnn.events import Detection, Event, Flood, Gap, Health, Measure
from tests.conftest import Cli, need, wait_until

WIDTHS = (100, 60, 40, 100)
ROWS = 30
TIME = datetime(2026, 11, 20, 12, 0, 10, 333_000, tzinfo=UTC)
DAYS = 4_123_456_789  # the sample of a stream that has run for a day


def health(**changes: object) -> Health:
    """A stream that is well, but for what is said."""
    usual = {"state": "running", "sample": 48_000, "level_dbfs": -12.3, "detections": 2, "overflows": 0,
             "lost_frames": 0}  # fmt: skip
    return Health(stream="mic0", session="s", **{**usual, **changes})


def detection(**changes: object) -> Detection:
    """A confirmed detection, but for what is said."""
    usual = {"stream": "mic0", "id": "i", "phase": "confirmed", "detector": "digits", "kind": "tag", "label": "seven",
             "net": "n", "sample": 24_000, "position": 24_000.0, "start_sample": 23_990, "end_sample": 24_010,
             "decided_sample": 24_020, "score": 0.93, "threshold": 0.5, "time": TIME}  # fmt: skip
    return Detection(session="s", **{**usual, **changes})


def gap(frames: int, error: int | None = 0) -> Gap:
    """A gap of the driver's."""
    return Gap(
        stream="mic0", session="s", start_sample=480, frames=frames, frames_error=error, cause="the driver lost frames"
    )


FLOOD = Flood(stream="mic0", session="s", detector="ramp", suppressed=1, start_sample=5, end_sample=48_005,
              decided_sample=5)  # fmt: skip
MEASURE = Measure(stream="mic0", session="s", id="m", detector="level", net="n", sample=77, start_sample=1,
                  decided_sample=1, values={"rms": 0.125, "peak": -0.0, "crest": None}, time=TIME)  # fmt: skip
EVENTS = [
    detection(),
    detection(id="j", label="a_label_that_has_no_end", sample=DAYS, phase="provisional", truncated=True),
    gap(49_054),
    gap(480, 12),
    gap(0, None),
    FLOOD,
    MEASURE,
]
TROUBLED = {"overflows": 1022, "lost_frames": 49_054, "detections": 1_234_567}


def test_counts_are_told_as_people_say_them():
    """One thing is singular, any other number of it plural, with separators between thousands."""
    assert [counted(number, "frame") for number in (0, 1, 2, 49_054)] == [
        "0 frames", "1 frame", "2 frames", "49,054 frames"
    ]  # fmt: skip
    assert "running  1 detection" in meter(health(detections=1))
    assert "1,234 detections  1 frame lost in 1 overflow" in meter(health(detections=1234, overflows=1, lost_frames=1))
    assert "49,054 frames lost in 1,022 overflows" in meter(health(**TROUBLED))
    assert "from sample 480: 1 frame lost, the driver" in describe(gap(1))
    assert "480 frames lost (give or take 12), the driver" in describe(gap(480, 12))
    assert "1 more event in samples 5 to 48005" in describe(FLOOD)


def test_nothing_is_minus_nothing():
    """A level, a score and a value that round to zero have no sign."""
    assert "    0.0 dBFS" in meter(health(level_dbfs=-0.0))
    assert "    0.0 dBFS" in meter(health(level_dbfs=-0.04))
    assert "score 0.00" in describe(detection(score=-0.001))
    assert "peak 0  crest -" in describe(MEASURE)


def test_positions_of_samples_are_for_scripts():
    """The position of an event has no separators and stands in a column."""
    assert describe(detection()) == "12:00:10.333  mic0  seven       sample      24000  score 0.93"
    assert f"sample {DAYS}  score" in describe(detection(sample=DAYS))


def test_a_stream_that_opens_has_no_level():
    """Before the first frame the meter says that the stream is opening, and no level."""
    assert meter(health(state="opening", level_dbfs=None)).startswith(f"mic0  [{'.' * 30}]      - dBFS  opening  ")
    assert "  -inf dBFS  NO SIGNAL  " in meter(health(state="no signal", level_dbfs=None))


@pytest.mark.parametrize(
    ("state", "level"), [("running", 0.0), ("no signal", None), ("stalled", -60.0), ("opening", None)]
)
@pytest.mark.parametrize("counts", [{}, TROUBLED], ids=["well", "troubled"])
def test_meters_fit(state: str, level: float | None, counts: dict[str, int]):
    """At any width a meter has one row and tells level and state; what was lost goes after the detections do."""
    for width in range(24, 121):
        line = meter(health(state=state, level_dbfs=level, **counts), width)
        assert cell_len(line) <= width
        assert "dBFS" in line
        assert ("NO SIGNAL" if state == "no signal" else state) in line
        assert "lost" in line or "detections" not in line or not counts


def test_a_narrow_meter_loses_its_bar_before_its_level():
    """The bar gets shorter, the counts go, then the bar, then the name."""
    lines = [meter(health(), width) for width in (100, 60, 40, 32, 20)]
    assert lines == [
        f"mic0  [{'#' * 24}{'.' * 6}]  -12.3 dBFS  running  2 detections",
        f"mic0  [{'#' * 14}{'.' * 3}]  -12.3 dBFS  running  2 detections",
        "mic0  [#########..]  -12.3 dBFS  running",
        "mic0  -12.3 dBFS  running",
        "-12.3 dBFS  running",
    ]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_lines_of_events_fit(event: Event):
    """At any width an event has one row, that of a detection with its time, sample and score."""
    for width in range(34, 121):
        line = describe(event, phase=True, width=width)
        assert cell_len(line) <= width
        if isinstance(event, Detection):
            assert re.match(rf"12:00:10.333  .*\w.*{event.sample}  .*0\.93", line)


def test_an_event_that_fits_is_told_in_full():
    """A line is shortened only where it must be."""
    for event in EVENTS:
        full = describe(event, phase=True)
        assert describe(event, phase=True, width=cell_len(full)) == full
        assert describe(event, phase=True, width=cell_len(full) - 1) != full


def board() -> _Board:
    """The table of `watch` with all kinds of events, and trouble."""
    board = _Board("tcp://127.0.0.1:5556")
    for event in (*EVENTS, health(**TROUBLED)):
        board.take(event)
    board.note("the publisher refuses the connection; it may want keys: see 'streamcnn keys'")
    return board


def drawn(board: _Board, width: int) -> list[str]:
    """Return the rows that a table takes on a terminal of a width."""
    console = Console(width=width, force_terminal=False)
    with console.capture() as captured:
        console.print(board.drawn(width))
    return captured.get().splitlines()


@pytest.mark.parametrize(
    ("width", "headings"),
    [
        (100, ["time", "(UTC)", "stream", "detector", "label", "sample", "score", "phase"]),
        (75, ["time", "(UTC)", "stream", "detector", "label", "sample", "score"]),
        (60, ["time", "(UTC)", "stream", "label", "sample", "score"]),
        (40, ["time", "(UTC)", "label", "sample", "score"]),
    ],
)
def test_the_table_has_the_columns_that_fit(width: int, headings: list[str]):
    """The narrower the terminal, the fewer columns; time, label, sample and score stay, each event in one row."""
    rows = drawn(board(), width)
    (first,) = (number for number, row in enumerate(rows) if row.startswith("time"))
    assert rows[first].split() == headings
    assert len(rows[first + 1 :]) == len(EVENTS)
    assert all(cell_len(row) <= width for row in rows)
    assert any(row.startswith("12:00:10.333") and "seven" in row and "24000   0.93" in row for row in rows)
    assert any("49,054" in row and row.startswith("gap") for row in rows)


def test_trouble_is_told_once_and_in_full():
    """What went wrong stands above the table, in as many rows as it takes, and once however often it does so."""
    full = board()
    full.note("the publisher refuses the connection; it may want keys: see 'streamcnn keys'")
    text = " ".join(row.strip() for row in drawn(full, 40))
    assert text.count("the publisher refuses the connection; it may want keys: see 'streamcnn keys'") == 1
    full.silent_s = 5.0
    assert "nothing heard from tcp://127.0.0.1:5556 for 5 s" in " ".join(row.strip() for row in drawn(full, 60))


def test_a_table_for_a_file_has_everything():
    """Without a width all columns are there, and no cell is cut."""
    columns = [Column("a", ("x" * 300, "y")), Column("b", ("1", "22"), rank=9, right=True, enough=1)]
    assert table(columns) == [f"{'a':<300}   b", f"{'x' * 300}   1", f"{'y':<300}  22"]
    assert table(columns, 10) == ["a", f"{'x' * 9}…", "y"]


def test_texts_are_cut_where_they_tell_least():
    """A cut text says so, has exactly the width, and keeps the end that is wanted; wide characters count twice."""
    assert cut("recognizer/conv1d_47", 10, keep_end=True) == "…conv1d_47"
    assert cut("recognizer/conv1d_47", 10) == "recognize…"
    assert cut("日本語", 5) == "日本…"


# ---- on real terminals


class Terminal:
    """A terminal of tmux, with a shell in it: what it shows is what a person sees, also when its size changes."""

    def __init__(self, folder: Path, width: int = WIDTHS[0]):
        self._socket, self._command = folder / "tmux", " ".join(Cli.command(()))
        environment = {name: value for name, value in os.environ.items() if name not in ("TMUX", "COLUMNS", "LINES")}
        subprocess.run(
            [*self._tmux, "-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(ROWS), "bash", "--norc"],
            env={**environment, "PS1": "$ "},
            check=True,
        )
        wait_until(lambda: self.rows[:1] == ["$"], "the shell")

    @property
    def _tmux(self) -> list[str]:
        return ["tmux", "-S", str(self._socket)]

    def __call__(self, *words: str) -> str:
        """Give tmux a command."""
        return subprocess.run([*self._tmux, *words], capture_output=True, text=True, check=True).stdout

    @property
    def rows(self) -> list[str]:
        """What it shows, without the empty rows at the end."""
        return self("capture-pane", "-p").rstrip("\n").splitlines()

    @property
    def shown(self) -> str:
        """What it shows, as one text."""
        return "\n".join(self.rows)

    def type(self, line: str) -> None:
        """Type a line into the shell; `streamcnn` is the one that is tested."""
        self("send-keys", line.replace("streamcnn", self._command), "Enter")

    def press(self, key: str) -> None:
        """Press a key, as tmux names it."""
        self("send-keys", key)

    def resize(self, width: int, height: int = ROWS) -> None:
        """Give it another size."""
        self("resize-window", "-x", str(width), "-y", str(height))

    def wait_for(self, condition: Callable[[list[str]], object], what: str) -> list[str]:
        """Wait until what it shows is as it should be, and return that."""

        def satisfied() -> list[str] | None:
            rows = self.rows
            return rows if rows and condition(rows) else None

        try:
            return wait_until(satisfied, what)
        except pytest.fail.Exception:
            pytest.fail(f"waited for {what}; the terminal shows\n{self.shown}")

    def close(self) -> None:
        """End it, and what runs in it."""
        subprocess.run([*self._tmux, "kill-server"], capture_output=True, check=False)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """A terminal of 100 columns."""
    need(shutil.which("tmux"), "tmux (apt install tmux)")
    need(shutil.which("bash"), "bash")
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.close()


def meters(rows: list[str]) -> list[str]:
    """Return the rows that hold something of a meter."""
    return [row for row in rows if "dBFS" in row or "##" in row]


def is_alone(row: str) -> bool:
    """Whether a row holds a meter and nothing else."""
    return re.fullmatch(r"live  (\[[#.]+\])? +-?[\d.]+ dBFS  running(  \d+ detections?)?", row) is not None


def last_sample(rows: list[str]) -> int:
    """Return where the last event that is shown in one row happened; 0 where there is none."""
    found = [re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3}  .*ramp +(sample +)?(\d+)  (score )?1\.00", row) for row in rows]
    return max((int(match[2]) for match in found if match), default=0)


def test_meters_follow_the_terminals_size(terminal: Terminal):
    """However often the terminal is resized, `run` shows its meter once, in one row, below events of one row each."""
    terminal.type("clear; streamcnn run --publish none")
    rows = terminal.wait_for(meters, "the meter")
    for width in WIDTHS[1:]:
        before = last_sample(rows)
        terminal.resize(width)
        rows = terminal.wait_for(
            lambda rows, before=before: len(meters(rows)) == 1 and is_alone(rows[-1]) and last_sample(rows) > before,
            f"one meter and a new event at {width}",
        )
        assert rows[-3:-1] == ["", ""]
        assert last_sample([rows[-4]]) > before
    terminal.press("C-c")
    rows = terminal.wait_for(lambda rows: rows[-1] == "$", "the shell")
    assert meters(rows) == []
    assert re.fullmatch(r"streamcnn: stream 'live' ended: \d+ detections in [\d.]+ s of signal", rows[-2])


def test_many_meters_fit_a_low_terminal(terminal: Terminal, tmp_path: Path):
    """Of more streams than a terminal has rows the first ones have meters, and the events above go on."""
    streams = "".join(f"  - {{name: s{k}, nets: [{{name: n, net: ramp}}]}}\n" for k in range(6))
    (tmp_path / "c.yaml").write_text(f"streams:\n{streams}", encoding="utf-8")
    terminal.type(f"clear; streamcnn run --publish none --config {tmp_path}/c.yaml")
    terminal.wait_for(lambda rows: len(meters(rows)) == 6, "six meters")
    terminal.resize(60, 6)
    rows = terminal.wait_for(lambda rows: len(meters(rows)) == 4, "four meters")
    assert [row.split()[0] for row in meters(rows)] == ["s0", "s1", "s2", "s3"]
    terminal.resize(100, ROWS)
    rows = terminal.wait_for(lambda rows: len(meters(rows)) == 6, "six meters")
    assert [row.split()[0] for row in rows[-6:]] == [f"s{k}" for k in range(6)]


def test_an_error_has_rows_of_its_own(terminal: Terminal, tmp_path: Path):
    """An error that ends `run` stands where the meter was; one of another program stands above the meter."""
    os.mkfifo(tmp_path / "frames")
    frames = os.open(tmp_path / "frames", os.O_RDWR)
    os.write(frames, bytes(4002))
    terminal.type(f"clear; streamcnn run --device - --publish none < {tmp_path}/frames")
    terminal.wait_for(lambda rows: "stalled" in rows[-1], "the meter")
    error = "another program: this is an error whose text takes two rows of a terminal; try something else next time"
    with open(terminal("display-message", "-p", "#{pane_tty}").strip(), "w", encoding="utf-8") as same:
        same.write(f"{error}\n")
    wanted = [error[: WIDTHS[0]], error[WIDTHS[0] :], "", ""]
    terminal.wait_for(lambda rows: rows[-5:-1] == wanted and "stalled" in rows[-1], "the error above the meter")
    os.close(frames)
    rows = terminal.wait_for(lambda rows: rows[-1] == "$", "the end")
    assert meters(rows) == []
    last = [row for row in rows if row.startswith("streamcnn: ")][-2:]
    assert last[0].startswith("streamcnn: stream 'live' ended: 0 detections in ")
    assert last[1].startswith("streamcnn: standard input ended inside a frame: ")


def test_a_second_daemon_says_what_it_lacks_on_rows_of_its_own(terminal: Terminal, tmp_path: Path):
    """A daemon in the background has no meter, so what the next one in the same terminal says is not mixed with it."""
    endpoint = f"ipc://{tmp_path}/e"
    terminal.type(f"clear; streamcnn run --publish {endpoint} &")
    terminal.wait_for(lambda rows: any("score 1.00" in row for row in rows), "the first daemon's events")
    terminal.type(f"streamcnn run --publish {endpoint}")
    rows = terminal.wait_for(lambda rows: any("in use" in row for row in rows), "the error")
    (error,) = (row for row in rows if "cannot publish" in row)
    assert error.startswith("streamcnn: cannot publish at ")
    assert "dBFS" not in terminal.shown.split("cannot publish")[1].split("--publish none")[0]
    terminal.type("kill %1")
    terminal.wait_for(lambda rows: any("ended" in row for row in rows), "its end")


@pytest.fixture
def daemon(cli: Cli, tmp_path: Path) -> Iterator[str]:
    """The endpoint of a daemon that hears the demo."""
    endpoint = f"ipc://{tmp_path}/d"
    daemon = cli.start("run", "--publish", endpoint, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield endpoint
    daemon.kill()
    daemon.communicate()


def test_the_table_follows_the_terminals_size(terminal: Terminal, daemon: str):
    """However often the terminal is resized, `watch` shows one table that fits; after Ctrl-C the last one stays."""
    terminal.type(f"clear; streamcnn watch {daemon}")
    terminal.wait_for(lambda rows: any("confirmed" in row for row in rows), "the table")
    for width, words in zip(WIDTHS[1:], (7, 5, 8), strict=True):
        terminal.resize(width)
        rows = terminal.wait_for(
            lambda rows, words=words: len(rows) > 2 and len(rows[1].split()) == words and is_alone(rows[0]),
            f"the table at {width}",
        )
        assert len(meters(rows)) == sum(row.startswith("time (UTC)") for row in rows) == 1
        assert all(re.match(r"\d\d:\d\d:\d\d\.\d{3}  .*ramp +\d+000   1\.00", row) for row in rows[2:])
    terminal.press("C-c")
    rows = [row for row in terminal.wait_for(lambda rows: rows[-1] == "$", "the shell") if row]
    assert is_alone(rows[0])
    assert rows[1].split() == ["time", "(UTC)", "stream", "detector", "label", "sample", "score", "phase"]
    assert all(re.match(r"\d\d:.* 1\.00  confirmed", row) for row in rows[2:-1])


def test_a_table_that_waits_says_so(terminal: Terminal):
    """`watch` says what it waits for until there is something to show, at any size, and also when it is ended."""
    text = "waiting for events from tcp://127.0.0.1:1 ..."
    terminal.type("clear; streamcnn watch tcp://127.0.0.1:1")
    terminal.wait_for(lambda rows: rows == [text], "the text")
    terminal.resize(30)
    terminal.wait_for(lambda rows: rows == ["waiting for events from", "tcp://127.0.0.1:1 ..."], "the text in two rows")
    terminal.resize(WIDTHS[0])
    terminal.wait_for(lambda rows: rows == [text], "the text")
    terminal.press("C-c")
    rows = terminal.wait_for(lambda rows: rows[-1] == "$", "the shell")
    assert [row for row in rows if row] == [text, "$"]


class Teletype:
    """A command on a terminal, by default one that can only print; `printed` is what it printed."""

    def __init__(self, *arguments: object, columns: int = WIDTHS[0], kind: str = "dumb"):
        self._ours, theirs = pty.openpty()
        ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
        environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        self.printed = ""
        self.process = subprocess.Popen(
            Cli.command(arguments), stdin=theirs, stdout=theirs, stderr=theirs, env={**environment, "TERM": kind}
        )
        os.close(theirs)

    def wait_for(self, pattern: str) -> None:
        """Wait until something was printed."""
        wait_until(lambda: self._read() and re.search(pattern, self.printed), pattern)

    def wait(self) -> int:
        """Wait until the command has ended, and return its exit code."""
        wait_until(lambda: not self._read(), "the end")
        return self.process.wait(30)

    def _read(self) -> bool:
        """Take what has been printed meanwhile; tells whether there may be more."""
        if select.select([self._ours], [], [], 0.1)[0]:
            try:
                self.printed += os.read(self._ours, 1 << 16).decode()
            except OSError:  # that is how Linux says that nobody has it open any more
                return False
        return True

    def close(self) -> None:
        """End the command."""
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.mark.parametrize("command", ["run", "watch"])
def test_a_dumb_terminal_gets_lines(command: str, daemon: str):
    """Where nothing can be erased, `run` and `watch` print lines as they do into a pipe."""
    with closing(Teletype("run", "--publish", "none") if command == "run" else Teletype("watch", daemon)) as terminal:
        terminal.wait_for(r"live  ramp        sample +\d+000  score 1\.00(  confirmed)?\r\n")
        terminal.wait_for(r"live  \[#+\.*\] .* dBFS  running  \d+ detections?\r\n")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.wait() == 130
    assert "\x1b" not in terminal.printed


def test_a_pipe_gets_no_meter(cli: Cli):
    """Without a terminal nothing is erased or shortened, however narrow a terminal says it is."""
    done = subprocess.run(
        cli.command(("run", "--duration", "1.2", "--publish", "none")),
        capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "40", "TERM": "xterm"},
    )  # fmt: skip
    assert [line.split("  ")[1] for line in done.stdout.splitlines()] == ["live", "live"]
    assert "\x1b" not in done.stdout + done.stderr
