"""A graph: nodes in the order of computation, checked and timed when it is made.

Theory. Lengths and positions compose: each node's `FrameRule` turns numbers of input frames into numbers of output frames.
Strided 'same' padding is the one thing that depends on the length of the whole signal, and only on that length modulo the
product of all strides. A graph therefore has a length class, N mod total hop; a representative length of that class is
sent through the graph once, and each layer takes its padding from the length that arrives at it.

A graph with a `clip` is one for signals of exactly that length, and slides over a stream as one window (see `clip`).
Inside, `rules`, `shapes`, `timings` and `lengths` speak of one window; `hop`, `first`, `delay`, the receptive field, and the
counts of output frames are those of the windows.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from math import lcm
from os import PathLike

import numpy as np

from streamcnn.errors import GraphError
from streamcnn.graph.clip import Clip
from streamcnn.graph.layer import Layer, Shape, checked_shape, size
from streamcnn.graph.timing import FrameRule, Timing, joined

MAX_RATE = 10_000_000  # Hz
LONG = 2**24  # frames: longer than any window
MAX_PERIOD = 2**22  # input frames: a total hop beyond this is a mistake
INPUT = "input"  # the name under which nodes refer to the stream's own frames


@dataclass(frozen=True)
class NetInfo:
    """What a net's file says about the net beside its layers.

    `rate`: the sample rate it was trained for, Hz. `labels`: names of its outputs. `target_lag`: how many input frames
    after the event the training target stands. `input_scale`: what samples in [-1, 1] are multiplied by before the
    net. `threshold`: the score above which its maker calls it a detection. `template`: the waveform it was trained to
    hear, whose last sample is the event's position, at the stream's scale; empty where there is no such thing. `prewarm`: it
    expects to start after endless silence instead of with zeros in every layer. `warmup_frames`: how many input frames a
    recurrent net needs before its scores mean something. `detector`: settings of the detector that it was made for, as
    they would stand in a configuration. `time_axis`: which axis was time in the inputs of the model that it was made of.
    `front_nodes`: how many nodes, from the first, are a front end that stands before the model's own.
    """

    name: str = "net"
    rate: int | None = None
    labels: tuple[str, ...] = ()
    target_lag: int = 0
    input_scale: float = 1.0
    threshold: float | None = None
    template: tuple[float, ...] = ()
    prewarm: bool = False
    warmup_frames: int = 0
    detector: dict[str, object] = field(default_factory=dict)
    time_axis: int = 1
    front_nodes: int = 0

    def __post_init__(self):
        """Check the values."""
        if self.rate is not None and not 1 <= self.rate <= MAX_RATE:
            raise GraphError(f"rate is {self.rate} Hz, expected 1 to {MAX_RATE}")
        for label in self.labels:
            if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", label):
                raise GraphError(
                    f"label {label!r} holds other characters than letters, digits, '_' and '-'",
                    "labels become parts of topics and ids",
                )
        if self.threshold is not None and not abs(self.threshold) < float("inf"):
            raise GraphError(f"threshold is {self.threshold}, expected a finite number")
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
    inputs: tuple[str, ...] = (INPUT,)


@dataclass(frozen=True)
class Graph:
    """A net: nodes in an order in which each reads only earlier ones (or `INPUT`); the last one is the output.

    `input_shape`: of a frame, mostly (channels,). `length_class`: N modulo `period` of the signals whose flushed end
    shall be exact where strided 'same' padding is used. `clip`: the window that a net which needs a whole clip slides
    over a stream, None for one that streams by itself.

    Raises GraphError, naming the node, where names, shapes or times do not fit.
    """

    nodes: tuple[Node, ...]
    input_shape: Shape = (1,)
    length_class: int = 0
    info: NetInfo = field(default_factory=NetInfo)
    clip: Clip | None = None

    def __post_init__(self):
        """Check names, shapes and times."""
        if not self.nodes:
            raise GraphError("a graph needs at least one layer")
        object.__setattr__(self, "input_shape", checked_shape(self.input_shape, "input_shape"))
        known = {INPUT}
        for node in self.nodes:
            if node.name in known:
                raise GraphError(f"two nodes have the name '{node.name}'")
            for name in node.inputs:
                if name not in known:
                    raise GraphError(f"node '{node.name}' reads '{name}', which no earlier node makes")
            if len(node.inputs) not in node.layer.arity:
                raise GraphError(f"node '{node.name}': {node.layer.kind} cannot read {len(node.inputs)} inputs")
            if node.layer.whole and self.clip is None:
                raise GraphError(
                    f"node '{node.name}': {node.layer.kind} sees the whole signal", "give the graph a clip"
                )
            if node.layer.endless and self.clip is not None:
                raise GraphError(
                    f"node '{node.name}': {node.layer.kind} goes on for ever, and has no place in a clip",
                    "let it listen to the stream as a net of its own",
                )
            known.add(node.name)
        if not 0 <= self.length_class < self.period:
            raise GraphError(f"length_class is {self.length_class}, expected 0 to {self.period - 1}")
        if self.clip is not None and self.length_class:
            raise GraphError(f"length_class is {self.length_class}, but a clip has just one length", "leave it at 0")
        for name, frames in self.lengths.items() if self.clip is not None else ():
            if frames < 1:
                raise GraphError(
                    f"node '{name}' has no frame in a clip of {self.clip.frames} frames", "give it a longer clip"
                )
        if not 0 <= self.info.front_nodes < len(self.nodes):
            raise GraphError(f"front_nodes is {self.info.front_nodes}, of {len(self.nodes)} nodes in all")
        labels = self.info.labels
        if labels and len(labels) != self.output_channels:
            raise GraphError(
                f"{len(labels)} labels {labels} for {self.output_channels} outputs", "give one label an output"
            )
        if self.output.hop.denominator != 1 and not self.nodes[-1].layer.any_rate:
            raise GraphError(
                f"the output has {1 / self.output.hop} frames for each input frame, expected one for each hop of one or more",
                "end the net before it upsamples beyond its input, or reshape the surplus frames into channels",
            )

    @classmethod
    def sequential(
        cls,
        layers: Sequence[Layer],
        input_channels: int = 1,
        info: NetInfo | None = None,
        clip: Clip | None = None,
    ) -> "Graph":
        """Chain layers one after the other, naming them `kind_number`."""
        nodes, previous = [], INPUT
        for number, layer in enumerate(layers):
            nodes.append(Node(f"{layer.kind.lower()}_{number}", layer, (previous,)))
            previous = nodes[-1].name
        return cls(tuple(nodes), (input_channels,), info=info or NetInfo(), clip=clip)

    def with_info(self, **changes: object) -> "Graph":
        """Return the same net with other metadata."""
        return replace(self, info=replace(self.info, **changes))

    def save(self, path: str | PathLike[str]) -> None:
        """Write the net to a file; see `streamcnn.graph.store.save`."""
        from streamcnn.graph.store import save  # the store is built on the graph; only this convenience looks back

        save(self, path)

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """The shape of each tensor's frames, by the name of the node that makes it."""
        shapes = {INPUT: self.input_shape}
        for node in self.nodes:
            try:
                shapes[node.name] = node.layer.output_shape(*(shapes[name] for name in node.inputs))
            except GraphError as error:
                raise GraphError(f"node '{node.name}': {error.message}", error.remedy) from None
        return shapes

    @cached_property
    def period(self) -> int:
        """The input frames after which everything repeats: the least common multiple of all hops."""
        return total_period(self.nodes) if self.clip is None else self.clip.hop

    @cached_property
    def rules(self) -> dict[str, FrameRule]:
        """How each node moves in time, by its name, with paddings for signals of the length class, or for one clip."""
        long = self.length_class + self.period * -(-LONG // self.period)
        lengths = {INPUT: long if self.clip is None else self.clip.frames}
        rules = {}
        for node in self.nodes:
            different = {lengths[name] for name in node.inputs[: 1 if node.layer.whole else None]}
            if len(different) > 1:
                by = max(different) - min(different)
                raise GraphError(
                    f"node '{node.name}' joins paths of different lengths (they differ by {by} frames)",
                    "pad or crop its paths to the same length",
                )
            rule = node.layer.rule(different.pop())
            # A clip has all its frames at once.
            rules[node.name] = rule if self.clip is None else replace(rule, grid=1)
            lengths[node.name] = int(rules[node.name].total(lengths[node.inputs[0]]))
        return rules

    @cached_property
    def timings(self) -> dict[str, Timing]:
        """Where the frames of each tensor stand, by the name of the node that makes it."""
        timings = {INPUT: Timing()}
        for node in self.nodes:
            timings[node.name] = joined([timings[name] for name in node.inputs]).through(self.rules[node.name])
        return timings

    @cached_property
    def lengths(self) -> dict[str, int]:
        """How many frames each tensor of one clip has, by the name of the node that makes it."""
        return {name: int(frames) for name, frames in self._composed(self.clip.frames, FrameRule.total).items()}

    def counts(self, frames: int | np.ndarray) -> dict[str, int | np.ndarray]:
        """Return how many frames of each tensor the first `frames` input frames suffice for."""
        return self._composed(frames, FrameRule.ready)

    def totals(self, frames: int | np.ndarray) -> dict[str, int | np.ndarray]:
        """Return how many frames of each tensor a whole signal of `frames` gives, `flush` included; of a clip, all windows."""
        if self.clip is None:
            return self._composed(frames, FrameRule.total)
        windows = self.clip.rule.total(frames)
        return {name: length * windows for name, length in self.lengths.items()} | {INPUT: frames}

    def _composed(self, frames: int | np.ndarray, count: Callable) -> dict[str, int | np.ndarray]:
        """Send a number of frames through all nodes; `count(rule, frames)` is what a node makes of it."""
        counts = {INPUT: frames}
        for node in self.nodes:
            read = node.inputs[: 1 if node.layer.whole else None]
            counts[node.name] = count(self.rules[node.name], np.minimum.reduce([counts[name] for name in read]))
        return counts

    def known_after(self, frame: int) -> int:
        """Return the input frame with which an output frame becomes known (negative: before the first one)."""
        if self.clip is not None:
            return self.clip.rule.newest_read(frame)
        newest = {self.output_name: frame, INPUT: -1}
        for node in reversed(self.nodes):
            if newest.get(node.name, -1) < 0:  # nobody reads it, or only the padding before it
                continue
            rule = self.rules[node.name]
            read = rule.newest_read(newest[node.name]) + rule.wait
            read += -(read + 1) % rule.grid
            for name in node.inputs:
                newest[name] = max(newest.get(name, read), read)
        return newest[INPUT]

    @cached_property
    def padded_frames(self) -> int:
        """How many of the first output frames see padding before the signal; 0 for clips, and for recurrent nets."""
        return self._first_whole(lambda _layer: 0)

    @property
    def answering_frames(self) -> int:
        """How many of the first output frames answer to padding before the signal; not more than see it."""
        return self._first_whole(lambda layer: layer.unneeded)

    def _first_whole(self, unneeded: Callable[[Layer], int]) -> int:
        """Return the first output frame that sees no padding, but what is unneeded."""
        if self.clip is not None or self.receptive_field is None:
            return 0
        whole = {INPUT: 0}  # the first frame of each tensor that sees none
        for node in self.nodes:
            rule = self.rules[node.name]
            first = max(whole[name] for name in node.inputs)
            whole[node.name] = max(0, -((rule.oldest + unneeded(node.layer) - first * rule.up) // rule.down))
        return whole[self.output_name]

    @property
    def front_end(self) -> "Graph | None":
        """The part that stands before the model's own layers, as a net of its own; None where there is none."""
        count = self.info.front_nodes
        return Graph(self.nodes[:count], self.input_shape, clip=self.clip) if count else None

    @property
    def output_name(self) -> str:
        """The name of the node that makes the output."""
        return self.nodes[-1].name

    @property
    def output(self) -> Timing:
        """Where the output's frames stand: those of the last node, or, of a clip, one for each window."""
        return self.timings[self.output_name] if self.clip is None else Timing().through(self.clip.rule)

    @property
    def output_shape(self) -> Shape:
        """The shape of a score: a frame of the last node's, or, of a clip that gives several frames, all of them."""
        shape = self.shapes[self.output_name]
        frames = 1 if self.clip is None else self.lengths[self.output_name]
        return shape if frames == 1 else (frames, *shape)

    @property
    def input_channels(self) -> int:
        """How many values an input frame has."""
        return size(self.input_shape)

    @property
    def output_channels(self) -> int:
        """How many values a score has."""
        return size(self.output_shape)

    @property
    def hop(self) -> int | Fraction:
        """Input frames from one output frame to the next: a whole number, but for a resampler's."""
        hop = self.output.hop
        return int(hop) if hop.denominator == 1 else hop

    @property
    def first(self) -> int:
        """The input position at which output frame 0 stands, rounded down."""
        return self.output.first.__floor__()

    @property
    def delay(self) -> int:
        """How many input frames after its own position (`first` + i*`hop`) an output frame becomes known."""
        return (self.output.first + self.output.delay).__ceil__() - self.first

    @property
    def receptive_field(self) -> int | None:
        """How many input frames an output frame can see, None for recurrent nets: all that came before."""
        return self.output.receptive_field

    def output_frames(self, input_frames: int) -> int:
        """Return how many output frames a whole signal of `input_frames` has, after `flush`."""
        if self.clip is not None:
            return int(self.clip.rule.total(input_frames))
        return int(self.totals(input_frames)[self.output_name])


def total_period(nodes: Sequence[Node]) -> int:
    """Return the input frames after which everything that nodes do repeats: the least common multiple of all hops.

    Raises GraphError where paths of different hop are joined, or where the period is beyond reason.
    """
    hops, period = {INPUT: Fraction(1)}, 1
    for node in nodes:
        rule = node.layer.rule(LONG)
        hops[node.name] = hops[node.inputs[0]] * rule.down / rule.up
        different = {str(hops[name]) for name in node.inputs}
        if len(different) > 1:
            raise GraphError(
                f"node '{node.name}' joins paths of different hop ({', '.join(sorted(different))} input frames a frame)",
                "give its paths the same total stride",
            )
        period = lcm(period, hops[node.name].numerator, (hops[node.inputs[0]] * rule.grid).numerator)
        if period > MAX_PERIOD:
            raise GraphError(f"node '{node.name}': the strides multiply to more than {MAX_PERIOD} input frames")
    return period


def reached(nodes: Sequence[Node], output: str) -> tuple[Node, ...]:
    """Return the nodes that `output` depends on, in their order, with `output` itself as the last one."""
    by_name, needed, waiting = {node.name: node for node in nodes}, set(), [output]
    while waiting:
        name = waiting.pop()
        if name != INPUT and name not in needed:
            needed.add(name)
            waiting.extend(by_name[name].inputs)
    return (*(node for node in nodes if node.name in needed and node.name != output), by_name[output])
