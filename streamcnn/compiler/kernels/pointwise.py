"""Layers that work on each frame by itself."""

import math

import numpy as np

from streamcnn.compiler.build import operation
from streamcnn.compiler.kernel import floats, integers
from streamcnn.compiler.kernels.exponential import sigmoid
from streamcnn.compiler.kernels.linear import place
from streamcnn.compiler.tables import (
    BOUNDS,
    BY,
    BY_LAYER,
    BY_PEAK,
    BY_UNIT,
    C_IN,
    C_OUT,
    CENTER,
    CHANNEL_STEP,
    EPSILON,
    INDICES,
    LINE_IN,
    LINE_OUT,
    NUMBERS,
    SCALE,
    SHIFT_BY,
    WIDTH,
)  # fmt: skip
from streamcnn.compiler.vector import BYTES, LANES, at_least, at_most, load, store_first, where_negative

ZERO = np.float32(0)


@operation
def keep(node, done, frames, available, zero, source, target):
    """Copy frames, clipped, for an activation to work on: run by run, where the frames of a channel lie side by side."""
    row = integers(node)
    low, high = floats(place(row, BOUNDS))[0], floats(place(row, BOUNDS))[1]
    line, out = integers(row[LINE_IN]), integers(row[LINE_OUT])
    runs, size = (1, frames * row[C_OUT]) if out[CHANNEL_STEP] == 4 else (row[C_OUT], frames)
    for run in range(runs):
        x, y = source + run * line[CHANNEL_STEP], target + run * out[CHANNEL_STEP]
        for k in range(0, size, LANES):
            store_first(y + 4 * k, at_most(at_least(load(x + 4 * k), low), high), size - k)


@operation
def glu(node, done, frames, available, zero, source, target):
    """Multiply the first half of each frame with the sigmoid of the second."""
    half = integers(node)[C_OUT]
    for t in range(frames):
        x, y = source + 8 * t * half, target + 4 * t * half
        for k in range(0, half, LANES):
            gate = sigmoid(load(x + 4 * (half + k)))
            store_first(y + 4 * k, load(x + 4 * k) * gate, half - k)


@operation
def prelu(node, done, frames, available, zero, source, target):
    """Scale what is negative."""
    row = integers(node)
    channels, slope = row[C_OUT], place(row, SCALE)
    for t in range(frames):
        x, y = source + 4 * t * channels, target + 4 * t * channels
        for k in range(0, channels, LANES):
            value = load(x + 4 * k)
            store_first(y + 4 * k, where_negative(value, value * load(slope + 4 * k), value), channels - k)


@operation
def affine(node, done, frames, available, zero, source, target):
    """Subtract (zero, where nothing is given), scale and shift."""
    row = integers(node)
    line, out, channels = integers(row[LINE_IN]), integers(row[LINE_OUT]), row[C_OUT]
    scale, shift, center = place(row, SCALE), place(row, SHIFT_BY), place(row, CENTER)
    if out[CHANNEL_STEP] == 4:
        for t in range(frames):
            x, y = source + 4 * t * channels, target + 4 * t * channels
            for k in range(0, 4 * channels, BYTES):
                value = (load(x + k) - load(center + k)) * load(scale + k) + load(shift + k)
                store_first(y + k, value, channels - k // 4)
        return
    for c in range(channels):
        x, y = source + c * line[CHANNEL_STEP], target + c * out[CHANNEL_STEP]
        a, b, less = floats(scale)[c], floats(shift)[c], floats(center)[c]
        for k in range(0, frames, LANES):
            store_first(y + 4 * k, (load(x + 4 * k) - less) * a + b, frames - k)


@operation
def normalize(node, done, frames, available, zero, source, target):
    """Normalize each run of WIDTH values. Sums are float64: a run may be a whole clip."""
    row = integers(node)
    width, by, epsilon = row[WIDTH], row[BY], np.float64(floats(place(row, EPSILON))[0])
    scale, shift = floats(place(row, SCALE)), floats(place(row, SHIFT_BY))
    for start in range(0, frames * row[C_OUT], width):
        x, y = floats(source + 4 * start), floats(target + 4 * start)
        mean, squares, peak = 0.0, 0.0, 0.0
        if by == BY_LAYER:
            for k in range(width):
                mean += np.float64(x[k])
            mean /= width
        for k in range(width):
            value = np.float64(x[k]) - mean
            squares += value * value
            if not abs(value) <= peak:
                peak = abs(value)
        if by == BY_PEAK:
            factor = 1.0 if peak < epsilon else 1.0 / peak
        elif by == BY_UNIT:
            factor = 1.0 / math.sqrt(epsilon if squares < epsilon else squares)
        else:
            factor = 1.0 / math.sqrt(squares / width + epsilon)
        for k in range(width):
            y[k] = np.float32((np.float64(x[k]) - mean) * factor)
        if row[SCALE] >= 0:
            for k in range(width):
                y[k] *= scale[k]
        if row[SHIFT_BY] >= 0:
            for k in range(width):
                y[k] += shift[k]


@operation
def select(node, done, frames, available, zero, source, target):
    """Pick values by their places."""
    row = integers(node)
    places = integers(row[NUMBERS] + 8 * row[INDICES])
    for t in range(frames):
        x, y = floats(source + 4 * t * row[C_IN]), floats(target + 4 * t * row[C_OUT])
        for k in range(row[C_OUT]):
            y[k] = x[places[k]] if places[k] >= 0 else ZERO
