"""Front ends: each step is the function of librosa or tf.signal that it is named after."""

from collections.abc import Callable
from pathlib import Path

import keras
import librosa
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from streamcnn.engine import Engine
from streamcnn.errors import ConfigError, GraphError, StreamcnnError
from streamcnn.graph import store
from streamcnn.graph.clip import Clip
from streamcnn.graph.graph import Graph, NetInfo
from streamcnn.importers.front_end import check_rate, load_front_end
from streamcnn.importers.front_layers import put_before, samples, sketched
from streamcnn.importers.keras import import_keras
from streamcnn.verification import check_signal, keras_oracle, random_signal
from tests.conftest import inside
from tests.contract import check_streaming_contract, streamed
from tests.graphs import pieces
from tests.test_layers import chain, randomized

K = keras.layers
RATE = 8000


def front_end(folder: Path, steps: str, rate: int = RATE) -> object:
    """Return the front end of a file with these steps, each on a line of its own."""
    path = folder / "front.yaml"
    path.write_text(f"rate: {rate}\nsteps:\n" + "".join(f"  - {line.strip()}\n" for line in steps.strip().splitlines()))
    return load_front_end(path)


def graph_of(folder: Path, steps: str, clip: int | None = None) -> Graph:
    """Return the net that a front end is by itself."""
    sketch, place = sketched(front_end(folder, steps), clip)
    nodes = tuple(sketch.nodes.values())
    assert nodes[-1].name == place.node
    return Graph(nodes, info=NetInfo("front"), clip=None if clip is None else Clip(clip, clip))


