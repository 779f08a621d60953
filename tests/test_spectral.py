"""Spectral layers: what Keras' STFTSpectrogram and MelSpectrogram compute, on a stream and in clips."""

from collections.abc import Callable

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcnn.engine import Engine
from streamcnn.errors import GraphError, StreamcnnError, UnsupportedLayerError
from streamcnn.forward import reference
from streamcnn.graph import layers as records
from streamcnn.graph.graph import Graph
from streamcnn.importers.keras import import_keras
from tests.contract import streamed
from tests.graphs import pieces, signal
from tests.test_layers import chain, check_model

K = keras.layers


def mel(**options: object) -> K.MelSpectrogram:
    """A small MelSpectrogram that never clamps."""
    small = {"fft_length": 64, "sequence_stride": 16, "num_mel_bins": 8, "sampling_rate": 8000, "top_db": 1e9}
    return K.MelSpectrogram(**{**small, **options})


@pytest.mark.parametrize("mode", ["log", "magnitude", "psd", "real", "imag", "angle", "stft"])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_stft_spectrograms_stream_in_every_mode(mode: str, padding: str):
    """An STFTSpectrogram of two channels streams what Keras computes, laid out as a signal or as planes."""
    for planes in (False, True):
        layer = K.STFTSpectrogram(
            mode, frame_length=16, frame_step=5, fft_length=32, padding=padding, expand_dims=planes
        )
        assert check_model(chain(layer, shape=(None, 2))).hop == 5


@pytest.mark.parametrize("window", ["hann", "hamming", [1.0, 2, 3, 2, 1, 0, 2], None])
@pytest.mark.parametrize("scaling", ["density", "spectrum", None])
def test_stft_windows_and_scalings_are_those_of_keras(window: str | list | None, scaling: str | None):
    """Every window, periodic or not, and every scaling reaches the stream."""
    for periodic in (False, True):
        layer = K.STFTSpectrogram("magnitude", frame_length=7, window=window, scaling=scaling, periodic=periodic)
        check_model(chain(layer, shape=(None, 1)))


