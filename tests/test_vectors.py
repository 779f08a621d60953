"""Vectors that other engines made: RTNeural's, Neural Amp Modeler's, and the constants of Keras' own tests."""

import json
from pathlib import Path

import numpy as np
import pytest

from streamcnn.engine import Engine
from streamcnn.errors import GraphError, NetFileError, UnsupportedLayerError
from streamcnn.graph import layers as L
from streamcnn.graph.graph import Graph
from streamcnn.importers.nam import import_nam
from streamcnn.importers.rtneural import import_rtneural
from tests.contract import check_streaming_contract
from tests.graphs import signal

TOLERANCE = 1e-6


def table(path: Path) -> np.ndarray:
    """Return a CSV as (rows, columns)."""
    values = np.loadtxt(path, delimiter=",", ndmin=2)
    return values.T if values.shape[0] == 1 else values


@pytest.mark.parametrize("name", ["conv", "conv_stateless", "dense", "gru", "lstm_1d"])
def test_rtneural_nets_give_rtneurals_outputs(data_folder: Path, name: str):
    """A net in RTNeural's JSON, causal or 'valid', gives the outputs that Keras gave RTNeural's tests, and streams."""
    graph = import_rtneural(data_folder / "rtneural" / "models" / f"{name}.json")
    x, y = (table(data_folder / "rtneural" / "test_data" / f"{name}_{side}_python.csv") for side in "xy")
    got = Engine(graph).process(x)
    assert got.shape == y.shape
    np.testing.assert_allclose(got, y, rtol=0, atol=TOLERANCE)
    check_streaming_contract(graph, signal(0, 300, 1))


def test_rtneurals_full_model_streams(data_folder: Path):
    """Dense, dilated convolution, GRU and Dense together keep the contract."""
    check_streaming_contract(
        import_rtneural(data_folder / "rtneural" / "models" / "full_model.json"), signal(0, 300, 1)
    )


def test_a_torch_convolution_gives_torchs_output(data_folder: Path):
    """A 'valid' convolution built by hand from a torch state dict gives torch's outputs."""
    state = json.loads((data_folder / "rtneural" / "models" / "conv1d_torch.json").read_text(encoding="utf-8"))
    kernel = np.array(state["weight"]).transpose(2, 1, 0)
    x, y = (
        np.loadtxt(data_folder / "rtneural" / "test_data" / f"conv1d_torch_{side}_python.csv", delimiter=",", ndmin=2)
        for side in "xy"
    )
    x = x if x.shape[0] == kernel.shape[1] else x.T
    groups = x.shape[0] // kernel.shape[1]
    layer = L.Conv1D(kernel=kernel, bias=np.array(state["bias"]), padding="valid", groups=groups)
    got = Engine(Graph.sequential([layer], x.shape[0])).process(x.T)
    np.testing.assert_allclose(got, y.T if y.shape[0] == kernel.shape[2] else y, rtol=0, atol=TOLERANCE)


def test_broken_rtneural_nets_are_refused(data_folder: Path):
    """Weights that disagree with the shape, and a type that nobody defined, are refused with the layer's name."""
    with pytest.raises(GraphError, match=r"bad_lstm\.json: layer '0 \(lstm\)'"):
        import_rtneural(data_folder / "rtneural" / "models" / "bad_lstm.json")
    with pytest.raises(UnsupportedLayerError, match="gated_activation"):
        import_rtneural(data_folder / "rtneural" / "models" / "unknown_layer.json")


def binary(path: Path, dtype: str) -> tuple[int, np.ndarray]:
    """Return the count at the head of a file and the values behind it."""
    data = path.read_bytes()
    return int(np.frombuffer(data[:4], "<u4")[0]), np.frombuffer(data[4:], dtype)


