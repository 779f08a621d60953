"""Pickled weight lists to graphs, read by an unpickler that admits NumPy arrays and lists and nothing else.

A pickle is a program. This reader resolves only the few names that NumPy's own arrays are pickled with, and each of them to a
stand-in of ours: handing out NumPy's own dtype would let a file forge arrays of pointers. Anything else is refused before
it runs.
"""

import io
import pickle
import pickletools
import re
from os import PathLike
from pathlib import Path

import numpy as np

from streamcnn.errors import GraphError, NetFileError
from streamcnn.graph.graph import Graph, NetInfo
from streamcnn.graph.layers import Conv1D

MAX_BYTES = 256 * 2**20
ORDERS = ("keras", "torch")


def import_pickle(
    path: str | PathLike[str], *, order: str | None = None, padding: str = "causal", info: NetInfo | None = None
) -> Graph:
    """Convert a pickled list [kernel] or [kernel, bias] of one Conv1D, as `layer.get_weights()` gives it.

    `order`: "keras" for kernels (tap, input, output), "torch" for (output, input, tap); the default None is Keras'
    order where that is plain, and refuses a kernel that would have one tap and several outputs, as a torch one looks
    then.

    Raises NetFileError for a file that holds anything else, or that asks to run code.
    """
    path = Path(path)
    arrays = _arrays(path)
    kernel, bias = arrays[0], arrays[1] if len(arrays) > 1 else None
    if kernel.ndim != 3:
        raise NetFileError(f"{path}: the kernel has the shape {kernel.shape}, expected three axes")
    if order is None and kernel.shape[0] == 1 and kernel.shape[2] > 1:
        raise NetFileError(
            f"{path}: a kernel of shape {kernel.shape} is one tap with {kernel.shape[2]} outputs in Keras' "
            f"order, but {kernel.shape[2]} taps in PyTorch's",
            "say which with --order keras or --order torch",
        )
    if order == "torch":
        kernel = kernel.transpose(2, 1, 0)
    try:
        layer = Conv1D(kernel=kernel, bias=bias, padding=padding)
        return Graph.sequential([layer], layer.kernel.shape[1], info or NetInfo(name=path.stem))
    except GraphError as error:
        raise NetFileError(f"{path}: {error.message}", error.remedy) from error


_STRANGE = ("NEXT_BUFFER", "READONLY_BUFFER", "PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4")


def _arrays(path: Path) -> list[np.ndarray]:
    try:
        data = path.read_bytes() if path.stat().st_size <= MAX_BYTES else None
    except OSError as error:
        raise NetFileError(f"{path}: cannot be read: {error.strerror}") from error
    if data is None:
        raise NetFileError(f"{path}: larger than {MAX_BYTES >> 20} MiB, which no list of weights is")
    _refuse_strange(path, data)
    try:
        content = _Restricted(io.BytesIO(data)).load()
    except pickle.UnpicklingError as error:
        raise NetFileError(f"{path}: {error}") from error
    except Exception as error:
        raise NetFileError(f"{path}: damaged, or not a pickle: {error!r}") from error
    if isinstance(content, _Pickled):
        content = [content]
    if not isinstance(content, list) or not 1 <= len(content) <= 2:
        raise NetFileError(f"{path}: holds a {type(content).__name__}, expected a list [kernel] or [kernel, bias]")
    for item in content:
        if not isinstance(item, _Pickled) or item.value is None:
            raise NetFileError(f"{path}: the list holds a {type(item).__name__}, expected arrays of floats")
    return [item.value for item in content]


class _FloatType:
    """Stands in for numpy.dtype, for the floats that weights are: nothing else of a pickled dtype is believed."""

    def __init__(self, name: str, *_flags: object):
        if not isinstance(name, str) or not re.fullmatch(r"[<>=]?f[248]", name):
            raise pickle.UnpicklingError(f"refused: numbers of the type {name!r}, and weights are floats")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple) -> None:
        order = state[1]
        if order not in ("<", ">", "=") or any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("refused: a dtype that is no plain float")
        self.dtype = self.dtype.newbyteorder(order)


class _Pickled:
    """Stands in for numpy.ndarray while a pickle is read: collects what it says, and believes none of it yet."""

    def __init__(self, *_reconstruct_arguments: object):
        self.value: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        _version, shape, kind, is_fortran, data = state
        self.value = _array(data, kind, shape, "F" if is_fortran else "C")


def _array(data: object, kind: object, shape: object, order: str) -> np.ndarray:
    if not isinstance(kind, _FloatType) or not isinstance(data, (bytes, bytearray)):
        raise pickle.UnpicklingError("refused: an array of something else than floats")
    return np.frombuffer(bytes(data), kind.dtype).reshape(shape, order=order)


def _from_buffer(data: object, kind: object, shape: object, order: str) -> _Pickled:
    """Stand in for numpy's helper of pickle protocol 5."""
    pickled = _Pickled()
    pickled.value = _array(data, kind, shape, order)
    return pickled


def _latin1(text: object, encoding: object) -> bytes:
    """Stand in for codecs.encode, with which protocols 0 to 2 write an array's bytes."""
    if encoding != "latin1" or not isinstance(text, str):
        raise pickle.UnpicklingError(f"refused: text in the encoding {encoding!r}")
    return text.encode("latin1")


_STAND_INS = {
    ("numpy", "ndarray"): _Pickled,
    ("numpy", "dtype"): _FloatType,
    ("_codecs", "encode"): _latin1,
    **{(f"numpy.{package}.multiarray", "_reconstruct"): _Pickled for package in ("core", "_core")},
    **{(f"numpy.{package}.numeric", "_frombuffer"): _from_buffer for package in ("core", "_core")},
}


def _refuse_strange(path: Path, data: bytes) -> None:
    """Refuse, before it is read, a pickle that asks for more memory than it has bytes, or for what no list of arrays needs."""
    try:
        for code, argument, _ in pickletools.genops(data):
            if code.name in _STRANGE or (code.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > len(data)):
                raise NetFileError(f"{path}: damaged, or not a list of weights: it has the code {code.name} {argument!r}")
    except NetFileError:
        raise
    except Exception as error:
        raise NetFileError(f"{path}: damaged, or not a pickle: {error!r}") from error


class _Restricted(pickle.Unpickler):
    """An unpickler that knows the names that arrays need, each by a stand-in."""

    def find_class(self, module: str, name: str) -> object:
        """Return the stand-in for an admitted name; raises UnpicklingError for every other one."""
        if (module, name) in _STAND_INS:
            return _STAND_INS[module, name]
        raise pickle.UnpicklingError(
            f"refused: it asks for '{module}.{name}', and only NumPy arrays and lists are read"
        )
