"""Real-time scheduling and locked memory for the inference thread, as far as the system permits."""

import ctypes
import os

import numpy as np

from streamcnn.compiler.build import entry_point
from streamcnn.system import c_call, stack_address

PRIORITY = 20  # above all that is not in real time, below what drives the hardware
STACK = 1 << 16  # bytes that machine code may use of it


def _lock_stack(mlock):
    return c_call(mlock, (stack_address() - STACK, STACK))


_locking_stack = entry_point("int64(int64)")(_lock_stack)


def core_for(number: int) -> int | None:
    """Return the core for the real-time threads of stream `number`: another one for each, and for the next daemon's."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    return cores[(os.getpid() + number) % len(cores)]


def mask_of(core: int | None) -> np.ndarray:
    """Return a core as sched_setaffinity(2) takes it; empty for None."""
    mask = np.zeros(0 if core is None else core // 64 + 1, np.uint64)
    if core is not None:
        mask[core // 64] = 1 << core % 64
    return mask


def be_real_time(memory: list[np.ndarray], core: int | None) -> list[str]:
    """Put the calling thread before all others (SCHED_FIFO) on a core, and keep memory in place; return what was refused.

    Only this thread's memory and stack are locked: to lock the whole process would more than double what it occupies. It
    stays on its core only where it comes before all others there.
    """
    refused = []
    if hasattr(os, "sched_setscheduler"):
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
            if core is not None:
                os.sched_setaffinity(0, {core})
        except OSError as error:
            refused.append(f"real-time scheduling ({error.strerror}; LimitRTPRIO)")
    library = ctypes.CDLL(None, use_errno=True)
    if hasattr(library, "mlock"):
        failed = [library.mlock(ctypes.c_void_p(part.ctypes.data), ctypes.c_size_t(part.nbytes)) for part in memory]
        failed.append(_locking_stack()(ctypes.cast(library.mlock, ctypes.c_void_p).value))
        if any(failed):
            refused.append("locked memory (LimitMEMLOCK)")
    return refused
