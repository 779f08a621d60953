"""The peers that the engine is measured against, and the check that they compute what it computes."""

from importlib import import_module

import numpy as np

from benchmarks.peers.fft import PartitionedFFT
from benchmarks.peers.peer import Peer
from streamcnn.engine import Engine
from streamcnn.graph.graph import Graph

TOLERANCE = 1e-4  # of the largest output: float32, summed in another order
PEERS = {
    "OnnxRuntime": "onnx_peer",
    "OnnxRuntimePicture": "onnx_peer",
    "Torch": "torch_peer",
    "LiteRT": "litert_peer",
    "KerasModel": "keras_peer",
    "KerasFunction": "keras_peer",
}


def load(name: str) -> type[Peer]:
    """Return a peer by the name of its class; only now its runtime is loaded."""
    return getattr(import_module(f"benchmarks.peers.{PEERS[name]}"), name)


def check(peer: Peer | PartitionedFFT, graph: Graph, signal: np.ndarray) -> None:
    """Assert that a fresh peer gives for a signal (whole blocks, channels) what the engine gives."""
    expected = Engine(graph).process(signal)
    blocks = signal.reshape(-1, peer.block, graph.input_channels)
    outputs = np.concatenate([peer.push(block).copy() for block in blocks])
    assert outputs.shape == expected.shape, f"{peer.name}: {outputs.shape} instead of {expected.shape}"
    scale = np.abs(expected).max(initial=0)
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=TOLERANCE * scale, err_msg=peer.name)
