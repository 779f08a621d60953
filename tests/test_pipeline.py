"""From frames to events: positions, masks, gaps, files, and the same events for any split."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from streamcnn import config
from streamcnn.config import Peak
from streamcnn.errors import AudioFileError, ConfigError, GraphError, InputError, RateError
from streamcnn.events import Detection, Event, Gap
from streamcnn.graph import store
from streamcnn.graph.graph import Graph, NetInfo
from streamcnn.graph.layers import Conv1D, Cropping1D, Repeat, SimpleRNN
from streamcnn.pipeline.listener import Listener
from streamcnn.pipeline.pipeline import Pipeline
from streamcnn.replaying import replay
from streamcnn.sources.wav import AudioFile
from tests.graphs import graphs, pieces
from tests.signals import RATE, ramps, write

LECTURE = Listener("ramp", store.load("ramp"), Peak())


def config_for(net: str = "ramp", **source: object) -> config.Config:
    """Return a configuration of one stream with one net."""
    return config.Config(
        streams=(config.Stream(name="s", source=config.Source(**source), nets=(config.Net(name="n", net=net),)),)
    )


def events(signal: np.ndarray, blocks: list[np.ndarray] | None = None, **options: object) -> list[Event]:
    """Run a signal through a pipeline with the lecture's net."""
    pipeline = Pipeline("s", "x", RATE, 1, [LECTURE], **options)
    found = [event for block in blocks or [signal[:, None]] for event in pipeline.process(np.ascontiguousarray(block))]
    return found + pipeline.finish()


@given(ends=st.lists(st.integers(20, 9900), unique=True, max_size=8), seed=st.integers(0, 999))
def test_events_do_not_depend_on_the_split(ends: list[int], seed: int):
    """For any split of the signal the events are equal in every field."""
    x = ramps(ends, 10_000, noise=0.02, seed=seed)
    assert events(x, pieces(x[:, None], seed)) == events(x)


def test_an_event_stands_at_the_ramps_last_sample():
    """`sample` is where the ramp ended, `decided_sample` where the score fell again, after the target lag."""
    (event,) = events(ramps([5000], 10_000))
    assert isinstance(event, Detection)
    assert (event.sample, event.start_sample, event.end_sample, event.decided_sample) == (5000, 5000, 5001, 5004)
    assert event.id == "s/x/ramp/ramp/5000"
    assert event.time is None
    assert event.time_s == pytest.approx(event.position / RATE, abs=1e-9)
    assert abs(event.position - event.sample) <= 0.5


def test_a_ramp_at_the_very_start_is_masked_unless_keras_edges_are_wanted():
    """Scores that have seen the zeros before the session are not believed, and are with Keras' edges."""
    x = ramps([4], 100)
    signal = np.concatenate([x[1:], np.zeros(1, np.float32)])  # its answer comes with the seventh sample of eight
    assert events(signal) == []
    assert [event.sample for event in events(signal, mask_edges=False)] == [3]


def test_a_gap_is_reported_and_positions_go_on():
    """Frames that never came give a gap event, end open runs, and later events keep their true samples."""
    x = ramps([1000, 3000], 4000)
    pipeline = Pipeline("s", "x", RATE, 1, [LECTURE])
    found = pipeline.process(x[:1004, None])  # cut in the middle of the run of the first ramp
    found += pipeline.skip(500, "test")
    found += pipeline.process(x[1504:, None]) + pipeline.finish()
    first, gap, second = found
    assert (first.sample, first.truncated) == (1000, True)
    assert gap == Gap(stream="s", session="x", start_sample=1004, frames=500, frames_error=0, cause="test")
    assert (second.sample, second.truncated) == (3000, False)


def test_after_a_gap_the_nets_have_forgotten():
    """What stands before a gap has no part in what is decided after it."""
    x = ramps([1000], 2000)
    pipeline = Pipeline("s", "x", RATE, 1, [LECTURE])
    pipeline.process(x[:1001, None])
    pipeline.skip(1, "test")
    assert pipeline.process(x[1001:, None]) == []


