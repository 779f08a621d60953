"""The interpreter: pushes chunks of the signal through all nodes of a plan."""

import numpy as np

from streamcnn.compiler.kernel import kernel, part_of_caller
from streamcnn.compiler.kernels.attention import attention
from streamcnn.compiler.kernels.functions import apply
from streamcnn.compiler.kernels.join import concatenate, merge
from streamcnn.compiler.kernels.linear import (
    FEW_CHANNELS,
    conv_grouped,
    conv_of_one_channel,
    conv_transpose,
)  # fmt: skip
from streamcnn.compiler.kernels.plane import conv_2d, conv_2d_grouped, pooling_2d
from streamcnn.compiler.kernels.pointwise import affine, glu, normalize, prelu, select
from streamcnn.compiler.kernels.recurrent import recurrent
from streamcnn.compiler.kernels.spectral import polar, preemphasis, spectrum
from streamcnn.compiler.kernels.tiles import address, product
from streamcnn.compiler.kernels.window import copy, pooling
from streamcnn.compiler.tables import (
    ADVANCE,
    AFFINE,
    ARGUMENTS,
    ATTENTION,
    BASE,
    BIAS,
    C_IN,
    C_OUT,
    CAPACITY,
    CHANNELS,
    CONCATENATE,
    CONV,
    CONV_2D,
    CONV_TRANSPOSE,
    COPY,
    COUNT,
    DILATION,
    DOWN,
    FORGET,
    FRAME_END,
    FRAME_FIRST,
    FROM,
    FUNCTION,
    FUNCTION_ONLY,
    GLU,
    GROUPS,
    HISTORY,
    INPUTS,
    KERNEL,
    KIND,
    LINE_IN,
    LINE_OUT,
    LINKS,
    MERGE,
    NEWEST,
    NODE,
    NORMALIZE,
    OFFSET,
    OLDEST,
    OP,
    POLAR,
    POOLING,
    POOLING_2D,
    PREEMPHASIS,
    PRELU,
    ROWS,
    RULE_TAIL,
    SELECT,
    SPECTRUM,
    TAIL,
    TAKE,
    TAPS,
    TO,
    UP,
    WIDTH,
)  # fmt: skip

PIECE = 256  # frames of a window that are computed at a time
FAILED = -1  # a line was too short: a bug in the plan, reported instead of written over its neighbour


@kernel
def make_room(lines, counters, arena, line, frames):
    """Make sure that `frames` more frames fit behind the newest one; return the arena index of the first of them."""
    offset, channels = lines[line, OFFSET], lines[line, CHANNELS]
    count, base = counters[line, COUNT], counters[line, BASE]
    if count + frames - base > lines[line, CAPACITY]:
        keep = count - lines[line, HISTORY]
        if count + frames - keep > lines[line, CAPACITY]:
            return FAILED
        start, size = offset + (keep - base) * channels, lines[line, HISTORY] * channels
        for k in range(size):
            arena[offset + k] = arena[start + k]
        base = keep
        counters[line, BASE] = base
    return offset + (count - base) * channels


@kernel
def end_line(lines, counters, arena, line):
    """Put the zeros behind a line's last frame that its readers see there once the signal has ended."""
    start = make_room(lines, counters, arena, line, lines[line, TAIL])
    if start < 0:
        return False
    for k in range(lines[line, TAIL] * lines[line, CHANNELS]):
        arena[start + k] = np.float32(0)
    return True


