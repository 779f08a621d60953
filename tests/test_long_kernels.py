"""Long kernels, which are computed by transforms of blocks: the same laws as for all others."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcnn.compiler.partitions import partition_of
from streamcnn.engine import Engine
from streamcnn.errors import GraphError
from streamcnn.forward import reference
from streamcnn.graph import store
from streamcnn.graph.clip import Clip
from streamcnn.graph.graph import INPUT, Graph, Node
from streamcnn.graph.layers import Conv1D, Dense, Merge
from tests.contract import streamed
from tests.graphs import pieces, signal

NEAR = 2e-6  # of the largest output: float32 transforms


@st.composite
def banks(draw: st.DrawFn) -> Conv1D:
    """A bank of filters that are partitioned."""
    channels, outputs = draw(st.integers(1, 3)), draw(st.integers(1, 20))
    grid = draw(st.sampled_from([None, 32, 128]))
    least = 512 if grid else max(512, -(-8192 // (channels * outputs)))
    taps = draw(st.integers(least, least + 300))
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    return Conv1D(
        kernel=random.normal(size=(taps, channels, outputs)) / np.sqrt(taps * channels),
        bias=random.normal(size=outputs) if draw(st.booleans()) else None,
        padding=draw(st.sampled_from(["causal", "valid", "same"])),
        activation=draw(st.sampled_from(["linear", "relu", "tanh"])),
        grid=grid,
    )


def is_near(got: np.ndarray, expected: np.ndarray) -> bool:
    """Whether outputs are equal within the rounding of float32."""
    return got.shape == expected.shape and np.abs(got - expected).max(initial=0) <= NEAR * np.abs(expected).max(
        initial=1
    )


@settings(max_examples=max(20, settings.default.max_examples // 10))
@given(layer=banks(), frames=st.integers(0, 3000), seed=st.integers(0, 2**16))
def test_long_kernels_stream_exactly(layer: Conv1D, frames: int, seed: int):
    """Streaming equals the reference, with the same bits for every split and block limit, and after a reset."""
    assert partition_of(layer) is not None
    graph = Graph.sequential([layer], layer.kernel.shape[1])
    x = signal(seed, frames, graph.input_channels)
    engine = Engine(graph)
    whole = streamed(engine, [x])
    assert is_near(whole, reference(graph, x))
    for blocks in (np.split(x, range(64, len(x), 64)), pieces(x, seed)):
        engine.reset()
        assert np.array_equal(streamed(engine, blocks), whole)
    assert np.array_equal(streamed(Engine(graph, max_block=100), [x]), whole)


@settings(max_examples=max(20, settings.default.max_examples // 10))
@given(layer=banks(), cut=st.integers(0, 3000), seed=st.integers(0, 2**16))
def test_outputs_come_when_the_grid_says(layer: Conv1D, cut: int, seed: int):
    """Of any number of frames come the outputs that whole groups of `grid` frames suffice for, no later than `delay`."""
    graph = Graph.sequential([layer], layer.kernel.shape[1])
    rule = graph.rules[graph.output_name]
    early = Engine(graph).process(signal(seed, cut, graph.input_channels))
    assert len(early) == max(0, cut // rule.grid * rule.grid - rule.newest)
    assert all(graph.known_after(i) <= graph.first + i + graph.delay for i in range(len(early)))
    assert all(graph.known_after(i) < cut for i in range(len(early)))


def test_a_path_beside_a_grid_waits_for_it():
    """Joined with a path that has no grid, a long kernel's outputs meet the frames of their own positions."""
    random = np.random.default_rng(1)
    nodes = (
        Node("long", Conv1D(kernel=random.normal(size=(600, 1, 3)), grid=64)),
        Node("short", Conv1D(kernel=random.normal(size=(5, 1, 3))), (INPUT,)),
        Node("both", Merge(by="add"), ("long", "short")),
        Node("out", Dense(kernel=random.normal(size=(3, 2))), ("both",)),
    )
    graph = Graph(nodes)
    x = signal(2, 5000, 1)
    whole = streamed(Engine(graph), [x])
    assert is_near(whole, reference(graph, x))
    assert np.array_equal(streamed(Engine(graph), np.split(x, range(7, len(x), 7))), whole)


def test_in_a_clip_a_grid_means_nothing():
    """A clip has all of its frames at once: windows are what they are without a grid."""
    graph = Graph.sequential([Conv1D(kernel=np.ones((8, 1, 1)), grid=64)], clip=Clip(1000, 50))
    x = signal(5, 3000, 1)
    whole = Engine(graph).process(x)
    assert is_near(whole, reference(graph, x))
    assert np.array_equal(streamed(Engine(graph), np.split(x, range(7, len(x), 7))), whole)


def test_a_prewarmed_filter_has_heard_silence():
    """Prewarmed, a long filter with a bias starts as it would after endless silence, which is no different."""
    kernel = np.random.default_rng(1).normal(size=(600, 1, 20))
    graph = Graph.sequential([Conv1D(kernel=kernel, bias=np.ones(20))])
    x = signal(3, 2000, 1)
    assert np.array_equal(Engine(graph, prewarm=True).process(x), Engine(graph).process(x))


def test_a_grid_is_kept_in_the_file(tmp_path):
    """A net's file says the grid of its filters."""
    path = tmp_path / "bank.safetensors"
    Graph.sequential([Conv1D(kernel=np.ones((600, 1, 2)), grid=256)]).save(path)
    graph = store.load(path)
    assert graph.nodes[0].layer.grid == 256
    assert graph.delay == 255
    assert graph.period == 256


@pytest.mark.parametrize("grid", [0, 3, 100, -2, 1.5, True])
def test_a_grid_is_a_power_of_two(grid: object):
    """Any other grid is refused."""
    with pytest.raises(GraphError, match="grid"):
        Conv1D(kernel=np.ones((600, 1, 2)), grid=grid)
