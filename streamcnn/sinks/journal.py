"""The journal: the durable record of events, from which is answered what a subscriber has missed.

Rules.

- An event is in the journal before it is published. Its number, `seq`, rises for ever and is never used twice: numbers are
  reserved in the journal ahead of their use, and a new journal begins at the time of its making in milliseconds, so that it
  is ahead of any journal or process before it.
- One process writes a journal, one thread of it; any number of readers read.
- What was written survives the end of the process at once (SQLite's write-ahead log), and the end of the power once it was
  synced, each second, by a thread of its own: a slow disk does not hold up who writes.
- Where the disk is full, or fails, events wait in memory, in order and up to a limit, until they can be written; who asks for
  them gets them from there. A journal whose pages do not hang together is set aside and a new one begun; an index that does
  not fit its rows is made anew.
- Each row has a checksum. One that is not as it was written is left out, counted, and told; those around it are not held up.
- Events go by age, on the host's clock. After a jump of that clock none goes by age for a day: it may be set right again.
- Health is not kept: it would be most of the journal, and each one is outdated by the next.

Without a path it is kept in memory: the last MOST_KEPT events of this process.
"""

import contextlib
import fcntl
import heapq
import os
import re
import secrets
import sqlite3
import threading
import time
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from streamcnn.errors import InputError, JournalError
from streamcnn.events import Event, Health, to_json
from streamcnn.sinks.host_clock import HostClock

VERSION = 2
APPLICATION = 0x7363_6E6E  # "scnn": SQLite's application_id
RESERVED = 1_000_000  # numbers at a time
MOST_KEPT = 20_000  # events in memory, without a path
MOST_WAITING = 300_000  # events in memory, while they cannot be written
SYNC_S = 1.0
RETRY_S = 1.0
TIDY_S = 10.0
TIDIED = 20_000  # events that are removed at once, at most
SCRUBBED = 2_000  # rows that are looked at every TIDY_S
BUSY_S = 10.0
MOST_SEQ = 2**63 - 1
MOST_RESERVED = 2**62
SMALL = 1 << 24  # bytes, which are looked at in a moment
SMALLEST = 512  # bytes: SQLite's smallest page
UNKNOWN = -1  # of which number a row was
_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_TRANSIENT = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_NOMEM")

