"""How fast the batch replay screens: against `keras.Model.predict` on the same chunks, and against the streaming engine.

    python benchmarks/batch.py [--backend jax] [--json FILE] [NET ...]

Prints, for each shipped net, samples a second, interleaved medians; and what share that is of what the device was measured
to do: bytes a second (a copy of a large array) or multiply-accumulates a second (a large matrix product), whichever bounds.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from streamcnn.batch.device import device
from streamcnn.batch.screen import Screen, Screened
from streamcnn.engine import Engine
from streamcnn.graph import store
from streamcnn.graph.graph import Graph
from streamcnn.optional import BACKENDS, keras_module

WEIGHTS = Path(__file__).parents[1] / "weights"
ROUNDS = 7
COPY_FLOATS = {"cpu": 1 << 25, "gpu": 1 << 29}
MATRIX = {"cpu": 2048, "gpu": 16384}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("nets", nargs="*", default=["ramp", "ramp_robust", "digits"])
    parser.add_argument("--backend", choices=BACKENDS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    keras = keras_module(arguments.backend, exact=False)
    kind, name = device(keras)
    bytes_s, macs_s = limits(keras, kind)
    print(f"{name}, {platform.processor() or platform.machine()}: {bytes_s / 1e9:.1f} GB/s, {macs_s / 1e9:.0f} GMAC/s")
    print(f"{'net':<12} {'batch':>12} {'predict':>12} {'engine':>12} {'batch/predict':>14}  bound by")
    rows = [measure(keras, kind, net, bytes_s, macs_s) for net in arguments.nets]
    if arguments.json:
        machine = {"device": name, "bytes_s": bytes_s, "macs_s": macs_s, "python": platform.python_version()}
        arguments.json.write_text(json.dumps({"machine": machine, "nets": rows}, indent=2) + "\n", encoding="utf-8")


def measure(keras: object, kind: str, name: str, bytes_s: float, macs_s: float) -> dict[str, object]:
    """Measure one net, print its row and return it."""
    graph = store.load(name)
    thresholds = np.full(graph.output_channels, graph.info.threshold)
    screen = Screen(keras, kind, [Screened(graph, graph.info.input_scale, thresholds, 0)], print)
    layout = screen.layout
    model = keras.saving.load_model(WEIGHTS / f"{name}.keras", compile=False)
    shape = (layout.batch, layout.before + layout.chunk + layout.after, graph.input_channels)
    chunks = np.random.default_rng(1).normal(0, 0.1, shape).astype(np.float32)
    frames = layout.batch * layout.chunk
    engine, part = Engine(graph), chunks[0]
    tasks: dict[str, tuple[int, Callable[[], object]]] = {
        "batch": (frames, lambda: screen.screen(chunks)),
        "predict": (frames, lambda: model.predict(chunks, batch_size=layout.batch, verbose=0)),
        "engine": (len(part), lambda: engine.process(part)),
    }
    times: dict[str, list[float]] = {task: [] for task in tasks}
    for _ in range(ROUNDS + 1):
        for task, (_, work) in tasks.items():
            began = time.perf_counter()
            work()
            times[task].append(time.perf_counter() - began)
    rates = {task: tasks[task][0] / median(spent[1:]) for task, spent in times.items()}  # the first one compiles
    # Each sample is read once, and each kept excess written once: what no implementation can do without.
    at_least_bytes = 4 * graph.input_channels
    bounds = {"memory": bytes_s / at_least_bytes, "arithmetic": macs_s / macs_per_sample(graph)}
    bound = min(bounds, key=bounds.get)
    ratio, share = rates["batch"] / rates["predict"], rates["batch"] / bounds[bound]
    shown = "".join(f"{rates[task] / 1e6:>10.2f} M" for task in tasks)
    print(f"{name:<12}{shown:>36}{ratio:>14.2f}   {bound}: {share:.1%} of the device's")
    return {"net": name, "samples_s": rates, "batch_over_predict": ratio, "bound": bound, "share": share}


def macs_per_sample(graph: Graph) -> float:
    """Return the multiply-accumulates that a net costs for each input frame."""
    return float(
        sum(
            node.layer.macs(*(graph.shapes[name] for name in node.inputs)) / graph.timings[node.name].hop
            for node in graph.nodes
        )
    )


def limits(keras: object, kind: str) -> tuple[float, float]:
    """Return the bytes and the multiply-accumulates a second that Keras gets out of the device at the most."""
    ops = keras.ops
    floats = ops.ones((COPY_FLOATS[kind],), "float32")
    size = MATRIX[kind]
    matrix = ops.ones((size, size), "float32")
    copied = _best(lambda: float(ops.sum((floats + 1.0)[:1])))
    multiplied = _best(lambda: float(ops.sum(ops.matmul(matrix, matrix)[:1])))
    return 8 * COPY_FLOATS[kind] / copied, size**3 / multiplied


def _best(work: Callable[[], object]) -> float:
    spent = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        spent.append(time.perf_counter() - began)
    return min(spent)


if __name__ == "__main__":
    main()
