"""The daemon: sources, pipelines and the publisher, composed and run until somebody says stop.

Each stream has a source that writes into a ring and an inference thread that drains it through a pipeline. Their events
meet in one queue, and the caller's thread numbers, publishes and returns them. Whatever ends a stream (a signal, the
end of its input, an error) its pipeline is finished and its last events are published before `run` returns.
"""

import math
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator

import msgspec
import numpy as np

from streamcnn import config as configuration
from streamcnn.clock import Clock
from streamcnn.errors import RunError, SourceLostError, StreamcnnError
from streamcnn.events import Detection, Event, Health, utc
from streamcnn.listener import Listener
from streamcnn.pipeline import Pipeline
from streamcnn.ring import Ring
from streamcnn.sinks.systemd import ServiceManager
from streamcnn.sources.live import LiveSource
from streamcnn.wire.publisher import Publisher

RING_S = 2.0
RING_BLOCKS = 4  # at least so many, where blocks are long
EVENTS = 100_000  # that may wait to be published before inference waits for them
POLL_S = 0.1
JOIN_POLL_S = 0.005
HEALTH_EVERY_S = 1.0
SILENCE_DBFS = -100.0  # below half a bit of 16-bit audio: a cable that is not there
STALLED_S = 10.0  # a device that delivers nothing for so long is lost


class StreamService:
    """One stream at work: its source, ring, pipeline and inference thread.

    Events appear in `events`, the queue that the streams of a daemon share.
    """

    def __init__(
        self, name: str, source: LiveSource, listeners: list[Listener], gain: float, events: "queue.Queue[Event]"
    ):
        self.name = name
        self.source = source
        self.session = secrets.token_hex(4)
        self._error: Exception | None = None
        self._events = events
        self._ring = Ring(source.channels, max(math.ceil(RING_S * source.rate), RING_BLOCKS * source.block))
        self._clock = Clock(source.rate)
        self._pipeline = Pipeline(
            name, self.session, source.rate, source.channels, listeners, gain=gain, clock=self._clock
        )
        self._thread = threading.Thread(target=self._guarded, name=f"inference-{name}", daemon=True)
        self._level: float | None = None  # of the blocks since the last report
        self._last_level = 0.0
        self._idle_s = 0.0
        self._seen = (0, 0)
        self._progressed = False

    def start(self) -> None:
        """Start inference, then the source."""
        self._thread.start()
        self.source.start(self._ring)

    @property
    def running(self) -> bool:
        """Whether the inference thread is still at work."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End the source; the inference thread drains what has arrived and ends too."""
        self.source.stop()

    @property
    def error(self) -> Exception | None:
        """Why the stream ended, where nobody stopped it and its input did not just end."""
        return self._error or self.source.error

    @property
    def hearing(self) -> bool:
        """Whether it is at work: frames have been processed, or its source is one that may wait."""
        return self._pipeline.sample > 0 or not self.source.paced

    def has_progressed(self) -> bool:
        """Whether, since `forget_progress`, audio has come in and inference has got on with it.

        A source that nobody paces may be silent, and what nobody sends need not be processed.
        """
        arrived, processed = self._ring.next_sample, self._pipeline.sample
        heard = arrived > self._seen[0] or not self.source.paced
        self._progressed |= heard and (processed > self._seen[1] or processed == arrived)
        return self._progressed

    def forget_progress(self) -> None:
        """Ask from now on for new progress."""
        self._seen, self._progressed = (self._ring.next_sample, self._pipeline.sample), False

    def report_health(self, state: str | None = None) -> Health:
        """Return how the stream has been doing since the last report."""
        # A block that comes in between may be missing from one report: it is a meter. Where blocks are longer than the time
        # between reports, the last one stands.
        level, self._level = self._level, None
        level = self._last_level if level is None else level
        self._last_level = level
        dbfs = 20 * math.log10(level) if 0 < level < math.inf else None
        silent = dbfs is None or dbfs < SILENCE_DBFS
        return Health(
            stream=self.name,
            session=self.session,
            state=state or ("no signal" if silent else "running"),
            sample=self._pipeline.sample,
            level_dbfs=None if dbfs is None else round(dbfs, 1),
            detections=self._pipeline.detections,
            overflows=self._ring.overflows,
            lost_frames=self._ring.lost_frames,
            time=utc(time.time()),
        )

    def _guarded(self) -> None:
        try:
            self._run()
        except Exception as error:  # noqa: BLE001 (handed to the thread that can report it)
            self._error = error
            self.source.stop()

    def _run(self) -> None:
        for block in self._ring.blocks(POLL_S):
            if block is None:
                self._notice_stall()
                continue
            self._idle_s = 0.0
            if block.utc_s is not None:
                self._clock.observe(block.sample, block.utc_s)
            if block.driver_overflow:
                self._put(self._pipeline.skip(0, "the driver lost frames", None))
            self._catch_up(block.sample)
            level = np.max(np.abs(block.samples), initial=0, where=np.isfinite(block.samples))
            self._level = max(self._level or 0.0, float(level))
            self._put(self._pipeline.process(block.samples))
        self._catch_up(self._ring.next_sample)
        self._put(self._pipeline.finish())

    def _catch_up(self, sample: int) -> None:
        lost = sample - self._pipeline.sample
        if lost:
            self._put(self._pipeline.skip(lost, "inference was too slow: the ring overflowed"))

    def _put(self, events: list[Event]) -> None:
        if not events:
            return
        now = utc(time.time())
        for event in events:
            if isinstance(event, Detection):
                event = msgspec.structs.replace(event, detected_at=now)
            self._events.put(event)

    def _notice_stall(self) -> None:
        """A lost device often reports nothing: only the missing frames tell."""
        self._idle_s += POLL_S  # not by the clock: a daemon that was itself suspended has missed nothing yet
        if self._idle_s > STALLED_S and self.source.paced:
            raise SourceLostError(
                f"{self.source.title} delivered nothing for {self._idle_s:.0f} s",
                "check the cable and 'streamcnn devices', then start again",
            )


