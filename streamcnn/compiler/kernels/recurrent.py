"""Recurrent layers, frame by frame. The state h, and the LSTM's c behind it, lie in the arena at STATE.

Gates are in Keras' order. A product with a matrix is, for each gate's value, one chain over the inputs from 0; lanes are the
gates' values.
"""

import numpy as np

from streamcnn.compiler.kernel import kernel
from streamcnn.compiler.kernels.functions import value
from streamcnn.compiler.tables import (
    ARGUMENTS,
    BIAS,
    C_IN,
    C_OUT,
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

ZERO, ONE = np.float32(0), np.float32(1)


@kernel
def product(weights, kernel, stride, bias, arena, source, inputs, scratch, target, outputs):
    """Multiply `inputs` values with a matrix whose rows are `stride` apart, and add a bias."""
    for o in range(outputs):
        scratch[target + o] = ZERO
    for c in range(inputs):
        x = arena[source + c]
        for o in range(outputs):
            scratch[target + o] += x * weights[kernel + c * stride + o]
    if bias >= 0:
        for o in range(outputs):
            scratch[target + o] += weights[bias + o]


@kernel
def act(weights, row, x):
    """Apply the layer's activation."""
    a = row[ARGUMENTS]
    return value(row[FUNCTION], weights[a], weights[a + 1], weights[a + 2], x)


@kernel
def gate(weights, row, x):
    """Apply the gates' activation."""
    a = row[GATE_ARGUMENTS]
    return value(row[GATE], weights[a], weights[a + 1], weights[a + 2], x)


@kernel
def recurrent(weights, arena, scratch, row, source, target, frames):
    """Run a recurrent layer over frames."""
    units, op = row[C_OUT], row[OP]
    gates = 4 if op == LSTM else 3 if op == GRU_AFTER or op == GRU_BEFORE else 1
    width, h = gates * units, row[STATE]
    own, rec, spare = 0, width, 2 * width  # places in the scratch: from the input, from the state, and more
    for t in range(frames):
        product(weights, row[KERNEL], width, row[BIAS], arena, source + t * row[C_IN], row[C_IN], scratch, own, width)
        if op == GRU_BEFORE:
            product(weights, row[RECURRENT], width, -1, arena, h, units, scratch, rec, 2 * units)
            gru_before(weights, arena, scratch, row, units, h, own, rec, spare)
        else:
            product(weights, row[RECURRENT], width, row[RECURRENT_BIAS], arena, h, units, scratch, rec, width)
            if op == GRU_AFTER:
                gru_after(weights, arena, scratch, row, units, h, own, rec)
            elif op == LSTM:
                lstm(weights, arena, scratch, row, units, h, own, rec)
            else:
                for k in range(units):
                    arena[h + k] = act(weights, row, scratch[own + k] + scratch[rec + k])
        for k in range(units):
            arena[target + t * units + k] = arena[h + k]


@kernel
def lstm(weights, arena, scratch, row, u, h, own, rec):
    """Move an LSTM's state by one frame."""
    for k in range(u):
        i = gate(weights, row, scratch[own + k] + scratch[rec + k])
        f = gate(weights, row, scratch[own + u + k] + scratch[rec + u + k])
        candidate = act(weights, row, scratch[own + 2 * u + k] + scratch[rec + 2 * u + k])
        o = gate(weights, row, scratch[own + 3 * u + k] + scratch[rec + 3 * u + k])
        c = f * arena[h + u + k] + i * candidate
        arena[h + u + k] = c
        arena[h + k] = o * act(weights, row, c)


@kernel
def gru_after(weights, arena, scratch, row, u, h, own, rec):
    """Move a GRU's state by one frame; the reset gate works on the product with the state."""
    for k in range(u):
        z = gate(weights, row, scratch[own + k] + scratch[rec + k])
        r = gate(weights, row, scratch[own + u + k] + scratch[rec + u + k])
        candidate = act(weights, row, scratch[own + 2 * u + k] + r * scratch[rec + 2 * u + k])
        arena[h + k] = z * arena[h + k] + (ONE - z) * candidate


@kernel
def gru_before(weights, arena, scratch, row, u, h, own, rec, spare):
    """Move a GRU's state by one frame; the reset gate works on the state before the product.

    The reset state takes the place behind h, which only an LSTM needs otherwise.
    """
    for k in range(u):
        scratch[rec + k] = gate(weights, row, scratch[own + k] + scratch[rec + k])
        r = gate(weights, row, scratch[own + u + k] + scratch[rec + u + k])
        arena[h + u + k] = r * arena[h + k]
    product(weights, row[RECURRENT] + 2 * u, 3 * u, -1, arena, h + u, u, scratch, spare, u)
    for k in range(u):
        z = scratch[rec + k]
        candidate = act(weights, row, scratch[own + 2 * u + k] + scratch[spare + k])
        arena[h + k] = z * arena[h + k] + (ONE - z) * candidate
