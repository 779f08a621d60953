"""What those who subscribe can make a publisher keep, with peers that are written to do harm."""

import os
import socket
import struct
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import zmq

from streamcnn.config import Curve, Publish
from streamcnn.wire import subscriptions
from streamcnn.wire.keys import make_keys
from streamcnn.wire.subscriber import Subscriber
from tests.conftest import wait_until
from tests.test_wire import DETECTION, Wire, joined, published

FEW = 10_000  # bytes that subscriptions may take, where a test wants too many soon
MANY = [f"detection.{n}." for n in range(100)]


def memory_mb() -> float:
    """How much memory this process takes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def frame(content: bytes, flags: int = 0) -> bytes:
    """A frame of ZeroMQ's protocol, of less than 256 bytes."""
    return struct.pack("BB", flags, len(content)) + content


def peer(endpoint: str) -> socket.socket:
    """A connection that says it is a SUB socket; unlike one, it keeps nothing of what it sends."""
    connection = socket.create_connection(("127.0.0.1", int(endpoint.rpartition(":")[2])))
    kind = struct.pack(">B11sI3s", 11, b"Socket-Type", 3, b"SUB")
    connection.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00NULL".ljust(55, b"\0") + frame(b"\x05READY" + kind, 4))
    connection.recv(64, socket.MSG_WAITALL)
    return connection


def flood(endpoint: str, messages: list[bytes]) -> None:
    """Send messages as fast as they are taken; connect again whenever the connection is broken off."""
    while messages:
        try:
            with peer(endpoint) as connection:
                while messages:
                    connection.sendall(b"".join(map(frame, messages[:1000])))
                    del messages[:1000]
        except OSError:
            continue


def too_many(wire: Wire) -> None:
    """Subscribe to too much, once."""
    closed = wire.publisher._closed
    with peer(wire.endpoint) as connection:
        connection.sendall(frame(b"\1topic") * FEW)
        wait_until(lambda: wire.beat() or wire.publisher._closed > closed, "the end of the socket")


def hears(wire: Wire, subscriber: Subscriber) -> bool:
    """Whether an event that is said now reaches a subscriber in the end."""
    (said,) = wire.say(DETECTION)
    return bool(wait_until(lambda: wire.beat() or subscriber.receive(0.02) == said, "the event"))


def bound(one: socket.socket, address: tuple[str, int]) -> bool:
    """Whether a socket can be bound there."""
    try:
        one.bind(address)
    except OSError:
        return False
    return True


