"""Machine code from Python functions: compiled once per machine, then loaded from disk.

What Python calls (`entry_point`) and what the interpreter calls through its tables (`machine_code`) is compiled with a
signature and cached, each by itself: a net starts with what its own layers need. The kernels they call become part of
them, and so do the constants of every module that these import. Numba notices a change in a function's own file but not in
the others. So a function's cache folder is named after everything that its code can be made of: the sources of its module
and of all that this imports, directly or not; Numba, LLVM, NumPy, Python and the processor. A cache that cannot be written,
because it is read-only or the disk is full, costs the compile time and nothing else.

Processes that start together compile each function once: whoever begins first locks the function's folder, the others wait
and load what he made.
"""

import ast
import contextlib
import fcntl
import functools
import hashlib
import inspect
import os
import shutil
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numba
import numpy

from streamcnn.compiler.numba_abi import NumbaError, NumbaWarning, code_address, first_pass, unfit, versions

PACKAGE = Path(__file__).parents[1]
LONGEST_WAIT_S = 120.0  # for another process; one that is stopped must not stop us
SAID_AFTER_S = 0.5
POLL_S = 0.02
_lock = threading.Lock()
_given_up: set[Path] = set()


class Told:
    """Who is told of compilations, which take a while: nobody, unless a program puts somebody here.

    `compiling` returns a context that lasts as long as one does; `waiting` is called where another process compiles.
    """

    compiling: Callable[[], contextlib.AbstractContextManager] = staticmethod(contextlib.nullcontext)
    waiting: Callable[[], None] = staticmethod(lambda: None)


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
    folder = cache_directory(inspect.getfile(function))
    tries = 2
    while tries:
        with _cache_folder(folder) as writable:
            if not writable:
                break
            try:
                with _told_of_compilation(folder):
                    return compiler(signature, cache=True)(function)
            except _CompiledElsewhereError:
                continue  # and loaded now
            except Exception:  # noqa: BLE001 (whatever a file of unknown content, or a full disk, can cause)
                pass
        # What was cut off by a power failure would fail for ever.
        shutil.rmtree(folder, ignore_errors=True)
        tries -= 1
    try:
        with _told_of_compilation(None):
            return compiler(signature)(function)
    except NumbaError as error:
        raise unfit(f"{function.__name__}: {error}".splitlines()[0]) from error


class _CompiledElsewhereError(Exception):
    """Another process has compiled meanwhile, and perhaps the very function."""


@contextlib.contextmanager
def _told_of_compilation(folder: Path | None) -> Iterator[None]:
    """Where Numba compiles in this block, and loads nothing, tell so, and have no other process compile into the folder.

    Raises _CompiledElsewhereError, out of Numba's compiler, where another one just did.
    """
    with contextlib.ExitStack() as compilation:

        def begin() -> None:
            if folder is not None and not compilation.enter_context(_locked(folder)):
                raise _CompiledElsewhereError
            compilation.enter_context(Told.compiling())

        with first_pass(begin):
            yield


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Hold a folder's lock; tells whether nobody else had it. Without a lock where that cannot be had."""
    waited_s, said, free, pause = 0.0, False, True, threading.Event()
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError:
        yield True
        return
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                free = False
                if waited_s > LONGEST_WAIT_S or folder in _given_up:
                    free = True
                    _given_up.add(folder)  # its holder is stopped: that is not waited for again
                    break
                if waited_s > SAID_AFTER_S and not said:
                    said = True
                    Told.waiting()
                pause.wait(POLL_S)
                waited_s += POLL_S
                continue
            except OSError:  # a file system without locks
                pass
            break
        yield free
    finally:
        os.close(descriptor)


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
            return code_address(compiled())

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
def cache_directory(source: str) -> Path:
    """Return the folder for machine code of functions in a file of sources, of exactly this version on this processor."""
    base = os.environ.get("STREAMCNN_CACHE_DIR") or os.environ.get("CACHE_DIRECTORY")
    if base is None:
        base = Path(os.environ.get("XDG_CACHE_HOME") or _home() / ".cache") / "streamcnn"
    digest = hashlib.sha256(_toolchain())
    for path in sorted(sources(Path(source))):
        digest.update(path.read_bytes())
    return Path(base) / digest.hexdigest()[:16]


@functools.cache
def _toolchain() -> bytes:
    """Return what compiles, and for which processor."""
    settings = sorted(f"{name}={value}" for name, value in os.environ.items() if name.startswith("NUMBA_"))
    return "\n".join([sys.version, numpy.__version__, *versions(), *settings]).encode()


def sources(source: Path) -> set[Path]:
    """Return the file of a module and those of all our modules that it imports, directly or not.

    With those of the packages that they are in, which are executed before them.
    """
    found, left = set(), [source]
    while left:
        path = left.pop()
        if path in found:
            continue
        found.add(path)
        found |= {folder / "__init__.py" for folder in path.parents if PACKAGE in (folder, *folder.parents)}
        left += _imported(path)
    return found


@functools.cache
def _imported(path: Path) -> list[Path]:
    """Return the files of our modules that a file's own statements import, wherever in it they stand."""
    names = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = ".".join([*_package_of(path, node.level), *filter(None, [node.module])])
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}  # a name may be a module
    ours = [PACKAGE.joinpath(*name.split(".")[1:]) for name in names if name.split(".")[0] == PACKAGE.name]
    files = [file for module in ours for file in (module.with_name(f"{module.name}.py"), module / "__init__.py")]
    return [file for file in files if file.is_file()]


def _package_of(path: Path, level: int) -> tuple[str, ...]:
    """Return the names of the package from which an import with so many dots, in a file of ours, begins."""
    return (PACKAGE / path).parents[level - 1].relative_to(PACKAGE.parent).parts if level else ()


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
