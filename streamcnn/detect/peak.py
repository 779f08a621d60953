"""The detector `peak`: one detection for the maximum of each run of scores at or above a threshold.

Rules, for each output of the net by itself, all in output frames:

- A run starts at the first frame that is at or above the threshold and at least `refractory` after the last peak. It ends
  behind its last such frame; pauses of up to `merge` frames belong to it, so that the lobes of one correlation are one run.
- Its peak is its highest frame, the first of equals.
- It is decided at the first frame that no longer belongs to it, or when `refractory` has passed since the peak without a
  higher one. In the latter case that same frame, where it is above the threshold, starts the next run.
- Two peaks are therefore never closer than `refractory`. A NaN is never above the threshold,
  and neither is an infinite score: it says that the net has left its range.
- Between frames the peak stands at the top of the parabola through it and its two neighbours (J. O. Smith, Spectral Audio
  Signal Processing, "Quadratic Interpolation of Spectral Peaks"): by (a - c) / (a - 2b + c) / 2 frames after the frame,
  at most half of one. Where a neighbour is not known or not finite it stands at the frame.

The state moves by one frame at a time, so results cannot depend on how the scores were split.
"""

from collections.abc import Sequence

import numpy as np

from streamcnn.compiler.kernel import floats, inlined, integers
from streamcnn.detect.hits import (
    BESTS,
    CONFIRM,
    FRAME,
    OWN,
    STATES,
    VALUES,
    WATCHED,
    WIDTH,
    Detector,
    end,
    quiet,
    reset,
    scan,
    write,
)

_NEVER = -(2**62)
REFRACTORY, MERGE, ACTIVES = range(OWN, OWN + 3)  # of the table, the first two in output frames; how many runs go on
# Columns of the state, one row an output; and rows of float32 values, one column an output: the threshold, the score before
# this frame, and those before and after the highest.
ACTIVE, BEGAN, HIGHEST, LAST, ABOVE = range(5)
STATE_COLUMNS = 5
THRESHOLD, PREVIOUS, BEFORE, AFTER = range(4)
VALUE_ROWS = 4


@inlined
def _offset(before, highest, after):
    """Return where the top of the parabola through three neighbouring scores is, in frames after the middle one."""
    # In float64, where scores of any size can be added.
    a, b, c = np.float64(before), np.float64(highest), np.float64(after)
    bend = a - 2 * b + c
    return max(-0.5, min(0.5, 0.5 * (a - c) / bend)) if -np.inf < bend < 0 else 0.0


@scan
def _scan(table, scores, frames, hits):
    """Find the peaks among scores."""
    table = integers(table)
    outputs, width, refractory, merge = table[WATCHED], table[WIDTH], table[REFRACTORY], table[MERGE]
    bests, values, count, at, active = floats(table[BESTS]), floats(table[VALUES]), 0, 0, table[ACTIVES]
    while at < frames:
        if active == 0:
            calm = quiet(scores + 4 * width * at, frames - at, width, 0, outputs, table[VALUES])
            if calm:
                at += calm
                last = floats(scores + 4 * width * (at - 1))
                for o in range(outputs):
                    values[PREVIOUS * outputs + o] = last[o]
                if at == frames:
                    break
        frame, row = table[FRAME] + at, floats(scores + 4 * width * at)
        for o in range(outputs):
            score, state = row[o], integers(table[STATES] + 8 * STATE_COLUMNS * o)
            previous, before, after = PREVIOUS * outputs + o, BEFORE * outputs + o, AFTER * outputs + o
            above = values[o] <= score < np.inf
            if above:
                state[ABOVE] = frame
            if state[ACTIVE]:
                if above and score > bests[o]:
                    bests[o] = score
                    state[HIGHEST] = frame
                    values[before], values[after] = values[previous], np.nan
                elif frame == state[HIGHEST] + 1:
                    values[after] = score
                if frame - state[ABOVE] > merge or frame - state[HIGHEST] >= refractory:
                    ended, offset = (
                        frame if above else state[ABOVE] + 1,
                        _offset(values[before], bests[o], values[after]),
                    )
                    write(hits, count, o, state[BEGAN], state[HIGHEST], ended, frame, CONFIRM, 0, bests[o], offset)
                    count += 1
                    state[ACTIVE] = 0
                    state[LAST] = state[HIGHEST]
                    active -= 1
            if above and not state[ACTIVE] and frame - state[LAST] >= refractory:
                state[ACTIVE] = 1
                state[BEGAN] = frame
                state[HIGHEST] = frame
                bests[o] = score
                values[before], values[after] = values[previous], np.nan
                active += 1
            values[previous] = score
        at += 1
    table[FRAME] += frames
    table[ACTIVES] = active
    return count


@end
def _end(table, hits):
    """Decide the runs that are still open, truncated, at the last frame seen."""
    table = integers(table)
    count, last = 0, table[FRAME] - 1
    for o in range(table[WATCHED]):
        state, values = integers(table[STATES] + 8 * STATE_COLUMNS * o), floats(table[VALUES])
        if state[ACTIVE]:
            best = floats(table[BESTS])[o]
            offset = _offset(values[BEFORE * table[WATCHED] + o], best, values[AFTER * table[WATCHED] + o])
            write(hits, count, o, state[BEGAN], state[HIGHEST], state[ABOVE] + 1, last, CONFIRM, 1, best, offset)
            count += 1
            state[ACTIVE] = 0
    table[ACTIVES] = 0
    return count


@reset
def _reset(table, frame, known):  # noqa: ARG001
    """Forget everything. (Once nothing is open, only the last peak matters, and that for `memory` frames: see `known`.)"""
    table = integers(table)
    table[FRAME], table[ACTIVES] = frame, 0
    for o in range(table[WATCHED]):
        state = integers(table[STATES] + 8 * STATE_COLUMNS * o)
        state[ACTIVE], state[BEGAN], state[HIGHEST], state[LAST], state[ABOVE] = 0, 0, 0, _NEVER, 0
        floats(table[VALUES])[PREVIOUS * table[WATCHED] + o] = np.nan
    return 0


class PeakDetector(Detector):
    """The `Detector` that finds peaks.

    `thresholds`: one for each value of a score. `refractory`: output frames, at least 1. `merge`: output frames.
    """

    functions = (_scan, _end, _reset)
    kept = 0.0

    def __init__(self, thresholds: Sequence[float], refractory: int, merge: int = 0):
        outputs = len(thresholds)
        super().__init__(outputs, outputs, STATE_COLUMNS)
        self.thresholds = np.array(thresholds, float)
        self.memory = max(1, refractory)
        self._values = np.zeros((VALUE_ROWS, outputs), np.float32)
        self._values[THRESHOLD] = thresholds
        self._more = [self._values]
        self.table[[VALUES, REFRACTORY, MERGE]] = self._values.ctypes.data, self.memory, merge
        self.reset()
