"""The digits recipe: its recordings, its made clips, its measure, and what the shipped tagger hears."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcnn.errors import InputError
from streamcnn.graph import store
from streamcnn.training import clips, digits, spoken, tagger
from tests.conftest import Cli
from tests.signals import write

RATE = spoken.RATE


def made_words(count: int) -> tuple[spoken.Word, ...]:
    """Return words that are tones of a fifth of a second, the digit being the pitch."""
    tones = [np.sin(np.arange(RATE // 5) * (0.2 + 0.2 * digit)) for digit in range(count)]
    return tuple(spoken.Word(digit, "nobody", (0.07 * tone).astype(np.float32)) for digit, tone in enumerate(tones))


def recordings(folder: Path, digit: object = 3, noise: str = "rain.wav") -> Path:
    """Write a smallest folder of recordings, and return it."""
    for name in ("fsdd/recordings", "noise"):
        (folder / name).mkdir(parents=True)
    lines = ["file,digit,speaker", f"a.wav,{digit},ann", f"b.wav,{digit},bob"]
    (folder / "fsdd" / "manifest.csv").write_text("\n".join(lines), encoding="utf-8")
    for name in ("a", "b"):
        write(folder / "fsdd" / "recordings" / f"{name}.wav", np.sin(np.arange(2000)) / 9, RATE)
    write(folder / "noise" / noise, np.random.default_rng(0).normal(0, 0.1, 6 * RATE), 2 * RATE)
    return folder


def test_recordings_are_read_and_levelled(tmp_path: Path):
    """Words come at one level with their digit and speaker; noises at the words' rate, cut into two thirds and one."""
    read = spoken.load_recordings(recordings(tmp_path))
    assert read.speakers == ["ann", "bob"]
    for word in read.words:
        assert word.digit == 3
        assert np.sqrt(np.mean(word.samples**2)) == pytest.approx(spoken.WORD_RMS, rel=1e-4)
    training, measuring = read.noises["rain"]
    assert (len(training), len(measuring)) == (2 * RATE, RATE)
    assert np.sqrt(np.mean(np.concatenate([training, measuring]) ** 2)) == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("fsdd", ["fsdd/manifest.csv", "https://github.com/Jakobovski/free-spoken-digit-dataset"]),
        ("noise", ["noise", "steady noises"]),
        ("fsdd/recordings/a.wav", ["recordings/a.wav"]),
    ],
)
def test_missing_recordings_are_named_with_where_they_come_from(
    tmp_path: Path, missing: str, words: list[str], cli: Cli
):
    """A folder without one of the sets is refused in one line: which set, and where it is to be had."""
    gone = recordings(tmp_path / "data") / missing
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    done = cli("train", "digits", "--data", tmp_path / "data", "-o", tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert [word for word in words if word not in done.stderr] == []
    assert not list(tmp_path.glob("digits*"))


def test_training_digits_without_a_folder_asks_for_one(tmp_path: Path, cli: Cli):
    """Without --data the recipe says which recordings it needs."""
    done = cli("train", "digits", "-o", tmp_path)
    assert done.returncode == 2
    assert [word for word in ("--data", "fsdd", "noise") if word not in done.stderr] == []


@pytest.mark.parametrize(
    ("change", "words"),
    [({"digit": "x"}, ["manifest.csv:2", "'x'"]), ({"noise": "sea.wav"}, ["rain"]), ({"digit": 12}, ["'12'"])],
)
def test_recordings_that_do_not_fit_are_refused(tmp_path: Path, change: dict, words: list[str]):
    """A digit that is none, and noises without the one that is measured in, are named."""
    with pytest.raises(InputError) as caught:
        spoken.load_recordings(recordings(tmp_path, **change))
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (b"file,digit,speaker\n\xff\xfe.wav,0,x\n", ["cannot be read as CSV"]),
        (b"file,digit,speaker\na.wav\n", ["manifest.csv:2", "no digit"]),
        (b"file,digit,speaker\na.wav,3,\n", ["manifest.csv:2", "no speaker"]),
        (b"file,digit,speaker\na.wav,3,ann\n", ["one speaker only"]),
        (b"file,digit,speaker\nempty.wav,3,ann\n", ["empty.wav", "holds no sound"]),
        (b"file,digit,speaker\nnan.wav,3,ann\n", ["nan.wav", "NaN"]),
        (b"name\nx\n", ["file, digit, speaker"]),
        (b"", ["file, digit, speaker"]),
    ],
)
def test_a_broken_manifest_is_named_with_its_line(tmp_path: Path, rows: bytes, words: list[str]):
    """A manifest that is no CSV, lacks something, or names what is no recording, is refused with line and reason."""
    folder = recordings(tmp_path)
    (folder / "fsdd" / "manifest.csv").write_bytes(rows)
    write(folder / "fsdd" / "recordings" / "empty.wav", np.zeros(0), RATE)
    write(folder / "fsdd" / "recordings" / "nan.wav", np.full(4000, np.nan), RATE)
    with pytest.raises(InputError) as caught:
        spoken.load_recordings(folder)
    assert [word for word in words if word not in str(caught.value)] == []