_SCHEMA = """
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


def _crc(row: Kept) -> int:
    """Return the checksum of a row (CRC-32)."""
    return zlib.crc32(f"{row.seq} {row.at_us} {row.topic} {row.payload}".encode())


class Journal:
    """Numbers events and keeps them; `append` belongs to one thread, `page` and `latest` to any.

    `path`: of the SQLite file, None for memory. `keep_s` and `most_bytes`: beyond that age or size the oldest events go.
    `publisher` is what this record of events is called, the same for its life. `notice`: what is not as it should be, None
    where all is well.

    Raises JournalError where the file cannot be opened or another process writes it, InputError where another version
    wrote it.
    """

    def __init__(self, path: Path | None = None, keep_s: float | None = None, most_bytes: int | None = None):
        self.path = path
        self._failure: str | None = None
        self._reindexed: str | None = None
        self._damaged: set[int] = set()  # numbers of rows
        self._scrubbed = -MOST_SEQ  # up to which number
        self._clock = HostClock()
        self.publisher = secrets.token_hex(8)
        self._keep_s, self._most_bytes = keep_s, most_bytes
        self._seq = self._settled = time.time_ns() // 1_000_000
        self._reserved = 0
        self._last: dict[str, int] = {}
        self._waiting: deque[Kept] = deque(maxlen=MOST_KEPT if path is None else MOST_WAITING)
        self._lock, self._reading = threading.Lock(), threading.Lock()  # of what waits, of the readers' connection
        self._db: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._dropped, self._aside, self._failed_s, self._tidied_s = 0, None, -RETRY_S, time.monotonic()
        self._damage: Exception | None = None  # that a reader, or the thread that syncs, came across
        self._new, self._closing, self._syncer = threading.Event(), threading.Event(), None
        if path is not None:
            self._locked = _lock(path)
            try:
                self._open(beginning=True)
            except BaseException:
                os.close(self._locked)
                raise
            self._syncer = threading.Thread(target=self._sync, name="journal", daemon=True)
            self._syncer.start()

    @property
    def last(self) -> dict[str, int]:
        """The number of the last event of each topic that is kept."""
        return self._last

    @property
    def notice(self) -> str | None:
        """What is not as it should be."""
        damaged = len(self._damaged)
        said = (
            self._failure,
            self._aside,
            f"{self._dropped:,} events could not be kept" if self._dropped else None,
            self._reindexed,
            f"{self.path}: {damaged:,} damaged {'row is' if damaged == 1 else 'rows are'} left out" if damaged else None,
            self._clock.notice,
        )
        return "; ".join(filter(None, said)) or None

    @property
    def seq(self) -> int:
        """The last number of which the event is where `page` finds it, if it is kept at all."""
        return self._settled

    def append(self, events: Sequence[Event]) -> list[Event]:
        """Number events and keep them; returns them numbered, whether they could be written or must wait."""
        numbered, rows, now = [], [], time.time_ns() // 1000
        for event in events:
            self._seq += 1
            topic = event.topic
            if isinstance(event, Health):
                numbered.append(event.numbered(self._seq, None))
                continue
            event = event.numbered(self._seq, self._last.get(topic))
            self._last[topic] = self._seq
            rows.append(Kept(self._seq, now, topic, to_json(event).decode()))
            numbered.append(event)
        if rows:
            with self._lock:
                full = self.path is not None and len(self._waiting) + len(rows) > MOST_WAITING
                self._dropped += max(0, len(self._waiting) + len(rows) - MOST_WAITING) if full else 0
                self._waiting.extend(rows)
        self._settled = self._seq
        if self.path is not None and (rows or self._seq > self._reserved - RESERVED // 2):
            self._write()
        return numbered

    def tend(self) -> None:
        """Write what has to wait, and remove what is too old or too much; to be called now and then."""
        if self.path is None:
            return
        self._clock.watch()
        if self._damage is not None:
            with self._troubles():
                self._mend(self._damage)
        if self._db is not None and self._gone():
            self._let_go()
            self._aside = f"{self.path}: was removed; a new journal was begun"
        if self._db is None and time.monotonic() - self._failed_s >= RETRY_S:
            with self._troubles():
                self._open()
        if self._waiting:
            self._write()
        elif time.monotonic() - self._tidied_s >= TIDY_S and self._db is not None:
            with self._troubles():
                self._scrub()
                if self._tidy():
                    return  # there is more of it
                self._tidied_s = time.monotonic()

    def page(self, topics: Sequence[str], after: int, most: int, upto: int = MOST_SEQ) -> list[Kept]:
        """Return, in order, at most so many of the events with a number above `after` whose topics begin with one of these.

        None above `upto`: of those, others that come before may not be there yet. Raises JournalError where the file
        cannot be read.
        """
        with self._lock:  # before the file is read: what is written meanwhile is in both, and not in neither
            waiting = [row for row in self._waiting if after < row.seq <= upto and row.topic.startswith(tuple(topics))]
        kept: list[Kept] = []
        place = after
        with self._reading:
            while self.path is not None and len(kept) < most:
                asked = most - len(kept)
                rows = self._page_of_file(topics, place, asked, upto)
                kept += [row for row, is_whole in rows if is_whole]
                self._damaged |= {row.seq for row, is_whole in rows if not is_whole}
                if len(rows) < asked or rows[-1][0].seq <= place:  # a damaged page leads in circles
                    break
                place = rows[-1][0].seq
        newest = kept[-1].seq if kept else after
        return kept + [row for row in waiting if row.seq > newest][: most - len(kept)]

    def latest(self, topics: Sequence[str]) -> list[Kept]:
        """Return the last event of each topic that begins with one of these; raises JournalError as `page` does."""
        rows = {}
        for topic, seq in list(self._last.items()):
            if topic.startswith(tuple(topics)):
                # Where that one is damaged the page begins with another.
                rows.update((row.topic, row) for row in self.page([topic], seq - 1, 1) if row.topic == topic)
        return sorted(rows.values())

    def close(self) -> None:
        """Write what waits, sync, and give the file back."""
        if self.path is None:
            return
        self._closing.set()
        self._new.set()
        self._syncer.join()
        if self._waiting:
            self._failed_s = -RETRY_S
            self._write()
        if self._db is not None:
            with self._troubles():
                self._db.execute("UPDATE state SET value = ? WHERE name = 'reserved'", (self._seq,))
                self._reserve(self._seq)
                with self._reading:  # what a reader has not read to its end would hold it up
                    if self._reader is not None:
                        self._reader.close()
                    self._reader = None
                _checkpoint(self._db, "TRUNCATE")
        self._let_go()
        os.close(self._locked)

    # The file

    def _open(self, *, beginning: bool = False) -> None:
        """Open the file, or begin it; a damaged one is set aside. At the `beginning` it must be there: it says the numbers."""
        try:
            self._db = self._opened()
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if _is_damage(error):
                self._set_aside(error)
                self._db = self._opened()
            elif _is_transient(error) and not beginning:
                self._failed(error)
                return
            else:
                raise JournalError(
                    f"{self.path}: the journal cannot be opened: {error}", "check its folder, or journal.path"
                ) from error
        self._reader = _connected(self.path)
        self._inode = self.path.stat().st_ino

    def _opened(self) -> sqlite3.Connection:
        size = self.path.stat().st_size if self.path.exists() else None
        if size is not None and size < SMALLEST:  # to SQLite an empty database
            if size:
                self._set_aside(sqlite3.DatabaseError(f"it was cut off after {size} bytes"))
            else:
                self._aside = self._aside or f"{self.path}: was empty; a new journal was begun"
        db = _connected(self.path)
        try:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version not in (0, VERSION):
                raise _other_version(self.path, version)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")  # only when the log begins anew; `_sync` does the rest
            db.execute("PRAGMA wal_autocheckpoint = 0")
            _refuse_foreign(db, self.path)
            if version == 0:
                if db.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
                    raise InputError(f"{self.path}: is a database, but no journal", "give journal.path another name")
                state = f"INSERT INTO state VALUES ('publisher', '{self.publisher}'), ('reserved', {self._seq});"
                marks = f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION};"
                db.executescript(f"BEGIN; {_SCHEMA} {state} {marks} COMMIT;")
                if self._aside is None and self._reserved_before():
                    self._aside = f"{self.path}: was empty, or gone; a new journal was begun"
            state = dict(db.execute("SELECT name, value FROM state"))
            reserved = state.get("reserved")
            if not isinstance(state.get("publisher"), str) or not isinstance(reserved, int) or reserved > MOST_RESERVED:
                raise InputError(
                    f"{self.path}: is a journal that lacks its own state", "give journal.path another name"
                )
            self.publisher, self._reserved = state["publisher"], reserved
            self._seq = self._settled = max(self._seq, self._reserved, self._reserved_before())
            for topic, seq in _topics(db):
                self._last[topic] = max(seq, self._last.get(topic, 0))
            self._damaged |= {seq for (seq,) in db.execute("SELECT seq FROM events WHERE seq <= 0 LIMIT 1000")}
            (newest_us,) = db.execute("SELECT max(at) FROM events WHERE typeof(at) = 'integer'").fetchone()
            self._clock.compare(None if newest_us is None else newest_us / 1e6)
            if self.path.stat().st_size <= SMALL:  # a large one is looked at by the thread that syncs
                damage = _damage_of(db)
                if isinstance(damage, _UnfitIndex):
                    self._reindex(db)
                elif damage is not None:
                    raise damage
        except BaseException:
            db.close()
            raise
        return db

    def _mend(self, damage: Exception) -> None:
        """Make the indexes anew where only they are damaged; raise any other damage."""
        self._damage = None
        if self._db is None or not isinstance(damage, _UnfitIndex):
            raise damage
        self._reindex(self._db)

    def _reindex(self, db: sqlite3.Connection) -> None:
        db.execute("REINDEX")
        self._reindexed = f"{self.path}: an index was damaged, and made anew; see whether the disk fails"

    def _write(self) -> None:
        """Write what waits, all of it or nothing; where that fails, it goes on waiting."""
        if time.monotonic() - self._failed_s < RETRY_S:
            return
        with self._troubles():
            if self._db is None:
                self._open()
                if self._db is None:
                    return
            rows = list(self._waiting)
            self._db.execute("BEGIN IMMEDIATE")
            try:
                if self._seq > self._reserved - RESERVED // 2:
                    reserved = self._seq + RESERVED
                    self._reserve(reserved)
                    self._db.execute("UPDATE state SET value = ? WHERE name = 'reserved'", (reserved,))
                    self._reserved = reserved
                self._db.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", [(*row, _crc(row)) for row in rows])
                last = {row.topic: row.seq for row in rows}
                self._db.executemany("INSERT OR REPLACE INTO topics VALUES (?, ?)", last.items())
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            with self._lock:
                for _ in rows:
                    self._waiting.popleft()
            self._new.set()
            self._failure = None

    def _reserve(self, number: int) -> None:
        """Note beside the journal too up to where numbers are reserved: should the file be lost, they are not used again."""
        os.pwrite(self._locked, f"{number:020d}".encode(), 0)
        os.fsync(self._locked)

    def _reserved_before(self) -> int:
        """Return up to where numbers were reserved, 0 where that is not known."""
        text = os.pread(self._locked, 20, 0)
        number = int(text) if text.isdigit() else 0
        return number if number <= MOST_RESERVED else 0

    def _tidy(self) -> bool:
        """Remove some of what is too old or too much; return whether there may be more."""
        removed = 0
        if self._keep_s is not None and not self._clock.is_held:
            oldest = time.time_ns() // 1000 - round(self._keep_s * 1e6)
            chosen = "SELECT seq FROM events INDEXED BY events_at WHERE at < ? LIMIT ?"
            removed += self._db.execute(f"DELETE FROM events WHERE seq IN ({chosen})", (oldest, TIDIED)).rowcount
        pages, free, size = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        if self._most_bytes is not None and (pages - free) * size > self._most_bytes:
            chosen = "SELECT seq FROM events ORDER BY seq LIMIT ?"
            removed += self._db.execute(f"DELETE FROM events WHERE seq IN ({chosen})", (TIDIED,)).rowcount
        return removed >= TIDIED

    def _scrub(self) -> None:
        """Look at some rows, and the next time at the next ones: a damaged one may be where no page looks for it."""
        bounds = "WHERE seq > ? ORDER BY seq LIMIT ?"
        rows = [_checked(values) for values in self._db.execute(f"{_COLUMNS} {bounds}", (self._scrubbed, SCRUBBED))]
        self._damaged |= {row.seq for row, is_whole in rows if not is_whole}
        self._scrubbed = rows[-1][0].seq if len(rows) == SCRUBBED else -MOST_SEQ

    @contextlib.contextmanager
    def _troubles(self) -> Iterator[None]:
        """Turn what goes wrong with the file into a notice: it must not end the detection."""
        try:
            yield
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if _is_damage(error):
                self._let_go()
                with contextlib.suppress(OSError):
                    self._set_aside(error)
            else:
                self._failed(error)
        except (JournalError, InputError, OSError) as error:  # of a file that was changed under us
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self._failed_s = time.monotonic()
        self._failure = f"{self.path}: cannot be written: {error}; {len(self._waiting):,} events wait in memory"

    def _set_aside(self, error: Exception) -> None:
        """Rename a damaged journal, with what belongs to it; the next one is new, and so are its name and numbers."""
        aside = self.path.with_name(f"{self.path.name}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{self.path}{suffix}", f"{aside}{suffix}")
        self.publisher, self._damage = secrets.token_hex(8), None
        self._seq, self._reserved = max(self._seq, time.time_ns() // 1_000_000), 0
        reason = "its schema is no text" if isinstance(error, UnicodeDecodeError) else error
        self._aside = f"{self.path}: was damaged ({reason}); it was set aside as {aside.name}"
        self._reindexed, self._damaged = None, set()

    def _gone(self) -> bool:
        """Whether somebody has removed or replaced the file: what is written then, nobody will ever read."""
        try:
            return self.path.stat().st_ino != self._inode
        except FileNotFoundError:
            return True
        except OSError:  # a folder that cannot be looked into just now
            return False

    def _let_go(self) -> None:
        with self._reading:
            for connection in (self._db, self._reader):
                if connection is not None:
                    with contextlib.suppress(sqlite3.Error):
                        connection.close()
            self._db = self._reader = None

    def _sync(self) -> None:
        """Each second, bring what was written to the disk, and from the log into the file.

        At first see whether a large file is sound.
        """
        with contextlib.suppress(sqlite3.Error, OSError):
            if self.path.stat().st_size > SMALL:
                with contextlib.closing(_connected(self.path)) as db:
                    self._damage = self._damage or _damage_of(db)
        while not self._closing.is_set():
            self._new.wait()
            self._new.clear()
            if self._closing.wait(SYNC_S):
                break
            try:
                with contextlib.closing(_connected(self.path)) as db:  # anew: it may be another file by now
                    _checkpoint(db, "PASSIVE")
            except sqlite3.Error as error:
                self._failure = self._failure or f"{self.path}: cannot be synced: {error}"

    def _page_of_file(self, topics: Sequence[str], after: int, most: int, upto: int) -> list[tuple[Kept, bool]]:
        if self._reader is None:
            raise JournalError(f"{self.path}: cannot be read just now", "see the daemon's health")
        try:
            names = [name for name, last in list(self._last.items()) if last > after and name.startswith(tuple(topics))]
            return _page(self._reader, None if "" in topics else names, after, most, upto)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            if _is_damage(error):
                self._damage = error  # whoever writes it sets it aside
            raise _unreadable(self.path, error, "see 'streamcnn events'") from error


class Query(NamedTuple):
    """Which events to read from a journal: all where a field is None. `since_s` in seconds since 1970."""

    since_s: float | None = None
    stream: str | None = None
    label: str | None = None


_ALL = Query()
# Damaged text is no text, and a damaged number may be text.
_COLUMNS = (
    "SELECT seq, CAST(at AS INTEGER), CAST(topic AS BLOB), CAST(payload AS BLOB), CAST(crc AS INTEGER) FROM events"
)


def read(path: Path, query: Query = _ALL) -> Iterator[Kept | int]:
    """Yield events from a journal's file, oldest first, whether a daemon writes it or not; of a damaged one its number.

    Raises JournalError where there is none or it cannot be read, InputError where another version wrote it.
    """
    if not path.is_file():
        raise JournalError(f"{path}: there is no journal", "name the daemon's with --journal or --config")
    since_us = -MOST_SEQ - 1 if query.since_s is None else round(query.since_s * 1e6)
    try:
        with contextlib.closing(_connected(path)) as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version != VERSION:
                raise _other_version(path, version)
            _refuse_foreign(db, path)
            db.execute("BEGIN")  # one state of it, whoever writes meanwhile
            (left,) = db.execute("SELECT count(*) FROM events INDEXED BY events_at WHERE at >= ?", (since_us,)).fetchone()
            for values in db.execute(f"{_COLUMNS} WHERE at >= ? ORDER BY seq", (since_us,)):
                left -= 1
                row, is_whole = _checked(values)
                if not is_whole:
                    yield row.seq
                elif _fits(row.topic, query):
                    yield row
            lost = max(left, 0 if left or query.since_s is not None or _damage_of(db, "quick_check") is None else 1)
            yield from (UNKNOWN for _ in range(lost))  # rows that the index has, or had, and nobody finds
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise _unreadable(path, error, "is it a journal of streamcnn?") from error


def _fits(topic: str, query: Query) -> bool:
    """Whether an event of a topic is wanted: `kind.stream.detector.label.`, of which names have no dots."""
    parts = topic.split(".")
    label = parts[3] if len(parts) > 4 else None
    return query.stream in (None, parts[1]) and query.label in (None, label)


def _checked(values: tuple) -> tuple[Kept, bool]:
    """Return a row as it was read, and whether it is as it was written."""
    seq, at_us, topic, payload, crc = values
    try:
        row = Kept(seq, int(at_us), bytes(topic).decode(), bytes(payload).decode())
    except (ValueError, TypeError):
        return Kept(seq, 0, "", ""), False
    return row, seq > 0 and _crc(row) == crc


class _UnfitIndex(sqlite3.DatabaseError):
    """An index that does not fit the rows: they are not found by it."""


class _BrokenPages(sqlite3.DatabaseError):
    """Pages that do not hang together: rows are lost, and new ones may be."""


# What SQLite says of single rows (their checksums tell it too) and of indexes; all else is about pages.
_OF_ROWS = re.compile("(?:NULL|NUMERIC|TEXT|BLOB|non-[A-Z]+) value in |CHECK constraint failed in ")
_OF_INDEXES = re.compile("(?:row(?:id)? .*|wrong # of entries in|non-unique entry in) index ")


def _damage_of(db: sqlite3.Connection, check: str = "integrity_check") -> Exception | None:
    """Return what does not fit together in a file, None where all does.

    That takes as long as reading the file; a `quick_check`, which leaves out whether the indexes fit, half as long.
    """
    try:
        said = [str(line) for (line,) in db.execute(f"PRAGMA {check}(1000)")]
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        return error if _is_damage(error) else None
    said = [line for line in said if line != "ok" and not _OF_ROWS.match(line)]
    broken = [line for line in said if not _OF_INDEXES.match(line)]
    if broken:
        return _BrokenPages(broken[0].splitlines()[-1])
    return _UnfitIndex(said[0]) if said else None


def _refuse_foreign(db: sqlite3.Connection, path: Path) -> None:
    """Refuse a database in which something else happens than what we wrote: views can be endless, triggers undo writes."""
    kinds = {kind for (kind,) in db.execute("SELECT CAST(type AS BLOB) FROM sqlite_master")}
    if not kinds <= {b"table", b"index"}:
        raise InputError(f"{path}: is a database, but no journal: it has views or triggers", "give journal.path another name")


def _other_version(path: Path, version: int) -> InputError:
    remedy = "update streamcnn" if version > VERSION else "move it away; a new one is begun"
    return InputError(f"{path}: a journal of version {version}, this streamcnn takes version {VERSION}", remedy)


def _checkpoint(db: sqlite3.Connection, how: str) -> None:
    """Bring what was written to the disk, and from the log into the file."""
    db.execute("PRAGMA synchronous = FULL")
    db.execute(f"PRAGMA wal_checkpoint({how})")


def _is_damage(error: Exception) -> bool:
    """Whether an error says that a file is damaged; SQLite's own message may quote what is no text."""
    return isinstance(error, UnicodeDecodeError | _BrokenPages) or _name(error).startswith(_DAMAGE)