def hundred_subscribers(wire: Wire) -> None:
    """Come, subscribe to fifty topics each, hear something, and go."""
    with zmq.Context() as context:
        sockets = [context.socket(zmq.SUB) for _ in range(100)]
        for k, one in enumerate(sockets):
            one.connect(wire.endpoint)
            for n in range(50):
                one.setsockopt(zmq.SUBSCRIBE, f"detection.microphone-{k}.detector-{n}.".encode())
            one.setsockopt(zmq.SUBSCRIBE, b"heartbeat.")  # once this one is heard, so are all
        wait_until(lambda: wire.beat() or all(one.poll(1) for one in sockets), "a heartbeat for all")
        context.destroy(linger=0)


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little is too much."""
    monkeypatch.setattr(subscriptions, "MOST_MEMORY", FEW)


def test_subscriptions_take_bounded_memory_and_nobody_misses_anything():
    """Of 200,000 topics only some of the 220 MB are kept; who else subscribes gets each event once, in order."""
    random = np.random.default_rng(0)
    topics = [b"\1" + random.bytes(32) for _ in range(200_000)]
    with published() as wire, Subscriber(wire.endpoint, ["detection."]) as subscriber:
        joined(wire, subscriber)
        said, got, most, before = [], [], 0.0, memory_mb()
        attack = threading.Thread(target=flood, args=(wire.endpoint, topics), daemon=True)
        attack.start()
        while attack.is_alive():
            said += wire.say(DETECTION)
            wire.beat()
            got += filter(None, [subscriber.receive(0.002)])
            most = max(most, memory_mb() - before)
        wait_until(
            lambda: wire.beat() or got.extend(filter(None, [subscriber.receive(0.02)])) or len(got) >= len(said), "all"
        )
        assert got == said
        assert most < 150
        assert "more than 64 MB of subscriptions came" in wire.publisher.notice


def test_many_subscribers_are_no_flood():
    """A hundred subscribers with fifty topics each of their own, who go and come back, are never disconnected."""
    with published() as wire:
        for _ in range(2):
            hundred_subscribers(wire)
        assert wire.publisher.notice is None
        assert wire.publisher._subscriptions.memory < subscriptions.MOST_MEMORY / 3


@pytest.mark.parametrize("message", [b"\1again", b"\0never", b"\2other"])
def test_whatever_is_sent_without_end_comes_to_an_end(message: bytes, strict: None):
    """The same subscription again, the end of one that was not, and what is no subscription count, and end alike."""
    with published() as wire, peer(wire.endpoint) as connection:
        connection.sendall(frame(message) * 200)
        wait_until(lambda: wire.beat() or wire.publisher.notice, "the end of the socket")
        assert "subscriptions" in wire.publisher.notice


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:*", "tcp://127.0.0.1:0", "tcp://localhost:*", "tcp://*:*"])
def test_the_same_endpoint_is_bound_again(endpoint: str, strict: None):
    """Whatever port was asked for, the one that was found is bound again, and a subscriber connects to it by itself."""
    with published(Publish(bind=endpoint, insecure=True)) as wire:
        at = wire.endpoint.replace("0.0.0.0", "127.0.0.1")
        with Subscriber(at) as subscriber:
            joined(wire, subscriber)
            for _ in range(2):
                too_many(wire)
                assert hears(wire, subscriber)
            assert wire.publisher.endpoint == wire.endpoint
            assert "2 times" in wire.publisher.notice


@pytest.mark.parametrize("name", ["*", "events"])
def test_a_socket_in_the_file_system_is_bound_again(
    name: str, tmp_path: Path, strict: None, monkeypatch: pytest.MonkeyPatch
):
    """A Unix socket is there again too, also where ZeroMQ chose its name."""
    monkeypatch.chdir(tmp_path)
    with (
        published(Publish(bind=f"ipc://{name}")) as wire,
        Subscriber(wire.endpoint) as subscriber,
    ):
        joined(wire, subscriber)
        with Subscriber(wire.endpoint, MANY):
            wait_until(lambda: wire.beat() or wire.publisher.notice, "the end of the socket")
        assert hears(wire, subscriber)


def test_with_keys_the_same_endpoint_is_bound_again(tmp_path: Path, strict: None):
    """An encrypted wire is encrypted as before, and lets in the same."""
    for name in ("daemon", "friend"):
        make_keys(tmp_path, name)
    keys = {"key": tmp_path / "friend.key_secret", "server_key": tmp_path / "daemon.key"}
    curve = Curve(secret=tmp_path / "daemon.key_secret")
    with (
        published(Publish(bind="tcp://127.0.0.1:*", curve=curve)) as wire,
        Subscriber(wire.endpoint, **keys) as subscriber,
    ):
        joined(wire, subscriber)
        with Subscriber(wire.endpoint, MANY, **keys):
            wait_until(lambda: wire.beat() or wire.publisher.notice, "the end of the socket")
        assert hears(wire, subscriber)


def test_who_takes_the_port_meanwhile_is_named(strict: None):
    """Where the endpoint cannot be bound again, that is said, nothing is lost, and it is tried until it can."""
    with published() as wire, Subscriber(wire.endpoint, since=wire.journal.seq) as subscriber:
        joined(wire, subscriber)
        too_many(wire)
        with closing(socket.socket()) as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            address = ("127.0.0.1", int(wire.endpoint.rpartition(":")[2]))
            wait_until(lambda: bound(other, address), "the port")
            other.listen()
            wait_until(lambda: wire.beat() or "in use" in wire.publisher.notice, "the notice")
            said = wire.say(DETECTION, DETECTION)
        assert [wait_until(lambda: wire.beat() or subscriber.receive(0.02), "an event") for _ in said] == said
        assert "in use" not in wire.publisher.notice
