"""Clip nets: a window slides over the stream, and each of its answers is what the model gives for the same samples."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from streamcnn.compiler.windows import macs_per_window, needed_spans, shared_parts
from streamcnn.config import Duration, Peak
from streamcnn.engine import Engine
from streamcnn.errors import GraphError, InputError, UnsupportedLayerError
from streamcnn.graph import layers as records
from streamcnn.graph import store
from streamcnn.graph.clip import Clip
from streamcnn.graph.graph import INPUT, Graph, NetInfo
from streamcnn.importers.keras import import_keras
from streamcnn.pipeline.listener import Listener
from streamcnn.pipeline.pipeline import Pipeline
from streamcnn.verification import check_signal, fitted, keras_oracle, random_signal
from tests.conftest import inside
from tests.contract import check_streaming_contract
from tests.graphs import graphs, signal
from tests.test_layers import chain, check_model, randomized

K = keras.layers


@given(graph=graphs(of_clip=True), frames=st.integers(1, 150), hop=st.integers(1, 150), seed=st.integers(0, 2**16))
def test_any_net_slides_as_a_window(graph: Graph, frames: int, hop: int, seed: int):
    """Any net on clips of any length and hop gives each window's own answer, whatever of it the windows share."""
    hop = min(hop, frames)
    try:
        net = replace(graph, clip=Clip(frames, hop))
    except GraphError:
        assume(False)
    x = signal(seed, frames + 5 * hop + seed % (hop + 1), net.input_channels)
    check_streaming_contract(net, x, seed)
    np.testing.assert_array_equal(Engine(net, share=False).process(x), Engine(net).process(x))


def attended(layer: object, causal: bool = False) -> keras.Model:
    """A model in which frames attend to each other, with a residual around it."""
    inputs = keras.Input((20, 3))
    x = K.Dense(6)(inputs)
    y = layer(x, x, use_causal_mask=causal)
    return keras.Model(inputs, K.GlobalAveragePooling1D()(K.LayerNormalization()(K.Add()([x, y]))))


def crossed() -> keras.Model:
    """Attention to fewer frames than there are queries."""
    inputs = keras.Input((20, 3))
    return keras.Model(inputs, K.Flatten()(K.Attention(use_scale=True)([K.Dense(4)(inputs), K.Conv1D(4, 5)(inputs)])))


def squeezed() -> keras.Model:
    """Squeeze and excitation: channels weighted by what is in the whole clip."""
    inputs = keras.Input((60, 2))
    x = K.Conv1D(6, 3, padding="same", activation="relu")(inputs)
    s = K.Dense(6, activation="sigmoid")(K.Dense(3, activation="relu")(K.GlobalAveragePooling1D()(x)))
    x = K.MaxPooling1D(3)(K.Multiply()([x, K.Reshape((1, 6))(s)]))
    return keras.Model(inputs, K.Dense(3)(K.GlobalMaxPooling1D()(x)))


def two_heads() -> keras.Model:
    """Two outputs, one of them with frames, and a join along time."""
    inputs = keras.Input((16, 3))
    x = K.Concatenate(axis=1)([K.Conv1D(4, 3)(inputs), K.Conv1D(4, 5)(inputs)])
    return keras.Model(inputs, [K.Bidirectional(K.GRU(2, return_sequences=True))(x), K.Dense(2)(K.Flatten()(x))])


