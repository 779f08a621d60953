"""Layers that read several lines, of the same frames."""

import numpy as np

from streamcnn.compiler.build import operation
from streamcnn.compiler.kernel import integers, kernel
from streamcnn.compiler.kernels.runs import add_two, move
from streamcnn.compiler.tables import (
    ADD,
    AVERAGE,
    BY,
    C_OUT,
    CHANNEL_STEP,
    CHANNELS,
    FRAME_STEP,
    INPUTS,
    LINE_OUT,
    LINES,
    MAXIMUM,
    MULTIPLY,
    ORIGIN,
    SUBTRACT,
)  # fmt: skip
from streamcnn.compiler.vector import LANES, larger, load, store_first


@kernel
def combined(by, y, x):
    """Combine two vectors; of a maximum or minimum a NaN is the result."""
    if by == ADD or by == AVERAGE:
        return y + x
    if by == SUBTRACT:
        return y - x
    if by == MULTIPLY:
        return y * x
    return larger(y, x) if by == MAXIMUM else -larger(-y, -x)


@operation
def merge(node, done, frames, available, zero, source, target):
    """Combine the values of several lines, run by run: all of the frames, or, planar, those of each channel."""
    row = integers(node)
    step, by, lines = integers(row[LINE_OUT])[CHANNEL_STEP], row[BY], integers(row[LINES])
    runs, size = (1, frames * row[C_OUT]) if step == 4 else (row[C_OUT], frames)
    one, two = integers(lines[0]), integers(lines[1])
    count = np.float32(row[INPUTS])
    for run in range(runs):
        a = one[ORIGIN] + done * one[FRAME_STEP] + run * one[CHANNEL_STEP]
        b = two[ORIGIN] + done * two[FRAME_STEP] + run * two[CHANNEL_STEP]
        if by == ADD and row[INPUTS] == 2:
            add_two(target + run * step, a, b, size)
            continue
        for k in range(0, size, LANES):
            y = combined(by, load(a + 4 * k), load(b + 4 * k))
            for more in range(2, row[INPUTS]):
                line = integers(lines[more])
                x = line[ORIGIN] + done * line[FRAME_STEP] + run * line[CHANNEL_STEP]
                y = combined(by, y, load(x + 4 * k))
            if by == AVERAGE:
                y = y / count
            store_first(target + run * step + 4 * k, y, size - k)


@operation
def concatenate(node, done, frames, available, zero, source, target):
    """Put the channels of several lines side by side."""
    row = integers(node)
    out, lines = integers(row[LINE_OUT]), integers(row[LINES])
    for k in range(row[INPUTS]):
        line = integers(lines[k])
        channels, first = line[CHANNELS], line[ORIGIN] + done * line[FRAME_STEP]
        if out[CHANNEL_STEP] == 4:
            for t in range(frames):
                move(target + t * out[FRAME_STEP], first + t * line[FRAME_STEP], channels)
        else:
            for c in range(channels):
                move(target + c * out[CHANNEL_STEP], first + c * line[CHANNEL_STEP], frames)
        target += channels * out[CHANNEL_STEP]
