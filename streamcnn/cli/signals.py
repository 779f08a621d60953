"""What signals do to a command: at once while machine code is compiled, in order once a stream runs.

Python runs a signal's handler between two of its own instructions. LLVM compiles a function in one of them, for ten seconds and
more on a small machine. So while it does, a thread waits for signals, and ends the process as soon as one comes: there is
nothing yet that could be lost.
"""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import click

from streamcnn.cli import INTERRUPTED

ENDING = (signal.SIGINT, signal.SIGTERM)
MEANINGLESS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@contextmanager
def ended_at_once() -> Iterator[None]:
    """Have SIGINT and SIGTERM end the process at once, whatever C code is at work, for as long as the block lasts."""
    if threading.current_thread() is not threading.main_thread():  # only the main one may say what signals do
        yield
        return
    listening, telling = os.pipe()
    os.set_blocking(telling, False)
    woken = signal.set_wakeup_fd(telling, warn_on_full_buffer=False)
    before = {number: signal.signal(number, lambda *_: None) for number in ENDING}
    thread = threading.Thread(target=_end_on_signal, args=(listening,), name="signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(woken)
        os.write(telling, b"\0")  # no signal has that number
        thread.join()
        os.close(listening)
        os.close(telling)


def _end_on_signal(descriptor: int) -> None:
    while (number := os.read(descriptor, 1)[0]) != 0:
        if number in ENDING:
            print("streamcnn: stopped while compiling", file=sys.stderr, flush=True)
            if number == signal.SIGINT:
                os._exit(INTERRUPTED)
            ctypes.CDLL(None).signal(number, None)  # SIG_DFL; Python's own function is for the main thread only
            os.kill(os.getpid(), number)


class Signals:
    """The signals that `run` has received: SIGINT and SIGTERM, in order.

    Until `collect` is called either ends the command where it is. Then they are only noted, for an orderly end, and a second
    one ends the process the usual way.
    """

    def __init__(self):
        self.received: list[int] = []
        self._collecting = False
        self._before: dict[int, object] = {}

    def collect(self) -> None:
        """From now on only note what comes."""
        self._collecting = True

    def __enter__(self) -> "Signals":
        """Begin to listen."""
        for number in ENDING:
            self._before[number] = signal.signal(number, self._end)
        for number in MEANINGLESS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup(1) has it
                self._before[number] = signal.signal(number, self._explain)
        return self

    def __exit__(self, *_: object) -> None:
        """Restore what signals did before."""
        self._restore()

    def _end(self, number: int, _frame: object) -> None:
        self.received.append(number)
        if self._collecting:
            self._restore()
        else:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(0)

    def _explain(self, number: int, _frame: object) -> None:
        name = signal.Signals(number).name
        hint = "the configuration is read at the start only: restart to have it read again"
        reason = hint if number == signal.SIGHUP else "it has no meaning here"
        click.echo(f"streamcnn: {name} received: {reason}; going on", err=True)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
