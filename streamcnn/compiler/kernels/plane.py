"""Layers on planes: a frame is (bands, channels), channels last. Windows are clipped at the edges of the bands."""

import numpy as np

from streamcnn.compiler.build import operation
from streamcnn.compiler.kernel import call, doubles, floats, integers, kernel
from streamcnn.compiler.kernels.linear import place
from streamcnn.compiler.kernels.tiles import BYTES, LANES, OPEN
from streamcnn.compiler.tables import (
    BAND_DILATION,
    BAND_LEFT,
    BAND_STRIDE,
    BAND_TAPS,
    BANDS_IN,
    BANDS_OUT,
    BIAS,
    BOUNDS,
    C_IN,
    C_OUT,
    DILATION,
    DOWN,
    GROUPS,
    KERNEL,
    MEAN,
    NOTHING_ADDED,
    OLDEST,
    POOL,
    PRODUCT,
    SCRATCH,
    TAPS,
    WIDE,
)  # fmt: skip

ZERO = np.float32(0)


@operation
def conv_2d(node, done, frames, available, zero, source, target):
    """Convolve along time and bands: for each group and tap of time a product whose rows are the bands."""
    row = integers(node)
    bands, taps, groups = row[BANDS_IN], row[BAND_TAPS], row[GROUPS]
    c_in, c_out = row[C_IN] // bands, row[C_OUT] // row[BANDS_OUT]
    inputs, outputs = c_in // groups, c_out // groups
    width = (row[BANDS_OUT] - 1) * row[BAND_STRIDE] + (taps - 1) * row[BAND_DILATION] + 1
    apart = width > bands or row[BAND_LEFT] > 0  # whether windows reach beyond the bands
    vectors = -(-outputs // LANES)
    size = taps * inputs * vectors * BYTES  # of the weights of one tap of time and group
    edge = floats(row[SCRATCH])
    for k in range(width * c_in):
        edge[k] = ZERO
    low = max(0, row[BAND_LEFT]) * c_in
    held = min(bands * c_in, width * c_in - low)
    for t in range(frames):
        for tap in range(row[TAPS]):
            x = source + 4 * (t * row[DOWN] + tap * row[DILATION]) * row[C_IN]
            if apart:
                inside, values = floats(row[SCRATCH] + 4 * low), floats(x)
                for k in range(held):
                    inside[k] = values[k]
                x = row[SCRATCH]
            bounds = place(row, BOUNDS) + (0 if tap == row[TAPS] - 1 else OPEN)
            for g in range(groups):
                y = target + 4 * (t * row[C_OUT] + g * outputs)
                start, step = (place(row, BIAS) + g * vectors * BYTES, 0) if tap == 0 else (y, 4 * c_out)
                call(row[PRODUCT], (
                    place(row, KERNEL) + (tap * groups + g) * size, start, step, bounds, place(row, NOTHING_ADDED),
                    x + 4 * g * inputs,
                    4 * row[BAND_STRIDE] * c_in, 4 * row[BAND_DILATION] * c_in, 4, inputs, taps, y, 4 * c_out, outputs,
                    row[BANDS_OUT],
                ))  # fmt: skip


@kernel
def add_up(sums, x, size):
    """Add values to sums of float64."""
    for k in range(size):
        sums[k] += np.float64(x[k])


@kernel
def keep_largest(y, x, size):
    """Keep the larger ones of two runs of values in the first; a NaN wins, as it does in Keras."""
    for k in range(size):
        if not x[k] <= y[k] and y[k] == y[k]:
            y[k] = x[k]


@operation
def pooling(node, done, frames, available, zero, source, target):
    """Take the maximum or mean of what lies in the window, in the bands and in the frames [0, available).

    Means add up in float64: a clip may have a million frames. A stream of channels is a plane of one band.
    """
    row = integers(node)
    bands, channels = row[BANDS_IN], row[C_OUT] // row[BANDS_OUT]
    sums = doubles(row[WIDE])
    for t in range(frames):
        start = (done + t) * row[DOWN] + row[OLDEST]
        first, last = max(0, start), min(available, start + row[POOL])
        for band in range(row[BANDS_OUT]):
            low = band * row[BAND_STRIDE] - row[BAND_LEFT]
            low, high = max(0, low), min(bands, low + row[BAND_TAPS])
            y = floats(target + 4 * (t * row[C_OUT] + band * channels))
            x = zero + 4 * (first * bands + low) * channels
            if row[MEAN]:
                for c in range(channels):
                    sums[c] = 0.0
            else:
                one = floats(x)
                for c in range(channels):
                    y[c] = one[c]
            for n in range(first, last):
                for place_ in range(low, high):
                    x = zero + 4 * (n * bands + place_) * channels
                    if row[MEAN]:
                        add_up(sums, floats(x), channels)
                    else:
                        keep_largest(y, floats(x), channels)
            if row[MEAN]:
                for c in range(channels):
                    y[c] = np.float32(sums[c] / ((last - first) * (high - low)))
