"""The streaming contract: what must hold for every graph, checked by one function."""

import numpy as np

from streamcnn.engine import Engine
from streamcnn.forward import reference, reference_tensors
from streamcnn.graph.graph import Graph
from streamcnn.graph.layers import Conv2D, Pooling2D
from streamcnn.verification import allowed_error, float32_rounding
from tests.graphs import pieces

MOST_PROBES = 24


def streamed(engine: Engine, blocks: list[np.ndarray]) -> np.ndarray:
    """Return the joined outputs of blocks, with the flushed tail."""
    return np.concatenate([*(engine.process(block) for block in blocks), engine.flush()])


def tolerance(graph: Graph, signal: np.ndarray) -> float:
    """Return the error that law 1 allows on the output for a whole signal."""
    exact = reference_tensors(graph, signal)
    return allowed_error(exact[graph.output_name], float32_rounding(graph, signal, exact)[graph.output_name])


def check_streaming_contract(graph: Graph, signal: np.ndarray, seed: int = 0) -> None:
    """Check that a graph streams: the same as the whole signal, for any split, causally, and after a reset."""
    engine = Engine(graph)
    whole = streamed(engine, [signal])
    expected = reference(graph, signal)
    assert whole.shape == expected.shape == (graph.output_frames(len(signal)), graph.output_channels)
    np.testing.assert_allclose(whole, expected, rtol=0, atol=2 * tolerance(graph, signal))

    splits = {f"blocks of {n}": np.split(signal, range(n, len(signal), n)) for n in (1, 7, 64, 1000)}
    splits |= {f"random split {k}": pieces(signal, seed + k) for k in range(2)}
    for name, blocks in splits.items():
        engine.reset()
        assert np.array_equal(streamed(engine, blocks), whole), f"{name} gives other bits"
    for limit in (1, 5):  # few frames at a time are laid out otherwise
        small = streamed(Engine(graph, max_block=limit), [signal])
        assert np.array_equal(small, whole), f"an engine for blocks of {limit} gives other bits"

    engine.reset()
    cut = len(signal) // 2
    early = engine.process(signal[:cut])
    assert np.array_equal(early, whole[: len(early)]), "later samples changed earlier outputs"
    known = max(0, -(-(cut - graph.first - graph.delay) // graph.hop))
    known = known if cut else 0  # the first block brings what is known before it
    assert min(known, len(whole)) <= len(early) <= len(whole), "output frames come later than first, hop and delay say"
    engine.reset()
    assert np.array_equal(streamed(engine, [signal]), whole), "after a reset the engine is not as it was"
    check_receptive_field(graph)


def check_receptive_field(graph: Graph) -> None:
    """Check by NaNs that an output frame sees just the input frames that the receptive field says, and that all is tight.

    A NaN stands at each of a period's input frames in turn, far from both ends.
    """
    timing = graph.output
    # Farther from the ends than all windows together, so that no padding stands in for a frame.
    reach = graph.period + (0 if graph.clip is None else graph.clip.frames)
    for node in graph.nodes if graph.clip is None else ():
        rule = graph.rules[node.name]
        frames = rule.newest - rule.oldest + rule.wait + abs(rule.position) + abs(rule.tail)
        reach += int(frames * graph.timings[node.inputs[0]].hop) + 1
    start = graph.period * -(-reach // graph.period)
    before, after = -np.inf, -np.inf
    for at in range(start, start + min(graph.period, MOST_PROBES)):
        probe = np.zeros((2 * start + graph.period, graph.input_channels), np.float32)
        probe[at] = np.nan
        touched = np.flatnonzero(np.isnan(streamed(Engine(graph), [probe])).any(axis=1))
        if len(touched) == 0:
            continue
        positions = [timing.first + int(i) * timing.hop for i in (touched[0], touched[-1])]
        before, after = max(before, positions[1] - at), max(after, at - positions[0])
    assert after <= timing.ahead, "it sees newer frames than it declares"
    if timing.back is not None:
        assert before <= timing.back, "it sees older frames than it declares"
    # A clip net declares its clip, of which a valid layer may leave out the last frames; a window on a plane may leave out
    # bands, and with them, where frames were stacked to bands, frames.
    if graph.clip is not None or any(isinstance(node.layer, (Conv2D, Pooling2D)) for node in graph.nodes):
        return
    if graph.period <= MOST_PROBES and all(rule.up == 1 for rule in graph.rules.values()):
        assert after == timing.ahead, "it declares newer frames than it sees"
        assert timing.back is None or before == timing.back, "it declares older frames than it sees"
