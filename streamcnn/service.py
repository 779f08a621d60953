"""The daemon: sources, pipelines and the publisher, composed and run until somebody says stop.

Each stream has a source that writes into a ring and an inference thread that drains it through a pipeline, in machine code
and without the GIL. The caller's thread turns records into events, which the outbox, a thread too, keeps and publishes, and
watches over the streams: their health, their progress, their deadlines. Whatever ends a stream (a signal, the end of its
input, an error) its pipeline is finished and its last events are published before `run` returns.
"""

import math
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from streamcnn import config as configuration
from streamcnn.clock import Clock
from streamcnn.errors import DeviceError, InputError, RunError, SourceLostError, StreamcnnError
from streamcnn.events import Detection, Event, Health, Quantiles, utc
from streamcnn.guard import Guard
from streamcnn.inference.latency import Latency, quantiles_s
from streamcnn.inference.realtime import be_real_time, core_for
from streamcnn.journal.journal import Journal
from streamcnn.listener import Listener
from streamcnn.outbox import Outbox, Posted
from streamcnn.pipeline import Pipeline
from streamcnn.ring import Ring
from streamcnn.sinks.clips import ClipWriter
from streamcnn.sinks.recording import Recording, Session
from streamcnn.sinks.systemd import ServiceManager
from streamcnn.sinks.tape import Tape
from streamcnn.sources.live import LiveSource
from streamcnn.system import Bell
from streamcnn.wire.publisher import Publisher

RING_S = 2.0
RING_BLOCKS = 4  # at least so many, where blocks are long
# After a stop of this process a source in real time delivers at once what was kept for us: PulseAudio keeps 4 MiB.
KEPT_S, KEPT_BYTES = 24.0, 5 << 20
POLL_S = 0.1
JOIN_POLL_S = 0.005
PATIENCE_S = 0.005  # where there is more to do than is to be done at once
AT_ONCE = 500  # events that are made before somebody looks after the rest again
HEALTH_EVERY_S = 1.0
LATENCY_TURN_S = 60.0
SILENCE_DBFS = -100.0  # below half a bit of 16-bit audio: a cable that is not there
PAUSED_S, STALLED_S = 1.0, 10.0  # a device that delivers nothing for so long pauses, is lost
SWITCH_INTERVAL_S = 0.001  # how long another Python thread may keep an event from being published
QUANTILES = (0.5, 0.99, 0.999, 1.0)


