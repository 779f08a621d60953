"""Vectors as values of Numba: as many float32, or int32, as a register of this processor has, with what code about them needs.

What LLVM makes of a loop over single values does them one by one where there are few, as in a frame of sixteen channels,
and that takes longer than all the rest. These are vectors from the start: `load` and `store` take addresses, operators work
lane by lane, and a float32 beside a vector stands for one with that value in every lane.
"""

import operator

from numba import config, types

from streamcnn.compiler.numba_abi import (
    AbstractTemplate,
    Conversion,
    binding,
    cgutils,
    infer_global,
    intrinsic,
    ir,
    lower_builtin,
    lower_cast,
    models,
    register_model,
    signature,
)


def lanes() -> int:
    """Return how many float32 a vector register of this processor, or of the one that code is made for, holds."""
    given = config.CPU_FEATURES
    features = binding.get_host_cpu_features() if given is None else dict.fromkeys(given.split(","), True)
    names = {name.removeprefix("+"): on and not name.startswith("-") for name, on in features.items()}
    return 16 if names.get("avx512f") else 8 if names.get("avx2") else 4


LANES = lanes()
BYTES = 4 * LANES


class Vector(types.Type):
    """A vector of LANES numbers of one kind."""

    def __init__(self, kind: types.Type):
        self.kind = kind
        super().__init__(name=f"Vector({kind}, {LANES})")

    def can_convert_from(self, typingctx: object, other: types.Type) -> Conversion | None:
        """Take a number of the kind for a vector of it."""
        return Conversion.safe if other == self.kind else None


FLOATS, INTS = Vector(types.float32), Vector(types.int32)
LLVM = {FLOATS: ir.VectorType(ir.FloatType(), LANES), INTS: ir.VectorType(ir.IntType(32), LANES)}


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: object, kind: Vector):
        super().__init__(manager, kind, LLVM[kind])


def spread(builder: ir.IRBuilder, value: ir.Value, lanes: int = LANES) -> ir.Value:
    """Emit a vector that has a value in all lanes."""
    kind = ir.VectorType(value.type, lanes)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes))


@lower_cast(types.float32, FLOATS)
@lower_cast(types.int32, INTS)
def _spread(context, builder, kind, wanted, value):
    return spread(builder, value)


def _operate(operation: object, kind: Vector, emit: str) -> None:
    """Give vectors of a kind an operator of Python's, by the name of the instruction."""

    @infer_global(operation)
    class Operation(AbstractTemplate):
        def generic(self, arguments: tuple, keywords: dict) -> object:
            if kind in arguments and all(one in (kind, kind.kind) for one in arguments):
                return signature(kind, *[kind] * len(arguments))
            return None

    arity = 1 if operation is operator.neg else 2

    @lower_builtin(operation, *[kind] * arity)
    def lowered(context, builder, signature, arguments):
        return getattr(builder, emit)(*arguments)


for _operator, _name in {operator.add: "fadd", operator.sub: "fsub", operator.mul: "fmul", operator.truediv: "fdiv",
                         operator.neg: "fneg"}.items():  # fmt: skip
    _operate(_operator, FLOATS, _name)
for _operator, _name in {
    operator.add: "add",
    operator.sub: "sub",
    operator.lshift: "shl",
    operator.rshift: "ashr",
}.items():
    _operate(_operator, INTS, _name)


@intrinsic
def load(context, address):
    """Load a vector of float32 from an address."""

    def codegen(context, builder, signature, values):
        return builder.load(builder.inttoptr(values[0], LLVM[FLOATS].as_pointer()), align=4)

    return FLOATS(types.int64), codegen


@intrinsic
def store(context, address, vector):
    """Store a vector of float32 at an address."""

    def codegen(context, builder, signature, values):
        builder.store(values[1], builder.inttoptr(values[0], LLVM[FLOATS].as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, FLOATS), codegen


def store_first_of(builder: ir.IRBuilder, address: ir.Value, vector: ir.Value, count: ir.Value) -> None:
    """Emit a store of a vector's first values; of a single one as such, so that it can be loaded again at once."""
    single = builder.icmp_signed("==", count, ir.Constant(count.type, 1))
    with builder.if_else(single) as (one, several):
        with one:
            value = builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))
            builder.store(value, builder.inttoptr(address, value.type.as_pointer()))
        with several:
            _masked_store(builder, address, vector, count)


