"""The command line, run in this process as `main` runs it, and what it must never say."""

import contextlib
import io
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple
from unittest import mock

import numpy as np

from streamcnn.cli import main
from streamcnn.pipeline.pipeline import Pipeline
from tests.fuzzing.case import REFUSED, TAKEN, Outcome, fault

COMPILING = re.compile(r"^streamcnn: (?:compiling the engine|another process is compiling).*\n", re.MULTILINE)


class Ran(NamedTuple):
    """How a command ended: its exit code, its output, and what it said on standard error.

    `frames`: that were processed. `noise`: what libraries wrote to standard error past Python.
    """

    code: object
    out: str
    err: str
    frames: int
    noise: str = ""


def run(*arguments: object) -> Ran:
    """Run a command line; whatever it raises is raised."""
    out, err, code = _stream("strict"), _stream("backslashreplace"), 0
    argv = ["streamcnn", *map(str, arguments)]
    with (
        mock.patch.object(sys, "argv", argv),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),  # forgets which were shown already
        counted() as frames,
        _of_libraries() as noise,
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code
        noise.seek(0)
        of_libraries = noise.read().decode(errors="replace")
    said = COMPILING.sub("", _text(err))
    return Ran(code, _text(out), said, sum(frames), of_libraries)


def judged(ran: Ran) -> Outcome:
    """Return what is to be said of a command by its ending alone."""
    if ran.code not in (0, 1, 2) or isinstance(ran.code, bool):
        return fault(f"exit code {ran.code}", ran.err[-500:])
    if "Traceback" in ran.err + ran.out:
        return fault("a traceback is shown", ran.err[-2000:])
    if "out of memory" in ran.err:
        return fault("memory: asks for more than there may be", ran.err)
    lines = ran.err.splitlines()
    strange = [line for line in lines if not line.startswith("streamcnn: ")]
    if strange:
        return fault(_kind(strange[0], lines[0]), ran.err[:1000])
    if ran.noise:
        return fault("a library writes to standard error", ran.noise[:500])
    if ran.code != 0 and not lines:
        return fault("fails without a word", ran.out[:300])
    return TAKEN if ran.code == 0 else REFUSED


@contextlib.contextmanager
def counted() -> Iterator[list[int]]:
    """Collect how many frames of sound pipelines process."""
    frames: list[int] = []
    process = Pipeline.process

    def counting(self: Pipeline, samples: np.ndarray) -> list:
        frames.append(len(samples))
        return process(self, samples)

    with mock.patch.object(Pipeline, "process", counting):
        yield frames


def _kind(strange: str, first: str) -> str:
    """Return what kind of line it is that should not stand on standard error."""
    warning = re.match(r".*/(\S+):\d+: (\w+Warning): (.{0,30})", strange)
    if warning:
        return "shows a warning: " + " ".join(warning.groups())
    if first.startswith("streamcnn: "):
        return "a message of several lines"
    return f"says what is no line of its own: {strange[:40]}"


@contextlib.contextmanager
def _of_libraries() -> Iterator[BinaryIO]:
    """Collect what libraries write to standard error past Python."""
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield file
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _stream(errors: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors=errors, write_through=True)


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    return stream.buffer.getvalue().decode(errors="replace")
