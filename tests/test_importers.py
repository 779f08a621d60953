"""Importers: what they take is exact, and what they cannot take they refuse by name."""

import os
import pickle
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from streamcnn.engine import Engine
from streamcnn.errors import GraphError, NetFileError, StreamcnnError, UnsupportedLayerError
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


def joined(join: object, *paths: object) -> keras.Model:
    """Return a model of paths of one input that a layer joins."""
    inputs = keras.Input((None, 2))
    return keras.Model(inputs, join([path(inputs) for path in paths]))


def called(layer: object, *others: object, **arguments: object) -> keras.Model:
    """Return a model that calls a layer with more than its input."""
    inputs = keras.Input((None, 2))
    given = [inputs, *others] if others else inputs
    return keras.Model(inputs, layer(given, **arguments))


class GaussianNoise(keras.layers.Layer):
    """A layer of the model's own under the name of one of Keras'."""

    def call(self, x: object) -> object:
        """Triple."""
        return 3 * x

    def compute_output_shape(self, shape: tuple) -> tuple:
        """Leave the shape as it is."""
        return shape


class LSTMCell(keras.layers.LSTMCell):
    """A cell of the model's own under the name of one of Keras'."""


class OwnSequential(keras.Sequential):
    """A model whose computation goes beyond its layers."""

    def call(self, x: object, training: object = None, mask: object = None) -> object:
        """Double what the layers give."""
        return 2 * super().call(x)


def called_with_a_dictionary() -> keras.Model:
    """A nested model whose inputs are named in a dictionary."""
    z, a = keras.Input((None, 2), name="z"), keras.Input((None, 2), name="a")
    inner = keras.Model([z, a], L.Subtract()([z, a]), name="inner")
    inputs = keras.Input((None, 2))
    return keras.Model(inputs, inner({"z": inputs, "a": L.ReLU()(inputs)}))


def stateful_twice() -> keras.Model:
    """A stateful layer whose second use starts from the state of its first."""
    inputs, layer = keras.Input((None, 2), batch_size=1), L.GRU(2, return_sequences=True, stateful=True, name="g")
    return keras.Model(inputs, layer(layer(inputs)))


def quantized() -> keras.Model:
    """A model with int8 weights."""
    model = chain(L.Dense(3, name="d"), L.Dense(2))
    model.quantize("int8")
    return model


def with_state() -> keras.Model:
    """A model that uses the state that a recurrent layer returns."""
    inputs = keras.Input((None, 2))
    sequence, state = L.GRU(3, return_sequences=True, return_state=True)(inputs)
    return keras.Model(inputs, L.GRU(3, return_sequences=True, name="second")(sequence, initial_state=state))


class OwnModel(keras.Model):
    """A model whose computation is code."""

    def call(self, x: object) -> object:
        """Do nothing."""
        return x


