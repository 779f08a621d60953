"""Nets made of files: matched filters and their false alarms, FIR filters, moving averages."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from streamcnn import Engine, config
from streamcnn.config import Duration, Net, Peak, Source, Stream
from streamcnn.errors import AudioFileError, ConfigError, RateError
from streamcnn.events import Detection, Event, Flood
from streamcnn.filters import HIGHEST, Chance, made_of_files, normalized_threshold
from streamcnn.graph.graph import Graph, NetInfo, Node
from streamcnn.graph.layers import Conv1D, InverseNorm, Merge
from streamcnn.inference.kernels import PIECE
from streamcnn.pipeline.listener import Listener, load_listeners
from streamcnn.pipeline.pipeline import Pipeline
from streamcnn.replaying import BatchReplay, replay
from tests.contract import check_streaming_contract
from tests.graphs import pieces
from tests.graphs import signal as noise

RATE = 48_000
CONFIDENCE = 0.99


def chirp(frames: int = 4096, rate: int = RATE, to: float = 0.45) -> np.ndarray:
    """A sweep from 2 kHz to a share of the rate."""
    t = np.arange(frames) / rate
    slope = (to * rate - 2000) / (frames / rate)
    return np.sin(2 * np.pi * (2000 * t + slope / 2 * t**2)) * np.hanning(frames) ** 0.25


def written(path: Path, samples: np.ndarray, rate: int = RATE) -> str:
    """Write a sound file; return its path."""
    soundfile.write(path, samples, rate, subtype="DOUBLE")
    return str(path)


def heard(stream: Stream, x: np.ndarray, rate: int = RATE) -> list[Event]:
    """Return what a stream's nets hear in a signal."""
    pipeline = Pipeline("s", "x", rate, 1, load_listeners(stream))
    return [event for block in pieces(x[:, None].astype(np.float32), 1) for event in pipeline.process(block.copy())]


@given(probability=st.floats(1e-9, 0.49), length=st.integers(3, 1 << 18))
def test_normalized_thresholds_are_those_of_students_t(probability: float, length: int):
    """The threshold for a false-alarm probability is that of Student's t, of which the correlation is a function."""
    t = stats.t.isf(probability, length - 1)
    wanted = t / np.sqrt(length - 1 + t * t)
    if wanted > HIGHEST:
        with pytest.raises(ConfigError, match="can promise no less"):
            normalized_threshold(probability, length)
    else:
        assert normalized_threshold(probability, length) == pytest.approx(wanted, rel=1e-6, abs=1e-9)


def within(count: int, trials: int, probability: float) -> bool:
    """Whether a count of independent events lies in the interval that holds with 99 %."""
    low, high = stats.binom.interval(CONFIDENCE, trials, probability)
    return low <= count <= high