class StreamService:
    """One stream at work: its source, ring, pipeline and inference thread.

    `news` is rung when there is something to `drain`. `importances`: one for each listener, None for those that are never
    switched off. `record_to`: where to write what is heard. `clips`: of which events to write clips, and where.

    Raises InputError where that cannot be written.
    """

    def __init__(
        self,
        name: str,
        source: LiveSource,
        listeners: list[Listener],
        gain: float,
        news: Bell,
        *,
        importances: Sequence[int | None] | None = None,
        record_to: Path | None = None,
        clips: configuration.Clips | None = None,
    ):
        self.name = name
        self.source = source
        self.session = secrets.token_hex(4)
        self.refused: list[str] = []  # what the system did not permit
        self.finished = False
        self.wire = Latency()  # from a record to its event on the wire
        self._error: Exception | None = None
        self._news = news
        self._core: int | None = None
        self._ring = _ring(source)
        clock = Clock(source.rate) if source.paced else None
        self._pipeline = Pipeline(name, self.session, source.rate, source.channels, listeners, gain=gain, clock=clock)
        self._pipeline.prepare()
        self._guard = Guard(importances or [None] * len(listeners))
        self._recording: Recording | None = None
        self._clips = None if clips is None else ClipWriter(name, clips, source.rate, source.channels)
        if record_to is not None:
            nets = {runner.listener.name: runner.net for runner in self._pipeline.runners}
            session = Session(
                stream=name,
                session=self.session,
                rate=source.rate,
                channels=source.channels,
                nets=nets,
                clocked=source.paced,
            )
            self._recording = Recording(record_to, session)
            self._pipeline.on_pair = self._recording.note_pair
        readers = [reader for reader in (self._recording, self._clips) if reader is not None]
        self._tape = Tape(source.channels, source.rate, readers) if readers else None
        self._thread = threading.Thread(target=self._guarded, name=f"inference-{name}", daemon=True)
        self._last_level: float | None = 0.0
        self._seen = (0, 0)
        self._progressed = False
        self._arrived, self._idle_s = 0, 0.0
        self._said = (False, self._guard.on, None, False, True)
        self._spent = (time.monotonic(), 0, [0] * len(listeners))
        self._turned_s = time.monotonic()
        self._load, self._costs = 0.0, [0.0] * len(listeners)

    def start(self, core: int | None = None) -> None:
        """Start inference, then the source; in real time, where that is permitted, on a core."""
        self._core = self.source.core = core
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

        Who writes into a pipe may pause, but not for longer than STALLED_S once he has begun: then he hangs, or is gone.
        """
        waits = not self.source.paced and self.running and (self._arrived == 0 or self._idle_s < STALLED_S)
        heard = self._ring.next_sample > self._seen[0] or waits
        self._progressed |= heard and (self._pipeline.sample > self._seen[1] or self._ring.waiting_frames == 0)
        return self._progressed

    def forget_progress(self) -> None:
        """Ask from now on for new progress."""
        self._seen, self._progressed = (self._ring.next_sample, self._pipeline.sample), False

    @property
    def latencies(self) -> dict[str, Latency]:
        """What is measured of its latencies, by what they are from and to."""
        measured = {
            "from callback to record, beyond the work": self._pipeline.latency,
            "from record to wire": self.wire,
        }
        return measured if self.source.took is None else {**measured, "in the callback": self.source.took}

    def collect(self) -> bool:
        """Make room for more records; tells whether there is something to drain."""
        return self._pipeline.collect()

    def drain(self, most: int | None = None) -> list[Posted]:
        """Return what was decided since the last time, of much only some more than `most`."""
        drained = self._pipeline.drain(most)
        self._note([event for event, _ in drained])
        return [Posted(event, made_ns, self.wire) for event, made_ns in drained]

    def _note(self, events: list[Event]) -> None:
        """Have clips written of what was decided."""
        if self._clips is not None:
            for event in events:
                if isinstance(event, Detection):
                    self._clips.note(event)

    def finish(self) -> list[Posted]:
        """Return the last of what was decided, once the inference thread has ended, and close the recording.

        A second time there is nothing left.
        """
        if self.finished:
            return []
        self.finished = True
        last = self.drain()
        ends = self._pipeline.finish()
        self._note(ends)
        events = [*last, *map(Posted, ends)]
        if self._tape is not None:
            self._tape.close()
        if self._clips is not None:
            self._clips.close()
        if self._recording is not None:
            self._recording.close(self._pipeline.sample)
            if self._recording_error is not None and self._error is None:
                self._error = RunError(self._recording_error, "what was written until then can be replayed")
        return events

    def watch(self, elapsed_s: float = POLL_S) -> bool:
        """Look after deadlines and the source; returns whether there is news for a health event at once.

        To be called about every POLL_S; `elapsed_s`: the time since the last call.
        """
        # A daemon that was itself suspended has missed nothing yet.
        arrived, before = self._ring.next_sample, self._arrived
        self._arrived, self._idle_s = arrived, 0.0 if arrived > before else self._idle_s + min(elapsed_s, POLL_S)
        if self.source.paced and self._idle_s > STALLED_S and self._error is None:
            self._error = SourceLostError(
                f"{self.source.title} delivered nothing for {self._idle_s:.0f} s",
                "check the cable and 'streamcnn devices', then start again",
            )
        self._pipeline.follow_clock()
        if self.source.paced:
            self._pipeline.want(self._guard.decide(self._ring.filled, self._load, self._costs, time.monotonic()))
        stalled = self._arrived > 0 and self._idle_s >= PAUSED_S
        said, self._said = self._said, (
            self._guard.behind, self._guard.on, self._recording_error, stalled, self.running
        )  # fmt: skip
        return said != self._said

    def report_health(
        self, state: str | None = None, journal: str | None = None, wire: str | None = None
    ) -> Health:
        """Return how the stream has been doing since the last report.

        `journal`, `wire`: what is not as it should be with the journal, and with the publisher.
        """
        # A block that comes in between may be missing from one report: it is a meter. Where blocks are longer than the time
        # between reports, the last one stands.
        level = self._pipeline.take_level()
        level = self._last_level = self._last_level if level is None else level
        if self._idle_s >= PAUSED_S or not self.running:
            level = self._last_level = None  # what was heard last says nothing about now
        dbfs = 20 * math.log10(level) if level else None
        self._take_stock()
        known = self._pipeline.clock and self._pipeline.clock.estimate
        names = [runner.listener.name for runner in self._pipeline.runners]
        took = self.source.took
        return Health(
            stream=self.name,
            session=self.session,
            state=state or self._state(silent=dbfs is None or dbfs < SILENCE_DBFS),
            sample=self._pipeline.sample,
            level_dbfs=None if dbfs is None else round(dbfs, 1) + 0.0,  # and not -0.0
            detections=self._pipeline.detections,
            overflows=self._ring.overflows,
            lost_frames=self._ring.lost_frames,
            time=utc(time.time()),
            record_latency_ms=_quantiles(self._pipeline.latency),
            wire_latency_ms=_quantiles(self.wire),
            callback_ms=None if took is None else _quantiles(took),
            callback=self.source.callback,
            load=round(self._load, 4),
            costs={name: round(cost, 4) for name, cost in zip(names, self._costs, strict=True)},
            worst_block=self._pipeline.take_worst(),
            ring_high_water=round(self._ring.take_high_water() / self._ring.usual, 4),
            nets_off=tuple(name for name, on in zip(names, self._guard.on, strict=True) if not on),
            drift_ppm=None if known is None or known.drift is None else round(known.drift * 1e6, 2),
            time_error_s=None if known is None else known.error_s,
            recording_lost_frames=None if self._tape is None else self._tape.lost_frames,
            recording_error=self._recording_error,
            clips_error=self._clips and self._clips.error,
            not_permitted=tuple(self.refused),
            journal=journal,
            wire=wire,
        )

    def _state(self, *, silent: bool) -> str:
        if not self.running:
            return "ended"
        if self._arrived == 0:
            return "opening"
        if self._idle_s >= PAUSED_S:
            return "stalled"
        if self._guard.behind:
            return "behind"
        return "no signal" if silent else "running"

    def _take_stock(self) -> None:
        """Reckon what share of a core everything took since the last time."""
        now, busy, costs = time.monotonic(), self._pipeline.busy_ns, self._pipeline.costs_ns
        began, busy_before, costs_before = self._spent
        span = max(now - began, 1e-3) * 1e9
        self._load = (busy - busy_before) / span
        self._costs = [(cost - before) / span for cost, before in zip(costs, costs_before, strict=True)]
        self._spent = now, busy, costs
        if now - self._turned_s >= LATENCY_TURN_S:
            self._turned_s = now
            for latency in self.latencies.values():
                latency.turn()

    @property
    def _recording_error(self) -> str | None:
        """Why nothing is recorded any more; detection goes on without."""
        error = self._recording and self._recording.error
        return f"{self._recording.path}: cannot be recorded to any more: {error.strerror}" if error else None

    def _guarded(self) -> None:
        try:
            recorded = self._tape.ring if self._tape is not None else None
            rings = [ring.memory for ring in (self._ring, recorded) if ring is not None]
            self.refused = be_real_time([*self._pipeline.memory, *rings], self._core)
            self._pipeline.listen(self._ring, self._news, recorded, patient=not self.source.paced)
        except Exception as error:  # noqa: BLE001 (handed to the thread that can report it)
            self._error = error
            self.source.stop()


def _ring(source: LiveSource) -> Ring:
    """Make the ring in which a source's frames wait for inference."""
    usual = max(math.ceil(RING_S * source.rate), RING_BLOCKS * source.block)
    kept = math.ceil(min(KEPT_S * source.rate, KEPT_BYTES / (4 * source.channels))) if source.paced else 0
    return Ring(source.channels, max(usual, kept), usual)


