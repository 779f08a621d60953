"""A plan linked to memory: the program that the interpreter runs for one engine."""

from collections.abc import Callable

import numpy as np

from streamcnn.compiler import tables as T
from streamcnn.compiler.build import machine_code
from streamcnn.compiler.kernels import (
    attention,
    energy,
    functions,
    interpreter,
    join,
    linear,
    partitioned,
    plane,
    pointwise,
    recurrent,
    resample,
    spectral,
    window,
)
from streamcnn.compiler.kernels.tiles import product
from streamcnn.compiler.plan import Plan
from streamcnn.compiler.vector import LANES

OPERATIONS: dict[int, Callable[[], int]] = {
    T.CONV: linear.conv,
    T.CONV_PLANAR: linear.conv_planar,
    T.CONV_LONG: partitioned.conv_long,
    T.CONV_DEPTHWISE: linear.conv_depthwise,
    T.CONV_GROUPED: linear.conv_grouped,
    T.CONV_TRANSPOSE: linear.conv_transpose,
    T.FUNCTION_ONLY: pointwise.keep,
    T.GLU: pointwise.glu,
    T.PRELU: pointwise.prelu,
    T.AFFINE: pointwise.affine,
    T.NORMALIZE: pointwise.normalize,
    T.SELECT: pointwise.select,
    T.POOLING: plane.pooling,
    T.COPY: window.copy,
    T.MERGE: join.merge,
    T.CONCATENATE: join.concatenate,
    T.CONV_2D: plane.conv_2d,
    T.ATTENTION: attention.attention,
    T.SPECTRUM: spectral.spectrum,
    T.POLAR: spectral.polar,
    T.PREEMPHASIS: spectral.preemphasis,
    T.SIMPLE_RNN: recurrent.simple_rnn,
    T.LSTM: recurrent.lstm,
    T.GRU_AFTER: recurrent.gru,
    T.GRU_BEFORE: recurrent.gru,
    T.RESAMPLE: resample.resample,
    T.INVERSE_NORM: energy.inverse_norm,
}
RECURRENT = (T.SIMPLE_RNN, T.LSTM, T.GRU_AFTER, T.GRU_BEFORE)
MAKE_PRODUCTS = (T.CONV_GROUPED, T.CONV_TRANSPOSE, T.CONV_2D, *RECURRENT)  # through a call
CACHE_LINE = 64  # bytes

products = machine_code(f"void({', '.join(['int64'] * 15)})")(product.py_func)
processing = machine_code("int64(int64, int64, int64, int64, int64)")(interpreter.process)
resetting = machine_code("void(int64)")(interpreter.reset)


