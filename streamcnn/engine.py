"""The engine: a compiled graph with its state."""

import numpy as np

from streamcnn.compiler import kernels
from streamcnn.compiler.build import entry_point
from streamcnn.compiler.plan import COUNT, COUNTERS_WIDTH, initial_counters, plan
from streamcnn.errors import InputError
from streamcnn.graph.graph import Graph

_process = entry_point(
    "int64(int64[:,::1], int64[:,::1], float32[::1], int64[:,::1], float32[::1], float32[::1], float32,"
    " Array(float32, 2, 'C', readonly=True), float32[:,::1])"
)(kernels.process)


class Engine:
    """Runs a graph on a stream, block by block; one engine a stream, used by one thread at a time.

    For any split of a signal into blocks the outputs are the same bits, and joined with `flush()` they are the graph's
    output on the whole signal. `max_block` (frames) is only what `process_into` can be sure of: larger blocks work.
    `scale` multiplies every sample before the graph sees it.

    Raises GraphError where the graph's layers do not fit together.
    """

    def __init__(self, graph: Graph, max_block: int = 1024, scale: float = 1.0):
        if max_block < 1:
            raise InputError(f"max_block is {max_block}, expected at least 1 frame")
        self.graph = graph
        self.max_block = max_block
        self._plan = plan(graph)
        self._scale = np.float32(scale)
        self._process = _process()
        self._arena = np.zeros(self._plan.arena_size, np.float32)
        self._scratch = np.zeros(self._plan.scratch_size, np.float32)
        self._counters = np.zeros((len(self._plan.lines), COUNTERS_WIDTH), np.int64)
        self.hop = graph.hop
        self.first = graph.first
        self.delay = graph.delay
        self.receptive_field = graph.receptive_field
        self.reset()

    @property
    def frames(self) -> int:
        """How many input frames have been processed since the start or the last reset."""
        return int(self._counters[0, COUNT])

    @property
    def output_frames(self) -> int:
        """How many output frames have come out since the start or the last reset."""
        return int(self._counters[-1, COUNT])

    def max_output_frames(self, frames: int) -> int:
        """Return how many output frames a block of `frames` can give at most."""
        return -(-frames // self.hop) + 1

    def process(self, block: np.ndarray) -> np.ndarray:
        """Process a block (frames, channels) or, with one channel, (frames,); any real dtype, computed in float32.

        Returns the scores that became known: a new float32 array (output frames, outputs), output frame i standing at
        input frame first + i*hop. Raises InputError for a wrong shape or dtype.
        """
        block = self._checked(block)
        out = np.empty((self.max_output_frames(len(block)), self.graph.output_channels), np.float32)
        return out[: self.process_into(block, out)]

    def process_into(self, block: np.ndarray, out: np.ndarray) -> int:
        """Like `process`, without allocating: float32 C-ordered `block` (frames, channels) into `out`; returns the
        count.

        `out`: (at least max_output_frames(frames), outputs), float32, C-ordered. The block is not checked.
        """
        plan = self._plan
        return self._process(
            plan.ops, plan.lines, plan.weights, self._counters, self._arena, self._scratch, self._scale, block, out
        )

    def flush(self) -> np.ndarray:
        """End the signal: return the scores that its padded end adds, float32 (output frames, outputs).

        Causal and valid layers give everything as it becomes known, so nothing is left.
        """
        return np.empty((0, self.graph.output_channels), np.float32)

    def reset(self) -> None:
        """Forget everything: the engine is again as when it was made."""
        self._arena[:] = 0
        self._counters[:] = initial_counters(self._plan.lines)

    def _checked(self, block: np.ndarray) -> np.ndarray:
        block = np.asarray(block)
        channels = self.graph.input_channels
        if block.ndim == 1 and channels == 1:
            block = block[:, None]
        if block.ndim != 2 or block.shape[1] != channels:
            raise InputError(f"block has the shape {block.shape}, expected (frames, {channels})")
        if block.dtype.kind not in "fiu":
            raise InputError(f"block has the dtype {block.dtype}, expected real numbers")
        return np.ascontiguousarray(block, np.float32)