def test_gain_and_input_scale_multiply(tmp_path: Path):
    """A quiet signal is heard with the gain that makes up for it."""
    path = write(tmp_path / "quiet.wav", 0.25 * ramps([1000], 2000))
    assert list(replay(path, config_for())) == []
    (event,) = replay(path, config_for(gain=4.0))
    assert (event.sample, round(event.score, 1)) == (1000, 1.0)


def test_each_output_has_its_label():
    """A net of several outputs gives events under each output's label."""
    kernel = np.stack([store.load("ramp").nodes[0].layer.kernel[:, :, 0]] * 2, axis=2)
    kernel[:, :, 1] *= -1
    graph = Graph.sequential([Conv1D(kernel=kernel)], info=NetInfo(labels=("up", "down"), target_lag=3, input_scale=4))
    x = ramps([500], 2000) - ramps([1500], 2000)
    found = Pipeline("s", "x", RATE, 1, [Listener("n", graph, Peak(threshold=0.6))]).process(x[:, None])
    assert [(event.label, event.sample, event.id) for event in found] == [
        ("up", 500, "s/x/n/up/500"),
        ("down", 1500, "s/x/n/down/1500"),
    ]


def test_a_net_that_is_off_adds_nothing_at_the_end():
    """With Keras' edges, the padded end of the signal counts for nets that are on, and for no others."""
    x, layer = ramps([996], 1000), Conv1D(kernel=np.ones((9, 1, 1)), padding="same")
    graph = Graph.sequential([layer], info=NetInfo(name="n", threshold=2.0))
    for on, count in ((True, 1), (False, 0)):
        pipeline = Pipeline("s", "x", RATE, 1, [Listener("n", graph, Peak())], mask_edges=False)
        pipeline.process(x[:900, None])
        pipeline.switch("n", on=on)
        events = pipeline.process(np.ascontiguousarray(x[900:, None])) + pipeline.finish()
        assert len(events) == count


@pytest.mark.parametrize("block", [np.zeros((4, 2), np.float32), np.zeros((4, 1)), np.zeros((8, 1), np.float32)[::2]])
def test_only_blocks_of_the_streams_own_form_are_taken(block: np.ndarray):
    """Other channels, other numbers, other orders are refused: what works on addresses cannot see them."""
    with pytest.raises(InputError, match="expected float32"):
        Pipeline("s", "x", RATE, 1, [LECTURE]).process(block)


def test_a_net_without_a_threshold_is_refused(tmp_path: Path):
    """Where neither configuration nor net says a threshold, nothing is guessed."""
    graph = store.load("ramp").with_info(threshold=None)
    with pytest.raises(ConfigError, match="no threshold"):
        Pipeline("s", "x", RATE, 1, [Listener("n", graph, Peak())])


def test_a_net_of_other_channels_is_refused():
    """A net that takes another number of channels than the stream has is named."""
    with pytest.raises(GraphError, match="takes 1 channels, its stream has 2"):
        Pipeline("s", "x", RATE, 2, [LECTURE])


@pytest.mark.parametrize("block", [1, 64, 1000, 10**6])
def test_replay_gives_the_same_events_at_any_block(tmp_path: Path, block: int):
    """The block size of a replay changes nothing."""
    path = write(tmp_path / "x.wav", ramps([700, 5000, 9000], 10_000, noise=0.02))
    assert list(replay(path, config_for(), block=block)) == list(replay(path, config_for()))


@pytest.mark.parametrize(
    ("name", "subtype"),
    [
        ("x.wav", "PCM_U8"),
        ("x.wav", "PCM_16"),
        ("x.wav", "PCM_24"),
        ("x.wav", "PCM_32"),
        ("x.wav", "FLOAT"),
        ("x.wav", "DOUBLE"),
        ("x.wav", "ULAW"),
        ("x.flac", "PCM_16"),
        ("x.flac", "PCM_24"),
        ("x.w64", "FLOAT"),
        ("x.aiff", "PCM_16"),
    ],
)
def test_every_sample_format_is_read(tmp_path: Path, name: str, subtype: str):
    """Ramps are found at their samples in every format that holds them."""
    path = write(tmp_path / name, 0.99 * ramps([700, 5000], 10_000), subtype=subtype)
    assert [event.sample for event in replay(path, config_for())] == [700, 5000]


