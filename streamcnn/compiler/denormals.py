"""Denormal numbers off, and back as they were.

Numbers below 2^-126 take the core a hundred times longer than others, and every state that decays towards zero ends among
them. The processor can take them for zero instead; that is a setting of the thread, which others may want differently, so
it holds while a block is processed and no longer. x86 takes them for zero both where they are read and where they would be
made; so do ARM's vector units. A processor that is neither keeps them, and their cost.
"""

import platform

from numba import types

from streamcnn.compiler.kernel import INT
from streamcnn.compiler.numba_abi import cgutils, intrinsic, ir

BYTE, WORD = ir.IntType(8), ir.IntType(32)
X86 = platform.machine().lower() in ("x86_64", "amd64")
ARM = platform.machine().lower() in ("aarch64", "arm64")
FLUSH = 0x8040 if X86 else 1 << 24  # MXCSR's FTZ and DAZ, or FPCR's FZ


def _read(builder: ir.IRBuilder) -> ir.Value:
    """Emit code that reads the floating-point settings."""
    if ARM:
        kind = ir.FunctionType(INT, [])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.aarch64.get.fpcr"), [])
    if not X86:
        return ir.Constant(INT, 0)
    place = cgutils.alloca_once(builder, WORD)
    builder.call(_x86(builder, "stmxcsr"), [builder.bitcast(place, BYTE.as_pointer())])
    return builder.zext(builder.load(place), INT)


def _write(builder: ir.IRBuilder, settings: ir.Value) -> None:
    """Emit code that changes the floating-point settings."""
    if ARM:
        kind = ir.FunctionType(ir.VoidType(), [INT])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.aarch64.set.fpcr"), [settings])
    elif X86:
        place = cgutils.alloca_once(builder, WORD)
        builder.store(builder.trunc(settings, WORD), place)
        builder.call(_x86(builder, "ldmxcsr"), [builder.bitcast(place, BYTE.as_pointer())])


def _x86(builder: ir.IRBuilder, name: str) -> ir.Function:
    kind = ir.FunctionType(ir.VoidType(), [BYTE.as_pointer()])
    return cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.sse.{name}")


@intrinsic
def flush_denormals(context):
    """Take denormal numbers for zero; return the settings before."""

    def codegen(context, builder, signature, arguments):
        before = _read(builder)
        wanted = builder.or_(before, ir.Constant(INT, FLUSH))
        # To write takes longer than to read: a loop over blocks that has set it already shall not pay for that.
        with builder.if_then(builder.icmp_signed("!=", before, wanted)):
            _write(builder, wanted)
        return before

    return types.int64(), codegen


@intrinsic
def restore(context, before):
    """Set the floating-point settings as they were."""

    def codegen(context, builder, signature, arguments):
        settings = arguments[0]
        flushed = builder.icmp_signed("==", builder.and_(settings, ir.Constant(INT, FLUSH)), ir.Constant(INT, FLUSH))
        with builder.if_then(builder.not_(flushed)):
            _write(builder, settings)
        return context.get_dummy_value()

    return types.void(types.int64), codegen