@pytest.mark.parametrize("normalized", [False, True])
def test_false_alarms_in_noise_are_those_of_theory(tmp_path: Path, normalized: bool):
    """In white noise the share of scores above the threshold is the probability asked for, within its confidence interval."""
    net = Net(
        name="c",
        template=written(tmp_path / "c.wav", chirp()),
        normalized=normalized,
        noise_rms=None if normalized else 0.1,
    )
    made = made_of_files(net, RATE, 1)
    engine, random, apart = (
        Engine(made.graph),
        np.random.default_rng(6),
        16,
    )  # scores so far apart know nothing of each other
    above, trials = dict.fromkeys((1e-3, 1e-4, 1e-5), 0), 0
    for number in range(8):
        x = random.normal(0, 0.1, (1 << 19, 1)).astype(np.float32)
        scores = engine.process(x)[4096 if number == 0 else 0 :: apart, 0]
        trials += len(scores)
        for probability in above:
            above[probability] += int((scores >= made.chance.thresholds(probability)[0]).sum())
    for probability, count in above.items():
        assert within(count, trials, probability), (probability, count, trials)


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("snr_db", [-28, -25, -22])
def test_detections_in_noise_are_those_of_theory(tmp_path: Path, normalized: bool, snr_db: int):
    """A chirp in white noise is found as often as theory says, for each false-alarm probability."""
    template, sigma, trials, apart = chirp(), 0.1, 600, 8192
    amplitude = sigma * 10 ** (snr_db / 20) / np.sqrt(np.mean(template**2))
    rms = None if normalized else sigma
    net = Net(name="c", template=written(tmp_path / "c.wav", template), normalized=normalized, noise_rms=rms)
    made = made_of_files(net, RATE, 1)
    x = np.random.default_rng(abs(snr_db)).normal(0, sigma, trials * apart)
    for k in range(trials):
        x[k * apart : k * apart + 4096] += amplitude * template
    scores = Engine(made.graph).process(x[:, None].astype(np.float32))[4095::apart, 0]
    distance = np.sqrt(4096 * 10 ** (snr_db / 10))  # of the score's mean from 0, in its standard deviations
    for probability in (1e-3, 1e-4, 1e-5):
        found = int((scores >= made.chance.thresholds(probability)[0]).sum())
        if normalized:
            expected = stats.nct.sf(stats.t.isf(probability, 4095), 4095, distance)
        else:
            expected = stats.norm.sf(stats.norm.isf(probability) - distance)
        assert within(found, trials, expected), (probability, found, trials * expected)


@settings(max_examples=30)
@given(
    lengths=st.lists(st.integers(1, 1500), min_size=1, max_size=3, unique=True),
    channels=st.integers(1, 2),
    seed=st.integers(0, 999),
)
def test_matched_filters_keep_the_contract(
    tmp_path_factory: pytest.TempPathFactory, lengths: list, channels: int, seed: int
):
    """A bank of any templates streams as its reference computes it, in [-1, 1], with the same bits for any split."""
    folder, random = tmp_path_factory.mktemp("bank"), np.random.default_rng(seed)
    paths = tuple(written(folder / f"t{n}.wav", random.normal(size=(n, channels))) for n in lengths)
    made = made_of_files(Net(name="bank", template=paths, normalized=True), RATE, channels)
    x = noise(seed, 3000, channels)
    check_streaming_contract(made.graph, x, seed)
    assert np.abs(Engine(made.graph).process(x)).max() <= 1


def test_a_normalized_filter_hears_at_any_level(tmp_path: Path):
    """The same score for a whisper and a shout, at the very sample, with the position between samples; silence scores 0."""
    template = chirp(1000)
    x = np.zeros(30_000)
    for at, level in ((3000, 1.0), (12_000, 1e-5), (21_000, 0.03)):
        x[at : at + 1000] += level * template
    net = Net(name="c", template=written(tmp_path / "c.wav", template), normalized=True, detector=Peak(threshold=0.9))
    events = heard(Stream(name="s", nets=(net,)), x)
    assert [(event.sample, round(event.score, 5)) for event in events] == [(3000, 1.0), (12_000, 1.0), (21_000, 1.0)]
    assert all(abs(event.position - event.sample) < 0.01 for event in events)
    scores = Engine(made_of_files(net, RATE, 1).graph).process(x.astype(np.float32))
    assert np.all(scores[-2000:] == 0)


def test_a_fall_from_loud_to_next_to_nothing_is_not_heard(tmp_path: Path):
    """Rounding errors of loud frames are not taken for what follows them, 140 dB below."""
    random = np.random.default_rng(3)
    net = Net(name="c", template=written(tmp_path / "c.wav", chirp()), normalized=True)
    x = random.normal(size=60_000)
    x[30_000:] *= 1e-7
    scores = Engine(made_of_files(net, RATE, 1).graph).process(x.astype(np.float32))[:, 0]
    assert np.abs(scores[4096:]).max() < 0.1


