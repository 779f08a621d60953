"""From frames to events: the nets and detectors of one stream, driven block by block.

The sound card, a file and a test drive this same object, whose work is done in machine code (`inference`). It knows neither
threads nor sockets; time is counted in samples, and UTC comes only from the clock.

Theory. A net's engine counts its own frames from where it was last started: output frame i of it stands `first` + i*hop frames
after that, and an event lies `target_lag` frames before that. Where a net's rate is not the stream's, its frames are those of
a resampler, of which frame m stands at sample m*down/up exactly. Until the engine's receptive field is full of real signal
its scores are masked: they would answer to the zeros before the signal. After a gap the engine starts anew on grids that are
still those of the session.

An engine started late gives the same bits as one that has run since the session's start, once its receptive field is full.
So frames in which nothing can be decided need not be processed: whoever knows of such frames may `leap` over them.
"""

import time
from collections import deque
from collections.abc import Iterator

import numpy as np

from streamcnn.clock import Clock
from streamcnn.errors import InputError
from streamcnn.events import Detection, Event, Measure, utc
from streamcnn.inference import kernels
from streamcnn.inference import tables as T
from streamcnn.inference.latency import Latency
from streamcnn.inference.loop import SPELLS, looping
from streamcnn.pipeline.listener import Listener
from streamcnn.pipeline.reports import Reports
from streamcnn.pipeline.runner import Runner, Stage
from streamcnn.ring import UNKNOWN, Ring
from streamcnn.system import Bell, c_functions

FEWEST_RECORDS = 1 << 14
MOST_COLLECTED = 1_000_000  # records that may wait to become events; some 140 MB


