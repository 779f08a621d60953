"""The batch replay: screened with Keras, decided by the engine, with the events of the stream."""

import json
from fractions import Fraction
from math import ceil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from streamcnn import config
from streamcnn.batch import screen
from streamcnn.batch.chunks import Layout, bad_runs, merged
from streamcnn.batch.forward import computable, forward, refuse_inexpressible
from streamcnn.detect.tag import TagDetector
from streamcnn.errors import AudioFileError, MissingPartError, RateError, RunError, UnsupportedLayerError
from streamcnn.forward import reference
from streamcnn.graph.graph import Graph, NetInfo
from streamcnn.graph.layers import GRU, Activation, Conv1D, Dense, Repeat
from streamcnn.optional import keras_module
from streamcnn.replaying import BatchReplay, replay
from tests.conftest import Cli
from tests.contract import tolerance
from tests.graphs import graphs, pieces, signal
from tests.signals import RATE, ramps, write

SMALL = 1 << 12  # frames of a chunk, so that a second of sound has several
FEW = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut signals into small chunks, a few at a time."""
    monkeypatch.setattr(screen, "CHUNK", SMALL)
    monkeypatch.setattr(screen, "FRAMES_AT_ONCE", {"cpu": 3 * SMALL, "gpu": 3 * SMALL})


def tagger() -> Graph:
    """Return a made net that says, every eight samples, whether it hears low tones, high ones, or none."""
    taps = np.arange(24)
    bands = np.stack([np.sin(0.2 * taps), np.cos(0.2 * taps), np.sin(0.9 * taps), np.cos(0.9 * taps)], axis=1) / 12
    layers = [
        Conv1D(kernel=bands[:, None, :], stride=8, activation="relu"),
        Conv1D(kernel=np.repeat(np.eye(4)[None], 5, axis=0) / 5, dilation=2),
        Dense(kernel=np.array([[50, 0, 0], [50, 0, 0], [0, 50, 0], [0, 50, 0]]), bias=np.array([0.0, 0.0, 4.0])),
        Activation(activation="softmax"),
    ]
    info = NetInfo(name="made", rate=RATE, labels=("low", "high", "none"), target_lag=40)
    return Graph.sequential(layers, info=info)


TAG = config.Tag(
    labels=("low", "high"),
    on=0.8,
    off={"low": 0.5, "high": 0.6},
    smooth=config.Duration(0.002),
    min_duration=config.Duration(0.001),
)


def stream(*nets: tuple[str, object], **source: object) -> config.Config:
    """Return a configuration of one stream with nets (file, detector)."""
    listed = tuple(config.Net(name=f"n{k}", net=str(net), detector=own) for k, (net, own) in enumerate(nets))
    return config.Config(streams=(config.Stream(name="s", source=config.Source(**source), nets=listed),))


def sounds(seed: int, seconds: float = 1.0) -> np.ndarray:
    """Return quiet noise with some ramps and some bursts in it, float32 (frames,)."""
    random, frames = np.random.default_rng(seed), int(seconds * RATE)
    x = ramps(np.sort(random.integers(50, frames - 50, 3)).tolist(), frames, noise=0.02, seed=seed)
    for start in random.integers(0, frames, 3):
        x[start : start + 900] += (0.8 * np.sin(np.arange(900) * random.choice([0.15, 0.25, 0.9])))[: len(x) - start]
    return x.astype(np.float32)


@settings(max_examples=40)
@given(graph=graphs(), seed=st.integers(0, 999))
def test_chunks_are_computed_as_the_whole_signal(graph: Graph, seed: int):
    """For any net without memory a chunk's scores, in Keras' operations, are those of the whole signal around it."""
    assume(not any(rule.recurrent for rule in graph.rules.values()))
    timing, period = graph.output, graph.period
    before = period * ceil(max(Fraction(0), timing.back - timing.first) / period)
    chunk = period * (64 // period + 2)
    after = ceil(max(Fraction(0), timing.first + timing.ahead))
    while computable(graph, before, chunk + after)[0] > 0:
        before += period
    while computable(graph, before, chunk + after)[1] < chunk // graph.hop - 1:
        after += 1
    room = period * ceil((timing.back + abs(timing.first) + 200) / period)
    around = signal(seed, 2 * room + before + chunk + after, graph.input_channels)
    around = around[: len(around) - len(around) % period + graph.length_class]
    keras = keras_module()
    cut = around[room : room + before + chunk + after]
    got = np.asarray(forward(graph, keras, keras.ops.convert_to_tensor(cut[None]), before))[0][: chunk // graph.hop]
    expected = reference(graph, around)[(room + before) // graph.hop :][: len(got)]
    np.testing.assert_allclose(got, expected, rtol=0, atol=20 * tolerance(graph, around))
    assert len(got) == chunk // graph.hop


@FEW
@given(seed=st.integers(0, 999))
def test_batch_gives_the_events_of_the_stream(
    seed: int, batches: "list[tuple[config.Config, BatchReplay]]", tmp_path: Path
):
    """For peaks, tags, both on one stream, and both kinds of edges, the events are equal in every field."""
    path = write(tmp_path / "x.wav", sounds(seed))
    for settings_, batch, mask_edges in batches:
        expected = list(replay(path, settings_, mask_edges=mask_edges))
        assert list(batch.replay(path)) == expected != []


@pytest.fixture(scope="module")
def batches(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[config.Config, BatchReplay, bool]]:
    """Batch replays of several configurations, compiled once."""
    made = tmp_path_factory.mktemp("nets") / "made.safetensors"
    tagger().save(made)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(screen, "CHUNK", SMALL)
        patch.setattr(screen, "FRAMES_AT_ONCE", {"cpu": 3 * SMALL, "gpu": 3 * SMALL})
        peak = ("ramp", config.Peak(refractory=config.Duration(0.005)))
        configurations = [stream(peak), stream((made, TAG), gain=0.5), stream(peak, (made, TAG))]
        return [
            (one, BatchReplay(one, mask_edges=mask_edges), mask_edges)
            for one in configurations
            for mask_edges in (True, False)
        ]


def test_quiet_stretches_are_not_computed_again(tmp_path: Path):
    """Where nothing can be decided the engine computes nothing; a little more than the events is computed again."""
    path = write(tmp_path / "x.wav", ramps([150_000], 20 * RATE, noise=0.01))
    batch = BatchReplay(stream(("ramp", None)))
    assert [event.sample for event in batch.replay(path)] == [150_000]
    assert batch.frames == 20 * RATE
    assert 0 < batch.recomputed < 0.05 * batch.frames


def test_gaps_of_bad_samples_are_the_same(tmp_path: Path):
    """NaN and Inf samples give the gaps of the stream, and the events around them."""
    x = sounds(4)
    x[9000:9100], x[30_000], x[-20:] = np.nan, np.inf, -np.inf
    path = write(tmp_path / "x.wav", x)
    settings_ = stream(("ramp", None))
    expected = list(replay(path, settings_))
    assert len([event for event in expected if type(event).__name__ == "Gap"]) == 3
    assert list(BatchReplay(settings_).replay(path)) == expected


def test_what_nets_see_behind_a_gap_without_masked_edges_is_computed(tmp_path: Path):
    """Where edges are not masked, a net sees zeros before a gap's end, which no screen does: it is computed all the same."""
    made = tmp_path / "step.safetensors"
    kernel = np.repeat([-1.0, 1.0], 2048)[:, None, None] / 2048
    info = NetInfo(rate=RATE, threshold=0.8, labels=("step",))
    Graph.sequential([Conv1D(kernel=kernel)], info=info).save(made)
    x = (0.9 + 0.02 * np.random.default_rng(0).normal(size=60_000)).astype(np.float32)
    x[30_000] = np.nan
    path, settings_ = write(tmp_path / "x.wav", x), stream((made, None))
    expected = list(replay(path, settings_, mask_edges=False))
    assert len(expected) > 1
    assert list(BatchReplay(settings_, mask_edges=False).replay(path)) == expected


