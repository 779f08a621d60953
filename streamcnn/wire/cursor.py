"""The cursor: which event a subscriber dealt with last, in a small SQLite file that survives a kill at any time."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from streamcnn.errors import SubscribeError

REMOVE = "remove it to begin with what comes now, or name another file"
WRITABLE = "give a file that can be written, in a folder that can"
_COLUMNS = ["one", "publisher", "seq"]
_UNWRITABLE = ("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")
_PASSING = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_NOMEM")


class Place(NamedTuple):
    """The number of the last event that was dealt with, in a publisher's record of events."""

    publisher: str
    seq: int


class Cursor:
    """A place in a file; raises SubscribeError where the file cannot be opened or written, or holds something else."""

    def __init__(self, path: Path):
        self._path = path
        with self._named_errors():
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            with self._named_errors():
                self._open()
            self.load()
        except BaseException:
            self._db.close()
            raise

    def load(self) -> Place | None:
        """Return the place that was stored last, None where there is none yet."""
        with self._named_errors():
            row = self._db.execute("SELECT publisher, seq FROM place").fetchone()
        if row is None:
            return None
        publisher, seq = row
        if not isinstance(publisher, str):
            raise self._refusal(f"its publisher is {publisher!r}, not a name")
        if not isinstance(seq, int) or seq < 0:
            raise self._refusal(f"its seq is {seq!r}, not the number of an event")
        return Place(publisher, seq)

    def store(self, place: Place) -> None:
        """Store a place."""
        with self._named_errors():
            self._db.execute("INSERT OR REPLACE INTO place VALUES (1, ?, ?)", place)

    def close(self) -> None:
        """Give the file back."""
        self._db.close()

    def _open(self) -> None:
        self._refuse_others()  # before anything is written there
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = OFF")  # after the end of the power events come twice, but none is missed
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS place (one INTEGER PRIMARY KEY CHECK (one = 1), publisher TEXT, seq INTEGER)"
        )
        self._db.execute("UPDATE place SET seq = seq")  # fails where nothing can be stored; BEGIN IMMEDIATE does not

    def _refuse_others(self) -> None:
        """Refuse what was not made here, and what is cut off: SQLite reads zeros beyond the end, and thus a wrong number."""
        tables = [name for (name,) in self._db.execute("SELECT name FROM sqlite_master")]
        columns = [name for _, name, *_ in self._db.execute("PRAGMA table_info(place)")]
        if tables not in ([], ["place"]):
            raise self._refusal("it is a database of something else")
        if tables and columns != _COLUMNS:
            raise self._refusal(f"its table has the columns {', '.join(columns)}, expected {', '.join(_COLUMNS)}")
        (page_bytes,) = self._db.execute("PRAGMA page_size").fetchone()
        if self._path.exists() and self._path.stat().st_size % page_bytes:
            raise self._refusal("it is cut off")

    def _refusal(self, what: str, remedy: str | None = REMOVE) -> SubscribeError:
        return SubscribeError(f"{self._path}: no cursor can be kept there: {what}", remedy)

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except UnicodeDecodeError as error:  # of what SQLite says of it
            raise self._refusal("it is damaged", REMOVE) from error
        except sqlite3.Error as error:
            raise self._refusal(str(error), _remedy(error)) from error


def _remedy(error: sqlite3.Error) -> str | None:
    name = getattr(error, "sqlite_errorname", "")  # text that cannot be decoded has none
    if name.startswith(_UNWRITABLE):
        return WRITABLE
    return None if name.startswith(_PASSING) else REMOVE
