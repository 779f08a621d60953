"""Keras as a peer: a model called on each block, and on as many frames before it as the block's outputs can see."""

import numpy as np

from benchmarks.peers.peer import Peer, checked, tensorflow_module
from streamcnn.graph.graph import INPUT, Graph
from streamcnn.graph.layers import GRU, LSTM, Activation, Conv1D, Dense, Layer, Merge

tf = tensorflow_module()
keras = tf.keras


class KerasModel(Peer):
    """A net in Keras on TensorFlow, called as `model(x)`.

    Recurrent layers carry their state; what convolutions have seen before, they compute again for every block.
    """

    name = "Keras"

    def __init__(self, graph: Graph, block: int):
        super().__init__(graph, block)
        if graph.period > 1 or graph.delay or graph.first:
            raise NotImplementedError("a net that does not give one output frame with each frame")
        recurrent = graph.receptive_field is None
        if recurrent and any(isinstance(node.layer, Conv1D) for node in graph.nodes):
            raise NotImplementedError("convolutions, which see frames again, with layers that must see each just once")
        again = 0 if recurrent else graph.receptive_field - 1
        self._model = _model(graph, block if recurrent else None)
        self._x = np.zeros((1, again + block, graph.input_channels), np.float32)
        self._seen = 0  # frames: before the buffer is full, the padding of the layers stands for what is missing

    def push(self, x: np.ndarray) -> np.ndarray:
        """Run the next block."""
        self._x[:, : -self.block] = self._x[:, self.block :]
        self._x[:, -self.block :] = x
        self._seen = min(self._seen + self.block, self._x.shape[1])
        return self._model(self._x[:, -self._seen :]).numpy()[0, -self.block :]


class KerasFunction(KerasModel):
    """A net in Keras on TensorFlow, called as a graph function: 6 (R5 in blocks of 64) to 80 times (GRU64) as fast."""

    name = "Keras, tf.function"

    def __init__(self, graph: Graph, block: int):
        super().__init__(graph, block)
        self._model = tf.function(self._model, reduce_retracing=True)


def _model(graph: Graph, frames: int | None) -> object:
    """Return the model of a graph, for inputs of so many frames, or of any number."""
    inputs = keras.Input(batch_shape=(1, frames, graph.input_channels))
    tensors = {INPUT: inputs}
    for node in graph.nodes:
        record = checked(node)
        layer = _layer(record)
        read = [tensors[name] for name in node.inputs]
        tensors[node.name] = layer(read if len(read) > 1 else read[0])
        layer.set_weights(list(record.weights.values()))
    return keras.Model(inputs, tensors[graph.output_name])


def _layer(record: Layer) -> object:
    """Return a layer of Keras, without its weights yet."""
    options = {"activation": record.activation, "use_bias": record.bias is not None} if record.weights else {}
    match record:
        case Conv1D():
            taps, _, filters = record.kernel.shape
            return keras.layers.Conv1D(filters, taps, padding=record.padding, dilation_rate=record.dilation, **options)
        case Dense():
            return keras.layers.Dense(record.kernel.shape[1], **options)
        case GRU() | LSTM():
            kind = keras.layers.GRU if isinstance(record, GRU) else keras.layers.LSTM
            return kind(record.units, return_sequences=True, stateful=True, **options)
        case Merge():
            return keras.layers.Add()
        case Activation():
            return keras.layers.Activation(record.activation)
    raise NotImplementedError(f"{record.kind} in Keras")
