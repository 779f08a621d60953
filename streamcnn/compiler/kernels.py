"""The machine code of the engine: an interpreter over the plan's tables, and one kernel a kind of layer.

Rules. Every output value is computed by one fixed chain of float32 operations,

    y = ((bias + S_0) + S_1) + ...,    S_j = ((0 + x[c0]*w[j,c0]) + x[c1]*w[j,c1]) + ...   over the channels of tap j,

whatever the block, chunk or vector width. Vector lanes are always different outputs, never partial sums, and nothing
here may be compiled with fastmath. That makes the results bit-identical for any split of the signal.

Kernels allocate nothing, raise nothing and hold no Python object. Two loop orders give the same chains: for many output
channels the lanes are channels (contiguous weights), for few they are frames.
"""

import math

import numpy as np
from numba import njit

from streamcnn.compiler.plan import (
    BASE,
    BIAS,
    C_IN,
    C_OUT,
    CAPACITY,
    CHANNELS,
    CHUNK,
    CONV,
    COUNT,
    DILATION,
    DOWN,
    FUNCTION,
    HISTORY,
    KERNEL,
    LINE_IN,
    LINE_OUT,
    NEWEST,
    OFFSET,
    OLDEST,
    OP,
    TAPS,
    UP,
)

FEW_CHANNELS = 8  # up to here, frames as lanes beat channels as lanes (measured: 1.3 times at 8, 0.8 times at 16)
ZERO = np.float32(0)
ONE = np.float32(1)


@njit(nogil=True)
def make_room(lines, counters, arena, line, frames):
    """Make sure that `frames` more frames fit behind the newest one; return the arena index of the first of them."""
    offset, channels = lines[line, OFFSET], lines[line, CHANNELS]
    count, base = counters[line, COUNT], counters[line, BASE]
    if count + frames - base > lines[line, CAPACITY]:
        keep = count - lines[line, HISTORY]
        start, size = offset + (keep - base) * channels, lines[line, HISTORY] * channels
        for k in range(size):
            arena[offset + k] = arena[start + k]
        base = keep
        counters[line, BASE] = base
    return offset + (count - base) * channels


@njit(nogil=True)
def conv_frames_as_lanes(weights, arena, scratch, row, source, step, target, frames):
    """Convolve with few output channels: for each of them, one tap over all frames after the other."""
    c_in, c_out = row[C_IN], row[C_OUT]
    for o in range(c_out):
        bias = weights[row[BIAS] + o] if row[BIAS] >= 0 else ZERO
        for t in range(frames):
            arena[target + t * c_out + o] = bias
        for tap in range(row[TAPS]):
            first = source + tap * row[DILATION] * c_in
            kernel = row[KERNEL] + tap * c_in * c_out + o
            if c_in == 1:
                w = weights[kernel]
                for t in range(frames):
                    arena[target + t * c_out + o] += arena[first + t * step] * w
                continue
            for t in range(frames):
                scratch[t] = ZERO
            for c in range(c_in):
                w = weights[kernel + c * c_out]
                for t in range(frames):
                    scratch[t] += arena[first + c + t * step] * w
            for t in range(frames):
                arena[target + t * c_out + o] += scratch[t]


@njit(nogil=True)
def conv_channels_as_lanes(weights, arena, scratch, row, source, step, target, frames):
    """Convolve with many output channels: for each frame, all channels at once."""
    c_in, c_out = row[C_IN], row[C_OUT]
    for t in range(frames):
        y = target + t * c_out
        if row[BIAS] >= 0:
            for o in range(c_out):
                arena[y + o] = weights[row[BIAS] + o]
        else:
            for o in range(c_out):
                arena[y + o] = ZERO
        for tap in range(row[TAPS]):
            first = source + t * step + tap * row[DILATION] * c_in
            kernel = row[KERNEL] + tap * c_in * c_out
            for o in range(c_out):
                scratch[o] = ZERO
            for c in range(c_in):
                x = arena[first + c]
                for o in range(c_out):
                    scratch[o] += x * weights[kernel + c * c_out + o]
            for o in range(c_out):
                arena[y + o] += scratch[o]


@njit(nogil=True)
def apply(function, arena, source, target, size):
    """Apply an activation, by its number in `ACTIVATIONS`, to `size` values. NaN stays NaN, as in Keras."""
    if function == 0:
        if source != target:
            for k in range(size):
                arena[target + k] = arena[source + k]
    elif function == 1:
        for k in range(size):
            x = arena[source + k]
            arena[target + k] = ZERO if x < ZERO else x
    elif function == 2:
        for k in range(size):
            arena[target + k] = ONE / (ONE + np.float32(math.exp(-arena[source + k])))
    else:
        for k in range(size):
            arena[target + k] = np.float32(math.tanh(arena[source + k]))


@njit(nogil=True)
def run_node(row, lines, weights, counters, arena, scratch):
    """Compute every output frame of one node that its input suffices for."""
    line_in, line_out = row[LINE_IN], row[LINE_OUT]
    ready = -((row[NEWEST] - counters[line_in, COUNT] * row[UP]) // row[DOWN])
    done = counters[line_out, COUNT]
    frames = ready - done
    if frames <= 0:
        return
    target = make_room(lines, counters, arena, line_out, frames)
    oldest = (done * row[DOWN] + row[OLDEST]) // row[UP]
    source = lines[line_in, OFFSET] + (oldest - counters[line_in, BASE]) * row[C_IN]
    if row[OP] == CONV:
        step = row[DOWN] * row[C_IN]
        if row[C_OUT] <= FEW_CHANNELS:
            conv_frames_as_lanes(weights, arena, scratch, row, source, step, target, frames)
        else:
            conv_channels_as_lanes(weights, arena, scratch, row, source, step, target, frames)
        apply(row[FUNCTION], arena, target, target, frames * row[C_OUT])
    else:
        apply(row[FUNCTION], arena, source, target, frames * row[C_OUT])
    counters[line_out, COUNT] = ready


def process(ops, lines, weights, counters, arena, scratch, scale, block, out):
    """Push a block of frames (n, channels), times `scale`, through all nodes.

    Writes the output frames that became known into `out` (at least that many, outputs) and returns their number.
    """
    channels, last = lines[0, CHANNELS], lines.shape[0] - 1
    width, written = lines[last, CHANNELS], 0
    for begin in range(0, block.shape[0], CHUNK):
        frames = min(CHUNK, block.shape[0] - begin)
        target = make_room(lines, counters, arena, 0, frames)
        for t in range(frames):
            for c in range(channels):
                arena[target + t * channels + c] = block[begin + t, c] * scale
        counters[0, COUNT] += frames
        before = counters[last, COUNT]
        for node in range(ops.shape[0]):
            run_node(ops[node], lines, weights, counters, arena, scratch)
        fresh = counters[last, COUNT] - before
        start = lines[last, OFFSET] + (before - counters[last, BASE]) * width
        for t in range(fresh):
            for c in range(width):
                out[written + t, c] = arena[start + t * width + c]
        written += fresh
    return written
