"""What a detector reports, and what all detectors have in common.

A detector is three functions in machine code and a table of int64 that they work on, so that the inference loop calls it
without Python; the class around them is for everybody else. All times are numbers of output frames.
"""

from abc import ABC
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import numpy as np

from streamcnn.compiler.build import machine_code
from streamcnn.compiler.kernel import doubles, floats, inlined, integers, kernel

# The table: the number of the next score's frame, values of a score, how many outputs are watched, whether a decision hung on a
# state that was not known, the watched outputs' states (a row of int64, and float32 and float64 values) ...
FRAME, WIDTH, WATCHED, UNCERTAIN, STATES, BESTS, VALUES = range(7)
# ... and from here on what each kind needs by itself.
OWN = 7
TABLE_COLUMNS = 24

# A hit, as the functions write it: see `Hit`. SCORE and OFFSET hold a float64's bits.
OUTPUT, ONSET, PEAK, END, DECIDED, PHASE, TRUNCATED, SCORE, OFFSET = range(9)
HIT_COLUMNS = 9
AT_A_LOOK = 64  # frames
NOT_YET = -(2**62)  # an END that has not come
PHASES = ("provisional", "confirmed", "retracted", "ended", "measured")
PROVISIONAL, CONFIRM, RETRACT, ENDED, MEASURED = range(5)

# scan(table, scores, frames, hits) and end(table, hits) write hits and return their number; reset(table, frame, known).
scan = machine_code("int64(int64, int64, int64, int64)")
end = machine_code("int64(int64, int64)")
reset = machine_code("int64(int64, int64, int64)")


class Hit(NamedTuple):
    """One decision of a detector. Frames are numbers of output frames since the engine's start.

    The run of scores that it is about is [onset, end), where `end` is None as long as it goes on; its maximum `score`
    so far stands at `peak`, and by so many frames more, `offset`, where it lies between two; the decision fell when frame
    `decided` was seen. `phase` is "provisional", "confirmed", "retracted" or "ended". `truncated`: the scores ended before the
    run did. "measured" is no run: `score` is a value, of the frames [onset, end).
    """

    output: int
    onset: int
    peak: int
    end: int | None
    decided: int
    score: float
    truncated: bool = False
    phase: str = "confirmed"
    offset: float = 0.0


@inlined
def write(hits, count, output, onset, peak, ended, decided, phase, truncated, score, offset):
    """Write hit number `count`."""
    hit, values = integers(hits + 8 * HIT_COLUMNS * count), doubles(hits + 8 * HIT_COLUMNS * count)
    hit[OUTPUT], hit[ONSET], hit[PEAK], hit[END], hit[DECIDED] = output, onset, peak, ended, decided
    hit[PHASE], hit[TRUNCATED], values[SCORE], values[OFFSET] = phase, truncated, score, offset


@kernel
def quiet(scores, frames, width, first, watched, limits):
    """Return how many frames come before one in which an output reaches its limit, of `watched` outputs from `first` on.

    Most frames are such: the detectors' own loops, which look at each output's state, begin behind them.
    """
    limit, frame = floats(limits), 0
    while frame < frames:
        # With one output many frames are looked at in one go, which vectors do.
        together = min(AT_A_LOOK, frames - frame) if width == 1 else 1
        values, reached = floats(scores + 4 * (frame * width + first)), 0
        if width == 1:
            for k in range(together):
                reached |= values[k] >= limit[0]
        else:
            for o in range(watched):
                reached |= values[o] >= limit[o]
        if reached:
            break
        frame += together
    if width == 1:
        while frame < frames and not floats(scores + 4 * frame)[0] >= limit[0]:
            frame += 1
    return frame


class Detector(ABC):
    """Scores in, hits out; used by one thread at a time. Results do not depend on how the scores were split.

    `thresholds`: for each output, the score without which nothing ever begins there. `memory`: after so many frames in
    which nothing was open and no score reached its threshold, everything older has no part in what is decided (but for
    what `reset` says). `kept`: which share of a smoothed score stays from one frame to the next, 0 where thresholds are
    held against scores as they come; smoothed are scores clipped to [0, 1].

    `machine_code`: the addresses of its functions; `table`: what they work on.
    """

    functions: ClassVar[tuple[Callable[[], int], ...]]  # scan, end, reset
    thresholds: np.ndarray
    kept: float
    memory: int

    def __init__(self, outputs: int, watched: int, state_columns: int):
        self.table = np.zeros(TABLE_COLUMNS, np.int64)
        self._states = np.zeros((watched, state_columns), np.int64)
        self._bests = np.zeros(watched, np.float32)
        self._hits = np.zeros((watched, HIT_COLUMNS), np.int64)
        self.table[[WIDTH, WATCHED, STATES, BESTS]] = (
            outputs, watched, self._states.ctypes.data, self._bests.ctypes.data
        )  # fmt: skip
        self._more: list[np.ndarray] = []  # what a kind has of its own
        self._address = int(self.table.ctypes.data)
        self._scan, self._end, self._reset = (function.compiled() for function in self.functions)

    @property
    def machine_code(self) -> tuple[int, int, int]:
        """The addresses of the functions `scan`, `end` and `reset`."""
        return tuple(function() for function in self.functions)

    @property
    def arrays(self) -> list[np.ndarray]:
        """All memory that its functions touch, but for the hits."""
        return [self.table, self._states, self._bests, *self._more]

    @property
    def open(self) -> bool:
        """Whether something has begun that has not ended."""
        return bool(self._states[:, 0].any())

    @property
    def certain(self) -> bool:
        """False, for ever, once a decision hung on a state that was not known; see `reset`."""
        return not self.table[UNCERTAIN]

    def most_hits(self, frames: int) -> int:
        """Return how many hits so many scores can give, the end of all included."""
        return (frames + 1) * len(self._states)

    def process(self, scores: np.ndarray, frames: int) -> list[Hit]:
        """Take the first `frames` of `scores` (at least frames, outputs), float32, C-ordered; return the decisions."""
        if len(self._hits) < self.most_hits(frames):
            self._hits = np.zeros((self.most_hits(frames), HIT_COLUMNS), np.int64)
        return self._decided(self._scan(self._address, scores.ctypes.data, frames, self._hits.ctypes.data))

    def flush(self) -> list[Hit]:
        """End the scores: decide what is still open, truncated, at the last frame seen."""
        return self._decided(self._end(self._address, self._hits.ctypes.data))

    def reset(self, frame: int = 0, *, known: bool = True) -> None:
        """Forget everything; the next score is that of output frame `frame`.

        `known` is False where scores went before that this detector has not seen, and neither there nor in the next `memory`
        frames anything begins.
        """
        self._reset(self._address, frame, int(known))

    def _decided(self, count: int) -> list[Hit]:
        rows = self._hits[:count]
        return [hit_of(row, *values) for row, values in zip(rows.tolist(), reals_of(rows), strict=True)]


def reals_of(hits: np.ndarray) -> list[list[float]]:
    """Return the scores and offsets in rows of hits."""
    return hits.view(np.float64)[:, [SCORE, OFFSET]].tolist()


def hit_of(row: list[int], score: float, offset: float) -> Hit:
    """Return what a row says."""
    output, onset, peak, ended, decided, phase, truncated, *_ = row
    ended = None if ended == NOT_YET else ended
    return Hit(output, onset, peak, ended, decided, shortest_decimal(score), bool(truncated), PHASES[phase], offset)


def shortest_decimal(score: float) -> float:
    """Return the float64 with the fewest digits that is this score in float32: 0.93, not 0.9300000071525574."""
    return float(str(np.float32(score)))
