"""Layers that read several lines, of the same frames."""

import numpy as np

from streamcnn.compiler.build import operation
from streamcnn.compiler.kernel import floats, integers, kernel
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

ONE = np.float32(1)


@kernel
def combine(by, y, x, size):
    """Combine values with those in y, in place."""
    if by == ADD or by == AVERAGE:
        for i in range(size):
            y[i] += x[i]
    elif by == SUBTRACT:
        for i in range(size):
            y[i] -= x[i]
    elif by == MULTIPLY:
        for i in range(size):
            y[i] *= x[i]
    else:
        sign = ONE if by == MAXIMUM else -ONE
        for i in range(size):
            if not sign * x[i] <= sign * y[i] and y[i] == y[i]:  # a NaN wins
                y[i] = x[i]


@operation
def merge(node, done, frames, available, zero, source, target):
    """Combine the values of several lines, run by run: all of the frames, or, planar, those of each channel."""
    row = integers(node)
    step, by, lines = integers(row[LINE_OUT])[CHANNEL_STEP], row[BY], integers(row[LINES])
    runs, size = (1, frames * row[C_OUT]) if step == 4 else (row[C_OUT], frames)
    for run in range(runs):
        y = floats(target + run * step)
        for k in range(row[INPUTS]):
            line = integers(lines[k])
            x = floats(line[ORIGIN] + done * line[FRAME_STEP] + run * line[CHANNEL_STEP])
            if k > 0:
                combine(by, y, x, size)
            else:
                for i in range(size):
                    y[i] = x[i]
        if by == AVERAGE:
            count = np.float32(row[INPUTS])
            for i in range(size):
                y[i] /= count


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
                x, y = floats(first + t * line[FRAME_STEP]), floats(target + t * out[FRAME_STEP])
                for c in range(channels):
                    y[c] = x[c]
        else:
            for c in range(channels):
                x, y = floats(first + c * line[CHANNEL_STEP]), floats(target + c * out[CHANNEL_STEP])
                for t in range(frames):
                    y[t] = x[t]
        target += channels * out[CHANNEL_STEP]