def test_ogg_is_read(tmp_path: Path):
    """Every frame of a lossy file is read, about as loud as it was."""
    path = write(tmp_path / "x.ogg", 0.5 * np.sin(np.arange(48_000) / 20).astype(np.float32), subtype="VORBIS")
    with AudioFile(path) as file:
        read = np.concatenate(list(file.blocks(1000)))
    assert read.shape == (48_000, 1)
    assert np.sqrt(np.mean(read**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


def test_channels_select(tmp_path: Path):
    """`channels` picks the channel, counted from 1, and a missing one is refused."""
    both = np.stack([ramps([700], 2000), ramps([1500], 2000)], axis=1)
    path = write(tmp_path / "x.wav", both)
    assert [event.sample for event in replay(path, config_for(channels=(2,)))] == [1500]
    with pytest.raises(AudioFileError, match="has 2 channels, channel 3 is wanted"):
        list(replay(path, config_for(channels=(3,))))


def test_unreadable_files_are_named(tmp_path: Path):
    """A missing file, a folder, an empty file and one of noise are refused with name and reason."""
    (tmp_path / "empty.wav").touch()
    (tmp_path / "noise.wav").write_bytes(bytes(range(256)) * 10)
    for name, words in [
        ("none.wav", "no such file"),
        ("", "is no file"),
        ("empty.wav", "cannot be read"),
        ("noise.wav", "cannot be read"),
    ]:
        with pytest.raises(AudioFileError, match=words):
            list(replay(tmp_path / name, config_for()))


def test_a_file_that_was_cut_off_is_reported_after_its_events(tmp_path: Path):
    """A WAV shorter than its header says gives the events of what is there, then an error; a streamed one is whole."""
    path = write(tmp_path / "x.wav", ramps([700, 9000], 10_000))
    data = path.read_bytes()
    path.write_bytes(data[:20_000])
    events = replay(path, config_for())
    assert next(events).sample == 700
    with pytest.raises(AudioFileError, match="cut off: it ends after frame 49"):
        next(events)
    at = data.index(b"data") + 4
    path.write_bytes(data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :])  # as ffmpeg writes into a pipe
    assert [event.sample for event in replay(path, config_for())] == [700, 9000]


def test_a_damaged_file_is_reported_after_its_events(tmp_path: Path):
    """A FLAC with a damaged middle gives an error that says where, after the events before it."""
    noise = np.random.default_rng(0).normal(size=100_000) * 0.01
    path = write(tmp_path / "x.flac", ramps([700], 100_000) * 0.9 + noise, subtype="PCM_16")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    path.write_bytes(data)
    events = replay(path, config_for(), block=1000)
    assert next(events).sample == 700
    with pytest.raises(AudioFileError, match=r"x\.flac: damaged after frame"):
        list(events)


def test_a_net_without_a_rate_needs_one(tmp_path: Path):
    """A net that does not know its rate is refused until one is given."""
    store.load("ramp").with_info(rate=None).save(tmp_path / "n.safetensors")
    path, settings = (
        write(tmp_path / "x.wav", ramps([700], 2000), rate=8000),
        config_for(str(tmp_path / "n.safetensors")),
    )
    with pytest.raises(RateError, match="--rate"):
        replay(path, settings)
    assert [event.sample for event in replay(path, settings, rate=8000)] == [700]


def test_several_streams_are_not_replayed_at_once(tmp_path: Path):
    """A configuration of two streams does not say which one a file is for."""
    one = config_for().streams[0]
    two = config.Config(streams=(one, config.Stream(name="t", nets=one.nets)))
    with pytest.raises(ConfigError, match=r"2 streams \(s, t\)"):
        replay(tmp_path / "x.wav", two)


@given(seed=st.integers(0, 999), start=st.integers(100, 3000), frames=st.integers(1, 400))
def test_bad_samples_are_a_gap(seed: int, start: int, frames: int):
    """A run of NaN or Inf samples is one gap event for any split, and nothing before it has a part in what comes after."""
    x = ramps([50, 3900], 4000)
    x[start : start + frames] = np.where(np.arange(frames) % 2, np.nan, np.inf)
    found = events(x, pieces(x[:, None], seed))
    gaps = [event for event in found if isinstance(event, Gap)]
    assert [(gap.start_sample, gap.frames) for gap in gaps] == [(start, frames)]
    assert [event.sample for event in found if isinstance(event, Detection)] == [50, 3900]
    assert found == events(x)


def test_bad_samples_at_the_end_are_a_gap_too():
    """A signal that ends in NaN reports them when it is finished."""
    x = ramps([50], 1000)
    x[900:] = np.nan
    assert [(e.start_sample, e.frames) for e in events(x) if isinstance(e, Gap)] == [(900, 100)]


def test_a_gain_beyond_float32_is_refused():
    """A gain that float32 samples would not survive is refused, not turned into infinities."""
    with pytest.raises(ConfigError, match="gain"):
        Pipeline("s", "x", RATE, 1, [LECTURE], gain=1e39)


@pytest.mark.parametrize("name", ["x.wav", "x.aiff", "x.w64", "x.rf64"])
def test_cut_files_of_every_kind_are_reported(tmp_path: Path, name: str):
    """Half a file is reported, whatever kind says how long it was to be."""
    format_name = {"x.rf64": "RF64"}.get(name)
    path = tmp_path / name
    soundfile.write(path, ramps([700], 20_000), RATE, subtype="FLOAT", format=format_name)
    path.write_bytes(path.read_bytes()[:40_000])
    found = replay(path, config_for())
    assert next(found).sample == 700
    with pytest.raises(AudioFileError, match="cut off"):
        list(found)


@pytest.mark.parametrize("codec", ["VORBIS", "OPUS"])
def test_a_cut_ogg_file_is_reported(tmp_path: Path, codec: str):
    """An Ogg file without its last page is reported, by us or when it is opened; a whole one is not."""
    path = tmp_path / "x.ogg"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.2, 100_000), RATE, format="OGG", subtype=codec)
    assert isinstance(list(replay(path, config_for())), list)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(AudioFileError, match="cut off: .* its last page is missing|file is malformed"):
        list(replay(path, config_for()))


