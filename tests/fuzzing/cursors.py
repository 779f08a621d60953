"""Files of cursors that are damaged or changed, given to a subscriber."""

import contextlib
import functools
import tempfile
from pathlib import Path
from random import Random

import zmq

from streamcnn.wire import messages
from streamcnn.wire.cursor import Cursor, Place
from streamcnn.wire.subscriber import Subscriber
from tests.fuzzing.case import TAKEN, Case, Outcome, fault
from tests.fuzzing.databases import changed_by, damaged

PUBLISHER, SEQ = "0123456789abcdef", 1_790_000_000_123
STATEMENTS = (
    "UPDATE place SET publisher = ?",
    "UPDATE place SET seq = ?",
    "UPDATE place SET one = ?",
    "INSERT INTO place VALUES (2, 'other', 5)",
    "INSERT INTO place VALUES (0, ?, ?)",
    "DELETE FROM place",
    "DROP TABLE place",
    "DROP TABLE place; CREATE TABLE place (a, b, c)",
    "DROP TABLE place; CREATE TABLE place (one, publisher, seq); INSERT INTO place VALUES (1, ?, ?)",
    "DROP TABLE place; CREATE VIEW place AS SELECT 1 AS one, ? AS publisher, ? AS seq",
    "CREATE TRIGGER t BEFORE INSERT ON place BEGIN SELECT RAISE(ABORT, 'no'); END",
    "PRAGMA user_version = 99",
    "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = ?",
)


def prepare() -> None:
    """Load the sockets."""
    _tried(Path(), {"seen.db": kept()})


def case(random: Random) -> Case:
    """Damage a cursor's file, or change what is in it."""
    made, data = damaged(random, kept()) if random.random() < 0.5 else changed_by(random, kept(), STATEMENTS)
    files = {"seen.db": data}
    if random.random() < 0.1:
        made, files["seen.db-wal"] = f"{made}, with a log that is none", random.randbytes(random.choice((0, 32, 5000)))
    return Case(made, files)


def try_(case: Case, folder: Path) -> Outcome:
    """Subscribe with it; what is asked of the publisher must be a question, from the place kept or from none."""
    return _tried(folder, case.files)


def _tried(folder: Path, files: dict[str, bytes]) -> Outcome:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.setsockopt(zmq.LINGER, 0)
        router.bind("ipc://b")
        with contextlib.closing(Subscriber("ipc://s", backfill="ipc://b", cursor=folder / "seen.db")) as subscriber:
            for _ in range(20):
                subscriber.receive(0.01)
                if router.poll(20):
                    break
            question = messages.question_of(router.recv_multipart(zmq.NOBLOCK)[-1])
            subscriber.receive(0.0)
    if isinstance(question, messages.Since) and not isinstance(question.seq, int):
        return fault("asks from a place that is none", question)
    return TAKEN


@functools.cache
def kept() -> bytes:
    """Return a valid cursor's file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seen.db"
        with contextlib.closing(Cursor(path)) as cursor:
            cursor.store(Place(PUBLISHER, SEQ))
        return path.read_bytes()
