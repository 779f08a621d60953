"""The thread that brings to the disk what was written: a slow disk does not hold up who writes."""

import contextlib
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

from streamcnn.journal.damage import damage_of
from streamcnn.journal.rows import connected

SMALL = 1 << 24  # bytes; a file up to that size is looked at when it is opened, in a moment
SYNC_S = 1.0


class Syncer:
    """Syncs a journal each second in which something was `written`; calls what it finds wrong from its own thread.

    At first it looks through a large file, which may take minutes.
    """

    def __init__(self, path: Path, on_damage: Callable[[Exception], None], on_failure: Callable[[str], None]):
        self._path, self._on_damage, self._on_failure = path, on_damage, on_failure
        self.written, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        self.written.set()
        self._thread.join()

    def _run(self) -> None:
        with contextlib.suppress(sqlite3.Error, OSError):
            if self._path.stat().st_size > SMALL:
                with contextlib.closing(connected(self._path)) as db:
                    damage = damage_of(db)
                if damage is not None:
                    self._on_damage(damage)
        while not self._closing.is_set():
            self.written.wait()
            self.written.clear()
            if self._closing.wait(SYNC_S):
                break
            try:
                with contextlib.closing(connected(self._path)) as db:  # anew: it may be another file by now
                    checkpoint(db, "PASSIVE")
            except sqlite3.Error as error:
                self._on_failure(f"{self._path}: cannot be synced: {error}")


def checkpoint(db: sqlite3.Connection, how: str) -> None:
    """Bring what was written to the disk, and from the log into the file."""
    db.execute("PRAGMA synchronous = FULL")
    db.execute(f"PRAGMA wal_checkpoint({how})")
