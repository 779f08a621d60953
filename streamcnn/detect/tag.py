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

from streamcnn.compiler.kernel import doubles, floats, inlined, integers
from streamcnn.detect.hits import (
    BESTS,
    CONFIRM,
    DECIDED,
    END,
    ENDED,
    FRAME,
    HIT_COLUMNS,
    NOT_YET,
    ONSET,
    OUTPUT,
    OWN,
    PEAK,
    PHASE,
    PROVISIONAL,
    RETRACT,
    SCORE,
    STATES,
    TRUNCATED,
    UNCERTAIN,
    VALUES,
    WATCHED,
    WIDTH,
    Detector,
    end,
    reset,
    scan,
)

MIN_FRAMES, MEMORY = OWN, OWN + 1  # of the table: how long a tag must last, `memory`
# Columns of the state, one row a watched output; until the frame QUIET it is known that nothing begins ...
RUN, BEGAN, HIGHEST, WATCHES, QUIET = range(5)
STATE_COLUMNS = 5
IDLE, BEGUN, CONFIRMED = range(3)  # values of RUN
# ... and of its float64 values: the smoothed score, at the least and at the most, the thresholds, and what a new score adds.
LOW, HIGH, ON, OFF, TAKE = range(5)
VALUE_COLUMNS = 5
FORGOTTEN = 1e-6  # of what a smoothed score moves by in one frame, the part of its unknown past that may be left in it


@inlined
def _write(hits, count, state, ended, decided, phase, truncated, best):
    """Write a hit."""
    hit = integers(hits + 8 * HIT_COLUMNS * count)
    hit[OUTPUT], hit[ONSET], hit[PEAK], hit[END] = state[WATCHES], state[BEGAN], state[HIGHEST], ended
    hit[DECIDED], hit[PHASE], hit[TRUNCATED] = decided, phase, truncated
    doubles(hits + 8 * HIT_COLUMNS * count)[SCORE] = best


@scan
def _scan(table, scores, frames, hits):
    """Find what begins, is confirmed and ends among scores."""
    table = integers(table)
    min_frames, bests, count, at = table[MIN_FRAMES], floats(table[BESTS]), 0, scores
    for frame in range(table[FRAME], table[FRAME] + frames):
        for o in range(table[WATCHED]):
            state = integers(table[STATES] + 8 * STATE_COLUMNS * o)
            value = doubles(table[VALUES] + 8 * VALUE_COLUMNS * o)
            raw, take = floats(at)[state[WATCHES]], value[TAKE]
            x = min(raw, np.float32(1)) if 0 < raw < np.inf else np.float32(0)
            value[LOW] = (1 - take) * value[LOW] + take * x
            value[HIGH] = (1 - take) * value[HIGH] + take * x
            phase, ended = -1, NOT_YET
            if state[RUN] == IDLE:
                if frame < state[QUIET] and value[HIGH] >= value[ON]:
                    value[HIGH] = np.nextafter(value[ON], 0.0)
                if (value[LOW] >= value[ON]) != (value[HIGH] >= value[ON]):
                    table[UNCERTAIN] = 1
                if value[LOW] >= value[ON]:
                    state[BEGAN] = frame
                    state[HIGHEST] = frame
                    bests[o] = x
                    state[RUN] = CONFIRMED if min_frames <= 1 else BEGUN
                    phase = CONFIRM if min_frames <= 1 else PROVISIONAL
            else:
                if (value[LOW] < value[OFF]) != (value[HIGH] < value[OFF]):
                    table[UNCERTAIN] = 1
                if value[LOW] < value[OFF]:
                    phase, ended = ENDED if state[RUN] == CONFIRMED else RETRACT, frame
                    state[RUN] = IDLE
                else:
                    if x > bests[o]:
                        bests[o] = x
                        state[HIGHEST] = frame
                    if state[RUN] == BEGUN and frame - state[BEGAN] + 1 >= min_frames:
                        state[RUN] = CONFIRMED
                        phase = CONFIRM
            if phase >= 0:
                _write(hits, count, state, ended, frame, phase, 0, bests[o])
                count += 1
        at += 4 * table[WIDTH]
    table[FRAME] += frames
    return count


@end
def _end(table, hits):
    """End or retract the tags that are still open, truncated, at the last frame seen."""
    table = integers(table)
    count, frame = 0, table[FRAME]
    for o in range(table[WATCHED]):
        state = integers(table[STATES] + 8 * STATE_COLUMNS * o)
        if state[RUN] != IDLE:
            phase = ENDED if state[RUN] == CONFIRMED else RETRACT
            _write(hits, count, state, frame, frame - 1, phase, 1, floats(table[BESTS])[o])
            count += 1
            state[RUN] = IDLE
    return count


@reset
def _reset(table, frame, known):
    """Forget everything; of an unknown past, only that nothing begins for a while."""
    table = integers(table)
    table[FRAME] = frame
    for o in range(table[WATCHED]):
        state = integers(table[STATES] + 8 * STATE_COLUMNS * o)
        value = doubles(table[VALUES] + 8 * VALUE_COLUMNS * o)
        state[RUN], state[BEGAN], state[HIGHEST] = IDLE, 0, 0
        value[LOW], value[HIGH] = 0.0, 0.0 if known else value[ON]
        state[QUIET] = 0 if known else frame + table[MEMORY]
    return 0


class TagDetector(Detector):
    """The `Detector` that finds tags.

    `watched`: the outputs that are labels to be found; the others are ignored. `on` and `off`: one threshold for each of
    them, 0 < off <= on <= 1. `smooth`: the time constant in output frames, 0 for none. `min_frames`: how long a tag must last.
    """

    functions = (_scan, _end, _reset)

    def __init__(
        self,
        outputs: int,
        watched: Sequence[int],
        on: Sequence[float],
        off: Sequence[float],
        smooth: float,
        min_frames: int,
    ):
        super().__init__(outputs, len(watched), STATE_COLUMNS)
        self.thresholds = np.full(outputs, np.inf)
        self.thresholds[list(watched)] = on
        self.kept = math.exp(-1 / smooth) if smooth else 0.0
        take = -math.expm1(-1 / smooth) if smooth else 1.0
        self.memory = math.ceil(-math.log(FORGOTTEN * take) * smooth) if smooth else 1
        self._states[:, WATCHES] = watched
        self._values = np.zeros((len(watched), VALUE_COLUMNS))
        self._values[:, ON], self._values[:, OFF], self._values[:, TAKE] = on, off, take
        self.table[VALUES] = self._values.ctypes.data
        self._more = [self._values]
        self.table[MIN_FRAMES], self.table[MEMORY] = max(1, min_frames), self.memory
        self.reset()
