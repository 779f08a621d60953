"""The detector `trigger`: from where to where a score is high, with hysteresis; start, peak and end of an event.

Rules, for each watched output of the net by itself: a run (see `hysteresis`) begins at a frame at or above `on` and ends at the
first one below `off`. A score that is not finite begins nothing and ends what goes on. The event's score is its highest.
"""

from collections.abc import Sequence

import numpy as np

from streamcnn.compiler.kernel import floats, integers
from streamcnn.detect.hits import BESTS, FRAME, STATES, VALUES, WATCHED, WIDTH, Detector, end, quiet, reset, scan
from streamcnn.detect.hysteresis import (
    HOLD_OFF,
    IDLE,
    MAX_FRAMES,
    MIN_FRAMES,
    NEXT,
    RUN,
    STATE_COLUMNS,
    WATCHES,
    advance,
    cut,
    first_of,
    forget,
)

# Of the table: how many runs go on; the first watched output, where they stand side by side, else -1.
ACTIVES, FIRST = NEXT, NEXT + 1
ON, OFF = range(2)  # rows of float32 values, one column a watched output


@scan
def _scan(table, scores, frames, hits):
    """Find what begins, is confirmed and ends among scores."""
    table = integers(table)
    bests, values, watched, width = floats(table[BESTS]), floats(table[VALUES]), table[WATCHED], table[WIDTH]
    count, at, active = 0, 0, table[ACTIVES]
    while at < frames:
        if active == 0 and table[FIRST] >= 0:
            at += quiet(scores + 4 * width * at, frames - at, width, table[FIRST], watched, table[VALUES])
            if at == frames:
                break
        frame, row = table[FRAME] + at, floats(scores + 4 * width * at)
        active = 0
        for o in range(watched):
            state = integers(table[STATES] + 8 * STATE_COLUMNS * o)
            score = row[state[WATCHES]]
            begins = values[ON * watched + o] <= score < np.inf
            if begins or state[RUN] != IDLE:
                ends = not values[OFF * watched + o] <= score < np.inf
                count = advance(table, state, bests, o, frame, begins, ends, score, hits, count)
                active += state[RUN] != IDLE
        at += 1
    table[FRAME] += frames
    table[ACTIVES] = active
    return count


@end
def _end(table, hits):
    """End or retract the runs that are still open, truncated, at the last frame seen."""
    table = integers(table)
    count = 0
    for o in range(table[WATCHED]):
        state = integers(table[STATES] + 8 * STATE_COLUMNS * o)
        count = cut(state, floats(table[BESTS]), o, table[FRAME], hits, count)
    table[ACTIVES] = 0
    return count


@reset
def _reset(table, frame, known):  # noqa: ARG001 (what matters of the past matters for `memory` frames only)
    """Forget everything."""
    table = integers(table)
    table[FRAME], table[ACTIVES] = frame, 0
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
        self._values = np.array([on, off], np.float32)
        self._more = [self._values]
        self.table[VALUES] = self._values.ctypes.data
        self.table[[MIN_FRAMES, MAX_FRAMES, HOLD_OFF]] = max(1, min_frames), max_frames or 0, hold_off
        self.table[FIRST] = first_of(watched)
        self.reset()
