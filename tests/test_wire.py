"""Events over real ZeroMQ sockets, and their JSON."""

import threading
from datetime import UTC, datetime

import pytest
import zmq

from streamcnn.errors import EndpointError, PublishError, SubscribeError
from streamcnn.events import Detection, Gap, Health, from_json, to_json
from streamcnn.wire.publisher import Publisher
from streamcnn.wire.subscriber import Subscriber
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


@pytest.mark.parametrize("event", [DETECTION, GAP, HEALTH], ids=lambda event: type(event).__name__)
def test_events_come_back_from_json(event: object):
    """An event survives its JSON unchanged, times included."""
    assert from_json(to_json(event)) == event


def test_the_json_of_a_detection_is_pinned():
    """The wire format of schema 1 is a contract: its fields and their forms do not change by accident."""
    assert to_json(DETECTION).decode() == (
        '{"type":"detection","stream":"mic1","session":"s5f1","seq":null,"schema":1,"id":"mic1/s5f1/ramp/ramp/12",'
        '"phase":"confirmed","detector":"ramp","kind":"peak","label":"ramp","net":"ramp@3f9a2c","sample":16,"start_sample":12,'
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


def _connected(publisher: Publisher, subscriber: Subscriber) -> None:
    """Publish health until the subscriber has heard of it: a late joiner misses what was said before."""
    wait_until(lambda: publisher.publish(HEALTH) and subscriber.receive(0.05), "the subscription")
    while subscriber.receive(0.1):
        pass


def test_a_subscriber_gets_its_topics_in_order():
    """Topics select by whole names, since they end in a dot, and `seq` counts over all topics."""
    publisher = Publisher("tcp://127.0.0.1:*")
    try:
        with Subscriber(publisher.endpoint, ["detection.mic1.", "health."]) as subscriber:
            _connected(publisher, subscriber)
            first = publisher.publish(DETECTION)
            publisher.publish(GAP)
            last = publisher.publish(HEALTH)
            assert [subscriber.receive(5), subscriber.receive(5)] == [first, last]
            assert last.seq == first.seq + 2
            assert subscriber.receive(0.05) is None
    finally:
        publisher.close()


def test_nothing_is_lost_in_a_burst():
    """Twenty thousand events in one go arrive complete and in order."""
    publisher, count = Publisher("tcp://127.0.0.1:*"), 20_000
    try:
        with Subscriber(publisher.endpoint) as subscriber:
            _connected(publisher, subscriber)
            sent: list[int] = []
            sender = threading.Thread(
                target=lambda: sent.extend(publisher.publish(DETECTION).seq for _ in range(count))
            )
            sender.start()
            got = [subscriber.receive(10).seq for _ in range(count)]
            sender.join()
            assert got == sent
    finally:
        publisher.close()


def test_a_taken_port_is_refused():
    """An endpoint in use is a PublishError that names it and the way out."""
    publisher = Publisher("tcp://127.0.0.1:*")
    try:
        with pytest.raises(PublishError, match=r"127\.0\.0\.1.*in use.*--publish"):
            Publisher(publisher.endpoint)
    finally:
        publisher.close()


def test_malformed_endpoints_and_messages_are_refused():
    """A subscriber refuses a malformed endpoint, and tells of a message that is not two frames."""
    with pytest.raises(EndpointError, match="looks like tcp"):
        Subscriber("nonsense")
    context = zmq.Context()
    socket = context.socket(zmq.PUB)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    try:
        with Subscriber(f"tcp://127.0.0.1:{port}") as subscriber, pytest.raises(SubscribeError, match="3 frames"):
            wait_until(lambda: socket.send_multipart([b"a", b"b", b"c"]) or subscriber.receive(0.05), "a message")
    finally:
        context.destroy(linger=0)


def test_iteration_goes_on_after_a_bad_message():
    """One message that is no event is an error, and the next one is the next event."""
    context = zmq.Context()
    socket = context.socket(zmq.PUB)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    try:
        with Subscriber(f"tcp://127.0.0.1:{port}") as events:
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
