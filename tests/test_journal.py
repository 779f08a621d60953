"""The journal: numbers, order, what survives what, and what is removed when."""

import contextlib
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from streamcnn import host_clock
from streamcnn.errors import InputError, JournalError
from streamcnn.events import Event, from_json
from streamcnn.journal import journal as journals
from streamcnn.journal import syncing
from streamcnn.journal.journal import Journal
from streamcnn.journal.reading import Query, read
from streamcnn.wire.subscriber import Subscriber
from tests.conftest import Cli, wait_until
from tests.test_wire import DETECTION, GAP, HEALTH, published

EVERYTHING = Query()
OTHER = msgspec.structs.replace(DETECTION, stream="mic2", label="other")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a journal goes, in a folder that is not there yet."""
    return tmp_path / "state" / "journal.db"


def kept(path: Path, query: Query = EVERYTHING) -> list[Event]:
    """Return the events in a journal's file that are as they were written."""
    return [from_json(row.payload.encode()) for row in read(path, query) if not isinstance(row, int)]


def test_events_are_numbered_and_kept_in_order(path: Path):
    """Numbers rise over all topics, `prev` is that of the topic, and health has a number but is not kept."""
    journal = Journal(path)
    numbered = journal.append([DETECTION, GAP, HEALTH, DETECTION])
    first = numbered[0].seq
    assert [event.seq - first for event in numbered] == [0, 1, 2, 3]
    assert [event.prev for event in numbered] == [None, None, None, first]
    assert kept(path) == [numbered[0], numbered[1], numbered[3]]
    assert journal.last == {DETECTION.topic: first + 3, GAP.topic: first + 1}
    journal.close()
    assert kept(path) == [numbered[0], numbered[1], numbered[3]]


@pytest.mark.parametrize("on_disk", [True, False])
def test_pages_are_of_the_topics_asked_for(path: Path, on_disk: bool):
    """A page has the events of any topics beyond a number, in order, as many as are asked for; so in a file and in memory."""
    journal = Journal(path if on_disk else None)
    numbered = journal.append([DETECTION, OTHER, GAP] * 4)
    for topics in (["detection."], [""], ["gap.", "detection.mic2."], ["nothing."]):
        wanted = [event.seq for event in numbered if event.topic.startswith(tuple(topics))]
        assert [row.seq for row in journal.page(topics, 0, 100)] == wanted
        assert [row.seq for row in journal.page(topics, numbered[4].seq, 3)] == [
            seq for seq in wanted if seq > numbered[4].seq
        ][:3]
    assert [row.seq for row in journal.latest(["detection."])] == [numbered[-3].seq, numbered[-2].seq]
    journal.close()


def test_a_new_process_goes_on_with_higher_numbers(path: Path):
    """Numbers are never used twice, and `prev` reaches back to the process before."""
    journal = Journal(path)
    before = journal.append([DETECTION] * 3)
    journal.close()
    journal = Journal(path)
    (event,) = journal.append([DETECTION])
    assert event.seq > before[-1].seq
    assert event.prev == before[-1].seq
    publisher = journal.publisher
    journal.close()
    assert Journal(path).publisher == publisher


def test_nothing_is_lost_by_kill_nine(path: Path):
    """What a process had kept when it was killed is there, and the next one neither repeats a number nor breaks the chain."""
    script = f"""
        from pathlib import Path
        from streamcnn.journal.journal import Journal
        from tests.test_wire import DETECTION
        journal = Journal(Path({str(path)!r}))
        while True:
            print(journal.append([DETECTION] * 7)[-1].seq, flush=True)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
    said = [int(process.stdout.readline()) for _ in range(50)]
    process.send_signal(signal.SIGKILL)
    said += [int(line) for line in process.communicate()[0].split("\n") if line]
    found = [event.seq for event in kept(path)]
    assert found[6::7][: len(said)] == said
    journal = Journal(path)
    (event,) = journal.append([DETECTION])
    assert (event.prev, event.seq > found[-1]) == (found[-1], True)
    journal.close()


def test_numbers_are_reserved_ahead_of_their_use(path: Path):
    """After the end of the power, when the last second is gone, no number is used again."""
    journal = Journal(path)
    (event,) = journal.append([DETECTION])
    journal._db.execute("DELETE FROM events")  # as if it had not been synced
    (reserved,) = journal._db.execute("SELECT value FROM state WHERE name = 'reserved'").fetchone()
    assert reserved > event.seq
    journal._let_go()  # without closing
    journal._claim.release()
    assert Journal(path).append([DETECTION])[0].seq > reserved


def _pages(path: Path) -> int:
    """Return how many pages a journal's file has."""
    db = sqlite3.connect(path)
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.close()
    return pages


