"""The laws of streaming, for random nets: one output as each sample arrives, identical to the whole-signal forward."""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from streamcnn.compiler import program
from streamcnn.engine import Engine
from streamcnn.errors import GraphError, InputError
from streamcnn.forward import reference
from streamcnn.graph.graph import Graph, Node
from streamcnn.graph.layers import (
    Conv1D,
    Conv1DTranspose,
    Dense,
    Merge,
    Pooling1D,
    Repeat,
    SimpleRNN,
    Stack,
    ZeroPadding1D,
)
from streamcnn.importers.keras import import_keras
from streamcnn.verification import whole_length
from tests.contract import check_streaming_contract, streamed, tolerance
from tests.graphs import graphs, keras_model, pieces, signal


def _sum_behind(path: list[Node], channels: int = 20) -> Graph:
    """Return a net that adds a product at the end of a path to a product of the input."""
    random = np.random.default_rng(0)
    dense = Dense(kernel=random.normal(size=(channels, channels)) * 0.1)
    skip = Node("skip", Dense(kernel=random.normal(size=(1, channels))))
    return Graph((*path, Node("d", dense, (path[-1].name,)), skip, Node("sum", Merge(by="add"), ("skip", "d"))))


@pytest.mark.parametrize("frames", [0, 1, 2, 3, 4, 5, 6, 9, 300, 701, 702])
@pytest.mark.parametrize("late", ["strided", "padded before", "padded behind"])
def test_a_sum_has_no_more_frames_than_its_parts(late: str, frames: int):
    """Where a path is ahead at the start, or longer at the end, a sum still waits for both of its parts."""
    kernel = np.random.default_rng(1).normal(size=(5, 1, 20)) * 0.1
    paths = {
        "strided": [Node("a", Conv1D(kernel=kernel[:3], stride=2, padding="same")), Node("b", Repeat(times=2), ("a",))],
        "padded before": [
            Node("a", Conv1D(kernel=kernel, padding="valid")),
            Node("b", ZeroPadding1D(left=4, right=0), ("a",)),
        ],
        "padded behind": [
            Node("a", Conv1D(kernel=kernel, padding="valid")),
            Node("b", ZeroPadding1D(left=0, right=4), ("a",)),
        ],
    }
    graph = _sum_behind(paths[late])
    x = signal(frames, frames, 1)
    whole = streamed(Engine(graph), [x])
    expected = reference(graph, x) if late == "strided" and frames % 2 == 0 else None
    if expected is not None:
        np.testing.assert_allclose(whole, expected, atol=1e-5)
    assert len(whole) == graph.output_frames(frames)
    assert np.array_equal(streamed(Engine(graph), np.split(x, range(1, len(x)))), whole)


@pytest.mark.parametrize("activation", ["softmax", "log_softmax", "sparsemax"])
@pytest.mark.parametrize("frames", [1, 3, 64])
def test_a_recurrent_activation_may_work_on_whole_frames(activation: str, frames: int):
    """Softmax and its kin inside recurrent layers give the reference's numbers, in any blocks."""
    random = np.random.default_rng(2)
    weights = {"kernel": random.normal(size=(2, 3)), "recurrent_kernel": random.normal(size=(3, 3)) * 0.1}
    cell = SimpleRNN(**weights, activation=activation)
    graph, x = Graph.sequential([cell], 2), signal(3, 64, 2)
    got = streamed(Engine(graph), np.split(x, range(frames, 64, frames)))
    np.testing.assert_allclose(got, reference(graph, x), atol=1e-5)


def test_a_net_that_is_late_inside_cannot_be_prewarmed():
    """Where a tensor inside begins late, and a padding makes up for it, there is no silence to begin after."""
    kernel = np.ones((5, 1, 2))
    graph = Graph.sequential([Conv1D(kernel=kernel, padding="valid"), ZeroPadding1D(left=4, right=0)])
    with pytest.raises(GraphError, match="cannot start prewarmed"):
        Engine(graph, prewarm=True)


