"""The detector `tag`: from when to when a label applies, by smoothed scores with hysteresis.

Rules, for each watched output of the net by itself, all in output frames:

- Scores are taken as probabilities: what is below 0 or not finite counts as 0, what is above 1 as 1. They are smoothed
  exponentially, s = (1 - a) * s + a * x with a = 1 - exp(-hop / smooth), from s = 0 on, in float64: with a small a float32
  would stand still before it is there.
- A tag begins at the first frame with s >= `on` (provisional), is confirmed with the frame that makes it `min_frames` long,
  and ends at the first frame with s < `off`: ended, or retracted where it was not confirmed. With min_frames 1 it is
  confirmed at once. One tag's hits have the same onset.
- Its `score` is the highest x, not the highest s, and stands at `peak`, the first of equals. At the onset s rises to
  `on`, so x is (but for float64's rounding) at or above it: no tag begins without such a score.

Theory. The smoothed score depends on all of the past, but ever less. Since rounding is monotone, so is each step in s: of
two detectors that see the same scores, the one that started lower never overtakes. Started from a state that is idle but
not known, the truth lies between s = 0 and s = on, so both are carried (LOW, HIGH). While they decide alike, they decide as
the truth does, and where they do not, the detector says so (`certain`). One that knows its past has LOW equal to HIGH.
Who starts it so has seen, roughly, that nothing begins in the first `memory` frames either: there HIGH stays below `on`.
"""

import math
from collections.abc import Sequence

import numpy as np

from streamcnn.compiler.build import entry_point
from streamcnn.detect.hits import Hit, shortest_decimal

# Columns of the state, one row a watched output; until the frame QUIET it is known that nothing begins.
OUTPUT, ONSET, PEAK, PHASE, UNCERTAIN, QUIET = range(6)
IDLE, BEGUN, CONFIRMED = range(3)  # values of PHASE
LOW, HIGH = range(2)
PHASES = ("provisional", "confirmed", "retracted", "ended")
PROVISIONAL, CONFIRM, RETRACT, END = range(4)  # the same, by number
FORGOTTEN = 1e-6  # of what a smoothed score moves by in one frame, the part of its unknown past that may be left in it


def _scan(scores, frames, first_frame, on, off, take, min_frames, state, best, smoothed, hits, hit_scores):
    """Scan scores (frames, outputs), write rows (output, onset, peak, frame, phase) to hits, return their number."""
    count = 0
    for t in range(frames):
        frame = first_frame + t
        for o in range(state.shape[0]):
            raw = scores[t, state[o, OUTPUT]]
            x = min(raw, np.float32(1)) if 0 < raw < np.inf else np.float32(0)
            smoothed[o, LOW] = (1 - take) * smoothed[o, LOW] + take * x
            smoothed[o, HIGH] = (1 - take) * smoothed[o, HIGH] + take * x
            phase = -1
            if state[o, PHASE] == IDLE:
                if frame < state[o, QUIET] and smoothed[o, HIGH] >= on[o]:
                    smoothed[o, HIGH] = np.nextafter(on[o], 0.0)
                if (smoothed[o, LOW] >= on[o]) != (smoothed[o, HIGH] >= on[o]):
                    state[o, UNCERTAIN] = 1
                if smoothed[o, LOW] >= on[o]:
                    state[o, ONSET] = frame
                    state[o, PEAK] = frame
                    best[o] = x
                    state[o, PHASE] = CONFIRMED if min_frames <= 1 else BEGUN
                    phase = CONFIRM if min_frames <= 1 else PROVISIONAL
            else:
                if (smoothed[o, LOW] < off[o]) != (smoothed[o, HIGH] < off[o]):
                    state[o, UNCERTAIN] = 1
                if smoothed[o, LOW] < off[o]:
                    phase = END if state[o, PHASE] == CONFIRMED else RETRACT
                    state[o, PHASE] = IDLE
                else:
                    if x > best[o]:
                        best[o] = x
                        state[o, PEAK] = frame
                    if state[o, PHASE] == BEGUN and frame - state[o, ONSET] + 1 >= min_frames:
                        state[o, PHASE] = CONFIRMED
                        phase = CONFIRM
            if phase >= 0:
                hits[count, 0] = state[o, OUTPUT]
                hits[count, 1] = state[o, ONSET]
                hits[count, 2] = state[o, PEAK]
                hits[count, 3] = frame
                hits[count, 4] = phase
                hit_scores[count] = best[o]
                count += 1
    return count