def test_a_full_disk_holds_nothing_up_and_loses_nothing(path: Path, monkeypatch: pytest.MonkeyPatch):
    """Where the file cannot grow that is said, events wait and can be asked for, and are written once there is room."""
    monkeypatch.setattr(journals, "RETRY_S", 0.0)
    journal = Journal(path)
    numbered = journal.append([DETECTION])
    journal._db.execute(f"PRAGMA max_page_count = {_pages(path) + 1}")
    for _ in range(100):
        numbered += journal.append([DETECTION, GAP])
    assert "full" in journal.notice
    assert "wait in memory" in journal.notice
    assert [row.seq for row in journal.page(["detection.", "gap."], 0, 1000)] == [event.seq for event in numbered]
    journal._db.execute("PRAGMA max_page_count = 100000")
    numbered += journal.append([DETECTION])
    assert journal.notice is None
    journal.close()
    assert kept(path) == numbered


def test_a_damaged_journal_is_set_aside(path: Path):
    """A file that is no database, or a broken one, is renamed, a new journal begins, and that is reported."""
    path.parent.mkdir()
    path.write_bytes(b"this is not a database at all" * 300)
    journal = Journal(path)
    assert "damaged" in journal.notice
    (event,) = journal.append([DETECTION])
    journal.close()
    assert kept(path) == [event]
    assert len([other for other in path.parent.iterdir() if ".damaged-" in other.name]) == 1


def test_a_journal_that_breaks_while_it_is_written_is_set_aside(path: Path):
    """Damage that shows only later loses no new event."""
    journal = Journal(path)
    journal.append([DETECTION] * 2000)
    wait_until(lambda: Path(f"{path}-wal").stat().st_size == 0 or _checkpointed(path), "the file to be written")
    publisher = journal.publisher
    with path.open("r+b") as file:
        size = path.stat().st_size
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    after = journal.append([DETECTION] * 2000)
    for _ in range(3):
        after += journal.append([DETECTION])
    assert "damaged" in journal.notice
    assert journal.publisher != publisher
    journal.close()
    found = {event.seq for event in kept(path)}
    assert {event.seq for event in after} <= found


def _checkpointed(path: Path) -> bool:
    db = sqlite3.connect(path)
    try:
        return db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    finally:
        db.close()


def test_a_journal_that_is_removed_is_noticed(path: Path):
    """Who deletes the file of a running daemon gets a new one, and is told."""
    journal = Journal(path)
    journal.append([DETECTION])
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink()
    journal.tend()
    (event,) = journal.append([DETECTION])
    assert "removed" in journal.notice
    journal.close()
    assert event in kept(path)


def test_a_newer_journal_is_refused(path: Path):
    """What a later version wrote is neither written nor read, and the remedy is named."""
    Journal(path).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 3")
    db.commit()
    db.close()
    with pytest.raises(InputError, match="version 3.*update streamcnn"):
        Journal(path)
    with pytest.raises(InputError, match="version 2"):
        kept(path)


def test_other_files_are_not_taken_for_journals(path: Path):
    """Somebody else's database is refused, and so are a folder that cannot be made and a file that is not there."""
    path.parent.mkdir()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE mine (x)")
    db.commit()
    db.close()
    with pytest.raises(InputError, match="no journal"):
        Journal(path)
    with pytest.raises(JournalError, match="cannot be opened"):
        Journal(path / "below" / "a.db")
    with pytest.raises(JournalError, match="there is no journal"):
        kept(path.parent / "absent.db")


def test_one_process_writes_a_journal(path: Path):
    """A second writer is refused: numbers would be used twice. Readers are welcome."""
    journal = Journal(path)
    with pytest.raises(JournalError, match="another process"):
        Journal(path)
    journal.append([DETECTION])
    assert len(kept(path)) == 1
    journal.close()
    Journal(path).close()


