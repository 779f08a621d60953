"""The interpreter: pushes chunks of the signal through all nodes of a plan."""

import numpy as np
from numba import njit

from streamcnn.compiler.kernels.functions import apply
from streamcnn.compiler.kernels.join import concatenate, merge
from streamcnn.compiler.kernels.linear import (
    FEW_CHANNELS,
    conv_channels_as_lanes,
    conv_frames_as_lanes,
    conv_grouped,
    conv_transpose,
)  # fmt: skip
from streamcnn.compiler.kernels.pointwise import affine, glu, normalize, prelu, select
from streamcnn.compiler.kernels.recurrent import recurrent
from streamcnn.compiler.kernels.window import copy, pooling
from streamcnn.compiler.tables import (
    AFFINE,
    ARGUMENTS,
    BASE,
    C_IN,
    C_OUT,
    CAPACITY,
    CHANNELS,
    CONCATENATE,
    CONV,
    CONV_TRANSPOSE,
    COPY,
    COUNT,
    DOWN,
    FUNCTION,
    FUNCTION_ONLY,
    GLU,
    GROUPS,
    HISTORY,
    INPUTS,
    LINE_IN,
    LINE_OUT,
    LINKS,
    MERGE,
    NEWEST,
    NORMALIZE,
    OFFSET,
    OLDEST,
    OP,
    POOLING,
    PRELU,
    ROWS,
    RULE_TAIL,
    SELECT,
    TAIL,
    UP,
    WIDTH,
)  # fmt: skip

FAILED = -1  # a line was too short: a bug in the plan, reported instead of written over its neighbour


@njit(nogil=True)
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


@njit(nogil=True)
def end_line(lines, counters, arena, line):
    """Put the zeros behind a line's last frame that its readers see there once the signal has ended."""
    start = make_room(lines, counters, arena, line, lines[line, TAIL])
    if start < 0:
        return False
    for k in range(lines[line, TAIL] * lines[line, CHANNELS]):
        arena[start + k] = np.float32(0)
    return True


@njit(nogil=True)
def run_node(row, links, lines, weights, counters, arena, scratch, ending):
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
    c_in, c_out, op = row[C_IN], row[C_OUT], row[OP]
    zero = lines[line, OFFSET] - counters[line, BASE] * c_in
    source = zero + ((done * row[DOWN] + row[OLDEST]) // row[UP]) * c_in
    if op == CONV:
        rows = row[ROWS]
        if row[GROUPS] > 1:
            conv_grouped(weights, arena, row, source, row[DOWN] * c_in, target, frames)
        elif c_out // rows <= FEW_CHANNELS:
            step = row[DOWN] * c_in // rows
            conv_frames_as_lanes(
                weights, arena, scratch, row, source, c_in // rows, step, target, c_out // rows, frames * rows
            )
        else:
            step = row[DOWN] * c_in // rows
            conv_channels_as_lanes(
                weights, arena, scratch, row, source, c_in // rows, step, target, c_out // rows, frames * rows
            )
    elif op == CONV_TRANSPOSE:
        conv_transpose(weights, arena, scratch, row, zero, done, target, frames)
    elif op == FUNCTION_ONLY:
        apply(row[FUNCTION], weights, row[ARGUMENTS], arena, scratch, source, target, frames * c_out, row[WIDTH])
    elif op == GLU:
        glu(arena, row, source, target, frames)
    elif op == PRELU:
        prelu(weights, arena, row, source, target, frames)
    elif op == AFFINE:
        affine(weights, arena, row, source, target, frames)
    elif op == NORMALIZE:
        normalize(weights, arena, row, source, target, frames * c_out)
    elif op == SELECT:
        select(links, arena, row, source, target, frames)
    elif op == POOLING:
        pooling(arena, row, zero, done, available, target, frames)
    elif op == COPY:
        copy(arena, row, zero, done, target, frames)
    elif op == MERGE:
        merge(links, lines, counters, arena, row, done, target, frames)
    elif op == CONCATENATE:
        concatenate(links, lines, counters, arena, row, done, target, frames)
    else:
        recurrent(weights, arena, scratch, row, source, target, frames)
    if op == CONV or op == CONV_TRANSPOSE:
        apply(row[FUNCTION], weights, row[ARGUMENTS], arena, scratch, target, target, frames * c_out, row[WIDTH])
    counters[out, COUNT] = ready
    return True


@njit(nogil=True)
def run_nodes(nodes, links, lines, weights, counters, arena, scratch, ending, out, written):
    """Run all nodes, copy the output frames that became known to `out` from `written` on; return how many are there."""
    last = lines.shape[0] - 1
    before, width = counters[last, COUNT], lines[last, CHANNELS]
    if ending and not end_line(lines, counters, arena, 0):
        return FAILED
    for k in range(nodes.shape[0]):
        if not run_node(nodes[k], links, lines, weights, counters, arena, scratch, ending):
            return FAILED
        if ending and not end_line(lines, counters, arena, nodes[k, LINE_OUT]):
            return FAILED
    fresh = counters[last, COUNT] - before
    start = lines[last, OFFSET] + (before - counters[last, BASE]) * width
    for t in range(fresh):
        for c in range(width):
            out[written + t, c] = arena[start + t * width + c]
    return written + fresh


def process(nodes, links, lines, weights, counters, arena, scratch, scale, block, chunk, ending, out):
    """Push a block of frames (n, channels), times `scale`, through all nodes, `chunk` at a time; then, if `ending`, the end.

    Writes the output frames that became known into `out` (at least that many, outputs) and returns their number, FAILED
    where a line was too short for them.
    """
    channels, written, length = lines[0, CHANNELS], 0, block.shape[0]
    # One pass more where the signal ends. Its flag is computed: a literal True or False would be a type of its own for
    # Numba, and have all kernels compiled a second time.
    for begin in range(0, length + (chunk if ending else 0), chunk):
        frames = max(0, min(chunk, length - begin))
        target = make_room(lines, counters, arena, 0, frames)
        if target < 0:
            return FAILED
        for t in range(frames):
            for c in range(channels):
                arena[target + t * channels + c] = block[begin + t, c] * scale
        counters[0, COUNT] += frames
        last_pass = ending and begin >= length
        written = run_nodes(nodes, links, lines, weights, counters, arena, scratch, last_pass, out, written)
        if written < 0:
            return FAILED
    return written
