"""The layout is kept: a file imports only from the rows below its own."""

import ast
import importlib.util
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from streamcnn.compiler import numba_abi
from streamcnn.errors import MissingPartError

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "streamcnn").rglob("*.py"))
# Outside libraries of the edges, and the one place that may import each.
OWNERS = {
    "sounddevice": "sources/soundcard.py",
    "soundfile": ("sources/wav.py", "sinks/clips.py"),
    "zmq": "wire/",
    "llvmlite": "compiler/numba_abi.py",
    "sqlite3": ("journal/", "wire/cursor.py"),
    "matplotlib": "cli/pictures.py",
    "yaml": ("documents.py", "strict_yaml.py"),
    "safetensors": ("graph/store.py", "training/card.py"),
}


def test_imports_go_downwards():
    """The contracts in pyproject.toml hold."""
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_each_edge_library_has_one_owner():
    """An outside library of the edges is imported in one place only."""
    users = defaultdict(set)
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                users[name.split(".")[0]].add(path.relative_to(ROOT / "streamcnn").as_posix())
    for library, owners in OWNERS.items():
        assert users[library], f"{library} is not used any more"
        assert [user for user in users[library] if not user.startswith(owners)] == [], library


def test_numbas_inner_parts_are_used_in_one_place():
    """What no release of Numba promises to keep is imported by one file, which finds them to be as they were."""
    users = {path.name for path in SOURCES if re.search(r"numba\.(core|np|misc|extending)\b", path.read_text("utf-8"))}
    assert users == {"numba_abi.py"}
    numba_abi.self_test()


def test_another_numba_is_named(monkeypatch: pytest.MonkeyPatch):
    """Where an inner part does other things than it did, the error names the versions, and those that fit."""
    monkeypatch.setattr(numba_abi, "code_address", lambda compiled: compiled.gone)
    with pytest.raises(MissingPartError, match=r"Numba [0-9.]+ with llvmlite .* 'gone'; install one .*numba>=0.60,<"):
        numba_abi.self_test()
    assert f'"{numba_abi.FITTING}"' in (ROOT / "pyproject.toml").read_text("utf-8")


@pytest.mark.parametrize("path", sorted((ROOT / "tests").glob("test_*.py")), ids=lambda path: path.name)
def test_every_test_states_its_fact(path: Path):
    """Each test has a docstring that says what holds."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tests = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    assert [node.name for node in tests if not ast.get_docstring(node)] == []


# What somebody imports who receives events, on a machine where nothing else of the program is installed.
CLIENT = """
import sys
sys.path.insert(0, sys.argv[1])
import streamcnn
from streamcnn import AsyncSubscriber, Subscriber, StreamcnnError, errors, events
from importlib.resources import files
assert events.SCHEMA and any(files("streamcnn.schemas").iterdir())
try:
    Subscriber("tcp://127.0.0.1:99999")
except StreamcnnError as error:
    print(error)
"""


def test_a_subscriber_needs_pyzmq_and_msgspec_alone(tmp_path: Path):
    """Where nothing but these two is installed, events are received, and errors are in words."""
    for package in ("zmq", "msgspec"):
        home = Path(importlib.util.find_spec(package).origin).parent
        (tmp_path / package).symlink_to(home)
        for libraries in home.parent.glob("pyzmq.libs" if package == "zmq" else "msgspec.libs"):
            (tmp_path / libraries.name).symlink_to(libraries)
    (tmp_path / "streamcnn").symlink_to(ROOT / "streamcnn")
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", CLIENT, tmp_path], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "has no port from 0 to 65,535" in done.stdout