def run(
    streams: list[StreamService],
    events: "queue.Queue[Event]",
    publisher: Publisher | None,
    stopped: Callable[[], bool],
    duration_s: float | None = None,
    manager: ServiceManager | None = None,
) -> Iterator[Event]:
    """Run streams until `stopped()`, until `duration_s` has passed, until all have ended, or until one has failed.

    Yields every event, health included, after it has been published. Stopping, by closing the generator too, publishes
    the last events. `manager` is told once all streams hear, and with each health event how they do; its watchdog is fed only
    while audio and inference of every stream get on. Raises the error that ended a stream, once everything else is done.
    """
    manager, ready = manager or ServiceManager(), False
    began = time.monotonic()
    next_health = began + HEALTH_EVERY_S
    try:
        for stream in streams:
            stream.start()
        while (
            not stopped() and any(stream.running for stream in streams) and not any(stream.error for stream in streams)
        ):
            now = time.monotonic()
            if duration_s is not None and now - began >= duration_s:
                break
            if not ready and all(stream.hearing for stream in streams):
                ready = True
                manager.ready()
            if now >= next_health:
                next_health += HEALTH_EVERY_S * (1 + (now - next_health) // HEALTH_EVERY_S)  # none for what was missed
                reports = [_published(stream.report_health(), publisher) for stream in streams]
                manager.status("; ".join(_summary(report) for report in reports))
                if all([stream.has_progressed() for stream in streams]):  # of each what it has done since the last time
                    manager.alive()
                    for stream in streams:
                        stream.forget_progress()
                yield from reports
            try:
                yield _published(events.get(timeout=POLL_S), publisher)
            except queue.Empty:
                continue
    finally:
        manager.stopping()
        for stream in streams:
            stream.stop()
        last = []
        while any(stream.running for stream in streams):  # what they still decide must not wait for room in the queue
            last.extend(_drained(events))
            time.sleep(JOIN_POLL_S)
        last += [*_drained(events), *(stream.report_health("ended") for stream in streams)]
        last = [_published(event, publisher) for event in last]
    yield from last
    for stream in streams:
        if stream.error is not None:
            if isinstance(stream.error, StreamcnnError):
                raise stream.error
            raise RunError(f"stream '{stream.name}' failed: {stream.error!r}") from stream.error


def _summary(health: Health) -> str:
    level = "silent" if health.level_dbfs is None else f"{health.level_dbfs:.1f} dBFS"
    lost = f", {health.lost_frames} frames lost" if health.lost_frames else ""
    return f"{health.stream}: {health.state}, {level}, {health.detections} detections{lost}"


def _published(event: Event, publisher: Publisher | None) -> Event:
    return event if publisher is None else publisher.publish(event)


def _drained(events: "queue.Queue[Event]") -> Iterator[Event]:
    while not events.empty():
        yield events.get()


def configured_source(source: configuration.Source, rate: int, stdin: Callable[[], object]) -> LiveSource:
    """Make the source of a stream; PortAudio is loaded only for sound cards.

    `stdin`: gives the binary file that "-" stands for. Raises DeviceError or MissingPartError.
    """
    if source.device == "demo":
        from streamcnn.sources.demo import Demo

        return Demo(rate, len(source.channels), source.block)
    if source.device == "-":
        from streamcnn.sources.raw import Raw

        return Raw(rate, source.channels, stdin())
    from streamcnn.sources.soundcard import SoundCard

    return SoundCard(source.device, rate, source.channels, source.block)
