"""A graph in the making: its nodes, and where each tensor of the model stands among them.

Rules. A model's tensor is (batch, axis 1, axis 2, ...), the graph's is frames of a shape. One of the model's axes is time, and
a frame has the others, in their order. In a clip net, where every length is known, a tensor may also be one single frame
that has all of its axes (`time` is None), and any axis can be made the one that frames follow.
"""

from dataclasses import dataclass, replace

import numpy as np

from streamcnn.errors import GraphError
from streamcnn.graph import layers as L
from streamcnn.graph.graph import INPUT, Node
from streamcnn.graph.layer import Shape, size
from streamcnn.importers.keras_context import NeedsClipError
from streamcnn.importers.keras_refusals import CLIP_REMEDY

Dims = tuple[int | None, ...]


@dataclass(frozen=True)
class Place:
    """Where a tensor of the model stands: the node that makes it, the axis of time, and how many axes it has but the batch."""

    node: str
    time: int | None
    rank: int


class Sketch:
    """Nodes under way. `frames`: how many the input has, None where that is not known; `clip`: whether it is a whole clip."""

    def __init__(self, shape: Shape, frames: int | None, *, clip: bool):
        self.clip = clip
        self.nodes: dict[str, Node] = {}
        self._shapes: dict[str, Shape] = {INPUT: shape}
        self._lengths: dict[str, int | None] = {INPUT: frames}

    def add(self, name: str, layer: L.Layer, *inputs: str) -> str:
        """Add a node, and return its name, which is `name` if no other node has it.

        Raises GraphError, naming the layer, where shapes do not fit.
        """
        unique, number = name, 1
        while unique in self.nodes or unique == INPUT:
            unique, number = f"{name}_{number}", number + 1
        try:
            shape = layer.output_shape(*(self._shapes[source] for source in inputs))
        except GraphError as error:
            raise GraphError(f"layer '{name}': {error.message}", error.remedy) from None
        self.nodes[unique], self._shapes[unique] = Node(unique, layer, inputs), shape
        length = self._lengths[inputs[0]]
        self._lengths[unique] = None if length is None else int(layer.rule(length).total(length))
        if self._lengths[unique] == 0 and self.clip:
            raise GraphError(
                f"layer '{name}' has no frame in a clip of {self._lengths[INPUT]} frames", "give it a longer clip"
            )
        return unique

    def chain(self, name: str, records: list[tuple[str, L.Layer]], source: str) -> str:
        """Add records one after the other, each under the name with its suffix; return the last one's name."""
        for suffix, record in records:
            source = self.add(name + suffix, record, source)
        return source

    def shape(self, place: Place) -> Shape:
        """Return the shape of a frame, as the model has it: of a signal without channels ()."""
        return () if place.time is not None and place.rank == 1 else self._shapes[place.node]

    def length(self, place: Place) -> int | None:
        """Return how many frames a tensor has; None where that is not known."""
        return self._lengths[place.node]

    def dims(self, place: Place) -> Dims:
        """Return the tensor's shape in the model, without the batch; None for a length that is not known."""
        shape = self.shape(place)
        if place.time is None:
            return shape
        return (*shape[: place.time - 1], self.length(place), *shape[place.time - 1 :])

    def vector(self, place: Place, name: str) -> Place:
        """Return the same tensor as one frame. Clip nets only."""
        if place.time is None:
            return place
        dims, frames = self.dims(place), self.length(place)
        at = place.time - 1
        order = (at, *(axis for axis in range(place.rank) if axis != at))  # as stacked: time first
        stacked = L.Stack(frames=frames, shape=tuple(dims[axis] for axis in order))
        whole = Place(self.add(f"{name}/whole", stacked, place.node), None, place.rank)
        return self.permuted(whole, name, tuple(np.argsort(order).tolist()))

    def permuted(self, place: Place, name: str, order: tuple[int, ...]) -> Place:
        """Return a tensor that is one frame with its axes in another order."""
        if order == tuple(range(place.rank)):
            return place
        dims = self.dims(place)
        indices = np.arange(size(dims)).reshape(dims).transpose(order)
        select = L.Select(indices=tuple(indices.ravel().tolist()), shape=indices.shape)
        return replace(place, node=self.add(f"{name}/permuted", select, place.node))

    def reshaped(self, place: Place, name: str, shape: Shape) -> Place:
        """Return a tensor that is one frame, in another shape."""
        dims = self.dims(place)
        if size(shape) != size(dims):
            raise GraphError(f"layer '{name}': {dims} cannot be reshaped to {shape}")
        if shape == dims:
            return place
        return Place(self.add(f"{name}/reshaped", L.Reshape(shape=shape), place.node), None, len(shape))

    def frames(self, place: Place, name: str, axis: int = 1) -> Place:
        """Return a tensor so that its frames follow an axis of the model's.

        Raises NeedsClipError where time is another axis and no clip makes lengths known.
        """
        if place.time == axis:
            return place
        if not self.clip:
            raise NeedsClipError(
                name,
                f"it works along axis {axis}, but time is axis {place.time}",
                f"put a Permute before it that makes time axis {axis}, say --time-axis {axis}, or {CLIP_REMEDY}",
            )
        order = (axis - 1, *(k for k in range(place.rank) if k != axis - 1))
        whole = self.permuted(self.vector(place, name), name, order)
        frames, *rest = self.dims(whole)
        unstack = L.Unstack(frames=frames, shape=tuple(rest) or (1,))
        return Place(self.add(f"{name}/frames", unstack, whole.node), axis, place.rank)
