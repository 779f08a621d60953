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
def merge(links, lines, counters, arena, row, done, target, frames):
    """Combine the values of several lines."""
    size = frames * row[C_OUT]
    for k in range(row[INPUTS]):
        line = links[row[LINKS] + k]
        source = lines[line, OFFSET] + (done - counters[line, BASE]) * lines[line, CHANNELS]
        by = row[BY]
        if k == 0:
            for i in range(size):
                arena[target + i] = arena[source + i]
        elif by == ADD or by == AVERAGE:
            for i in range(size):
                arena[target + i] += arena[source + i]
        elif by == SUBTRACT:
            for i in range(size):
                arena[target + i] -= arena[source + i]
        elif by == MULTIPLY:
            for i in range(size):
                arena[target + i] *= arena[source + i]
        else:
            sign = np.float32(1) if by == MAXIMUM else np.float32(-1)
            for i in range(size):
                x, y = arena[source + i], arena[target + i]
                if not sign * x <= sign * y and y == y:  # a NaN wins
                    arena[target + i] = x
    if row[BY] == AVERAGE:
        for i in range(size):
            arena[target + i] /= np.float32(row[INPUTS])


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
