"""Journals whose file is damaged or changed, read by `events`, and opened to be written again."""

import contextlib
import functools
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from unittest import mock

import numpy as np

from streamcnn.events import Detection, Event, Gap
from streamcnn.journal import journal as module
from streamcnn.journal.journal import Journal
from tests.fuzzing.case import TAKEN, Case, Outcome, dropped, fault
from tests.fuzzing.command import judged, run
from tests.fuzzing.databases import changed_by, damaged, rows_in

EVENTS = 90
NOW_NS, LATER_NS = 1_790_000_000 * 10**9, 3600 * 10**9
GAP = Gap(stream="s", session="x", start_sample=1, frames=2, frames_error=0, cause="test")
STATEMENTS = (
    "UPDATE events SET payload = ? WHERE seq = (SELECT max(seq) FROM events)",
    "UPDATE events SET payload = ?",
    "UPDATE events SET topic = ? WHERE seq % 7 = 0",
    "UPDATE events SET at = ? WHERE seq % 5 = 0",
    "UPDATE events SET seq = ? WHERE seq = (SELECT min(seq) FROM events)",
    "UPDATE events SET crc = ? WHERE seq % 3 = 0",
    "UPDATE events SET payload = replace(payload, 'sample', ?) WHERE seq % 2 = 0",
    "UPDATE events SET payload = substr(payload, 1, 100) WHERE seq % 2 = 0",
    "INSERT INTO events SELECT seq + 100000, at, topic, payload, crc FROM events",
    "INSERT INTO events SELECT ?, at, topic, payload, crc FROM events LIMIT 1",
    "UPDATE topics SET seq = ?",
    "UPDATE topics SET topic = ? WHERE topic LIKE 'g%'",
    "DELETE FROM topics",
    "UPDATE state SET value = ?",
    "UPDATE state SET value = ? WHERE name = 'reserved'",
    "UPDATE state SET value = ? WHERE name = 'publisher'",
    "DELETE FROM state",
    "DROP TABLE topics",
    "DROP TABLE state",
    "DROP TABLE events",
    "DROP INDEX events_topic",
    "DROP INDEX events_at",
    "PRAGMA user_version = 0",
    "PRAGMA user_version = 1",
    "PRAGMA user_version = -5",
    "PRAGMA user_version = 99",
    "PRAGMA application_id = 7",
    "ALTER TABLE events RENAME COLUMN payload TO load",
    "ALTER TABLE events ADD COLUMN extra",
    "CREATE TRIGGER t AFTER INSERT ON events BEGIN DELETE FROM events; END",
    "CREATE TRIGGER t BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'no'); END",
    "DROP TABLE events; CREATE VIEW events AS SELECT 1 AS seq, 2 AS at, 'a' AS topic, ? AS payload, 0 AS crc",
    "DROP TABLE events; CREATE VIEW events AS WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) "
    "SELECT n AS seq, n AS at, 'a' AS topic, 'b' AS payload, 0 AS crc FROM r",
    "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = ? WHERE name = 'events'",
)


def prepare() -> None:
    """Make the valid ones, and load the command."""
    written()
    Path("journal.db").write_bytes(written()[0])
    run("events", "--journal", "journal.db", "--json")


def case(random: Random) -> Case:
    """Damage a journal's file, its log, or the file that is its lock, or change its rows."""
    base, with_log, log = written()
    reader = random.choice(("events", "write"))
    files, made = {"journal.db": base}, ""
    least = EVENTS
    match random.randrange(10):
        case 0 | 1 | 2 | 3:
            made, files["journal.db"] = damaged(random, base)
        case 4:
            how, spoiled_log = damaged(random, log)
            made, files, least = f"its log {how}", {"journal.db": with_log, "journal.db-wal": spoiled_log}, None
        case 5:
            made, files["journal.db"] = damaged(random, base)
            made += ", with the log of another one"
            files["journal.db-wal"] = log
        case 6:
            reader, made = "write", "another number beside it"
            number = random.choice((b"", b"9" * 20, b"0" * 20, b"-1", b"x" * 20, b"\xff" * 20, "٣".encode() * 10, b"5"))
            files["journal.db.lock"] = number
        case _:
            made, files["journal.db"] = changed_by(random, base, STATEMENTS)
            least = None if "VIEW" in made else rows_in(files["journal.db"], "events")
    return Case(made, files, (reader, *random.choice(((), (), ("--csv",), ("--label", "ramp")))), least)


def try_(case: Case, folder: Path) -> Outcome:
    """Read it, or write on; every row that was in it must come, or something be said."""
    how, *words = case.words
    if how == "write":
        return _written_on(folder / "journal.db", case)
    words = words or ["--json"]
    ran = run("events", "--journal", folder / "journal.db", *words)
    outcome = judged(ran)
    if outcome.fault or not outcome.is_taken:
        return outcome
    if words == ["--json"]:
        return dropped("rows", ran.out.count("\n"), case.least, ran.err)
    return TAKEN


def _written_on(path: Path, case: Case) -> Outcome:
    with _at(NOW_NS + LATER_NS), contextlib.closing(Journal(path, keep_s=1e9, most_bytes=10**9)) as journal:
        (told,) = journal.append([GAP])
        journal.tend()
        rows, latest = journal.page([""], 0, 10**6), journal.latest([""])
        if any(not isinstance(value, str) for row in rows for value in row[2:]):
            return fault("a row is no text", rows)
        if told.seq not in {row.seq for row in rows} or told.seq not in {row.seq for row in latest}:
            return fault("what is written is not there", journal.notice)
        journal.tend()
        return dropped("rows", len(rows) - 1, case.least, journal.notice or "")


@contextlib.contextmanager
def _at(now_ns: int) -> Iterator[None]:
    """Let the host's clock stand at a time."""
    with (
        mock.patch.object(time, "time_ns", return_value=now_ns),
        mock.patch.object(time, "time", return_value=now_ns / 1e9),
    ):
        yield


@functools.cache
def written() -> tuple[bytes, bytes, bytes]:
    """Return a journal's file, and one with half of its events in the log, and that log; the same bytes each time, nearly."""
    folder = Path(tempfile.mkdtemp(prefix="journal"))
    path, random = folder / "journal.db", np.random.default_rng(0)
    name = mock.patch.object(module.secrets, "token_hex", lambda n: "0123456789abcdef"[: 2 * n])
    try:
        with _at(NOW_NS), name:
            with contextlib.closing(Journal(path)) as journal:
                journal.append([_event(random, k) for k in range(EVENTS)])
            base = path.read_bytes()
            with contextlib.closing(Journal(path)) as journal:
                journal.append([_event(random, k) for k in range(EVENTS, 2 * EVENTS)])
                return base, path.read_bytes(), Path(f"{path}-wal").read_bytes()
    finally:
        shutil.rmtree(folder)


def _event(random: np.random.Generator, number: int) -> Event:
    sample = 1000 * number + int(random.integers(1000))
    if number % 10 == 9:
        return Gap(stream="s", session="x", start_sample=sample, frames=5, frames_error=0, cause="test")
    label = ("ramp", "two", "é")[number % 3]
    return Detection(
        stream="s", session="x", id=f"s/x/d/{label}/{sample}", phase="confirmed", detector="d", kind="peak", label=label,
        net="ramp@1390f4", sample=sample, position=sample + 0.5, start_sample=sample, end_sample=sample + 4,
        decided_sample=sample + 9, score=0.9, threshold=0.6, time_s=sample / 48_000,
    )  # fmt: skip
