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

from streamcnn.compiler.kernel import doubles, floats, inlined, integers
from streamcnn.detect.hits import BESTS, FRAME, STATES, UNCERTAIN, VALUES, WATCHED, WIDTH, Detector, end, reset, scan
from streamcnn.detect.hysteresis import HOLD_OFF, IDLE, MAX_FRAMES, MIN_FRAMES, NEXT, RUN, WATCHES, advance, cut, forget
from streamcnn.detect.hysteresis import STATE_COLUMNS as RUN_COLUMNS

MEMORY, TOP, NEEDED, OF = range(NEXT, NEXT + 4)  # of the table: TOP 0: all labels count
# Columns of the state beside the run's: until the frame QUIET it is known that nothing is on; which of the last frames were on,
# and which not off, a bit each, and how many.
QUIET, ON_BITS, HELD_BITS, ONS, HELDS = range(RUN_COLUMNS, RUN_COLUMNS + 5)
STATE_COLUMNS = RUN_COLUMNS + 5
# Its float64 values: the smoothed score, at the least and at the most, the thresholds, what a new score adds, and the score.
LOW, HIGH, ON, OFF, TAKE, NOW = range(6)
VALUE_COLUMNS = 6
MOST_VOTES = 62
FORGOTTEN = 1e-6  # of what a smoothed score moves by in one frame, the part of its unknown past that may be left in it


@inlined
def _counts(table, o, own, others):
    """Whether fewer than `top` of the other watched labels are above this one: its s by value `own`, theirs by `others`."""
    above, level = 0, doubles(table[VALUES] + 8 * VALUE_COLUMNS * o)[own]
    for other in range(table[WATCHED]):
        if other != o and doubles(table[VALUES] + 8 * VALUE_COLUMNS * other)[others] > level:
            above += 1
    return above < table[TOP]


@inlined
def _vote(state, bits, count, yes, of):
    """Take the vote of a new frame, and drop the oldest."""
    state[count] += yes - ((state[bits] >> (of - 1)) & 1)
    state[bits] = ((state[bits] << 1) | yes) & ((1 << of) - 1)


@scan
def _scan(table, scores, frames, hits):
    """Find what begins, is confirmed and ends among scores."""
    table = integers(table)
    bests, watched, of, needed, count, at = floats(table[BESTS]), table[WATCHED], table[OF], table[NEEDED], 0, scores
    for frame in range(table[FRAME], table[FRAME] + frames):
        for o in range(watched):
            state = integers(table[STATES] + 8 * STATE_COLUMNS * o)
            value = doubles(table[VALUES] + 8 * VALUE_COLUMNS * o)
            raw, take = floats(at)[state[WATCHES]], value[TAKE]
            x = np.float64(min(raw, np.float32(1)) if 0 < raw < np.inf else np.float32(0))
            known = value[LOW] == value[HIGH]
            value[LOW] = (1 - take) * value[LOW] + take * x
            value[HIGH] = value[LOW] if known else (1 - take) * value[HIGH] + take * x
            value[NOW] = x
            if frame < state[QUIET] and value[HIGH] >= value[ON]:
                value[HIGH] = np.nextafter(value[ON], 0.0)
        for o in range(watched):
            state = integers(table[STATES] + 8 * STATE_COLUMNS * o)
            value = doubles(table[VALUES] + 8 * VALUE_COLUMNS * o)
            # Most frames of most labels: nothing goes on, nothing is on, and no earlier frame has a vote.
            if state[RUN] == IDLE and max(value[LOW], value[HIGH]) < value[ON] and of == 1:
                continue
            on, held = value[LOW] >= value[ON], value[LOW] >= value[OFF]
            may_be_on, may_be_held = value[HIGH] >= value[ON], value[HIGH] >= value[OFF]
            if table[TOP] > 0 and may_be_held:
                surely, perhaps = _counts(table, o, LOW, HIGH), _counts(table, o, HIGH, LOW)
                on, held = on and surely, held and surely
                may_be_on, may_be_held = may_be_on and perhaps, may_be_held and perhaps
            # With a single vote it matters only while a tag goes on whether a frame is off.
            if on != may_be_on or (
                held != may_be_held and (state[RUN] != IDLE or (of > 1 and frame >= state[QUIET] - of))
            ):
                table[UNCERTAIN] = 1
            if of > 1:
                _vote(state, ON_BITS, ONS, 1 if on else 0, of)
                _vote(state, HELD_BITS, HELDS, 1 if held else 0, of)
                on, held = state[ONS] >= needed, state[HELDS] >= needed
            count = advance(table, state, bests, o, frame, on, not held, np.float32(value[NOW]), hits, count)
        at += 4 * table[WIDTH]
    table[FRAME] += frames
    return count


@end
def _end(table, hits):
    """End or retract the tags that are still open, truncated, at the last frame seen."""
    table = integers(table)
    count = 0
    for o in range(table[WATCHED]):
        state = integers(table[STATES] + 8 * STATE_COLUMNS * o)
        count = cut(state, floats(table[BESTS]), o, table[FRAME], hits, count)
    return count


@reset
def _reset(table, frame, known):
    """Forget everything; of an unknown past, only that nothing is on for a while."""
    table = integers(table)
    table[FRAME] = frame
    for o in range(table[WATCHED]):
        state = integers(table[STATES] + 8 * STATE_COLUMNS * o)
        value = doubles(table[VALUES] + 8 * VALUE_COLUMNS * o)
        forget(state)
        value[LOW], value[HIGH] = 0.0, 0.0 if known else value[ON]
        state[QUIET] = 0 if known else frame + table[MEMORY]
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
        self._values = np.zeros((len(watched), VALUE_COLUMNS))
        self._values[:, ON], self._values[:, OFF], self._values[:, TAKE] = on, off, take
        self._more = [self._values]
        self.table[VALUES] = self._values.ctypes.data
        self.table[[MIN_FRAMES, MAX_FRAMES, HOLD_OFF, MEMORY]] = max(1, min_frames), 0, 0, self.memory
        self.table[[TOP, NEEDED, OF]] = 0 if top is None or top >= len(watched) else top, needed, of
        self.reset()
