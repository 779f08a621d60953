"""What Keras computes, tensor by tensor: the oracle that a net made of a Keras model is checked against."""

import bisect
from typing import TYPE_CHECKING

import numpy as np

from streamcnn.graph.graph import Graph, reached
from streamcnn.importers.keras import walked
from streamcnn.importers.keras_walk import functional, input_frames
from streamcnn.optional import keras_module

if TYPE_CHECKING:
    import keras as keras_types

OUTPUT = ""  # the key of a model's whole output among its tensors
LONGEST_FRAME = 2**20  # samples that a front end may need for its first frame


def keras_tensors(model: "keras_types.Model", windows: np.ndarray, graph: Graph) -> dict[str, np.ndarray]:
    """Return what Keras computes for float32 windows (windows, frames, values of a frame): each tensor of the model itself.

    `graph`: the net that was made of the model; of one that streams there is one window, the whole signal. The keys are the
    names that its nodes would have; those inside nested models are not among them; the model's outputs, side by side,
    stand under `OUTPUT`. The values are (frames, values of a frame), of a clip net the frames of all windows, one window
    after the other.
    """
    model = functional(model)
    walk = walked(model, windows.shape[1] if graph.clip else None, graph.info.time_axis)
    nodes = {node.name for node in reached(walk.nodes, walk.output)}
    tensors = {name: tensor for name, tensor in walk.tensors.items() if name in nodes}
    probe = keras_module().Model(model.inputs, [*tensors.values(), *model.outputs])
    for layer in probe.layers:
        if getattr(layer, "stateful", False) and hasattr(layer, "reset_state"):
            layer.reset_state()
    # A MelSpectrogram takes its maximum of the whole batch: it must not come from another window.
    batches = windows[:, None] if "MelSpectrogram" in walk.kinds else [windows]
    answers = [probe(walk.inputs(batch), training=False) for batch in batches]
    answers = [answer if isinstance(answer, (list, tuple)) else [answer] for answer in answers]
    values = [np.concatenate([np.asarray(value) for value in parts]) for parts in zip(*answers, strict=True)]
    arrays = [_frames(value, walk.time_of(tensor)) for value, tensor in zip(values, tensors.values(), strict=False)]
    outputs = values[len(tensors) :]
    if graph.clip is None:
        times = (walk.time_of(tensor) for tensor in model.outputs)
        outputs = [_frames(value, time) for value, time in zip(outputs, times, strict=True)]
    else:  # a window's answer is as the model gives it
        outputs = [value.reshape(len(windows), -1) for value in outputs]
    return {**dict(zip(tensors, arrays, strict=True)), OUTPUT: np.concatenate(outputs, axis=1)}


def _frames(value: np.ndarray, time: int | None) -> np.ndarray:
    """Return a tensor of Keras (batch, ...) as (frames, values of a frame), one signal after the other."""
    if time is None:
        return value.reshape(len(value), -1)
    value = np.moveaxis(value, time, 1)
    return value.reshape(value.shape[0] * value.shape[1], -1)


def fixed_length(model: "keras_types.Model", graph: Graph) -> int | None:
    """Return how many frames of the stream a model's input takes, None where any number will do.

    `graph`: the net that was made of the model.
    """
    if graph.clip is not None:
        return None
    frames, front = input_frames(functional(model), graph.info.time_axis), graph.front_end
    if frames is None or front is None:
        return frames
    return bisect.bisect_left(range(frames * front.hop + 2 * LONGEST_FRAME), frames, key=front.output_frames)