@given(seed=st.integers(0, 99), snr_db=st.sampled_from([0.0, 10.0, np.inf]))
def test_glued_words_stand_where_it_says(seed: int, snr_db: float):
    """Each word stands once in the stream, untouched, after its gap; the noise is as strong as asked."""
    words, random = made_words(5), np.random.default_rng(seed)
    noise = np.random.default_rng(1).normal(0, 1, 3 * RATE).astype(np.float32)
    signal, said = spoken.glued(words, noise, snr_db, (0.1, 0.3), random)
    clean, again = spoken.glued(words, noise, np.inf, (0.1, 0.3), np.random.default_rng(seed))
    assert again == said
    assert sorted(word.digit for word in said) == list(range(5))
    for word, before in zip(said, [0, *(word.end for word in said)], strict=False):
        np.testing.assert_array_equal(clean[word.start : word.end], words[word.digit].samples)
        assert 0.1 * RATE - 1 <= word.start - before <= 0.3 * RATE
    got = np.sqrt(np.mean((signal - clean) ** 2))
    assert got == pytest.approx(spoken.WORD_RMS * 10 ** (-snr_db / 20), rel=0.05)


def test_a_tag_matches_one_word_and_a_word_one_tag():
    """A tag counts if it has the word's digit and is not too late; a second one for the same word does not."""
    said = [spoken.Said(1000, 2000, 7), spoken.Said(5000, 6000, 7)]
    late = 2000 + int(spoken.MATCH_S * RATE)
    assert spoken.matched([(1500, 7)], said) == 1
    assert spoken.matched([(late, 7), (6000, 7)], said) == 2
    assert spoken.matched([(late + 1, 7)], said) == 0
    assert spoken.matched([(1500, 7), (1600, 7)], said) == 1
    assert spoken.matched([(1500, 6), (999, 7)], said) == 0
    assert digits.Score(hits=3, found=4, said=6).f1 == pytest.approx(2 * 0.75 * 0.5 / 1.25)


def test_clips_are_the_same_for_the_same_seed_and_ask_for_words_after_their_end():
    """Clips repeat for a seed; a digit is the target only while it is weighted fully, in runs as long as the hold."""
    beds = [np.random.default_rng(0).normal(0, 1, RATE).astype(np.float32)]
    one, two = (clips.Clips(made_words(10), beds, 4).batch(12) for _ in range(2))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
    samples, targets, weights = one
    assert samples.shape == (12, targets.shape[1] * clips.HOP, 1)
    assert samples.dtype == np.float32
    said = targets != spoken.NONE
    assert (weights[said] == 1).all()
    runs = np.diff(np.flatnonzero(np.diff(np.pad(said.astype(int), ((0, 0), (1, 1))).ravel())))[::2]
    hold = clips.HOLD_S * RATE / clips.HOP
    assert np.median(runs) == pytest.approx(hold, abs=1)
    assert runs.max() <= hold + 1


def test_the_front_end_is_a_logarithm_of_power_in_bands():
    """Ten times the amplitude is as much more in the tone's band, and the band is the one about the tone's frequency."""
    front = tagger.build_front_end()
    time = np.arange(4000) / RATE
    tone = np.sin(2 * np.pi * 1000 * time)[None, :, None]
    got = np.stack([np.asarray(front(tone * level))[0, -1] for level in (3e-4, 3e-3, 3e-2)])
    edges = 2595 * np.log10(1 + np.array([tagger.LOWEST_HZ, 1000, tagger.HIGHEST_HZ]) / 700)
    wanted = (edges[1] - edges[0]) / (edges[2] - edges[0]) * (tagger.BANDS + 1) - 1
    assert got.argmax(axis=1) == pytest.approx(wanted, abs=0.6)
    # Logistic functions a decade apart add up to one unit a decade of power.
    np.testing.assert_allclose(np.diff(got.max(axis=1)), 2, atol=0.1)


@given(seed=st.integers(0, 99))
def test_another_throat_moves_bands_by_little(seed: int):
    """A bump in the bands comes out no further away than shift and spread allow, unless it is blotted out."""
    bump = np.exp(-(((np.arange(tagger.BANDS) - 20) / 2) ** 2)).astype(np.float32)
    got = tagger.other_throats(np.tile(bump, (6, 3, 1)), np.random.default_rng(seed))
    assert got.dtype == np.float32
    for clip in got:
        np.testing.assert_array_equal(clip[0], clip[1])
        if clip.max() > 0.8:
            assert abs(int(clip[0].argmax()) - 20) <= 20 * tagger.BAND_SPREAD + tagger.BAND_SHIFT + 1


def test_the_shipped_tagger_hears_the_digits_of_its_training(data_folder: Path):
    """In rain at 10 dB the shipped net, which has heard these speakers, gives one tag for nearly every word."""
    read = spoken.load_recordings(data_folder)
    (rain,) = [measuring for name, (_, measuring) in read.noises.items() if "rain" in name]
    score = digits.measure(store.load("digits"), read.words[::10], rain, snr_db=10.0, seed=5)
    assert score.said == 250
    assert score.f1 > 0.9
