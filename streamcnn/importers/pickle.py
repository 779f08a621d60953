"""Pickled weight lists to graphs, read by an unpickler that admits NumPy arrays and lists and nothing else.

A pickle is a program. This reader resolves only the few names that NumPy's own arrays are pickled with, so a file that
asks for anything else is refused before any of it runs.
"""

import io
import pickle
from os import PathLike
from pathlib import Path

import numpy as np

from streamcnn.errors import GraphError, NetFileError
from streamcnn.graph.graph import Graph, NetInfo
from streamcnn.graph.layers import Conv1D

MAX_BYTES = 256 * 2**20
_ADMITTED = (
    {(f"numpy.{package}.multiarray", name) for package in ("core", "_core") for name in ("_reconstruct", "scalar")}
    | {("numpy", "ndarray"), ("numpy", "dtype")}
    | {(f"numpy.{package}.numeric", "_frombuffer") for package in ("core", "_core")}
)
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


def _arrays(path: Path) -> list[np.ndarray]:
    try:
        data = path.read_bytes() if path.stat().st_size <= MAX_BYTES else None
    except OSError as error:
        raise NetFileError(f"{path}: cannot be read: {error.strerror}") from error
    if data is None:
        raise NetFileError(f"{path}: larger than {MAX_BYTES >> 20} MiB, which no list of weights is")
    try:
        content = _Restricted(io.BytesIO(data)).load()
    except pickle.UnpicklingError as error:
        raise NetFileError(f"{path}: {error}") from error
    except Exception as error:
        raise NetFileError(f"{path}: damaged, or not a pickle: {error!r}") from error
    if isinstance(content, np.ndarray):
        content = [content]
    if not isinstance(content, list) or not 1 <= len(content) <= 2:
        raise NetFileError(f"{path}: holds a {type(content).__name__}, expected a list [kernel] or [kernel, bias]")
    for array in content:
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
            found = f"an array of {array.dtype}" if isinstance(array, np.ndarray) else f"a {type(array).__name__}"
            raise NetFileError(f"{path}: the list holds {found}, expected arrays of floats")
    return content


class _Restricted(pickle.Unpickler):
    """An unpickler that knows the names that arrays need."""

    def find_class(self, module: str, name: str) -> object:
        """Return an admitted name; raises UnpicklingError for every other one."""
        if (module, name) in _ADMITTED:
            return super().find_class(module, name)
        if (module, name) == ("_codecs", "encode"):  # how protocols 0 to 2 write an array's bytes
            return _latin1
        raise pickle.UnpicklingError(
            f"refused: it asks for '{module}.{name}', and only NumPy arrays and lists are read"
        )


def _latin1(text: str, encoding: str) -> bytes:
    """Stand in for codecs.encode, for the one encoding that array pickles use."""
    if encoding != "latin1" or not isinstance(text, str):
        raise pickle.UnpicklingError(f"refused: text in the encoding {encoding!r}")
    return text.encode("latin1")
