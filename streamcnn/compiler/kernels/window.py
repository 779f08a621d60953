"""Layers that only move along time."""

import numpy as np

from streamcnn.compiler.kernel import at, kernel, up_to
from streamcnn.compiler.tables import C_IN, C_OUT, DOWN, MEAN, OLDEST, POOL, UP


@kernel
def pooling(arena, wide, row, zero, done, end, target, frames):
    """Take the maximum or mean of the frames of each window that lie in [0, end).

    `zero`: where input frame 0 would begin in the arena. Means add up in float64: a clip may have a million frames.
    """
    channels = row[C_OUT]
    sums = at(wide.shape[0] - channels)
    for t in range(frames):
        start = (done + t) * row[DOWN] + row[OLDEST]
        first, last = max(0, start), min(end, start + row[POOL])
        y = at(target + t * channels)
        if row[MEAN]:
            for c in up_to(channels):
                wide[sums + c] = 0.0
            for n in range(first, last):
                x = at(zero + n * channels)
                for c in up_to(channels):
                    wide[sums + c] += np.float64(arena[x + c])
            for c in up_to(channels):
                arena[y + c] = np.float32(wide[sums + c] / (last - first))
            continue
        x = at(zero + first * channels)
        for c in up_to(channels):
            arena[y + c] = arena[x + c]
        for n in range(first + 1, last):
            x = at(zero + n * channels)
            for c in up_to(channels):
                # `not <=` lets a NaN win, as it does in Keras
                if not arena[x + c] <= arena[y + c] and arena[y + c] == arena[y + c]:
                    arena[y + c] = arena[x + c]


@kernel
def copy(arena, row, zero, done, target, frames):
    """Copy frames, or parts of them: padding, cropping, repeating, stacking, unstacking and reshaping.

    Output frame i takes C_OUT values from where its window begins: several input frames (Stack), one of them, or, where
    one becomes several, its part of it (Unstack) or all of it again (Repeat).
    """
    c_in, c_out = row[C_IN], row[C_OUT]
    for t in range(frames):
        place = (done + t) * row[DOWN] + row[OLDEST]
        n = place // row[UP]
        source = zero + n * c_in
        if c_out < c_in:
            source += (place - n * row[UP]) * c_out
        x, y = at(source), at(target + t * c_out)
        for k in up_to(c_out):
            arena[y + k] = arena[x + k]
