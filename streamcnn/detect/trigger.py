"""The detector `trigger`: from where to where a score is high, with hysteresis; start, peak and end of an event.

Rules, for each watched output of the net by itself: a run (see `hysteresis`) begins at a frame at or above `on` and ends at the
first one below `off`. A score that is not finite begins nothing and ends what goes on. The event's score is its highest.
"""

from collections.abc import Sequence

import numpy as np

from streamcnn.compiler.kernel import floats, integers
from streamcnn.detect.hits import BESTS, FRAME, STATES, VALUES, WATCHED, WIDTH, Detector, end, reset, scan
from streamcnn.detect.hysteresis import (
    HOLD_OFF,
    IDLE,
    MAX_FRAMES,
    MIN_FRAMES,
    RUN,
    STATE_COLUMNS,
    WATCHES,
    advance,
    cut,
    forget,
)

ON, OFF = range(2)  # of the float32 values of a watched output
VALUE_COLUMNS = 2


@scan
def _scan(table, scores, frames, hits):
    """Find what begins, is confirmed and ends among scores."""
    table = integers(table)
    bests, watched, count, at = floats(table[BESTS]), table[WATCHED], 0, scores
    for frame in range(table[FRAME], table[FRAME] + frames):
        for o in range(watched):
            state = integers(table[STATES] + 8 * STATE_COLUMNS * o)
            value = floats(table[VALUES] + 4 * VALUE_COLUMNS * o)
            score = floats(at)[state[WATCHES]]
            begins = value[ON] <= score < np.inf
            if begins or state[RUN] != IDLE:
                ends = not value[OFF] <= score < np.inf
                count = advance(table, state, bests, o, frame, begins, ends, score, hits, count)
        at += 4 * table[WIDTH]
    table[FRAME] += frames
    return count


@end
def _end(table, hits):
    """End or retract the runs that are still open, truncated, at the last frame seen."""
    table = integers(table)
    count = 0
    for o in range(table[WATCHED]):
        state = integers(table[STATES] + 8 * STATE_COLUMNS * o)
        count = cut(state, floats(table[BESTS]), o, table[FRAME], hits, count)
    return count


@reset
def _reset(table, frame, known):  # noqa: ARG001 (what matters of the past matters for `memory` frames only)
    """Forget everything."""
    table = integers(table)
    table[FRAME] = frame
    for o in range(table[WATCHED]):
        forget(integers(table[STATES] + 8 * STATE_COLUMNS * o))
    return 0


class TriggerDetector(Detector):
    """The `Detector` that finds runs of high scores.

    `watched`: the outputs that are looked at. `on` and `off`: one threshold for each of them, off <= on. `min_frames`: how
    long a run must last to be confirmed; `max_frames`: how long at most, None for no limit; `hold_off`: how long nothing
    begins after its end. All in output frames.
    """

    functions = (_scan, _end, _reset)
    kept = 0.0

    def __init__(
        self,
        outputs: int,
        watched: Sequence[int],
        on: Sequence[float],
        off: Sequence[float],
        min_frames: int = 1,
        max_frames: int | None = None,
        hold_off: int = 0,
    ):
        super().__init__(outputs, len(watched), STATE_COLUMNS)
        self.thresholds = np.full(outputs, np.inf)
        self.thresholds[list(watched)] = on
        self.memory = max(1, hold_off)
        self._states[:, WATCHES] = watched
        self._values = np.array([on, off], np.float32).T.copy()
        self._more = [self._values]
        self.table[VALUES] = self._values.ctypes.data
        self.table[[MIN_FRAMES, MAX_FRAMES, HOLD_OFF]] = max(1, min_frames), max_frames or 0, hold_off
        self.reset()
