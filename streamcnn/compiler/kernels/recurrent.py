"""Recurrent layers, frame by frame. The state h, and the LSTM's c behind it, lie in the arena at STATE.

Gates are in Keras' order. What comes of the inputs is a product of several frames at once, what comes of the state one of a
single frame; both begin with their bias. Gates are functions of whole runs of values, in the scratch.
"""

import numpy as np

from streamcnn.compiler.kernel import at, kernel, part_of_caller, up_to
from streamcnn.compiler.kernels.functions import apply
from streamcnn.compiler.kernels.tiles import MANY, address, product
from streamcnn.compiler.tables import (
    ARGUMENTS,
    BIAS,
    C_IN,
    C_OUT,
    CANDIDATE,
    FUNCTION,
    GATE,
    GATE_ARGUMENTS,
    GRU_AFTER,
    GRU_BEFORE,
    KERNEL,
    LSTM,
    OP,
    RECURRENT,
    RECURRENT_BIAS,
    STATE,
)  # fmt: skip

ONE = np.float32(1)


@kernel
def add(array, y, x, size):
    """Add a run of values to another one."""
    y, x = at(y), at(x)
    for k in up_to(size):
        array[y + k] += array[x + k]


@part_of_caller
def act(weights, row, scratch, place, size):
    """Apply the layer's activation to a run of values."""
    apply(row[FUNCTION], weights, row[ARGUMENTS], scratch, scratch, place, size, row[C_OUT])


@part_of_caller
def gate(weights, row, scratch, place, size):
    """Apply the gates' activation to a run of values."""
    apply(row[GATE], weights, row[GATE_ARGUMENTS], scratch, scratch, place, size, row[C_OUT])


@kernel
def recurrent(weights, arena, scratch, row, source, target, frames):
    """Run a recurrent layer over frames."""
    units, op, c_in, state = row[C_OUT], row[OP], row[C_IN], row[STATE]
    gates = 4 if op == LSTM else 3 if op == GRU_AFTER or op == GRU_BEFORE else 1
    width = gates * units
    h, to = at(state), at(target)
    rec = MANY * width  # in the scratch: what comes of the inputs of MANY frames, what comes of the state, and more
    for t in range(frames):
        if t % MANY == 0:
            product(
                address(weights, row[KERNEL]), address(weights, row[BIAS]), 0, address(arena, source + t * c_in), c_in,
                0, c_in, 1, address(scratch, 0), width, min(MANY, frames - t),
            )  # fmt: skip
        own, wide = t % MANY * width, 2 * units if op == GRU_BEFORE else width
        product(
            address(weights, row[RECURRENT]), address(weights, row[RECURRENT_BIAS]), 0, address(arena, state), 0, 0, units, 1,
            address(scratch, rec), wide, 1,
        )  # fmt: skip
        if op == LSTM:
            lstm(weights, arena, scratch, row, units, own, rec)
        elif op == GRU_AFTER or op == GRU_BEFORE:
            gru(weights, arena, scratch, row, units, own, rec)
        else:
            add(scratch, own, rec, units)
            act(weights, row, scratch, own, units)
            place = at(own)
            for k in up_to(units):
                arena[h + k] = scratch[place + k]
        for k in up_to(units):
            arena[to + k] = arena[h + k]
        to = at(target + (t + 1) * units)


@part_of_caller
def lstm(weights, arena, scratch, row, units, own, rec):
    """Move an LSTM's state by one frame."""
    add(scratch, own, rec, 4 * units)
    gate(weights, row, scratch, own, 2 * units)
    act(weights, row, scratch, own + 2 * units, units)
    gate(weights, row, scratch, own + 3 * units, units)
    h, c, cell = at(row[STATE]), at(row[STATE] + units), at(rec)
    i, f, candidate, o = at(own), at(own + units), at(own + 2 * units), at(own + 3 * units)
    for k in up_to(units):
        arena[c + k] = scratch[f + k] * arena[c + k] + scratch[i + k] * scratch[candidate + k]
        scratch[cell + k] = arena[c + k]
    act(weights, row, scratch, rec, units)
    for k in up_to(units):
        arena[h + k] = scratch[o + k] * scratch[cell + k]


@part_of_caller
def gru(weights, arena, scratch, row, units, own, rec):
    """Move a GRU's state by one frame; the reset gate works on the product with the state, or on the state before it.

    The reset state takes the place behind h, which only an LSTM needs otherwise.
    """
    add(scratch, own, rec, 2 * units)
    gate(weights, row, scratch, own, 2 * units)
    h, z, r, candidate, product_ = at(row[STATE]), at(own), at(own + units), at(own + 2 * units), at(rec + 2 * units)
    if row[OP] == GRU_BEFORE:
        kept = at(row[STATE] + units)
        for k in up_to(units):
            arena[kept + k] = scratch[r + k] * arena[h + k]
            scratch[r + k] = ONE
        product(
            address(weights, row[CANDIDATE]), address(weights, row[RECURRENT_BIAS]), 0, address(arena, row[STATE] + units),
            0, 0, units, 1, address(scratch, rec + 2 * units), units, 1,
        )  # fmt: skip
    for k in up_to(units):
        scratch[candidate + k] += scratch[r + k] * scratch[product_ + k]
    act(weights, row, scratch, own + 2 * units, units)
    for k in up_to(units):
        arena[h + k] = scratch[z + k] * arena[h + k] + (ONE - scratch[z + k]) * scratch[candidate + k]
