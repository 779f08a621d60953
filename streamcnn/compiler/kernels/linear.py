"""Convolutions and dense products: which tiles of `tiles` they are made of."""

from streamcnn.compiler.build import operation
from streamcnn.compiler.kernel import call, integers, kernel
from streamcnn.compiler.kernels.tiles import BYTES, LANES, depthwise_rows, planar_product, product
from streamcnn.compiler.tables import (
    BIAS,
    BOUNDS,
    C_IN,
    C_OUT,
    CHANNEL_STEP,
    CROP,
    DILATION,
    DOWN,
    GROUPS,
    KERNEL,
    LINE_IN,
    LINE_OUT,
    NUMBERS,
    PHASES,
    PRODUCT,
    ROWS,
    TAPS,
    UP,
    WEIGHTS,
)  # fmt: skip

PHASE_COLUMNS = 3  # of the table of a transposed convolution: taps, first input frame, weights


@kernel
def place(row, column):
    """Return the address of the weights that a column names."""
    return row[WEIGHTS] + 4 * row[column]


@operation
def conv(node, done, frames, available, zero, source, target):
    """Convolve, or multiply each of a frame's ROWS with the same weights."""
    row = integers(node)
    rows = row[ROWS]
    step, outputs = 4 * (row[C_IN] // rows), row[C_OUT] // rows
    product(
        place(row, KERNEL), place(row, BIAS), 0, place(row, BOUNDS), source, row[DOWN] * step, row[DILATION] * step, 4,
        row[C_IN] // rows, row[TAPS], target, 4 * outputs, outputs, frames * rows,
    )  # fmt: skip


@operation
def conv_planar(node, done, frames, available, zero, source, target):
    """Convolve where the frames of a channel lie side by side."""
    row = integers(node)
    planar_product(
        place(row, KERNEL), place(row, BIAS), place(row, BOUNDS), source, 4 * row[DILATION],
        integers(row[LINE_IN])[CHANNEL_STEP], row[C_IN], row[TAPS], target, integers(row[LINE_OUT])[CHANNEL_STEP],
        row[C_OUT], frames,
    )  # fmt: skip


@operation
def conv_depthwise(node, done, frames, available, zero, source, target):
    """Convolve each channel by itself."""
    row = integers(node)
    step, size = 4 * row[C_IN], 4 * LANES * row[TAPS]
    for c in range(0, row[C_IN], LANES):
        vector = c // LANES
        depthwise_rows(
            source + 4 * c, row[DOWN] * step, row[DILATION] * step, place(row, KERNEL) + vector * size, row[TAPS],
            place(row, BIAS) + vector * BYTES, place(row, BOUNDS), target + 4 * c, step, min(LANES, row[C_IN] - c), frames,
        )  # fmt: skip


@operation
def conv_grouped(node, done, frames, available, zero, source, target):
    """Convolve in groups: each group of output channels sees its own input channels."""
    row = integers(node)
    inputs, outputs = row[C_IN] // row[GROUPS], row[C_OUT] // row[GROUPS]
    step, vectors = 4 * row[C_IN], -(-outputs // LANES)
    for g in range(row[GROUPS]):
        call(row[PRODUCT], (
            place(row, KERNEL) + g * vectors * row[TAPS] * inputs * BYTES, place(row, BIAS) + g * vectors * BYTES, 0,
            place(row, BOUNDS), source + 4 * g * inputs, row[DOWN] * step, row[DILATION] * step, 4, inputs, row[TAPS],
            target + 4 * g * outputs, 4 * row[C_OUT], outputs, frames,
        ))  # fmt: skip


@operation
def conv_transpose(node, done, frames, available, zero, source, target):
    """Convolve transposed: the output frames of each phase of the stride are a convolution with some of the taps."""
    row = integers(node)
    c_in, c_out, stride = row[C_IN], row[C_OUT], row[UP]
    phases = integers(row[NUMBERS] + 8 * row[PHASES])
    for skipped in range(min(stride, frames)):
        at = done + skipped + row[CROP]
        phase = at % stride * PHASE_COLUMNS
        call(row[PRODUCT], (
            row[WEIGHTS] + 4 * phases[phase + 2], place(row, BIAS), 0, place(row, BOUNDS),
            zero + 4 * c_in * (at // stride + phases[phase + 1]), 4 * c_in, 4 * c_in * row[DILATION], 4, c_in, phases[phase],
            target + 4 * skipped * c_out, 4 * stride * c_out, c_out, (frames - skipped - 1) // stride + 1,
        ))  # fmt: skip
