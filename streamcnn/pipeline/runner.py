"""The parts of a pipeline: the stream's frames at one rate, and a net with its detector on them; and where its events stand."""

from fractions import Fraction

import numpy as np

from streamcnn.detect.hits import FRAME, HIT_COLUMNS
from streamcnn.engine import Engine
from streamcnn.errors import ConfigError, GraphError
from streamcnn.graph.resample import resampler
from streamcnn.graph.store import identity
from streamcnn.inference import kernels
from streamcnn.inference import tables as T
from streamcnn.pipeline.listener import Listener

FLOOD_WINDOW_S = 1.0
POSITION_DIGITS = 4  # of a sample: more of them say nothing about where an event was


def nearest(position: Fraction | int) -> int:
    """Return the whole number nearest to a position, the later one of two."""
    return (position + Fraction(1, 2)).__floor__()


class Stage:
    """The stream's frames at a rate: as they are, or through a resampler."""

    def __init__(self, stream_rate: int, rate: int, channels: int, mask_edges: bool):
        self.rate = rate
        self.ratio = Fraction(rate, stream_rate)  # its frames for each of the stream's
        self.graph = None if rate == stream_rate else resampler(stream_rate, rate, channels)
        self.table = np.zeros(T.STAGE_COLUMNS, np.int64)
        self.table[[T.UP, T.DOWN, T.PERIOD]] = self.ratio.numerator, self.ratio.denominator, self.ratio.denominator
        self.most_frames = kernels.PIECE
        if self.graph is not None:
            self.engine = Engine(self.graph)
            self.most_frames = self.engine.max_output_frames(kernels.PIECE)
            self._frames = np.zeros((self.most_frames, channels), np.float32)
            self.table[T.PADDED] = self.graph.padded_frames if mask_edges else 0
            self.table[T.FRAMES_AT] = self._frames.ctypes.data
            self.table[[T.CODE, T.PROGRAM]], self.table[T.RESET] = self.engine.machine_code, self.engine.resetting_code

    def position(self, frame: int) -> Fraction | int:
        """Return the sample at which a frame stands."""
        return frame if self.graph is None else frame / self.ratio

    def known_with(self, frame: int) -> int:
        """Return the sample with which a frame becomes known."""
        return frame if self.graph is None else self.graph.known_after(frame)

    def flush(self) -> np.ndarray | None:
        """End the signal; return its last frames."""
        return None if self.graph is None else self.engine.flush()

    @property
    def memory(self) -> list[np.ndarray]:
        """All memory that it touches."""
        return [] if self.graph is None else [self._frames, *self.engine.memory]


class Runner:
    """One net with its engine and its detector, on the frames of a stage."""

    def __init__(self, listener: Listener, stage: Stage, channels: int, gain: float):
        graph = listener.computed
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
        self.listener, self.stage, self._graph = listener, stage, graph
        self.net = identity(listener.graph)
        self.detector = listener.detector(stage.rate)
        self._engine = Engine(graph, scale=scale)
        most = self._engine.max_output_frames(max(stage.most_frames, kernels.PIECE))  # of silence too
        hits = self.detector.most_hits(most)
        self.most_records = hits + 1  # one that says how many were suppressed
        self._silence = np.zeros((kernels.PIECE, graph.input_channels), np.float32)
        self._scores = np.zeros((most, graph.output_channels), np.float32)
        self._hits = np.zeros((hits, HIT_COLUMNS), np.int64)
        self._fates = np.zeros((graph.output_channels, T.FATE_COLUMNS), np.int64)
        warmup = -(-(graph.info.warmup_frames - graph.first) // graph.hop)
        self._reach, self._masks = max(0, graph.padded_frames, warmup), max(0, graph.answering_frames, warmup)

    def table(self, mask_edges: bool) -> np.ndarray:
        """Return its row of the table."""
        row = np.zeros(T.RUNNER_COLUMNS, np.int64)
        row[[T.CODE, T.PROGRAM]], row[T.RESET] = self._engine.machine_code, self._engine.resetting_code
        row[[T.SCAN, T.END_RUNS, T.FORGET]] = self.detector.machine_code
        row[T.DETECTOR] = self.detector.table.ctypes.data
        row[T.SCORES_AT], row[T.HITS_AT] = self._scores.ctypes.data, self._hits.ctypes.data
        row[T.REACH], row[T.MASKS] = self._reach, self._masks if mask_edges else 0
        row[T.REPEATS] = self._engine.anchor
        row[T.SCORE_VALUES], row[T.FRAME_VALUES] = self._graph.output_channels, self._graph.input_channels
        row[T.SILENCE_AT] = self._silence.ctypes.data
        row[T.ON] = row[T.WANTED] = 1
        row[T.SCORE_HOP], row[T.WINDOW] = self._graph.hop, round(FLOOD_WINDOW_S * self.stage.rate)
        row[T.MOST_EVENTS], row[T.FATES_AT] = self.listener.settings.most_per_s, self._fates.ctypes.data
        return row

    @property
    def lead(self) -> int:
        """How many input frames its engine and its detector need before they decide as if they had seen all."""
        return (self._reach + self.detector.memory) * self._engine.hop

    def flush(self, tail: np.ndarray | None, given: int, lead: int) -> list[np.ndarray]:
        """End the engine's signal with its stage's last frames; return the scores that this adds, in pieces.

        `given`: how many scores there were before. `lead`: frames of silence that the engine is still to be given first.
        """
        given += len(self._engine.process(np.zeros((lead, self._silence.shape[1]), np.float32))) if lead else 0
        parts = [] if tail is None else [self._engine.process(tail)]
        scores = np.concatenate([*parts, self._engine.flush()])
        masked = min(len(scores), max(0, int(self.detector.table[FRAME]) - given))
        return [scores[k : k + len(self._scores)] for k in range(masked, len(scores), len(self._scores))]

    def position(self, frame: int, started: int) -> Fraction | int:
        """Return the sample at which an event seen in an output frame happened; `started`: where the engine did."""
        first = started + self._engine.first - self._graph.info.target_lag
        return self.stage.position(first + frame * self._engine.hop)

    def between(self, frame: int, offset: float, started: int) -> float:
        """Return the same for `offset` frames behind an output frame."""
        exact = self.position(frame, started)
        return round(float(exact + Fraction(offset) * self._engine.hop / self.stage.ratio), POSITION_DIGITS)

    def sample(self, frame: int, started: int) -> int:
        """Return the same as a whole number."""
        return nearest(self.position(frame, started))

    def decided(self, frame: int, started: int, seen: int) -> int:
        """Return the sample with which an output frame became known: at the latest the last one seen."""
        return min(self.stage.known_with(started + self._graph.known_after(frame)), seen - 1)

    @property
    def memory(self) -> list[np.ndarray]:
        """All memory that it touches."""
        return [self._silence, self._scores, self._hits, self._fates, *self.detector.arrays, *self._engine.memory]
