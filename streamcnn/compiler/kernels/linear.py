"""Convolutions that are no product of tiles: of one channel, where frames are the lanes, in groups, and transposed.

Loops are over slices: an index into the arena itself might be negative, which in Python counts from the end, and the check for
that keeps LLVM from making vector code.
"""

import numpy as np

from streamcnn.compiler.kernel import kernel
from streamcnn.compiler.kernels.exponential import fma
from streamcnn.compiler.tables import (
    BIAS,
    C_IN,
    C_OUT,
    CROP,
    DILATION,
    GROUPS,
    KERNEL,
    TAPS,
    UP,
)  # fmt: skip

FEW_CHANNELS = 8  # outputs of one channel, up to which frames as lanes are faster than channels as lanes
ZERO = np.float32(0)


@kernel
def start_from_bias(weights, bias, arena, target, channels, frames):
    """Set output frames to the bias, or to zero."""
    y = arena[target : target + frames * channels]
    if bias < 0:
        for k in range(y.size):
            y[k] = ZERO
        return
    values = weights[bias : bias + channels]
    for t in range(frames):
        for o in range(channels):
            y[t * channels + o] = values[o]


@kernel
def conv_of_one_channel(weights, arena, scratch, row, source, step, target, c_out, frames):
    """Convolve one channel to a few: for each of them one chain over the taps, of all frames at once."""
    sums, y = scratch[:frames], arena[target : target + frames * c_out]
    for o in range(c_out):
        begin = weights[row[BIAS] + o] if row[BIAS] >= 0 else ZERO
        for t in range(frames):
            sums[t] = begin
        for tap in range(row[TAPS]):
            first, w = source + tap * row[DILATION], weights[row[KERNEL] + tap * c_out + o]
            x = arena[first : first + (frames - 1) * step + 1]
            if step == 1:
                for t in range(frames):
                    sums[t] = fma(x[t], w, sums[t])
            else:
                for t in range(frames):
                    sums[t] = fma(x[t * step], w, sums[t])
        for t in range(frames):
            y[t * c_out + o] = sums[t]


@kernel
def add_tap(y, x, w, inputs, outputs):
    """Add to a frame y the products of one tap: in each group, of so many of x's channels with so many outputs."""
    if inputs == 1 and outputs == 1:
        for o in range(y.size):
            y[o] = fma(x[o], w[o], y[o])
        return
    for o in range(y.size):
        group = (o // outputs) * inputs
        chain = ZERO
        for c in range(inputs):
            chain = fma(x[group + c], w[c * y.size + o], chain)
        y[o] += chain


@kernel
def conv_grouped(weights, arena, row, source, step, target, frames):
    """Convolve in groups: each group of output channels sees its own input channels."""
    c_in, c_out = row[C_IN], row[C_OUT]
    inputs, outputs = c_in // row[GROUPS], c_out // row[GROUPS]
    start_from_bias(weights, row[BIAS], arena, target, c_out, frames)
    for t in range(frames):
        y = arena[target + t * c_out : target + (t + 1) * c_out]
        for tap in range(row[TAPS]):
            first = source + t * step + tap * row[DILATION] * c_in
            place = row[KERNEL] + tap * inputs * c_out
            add_tap(y, arena[first : first + c_in], weights[place : place + inputs * c_out], inputs, outputs)


@kernel
def conv_transpose(weights, arena, scratch, row, zero, done, target, frames):
    """Convolve transposed: each output frame gathers the taps that fall on it, from the oldest input frame on.

    `zero`: where input frame 0 would begin in the arena.
    """
    c_in, c_out, stride, dilation = row[C_IN], row[C_OUT], row[UP], row[DILATION]
    span = (row[TAPS] - 1) * dilation + 1
    start_from_bias(weights, row[BIAS], arena, target, c_out, frames)
    for t in range(frames):
        y = target + t * c_out
        at = done + t + row[CROP]
        for n in range((at - span + stride) // stride, at // stride + 1):
            offset = at - n * stride
            if offset % dilation:
                continue
            kernel = row[KERNEL] + (offset // dilation) * c_in * c_out
            for o in range(c_out):
                scratch[o] = ZERO
            for c in range(c_in):
                x = arena[zero + n * c_in + c]
                for o in range(c_out):
                    scratch[o] += x * weights[kernel + c * c_out + o]
            for o in range(c_out):
                arena[y + o] += scratch[o]
