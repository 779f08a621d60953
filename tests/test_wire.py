"""Events over real ZeroMQ sockets, and their JSON."""

import asyncio
import contextlib
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from streamcnn import config
from streamcnn.config import Curve, Publish
from streamcnn.errors import ConfigError, EndpointError, InputError, KeyFileError, PublishError, SubscribeError
from streamcnn.events import Detection, Event, Flood, Gap, Health, Measure, from_json, from_wire, to_json, to_msgpack
from streamcnn.journal.journal import Journal
from streamcnn.wire import messages
from streamcnn.wire.cursor import Cursor, Place
from streamcnn.wire.following import ANSWER_S, PATIENCE_S, Following
from streamcnn.wire.keys import make_keys, secret_key
from streamcnn.wire.publisher import Publisher
from streamcnn.wire.subscriber import AsyncSubscriber, Subscriber
from tests.conftest import wait_until

DETECTION = Detection(
    stream="mic1",
    session="s5f1",
    id="mic1/s5f1/ramp/ramp/12",
    phase="confirmed",
    detector="ramp",
    kind="peak",
    label="ramp",
    net="ramp@3f9a2c",
    sample=16,
    position=16.25,
    start_sample=12,
    end_sample=17,
    decided_sample=20,
    score=0.93,
    threshold=0.6,
    time=datetime(2026, 11, 20, 12, 0, 10, 333, UTC),
    time_error_s=0.0007,
    detected_at=datetime(2026, 11, 20, 12, 0, 11, tzinfo=UTC),
)
GAP = Gap(stream="mic1", session="s5f1", start_sample=100, frames=7, frames_error=0, cause="test")
HEALTH = Health(
    stream="mic10", session="s5f1", state="running", sample=9, level_dbfs=-3.0, detections=1, overflows=0, lost_frames=0
)


MEASURE = Measure(
    stream="mic1", session="s5f1", id="x", detector="rms", net="n", sample=9, start_sample=1, decided_sample=9,
    values={"left": 0.5, "right": None},
)  # fmt: skip
FLOOD = Flood(
    stream="mic1", session="s5f1", detector="ramp", suppressed=7, start_sample=0, end_sample=9, decided_sample=8
)
QUESTION = messages.encode(messages.Since(topics=("detection.",), seq=1))
PUBLISHER = Publisher(Publish(bind="inproc://questions"), Journal())


@pytest.mark.parametrize("event", [DETECTION, MEASURE, FLOOD, GAP, HEALTH], ids=lambda event: type(event).__name__)
def test_events_come_back_from_the_wire(event: object):
    """An event survives its JSON and its msgpack unchanged, times included."""
    assert from_json(to_json(event)) == event
    assert from_wire(to_json(event)) == from_wire(to_msgpack(event)) == event


def test_the_json_of_a_detection_is_pinned():
    """The wire format of schema 1 is a contract: its fields and their forms do not change by accident."""
    assert to_json(DETECTION).decode() == (
        '{"type":"detection","stream":"mic1","session":"s5f1","seq":null,"prev":null,"schema":1,"id":"mic1/s5f1/ramp/ramp/12",'
        '"phase":"confirmed","detector":"ramp","kind":"peak","label":"ramp","net":"ramp@3f9a2c","sample":16,"position":16.25,"start_sample":12,'
        '"end_sample":17,"decided_sample":20,"score":0.93,"threshold":0.6,"truncated":false,'
        '"time":"2026-11-20T12:00:10.000333Z","time_s":null,"time_error_s":0.0007,"detected_at":"2026-11-20T12:00:11Z"}'
    )


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"[1]",
        b"\xff\xfe",
        b'{"type":"detection"}',
        b'{"type":"other"}',
        to_json(GAP).replace(b'"schema":1', b'"schema":2'),
        b"[" * 100_000,
    ],
)
def test_other_payloads_are_refused(payload: bytes):
    """What is not an event of schema 1 is a SubscribeError."""
    with pytest.raises(SubscribeError):
        from_json(payload)


