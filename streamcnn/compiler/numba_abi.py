"""The inner parts of Numba and LLVM that kernels are made with, all in one place: no release promises that they stay.

All other files use Numba's public names alone (`njit`, `cfunc`, `types`, `config`), and what is exported here. Where a part is
missing, or `self_test` finds that one does other things than it did, the error names the versions and those that fit.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import llvmlite
import numba

from streamcnn.errors import MissingPartError

FITTING = "numba>=0.60,<0.69"  # as in pyproject.toml


def unfit(problem: str) -> MissingPartError:
    """Return what there is to say of a Numba whose inner parts are others."""
    return MissingPartError(
        f"Numba {numba.__version__} with llvmlite {llvmlite.__version__} cannot compile streamcnn: {problem}",
        f"install one that fits: pip install '{FITTING}'",
    )


try:
    from llvmlite import binding, ir
    from numba.core import cgutils, event
    from numba.core.errors import NumbaError, NumbaWarning
    from numba.core.typeconv import Conversion
    from numba.core.typing.templates import AbstractTemplate, infer_global, signature
    from numba.extending import intrinsic, lower_builtin, lower_cast, models, register_model
except ImportError as error:
    raise unfit(str(error)) from error

__all__ = [
    "AbstractTemplate",
    "Conversion",
    "NumbaError",
    "NumbaWarning",
    "binding",
    "cgutils",
    "code_address",
    "first_pass",
    "infer_global",
    "intrinsic",
    "ir",
    "lower_builtin",
    "lower_cast",
    "models",
    "register_model",
    "self_test",
    "signature",
    "unfit",
    "versions",
]


def versions() -> list[str]:
    """Return what compiles, and the processor that it compiles for: machine code of others is not to be used."""
    processor = [binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()]
    return [numba.__version__, llvmlite.__version__, *processor]


def code_address(compiled: Callable) -> int:
    """Return where the machine code of a compiled function lies, in Numba's own calling convention.

    Its arguments come behind two places, for the result and for an error; it returns a status.
    """
    (made,) = compiled.overloads.values()
    return made.library.get_pointer_to_function(made.fndesc.llvm_func_name)


class _FirstPass(event.Listener):
    """Calls `begin` when Numba's compiler begins its first pass."""

    def __init__(self, begin: Callable[[], None]):
        self._begin: Callable[[], None] | None = begin

    def on_start(self, event: event.Event) -> None:
        """A pass begins."""
        begin, self._begin = self._begin, None
        if begin is not None:
            begin()

    def on_end(self, event: event.Event) -> None:
        """A pass has ended."""


@contextmanager
def first_pass(begin: Callable[[], None]) -> Iterator[None]:
    """Call `begin` when, in this block, Numba begins to compile: what it loads from a cache does not count."""
    with event.install_listener("numba:run_pass", _FirstPass(begin)):
        yield


def self_test() -> None:
    """Compile a few lines that use these parts, and see that they do what they did; raises MissingPartError."""
    passes = []

    @intrinsic
    def twice(context, number):
        return number(number), lambda context, builder, signature, values: builder.add(values[0], values[0])

    try:
        with first_pass(lambda: passes.append(True)):
            compiled = numba.njit("int64(int64)", nogil=True)(lambda number: twice(number) + 1)
        address = code_address(compiled)
        found = compiled(20)
    except (NumbaError, AttributeError, TypeError, ValueError) as error:
        raise unfit(f"{type(error).__name__}: {error}".splitlines()[0]) from error
    if (found, passes, address != 0) != (41, [True], True):
        raise unfit(f"a trial gives {found} and {len(passes)} first passes, not 41 and 1")