class Pipeline:
    """The nets of one stream in one session; used by one thread at a time, but for `drain`, which may run beside `listen`.

    `clock` is None where there is no UTC (replay of plain files). `mask_edges` masks scores that the session's start
    has a part in and drops those that its padded end adds; without it every output that Keras has is used. `unknown_rate`: of
    nets that do not know theirs, by default the stream's. All rates in Hz.

    Raises GraphError or ConfigError where the nets do not fit the stream.
    """

    def __init__(
        self,
        stream: str,
        session: str,
        rate: int,
        channels: int,
        listeners: list[Listener],
        *,
        gain: float = 1.0,
        clock: Clock | None = None,
        mask_edges: bool = True,
        unknown_rate: int | None = None,
    ):
        self.rate, self.channels = rate, channels
        self.clock = clock
        self.latency = Latency()
        self._mask_edges = mask_edges
        rates = [listener.graph.info.rate or unknown_rate or rate for listener in listeners]
        self._stages = [Stage(rate, to, channels, mask_edges) for to in dict.fromkeys((rate, *rates))]
        stages = {stage.rate: number for number, stage in enumerate(self._stages)}
        self.runners = [
            Runner(listener, self._stages[stages[to]], channels, gain)
            for listener, to in zip(listeners, rates, strict=True)
        ]
        self.reports = Reports(stream, session, rate, self.runners, clock)
        self._stage_tables = np.stack([stage.table for stage in self._stages])
        self._runner_tables = np.stack([runner.table(mask_edges) for runner in self.runners])
        self._runner_tables[:, T.STAGE] = [stages[to] for to in rates]
        room = sum(runner.most_records for runner in self.runners) + len(self.runners) + 2
        self._records = np.zeros((max(FEWEST_RECORDS, 4 * room), T.RECORD_COLUMNS), np.int64)
        self._spells = np.zeros((SPELLS, 2), np.int64)
        self._collected: deque[np.ndarray] = deque()
        self._collected_rows = 0
        self._functions = c_functions()
        self._table = np.zeros(T.STREAM_COLUMNS, np.int64)
        for column, value in {
            T.BAD_FROM: T.NOWHERE,
            T.LEVEL: T.NOWHERE,
            T.NEWS: T.NOWHERE,
            T.CHANNELS: channels,
            T.RATE: rate,
            T.STAGES_AT: self._stage_tables.ctypes.data,
            T.STAGES: len(self._stages),
            T.RUNNERS_AT: self._runner_tables.ctypes.data,
            T.RUNNERS: len(self.runners),
            T.RECORDS_AT: self._records.ctypes.data,
            T.RECORDS: len(self._records),
            T.ROOM: room,
            T.FUNCTIONS_AT: self._functions.ctypes.data,
            T.LATENCY_AT: self.latency.address,
            T.SPELLS_AT: self._spells.ctypes.data,
        }.items():
            self._table[column] = value
        self._address = int(self._table.ctypes.data)
        kernels.restarting()(self._address)

    @property
    def sample(self) -> int:
        """The next sample expected: how many frames were processed or lost."""
        return int(self._table[T.SAMPLE])

    def process(self, samples: np.ndarray) -> list[Event]:
        """Process float32 frames (frames, channels), C-ordered, that follow the last ones; return what was decided.

        A run of frames that hold NaN or Inf is a gap, reported when it ends. Raises InputError for any other array.
        """
        if samples.dtype != np.float32 or samples.shape[1:] != (self.channels,) or not samples.flags.c_contiguous:
            raise InputError(
                f"a block of {samples.dtype} {samples.shape}, expected float32 (frames, {self.channels}), in C's order"
            )
        done, events = 0, []
        while True:
            rest = samples[done:]
            done += kernels.advancing.compiled()(self._address, rest.ctypes.data, len(rest))
            events += self._drained()
            if done == len(samples):
                return events

    def skip(self, frames: int, cause: str, frames_error: int | None = 0) -> list[Event]:
        """Account for frames that never came: end open runs, reset the nets, and report the gap."""
        error = UNKNOWN if frames_error is None else frames_error
        kernels.skipping.compiled()(self._address, frames, error, self.reports.number_of(cause))
        return self._drained()

    def switch(self, net: str, *, on: bool) -> list[Event]:
        """Switch a net off, which ends what is open with it, or on; what its scores then see of before is masked."""
        for number, runner in enumerate(self.runners):
            if runner.listener.name == net:
                kernels.switching.compiled()(self._address, number, int(on))
        return self._drained()

    def leap(self, sample: int) -> None:
        """Go on at `sample`, a multiple of every net's period, as if all frames before it had been processed.

        For nets of the stream's own rate. Nothing may be `open`, and no score, or smoothed one where a detector smooths, that
        comes less than its net's lead (see `leads`) behind `sample` may reach its threshold. Where more than that would have
        been needed for the same decisions, `certain` becomes False.
        """
        kernels.leaping()(self._address, sample)

    @property
    def open(self) -> bool:
        """Whether an event, or a run of NaN or Inf samples, has begun that has not ended, or a flood that was not told."""
        flooded = self._runner_tables[:, T.SUPPRESSED].any()
        return self._table[T.BAD_FROM] != T.NOWHERE or flooded or any(runner.detector.open for runner in self.runners)

    @property
    def certain(self) -> bool:
        """Whether everything since the last leap was decided as without it."""
        return all(runner.detector.certain for runner in self.runners)

    @property
    def leads(self) -> list[int]:
        """For each net, how many frames before a score must be processed to decide there as if all had been."""
        return [runner.lead for runner in self.runners]

    def finish(self) -> list[Event]:
        """End the session: flush nets and detectors; return what was still open."""
        events = []
        if not self._mask_edges and self._table[T.BAD_FROM] == T.NOWHERE:
            tails = {id(stage): stage.flush() for stage in self._stages}
            for number, runner in enumerate(self.runners):
                started, given, on, lead = self._runner_tables[number, [T.STARTED, T.GIVEN, T.ON, T.LEAD]].tolist()
                come = self._stage_tables[self._runner_tables[number, T.STAGE], T.COUNT]
                tail = tails[id(runner.stage)]
                tail = None if tail is None else tail[max(0, started + lead - come) :]
                for scores in runner.flush(tail, given, lead) if on else ():
                    kernels.scoring()(self._address, number, scores.ctypes.data, len(scores))
                    events += self._drained()
        kernels.ending_runs()(self._address)
        return events + self._drained()

    # Beside a sound card

    @staticmethod
    def prepare() -> None:
        """Compile what `listen` runs, which takes a while the first time on a machine."""
        for code in (kernels.advancing, kernels.skipping, kernels.switching, looping):
            code()

    def listen(self, ring: Ring, news: Bell, recording: Ring | None = None, *, patient: bool = False) -> None:
        """Take frames from a ring until it is closed and empty, without the GIL.

        `news` is rung when there is something to drain. `recording`: a ring that gets all blocks, with
        what is missing between them; `patient`: what comes can wait until that ring has room.
        """
        code = kernels.advancing(), kernels.skipping(), kernels.switching()
        self._table[[T.ADVANCING, T.SKIPPING, T.SWITCHING]] = code
        self._table[[T.RING_AT, T.LISTENING, T.NEWS]] = ring.address, ring.bell.listening, news.ringing
        self._table[T.RECORDING] = recording.producer.ctypes.data if recording is not None else 0
        self._table[T.PATIENT] = patient
        looping()(self._address)

    def collect(self) -> bool:
        """Take the records that wait out of their ring, so that `listen` has room; tells whether there is something to drain.

        Beyond MOST_COLLECTED they stay there, and `listen` waits.
        """
        written, read = int(self._table[T.WRITTEN]), int(self._table[T.READ])
        if written > read and self._collected_rows < MOST_COLLECTED:
            self._collected.append(self._records[np.arange(read, written) % len(self._records)])
            self._collected_rows += written - read
            self._table[T.READ] = written
        return bool(self._collected)

    def drain(self, most: int | None = None) -> list[tuple[Event, int]]:
        """Return events decided since the last time, each with when that was (ns, monotonic).

        All of them, or of many only some more than `most`: those of whole pieces of signal.
        """
        drained, ahead = [], time.time_ns() - time.monotonic_ns()
        for event, made in self._read(most):
            if isinstance(event, Detection | Measure):
                event = event.with_detected_at(utc((made + ahead) / 1e9))
            drained.append((event, made))
        return drained

    def follow_clock(self) -> None:
        """Tell `listen` what is known of the card's clock by now."""
        if self.clock is None or self.clock.refresh() is None:
            return
        known, count = self.clock.estimate, int(self._table[T.KNOWN]) + 1
        if self._table[T.EPOCH] != self.reports.epoch:
            return  # what is known is of before a loss that has not been read yet
        slot = T.KNOWN_SLOTS + count % 2 * T.KNOWN_COLUMNS
        self._table[slot : slot + T.KNOWN_COLUMNS] = (
            known.sample, known.arrival_ns, known.period_ns * 1000, known.spread_ns
        )  # fmt: skip
        self._table[T.KNOWN] = count

    @property
    def busy_ns(self) -> int:
        """How long `listen` was at work in all."""
        return int(self._table[T.BUSY])

    @property
    def costs_ns(self) -> list[int]:
        """How long each net was at work in all."""
        return self._runner_tables[:, T.COST].tolist()

    def want(self, on: list[bool]) -> None:
        """Say which nets shall be on; `listen` switches them before the next block."""
        self._runner_tables[:, T.WANTED] = on

    @property
    def on(self) -> list[bool]:
        """Which nets are on."""
        return self._runner_tables[:, T.ON].astype(bool).tolist()

    def take_level(self) -> float | None:
        """Return the highest magnitude of a sample since this was last asked; None where no block has come since."""
        bits, self._table[T.LEVEL] = int(self._table[T.LEVEL]), T.NOWHERE
        return None if bits == T.NOWHERE else float(np.int32(bits).view(np.float32))

    def take_worst(self) -> float:
        """Return the most that a block has taken since this was last asked, as a share of the time that it lasts."""
        worst, self._table[T.WORST] = int(self._table[T.WORST]), 0
        return worst / T.PARTS

    @property
    def memory(self) -> list[np.ndarray]:
        """All memory that is touched while frames are processed."""
        parts = [self._table, self._stage_tables, self._runner_tables, self._records, self._spells, self.latency.counts]
        for part in (*self._stages, *self.runners):
            parts += part.memory
        return parts

    # The records

    def _drained(self) -> list[Event]:
        return [event for event, _ in self._read()]

    def _read(self, most: int | None = None) -> Iterator[tuple[Event, int]]:
        """Yield the records that wait, as events: all, or those of some collections until there were as many."""
        self.collect()
        told = 0
        while self._collected and (most is None or told < most):
            rows = self._collected.popleft()
            if most is not None and len(rows) > most:
                end = _piece_end(rows, most)
                if end < len(rows):
                    self._collected.appendleft(rows[end:])
                rows = rows[:end]
            self._collected_rows -= len(rows)
            for event in self.reports.events(rows):
                told += 1
                yield event

def _piece_end(rows: np.ndarray, least: int) -> int:
    """Return how many records there are up to the end of a piece of signal, so many of them at least."""
    same = rows[least:, [T.KIND, T.SEEN]] == rows[least - 1, [T.KIND, T.SEEN]]
    others = np.flatnonzero(~same.all(axis=1))
    return least + int(others[0]) if len(others) else len(rows)
