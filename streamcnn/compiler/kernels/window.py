"""Layers that only move along time."""

from streamcnn.compiler.build import operation
from streamcnn.compiler.kernel import integers
from streamcnn.compiler.kernels.runs import move
from streamcnn.compiler.tables import C_IN, C_OUT, DOWN, OLDEST, UP


@operation
def copy(node, done, frames, available, zero, source, target):
    """Copy frames, or parts of them: padding, cropping, repeating, stacking, unstacking and reshaping.

    Output frame i takes C_OUT values from where its window begins: several input frames (Stack), one of them, or, where
    one becomes several, its part of it (Unstack) or all of it again (Repeat).
    """
    row = integers(node)
    c_in, c_out, up = row[C_IN], row[C_OUT], row[UP]
    for t in range(frames):
        place = (done + t) * row[DOWN] + row[OLDEST]
        n = place // up
        first = n * c_in
        if c_out < c_in:
            first += (place - n * up) * c_out
        move(target + 4 * t * c_out, zero + 4 * first, c_out)
