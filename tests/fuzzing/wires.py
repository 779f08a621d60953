"""What comes over the wire: events, heartbeats and answers to a subscriber, questions to a publisher, and endpoints."""

import contextlib
import functools
import json
import time
from pathlib import Path
from random import Random

import msgspec
import zmq

from streamcnn import config as configuration
from streamcnn.errors import StreamcnnError
from streamcnn.events import Detection, Flood, Gap, Health, Measure, from_wire, to_json
from streamcnn.journal.journal import Journal
from streamcnn.wire import messages
from streamcnn.wire.following import Following
from streamcnn.wire.publisher import Publisher
from streamcnn.wire.subscriber import Subscriber
from tests.fuzzing.case import REFUSED, TAKEN, Case, Outcome, fault
from tests.fuzzing.mutations import TEXTS, changed, nudged, spoiled

EVENTS = (
    Detection(stream="s", session="x", id="s/x/d/l/5", phase="confirmed", detector="d", kind="peak", label="l", net="n@1",
              sample=5, position=5.5, start_sample=4, end_sample=6, decided_sample=9, score=0.9, threshold=0.6, time_s=0.1),
    Measure(stream="s", session="x", id="s/x/m/5", detector="m", net="n@1", sample=5, start_sample=4, decided_sample=9,
            values={"a": 0.5, "b": None}),
    Flood(stream="s", session="x", detector="d", suppressed=7, start_sample=0, end_sample=48_000, decided_sample=48_000),
    Gap(stream="s", session="x", start_sample=1, frames=2, frames_error=None, cause="test"),
    Health(stream="s", session="x", state="running", sample=5, level_dbfs=-20.0, detections=1, overflows=0, lost_frames=0),
)  # fmt: skip
TOPICS = ("detection.", "measure.", "gap.", "")
HOSTS = ("127.0.0.1", "*", "localhost", "[::1]", "::1", "[::]", "0.0.0.0", "eth99", "127.0.0.1%lo", "999.1.1.1", "a" * 300, "é",
         "", "127.0.0.1;127.0.0.2:1", "nowhere.invalid", "-", "[127.0.0.1]", "1")  # fmt: skip
PORTS = ("5556", "*", "0", "65535", "65536", "80000", "-1", "", "5x", " 5", "0x10", "٣", "1e3", "9" * 50)
ANSWERS_S = 1.5


def prepare() -> None:
    """Bring a publisher up."""
    _publisher()
    _answered(b"{}")


def case(random: Random) -> Case:
    """Make messages for one of the doors of the wire."""
    match random.randrange(10):
        case 0 | 1 | 2 | 3 | 4:
            return _conversation(random)
        case 5 | 6:
            return Case("a payload", {"payload": _payload(random)}, ("decode",))
        case 7 | 8:
            return _questions(random)
    return Case("an endpoint", {"endpoint": _endpoint(random).encode(errors="surrogatepass")}, ("endpoint",))


def try_(case: Case, folder: Path) -> Outcome:
    """Put it before whoever it is for."""
    match case.words[0]:
        case "decode":
            from_wire(case.files["payload"])
            return TAKEN
        case "ask":
            return _answered(*(data for name, data in case.files.items() if name.startswith("question")))
        case "endpoint":
            return _used(case.files["endpoint"].decode(errors="surrogatepass"))
    return _followed(case)


# A conversation with a subscriber


def _conversation(random: Random) -> Case:
    """Make messages and answers, most of them spoiled, for a subscriber of some kind."""
    files, words = {}, [random.choice(("strict", "free", "deaf")), random.choice(TOPICS)]
    for k in range(random.randrange(1, 8)):
        kind = random.choice(("message", "message", "beat", "answer", "answer"))
        words.append(kind)
        files[f"{k:02}"] = _of_kind(random, kind)
    return Case(" ".join(words), files, tuple(words))


def _of_kind(random: Random, kind: str) -> bytes:
    if kind == "message":
        return _payload(random)
    publisher = random.choice(("aa", "aa", "aa", "bb"))
    seq = random.choice((1, 5, 20, 2**63 - 1))
    if kind == "beat":
        topics = {"gap.s.": random.randrange(20)}
        value = {"type": "heartbeat", "schema": 1, "publisher": publisher, "seq": seq, "topics": topics}
    elif random.random() < 0.2:
        value = {"type": "refusal", "schema": 1, "id": random.randrange(4), "error": "no"}
    else:
        events = [_event(random) for _ in range(random.randrange(4))]
        events = [changed(random, event) if random.random() < 0.2 else event for event in events]
        value = {"type": "page", "schema": 1, "id": random.choice((0, 1, 1, 1, 2, 3)), "publisher": publisher, "seq": seq,
                 "more": random.random() < 0.3, "events": events}  # fmt: skip
    if random.random() < 0.3:
        value = random.choice((changed, nudged))(random, value)
    data = json.dumps(value).encode()
    return spoiled(random, data) if random.random() < 0.2 else data