def _quantiles(latency: Latency) -> Quantiles | None:
    times = quantiles_s(latency.recent, QUANTILES)
    return None if times is None else Quantiles(*(round(time * 1e3, 4) for time in times))


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
    manager, ready, journal = manager or ServiceManager(), False, journal or Journal()
    began = time.monotonic()
    next_health, next_watch, watched = began + HEALTH_EVERY_S, began, began
    interval = sys.getswitchinterval()
    sys.setswitchinterval(min(interval, SWITCH_INTERVAL_S))
    outbox = Outbox(journal, publisher, news.ring)
    try:
        for number, stream in enumerate(streams):
            stream.start(core_for(number))
        while (
            not stopped() and any(stream.running for stream in streams) and not any(stream.error for stream in streams)
        ):
            now = time.monotonic()
            if duration_s is not None and now - began >= duration_s:
                break
            if not ready and all(stream.hearing for stream in streams):
                ready = True
                manager.ready()
            due = now >= next_health
            if due or now >= next_watch:
                elapsed_s, watched, next_watch = now - watched, now, now + POLL_S
                outbox.post(posted for stream in streams if not stream.running for posted in stream.finish())
                changed = [stream.watch(elapsed_s) for stream in streams]
                reports = [
                    stream.report_health(journal=journal.notice, wire=publisher and publisher.notice)
                    for stream, news_ in zip(streams, changed, strict=True)
                    if news_ or due
                ]
                outbox.post(Posted(report) for report in reports)
            if due:
                next_health += HEALTH_EVERY_S * (1 + (now - next_health) // HEALTH_EVERY_S)  # none for what was missed
                manager.status("; ".join(_summary(report) for report in reports))
                if all([stream.has_progressed() for stream in streams]):  # of each what it has done since the last time
                    manager.alive()
                    for stream in streams:
                        stream.forget_progress()
            left = _pass_on(streams, outbox)  # not all that must be read is news
            yield from outbox.take()
            news.wait(min(POLL_S if not left else PATIENCE_S, max(0.0, next_health - time.monotonic())))
    finally:
        manager.stopping()
        for stream in streams:
            stream.stop()
        last = []
        while any(stream.running for stream in streams):  # what they still decide must not wait for room
            _pass_on(streams, outbox)
            last += outbox.take()
            time.sleep(JOIN_POLL_S)
        for stream in streams:
            outbox.post(stream.finish())
        outbox.post(Posted(stream.report_health("ended", journal.notice)) for stream in streams)
        outbox.close()
        last += outbox.take()
        sys.setswitchinterval(interval)
    yield from last
    for stream in streams:
        if stream.error is not None:
            if isinstance(stream.error, StreamcnnError):
                raise stream.error
            raise RunError(f"stream '{stream.name}' failed: {stream.error!r}") from stream.error


def _pass_on(streams: list[StreamService], outbox: Outbox) -> bool:
    """Post what the streams have decided, as far as there is room; tells whether there is more."""
    left = False
    for stream in streams:
        left |= stream.collect()
        if not outbox.is_full:
            outbox.post(stream.drain(AT_ONCE))
    return left and any(stream.collect() for stream in streams)


def _summary(health: Health) -> str:
    is_heard = health.state not in ("opening", "stalled", "ended")
    level = "nothing heard" if not is_heard else "silent" if health.level_dbfs is None else f"{health.level_dbfs:.1f} dBFS"
    lost = f", {health.lost_frames:,} frames lost" if health.lost_frames else ""
    detections = f"{health.detections:,} detection{'' if health.detections == 1 else 's'}"
    without = f", without {', '.join(health.nets_off)}" if health.nets_off else ""
    return f"{health.stream}: {health.state}, {level}, {detections}{lost}{without}"


def configured_source(source: configuration.Source, rate: int, stdin: Callable[[], object]) -> LiveSource:
    """Make the source of a stream; PortAudio is loaded only for sound cards.

    `rate`: what the nets want, Hz; a sound card that cannot have it, and of which no rate is configured, is opened at its own.
    `stdin`: gives the binary file that "-" stands for. Raises DeviceError or MissingPartError.
    """
    if source.device == "demo":
        from streamcnn.sources.demo import Demo

        channels = len(source.channels)
        if sorted(source.channels) != list(range(1, channels + 1)):
            raise InputError(
                f"the demo has channels 1 to {channels} where {channels} are wanted, not {max(source.channels)}",
                "leave out 'channels', or count them from 1",
            )
        return Demo(rate, channels, source.block)
    if source.device == "-":
        from streamcnn.sources.raw import Raw

        return Raw(rate, source.channels, stdin(), source.format, source.width)
    from streamcnn.sources.soundcard import SoundCard, find_device

    try:
        return SoundCard(source.device, rate, source.channels, source.block)
    except DeviceError:
        own = round(find_device(source.device).default_rate)
        if source.rate is not None or own == rate:
            raise
        return SoundCard(source.device, own, source.channels, source.block)
