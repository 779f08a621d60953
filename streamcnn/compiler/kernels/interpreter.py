"""The interpreter: pushes chunks of the signal through all nodes of a program.

Theory. Making room in a line moves its history to the front, which for a history of thousands of frames would take longer
than the block that is being processed, now and then. So a line with more history than a block has frames is mirrored: what
is written behind SHIFT is written once more, SHIFT frames before it. When the end is reached the history stands at the
front already, and the line only moves its origin. A block then never costs more than one more copy of its own frames. (A
ring that is mapped twice, one after the other, would save that copy, but needs whole pages for each line, and an operating
system that does it.)
"""

import numpy as np

from streamcnn.compiler.kernel import address_of, call, floats, inlined, integers, kernel
from streamcnn.compiler.kernels.linear import added_to, place
from streamcnn.compiler.kernels.runs import move
from streamcnn.compiler.tables import (
    ACTIVATE,
    ADDED,
    ADVANCE,
    ARENA_AT,
    ARENA_SIZE,
    ARGUMENTS,
    C_OUT,
    CAPACITY,
    CHANNEL_STEP,
    CHANNELS,
    CHUNK_FRAMES,
    CLIP_FRAMES,
    CLIP_HOP,
    COMPUTE,
    COMPUTE_ONE,
    COUNT,
    DOWN,
    FORGET,
    FRAME_END,
    FRAME_FIRST,
    FRAME_STEP,
    FROM,
    FUNCTION,
    GRID,
    HISTORY,
    IMAGE_AT,
    INPUTS,
    KIND,
    LIMIT,
    LINE_COLUMNS,
    LINE_IN,
    LINE_OUT,
    LINES,
    LINES_AT,
    LINES_COUNT,
    MIRRORED,
    NEWEST,
    NODE,
    NODE_COLUMNS,
    NODES_AT,
    NODES_COUNT,
    OLDEST,
    ORIGIN,
    ROWS_AT,
    RULE_TAIL,
    SCALE_AT,
    SCRATCH,
    SHIFT,
    START_AT,
    STEP_COLUMNS,
    STEPS_AT,
    STEPS_COUNT,
    TAIL,
    TAKE,
    TO,
    UP,
    WIDTH,
)  # fmt: skip
from streamcnn.compiler.vector import BYTES, LANES, load, store

PIECE = 256  # frames of a window that are computed at a time
FAILED = -1  # a line was too short: a bug in the plan, reported instead of written over its neighbour
VALUE = 4  # bytes of a float32
ZERO = np.float32(0)


@kernel
def move_frames(line, y, x, frames):
    """Copy frames from one address inside a line to another."""
    if line[CHANNEL_STEP] == VALUE:
        move(y, x, frames * line[CHANNELS])
        return
    for c in range(line[CHANNELS]):
        move(y + c * line[CHANNEL_STEP], x + c * line[CHANNEL_STEP], frames)


@inlined
def make_room(line, frames):
    """Make sure that `frames` more frames fit behind the newest one; return the address of the first of them, or FAILED."""
    count = line[COUNT]
    if count + frames > line[LIMIT]:
        shift, first = line[SHIFT], count - line[HISTORY]  # of the frames that must stay
        if first < mirrored_from(line) or count + frames > line[LIMIT] + shift:
            return FAILED
        if not line[MIRRORED]:
            source = line[ORIGIN] + first * line[FRAME_STEP]
            move_frames(line, source - shift * line[FRAME_STEP], source, line[HISTORY])
        line[ORIGIN] -= shift * line[FRAME_STEP]
        line[LIMIT] += shift
    return line[ORIGIN] + count * line[FRAME_STEP]


@inlined
def mirrored_from(line):
    """Return the first frame number that will still have a place when the line makes room."""
    return line[LIMIT] - line[CAPACITY] + line[SHIFT]


@inlined
def advance(line, frames):
    """Count the frames that have been written behind the newest one."""
    if line[MIRRORED]:
        first = max(line[COUNT], mirrored_from(line))
        again = line[COUNT] + frames - first
        if again > 0:
            source = line[ORIGIN] + first * line[FRAME_STEP]
            move_frames(line, source - line[SHIFT] * line[FRAME_STEP], source, again)
    line[COUNT] += frames


