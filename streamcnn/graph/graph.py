"""A graph: nodes in the order of computation, checked and timed when it is made."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from os import PathLike

from streamcnn.errors import GraphError
from streamcnn.graph.layers import Layer
from streamcnn.graph.timing import Timing

INPUT = "input"  # the name under which nodes refer to the stream's own frames


@dataclass(frozen=True)
class NetInfo:
    """What a net's file says about the net beside its layers.

    `rate`: the sample rate it was trained for, Hz. `labels`: names of its outputs. `target_lag`: how many input frames
    after the event the training target stands. `input_scale`: what samples in [-1, 1] are multiplied by before the
    net. `threshold`: the score above which its maker calls it a detection. `template`: the waveform it was trained to
    hear, whose last sample is the event's position, at the stream's scale; empty where there is no such thing.
    """

    name: str = "net"
    rate: int | None = None
    labels: tuple[str, ...] = ()
    target_lag: int = 0
    input_scale: float = 1.0
    threshold: float | None = None
    template: tuple[float, ...] = ()

    def __post_init__(self):
        """Check the values."""
        if self.rate is not None and self.rate < 1:
            raise GraphError(f"rate is {self.rate} Hz, expected at least 1")
        if self.target_lag < 0:
            raise GraphError(f"target_lag is {self.target_lag} frames, expected at least 0")
        if not 0 < abs(self.input_scale) < float("inf"):
            raise GraphError(f"input_scale is {self.input_scale}, expected a finite number that is not 0")
        if len(set(self.labels)) != len(self.labels):
            raise GraphError(f"labels {self.labels} are not all different")


@dataclass(frozen=True)
class Node:
    """One use of a layer: its name in the graph, the record, and the names of the nodes it reads."""

    name: str
    layer: Layer
    input: str = INPUT


@dataclass(frozen=True)
class Graph:
    """A net: nodes in an order in which each reads only earlier ones (or `INPUT`); the last one is the output.

    Raises GraphError, naming the node, where names, shapes or times do not fit.
    """

    nodes: tuple[Node, ...]
    input_channels: int = 1
    info: NetInfo = field(default_factory=NetInfo)

    def __post_init__(self):
        """Check names, shapes and times."""
        if not self.nodes:
            raise GraphError("a graph needs at least one layer")
        if self.input_channels < 1:
            raise GraphError(f"input_channels is {self.input_channels}, expected at least 1")
        known = {INPUT}
        for node in self.nodes:
            if node.name in known:
                raise GraphError(f"two nodes have the name '{node.name}'")
            if node.input not in known:
                raise GraphError(f"node '{node.name}' reads '{node.input}', which no earlier node makes")
            known.add(node.name)
        labels = self.info.labels
        if labels and len(labels) != self.output_channels:
            raise GraphError(
                f"{len(labels)} labels {labels} for {self.output_channels} outputs", "give one label an output"
            )

    @classmethod
    def sequential(cls, layers: Sequence[Layer], input_channels: int = 1, info: NetInfo | None = None) -> "Graph":
        """Chain layers one after the other, naming them `kind_number`."""
        nodes, previous = [], INPUT
        for number, layer in enumerate(layers):
            nodes.append(Node(f"{layer.kind.lower()}_{number}", layer, previous))
            previous = nodes[-1].name
        return cls(tuple(nodes), input_channels, info or NetInfo())

    def with_info(self, **changes: object) -> "Graph":
        """Return the same net with other metadata."""
        return replace(self, info=replace(self.info, **changes))

    def save(self, path: str | PathLike[str]) -> None:
        """Write the net to a file; see `streamcnn.graph.store.save`."""
        from streamcnn.graph.store import save  # the store is built on the graph; only this convenience looks back

        save(self, path)

    @cached_property
    def channels(self) -> dict[str, int]:
        """The number of channels of each tensor, by the name of the node that makes it."""
        channels = {INPUT: self.input_channels}
        for node in self.nodes:
            try:
                channels[node.name] = node.layer.output_channels(channels[node.input])
            except GraphError as error:
                raise GraphError(f"node '{node.name}': {error.message}", error.remedy) from None
        return channels

    @cached_property
    def timings(self) -> dict[str, Timing]:
        """Where the frames of each tensor stand, by the name of the node that makes it."""
        timings = {INPUT: Timing()}
        for node in self.nodes:
            timings[node.name] = timings[node.input].through(node.layer.rule)
        return timings

    @property
    def output(self) -> Timing:
        """Where the output's frames stand."""
        return self.timings[self.nodes[-1].name]

    @property
    def output_channels(self) -> int:
        """How many values a score has."""
        return self.channels[self.nodes[-1].name]

    @property
    def hop(self) -> int:
        """Input frames from one output frame to the next."""
        return int(self.output.hop)

    @property
    def first(self) -> int:
        """The input position at which output frame 0 stands."""
        return int(self.output.first)

    @property
    def delay(self) -> int:
        """How many input frames after its own position an output frame becomes known."""
        return int(self.output.delay)

    @property
    def receptive_field(self) -> int | None:
        """How many input frames an output frame can see."""
        return self.output.receptive_field

    def output_frames(self, input_frames: int) -> int:
        """Return how many output frames a whole signal of `input_frames` has, after `flush`."""
        frames = {INPUT: input_frames}
        for node in self.nodes:
            frames[node.name] = node.layer.output_frames(frames[node.input])
        return frames[self.nodes[-1].name]
