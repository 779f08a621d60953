"""What is done with runs of values that lie side by side. Behind a run that is read, up to a whole vector must be readable."""

from streamcnn.compiler.kernel import kernel
from streamcnn.compiler.vector import BYTES, LANES, load, store, store_first


@kernel
def move(y, x, size):
    """Copy values to a lower address, or to one that they do not reach."""
    whole = size - size % LANES
    for k in range(0, 4 * whole, BYTES):
        store(y + k, load(x + k))
    if whole < size:
        store_first(y + 4 * whole, load(x + 4 * whole), size - whole)


@kernel
def add_two(y, a, b, size):
    """Add two runs of values, several vectors at a time without a choice in between: every residual layer does it."""
    several = size - size % (4 * LANES)
    for k in range(0, 4 * several, 4 * BYTES):
        store(y + k, load(a + k) + load(b + k))
        store(y + k + BYTES, load(a + k + BYTES) + load(b + k + BYTES))
        store(y + k + 2 * BYTES, load(a + k + 2 * BYTES) + load(b + k + 2 * BYTES))
        store(y + k + 3 * BYTES, load(a + k + 3 * BYTES) + load(b + k + 3 * BYTES))
    for k in range(several, size, LANES):
        store_first(y + 4 * k, load(a + 4 * k) + load(b + 4 * k), size - k)