class Program:
    """The memory of one engine and its tables, with everything's addresses filled in.

    `scale` multiplies every sample. `code` is the address of `process`, `address` that of the program, its first argument.
    """

    def __init__(self, plan: Plan, scale: float):
        self._plan = plan
        # A vector may be read beyond the last value, and stored behind the last frame of a planar line.
        self._arena = aligned(plan.arena_size + LANES, np.float32)
        self._scratch = aligned(plan.scratch_size + LANES, np.float32)
        self._weights = aligned(plan.weights.size + LANES, np.float32)
        self._weights[: plan.weights.size] = plan.weights
        self._wide = np.concatenate([plan.constants, np.zeros(plan.wide_size)])
        self._scale = np.array([scale], np.float32)
        self._start = plan.lines.copy()
        self._start[:, T.ORIGIN] += self._arena.ctypes.data
        self._lines = np.zeros_like(plan.lines)
        self._line_addresses = np.zeros_like(plan.links)
        self._nodes, self._rows = self._linked(plan.nodes), self._linked(plan.rows)
        self._table = np.zeros(T.PROGRAM_COLUMNS, np.int64)
        self._table[T.NODES_AT], self._table[T.NODES_COUNT] = self._nodes.ctypes.data, len(self._nodes)
        self._table[T.LINES_AT], self._table[T.LINES_COUNT] = self._lines.ctypes.data, len(self._lines)
        self._table[T.STEPS_AT], self._table[T.STEPS_COUNT] = plan.steps.ctypes.data, len(plan.steps)
        self._table[T.ROWS_AT], self._table[T.ARENA_AT] = self._rows.ctypes.data, self._arena.ctypes.data
        self._table[T.CLIP_FRAMES], self._table[T.CLIP_HOP] = plan.length, plan.hop
        self._table[T.CHUNK_FRAMES], self._table[T.SCALE_AT] = plan.chunk, self._scale.ctypes.data
        self._table[T.START_AT], self._table[T.ARENA_SIZE] = self._start.ctypes.data, plan.arena_size
        self.address, self.code = int(self._table.ctypes.data), processing()
        self.reset()

    @property
    def frames(self) -> int:
        """How many frames the stream's own line has held."""
        return int(self._lines[0, T.COUNT])

    @property
    def output_frames(self) -> int:
        """How many frames the output's line has held."""
        return int(self._lines[-1, T.COUNT])

    def reset(self) -> None:
        """Be again as at the start."""
        resetting.compiled()(self.address)

    @property
    def resetting_code(self) -> int:
        """The address of the code for `reset`."""
        return resetting()

    @property
    def memory(self) -> list[np.ndarray]:
        """All that is read or written while frames are processed."""
        tables = [self._table, self._lines, self._nodes, self._rows, self._line_addresses]
        return [self._arena, self._scratch, self._weights, self._wide, *tables]

    def start_here(self) -> None:
        """Take what there is for the start, with the next frame of every line as number 0."""
        count = self._lines[:, T.COUNT].copy()
        self._lines[:, T.ORIGIN] += count * self._lines[:, T.FRAME_STEP]
        self._lines[:, T.LIMIT] -= count
        self._lines[:, T.COUNT] = 0
        self._start, self._image = self._lines.copy(), self._arena.copy()
        self._table[T.START_AT], self._table[T.IMAGE_AT] = self._start.ctypes.data, self._image.ctypes.data

    def _linked(self, rows: np.ndarray) -> np.ndarray:
        rows = rows.copy()
        lines, step = self._lines.ctypes.data, self._lines.strides[0]
        for row in rows:
            links = slice(row[T.LINKS], row[T.LINKS] + row[T.INPUTS])
            self._line_addresses[links] = lines + step * self._plan.links[links]
            row[T.ADDED] = 0 if row[T.ADDED] == T.NOTHING else lines + step * row[T.ADDED]
            row[T.LINES] = self._line_addresses[links].ctypes.data
            row[T.LINE_IN], row[T.LINE_OUT] = lines + step * row[T.LINE_IN], lines + step * row[T.LINE_OUT]
            row[T.WEIGHTS], row[T.NUMBERS] = self._weights.ctypes.data, self._plan.links.ctypes.data
            row[T.SCRATCH] = self._scratch.ctypes.data
            row[T.WIDE] = self._wide[self._plan.constants.size :].ctypes.data
            row[T.COMPUTE] = OPERATIONS[int(row[T.OP])]()
            if row[T.OP] == T.CONV and row[T.ROWS] == 1:
                row[T.COMPUTE_ONE] = linear.conv_of_one(int(row[T.OUTPUTS]), int(row[T.TILE_TAPS]))()
            if row[T.OP] in MAKE_PRODUCTS:
                row[T.PRODUCT] = products()
            if row[T.OP] in (T.CONV_LONG, T.INVERSE_NORM, *RECURRENT):
                row[T.STATE] = self._arena[row[T.STATE] :].ctypes.data
            if row[T.OP] not in RECURRENT:
                row[T.ACTIVATE] = _activation(row[T.FUNCTION])
            else:
                row[T.ACTIVATE_STATE], row[T.ACTIVATE_GATE] = _activation(row[T.FUNCTION]), _activation(row[T.GATE])
            if row[T.OP] == T.SPECTRUM:
                row[T.CONSTANTS] -= self._plan.constants.size
        return rows


def _activation(function: int) -> int:
    """Return the address of the code for a function, 0 for the one that changes nothing."""
    code = functions.code_for(int(function))
    return code() if code else 0


def aligned(size: int, dtype: type) -> np.ndarray:
    """Return zeros that begin with a cache line."""
    array = np.zeros(size + CACHE_LINE // np.dtype(dtype).itemsize, dtype)
    skipped = -array.ctypes.data % CACHE_LINE // array.itemsize
    return array[skipped : skipped + size]
