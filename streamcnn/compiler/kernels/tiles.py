"""Products with explicit vectors: LLVM code for one tile of sums, and the loops over tiles.

Theory. What LLVM makes of plain loops uses a twentieth of what the core can do: it keeps sums in memory, because arrays might
overlap. Here a tile's sums are values of an LLVM vector type, which live in registers while the inner loop runs over the
input channels. A tile is an outer product: each step loads some vectors, spreads some single values over all lanes, and adds
the product of each vector with each value to a sum of its own. There are two layouts:

- Channels last: vectors are weights, packed so that lanes are output channels; values are one of each of several frames.
- Planar, where the frames of a channel lie side by side: vectors are frames; values are weights of several outputs. All
  lanes are of use, however few channels there are.

Lanes are always different outputs. Each of them is the chain that this package promises, of fused multiply-adds, so the
result does not depend on the layout, on the number of lanes, nor on the tile; a processor without such an instruction
computes the same, slowly. A single frame has too few sums to keep the core busy, as each waits for the one before it: there the
chains of several taps run side by side, and are added in the same order.
"""

import numpy as np
from numba import types

from streamcnn.compiler.kernel import INT, kernel
from streamcnn.compiler.numba_abi import cgutils, intrinsic, ir
from streamcnn.compiler.vector import BYTES, LANES, spread, store_first_of