def wave(frames: int = 3000, seed: int = 0) -> np.ndarray:
    """Return a signal with tones, noise and a silence in it, float32."""
    t = np.arange(frames) / RATE
    x = 0.4 * np.sin(2 * np.pi * 440 * t) + 0.1 * np.random.default_rng(seed).normal(size=frames)
    x[frames // 3 : frames // 3 + 300] *= 1e-3
    return x.astype(np.float32)


def mel_of(x: np.ndarray, **options: object) -> np.ndarray:
    """Return librosa's mel spectrogram."""
    return librosa.feature.melspectrogram(y=x, sr=RATE, **options)


def tf_mel(x: np.ndarray) -> tf.Tensor:
    """Return TensorFlow's mel spectrogram of magnitudes."""
    magnitudes = tf.abs(tf.signal.stft(x, 200, 80))
    return magnitudes @ tf.signal.linear_to_mel_weight_matrix(20, magnitudes.shape[-1], RATE, 125.0, 3800.0)


SMALL = {"n_fft": 256, "hop_length": 80, "n_mels": 20}
MEL = "librosa.feature.melspectrogram: {n_fft: 256, hop_length: 80, n_mels: 20}\n"
TF_MEL = "tf.signal.stft: {frame_length: 200, frame_step: 80}\ntf.signal.linear_to_mel_weight_matrix: {}\n"
# Of each case: the steps, and the same by the library, as (frames, values) of a whole signal.
STREAMED: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "preemphasis": ("librosa.effects.preemphasis: {}", lambda x: librosa.effects.preemphasis(x)[:, None]),
    "preemphasis after silence": (
        "librosa.effects.preemphasis: {coef: 0.9, zi: 0}",
        lambda x: librosa.effects.preemphasis(x, coef=0.9, zi=[0])[:, None],
    ),
    "librosa stft": ("librosa.stft: {n_fft: 256}", lambda x: np.abs(librosa.stft(x, n_fft=256)).T),
    "librosa stft, all options": (
        "librosa.stft: {n_fft: 250, hop_length: 33, win_length: 175, window: hamming, pad_mode: reflect, power: 2}",
        lambda x: (
            np.abs(librosa.stft(x, n_fft=250, hop_length=33, win_length=175, window="hamming", pad_mode="reflect")).T
            ** 2
        ),
    ),
    "librosa stft, not centered": (
        "librosa.stft: {n_fft: 256, window: blackman, center: false, power: 1.5}",
        lambda x: np.abs(librosa.stft(x, n_fft=256, window="blackman", center=False)).T ** 1.5,
    ),
    "librosa stft, complex": (
        "librosa.stft: {n_fft: 64, power: null}",
        lambda x: np.stack([(s := librosa.stft(x, n_fft=64).T).real, s.imag], axis=2).reshape(len(s), -1),
    ),
    "librosa mel": (MEL, lambda x: mel_of(x, **SMALL).T),
    "librosa mel, odd": (
        "librosa.feature.melspectrogram: {n_fft: 255, hop_length: 80, n_mels: 10}",
        lambda x: mel_of(x, n_fft=255, hop_length=80, n_mels=10).T,
    ),
    "amplitudes of a waveform": (
        "librosa.amplitude_to_db: {top_db: null}",
        lambda x: librosa.amplitude_to_db(x, top_db=None)[:, None],
    ),
    "librosa mel, htk": (
        "librosa.feature.melspectrogram: {n_fft: 256, n_mels: 20, fmin: 50, fmax: 3000.5, htk: true, norm: null, power: 1}",
        lambda x: mel_of(x, n_fft=256, n_mels=20, fmin=50, fmax=3000.5, htk=True, norm=None, power=1).T,
    ),
    "power_to_db": (
        MEL + "librosa.power_to_db: {ref: 0.5, amin: 1e-6, top_db: null}",
        lambda x: librosa.power_to_db(mel_of(x, **SMALL), ref=0.5, amin=1e-6, top_db=None).T,
    ),
    "amplitude_to_db": (
        "librosa.stft: {n_fft: 64}\nlibrosa.amplitude_to_db: {ref: 2, top_db: null}",
        lambda x: librosa.amplitude_to_db(np.abs(librosa.stft(x, n_fft=64)), ref=2, top_db=None).T,
    ),
    "mfcc": (
        MEL + "librosa.power_to_db: {top_db: null}\nlibrosa.feature.mfcc: {n_mfcc: 13, lifter: 22}",
        lambda x: librosa.feature.mfcc(S=librosa.power_to_db(mel_of(x, **SMALL), top_db=None), n_mfcc=13, lifter=22).T,
    ),
    "mfcc of type 3": (
        MEL + "librosa.power_to_db: {top_db: null}\nlibrosa.feature.mfcc: {n_mfcc: 8, dct_type: 3, norm: null}",
        lambda x: (
            librosa.feature.mfcc(
                S=librosa.power_to_db(mel_of(x, **SMALL), top_db=None), n_mfcc=8, dct_type=3, norm=None
            ).T
        ),
    ),
    "tf stft": (
        "tf.signal.stft: {frame_length: 200, frame_step: 80}",
        lambda x: tf.abs(tf.signal.stft(x, 200, 80)).numpy(),
    ),
    "tf stft, odd": (
        "tf.signal.stft: {frame_length: 201, frame_step: 77, fft_length: 300, window: hamming, pad_end: true, power: 2}",
        lambda x: tf.abs(tf.signal.stft(x, 201, 77, 300, tf.signal.hamming_window, pad_end=True)).numpy() ** 2,
    ),
    "tf stft without a window": (
        "tf.signal.stft: {frame_length: 90, frame_step: 30, window: null}",
        lambda x: tf.abs(tf.signal.stft(x, 90, 30, window_fn=None)).numpy(),
    ),
    "tf mel": (TF_MEL, lambda x: tf_mel(x).numpy()),
    "tf log mel": (TF_MEL + "tf.math.log: {offset: 1e-3}", lambda x: tf.math.log(tf_mel(x) + 1e-3).numpy()),
    "tf mfcc": (
        TF_MEL + "tf.math.log: {}\ntf.signal.mfccs_from_log_mel_spectrograms: {coefficients: 13}",
        lambda x: tf.signal.mfccs_from_log_mel_spectrograms(tf.math.log(tf_mel(x) + 1e-6))[:, :13].numpy(),
    ),
}


@pytest.mark.parametrize("name", STREAMED)
def test_a_step_streams_what_the_library_computes(name: str, tmp_path: Path):
    """A step gives, on a stream in any pieces, the numbers of the library's function on the whole signal."""
    steps, library = STREAMED[name]
    graph, x = graph_of(tmp_path, steps), wave()
    expected = library(x)
    got = streamed(Engine(graph), pieces(x[:, None], 3))
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    check_streaming_contract(graph, x[:, None])


