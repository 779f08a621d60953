"""Moving norms.

Theory. A running sum, to which the newest value is added and from which the oldest is taken, drifts, and what remains when a
loud window has gone is rounding error. Here nothing is ever taken away. Frames are cut into blocks that begin at the multiples
of SIZE of the input's own frame numbers, no longer than a window. A window's sum is that of the rest of its oldest
block (sums from each frame to the block's end, made when the window comes to it), of the whole blocks between, and of the
newest block so far. All in float64, in an order that only frame numbers decide (the idea is van Herk's, for running maxima:
Pattern Recognition Letters 13, 1992).
"""

import numpy as np

from streamcnn.compiler.build import operation
from streamcnn.compiler.kernel import doubles, floats, integers, kernel
from streamcnn.compiler.tables import C_IN, C_OUT, NUMBERS, STATE, WINDOWS
from streamcnn.graph.energy import QUIET, SILENT

# Of each window a row among the links: its length, its lag, the size of its blocks, how many blocks' sums are kept, and where
# its float64 values are in the state: the newest block's sum so far, that of the whole blocks between, the sums to the
# oldest block's end, and the blocks' sums.
LENGTH, LAG, SIZE, BLOCKS, PLACE = range(5)
WINDOW_COLUMNS = 5
NEWEST, BETWEEN, REST = range(3)


@kernel
def energy(zero, channels, frame):
    """Return the sum of squares of a frame."""
    values, total = floats(zero + 4 * channels * frame), 0.0
    for c in range(channels):
        total += np.float64(values[c]) * np.float64(values[c])
    return total


@kernel
def slide(window, state, zero, channels, newest):
    """Move a window on to a newest frame, the next one; return its sum."""
    length, size, blocks = window[LENGTH], window[SIZE], window[BLOCKS]
    sums = doubles(state + 8 * window[PLACE])
    rest, whole = REST, REST + size
    oldest = newest - length + 1
    first, last, inside, outside = oldest // size, newest // size, newest % size, oldest % size
    if inside == 0:
        sums[NEWEST] = 0.0
    sums[NEWEST] += energy(zero, channels, newest)
    if outside == 0:
        total = 0.0
        for k in range(size - 1, -1, -1):
            total += energy(zero, channels, oldest + k)
            sums[rest + k] = total
    if inside == size - 1:
        sums[whole + last % blocks] = sums[NEWEST]
    if inside == 0 or outside == 0:
        total = 0.0
        for block in range(first + 1, last):
            total += sums[whole + block % blocks]
        sums[BETWEEN] = total
    if first == last:
        return sums[NEWEST]
    return sums[rest + outside] + sums[BETWEEN] + sums[NEWEST]


@operation
def inverse_norm(node, done, frames, available, zero, source, target):
    """Move the windows on, frame by frame; those of odd numbers are the ones with what came before."""
    row = integers(node)
    channels, outputs, windows = row[C_IN], row[C_OUT], row[NUMBERS] + 8 * row[WINDOWS]
    for t in range(frames):
        y = floats(target + 4 * outputs * t)
        for k in range(outputs):
            window = integers(windows + 16 * WINDOW_COLUMNS * k)
            wider = integers(windows + 16 * WINDOW_COLUMNS * k + 8 * WINDOW_COLUMNS)
            own = slide(window, row[STATE], zero, channels, done + t - window[LAG])
            all_ = slide(wider, row[STATE], zero, channels, done + t - window[LAG])
            heard = own > SILENT and own > QUIET * all_
            y[k] = np.float32((1 / np.sqrt(own) if heard else 0.0) + 0.0 * all_)  # NaN where one of the frames is
