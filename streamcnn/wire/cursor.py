"""The cursor: which event a subscriber dealt with last, in a small SQLite file that survives a kill at any time."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from streamcnn.errors import SubscribeError


class Place(NamedTuple):
    """The number of the last event that was dealt with, in a publisher's record of events."""

    publisher: str
    seq: int


class Cursor:
    """A place in a file; raises SubscribeError where the file cannot be opened or written."""

    def __init__(self, path: Path):
        self._path = path
        with self._named_errors():
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute(
                "PRAGMA synchronous = OFF"
            )  # after the end of the power events come twice, but none is missed
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS place (one INTEGER PRIMARY KEY CHECK (one = 1), publisher TEXT, seq INTEGER)"
            )

    def load(self) -> Place | None:
        """Return the place that was stored last, None where there is none yet."""
        with self._named_errors():
            row = self._db.execute("SELECT publisher, seq FROM place").fetchone()
        return None if row is None else Place(*row)

    def store(self, place: Place) -> None:
        """Store a place."""
        with self._named_errors():
            self._db.execute("INSERT OR REPLACE INTO place VALUES (1, ?, ?)", place)

    def close(self) -> None:
        """Give the file back."""
        self._db.close()

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise SubscribeError(f"{self._path}: no cursor can be kept there: {error}") from error
