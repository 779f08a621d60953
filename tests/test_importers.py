"""Importers: what they take is exact, and what they cannot take they refuse by name."""

import os
import pickle
from pathlib import Path

import keras
import numpy as np
import pytest

from streamcnn.engine import Engine
from streamcnn.errors import NetFileError, StreamcnnError, UnsupportedLayerError
from streamcnn.importers.keras import import_keras
from streamcnn.importers.pickle import import_pickle
from tests.graphs import signal

L = keras.layers


def chain(*layers: object, channels: int = 2) -> keras.Model:
    """Return a Keras model of layers on a stream of `channels`."""
    return keras.Sequential([keras.Input((None, channels)), *layers])


class OwnLayer(keras.layers.Layer):
    """A layer that Keras does not know."""

    def call(self, x: object) -> object:
        """Do nothing."""
        return x


def test_files_and_live_models_give_the_same_net(tmp_path: Path):
    """A .keras file, a legacy .h5 file and the live model become the same graph, without the training's losses."""
    model = chain(L.Conv1D(4, 3, padding="causal", activation="relu", name="a"), L.Dropout(0.5), L.Dense(1, name="b"))
    model.compile(loss=lambda a, b: a - b)
    model.save(tmp_path / "m.keras")
    model.save(tmp_path / "m.h5")
    x = signal(0, 50, 2)
    live = Engine(import_keras(model)).process(x)
    np.testing.assert_allclose(live, np.asarray(model(x[None]))[0], atol=1e-6)
    for name in ("m.keras", "m.h5"):
        graph = import_keras(tmp_path / name)
        assert [node.name for node in graph.nodes] == ["a", "b"]
        assert np.array_equal(Engine(graph).process(x), live)


def test_a_functional_chain_and_a_nested_relu_are_read():
    """A functional model of a chain streams as Keras computes it."""
    inputs = keras.Input((None, 2))
    x = L.ReLU()(L.Conv1D(3, 4, padding="valid", dilation_rate=2)(inputs))
    model = keras.Model(inputs, L.Activation("tanh")(L.Dense(2)(x)))
    x = signal(1, 60, 2)
    np.testing.assert_allclose(Engine(import_keras(model)).process(x), np.asarray(model(x[None]))[0], atol=1e-6)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: chain(L.Conv1D(1, 3, padding="same", name="c")), ["'c'", "same", "padding='causal'"]),
        (lambda: chain(L.Conv1D(1, 3, strides=2, name="c")), ["'c'", "strides is 2"]),
        (lambda: chain(L.Conv1D(2, 3, groups=2, name="c")), ["'c'", "groups is 2"]),
        (lambda: chain(L.Dense(1, activation="gelu", name="d")), ["'d'", "'gelu'"]),
        (lambda: chain(L.GRU(3, name="g")), ["'g'", "GRU is not supported"]),
        (lambda: chain(L.ReLU(max_value=6, name="r")), ["'r'", "max_value"]),
        (lambda: chain(OwnLayer(name="own")), ["'own'", "OwnLayer", "Keras' own layers"]),
        (lambda: keras.Sequential([L.Dense(1)]), ["Input"]),
        (lambda: keras.Sequential([keras.Input((5,)), L.Dense(1)]), ["shape"]),
    ],
)
def test_what_does_not_stream_is_refused_by_name(model: object, words: list[str]):
    """A layer or option that is not streamed exactly is refused with the layer's name, the reason and a remedy."""
    with pytest.raises(UnsupportedLayerError) as error:
        import_keras(model())
    assert [word for word in words if word not in str(error.value)] == [], str(error.value)


def test_a_net_with_nan_weights_is_refused():
    """NaN weights are refused with the layer's name."""
    model = chain(L.Dense(1, name="bad"))
    model.set_weights([np.full((2, 1), np.nan), np.zeros(1)])
    with pytest.raises(StreamcnnError, match="layer 'bad'.*NaN"):
        import_keras(model)


def test_a_model_file_that_is_none_is_refused(tmp_path: Path):
    """A missing, truncated or foreign model file is refused with its name."""
    chain(L.Dense(1)).save(tmp_path / "m.keras")
    (tmp_path / "cut.keras").write_bytes((tmp_path / "m.keras").read_bytes()[:500])
    (tmp_path / "text.h5").write_text("hello", encoding="utf-8")
    for name in ("missing.keras", "cut.keras", "text.h5"):
        with pytest.raises(NetFileError, match=name):
            import_keras(tmp_path / name)


KERNEL = np.arange(24, dtype=np.float32).reshape(4, 2, 3)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_weights_of_every_protocol_are_read(tmp_path: Path, protocol: int):
    """A list of kernel and bias is read in every pickle protocol, in Keras' and in PyTorch's order."""
    path, bias = tmp_path / "w.pickle", np.ones(3, np.float32)
    path.write_bytes(pickle.dumps([KERNEL, bias], protocol))
    layer = import_pickle(path).nodes[0].layer
    assert np.array_equal(layer.kernel, KERNEL)
    assert np.array_equal(layer.bias, bias)
    path.write_bytes(pickle.dumps([np.ascontiguousarray(KERNEL.transpose(2, 1, 0))], protocol))
    assert np.array_equal(import_pickle(path, order="torch").nodes[0].layer.kernel, KERNEL)


def test_a_kernel_of_unclear_order_is_refused(tmp_path: Path):
    """A kernel that could be PyTorch's is not guessed at: the order must be said."""
    path = tmp_path / "w.pickle"
    path.write_bytes(pickle.dumps([np.ones((1, 1, 8))]))
    with pytest.raises(NetFileError, match="--order"):
        import_pickle(path)
    assert import_pickle(path, order="torch").nodes[0].layer.taps == 8
    assert import_pickle(path, order="keras").nodes[0].layer.taps == 1


class _RunsCode:
    """What a malicious pickle holds."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("pwned",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (_RunsCode(), "refused: it asks for 'posix.mkdir'"),
        ([KERNEL, _RunsCode()], "refused"),
        (np.array([_RunsCode()], object), "refused"),
        ({"kernel": KERNEL}, "holds a dict"),
        ([], "expected a list"),
        ([KERNEL.astype(int)], "int64"),
        ([KERNEL.astype(object)], "object"),
        (["text"], "a str"),
        ([KERNEL[0]], "three axes"),
        ([KERNEL, np.ones(5)], "bias"),
        ([KERNEL * np.inf], "NaN or Inf"),
    ],
)
def test_pickles_of_anything_else_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: object, words: str
):
    """A pickle that asks for other names, or holds other things, is refused, and nothing of it has run."""
    monkeypatch.chdir(tmp_path)
    Path("w.pickle").write_bytes(pickle.dumps(content))
    with pytest.raises(NetFileError, match=words):
        import_pickle("w.pickle")
    assert not Path("pwned").exists()


def test_damaged_pickles_are_refused(tmp_path: Path):
    """A pickle cut anywhere is refused with its name."""
    data, path = pickle.dumps([KERNEL]), tmp_path / "w.pickle"
    for length in range(0, len(data) - 1, 7):
        path.write_bytes(data[:length])
        with pytest.raises(NetFileError, match=r"w\.pickle"):
            import_pickle(path)