GUARD = 4096  # values around each array of an engine


@given(graph=graphs(), frames=st.integers(0, 1200), seed=st.integers(0, 2**16))
def test_a_net_streams_exactly(graph: Graph, frames: int, seed: int):
    """For any net and signal: streaming equals the reference, for every split the same bits, causal, when declared."""
    check_streaming_contract(graph, signal(seed, frames, graph.input_channels), seed)


def _divides(graph: Graph, node: Node, length: int) -> bool:
    """Whether a Stack gets a whole number of its frames from a signal of this length."""
    return not isinstance(node.layer, Stack) or graph.totals(length)[node.inputs[0]] % node.layer.frames == 0


@settings(max_examples=max(40, settings.default.max_examples // 5))
@given(graph=graphs(most=5, of_keras=True), frames=st.integers(1, 200), seed=st.integers(0, 2**16))
def test_engine_reference_and_keras_agree(graph: Graph, frames: int, seed: int):
    """Engine, reference and Keras give the same numbers for the same net, imported from the Keras model."""
    # The one thing that Keras cannot compute on a CPU with TensorFlow.
    assume(not any(isinstance(node.layer, Conv1DTranspose) and node.layer.dilation > 1 for node in graph.nodes))
    length = whole_length(graph, frames)
    assume(all(_divides(graph, node, length) for node in graph.nodes))  # else Keras' Reshape refuses the signal
    model = keras_model(graph)
    imported = import_keras(model)
    x = signal(seed, length, graph.input_channels)
    exact = reference(imported, x)
    oracle = np.asarray(model(x[None]))[0]
    assert oracle.shape == exact.shape
    allowed = tolerance(imported, x)
    np.testing.assert_allclose(oracle, exact, rtol=0, atol=2 * allowed)
    got = streamed(Engine(imported), pieces(x, seed))
    np.testing.assert_allclose(got, exact, rtol=0, atol=allowed)


@given(graph=graphs(), seed=st.integers(0, 2**16))
def test_after_reset_an_engine_is_new(graph: Graph, seed: int):
    """After a reset an engine gives the bits of a fresh one, whatever it heard before."""
    used, x = Engine(graph), signal(seed, 300, graph.input_channels)
    used.process(signal(seed + 1, 777, graph.input_channels) * 1e6)
    used.flush()
    used.reset()
    assert np.array_equal(used.process(x), Engine(graph).process(x))


def test_a_long_run_keeps_its_history():
    """An hour's worth of tiny blocks moves the history around without a trace in the outputs."""
    random = np.random.default_rng(3)
    graph = Graph.sequential(
        [
            Conv1D(kernel=random.normal(size=(3, 1, 4)), dilation=700, activation="tanh"),
            Dense(kernel=random.normal(size=(4, 1))),
        ]
    )
    x = signal(4, 50_000, 1)
    got = streamed(Engine(graph), np.split(x, range(3, len(x), 3)))
    np.testing.assert_allclose(got, reference(graph, x), atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float64, np.int16, np.uint8, np.float32])
def test_blocks_may_have_any_real_dtype(dtype: type):
    """Blocks of other real dtypes, and one-dimensional ones, are computed in float32."""
    graph = Graph.sequential([Dense(kernel=np.full((1, 1), 0.5))])
    out = Engine(graph).process(np.array([0, 2, 4], dtype))
    assert out.dtype == np.float32
    assert out.tolist() == [[0], [1], [2]]


def test_blocks_of_a_wrong_shape_are_refused():
    """A block with another number of channels, or of complex numbers, is an InputError that says what was expected."""
    engine = Engine(Graph.sequential([Dense(kernel=np.ones((2, 1)))], 2))
    with pytest.raises(InputError, match=r"shape \(5,\), expected \(frames, 2\)"):
        engine.process(np.zeros(5))
    with pytest.raises(InputError, match="complex128"):
        engine.process(np.zeros((5, 2), complex))


def test_scale_multiplies_the_input():
    """An engine's scale stands before the net, as an input in other units would."""
    graph = Graph.sequential([Conv1D(kernel=np.ones((2, 1, 1)), activation="tanh")])
    x = signal(1, 100, 1)
    assert np.array_equal(Engine(graph, scale=4.0).process(x), Engine(graph).process(4 * x))


def test_nan_passes_through_and_leaves():
    """A NaN shows in exactly the outputs whose window holds it, through relu too, and nowhere after."""
    graph = Graph.sequential([Conv1D(kernel=np.ones((4, 1, 1)), activation="relu")])
    x = np.zeros(20, np.float32)
    x[5] = np.nan
    assert np.flatnonzero(np.isnan(Engine(graph).process(x)[:, 0])).tolist() == [5, 6, 7, 8]


@pytest.mark.parametrize("frames", range(1018, 1030))
def test_the_end_needs_room_for_its_zeros_at_once(frames: int):
    """A signal that ends where a line is just full keeps what its readers still need, whatever its length."""
    graph = Graph.sequential(
        [Conv1D(kernel=np.full((2, 1, 1), 0.5), padding="same"), Pooling1D(by="max", pool=2, stride=1)]
    )
    check_streaming_contract(graph, signal(1, frames, 1))


WIDTHS = """
import hashlib, numpy as np
from streamcnn import layers as L
from streamcnn.engine import Engine
from streamcnn.graph.graph import Graph, Node
random = np.random.default_rng(0)
def w(*shape): return random.normal(size=shape) * 0.3
layers = [
    L.Conv1D(kernel=w(5, 2, 24), bias=w(24), padding="same", activation="tanh"), L.Conv1D(kernel=w(3, 12, 8), groups=2),
    L.Normalize(by="layer", width=8, epsilon=1e-3), L.Conv1D(kernel=w(4, 8, 3), stride=2, activation="gelu"),
    L.GRU(kernel=w(3, 24), recurrent_kernel=w(8, 24), bias=w(2, 24)), L.Conv1DTranspose(kernel=w(3, 20, 8), activation="silu"),
    L.Pooling1D(by="average", pool=3, stride=1, padding="same"), L.Dense(kernel=w(20, 5), activation="softmax"),
]
tiny = [L.Conv1D(kernel=w(3, 2, 7), dilation=5, activation="relu"), L.Activation(activation="tanh"), L.Dense(kernel=w(7, 3))]
more = [
    L.Conv1D(kernel=w(3, 1, 40), groups=2), L.Conv1D(kernel=w(5, 1, 40), groups=40), L.PReLU(slope=w(40)),
    L.GLU(), L.LSTM(kernel=w(20, 80), recurrent_kernel=w(20, 80), bias=w(80)), L.Conv1D(kernel=w(700, 20, 3)),
]
digest = hashlib.sha256()
for net in (layers, tiny, more):
    engine = Engine(Graph.sequential(net, 2))
    x = random.normal(size=(3000, 2)) * np.exp(-np.arange(3000) / 25)[:, None]  # into denormals, and through them
    digest.update(np.concatenate([engine.process(x), engine.flush()]).tobytes())
print(digest.hexdigest())
"""


@given(graph=graphs(), seed=st.integers(0, 2**16))
def test_signals_that_decay_to_nothing_keep_the_laws(graph: Graph, seed: int):
    """A signal that decays into denormal numbers, and through them, streams as a whole, with the same bits for any split."""
    x = signal(seed, 600, graph.input_channels) * np.exp(-np.arange(600) / 5, dtype=np.float32)[:, None]
    whole = streamed(Engine(graph), [x])
    np.testing.assert_allclose(whole, reference(graph, x), rtol=0, atol=2 * tolerance(graph, x))
    assert np.array_equal(streamed(Engine(graph), pieces(x, seed)), whole)


@given(graph=graphs(), frames=st.integers(1, 1500), seed=st.integers(0, 2**16))
def test_an_engine_keeps_to_its_own_memory(graph: Graph, frames: int, seed: int):
    """Nothing is written outside of an engine's arrays, and what is read beyond them, for whole vectors, changes nothing."""
    guarded = []

    def allocate(size: int, dtype: type) -> np.ndarray:
        whole = np.full(size + 2 * GUARD, np.nan, dtype)
        guarded.append((whole, whole.copy()))
        whole[GUARD:-GUARD] = 0
        return whole[GUARD:-GUARD]

    x = signal(seed, frames, graph.input_channels)
    expected = streamed(Engine(graph), [x])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "aligned", allocate)
        engine = Engine(graph)
    assert np.array_equal(streamed(engine, pieces(x, seed)), expected)
    for whole, before in guarded:
        for part in (slice(GUARD), slice(-GUARD, None)):
            assert np.array_equal(whole[part], before[part], equal_nan=True)


