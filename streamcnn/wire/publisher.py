"""The publisher: events out on a ZeroMQ XPUB socket, as two frames: topic and payload; and answers to who has missed some.

It drops what a subscriber is too slow for, and a late one misses what was said before. So each event names the one
before it on its topic, a heartbeat names the last one of each topic, and a second socket, in a thread of its own, gives
from the journal what was missed. A subscriber that is stopped or gone is dropped after a while, with all that waits for it.

Where subscriptions may take too much memory the socket is closed, and another one bound in its place, at most twice a second:
all who subscribe connect again by themselves, and fetch what was said meanwhile from the journal.

The parts of a message cannot be bounded: ZeroMQ keeps them in a thread of its own, where nobody can look, until the last one
has come; 300 to 900 MB/s of one peer were measured, on either socket. It takes a peer that is written for it: a socket of
ZeroMQ's keeps a message itself until it is whole. Who may connect at all is what CURVE, or the loopback interface, decides.
"""

import errno
import threading
import time
from collections.abc import Sequence
from typing import Protocol

import msgspec
import zmq
from zmq.auth.thread import ThreadAuthenticator

from streamcnn.config import Publish
from streamcnn.endpoint import NO_ENDPOINT, PORTS, parse
from streamcnn.errors import EndpointError, JournalError, PublishError, SubscribeError
from streamcnn.events import Event, to_json, to_msgpack
from streamcnn.wire import messages
from streamcnn.wire.endpoints import backfill_of, refuse_taken_socket
from streamcnn.wire.keys import allowed_keys, secret_key
from streamcnn.wire.subscriptions import MOST_MEMORY, Subscriptions

HIGH_WATER_MARK = 10_000  # messages kept for each slow subscriber before it misses some
PAGES_WAITING = 4  # answers kept for who asks and does not read
LINGER_MS = 500
PING_MS, GONE_MS = 5_000, 20_000  # who does not answer a ping for so long is gone
LONGEST_SUBSCRIPTION, LONGEST_QUESTION = 1 << 9, 1 << 17  # bytes, with what encryption adds
# Of one peer. ZeroMQ reads subscriptions, in one call of ours, until none is waiting: where they come faster than they are
# read, it took in 600 MB before it returned, with 8 waiting of up to 1 KB; with 2 of half a KB 15 MB. With 1 nobody who has a
# key is heard: ZeroMQ takes the name of the key's owner for one that waits, for ever.
SUBSCRIPTIONS_WAITING, QUESTIONS_WAITING = 2, 8
LOOK_S = 0.001  # how often, at most, to look for subscriptions: a look takes 4 us, more than to send an event
REST_S = 0.5  # how long nothing is bound after too many: by then the old socket has removed its file
LONGEST_PAGE = 1 << 19  # bytes of events, but for the last one
POLL_MS = 100
TRIES = 50  # to find two free ports side by side
# Reasons that another time may be gone: somebody else is there, or the network is not up yet.
_MAY_PASS = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.ENODEV, errno.EACCES, errno.ENOENT)


class Row(Protocol):
    """An event as it is kept: its number, and its JSON."""

    seq: int
    payload: str


class Records(Protocol):
    """Where missed events are found: a journal."""

    publisher: str
    seq: int
    last: dict[str, int]

    def page(self, topics: Sequence[str], after: int, most: int, upto: int) -> list[Row]:
        """Return events numbered above `after`, up to `upto`, in order."""

    def latest(self, topics: Sequence[str]) -> list[Row]:
        """Return the last event of each topic."""


