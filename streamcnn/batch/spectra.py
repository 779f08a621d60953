"""Fourier transforms of frames in Keras' operations."""

from streamcnn.graph import layers as L


def spectrum(ops: object, layer: L.Spectrum, x: object) -> object:
    """Return (chunks, frames, values) of a signal (chunks, samples, channels) of which all windows lie inside."""
    windows = ops.extract_sequences(ops.swapaxes(x, 1, 2), layer.span, layer.hop)
    re, im = ops.rfft(windows * layer.window, layer.fft_length)
    if layer.by == "complex":
        y = ops.stack([re, im], axis=-1)
    else:
        power = ops.square(re) + ops.square(im)
        y = power if layer.by == "power" else ops.sqrt(power)
    y = ops.swapaxes(y, 1, 2)  # (chunks, frames, channels, bins, ...)
    return ops.reshape(y, (-1, y.shape[1], x.shape[2] * y.shape[3] * (2 if layer.by == "complex" else 1)))