def test_files_of_another_rate_are_refused(tmp_path: Path):
    """A file at another rate than the net's is refused with both rates and two ways out."""
    path = write(tmp_path / "x.wav", np.zeros(2000, np.float32), rate=44_100)
    with pytest.raises(RateError, match=r"44100 Hz, the net needs 48000 Hz.*without --batch, or resample"):
        list(BatchReplay(stream(("ramp", None))).replay(path))


def test_large_values_that_cancel_widen_the_margin(tmp_path: Path):
    """Where scores are small differences of large values, the margin is measured there, and no event is lost."""
    made, random = tmp_path / "zero_mean.safetensors", np.random.default_rng(5)
    taps = random.normal(size=64)
    info = NetInfo(rate=RATE, threshold=0.5, labels=("x",))
    Graph.sequential([Conv1D(kernel=(taps - taps.mean())[:, None, None])], info=info).save(made)
    x = random.normal(0, 0.02, 120_000)
    x[60_000:100_000] += 1e5
    path, settings_ = write(tmp_path / "x.wav", x.astype(np.float32)), stream((made, None))
    expected = list(replay(path, settings_))
    assert len(expected) > 5
    assert list(BatchReplay(settings_).replay(path)) == expected


@pytest.mark.parametrize(("name", "subtype"), [("x.ogg", "VORBIS"), ("x.mp3", "MPEG_LAYER_III"), ("x.wav", "GSM610")])
def test_files_of_inexact_seeks_give_the_same_events(tmp_path: Path, name: str, subtype: str):
    """Of formats in which a seek only comes near a frame, the events are those of the stream too."""
    path, settings_ = (
        write(tmp_path / name, sounds(6, 3.0), subtype=subtype),
        stream(("ramp", config.Peak(threshold=0.2))),
    )
    expected = list(replay(path, settings_))
    assert list(BatchReplay(settings_).replay(path)) == expected != []