@pytest.mark.parametrize(
    ("net", "anchor"), [("convnet_test", "convnet_256"), ("wavenet_official", "wavenet_official_256")]
)
def test_nam_nets_give_nams_outputs(data_folder: Path, net: str, anchor: str):
    """A NAM net gives the C++ engine's outputs after silence, and the float64 anchors from zeros, and streams."""
    graph = import_nam(data_folder / "nam" / "models" / f"{net}.nam")
    count, values = binary(data_folder / "nam" / "golden" / f"golden_{net}.bin", "<f4")
    got = Engine(graph).process(values[:count])[:, 0]
    np.testing.assert_allclose(got, values[count:], rtol=0, atol=TOLERANCE)
    _, sweep = binary(data_folder / "nam" / "f64_anchors" / "sweep_256_48k.bin", "<f8")
    _, expected = binary(data_folder / "nam" / "f64_anchors" / f"{anchor}_f64.bin", "<f8")
    got = Engine(graph, prewarm=False).process(sweep)[:, 0]
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE)
    check_streaming_contract(graph.with_info(prewarm=False), signal(0, 300, 1))


def test_a_prewarmed_engine_starts_as_after_silence(data_folder: Path):
    """Prewarmed, an engine answers as one that has heard silence for longer than it can see, and again after a reset."""
    graph = import_nam(data_folder / "nam" / "models" / "convnet_test.nam")
    x = signal(0, 200, 1)
    cold = Engine(graph, prewarm=False)
    cold.process(np.zeros(1000))
    expected, engine = cold.process(x), Engine(graph)
    assert np.array_equal(engine.process(x), expected)
    engine.reset()
    assert np.array_equal(np.concatenate([engine.process(b) for b in np.split(x, [1, 50])]), expected)


def constant_net(
    record: type[L.Layer], units: int, channels: int, gates: int, *, bias: object = True, **options: object
) -> Graph:
    """Return a recurrent net whose kernel is 0.01, recurrent kernel 0.02, and bias 0.03 (or as given)."""
    shape = (2, gates * units) if options.get("reset_after") else (gates * units,)
    made = np.full(shape, 0.03) if isinstance(bias, bool) else bias
    kernels = {
        "kernel": np.full((channels, gates * units), 0.01),
        "recurrent_kernel": np.full((units, gates * units), 0.02),
    }
    return Graph.sequential([record(**kernels, bias=made, **options)], channels)


FORGET_ONE = np.repeat([0.03, 1.0, 0.03, 0.03], 3)  # Keras' unit_forget_bias
CELLS = {
    "gru": (L.GRU, 3, {"reset_after": True}),
    "gru_reset_after_false": (L.GRU, 3, {"reset_after": False}),
    "gru_no_bias": (L.GRU, 3, {"reset_after": True, "bias": None}),
    "lstm": (L.LSTM, 4, {"bias": FORGET_ONE}),
    "lstm_unit_forget_bias_false": (L.LSTM, 4, {}),
    "lstm_no_bias": (L.LSTM, 4, {"bias": None}),
}


@pytest.mark.parametrize("name", CELLS)
def test_recurrent_cells_give_keras_own_constants(data_folder: Path, name: str):
    """GRU and LSTM with constant weights end in the states that Keras' own tests expect."""
    constants = json.loads((data_folder / "keras_expect" / "rnn_constants.json").read_text(encoding="utf-8"))
    record, gates, options = CELLS[name]
    graph = constant_net(record, 3, 4, gates, **options)
    for sequence, expected in zip(np.arange(72).reshape(3, 6, 4), constants[name], strict=True):
        np.testing.assert_allclose(Engine(graph).process(sequence)[-1], expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("name", "record", "gates"), [("gru", L.GRU, 3), ("lstm", L.LSTM, 4)])
def test_state_goes_on_between_blocks(data_folder: Path, name: str, record: type[L.Layer], gates: int):
    """A state carried over two calls is that of Keras' stateful layers."""
    constants = json.loads((data_folder / "keras_expect" / "rnn_constants.json").read_text(encoding="utf-8"))
    options = {"reset_after": True} if name == "gru" else {"bias": np.repeat([0.03, 1.0, 0.03, 0.03], 4)}
    graph = constant_net(record, 4, 4, gates, **options)
    for sequence, expected in zip(np.arange(24).reshape(2, 3, 4), constants[f"{name}_stateful_2calls"], strict=True):
        engine = Engine(graph)
        engine.process(sequence)
        np.testing.assert_allclose(engine.process(sequence)[-1], expected, rtol=0, atol=TOLERANCE)


