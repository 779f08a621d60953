"""The detector `tag`: from when to when a label applies, by smoothed scores with hysteresis.

Rules, for each watched output of the net by itself, all in output frames:

- Scores are taken as probabilities: what is below 0 or not finite counts as 0, what is above 1 as 1. They are smoothed
  exponentially, s = (1 - a) * s + a * x with a = 1 - exp(-hop / smooth), from s = 0 on, in float64: with a small a float32
  would stand still before it is there.
- A frame is on with s >= `on`, and off with s < `off`. Where only the `top` highest labels count, a frame in which that many
  watched labels have a higher s is not on, and is off.
- A tag is a run (see `hysteresis`) that begins with a frame that makes `needed` of the last `of` frames on, and ends with one
  with which fewer than `needed` of them are not off. With one frame out of one that is: begins with the first frame that is on,
  and ends with the first one that is off.
- Its `score` is the highest x, not the highest s, and stands at `peak`, the first of equals. At the onset s rises to
  `on`, so x is (but for float64's rounding) at or above it: without votes no tag begins without such a score.

Theory. The smoothed score depends on all of the past, but ever less. Since rounding is monotone, so is each step in s: of
two detectors that see the same scores, the one that started lower never overtakes. Started from a state that is idle but
not known, the truth lies between s = 0 and s = on, so both are carried (LOW, HIGH). While they decide alike, they decide as
the truth does, and where they do not, the detector says so (`certain`). One that knows its past has LOW equal to HIGH.
Who starts it so has seen, roughly, that nothing is on in the first `memory` frames either: there HIGH stays below `on`. Whether
a frame was off matters from the last `of` of them on.
"""

import math
from collections.abc import Sequence

import numpy as np

from streamcnn.compiler.kernel import doubles, floats, inlined, integers, kernel
from streamcnn.detect.hits import (
    BESTS,
    FRAME,
    STATES,
    UNCERTAIN,
    VALUES,
    WATCHED,
    WIDTH,
    Detector,
    end,
    quiet,
    reset,
    scan,
)
from streamcnn.detect.hysteresis import (
    HOLD_OFF,
    IDLE,
    MAX_FRAMES,
    MIN_FRAMES,
    NEXT,
    RUN,
    WATCHES,
    advance,
    cut,
    first_of,
    forget,
)
from streamcnn.detect.hysteresis import STATE_COLUMNS as RUN_COLUMNS

# Of the table: what `reset` needs, the settings (TOP 0: all labels count), how many labels something goes on with, whether
# nothing is unknown, until which frame it is known that nothing is on, and the first watched output, where they stand side by
# side, else -1 and a place to gather them; for each the score below which a smoothed one that is below its threshold stays
# there, and a place for some frames of scores as they count.
MEMORY, TOP, NEEDED, OF, ACTIVES, KNOWN, QUIET, FIRST, ROW, LIMITS, TAKEN = range(NEXT, NEXT + 11)
# Columns of the state beside the run's: which of the last frames were on, and which not off, a bit each, and how many.
ON_BITS, HELD_BITS, ONS, HELDS = range(RUN_COLUMNS, RUN_COLUMNS + 4)
STATE_COLUMNS = RUN_COLUMNS + 4
# Rows of float64 values, one column a watched output: the smoothed score, at the least and at the most, the thresholds, and the
# score; and behind them what a new score adds.
LOW, HIGH, ON, OFF, NOW = range(5)
ROWS = 5
MOST_VOTES = 62
AT_ONCE = 64  # frames
CREEP = 1e-14  # by how much, of itself, a smoothed score moves at most by rounding
FORGOTTEN = 1e-6  # of what a smoothed score moves by in one frame, the part of its unknown past that may be left in it


@inlined
def _counts(table, o, own, others):
    """Whether fewer than `top` of the other watched labels are above this one: its s by row `own`, theirs by row `others`."""
    above, values, watched = 0, doubles(table[VALUES]), table[WATCHED]
    for other in range(watched):
        if other != o and values[others * watched + other] > values[own * watched + o]:
            above += 1
    return above < table[TOP]


@inlined
def _vote(state, bits, count, yes, of):
    """Take the vote of a new frame, and drop the oldest."""
    state[count] += yes - ((state[bits] >> (of - 1)) & 1)
    state[bits] = ((state[bits] << 1) | yes) & ((1 << of) - 1)


@inlined
def _taken(raw):
    """Return a score as it counts."""
    x = raw if raw < np.float32(1) else np.float32(1)  # (no `and` and no `min`, which make branches of it)
    return np.float64(x if (raw > np.float32(0)) & (raw < np.float32(np.inf)) else np.float32(0))


