"""Layers on planes: a frame is (bands, channels), channels last. Windows are clipped at the edges of the bands."""

import numpy as np

from streamcnn.compiler.kernel import kernel
from streamcnn.compiler.tables import (
    BAND_DILATION,
    BAND_LEFT,
    BAND_STRIDE,
    BAND_TAPS,
    BANDS_IN,
    BANDS_OUT,
    BIAS,
    C_IN,
    C_OUT,
    DILATION,
    DOWN,
    GROUPS,
    KERNEL,
    MEAN,
    OLDEST,
    POOL,
    TAPS,
)  # fmt: skip

ZERO = np.float32(0)


@kernel
def conv_2d(weights, arena, scratch, row, source, target, frames):
    """Convolve along time and bands; one chain over the inputs for each tap, which are then added."""
    bands, taps, groups = row[BANDS_IN], row[BAND_TAPS], row[GROUPS]
    c_in, c_out = row[C_IN] // bands, row[C_OUT] // row[BANDS_OUT]
    inputs, outputs = c_in // groups, c_out // groups
    for t in range(frames):
        for band in range(row[BANDS_OUT]):
            y = target + t * row[C_OUT] + band * c_out
            for o in range(c_out):
                arena[y + o] = weights[row[BIAS] + o] if row[BIAS] >= 0 else ZERO
            for tap in range(row[TAPS] * taps):
                at = band * row[BAND_STRIDE] + (tap % taps) * row[BAND_DILATION] - row[BAND_LEFT]
                if at < 0 or at >= bands:
                    continue
                first = source + (t * row[DOWN] + tap // taps * row[DILATION]) * row[C_IN] + at * c_in
                kernel = row[KERNEL] + tap * inputs * c_out
                if inputs == 1 and outputs == 1:
                    for o in range(c_out):
                        arena[y + o] += arena[first + o] * weights[kernel + o]
                    continue
                for o in range(c_out):
                    scratch[o] = ZERO
                if groups == 1:
                    for c in range(inputs):
                        x = arena[first + c]
                        for o in range(c_out):
                            scratch[o] += x * weights[kernel + c * c_out + o]
                else:
                    for o in range(c_out):
                        x = first + (o // outputs) * inputs
                        for c in range(inputs):
                            scratch[o] += arena[x + c] * weights[kernel + c * c_out + o]
                for o in range(c_out):
                    arena[y + o] += scratch[o]


@kernel
def pooling_2d(arena, wide, row, zero, done, end, target, frames):
    """Take the maximum or mean of what lies in the window, in the bands and in the frames [0, end).

    `zero`: where input frame 0 would begin in the arena. Means add up in float64.
    """
    bands, channels = row[BANDS_IN], row[C_OUT] // row[BANDS_OUT]
    sums = wide.shape[0] - channels
    for t in range(frames):
        start = (done + t) * row[DOWN] + row[OLDEST]
        first, last = max(0, start), min(end, start + row[POOL])
        for band in range(row[BANDS_OUT]):
            low = band * row[BAND_STRIDE] - row[BAND_LEFT]
            low, high = max(0, low), min(bands, low + row[BAND_TAPS])
            y = target + t * row[C_OUT] + band * channels
            if row[MEAN]:
                for c in range(channels):
                    wide[sums + c] = 0.0
                for n in range(first, last):
                    for x in range(zero + (n * bands + low) * channels, zero + (n * bands + high) * channels, channels):
                        for c in range(channels):
                            wide[sums + c] += np.float64(arena[x + c])
                for c in range(channels):
                    arena[y + c] = np.float32(wide[sums + c] / ((last - first) * (high - low)))
                continue
            for c in range(channels):
                arena[y + c] = arena[zero + (first * bands + low) * channels + c]
            for n in range(first, last):
                for x in range(zero + (n * bands + low) * channels, zero + (n * bands + high) * channels, channels):
                    for c in range(channels):
                        # `not <=` lets a NaN win, as it does in Keras; the first value meets itself
                        if not arena[x + c] <= arena[y + c] and arena[y + c] == arena[y + c]:
                            arena[y + c] = arena[x + c]