def test_the_lobes_of_a_correlation_are_one_peak(tmp_path: Path):
    """A narrow-band template, whose correlation has lobes as high as the peak nearly, gives one event, at the right sample."""
    template = np.sin(2 * np.pi * 3000 * np.arange(2000) / RATE) * np.hanning(2000)
    x = np.zeros(20_000)
    x[7000:9000] += 0.1 * template
    net = Net(name="c", template=written(tmp_path / "c.wav", template), normalized=True, detector=Peak(threshold=0.6))
    assert [event.sample for event in heard(Stream(name="s", nets=(net,)), x)] == [7000]


def test_a_bank_names_its_templates_and_where_each_begins(tmp_path: Path):
    """Templates of different lengths are labels of one net, and events stand where they begin."""
    long, short = chirp(3000), chirp(700, to=0.2)
    paths = (written(tmp_path / "long.wav", long), written(tmp_path / "short one.wav", short))
    net = Net(name="bank", template=paths, normalized=True, detector=Peak(threshold={"long": 0.8, "short_one": 0.9}))
    x = np.random.default_rng(0).normal(0, 0.01, 30_000)
    x[5000:8000] += 0.2 * long
    x[15_000:15_700] += 0.2 * short
    events = heard(Stream(name="s", nets=(net,)), x)
    assert [(event.label, event.sample) for event in events] == [("long", 5000), ("short_one", 15_000)]
    written(tmp_path / "short_one.wav", short)
    with pytest.raises(ConfigError, match="two templates would be called 'short_one'"):
        load_listeners(Stream(name="s", nets=(Net(name="b", template=(*paths, str(tmp_path / "short_one.wav"))),)))


def test_a_template_of_another_rate_is_resampled_and_that_is_said(tmp_path: Path):
    """A template recorded at another rate is brought to the stream's, and hears there what it is."""
    said = []
    net = Net(
        name="c",
        template=written(tmp_path / "c.wav", chirp(2000, 16_000, 0.4), 16_000),
        normalized=True,
        detector=Peak(threshold=0.8),
    )
    stream = Stream(name="s", source=Source(rate=RATE), nets=(net,))
    (listener,) = load_listeners(stream, say=said.append)
    assert said == [f"net 'c': template {net.template} resampled from 16000 to 48000 Hz"]
    x = np.zeros(30_000)
    t = np.arange(6000) / RATE
    slope = (0.4 * 16_000 - 2000) / (2000 / 16_000)
    x[9000:15_000] = np.sin(2 * np.pi * (2000 * t + slope / 2 * t**2)) * np.hanning(6000) ** 0.25
    (event,) = heard(stream, x)
    assert abs(event.sample - 9000) <= 1
    assert listener.graph.info.rate == RATE


def test_the_stream_has_the_templates_rate_where_nothing_else_says_one(tmp_path: Path):
    """A template alone decides the rate; beside a net, the net does."""
    net = Net(name="c", template=written(tmp_path / "c.wav", chirp(2000, 16_000, 0.4), 16_000), normalized=True,
              detector=Peak(threshold=0.8))  # fmt: skip
    (alone,) = load_listeners(Stream(name="s", nets=(net,)))
    assert alone.graph.info.rate == 16_000
    beside, _ = load_listeners(Stream(name="s", nets=(net, Net(name="ramp", net="ramp"))))
    assert beside.graph.info.rate == RATE


