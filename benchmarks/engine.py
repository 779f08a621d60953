"""How fast the streaming engine is, beside its peers: one command, a table, a plot, and JSON.

    pip install -e '.[bench]'
    python benchmarks/engine.py [--nets R1,R2] [--blocks 1,64] [--json FILE] [--plot PNG]

Everything runs on one pinned thread, in interleaved rounds, each from a stream in full flow; cells are medians. The peers are
called from Python, as their users call them; the engine is called from Python too, and from machine code, which is how the
daemon runs it. Each peer's outputs are checked to be the engine's before it is measured. An empty cell is a block that a peer
has no way to stream.

Behind the table: a bank of 16 filters of 4,096 taps against a partitioned FFT in NumPy; the worst block; what a signal that
decays to nothing costs; and what a longer memory costs.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import nets, peers
from streamcnn.engine import Engine
from streamcnn.graph.graph import INPUT, Graph, Node
from streamcnn.graph.layers import Conv1D
from streamcnn.stopwatch import Course, flop_per_second

ROUNDS = 5
CELL_S = 0.05  # that one measurement of a cell takes, about
BLOCKS = (1, 64, 256, 1024)
NATIVE, PYTHON = "streamcnn", "streamcnn, from Python"
CHECKED = 4  # blocks on which outputs are compared
TEMPLATES, TEMPLATE_TAPS, TEMPLATE_BLOCK = 16, 4096, 256

Push = Callable[[], float]  # runs for a while; returns the seconds that a frame took


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", type=lambda text: text.split(","), default=list(nets.NETS))
    parser.add_argument("--blocks", type=lambda text: [int(n) for n in text.split(",")], default=list(BLOCKS))
    parser.add_argument("--peers", type=lambda text: [n for n in text.split(",") if n], default=list(peers.PEERS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    kinds = [peers.load(name) for name in arguments.peers]
    peak = flop_per_second()
    machine = {"processor": processor(), "flop_per_second": peak, "python": platform.python_version()}
    print(f"{machine['processor']}, one thread, at most {peak / 1e9:.0f} GFLOP/s; ns a sample")
    names = [NATIVE, PYTHON, *(kind.name for kind in kinds)]
    print(f"{'net':<7}{'block':>6}{'of peak':>9}" + "".join(f"{name:>24}" for name in names))
    rows = []
    for name in arguments.nets:
        for block in arguments.blocks:
            net = nets.NETS[name]()
            cells = measure(net.graph, block, kinds)
            share = net.flop_per_sample / cells[NATIVE] / peak
            shown = "".join(f"{cells[n] * 1e9:>24,.1f}" if n in cells else f"{'':>24}" for n in names)
            print(f"{name:<7}{block:>6}{share:>9.1%}{shown}", flush=True)
            rows.append({"net": name, "block": block, "share_of_peak": share, "seconds_per_frame": cells})
    others = {
        "filters": filters(),
        "worst_block": [worst_block(name, block) for name in arguments.nets for block in (1, 64)],
        "denormals": [denormals(name) for name in arguments.nets if name not in ("GRU64", "LSTM64")],
        "memory": memory(),
    }
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine, "rows": rows, **others}, indent=1) + "\n", "utf-8")
    if arguments.plot:
        draw(rows, names, arguments.plot)


def measure(graph: Graph, block: int, kinds: list[type[peers.Peer]]) -> dict[str, float]:
    """Return the seconds that a frame takes, by the name of what computes it."""
    engine = Engine(graph, max_block=block)
    pushes: dict[str, Push] = {NATIVE: native(engine, block), PYTHON: from_python(engine, block)}
    rng = np.random.default_rng(1)
    for kind in kinds:
        frames = block * CHECKED if block % graph.period == 0 else block * -(-graph.period // block)
        try:
            peers.check(kind(graph, block), graph, signal(rng, frames, graph))
            pushes[kind.name] = of_peer(kind(graph, block), signal(rng, block * 8, graph))
        except NotImplementedError:
            continue
    return interleaved(pushes)


def interleaved(pushes: dict[str, Push]) -> dict[str, float]:
    """Return the median of several rounds, after one that warms up."""
    taken: dict[str, list[float]] = {name: [] for name in pushes}
    for _ in range(ROUNDS + 1):
        for name, push in pushes.items():
            taken[name].append(push())
    return {name: median(times[1:]) for name, times in taken.items()}


def native(engine: Engine, block: int) -> Push:
    """Return what runs an engine in machine code for a while."""
    course = Course(engine, block, 8)
    per_run = course.seconds_per_frame() * block * 8
    return Course(engine, block, max(8, min(1 << 16, round(8 * CELL_S / per_run)))).seconds_per_frame


def from_python(engine: Engine, block: int) -> Push:
    """Return what runs an engine block by block from Python for a while."""
    blocks = signal(np.random.default_rng(1), block * 8, engine.graph).reshape(8, block, -1)
    out = np.empty((engine.max_output_frames(block), engine.graph.output_channels), np.float32)
    return repeated(lambda k: engine.process_into(blocks[k % 8], out), block)


def of_peer(peer: "peers.Peer | peers.PartitionedFFT", samples: np.ndarray) -> Push:
    """Return what runs a peer for a while."""
    blocks = samples.reshape(8, peer.block, -1)
    return repeated(lambda k: peer.push(blocks[k % 8]), peer.block)


def repeated(push: Callable[[int], object], block: int) -> Push:
    """Return what calls `push` with the number of the block until enough time has passed."""

    def run() -> float:
        began, k = time.perf_counter(), 0
        while (passed := time.perf_counter() - began) < CELL_S or k < 2:
            push(k)
            k += 1
        return passed / (k * block)

    return run


def signal(rng: np.random.Generator, frames: int, graph: Graph) -> np.ndarray:
    """Return noise, float32 (frames, channels)."""
    return rng.normal(0, 1, (frames, graph.input_channels)).astype(np.float32)


def filters() -> dict[str, float]:
    """Measure a bank of matched filters, with and without a block's delay."""
    rng = np.random.default_rng(1)
    kernel = rng.normal(size=(TEMPLATE_TAPS, 1, TEMPLATES)).astype(np.float32)
    pushes: dict[str, Push] = {}
    for name, grid in (("no added delay", None), ("a block's delay", TEMPLATE_BLOCK)):
        graph = Graph((Node("bank", Conv1D(kernel=kernel, grid=grid), (INPUT,)),))
        pushes[name] = native(Engine(graph, max_block=TEMPLATE_BLOCK), TEMPLATE_BLOCK)
    fft = peers.PartitionedFFT(np.ascontiguousarray(kernel[:, 0].T), TEMPLATE_BLOCK)
    peers.check(fft, graph, signal(rng, TEMPLATE_BLOCK * 32, graph))
    fft = peers.PartitionedFFT(np.ascontiguousarray(kernel[:, 0].T), TEMPLATE_BLOCK)
    pushes["NumPy"] = of_peer(fft, signal(rng, TEMPLATE_BLOCK * 8, graph))
    cells = interleaved(pushes)
    print(f"\n{TEMPLATES} filters of {TEMPLATE_TAPS} taps, blocks of {TEMPLATE_BLOCK}, ns a sample: ", end="")
    print(", ".join(f"{name} {second * 1e9:.1f} ({cells['NumPy'] / second:.2f}x)" for name, second in cells.items()))
    return cells