FLOAT = ir.FloatType()
HALF = max(4, LANES // 2)
# Frames of a tile with channels last, the largest that is left first, and vectors of frames and outputs of a planar one. The
# sums of the taps under way, the vectors and a value must fit into the registers, 32 of AVX-512 and 16 else (ARM has 32
# too; more sums there are not measured); the sums of the taps before may wait in memory.
MANY, SOME, FRAMES, OUTPUTS = (12, 4, 4, 4) if LANES == 16 else (6, 2, 2, 4)
TOGETHER = 3  # taps of a single frame whose chains run side by side
# Channels of a single frame, a power of two: the end of a long loop over few instructions is guessed wrong every time.
UNROLLED = 4
STEPS = 14
OPEN = 8  # bytes behind a product's two bounds: two that bound nothing


class _Emitter:
    """Emits one tile of `values` times `vectors` sums; see `_tile` for the arguments."""

    def __init__(self, builder: ir.IRBuilder, arguments: list[ir.Value], values: int, vectors: int, lanes: int):
        self.builder, self.values, self.vectors, self.lanes = builder, values, vectors, lanes
        self.one = self.spread  # how a value is loaded: into all lanes
        self.value, self.vector, self.start, self.added, self.y, self.count, steps = arguments
        (self.value_step, self.value_tap, self.value_channel, self.vector_step, self.vector_tap, self.vector_channel,
         self.start_step, self.added_step, self.added_vector, self.y_step, self.channels, self.taps, self.bounds,
         one_chain) = (builder.extract_value(steps, k) for k in range(STEPS))  # fmt: skip
        self.kind = ir.VectorType(FLOAT, lanes)
        self.one_chain = builder.icmp_signed("!=", one_chain, ir.Constant(INT, 0))
        signature = ir.FunctionType(self.kind, [self.kind] * 3)
        self.fma = cgutils.get_or_insert_function(builder.module, signature, f"llvm.fma.v{lanes}f32")

    def load(self, address: ir.Value) -> ir.Value:
        """Load a vector from an address."""
        return self.builder.load(self.builder.inttoptr(address, self.kind.as_pointer()), align=4)

    def spread(self, address: ir.Value) -> ir.Value:
        """Load a value into all lanes."""
        value = self.builder.load(self.builder.inttoptr(address, FLOAT.as_pointer()))
        return spread(self.builder, value, self.lanes)

    def at(self, base: ir.Value, step: ir.Value, number: int) -> ir.Value:
        """Return base + number * step."""
        return self.builder.add(base, self.builder.mul(step, ir.Constant(INT, number)))

    def loop(self, count: ir.Value, carried: list[ir.Value], body) -> list[ir.Value]:
        """Run `body(number, values)`, which returns the next values, `count` times, or never."""
        builder, before = self.builder, self.builder.block
        block, behind = builder.append_basic_block("loop"), builder.append_basic_block("behind")
        builder.cbranch(builder.icmp_signed(">", count, ir.Constant(INT, 0)), block, behind)
        builder.position_at_end(block)
        number = builder.phi(INT)
        values = [builder.phi(value.type) for value in carried]
        made = body(number, values)
        after, end = builder.add(number, ir.Constant(INT, 1)), builder.block
        for value, first, following in zip(
            [number, *values], [ir.Constant(INT, 0), *carried], [after, *made], strict=True
        ):
            value.add_incoming(first, before)
            value.add_incoming(following, end)
        builder.cbranch(builder.icmp_signed("<", after, count), block, behind)
        builder.position_at_end(behind)
        results = [builder.phi(value.type) for value in carried]
        for result, first, following in zip(results, carried, made, strict=True):
            result.add_incoming(first, before)
            result.add_incoming(following, end)
        return results

    def chains(self, tap: ir.Value, sums: list[list[ir.Value]]) -> list[list[ir.Value]]:
        """Add the products of all channels to the sums of a tap and, in further lists, of the taps that follow it."""
        builder, width = self.builder, self.values * self.vectors
        values = builder.add(self.value, builder.mul(tap, self.value_tap))
        vectors = builder.add(self.vector, builder.mul(tap, self.vector_tap))

        def step(value: ir.Value, vector: ir.Value, chains: list[ir.Value]) -> list[ir.Value]:
            made = []
            for k in range(len(sums)):
                first = self.at(vector, self.vector_tap, k)
                loaded = [self.load(self.at(first, self.vector_step, v)) for v in range(self.vectors)]
                for f in range(self.values):
                    one = self.one(self.at(self.at(value, self.value_tap, k), self.value_step, f))
                    before = chains[k * width + f * self.vectors :]
                    made += [builder.call(self.fma, [one, w, chain]) for w, chain in zip(loaded, before, strict=False)]
            return made

        def along(_number: ir.Value, carried: list[ir.Value], steps: int = 1) -> list[ir.Value]:
            value, vector, *chains = carried
            for _ in range(steps):
                chains = step(value, vector, chains)
                value, vector = builder.add(value, self.value_channel), builder.add(vector, self.vector_channel)
            return [value, vector, *chains]

        carried = [values, vectors, *(one for tap_sums in sums for one in tap_sums)]
        rest = self.channels
        if self.values == 1:
            several = builder.ashr(self.channels, ir.Constant(INT, UNROLLED.bit_length() - 1))
            carried = self.loop(several, carried, lambda number, carried: along(number, carried, UNROLLED))
            rest = builder.and_(self.channels, ir.Constant(INT, UNROLLED - 1))
        _, _, *made = self.loop(rest, carried, along)
        return [made[k : k + width] for k in range(0, len(made), width)]

    def emit(self, sums: list[ir.Value], together: int) -> list[ir.Value]:
        """Emit all taps, so many of them together, or, for 0, a single one; return the sums."""
        builder, zero = self.builder, ir.Constant(self.kind, [ir.Constant(FLOAT, 0.0)] * self.lanes)

        def taps(first: ir.Value, sums: list[ir.Value], group: int) -> list[ir.Value]:
            # With one channel all taps are one chain: their products are added to the sums themselves.
            begin = [builder.select(self.one_chain, value, zero) for value in sums]
            for products in self.chains(first, [begin] * group):
                sums = [
                    builder.select(self.one_chain, product, builder.fadd(value, product))
                    for value, product in zip(sums, products, strict=True)
                ]
            return sums

        if together == 0:
            return taps(ir.Constant(INT, 0), sums, 1)
        size = ir.Constant(INT, together)
        groups = builder.sdiv(self.taps, size)
        sums = self.loop(groups, sums, lambda n, sums: taps(builder.mul(n, size), sums, together))
        if together > 1:
            done = builder.mul(groups, size)
            sums = self.loop(builder.sub(self.taps, done), sums, lambda n, sums: taps(builder.add(done, n), sums, 1))
        return sums

    def bounded(self, sums: list[ir.Value]) -> list[ir.Value]:
        """Clip to the lower and the upper bound; a NaN passes."""
        low, high = self.spread(self.bounds), self.spread(builder_add(self.builder, self.bounds, 4))
        for order, bound in (("<", low), (">", high)):
            sums = [self.builder.select(self.builder.fcmp_ordered(order, y, bound), bound, y) for y in sums]
        return sums

    def plus(self, sums: list[ir.Value]) -> list[ir.Value]:
        """Add other rows."""
        made = []
        for f in range(self.values):
            row = self.at(self.added, self.added_step, f)
            for v in range(self.vectors):
                other = self.load(self.at(row, self.added_vector, v))
                made.append(self.builder.fadd(sums[f * self.vectors + v], other))
        return made

    def store(self, made: list[ir.Value]) -> None:
        """Store all vectors; of the last one of each row only `count` lanes."""
        builder, last = self.builder, self.vectors - 1
        rows = [self.at(self.y, self.y_step, f) for f in range(self.values)]
        targets = [[builder_add(builder, row, 4 * self.lanes * v) for v in range(self.vectors)] for row in rows]
        kind = self.kind.as_pointer()
        for f, target in enumerate(targets):
            for v in range(last):
                builder.store(made[f * self.vectors + v], builder.inttoptr(target[v], kind), align=4)
        full = builder.icmp_signed("==", self.count, ir.Constant(INT, self.lanes))
        with builder.if_else(full) as (whole, part):
            with whole:
                for f, target in enumerate(targets):
                    builder.store(made[f * self.vectors + last], builder.inttoptr(target[last], kind), align=4)
            with part:
                for f, target in enumerate(targets):
                    store_first_of(builder, target[last], made[f * self.vectors + last], self.count)


def builder_add(builder: ir.IRBuilder, address: ir.Value, number: int) -> ir.Value:
    """Return an address that many bytes further on."""
    return builder.add(address, ir.Constant(INT, number))


def _tile(
    values: int,
    vectors: int,
    *,
    lanes: int = LANES,
    planar: bool = False,
    depthwise: bool = False,
    together: int = 1,
) -> object:
    """Return an intrinsic that computes a tile; in a `depthwise` one the values are vectors too.

    Its arguments, int64, are addresses: of the values and of the vectors, of what the sums begin with (planar: a number for
    each value, else vectors), of rows that are added to the sums (not planar), and of y; then how many lanes of the last
    vector are stored, and a tuple with everything else, steps in bytes: of the values, the step from one to the next, to
    the next tap and to the next channel; the same of the vectors; the step from one row to the next of what the sums begin
    with, and of what is added; in the latter the step between vectors; that between rows of y; channels, taps, the address
    of the two numbers that sums are clipped to, and whether all taps are one chain.
    """
    signature = types.void(*[types.int64] * 6, types.UniTuple(types.int64, STEPS))

    @intrinsic
    def tile(context, value, vector, start, added, y, count, steps):
        def codegen(context, builder, signature, arguments):
            emitter = _Emitter(builder, arguments, values, vectors, lanes)
            emitter.one = emitter.load if depthwise else emitter.spread
            begins = [emitter.at(emitter.start, emitter.start_step, f) for f in range(values)]
            sums = [
                emitter.spread(begin) if planar else emitter.load(builder_add(builder, begin, 4 * lanes * v))
                for begin in begins
                for v in range(vectors)
            ]
            made = emitter.emit(sums, together)
            emitter.store(emitter.bounded(made if planar else emitter.plus(made)))
            return context.get_dummy_value()

        return signature, codegen

    return tile


def _ladder(vectors: int, lanes: int = LANES) -> object:
    """Return a kernel that makes rows of so many vectors of output channels, of many frames at a time, some, and one."""
    many, some = _tile(MANY, vectors, lanes=lanes), _tile(SOME, vectors, lanes=lanes)
    one = _tile(1, vectors, lanes=lanes, together=TOGETHER)

    @kernel
    def ladder(x, w, start, added, y, count, frames, steps):
        x_step, start_step, added_step, y_step = steps[0], steps[6], steps[7], steps[9]
        t = 0
        while t < frames:
            if frames - t >= MANY:
                many(x, w, start, added, y, count, steps)
                done = MANY
            elif frames - t >= SOME:
                some(x, w, start, added, y, count, steps)
                done = SOME
            else:
                one(x, w, start, added, y, count, steps)
                done = 1
            x, start, added, y = (
                x + done * x_step,
                start + done * start_step,
                added + done * added_step,
                y + done * y_step,
            )
            t += done

    return ladder


_wide, _narrow, _half = _ladder(2), _ladder(1), _ladder(1, HALF)
one_of_eight, one_of_four, one_of_two, one_of_one, one_of_half = (
    _tile(1, 8), _tile(1, 4, together=TOGETHER), _tile(1, 2, together=TOGETHER), _tile(1, 1, together=TOGETHER),
    _tile(1, 1, lanes=HALF, together=TOGETHER),
)  # fmt: skip
one_of_one_by_tap, one_of_half_by_tap = _tile(1, 1, together=0), _tile(1, 1, lanes=HALF, together=0)


@kernel
def one_row(x, w, start, added, y, outputs, steps):
    """Make one row; as `rows`, but with as many sums at a time as there are registers."""
    size, apart, taps, left = steps[3], steps[8], steps[11], outputs
    while left > 0:
        if left > 7 * LANES and taps == 1:
            one_of_eight(x, w, start, added, y, min(left - 7 * LANES, LANES), steps)
            vectors = 8
        elif left > 3 * LANES:
            one_of_four(x, w, start, added, y, min(left - 3 * LANES, LANES), steps)
            vectors = 4
        elif left > LANES:
            one_of_two(x, w, start, added, y, min(left - LANES, LANES), steps)
            vectors = 2
        elif left > HALF:
            one_of_one(x, w, start, added, y, left, steps)
            vectors = 1
        else:
            one_of_half(x, w, start, added, y, left, steps)
            vectors = 1
        w, start, added = w + vectors * size, start + vectors * BYTES, added + vectors * apart
        y, left = y + vectors * BYTES, left - vectors * LANES


@kernel
def rows(x, w, start, added, y, outputs, frames, steps):
    """Make `frames` rows of `outputs` channels, side by side, from windows of taps x channels values.

    `steps`: as a tile takes them, with weights that are `packed`. What the rows begin with, and what is added to them, must
    be readable up to a whole vector.
    """
    size, apart, left = steps[3], steps[8], outputs
    while left > 0:
        vectors = 2 if left > LANES else 1
        if left > LANES:
            _wide(x, w, start, added, y, min(left - LANES, LANES), frames, steps)
        elif left > HALF:
            _narrow(x, w, start, added, y, left, frames, steps)
        else:
            _half(x, w, start, added, y, left, frames, steps)
        w, start, added = w + vectors * size, start + vectors * BYTES, added + vectors * apart
        y, left = y + vectors * BYTES, left - vectors * LANES


@kernel
def product(
    w, start, start_step, bounds, nothing, x, x_step, x_tap, x_channel, channels, taps, y, y_step, outputs, frames
):
    """Make rows of windows of any shape; a single channel's taps are one chain, so they become channels of one tap.

    `nothing`: a vector of negative zeros, which to add changes nothing.
    """
    size, chain = BYTES * taps * channels, 0
    if channels == 1:
        chain, channels, x_channel, taps = 1, taps, x_tap, 1
    steps = (
        x_step, x_tap, x_channel, size, BYTES * channels, BYTES, start_step, 0, 0, y_step, channels, taps, bounds, chain
    )  # fmt: skip
    if frames == 1:
        one_row(x, w, start, nothing, y, outputs, steps)
    else:
        rows(x, w, start, nothing, y, outputs, frames, steps)


_many_channels, _one_channels = _tile(SOME, 1, depthwise=True), _tile(1, 1, depthwise=True)


@kernel
def depthwise_rows(x, x_step, tap_step, weights, taps, start, bounds, nothing, y, y_step, count, frames):
    """Make rows of up to a vector of channels, each from its own taps: one chain, which begins with the bias."""
    steps, t = (x_step, 0, tap_step, 0, 0, BYTES, 0, 0, 0, y_step, taps, 1, bounds, 1), 0
    while t < frames:
        if frames - t >= SOME:
            _many_channels(x, weights, start, nothing, y, count, steps)
            done = SOME
        else:
            _one_channels(x, weights, start, nothing, y, count, steps)
            done = 1
        x, y, t = x + done * x_step, y + done * y_step, t + done


_planar_large, _planar_wide = _tile(OUTPUTS, FRAMES, planar=True), _tile(1, FRAMES, planar=True)
_planar_high, _planar_small = _tile(OUTPUTS, 1, planar=True), _tile(1, 1, planar=True)


@kernel
def planar_product(weights, start, bounds, x, tap_step, channel_step, channels, taps, y, y_step, outputs, frames):
    """Make `outputs` runs of `frames` values from windows of as many runs of values as there are channels.

    `weights`: of (taps, channels, outputs) float32; `start`: a bias for each output; steps are in bytes, from one tap or
    channel to the next, and between the runs at y. Behind each run at x and y, up to a whole vector may be read and
    written.
    """
    chain, row = 0, 4 * outputs
    tap = row * channels
    if channels == 1:
        chain, channels, channel_step, taps, tap = 1, taps, tap_step, 1, 0
    steps = (4, tap, row, BYTES, tap_step, channel_step, 4, 0, 0, y_step, channels, taps, bounds, chain)
    o = 0
    while o < outputs:
        few = outputs - o < OUTPUTS
        t = 0
        while t < frames:
            many, a, z = frames - t > (FRAMES - 1) * LANES, x + 4 * t, y + 4 * t
            if many and few:
                _planar_wide(weights, a, start, 0, z, LANES, steps)
            elif many:
                _planar_large(weights, a, start, 0, z, LANES, steps)
            elif few:
                _planar_small(weights, a, start, 0, z, LANES, steps)
            else:
                _planar_high(weights, a, start, 0, z, LANES, steps)
            t += FRAMES * LANES if many else LANES
        made = 1 if few else OUTPUTS
        weights, start, y, o = weights + 4 * made, start + 4 * made, y + made * y_step, o + made


def packed(kernel_: np.ndarray, bias: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (taps, channels, outputs) as (vectors, taps, channels, lanes), and a bias as (vectors, lanes)."""
    outputs = kernel_.shape[2]
    vectors = -(-outputs // LANES)
    padded = np.zeros((*kernel_.shape[:2], vectors * LANES), np.float32)
    padded[:, :, :outputs] = kernel_
    biases = np.zeros(vectors * LANES, np.float32)
    biases[:outputs] = 0 if bias is None else bias
    return padded.reshape(*kernel_.shape[:2], vectors, LANES).transpose(2, 0, 1, 3), biases
