"""The detector `peak`: one detection for the maximum of each run of scores at or above a threshold.

Rules, for each output of the net by itself, all in output frames:

- A run starts at the first frame that is at or above the threshold and at least `refractory` after the last peak.
- Its peak is its highest frame, the first of equals.
- It is decided at the first frame below the threshold, or when `refractory` has passed since the peak without a higher
  one. In the latter case the same frame, being above the threshold, starts the next run.
- Two peaks are therefore never closer than `refractory`. A NaN is never above the threshold,
  and neither is an infinite score: it says that the net has left its range.

The state moves by one frame at a time, so results cannot depend on how the scores were split.
"""

import numpy as np

from streamcnn.compiler.kernel import doubles, floats, inlined, integers
from streamcnn.detect.hits import (
    BESTS,
    CONFIRM,
    DECIDED,
    END,
    FRAME,
    HIT_COLUMNS,
    ONSET,
    OUTPUT,
    OWN,
    PEAK,
    PHASE,
    SCORE,
    STATES,
    TRUNCATED,
    VALUES,
    WATCHED,
    WIDTH,
    Detector,
    end,
    reset,
    scan,
)

_NEVER = -(2**62)
REFRACTORY = OWN  # of the table, in output frames; VALUES holds the threshold, a float32
ACTIVE, BEGAN, HIGHEST, LAST = range(4)  # columns of the state, one row an output
STATE_COLUMNS = 4


@inlined
def _write(hits, count, output, state, ended, decided, truncated, best):
    """Write a hit."""
    hit = integers(hits + 8 * HIT_COLUMNS * count)
    hit[OUTPUT], hit[ONSET], hit[PEAK], hit[END], hit[DECIDED] = output, state[BEGAN], state[HIGHEST], ended, decided
    hit[PHASE], hit[TRUNCATED] = CONFIRM, truncated
    doubles(hits + 8 * HIT_COLUMNS * count)[SCORE] = best


@scan
def _scan(table, scores, frames, hits):
    """Find the peaks among scores."""
    table = integers(table)
    outputs, refractory, bests = table[WATCHED], table[REFRACTORY], floats(table[BESTS])
    threshold, count, at = floats(table[VALUES])[0], 0, scores
    for frame in range(table[FRAME], table[FRAME] + frames):
        values = floats(at)
        for o in range(outputs):
            score, state = values[o], integers(table[STATES] + 8 * STATE_COLUMNS * o)
            above = threshold <= score < np.inf
            if state[ACTIVE]:
                if above and score > bests[o]:
                    bests[o] = score
                    state[HIGHEST] = frame
                if not above or frame - state[HIGHEST] >= refractory:
                    _write(hits, count, o, state, frame, frame, 0, bests[o])
                    count += 1
                    state[ACTIVE] = 0
                    state[LAST] = state[HIGHEST]
            if above and not state[ACTIVE] and frame - state[LAST] >= refractory:
                state[ACTIVE] = 1
                state[BEGAN] = frame
                state[HIGHEST] = frame
                bests[o] = score
        at += 4 * table[WIDTH]
    table[FRAME] += frames
    return count


@end
def _end(table, hits):
    """Decide the runs that are still open, truncated, at the last frame seen."""
    table = integers(table)
    count, frame = 0, table[FRAME]
    for o in range(table[WATCHED]):
        state = integers(table[STATES] + 8 * STATE_COLUMNS * o)
        if state[ACTIVE]:
            _write(hits, count, o, state, frame, frame - 1, 1, floats(table[BESTS])[o])
            count += 1
            state[ACTIVE] = 0
    return count


@reset
def _reset(table, frame, known):  # noqa: ARG001
    """Forget everything. (Once nothing is open, only the last peak matters, and that for `memory` frames: see `known`.)"""
    table = integers(table)
    table[FRAME] = frame
    for o in range(table[WATCHED]):
        state = integers(table[STATES] + 8 * STATE_COLUMNS * o)
        state[ACTIVE], state[BEGAN], state[HIGHEST], state[LAST] = 0, 0, 0, _NEVER
    return 0


class PeakDetector(Detector):
    """The `Detector` that finds peaks.

    `outputs`: values a score has. `refractory`: output frames, at least 1.
    """

    functions = (_scan, _end, _reset)
    kept = 0.0

    def __init__(self, outputs: int, threshold: float, refractory: int):
        super().__init__(outputs, outputs, STATE_COLUMNS)
        self.thresholds = np.full(outputs, threshold)
        self.memory = max(1, refractory)
        self._threshold = np.array([threshold], np.float32)
        self._more = [self._threshold]
        self.table[VALUES], self.table[REFRACTORY] = self._threshold.ctypes.data, self.memory
        self.reset()