@pytest.mark.parametrize(
    ("name", "subtype"), [("x.ogg", "VORBIS"), ("x.mp3", "MPEG_LAYER_III"), ("x.wav", "GSM610"), ("x.flac", "PCM_16")]
)
def test_frames_are_the_same_wherever_reading_begins(tmp_path: Path, name: str, subtype: str):
    """However a file is read, in blocks of any size or from any frame on, its samples are the same bits."""
    path = write(tmp_path / name, np.random.default_rng(1).normal(0, 0.2, 60_000).astype(np.float32), subtype=subtype)
    with AudioFile(path) as file:
        whole = np.concatenate(list(file.blocks(1 << 16)))
        for start, frames in [(40_000, 500), (1000, 7), (1007, 3000), (30_000, 1), (0, 20_000)]:
            parts, at = [], start
            while at < start + frames:
                parts.append(file.read(at, start + frames - at))
                at += len(parts[-1])
            np.testing.assert_array_equal(np.concatenate(parts), whole[start : start + frames])
    with AudioFile(path) as file:
        np.testing.assert_array_equal(np.concatenate(list(file.blocks(1152))), whole)


def test_strided_nets_keep_their_grid_after_a_gap():
    """After a gap a net of hop 4 starts at the next multiple of 4, so that its frames stand where they stood before."""
    kernel = np.zeros((4, 1, 1))
    kernel[-1] = 1
    graph = Graph.sequential([Conv1D(kernel=kernel, stride=4)], info=NetInfo(threshold=0.5))
    x = np.zeros((4000, 1), np.float32)
    x[[400, 2000]] = 1
    pipeline = Pipeline("s", "x", RATE, 1, [Listener("n", graph, Peak())])
    found = pipeline.process(x[:1001]) + pipeline.skip(10, "test") + pipeline.process(x[1011:]) + pipeline.finish()
    assert [event.sample for event in found if isinstance(event, Detection)] == [400, 2000]