def test_a_damaged_file_gives_its_events_and_its_error(tmp_path: Path):
    """What comes before the damage is found, and then the error raised, as in the stream."""
    path = tmp_path / "x.wav"
    soundfile.write(path, ramps([5000], 2 * RATE), RATE, subtype="FLOAT")
    path.write_bytes(path.read_bytes()[: 4 * RATE])
    found, batch = [], BatchReplay(stream(("ramp", None)))
    with pytest.raises(AudioFileError, match="cut off"):
        found.extend(batch.replay(path))
    assert [event.sample for event in found] == [5000]
    assert batch.recomputed == batch.frames  # and all of it is said to be computed again


def test_an_uncertain_decision_makes_it_replay_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Where a decision hung on what was leapt over, the whole file is replayed, and no event is told twice."""
    made = tmp_path / "made.safetensors"
    tagger().save(made)
    path, settings_ = write(tmp_path / "x.wav", sounds(8, 2.0)), stream((made, TAG))
    expected = list(replay(path, settings_))
    said: list[str] = []
    batch = BatchReplay(settings_, say=said.append)
    uncertain = iter([True, False])
    monkeypatch.setattr(TagDetector, "certain", property(lambda _self: next(uncertain, False)))
    assert list(batch.replay(path)) == expected != []
    assert any("replaying all of it" in line for line in said)
    assert batch.recomputed == batch.frames == 2 * RATE


def test_an_imprecise_backend_widens_the_margin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Where Keras' scores are off, as on a GPU with few digits, more is computed again and the events stay the same."""
    path, settings_ = write(tmp_path / "x.wav", sounds(3)), stream(("ramp", None))
    expected = list(replay(path, settings_))
    precise, imprecise = BatchReplay(settings_), BatchReplay(settings_)
    exact = imprecise._screen._model.predict_on_batch
    monkeypatch.setattr(
        imprecise._screen._model, "predict_on_batch", lambda x: {k: v - 0.05 for k, v in exact(x).items()}
    )
    assert list(imprecise.replay(path)) == list(precise.replay(path)) == expected != []
    assert imprecise.recomputed > precise.recomputed


