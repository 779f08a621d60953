"""Streams, run together until somebody says stop: their events go to the outbox, their health is reported each second."""

import sys
import time
from collections.abc import Callable, Iterator

from streamcnn.daemon.health import LOOK_S, summary
from streamcnn.daemon.outbox import Outbox, Posted
from streamcnn.daemon.stream import StreamService
from streamcnn.daemon.systemd import ServiceManager
from streamcnn.errors import RunError, StreamcnnError
from streamcnn.events import Event, Health
from streamcnn.inference.realtime import core_for
from streamcnn.journal.journal import Journal
from streamcnn.system import Bell
from streamcnn.wire.publisher import Publisher

JOIN_POLL_S = 0.005
PATIENCE_S = 0.005  # where there is more to do than is to be done at once
AT_ONCE = 500  # events that are made before somebody looks after the rest again
HEALTH_EVERY_S = 1.0
SWITCH_INTERVAL_S = 0.001  # how long another Python thread may keep an event from being published


def run(
    streams: list[StreamService],
    news: Bell,
    publisher: Publisher | None,
    stopped: Callable[[], bool],
    duration_s: float | None = None,
    manager: ServiceManager | None = None,
    journal: Journal | None = None,
) -> Iterator[Event]:
    """Run streams until `stopped()`, until `duration_s` has passed, until all have ended, or until one has failed.

    Yields every event, health included, after it has been kept in the journal and published. `news` is what the streams ring.
    Stopping, by closing the generator too, publishes the last events. `manager` is told once all streams hear, and with
    each health event how they do; its watchdog is fed only while audio and inference of every stream get on. Raises the
    error that ended a stream, once everything else is done.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(min(interval, SWITCH_INTERVAL_S))
    ends_s = None if duration_s is None else time.monotonic() + duration_s
    watch = _Watch(streams, news, publisher, manager or ServiceManager(), journal or Journal())
    try:
        for number, stream in enumerate(streams):
            stream.start(core_for(number))
        while not stopped() and watch.goes_on and (ends_s is None or time.monotonic() < ends_s):
            watch.look()
            is_all = watch.pass_on()
            yield from watch.outbox.take()
            watch.wait(None if is_all else PATIENCE_S)
    finally:
        last = watch.end()
        sys.setswitchinterval(interval)
    yield from last
    for stream in streams:
        if isinstance(stream.error, StreamcnnError):
            raise stream.error
        if stream.error is not None:
            raise RunError(f"stream '{stream.name}' failed: {stream.error!r}") from stream.error


class _Watch:
    """Watches over streams; belongs to the caller's thread."""

    def __init__(
        self,
        streams: list[StreamService],
        news: Bell,
        publisher: Publisher | None,
        manager: ServiceManager,
        journal: Journal,
    ):
        self._streams, self._news, self._publisher = streams, news, publisher
        self._manager, self._journal = manager, journal
        self.outbox = Outbox(journal, publisher, news.ring)
        now = time.monotonic()
        self._next_health_s, self._next_look_s, self._looked_s = now + HEALTH_EVERY_S, now, now
        self._is_ready = False

    @property
    def goes_on(self) -> bool:
        """Whether a stream is at work, and none has failed."""
        return any(stream.running for stream in self._streams) and not any(stream.error for stream in self._streams)

    def look(self) -> None:
        """Look after the streams, where it is time for that, and tell how they do."""
        if not self._is_ready and all(stream.hearing for stream in self._streams):
            self._is_ready = True
            self._manager.ready()
        now = time.monotonic()
        is_due = now >= self._next_health_s
        if not is_due and now < self._next_look_s:
            return
        elapsed_s, self._looked_s, self._next_look_s = now - self._looked_s, now, now + LOOK_S
        self.outbox.post(posted for stream in self._streams if not stream.running for posted in stream.finish())
        changed = [stream.watch(elapsed_s) for stream in self._streams]
        reports = [
            stream.report_health(journal=self._journal.notice, wire=self._publisher and self._publisher.notice)
            for stream, has_news in zip(self._streams, changed, strict=True)
            if has_news or is_due
        ]
        self.outbox.post(map(Posted, reports))
        if is_due:
            missed = (now - self._next_health_s) // HEALTH_EVERY_S  # of these, none is reported
            self._next_health_s += HEALTH_EVERY_S * (1 + missed)
            self._tell(reports)

    def _tell(self, reports: list[Health]) -> None:
        """Tell systemd how the streams do; its watchdog is fed where each has got on since the last time."""
        self._manager.status("; ".join(map(summary, reports)))
        if all([stream.has_progressed() for stream in self._streams]):  # a list: each one is to be asked
            self._manager.alive()
            for stream in self._streams:
                stream.forget_progress()

    def pass_on(self) -> bool:
        """Post what the streams have decided, as far as there is room; tells whether that was all."""
        left = False
        for stream in self._streams:
            left |= stream.collect()
            if not self.outbox.is_full:
                self.outbox.post(stream.drain(AT_ONCE))
        return not (left and any(stream.collect() for stream in self._streams))

    def wait(self, most_s: float | None) -> None:
        """Wait for news; for at most so long, and until somebody has to look."""
        self._news.wait(min(LOOK_S if most_s is None else most_s, max(0.0, self._next_health_s - time.monotonic())))

    def end(self) -> list[Event]:
        """Stop the streams, have their last events published, and return those that were."""
        self._manager.stopping()
        for stream in self._streams:
            stream.stop()
        last = []
        while any(stream.running for stream in self._streams):  # what they still decide must not wait for room
            self.pass_on()
            last += self.outbox.take()
            time.sleep(JOIN_POLL_S)
        for stream in self._streams:
            self.outbox.post(stream.finish())
        self.outbox.post(Posted(stream.report_health("ended", self._journal.notice)) for stream in self._streams)
        self.outbox.close()
        return last + self.outbox.take()
