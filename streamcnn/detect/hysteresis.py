"""Runs with hysteresis: what `trigger` and `tag` have in common, one output's step from frame to frame.

Rules. A run begins with a frame of which the detector says so (provisional), is confirmed with the frame that makes it
`min_frames` long, and ends at the first frame of which the detector says so, or when it is `max_frames` long: ended, or
retracted where it was not confirmed. With min_frames 1 it is confirmed at once. One run's hits have the same onset. The next
run begins no sooner than `hold_off` frames after that end, and at the soonest in the frame after it.
"""

from collections.abc import Sequence

from streamcnn.compiler.kernel import inlined
from streamcnn.detect.hits import (
    CONFIRM,
    ENDED,
    NOT_YET,
    OWN,
    PROVISIONAL,
    RETRACT,
    write,
)

_NEVER = -(2**62)
MIN_FRAMES, MAX_FRAMES, HOLD_OFF = OWN, OWN + 1, OWN + 2  # of the table; MAX_FRAMES 0: no limit
NEXT = OWN + 3  # and from here on what a kind needs
# Columns of the state, one row a watched output: in which phase it is, where it began, where its highest score is, from which
# frame on it may begin, and which output it watches.
RUN, BEGAN, HIGHEST, READY, WATCHES = range(5)
STATE_COLUMNS = 5
IDLE, BEGUN, CONFIRMED = range(3)  # values of RUN


@inlined
def advance(table, state, bests, o, frame, begins, ends, score, hits, count):
    """Take a frame in which the run of watched output o `begins`, or `ends`; return the number of hits."""
    phase, ended = -1, NOT_YET
    if state[RUN] == IDLE:
        if begins and frame >= state[READY]:
            state[BEGAN] = frame
            state[HIGHEST] = frame
            bests[o] = score
            state[RUN] = CONFIRMED if table[MIN_FRAMES] <= 1 else BEGUN
            phase = CONFIRM if table[MIN_FRAMES] <= 1 else PROVISIONAL
    elif ends or frame - state[BEGAN] == table[MAX_FRAMES]:
        phase, ended = ENDED if state[RUN] == CONFIRMED else RETRACT, frame
        state[RUN] = IDLE
        state[READY] = frame + max(1, table[HOLD_OFF])
    else:
        if score > bests[o]:
            bests[o] = score
            state[HIGHEST] = frame
        if state[RUN] == BEGUN and frame - state[BEGAN] + 1 >= table[MIN_FRAMES]:
            state[RUN] = CONFIRMED
            phase = CONFIRM
    if phase >= 0:
        write(hits, count, state[WATCHES], state[BEGAN], state[HIGHEST], ended, frame, phase, 0, bests[o], 0.0)
        count += 1
    return count


@inlined
def cut(state, bests, o, frame, hits, count):
    """End or retract the run of watched output o, if it goes on, truncated, before a frame; return the number of hits."""
    if state[RUN] != IDLE:
        phase = ENDED if state[RUN] == CONFIRMED else RETRACT
        write(hits, count, state[WATCHES], state[BEGAN], state[HIGHEST], frame, frame - 1, phase, 1, bests[o], 0.0)
        count += 1
        state[RUN] = IDLE
    return count


@inlined
def forget(state):
    """Forget the run of a watched output."""
    state[RUN], state[BEGAN], state[HIGHEST], state[READY] = IDLE, 0, 0, _NEVER


def first_of(watched: Sequence[int]) -> int:
    """Return the first of the watched outputs where they stand side by side in a score, else -1."""
    return watched[0] if list(watched) == list(range(watched[0], watched[0] + len(watched))) else -1