def test_thresholds_come_from_a_probability(tmp_path: Path):
    """`false_alarm` sets the threshold of a matched filter, which its events carry; of other nets it cannot."""
    net = Net(name="c", template=written(tmp_path / "c.wav", chirp()), normalized=True, detector=Peak(false_alarm=1e-6))
    (listener,) = load_listeners(Stream(name="s", nets=(net,)))
    assert listener.thresholds == {"c": normalized_threshold(1e-6, 4096)}
    known = Net(name="c", template=net.template, noise_rms=0.02, detector=Peak(false_alarm=1e-6))
    (listener,) = load_listeners(Stream(name="s", nets=(known,)))
    assert listener.thresholds["c"] == pytest.approx(0.02 * stats.norm.isf(1e-6))
    for bad in (Net(name="c", template=net.template, detector=Peak(false_alarm=1e-6)),
                Net(name="r", net="ramp", detector=Peak(false_alarm=1e-6))):  # fmt: skip
        with pytest.raises(ConfigError, match="what noise does to its scores is not known"):
            load_listeners(Stream(name="s", nets=(bad,)))
    assert Chance((2,), 1.0).thresholds(0.025)[0] == pytest.approx(1.96, abs=0.01)


@pytest.mark.parametrize("suffix", [".txt", ".npy", ".wav"])
def test_filters_from_files_are_convolutions(tmp_path: Path, suffix: str):
    """A filter from any file is NumPy's convolution, and a symmetric one stands at its middle."""
    taps, path = np.random.default_rng(2).normal(size=701), tmp_path / f"taps{suffix}"
    taps += taps[::-1]
    if suffix == ".txt":
        np.savetxt(path, taps)
    elif suffix == ".npy":
        np.save(path, taps)
    else:
        written(path, taps)
    made = made_of_files(Net(name="f", fir=path), RATE, 1)
    x = noise(1, 3000, 1)
    np.testing.assert_allclose(
        Engine(made.graph).process(x)[:, 0], np.convolve(x[:, 0], taps)[:3000], atol=1e-4 * np.abs(taps).sum()
    )
    assert made.graph.info.target_lag == 350
    np.save(tmp_path / "one.npy", np.arange(1.0, 5))
    causal = made_of_files(Net(name="f", fir=tmp_path / "one.npy"), RATE, 1)
    assert Engine(causal.graph).process(np.eye(1, 5).T.astype(np.float32))[:, 0].tolist() == [1, 2, 3, 4, 0]
    assert causal.graph.info.target_lag == 0


def test_a_moving_average_averages():
    """An average over 10 ms of a constant is that constant, once it has heard that long."""
    made = made_of_files(Net(name="m", average=Duration(0.010)), 8000, 1)
    y = Engine(made.graph).process(np.full((200, 1), 0.5, np.float32))[:, 0]
    assert y[78] < 0.5
    np.testing.assert_allclose(y[79:], 0.5, atol=1e-6)


def test_what_is_no_filter_is_refused(tmp_path: Path):
    """Files that are missing, empty, silent, too long, of other channels or no numbers are refused by name."""
    silent, long = written(tmp_path / "silent.wav", np.zeros(100)), tmp_path / "long.npy"
    np.save(long, np.ones((1 << 20) + 1))
    (tmp_path / "words.txt").write_text("one two\n")
    np.save(tmp_path / "square.npy", np.ones((3, 3)))
    np.save(tmp_path / "nan.npy", np.array([1, np.nan]))
    wide = written(tmp_path / "wide.wav", np.ones((10, 3)))
    for net, error, match in [
        (Net(name="c", template=str(tmp_path / "absent.wav")), AudioFileError, "absent.wav"),
        (Net(name="c", template=silent), ConfigError, "silent.wav is silent"),
        (Net(name="c", template=written(tmp_path / "empty.wav", np.zeros(0))), AudioFileError, "no sound"),
        (Net(name="c", template=wide), ConfigError, "3 channels, the stream has 1"),
        (Net(name="c", fir=long), ConfigError, "1,048,577 samples, at most 1,048,576"),
        (Net(name="c", fir=tmp_path / "words.txt"), ConfigError, "words.txt: holds no numbers"),
        (Net(name="c", fir=tmp_path / "square.npy"), ConfigError, r"shape \(3, 3\)"),
        (Net(name="c", fir=tmp_path / "nan.npy"), ConfigError, "NaN or Inf"),
        (Net(name="c", fir=tmp_path / "absent.npy"), ConfigError, "cannot be read"),
        (Net(name="c", average=Duration(1e-6)), ConfigError, "over no sample"),
    ]:
        with pytest.raises(error, match=match):
            made_of_files(net, RATE, 1)
    with pytest.raises(RateError, match="for what rate to make 'm'"):
        load_listeners(Stream(name="s", nets=(Net(name="m", average=Duration(0.1), detector=Peak(threshold=1)),)))
    for text in ("{name: a}", "{name: a, net: ramp, average: 1s}", "{name: a, net: ramp, normalized: true}"):
        with pytest.raises(ConfigError):
            config.parse(f"streams: [{{name: s, nets: [{text}]}}]", Path("x.yaml"))


