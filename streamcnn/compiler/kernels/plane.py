"""Layers on planes: a frame is (bands, channels), channels last. Windows are clipped at the edges of the bands."""

import numpy as np

from streamcnn.compiler.kernel import at, kernel, up_to
from streamcnn.compiler.kernels.linear import add_tap
from streamcnn.compiler.kernels.tiles import LANES, address, product
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
    """Convolve along time and bands: for each tap of time a product whose rows are the bands."""
    bands, taps, c_in, c_out = row[BANDS_IN], row[BAND_TAPS], row[C_IN] // row[BANDS_IN], row[C_OUT] // row[BANDS_OUT]
    width = (row[BANDS_OUT] - 1) * row[BAND_STRIDE] + (taps - 1) * row[BAND_DILATION] + 1
    apart = width > bands or row[BAND_LEFT] > 0  # whether windows reach beyond the bands
    size = taps * c_in * -(-c_out // LANES) * LANES  # of the weights of one tap of time
    edge = scratch[: width * c_in]
    for k in range(edge.size):
        edge[k] = ZERO
    low = max(0, row[BAND_LEFT])
    held = min(bands, width - low) * c_in
    for t in range(frames):
        y = address(arena, target + t * row[C_OUT])
        start, step = address(weights, row[BIAS]), 0
        for tap in range(row[TAPS]):
            first = source + (t * row[DOWN] + tap * row[DILATION]) * row[C_IN]
            x = address(arena, first)
            if apart:
                inside, values = edge[low * c_in : low * c_in + held], arena[first : first + held]
                for k in range(held):
                    inside[k] = values[k]
                x = address(scratch, 0)
            product(
                address(weights, row[KERNEL] + tap * size), start, step, x, row[BAND_STRIDE] * c_in,
                row[BAND_DILATION] * c_in, c_in, taps, y, c_out, row[BANDS_OUT],
            )  # fmt: skip
            start, step = y, c_out


@kernel
def conv_2d_grouped(weights, arena, row, source, target, frames):
    """Convolve in groups: each group of output channels sees its own input channels."""
    bands, taps, groups = row[BANDS_IN], row[BAND_TAPS], row[GROUPS]
    c_in, c_out = row[C_IN] // bands, row[C_OUT] // row[BANDS_OUT]
    inputs, outputs = c_in // groups, c_out // groups
    for t in range(frames):
        for band in range(row[BANDS_OUT]):
            first = target + t * row[C_OUT] + band * c_out
            y = arena[first : first + c_out]
            for o in range(c_out):
                y[o] = weights[row[BIAS] + o] if row[BIAS] >= 0 else ZERO
            for tap in range(row[TAPS] * taps):
                place = band * row[BAND_STRIDE] + (tap % taps) * row[BAND_DILATION] - row[BAND_LEFT]
                if place < 0 or place >= bands:
                    continue
                first = source + (t * row[DOWN] + tap // taps * row[DILATION]) * row[C_IN] + place * c_in
                place = row[KERNEL] + tap * inputs * c_out
                add_tap(y, arena[first : first + c_in], weights[place : place + inputs * c_out], inputs, outputs)


@kernel
def pooling_2d(arena, wide, row, zero, done, end, target, frames):
    """Take the maximum or mean of what lies in the window, in the bands and in the frames [0, end).

    `zero`: where input frame 0 would begin in the arena. Means add up in float64.
    """
    bands, channels = row[BANDS_IN], row[C_OUT] // row[BANDS_OUT]
    sums = at(wide.shape[0] - channels)
    for t in range(frames):
        start = (done + t) * row[DOWN] + row[OLDEST]
        first, last = max(0, start), min(end, start + row[POOL])
        for band in range(row[BANDS_OUT]):
            low = band * row[BAND_STRIDE] - row[BAND_LEFT]
            low, high = max(0, low), min(bands, low + row[BAND_TAPS])
            y = at(target + t * row[C_OUT] + band * channels)
            if row[MEAN]:
                for c in up_to(channels):
                    wide[sums + c] = 0.0
                for n in range(first, last):
                    for place in range(
                        zero + (n * bands + low) * channels, zero + (n * bands + high) * channels, channels
                    ):
                        x = at(place)
                        for c in up_to(channels):
                            wide[sums + c] += np.float64(arena[x + c])
                for c in up_to(channels):
                    arena[y + c] = np.float32(wide[sums + c] / ((last - first) * (high - low)))
                continue
            x = at(zero + (first * bands + low) * channels)
            for c in up_to(channels):
                arena[y + c] = arena[x + c]
            for n in range(first, last):
                for place in range(zero + (n * bands + low) * channels, zero + (n * bands + high) * channels, channels):
                    x = at(place)
                    for c in up_to(channels):
                        # `not <=` lets a NaN win, as it does in Keras; the first value meets itself
                        if not arena[x + c] <= arena[y + c] and arena[y + c] == arena[y + c]:
                            arena[y + c] = arena[x + c]
