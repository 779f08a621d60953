"""The commands around the journal and the wire, as users call them."""

import csv
import json
import signal
from pathlib import Path

import pytest

from tests.conftest import Cli, wait_until
from tests.crashes import free_port

CONFIG = """
streams:
  - name: mic0
    source: {{device: demo}}
    nets:
      - {{name: ramp, net: ramp}}
      - {{name: loud, net: ramp, detector: {{kind: trigger, on: 0.5, off: 0.2}}}}
      - {{name: level, average: 10ms, detector: {{kind: measure, every: 250ms, statistic: max}}}}
publish: {{bind: "tcp://127.0.0.1:{port}"}}
journal: {{path: state/journal.db}}
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict]]:
    """A daemon's folder after three seconds of the demo, and what it said."""
    folder, cli = tmp_path_factory.mktemp("ran"), Cli()
    (folder / "x.yaml").write_text(CONFIG.format(port=free_port()))
    done = cli("run", "--config", folder / "x.yaml", "--duration", 3, "--json")
    assert done.returncode == 0, done.stderr
    return folder, [json.loads(line) for line in done.stdout.splitlines()]


def test_the_journal_has_what_was_said(cli: Cli, ran: tuple[Path, list[dict]]):
    """`events` gives every event that `run` gave, but health, in order, as JSON, as lines and as CSV."""
    folder, said = ran
    said = [event for event in said if event["type"] != "health"]
    told = cli("events", "--config", folder / "x.yaml", "--json")
    assert [json.loads(line) for line in told.stdout.splitlines()] == said
    assert {event["type"] for event in said} == {"detection", "measure"}
    journal = folder / "state" / "journal.db"
    lines = cli("events", "--journal", journal, "--since", "10m").stdout.splitlines()
    assert len(lines) == len(said)
    rows = list(csv.DictReader(cli("events", "--journal", journal, "--csv", "--label", "ramp").stdout.splitlines()))
    ramps = [event for event in said if event.get("label") == "ramp"]
    assert [row["id"] for row in rows] == [event["id"] for event in ramps] != []
    assert cli("events", "--journal", journal, "--stream", "other").stdout == ""
    assert cli("events", "--journal", journal, "--since", "2100-01-01").stdout == ""


def test_events_of_a_trigger_come_in_phases(ran: tuple[Path, list[dict]]):
    """One id is confirmed and then ends."""
    phases: dict[str, list[str]] = {}
    for event in ran[1]:
        if event.get("detector") == "loud":
            phases.setdefault(event["id"], []).append(event["phase"])
    assert set(map(tuple, phases.values())) == {("confirmed", "ended")}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["events", "--journal", "{folder}/none.db"], 1, "there is no journal"),
        (["events", "--journal", "{folder}/x.yaml"], 1, "cannot be read"),
        (["events", "--since", "yesterday-ish"], 2, "neither a span"),
        (["events", "--since", "5parsecs"], 2, "Expected a time"),
        (["events", "--json", "--csv"], 2, "two formats"),
        (["keys", "../escape"], 2, "no name for a file"),
        (["run", "--publish", "tcp://0.0.0.0:5999"], 2, "others can reach it"),
        (
            ["watch", "tcp://127.0.0.1:1", "--key", "{folder}/x.yaml", "--server-key", "{folder}/x.yaml"],
            2,
            "holds no key",
        ),
    ],
)
def test_mistakes_are_one_line(cli: Cli, ran: tuple[Path, list[dict]], arguments: list[str], code: int, said: str):
    """What cannot be done is one clear line, and the exit code of its kind."""
    done = cli(*(word.format(folder=ran[0]) for word in arguments))
    assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
    assert said in done.stderr


def test_keys_are_made_once(cli: Cli, tmp_path: Path):
    """`keys` writes a pair, tells which is secret, and never writes over one."""
    done = cli("keys", "daemon", "-o", tmp_path)
    assert (done.returncode, sorted(path.name for path in tmp_path.iterdir())) == (
        0,
        ["daemon.key", "daemon.key_secret"],
    )
    assert "daemon.key_secret  keep it secret" in done.stdout
    again = cli("keys", "daemon", "-o", tmp_path)
    assert (again.returncode, "is there already" in again.stderr) == (2, True)


def test_watch_goes_on_where_it_was(cli: Cli, tmp_path: Path):
    """With a cursor, `watch` shows each event once, though it was not there when some were published, and shows phases."""
    port = free_port()
    (tmp_path / "x.yaml").write_text(CONFIG.format(port=port))
    daemon = cli.start("run", "--config", tmp_path / "x.yaml")
    try:
        seen = []
        for _ in range(3):
            done = cli("watch", f"tcp://127.0.0.1:{port}", "--topic", "detection.", "--json", "--count", 6,
                       "--cursor", tmp_path / "cursor.db")  # fmt: skip
            seen += [json.loads(line)["seq"] for line in done.stdout.splitlines()]
        lines = cli("watch", f"tcp://127.0.0.1:{port}", "--topic", "detection.", "--count", 8).stdout
    finally:
        daemon.send_signal(signal.SIGINT)
        daemon.communicate()
    assert daemon.returncode == 130
    told = cli("events", "--config", tmp_path / "x.yaml", "--json").stdout.splitlines()
    detections = [event["seq"] for event in map(json.loads, told) if event["type"] == "detection"]
    first = detections.index(seen[0])
    assert seen == detections[first : first + 18]
    assert "confirmed" in lines
    assert "ended" in lines


def test_two_daemons_do_not_share_a_journal(cli: Cli, tmp_path: Path):
    """The second daemon on a journal ends with one line that says so; the first goes on."""
    (tmp_path / "x.yaml").write_text(CONFIG.format(port=free_port()))
    daemon = cli.start("run", "--config", tmp_path / "x.yaml", "--publish", "none")
    try:
        wait_until(lambda: (tmp_path / "state" / "journal.db-wal").exists(), "the journal")
        done = cli("run", "--config", tmp_path / "x.yaml", "--publish", "none")
        assert (done.returncode, "another process writes this journal" in done.stderr) == (1, True)
        assert daemon.poll() is None
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.communicate()
    assert daemon.returncode == 0
