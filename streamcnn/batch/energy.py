"""Moving norms in Keras' operations."""

import numpy as np

from streamcnn.graph import layers as L
from streamcnn.graph.energy import QUIET, SILENT


def inverse_norm(ops: object, layer: L.InverseNorm, x: object) -> object:
    """Return (chunks, frames, windows) of a signal (chunks, samples, channels) of which all windows lie inside."""
    outputs = len(layer.lengths)
    taps = np.zeros((layer.span, 1, 2 * outputs), np.float32)
    for k, (length, lag) in enumerate(zip(layer.lengths, layer.lags, strict=True)):
        end = layer.span - lag
        taps[end - length : end, 0, k] = taps[end - length - layer.guard : end, 0, outputs + k] = 1
    sums = ops.conv(ops.sum(ops.square(x), axis=2, keepdims=True), taps, 1, "valid", "channels_last")
    own, whole = sums[:, :, :outputs], sums[:, :, outputs:]
    return ops.where(
        (own > SILENT) & (own > QUIET * whole), 1 / ops.sqrt(ops.maximum(own, np.finfo(np.float32).tiny)), 0.0
    )