def _is_transient(error: Exception) -> bool:
    return _name(error).startswith(_TRANSIENT)


def _name(error: Exception) -> str:
    return getattr(error, "sqlite_errorname", "") or ""


def _unreadable(path: Path, error: Exception, remedy: str) -> JournalError:
    reason = "it is damaged" if isinstance(error, UnicodeDecodeError) else error
    return JournalError(f"{path}: cannot be read: {reason}", remedy)


def _topics(db: sqlite3.Connection) -> Iterator[tuple[str, int]]:
    """Yield topics with numbers of events, the last ones among them: also of events that are gone, and what is there."""
    for rows in ("seq FROM topics", "max(seq) FROM events GROUP BY topic"):
        for topic, seq in db.execute(f"SELECT CAST(topic AS BLOB), {rows}"):
            if topic is not None and isinstance(seq, int) and seq > 0:
                yield bytes(topic).decode(errors="replace"), seq


def _page(
    db: sqlite3.Connection, topics: Sequence[str] | None, after: int, most: int, upto: int
) -> list[tuple[Kept, bool]]:
    """Return a page of a journal's file, of some topics or all, of each row whether it is as it was written.

    Topic by topic, each from the index: one index over all topics of a prefix would have to be sorted, and to scan what is
    newer may mean millions of events of other topics.
    """
    bounds = "seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
    if topics is None:
        return [_checked(row) for row in db.execute(f"{_COLUMNS} WHERE {bounds}", (after, upto, most))]
    one = f"{_COLUMNS} WHERE topic = ? AND {bounds}"
    each = ((_checked(row) for row in db.execute(one, (name, after, upto, most))) for name in topics)
    return [row for row, _ in zip(heapq.merge(*each), range(most), strict=False)]


def _connected(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA trusted_schema = OFF")
    return db


def _lock(path: Path) -> int:
    """Claim a journal for this process; raises JournalError where another one has it or its folder cannot be made."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise JournalError(
            f"{path}: the journal cannot be opened: {error.strerror}", "check its folder, or journal.path"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise JournalError(
            f"{path}: another process writes this journal", "stop it, or give this one its own journal.path"
        ) from error
    return descriptor