@part_of_caller
def compute(row, links, lines, weights, counters, arena, scratch, wide, done, frames, available, target):
    """Compute the output frames of one node from number `done` on, and write them to the arena at `target`.

    `available`: the frames of its input that there are, or will ever be: what lies beyond are zeros, or nothing.
    """
    line = row[LINE_IN]
    c_in, c_out, op = row[C_IN], row[C_OUT], row[OP]
    zero = lines[line, OFFSET] - counters[line, BASE] * c_in
    source = zero + ((done * row[DOWN] + row[OLDEST]) // row[UP]) * c_in
    if op == CONV:
        rows = row[ROWS]
        if row[GROUPS] > 1:
            conv_grouped(weights, arena, row, source, row[DOWN] * c_in, target, frames)
        elif c_in == rows and c_out // rows <= FEW_CHANNELS:
            conv_of_one_channel(weights, arena, scratch, row, source, row[DOWN], target, c_out // rows, frames * rows)
        else:
            step = row[DOWN] * c_in // rows
            product(
                address(weights, row[KERNEL]), address(weights, row[BIAS]), 0, address(arena, source), step,
                row[DILATION] * (c_in // rows), c_in // rows, row[TAPS], address(arena, target), c_out // rows, frames * rows,
            )  # fmt: skip
    elif op == CONV_TRANSPOSE:
        conv_transpose(weights, arena, scratch, row, zero, done, target, frames)
    elif op == CONV_2D:
        if row[GROUPS] > 1:
            conv_2d_grouped(weights, arena, row, source, target, frames)
        else:
            conv_2d(weights, arena, scratch, row, source, target, frames)
    elif op == FUNCTION_ONLY:
        for k in range(frames * c_out):
            arena[target + k] = arena[source + k]
    elif op == GLU:
        glu(arena, row, source, target, frames)
    elif op == PRELU:
        prelu(weights, arena, row, source, target, frames)
    elif op == AFFINE:
        affine(weights, arena, row, source, target, frames)
    elif op == NORMALIZE:
        normalize(weights, arena, row, source, target, frames * c_out)
    elif op == SPECTRUM:
        spectrum(weights, links, arena, wide, row, zero, done, available, target, frames)
    elif op == POLAR:
        polar(arena, row, source, target, frames * c_out)
    elif op == PREEMPHASIS:
        preemphasis(weights, arena, row, zero, done, available, target, frames)
    elif op == SELECT:
        select(links, arena, row, source, target, frames)
    elif op == POOLING:
        pooling(arena, wide, row, zero, done, available, target, frames)
    elif op == POOLING_2D:
        pooling_2d(arena, wide, row, zero, done, available, target, frames)
    elif op == COPY:
        copy(arena, row, zero, done, target, frames)
    elif op == MERGE:
        merge(links, lines, counters, arena, row, done, target, frames)
    elif op == CONCATENATE:
        concatenate(links, lines, counters, arena, row, done, target, frames)
    elif op == ATTENTION:
        attention(weights, links, lines, counters, arena, scratch, row, done, target, frames)
    else:
        recurrent(weights, arena, scratch, row, source, target, frames)
    if op == CONV or op == CONV_TRANSPOSE or op == CONV_2D or op == FUNCTION_ONLY:
        apply(row[FUNCTION], weights, row[ARGUMENTS], arena, scratch, target, frames * c_out, row[WIDTH])


@part_of_caller
def run_node(row, links, lines, weights, counters, arena, scratch, wide, ending):
    """Compute every output frame of one node that its inputs suffice for, or, at the end, all that there are."""
    line, out = row[LINE_IN], row[LINE_OUT]
    available = counters[line, COUNT]
    for k in range(1, row[INPUTS]):
        available = min(available, counters[links[row[LINKS] + k], COUNT])
    done = counters[out, COUNT]
    if ending:
        ready = (available * row[UP] + row[RULE_TAIL]) // row[DOWN]
    else:
        ready = -((row[NEWEST] - available * row[UP]) // row[DOWN])
    frames = ready - done
    if frames <= 0:
        return True
    # At the end the zeros behind the last frame need room too. It must be made now: once these frames are in the line, its
    # readers have not caught up, and moving the history would lose what they still need.
    target = make_room(lines, counters, arena, out, frames + (lines[out, TAIL] if ending else 0))
    if target < 0:
        return False
    compute(row, links, lines, weights, counters, arena, scratch, wide, done, frames, available, target)
    counters[out, COUNT] = ready
    return True


@part_of_caller
def run_window(steps, rows, links, lines, weights, counters, arena, scratch, wide, window):
    """Make the lines of one window of a clip net: take what it shares with the stream, and compute the rest."""
    for k in range(steps.shape[0]):
        step = steps[k]
        first, end, to = step[FRAME_FIRST], step[FRAME_END], step[TO]
        if step[KIND] == FORGET:
            for i in range(first, end):
                arena[i] = np.float32(0)
            continue
        width = lines[to, CHANNELS]
        target = lines[to, OFFSET] + (first - counters[to, BASE]) * width
        if step[KIND] == TAKE:
            line = step[FROM]
            source = lines[line, OFFSET] + (first + window * step[ADVANCE] - counters[line, BASE]) * width
            for i in range((end - first) * width):
                arena[target + i] = arena[source + i]
            continue
        row = rows[step[NODE]]
        available = counters[row[LINE_IN], COUNT]
        for done in range(first, end, PIECE):
            frames = min(PIECE, end - done)
            compute(row, links, lines, weights, counters, arena, scratch, wide, done, frames, available, target)
            target += frames * width


@part_of_caller
def run_nodes(nodes, links, lines, weights, counters, arena, scratch, wide, ending, out, written):
    """Run all nodes, copy the output frames that became known to `out` from `written` on; return how many are there."""
    last = lines.shape[0] - 1
    before, width = counters[last, COUNT], lines[last, CHANNELS]
    if ending and not end_line(lines, counters, arena, 0):
        return FAILED
    for k in range(nodes.shape[0]):
        if not run_node(nodes[k], links, lines, weights, counters, arena, scratch, wide, ending):
            return FAILED
        if ending and not end_line(lines, counters, arena, nodes[k, LINE_OUT]):
            return FAILED
    fresh = counters[last, COUNT] - before
    start = lines[last, OFFSET] + (before - counters[last, BASE]) * width
    for t in range(fresh):
        for c in range(width):
            out[written + t, c] = arena[start + t * width + c]
    return written + fresh


@part_of_caller
def run_windows(steps, rows, links, lines, weights, counters, arena, scratch, wide, length, hop, out, written):
    """Make every window of a clip net whose last frame has come; return how many outputs there are."""
    last = lines.shape[0] - 1
    while counters[last, COUNT] * hop + length <= counters[0, COUNT]:
        run_window(steps, rows, links, lines, weights, counters, arena, scratch, wide, counters[last, COUNT])
        start = lines[last, OFFSET] - counters[last, BASE] * lines[last, CHANNELS]
        for k in range(out.shape[1]):
            out[written, k] = arena[start + k]
        counters[last, COUNT] += 1
        written += 1
    return written


def process(
    nodes,
    links,
    lines,
    weights,
    counters,
    arena,
    scratch,
    wide,
    steps,
    rows,
    length,
    hop,
    scale,
    block,
    chunk,
    ending,
    out,
):
    """Push a block of frames (n, channels), times `scale`, through all nodes, `chunk` at a time; then, if `ending`, the end.

    Of a clip net `nodes` are those whose work its windows of `length` frames share, and each window, `hop` frames after the
    one before it, takes the `steps` on its own `rows`; `length` is 0 for any other net.

    Writes the output frames that became known into `out` (at least that many, outputs) and returns their number, FAILED
    where a line was too short for them.
    """
    channels, written, size = lines[0, CHANNELS], 0, block.shape[0]
    # One pass more where the signal ends. Its flag is computed: a literal True or False would be a type of its own for
    # Numba, and have all kernels compiled a second time.
    for begin in range(0, size + (chunk if ending else 0), chunk):
        frames = max(0, min(chunk, size - begin))
        target = make_room(lines, counters, arena, 0, frames)
        if target < 0:
            return FAILED
        for t in range(frames):
            for c in range(channels):
                arena[target + t * channels + c] = block[begin + t, c] * scale
        counters[0, COUNT] += frames
        last_pass = ending and begin >= size
        written = run_nodes(nodes, links, lines, weights, counters, arena, scratch, wide, last_pass, out, written)
        if written < 0:
            return FAILED
        if length > 0:
            written = run_windows(
                steps, rows, links, lines, weights, counters, arena, scratch, wide, length, hop, out, written
            )
    return written
