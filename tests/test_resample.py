"""Resampling in the native path: the contract, soxr as the oracle, exact positions, several rates on one stream."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcnn import config
from streamcnn.config import Peak
from streamcnn.engine import Engine
from streamcnn.errors import GraphError, RateError
from streamcnn.events import Detection
from streamcnn.forward import reference
from streamcnn.graph import store
from streamcnn.graph.graph import Graph
from streamcnn.graph.layers import Conv1D, Resample
from streamcnn.graph.resample import PASSBAND, resampler
from streamcnn.pipeline.listener import Listener
from streamcnn.pipeline.pipeline import Pipeline
from streamcnn.replaying import replay
from tests.contract import check_streaming_contract
from tests.graphs import pieces
from tests.signals import RATE, ramps, write

RATES = [(48_000, 16_000), (44_100, 16_000), (16_000, 48_000), (44_100, 48_000), (48_000, 44_100), (8_000, 11_025)]


@pytest.mark.parametrize(("rate", "to"), RATES)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_resampler_keeps_the_contract(rate: int, to: int, channels: int):
    """Whole or in blocks, after a reset, by its declared hop, delay and receptive field: the same bits."""
    x = np.random.default_rng(0).normal(0, 1, (1500, channels)).astype(np.float32)
    check_streaming_contract(resampler(rate, to, channels), x)


@pytest.mark.parametrize(("rate", "to"), RATES)
def test_it_agrees_with_soxr(rate: int, to: int):
    """What lies in the passband comes out as soxr, at its highest quality, makes it, at the same positions."""
    random = np.random.default_rng(1)
    t, lower = np.arange(rate) / rate, min(rate, to) / 2
    x = sum(np.sin(2 * np.pi * f * t + random.uniform(0, 6)) for f in random.uniform(0.01, PASSBAND, 12) * lower) / 12
    ours = reference(resampler(rate, to, 1), x.astype(np.float32))[:, 0]
    theirs = soxr.resample(x, rate, to, "VHQ")
    middle = slice(to // 10, to - to // 10)
    assert len(ours) == to
    assert np.abs(ours[middle] - theirs[middle]).max() < 1e-4


@pytest.mark.parametrize(("rate", "to"), RATES)
def test_the_stopband_is_100_db_down(rate: int, to: int):
    """The taps of all phases together let nothing through above half the lower rate, and the passband as it is."""
    (node,) = resampler(rate, to, 1).nodes
    phases = node.layer.phases.astype(np.float64)
    up = len(phases)
    prototype = phases[:, ::-1].T.reshape(-1)[::-1] / up  # at `up` times the input's rate
    response = np.abs(np.fft.rfft(prototype, 1 << 22))
    frequency = np.linspace(0, 0.5 * up * rate, len(response))
    lower = min(rate, to) / 2
    decibels = 20 * np.log10(np.maximum(response, 1e-12))
    assert decibels[frequency >= lower].max() < -100
    assert np.abs(decibels[frequency <= PASSBAND * lower]).max() < 0.01


@given(rate=st.integers(100, 2000), to=st.integers(100, 2000), seed=st.integers(0, 999))
@settings(max_examples=40)
def test_any_two_rates(rate: int, to: int, seed: int):
    """For any ratio that is not refused the split changes no bit, and a slow sine stays where it was."""
    try:
        graph = resampler(rate, to, 1)
    except RateError:
        return
    x = np.sin(2 * np.pi * 0.05 * min(rate, to) * np.arange(4 * graph.nodes[0].layer.half) / rate).astype(np.float32)
    engine = Engine(graph)
    whole = np.concatenate([engine.process(x), engine.flush()])
    engine.reset()
    parts = np.concatenate([*(engine.process(block) for block in pieces(x[:, None], seed)), engine.flush()])
    assert np.array_equal(whole, parts)
    at = np.arange(len(whole)) * Fraction(rate, to)
    inside = [k for k, p in enumerate(at) if graph.nodes[0].layer.half < p < len(x) - graph.nodes[0].layer.half]
    expected = np.sin(2 * np.pi * 0.05 * min(rate, to) * np.array([float(at[k]) for k in inside]) / rate)
    np.testing.assert_allclose(whole[inside, 0], expected, atol=2e-4)


def test_rates_without_a_simple_ratio_are_refused():
    """A ratio that would need millions of taps is an error that names both rates."""
    with pytest.raises(RateError, match="cannot resample from 48000 to 44099 Hz"):
        resampler(48_000, 44_099, 1)
    with pytest.raises(GraphError, match="lowest terms"):
        Resample(up=2, down=4)


def test_only_a_resampler_may_end_between_input_frames():
    """A net behind a resampler must come back to whole input frames."""
    with pytest.raises(GraphError, match="frames for each input frame"):
        Graph.sequential([Resample(up=160, down=147), Conv1D(kernel=np.ones((1, 1, 1), np.float32))])


def slow_net() -> Listener:
    """Return a net that answers to ramps as a 16 kHz signal has them."""
    graph = store.load("ramp").with_info(rate=16_000, name="slow")
    return Listener("slow", graph, Peak(threshold=0.6))


@pytest.mark.parametrize("rate", [48_000, 44_100, 22_050, 8_000])
def test_events_stand_within_one_sample(rate: int):
    """An event of a net at another rate stands within one of the stream's samples of where it was, for any split."""
    seconds = np.array([0.2, 0.5, 0.71, 1.1])
    at_net = np.round(seconds * 16_000).astype(int)
    signal = soxr.resample(ramps(at_net.tolist(), 24_000), 16_000, rate, "VHQ").astype(np.float32)
    found = []
    for blocks in ([signal], pieces(signal[:, None], 3)):
        pipeline = Pipeline("s", "x", rate, 1, [slow_net()])
        events = [event for block in blocks for event in pipeline.process(np.ascontiguousarray(block.reshape(-1, 1)))]
        found.append(events + pipeline.finish())
    assert found[0] == found[1]
    if rate >= 16_000:  # below, the ramps' upper half is gone
        samples = [event.sample for event in found[0]]
        assert np.abs(samples - at_net * rate / 16_000).max() <= 1