@contextmanager
def published(settings: Publish | None = None, records: Journal | None = None) -> Iterator["Wire"]:
    """A journal with a publisher beside it."""
    wire = Wire(settings or Publish(bind="tcp://127.0.0.1:*"), records or Journal())
    try:
        yield wire
    finally:
        wire.publisher.close()


class Wire:
    """Says events as the daemon does: kept first, then published."""

    def __init__(self, settings: Publish, journal: Journal):
        self.journal, self.publisher = journal, Publisher(settings, journal)
        self.endpoint = self.publisher.endpoint

    def say(self, *events: Event) -> list[Event]:
        """Keep and publish events; returns them numbered."""
        numbered = self.journal.append(events)
        for event in numbered:
            self.publisher.publish(event)
        return numbered

    def lose(self, *events: Event) -> list[Event]:
        """Keep events that never reach a subscriber."""
        return self.journal.append(events)

    def beat(self) -> None:
        """Send a heartbeat."""
        self.publisher.beat()


def joined(wire: Wire, subscriber: Subscriber) -> None:
    """Wait until a subscriber hears: its subscription is on its way when it is made."""
    subscriber.snapshot()
    before = subscriber.heard_s
    wait_until(lambda: wire.beat() or subscriber.receive(0.02) or subscriber.heard_s > before, "the subscription")


@pytest.mark.parametrize("format_", ["json", "msgpack"])
def test_a_subscriber_gets_its_topics_in_order(format_: str):
    """In either format topics select by whole names, since they end in a dot, and `seq` counts over all topics."""
    with (
        published(Publish(bind="tcp://127.0.0.1:*", format=format_)) as wire,
        Subscriber(wire.endpoint, ["detection.mic1.", "health."]) as subscriber,
    ):
        joined(wire, subscriber)
        first, _, last, second = wire.say(DETECTION, GAP, HEALTH, DETECTION)
        assert [subscriber.receive(5) for _ in range(3)] == [first, last, second]
        assert (last.seq, last.prev, second.prev) == (first.seq + 2, None, first.seq)
        assert subscriber.receive(0.05) is None


