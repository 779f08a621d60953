"""Resampling by a polyphase FIR.

Each output frame has taps of its own, so it is one sum. Its products are added up in GROUP chains, tap k in chain k mod GROUP,
whatever the width of vectors, and then the chains: the same bits on every machine.
"""

import numpy as np

from streamcnn.compiler.build import operation
from streamcnn.compiler.kernel import floats, integers, kernel
from streamcnn.compiler.kernels.linear import place
from streamcnn.compiler.tables import C_IN, DOWN, KERNEL, OLDEST, SCRATCH, TAPS, UP
from streamcnn.compiler.vector import LANES, fma, load, store, vector_of
from streamcnn.graph.resample import GROUP

ZERO = np.float32(0)


@kernel
def one_channel(x, taps, count, chains):
    """Return the sum of products of values side by side; `chains` is a place for GROUP values."""
    for first in range(0, GROUP, LANES):
        total = vector_of(ZERO)
        for k in range(first, count, GROUP):
            total = fma(load(taps + 4 * k), load(x + 4 * k), total)
        store(chains + first * 4, total)
    sums = floats(chains)
    width = GROUP // 2
    while width:
        for k in range(width):
            sums[k] += sums[k + width]
        width //= 2
    return sums[0]


@operation
def resample(node, done, frames, available, zero, source, target):
    """Make each output frame from the frames around its position."""
    row = integers(node)
    channels, count, up = row[C_IN], row[TAPS], row[UP]
    for t in range(done, done + frames):
        at = t * row[DOWN]
        taps = place(row, KERNEL) + 4 * count * (at % up)
        first = zero + 4 * channels * ((at + row[OLDEST]) // up)
        y = floats(target + 4 * channels * (t - done))
        if channels == 1:
            y[0] = one_channel(first, taps, count, row[SCRATCH])
            continue
        h, x = floats(taps), floats(first)
        for c in range(channels):
            total = ZERO
            for k in range(count):
                total += h[k] * x[k * channels + c]
            y[c] = total
