"""A daemon and a consumer that are killed again and again: `python -m tests.crashes [DAEMONS CONSUMERS]`.

The consumer is the one in examples/. At the end it has every confirmed event that the journal has, once, in order.
"""

import contextlib
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from streamcnn.events import Detection, from_json
from streamcnn.journal.reading import read

ROOT = Path(__file__).parents[1]
CONFIG = """
streams:
  - name: s
    source: {{device: demo}}
    nets: [{{name: busy, net: ramp, detector: {{kind: peak, threshold: -1, refractory: 10ms}}}}]
publish: {{bind: "tcp://127.0.0.1:{port}"}}
journal: {{path: journal.db}}
"""


def free_port() -> int:
    """Return a port that is free, and the next one too."""
    while True:
        with socket.socket() as one, socket.socket() as two, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            two.bind(("127.0.0.1", port + 1))
            return port


def confirmed(journal: Path) -> list[tuple[int, str]]:
    """Return number and id of the confirmed events in a journal."""
    events = [from_json(row.payload.encode()) for row in read(journal)] if journal.exists() else []
    return [(event.seq, event.id) for event in events if isinstance(event, Detection) and event.phase == "confirmed"]


def stored(database: Path) -> list[tuple[int, str]]:
    """Return what the consumer has stored, in the order in which it was."""
    with contextlib.closing(sqlite3.connect(database)) as db, contextlib.suppress(sqlite3.OperationalError):
        return db.execute("SELECT seq, id FROM detections ORDER BY rowid").fetchall()
    return []


def scenario(folder: Path, daemons: int, consumers: int, seed: int = 0) -> tuple[list, list]:
    """Kill so many of each, at random moments; return what the journal has and what the consumer has."""
    port, moments = free_port(), random.Random(seed)
    (folder / "daemon.yaml").write_text(CONFIG.format(port=port))
    commands = {
        "daemon": [sys.executable, "-m", "streamcnn", "run", "--config", str(folder / "daemon.yaml")],
        "consumer": [sys.executable, str(ROOT / "examples/exactly_once.py"), str(folder / "seen.db"), f"tcp://127.0.0.1:{port}"],
    }  # fmt: skip

    def start(kind: str) -> subprocess.Popen:
        log = (folder / f"{kind}.log").open("ab")
        return subprocess.Popen(commands[kind], stdout=log, stderr=log, cwd=ROOT)

    def grows(count: object, before: int, deadline_s: float = 60.0) -> None:
        end = time.monotonic() + deadline_s
        while count() <= before:
            assert time.monotonic() < end, "".join(log.read_text()[-1000:] for log in folder.glob("*.log"))
            time.sleep(0.05)

    running = {kind: start(kind) for kind in commands}
    victims = ["daemon"] * daemons + ["consumer"] * consumers
    moments.shuffle(victims)
    try:
        for victim in victims:
            counts = {
                "daemon": lambda: len(confirmed(folder / "journal.db")),
                "consumer": lambda: len(stored(folder / "seen.db")),
            }
            grows(counts[victim], counts[victim]())  # it is at work again
            time.sleep(moments.uniform(0, 0.3))
            running[victim].kill()
            running[victim].wait()
            running[victim] = start(victim)
        grows(lambda: len(confirmed(folder / "journal.db")), len(confirmed(folder / "journal.db")))
        running["daemon"].send_signal(signal.SIGTERM)
        running["daemon"].wait(30)
        running["daemon"] = start("daemon")  # who missed the last events of the one before gets them from the next one
        kept = confirmed(folder / "journal.db")
        end = time.monotonic() + 60
        while len(stored(folder / "seen.db")) < len(kept) and time.monotonic() < end:
            time.sleep(0.1)
        seen = stored(folder / "seen.db")
        return kept, seen[: len(kept)]
    finally:
        for process in running.values():
            process.kill()
            process.wait()


def main() -> None:
    """Run the scenario with the numbers given, and say what came of it."""
    daemons, consumers = (int(number) for number in sys.argv[1:3]) if len(sys.argv) > 2 else (20, 50)
    with tempfile.TemporaryDirectory() as folder:
        kept, seen = scenario(Path(folder), daemons, consumers)
    alike = "all of them once and in order" if kept == seen else "NOT the same"
    print(
        f"{daemons} daemons and {consumers} consumers killed: {len(kept)} confirmed events kept, {len(seen)} seen, {alike}"
    )
    sys.exit(kept != seen)


if __name__ == "__main__":
    main()