def test_late_starts_give_the_same_events(tmp_path: Path):
    """After a gap a matched filter starts on the session's grid: what it hears behind it has the bits of an unbroken run."""
    net = Net(name="c", template=written(tmp_path / "c.wav", chirp()), normalized=True, detector=Peak(threshold=0.2))
    listeners, x = load_listeners(Stream(name="s", nets=(net,))), np.random.default_rng(5).normal(0, 0.1, 80_000)
    x[50_000:54_096] += 0.1 * chirp()
    whole, late = (Pipeline("s", "x", RATE, 1, listeners) for _ in range(2))
    x = x[:, None].astype(np.float32)
    events = [event for event in whole.process(x) if isinstance(event, Detection)]
    broken = x.copy()
    broken[10_001] = np.nan
    after = [event for event in late.process(broken) if isinstance(event, Detection)]
    assert events == after != []


def test_a_batch_replay_hears_the_same(tmp_path: Path):
    """Screened by Keras, a normalized filter gives the very events of a replay, those that say what was too much among them."""
    random, template = np.random.default_rng(4), chirp(600)
    x = random.normal(0, 0.02, 300_000)
    for at in (*range(20_000, 60_000, 2500), 150_000, 250_000):
        x[at : at + 600] += 0.3 * template
    net = Net(
        name="c",
        template=written(tmp_path / "c.wav", template),
        normalized=True,
        detector=Peak(threshold=0.6, most_per_s=5),
    )
    settings_ = config.Config(streams=(Stream(name="s", nets=(net,)),))
    path = Path(written(tmp_path / "x.wav", x))
    whole = list(replay(path, settings_))
    told = sum(isinstance(event, Detection) for event in whole)
    assert told + sum(event.suppressed for event in whole if isinstance(event, Flood)) == 18
    assert told < 18
    batch = BatchReplay(settings_)
    assert list(batch.replay(path)) == whole
    assert 0 < batch.recomputed < batch.frames


@pytest.mark.parametrize("at", [0, 5, 2000, 4000])
@pytest.mark.parametrize("frames", [960, 3000])
@pytest.mark.parametrize("start", [0, 20_000])
def test_a_normalized_filter_hears_as_early_as_the_plain_one(tmp_path: Path, at: int, frames: int, start: int):
    """What begins right after the session's start, or after a gap, is found by both, however long the template is."""
    template, path = chirp(frames), tmp_path / "c.wav"
    x = np.random.default_rng(1).normal(0, 0.001, start + 30_000)
    x[start + at : start + at + frames] += 0.3 * template
    if start:
        x[start - 100 : start] = np.nan
    written(path, template)
    energy = float(np.sqrt((template**2).sum()))
    for normalized, threshold in ((False, 0.2 * energy), (True, 0.8)):
        net = Net(name="c", template=str(path), normalized=normalized, detector=Peak(threshold=threshold))
        events = heard(Stream(name="s", nets=(net,)), x)
        assert [event.sample for event in events if isinstance(event, Detection)] == [start + at], normalized


