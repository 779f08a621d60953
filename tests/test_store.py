"""Nets as files: what is saved comes back, and what is damaged does not."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given

from streamcnn.errors import NetFileError
from streamcnn.graph import store
from streamcnn.graph.graph import Graph, NetInfo
from streamcnn.graph.layers import Conv1D, Dense
from tests.graphs import graphs

INFO = NetInfo(
    name="n", rate=8000, labels=("a", "b"), target_lag=3, input_scale=4.0, threshold=0.5, template=(0.5, 1.0)
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A saved net of two layers."""
    graph = Graph.sequential(
        [
            Conv1D(kernel=np.ones((3, 1, 4)), bias=np.zeros(4), dilation=2, activation="relu"),
            Dense(kernel=np.ones((4, 2))),
        ],
        info=INFO,
    )
    graph.save(tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


@given(graph=graphs())
def test_a_net_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, graph: Graph):
    """Saving and loading gives the same graph, with every option, weight and metadatum."""
    path = tmp_path_factory.mktemp("nets") / "n.safetensors"
    graph = graph.with_info(name="x", rate=44100)
    graph.save(path)
    back = store.load(path)
    assert (back.info, back.input_shape, len(back.nodes)) == (graph.info, graph.input_shape, len(graph.nodes))
    for ours, theirs in zip(graph.nodes, back.nodes, strict=True):
        assert (ours.name, ours.inputs, ours.layer.kind) == (theirs.name, theirs.inputs, theirs.layer.kind)
        assert ours.layer.options == theirs.layer.options
        assert ours.layer.weights.keys() == theirs.layer.weights.keys()
        assert all(np.array_equal(w, theirs.layer.weights[n]) for n, w in ours.layer.weights.items())
    assert store.identity(back) == store.identity(graph)


def test_metadata_comes_back(saved: Path):
    """Rate, labels, target lag, scale, threshold and template are kept in the file."""
    assert store.load(saved).info == INFO


def test_every_truncation_is_noticed(saved: Path):
    """A file cut anywhere is refused, with its name and a remedy."""
    data = saved.read_bytes()
    for length in range(0, len(data), max(1, len(data) // 97)):
        saved.write_bytes(data[:length])
        with pytest.raises(NetFileError, match="net.safetensors"):
            store.load(saved)


def test_every_flipped_byte_is_noticed(saved: Path):
    """A damaged byte anywhere is refused; the checksum finds those that still parse."""
    data = bytearray(saved.read_bytes())
    for at in range(8, len(data), max(1, len(data) // 211)):
        damaged = bytearray(data)
        damaged[at] ^= 0x20 if chr(damaged[at]).isalpha() else 0x01
        saved.write_bytes(damaged)
        with pytest.raises(NetFileError):
            store.load(saved)


def _rewritten(path: Path, change: object, **tensors: np.ndarray) -> None:
    """Write a net's file again with another graph and a checksum that fits: a file by another maker."""
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    document = json.loads(metadata["graph"])
    change(document)
    arrays |= tensors
    metadata["graph"] = json.dumps(document)
    metadata["sha256"] = store._digest(metadata["graph"], arrays)
    safetensors.numpy.save_file(arrays, path, metadata)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["nodes"][0].update(kind="Lambda"), "unknown kind 'Lambda'"),
        (lambda d: d["nodes"][0]["options"].update(activation="magic"), "activation is 'magic'"),
        (lambda d: d["nodes"][0]["options"].update(dilation=0), "dilation is 0"),
        (lambda d: d["nodes"][1].update(inputs=["nowhere"]), "reads 'nowhere'"),
        (lambda d: d.update(input_shape=[2]), "has weights for 1 input channels, gets 2"),
        (lambda d: d["info"].update(labels=["a"]), "1 labels"),
        (lambda d: d["nodes"].pop(), "belongs to no layer"),
        (lambda d: d["nodes"][0]["options"].update(dilation=2**40), "dilation is"),
        (lambda d: d["nodes"][0]["options"].update(bias=[0]), "weights 'bias' stand among the options"),
        (lambda d: d.update(input_shape=[-1, -1]), "input_shape is"),
        (lambda d: d.update(input_shape=[]), "input_shape is"),
        (
            lambda d: d["nodes"].insert(0, {"name": "x", "kind": "Affine", "inputs": ["input"], "options": {}}),
            "missing",
        ),
        (
            lambda d: d["nodes"].insert(
                0,
                {
                    "name": "x",
                    "kind": "Normalize",
                    "inputs": ["input"],
                    "options": {"by": "layer", "width": 1, "epsilon": "a"},
                },
            ),
            "epsilon is 'a'",
        ),
        (lambda d: d["info"].update(colour="red"), "unknown entry 'colour'"),
        (lambda d: d["info"].update(threshold="0.6"), "cannot be read"),
        (lambda d: d["info"].update(target_lag=2.5), "cannot be read"),
        (lambda d: d["info"].update(labels=["a.b", "c"]), "label 'a.b'"),
        (lambda d: d.update(info=[]), "cannot be read"),
        (lambda d: d.pop("nodes"), "cannot be read"),
    ],
)
def test_a_net_that_does_not_fit_together_is_refused(saved: Path, change: object, words: str):
    """A file whose checksum is right but whose graph is not is refused with the reason."""
    _rewritten(saved, change)
    with pytest.raises(NetFileError, match=words):
        store.load(saved)


def test_weights_that_are_not_finite_are_refused(saved: Path):
    """A NaN among the weights is refused, naming layer and field."""
    _rewritten(saved, lambda d: None, **{"dense_1/kernel": np.full((4, 2), np.nan, np.float32)})
    with pytest.raises(NetFileError, match="dense_1.*kernel holds NaN"):
        store.load(saved)


def test_foreign_and_newer_files_are_refused(tmp_path: Path, saved: Path):
    """A safetensors file of another program, one of a later version, and a file of anything else are told apart."""
    foreign = tmp_path / "foreign.safetensors"
    safetensors.numpy.save_file({"w": np.ones(3, np.float32)}, foreign)
    with pytest.raises(NetFileError, match="not a streamcnn net"):
        store.load(foreign)
    data = saved.read_bytes()
    saved.write_bytes(data.replace(b'"version":"1"', b'"version":"9"'))
    with pytest.raises(NetFileError, match="format version 9"):
        store.load(saved)
    foreign.write_text("hello", encoding="utf-8")
    with pytest.raises(NetFileError, match="not a safetensors file"):
        store.load(foreign)


def test_a_missing_net_says_so(tmp_path: Path):
    """A path with nothing there, and a folder, are refused by name."""
    with pytest.raises(NetFileError, match=r"nothing\.safetensors: no such file"):
        store.load(tmp_path / "nothing.safetensors")
    with pytest.raises(NetFileError, match="not a file"):
        store.load(tmp_path)