def test_nets_of_several_rates_share_a_stream():
    """Two nets, at the stream's rate and at a third of it, find their events, in order, also behind a gap."""
    fast = ramps([30_000, 90_000], 150_000)
    slow = soxr.resample(ramps([20_000, 40_000], 50_000), 16_000, RATE, "VHQ")[: len(fast)].astype(np.float32)
    signal = (fast + slow)[:, None]
    pipeline = Pipeline("s", "x", RATE, 1, [Listener("ramp", store.load("ramp"), Peak()), slow_net()])
    events = pipeline.process(signal[:75_000])
    events += pipeline.skip(1_000, "test")
    events += pipeline.process(np.ascontiguousarray(signal[76_000:])) + pipeline.finish()
    found = [(event.detector, event.sample) for event in events if isinstance(event, Detection)]
    expected = [("ramp", 30_000), ("slow", 60_000), ("ramp", 90_000), ("slow", 120_000)]
    for name, at in expected:  # (a fast ramp is one for the slow net too)
        assert [sample for other, sample in found if other == name and abs(sample - at) <= 1], (name, at)
    decided = [event.decided_sample for event in events if isinstance(event, Detection)]
    assert decided == sorted(decided)


def test_files_of_another_rate_are_resampled(tmp_path: Path):
    """A net for 48 kHz hears ramps in a file of 96 kHz, at the file's samples."""
    signal = soxr.resample(ramps([10_000, 30_000], 48_000), RATE, 2 * RATE, "VHQ").astype(np.float32)
    path = write(tmp_path / "x.wav", signal, rate=2 * RATE)
    nets = (config.Net(name="ramp", net="ramp"),)
    events = list(replay(path, config.Config(streams=(config.Stream(name="s", nets=nets),))))
    assert np.abs(np.subtract([event.sample for event in events], [20_000, 60_000])).max() <= 1
