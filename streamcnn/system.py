"""What machine code asks of the operating system and of other threads: the time, waking, waiting, and shared numbers.

C functions are called through their addresses, which differ from process to process and stand in a table (`c_functions`).
Numbers that two threads share are int64 in memory, one writer each. Whoever has seen a number that was `publish`ed sees
all that was written before it; where a thread stores one number and then looks at another's, both are in one order for
all (sequential consistency): that is what makes it safe to go to sleep.
"""

import contextlib
import ctypes
import functools
import os
import platform
import select
import sys
import time

import numpy as np
from numba import types

from streamcnn.compiler.kernel import INT, integers, kernel
from streamcnn.compiler.numba_abi import cgutils, intrinsic, ir

CLOCK_GETTIME, WRITE, READ, POLL, SET_SCHEDULER, SET_AFFINITY, SYSCALL, FUTEX = range(8)  # rows of the table
_NAMES = ("clock_gettime", "write", "read", "poll", "sched_setscheduler", "sched_setaffinity", "syscall")
_FUTEX = {"x86_64": 202, "aarch64": 98}  # the system call's number (Linux; syscalls(2))
FUTEX_WAIT, FUTEX_WAKE = 128, 129  # of this process only
MONOTONIC, REALTIME = time.CLOCK_MONOTONIC, time.CLOCK_REALTIME
SECOND = 1_000_000_000  # ns
FIFO = getattr(os, "SCHED_FIFO", 1)
PIPE_BYTES = 4096
WORD = ir.IntType(32)


@functools.cache
def c_functions() -> np.ndarray:
    """Return the addresses of the C functions that kernels call, int64, for this process; 0 for one that the system lacks.

    The last row is the number of the system call `futex`, 0 where there is none.
    """
    library = ctypes.CDLL(None)
    found = [
        ctypes.cast(getattr(library, name), ctypes.c_void_p).value if hasattr(library, name) else 0 for name in _NAMES
    ]
    futex = _FUTEX.get(platform.machine(), 0) if sys.platform == "linux" else 0
    return np.array([*found, futex], np.int64)


@intrinsic
def c_call(context, address, arguments):
    """Call the C function at an address with a tuple of int64; return its result as that of a C int."""

    def codegen(context, builder, signature, values):
        numbers = [builder.extract_value(values[1], k) for k in range(len(arguments))]
        kind = ir.FunctionType(WORD, [INT] * len(numbers))
        return builder.sext(builder.call(builder.inttoptr(values[0], kind.as_pointer()), numbers), INT)

    return types.int64(types.int64, arguments), codegen


@intrinsic
def look(context, address):
    """Return the int64 at an address, which another thread may change."""

    def codegen(context, builder, signature, values):
        return builder.load_atomic(builder.inttoptr(values[0], INT.as_pointer()), "seq_cst", 8)

    return types.int64(types.int64), codegen


@intrinsic
def publish(context, address, value):
    """Store an int64 at an address for other threads to see, after all that was written before it."""

    def codegen(context, builder, signature, values):
        builder.store_atomic(values[1], builder.inttoptr(values[0], INT.as_pointer()), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@kernel
def put_first(functions, priority, cores, size, place):
    """Put the calling thread before all that is not in real time (SCHED_FIFO), on the cores of a mask; where that is permitted.

    `cores` is the address of the mask, of `size` bytes, as sched_setaffinity(2) takes it.
    """
    library = integers(functions)
    integers(place)[0] = priority  # a sched_param
    if library[SET_SCHEDULER] and c_call(library[SET_SCHEDULER], (0, FIFO, place)) == 0 and library[SET_AFFINITY]:
        c_call(library[SET_AFFINITY], (0, size, cores))


@intrinsic
def stack_address(context):
    """Return where the stack of the calling thread has come to."""

    def codegen(context, builder, signature, values):
        return builder.ptrtoint(cgutils.alloca_once(builder, INT), INT)

    return types.int64(), codegen


@kernel
def now(functions, which, place):
    """Return the time of a clock in ns. `functions` is the address of the table, `place` one for two int64 to be used."""
    c_call(integers(functions)[CLOCK_GETTIME], (which, place))
    time_ = integers(place)
    return time_[0] * SECOND + time_[1]


@kernel
def wake(functions, descriptor, place):
    """Wake who waits at a descriptor; `place` is one for an int64."""
    integers(place)[0] = 1
    c_call(integers(functions)[WRITE], (descriptor, place, 8))


@kernel
def wait(functions, descriptor, place):
    """Wait to be woken at a descriptor; `place` is one for an int64."""
    c_call(integers(functions)[READ], (descriptor, place, 8))


@kernel
def go_to_sleep(functions, word, descriptor, place):
    """Wait to be roused, once the int64 at the address `word` has been set to 1, and its reason looked at again."""
    library = integers(functions)
    if library[FUTEX]:
        c_call(library[SYSCALL], (library[FUTEX], word, FUTEX_WAIT, 1, 0, 0, 0))
    else:
        wait(functions, descriptor, place)


@kernel
def rouse(functions, word, descriptor, place):
    """Wake who sleeps there, if somebody does.

    A futex, which takes two thirds of the time that an eventfd does; where there is none, what stands behind the descriptor.
    """
    if not look(word):
        return
    library = integers(functions)
    publish(word, 0)
    if library[FUTEX]:
        c_call(library[SYSCALL], (library[FUTEX], word, FUTEX_WAKE, 1, 0, 0, 0))
    else:
        wake(functions, descriptor, place)


@kernel
def rest(functions, milliseconds, place):
    """Do nothing for a while."""
    c_call(integers(functions)[POLL], (place, 0, milliseconds))


class Bell:
    """What one thread wakes another with, in Python or machine code: an eventfd, or a pipe where there is none.

    `listening` and `ringing` are the descriptors to wait at and to write to. (To wait in `read` takes the one who rings less
    than to wait in `poll` with a time limit, and the one who wakes a call less.)
    """

    def __init__(self):
        if hasattr(os, "eventfd"):
            self.listening = self.ringing = os.eventfd(0, os.EFD_CLOEXEC)
        else:
            self.listening, self.ringing = os.pipe()
            os.set_blocking(self.ringing, False)

    def ring(self) -> None:
        """Wake who waits."""
        with contextlib.suppress(BlockingIOError):  # a pipe full of wakings is as good as one
            os.write(self.ringing, (1).to_bytes(8, "little"))

    def wait(self, timeout_s: float) -> bool:
        """Wait to be woken, at most so long; tells whether we were, and forgets the wakings so far."""
        if not select.select([self.listening], [], [], timeout_s)[0]:
            return False
        os.read(self.listening, PIPE_BYTES)
        return True

    def close(self) -> None:
        """Give the descriptors back."""
        for descriptor in {self.listening, self.ringing}:
            os.close(descriptor)