def test_old_events_are_removed(path: Path, monkeypatch: pytest.MonkeyPatch):
    """Beyond an age, or a size, the oldest go, and the numbers of what follows still reach back to them."""
    monkeypatch.setattr(journals, "TIDY_S", 0.0)
    journal = Journal(path, keep_s=3600.0)
    old = journal.append([DETECTION] * 10)
    journal._db.execute("UPDATE events SET at = at - 4000000000")
    new = journal.append([DETECTION])
    journal.tend()
    assert kept(path) == new
    assert new[0].prev == old[-1].seq
    journal.close()

    monkeypatch.setattr(journals, "TIDIED", 500)
    journal = Journal(path, most_bytes=1_000_000)
    new += journal.append([DETECTION] * 3000)
    for _ in range(10):
        journal.tend()
    assert 1000 < len(kept(path)) < 2000
    assert kept(path)[-1] == new[-1]
    journal.close()


def test_queries_select(path: Path):
    """Time, stream and label select, and what is written meanwhile does not disturb."""
    journal = Journal(path)
    numbered = journal.append([DETECTION, OTHER, GAP])
    assert kept(path, Query(stream="mic2")) == [numbered[1]]
    assert kept(path, Query(label="ramp")) == [numbered[0]]
    assert kept(path, Query(since_s=4e9)) == []
    assert len(kept(path, Query(since_s=1e9))) == 3
    rows = read(path)
    next(rows)
    numbered += journal.append([DETECTION])
    assert len(list(rows)) == 2
    journal.close()


def test_what_is_kept_is_settled_from_the_start(path: Path):
    """A process that begins says of all that was kept before that it is complete, also right after a crash."""
    for _ in range(3):
        journal = Journal(path)
        (event,) = journal.append([DETECTION])
        journal._let_go()  # as a crash does it
        journal._claim.release()
    journal = Journal(path)
    assert journal.seq > event.seq
    journal.close()


def test_numbers_outlive_the_journal(path: Path):
    """After crashes in quick succession and the loss of the file, no number is used again."""
    for _ in range(3):
        journal = Journal(path)
        (event,) = journal.append([DETECTION])
        journal._let_go()
        journal._claim.release()
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    journal = Journal(path)
    assert journal.append([DETECTION])[0].seq > event.seq
    journal.close()


def test_a_page_ends_where_it_is_complete(path: Path):
    """No event beyond the number up to which a page is complete is in it."""
    for journal in (Journal(path), Journal()):
        events = journal.append([DETECTION, OTHER] * 5)
        rows = journal.page(["detection."], 0, 100, events[5].seq)
        assert [row.seq for row in rows] == [event.seq for event in events[:6]]
        journal.close()


def test_damage_that_a_reader_finds_is_mended_by_the_writer(path: Path):
    """Who asks for a damaged page is refused, and then the journal is set aside and a new one begun."""
    journal = Journal(path)
    journal.append([DETECTION] * 3000)
    assert _checkpointed(path)
    with path.open("r+b") as file:
        file.seek(4096 * 40)
        file.write(b"\xff" * 4096 * 200)
    with pytest.raises(JournalError, match="cannot be read"):
        journal.page([""], 0, 3000)
    publisher = journal.publisher
    journal.tend()
    assert "damaged" in journal.notice
    assert journal.publisher != publisher
    (event,) = journal.append([DETECTION])
    assert [row.seq for row in journal.page([""], 0, 10)] == [event.seq]
    journal.close()


def test_a_folder_that_goes_away_and_comes_back_loses_nothing(path: Path):
    """While the journal cannot be reached nobody is told that nothing is missing; afterwards it goes on."""
    journal = Journal(path)
    first = journal.append([DETECTION])
    path.parent.rename(path.parent.with_name("away"))
    journal.tend()
    with pytest.raises(JournalError, match="just now"):
        journal.page([""], 0, 10)
    path.parent.with_name("away").rename(path.parent)
    wait_until(lambda: journal.tend() or journal._db is not None, "the journal")
    first += journal.append([DETECTION])
    assert [row.seq for row in journal.page([""], 0, 10)] == [event.seq for event in first]
    journal.close()


