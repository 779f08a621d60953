"""Keras' spectral layers: STFTSpectrogram, and MelSpectrogram, which works along the last axis.

STFTSpectrogram is a convolution with kernels that belong to the layer, and may have been trained, so that is what it becomes.
"""

from collections.abc import Callable

import numpy as np

from streamcnn.errors import UnsupportedLayerError
from streamcnn.graph import layers as L
from streamcnn.importers.keras_context import Chain, Context, array, check_layer
from streamcnn.importers.scales import tf_window
from streamcnn.importers.sketch import Place, Sketch
from streamcnn.importers.spectra import centered, check_mirrored, clamped, decibels, logarithm
from streamcnn.optional import keras_module, scipy_module


def _stft_spectrogram(layer: object, context: Context) -> Chain:
    (channels,) = context.shape
    kernels = [array(getattr(layer, part)) for part in ("real_kernel", "imag_kernel") if hasattr(layer, part)]
    bins = kernels[0].shape[2]
    conv = L.Conv1D(
        kernel=np.tile(np.concatenate(kernels, axis=2), (1, 1, channels)),
        padding=layer.padding,
        stride=int(layer._frame_step),
        groups=channels,
    )
    chain: Chain = [("/transform", conv)]
    epsilon = float(keras_module().config.epsilon())
    if layer.mode == "angle":
        chain.append(("/angle", L.Polar(by="angle", width=bins)))
    elif layer.mode in ("psd", "magnitude", "log"):
        chain.append(("/power", L.Polar(by="power", width=bins)))
    if layer.mode == "psd":
        folded = np.full(bins, 2.0)  # the negative frequencies too, but for 0 Hz and half the rate
        folded[[0, -1]] = 1.0
        chain.append(("/psd", L.Affine(scale=np.tile(folded, channels), offset=np.zeros(bins * channels))))
    if layer.mode in ("magnitude", "log"):
        chain.append(("/magnitude", L.Activation(activation="power", settings=(0.5, epsilon))))
    if layer.mode == "log":
        chain.append(("/log", logarithm(epsilon)))
    rows = 2 * bins if layer.mode == "stft" else bins
    if layer.expand_dims:
        order = np.arange(channels * rows).reshape(channels, rows).T
        chain.append(("/planes", L.Select(indices=tuple(order.ravel().tolist()), shape=(rows, channels))))
    return [*chain[:-1], ("", chain[-1][1])]


SPECTRAL: dict[str, Callable[[object, Context], Chain]] = {"STFTSpectrogram": _stft_spectrogram}


def mel_place(sketch: Sketch, layer: object, name: str, place: Place) -> Place:
    """Return where the output of a MelSpectrogram stands: (mel bands, time).

    Raises NeedsClipError where its `top_db` would need to know the whole signal, UnsupportedLayerError for an input that
    is more than one signal: Keras then reports another shape than it computes.
    """
    check_layer(layer)
    if place.rank != 1:
        raise UnsupportedLayerError(
            name,
            f"MelSpectrogram takes signals without channels, (batch, samples), not {1 + place.rank} axes",
            "begin the model with Input((None,)), or put a Reshape((-1,)) before it",
        )
    place = sketch.frames(place, name)
    fft_length, exponent = int(layer.fft_length), float(layer.mag_exp)
    check_mirrored(name, sketch, place, fft_length)
    spectrum = L.Spectrum(
        window=_window(layer, name),
        hop=int(layer.sequence_stride),
        fft_length=fft_length,
        padding="reflect",
        by="power" if exponent == 2 else "magnitude",
    )
    bins = spectrum.bins
    matrix = layer.linear_to_mel_weight_matrix(
        layer.num_mel_bins, bins, layer.sampling_rate, layer.min_freq, layer.max_freq
    )
    chain: Chain = [("/spectrum", spectrum)]
    if exponent not in (1, 2):
        chain.append(("/power", L.Activation(activation="power", settings=(exponent, 0.0))))
    chain.append(("/mel", L.Dense(kernel=np.array(matrix))))
    if layer.power_to_db:
        chain.append(("/db", decibels(float(layer.min_power), float(layer.ref_power))))
    made = Place(sketch.chain(name, chain, place.node), 2, 2)
    if not layer.power_to_db:
        return made
    if layer.top_db is None:
        raise UnsupportedLayerError(name, "top_db is None, with which Keras itself fails", "use top_db=1e9")
    return clamped(sketch, name, made, float(layer.top_db), float(layer.min_power))


def _window(layer: object, name: str) -> np.ndarray:
    """Return the layer's window, in the middle of a whole frame."""
    length = int(layer.sequence_length)
    if layer.window is None:
        return np.ones(int(layer.fft_length))  # of which Keras takes all, whatever the sequence_length
    if isinstance(layer.window, str):
        if layer.window not in ("hann", "hamming"):
            raise UnsupportedLayerError(name, f"its window is '{layer.window}'", "use 'hann' or 'hamming', or an array")
        if keras_module().backend.backend() == "tensorflow":
            window = tf_window(layer.window, length)
        else:  # the others take it from SciPy
            window = scipy_module("signal").get_window(layer.window, length)
        return centered(window, int(layer.fft_length))
    return centered(array(layer.window), int(layer.fft_length))