MELS: dict[str, tuple[Callable[[], keras.Model], dict[str, int]]] = {
    "powers in dB": (lambda: chain(mel(), K.Permute((2, 1)), shape=(None,)), {}),
    "magnitudes": (
        lambda: chain(
            mel(mag_exp=1.0, sequence_length=40, window="hamming", power_to_db=False), K.Permute((2, 1)), shape=(None,)
        ),
        {},
    ),
    "another exponent": (
        lambda: chain(
            mel(mag_exp=1.5, window=None, ref_power=0.3, min_power=1e-4), K.Permute((2, 1)), shape=(None,)
        ),
        {},
    ),
    "odd numbers": (
        lambda: chain(mel(fft_length=45, sequence_length=30, sequence_stride=7), K.Permute((2, 1)), shape=(None,)),
        {},
    ),
    "an odd window": (
        lambda: chain(mel(sequence_length=15, fft_length=16, num_mel_bins=4), K.Permute((2, 1)), shape=(None,)),
        {},
    ),
    "an odd window of Hamming's": (
        lambda: chain(mel(sequence_length=11, fft_length=17, window="hamming"), K.Permute((2, 1)), shape=(None,)),
        {},
    ),
    "of a channel": (lambda: chain(K.Reshape((-1,)), mel(), K.Permute((2, 1)), shape=(None, 1)), {}),
    "before planes": (
        lambda: chain(
            mel(), K.Permute((2, 1)), K.Reshape((-1, 8, 1)), K.Conv2D(4, 3, padding="same"), K.MaxPooling2D((1, 2)),
            K.Reshape((-1, 16)), K.GRU(5, return_sequences=True), K.Dense(3), shape=(None,),
        ),
        {},
    ),
    "before planes on their side": (
        lambda: chain(
            mel(), K.Reshape((8, -1, 1)), K.Conv2D(4, 3, padding="same"), K.Permute((2, 1, 3)), K.Reshape((-1, 32)),
            shape=(None,),
        ),
        {},
    ),
    "clamped in a clip": (
        lambda: chain(mel(top_db=10.0), K.Permute((2, 1)), K.Conv1D(4, 3), K.GlobalMaxPooling1D(), shape=(400,)),
        {"window_hop": 48},
    ),
    "clamped in a clip of any length": (
        lambda: chain(mel(top_db=10.0), K.Permute((2, 1)), K.Dense(3), shape=(None,)),
        {"clip_frames": 300, "window_hop": 48},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MELS)
def test_mel_spectrograms_stream(name: str):
    """A MelSpectrogram streams what Keras computes, mirrored at both ends, and in a clip clamps by the clip's own maximum."""
    build, how = MELS[name]
    assert (check_model(build(), frames=300, **how).clip is not None) == ("clip" in name)


def test_a_mirrored_spectrum_waits_for_the_sample_that_it_mirrors():
    """The middle of frame i stands at sample i * hop, and it is known half a frame later, mirrored start and all."""
    graph = import_keras(chain(mel(), K.Permute((2, 1)), shape=(None,)))
    assert (graph.hop, graph.first, graph.delay, graph.receptive_field) == (16, 0, 32, 64)
    engine = Engine(graph)
    assert len(engine.process(np.zeros(32))) == 0
    assert len(engine.process(np.zeros(1))) == 1


@given(
    span=st.integers(1, 70),
    more=st.integers(0, 60),
    hop=st.integers(1, 30),
    padding=st.sampled_from(["valid", "end", "zeros", "reflect"]),
    frames=st.integers(0, 300),
    channels=st.integers(1, 3),
    seed=st.integers(0, 999),
)
def test_transforms_of_any_length_are_exact(
    span: int, more: int, hop: int, padding: str, frames: int, channels: int, seed: int
):
    """A transform of any length, prime ones too, is NumPy's within float32, for signals of any length."""
    window = np.random.default_rng(seed).normal(size=span)
    layer = records.Spectrum(window=window, hop=hop, fft_length=span + more, padding=padding, by="complex")
    graph, x = Graph.sequential([layer], channels), signal(seed, frames, channels)
    expected = reference(graph, x)
    np.testing.assert_allclose(
        streamed(Engine(graph), pieces(x, seed)), expected, atol=4e-7 * max(1, np.abs(expected).max(initial=0))
    )


REFUSED: dict[str, tuple[Callable[[], keras.Model], dict[str, int], str]] = {
    "a clamp without a clip": (
        lambda: chain(mel(top_db=80.0), K.Permute((2, 1)), K.Dense(2), shape=(None,)),
        {},
        "80 dB below the maximum of the whole signal, which no stream knows",
    ),
    "no clamp": (lambda: chain(mel(top_db=None), shape=(400,)), {}, "with which Keras itself fails"),
    "channels": (lambda: chain(mel(), shape=(None, 1)), {}, "takes signals without channels"),
    "a clip too short to mirror": (
        lambda: chain(mel(top_db=80.0), K.Flatten(), shape=(32,)),
        {},
        "a clip of 32 samples cannot be mirrored by 32",
    ),
    "channels first": (
        lambda: chain(K.STFTSpectrogram("real", frame_length=8, data_format="channels_first"), shape=(2, 40)),
        {},
        "channels_first",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_stream_can_know_is_refused(name: str):
    """A spectral layer that cannot be exact is refused by its name, with the reason and a way out."""
    build, how, reason = REFUSED[name]
    with pytest.raises(StreamcnnError, match=reason) as caught:
        import_keras(build(), **how)
    assert isinstance(caught.value, (UnsupportedLayerError, GraphError))
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("record", "options", "reason"),
    [
        (records.Spectrum, {"window": np.ones(8), "hop": 2, "fft_length": 7}, "expected 8"),
        (records.Spectrum, {"window": np.ones(8), "hop": 0, "fft_length": 8}, "hop is 0"),
        (records.Spectrum, {"window": np.ones(8), "hop": 2, "fft_length": 8, "padding": "same"}, "padding is 'same'"),
        (records.Spectrum, {"window": np.ones(8), "hop": 2, "fft_length": 65537}, "prime factor 65537"),
        (records.Spectrum, {"window": [1, np.nan], "hop": 2, "fft_length": 8}, "NaN"),
        (records.Preemphasis, {"coefficient": float("nan")}, "three finite numbers"),
        (records.Polar, {"by": "phase", "width": 3}, "by is 'phase'"),
        (records.Activation, {"activation": "log", "settings": (1.0,)}, "does not take the parameters"),
    ],
)
def test_impossible_spectral_records_are_refused(record: type, options: dict, reason: str):
    """A spectral record with impossible options is refused with its name, the value and what was expected."""
    with pytest.raises(GraphError, match=reason):
        record(**options)


def test_a_division_by_zero_is_no_exception():
    """Where a normalization divides nothing by nothing the output is NaN, as everywhere in float32, and no error."""
    layers = [records.Normalize(by="layer", width=2, epsilon=0.0)]
    assert np.isnan(Engine(Graph.sequential(layers, 2)).process(np.zeros((1, 2)))).all()
