"""What every reader of a Keras layer needs: where the layer stands, its arrays, and whether it is one to be believed."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from streamcnn.errors import UnsupportedLayerError
from streamcnn.graph import layers as L
from streamcnn.graph.layer import Shape


class Context(NamedTuple):
    """Where a layer stands: the length of its input in frames (None: any), the shape of a frame, and Keras' functions.

    `leading`: the axes before a frame's own: batch and time, or, inside TimeDistributed, batch alone. `time`: which axis of
    the model's tensor is time; a frame has the others, in their order.
    """

    frames: int | None
    shape: Shape
    builtin: Callable[[object], str | None]  # the name of one of Keras' own activation functions, None for any other
    leading: int = 2
    time: int = 1

    def axis(self, given: int) -> int:
        """Return the number of an axis of the model's tensor where time comes first, behind the batch alone."""
        given %= self.leading + len(self.shape)
        if self.leading == 1 or given == 0 or given > self.time:
            return given
        return 1 if given == self.time else given + 1

    def behind_time(self, values: np.ndarray) -> np.ndarray:
        """Return what is broadcast against the model's tensor, with its axis of time, where it has one, first."""
        rank = self.leading + len(self.shape)
        whole = values.reshape((1,) * (rank - values.ndim) + values.shape) if values.ndim < rank else values
        return whole if self.leading == 1 else np.moveaxis(whole, self.time, 1)


class NeedsClipError(UnsupportedLayerError):
    """A layer that can be computed of a clip, but not of a stream without an end."""


Chain = list[tuple[str, L.Layer]]  # records one after the other, each with a suffix for its name


def array(variable: object) -> np.ndarray | None:
    """Return a Keras variable as an array, None for None."""
    if variable is None:
        return None
    return np.array(variable.numpy() if hasattr(variable, "numpy") else variable)


def is_of_keras(thing: object) -> bool:
    """Whether a layer, cell or operation is Keras' own, and not one of the model's own under the same name."""
    return type(thing).__module__.startswith(("keras.src.", "keras.layers", "tf_keras."))


def check_layer(layer: object) -> None:
    """Raise UnsupportedLayerError for layers of the model's own, and for other numbers than float32 and float64."""
    if not is_of_keras(layer):
        raise UnsupportedLayerError(
            layer.name, f"{type(layer).__name__} is a class of the model's own", "express it with Keras' own layers"
        )
    if getattr(layer, "data_format", None) == "channels_first":
        raise UnsupportedLayerError(layer.name, "data_format is 'channels_first'", "train it with 'channels_last'")
    if getattr(layer, "quantization_mode", None) is not None:
        raise UnsupportedLayerError(
            layer.name, f"it is quantized ({layer.quantization_mode})", "convert the model as it was before"
        )
    dtype = getattr(layer, "compute_dtype", "float32")
    if dtype not in ("float32", "float64"):
        raise UnsupportedLayerError(
            layer.name,
            f"it computes in {dtype} (policy '{layer.dtype_policy.name}')",
            "load the model under the policy 'float32', which has the same weights",
        )
