"""Recurrent layers, frame by frame. The state h, and what else a cell keeps behind it, lie in the arena at STATE.

Gates are in Keras' order. What comes of the inputs is a product of several frames at once, what comes of the state one of a
single frame; both begin with their bias. Gates are functions of whole runs of values, in the scratch.
"""

import numpy as np

from streamcnn.compiler.build import operation
from streamcnn.compiler.kernel import call, floats, integers, kernel
from streamcnn.compiler.kernels.linear import place
from streamcnn.compiler.kernels.runs import add_two, move
from streamcnn.compiler.kernels.tiles import MANY
from streamcnn.compiler.tables import (
    ACTIVATE_GATE,
    ACTIVATE_STATE,
    ARGUMENTS,
    BIAS,
    BOUNDS,
    C_IN,
    C_OUT,
    CANDIDATE,
    FUNCTION,
    GATE,
    GATE_ARGUMENTS,
    GRU_BEFORE,
    KERNEL,
    NOTHING_ADDED,
    OP,
    PRODUCT,
    RECURRENT,
    RECURRENT_BIAS,
    SCRATCH,
    SPARE,
    STATE,
)  # fmt: skip

ONE = np.float32(1)


@kernel
def act(row, values, size):
    """Apply the layer's activation to a run of values."""
    if row[ACTIVATE_STATE]:
        call(
            row[ACTIVATE_STATE],
            (row[FUNCTION], place(row, ARGUMENTS), values, size, row[C_OUT], row[SCRATCH] + 4 * row[SPARE]),
        )


@kernel
def gate(row, values, size):
    """Apply the gates' activation to a run of values."""
    if row[ACTIVATE_GATE]:
        call(
            row[ACTIVATE_GATE],
            (row[GATE], place(row, GATE_ARGUMENTS), values, size, row[C_OUT], row[SCRATCH] + 4 * row[SPARE]),
        )


@kernel
def of_inputs(row, source, t, frames, values, width):
    """Return where what comes of the inputs of frame t is; that of MANY frames is made with the first of them."""
    if t % MANY == 0:
        step = 4 * row[C_IN]
        call(row[PRODUCT], (
            place(row, KERNEL), place(row, BIAS), 0, place(row, BOUNDS), place(row, NOTHING_ADDED), source + t * step, step,
            0, 4, row[C_IN], 1, values, 4 * width, width, min(MANY, frames - t),
        ))  # fmt: skip
    return values + 4 * (t % MANY) * width


@kernel
def of_state(row, column, bias, state, values, width):
    """Make what comes of the state, with the weights that the column names."""
    call(row[PRODUCT], (
        place(row, column), place(row, bias), 0, place(row, BOUNDS), place(row, NOTHING_ADDED), state, 0, 0, 4, row[C_OUT], 1,
        values, 4 * width, width,
        1,
    ))  # fmt: skip


@operation
def simple_rnn(node, done, frames, available, zero, source, target):
    """H = f(kernel x + recurrent h + bias)."""
    row = integers(node)
    units, state, values = row[C_OUT], row[STATE], row[SCRATCH]
    rec = values + 4 * MANY * units
    for t in range(frames):
        own = of_inputs(row, source, t, frames, values, units)
        of_state(row, RECURRENT, RECURRENT_BIAS, state, rec, units)
        add_two(own, own, rec, units)
        act(row, own, units)
        move(state, own, units)
        move(target + 4 * t * units, own, units)


@operation
def lstm(node, done, frames, available, zero, source, target):
    """C = f*c + i*g, h = o*act(c); gates in the order i, f, g, o."""
    row = integers(node)
    units, state, values = row[C_OUT], row[STATE], row[SCRATCH]
    rec, cell = values + 16 * MANY * units, floats(state + 4 * units)
    for t in range(frames):
        own = of_inputs(row, source, t, frames, values, 4 * units)
        of_state(row, RECURRENT, RECURRENT_BIAS, state, rec, 4 * units)
        add_two(own, own, rec, 4 * units)
        gate(row, own, 2 * units)
        act(row, own + 8 * units, units)
        gate(row, own + 12 * units, units)
        i, f, g, o = floats(own), floats(own + 4 * units), floats(own + 8 * units), floats(own + 12 * units)
        kept, h = floats(rec), floats(state)
        for k in range(units):
            cell[k] = f[k] * cell[k] + i[k] * g[k]
            kept[k] = cell[k]
        act(row, rec, units)
        for k in range(units):
            h[k] = o[k] * kept[k]
        move(target + 4 * t * units, state, units)


@operation
def gru(node, done, frames, available, zero, source, target):
    """H = z*h + (1 - z)*g; gates in the order z, r, g; the reset gate works on the product with the state, or on the state."""
    row = integers(node)
    units, state, values, before = row[C_OUT], row[STATE], row[SCRATCH], row[OP] == GRU_BEFORE
    rec, h, kept = values + 12 * MANY * units, floats(state), floats(state + 4 * units)
    for t in range(frames):
        own = of_inputs(row, source, t, frames, values, 3 * units)
        of_state(row, RECURRENT, RECURRENT_BIAS, state, rec, (2 if before else 3) * units)
        add_two(own, own, rec, 2 * units)
        gate(row, own, 2 * units)
        z, r, g, product = floats(own), floats(own + 4 * units), floats(own + 8 * units), floats(rec + 8 * units)
        if before:
            for k in range(units):
                kept[k] = r[k] * h[k]
                r[k] = ONE
            of_state(row, CANDIDATE, RECURRENT_BIAS, state + 4 * units, rec + 8 * units, units)
        for k in range(units):
            g[k] += r[k] * product[k]
        act(row, own + 8 * units, units)
        for k in range(units):
            h[k] = z[k] * h[k] + (ONE - z[k]) * g[k]
        move(target + 4 * t * units, state, units)