def _masked_store(builder: ir.IRBuilder, address: ir.Value, vector: ir.Value, count: ir.Value) -> None:
    """Emit a store of a vector's first `count` (int64) values under a mask."""
    lanes, int_ = vector.type.count, ir.IntType(32)
    numbers = ir.Constant(ir.VectorType(int_, lanes), list(range(lanes)))
    mask = builder.icmp_signed("<", numbers, spread(builder, builder.trunc(count, int_), lanes))
    kind = ir.FunctionType(ir.VoidType(), [vector.type, vector.type.as_pointer(), int_, mask.type])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.store.v{lanes}f32.p0")
    builder.call(function, [vector, builder.inttoptr(address, vector.type.as_pointer()), ir.Constant(int_, 4), mask])


@intrinsic
def store_first(context, address, vector, count):
    """Store the first values of a vector of float32 at an address, `count` of them or as many as there are."""

    def codegen(context, builder, signature, values):
        address, vector, count = values
        full = builder.icmp_signed(">=", count, ir.Constant(count.type, LANES))
        # A whole vector is stored as such: what is stored under a mask cannot be loaded again until it is in the cache.
        with builder.if_else(full) as (whole, part):
            with whole:
                builder.store(vector, builder.inttoptr(address, vector.type.as_pointer()), align=4)
            with part:
                store_first_of(builder, address, vector, count)
        return context.get_dummy_value()

    return types.void(types.int64, FLOATS, types.int64), codegen


@intrinsic
def vector_of(context, value):
    """A vector with a number in all lanes."""
    return FLOATS(types.float32), lambda context, builder, signature, values: spread(builder, values[0])


def _kind(*arguments: types.Type) -> types.Type:
    """Return what a function of these makes: a vector, where one of them is one."""
    return FLOATS if FLOATS in arguments else types.float32


@intrinsic
def fma(context, a, b, c):
    """A * b + c, rounded once; of numbers or of vectors."""
    kind = _kind(a, b, c)

    def codegen(context, builder, signature, values):
        llvm = context.get_value_type(kind)
        name = f"llvm.fma.v{LANES}f32" if kind == FLOATS else "llvm.fma.f32"
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(llvm, [llvm] * 3), name)
        return builder.call(function, values)

    return kind(kind, kind, kind), codegen


def _bound(order: str) -> object:
    """Return an intrinsic that puts a bound where a number is beyond it; a NaN passes."""

    @intrinsic
    def bounded(context, x, bound):
        kind = _kind(x, bound)

        def codegen(context, builder, signature, values):
            return builder.select(builder.fcmp_ordered(order, values[0], values[1]), values[1], values[0])

        return kind(kind, kind), codegen

    return bounded


at_least, at_most = _bound("<"), _bound(">")


@intrinsic
def larger(context, a, b):
    """The larger of two vectors' values; a NaN, where one is."""

    def codegen(context, builder, signature, values):
        a, b = values
        larger = builder.select(builder.fcmp_unordered("<=", b, a), a, b)
        return builder.select(builder.fcmp_unordered("!=", b, b), b, larger)

    return FLOATS(FLOATS, FLOATS), codegen


@intrinsic
def where_negative(context, x, a, b):
    """A where x is below zero, b elsewhere; of vectors."""

    def codegen(context, builder, signature, values):
        x, a, b = values
        return builder.select(builder.fcmp_ordered("<", x, ir.Constant(x.type, [0.0] * LANES)), a, b)

    return FLOATS(FLOATS, FLOATS, FLOATS), codegen


def _cast(wanted: types.Type) -> object:
    return lambda context, builder, signature, values: builder.bitcast(values[0], context.get_value_type(wanted))


@intrinsic
def bits_of(context, x):
    """The bits of float32, as int32."""
    kind = INTS if x == FLOATS else types.int32
    return kind(_kind(x)), _cast(kind)


@intrinsic
def of_bits(context, bits):
    """The float32 that int32 have the bits of."""
    kind = FLOATS if bits == INTS else types.float32
    given = INTS if bits == INTS else types.int32
    return kind(given), _cast(kind)
