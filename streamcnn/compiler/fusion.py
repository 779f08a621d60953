"""Which nodes do the work of others by the way: what nobody else reads need not be kept, nor read again.

Two things are absorbed, to the same bits: an activation, by the node whose frames it changes, and a sum of two tensors, by
the product that makes one of them, if the other has every frame as soon. So a residual layer is one step, not four. At the
signal's end the other may have fewer frames; the interpreter makes no more than it has.
"""

from dataclasses import dataclass, replace

import numpy as np

from streamcnn.compiler.partitions import partitions
from streamcnn.graph import layers as L
from streamcnn.graph.graph import Graph, Node

APPLY_OTHERWISE = (L.SimpleRNN, L.LSTM, L.GRU, L.Normalize)  # than to whole frames, as wide as their last axis
LONGEST = 2**16  # input frames of a period that is looked at frame by frame


@dataclass(frozen=True)
class Made:
    """How a tensor is made: the node that computes, what it adds, and the activation that it applies then."""

    node: Node
    added: str | None = None
    activation: L.Activation | None = None


def fused(graph: Graph, *, sums: bool) -> dict[str, Made]:
    """Return how each tensor that is kept is made, in the order of computation. `sums`: absorb those too."""
    readers: dict[str, list[str]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node.name)
    counts = _frames(graph) if sums and any(isinstance(node.layer, L.Merge) for node in graph.nodes) else None
    made, cut = {}, partitions(graph)
    for node in graph.nodes:
        made[node.name] = Made(node)
        alone = [name for name in node.inputs if readers[name] == [node.name] and name in made]
        if isinstance(node.layer, L.Activation) and alone and _can_act(made[alone[0]]):
            made[node.name] = replace(made.pop(alone[0]), activation=node.layer)
        elif sums and isinstance(node.layer, L.Merge) and node.layer.by == "add" and len(node.inputs) == 2:
            for name in reversed([name for name in alone if name not in cut]):
                other = node.inputs[0] if name == node.inputs[1] else node.inputs[1]
                if _can_add(made[name]) and counts and np.all(counts[other] >= counts[name]):
                    made[node.name] = replace(made.pop(name), added=other)
                    break
    return made


def _can_act(made: Made) -> bool:
    """Whether an activation can be applied to what a node makes."""
    layer = made.node.layer
    return (
        made.activation is None
        and not isinstance(layer, APPLY_OTHERWISE)
        and getattr(layer, "activation", "linear") == "linear"
    )


def _can_add(made: Made) -> bool:
    """Whether a node is a product that can add the frames of another tensor to its own."""
    layer = made.node.layer
    return (
        made == Made(made.node)
        and (isinstance(layer, L.Dense) or (isinstance(layer, L.Conv1D) and layer.groups == 1))
        and layer.activation == "linear"
    )


def _frames(graph: Graph) -> dict[str, np.ndarray] | None:
    """Return how many frames of each tensor there are after each input frame, from none to where everything repeats.

    None where that is too long to look at.
    """
    lead = max(timing.first + timing.delay for timing in graph.timings.values()).__ceil__() + 1
    if graph.period > LONGEST or lead > LONGEST:
        return None
    return graph.counts(np.arange(lead + 2 * graph.period))
