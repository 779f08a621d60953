"""From frames to events: the nets and detectors of one stream, driven block by block.

The sound card, a file and a test drive this same object. It knows neither threads nor sockets; time is counted in
samples, and UTC comes only from the clock that the caller feeds.

Theory. A net's engine counts its own frames from `origin`, the sample at which it was last reset. Output frame i of it
stands at origin + first + i*hop; an event lies `target_lag` samples before that. Until the engine's receptive field is
full of real signal its scores are masked: they would answer to the zeros before the signal. After a gap the engine
starts anew at the next multiple of the net's period, so that all its grids stay those of the session.

An engine started late gives the same bits as one that has run since the session's start, once its receptive field is full.
So frames in which nothing can be decided need not be processed: whoever knows of such frames may `leap` over them.
"""

import numpy as np

from streamcnn.clock import Clock
from streamcnn.detect.hits import Hit
from streamcnn.engine import Engine
from streamcnn.errors import ConfigError, GraphError
from streamcnn.events import Detection, Event, Gap, utc
from streamcnn.graph.store import identity
from streamcnn.listener import Listener


class Pipeline:
    """The nets of one stream in one session; used by one thread at a time.

    `clock` is None where there is no UTC (replay of plain files). `mask_edges` masks scores that the session's start
    has a part in and drops those that its padded end adds; without it every output that Keras has is used.

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
    ):
        self.rate = rate
        self.sample = 0  # the next one expected
        self.detections = 0
        self._bad_from: int | None = None  # where a run of NaN or Inf samples began that still goes on
        self._clock = clock
        self._names = {"stream": stream, "session": session}
        self._runners = [_Runner(listener, rate, channels, gain, mask_edges) for listener in listeners]

    def process(self, samples: np.ndarray) -> list[Event]:
        """Process float32 frames (frames, channels), C-ordered, that follow the last ones; return what was decided.

        A run of frames that hold NaN or Inf is a gap, reported when it ends.
        """
        finite = np.isfinite(samples)
        if self._bad_from is None and finite.all():
            return self._process(samples)
        good, events = finite.all(axis=1), []
        cuts = np.flatnonzero(good[1:] != good[:-1]) + 1
        for run, is_good in zip(np.split(samples, cuts), np.split(good, cuts), strict=True):
            if len(run) == 0:
                continue
            if is_good[0]:
                events += [*self._end_of_bad_run(), *self._process(run)]
            else:
                self._bad_from = self.sample if self._bad_from is None else self._bad_from
                events += self._end_runs()
                self.sample += len(run)
        return events

    def skip(self, frames: int, cause: str, frames_error: int | None = 0) -> list[Event]:
        """Account for frames that never came: end open runs, reset the nets, and report the gap."""
        events = [*self._end_of_bad_run(), *self._end_runs(), self._gap(self.sample, frames, frames_error, cause)]
        self.sample += frames
        self._restart()
        return events

    def leap(self, sample: int) -> None:
        """Go on at `sample`, a multiple of every net's period, as if all frames before it had been processed.

        Nothing may be `open`, and no score, or smoothed one where a detector smooths, that comes less than its net's lead (see
        `leads`) behind `sample` may reach its threshold. Where more than that would have been needed for the same
        decisions, `certain` becomes False.
        """
        self.sample = sample
        for runner in self._runners:
            runner.leap(sample)

    @property
    def open(self) -> bool:
        """Whether an event, or a run of NaN or Inf samples, has begun that has not ended."""
        return self._bad_from is not None or any(runner.detector.open for runner in self._runners)

    @property
    def certain(self) -> bool:
        """Whether everything since the last leap was decided as without it."""
        return all(runner.detector.certain for runner in self._runners)

    @property
    def leads(self) -> list[int]:
        """For each net, how many frames before a score must be processed to decide there as if all had been."""
        return [runner.lead for runner in self._runners]

    def finish(self) -> list[Event]:
        """End the session: flush nets and detectors; return what was still open."""
        if self._bad_from is not None:
            return self._end_of_bad_run()
        return [self._event(runner, hit) for runner in self._runners for hit in (*runner.flush(), *runner.end())]

    def _process(self, samples: np.ndarray) -> list[Event]:
        events = [self._event(runner, hit) for runner in self._runners for hit in runner.process(self.sample, samples)]
        self.sample += len(samples)
        if len(self._runners) > 1:
            events.sort(key=lambda event: event.decided_sample)  # in the order in which single frames would give them
        return events

    def _end_runs(self) -> list[Event]:
        return [self._event(runner, hit) for runner in self._runners for hit in runner.end()]

    def _end_of_bad_run(self) -> list[Event]:
        """Report the run of bad frames that ends here, if there is one, and start the nets anew behind it."""
        if self._bad_from is None:
            return []
        start, self._bad_from = self._bad_from, None
        self._restart()
        return [self._gap(start, self.sample - start, 0, "the samples were NaN or Inf")]

    def _restart(self) -> None:
        for runner in self._runners:
            runner.restart(self.sample)

    def _gap(self, start: int, frames: int, frames_error: int | None, cause: str) -> Gap:
        return Gap(**self._names, start_sample=start, frames=frames, frames_error=frames_error, cause=cause)

    def _event(self, runner: "_Runner", hit: Hit) -> Detection:
        self.detections += hit.phase == "confirmed"
        listener, sample, onset = runner.listener, runner.position(hit.peak), runner.position(hit.onset)
        label = listener.labels[hit.output]
        time = self._clock.utc(sample) if self._clock is not None else None
        return Detection(
            **self._names,
            id=f"{self._names['stream']}/{self._names['session']}/{listener.name}/{label}/{onset}",
            phase=hit.phase,
            detector=listener.name,
            kind=listener.kind,
            label=label,
            net=runner.net,
            sample=sample,
            start_sample=onset,
            end_sample=None if hit.end is None else runner.position(hit.end),
            decided_sample=runner.decided(hit.decided),
            score=hit.score,
            threshold=listener.thresholds[label],
            truncated=hit.truncated,
            time=utc(time[0]) if time else None,
            time_error_s=time[1] if time else None,
            time_s=sample / self.rate if time is None else None,
        )


class _Runner:
    """One net at work: its engine, its detector, and the sample at which the engine started."""

    def __init__(self, listener: Listener, rate: int, channels: int, gain: float, mask_edges: bool):
        graph = listener.graph
        if graph.input_channels != channels:
            raise GraphError(
                f"net '{listener.name}' takes {graph.input_channels} channels, its stream has {channels}",
                "select as many with 'channels'",
            )
        scale = gain * graph.info.input_scale
        if not 0 < abs(scale) < float(np.finfo(np.float32).max):
            raise ConfigError(
                f"net '{listener.name}': gain {gain:g} times input scale {graph.info.input_scale:g} is {scale:g}",
                "choose a gain that float32 samples survive",
            )
        self.listener = listener
        self.net = identity(graph)
        self.detector = listener.detector(rate)
        self._engine = Engine(graph, scale=scale)
        self._lag = graph.info.target_lag
        self._mask_edges = mask_edges
        warming = -(-(graph.info.warmup_frames - graph.first) // graph.hop)
        self._reach = max(0, warming, graph.padded_frames)  # output frames that see what lies before
        self._scores = np.empty((0, graph.output_channels), np.float32)
        self.restart(0)

    def restart(self, sample: int) -> None:
        """Start the engine anew at the first multiple of its period from `sample` on."""
        period = self._engine.graph.period
        self._start(-(-sample // period) * period, self._reach if self._mask_edges else 0)

    def leap(self, sample: int) -> None:
        """Start the engine at `sample` in the middle of a signal in which nothing has happened."""
        self._start(sample, self._reach, known=False)

    @property
    def lead(self) -> int:
        """How many input frames its engine and its detector need before they decide as if they had seen all."""
        return (self._reach + self.detector.memory) * self._engine.hop

    def _start(self, origin: int, masked: int, *, known: bool = True) -> None:
        self._engine.reset()
        self._origin, self._masked = origin, masked
        self.detector.reset(masked, known=known)

    def process(self, sample: int, samples: np.ndarray) -> list[Hit]:
        """Push frames, of which the first is `sample`, through engine and detector."""
        samples = samples[max(0, self._origin - sample) :]
        room = self._engine.max_output_frames(len(samples))
        if len(self._scores) < room:
            self._scores = np.empty((room, self._scores.shape[1]), np.float32)
        before = self._engine.output_frames
        return self._detect(self._scores, before, self._engine.process_into(samples, self._scores))

    def flush(self) -> list[Hit]:
        """End the engine's signal."""
        if self._mask_edges:
            return []
        before, tail = self._engine.output_frames, self._engine.flush()
        return self._detect(tail, before, len(tail))

    def end(self) -> list[Hit]:
        """Decide the runs that are still open."""
        return self.detector.flush()

    def position(self, frame: int) -> int:
        """Return the sample at which an event seen in an output frame happened."""
        return self._origin + self._engine.first + frame * self._engine.hop - self._lag

    def decided(self, frame: int) -> int:
        """Return the input sample with which an output frame became known: at the latest the last one."""
        return self._origin + min(self._engine.graph.known_after(frame), self._engine.frames - 1)

    def _detect(self, scores: np.ndarray, before: int, frames: int) -> list[Hit]:
        masked = min(frames, max(0, self._masked - before))
        return self.detector.process(scores[masked:], frames - masked)
