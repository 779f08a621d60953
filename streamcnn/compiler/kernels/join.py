"""Layers that read several lines. `sources`: links to them; each line's frame `done` is the first to be read."""

import numpy as np

from streamcnn.compiler.kernel import kernel
from streamcnn.compiler.tables import (
    ADD,
    AVERAGE,
    BASE,
    BY,
    C_OUT,
    CHANNELS,
    INPUTS,
    LINKS,
    MAXIMUM,
    MULTIPLY,
    OFFSET,
    SUBTRACT,
)  # fmt: skip


@kernel
def combine(by, y, x):
    """Combine values with those in y, in place."""
    if by == ADD or by == AVERAGE:
        for i in range(y.size):
            y[i] += x[i]
    elif by == SUBTRACT:
        for i in range(y.size):
            y[i] -= x[i]
    elif by == MULTIPLY:
        for i in range(y.size):
            y[i] *= x[i]
    else:
        sign = np.float32(1) if by == MAXIMUM else np.float32(-1)
        for i in range(y.size):
            if not sign * x[i] <= sign * y[i] and y[i] == y[i]:  # a NaN wins
                y[i] = x[i]


@kernel
def merge(links, lines, counters, arena, row, done, target, frames):
    """Combine the values of several lines."""
    size, by = frames * row[C_OUT], row[BY]
    y = arena[target : target + size]
    for k in range(row[INPUTS]):
        line = links[row[LINKS] + k]
        source = lines[line, OFFSET] + (done - counters[line, BASE]) * lines[line, CHANNELS]
        x = arena[source : source + size]
        if k > 0:
            combine(by, y, x)
        else:
            for i in range(size):
                y[i] = x[i]
    if by == AVERAGE:
        count = np.float32(row[INPUTS])
        for i in range(size):
            y[i] /= count


@kernel
def concatenate(links, lines, counters, arena, row, done, target, frames):
    """Put the frames of several lines side by side."""
    offset = 0
    for k in range(row[INPUTS]):
        line = links[row[LINKS] + k]
        channels = lines[line, CHANNELS]
        source = lines[line, OFFSET] + (done - counters[line, BASE]) * channels
        for t in range(frames):
            for c in range(channels):
                arena[target + t * row[C_OUT] + offset + c] = arena[source + t * channels + c]
        offset += channels