def _followed(case: Case) -> Outcome:
    mode, topic, *kinds = case.words
    since = 3 if mode == "strict" else None
    record, can_ask = "aa" if since else None, mode != "deaf"
    following = Following([topic], strict=mode == "strict", since=since, publisher=record, can_ask=can_ask)
    now_s, taken, wanted = 0.0, 0, 0
    for kind, data in zip(kinds, case.files.values(), strict=True):
        now_s += 3.0
        with contextlib.suppress(StreamcnnError):
            question = following.question(now_s)
            if question is not None:
                _check_question(question)
        try:
            if kind == "answer":
                following.answer(data)
            else:
                following.message(messages.HEARTBEAT_TOPIC.encode() if kind == "beat" else b"gap.s.", data)
            taken += 1
        except StreamcnnError:
            continue
        wanted += kind == "message" and from_wire(data).topic.startswith(topic)
    if mode == "deaf" and len(following.events) != wanted:
        return fault("events dropped in silence", f"{len(following.events)} of {wanted}")
    for event, _ in following.events:
        json.loads(to_json(event))
    return TAKEN if taken else REFUSED


def _check_question(payload: bytes) -> None:
    """Raise AssertionError for what no publisher would take as a question."""
    try:
        messages.question_of(payload)
    except StreamcnnError as error:
        raise AssertionError(f"asks what is no question: {error}") from error


def _event(random: Random) -> dict[str, object]:
    event = random.choice(EVENTS).numbered(
        random.choice((None, 1, 2, 4, 5, 6, 20, 2**62)), random.choice((None, 0, 1, 4, 5))
    )
    return json.loads(to_json(event))


def _payload(random: Random) -> bytes:
    """Return an event as JSON or msgpack, mostly spoiled."""
    value = _event(random)
    if random.random() < 0.5:
        value = random.choice((changed, nudged))(random, value)
    is_packed = random.random() < 0.4
    try:
        data = msgspec.msgpack.encode(value) if is_packed else json.dumps(value).encode()
    except (OverflowError, UnicodeEncodeError):
        data = json.dumps(value).encode()
    if random.random() < 0.05:
        opening = random.choice((b"\x91", b"\x81\xa1a", b"[", b'{"a":'))
        data = data[:1] + (b"\xa5extra" if is_packed else b'"extra":') + opening * random.choice((500, 100_000))
    return spoiled(random, data) if random.random() < 0.4 else data


# Questions to a publisher


def _questions(random: Random) -> Case:
    """Make a message of one or more frames, out of a question."""
    question = random.choice((
        {"type": "since", "schema": 1, "topics": [random.choice(TOPICS)], "seq": random.randrange(50), "id": 7, "limit": 10},
        {"type": "latest", "schema": 1, "topics": [""], "id": 7},
    ))  # fmt: skip
    if random.random() < 0.6:
        question = random.choice((changed, nudged))(random, question)
    data = json.dumps(question).encode()
    if random.random() < 0.6:
        data = spoiled(random, data)
    frames = [data]
    if random.random() < 0.2:
        frames = [random.choice((b"", data, random.randbytes(20))) for _ in range(random.choice((2, 3, 5, 500)))]
    return Case(
        f"a question of {len(frames)} frames", {f"question{k:03}": frame for k, frame in enumerate(frames)}, ("ask",)
    )


@functools.cache
def _publisher() -> Publisher:
    """Return a publisher that has some events to tell."""
    journal = Journal()
    journal.append([event for event in EVENTS for _ in range(5)])
    return Publisher(configuration.Publish(bind="tcp://127.0.0.1:*"), journal)


@functools.cache
def _context() -> zmq.Context:
    return zmq.Context()


def _answered(*frames: bytes) -> Outcome:
    """Ask something, and then something proper, to which the answer must come."""
    with _dealer() as dealer:
        dealer.send_multipart(frames)
        if dealer.poll(20):
            messages.answer_of(dealer.recv_multipart()[-1])
    proper = messages.encode(messages.Since(topics=("gap.",), seq=0, id=4711))
    end = time.monotonic() + ANSWERS_S
    while time.monotonic() < end:
        with _dealer() as dealer:
            dealer.send(proper)
            if dealer.poll(500):
                answer = messages.answer_of(dealer.recv_multipart()[-1])
                right = isinstance(answer, messages.Page) and answer.id == 4711 and len(answer.events) == 5
                return TAKEN if right else fault("a proper question gets another answer", answer)
    return fault("a publisher answers no more")


def _dealer() -> zmq.Socket:
    dealer = _context().socket(zmq.DEALER)
    dealer.setsockopt(zmq.LINGER, 0)
    dealer.connect(_publisher().backfill)
    return dealer


# Endpoints


def _endpoint(random: Random) -> str:
    transport = random.choice(
        ("tcp://",) * 6 + ("ipc://", "ipc://", "inproc://", "udp://", "tcp:", "TCP://", "", "pgm://", "ipc:///")
    )
    rest = f"{random.choice(HOSTS)}:{random.choice(PORTS)}" if random.random() < 0.7 else random.choice(TEXTS)
    text = transport + rest
    if random.random() < 0.2:
        text = spoiled(random, text.encode(errors="surrogatepass")).decode(errors="replace")
    return text


def _used(endpoint: str) -> Outcome:
    """Subscribe to an endpoint, and publish at it; whatever cannot be used is refused."""
    refused = 0
    try:
        Subscriber(endpoint).close()
    except StreamcnnError:
        refused += 1
    try:
        Publisher(configuration.parse_publish(endpoint), Journal()).close()
    except StreamcnnError:
        refused += 1
    return REFUSED if refused == 2 else TAKEN
