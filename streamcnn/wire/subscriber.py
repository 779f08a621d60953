"""The subscribers: typed events in, none missed, for plain programs and for asyncio.

with streamcnn.Subscriber("tcp://127.0.0.1:5556", topics=["detection."], cursor="seen.db") as events:
    for event in events:
        print(event.label, event.sample)

What they do with messages is `following`'s; here are the sockets: one that hears, one that asks, and one that tells why nobody
listens to us.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import zmq
import zmq.asyncio
from zmq.utils.monitor import parse_monitor_message

from streamcnn.endpoint import DEFAULT_ENDPOINT, EXAMPLE, NO_ENDPOINT, parse_peer
from streamcnn.errors import EndpointError, SubscribeError
from streamcnn.events import Event
from streamcnn.wire import messages
from streamcnn.wire.cursor import Cursor, Place
from streamcnn.wire.endpoints import backfill_of
from streamcnn.wire.following import RETRY_S, Following
from streamcnn.wire.keys import public_key, secret_key

PING_MS, GONE_MS = 5_000, 20_000  # a publisher that does not answer a ping for so long is connected to anew
POLL_S = 0.25
MOST_BROKEN_OFF = 10
_REFUSED = zmq.Event.HANDSHAKE_FAILED_AUTH | zmq.Event.HANDSHAKE_FAILED_PROTOCOL | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL


class _Subscription:
    """What both subscribers are: sockets, a `Following`, and a cursor."""

    _contexts: ClassVar[type[zmq.Context]]
    _pollers: ClassVar[type[zmq.Poller]]

    def __init__(
        self,
        endpoint: str = DEFAULT_ENDPOINT,
        topics: Sequence[str] = ("",),
        *,
        backfill: str | None = None,
        cursor: str | Path | None = None,
        since: int | None = None,
        key: str | Path | None = None,
        server_key: str | Path | None = None,
    ):
        if cursor is not None and since is not None:
            raise SubscribeError("both `cursor` and `since` say where to begin", "give one of them")
        if (key is None) != (server_key is None):
            raise SubscribeError(
                "one key alone", "give `key`, your own secret one, and `server_key`, the daemon's public one"
            )
        self.heard_s = time.monotonic()  # when something was last heard
        self._broken_off = 0  # how often, since then, a connection was while it was made
        self._keys = None if key is None else (secret_key(Path(key)), public_key(Path(server_key)))
        backfill = backfill_of(endpoint) if backfill is None else backfill
        self._cursor = None if cursor is None else Cursor(Path(cursor))
        place = self._cursor.load() if self._cursor is not None else None
        self._following = Following(
            [os.fsencode(topic).decode(errors="surrogateescape") for topic in topics],
            strict=cursor is not None or since is not None,
            since=place.seq if place else since,
            publisher=place.publisher if place else None,
            can_ask=backfill != NO_ENDPOINT,
        )
        self._handed_out, self._place = None, place
        self._context = self._contexts()
        try:
            self._sub = self._connected(zmq.SUB, endpoint)
            self._monitor = self._sub.get_monitor_socket(_REFUSED)
            self._dealer = self._connected(zmq.DEALER, backfill) if backfill != NO_ENDPOINT else None
        except BaseException:
            self.close()
            raise
        for topic in {*self._following.hears, messages.HEARTBEAT_TOPIC}:
            self._sub.setsockopt(zmq.SUBSCRIBE, os.fsencode(topic))
        self._poller = self._pollers()
        for socket in (self._sub, self._monitor, self._dealer):
            if socket is not None:
                self._poller.register(socket, zmq.POLLIN)

    def _connected(self, kind: int, endpoint: str) -> zmq.Socket:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.HEARTBEAT_IVL, PING_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, GONE_MS)
        if kind == zmq.DEALER:
            socket.setsockopt(zmq.IMMEDIATE, 1)  # a question to nobody need not wait for somebody
        if self._keys is not None:
            own, server = self._keys
            socket.curve_publickey, socket.curve_secretkey = own
            socket.curve_serverkey = server
        try:
            socket.setsockopt(zmq.IPV6, parse_peer(endpoint).is_ipv6)
            socket.connect(endpoint)
        except ValueError as error:
            raise EndpointError(f"cannot connect: {error}") from error
        except zmq.ZMQError as error:
            raise EndpointError(f"cannot connect to {endpoint}: {error.strerror or error}", EXAMPLE) from error
        return socket

    def close(self) -> None:
        """Disconnect; may be called twice. The event that was given last counts as not dealt with: see `done`."""
        if self._cursor is not None:
            self._cursor.close()
            self._cursor = None
        self._context.destroy(linger=0)

    def done(self) -> None:
        """Say that the event given last has been dealt with, before asking for the next one says it."""
        if self._cursor is not None and self._following.publisher is not None and self._following.snapshot is not None:
            place = self._place
            if self._handed_out is not None and self._handed_out[0].seq is not None:
                event, publisher = self._handed_out
                place = Place(publisher or self._following.publisher, event.seq)
            elif not self._following.events:
                place = Place(self._following.publisher, self._following.complete)
            if place is not None and place != self._place:
                self._cursor.store(place)
                self._place = place
        self._handed_out = None

    def _taken(self) -> Event | None:
        """Return the next event that is ready."""
        if not self._following.events:
            return None
        self._handed_out = self._following.events.popleft()
        return self._handed_out[0]

    def _question(self) -> bytes | None:
        return self._following.question(time.monotonic()) if self._dealer is not None else None

    def _nobody_there(self, timeout_s: float) -> float:
        """Ask again soon; return how long to wait."""
        self._following.unsent(time.monotonic())
        return min(timeout_s, RETRY_S)

    def _feed(self, socket: zmq.Socket, frames: list[bytes]) -> None:
        """Take a message from one of the sockets."""
        if socket is self._monitor:
            self._refused(parse_monitor_message(frames))
            return
        self.heard_s, self._broken_off = time.monotonic(), 0
        if socket is self._dealer:
            self._following.answer(frames[-1])
            return
        if len(frames) != 2:
            raise SubscribeError(f"a message of {len(frames)} frames, expected topic and payload")
        self._following.message(*frames)

    def _refused(self, event: dict[str, object]) -> None:
        """Say that the publisher refuses us; where it only broke off, as one does that is being killed, after a few times."""
        self._broken_off += 1
        if event["event"] == zmq.Event.HANDSHAKE_FAILED_NO_DETAIL and self._broken_off % MOST_BROKEN_OFF:
            return
        raise SubscribeError(
            f"{event['endpoint'].decode()}: the publisher refuses the connection",
            "its keys are others than these" if self._keys else "it may want keys: see 'streamcnn keys'",
        )


class Subscriber(_Subscription):
    """Follows a publisher; an iterator of events that waits for the next one. Belongs to one thread.

    `topics`: prefixes such as "detection.mic0."; all by default. It connects, and connects again, by itself: a publisher that
    is not there yet is waited for. What is missed meanwhile, or because we are slow, is fetched from its journal
    before anything later is given. `backfill`: where to ask for it, by default beside `endpoint`; "none" to do without.

    `cursor`: a file that remembers the last event that was dealt with: the next program that uses it begins behind that one. An
    event is dealt with when the next one is asked for, or with `done`. `since` instead: the `seq` of that event, for who keeps
    it in the same transaction as what he makes of the event. With either, all events come in the order of their `seq`.
    Without both it begins with what comes now; `snapshot` says what came before.

    `key`, `server_key`: files of our own secret key and the publisher's public one, for a wire with CURVE. `heard_s`: when
    something was heard last, of time.monotonic(); a publisher is heard each second.

    Raises EndpointError where an endpoint is malformed, KeyFileError for keys that cannot be used, SubscribeError for a cursor
    that cannot.
    """

    _contexts, _pollers = zmq.Context, zmq.Poller

    def receive(self, timeout_s: float | None = None) -> Event | None:
        """Return the next event, or None where none came for `timeout_s` (None: wait for ever).

        Raises SubscribeError for a message that is not of a schema this version knows, where the publisher refuses us,
        and where it does not say what was missed; it may be called again.
        """
        self.done()
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while (event := self._taken()) is None:
            self.done()  # what went by on other topics, or before us, is dealt with too
            left = POLL_S if end is None else end - time.monotonic()
            if left < 0:
                return None
            self._turn(min(left, POLL_S))
        return event

    def snapshot(self, timeout_s: float = 5.0) -> list[Event]:
        """Return the last event of each topic, of those that were published before we came.

        Raises SubscribeError where nobody says that for so long.
        """
        end = time.monotonic() + timeout_s
        while self._following.snapshot is None:
            if time.monotonic() > end:
                raise SubscribeError(
                    f"no snapshot for {timeout_s:g} s", "is the daemon running, and its backfill open?"
                )
            self._turn(POLL_S)
        return list(self._following.snapshot)

    def _turn(self, timeout_s: float) -> None:
        """Ask what is to be asked, wait, and take what has come."""
        question = self._question()
        if question is not None:
            try:
                self._dealer.send(question, zmq.NOBLOCK)
            except zmq.Again:
                timeout_s = self._nobody_there(timeout_s)
        for socket, _ in self._poller.poll(round(timeout_s * 1000)):
            self._feed(socket, socket.recv_multipart(zmq.NOBLOCK))

    def __iter__(self) -> "Subscriber":
        """Return the subscriber itself; after a SubscribeError the iteration can go on."""
        return self

    def __next__(self) -> Event:
        """Wait for the next event and return it; never ends."""
        while (event := self.receive()) is None:
            pass
        return event

    def __enter__(self) -> "Subscriber":
        """Return the subscriber itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self.close()


