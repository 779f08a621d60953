"""Products with explicit vectors: LLVM code for one tile of frames and output channels.

Theory. What LLVM makes of plain loops over arrays uses a twentieth of what the core can do: it keeps sums in memory, because
arrays might overlap. Here a tile's sums are values of an LLVM vector type, which live in registers while the
inner loop runs over the input channels: each step loads a vector of weights, and multiplies it with one value of each frame.

Lanes are always different output channels. Each of them is the chain that this package promises, of fused multiply-adds,
so the result does not depend on the number of lanes, nor on how many frames a tile has; a processor without such
an instruction computes the same, slowly.
"""

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from streamcnn.compiler.kernel import kernel

FLOAT, INT = ir.FloatType(), ir.IntType(64)


def lanes() -> int:
    """Return how many float32 a vector register of this processor, or of the one that code is made for, holds."""
    given = config.CPU_FEATURES
    features = llvmlite.binding.get_host_cpu_features() if given is None else dict.fromkeys(given.split(","), True)
    names = {name.removeprefix("+"): on and not name.startswith("-") for name, on in features.items()}
    return 16 if names.get("avx512f") else 8 if names.get("avx2") else 4


LANES = lanes()
# How many frames a tile has, the largest that is left first. The sums of the tap under way, the weights and a frame's value
# must fit into the registers, 32 of AVX-512 and of ARM, 16 else; the sums of the taps before it may wait in memory.
MANY, SOME = (12, 4) if LANES == 16 else (6, 2)
VECTOR = ir.VectorType(FLOAT, LANES)
SIGNATURE = types.void(*[types.int64] * 13)