DENSE = {"type": "dense", "activation": "", "shape": [None, 1], "weights": [[[1.0]], [0.0]]}


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("", "not JSON"),
        ("[1, 2", "not JSON"),
        ("[" * 100_000, "JSON"),
        ("[]", "no RTNeural model"),
        ({"in_shape": [None, 1], "layers": [{}]}, "damaged"),
        ({"in_shape": [None, 1], "layers": []}, "at least one layer"),
        ({"in_shape": [None, 2], "layers": [DENSE]}, "0 .dense."),
        ({"in_shape": [None, 1], "layers": [{**DENSE, "weights": [[[1.0], [2.0, 3.0]], [0.0]]}]}, "0 .dense."),
        ({"in_shape": [None, 1], "layers": [{**DENSE, "weights": []}]}, "0 .dense."),
        ({"in_shape": [None, 1], "layers": [{**DENSE, "weights": [[["x"]], [0.0]]}]}, "0 .dense."),
        ({"in_shape": [None, 1], "layers": [{**DENSE, "weights": [[[1e99]], [0.0]]}]}, "NaN or Inf"),
        ({"in_shape": [None, 1], "layers": [{**DENSE, "shape": [None, 3]}]}, "shape says 3"),
        ({"in_shape": [None, 1], "layers": [{**DENSE, "activation": "magic"}]}, "magic"),
    ],
)
def test_damaged_rtneural_files_are_refused(tmp_path: Path, document: object, words: str):
    """A file that is no RTNeural model, or a damaged one, is refused with what is wrong with it."""
    path = tmp_path / "m.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    with pytest.raises((NetFileError, GraphError, UnsupportedLayerError), match=words):
        import_rtneural(path)


CONVNET = {
    "architecture": "ConvNet",
    "config": {"channels": 1, "dilations": [1], "batchnorm": False, "activation": "Tanh"},
    "weights": [1.0, 2.0, 0.0, 1.0, 0.0],
    "sample_rate": 48000,
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weights": CONVNET["weights"][:-1]}, "4 weights, its configuration needs more"),
        ({"weights": [*CONVNET["weights"], 1.0]}, "6 weights, its configuration needs 5"),
        ({"weights": [float("nan")] * 5}, "JSON|NaN"),
        ({"weights": "words"}, "damaged"),
        ({"architecture": "LSTM"}, "'LSTM' is not streamed"),
        ({"config": {}}, "damaged"),
        ({"config": {**CONVNET["config"], "activation": "Magic"}}, "Magic"),
        ({"config": {**CONVNET["config"], "groups": 2}}, "groups"),
        ({"sample_rate": -1}, "rate is -1"),
    ],
)
def test_damaged_nam_files_are_refused(tmp_path: Path, change: dict, words: str):
    """A NAM file with too few or too many weights, or of a kind that is not streamed, is refused with the reason."""
    path = tmp_path / "m.nam"
    path.write_text(json.dumps(CONVNET), encoding="utf-8")
    assert Engine(import_nam(path)).process([1.0]).shape == (1, 1)
    path.write_text(json.dumps({**CONVNET, **change}), encoding="utf-8")
    with pytest.raises((NetFileError, UnsupportedLayerError), match=words):
        import_nam(path)


def test_gated_nam_wavenets_are_built(tmp_path: Path):
    """A gated WaveNet uses twice the channels in its convolutions and multiplies the halves."""
    layer = {"input_size": 1, "condition_size": 1, "head_size": 1, "channels": 2, "kernel_size": 2, "dilations": [1, 2],
             "activation": "Tanh", "gated": True, "head_bias": True}  # fmt: skip
    count = 2 + 2 * (2 * 4 * 2 + 4 + 4 + 2 * 2 + 2) + 2 + 1 + 1
    weights = np.random.default_rng(0).normal(size=count).tolist()
    document = {"architecture": "WaveNet", "config": {"layers": [layer], "head": None}, "weights": weights}
    (tmp_path / "m.nam").write_text(json.dumps(document), encoding="utf-8")
    graph = import_nam(tmp_path / "m.nam")
    assert any(node.name.endswith("/gated") for node in graph.nodes)
    check_streaming_contract(graph.with_info(prewarm=False), signal(0, 200, 1))
