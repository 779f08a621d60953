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

ZERO = np.float32(0)


@operation
def keep(node, done, frames, available, zero, source, target):
    """Copy frames, clipped, for an activation to work on: run by run, where the frames of a channel lie side by side."""
    row = integers(node)
    low, high = floats(place(row, BOUNDS))[0], floats(place(row, BOUNDS))[1]
    line, out = integers(row[LINE_IN]), integers(row[LINE_OUT])
    runs, size = (1, frames * row[C_OUT]) if out[CHANNEL_STEP] == 4 else (row[C_OUT], frames)
    for run in range(runs):
        x, y = floats(source + run * line[CHANNEL_STEP]), floats(target + run * out[CHANNEL_STEP])
        for k in range(size):
            value = low if x[k] < low else x[k]
            y[k] = high if value > high else value


@operation
def glu(node, done, frames, available, zero, source, target):
    """Multiply the first half of each frame with the sigmoid of the second."""
    half = integers(node)[C_OUT]
    for t in range(frames):
        x, gate, y = (
            floats(source + 8 * t * half),
            floats(source + 4 * (2 * t + 1) * half),
            floats(target + 4 * t * half),
        )
        for c in range(half):
            y[c] = x[c] * sigmoid(gate[c])


@operation
def prelu(node, done, frames, available, zero, source, target):
    """Scale what is negative."""
    row = integers(node)
    channels, slope = row[C_OUT], floats(place(row, SCALE))
    for t in range(frames):
        x, y = floats(source + 4 * t * channels), floats(target + 4 * t * channels)
        for c in range(channels):
            y[c] = x[c] * slope[c] if x[c] < ZERO else x[c]


@operation
def affine(node, done, frames, available, zero, source, target):
    """Subtract (zero, where nothing is given), scale and shift."""
    row = integers(node)
    line, out, channels = integers(row[LINE_IN]), integers(row[LINE_OUT]), row[C_OUT]
    scale, shift, center = floats(place(row, SCALE)), floats(place(row, SHIFT_BY)), floats(place(row, CENTER))
    if out[CHANNEL_STEP] == 4:
        for t in range(frames):
            x, y = floats(source + 4 * t * channels), floats(target + 4 * t * channels)
            for c in range(channels):
                y[c] = (x[c] - center[c]) * scale[c] + shift[c]
        return
    for c in range(channels):
        x, y = floats(source + c * line[CHANNEL_STEP]), floats(target + c * out[CHANNEL_STEP])
        a, b, less = scale[c], shift[c], center[c]
        for t in range(frames):
            y[t] = (x[t] - less) * a + b


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
