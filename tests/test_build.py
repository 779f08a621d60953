"""Compiled code and its cache: compiled once, never the wrong code, and no cache is ever needed."""

import gc
import os
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core.runtime import _nrt_python, rtsys

from streamcnn import layers as L
from streamcnn.compiler import build
from streamcnn.compiler.program import OPERATIONS
from streamcnn.engine import Engine
from streamcnn.graph.graph import Graph, Node
from streamcnn.stopwatch import Course
from tests.graphs import signal

START = """
import numpy as np
from streamcnn import layers as L
from streamcnn.engine import Engine
from streamcnn.graph.graph import Graph
engine = Engine(Graph.sequential([L.Conv1D(kernel=np.ones((3, 1, 2)), activation="tanh")]))
print(engine.process(np.ones(4)).sum())
"""
RESULT = "7.4"  # 2 * (tanh(1) + tanh(2) + 2 * tanh(3)), to a digit


def start(cache: Path) -> subprocess.Popen:
    """Start a process that makes an engine, with a cache folder."""
    environment = {**os.environ, "STREAMCNN_CACHE_DIR": str(cache)}
    return subprocess.Popen([sys.executable, "-c", START], env=environment, stdout=subprocess.PIPE, text=True)


def result(process: subprocess.Popen) -> str:
    """Return what a process printed; it must have ended well."""
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return out


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that two processes filled at the same time."""
    cache = tmp_path_factory.mktemp("cache")
    for process in [start(cache), start(cache)]:
        assert result(process).startswith(RESULT)
    return cache


def test_two_processes_may_fill_the_cache_at_once(filled: Path):
    """Processes that start together on an empty cache both work, and leave one that the next one loads from."""
    before = {path: path.stat().st_mtime_ns for path in filled.rglob("*.nb?")}
    assert before
    assert result(start(filled)).startswith(RESULT)
    assert {path: path.stat().st_mtime_ns for path in filled.rglob("*.nb?")} == before


@pytest.mark.parametrize("ending", [".nbi", ".nbc"])
@pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"half"])
def test_a_broken_cache_is_made_anew(filled: Path, ending: str, content: bytes):
    """Files that a power failure cut off, or left full of zeros, are replaced, and nobody notices."""
    for path in filled.rglob(f"*{ending}"):
        path.write_bytes(content)
    assert result(start(filled)).startswith(RESULT)
    assert all(path.read_bytes() != content for path in filled.rglob(f"*{ending}"))
    assert list(filled.rglob(f"*{ending}"))


def test_a_cache_of_another_version_is_left_alone(filled: Path):
    """Code of other sources lies in a folder of its own, which nothing is loaded from."""
    (folder,) = filled.iterdir()
    other = filled / "0123456789abcdef"
    folder.rename(other)
    kept = sorted(other.rglob("*.nb?"))
    assert result(start(filled)).startswith(RESULT)
    assert sorted(other.rglob("*.nb?")) == kept
    assert folder.exists()


def test_a_full_disk_costs_the_compile_time_and_no_more(tmp_path: Path):
    """Where the cache cannot be written, because the disk is full or is no folder at all, an engine starts all the same."""
    (tmp_path / "file").write_bytes(b"")
    assert result(start(tmp_path / "file")).startswith(RESULT)
    assert result(start(Path("/dev/full"))).startswith(RESULT)


def test_a_disk_that_fills_up_while_code_is_saved_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """When writing fails in the middle, the code is compiled without a cache."""
    monkeypatch.setattr(build, "cache_directory", lambda: tmp_path)
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert build.entry_point("int64(int64)")(_double)()(21) == 42


def _double(x):
    return 2 * x


def every_layer() -> Graph:
    """A net with a layer of almost every operation."""
    random = np.random.default_rng(0)

    def w(*shape: int) -> np.ndarray:
        return random.normal(size=shape) * 0.3

    nodes = [
        Node("a", L.Conv1D(kernel=w(5, 2, 24), bias=w(24), padding="same", activation="tanh")),
        Node("b", L.Conv1D(kernel=w(3, 1, 24), groups=24), ("a",)),
        Node("c", L.Merge(by="maximum"), ("a", "b")),
        Node("d", L.Concatenate(), ("c", "b")),
        Node("e", L.Normalize(by="layer", width=48, epsilon=1e-3), ("d",)),
        Node("f", L.Conv1D(kernel=w(4, 16, 6), groups=3, stride=2, activation="gelu"), ("e",)),
        Node("g", L.Conv1DTranspose(kernel=w(3, 20, 6), stride=2, activation="silu"), ("f",)),
        Node("h", L.Pooling1D(by="average", pool=3, stride=3), ("g",)),
        Node("i", L.Affine(scale=w(20), offset=w(20)), ("h",)),
        Node("j", L.GRU(kernel=w(20, 24), recurrent_kernel=w(8, 24), bias=w(2, 24)), ("i",)),
        Node("k", L.LSTM(kernel=w(8, 16), recurrent_kernel=w(4, 16), bias=w(16)), ("j",)),
        Node("l", L.Dense(kernel=w(4, 1)), ("k",)),
        Node("m", L.Spectrum(window=np.hanning(16), fft_length=16, hop=4, by="power"), ("l",)),
        Node("n", L.Conv1D(kernel=w(600, 9, 2)), ("m",)),
        Node("o", L.Dense(kernel=w(2, 5), activation="softmax"), ("n",)),
    ]
    return Graph(tuple(nodes), (2,))


def test_processing_allocates_nothing():
    """In a run of blocks through every kind of layer machine code takes no memory, and Python keeps none."""
    engine = Engine(every_layer())
    course = Course(engine, 1000, 20)
    course.seconds_per_frame()
    _nrt_python.memsys_enable_stats()
    before = rtsys.get_allocation_stats()
    course.seconds_per_frame()
    after = rtsys.get_allocation_stats()
    assert (after.alloc, after.mi_alloc) == (before.alloc, before.mi_alloc)

    out = np.empty((engine.max_output_frames(1000), engine.graph.output_channels), np.float32)
    block = course.signal[:1000]
    engine.process_into(block, out)
    gc.collect()
    tracemalloc.start()
    for _ in range(20):
        engine.process_into(block, out)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 1024  # the loop's own variables
    assert peak < 2048


@pytest.mark.parametrize("code", sorted(set(OPERATIONS.values()), key=lambda code: code.__name__))
def test_no_kernel_can_allocate_raise_or_wait(code: Callable[[], int]):
    """The machine code of a kernel calls nothing that allocates, counts references, raises, or takes the GIL."""
    made = numba.njit(build.OPERATION, nogil=True, error_model="numpy")(code.__wrapped__)
    (body,) = made.inspect_llvm().values()
    functions = re.findall(r"^define ([^\n]*)\n(.*?)^}", body, re.MULTILINE | re.DOTALL)
    # The wrappers for callers in Python and C are not run.
    own = [text for head, text in functions if "cpython" not in head and "@cfunc" not in head]
    assert own
    assert [text for text in own if re.search(r"@NRT_|@Py|@numba_|@malloc|@calloc", text)] == []


def test_everything_is_compiled_for_one_signature():
    """After a run each function that is called from outside has been compiled exactly once."""
    engine = Engine(every_layer())
    engine.process(signal(1, 3000, 2))
    engine.process(signal(1, 3001, 2)[1:].astype(np.float64))
    engine.flush()
    for code in set(OPERATIONS.values()):
        assert len(code.compiled().overloads) == 1, code.__name__
