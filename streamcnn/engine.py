"""The engine: a compiled graph with its state."""

from math import lcm

import numpy as np

from streamcnn.compiler.build import entry_point
from streamcnn.compiler.denormals import flush_denormals, restore
from streamcnn.compiler.kernel import invoke
from streamcnn.compiler.partitions import blocks
from streamcnn.compiler.plan import CHUNK, plan
from streamcnn.compiler.program import Program
from streamcnn.compiler.windows import plan_windows
from streamcnn.errors import GraphError, InputError
from streamcnn.graph.graph import Graph


def _push(code, program, block, ending, out):
    """Call the interpreter with the addresses of two arrays, and take denormal numbers for zero meanwhile."""
    settings = flush_denormals()
    written = invoke(code, (program, block.ctypes.data, block.shape[0], 1 if ending else 0, out.ctypes.data))
    restore(settings)
    return written


_pushing = entry_point("int64(int64, int64, Array(float32, 2, 'C', readonly=True), boolean, float32[:,::1])")(_push)


class Engine:
    """Runs a graph on a stream, block by block; one engine a stream, used by one thread at a time.

    For any split of a signal into blocks the outputs are the same bits, and joined with `flush()` they are the graph's
    output on the whole signal. `max_block`: how many frames run through all layers at a time (at most 256), and what blocks
    memory is laid out for, to the same bits; larger blocks are cut, smaller ones save memory. `scale` multiplies every
    sample before the graph sees it. `prewarm`: start after endless silence instead of with zeros in every layer; by default
    what the net's file says. `share`: let overlapping windows of a clip net share what they can; without it each computes
    all of it, to the same bits.

    Raises GraphError where the graph's layers do not fit together, or where it cannot be prewarmed.
    """

    def __init__(
        self,
        graph: Graph,
        max_block: int = 1024,
        scale: float = 1.0,
        *,
        prewarm: bool | None = None,
        share: bool = True,
    ):
        if not isinstance(max_block, int) or max_block < 1:
            raise InputError(f"max_block is {max_block!r}, expected a whole number of frames, at least 1")
        self.graph = graph
        self.max_block = max_block
        self.hop = graph.hop
        self.first = graph.first
        self.delay = graph.delay
        self.receptive_field = graph.receptive_field
        chunk = min(max_block, CHUNK)
        laid_out = plan(graph, chunk) if graph.clip is None else plan_windows(graph, chunk, share=share)
        self._output_slack = laid_out.output_slack
        self._program = Program(laid_out, scale)
        self._push = _pushing()
        self._ended = False
        self._prewarm = graph.info.prewarm if prewarm is None else prewarm
        # A tensor inside that is late by itself would be numbered otherwise than its readers.
        late = graph.clip is not None or any(timing.first or timing.delay for timing in graph.timings.values())
        if self._prewarm and (graph.receptive_field is None or late):
            raise GraphError(
                f"net '{graph.info.name}' cannot start prewarmed: it is recurrent, padded, looks ahead or answers clips",
                "start it from zeros: prewarm=False",
            )
        self._program.reset()
        if self._prewarm:
            self._hear_silence()

    @property
    def frames(self) -> int:
        """How many input frames have been processed since the start or the last reset."""
        return self._program.frames

    @property
    def output_frames(self) -> int:
        """How many output frames have come out since the start or the last reset."""
        return self._program.output_frames

    @property
    def machine_code(self) -> tuple[int, int]:
        """For callers in machine code: the address of `interpreter.process`, and that of the program it runs.

        `kernel.invoke` calls it with (program, address of the block, frames, ending, address of the outputs). Nothing is
        checked, and the engine must outlive its addresses.
        """
        return self._program.code, self._program.address

    @property
    def resetting_code(self) -> int:
        """For callers in machine code: the address of `interpreter.reset`, whose argument is the program's."""
        return self._program.resetting_code

    @property
    def memory(self) -> list[np.ndarray]:
        """All memory that is touched while blocks are processed."""
        return self._program.memory

    @property
    def anchor(self) -> int:
        """The input frames after which its arithmetic repeats too: started late at a multiple of them it gives the same bits.

        Long kernels and moving norms work in blocks of their input's frames.
        """
        graph = self.graph
        if graph.clip is not None:
            return graph.period
        inputs = {node.name: node.inputs[0] for node in graph.nodes}
        spans = [(graph.timings[inputs[name]].hop * block).numerator for name, block in blocks(graph).items()]
        return lcm(graph.period, *spans)

    def max_output_frames(self, frames: int) -> int:
        """Return how many output frames a block of `frames` can give at most."""
        return -(-frames // self.hop) + self._output_slack

    def process(self, block: np.ndarray) -> np.ndarray:
        """Process a block (frames, channels) or, with one channel, (frames,); any real dtype, computed in float32.

        Frames of several axes may come as such. Returns the scores that became known: a new float32 array (output frames,
        outputs), output frame i standing at input frame first + i*hop. Raises InputError for a wrong shape or dtype, and
        after `flush`.
        """
        block = self._checked(block)
        out = np.empty((self.max_output_frames(len(block)), self.graph.output_channels), np.float32)
        return out[: self.process_into(block, out)]

    def process_into(self, block: np.ndarray, out: np.ndarray) -> int:
        """Like `process`, without allocating: float32 C-ordered `block` (frames, values) into `out`; returns the count.

        `out`: (at least max_output_frames(frames), outputs), float32, C-ordered. The block is not checked.
        """
        return self._run(block, out, ending=False)

    def flush(self) -> np.ndarray:
        """End the signal: return the scores that its padded end adds, float32 (output frames, outputs).

        Each layer's own end is padded as Keras pads it; a clip net has none but complete windows. After it only `reset` is
        possible.
        """
        self._refuse_after_end()
        if self.graph.clip is not None:
            self._ended = True
            return np.empty((0, self.graph.output_channels), np.float32)
        total = self.graph.output_frames(self.frames)
        out = np.empty((max(0, total - self.output_frames), self.graph.output_channels), np.float32)
        nothing = np.empty((0, self.graph.input_channels), np.float32)
        count = self._run(nothing, out, ending=True)
        self._ended = True
        return out[:count]

    def reset(self) -> None:
        """Forget everything: the engine is again as when it was made."""
        self._program.reset()
        self._ended = False

    def _run(self, block: np.ndarray, out: np.ndarray, *, ending: bool) -> int:
        count = self._push(self._program.code, self._program.address, block, ending, out)
        if count < 0:
            raise AssertionError("a line of the plan is too short for its frames")
        return count

    def _hear_silence(self) -> None:
        """Fill every history with what silence leaves there, and count from 0 again."""
        period = self.graph.period
        frames = period * -(-self.graph.receptive_field // period)
        self.process(np.zeros((frames, self.graph.input_channels), np.float32))
        self._program.start_here()

    def _refuse_after_end(self) -> None:
        if self._ended:
            raise InputError("the signal has been flushed", "call reset() before the next one")

    def _checked(self, block: np.ndarray) -> np.ndarray:
        self._refuse_after_end()
        try:
            block = np.asarray(block)
        except ValueError as error:
            raise InputError(f"block is no table of numbers: {error}") from error
        channels = self.graph.input_channels
        if block.ndim == 1 and channels == 1:
            block = block[:, None]
        if block.shape[1:] not in ((channels,), self.graph.input_shape):
            raise InputError(f"block has the shape {block.shape}, expected (frames, {channels})")
        if block.dtype.kind not in "fiu":
            raise InputError(f"block has the dtype {block.dtype}, expected real numbers")
        return np.ascontiguousarray(block.reshape(len(block), channels), np.float32)