class Publisher:
    """Publishes events where a configuration says, and answers from `records`; belongs to one thread.

    `endpoint`, `backfill`: where it is bound. `notice`: what is not as it should be, None where all is well.

    Raises EndpointError where an endpoint is malformed, PublishError where it cannot be bound, KeyFileError for keys that
    cannot be used.
    """

    def __init__(self, settings: Publish, records: Records):
        self.notice: str | None = None
        self._records = records
        self._encode = to_msgpack if settings.format == "msgpack" else to_json
        self._closing, self._thread, self._guard = threading.Event(), None, None
        self._look_s, self._closed_s, self._closed = 0.0, 0.0, 0
        self._keys = None if settings.curve is None else secret_key(settings.curve.secret)
        if settings.curve is not None and settings.curve.clients is not None:
            allowed_keys(settings.curve.clients)
        self._context = zmq.Context()
        try:
            if settings.curve is not None:
                self._guard = ThreadAuthenticator(self._context)
                self._guard.start()
                clients = zmq.auth.CURVE_ALLOW_ANY if settings.curve.clients is None else str(settings.curve.clients)
                self._guard.configure_curve(domain="*", location=clients)
            self._bind(settings)
        except BaseException:
            self._end(linger_ms=0)
            raise
        if self._router is not None:
            self._thread = threading.Thread(target=self._answer_all, name="backfill", daemon=True)
            self._thread.start()

    def publish(self, event: Event) -> None:
        """Send an event that has its number; never waits."""
        if self._socket is None:  # nobody is connected; who comes back fetches it
            return
        self._socket.send_multipart([event.topic.encode(), self._encode(event)])
        if time.monotonic() >= self._look_s:
            self._look()

    def beat(self) -> None:
        """Send the heartbeat: to be called about once a second, when all events up to `records.seq` have been sent."""
        if self._socket is None:
            self._bind_again()
        if self._socket is not None:
            self._send_beat()
            self._look()

    def close(self) -> None:
        """Send what is still queued, for at most half a second, and close."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        self._end()

    def _send_beat(self) -> None:
        records = self._records
        beat = messages.Heartbeat(publisher=records.publisher, seq=records.seq, topics=dict(records.last))
        self._socket.send_multipart([messages.HEARTBEAT_TOPIC.encode(), messages.encode(beat)])

    def _look(self) -> None:
        """Look at what peers subscribe to; where that is too much, close the socket, and thus forget it."""
        if not self._subscriptions.read():
            self._send_beat()  # who got through before that asks for what he misses
            self._socket.close()
            self._socket, self._closed_s, self._closed = None, time.monotonic(), self._closed + 1
            self.notice = self._closed_notice()
        self._look_s = time.monotonic() + LOOK_S

    def _bind_again(self) -> None:
        """Bind a socket where the closed one was; where that fails, the next heartbeat tries again."""
        if time.monotonic() - self._closed_s < REST_S:
            return
        try:
            self._bind_events(self.endpoint)
        except (PublishError, EndpointError) as error:
            self.notice = f"{self._closed_notice()}, but cannot: {error}"
        else:
            self.notice = self._closed_notice()

    def _closed_notice(self) -> str:
        times = "once" if self._closed == 1 else f"{self._closed} times"
        most = f"more than {MOST_MEMORY / 1e6:.0f} MB of subscriptions came"
        return f"{self.endpoint}: {most}, {times}, and all who subscribe had to connect again"

    def _end(self, linger_ms: int = LINGER_MS) -> None:
        if self._guard is not None:
            self._guard.stop()
        self._context.destroy(linger=linger_ms)

    def _bind(self, settings: Publish) -> None:
        """Bind both sockets; of an endpoint without a port of its own, the next port must be free too."""
        for tries in range(TRIES, 0, -1):
            self._bind_events(settings.bind)
            backfill = settings.backfill or backfill_of(self.endpoint)
            if backfill.endswith(f":{PORTS}"):
                raise EndpointError(
                    f"{self.endpoint} leaves no port behind it for backfill",
                    "give publish.backfill an endpoint, or none",
                )
            self.backfill: str | None = None
            self._router = None
            if backfill == NO_ENDPOINT:
                return
            self._router = self._made(zmq.ROUTER, QUESTIONS_WAITING, LONGEST_QUESTION)
            self._router.setsockopt(zmq.SNDHWM, PAGES_WAITING)
            self._router.setsockopt(zmq.SNDTIMEO, 0)
            try:
                self.backfill = self._bound(self._router, backfill, "publish.backfill")
                return
            except PublishError:
                if tries == 1 or not settings.bind.endswith(("*", ":0")):
                    raise
                for socket in (self._socket, self._router):
                    socket.close(linger=0)

    def _bind_events(self, endpoint: str) -> None:
        socket = self._made(zmq.XPUB, SUBSCRIPTIONS_WAITING, LONGEST_SUBSCRIPTION)
        socket.setsockopt(zmq.SNDHWM, HIGH_WATER_MARK)
        subscriptions = Subscriptions(socket)
        try:
            self.endpoint = self._bound(socket, endpoint, "--publish or publish.bind, or --publish none")
        except BaseException:
            socket.close(linger=0)
            raise
        self._socket, self._subscriptions = socket, subscriptions

    def _made(self, kind: int, waiting: int, longest: int) -> zmq.Socket:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, LINGER_MS)
        socket.setsockopt(zmq.MAXMSGSIZE, longest)
        socket.setsockopt(zmq.RCVHWM, waiting)
        socket.setsockopt(zmq.HEARTBEAT_IVL, PING_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, GONE_MS)
        if self._keys is not None:
            socket.curve_publickey, socket.curve_secretkey = self._keys
            socket.curve_server = True
        return socket

    @staticmethod
    def _bound(socket: zmq.Socket, endpoint: str, options: str) -> str:
        try:
            socket.setsockopt(zmq.IPV6, parse(endpoint).is_ipv6)
            refuse_taken_socket(endpoint)
            socket.bind(endpoint)
        except ValueError as error:
            raise EndpointError(f"cannot publish there: {error}", f"choose another endpoint with {options}") from error
        except zmq.ZMQError as error:
            kind = PublishError if error.errno in _MAY_PASS else EndpointError
            raise kind(
                f"cannot publish at {endpoint}: {error.strerror or error}", f"choose another endpoint with {options}"
            ) from error
        return socket.getsockopt_string(zmq.LAST_ENDPOINT)

    # Backfill

    def _answer_all(self) -> None:
        """Answer questions until the publisher is closed."""
        while not self._closing.is_set():
            if not self._router.poll(POLL_MS):
                continue
            envelope, payload = _split(self._router.recv_multipart())
            try:
                self._router.send_multipart([*envelope, messages.encode(self._answer(payload))])
            except zmq.ZMQError:  # who asked is gone, or does not read its answers
                continue

    def _answer(self, payload: bytes) -> messages.Answer:
        number = 0
        try:
            question = messages.question_of(payload)
            number = question.id
            return self._page(question)
        except (SubscribeError, JournalError) as error:
            return messages.Refusal(id=number, error=str(error))
        except Exception as error:  # noqa: BLE001 (whatever a question or a damaged file can cause, others have questions too)
            return messages.Refusal(id=number, error=f"failed: {error!r}")

    def _page(self, question: messages.Question) -> messages.Page:
        publisher, seq = self._records.publisher, self._records.seq  # before it is read: up to here it is complete
        if isinstance(question, messages.Latest):
            rows, most = self._records.latest(question.topics), messages.MOST_IN_PAGE
        else:
            rows, most = self._records.page(question.topics, question.seq, question.limit + 1, seq), question.limit
        events, size = [], 0
        for row in rows[:most]:
            if size > LONGEST_PAGE:
                break
            events.append(msgspec.Raw(row.payload.encode()))
            size += len(row.payload)
        return messages.Page(id=question.id, publisher=publisher, seq=seq, more=len(events) < len(rows), events=events)


def _split(frames: list[bytes]) -> tuple[list[bytes], bytes]:
    """Return the envelope of a message to a ROUTER, with the empty frame that a REQ puts there, and its payload."""
    behind = 2 if len(frames) == 3 and frames[1] == b"" else 1
    return frames[:behind], frames[behind] if len(frames) == behind + 1 else b""