def test_nothing_is_lost_in_a_burst():
    """Forty thousand events in one go, four times what is kept for a slow subscriber, arrive complete and in order."""
    with published(records=Journal()) as wire, Subscriber(wire.endpoint) as subscriber:
        wire.journal._waiting = deque(maxlen=100_000)
        joined(wire, subscriber)
        count, sent = 40_000, []
        sender = threading.Thread(
            target=lambda: [sent.extend(wire.say(*[DETECTION] * 100)) for _ in range(count // 100)]
        )
        sender.start()
        sender.join()
        got = []
        wait_until(lambda: wire.beat() or got.extend(iter(lambda: subscriber.receive(0.05), None)) or len(got) >= count,
                   "all events")  # fmt: skip
        assert [event.seq for event in got] == [event.seq for event in sent]


def test_a_taken_port_is_refused():
    """An endpoint in use is a PublishError that names it and the way out."""
    with published() as wire, pytest.raises(PublishError, match=r"127\.0\.0\.1.*in use.*--publish"):
        Publisher(Publish(bind=wire.endpoint), wire.journal)


def test_the_wire_is_closed_to_others_unless_it_is_encrypted():
    """An endpoint that other machines can reach is refused without keys, unless it is said to be insecure."""
    for endpoint in (
        "tcp://*:5556",
        "tcp://0.0.0.0:5556",
        "tcp://192.168.1.7:5556",
        "tcp://eth0:5556",
        "tcp://[::]:5556",
    ):
        with pytest.raises(ConfigError, match="without keys"):
            config.parse_publish(endpoint)
        assert Publish(bind=endpoint, insecure=True).bind == endpoint
    for endpoint in ("tcp://127.0.0.1:1", "tcp://localhost:1", "tcp://[::1]:1", "ipc:///run/x"):
        assert config.parse_publish(endpoint).bind == endpoint
    with pytest.raises(ValueError, match="insecure"):
        Publish(bind="tcp://127.0.0.1:1", backfill="tcp://*:2")


def test_a_hole_is_filled_before_anything_later_is_given():
    """What a subscriber missed, as the next event of the topic shows, comes from the journal first."""
    with published() as wire, Subscriber(wire.endpoint, ["detection."]) as subscriber:
        joined(wire, subscriber)
        said = [*wire.say(DETECTION), *wire.lose(DETECTION, GAP, DETECTION), *wire.say(DETECTION)]
        wanted = [event.seq for event in said if isinstance(event, Detection)]
        assert [subscriber.receive(5).seq for _ in wanted] == wanted
        assert subscriber.receive(0.05) is None


def test_a_heartbeat_shows_that_the_last_event_is_missing():
    """Where nothing follows on what was missed, the heartbeat tells of it."""
    with published() as wire, Subscriber(wire.endpoint, ["detection."]) as subscriber:
        joined(wire, subscriber)
        (lost,) = wire.lose(DETECTION)
        assert subscriber.receive(0.1) is None
        wire.beat()
        assert subscriber.receive(5) == lost


def test_the_snapshot_is_the_last_event_of_each_topic():
    """Who comes late is told what was said last on each of its topics, and then only what is new."""
    other = msgspec.structs.replace(DETECTION, label="other")
    with published() as wire:
        *_, last, gap, last_other = wire.say(DETECTION, other, HEALTH, DETECTION, GAP, other)
        with Subscriber(wire.endpoint, ["detection."]) as subscriber:
            assert subscriber.snapshot() == [last, last_other]
            joined(wire, subscriber)
            assert wire.say(DETECTION) == [subscriber.receive(5)]
            assert gap.seq < last_other.seq


def test_a_cursor_goes_on_where_the_last_subscriber_was(tmp_path: Path):
    """An event counts as dealt with when the next is asked for; the next subscriber begins with the first that was not."""
    with published() as wire:
        with Subscriber(wire.endpoint, ["detection."], cursor=tmp_path / "seen.db") as subscriber:
            joined(wire, subscriber)
            said = wire.say(*[DETECTION] * 3)
            assert [subscriber.receive(5).seq for _ in range(2)] == [event.seq for event in said[:2]]
        said += wire.lose(GAP, DETECTION)
        with Subscriber(wire.endpoint, ["detection."], cursor=tmp_path / "seen.db") as subscriber:
            wanted = [event.seq for event in said[1:] if isinstance(event, Detection)]
            assert [subscriber.receive(5).seq for _ in wanted] == wanted
            subscriber.done()
        with Subscriber(wire.endpoint, ["detection."], cursor=tmp_path / "seen.db") as subscriber:
            assert subscriber.receive(0.2) is None
    with pytest.raises(SubscribeError, match="no cursor"):
        Subscriber(wire.endpoint, cursor=tmp_path)


def test_a_new_record_of_events_is_read_from_its_beginning(tmp_path: Path):
    """A daemon that comes back with another journal is noticed, and all that the new one has is given."""
    with published() as wire, Subscriber(wire.endpoint, ["detection."], since=wire.journal.seq) as subscriber:
        (first,) = wire.say(DETECTION)
        assert subscriber.receive(5) == first
        endpoint = wire.endpoint
        wire.publisher.close()
        again = Wire(Publish(bind=endpoint), Journal())
        try:
            lost = again.lose(DETECTION, DETECTION)
            assert lost[0].seq > first.seq
            got = []
            wait_until(lambda: again.beat() or got.append(subscriber.receive(0.05)) or len([*filter(None, got)]) == 2,
                       "both")  # fmt: skip
            assert [event for event in got if event] == lost
        finally:
            again.publisher.close()


def test_without_backfill_events_come_as_they_are():
    """Where backfill is switched off on both sides, a subscriber waits for nobody."""
    with (
        published(Publish(bind="tcp://127.0.0.1:*", backfill="none")) as wire,
        Subscriber(wire.endpoint, backfill="none") as subscriber,
    ):
        before = subscriber.heard_s
        wait_until(lambda: wire.beat() or subscriber.receive(0.02) or subscriber.heard_s > before, "the subscription")
        wire.lose(DETECTION)
        assert wire.say(DETECTION) == [subscriber.receive(5)]


def test_asyncio_subscribers_get_the_same(tmp_path: Path):
    """The subscriber for asyncio fills holes and keeps its cursor as the other one does."""

    async def follow(wire: Wire, wanted: int) -> list[int]:
        async with AsyncSubscriber(wire.endpoint, ["detection."], cursor=tmp_path / "seen.db") as subscriber:
            await subscriber.snapshot()
            assert await subscriber.receive(0.1) is None
            wire.lose(DETECTION)
            wire.beat()
            got = []
            async for event in subscriber:
                got.append(event.seq)
                if len(got) == wanted:
                    break
            return got

    with published() as wire:
        assert asyncio.run(follow(wire, 1)) == [wire.journal.seq]
        wire.lose(DETECTION, DETECTION)
        wanted = [wire.journal.seq - 2, wire.journal.seq - 1, wire.journal.seq]

        async def rest() -> list[int]:
            async with AsyncSubscriber(wire.endpoint, ["detection."], cursor=tmp_path / "seen.db") as subscriber:
                return [(await subscriber.receive(5)).seq for _ in range(3)]

        assert asyncio.run(rest()) == wanted


def test_an_encrypted_wire_lets_in_only_whom_it_knows(tmp_path: Path):
    """With keys, a subscriber whose key is allowed hears and asks; an unknown key is refused, and no key hears nothing."""
    for name in ("daemon", "friend", "stranger"):
        make_keys(tmp_path, name)
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "friend.key").write_bytes((tmp_path / "friend.key").read_bytes())
    curve = Curve(secret=tmp_path / "daemon.key_secret", clients=allowed)
    with published(Publish(bind="tcp://127.0.0.1:*", curve=curve)) as wire:
        server = tmp_path / "daemon.key"
        with Subscriber(wire.endpoint, key=tmp_path / "friend.key_secret", server_key=server) as friend:
            joined(wire, friend)
            assert wire.say(DETECTION) == [friend.receive(5)]
        with (
            Subscriber(wire.endpoint, key=tmp_path / "stranger.key_secret", server_key=server) as stranger,
            pytest.raises(SubscribeError, match="refuses the connection.*other"),
        ):
            stranger.receive(10)
        with Subscriber(wire.endpoint) as nobody:
            wire.say(DETECTION)
            with contextlib.suppress(SubscribeError):
                assert nobody.receive(0.5) is None


def test_secret_keys_are_secret(tmp_path: Path):
    """A secret key is made for its owner alone; one that others can read, a public one, and rubbish are refused."""
    public, secret = make_keys(tmp_path, "daemon")
    assert (secret.stat().st_mode & 0o777, public.stat().st_mode & 0o777) == (0o600, 0o644)
    with pytest.raises(InputError, match="there already"):
        make_keys(tmp_path, "daemon")
    with pytest.raises(KeyFileError, match="no secret key"):
        secret_key(public)
    (tmp_path / "rubbish").write_bytes(b"\xff\x00rubbish")
    for path in (tmp_path / "rubbish", tmp_path / "absent", tmp_path):
        with pytest.raises(KeyFileError):
            secret_key(path)
    secret.chmod(0o640)
    with pytest.raises(KeyFileError, match="others can read.*chmod 600"):
        Publisher(Publish(bind="tcp://127.0.0.1:*", curve=Curve(secret=secret)), Journal())
    secret.chmod(0o600)
    with pytest.raises(KeyFileError, match="no client's"):
        Publisher(Publish(bind="tcp://127.0.0.1:*", curve=Curve(secret=secret, clients=tmp_path / "none")), Journal())


@given(payload=st.binary(max_size=200) | st.builds(lambda k, b: QUESTION[:k] + b + QUESTION[k + 1 :],
                                                   st.integers(0, len(QUESTION)), st.binary(max_size=3)))  # fmt: skip
def test_any_question_has_an_answer(payload: bytes):
    """Whatever is asked, in one frame, is answered by a page or a refusal."""
    answer = PUBLISHER._answer(payload)
    assert messages.answer_of(messages.encode(answer)) == answer


def test_rubbish_on_the_backfill_socket_harms_nobody():
    """Frames of any number and content, and bytes that are not ZeroMQ's, leave the publisher answering."""
    random = np.random.default_rng(0)
    with published() as wire:
        port = int(wire.publisher.backfill.rpartition(":")[2])
        with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
            dealer.setsockopt(zmq.LINGER, 0)
            dealer.connect(wire.publisher.backfill)
            answers = []
            for k in range(2000):
                dealer.send_multipart([random.bytes(random.integers(0, 60)) for _ in range(random.integers(1, 4))])
                if k % 50 == 0:
                    with socket.create_connection(("127.0.0.1", port)) as raw, contextlib.suppress(OSError):
                        raw.sendall(random.bytes(100))
                while dealer.poll(0):
                    answers.append(messages.answer_of(dealer.recv_multipart()[-1]))
            # Who does not read his answers gets no more of them, so it may have to be asked again.
            wait_until(lambda: dealer.send(QUESTION) or _has_page(dealer, answers), "the answer")
        assert all(isinstance(answer, messages.Refusal) for answer in answers[:-1])


def _has_page(dealer: zmq.Socket, answers: list) -> bool:
    """Read answers for a moment; tells whether the last one is a page."""
    while dealer.poll(200):
        answers.append(messages.answer_of(dealer.recv_multipart()[-1]))
        if isinstance(answers[-1], messages.Page):
            return True
    return False


def test_questions_of_another_schema_are_refused():
    """A question of a schema that is not known is refused by name, and pages have the size that was asked for."""
    journal = Journal()
    said = journal.append([DETECTION] * 5)
    publisher = Publisher(Publish(bind="tcp://127.0.0.1:*"), journal)
    try:
        refusal = publisher._answer(QUESTION.replace(b'"schema":1', b'"schema":2'))
        assert "schema 2" in refusal.error
        page = publisher._answer(messages.encode(messages.Since(topics=("",), seq=said[0].seq, id=7, limit=2)))
        assert [from_json(bytes(event)) for event in page.events] == said[1:3]
        assert (page.id, page.more, page.publisher) == (7, True, journal.publisher)
    finally:
        publisher.close()


def test_somebody_who_never_answers_is_named():
    """Where events come but nobody says what was missed, that is an error with its remedy, and not silence."""
    following = Following(["detection."])
    assert following.question(0.0) is not None
    assert following.question(ANSWER_S - 0.1) is None
    following.message(b"detection.", to_json(DETECTION.numbered(5, None)))
    assert following.question(ANSWER_S) is not None
    with pytest.raises(SubscribeError, match="nobody has said for 10 s.*'none'"):
        following.question(PATIENCE_S)
    assert not following.events


def page(following: Following, publisher: str, seq: int, events: list[bytes], *, more: bool = False) -> None:
    """Answer a follower's question."""
    number = messages.question_of(following.question(0.0)).id
    raw = [msgspec.Raw(event) for event in events]
    following.answer(messages.encode(messages.Page(id=number, publisher=publisher, seq=seq, more=more, events=raw)))


def beat(publisher: str, seq: int, **topics: int) -> bytes:
    """A heartbeat."""
    return messages.encode(messages.Heartbeat(publisher=publisher, seq=seq, topics={DETECTION.topic: seq, **topics}))


def numbers(following: Following) -> list[int]:
    """Take what a follower gives."""
    return [following.events.popleft()[0].seq for _ in range(len(following.events))]


def one(seq: int, prev: int | None = None) -> bytes:
    """A detection with a number."""
    return to_json(DETECTION.numbered(seq, prev))


def test_what_is_heard_before_the_snapshot_comes_is_given():
    """A slow snapshot swallows nothing of what was published meanwhile."""
    following = Following(["detection."])
    for seq in (11, 12, 13):
        following.message(b"t", one(seq, seq - 1))
    page(following, "p", 13, [one(13, 12)])
    assert numbers(following) == [11, 12, 13]


def test_a_page_and_what_was_heard_with_it_are_given_once():
    """What comes both by page and live is given once, in order, by strict followers and by others."""
    for strict in (True, False):
        following = Following(["detection."], strict=strict, since=10)
        following.message(b"t", one(12, 11))
        following.message(b"t", one(13, 12))
        page(following, "p", 12, [one(11, 10), one(12, 11)])
        following.message(b"t", one(14, 13))
        assert numbers(following) == [11, 12, 13, 14]


def test_a_new_record_gives_nothing_twice():
    """The first event of a new record that comes before its name is known is not given again with the rest."""
    following = Following(["detection."])
    page(following, "old", 10, [])
    following.message(b"t", one(1000))
    following.message(b"heartbeat.", beat("new", 1000))
    page(following, "new", 1000, [one(998), one(999, 998), one(1000, 999)])
    assert numbers(following) == [1000, 998, 999]


def test_a_record_that_began_anew_under_the_same_name_is_noticed():
    """A publisher whose numbers have gone back, whatever happened to it, is heard from its beginning."""
    following = Following(["detection."], strict=True, since=5000)
    page(following, "p", 5000, [])
    following.message(b"heartbeat.", beat("p", 20))
    page(following, "p", 20, [])
    page(following, "p", 20, [one(19), one(20, 19)])
    assert numbers(following) == [19, 20]


def test_an_event_that_cannot_be_read_is_said_once():
    """An event of a later schema is an error, and what comes behind it is given; nobody asks for it again and again."""
    later = one(11).replace(b'"schema":1', b'"schema":9')
    following = Following(["detection."], strict=True, since=10)
    with pytest.raises(SubscribeError, match="schema 9"):
        page(following, "p", 12, [later, one(12, 11)])
    assert numbers(following) == [12]
    assert following.question(0.1) is None


def test_malformed_endpoints_and_messages_are_refused():
    """A subscriber refuses a malformed endpoint, and tells of a message that is not two frames."""
    with pytest.raises(EndpointError, match="looks like tcp"):
        Subscriber("nonsense")
    context = zmq.Context()
    socket = context.socket(zmq.PUB)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    try:
        with (
            Subscriber(f"tcp://127.0.0.1:{port}", backfill="none") as subscriber,
            pytest.raises(SubscribeError, match="3 frames"),
        ):
            wait_until(lambda: socket.send_multipart([b"a", b"b", b"c"]) or subscriber.receive(0.05), "a message")
    finally:
        context.destroy(linger=0)


def test_iteration_goes_on_after_a_bad_message():
    """One message that is no event is an error, and the next one is the next event."""
    context = zmq.Context()
    socket = context.socket(zmq.PUB)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    try:
        with Subscriber(f"tcp://127.0.0.1:{port}", backfill="none") as events:
            wait_until(lambda: socket.send_multipart([b"t", to_json(GAP)]) or events.receive(0.05), "the subscription")
            while events.receive(0.1):
                pass
            for payload in (b"junk", to_json(HEALTH)):
                socket.send_multipart([b"t", payload])
            with pytest.raises(SubscribeError):
                next(events)
            assert next(events) == HEALTH
    finally:
        context.destroy(linger=0)


def sql(path: Path, *statements: str) -> None:
    """Change a database."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)


OTHERS = {
    "text": lambda path: path.write_text("to whom it may concern\n" * 300),
    "a byte": lambda path: path.write_bytes(b"x"),
    "another application's": lambda path: sql(path, "CREATE TABLE mail (id, text)"),
    "one of another form": lambda path: sql(path, "CREATE TABLE place (one INTEGER PRIMARY KEY, publisher TEXT)"),
    "one of two tables": lambda path: sql(path, "CREATE TABLE place (one, publisher, seq)", "CREATE TABLE mail (id)"),
}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("seq = 'xyz'", "its seq is 'xyz'"),
        ("seq = -5", "its seq is -5"),
        ("seq = 1.5", r"its seq is 1\.5"),
        ("seq = x'00ff'", r"its seq is b'\\x00\\xff'"),
        ("seq = NULL", "its seq is None"),
        ("publisher = NULL", "its publisher is None"),
        ("publisher = x'00'", r"its publisher is b'\\x00'"),
        ("publisher = CAST(x'ff' AS TEXT)", "decode"),
    ],
)
def test_a_cursor_that_holds_no_place_is_refused(change: str, named: str, tmp_path: Path):
    """What stands in a cursor's file and is no place is named when the subscriber is made; without the file, all goes on."""
    path = tmp_path / "seen.db"
    with published() as wire:
        stored_cursor(path)
        sql(path, f"UPDATE place SET {change}")
        assert_refused(wire, path, named)


@pytest.mark.parametrize("kind", OTHERS)
def test_a_file_that_is_no_cursor_is_refused(kind: str, tmp_path: Path):
    """Another application's file is named when the subscriber is made, and left as it is."""
    path = tmp_path / "seen.db"
    OTHERS[kind](path)
    before = path.read_bytes()
    with published() as wire:
        with pytest.raises(SubscribeError, match="no cursor"):
            Subscriber(wire.endpoint, cursor=path)
        assert path.read_bytes() == before
        assert_refused(wire, path, "")


@pytest.mark.parametrize("kept", [50, 1000, 4096, 5000, 8191])
def test_a_cursor_that_is_cut_off_is_refused(kept: int, tmp_path: Path):
    """Of a file that lost its end no number is believed: SQLite would read zeros there."""
    path = tmp_path / "seen.db"
    stored_cursor(path)
    path.write_bytes(path.read_bytes()[:kept])
    with published() as wire:
        assert_refused(wire, path, "malformed|cut off")


def test_a_cursor_that_cannot_be_written_is_refused(tmp_path: Path):
    """A folder, a file that may only be read, and one in a folder that is not there are refused with what they lack."""
    path = tmp_path / "seen.db"
    stored_cursor(path)
    path.chmod(0o444)
    make = "import sys, streamcnn; streamcnn.Subscriber('tcp://127.0.0.1:9', cursor=sys.argv[1])"
    # Root may write everything; without its capabilities it is a user like any other.
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    for wrong in (path, tmp_path, tmp_path / "absent" / "seen.db"):
        words = [*drop, sys.executable, "-c", make, str(wrong)]
        error = subprocess.run(words, capture_output=True, text=True, check=False).stderr.splitlines()[-1]
        assert error.startswith(f"streamcnn.errors.SubscribeError: {wrong}: no cursor can be kept there: ")
        assert error.endswith("give a file that can be written, in a folder that can")


def stored_cursor(path: Path) -> None:
    """A cursor's file, with a place in it."""
    with contextlib.closing(Cursor(path)) as cursor:
        cursor.store(Place("0123456789abcdef", 1795200000123))


def assert_refused(wire: Wire, path: Path, named: str) -> None:
    """A subscriber refuses a cursor, and its remedy works."""
    with pytest.raises(SubscribeError, match=f"{path}: no cursor can be kept there: .*{named}.*; remove it to begin"):
        Subscriber(wire.endpoint, cursor=path)
    path.unlink()
    wire.lose(DETECTION)
    with Subscriber(wire.endpoint, ["detection."], cursor=path) as subscriber:
        joined(wire, subscriber)
        assert wire.say(DETECTION) == [subscriber.receive(5)]
