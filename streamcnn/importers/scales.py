"""Mel scales, filter banks and windows, as librosa and tf.signal define them. All matrices are (bins, bands), float64."""

import numpy as np

from streamcnn.errors import GraphError

_SLANEY_STEP_HZ = (
    200 / 3
)  # a mel of Slaney's Auditory Toolbox (1998) below a kilohertz; above it the scale is logarithmic
_SLANEY_BREAK_HZ = 1000.0
_SLANEY_LOG_STEP = np.log(6.4) / 27


def librosa_mel(
    rate: int, fft_length: int, bands: int, low_hz: float, high_hz: float, *, htk: bool, slaney_norm: bool
) -> np.ndarray:
    """Return the filter bank of `librosa.filters.mel`: triangles in Hz between centers that are even in mel.

    Raises GraphError for edges outside of 0 to half the rate.
    """
    _check_edges(low_hz, high_hz, rate)
    centers = _hz(np.linspace(_mel(low_hz, htk=htk), _mel(high_hz, htk=htk), bands + 2), htk=htk)
    frequencies = np.fft.rfftfreq(fft_length, 1 / rate)  # of an odd length the last one is below half the rate
    ramps, widths = centers[:, None] - frequencies, np.diff(centers)[:, None]
    weights = np.maximum(0, np.minimum(-ramps[:-2] / widths[:-1], ramps[2:] / widths[1:]))
    if slaney_norm:  # about the same energy in each band
        weights *= (2 / (centers[2:] - centers[:-2]))[:, None]
    return weights.T


def tf_mel(rate: int, bins: int, bands: int, low_hz: float, high_hz: float) -> np.ndarray:
    """Return the matrix of `tf.signal.linear_to_mel_weight_matrix`: triangles in HTK's mel, without the bin of 0 Hz.

    Raises GraphError for edges outside of 0 to half the rate.
    """
    _check_edges(low_hz, high_hz, rate)
    mels = _mel(np.linspace(0, rate / 2, bins)[1:, None], htk=True)
    edges = np.linspace(_mel(low_hz, htk=True), _mel(high_hz, htk=True), bands + 2)
    lower, center, upper = edges[:-2], edges[1:-1], edges[2:]
    weights = np.maximum(0, np.minimum((mels - lower) / (center - lower), (upper - mels) / (upper - center)))
    return np.pad(weights, ((1, 0), (0, 0)))


def tf_window(name: str | None, length: int) -> np.ndarray:
    """Return `tf.signal.hann_window` or `hamming_window` at their default, periodic, which at odd lengths they are not."""
    periods = length if length % 2 == 0 else max(1, length - 1)
    cosine = np.cos(2 * np.pi * np.arange(length) / periods)
    match name:
        case "hann":
            return 0.5 - 0.5 * cosine if length > 1 else np.ones(1)
        case "hamming":
            return 0.54 - 0.46 * cosine if length > 1 else np.ones(1)
    return np.ones(length)


def _check_edges(low_hz: float, high_hz: float, rate: int) -> None:
    if not 0 <= low_hz < high_hz <= rate / 2:
        raise GraphError(
            f"mel bands from {low_hz:g} to {high_hz:g} Hz at {rate} Hz",
            f"their edges lie between 0 and {rate / 2:g} Hz, half the rate",
        )


def _mel(hz: float | np.ndarray, *, htk: bool) -> np.ndarray:
    hz = np.asarray(hz, float)
    if htk:
        return 2595 * np.log10(1 + hz / 700)
    above = _SLANEY_BREAK_HZ / _SLANEY_STEP_HZ + np.log(np.maximum(hz, 1) / _SLANEY_BREAK_HZ) / _SLANEY_LOG_STEP
    return np.where(hz >= _SLANEY_BREAK_HZ, above, hz / _SLANEY_STEP_HZ)


def _hz(mel: np.ndarray, *, htk: bool) -> np.ndarray:
    if htk:
        return 700 * (10 ** (mel / 2595) - 1)
    break_mel = _SLANEY_BREAK_HZ / _SLANEY_STEP_HZ
    above = _SLANEY_BREAK_HZ * np.exp(_SLANEY_LOG_STEP * (mel - break_mel))
    return np.where(mel >= break_mel, above, _SLANEY_STEP_HZ * mel)
