"""What is shipped beside a net: its model card, and a golden input and output that Keras itself computed."""

from pathlib import Path

import numpy as np
import safetensors.numpy

from streamcnn.graph.graph import Graph
from streamcnn.graph.store import identity


def write_golden(path: Path, graph: Graph, model: object, signal: np.ndarray) -> None:
    """Write `input` (frames, channels), at the stream's scale, and `output` (frames, outputs), Keras' answer to it."""
    scaled = (signal * np.float32(graph.info.input_scale)).astype(np.float32)
    output = np.asarray(model(scaled[None]))[0]
    tensors = {"input": np.ascontiguousarray(signal, np.float32), "output": np.ascontiguousarray(output, np.float32)}
    path.write_bytes(safetensors.numpy.save(tensors))


def write_card(path: Path, graph: Graph, text: str) -> None:
    """Write a model card: a heading with the facts that the net's file holds, then `text`."""
    info = graph.info
    path.write_text(
        f"""# {info.name}

| | |
| --- | --- |
| file | `{info.name}.safetensors`, {identity(graph)} |
| sample rate | {info.rate} Hz |
| input scale | {info.input_scale:g} |
| labels | {", ".join(info.labels)} |
| target lag | {info.target_lag} samples |
| threshold | {info.threshold:g} |
| hop, delay, receptive field | {graph.hop}, {graph.delay}, {graph.receptive_field} samples |
| parameters | {sum(node.layer.parameters for node in graph.nodes)} |
| licence | MIT |

{text}""",
        encoding="utf-8",
    )
