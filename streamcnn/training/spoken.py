"""Spoken digits for training and for measuring: recordings of single words, glued into streams over noise.

Reads the Free Spoken Digit Dataset (`fsdd/manifest.csv` and `fsdd/recordings/`) and steady noises (`noise/*.flac`), both
under one folder. Of each noise the first two thirds are for training and the rest for measuring, so that no measured
stream holds noise that the net has heard.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from streamcnn.errors import AudioFileError, InputError
from streamcnn.sources.wav import AudioFile

RATE = 8000  # Hz, of the recordings
LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "none")
NONE = LABELS.index("none")
TRAINING_SHARE = 2 / 3  # of each noise
MATCH_S = 0.2  # a tag may stand so long after its word's end
COLUMNS = ("file", "digit", "speaker")
DIGITS = tuple("0123456789")
LEAST_WORD_S, LEAST_NOISE_S = 0.02, 3.0
WORD_RMS = 0.05  # every word is brought to this level before it is mixed
SOURCES = (
    "the Free Spoken Digit Dataset (https://github.com/Jakobovski/free-spoken-digit-dataset, CC BY-SA 4.0) as fsdd/, with "
    "a manifest.csv of the columns file, digit, speaker; and steady noises as noise/*.flac or *.wav, one of them rain"
)


@dataclass(frozen=True)
class Word:
    """A recorded digit: float32 samples (frames,) at RATE and at WORD_RMS, and who spoke it."""

    digit: int
    speaker: str
    samples: np.ndarray


@dataclass(frozen=True)
class Recordings:
    """What the recipe needs: words, and noises by name as (training part, measuring part) at RATE with RMS 1."""

    words: tuple[Word, ...]
    noises: dict[str, tuple[np.ndarray, np.ndarray]]

    @property
    def speakers(self) -> list[str]:
        """Who speaks, in alphabetical order."""
        return sorted({word.speaker for word in self.words})


def load_recordings(folder: Path | None) -> Recordings:
    """Read words and noises.

    Raises InputError naming what is missing and where it comes from, or what is wrong with the manifest, and AudioFileError
    for a broken or empty file.
    """
    if folder is None:
        raise InputError("the recipe 'digits' needs recordings", f"give --data DIR, a folder with {SOURCES}")
    manifest = folder / "fsdd" / "manifest.csv"
    beds = sorted([*(folder / "noise").glob("*.flac"), *(folder / "noise").glob("*.wav")])
    missing = [str(path) for path, there in ((manifest, manifest.is_file()), (folder / "noise", beds)) if not there]
    if missing:
        raise InputError(f"no recordings at {' and '.join(missing)}", f"--data names a folder with {SOURCES}")
    words = tuple(_word(manifest, number, row) for number, row in enumerate(_rows(manifest), 2))
    if len({word.speaker for word in words}) < 2:
        raise InputError(
            f"{manifest}: names one speaker only", "it takes two or more: each is left out in turn to measure"
        )
    noises = {path.stem: _split(_levelled(_read(path, LEAST_NOISE_S), 1.0)) for path in beds}
    if not any("rain" in name for name in noises):
        raise InputError(
            f"{folder / 'noise'}: no noise with 'rain' in its name", f"--data names a folder with {SOURCES}"
        )
    return Recordings(words, noises)


def _rows(manifest: Path) -> list[dict[str, str]]:
    try:
        with manifest.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{manifest}: cannot be read as CSV: {error}") from error
    if not rows or not set(COLUMNS) <= rows[0].keys():
        raise InputError(f"{manifest}: has no rows with the columns {', '.join(COLUMNS)}")
    return rows


def _word(manifest: Path, line: int, row: dict[str, str]) -> Word:
    for column in COLUMNS:
        if not row[column]:
            raise InputError(f"{manifest}:{line}: has no {column}")
    if row["digit"] not in DIGITS:
        raise InputError(f"{manifest}:{line}: digit is '{row['digit']}', expected 0 to 9")
    samples = _read(manifest.parent / "recordings" / row["file"], LEAST_WORD_S)
    return Word(int(row["digit"]), row["speaker"], _levelled(samples, WORD_RMS))


def _read(path: Path, least_s: float) -> np.ndarray:
    with AudioFile(path) as file:
        samples = np.concatenate([np.empty(0, np.float32), *(block[:, 0] for block in file.blocks(1 << 16))])
        rate = file.rate
    if len(samples) < least_s * rate:
        raise AudioFileError(f"{path}: lasts {len(samples) / rate:.3g} s, expected at least {least_s:g} s")
    if not np.isfinite(samples).all():
        raise AudioFileError(f"{path}: holds samples that are NaN or Inf")
    return samples if rate == RATE else soxr.resample(samples, rate, RATE)


def _levelled(samples: np.ndarray, rms: float) -> np.ndarray:
    own = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) or 1.0
    return (samples * (rms / own)).astype(np.float32)


def _split(noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    cut = int(len(noise) * TRAINING_SHARE)
    return noise[:cut], noise[cut:]


def stretch(bed: np.ndarray, frames: int, random: np.random.Generator) -> np.ndarray:
    """Return so many frames of a noise from a random place on, going round at its end."""
    start = int(random.integers(len(bed)))
    return np.take(bed, np.arange(start, start + frames), mode="wrap")


@dataclass(frozen=True)
class Said:
    """A word in a stream: from `start` to before `end`, in samples."""

    start: int
    end: int
    digit: int


def glued(
    words: tuple[Word, ...], noise: np.ndarray, snr_db: float, gaps_s: tuple[float, float], random: np.random.Generator
) -> tuple[np.ndarray, list[Said]]:
    """Return all words in random order with random gaps between them, in a noise, and where each of them stands.

    The signal is float32 (frames,), and a second longer than its last word. `snr_db`: of the words' RMS to that of `noise`,
    which has RMS 1; infinite for no noise.
    """
    parts, said, frames = [], [], 0
    for number in random.permutation(len(words)):
        word = words[number]
        gap = int(random.uniform(*gaps_s) * RATE)
        start = frames + gap
        frames = start + len(word.samples)
        parts += [np.zeros(gap, np.float32), word.samples]
        said.append(Said(start, frames, word.digit))
    signal = np.concatenate([*parts, np.zeros(RATE, np.float32)])
    level = WORD_RMS * 10 ** (-snr_db / 20)
    return signal + np.float32(level) * stretch(noise, len(signal), random), said


def matched(found: list[tuple[int, int]], said: list[Said]) -> int:
    """Return how many of the found (sample, digit) belong to a word, one to one.

    One belongs to a word of its digit if it stands between the word's start and MATCH_S after its end.
    """
    free, hits = list(said), 0
    for sample, digit in sorted(found):
        for word in free:
            if word.digit == digit and word.start <= sample <= word.end + MATCH_S * RATE:
                free.remove(word)
                hits += 1
                break
    return hits
