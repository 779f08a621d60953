"""From events to everybody who shall have them: numbered and kept in the journal first, then published.

It has a thread of its own, so that a slow disk holds up neither the detection nor the watch over it. Events wait in order;
`is_full` asks for patience, since what waits before it, as records, takes a tenth of the memory.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from streamcnn.events import Event
from streamcnn.inference.latency import Latency
from streamcnn.journal.journal import Journal
from streamcnn.wire.publisher import Publisher

MOST_WAITING = 5_000
AT_ONCE = 250  # events in one transaction: so long, at most, the first of them waits to be published
HEARTBEAT_S = 1.0
SENT_WAITING = 20_000  # events that were sent, and wait for whoever shows them


class Posted(NamedTuple):
    """An event, when it was made (ns, monotonic), and where to note how long it took from then until it was sent."""

    event: Event
    made_ns: int | None = None
    latency: Latency | None = None


class Outbox:
    """Keeps and publishes events; `publisher` may be None.

    `rung` is called, by its thread, when there are events to `take`: what was sent.
    """

    def __init__(self, journal: Journal, publisher: Publisher | None, rung: Callable[[], None]):
        self._journal, self._publisher, self._rung = journal, publisher, rung
        self._waiting: deque[Posted] = deque()
        self._sent: deque[Event] = deque()
        self._there, self._closing = threading.Event(), False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._guarded, name="outbox", daemon=True)
        self._thread.start()

    @property
    def is_full(self) -> bool:
        """Whether what comes had better wait."""
        return len(self._waiting) >= MOST_WAITING or len(self._sent) >= SENT_WAITING

    def post(self, events: Iterable[Posted]) -> None:
        """Have events kept and published, in this order; never waits."""
        before = len(self._waiting)
        self._waiting.extend(events)
        if len(self._waiting) > before:
            self._there.set()

    def take(self) -> list[Event]:
        """Return the events that were sent since the last time, numbered; raises what the thread died of."""
        if self._error is not None:
            raise self._error
        return [self._sent.popleft() for _ in range(len(self._sent))]

    def close(self) -> None:
        """Keep and publish what waits, and end."""
        self._closing = True
        self._there.set()
        self._thread.join()

    def _guarded(self) -> None:
        try:
            self._run()
        except Exception as error:  # noqa: BLE001 (handed to the thread that can report it)
            self._error = error
            self._rung()

    def _run(self) -> None:
        next_beat = 0.0
        while True:
            self._there.wait(max(0.0, next_beat - time.monotonic()))
            self._there.clear()
            closing = self._closing  # what is posted after this is not part of the end
            while self._waiting:
                self._send([self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))])
                if time.monotonic() >= next_beat:
                    next_beat = self._beat()
            if time.monotonic() >= next_beat or closing:
                next_beat = self._beat()
            if closing:
                return

    def _send(self, posted: list[Posted]) -> None:
        events = self._journal.append([one.event for one in posted])
        for event, one in zip(events, posted, strict=True):
            if self._publisher is not None:
                self._publisher.publish(event)
            if one.latency is not None:
                one.latency.add(time.monotonic_ns() - one.made_ns)
        self._sent.extend(events)
        self._rung()

    def _beat(self) -> float:
        """Send the heartbeat and look after the journal; return when the next one is due."""
        if self._publisher is not None:
            self._publisher.beat()
        self._journal.tend()
        return time.monotonic() + HEARTBEAT_S
