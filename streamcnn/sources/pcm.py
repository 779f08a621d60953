"""Raw samples in bytes: the formats that they come in, and what bytes look like that are in none of the wanted ones.

Names of formats are ffmpeg's: f32le, s16le, ... Whole numbers become samples in [-1, 1), as they do in sound files.

Theory of recognition. float32 frames have no header, so all bytes are some. But a sample's exponent is what its loudness is: of
sound, or a sensor, the magnitudes lie within a few powers of ten. Whole numbers read as floats have as exponents what their
upper bits are, which for a sample near zero gives denormal numbers and, below zero, NaNs that no program writes. The same
goes for other byte orders, and for frames that are read from the middle of a sample. Digital silence looks the same in all.
"""

import re
from typing import NamedTuple

import numpy as np

# Of each format the bytes of a sample and NumPy's type, None where it has none.
FORMATS = {
    "f32le": (4, "<f4"), "f32be": (4, ">f4"), "f64le": (8, "<f8"), "f64be": (8, ">f8"), "s16le": (2, "<i2"),
    "s16be": (2, ">i2"), "s24le": (3, None), "s32le": (4, "<i4"), "s32be": (4, ">i4"), "u8": (1, "u1"),
}  # fmt: skip
DEFAULT = "f32le"
LEAST, MOST = 1e-15, 1e10  # magnitudes between which sounds and sensors are
LARGE, COUNTS = 100.0, 4.0  # magnitudes beyond which it is no sound in [-1, 1], whole numbers sooner
STRANGE_SHARE = 0.1
FEWEST = 32  # values that are not zero, before anything is said of them
AROUND = 48  # the middle of a byte, on average
CLEAR = 0.5  # bits, by which the bytes of a number differ in variety
# How much closer neighbours in a frame are than neighbours in time, where a frame has two channels: of so many pairs at least.
PAIRED = ((256, 20.0), (2000, 4.0))
_NAMES = {"s16le": "signed 16-bit numbers", "s16be": "signed 16-bit numbers, big-endian", "s24le": "signed 24-bit numbers",
          "s32le": "signed 32-bit numbers", "s32be": "signed 32-bit numbers, big-endian", "u8": "unsigned bytes"}  # fmt: skip
HEAD = 16  # bytes that tell a sound file
_HEADS = (
    (rb"RIFF....WAVE", "a WAV file"), (rb"RF64....WAVE", "a WAV file (RF64)"), (rb"riff\x2e\x91\xcf\x11", "a W64 file"),
    (rb"fLaC", "a FLAC file"), (rb"OggS", "an OGG file"), (rb"FORM....AIF[FC]", "an AIFF file"),
    (rb"caff\x00\x01", "a CAF file"),
    (rb"ID3[\x02-\x04]", "an MP3 file"), (rb"\xff[\xfb\xf3\xf2][\x10-\xef]", "an MP3 file"), (rb"\.snd\x00", "an AU file"),
    (rb"....ftyp", "an MP4 file"), (rb"\x1aE\xdf\xa3", "a Matroska file"), (rb"\x93NUMPY", "a NumPy file"),
    (rb"\x1f\x8b\x08", "a gzip file"), (rb"PK\x03\x04", "a zip file"),
)  # fmt: skip


class Finding(NamedTuple):
    """What bytes are: for people, and the format that they fit, None for none of ours; or float32, on a scale of its own."""

    what: str
    format: str | None
    is_scaled: bool = False


def decode(data: bytes, name: str) -> np.ndarray:
    """Return whole samples of a format as float32 values (n,)."""
    size, kind = FORMATS[name]
    if kind is None:  # s24le
        parts = np.frombuffer(data, np.uint8).reshape(-1, size).astype(np.int32)
        whole = (parts[:, 0] << 8) | (parts[:, 1] << 16) | (parts[:, 2] << 24)
        return (whole / np.float64(2**31)).astype(np.float32)
    values = np.frombuffer(data, kind)
    if name == "u8":
        return ((values.astype(np.float32)) - 128) / 128
    if values.dtype.kind == "i":
        return (values / np.float64(2 ** (8 * size - 1))).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 is Inf, a gap
        return values.astype(np.float32)


def file_kind(head: bytes, *, is_stated: bool = False) -> str | None:
    """Return what kind of file begins with these bytes, at least HEAD; None for what may be samples.

    `is_stated`: somebody says that they are; then two bytes prove nothing.
    """
    kinds = [(pattern, kind) for pattern, kind in _HEADS if not is_stated or not pattern.startswith(rb"\xff")]
    return next((kind for pattern, kind in kinds if re.match(pattern, head, re.DOTALL)), None)