_compiled_scan = entry_point(
    "int64(float32[:,::1], int64, int64, float64[::1], float64[::1], float64, int64,"
    " int64[:,::1], float32[::1], float64[:,::1], int64[:,::1], float32[::1])"
)(_scan)


class TagDetector:
    """The `Detector` that finds tags.

    `watched`: the outputs that are labels to be found; the others are ignored. `on` and `off`: one threshold for each of
    them, 0 < off <= on <= 1. `smooth`: the time constant in output frames, 0 for none. `min_frames`: how long a tag must last.
    """

    def __init__(
        self,
        outputs: int,
        watched: Sequence[int],
        on: Sequence[float],
        off: Sequence[float],
        smooth: float,
        min_frames: int,
    ):
        self.thresholds = np.full(outputs, np.inf)
        self.thresholds[list(watched)] = on
        self.kept = math.exp(-1 / smooth) if smooth else 0.0
        self._take = -math.expm1(-1 / smooth) if smooth else 1.0
        self.memory = math.ceil(-math.log(FORGOTTEN * self._take) * smooth) if smooth else 1
        self._on, self._off = np.array(on, np.float64), np.array(off, np.float64)
        self._min_frames = max(1, min_frames)
        self._scan = _compiled_scan()
        self._watched = np.array(watched, np.int64)
        self._state = np.zeros((len(watched), 6), np.int64)
        self._best = np.zeros(len(watched), np.float32)
        self._smoothed = np.zeros((len(watched), 2), np.float64)
        self._certain = True
        self._hits = np.zeros((0, 5), np.int64)
        self._hit_scores = np.zeros(0, np.float32)
        self.reset()

    @property
    def open(self) -> bool:
        """Whether a tag has begun that has not ended."""
        return bool((self._state[:, PHASE] != IDLE).any())

    @property
    def certain(self) -> bool:
        """Whether all decisions so far were the same for every past that there may have been."""
        return self._certain and not self._state[:, UNCERTAIN].any()

    def process(self, scores: np.ndarray, frames: int) -> list[Hit]:
        """Take the first `frames` of `scores` (at least frames, outputs), float32, C-ordered; return the decisions."""
        room = frames * len(self._state)  # a frame decides at most one thing about a label
        if len(self._hits) < room:
            self._hits, self._hit_scores = np.zeros((room, 5), np.int64), np.zeros(room, np.float32)
        count = self._scan(
            scores,
            frames,
            self._frame,
            self._on,
            self._off,
            self._take,
            self._min_frames,
            self._state,
            self._best,
            self._smoothed,
            self._hits,
            self._hit_scores,
        )
        self._frame += frames
        return [self._hit(self._hits[k].tolist(), self._hit_scores[k]) for k in range(count)]

    def flush(self) -> list[Hit]:
        """End the scores: end or retract the tags that are still open, truncated, at the last frame seen."""
        hits = [
            Hit(
                output,
                onset,
                peak,
                self._frame,
                self._frame - 1,
                shortest_decimal(best),
                truncated=True,
                phase=PHASES[END if phase == CONFIRMED else RETRACT],
            )
            for (output, onset, peak, phase, *_), best in zip(self._state.tolist(), self._best, strict=True)
            if phase != IDLE
        ]
        self._state[:, PHASE] = IDLE
        return hits

    def reset(self, frame: int = 0, *, known: bool = True) -> None:
        """Forget everything; the next score is that of output frame `frame`.

        `known` is False where scores went before that this detector has not seen, and neither there nor in the next `memory`
        frames anything begins.
        """
        self._frame, self._certain = frame, self.certain
        self._state[:] = 0
        self._state[:, OUTPUT] = self._watched
        self._smoothed[:] = 0
        if not known:
            self._smoothed[:, HIGH] = self._on
            self._state[:, QUIET] = frame + self.memory

    def _hit(self, row: list[int], best: np.float32) -> Hit:
        output, onset, peak, frame, phase = row
        over = phase in (RETRACT, END)
        return Hit(output, onset, peak, frame if over else None, frame, shortest_decimal(best), phase=PHASES[phase])