REFUSALS = {
    "a lambda": (lambda: chain(L.Lambda(lambda x: x, name="f")), ["'f'", "Lambda runs code"]),
    "an own layer": (lambda: chain(OwnLayer(name="own")), ["'own'", "OwnLayer", "Keras' own layers"]),
    "an own model": (lambda: OwnModel(name="m"), ["'m'", "no graph of layers"]),
    "an own activation": (lambda: chain(L.Dense(1, activation=lambda x: x, name="d")), ["'d'", "activation"]),
    "an own gate": (lambda: chain(L.GRU(2, return_sequences=True, activation=lambda x: x, name="g")), ["'g'", "own"]),
    "the last state": (lambda: chain(L.GRU(3, name="g")), ["'g'", "last state", "--clip-frames"]),
    "backwards": (lambda: chain(L.LSTM(3, return_sequences=True, go_backwards=True, name="l")), ["'l'", "backwards"]),
    "both directions": (lambda: chain(L.Bidirectional(L.GRU(2, return_sequences=True), name="b")), ["'b'", "backwards"]),
    "global pooling": (lambda: chain(L.GlobalAveragePooling1D(name="p")), ["'p'", "whole signal"]),
    "global maximum": (lambda: chain(L.GlobalMaxPooling1D(name="p")), ["'p'", "whole signal"]),
    "flatten": (lambda: chain(L.Flatten(name="f")), ["'f'", "whole signal", "--clip-frames"]),
    "attention": (lambda: joined(lambda p: L.MultiHeadAttention(1, 2, name="a")(*p), L.Identity(), L.Identity()), ["'a'"]),
    "group norm": (lambda: chain(L.GroupNormalization(2, name="n")), ["'n'", "whole signal"]),
    "softmax along time": (lambda: chain(L.Softmax(axis=1, name="s")), ["'s'", "time"]),
    "a mask": (lambda: chain(L.Masking(name="m")), ["'m'", "Masking"]),
    "an embedding": (lambda: keras.Sequential([keras.Input((5,)), L.Embedding(9, 2, name="e")]), ["'e'", "whole numbers"]),
    "images": (lambda: keras.Sequential([keras.Input((None, 8, 2)), L.Conv2DTranspose(1, 3, name="c")]), ["'c'", "images"]),
    "volumes": (lambda: keras.Sequential([keras.Input((None, 8, 8, 2)), L.Conv3D(1, 3)]), ["no signal"]),
    "channels first": (lambda: chain(L.MaxPooling1D(2, data_format="channels_first", name="c"), channels=9),
                       ["'c'", "channels_first"]),
    "float16": (lambda: chain(L.Dense(1, dtype="mixed_float16", name="d")), ["'d'", "float16", "float32"]),
    "no channels": (lambda: keras.Sequential([keras.Input((None,)), L.ReLU()]), ["one vector", "Input((None, channels))"]),
    "two times": (lambda: keras.Sequential([keras.Input((None, None, 2)), L.ReLU()]), ["two axes", "--time-axis"]),
    "two lengths": (lambda: keras.Sequential([keras.Input((32, 32, 1)), L.ReLU()]), ["two axes", "--time-axis"]),
    "variable frames": (lambda: keras.Sequential([keras.Input((None, 8, None)), L.ReLU()]), ["variable shape"]),
    "no input": (lambda: keras.Sequential([L.Dense(1)], name="s"), ["'s'", "Input"]),
    "a moved time": (lambda: keras.Sequential([keras.Input((None, 8, 2)), L.Permute((2, 1, 3)),
                                               L.TimeDistributed(L.Dense(1), name="d")]), ["'d'", "axis 2", "Permute"]),
    "cut frames": (lambda: chain(L.Dense(4), L.Reshape((-1, 6), name="r")), ["'r'", "frames whole", "--clip-frames"]),
    "an inner recurrence": (lambda: keras.Sequential([keras.Input((None, 8, 2)), L.TimeDistributed(L.GRU(3), name="t")]),
                            ["'t'", "TimeDistributed(GRU)"]),
    "a state": (with_state, ["second"]),
    "constants": (lambda: joined(lambda p: p[0] * 2.0, L.Identity()), ["constant", "argument 1"]),
    "time side by side": (lambda: joined(L.Concatenate(axis=1, name="c"), L.Identity(), L.Identity()), ["'c'", "axis=-1"]),
    "an initial state": (lambda: called(L.GRU(2, return_sequences=True, name="g"), initial_state=np.ones((1, 2), "f")),
                         ["'g'", "initial_state", "constant"]),
    "a mask array": (lambda: called(L.LSTM(2, return_sequences=True, name="l"), mask=np.ones((1, 9), bool)), ["'l'", "mask"]),
    "an added constant": (lambda: called(L.Add(name="a"), np.ones((1, 1, 2), "f")), ["'a'", "constant"]),
    "training at inference": (lambda: called(L.BatchNormalization(name="b"), training=True), ["'b'", "training"]),
    "dropout at inference": (lambda: called(L.Dropout(0.5, name="d"), training=True), ["'d'", "training"]),
    "a borrowed name": (lambda: chain(GaussianNoise(name="n"), L.Dense(1)), ["'n'", "model's own"]),
    "a borrowed name inside": (lambda: called(L.TimeDistributed(GaussianNoise(name="n"))), ["'n'", "model's own"]),
    "a borrowed cell": (lambda: chain(L.RNN(LSTMCell(2), return_sequences=True, name="r")), ["'r'", "cell"]),
    "an own sequential": (lambda: OwnSequential([keras.Input((None, 2)), L.Dense(2)], name="s"), ["'s'", "code of its own"]),
    "an own nested model": (lambda: chain(OwnSequential([keras.Input((None, 2)), L.Dense(2)], name="s")), ["'s'", "code"]),
    "a dictionary": (called_with_a_dictionary, ["inner", "dictionary"]),
    "int8": (quantized, ["'d'", "quantized"]),
    "an operation": (lambda: joined(lambda p: keras.ops.average(p[0], axis=-1), L.Identity()), ["keras.ops"]),
    "float16 in a join": (lambda: joined(L.Add(dtype="float16", name="a"), L.Identity(), L.Identity()), ["'a'", "float16"]),
    "float16 at the input": (lambda: keras.Sequential([keras.Input((None, 2), dtype="float16"), L.Dense(1)]), ["float16"]),
    "deprecated rms": (lambda: chain(L.LayerNormalization(rms_scaling=True, name="n")), ["'n'", "RMSNormalization"]),
    "stateful twice": (stateful_twice, ["'g'", "stateful"]),
    "a state as output": (lambda: keras.Model(*(lambda a: (a, L.GRU(3, return_sequences=True, return_state=True)(a)[1]))(
        keras.Input((None, 2)))), ["state"]),
    "a dot": (lambda: joined(L.Dot(axes=2, name="d"), L.Identity(), L.Identity()), ["'d'"]),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_what_does_not_stream_is_refused_by_name(name: str):
    """A layer or option that is not streamed exactly is refused with the layer's name, the reason and a remedy."""
    build, words = REFUSALS[name]
    with pytest.raises(UnsupportedLayerError) as error:
        import_keras(build())
    assert [word for word in words if word not in str(error.value)] == [], str(error.value)
    assert error.value.remedy


def test_paths_that_do_not_fit_are_refused():
    """Paths of different hop or length cannot be joined, and an output faster than its input is refused."""
    with pytest.raises(GraphError, match="different hop"):
        import_keras(joined(L.Add(), L.MaxPooling1D(2), L.Identity()))
    with pytest.raises(GraphError, match="differ by 2 frames"):
        import_keras(joined(L.Add(), L.Conv1D(2, 3), L.Identity()))
    with pytest.raises(GraphError, match="2 frames for each input frame"):
        import_keras(chain(L.UpSampling1D(2)))
    with pytest.raises(GraphError, match="no layer that computes"):
        import_keras(chain(L.Dropout(0.5)))


def test_models_with_code_in_them_are_refused(tmp_path: Path):
    """A saved Lambda or custom layer is refused without running it, naming what it needs."""
    chain(L.Lambda(lambda x: x + 1)).save(tmp_path / "l.keras")
    with pytest.raises(UnsupportedLayerError, match="code of its own"):
        import_keras(tmp_path / "l.keras")
    chain(OwnLayer(name="own")).save(tmp_path / "o.keras")
    with pytest.raises(UnsupportedLayerError, match="OwnLayer"):
        import_keras(tmp_path / "o.keras")


def test_a_zip_bomb_is_refused(tmp_path: Path):
    """A .keras archive that would unpack to gigabytes is refused before it is unpacked."""
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("model.weights.h5", "w", force_zip64=True) as entry:
            for _ in range(2200):
                entry.write(bytes(2**20))
        archive.writestr("config.json", "{}")
    assert path.stat().st_size < 2**23
    with pytest.raises(NetFileError, match="would unpack to 2200 MiB"):
        import_keras(path)


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
        ([KERNEL.astype(int)], "'i8'"),
        ([KERNEL.astype(object)], "'O8'"),
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


class _Forged:
    """A pickle of a dtype whose flags were changed, so that bytes would be taken for pointers to objects."""

    def __reduce__(self) -> tuple:
        return np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 0)


def test_forged_dtypes_are_refused(tmp_path: Path):
    """NumPy's own names cannot be used to build arrays of pointers: the reader hands out stand-ins."""
    path = tmp_path / "w.pickle"
    path.write_bytes(pickle.dumps([_Forged()]))
    with pytest.raises(NetFileError, match="'O8'"):
        import_pickle(path)
    forged = pickle.dumps([KERNEL]).replace(b"_reconstruct", b"scalar\x00\x00\x00\x00\x00\x00")
    path.write_bytes(forged)
    with pytest.raises(NetFileError):
        import_pickle(path)