def test_a_net_that_looks_ahead_says_when_it_knew():
    """A 'same' padded net's event stands where it happened, and is decided as much later as the net looks ahead."""
    kernel = np.zeros((9, 1, 1))
    kernel[4] = 1
    graph = Graph.sequential([Conv1D(kernel=kernel, padding="same")], info=NetInfo(threshold=0.5))
    x = np.zeros((100, 1), np.float32)
    x[50] = 1
    (event,) = Pipeline("s", "x", RATE, 1, [Listener("n", graph, Peak())]).process(x)
    assert (event.sample, event.end_sample, event.decided_sample) == (50, 51, 55)


def test_a_recurrent_net_is_masked_until_it_has_warmed_up():
    """Scores of a recurrent net are not believed before as many samples as its file says."""
    layer = SimpleRNN(kernel=np.ones((1, 1)), recurrent_kernel=np.zeros((1, 1)), activation="linear")
    x = np.zeros((1000, 1), np.float32)
    x[[100, 600]] = 1
    for warmup, expected in [(0, [100, 600]), (500, [600])]:
        graph = Graph.sequential([layer], info=NetInfo(threshold=0.5, warmup_frames=warmup))
        found = Pipeline("s", "x", RATE, 1, [Listener("n", graph, Peak())]).process(x)
        assert [event.sample for event in found] == expected


def test_upsampled_frames_are_decided_when_their_group_comes():
    """A net that gives frames in groups says for each event the very sample with which it became known."""
    kernel = np.zeros((4, 1, 1))
    kernel[-1] = 1
    layers = [Conv1D(kernel=kernel, stride=4, padding="valid"), Repeat(times=4)]
    graph = Graph.sequential(layers, info=NetInfo(threshold=0.5))
    x = np.zeros((400, 1), np.float32)
    x[103] = 1  # the last sample of a window, so four frames are known with it, and the next four with sample 107
    for blocks in ([x], np.split(x, 400)):
        pipeline = Pipeline("s", "x", RATE, 1, [Listener("n", graph, Peak())])
        (event,) = [event for block in blocks for event in pipeline.process(block)]
        assert (event.start_sample, event.decided_sample) == (103, 107)


@given(graph=graphs(), frame=st.integers(0, 500))
def test_a_frame_is_known_after_what_it_reads(graph: Graph, frame: int):
    """`known_after` is the input frame before which an output frame is not there, and with which it is."""
    known = max(-1, graph.known_after(frame))
    assert graph.counts(known + 1)[graph.output_name] > frame
    assert known < 0 or graph.counts(known)[graph.output_name] <= frame


def test_padding_behind_a_crop_is_masked_too():
    """A frame that sees a padding zero is masked, also where the frame that was cropped away stood in its place."""
    layers = [
        Cropping1D(left=1, right=0),
        Conv1D(
            kernel=np.array([[[-40.0]], [[0.0]], [[0.0]]]), bias=np.array([4.0]), padding="same", activation="sigmoid"
        ),
    ]
    graph = Graph.sequential(layers, info=NetInfo("n", RATE))
    assert (graph.padded_frames, graph.first) == (1, 1)
    half = np.full((100, 1), 0.5, np.float32)
    for mask_edges, count in ((True, 0), (False, 1)):
        pipeline = Pipeline("s", "x", RATE, 1, [Listener("n", graph, Peak(threshold=0.9))], mask_edges=mask_edges)
        found = pipeline.process(half) + pipeline.finish()
        assert sum(isinstance(event, Detection) for event in found) == count
