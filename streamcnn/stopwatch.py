"""How long engines take: measured in machine code, without Python between blocks, as the daemon's own loop runs them.

Times are those of one thread. A machine that does other things too makes single blocks late, which says nothing about the
engine: what a block takes at the least in several runs of the same signal is its own.
"""

import time

import numpy as np
from numba import types

from streamcnn.compiler.build import entry_point
from streamcnn.compiler.denormals import flush_denormals, restore
from streamcnn.compiler.kernel import integers, invoke
from streamcnn.compiler.numba_abi import intrinsic, ir
from streamcnn.compiler.vector import FLOATS, LANES, fma, vector_of
from streamcnn.engine import Engine
from streamcnn.system import MONOTONIC, c_functions, now

RUNS = 12
CHAINS, MULTIPLICATIONS = 12, 100_000
WORD = ir.IntType(32)


@intrinsic
def first_of(context, vector):
    """The first number of a vector."""
    zero = ir.Constant(WORD, 0)
    return types.float32(FLOATS), lambda context, builder, signature, values: builder.extract_element(values[0], zero)


def _push_all(code, program, block, step, frames, blocks, out):
    """Push blocks of `frames`, `step` bytes apart, one after the other; return the number of output frames."""
    settings, written = flush_denormals(), 0
    for k in range(blocks):
        written += invoke(code, (program, block + k * step, frames, 0, out))
    restore(settings)
    return written


def _time_all(code, program, block, step, frames, blocks, out, functions, place, times):
    """Push blocks as well, and write each one's nanoseconds to `times`; `place` is one for two numbers."""
    settings, taken = flush_denormals(), integers(times)
    for k in range(blocks):
        before = now(functions, MONOTONIC, place)
        invoke(code, (program, block + k * step, frames, 0, out))
        taken[k] = now(functions, MONOTONIC, place) - before
    restore(settings)


def _multiply(count):
    """Keep the core busy with fused multiply-adds of vectors: as many chains as it takes for none to wait for another."""
    x = vector_of(np.float32(0.5))
    a = b = c = d = e = f = g = h = m = n = p = q = x
    for _ in range(count):
        a, b, c, d = fma(a, x, x), fma(b, x, x), fma(c, x, x), fma(d, x, x)
        e, f, g, h = fma(e, x, x), fma(f, x, x), fma(g, x, x), fma(h, x, x)
        m, n, p, q = fma(m, x, x), fma(n, x, x), fma(p, x, x), fma(q, x, x)
    return first_of(((a + b) + (c + d)) + ((e + f) + (g + h)) + ((m + n) + (p + q)))


_pushing = entry_point(f"int64({', '.join(['int64'] * 7)})")(_push_all)
_timing = entry_point(f"void({', '.join(['int64'] * 10)})")(_time_all)
_multiplying = entry_point("float32(int64)")(_multiply)


class Course:
    """An engine and a signal of noise for it, in blocks of `block` frames: what is measured, again and again."""

    def __init__(self, engine: Engine, block: int, blocks: int, *, level: float = 0.1):
        self.engine, self.block, self.blocks = engine, block, blocks
        shape = (block * blocks, engine.graph.input_channels)
        self.signal = np.random.default_rng(0).normal(0, level, shape).astype(np.float32)
        self._out = np.empty((engine.max_output_frames(block), engine.graph.output_channels), np.float32)

    def seconds_per_frame(self) -> float:
        """Run once through the signal; return the time that an input frame took on average."""
        push, arguments = _pushing(), self._arguments()
        began = time.perf_counter()
        push(*arguments)
        return (time.perf_counter() - began) / (self.block * self.blocks)

    def seconds_per_block(self) -> np.ndarray:
        """Run through the signal, each time from a reset; return what each block took at the least, float64 (blocks,)."""
        place, times = np.zeros(2, np.int64), np.zeros((RUNS, self.blocks), np.int64)
        for taken in times:
            self.engine.reset()
            _timing()(*self._arguments(), c_functions().ctypes.data, place.ctypes.data, taken.ctypes.data)
        return times.min(axis=0) / 1e9

    def _arguments(self) -> tuple[int, ...]:
        step = self.block * self.signal.strides[0]
        code, program = self.engine.machine_code
        return code, program, self.signal.ctypes.data, step, self.block, self.blocks, self._out.ctypes.data


def flop_per_second() -> float:
    """Return what one core does at the most: the best of several runs of nothing but fused multiply-adds."""
    multiply, taken = _multiplying(), []
    for _ in range(RUNS):
        began = time.perf_counter()
        multiply(MULTIPLICATIONS)
        taken.append(time.perf_counter() - began)
    return 2 * LANES * CHAINS * MULTIPLICATIONS / min(taken)
