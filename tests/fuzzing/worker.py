"""A process that tries cases, and who watches over it: it may hang, take all memory, or die, and the watch goes on."""

import contextlib
import importlib
import multiprocessing
import os
import resource
import signal
import tempfile
import threading
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import NamedTuple

import streamcnn
from streamcnn.errors import StreamcnnError
from tests.fuzzing.case import REFUSED, Case, Door, Outcome, fault

PROGRAM = str(Path(streamcnn.__file__).parent)
SLOW_S = 2.0
HANGS_S = 6.0
PREPARES_S = 300.0
MOST_MB = 500
HARD_MB = 2000  # beyond that it gets none


def door_of(name: str) -> Door:
    """Return a door's module."""
    return importlib.import_module(f"tests.fuzzing.{name}")


def case_of(door: str, seed: int, number: int) -> Case:
    """Return a door's case of a seed: each has a source of chance of its own."""
    return door_of(door).case(Random(f"{door}/{seed}/{number}"))


class Result(NamedTuple):
    """The outcome of a case, how long it took, and how much memory."""

    outcome: Outcome
    took_s: float
    took_mb: float


class Worker:
    """A process that tries the cases of a door and a seed, begun anew where it does not come back."""

    def __init__(self, door: str, seed: int):
        self._door, self._seed = door, seed
        self._process: multiprocessing.Process | None = None

    def result(self, number: int) -> Result:
        """Try a case; what is slow is tried once more, since the machine may have been busy."""
        first = self._result(number)
        if first.outcome.fault not in ("slow", "hangs"):
            return first
        self.close()
        return self._result(number)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
            self._process = None

    def _result(self, number: int) -> Result:
        if self._process is None:
            self._start()
        self._connection.send(number)
        try:
            if self._connection.poll(HANGS_S):
                return self._connection.recv()
            self.close()
            return Result(fault("hangs", f"for {HANGS_S:g} s"), HANGS_S, 0.0)
        except (EOFError, ConnectionError):
            self._process.join()
            code = self._process.exitcode
            self.close()
            name = signal.Signals(-code).name if code and code < 0 else f"exit code {code}"
            return Result(fault(f"the process dies: {name}"), 0.0, 0.0)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, self._door, self._seed), daemon=True)
        self._process.start()
        theirs.close()
        try:
            is_up = self._connection.poll(PREPARES_S) and self._connection.recv()
        except EOFError:
            is_up = False
        if not is_up:
            self.close()
            raise RuntimeError(f"the door '{self._door}' does not come up")


def serve(connection: Connection, door: str, seed: int) -> None:
    """Try the cases whose numbers come, until none comes any more."""
    threads: list[str] = []
    threading.excepthook = lambda hooked: threads.append(_place(hooked.exc_value))
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
        os.environ.setdefault("XDG_CACHE_HOME", str(Path.home() / ".cache"))  # of machine code
        os.environ["HOME"] = os.environ["XDG_STATE_HOME"] = folder  # what a case names as `~` is not the user's
        os.chdir(folder)
        door_of(door).prepare()
        most = _status("VmData") * 1024 + HARD_MB * 2**20
        resource.setrlimit(resource.RLIMIT_DATA, (most, resource.RLIM_INFINITY))
        connection.send(True)
        with contextlib.suppress(EOFError):
            while True:
                number = connection.recv()
                with tempfile.TemporaryDirectory(dir=folder) as place:
                    os.chdir(place)
                    result = _tried(door, case_of(door, seed, number), Path(place))
                    os.chdir(folder)
                if threads:
                    result = result._replace(outcome=fault(f"a thread dies: {threads.pop()}"))
                connection.send(result)


def _tried(door: str, case: Case, folder: Path) -> Result:
    case.write(folder)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak of memory begins anew
    before_mb, began = _status("VmRSS") / 1024, time.monotonic()
    try:
        outcome = door_of(door).try_(case, folder)
    except StreamcnnError as error:
        outcome = REFUSED if str(error) else fault("fails without a word", repr(error))
    except MemoryError as error:
        outcome = fault("memory: asks for more than there may be", _place(error))
    except Exception as error:  # noqa: BLE001 (that is what is looked for)
        outcome = fault(_place(error), "".join(traceback.format_exception(error))[-3000:])
    took_s, took_mb = time.monotonic() - began, _status("VmHWM") / 1024 - before_mb
    if outcome.fault is None and took_mb > MOST_MB:
        outcome = fault(f"memory: more than {MOST_MB} MB", f"{took_mb:.0f} MB")
    if outcome.fault is None and took_s > SLOW_S:
        outcome = fault("slow", f"{took_s:.1f} s")
    return Result(outcome, took_s, took_mb)


def _place(error: BaseException) -> str:
    """Return what an exception is called, and the last place in the program that it came by."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename.startswith(PROGRAM)] or frames
    where = f" in {Path(ours[-1].filename).name}, {ours[-1].name}" if ours else ""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{name}{where}"


def _status(name: str) -> int:
    """Return a number of kB that the system tells of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