@kernel
def end_line(line):
    """Put the zeros behind a line's last frame that its readers see there once the signal has ended."""
    start = make_room(line, line[TAIL])
    if start == FAILED:
        return False
    for t in range(line[TAIL]):
        for c in range(line[CHANNELS]):
            floats(start + t * line[FRAME_STEP] + c * line[CHANNEL_STEP])[0] = ZERO
    return True


@inlined
def compute(row, line, out, done, frames, available, target):
    """Compute the output frames of one node from number `done` on, and write them to `target`.

    `available`: the frames of its input that there are, or will ever be: what lies beyond are zeros, or nothing.
    """
    first = done * row[DOWN] + row[OLDEST]
    if row[UP] > 1:
        first //= row[UP]
    source = line[ORIGIN] + first * line[FRAME_STEP]
    if frames == 1 and row[COMPUTE_ONE]:
        call(row[COMPUTE_ONE], (address_of(row), source, target, added_to(row, done)))
    else:
        call(row[COMPUTE], (address_of(row), done, frames, available, line[ORIGIN], source, target))
    if row[ACTIVATE]:
        step, size = out[CHANNEL_STEP], frames * row[C_OUT]
        if step == VALUE:
            activate(row, target, size)
        else:
            for c in range(row[C_OUT]):
                activate(row, target + c * step, frames)


@inlined
def activate(row, values, size):
    """Apply a node's activation to a run of values."""
    call(row[ACTIVATE], (row[FUNCTION], place(row, ARGUMENTS), values, size, row[WIDTH], row[SCRATCH]))