# Of a clip: what needs to know all of it.
CLIPPED: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "decibels below the maximum": (
        MEL + "librosa.power_to_db: {ref: max}",
        lambda x: librosa.power_to_db(mel_of(x, **SMALL), ref=np.max).T,
    ),
    "clamped decibels": (
        MEL + "librosa.power_to_db: {top_db: 30}",
        lambda x: librosa.power_to_db(mel_of(x, **SMALL), top_db=30).T,
    ),
    "clamped amplitudes": (
        "librosa.stft: {n_fft: 64}\nlibrosa.amplitude_to_db: {ref: max, top_db: 25}",
        lambda x: librosa.amplitude_to_db(np.abs(librosa.stft(x, n_fft=64)), ref=np.max, top_db=25).T,
    ),
    "mfcc with librosa's own defaults": (
        MEL + "librosa.power_to_db: {}\nlibrosa.feature.mfcc: {}",
        lambda x: librosa.feature.mfcc(y=x, sr=RATE, **SMALL).T,
    ),
    "a waveform at its peak": (
        "clip.peak: {}\nlibrosa.stft: {n_fft: 64}",
        lambda x: np.abs(librosa.stft(librosa.util.normalize(x), n_fft=64)).T,
    ),
    "a waveform without mean": (
        "clip.standardize: {epsilon: 1e-12}\nlibrosa.stft: {n_fft: 64}",
        lambda x: np.abs(librosa.stft((x - x.mean()) / x.std(), n_fft=64)).T,
    ),
    "each band over time": (
        TF_MEL + "tf.math.log: {}\nclip.standardize: {over: time, epsilon: 1e-5}",
        lambda x: keras.ops.divide(
            (y := np.log(tf_mel(x).numpy() + 1e-6)) - y.mean(axis=0), np.sqrt(y.var(axis=0) + 1e-5)
        ),
    ),
}


@pytest.mark.parametrize("name", CLIPPED)
def test_a_step_of_a_clip_is_what_the_library_computes(name: str, tmp_path: Path):
    """A step that needs the whole signal gives the library's numbers for each clip by itself."""
    steps, library = CLIPPED[name]
    graph, x = graph_of(tmp_path, steps, clip=1600), wave(4800)
    got = streamed(Engine(graph), pieces(x[:, None], 3))
    for window, scores in enumerate(got):
        expected = np.asarray(library(x[1600 * window :][:1600]))
        assert graph.output_shape == expected.shape
        np.testing.assert_allclose(scores, expected.ravel(), rtol=0, atol=3e-5 * np.abs(expected).max())
    check_streaming_contract(graph, x[:, None])


def test_a_silent_clip_at_its_peak_stays_silent(tmp_path: Path):
    """Silence has no peak to divide by, and stays as it is."""
    graph = graph_of(tmp_path, "clip.peak: {}", clip=100)
    assert not Engine(graph).process(np.zeros(100)).any()


@given(
    steps=st.sampled_from(
        ["librosa.stft: {n_fft: 64, hop_length: 20}", "librosa.stft: {n_fft: 45, center: false, hop_length: 7}",
         "tf.signal.stft: {frame_length: 50, frame_step: 20}", "librosa.effects.preemphasis: {}"]
    ),
    frames=st.integers(1, 60),
)  # fmt: skip
def test_a_clip_has_as_few_samples_as_make_its_frames(
    tmp_path_factory: pytest.TempPathFactory, steps: str, frames: int
):
    """The clip that is taken for a model of so many frames makes just these, and one sample fewer does not."""
    folder = tmp_path_factory.mktemp("front")
    graph, count = graph_of(folder, steps), samples(front_end(folder, steps), frames)
    assert graph.output_frames(count) == frames
    assert count == 1 or graph.output_frames(count - 1) == frames - 1


def test_frames_that_overlap_the_end_come_of_whole_steps(tmp_path: Path):
    """With pad_end, a model of 100 frames every 160 samples takes a clip of 16,000, not of the 15,841 that would do."""
    assert (
        samples(front_end(tmp_path, "tf.signal.stft: {frame_length: 400, frame_step: 160, pad_end: true}"), 100)
        == 16000
    )