@inlined
def _row_of(values, row, watched):
    """Return a row of the float64 values."""
    return doubles(values + 8 * row * watched)


@kernel
def _take_all(scores, frames, width, watched, taken):
    """Put scores as they count, float64, side by side: in a loop of its own, which vectors do."""
    if width == watched:
        frames, watched = 1, frames * watched
    for frame in range(frames):
        row, out = floats(scores + 4 * width * frame), doubles(taken + 8 * watched * frame)
        for k in range(watched):
            out[k] = _taken(row[k])


@kernel
def _smooth(taken, frames, watched, values):
    """Smooth frames in which no score reaches its limit, a few outputs at a time. Nothing is unknown.

    Each output is a chain of products and sums. In registers it takes a quarter of the time that it takes through memory, and
    four of them take that of one.
    """
    low, take = _row_of(values, LOW, watched), doubles(values)[ROWS * watched]
    keep = 1 - take
    for o in range(0, watched - 3, 4):
        a, b, c, d = low[o], low[o + 1], low[o + 2], low[o + 3]
        for frame in range(frames):
            x = doubles(taken + 8 * (watched * frame + o))
            a = keep * a + take * x[0]
            b = keep * b + take * x[1]
            c = keep * c + take * x[2]
            d = keep * d + take * x[3]
        low[o], low[o + 1], low[o + 2], low[o + 3] = a, b, c, d
    for o in range(watched // 4 * 4, watched):
        s = low[o]
        for frame in range(frames):
            s = keep * s + take * doubles(taken + 8 * watched * frame)[o]
        low[o] = s


@inlined
def _smoothed(values, row, watched):
    """Take a frame of scores of which the first watched one is at `row`. Nothing is unknown."""
    take = values[ROWS * watched]
    for o in range(watched):
        x = _taken(row[o])
        values[LOW * watched + o] = values[HIGH * watched + o] = (1 - take) * values[LOW * watched + o] + take * x
        values[NOW * watched + o] = x


@inlined
def _smoothed_unknown(table, row, frame):
    """The same where the past is not known; tells whether it has become so little that it is."""
    values, watched, known = doubles(table[VALUES]), table[WATCHED], True
    take = values[ROWS * watched]
    for o in range(watched):
        high = HIGH * watched + o
        before, on = values[high], values[ON * watched + o]
        x = _taken(row[o])
        values[high] = (1 - take) * before + take * x
        if frame < table[QUIET] and values[high] >= on:
            values[high] = np.nextafter(on, 0.0)
        values[LOW * watched + o] = (1 - take) * values[LOW * watched + o] + take * x
        values[NOW * watched + o] = x
        known = known and values[high] == values[LOW * watched + o]
    return known and frame >= table[QUIET]


@scan
def _scan(table, scores, frames, hits):
    """Find what begins, is confirmed and ends among scores."""
    table = integers(table)
    bests, values, watched, width = floats(table[BESTS]), doubles(table[VALUES]), table[WATCHED], table[WIDTH]
    of, needed, count, active = table[OF], table[NEEDED], 0, table[ACTIVES]
    limit, gathered = ON if of == 1 else OFF, floats(table[ROW])
    at = 0
    while at < frames:
        begin = scores + 4 * (width * at + max(0, table[FIRST]))
        if active == 0 and table[KNOWN] and table[FIRST] >= 0:
            # Most frames of most nets: nothing goes on, no earlier frame has a vote, and no score reaches the threshold.
            calm = quiet(begin, min(AT_ONCE, frames - at), width, 0, watched, table[LIMITS])
            if calm:
                _take_all(begin, calm, width, watched, table[TAKEN])
                _smooth(table[TAKEN], calm, watched, table[VALUES])
                at += calm
                continue
        frame, row = table[FRAME] + at, floats(begin)
        at += 1
        if table[FIRST] < 0:
            for o in range(watched):
                gathered[o] = row[integers(table[STATES] + 8 * STATE_COLUMNS * o)[WATCHES]]
            row = gathered
        if table[KNOWN]:
            _smoothed(values, row, watched)
        elif _smoothed_unknown(table, row, frame):
            table[KNOWN] = 1
        active = 0
        for o in range(watched):
            state = integers(table[STATES] + 8 * STATE_COLUMNS * o)
            low, high = values[LOW * watched + o], values[HIGH * watched + o]
            going_on = state[RUN] != IDLE or state[ONS] > 0 or state[HELDS] > 0
            if not going_on and max(low, high) < values[limit * watched + o]:
                continue
            on, held = low >= values[ON * watched + o], low >= values[OFF * watched + o]
            may_be_on, may_be_held = high >= values[ON * watched + o], high >= values[OFF * watched + o]
            if table[TOP] > 0 and (held or may_be_held):
                surely, perhaps = _counts(table, o, LOW, HIGH), _counts(table, o, HIGH, LOW)
                on, held = on and surely, held and surely
                may_be_on, may_be_held = may_be_on and perhaps, may_be_held and perhaps
            # With a single vote it matters only while a tag goes on whether a frame is off.
            if on != may_be_on or (
                held != may_be_held and (state[RUN] != IDLE or (of > 1 and frame >= table[QUIET] - of))
            ):
                table[UNCERTAIN] = 1
            if of > 1:
                _vote(state, ON_BITS, ONS, 1 if on else 0, of)
                _vote(state, HELD_BITS, HELDS, 1 if held else 0, of)
                on, held = state[ONS] >= needed, state[HELDS] >= needed
            count = advance(
                table, state, bests, o, frame, on, not held, np.float32(values[NOW * watched + o]), hits, count
            )
            active += state[RUN] != IDLE or state[ONS] > 0 or state[HELDS] > 0
    table[FRAME] += frames
    table[ACTIVES] = active
    return count


@end
def _end(table, hits):
    """End or retract the tags that are still open, truncated, at the last frame seen."""
    table = integers(table)
    count = 0
    for o in range(table[WATCHED]):
        state = integers(table[STATES] + 8 * STATE_COLUMNS * o)
        count = cut(state, floats(table[BESTS]), o, table[FRAME], hits, count)
    return count  # (votes stay: `reset` comes before the next score)


@reset
def _reset(table, frame, known):
    """Forget everything; of an unknown past, only that nothing is on for a while."""
    table = integers(table)
    table[FRAME], table[ACTIVES], table[KNOWN] = frame, 0, known
    table[QUIET] = 0 if known else frame + table[MEMORY]
    values, watched = doubles(table[VALUES]), table[WATCHED]
    for o in range(watched):
        state = integers(table[STATES] + 8 * STATE_COLUMNS * o)
        forget(state)
        values[LOW * watched + o] = 0.0
        values[HIGH * watched + o] = 0.0 if known else values[ON * watched + o]
        state[ON_BITS], state[HELD_BITS], state[ONS], state[HELDS] = 0, 0, 0, 0
    return 0


class TagDetector(Detector):
    """The `Detector` that finds tags.

    `watched`: the outputs that are labels to be found; the others are ignored. `on` and `off`: one threshold for each of
    them, 0 < off <= on <= 1. `smooth`: the time constant in output frames, 0 for none. `min_frames`: how long a tag must last.
    `votes`: (needed, of), 1 <= needed <= of <= MOST_VOTES. `top`: how many labels count in a frame, None for all.
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
        votes: tuple[int, int] = (1, 1),
        top: int | None = None,
    ):
        super().__init__(outputs, len(watched), STATE_COLUMNS)
        self.thresholds = np.full(outputs, np.inf)
        self.thresholds[list(watched)] = on
        self.kept = math.exp(-1 / smooth) if smooth else 0.0
        take = -math.expm1(-1 / smooth) if smooth else 1.0
        needed, of = votes
        self.memory = (math.ceil(-math.log(FORGOTTEN * take) * smooth) if smooth else 1) + (of if of > 1 else 0)
        self._states[:, WATCHES] = watched
        self._values = np.zeros(ROWS * len(watched) + 1)
        rows = self._values[:-1].reshape(ROWS, len(watched))
        rows[ON], rows[OFF], self._values[-1] = on, off, take
        self._row = np.zeros(len(watched), np.float32)
        # Of votes, being held counts too. A score a little below the threshold pulls down more than rounding lifts.
        limits = np.array(on if of == 1 else off) * (1 - min(1.0, CREEP / take))
        self._limits = np.nextafter(limits.astype(np.float32), np.float32(-1))
        self._taken = np.zeros(AT_ONCE * len(watched))
        self._more = [self._values, self._row, self._limits, self._taken]
        self.table[[LIMITS, TAKEN]] = self._limits.ctypes.data, self._taken.ctypes.data
        self.table[ROW], self.table[FIRST] = self._row.ctypes.data, first_of(watched)
        self.table[VALUES] = self._values.ctypes.data
        self.table[[MIN_FRAMES, MAX_FRAMES, HOLD_OFF, MEMORY]] = max(1, min_frames), 0, 0, self.memory
        self.table[[TOP, NEEDED, OF]] = 0 if top is None or top >= len(watched) else top, needed, of
        self.reset()
