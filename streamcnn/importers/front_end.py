"""The front end's file: what stood before a model in the code that trained it, and shall stand before the net.

Rules. A front end is a YAML file: the sample rate, and steps named after the functions of librosa and tf.signal that they
compute, with those functions' own arguments and defaults. So the lines of the training code can be copied as they stand, and
whoever reads the file knows which of the many definitions of a mel spectrogram it means. Two steps have no such
function: `clip.standardize` and `clip.peak`, which bring a whole clip to scale.

A step that has to know the whole signal (a maximum to measure decibels against, a mean to subtract) needs a clip.
"""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np

from streamcnn import documents
from streamcnn.documents import Record
from streamcnn.errors import ConfigError
from streamcnn.graph.graph import MAX_RATE

Count = Annotated[int, msgspec.Meta(ge=1, le=2**16)]
Bands = Annotated[int, msgspec.Meta(ge=1, le=4096)]
Finite = Annotated[float, msgspec.Meta(ge=-1e30, le=1e30)]
Positive = Annotated[float, msgspec.Meta(ge=1e-30, le=1e30)]
NotNegative = Annotated[float, msgspec.Meta(ge=0, le=1e30)]
Power = Annotated[float, msgspec.Meta(gt=0, le=8)]


class Preemphasis(Record):
    """librosa.effects.preemphasis. `zi`: null for librosa's start, 0 for silence before it."""

    coef: Finite = 0.97
    zi: Literal[0] | None = None


class LibrosaStft(Record):
    """librosa.stft: numpy.abs of it, raised to `power`, or, with null, real and imaginary parts."""

    n_fft: Count = 2048
    hop_length: Count | None = None
    win_length: Count | None = None
    window: str = "hann"
    center: bool = True
    pad_mode: Literal["constant", "reflect"] = "constant"
    power: Power | None = 1.0


class LibrosaMel(Record):
    """librosa.feature.melspectrogram."""

    n_fft: Count = 2048
    hop_length: Count = 512
    win_length: Count | None = None
    window: str = "hann"
    center: bool = True
    pad_mode: Literal["constant", "reflect"] = "constant"
    power: Power = 2.0
    n_mels: Bands = 128
    fmin: float = 0.0
    fmax: float | None = None
    htk: bool = False
    norm: Literal["slaney"] | None = "slaney"


class PowerToDb(Record):
    """librosa.power_to_db. `ref`: a number, or `max` for the clip's maximum (numpy.max)."""

    ref: Positive | Literal["max"] = 1.0
    amin: Positive = 1e-10
    top_db: NotNegative | None = 80.0


class AmplitudeToDb(Record):
    """librosa.amplitude_to_db. `ref`: a number, or `max` for the clip's maximum (numpy.max)."""

    ref: Positive | Literal["max"] = 1.0
    amin: Positive = 1e-5
    top_db: NotNegative | None = 80.0


class LibrosaMfcc(Record):
    """librosa.feature.mfcc of the decibels that the step before gives (its argument `S`)."""

    n_mfcc: Bands = 20
    dct_type: Literal[1, 2, 3] = 2
    norm: Literal["ortho"] | None = "ortho"
    lifter: NotNegative = 0


class TfStft(Record):
    """tf.signal.stft: tf.abs of it, raised to `power`, or, with null, real and imaginary parts. `window` null is none."""

    frame_length: Count
    frame_step: Count
    fft_length: Count | None = None
    window: Literal["hann", "hamming"] | None = "hann"
    pad_end: bool = False
    power: Power | None = 1.0


class TfMel(Record):
    """The product with tf.signal.linear_to_mel_weight_matrix."""

    num_mel_bins: Bands = 20
    lower_edge_hertz: float = 125.0
    upper_edge_hertz: float = 3800.0


class TfLog(Record):
    """tf.math.log of x + `offset`."""

    offset: Positive = 1e-6


class TfMfcc(Record):
    """tf.signal.mfccs_from_log_mel_spectrograms, of it the first `coefficients`, by default all."""

    coefficients: Bands | None = None


class Standardize(Record):
    """(x - mean) / sqrt(variance + `epsilon`) over a clip: over all of it, or, with `over: time`, of each value of a frame."""

    over: Literal["clip", "time"] = "clip"
    epsilon: NotNegative = 1e-8


class Peak(Record):
    """x / max |x| over a clip, as librosa.util.normalize; one whose maximum is below `threshold` stays as it is."""

    threshold: NotNegative = float(np.finfo(np.float32).tiny)


class Step(Record, omit_defaults=True):
    """One step: exactly one of the functions, with its arguments."""

    preemphasis: Preemphasis | None = msgspec.field(name="librosa.effects.preemphasis", default=None)
    librosa_stft: LibrosaStft | None = msgspec.field(name="librosa.stft", default=None)
    librosa_mel: LibrosaMel | None = msgspec.field(name="librosa.feature.melspectrogram", default=None)
    power_to_db: PowerToDb | None = msgspec.field(name="librosa.power_to_db", default=None)
    amplitude_to_db: AmplitudeToDb | None = msgspec.field(name="librosa.amplitude_to_db", default=None)
    librosa_mfcc: LibrosaMfcc | None = msgspec.field(name="librosa.feature.mfcc", default=None)
    tf_stft: TfStft | None = msgspec.field(name="tf.signal.stft", default=None)
    tf_mel: TfMel | None = msgspec.field(name="tf.signal.linear_to_mel_weight_matrix", default=None)
    tf_log: TfLog | None = msgspec.field(name="tf.math.log", default=None)
    tf_mfcc: TfMfcc | None = msgspec.field(name="tf.signal.mfccs_from_log_mel_spectrograms", default=None)
    standardize: Standardize | None = msgspec.field(name="clip.standardize", default=None)
    peak: Peak | None = msgspec.field(name="clip.peak", default=None)

    def __post_init__(self):
        """Refuse a step that is none, or several."""
        if len(self._given) != 1:
            given = " and ".join(name for name, _ in self._given) or "none"
            raise ValueError(f"Expected one function with its arguments (`- {next(iter(NAMES))}: {{}}`), got {given}")

    @property
    def _given(self) -> list[tuple[str, Record]]:
        return [(name, value) for name, field in NAMES.items() if (value := getattr(self, field)) is not None]

    @property
    def function(self) -> tuple[str, Record]:
        """The function's name, and its arguments."""
        return self._given[0]


NAMES = {field.encode_name: field.name for field in msgspec.structs.fields(Step)}


class FrontEnd(Record):
    """A whole front end: the rate that it was made for, Hz, and its steps in order."""

    rate: Annotated[int, msgspec.Meta(ge=1, le=MAX_RATE)]
    steps: Annotated[tuple[Step, ...], msgspec.Meta(min_length=1)]


def load_front_end(path: str | Path) -> FrontEnd:
    """Read a front end's file; raises ConfigError, with file, line and path, for whatever is not valid."""
    path = Path(path)
    return documents.parse(documents.read(path), path, FrontEnd, "a front end has a rate and steps")


def check_rate(front: FrontEnd, rate: int | None, path: Path) -> int:
    """Return the rate of a net behind a front end; raises ConfigError where both say another one."""
    if rate is not None and rate != front.rate:
        raise ConfigError(
            f"{path}: the front end is for {front.rate} Hz, the net is said to be for {rate} Hz",
            "its bands would lie at other frequencies: use the front end that the net was trained with",
        )
    return front.rate
