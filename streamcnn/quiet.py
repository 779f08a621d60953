"""Keeping the chatter of C libraries off the user's terminal: all of it at their start, later what is for their makers."""

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import BinaryIO, TextIO

PATIENCE_S = 1.0
# PortAudio prints which of its own expressions failed, and ALSA where in its own sources.
NOISE = (b"Expression '", b"ALSA lib ")


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Send what C code writes to standard error nowhere, for as long as the block lasts.

    For libraries that greet their loader with lines that mean nothing to a user and cannot be switched off: ALSA names
    every device that it did not find, TensorFlow the GPUs that are not there. Python's own errors are raised as ever.
    """
    descriptor = _fileno(sys.__stderr__)
    if descriptor is None:
        yield
        return
    sys.__stderr__.flush()
    with open(os.devnull, "wb") as nothing, _redirected(descriptor, nothing):
        yield


@contextlib.contextmanager
def told_by_libraries(told: list[bytes]) -> Iterator[None]:
    """Append to a list what C code writes to standard error, instead of showing it, for as long as the block lasts."""
    if not _is_open(2):
        yield
        return
    with tempfile.TemporaryFile() as text:
        try:
            with _redirected(2, text):
                yield
        finally:
            text.seek(0)
            told += [line for line in text.read().splitlines() if line.strip()]


@contextlib.contextmanager
def _redirected(descriptor: int, file: BinaryIO) -> Iterator[None]:
    """Let a descriptor write into a file, for as long as the block lasts."""
    saved = os.dup(descriptor)
    try:
        os.dup2(file.fileno(), descriptor)
        yield
    finally:
        os.dup2(saved, descriptor)
        os.close(saved)


class Filter:
    """Takes lines that begin as NOISE does out of what C code writes to standard error, while anybody wants that.

    What it writes goes through a pipe, from which a thread passes everything else on; Python's own `sys.stderr` goes to where
    it went.
    """

    def __init__(self):
        self._lock, self._users = threading.Lock(), 0
        self._real, self._before, self._thread = -1, None, None

    def begin(self) -> None:
        """Begin to filter; each is to be ended once."""
        with self._lock:
            self._users += 1
            if self._users > 1 or sys.stderr is None or not _is_open(2):
                return
            self._real, (reading, writing) = os.dup(2), os.pipe()
            sys.stderr.flush()
            os.dup2(writing, 2)
            os.close(writing)
            self._before: TextIO = sys.stderr
            if _fileno(sys.stderr) == 2:
                options = {"encoding": sys.stderr.encoding, "errors": "backslashreplace", "closefd": False}
                sys.stderr = open(self._real, "w", buffering=1, **options)  # noqa: SIM115 (until the end)
            self._thread = threading.Thread(target=self._pass_on, args=(reading,), name="stderr", daemon=True)
            self._thread.start()

    def end(self) -> None:
        """End to filter, once nobody wants it any more."""
        with self._lock:
            self._users -= 1
            if self._users or self._thread is None:
                return
            sys.stderr.flush()
            sys.stderr = self._before
            os.dup2(self._real, 2)  # the pipe's last writing end is gone
            self._thread.join(PATIENCE_S)  # longer only where a child of ours has the pipe too
            self._thread = None
            os.close(self._real)

    def _pass_on(self, reading: int) -> None:
        with open(reading, "rb") as lines:
            for line in lines:
                if not line.startswith(NOISE):
                    with contextlib.suppress(OSError):
                        os.write(self._real, line)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _fileno(file: TextIO | None) -> int | None:
    try:
        return file.fileno()
    except (AttributeError, OSError, ValueError):
        return None


noise_filter = Filter()
