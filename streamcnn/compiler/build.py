"""Machine code from Python functions: compiled once per machine, then loaded from disk.

What Python calls (`entry_point`) and what the interpreter calls through its tables (`machine_code`) is compiled with a
signature and cached, each by itself: a net starts with what its own layers need. The kernels they call become part of
them. Numba notices a change in such a function's own file but not in the files it calls into, so each cache folder is named
after everything that can change the code: our sources, Numba's version and the processor. A cache that cannot be written,
because it is read-only or the disk is full, costs the compile time and nothing else.
"""

import contextlib
import functools
import hashlib
import os
import shutil
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import llvmlite.binding
import numba
from numba.core.errors import NumbaWarning

_SOURCES = ("compiler", "detect", "inference", "ring.py", "system.py")
_lock = threading.Lock()


def entry_point(signature: str) -> Callable[[Callable], Callable[[], Callable]]:
    """Decorate a function to be compiled for `signature` when it is first asked for.

    The decorated name is a function without arguments that returns the compiled one.
    """

    def decorate(function: Callable) -> Callable[[], Callable]:
        @functools.cache
        def compiled() -> Callable:
            with _lock, warnings.catch_warnings():
                warnings.simplefilter("ignore", NumbaWarning)
                return _compiled(_jit, function, signature)

        return compiled

    return decorate


_jit = functools.partial(numba.njit, nogil=True, error_model="numpy")


def _compiled(compiler: Callable, function: Callable, signature: str) -> Callable:
    """Return the compiled function, from the cache or through it, or, where the cache fails, without it."""
    folder = cache_directory()
    for _ in range(2):
        with _cache_folder(folder) as writable:
            if not writable:
                break
            with contextlib.suppress(Exception):  # whatever a file of unknown content, or a full disk, can cause
                return compiler(signature, cache=True)(function)
        # What was cut off by a power failure would fail for ever.
        shutil.rmtree(folder, ignore_errors=True)
    return compiler(signature)(function)


def c_function(signature: str) -> Callable[[Callable], Callable[[], int]]:
    """Decorate a function to be compiled for callers in C when its address is first asked for.

    The decorated name is a function without arguments that returns the address.
    """

    def decorate(function: Callable) -> Callable[[], int]:
        @functools.cache
        def compiled() -> object:
            with _lock, warnings.catch_warnings():
                warnings.simplefilter("ignore", NumbaWarning)
                return _compiled(numba.cfunc, function, signature)

        return lambda: compiled().address

    return decorate


def machine_code(signature: str) -> Callable[[Callable], Callable[[], int]]:
    """Decorate a function to be compiled by itself when its address, for `kernel.call`, is first asked for.

    The decorated name is a function without arguments that returns the address.
    """

    def decorate(function: Callable) -> Callable[[], int]:
        compiled = entry_point(signature)(function)

        def address() -> int:
            (made,) = compiled().overloads.values()
            return made.library.get_pointer_to_function(made.fndesc.llvm_func_name)

        address.compiled = compiled
        return functools.wraps(function)(address)

    return decorate


# What the interpreter calls for each node: the addresses of its row, the first output frame's number and how many there
# are, how many frames of the input there are, and the addresses of its frame 0, of the first window and of the output.
OPERATION = "void(int64, int64, int64, int64, int64, int64, int64)"
operation = machine_code(OPERATION)
# The same for a single frame: the addresses of the row, of the window, of the output, and of a frame that is added.
operation_of_one = machine_code("void(int64, int64, int64, int64)")
# A function of values in place: its number, the addresses of its parameters and of the values, how many there are, the
# length of the runs that softmax and its kin work on, and the address of a scratch.
activation = machine_code("void(int64, int64, int64, int64, int64, int64)")


@functools.cache
def cache_directory() -> Path:
    """Return the folder for compiled code of exactly this version on exactly this processor."""
    base = os.environ.get("STREAMCNN_CACHE_DIR") or os.environ.get("CACHE_DIRECTORY")
    if base is None:
        base = Path(os.environ.get("XDG_CACHE_HOME") or _home() / ".cache") / "streamcnn"
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    overrides = [os.environ.get(name) for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")]
    digest.update(f"{llvmlite.binding.get_host_cpu_name()} {overrides}".encode())
    for part in _SOURCES:
        path = Path(__file__).parents[1] / part
        for source in [path] if path.suffix else sorted(path.rglob("*.py")):
            digest.update(source.read_bytes())
    return Path(base) / digest.hexdigest()[:16]


def is_cold() -> bool:
    """Whether nothing has been compiled on this machine yet, so that the first engine will take its time."""
    return not any(cache_directory().rglob("*.nbi"))


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # a user without a home, as in containers
        return Path(tempfile.gettempdir()) / f"streamcnn-{os.getuid()}"


@contextlib.contextmanager
def _cache_folder(folder: Path) -> Iterator[bool]:
    """Let Numba cache in `folder` for the time of one compilation; tells whether it can be written at all."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"0" * 65536)
    except OSError:
        yield False
        return
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder)
    try:
        yield True
    finally:
        numba.config.CACHE_DIR = before