class _Emitter:
    """Emits one tile. Addresses and steps are in bytes; `count`: how many channels of the last vector are stored."""

    def __init__(self, builder: ir.IRBuilder, arguments: list[ir.Value], frames: int, vectors: int):
        self.builder, self.frames, self.vectors = builder, frames, vectors
        (self.x, self.x_step, self.tap_step, self.channels, self.taps, self.weights, self.vector_step, self.start,
         self.start_step, self.y, self.y_step, self.count, self.one_chain) = arguments  # fmt: skip
        kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
        self.fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32")

    def load(self, address: ir.Value) -> ir.Value:
        """Load a vector from an address."""
        return self.builder.load(self.builder.inttoptr(address, VECTOR.as_pointer()), align=4)

    def spread(self, address: ir.Value) -> ir.Value:
        """Load a value into all lanes."""
        value = self.builder.load(self.builder.inttoptr(address, FLOAT.as_pointer()))
        one = self.builder.insert_element(ir.Constant(VECTOR, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return self.builder.shuffle_vector(one, one, mask)

    def at(self, base: ir.Value, step: ir.Value, number: int) -> ir.Value:
        """Return base + number * step."""
        return self.builder.add(base, self.builder.mul(step, ir.Constant(INT, number)))

    def loop(self, count: ir.Value, carried: list[ir.Value], body) -> list[ir.Value]:
        """Run `body(number, values)`, which returns the next values, `count` times; at least once."""
        builder, before = self.builder, self.builder.block
        block = builder.append_basic_block("loop")
        behind = builder.append_basic_block("behind")
        builder.branch(block)
        builder.position_at_end(block)
        number = builder.phi(INT)
        values = [builder.phi(value.type) for value in carried]
        made = body(number, values)
        after = builder.add(number, ir.Constant(INT, 1))
        number.add_incoming(ir.Constant(INT, 0), before)
        number.add_incoming(after, builder.block)
        for value, first, following in zip(values, carried, made, strict=True):
            value.add_incoming(first, before)
            value.add_incoming(following, builder.block)
        builder.cbranch(builder.icmp_signed("<", after, count), block, behind)
        builder.position_at_end(behind)
        return made

    def chains(self, tap: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
        """Add the products of all channels of one tap to `sums`, one fused chain for each."""
        builder = self.builder
        row = builder.mul(tap, self.channels)
        x = builder.add(self.x, builder.mul(tap, self.tap_step))
        weights = builder.add(self.weights, builder.mul(row, ir.Constant(INT, 4 * LANES)))

        def step(channel: ir.Value, values: list[ir.Value]) -> list[ir.Value]:
            offset = builder.mul(channel, ir.Constant(INT, 4 * LANES))
            rows = [self.load(builder.add(self.at(weights, self.vector_step, v), offset)) for v in range(self.vectors)]
            here = builder.add(x, builder.mul(channel, ir.Constant(INT, 4)))
            made = []
            for f in range(self.frames):
                frame = self.spread(self.at(here, self.x_step, f))
                made += [builder.call(self.fma, [frame, w, values[f * self.vectors + v]]) for v, w in enumerate(rows)]
            return made

        return self.loop(self.channels, sums, step)

    def emit(self) -> None:
        """Emit the whole tile."""
        builder, zero = self.builder, ir.Constant(VECTOR, [ir.Constant(FLOAT, 0.0)] * LANES)
        begins = [self.at(self.start, self.start_step, f) for f in range(self.frames)]
        sums = [
            self.load(builder.add(begin, ir.Constant(INT, 4 * LANES * v)))
            for begin in begins
            for v in range(self.vectors)
        ]

        def each_tap(tap: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
            # With one channel all taps are one chain: the tap's products are added to the sums themselves.
            begin = [builder.select(self.one_chain, value, zero) for value in sums]
            products = self.chains(tap, begin)
            return [
                builder.select(self.one_chain, product, builder.fadd(value, product))
                for value, product in zip(sums, products, strict=True)
            ]

        made = self.loop(self.taps, sums, each_tap)
        self.store(made)

    def store(self, made: list[ir.Value]) -> None:
        """Store all vectors; of the last one of each frame only the channels that there are, by way of a buffer."""
        builder, last = self.builder, ir.Constant(INT, 4 * LANES * (self.vectors - 1))
        kept = cgutils.alloca_once(builder, ir.ArrayType(VECTOR, self.frames))
        kept = builder.ptrtoint(kept, INT)
        full = builder.icmp_signed("==", self.count, ir.Constant(INT, LANES))
        base = builder.select(full, builder.add(self.y, last), kept)
        step = builder.select(full, self.y_step, ir.Constant(INT, 4 * LANES))
        for f in range(self.frames):
            for v in range(self.vectors):
                behind = v == self.vectors - 1
                address = self.at(base, step, f) if behind else self.at(self.y, self.y_step, f)
                offset = ir.Constant(INT, 0 if behind else 4 * LANES * v)
                target = builder.inttoptr(builder.add(address, offset), VECTOR.as_pointer())
                builder.store(made[f * self.vectors + v], target, align=4)
        with builder.if_then(builder.not_(full)):

            def copy_frame(frame: ir.Value, _values: list) -> list:
                source = builder.add(kept, builder.mul(frame, ir.Constant(INT, 4 * LANES)))
                target = builder.add(builder.add(self.y, last), builder.mul(frame, self.y_step))

                def copy(number: ir.Value, _values: list) -> list:
                    offset = builder.mul(number, ir.Constant(INT, 4))
                    one = builder.load(builder.inttoptr(builder.add(source, offset), FLOAT.as_pointer()))
                    builder.store(one, builder.inttoptr(builder.add(target, offset), FLOAT.as_pointer()))
                    return []

                return self.loop(self.count, [], copy)

            self.loop(ir.Constant(INT, self.frames), [], copy_frame)


def _tile(frames: int, vectors: int) -> object:
    """Return an intrinsic that computes a tile of so many frames and vectors of channels.

    Arguments, int64, addresses and steps in bytes: x (the first frame's first value), x_step (to the next frame), tap_step,
    channels, taps, weights (vectors x taps x channels x lanes), vector_step (between vectors of weights), start (what the sums
    begin with, a value a lane), start_step (to the next frame's), y, y_step, count (channels of the last vector), one_chain (1:
    the taps are one chain).
    """

    @intrinsic
    def tile(
        context,
        x,
        x_step,
        tap_step,
        channels,
        taps,
        weights,
        vector_step,
        start,
        start_step,
        y,
        y_step,
        count,
        one_chain,
    ):
        def codegen(context, builder, signature, values):
            *numbers, flag = values
            one_chain = builder.icmp_signed("!=", flag, ir.Constant(INT, 0))
            _Emitter(builder, [*numbers, one_chain], frames, vectors).emit()
            return context.get_dummy_value()

        return SIGNATURE, codegen

    return tile


_many_wide, _some_wide, _one_widest, _one_wide = _tile(MANY, 2), _tile(SOME, 2), _tile(1, 4), _tile(1, 2)
_many, _some, _one = _tile(MANY, 1), _tile(SOME, 1), _tile(1, 1)


@kernel
def address(array, place):
    """Return the address of a value of a float32 array."""
    return array.ctypes.data + 4 * place


@kernel
def product(weights, start, start_step, x, x_step, tap_step, channels, taps, y, outputs, frames):
    """Make `frames` rows of `outputs` channels from windows of taps x channels values. Steps count in values.

    `weights`, `start`, `x` and `y` are addresses, of weights that are `packed`, of what the rows begin with (a bias for all of
    them where `start_step` is 0), of the first window, and of the first row. What begins must be readable up to a whole vector.
    """
    a, b, c, d = 4 * x_step, 4 * tap_step, 4 * start_step, 4 * outputs
    chain = 1 if channels == 1 else 0
    size = 4 * LANES * taps * channels  # of one vector of weights
    o = 0
    while o < outputs:
        left, w, v, z, t = outputs - o, weights + o // LANES * size, start + 4 * o, y + 4 * o, 0
        if frames == 1 and left > 3 * LANES:
            n = min(left - 3 * LANES, LANES)
            _one_widest(x, a, b, channels, taps, w, size, v, c, z, d, n, chain)
            o += 4 * LANES
            continue
        if left > LANES:
            n = min(left - LANES, LANES)
            while t + MANY <= frames:
                _many_wide(x + t * a, a, b, channels, taps, w, size, v + t * c, c, z + t * d, d, n, chain)
                t += MANY
            while t + SOME <= frames:
                _some_wide(x + t * a, a, b, channels, taps, w, size, v + t * c, c, z + t * d, d, n, chain)
                t += SOME
            while t < frames:
                _one_wide(x + t * a, a, b, channels, taps, w, size, v + t * c, c, z + t * d, d, n, chain)
                t += 1
            o += 2 * LANES
        else:
            while t + MANY <= frames:
                _many(x + t * a, a, b, channels, taps, w, size, v + t * c, c, z + t * d, d, left, chain)
                t += MANY
            while t + SOME <= frames:
                _some(x + t * a, a, b, channels, taps, w, size, v + t * c, c, z + t * d, d, left, chain)
                t += SOME
            while t < frames:
                _one(x + t * a, a, b, channels, taps, w, size, v + t * c, c, z + t * d, d, left, chain)
                t += 1
            o += LANES


def packed(kernel_: np.ndarray, bias: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (taps, channels, outputs) as (vectors, taps, channels, lanes), and a bias as (vectors, lanes)."""
    outputs = kernel_.shape[2]
    vectors = -(-outputs // LANES)
    padded = np.zeros((*kernel_.shape[:2], vectors * LANES), np.float32)
    padded[:, :, :outputs] = kernel_
    biases = np.zeros(vectors * LANES, np.float32)
    biases[:outputs] = 0 if bias is None else bias
    return padded.reshape(*kernel_.shape[:2], vectors, LANES).transpose(2, 0, 1, 3), biases