def _page_of(path: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    """Change the first page of a table or an index, as a failing disk would."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        ((root,),) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,))
        ((size,),) = db.execute("PRAGMA page_size")
    data = path.read_bytes()
    start, end = (root - 1) * size, root * size
    path.write_bytes(data[:start] + change(data[start:end]) + data[end:])


@pytest.mark.parametrize("small", [1 << 24, 0], ids=["at the opening", "later, as of a large file"])
def test_an_index_that_does_not_fit_its_rows_is_made_anew(path: Path, small: int, monkeypatch: pytest.MonkeyPatch):
    """Old rows and new ones are found again, and it is told."""
    monkeypatch.setattr(syncing, "SMALL", small)
    with contextlib.closing(Journal(path)) as journal:
        events = journal.append([DETECTION] * 5)
    wrong = DETECTION.topic.replace("ramp", "ramq").encode()
    _page_of(path, "events_topic", lambda page: page.replace(DETECTION.topic.encode(), wrong))
    with contextlib.closing(Journal(path)) as journal:
        wait_until(lambda: journal.tend() or journal.notice, "what is wrong")
        assert "an index was damaged, and made anew" in journal.notice
        events += journal.append([DETECTION])
        assert [row.seq for row in journal.page([DETECTION.topic], 0, 100)] == [event.seq for event in events]


@pytest.mark.parametrize("small", [1 << 24, 0], ids=["at the opening", "later, as of a large file"])
def test_pages_that_do_not_hang_together_are_not_written_on(path: Path, small: int, monkeypatch: pytest.MonkeyPatch):
    """SQLite opens such a file and would write into it; it is set aside, and new events are kept and found."""
    monkeypatch.setattr(syncing, "SMALL", small)
    with contextlib.closing(Journal(path)) as journal:
        journal.append([DETECTION] * 5)
    _page_of(path, "events", lambda page: page[:8] + page[10:12] + page[8:10] + page[12:])  # two rows in the wrong order
    with contextlib.closing(Journal(path)) as journal:
        wait_until(lambda: journal.tend() or journal.notice, "what is wrong")
        assert "was set aside" in journal.notice
        (event,) = journal.append([DETECTION])
        assert [row.seq for row in journal.page([DETECTION.topic], 0, 100)] == [event.seq]


def test_foreign_rows_harm_nobody(path: Path):
    """A row that is no text is left out, for readers and for pages."""
    journal = Journal(path)
    events = journal.append([DETECTION])
    journal._db.execute("INSERT INTO events VALUES (5, 0, ?, x'00ff', 0)", (DETECTION.topic,))
    assert [row.seq for row in journal.page([""], 0, 10)] == [events[0].seq]
    assert kept(path) == events
    journal.close()


DAMAGES = {
    "a byte that ends the text": "UPDATE events SET payload = replace(payload, '\"label\"', '\"lab\"l\"') WHERE seq = ?",
    "a digit": "UPDATE events SET payload = replace(payload, '\"sample\":16', '\"sample\":17') WHERE seq = ?",
    "bytes that are no text": "UPDATE events SET payload = CAST(x'7bff' AS TEXT) WHERE seq = ?",
    "another topic": "UPDATE events SET topic = 'detection.mic9.ramp.ramp.' WHERE seq = ?",
    "another time": "UPDATE events SET at = at + 1 WHERE seq = ?",
    "no number": "UPDATE events SET at = 'never' WHERE seq = ?",
    "an empty payload": "UPDATE events SET payload = '' WHERE seq = ?",
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("topics", [["detection."], [""]])
def test_a_damaged_row_is_left_out_and_told(
    path: Path, damage: str, topics: list[str], cli: Cli, monkeypatch: pytest.MonkeyPatch
):
    """Whatever was changed in a row, pages go on around it, full to their length, and it is told, also where none looks."""
    monkeypatch.setattr(journals, "TIDY_S", 0.0)
    journal = Journal(path)
    numbers = [event.seq for event in journal.append([DETECTION] * 10)]
    journal._db.execute(DAMAGES[damage], (numbers[4],))
    whole = [number for number in numbers if number != numbers[4]]
    assert [row.seq for row in journal.page(topics, 0, 100)] == whole
    assert [row.seq for row in journal.page(topics, 0, 6)] == whole[:6]
    assert [row.seq for row in journal.page(topics, numbers[3], 1)] == [numbers[5]]
    journal.tend()
    assert "1 damaged row is left out" in journal.notice
    assert [event.seq for event in journal.append([DETECTION])] == [row.seq for row in journal.page(topics, whole[-1], 9)]
    assert "1 damaged row is left out" in journal.notice
    assert len(kept(path)) == 10
    journal.close()
    done = cli("events", "--journal", path, "--json")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 10)
    assert "1 event left out: damaged in the file" in done.stderr


def test_a_subscriber_gets_what_stands_around_a_damaged_row(path: Path):
    """Backfill gives all other events, those of before and those of after, and new ones as ever."""
    with published(records=Journal(path)) as wire:
        before = wire.lose(*[DETECTION] * 5)
        wire.journal._db.execute(DAMAGES["a byte that ends the text"], (before[2].seq,))
        with Subscriber(wire.endpoint, since=before[0].seq - 1) as subscriber:
            wanted = [event.seq for event in before if event.seq != before[2].seq]
            assert [subscriber.receive(10.0).seq for _ in wanted] == wanted
            (news,) = wire.say(DETECTION)
            assert subscriber.receive(10.0).seq == news.seq
    wire.journal.close()


class Clock:
    """A host's clock that a test can set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.ahead_s = self.waited_s = 0.0
        real, monotonic = time.time_ns, time.monotonic
        monkeypatch.setattr(time, "time_ns", lambda: real() + round((self.ahead_s + self.waited_s) * 1e9))
        monkeypatch.setattr(time, "time", lambda: time.time_ns() / 1e9)
        monkeypatch.setattr(time, "monotonic", lambda: monotonic() + self.waited_s)
        monkeypatch.setattr(host_clock, "uptime_ns", lambda: round(time.monotonic() * 1e9))

    def wait(self, span_s: float) -> None:
        """Let time pass."""
        self.waited_s += span_s


@pytest.mark.parametrize("jump_days", [40, -40, 4000])
def test_a_jump_of_the_hosts_clock_erases_nothing(path: Path, monkeypatch: pytest.MonkeyPatch, jump_days: int):
    """For a day after a jump no event goes for its age, and that is told; set right again, all of them are there."""
    clock = Clock(monkeypatch)
    journal = Journal(path, keep_s=30 * 86400.0)
    events = journal.append([DETECTION] * 3)
    clock.ahead_s = jump_days * 86400.0
    for _ in range(5):
        clock.wait(3600)
        journal.tend()
    assert kept(path) == events
    assert f"jumped by {jump_days:+.1f} days" in journal.notice
    clock.ahead_s = 0
    clock.wait(20)
    journal.tend()
    clock.wait(2 * 86400)
    journal.tend()
    assert kept(path) == events
    assert journal.notice is None
    journal.close()


def test_a_jump_while_the_daemon_is_away_erases_nothing_at_once(path: Path, monkeypatch: pytest.MonkeyPatch):
    """A daemon that starts with another date than that of its last event waits for an hour, and says so."""
    clock = Clock(monkeypatch)
    journal = Journal(path, keep_s=30 * 86400.0)
    events = journal.append([DETECTION])
    journal.close()
    clock.ahead_s = 40 * 86400.0
    journal = Journal(path, keep_s=30 * 86400.0)
    clock.wait(1800)
    journal.tend()
    assert kept(path) == events
    assert "is 40.0 days old: for an hour" in journal.notice
    clock.wait(3600)
    journal.tend()
    assert kept(path) == []  # it was no mistake
    assert journal.notice is None
    journal.close()


def test_an_emptied_journal_is_told(path: Path):
    """A file that was cut to nothing, or removed, while nobody ran is begun anew, with a word, and numbers go on."""
    journal = Journal(path)
    (event,) = journal.append([DETECTION])
    journal.close()
    path.write_bytes(b"")
    journal = Journal(path)
    assert "a new journal was begun" in journal.notice
    assert journal.append([DETECTION])[0].seq > event.seq
    journal.close()


def test_the_latest_of_a_topic_is_of_that_topic(path: Path):
    """Where the last row of one topic is damaged, the last ones of the others are what they are."""
    journal = Journal(path)
    events = journal.append([DETECTION, GAP, DETECTION, GAP])
    journal._db.execute("UPDATE events SET topic = '' WHERE seq = ?", (events[0].seq,))
    journal.close()
    journal = Journal(path)
    assert [row.seq for row in journal.latest([""])] == [events[2].seq, events[3].seq]
    journal.close()