def test_a_gpu_without_memory_gets_less_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Out of memory, the batch is halved until it fits, with a line that says so; the events stay the same."""
    path, settings_ = write(tmp_path / "x.wav", sounds(6)), stream(("ramp", None))
    said: list[str] = []
    batch = BatchReplay(settings_, say=said.append)
    compute = batch._screen._model.predict_on_batch

    def short_of_memory(chunks: np.ndarray) -> object:
        if len(chunks) > 1:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 12345 bytes")
        return compute(chunks)

    monkeypatch.setattr(batch._screen._model, "predict_on_batch", short_of_memory)
    assert list(batch.replay(path)) == list(replay(path, settings_))
    assert "out of memory: going on with 1 chunks at once" in said
    monkeypatch.setattr(batch._screen._model, "predict_on_batch", lambda _: 1 / 0)
    with pytest.raises(RunError, match="replay without --batch"):
        list(batch.replay(path))


def test_a_recurrent_net_is_refused_by_layer():
    """A net that chunks cannot express names its layer and offers the stream."""
    random = np.random.default_rng(1)
    layers = [
        Conv1D(kernel=random.normal(size=(3, 1, 2))),
        GRU(kernel=random.normal(size=(2, 9)), recurrent_kernel=random.normal(size=(3, 9))),
    ]
    with pytest.raises(UnsupportedLayerError, match=r"layer 'gru_1'.*GRU.*without --batch"):
        refuse_inexpressible(Graph.sequential(layers))


def test_a_net_that_upsamples_inside_is_screened_too(tmp_path: Path):
    """A net whose period is longer than its hop gives the events of the stream, behind a gap too."""
    random = np.random.default_rng(2)
    layers = [
        Conv1D(kernel=random.normal(size=(6, 1, 3)), stride=6, activation="tanh"),
        Repeat(times=2),
        Conv1D(kernel=random.normal(size=(3, 3, 1)), padding="same"),
    ]
    graph = Graph.sequential(layers, info=NetInfo(name="up", rate=RATE, threshold=2.0))
    assert (graph.hop, graph.period) == (3, 6)
    graph.save(tmp_path / "up.safetensors")
    x = sounds(9)
    x[20_001:20_003] = np.nan
    settings_ = stream((tmp_path / "up.safetensors", None))
    path = write(tmp_path / "x.wav", x)
    expected = list(replay(path, settings_))
    assert len(expected) > 3
    assert list(BatchReplay(settings_).replay(path)) == expected


def test_without_a_backend_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    """Without any of Keras' backends, or the one asked for, the error says what to install."""
    monkeypatch.setattr("streamcnn.optional.importlib.util.find_spec", lambda name: None if name != "jax" else object())
    with pytest.raises(MissingPartError, match="torch is not installed; pip install torch, or choose jax"):
        keras_module("torch")
    monkeypatch.setattr("streamcnn.optional.importlib.util.find_spec", lambda _: None)
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    with pytest.raises(
        MissingPartError, match=r"none of tensorflow, jax, torch is installed; pip install 'streamcnn\[keras\]'"
    ):
        keras_module()


def test_the_command_line_tells_what_it_did(cli: Cli, tmp_path: Path):
    """`replay --batch` writes the lines of `replay`, and tells the device and the recomputed share on standard error."""
    path = write(tmp_path / "x.wav", sounds(1))
    streamed, batch = cli("replay", path), cli("replay", "--batch", path)
    assert batch.returncode == 0, batch.stderr
    assert batch.stdout == streamed.stdout != ""
    assert all(json.loads(line)["detector"] == "ramp" for line in batch.stdout.splitlines())
    first, last = batch.stderr.splitlines()[0], batch.stderr.splitlines()[-1]
    assert "screening on" in first
    assert "computed again by the engine" in last


@given(
    frames=st.integers(0, 300),
    before=st.integers(0, 20),
    chunk=st.integers(1, 40),
    after=st.integers(0, 20),
    batch=st.integers(1, 5),
    seed=st.integers(0, 999),
)
def test_chunks_cover_the_signal(frames: int, before: int, chunk: int, after: int, batch: int, seed: int):
    """However it arrives, a signal's chunks hold every frame once, with what is before and after it, or zeros."""
    x = signal(seed, frames, 2)
    got = list(Layout(before, chunk, after, batch).batches(pieces(x, seed), 2))
    assert all(len(one) <= batch for one in got)
    chunks = np.concatenate(got) if got else np.empty((0, before + chunk + after, 2))
    assert len(chunks) == ceil(frames / chunk)
    padded = np.concatenate([np.zeros((before, 2)), x, np.zeros((after + chunk, 2))]).astype(np.float32)
    for k, one in enumerate(chunks):
        assert np.array_equal(one, padded[k * chunk : k * chunk + before + chunk + after])


def test_spans_and_bad_runs():
    """Spans that touch become one, and runs of frames that are not finite are found with their places."""
    assert merged([(5, 9), (0, 3), (3, 4), (8, 12), (20, 21)]) == [(0, 4), (5, 12), (20, 21)]
    block = np.array([[np.nan], [1], [np.inf], [np.nan], [2]], np.float32)
    assert bad_runs(block, 100) == [(100, 101), (102, 104)]