def worst_block(name: str, block: int) -> dict[str, object]:
    """Measure the longest block of a net against the median one, or, where blocks have unlike work, its deadline."""
    graph = nets.NETS[name]().graph
    course = Course(
        Engine(graph, max_block=block), block, max(64, min(20_000, 2 * graph.period // block + 8192 // block))
    )
    taken = course.seconds_per_block()
    row = {"net": name, "block": block, "median_s": float(np.median(taken)), "worst_s": float(taken.max())}
    ratio = f"{row['worst_s'] / row['median_s']:.1f} medians"
    deadline = f"{row['worst_s'] / (block / 48000):.1%} of the deadline"
    print(
        f"worst block {name:<7}{block:>5}: {row['worst_s'] * 1e6:9.2f} us, {ratio if graph.period == 1 else deadline}"
    )
    return row


def denormals(name: str) -> dict[str, object]:
    """Measure a signal that is denormal throughout against noise."""
    graph = nets.NETS[name]().graph
    graph = replace(graph, nodes=tuple(_without_bias(node) for node in graph.nodes))
    engine = Engine(graph, max_block=64)
    blocks = max(8, round(CELL_S / (Course(engine, 64, 8).seconds_per_frame() * 64)))
    courses = {"noise": Course(engine, 64, blocks), "denormal": Course(engine, 64, blocks, level=1e-40)}
    cells = interleaved({kind: course.seconds_per_frame for kind, course in courses.items()})
    print(f"denormal signal {name}: {cells['denormal'] / cells['noise']:.2f} times the time of noise")
    return {"net": name, **cells}


def _without_bias(node: Node) -> Node:
    """Return a node whose outputs decay with its inputs."""
    return replace(node, layer=replace(node.layer, bias=None)) if hasattr(node.layer, "bias") else node


def memory() -> dict[str, float]:
    """Measure a net with every dilation doubled, and halved."""
    graph = nets.NETS["R3"]().graph
    pushes = {}
    for name, factor in (("halved", 0.5), ("as it is", 1), ("doubled", 2)):
        changed = tuple(
            replace(node, layer=replace(node.layer, dilation=max(1, int(node.layer.dilation * factor))))
            if isinstance(node.layer, Conv1D)
            else node
            for node in graph.nodes
        )
        pushes[name] = native(Engine(replace(graph, nodes=changed), max_block=64), 64)
    cells = interleaved(pushes)
    print("R3 with its dilations " + ", ".join(f"{name}: {second * 1e9:.0f} ns" for name, second in cells.items()))
    return cells


def processor() -> str:
    """Return the processor's name."""
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def draw(rows: list[dict], names: list[str], path: Path) -> None:
    """Draw the time of a sample over the block size, a panel for each net."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = list(dict.fromkeys(row["net"] for row in rows))
    columns = min(5, len(shown))
    figure, axes = pyplot.subplots(
        -(-len(shown) // columns), columns, figsize=(3.2 * columns, 6), squeeze=False, sharex=True
    )
    for axis, net in zip(axes.flat, shown, strict=False):
        for name in names:
            points = [(r["block"], r["seconds_per_frame"][name] * 1e9) for r in rows if r["net"] == net
                      and name in r["seconds_per_frame"]]  # fmt: skip
            style = {"color": "black", "linewidth": 2.5} if name == NATIVE else {"linewidth": 1}
            axis.loglog(*zip(*points, strict=True) if points else ((), ()), marker=".", label=name, **style)
        axis.set_title(net)
        axis.set_xticks(BLOCKS, [str(block) for block in BLOCKS])
        axis.minorticks_off()
    for axis in axes[:, 0]:
        axis.set_ylabel("ns a sample")
    for axis in axes[-1]:
        axis.set_xlabel("frames of a block")
    for axis in axes.flat[len(shown) :]:
        axis.axis("off")
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="lower center", ncols=4, fontsize="small")
    figure.tight_layout(rect=(0, 0.09, 1, 1))
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