@pytest.mark.parametrize("length", [2, 3, 4, 5, 8, 20])
@pytest.mark.parametrize("seed", [1, 2])
def test_few_values_keep_what_is_promised_or_promise_less(length: int, seed: int):
    """Of short templates, a probability is kept as scores in float32 are, or refused with the least that can be kept."""
    random, scores_s = np.random.default_rng(seed), 4_000_000
    noise_ = random.normal(size=scores_s + length).astype(np.float32)
    template = random.normal(size=length).astype(np.float32)
    template /= np.sqrt((template**2).sum())
    graph = _normalized(template)
    scores = Engine(graph).process(noise_[:, None])[length:, 0]
    for probability in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6):
        try:
            threshold = normalized_threshold(probability, length)
        except ConfigError as error:
            least = float(str(error).split("no less than ")[1].split(";")[0])
            assert probability < least
            normalized_threshold(least, length)
            continue
        found, expected = int((scores >= np.float32(threshold)).sum()), probability * len(scores)
        assert abs(found - expected) < 5 * np.sqrt(expected) + 0.1 * expected + 3, (probability, found, expected)


def _normalized(template: np.ndarray) -> Graph:
    """Return the net of a normalized matched filter for one template (frames,)."""
    nodes = (
        Node("correlation", Conv1D(kernel=template[:, None, None])),
        Node("norm", InverseNorm(lengths=(len(template),), lags=(0,))),
        Node("score", Merge(by="multiply"), ("correlation", "norm")),
    )
    return Graph(nodes, (1,))


@given(st.floats(5e-324, 0.49))
def test_any_probability_has_a_threshold_where_the_noise_is_known(probability: float):
    """The threshold for Gaussian noise is right to float64 down to the smallest probability that there is."""
    (threshold,) = Chance((100,), 2.0).thresholds(probability)
    assert threshold == pytest.approx(2 * stats.norm.isf(probability), rel=1e-9, abs=1e-12)


def test_a_template_of_one_value_promises_nothing():
    """Its normalized score is 1 or -1: no probability can be promised."""
    with pytest.raises(ConfigError, match="one value"):
        normalized_threshold(1e-3, 1)


@pytest.mark.parametrize("rate", [8000, 16_000])
def test_silence_before_a_long_kernel_fits_at_any_rate(rate: int):
    """What a net on a resampled stream makes of the silence behind a gap fits where its scores go."""
    kernel = np.random.default_rng(0).normal(size=(8192, 1, 4)) / 100
    graph = Graph.sequential([Conv1D(kernel=kernel)], 1, NetInfo(name="long", rate=rate))
    pipeline = Pipeline("s", "x", RATE, 1, [Listener("long", graph, Peak(threshold=1e9))])
    (runner,) = pipeline.runners
    assert len(runner._scores) >= runner._engine.max_output_frames(PIECE)
    for gap in range(1, 200, 7):
        pipeline.process(np.zeros((5000 + gap, 1), np.float32))
        pipeline.skip(gap, "a test")
    pipeline.finish()


@pytest.mark.parametrize("tail", [18, 24, 30, 200])
def test_the_end_of_a_file_right_behind_a_gap_is_at_its_place(tail: int):
    """With the edges that Keras has, a long kernel finds what stands between a gap and the end where a short one does."""
    found = []
    for taps in (8, 8192):
        kernel = np.zeros((taps, 1, 1))
        kernel[-1] = 1
        graph = Graph.sequential([Conv1D(kernel=kernel)], 1, NetInfo(name="k", rate=8000))
        x = np.zeros((20_000 + tail * 6, 1), np.float32)
        x[19_700:20_003] = np.nan
        x[-tail * 3] = 1
        listeners = [Listener("k", graph, Peak(threshold=0.05))]
        pipeline = Pipeline("s", "x", RATE, 1, listeners, mask_edges=False)
        events = [*pipeline.process(x), *pipeline.finish()]
        found.append([event.sample for event in events if isinstance(event, Detection)])
    assert found[0] == found[1] != []
