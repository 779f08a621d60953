"""The detector `measure`: values of a net that are not scores, every so often or when they change.

Rules. All outputs are told together, one hit each, in the order of the outputs. They are told with the last frame of each
interval of `every` frames, counted from the engine's start; and with a frame in which one of them differs from what was told
last by `change` or more, or has become NaN or a number again. The first frame counts as a change. What is told is the
last value, or the mean, the least or the greatest since the last time.
"""

import numpy as np

from streamcnn.compiler.kernel import doubles, floats, integers
from streamcnn.detect.hits import (
    FRAME,
    MEASURED,
    OWN,
    VALUES,
    WATCHED,
    WIDTH,
    Detector,
    end,
    reset,
    scan,
    write,
)

EVERY, STATISTIC, SINCE, STARTED = range(OWN, OWN + 4)  # of the table: SINCE is the first frame that was not told yet
# Of the float64 values, one row an output: what was told last, what is gathered; in a row behind them the change.
TOLD, GATHERED = range(2)
VALUE_COLUMNS = 2
STATISTICS = ("last", "mean", "min", "max")
LAST, MEAN, LEAST, GREATEST = range(4)
NEVER = 2**62


@scan
def _scan(table, scores, frames, hits):
    """Tell the values that are due."""
    table = integers(table)
    outputs, every, statistic, count, at = table[WATCHED], table[EVERY], table[STATISTIC], 0, scores
    change = doubles(table[VALUES] + 8 * VALUE_COLUMNS * outputs)[0]
    since = table[SINCE]
    next_ = table[FRAME] + every - 1 - (table[FRAME] - table[STARTED]) % every if every > 0 else NEVER
    for frame in range(table[FRAME], table[FRAME] + frames):
        values, due = floats(at), frame == next_
        next_ += every if due else 0
        for o in range(outputs):
            x, value = np.float64(values[o]), doubles(table[VALUES] + 8 * VALUE_COLUMNS * o)
            if statistic == LAST or frame == since:
                value[GATHERED] = x
            elif statistic == MEAN:
                value[GATHERED] += x
            elif statistic == LEAST:
                value[GATHERED] = x if x < value[GATHERED] or x != x else value[GATHERED]
            else:
                value[GATHERED] = x if x > value[GATHERED] or x != x else value[GATHERED]
            if change > 0:
                same = x == value[TOLD] or abs(x - value[TOLD]) < change or (x != x and value[TOLD] != value[TOLD])
                due = due or not same
        if due:
            for o in range(outputs):
                value = doubles(table[VALUES] + 8 * VALUE_COLUMNS * o)
                told = value[GATHERED] / (frame + 1 - since) if statistic == MEAN else value[GATHERED]
                value[TOLD] = values[o]
                write(hits, count, o, since, frame, frame + 1, frame, MEASURED, 0, told, 0.0)
                count += 1
            since = frame + 1
        at += 4 * table[WIDTH]
    table[FRAME] += frames
    table[SINCE] = since
    return count


@end
def _end(table, hits):  # noqa: ARG001
    """Tell nothing: an interval that was cut off has no value."""
    return 0


@reset
def _reset(table, frame, known):  # noqa: ARG001
    """Begin with the first interval at a frame."""
    table = integers(table)
    table[FRAME] = table[SINCE] = table[STARTED] = frame
    for o in range(table[WATCHED]):
        doubles(table[VALUES] + 8 * VALUE_COLUMNS * o)[TOLD] = np.nan
    return 0


class MeasureDetector(Detector):
    """The `Detector` that tells values.

    `every`: output frames, 0 for never. `change`: None for none. `statistic`: one of STATISTICS.
    """

    functions = (_scan, _end, _reset)
    kept = 0.0
    memory = 1

    def __init__(self, outputs: int, every: int, change: float | None = None, statistic: str = "last"):
        super().__init__(outputs, outputs, 1)
        self.thresholds = np.full(outputs, -np.inf)  # every score matters
        self._values = np.zeros((outputs + 1, VALUE_COLUMNS))
        self._values[outputs, 0] = change or 0.0
        self._more = [self._values]
        self.table[VALUES] = self._values.ctypes.data
        self.table[[EVERY, STATISTIC]] = every, STATISTICS.index(statistic)
        self.reset()
