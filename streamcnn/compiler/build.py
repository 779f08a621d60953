"""Machine code from Python functions: compiled once per machine, then loaded from disk.

Only entry points are compiled with a signature and cached; the kernels they call become part of them. Numba notices a
change in the entry point's own file but not in the files it calls into, so each cache folder is named after everything
that can change the code: our sources, Numba's version and the processor. A cache that cannot be written, because it is
read-only or the disk is full, costs the compile time and nothing else.
"""

import contextlib
import functools
import hashlib
import os
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import llvmlite.binding
import numba
from numba.core.errors import NumbaWarning

_SOURCES = ("compiler", "detect")
_lock = threading.Lock()


def entry_point(signature: str) -> Callable[[Callable], Callable[[], Callable]]:
    """Decorate a function to be compiled for `signature` when it is first asked for.

    The decorated name is a function without arguments that returns the compiled one.
    """

    def decorate(function: Callable) -> Callable[[], Callable]:
        @functools.cache
        def compiled() -> Callable:
            with _lock, _cache_folder(cache_directory()) as writable, warnings.catch_warnings():
                warnings.simplefilter("ignore", NumbaWarning)
                return numba.njit(signature, nogil=True, error_model="numpy", cache=writable)(function)

        return compiled

    return decorate


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
        for source in sorted((Path(__file__).parents[1] / part).rglob("*.py")):
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