def what_else(data: bytes, *, begun: bool = False) -> Finding | None:
    """Return what bytes are that are no little-endian float32 values, None where they may be, or nothing can be said.

    `data`: a whole number of values. `begun`: those before them were such values; what is hardly more than zero may then be the
    end of a sound that fades away.
    """
    values = np.frombuffer(data, "<f4")
    bits = np.frombuffer(data, "<u4") & 0x7FFFFFFF
    telling = bits != 0
    count = np.count_nonzero(telling)
    if count < FEWEST:
        return None
    if not begun and _is_double(data, "<f8"):
        return Finding("64-bit floats", "f64le")
    with np.errstate(invalid="ignore", over="ignore"):
        size = np.abs(values, dtype=np.float64)
        silly = telling & ~_is_gap(bits) & ~((size >= (0 if begun else LEAST)) & (size <= MOST))
    if np.count_nonzero(silly) > STRANGE_SHARE * count:
        return _best_other(data)
    fine = size[telling & (size <= MOST)]
    are_counts = len(fine) > 0 and fine.max() > COUNTS and bool(np.all(fine == np.round(fine)))
    if not begun and (are_counts or np.count_nonzero(fine > LARGE) > STRANGE_SHARE * count):
        biggest = float(np.max(size, initial=0, where=size <= MOST))
        return Finding(f"values of up to {biggest:,.6g}", None, is_scaled=True)
    return None


def is_telling(data: bytes) -> bool:
    """Whether bytes hold enough values that are not zero for something to be said of them."""
    return np.count_nonzero(np.frombuffer(data, "<u4") & 0x7FFFFFFF) >= FEWEST


def looks_like_two_channels(values: np.ndarray) -> bool:
    """Whether values of one channel are those of two equal, or nearly equal ones in turn, float32 (n,)."""
    values = values[: len(values) // 2 * 2]
    pairs = np.count_nonzero(values) // 2
    if not np.isfinite(values).all() or not pairs:
        return False
    values = values.astype(np.float64)
    within, between = np.abs(values[1::2] - values[::2]), np.abs(values[2::2] - values[1:-1:2])
    if 2 * np.count_nonzero(between) < len(between):  # hardly more than a constant
        return False
    return any(pairs >= fewest and within.mean() * closer < between.mean() for fewest, closer in PAIRED)


def _is_gap(bits: np.ndarray) -> np.ndarray:
    """Whether the bits of values, without their signs, are NaN or Inf as programs write them."""
    return (bits == 0x7F800000) | (bits == 0x7FC00000)


def _is_double(data: bytes, kind: str) -> bool:
    """Whether bytes are 64-bit floats: all of their magnitudes are a sound's, and those of their lower halves are not."""
    whole = data[: len(data) // 8 * 8]
    with np.errstate(invalid="ignore"):
        size = np.abs(np.frombuffer(whole, kind))
    loud = size[size != 0]
    if len(loud) < FEWEST or np.count_nonzero((loud >= LEAST) & (loud <= MOST)) < 0.99 * len(loud):
        return False
    halves = np.frombuffer(whole, kind[0] + "u4").reshape(-1, 2)
    high = halves[:, 1 if kind[0] == "<" else 0][size != 0] & 0x7FFFFFFF
    if len(np.unique(high)) < FEWEST // 4:  # a few values in turn: they may be pairs of floats as well
        return False
    low = halves[:, 0 if kind[0] == "<" else 1][size != 0] & 0x7FFFFFFF
    with np.errstate(invalid="ignore"):
        low_size = np.abs(low.view(np.float32), dtype=np.float64)
    return bool(np.all(low == 0) or np.mean(~((low_size >= LEAST) & (low_size <= MOST))) > 2 * STRANGE_SHARE)


def _best_other(data: bytes) -> Finding:
    """Return which other format makes the smoothest sound of bytes."""
    if _is_double(data, ">f8"):
        return Finding("64-bit floats, big-endian", "f64be")
    swapped = np.frombuffer(data, ">f4")
    with np.errstate(invalid="ignore"):
        size = np.abs(swapped, dtype=np.float64)
    if np.mean((size == 0) | ((size >= LEAST) & (size <= LARGE))) > 0.99:
        return Finding("32-bit floats, big-endian", "f32be")
    name = _whole_numbers(np.frombuffer(data, np.uint8))
    return Finding("bytes of another kind" if name is None else f"{_NAMES[name]}, by their looks", name)


def _whole_numbers(parts: np.ndarray) -> str | None:
    """Return which format of whole numbers bytes are, None where that is not clear.

    The bytes of a sample differ in how much they vary: the lowest as noise does, the highest hardly, where sound is not loud.
    """
    twos, threes, fours = (_variety(parts, period) for period in (2, 3, 4))
    if max(threes[:2]) - threes[2] > CLEAR > abs(twos[0] - twos[1]):
        return "s24le"
    for order, (a, b, c, d) in (("le", fours), ("be", fours[::-1])):
        if c - d > CLEAR:
            return f"s16{order}" if a - b > CLEAR else f"s32{order}"
    alike = max(*twos, *threes, *fours) - min(*twos, *threes, *fours) < CLEAR
    return "u8" if alike and np.abs(parts - 128.0).mean() < AROUND else None


def _variety(parts: np.ndarray, period: int) -> list[float]:
    """Return the entropy (bits) of every `period`-th byte, from each place in the period; Miller's correction for few bytes."""
    entropies = []
    for place in range(period):
        counts = np.bincount(parts[place :: period])
        shares = counts[counts > 0] / counts.sum()
        entropies.append(float(-(shares * np.log2(shares)).sum() + (len(shares) - 1) / (2 * counts.sum() * np.log(2))))
    return entropies