@inlined
def run_node(row, ending):
    """Compute every output frame of one node that its inputs suffice for, or, at the end, all that there are."""
    line, out = integers(row[LINE_IN]), integers(row[LINE_OUT])
    available = line[COUNT]
    for k in range(1, row[INPUTS]):
        available = min(available, integers(integers(row[LINES])[k])[COUNT])
    done = out[COUNT]
    if ending:
        ready = (available * row[UP] + row[RULE_TAIL]) // row[DOWN]
    elif row[DOWN] == 1 and row[GRID] == 1:
        ready = available * row[UP] - row[NEWEST]
    else:
        ready = -((row[NEWEST] - available // row[GRID] * row[GRID] * row[UP]) // row[DOWN])
    if row[ADDED]:
        ready = min(ready, integers(row[ADDED])[COUNT])
    frames = ready - done
    if frames <= 0:
        return True
    # At the end the zeros behind the last frame need room too. It must be made now: once these frames are in the line, its
    # readers have not caught up, and moving the history would lose what they still need.
    target = make_room(out, frames + (out[TAIL] if ending else 0))
    if target == FAILED:
        return False
    compute(row, line, out, done, frames, available, target)
    advance(out, frames)
    return True


@kernel
def run_window(program, window):
    """Make the lines of one window of a clip net: take what it shares with the stream, and compute the rest."""
    for k in range(program[STEPS_COUNT]):
        step = integers(program[STEPS_AT] + k * 8 * STEP_COLUMNS)
        first, end = step[FRAME_FIRST], step[FRAME_END]
        if step[KIND] == FORGET:
            state = floats(program[ARENA_AT])
            for i in range(first, end):
                state[i] = ZERO
            continue
        to = line_at(program, step[TO])
        target = to[ORIGIN] + first * to[FRAME_STEP]
        if step[KIND] == TAKE:
            line = line_at(program, step[FROM])
            source = line[ORIGIN] + (first + window * step[ADVANCE]) * line[FRAME_STEP]
            move(target, source, (end - first) * to[CHANNELS])
            continue
        row = integers(program[ROWS_AT] + step[NODE] * 8 * NODE_COLUMNS)
        line = integers(row[LINE_IN])
        for done in range(first, end, PIECE):
            compute(row, line, to, done, min(PIECE, end - done), line[COUNT], target)
            target += PIECE * to[FRAME_STEP]


@inlined
def line_at(program, number):
    """Return the line of that number."""
    return integers(program[LINES_AT] + number * 8 * LINE_COLUMNS)


@inlined
def run_nodes(program, ending, out):
    """Run all nodes, copy the output frames that became known to the address `out`; return their number."""
    last = line_at(program, program[LINES_COUNT] - 1)
    before, width = last[COUNT], last[CHANNELS]
    if ending and not end_line(line_at(program, 0)):
        return FAILED
    row, end = program[NODES_AT], program[NODES_AT] + program[NODES_COUNT] * 8 * NODE_COLUMNS
    while row < end:
        if not run_node(integers(row), ending):
            return FAILED
        if ending and not end_line(integers(integers(row)[LINE_OUT])):
            return FAILED
        row += 8 * NODE_COLUMNS
    fresh = last[COUNT] - before
    start = last[ORIGIN] + before * last[FRAME_STEP]
    values = floats(out)
    if fresh * width == 1:
        values[0] = floats(start)[0]
        return fresh
    if last[CHANNEL_STEP] == VALUE:
        move(out, start, fresh * width)
        return fresh
    for c in range(width):
        source = floats(start + c * last[CHANNEL_STEP])
        for t in range(fresh):
            values[t * width + c] = source[t]
    return fresh


@kernel
def run_windows(program, out):
    """Make every window of a clip net whose last frame has come; return how many outputs there are."""
    stream, last, made = line_at(program, 0), line_at(program, program[LINES_COUNT] - 1), 0
    width = last[CAPACITY] * last[CHANNELS]
    while last[COUNT] * program[CLIP_HOP] + program[CLIP_FRAMES] <= stream[COUNT]:
        run_window(program, last[COUNT])
        move(out + made * width * VALUE, last[ORIGIN], width)
        last[COUNT] += 1
        made += 1
    return made


@inlined
def take_in(line, block, frames, scale):
    """Put the frames of a block, times `scale`, into a line; tells whether there was room."""
    target, channels = make_room(line, frames), line[CHANNELS]
    if target == FAILED:
        return False
    size = frames * channels
    if size == 1:
        floats(target)[0] = floats(block)[0] * scale
    elif line[CHANNEL_STEP] == VALUE:
        whole = size - size % LANES  # beyond the block nothing may be read
        for k in range(0, VALUE * whole, BYTES):
            store(target + k, load(block + k) * scale)
        x, y = floats(block), floats(target)
        for k in range(whole, size):
            y[k] = x[k] * scale
    else:
        for c in range(channels):
            x, y = floats(block + c * VALUE), floats(target + c * line[CHANNEL_STEP])
            for t in range(frames):
                y[t] = x[t * channels] * scale
    advance(line, frames)
    return True


def process(program, block, frames, ending, out):
    """Push a block of `frames` at an address, channels last, through all nodes, chunk by chunk; then, if `ending`, the end.

    Of a clip net the program's nodes are those whose work its windows share, and each window takes its own steps.

    Writes the output frames that became known to the address `out` and returns their number, FAILED where a line was too
    short for them. The caller flushes denormals.
    """
    program = integers(program)
    stream, last = line_at(program, 0), line_at(program, program[LINES_COUNT] - 1)
    chunk, clip, scale = program[CHUNK_FRAMES], program[CLIP_FRAMES], floats(program[SCALE_AT])[0]
    written, begin, step = 0, 0, stream[CHANNELS] * VALUE
    width = (last[CAPACITY] if clip > 0 else 1) * last[CHANNELS] * VALUE
    # One pass more where the signal ends. Its flag is computed: a literal True or False would be a type of its own for
    # Numba, and have all kernels compiled a second time.
    while begin < frames or ending != 0:
        last_pass = begin >= frames
        now = max(0, min(chunk, frames - begin))
        if not take_in(stream, block + begin * step, now, scale):
            return FAILED
        target = out + written * width
        made = run_nodes(program, last_pass, target) if program[NODES_COUNT] > 0 else 0
        if clip > 0 and made != FAILED:
            made = run_windows(program, target)
        if made == FAILED:
            return FAILED
        written += made
        if last_pass:
            break
        begin += now
    return written


def reset(program):
    """Make everything as it was at the start."""
    program = integers(program)
    lines, start, arena = integers(program[LINES_AT]), integers(program[START_AT]), floats(program[ARENA_AT])
    for k in range(program[LINES_COUNT] * LINE_COLUMNS):
        lines[k] = start[k]
    if program[IMAGE_AT]:
        move(program[ARENA_AT], program[IMAGE_AT], program[ARENA_SIZE])
    else:
        for k in range(program[ARENA_SIZE]):
            arena[k] = ZERO
