"""Compiled code and its cache: compiled once, never the wrong code, and no cache is ever needed."""

import gc
import os
import re
import shutil
import signal
import subprocess
import sys
import time
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
from streamcnn.inference import loop
from streamcnn.stopwatch import Course
from tests import graphs
from tests.conftest import Cli

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
    """Code of other sources lies in folders of their own, which nothing is loaded from."""
    folders = sorted(filled.iterdir())
    others = [folder.rename(filled / f"{number:016x}") for number, folder in enumerate(folders)]
    kept = [sorted(other.rglob("*.nb?")) for other in others]
    assert result(start(filled)).startswith(RESULT)
    assert [sorted(other.rglob("*.nb?")) for other in others] == kept
    assert all(folder.exists() for folder in folders)


ORIGINAL = build.PACKAGE
FUNCTIONS = [loop._loop, *sorted({code.__wrapped__ for code in OPERATIONS.values()}, key=lambda one: one.__name__)]
COMPILED = sorted(set().union(*(build.sources(Path(function.__code__.co_filename)) for function in FUNCTIONS)))


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package, whose sources a test may change."""
    return shutil.copytree(build.PACKAGE, tmp_path_factory.mktemp("copy") / "streamcnn")


def directories(package: Path, monkeypatch: pytest.MonkeyPatch) -> dict[Path, Path]:
    """Return the cache folder of every source of a copy's machine code."""
    monkeypatch.setattr(build, "PACKAGE", package)
    build._imported.cache_clear()
    build.cache_directory.cache_clear()
    return {path: build.cache_directory(str(package / path.relative_to(ORIGINAL))) for path in COMPILED}


def test_every_source_that_machine_code_is_made_of_has_a_part_in_its_cache_folder(
    copied: Path, monkeypatch: pytest.MonkeyPatch
):
    """A change in any imported source gives other folders to its own code and to all that imports it, and to no other."""
    users = {path: {user for user in COMPILED if path in build.sources(user)} for path in COMPILED}
    before = directories(copied, monkeypatch)
    assert len(before) == len(COMPILED) > 20
    for source in COMPILED:
        path = copied / source.relative_to(ORIGINAL)
        text = path.read_bytes()
        path.write_bytes(text + b"\n# changed\n")
        after = directories(copied, monkeypatch)
        path.write_bytes(text)
        assert {name for name in before if before[name] != after[name]} == users[source] >= {source}
    monkeypatch.undo()
    directories(ORIGINAL, monkeypatch)


def reached(function: Callable, seen: set[object]) -> set[str]:
    """Return the files of all functions that a function can reach through its globals."""
    function = getattr(function, "py_func", getattr(function, "_defn", function))
    code = getattr(function, "__code__", None)
    if code is None or code in seen:
        return set()
    seen.add(code)
    names = [*code.co_names, *(name for const in code.co_consts if hasattr(const, "co_names") for name in const.co_names)]
    values = [function.__globals__[name] for name in names if name in function.__globals__]
    values += [cell.cell_contents for cell in function.__closure__ or ()]
    return {code.co_filename}.union(*(reached(value, seen) for value in values if callable(value)))


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_the_sources_of_machine_code_are_all_that_it_calls(function: Callable):
    """Of every function that machine code can reach the file is among its sources."""
    ours = {Path(file) for file in reached(function, set()) if Path(file).is_relative_to(build.PACKAGE)}
    assert ours
    assert ours <= build.sources(Path(function.__code__.co_filename))


SOFTPLUS = """
import numpy as np
from streamcnn import layers as L
from streamcnn.engine import Engine
from streamcnn.graph.graph import Graph
print(*(Engine(Graph.sequential([L.Activation(activation=name)])).process(np.full(1, 2.0))[0, 0] for name in
      ("softplus", "mish", "gelu")))
"""


def test_a_constant_of_another_module_that_changes_makes_other_machine_code(copied: Path, tmp_path: Path):
    """With a warm cache, a name inserted among the activations' leaves every activation what it is."""
    options = {"cwd": copied.parent, "env": {**os.environ, "STREAMCNN_CACHE_DIR": str(tmp_path)}}

    def values() -> list[float]:
        done = subprocess.run([sys.executable, "-c", SOFTPLUS], capture_output=True, text=True, check=True, **options)
        return [float(value) for value in done.stdout.split()]

    right = [np.log1p(np.exp(2)), 2 * np.tanh(np.log1p(np.exp(2))), 1.9544997]
    assert values() == pytest.approx(right, abs=1e-5)
    functions = copied / "graph" / "functions.py"
    text = functions.read_text()
    changed = text.replace('    "relu": (', '    "inserted": (),\n    "relu": (', 1)
    assert changed != text
    functions.write_text(changed)
    try:
        assert values() == pytest.approx(right, abs=1e-5)
    finally:
        functions.write_text(text)


def test_processes_that_start_together_compile_once(tmp_path: Path):
    """Of four that start on an empty cache one says that it compiles what the others wait for, and each tells which it does."""
    together = Cli({"STREAMCNN_CACHE_DIR": str(tmp_path)})
    runs = [together.start("run", "--duration", "0.1", "--publish", "none") for _ in range(4)]
    said = [run.communicate(timeout=240)[1] for run in runs]
    assert [run.returncode for run in runs] == [0] * 4
    assert all("compiling the engine" in text for text in said)
    assert any("another process is compiling" in text for text in said)
    assert "compiling" not in together("run", "--duration", "0.1", "--publish", "none").stderr


def test_a_cache_that_lacks_a_part_is_announced(filled: Path):
    """Where only some of the code must be compiled, that is said too."""
    partly = Cli({"STREAMCNN_CACHE_DIR": str(filled)})
    assert "compiling the engine" in partly("run", "--duration", "0.1", "--publish", "none").stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_first_compilation_at_once(tmp_path: Path, number: int):
    """While LLVM compiles, SIGTERM and SIGINT end the daemon in less than two seconds."""
    cold = Cli({"STREAMCNN_CACHE_DIR": str(tmp_path)})
    daemon = cold.start("run", "--publish", "none")
    try:
        assert "compiling the engine" in daemon.stderr.readline()
        time.sleep(1.5)  # into the middle of it; whenever it comes, it counts
        daemon.send_signal(number)
        daemon.wait(2)
    finally:
        daemon.kill()
    assert daemon.returncode == (130 if number == signal.SIGINT else -signal.SIGTERM)
    assert "stopped while compiling" in daemon.communicate()[1]


def test_a_full_disk_costs_the_compile_time_and_no_more(tmp_path: Path):
    """Where the cache cannot be written, because the disk is full or is no folder at all, an engine starts all the same."""
    (tmp_path / "file").write_bytes(b"")
    assert result(start(tmp_path / "file")).startswith(RESULT)
    assert result(start(Path("/dev/full"))).startswith(RESULT)


def test_a_disk_that_fills_up_while_code_is_saved_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """When writing fails in the middle, the code is compiled without a cache."""
    monkeypatch.setattr(build, "cache_directory", lambda _source: tmp_path)
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
    engine.process(graphs.signal(1, 3000, 2))
    engine.process(graphs.signal(1, 3001, 2)[1:].astype(np.float64))
    engine.flush()
    for code in set(OPERATIONS.values()):
        assert len(code.compiled().overloads) == 1, code.__name__
