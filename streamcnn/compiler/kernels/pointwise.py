"""Layers that work on each frame by itself."""

import math

import numpy as np

from streamcnn.compiler.kernel import at, kernel, up_to
from streamcnn.compiler.kernels.exponential import sigmoid
from streamcnn.compiler.tables import (
    BY,
    BY_LAYER,
    BY_PEAK,
    BY_UNIT,
    C_IN,
    C_OUT,
    CENTER,
    EPSILON,
    INDICES,
    SCALE,
    SHIFT,
    WIDTH,
)  # fmt: skip

ZERO = np.float32(0)


@kernel
def glu(arena, row, source, target, frames):
    """Multiply the first half of each frame with the sigmoid of the second."""
    half = row[C_OUT]
    for t in range(frames):
        for c in range(half):
            gate = arena[source + (2 * t + 1) * half + c]
            arena[target + t * half + c] = arena[source + 2 * t * half + c] * sigmoid(gate)


@kernel
def prelu(weights, arena, row, source, target, frames):
    """Scale what is negative."""
    channels = row[C_OUT]
    for t in range(frames):
        for c in range(channels):
            x = arena[source + t * channels + c]
            arena[target + t * channels + c] = x * weights[row[SCALE] + c] if x < ZERO else x


@kernel
def affine(weights, arena, row, source, target, frames):
    """Subtract, scale and shift."""
    channels, scale, shift = row[C_OUT], at(row[SCALE]), at(row[SHIFT])
    for t in range(frames):
        x, y = at(source + t * channels), at(target + t * channels)
        if row[CENTER] >= 0:
            center = at(row[CENTER])
            for c in up_to(channels):
                arena[y + c] = (arena[x + c] - weights[center + c]) * weights[scale + c] + weights[shift + c]
        else:
            for c in up_to(channels):
                arena[y + c] = arena[x + c] * weights[scale + c] + weights[shift + c]


@kernel
def normalize(weights, arena, row, source, target, size):
    """Normalize each run of WIDTH values. Sums are float64: a run may be a whole clip."""
    width, by, epsilon = row[WIDTH], row[BY], np.float64(weights[row[EPSILON]])
    for start in range(0, size, width):
        mean, squares, peak = 0.0, 0.0, 0.0
        if by == BY_LAYER:
            for k in range(width):
                mean += np.float64(arena[source + start + k])
            mean /= width
        for k in range(width):
            x = np.float64(arena[source + start + k]) - mean
            squares += x * x
            if not abs(x) <= peak:
                peak = abs(x)
        if by == BY_PEAK:
            factor = 1.0 if peak < epsilon else 1.0 / peak
        elif by == BY_UNIT:
            factor = 1.0 / math.sqrt(epsilon if squares < epsilon else squares)
        else:
            factor = 1.0 / math.sqrt(squares / width + epsilon)
        for k in range(width):
            y = np.float32((np.float64(arena[source + start + k]) - mean) * factor)
            if row[SCALE] >= 0:
                y *= weights[row[SCALE] + k]
            if row[SHIFT] >= 0:
                y += weights[row[SHIFT] + k]
            arena[target + start + k] = y


@kernel
def select(links, arena, row, source, target, frames):
    """Pick values by their places."""
    for t in range(frames):
        for k in range(row[C_OUT]):
            place = links[row[INDICES] + k]
            arena[target + t * row[C_OUT] + k] = arena[source + t * row[C_IN] + place] if place >= 0 else ZERO