MODELS: dict[str, tuple[Callable[[], keras.Model], dict[str, int]]] = {
    "average": (lambda: chain(K.Conv1D(4, 3, padding="same"), K.GlobalAveragePooling1D(), K.Dense(3), shape=(50, 2)), {}),
    "maximum of any length": (
        lambda: chain(K.Conv1D(4, 3, strides=2), K.GlobalMaxPooling1D(keepdims=True), K.Dense(3), shape=(None, 2)),
        {"clip_frames": 50, "window_hop": 7},
    ),
    "flatten": (
        lambda: chain(K.Conv1D(4, 5, strides=2, padding="same"), K.MaxPooling1D(2), K.Flatten(), K.Dense(5), shape=(48, 1)),
        {"window_hop": 4},
    ),
    "one vector": (lambda: chain(K.Dense(8, activation="relu"), K.Dense(2), shape=(40,)), {"window_hop": 3}),
    "a vector made a signal": (
        lambda: chain(K.Reshape((40, 1)), K.Conv1D(3, 3, padding="causal"), K.Flatten(), K.Dense(2), shape=(40,)),
        {"window_hop": 3},
    ),
    "last state": (lambda: chain(K.LSTM(4, return_sequences=True), K.LSTM(3), K.Dense(2), shape=(30, 2)), {}),
    "both directions": (
        lambda: chain(K.Bidirectional(K.GRU(4, return_sequences=True)), K.Bidirectional(K.LSTM(3), "sum"), shape=(30, 2)),
        {},
    ),
    "both directions, every frame": (
        lambda: chain(K.Bidirectional(K.SimpleRNN(4, return_sequences=True), "ave"), K.Dense(2), shape=(30, 2)),
        {},
    ),
    "backwards": (
        lambda: chain(K.GRU(4, return_sequences=True, go_backwards=True), K.GRU(2, go_backwards=True), shape=(30, 2)),
        {},
    ),
    "squeeze and excitation": (squeezed, {"window_hop": 6}),
    "heads": (lambda: attended(K.MultiHeadAttention(2, 3, value_dim=4)), {}),
    "causal heads": (lambda: attended(K.MultiHeadAttention(2, 3), causal=True), {}),
    "gated heads": (lambda: attended(K.MultiHeadAttention(2, 3, use_gate=True, use_bias=False)), {}),
    "grouped heads": (lambda: attended(K.GroupQueryAttention(3, 4, 2)), {}),
    "cross attention": (crossed, {}),
    "group norm": (
        lambda: chain(K.Conv1D(6, 3), K.GroupNormalization(3), K.GroupNormalization(-1, scale=False), shape=(20, 4)),
        {},
    ),
    "norms along time": (
        lambda: chain(
            K.LayerNormalization(axis=[1, 2]), K.LayerNormalization(axis=1), K.UnitNormalization(axis=1),
            K.BatchNormalization(axis=1), K.PReLU(), K.Softmax(axis=1), shape=(20, 6),
        ),
        {},
    ),
    "repeated": (
        lambda: chain(K.GlobalAveragePooling1D(), K.RepeatVector(5), K.GRU(3, return_sequences=True)),
        {"clip_frames": 20},
    ),
    "moved time": (lambda: chain(K.Permute((2, 1)), K.Conv1D(4, 3), K.Dense(3), K.Flatten(), shape=(24, 5)), {"window_hop": 4}),
    "cut frames": (lambda: chain(K.Reshape((6, 6)), K.Conv1D(4, 3), K.Flatten(), shape=(9, 4)), {"window_hop": 2}),
    "two heads": (two_heads, {}),
    "planes": (
        lambda: chain(
            K.Conv2D(4, 3, padding="same"), K.Conv2D(4, 3, groups=2), K.GlobalAveragePooling2D(), shape=(None, 20, 2)
        ),
        {"clip_frames": 24, "window_hop": 4},
    ),
    "planes on their side": (
        lambda: chain(K.Conv2D(4, 3, padding="same"), K.GlobalMaxPooling2D(keepdims=True), K.Flatten(), shape=(20, None, 2)),
        {"clip_frames": 24, "window_hop": 4},
    ),
    "time said": (
        lambda: chain(K.Conv2D(4, (3, 2)), K.MaxPooling2D(2), K.Flatten(), K.Dense(3), shape=(16, 16, 1)),
        {"time_axis": 2, "window_hop": 2},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_each_window_is_what_the_model_predicts(name: str):
    """Each output of a clip net equals the model's answer to the window's samples, shared work or not."""
    build, how = MODELS[name]
    graph = check_model(build(), **how)
    assert graph.clip is not None


def test_overlapping_windows_share_what_no_padding_touches():
    """Of a net with padding the middle is computed once, and each window computes its edges: a fraction of the work."""
    model = chain(
        K.Conv1D(8, 5, padding="same", activation="relu"),
        K.MaxPooling1D(2),
        K.Conv1D(8, 3, padding="same", activation="relu"),
        K.GlobalAveragePooling1D(),
        shape=(1000, 1),
    )
    graph = import_keras(model, window_hop=100)
    conv, _, second, _ = graph.nodes
    assert shared_parts(graph)[conv.name].first == 2
    taken, computed = needed_spans(graph, shared_parts(graph))
    assert computed[conv.name] == [(0, 2), (998, 1000)]
    assert computed[second.name] == [(0, 2), (498, 500)]
    assert taken[second.name] == [(2, 498)]
    assert taken[INPUT] == [(0, 4), (996, 1000)]  # as far as the edges ask for
    assert macs_per_window(graph) < 0.12 * macs_per_window(graph, share=False)


def test_inspect_tells_what_a_window_costs(tmp_path: Path):
    """`inspect` shows the window, what sharing saves, and how many of a layer's frames each window computes."""
    model = chain(K.Conv1D(4, 3), K.GlobalAveragePooling1D(), K.Dense(2), shape=(400, 1))
    graph = import_keras(model, window_hop=40).with_info(rate=8000)
    graph.save(tmp_path / "n.safetensors")
    facts = json.loads(inside("inspect", tmp_path / "n.safetensors", "--json").stdout)
    window, conv = facts["window"], facts["layers"][0]
    assert (window["frames"], window["hop"], conv["frames"], conv["computed"]) == (400, 40, 398, 40)
    assert conv["macs_per_second"] == 40 * 12 * 8000 / 40
    assert window["macs"] < 0.2 * window["macs_unshared"]
    assert window["time_saved"] < 1
    shown = inside("inspect", tmp_path / "n.safetensors", "--layers").stdout
    assert "400 samples (50 ms) that move by 40 samples (5 ms)" in shown
    assert "40 of 398" in shown


def test_a_hop_that_strides_do_not_divide_shares_only_what_comes_before():
    """Where the window's hop is no whole number of a layer's strides, that layer and what follows share nothing."""
    layers = [records.Conv1D(kernel=np.ones((3, 1, 2)), padding="valid"), records.Pooling1D(by="max", pool=4, stride=4)]
    graph = Graph.sequential(layers, clip=Clip(90, 6))
    assert shared_parts(graph).keys() == {INPUT, "conv1d_0"}


def test_a_clip_nets_file_keeps_the_window(tmp_path):
    """A net's file holds its clip, and the net that is read answers alike."""
    graph = import_keras(MODELS["flatten"][0](), window_hop=5)
    graph.save(tmp_path / "n.safetensors")
    read = store.load(tmp_path / "n.safetensors")
    assert read.clip == Clip(48, 5)
    x = signal(1, 200, 1)
    np.testing.assert_array_equal(Engine(read).process(x), Engine(graph).process(x))


def test_events_of_a_clip_net_stand_at_their_windows():
    """A clip net's score stands at its window's last sample; after a gap windows go on, on the same grid."""
    pool = records.Pooling1D(by="max", pool=40, stride=40)
    info = NetInfo(name="loud", rate=1000, labels=("loud",), threshold=0.5)
    graph = Graph.sequential([pool], info=info, clip=Clip(40, 10))
    pipeline = Pipeline("s", "x", 1000, 1, [Listener("loud", graph, Peak(refractory=Duration(0.05)))])
    x = np.zeros((400, 1), np.float32)
    x[95] = x[307] = 0.9
    x[200] = np.nan
    events = [
        event for block in np.split(x, [1, 50, 120, 333]) for event in pipeline.process(block)
    ] + pipeline.finish()
    found = [(event.sample, event.decided_sample) for event in events if hasattr(event, "label")]
    # The first window that holds the sample ends at the next of 39, 49, 59, ...
    assert [sample for sample, _ in found] == [99, 309]


@pytest.mark.parametrize(
    ("build", "how", "words"),
    [
        (lambda: chain(K.GlobalAveragePooling1D(name="p")), {}, ["'p'", "--clip-frames"]),
        (lambda: chain(K.Flatten(), shape=(50, 2)), {"clip_frames": 40}, ["40", "50", "--clip-frames 50"]),
        (lambda: chain(K.Flatten(), shape=(50, 2)), {"window_hop": 51}, ["50", "51", "at most 50"]),
        (lambda: chain(K.Conv1D(2, 3)), {"window_hop": 5}, ["5", "streams by itself"]),
        (lambda: chain(K.Conv1D(2, 30, name="c"), K.Flatten()), {"clip_frames": 20}, ["'c'", "clip of 20", "longer"]),
        (lambda: chain(K.Flatten(), shape=(8, 8, 1)), {}, ["two axes", "--time-axis"]),
        (lambda: chain(K.Flatten(), shape=(8, 8, 1)), {"time_axis": 3}, ["time_axis is 3"]),
        (lambda: attended(K.MultiHeadAttention(2, 3, sliding_window=4, name="m")), {}, ["'m'", "sliding window"]),
        (lambda: chain(K.Bidirectional(K.GRU(2), None, name="b"), shape=(9, 2)), {}, ["'b'"]),
        (lambda: chain(K.AdaptiveAveragePooling1D(3, name="a"), shape=(9, 2)), {}, ["'a'", "given number of parts"]),
    ],
)  # fmt: skip
def test_what_is_no_clip_net_is_refused(build: Callable[[], keras.Model], how: dict[str, int], words: list[str]):
    """No length, one that does not fit, a hop beyond it, or an unclear axis of time: each is named, with a way out."""
    with pytest.raises((GraphError, UnsupportedLayerError)) as caught:
        import_keras(build(), **how)
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


@pytest.mark.parametrize(("frames", "hop"), [(0, 1), (10, 0), (10, 11), (2.0, 1), (True, 1)])
def test_windows_that_are_none_are_refused(frames: int, hop: int):
    """A clip and its hop are whole numbers of at least 1, and no frame is left out between windows."""
    with pytest.raises(GraphError):
        Clip(frames, hop)


def test_attention_needs_a_clip():
    """A graph with a layer that sees all frames is refused unless it is for clips."""
    nodes = import_keras(attended(K.MultiHeadAttention(1, 2))).nodes
    with pytest.raises(GraphError, match="give the graph a clip"):
        Graph(nodes, (3,))


def asked(layer: object, **names: str) -> keras.Model:
    """A model of three inputs that calls an attention layer with them by name."""
    tensors = {name: keras.Input((12, 4), name=name) for name in "abc"}
    return keras.Model(list(tensors.values()), layer(**{name: tensors[which] for name, which in names.items()}))


@pytest.mark.parametrize("layer", [K.MultiHeadAttention(2, 3), K.GroupQueryAttention(3, 4, 2)])
def test_attention_is_called_by_name(layer: K.Layer):
    """Query, value and key are those that the call names, in whatever order Keras keeps them."""
    check_model(asked(layer, query="a", value="b", key="c"), contract=False)
    check_model(asked(layer.__class__.from_config(layer.get_config()), key="a", value="c", query="b"), contract=False)


def test_a_scale_along_other_axes_is_refused():
    """RMSNormalization along other axes than the last is refused, as Keras spreads its scale along the last ones."""
    for how in ({"time_axis": 1}, {"time_axis": 2}):
        with pytest.raises(UnsupportedLayerError, match="applies its scale along the last ones"):
            import_keras(chain(K.RMSNormalization(axis=[1, 3]), K.Flatten(), shape=(8, 8, 2)), **how)


def test_a_mask_of_attention_is_refused():
    """A mask that is a tensor of the model is not taken for something else."""
    a, mask = keras.Input((6, 6)), keras.Input((6, 6))
    model = keras.Model([a, mask], K.MultiHeadAttention(2, 3)(a, a, attention_mask=mask))
    with pytest.raises(UnsupportedLayerError, match="attention_mask, a tensor"):
        import_keras(model)


SIDEWAYS: dict[str, tuple[Callable[[], keras.Model], dict[str, int]]] = {
    "norms of time and channels": (
        lambda: chain(K.LayerNormalization(axis=[2, 3]), K.UnitNormalization(axis=(2, 3)), shape=(8, 6, 2)),
        {"time_axis": 2},
    ),
    "norms of bands and channels": (
        lambda: chain(
            K.LayerNormalization(axis=[1, 3]), K.UnitNormalization(axis=(1, 3)), K.Flatten(), shape=(8, 8, 2)
        ),
        {"time_axis": 2},
    ),
    "square ones of time": (
        lambda: chain(
            K.LayerNormalization(axis=[2, 3]), K.RMSNormalization(axis=(2, 3)), K.Softmax(axis=1), shape=(8, 8, 2)
        ),
        {"time_axis": 2},
    ),
}


@pytest.mark.parametrize("name", SIDEWAYS)
def test_axes_are_the_models_own_where_time_is_the_second(name: str):
    """A layer that names axes works along those of the model, wherever time is among them."""
    build, how = SIDEWAYS[name]
    check_model(build(), **how)


def test_values_for_each_band_follow_the_bands():
    """Rescaling and Normalization of planes on their side keep each band's own values; such of frames need a clip."""
    bands = np.arange(1.0, 9).reshape(8, 1, 1)
    norm = K.Normalization(axis=1, mean=np.arange(8.0), variance=np.arange(1.0, 9))
    model = chain(K.Rescaling(bands), norm, shape=(8, None, 2))
    graph, x = import_keras(model), signal(1, 30, 16)
    expected = np.moveaxis(np.asarray(model(np.moveaxis(x.reshape(1, 30, 8, 2), 1, 2)))[0], 1, 0).reshape(30, 16)
    np.testing.assert_allclose(Engine(graph).process(x), expected, atol=1e-4)
    with pytest.raises(UnsupportedLayerError, match="values of its own for each of 8 frames"):
        import_keras(chain(K.Rescaling(np.arange(8.0).reshape(8, 1)), shape=(4, None, 2)))


@pytest.mark.parametrize(
    ("build", "how"),
    [
        (lambda: chain(K.Conv1D(3, 3), K.Permute((2, 1)), shape=(22, 3)), {"clip_frames": 22}),
        (lambda: chain(K.Permute((2, 1)), shape=(22, 3)), {"clip_frames": 22}),
        (two_heads, {}),
        (lambda: chain(K.GroupNormalization(2), shape=(6, 8, 2)), {"time_axis": 2}),
    ],
)
def test_verification_knows_the_order_of_a_windows_answer(build: Callable[[], keras.Model], how: dict[str, int]):
    """What a window answers is compared in the model's own order, whichever axis of it is time."""
    model = randomized(build())
    graph = import_keras(model, **how)
    assert check_signal(graph, keras_oracle(model, graph), random_signal(graph), "noise").passed


def test_reshapes_come_out_even():
    """A clip that cannot be reshaped is refused; a stream's length class is one for which its reshapes come out even."""
    model = chain(K.Reshape((10, 6)), K.Flatten(), shape=(None, 3))
    with pytest.raises(GraphError, match="25 frames of the shape .* cannot be reshaped"):
        import_keras(model, clip_frames=25)
    assert import_keras(model, clip_frames=20).clip.frames == 20
    assert import_keras(chain(K.Cropping1D((1, 0)), K.Reshape((-1, 6)), shape=(None, 3))).length_class == 1


def test_a_clip_net_cannot_start_prewarmed():
    """Windows begin with nothing before them, so there is no silence to start after."""
    with pytest.raises(GraphError, match="answers clips"):
        Engine(import_keras(MODELS["one vector"][0]()), prewarm=True)


def test_a_file_of_whole_windows_is_verified_whole():
    """A signal is cut to whole windows, not to whole hops, and one that is shorter than a clip is refused."""
    graph = import_keras(MODELS["flatten"][0](), window_hop=20)
    assert len(fitted(graph, signal(1, 48, 1))) == 48
    assert len(fitted(graph, signal(1, 107, 1))) == 88
    with pytest.raises(InputError, match="give at least 48"):
        fitted(graph, signal(1, 40, 1))


def test_places_are_stored_as_numbers(tmp_path: Path):
    """A net that reorders a long clip has a file whose header stays small."""
    graph = import_keras(chain(K.GRU(2, go_backwards=True), shape=(20000, 2)))
    graph.save(tmp_path / "n.safetensors")
    header = int.from_bytes((tmp_path / "n.safetensors").read_bytes()[:8], "little")
    assert header < 10_000
    assert store.load(tmp_path / "n.safetensors").clip == graph.clip


def test_values_for_each_frame_of_a_clip_are_the_models_own():
    """A clip may be scaled by values of its own for each frame, wherever time is."""
    frames = np.arange(1.0, 9).reshape(8, 1)
    check_model(chain(K.Rescaling(frames), K.Flatten(), shape=(6, 8, 2)), time_axis=2)
    check_model(chain(K.Rescaling(frames), K.Flatten(), shape=(8, 3)))
