"""Events as lines of a file: JSON Lines, or CSV of detections."""

import csv
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TextIO

import msgspec

from streamcnn.errors import InputError, RunError
from streamcnn.events import Detection, Event, to_json

FORMATS = (".jsonl", ".csv")
_COLUMNS = [field for field in Detection.__struct_fields__ if field not in ("seq", "prev", "detected_at")]


class Lines:
    """Writes events to a file, in the format of its name's ending, or as JSON Lines to standard output ("-").

    CSV holds detections only, one column a field. Raises InputError for an ending that is not known or a file that
    cannot be opened, RunError where the writing fails (disk full).
    """

    def __init__(self, target: str):
        self._files = ExitStack()
        self._write: Callable[[Event], None] = self._json
        if target == "-":
            self._file: TextIO = sys.stdout
            return
        path = Path(target)
        if path.suffix not in FORMATS:
            raise InputError(
                f"{target}: events cannot be written as '{path.suffix}'",
                f"end the name with {' or '.join(FORMATS)}, or give '-' for standard output",
            )
        try:
            self._file = self._files.enter_context(path.open("w", encoding="utf-8", newline=""))
        except OSError as error:
            raise InputError(f"{target}: cannot be written: {error.strerror}") from error
        if path.suffix == ".csv":
            self._csv = csv.DictWriter(self._file, _COLUMNS, extrasaction="ignore", lineterminator="\n")
            self._csv.writeheader()
            self._write = self._row

    def write(self, event: Event) -> None:
        """Write one event."""
        with self._clear_errors():
            self._write(event)

    def __enter__(self) -> "Lines":
        """Return the sink itself."""
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Write what is buffered and close a file that was opened here."""
        with self._clear_errors():
            self._file.flush()
        self._files.close()

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            raise RunError(f"{self._file.name}: cannot be written: {error.strerror}") from error

    def _json(self, event: Event) -> None:
        self._file.write(to_json(event).decode() + "\n")

    def _row(self, event: Event) -> None:
        if isinstance(event, Detection):
            self._csv.writerow(msgspec.to_builtins(event))
