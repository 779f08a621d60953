"""Numbers events, keeps them, and finds them again; the rules are in the package's docstring."""

import contextlib
import os
import secrets
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from streamcnn.errors import InputError, JournalError
from streamcnn.events import Event, Health, to_json
from streamcnn.host_clock import HostClock
from streamcnn.journal import syncing
from streamcnn.journal.claim import MOST_RESERVED, Claim
from streamcnn.journal.damage import (
    VERSION,
    UnfitIndex,
    damage_of,
    is_damage,
    is_transient,
    other_version,
    refuse_foreign,
    unreadable,
)
from streamcnn.journal.rows import COLUMNS, SCHEMA, Kept, checked, checksum, connected, page_of, topics_in
from streamcnn.journal.syncing import Syncer, checkpoint

APPLICATION = 0x7363_6E6E  # "scnn": SQLite's application_id
RESERVED = 1_000_000  # numbers at a time
MOST_KEPT = 20_000  # events in memory, without a path
MOST_WAITING = 300_000  # events in memory, while they cannot be written
RETRY_S = 1.0
TIDY_S = 10.0
TIDIED = 20_000  # events that are removed at once, at most
SCRUBBED = 2_000  # rows that are looked at every TIDY_S
MOST_SEQ = 2**63 - 1
SMALLEST = 512  # bytes: SQLite's smallest page


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
        if path is not None:
            self._claim = Claim(path)
            try:
                self._open(beginning=True)
            except BaseException:
                self._claim.release()
                raise
            self._syncer = Syncer(path, self._found, self._unsynced)

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
            f"{self.path}: {damaged:,} damaged {'row is' if damaged == 1 else 'rows are'} left out"
            if damaged
            else None,
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
        if self._damage is not None and self._db is not None:
            damage, self._damage = self._damage, None
            with self._troubles():
                self._mend(self._db, damage)
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
        self._syncer.close()
        if self._waiting:
            self._failed_s = -RETRY_S
            self._write()
        if self._db is not None:
            with self._troubles():
                self._db.execute("UPDATE state SET value = ? WHERE name = 'reserved'", (self._seq,))
                self._claim.reserve(self._seq)
                with self._reading:  # what a reader has not read to its end would hold it up
                    if self._reader is not None:
                        self._reader.close()
                    self._reader = None
                checkpoint(self._db, "TRUNCATE")
        self._let_go()
        self._claim.release()

    # The file

    def _open(self, *, beginning: bool = False) -> None:
        """Open the file, or begin it; a damaged one is set aside. At the `beginning` it must be there: it says the numbers."""
        try:
            self._db = self._opened()
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if is_damage(error):
                self._set_aside(error)
                self._db = self._opened()
            elif is_transient(error) and not beginning:
                self._failed(error)
                return
            else:
                raise JournalError(
                    f"{self.path}: the journal cannot be opened: {error}", "check its folder, or journal.path"
                ) from error
        self._reader = connected(self.path)
        self._inode = self.path.stat().st_ino

    def _opened(self) -> sqlite3.Connection:
        size = self.path.stat().st_size if self.path.exists() else None
        if size is not None and size < SMALLEST:  # to SQLite an empty database
            if size:
                self._set_aside(sqlite3.DatabaseError(f"it was cut off after {size} bytes"))
            else:
                self._aside = self._aside or f"{self.path}: was empty; a new journal was begun"
        db = connected(self.path)
        try:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version not in (0, VERSION):
                raise other_version(self.path, version)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")  # only when the log begins anew; `syncing` does the rest
            db.execute("PRAGMA wal_autocheckpoint = 0")
            refuse_foreign(db, self.path)
            if version == 0:
                if db.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
                    raise InputError(f"{self.path}: is a database, but no journal", "give journal.path another name")
                state = f"INSERT INTO state VALUES ('publisher', '{self.publisher}'), ('reserved', {self._seq});"
                marks = f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION};"
                db.executescript(f"BEGIN; {SCHEMA} {state} {marks} COMMIT;")
                if self._aside is None and self._claim.reserved:
                    self._aside = f"{self.path}: was empty, or gone; a new journal was begun"
            state = dict(db.execute("SELECT name, value FROM state"))
            reserved = state.get("reserved")
            if not isinstance(state.get("publisher"), str) or not isinstance(reserved, int) or reserved > MOST_RESERVED:
                raise InputError(
                    f"{self.path}: is a journal that lacks its own state", "give journal.path another name"
                )
            self.publisher, self._reserved = state["publisher"], reserved
            self._seq = self._settled = max(self._seq, self._reserved, self._claim.reserved)
            for topic, seq in topics_in(db):
                self._last[topic] = max(seq, self._last.get(topic, 0))
            self._damaged |= {seq for (seq,) in db.execute("SELECT seq FROM events WHERE seq <= 0 LIMIT 1000")}
            (newest_us,) = db.execute("SELECT max(at) FROM events WHERE typeof(at) = 'integer'").fetchone()
            self._clock.compare(None if newest_us is None else newest_us / 1e6)
            if self.path.stat().st_size <= syncing.SMALL:  # a large one is looked at by the thread that syncs
                damage = damage_of(db)
                if damage is not None:
                    self._mend(db, damage)
        except BaseException:
            db.close()
            raise
        return db

    def _found(self, damage: Exception) -> None:
        """Note damage, on any thread; whoever writes mends it."""
        self._damage = self._damage or damage

    def _unsynced(self, failure: str) -> None:
        self._failure = self._failure or failure

    def _mend(self, db: sqlite3.Connection, damage: Exception) -> None:
        """Make the indexes anew where only they are damaged; raise any other damage."""
        if not isinstance(damage, UnfitIndex):
            raise damage
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
                    self._claim.reserve(reserved)
                    self._db.execute("UPDATE state SET value = ? WHERE name = 'reserved'", (reserved,))
                    self._reserved = reserved
                self._db.executemany(
                    "INSERT INTO events VALUES (?, ?, ?, ?, ?)", [(*row, checksum(row)) for row in rows]
                )
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
            self._syncer.written.set()
            self._failure = None

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
        rows = [checked(values) for values in self._db.execute(f"{COLUMNS} {bounds}", (self._scrubbed, SCRUBBED))]
        self._damaged |= {row.seq for row, is_whole in rows if not is_whole}
        self._scrubbed = rows[-1][0].seq if len(rows) == SCRUBBED else -MOST_SEQ

    @contextlib.contextmanager
    def _troubles(self) -> Iterator[None]:
        """Turn what goes wrong with the file into a notice: it must not end the detection."""
        try:
            yield
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if is_damage(error):
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

    def _page_of_file(self, topics: Sequence[str], after: int, most: int, upto: int) -> list[tuple[Kept, bool]]:
        if self._reader is None:
            raise JournalError(f"{self.path}: cannot be read just now", "see the daemon's health")
        try:
            names = [name for name, last in list(self._last.items()) if last > after and name.startswith(tuple(topics))]
            return page_of(self._reader, None if "" in topics else names, after, most, upto)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            if is_damage(error):
                self._found(error)
            raise unreadable(self.path, error, "see 'streamcnn events'") from error
