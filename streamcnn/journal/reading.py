"""Reading a journal's file from outside, whether a daemon writes it or not."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from streamcnn.errors import JournalError
from streamcnn.journal.damage import VERSION, damage_of, other_version, refuse_foreign, unreadable
from streamcnn.journal.rows import COLUMNS, Kept, checked, connected

EARLIEST_US = -(2**63)
UNKNOWN = -1  # of which number a row was


class Query(NamedTuple):
    """Which events to read from a journal: all where a field is None. `since_s` in seconds since 1970."""

    since_s: float | None = None
    stream: str | None = None
    label: str | None = None


_ALL = Query()


def read(path: Path, query: Query = _ALL) -> Iterator[Kept | int]:
    """Yield events from a journal's file, oldest first, whether a daemon writes it or not; of a damaged one its number.

    Raises JournalError where there is none or it cannot be read, InputError where another version wrote it.
    """
    if not path.is_file():
        raise JournalError(f"{path}: there is no journal", "name the daemon's with --journal or --config")
    since_us = EARLIEST_US if query.since_s is None else round(query.since_s * 1e6)
    try:
        with contextlib.closing(connected(path)) as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version != VERSION:
                raise other_version(path, version)
            refuse_foreign(db, path)
            db.execute("BEGIN")  # one state of it, whoever writes meanwhile
            (left,) = db.execute(
                "SELECT count(*) FROM events INDEXED BY events_at WHERE at >= ?", (since_us,)
            ).fetchone()
            for values in db.execute(f"{COLUMNS} WHERE at >= ? ORDER BY seq", (since_us,)):
                left -= 1
                row, is_whole = checked(values)
                if not is_whole:
                    yield row.seq
                elif _fits(row.topic, query):
                    yield row
            lost = max(left, 0 if left or query.since_s is not None or damage_of(db, "quick_check") is None else 1)
            yield from (UNKNOWN for _ in range(lost))  # rows that the index has, or had, and nobody finds
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise unreadable(path, error, "is it a journal of streamcnn?") from error


def _fits(topic: str, query: Query) -> bool:
    """Whether an event of a topic is wanted: `kind.stream.detector.label.`, of which names have no dots."""
    parts = topic.split(".")
    label = parts[3] if len(parts) > 4 else None
    return query.stream in (None, parts[1]) and query.label in (None, label)
