"""How kernels are compiled: without the GIL, and with IEEE's arithmetic, in which a division by zero is no exception."""

from numba import njit

kernel = njit(nogil=True, error_model="numpy")