class AsyncSubscriber(_Subscription):
    """The same for asyncio: `async with`, `async for`, and `await` of its methods. Belongs to one event loop."""

    _contexts, _pollers = zmq.asyncio.Context, zmq.asyncio.Poller

    async def receive(self, timeout_s: float | None = None) -> Event | None:
        """Return the next event, or None where none came for `timeout_s`; raises what `Subscriber.receive` does."""
        self.done()
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while (event := self._taken()) is None:
            self.done()  # what went by on other topics, or before us, is dealt with too
            left = POLL_S if end is None else end - time.monotonic()
            if left < 0:
                return None
            await self._turn(min(left, POLL_S))
        return event

    async def snapshot(self, timeout_s: float = 5.0) -> list[Event]:
        """Return the last event of each topic; raises what `Subscriber.snapshot` does."""
        end = time.monotonic() + timeout_s
        while self._following.snapshot is None:
            if time.monotonic() > end:
                raise SubscribeError(
                    f"no snapshot for {timeout_s:g} s", "is the daemon running, and its backfill open?"
                )
            await self._turn(POLL_S)
        return list(self._following.snapshot)

    async def _turn(self, timeout_s: float) -> None:
        question = self._question()
        if question is not None:
            try:
                await self._dealer.send(question, zmq.NOBLOCK)
            except zmq.Again:
                timeout_s = self._nobody_there(timeout_s)
        for socket, _ in await self._poller.poll(round(timeout_s * 1000)):
            self._feed(socket, await socket.recv_multipart())

    def __aiter__(self) -> "AsyncSubscriber":
        """Return the subscriber itself."""
        return self

    async def __anext__(self) -> Event:
        """Wait for the next event and return it; never ends."""
        while (event := await self.receive()) is None:
            await asyncio.sleep(0)
        return event

    async def __aenter__(self) -> "AsyncSubscriber":
        """Return the subscriber itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect."""
        self.close()
