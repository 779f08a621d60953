"""One stream at work: its source, ring, pipeline and inference thread, from its start to its last event."""

import math
import secrets
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from streamcnn import config as configuration
from streamcnn.clock import Clock
from streamcnn.daemon.guard import Guard
from streamcnn.daemon.health import Load, Progress, quantiles, state_of
from streamcnn.daemon.outbox import Posted
from streamcnn.errors import RunError, SourceLostError
from streamcnn.events import Detection, Event, Health, utc
from streamcnn.inference.latency import Latency
from streamcnn.inference.realtime import be_real_time
from streamcnn.pipeline.listener import Listener
from streamcnn.pipeline.pipeline import Pipeline
from streamcnn.ring import Ring
from streamcnn.sinks.clips import ClipWriter
from streamcnn.sinks.recording import Recording, Session
from streamcnn.sinks.tape import Tape
from streamcnn.sources.live import LiveSource
from streamcnn.system import Bell

RING_S = 2.0
RING_BLOCKS = 4  # at least so many, where blocks are long
# After a stop of this process a source in real time delivers at once what was kept for us: PulseAudio keeps 4 MiB.
KEPT_S, KEPT_BYTES = 24.0, 5 << 20
LATENCY_TURN_S = 60.0


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
            self._pipeline.reports.on_pair = self._recording.note_pair
        readers = [reader for reader in (self._recording, self._clips) if reader is not None]
        self._tape = Tape(source.channels, source.rate, readers) if readers else None
        self._thread = threading.Thread(target=self._guarded, name=f"inference-{name}", daemon=True)
        self._last_level: float | None = 0.0
        self._progress = Progress(may_wait=not source.paced)
        self._load = Load(len(listeners))
        self._said = (False, self._guard.on, None, False, True)
        self._turned_s = time.monotonic()

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
        """Whether, since `forget_progress`, audio has come in and inference has got on with it."""
        waiting = self._ring.waiting_frames
        return self._progress.is_made(self._ring.next_sample, self._pipeline.sample, waiting, running=self.running)

    def forget_progress(self) -> None:
        """Ask from now on for new progress."""
        self._progress.forget(self._ring.next_sample, self._pipeline.sample)

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

    def watch(self, elapsed_s: float) -> bool:
        """Look after deadlines and the source; returns whether there is news for a health event at once.

        To be called ten times a second; `elapsed_s`: the time since the last call.
        """
        self._progress.note(self._ring.next_sample, elapsed_s)
        if self.source.paced and self._progress.is_stalled and self._error is None:
            self._error = SourceLostError(
                f"{self.source.title} delivered nothing for {self._progress.idle_s:.0f} s",
                "check the cable and 'streamcnn devices', then start again",
            )
        self._pipeline.follow_clock()
        if self.source.paced:
            self._pipeline.want(
                self._guard.decide(self._ring.filled, self._load.share, self._load.costs, time.monotonic())
            )
        stalled = self._progress.has_begun and self._progress.is_paused
        said, self._said = self._said, (
            self._guard.behind, self._guard.on, self._recording_error, stalled, self.running
        )  # fmt: skip
        return said != self._said

    def report_health(self, state: str | None = None, journal: str | None = None, wire: str | None = None) -> Health:
        """Return how the stream has been doing since the last report.

        `journal`, `wire`: what is not as it should be with the journal, and with the publisher.
        """
        # A block that comes in between may be missing from one report: it is a meter. Where blocks are longer than the time
        # between reports, the last one stands.
        level = self._pipeline.take_level()
        level = self._last_level = self._last_level if level is None else level
        if self._progress.is_paused or not self.running:
            level = self._last_level = None  # what was heard last says nothing about now
        dbfs = 20 * math.log10(level) if level else None
        self._load.take(self._pipeline.busy_ns, self._pipeline.costs_ns)
        self._turn_latencies()
        known = self._pipeline.clock and self._pipeline.clock.estimate
        names = [runner.listener.name for runner in self._pipeline.runners]
        took = self.source.took
        return Health(
            stream=self.name,
            session=self.session,
            state=state or state_of(self._progress, dbfs, running=self.running, behind=self._guard.behind),
            sample=self._pipeline.sample,
            level_dbfs=None if dbfs is None else round(dbfs, 1) + 0.0,  # and not -0.0
            detections=self._pipeline.reports.detections,
            overflows=self._ring.overflows,
            lost_frames=self._ring.lost_frames,
            time=utc(time.time()),
            record_latency_ms=quantiles(self._pipeline.latency),
            wire_latency_ms=quantiles(self.wire),
            callback_ms=None if took is None else quantiles(took),
            callback=self.source.callback,
            load=round(self._load.share, 4),
            costs={name: round(cost, 4) for name, cost in zip(names, self._load.costs, strict=True)},
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

    def _turn_latencies(self) -> None:
        """Begin anew now and then with what latencies are reported from."""
        if time.monotonic() - self._turned_s >= LATENCY_TURN_S:
            self._turned_s = time.monotonic()
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