NETS: dict[str, tuple[str, Callable[[], keras.Model], dict[str, int]]] = {
    "a stream of frames": (
        MEL + "librosa.power_to_db: {top_db: null}",
        lambda: chain(K.Conv1D(6, 3, padding="causal"), K.GRU(4, return_sequences=True), shape=(None, 20)),
        {},
    ),
    "a stream of strided frames": (
        MEL + "librosa.power_to_db: {top_db: null}",
        lambda: chain(K.Conv1D(6, 3, strides=2, padding="same"), K.Conv1D(6, 4, strides=2, padding="same"), shape=(None, 20)),
        {},
    ),
    "a fixed number of frames": (
        TF_MEL + "tf.math.log: {}",
        lambda: chain(K.Conv1D(6, 3, strides=2, padding="same"), shape=(33, 20)),
        {},
    ),
    "a clip of planes": (
        MEL + "librosa.power_to_db: {ref: max}",
        lambda: chain(K.Conv2D(4, 3), K.MaxPooling2D(2), K.Flatten(), K.Dense(3), shape=(21, 20, 1)),
        {"time_axis": 1, "window_hop": 400},
    ),
    "a clip of given length": (
        MEL + "librosa.power_to_db: {}",
        lambda: chain(K.LSTM(5), K.Dense(3), shape=(None, 20)),
        {"clip_frames": 1600, "window_hop": 240},
    ),
    "a clip that the front end alone asks for": (
        "clip.standardize: {}\n" + TF_MEL,
        lambda: chain(K.Dense(3), shape=(15, 20)),
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_a_model_behind_a_front_end_streams(name: str, tmp_path: Path):
    """A model behind a front end answers samples as it answers the front end's frames of them, and keeps the contract."""
    steps, build, how = NETS[name]
    model = randomized(build())
    graph = import_keras(model, front_end=front_end(tmp_path, steps), **how)
    assert graph.info.rate == RATE
    fixed = None if graph.clip or model.input_shape[1] is None else 200 + 32 * 80
    verdict = check_signal(graph, keras_oracle(model, graph), random_signal(graph, fixed), "noise")
    assert verdict.passed, verdict
    check_streaming_contract(graph, random_signal(graph, fixed)[:4000])
    graph.save(tmp_path / "net.safetensors")
    assert store.load(tmp_path / "net.safetensors").info.front_nodes == graph.info.front_nodes > 0


def test_convert_takes_a_front_end_and_verifies_it(tmp_path: Path):
    """`convert --frontend --verify` writes a net of samples at the front end's rate; `verify` knows its front end again."""
    model, net = tmp_path / "m.keras", tmp_path / "net.safetensors"
    steps, build, _ = NETS["a clip of planes"]
    randomized(build()).save(model)
    front_end(tmp_path, steps)
    done = inside("convert", model, "-o", net, "--frontend", tmp_path / "front.yaml", "--time-axis", 1, "--verify")
    assert done.exit_code == 0, done.output
    assert "a window of 1600 samples" in done.output
    assert store.load(net).info.rate == RATE
    assert inside("verify", net, "--against", model).exit_code == 0
    assert "librosa.power_to_db" in inside("inspect", net, "--layers").output


WRONG: dict[str, tuple[str, str]] = {
    "an unknown function": ("librosa.cqt: {}", r"front.yaml:3: at steps\[0\]: .*librosa.cqt"),
    "two functions": ("{clip.peak: {}, tf.math.log: {}}", "got tf.math.log and clip.peak"),
    "no arguments": ("librosa.stft:", r"front.yaml:3: .*got none"),
    "a word": ("librosa.stft", "expected keys with values, got the text 'librosa.stft'"),
    "an unknown argument": ("librosa.stft: {n_ftt: 512}", r"front.yaml:3: at steps\[0\].librosa.stft: .*n_ftt"),
    "a wrong type": ("librosa.stft: {n_fft: long}", r"at steps\[0\].librosa.stft.n_fft: expected a whole number"),
    "another padding": ("librosa.stft: {pad_mode: edge}", "pad_mode: the text 'edge' is not .*reflect"),
    "a hop of nothing": ("librosa.stft: {hop_length: 0}", "expected a whole number of at least 1, got 0"),
    "a floor without end": ("librosa.power_to_db: {amin: .inf}", "expected a number of at most 1e.30, got inf"),
    "a reference without end": ("librosa.power_to_db: {ref: .inf}", "ref"),
    "no floor": ("librosa.power_to_db: {amin: 0}", "expected a number of at least 1e-30, got 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_front_end_is_refused_with_its_line(name: str, tmp_path: Path):
    """A front end's file that is not valid is an error that names the file, the line, the path and what was expected."""
    line, reason = WRONG[name]
    with pytest.raises(ConfigError, match=reason):
        front_end(tmp_path, line)


UNFIT: dict[str, tuple[str, int | None, str]] = {
    "an unknown window": ("librosa.stft: {window: hat}", None, r"steps\[0\] \(librosa.stft\): window 'hat'"),
    "a window too long": ("librosa.stft: {n_fft: 64, win_length: 65}", None, "win_length is 65, more than n_fft"),
    "a frame too long": (
        "tf.signal.stft: {frame_length: 65, frame_step: 8, fft_length: 64}", None, "less than frame_length",
    ),
    "bands above half the rate": (
        "librosa.feature.melspectrogram: {fmax: 5000}", None, "between 0 and 4000 Hz, half the rate",
    ),
    "TensorFlow's bands above half the rate": (
        "tf.signal.stft: {frame_length: 64, frame_step: 8}\ntf.signal.linear_to_mel_weight_matrix: {upper_edge_hertz: 4001}",
        None,
        r"steps\[1\] .*4001 Hz at 8000 Hz",
    ),
    "too many coefficients": (MEL + "librosa.feature.mfcc: {n_mfcc: 21}", None, "21 coefficients of 20 bands"),
    "a spectrum of a waveform": ("tf.signal.linear_to_mel_weight_matrix: {}", None, "needs a spectrum"),
    "coefficients of a waveform": ("librosa.feature.mfcc: {n_mfcc: 1, dct_type: 1}", None, "cosine transform of type 1"),
    "two transforms": ("librosa.stft: {n_fft: 64}\nlibrosa.stft: {n_fft: 64}", None, "needs a waveform"),
    "a maximum without a clip": (MEL + "librosa.power_to_db: {ref: max}", None, "the maximum of the whole signal"),
    "a clamp without a clip": (MEL + "librosa.power_to_db: {}", None, "80 dB below the maximum"),
    "a mean without a clip": ("clip.standardize: {}", None, "brings a whole clip to scale.*--clip-frames"),
    "a clip too short to mirror": ("librosa.stft: {n_fft: 64, pad_mode: reflect}", 32, "32 samples cannot be mirrored"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNFIT)
def test_a_front_end_that_cannot_be_is_refused_with_its_step(name: str, tmp_path: Path):
    """Steps that do not fit each other, the rate or a stream are refused by name, with what to do."""
    steps, clip, reason = UNFIT[name]
    with pytest.raises(StreamcnnError, match=reason) as caught:
        sketched(front_end(tmp_path, steps), clip)
    assert caught.value.remedy


def test_a_front_end_of_another_rate_is_refused(tmp_path: Path):
    """A front end for another rate than the net's is refused with both rates."""
    front = front_end(tmp_path, MEL)
    assert check_rate(front, None, Path("front.yaml")) == check_rate(front, RATE, Path("front.yaml")) == RATE
    with pytest.raises(
        ConfigError, match="front.yaml: the front end is for 8000 Hz, the net is said to be for 16000 Hz"
    ):
        check_rate(front, 16000, Path("front.yaml"))


def test_framing_that_cannot_be_names_its_step(tmp_path: Path):
    """Where the length of a clip is worked out of a wrong step, the error names the step too."""
    front = front_end(tmp_path, "librosa.stft: {n_fft: 64, win_length: 100}")
    with pytest.raises(GraphError, match=r"steps\[0\] \(librosa.stft\): win_length is 100"):
        import_keras(chain(K.Flatten(), K.Dense(2), shape=(21, 33)), front_end=front)


def test_frames_that_do_not_fit_the_model_are_refused(tmp_path: Path):
    """Another number of bands than the model reads, or a clip that makes another number of frames, names both."""
    front = front_end(tmp_path, MEL)
    with pytest.raises(GraphError, match=r"frames of the shape \(20,\), the model reads \(24,\)"):
        put_before(front, None, (), (24,))
    model = chain(K.Flatten(), K.Dense(2), shape=(21, 20))
    with pytest.raises(
        GraphError, match="2000 samples makes 26 frames, but the model takes 21; use --clip-frames 1600"
    ):
        import_keras(model, front_end=front, clip_frames=2000)
