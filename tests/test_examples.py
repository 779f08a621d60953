"""The example consumers do what they say."""

import contextlib
import csv
import http.server
import json
import sqlite3
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import msgspec

from tests.conftest import ROOT, wait_until
from tests.test_wire import DETECTION, Wire, published


def start(name: str, *arguments: object, folder: Path) -> subprocess.Popen:
    """Start an example."""
    return subprocess.Popen([sys.executable, str(ROOT / "examples" / name), *map(str, arguments)], cwd=folder)


def rows(path: Path) -> list[str]:
    """Return the ids in a CSV file."""
    return [row[-1] for row in csv.reader(path.open(encoding="utf-8"))] if path.exists() else []


def has_place(cursor: Path) -> bool:
    """Whether a subscriber has found its place."""
    if not cursor.exists():
        return False
    with contextlib.closing(sqlite3.connect(cursor)) as db, contextlib.suppress(sqlite3.OperationalError):
        return db.execute("SELECT count(*) FROM place").fetchone() == (1,)
    return False


def test_the_csv_file_goes_on_where_it_was(tmp_path: Path):
    """Each confirmed detection is a row, also those that came while the consumer was not running."""
    target, wanted = tmp_path / "x.csv", []
    provisional = msgspec.structs.replace(DETECTION, phase="provisional")
    with published() as wire:
        for _ in range(2):
            consumer = start("csv_file.py", target, wire.endpoint, folder=tmp_path)
            try:
                wait_until(partial(has_place, Path(f"{target}.cursor")), "the cursor")
                for _ in range(3):
                    wire.lose(provisional)
                    (event,) = wire.lose(msgspec.structs.replace(DETECTION, id=f"e{len(wanted)}"))
                    wanted.append(event.id)
                wait_until(partial(_is_written, wire, target, wanted[-1]), "the rows")
            finally:
                consumer.kill()
                consumer.wait()
            wanted += [wire.lose(msgspec.structs.replace(DETECTION, id="between"))[0].id]
    found = rows(target)
    assert list(dict.fromkeys(found)) == wanted[:-1]
    assert found.count("between") == 1


def _is_written(wire: Wire, target: Path, name: str) -> bool:
    wire.beat()
    return rows(target)[-1:] == [name]


class Hook(http.server.BaseHTTPRequestHandler):
    """Takes every second post."""

    def __init__(self, taken: list[dict], *arguments: object):
        self.taken = taken
        super().__init__(*arguments)

    def do_POST(self) -> None:
        """Refuse, or take."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.taken.append(body)
        self.send_response(500 if len(self.taken) % 2 else 204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_the_webhook_tries_until_it_is_taken(tmp_path: Path):
    """A post that fails is made again."""
    taken: list[dict] = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Hook, taken))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with published() as wire:
        url = f"http://127.0.0.1:{server.server_port}/"
        consumer = start("webhook.py", url, wire.endpoint, folder=tmp_path)
        try:
            wait_until(partial(has_place, tmp_path / "webhook.cursor"), "the cursor")
            wait_until(lambda: wire.say(DETECTION) and len(taken) >= 1, "the first post")
            wait_until(lambda: wire.beat() or len(taken) >= 2, "the second")
        finally:
            consumer.kill()
            consumer.wait()
            server.shutdown()
            server.server_close()
    assert taken[0] == taken[1]
    assert taken[0]["type"] == "detection"
