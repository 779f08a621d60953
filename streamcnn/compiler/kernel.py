"""How kernels are compiled: without the GIL, and with IEEE's arithmetic, in which a division by zero is no exception.

An index that might be negative counts from an array's end, in Python, and that choice at every step keeps LLVM from making
vector code. So inner loops go over slices, or, where a slice a frame would cost more than the frame, over unsigned
places: `at(base)` plus numbers of `up_to(count)`.
"""

import numpy as np
from numba import njit

kernel = njit(nogil=True, error_model="numpy")
# Of what calls all kernels: LLVM optimizes a compiled function's code together with that of all that it calls, so that each
# caller of a caller would cost the compile time of everything once more. These become part of their caller before that.
part_of_caller = njit(nogil=True, error_model="numpy", inline="always")


@kernel
def at(place):
    """Return a place in an array, which is not negative, as an unsigned number."""
    return np.uint64(place)


@kernel
def up_to(count):
    """Return the unsigned numbers below a count, which is not negative."""
    return range(np.uint64(count))
