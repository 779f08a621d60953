"""A row of a journal, whether it is as it was written, and how rows are found."""

import heapq
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

BUSY_S = 10.0

SCHEMA = """
CREATE TABLE events (
  seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, topic TEXT NOT NULL, payload TEXT NOT NULL, crc INTEGER NOT NULL);
CREATE INDEX events_topic ON events (topic, seq);
CREATE INDEX events_at ON events (at);
CREATE TABLE topics (topic TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE state (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
"""


class Kept(NamedTuple):
    """An event as it is kept: its number, when it was written (microseconds since 1970), its topic, and its JSON."""

    seq: int
    at_us: int
    topic: str
    payload: str


def checksum(row: Kept) -> int:
    """Return the checksum of a row (CRC-32)."""
    return zlib.crc32(f"{row.seq} {row.at_us} {row.topic} {row.payload}".encode())


# Damaged text is no text, and a damaged number may be text.
COLUMNS = (
    "SELECT seq, CAST(at AS INTEGER), CAST(topic AS BLOB), CAST(payload AS BLOB), CAST(crc AS INTEGER) FROM events"
)


def checked(values: tuple) -> tuple[Kept, bool]:
    """Return a row as it was read, and whether it is as it was written."""
    seq, at_us, topic, payload, crc = values
    try:
        row = Kept(seq, int(at_us), bytes(topic).decode(), bytes(payload).decode())
    except (ValueError, TypeError):
        return Kept(seq, 0, "", ""), False
    return row, seq > 0 and checksum(row) == crc


def topics_in(db: sqlite3.Connection) -> Iterator[tuple[str, int]]:
    """Yield topics with numbers of events, the last ones among them: also of events that are gone, and what is there."""
    for rows in ("seq FROM topics", "max(seq) FROM events GROUP BY topic"):
        for topic, seq in db.execute(f"SELECT CAST(topic AS BLOB), {rows}"):
            if topic is not None and isinstance(seq, int) and seq > 0:
                yield bytes(topic).decode(errors="replace"), seq


def page_of(
    db: sqlite3.Connection, topics: Sequence[str] | None, after: int, most: int, upto: int
) -> list[tuple[Kept, bool]]:
    """Return a page of a journal's file, of some topics or all, of each row whether it is as it was written.

    Topic by topic, each from the index: one index over all topics of a prefix would have to be sorted, and to scan what is
    newer may mean millions of events of other topics.
    """
    bounds = "seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
    if topics is None:
        return [checked(row) for row in db.execute(f"{COLUMNS} WHERE {bounds}", (after, upto, most))]
    one = f"{COLUMNS} WHERE topic = ? AND {bounds}"
    each = ((checked(row) for row in db.execute(one, (name, after, upto, most))) for name in topics)
    return [row for row, _ in zip(heapq.merge(*each), range(most), strict=False)]


def connected(path: Path) -> sqlite3.Connection:
    """Return a connection to a file in which nothing is trusted; it waits BUSY_S for others."""
    db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA trusted_schema = OFF")
    return db
