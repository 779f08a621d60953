"""How kernels are compiled, and how they reach memory.

Rules. A `kernel` is part of whatever calls it. What the interpreter calls through an address in a table is made by
`build.machine_code`: on its own, once, so that nothing else is compiled again with it. Both have IEEE's arithmetic, in
which a division by zero is no exception.

Memory is reached through addresses. An array as argument is a reference that is counted, with atomic operations, and an
index into it might count from the end, a choice at every step that keeps LLVM from making vector code: of the smallest
nets' time those were four fifths.
"""

from numba import njit, types

from streamcnn.compiler.numba_abi import cgutils, intrinsic, ir

kernel = njit(nogil=True, error_model="numpy")
# For what runs once for each node and frame: a call of Numba's has a result and an error to hand back through memory.
inlined = njit(nogil=True, error_model="numpy", inline="always")
INT, BYTE = ir.IntType(64), ir.IntType(8)


def _pointer(kind: types.Type) -> object:
    """Return an intrinsic that makes a pointer to numbers of a kind from an address."""
    pointer = types.CPointer(kind)

    @intrinsic
    def at(context, address):
        def codegen(context, builder, signature, values):
            return builder.inttoptr(values[0], context.get_value_type(pointer))

        return pointer(types.int64), codegen

    return at


@intrinsic
def address_of(context, pointer):
    """Return the address that a pointer holds."""
    return types.int64(pointer), lambda context, builder, signature, values: builder.ptrtoint(values[0], INT)


floats, doubles = _pointer(types.float32), _pointer(types.float64)
integers, words = _pointer(types.int64), _pointer(types.int32)


def _caller(result: types.Type) -> object:
    """Return an intrinsic that calls the machine code at an address with a tuple of int64.

    The code is called as Numba's own functions are: with places for the result and for an error before the arguments, and a
    status as what it returns, which is not looked at, since kernels raise nothing. (The wrapper that Numba makes for C
    callers would cost a small net a tenth of its time.)
    """

    @intrinsic
    def call(context, address, arguments):
        def codegen(context, builder, signature, values):
            places = [cgutils.alloca_once(builder, kind) for kind in (INT, BYTE.as_pointer())]
            numbers = [builder.extract_value(values[1], k) for k in range(len(arguments))]
            passed = [*places, *numbers]
            kind = ir.FunctionType(ir.IntType(32), [value.type for value in passed])
            builder.call(builder.inttoptr(values[0], kind.as_pointer()), passed)
            return context.get_dummy_value() if result == types.void else builder.load(places[0])

        return result(types.int64, arguments), codegen

    return call


call, invoke = _caller(types.void), _caller(types.int64)
