"""Which layers work on blocks of frames, and how long those are: long kernels and moving norms.

That depends on the graph alone, not on how its memory is laid out: results must be the same for any `max_block` and vector.
"""

from math import log2
from typing import NamedTuple

from streamcnn.graph import layers as L
from streamcnn.graph.functions import OVER_CHANNELS
from streamcnn.graph.graph import Graph
from streamcnn.graph.layer import size

LONG = 512  # taps from which a kernel is partitioned
HEAVY = 8192  # products a frame from which it pays to have the newest taps apart
TILE = 16  # outputs that a product makes at once, where channels are the lanes of vectors
SHORTEST = 32  # taps of a partition
MOST_IN_BLOCK = 256  # frames of a block of a moving norm
FEW_CHANNELS = 8  # up to here frames are better lanes than channels
PLANAR_LAYERS = (L.Conv1D, L.Dense, L.Activation, L.Affine, L.Merge, L.Concatenate)


class Partition(NamedTuple):
    """How a long kernel is cut: taps of a partition, how many there are, and 1 where the newest taps are left out of them."""

    taps: int
    count: int
    lead: int

    @property
    def history(self) -> int:
        """How many frames it must find when it begins."""
        return (self.count + self.lead + 1) * self.taps


def is_tiny(graph: Graph) -> bool:
    """Whether a net has so few channels everywhere that frames, not channels, should be the lanes of vectors."""
    return max(size(shape) for shape in graph.shapes.values()) <= FEW_CHANNELS and all(
        isinstance(node.layer, PLANAR_LAYERS)
        and len(graph.shapes[node.name]) == 1
        and graph.rules[node.name].down == 1
        and partition_of(node.layer) is None
        and getattr(node.layer, "groups", 1) == 1
        and getattr(node.layer, "activation", "linear") not in OVER_CHANNELS
        for node in graph.nodes
    )


def partitions(graph: Graph) -> dict[str, Partition]:
    """Return how the kernels of a graph's long convolutions are cut, by the names of the nodes."""
    tiny = is_tiny(graph)
    found = {node.name: partition_of(node.layer, tiny=tiny) for node in graph.nodes}
    return {name: partition for name, partition in found.items() if partition}


def partition_of(layer: L.Layer, *, tiny: bool = True) -> Partition | None:
    """Return how a layer's kernel is cut, None where it is none, or too short for that to pay.

    A partition of B taps costs B products a frame for the newest taps, and for each of the others some eight (four, and the
    weights come from a cache farther away), so B near the root of 8 * taps is cheapest. In a net that is not tiny, products
    have whole tiles of outputs, however few there are.
    """
    if not isinstance(layer, L.Conv1D) or layer.stride * layer.dilation * layer.groups > 1 or layer.taps < LONG:
        return None
    if layer.grid is not None and layer.grid >= SHORTEST:
        return Partition(layer.grid, -(-layer.taps // layer.grid), 0)
    taps, inputs, outputs = layer.kernel.shape
    if taps * inputs * (outputs if tiny else -(-outputs // TILE) * TILE) < HEAVY:
        return None
    taps = 1 << round(log2(8 * layer.taps) / 2)
    return Partition(taps, -(-layer.taps // taps) - 1, 1)


def block_of(layer: L.InverseNorm) -> int:
    """Return how many frames there are in the blocks of a moving norm."""
    return min(MOST_IN_BLOCK, 1 << (min(layer.lengths).bit_length() - 1))


def blocks(graph: Graph) -> dict[str, int]:
    """Return in blocks of how many input frames nodes work that do not work frame by frame, by their names."""
    found = {name: partition.taps for name, partition in partitions(graph).items()}
    return found | {node.name: block_of(node.layer) for node in graph.nodes if isinstance(node.layer, L.InverseNorm)}