def test_denormal_numbers_are_zero_inside_and_untouched_outside():
    """An engine takes denormal numbers for zero, and leaves its thread's arithmetic as it was."""
    engine = Engine(Graph.sequential([Conv1D(kernel=np.ones((2, 1, 1)))]))
    tiny = np.full(8, 1e-40, np.float32)
    assert np.array_equal(engine.process(tiny), np.zeros((8, 1)))
    assert (tiny * np.float32(0.5)).all()


def test_every_vector_width_gives_the_same_bits():
    """Code compiled for AVX-512, for AVX2, and for no vectors beyond SSE2 gives the same bits."""
    hashes = {}
    for name, features in [("", None), ("haswell", "+avx2,+fma"), ("x86-64", "+sse2")]:
        if platform.machine() not in ("x86_64", "AMD64") and features is not None:
            continue
        settings = {} if features is None else {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features}
        done = subprocess.run([sys.executable, "-c", WIDTHS], env={**os.environ, **settings}, capture_output=True, text=True,
                              check=True)  # fmt: skip
        hashes[name] = done.stdout.strip()
    assert len(set(hashes.values())) == 1, hashes


@pytest.mark.parametrize("max_block", [1, 2, 3, 1000])
@pytest.mark.parametrize("edge", [3, 10, 100])
def test_an_engine_may_end_before_it_began(max_block: int, edge: int):
    """A flush before any input gives what padding alone gives, whatever room was planned for blocks."""
    kernel = np.random.default_rng(0).normal(size=(7, 2, 2))
    graph = Graph.sequential([ZeroPadding1D(left=edge, right=edge), Conv1D(kernel=kernel, padding="same")], 2)
    engine = Engine(graph, max_block)
    np.testing.assert_allclose(engine.flush(), reference(graph, np.zeros((0, 2))), atol=1e-6)
    engine.reset()
    x = signal(0, 500, 2)
    assert np.array_equal(streamed(engine, pieces(x, 1)), streamed(Engine(graph), [x]))


def test_after_the_end_only_a_reset_is_possible():
    """Frames after a flush are refused: the padded end would lie between them."""
    engine = Engine(Graph.sequential([Dense(kernel=np.ones((1, 1)))]))
    engine.flush()
    for action in (lambda: engine.process([1.0]), engine.flush):
        with pytest.raises(InputError, match="reset"):
            action()
    engine.reset()
    assert engine.process([1.0]).tolist() == [[1]]


def test_windows_beyond_any_memory_are_refused():
    """A net that would have to remember gigabytes is refused when the engine is made, with the size."""
    with pytest.raises(GraphError, match="MiB"):
        Engine(Graph.sequential([Conv1D(kernel=np.ones((3, 1, 1)), dilation=2**28 - 1)]))
