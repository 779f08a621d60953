"""Convolutions and dense products: which tiles of `tiles` they are made of."""

from collections.abc import Callable

from streamcnn.compiler.build import operation, operation_of_one
from streamcnn.compiler.kernel import call, inlined, integers
from streamcnn.compiler.kernels.tiles import (
    HALF,
    depthwise_rows,
    one_of_half,
    one_of_half_by_tap,
    one_of_one,
    one_of_one_by_tap,
    one_of_two,
    one_row,
    planar_product,
    rows,
)  # fmt: skip
from streamcnn.compiler.tables import (
    ADDED,
    BIAS,
    BOUNDS,
    C_IN,
    C_OUT,
    CHAIN,
    CHANNEL_STEP,
    CHANNEL_STEP_IN,
    CROP,
    DILATION,
    DOWN,
    FRAME_STEP,
    GROUPS,
    KERNEL,
    LINE_IN,
    LINE_OUT,
    NOTHING_ADDED,
    NUMBERS,
    ORIGIN,
    OUTPUTS,
    PHASES,
    PRODUCT,
    ROW_STEP,
    ROWS,
    TAP_STEP,
    TAPS,
    TILE_CHANNELS,
    TILE_TAPS,
    UP,
    WEIGHTS,
)  # fmt: skip
from streamcnn.compiler.vector import BYTES, LANES

PHASE_COLUMNS = 3  # of the table of a transposed convolution: taps, first input frame, weights


@inlined
def place(row, column):
    """Return the address of the weights that a column names."""
    return row[WEIGHTS] + 4 * row[column]


@inlined
def added_to(row, done):
    """Return the address of what is added to the product from output frame `done` on: of the line ADDED, or nothing."""
    if row[ADDED]:
        line = integers(row[ADDED])
        return line[ORIGIN] + done * line[FRAME_STEP]
    return place(row, NOTHING_ADDED)


@inlined
def steps_of(row):
    """Return the steps of a convolution's tiles."""
    channels, taps, step = row[TILE_CHANNELS], row[TILE_TAPS], 4 * row[OUTPUTS]
    added_step, added_vector = (step, BYTES) if row[ADDED] else (0, 0)
    return (
        row[ROW_STEP], row[TAP_STEP], row[CHANNEL_STEP_IN], BYTES * taps * channels, BYTES * channels, BYTES, 0, added_step,
        added_vector, step, channels, taps, place(row, BOUNDS), row[CHAIN],
    )  # fmt: skip


@operation
def conv(node, done, frames, available, zero, source, target):
    """Convolve, or multiply each of a frame's ROWS with the same weights; then add the frames of the line ADDED, if any."""
    row = integers(node)
    rows(
        source, place(row, KERNEL), place(row, BIAS), added_to(row, done), target, row[OUTPUTS], frames * row[ROWS],
        steps_of(row),
    )  # fmt: skip


# A single frame of few channels takes less time than to choose among tiles does, and than what LLVM computes in advance for all
# that might be chosen: so these choices are made in the table. (Written out: what a factory makes Numba cannot find again
# in its cache, because the tile in its closure is another object in each process.)
@inlined
def one_tile(tile, node, source, target, added, vectors):
    """Make a frame that is one tile."""
    row = integers(node)
    count = row[OUTPUTS] - (vectors - 1) * LANES
    tile(source, place(row, KERNEL), place(row, BIAS), added, target, count, steps_of(row))


@operation_of_one
def conv_one_half(node, source, target, added):
    """Convolve one frame to half a vector of channels at most."""
    one_tile(one_of_half, node, source, target, added, 1)


@operation_of_one
def conv_one_half_of_a_tap(node, source, target, added):
    """Multiply one frame for half a vector of channels at most."""
    one_tile(one_of_half_by_tap, node, source, target, added, 1)


@operation_of_one
def conv_one_vector_of_a_tap(node, source, target, added):
    """Multiply one frame for a vector of channels at most."""
    one_tile(one_of_one_by_tap, node, source, target, added, 1)


@operation_of_one
def conv_one_vector(node, source, target, added):
    """Convolve one frame to a vector of channels at most."""
    one_tile(one_of_one, node, source, target, added, 1)


@operation_of_one
def conv_one_pair(node, source, target, added):
    """Convolve one frame to two vectors of channels at most."""
    one_tile(one_of_two, node, source, target, added, 2)


@operation_of_one
def conv_one(node, source, target, added):
    """Convolve one frame to any number of channels."""
    row = integers(node)
    one_row(source, place(row, KERNEL), place(row, BIAS), added, target, row[OUTPUTS], steps_of(row))


def conv_of_one(outputs: int, taps: int) -> Callable[[], int]:
    """Return what makes the machine code for one frame of so many channels, of so many taps as tiles see them."""
    if outputs <= HALF:
        return conv_one_half if taps > 1 else conv_one_half_of_a_tap
    if outputs <= LANES:
        return conv_one_vector if taps > 1 else conv_one_vector_of_a_tap
    return conv_one_pair if outputs <= 2 * LANES else conv_one


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
            place(row, BIAS) + vector * BYTES, place(row, BOUNDS), place(row, NOTHING_ADDED), target + 4 * c, step,
            min(LANES, row[C_IN] - c), frames,
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
            place(row, BOUNDS), place(row, NOTHING_ADDED), source + 4 * g * inputs, row[DOWN] * step, row[DILATION] * step, 4,
            inputs, row[TAPS], target + 4 * g * outputs, 4 * row[C_OUT], outputs, frames,
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
            place(row, NOTHING_ADDED), zero + 4 * c_in * (at // stride + phases[phase + 1]), 4 * c_in,
            4 * c_in * row[DILATION], 4, c_in, phases[phase], target + 4 * skipped * c_out, 4 * stride * c_out, c_out,
            (frames - skipped - 1) // stride + 1,
        ))  # fmt: skip
