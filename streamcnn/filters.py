"""Nets that nobody trained: matched filters made of templates, FIR filters from files, moving averages.

A matched filter's score is the correlation of the signal with a template of unit energy, at the template's own scale in time:
score[n] = sum of h[k] * x[n - N + 1 + k]. With `normalized` it is divided by the root of the signal's energy in those N
frames, so that it lies in [-1, 1] however loud the signal is. An event stands at the template's first sample; the shorter
ones of a bank wait for the longest, so that all of them say the same sample for what begins there.

False alarms. In white Gaussian noise of standard deviation s a score is Gaussian with that s, the template's energy being
1. A normalized score r of N values (all channels together) has the density (1 - r**2)**((N - 3) / 2) / B(1/2, (N - 1) / 2):
it is a coordinate of a random direction. So r * sqrt((N - 1) / (1 - r**2)) is Student's t with N - 1 degrees of freedom. Where
only an r of nearly 1 is that rare (of N = 2: 1 - 5e-12 for 1e-6), float32 does not tell it from the others, and nothing can be
promised.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np

from streamcnn.config import Net, as_name
from streamcnn.engine import Engine
from streamcnn.errors import ConfigError, StreamcnnError
from streamcnn.graph.graph import INPUT, Graph, NetInfo, Node
from streamcnn.graph.layers import Activation, Conv1D, InverseNorm, Merge
from streamcnn.graph.resample import resampler
from streamcnn.sources.wav import AudioFile

MOST_TAPS = 1 << 20
GUARD = 2048  # frames that a long kernel's transforms see beside a window
HIGHEST = 1 - 2.0**-20  # of normalized scores; those above are told apart with errors of more than a tenth
FAR = 60.0  # times its width behind a threshold there is nothing of the density
QUADRATURE = 200  # nodes
ALIKE = 0.5  # of the score of a template itself: up to the last lag with more of it, lobes are of one peak
SPECK = 0.01  # of a template's energy: less of it than that is not looked at
_FORMATS = (".npy", ".txt", ".csv")


@dataclass(frozen=True)
class Chance:
    """What noise does to the scores of a matched filter: `lengths`, the values that each template has.

    `noise_rms`: the standard deviation of the noise; None where scores are normalized.
    """

    lengths: tuple[int, ...]
    noise_rms: float | None

    def thresholds(self, probability: float) -> tuple[float, ...]:
        """Return, for each template, what a single score reaches with that probability in white Gaussian noise.

        Raises ConfigError where scores in float32 cannot promise it.
        """
        if self.noise_rms is not None:
            return (-self.noise_rms * NormalDist().inv_cdf(probability),) * len(self.lengths)
        return tuple(normalized_threshold(probability, length) for length in self.lengths)


def normalized_threshold(probability: float, length: int) -> float:
    """Return what the normalized correlation of `length` values of white Gaussian noise reaches with a probability.

    By bisection; the tail of the density is integrated over the angle, r = cos(a), where it is sin(a)**(length - 2). Raises
    ConfigError, with the least that can be promised, where that would be above HIGHEST.
    """
    if length < 2:
        raise ConfigError(
            "false_alarm: the normalized score of a template of one value is 1 or -1, whatever the signal",
            "give a longer template",
        )
    scale = math.lgamma(length / 2) - math.lgamma((length - 1) / 2) - math.lgamma(0.5)
    nodes, weights = np.polynomial.legendre.leggauss(QUADRATURE)

    def tail(threshold: float) -> float:
        top = math.acos(threshold)
        least = max(0.0, top - FAR / math.sqrt(length))
        angles = least + (nodes + 1) * (top - least) / 2
        density = np.exp(scale + (length - 2) * np.log(np.sin(angles)))
        return float((weights * density).sum() * (top - least) / 2)

    if tail(HIGHEST) > probability:
        raise ConfigError(
            f"false_alarm is {probability:g}, but scores of a template of {length} values, in float32, can promise no less "
            f"than {_rounded_up(tail(HIGHEST)):g}",
            "allow as many, or give a longer template",
        )
    low, high = 0.0, HIGHEST
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle) > probability else (low, middle)
    return (low + high) / 2


def _rounded_up(value: float) -> float:
    """Return a value with two digits, not less than it is."""
    digit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.ceil(value / digit) * digit


@dataclass(frozen=True)
class Filter:
    """A net made of files: its graph, what noise does to its scores, None where that is not known, how far apart (frames) lobes
    of one peak may be, and what a user should know about its making.
    """

    graph: Graph
    chance: Chance | None = None
    lobes: int = 0
    notes: tuple[str, ...] = ()


def rate_of(net: Net) -> int | None:
    """Return the rate of a net's files, None where they have none; raises AudioFileError."""
    rates = []
    for path in net.templates or ((net.fir,) if net.fir is not None and _is_sound(net.fir) else ()):
        with AudioFile(path, None) as file:
            rates.append(file.rate)
    return max(rates, default=None)


def made_of_files(net: Net, rate: int, channels: int) -> Filter:
    """Return a net that listens at a rate in Hz, for a stream of so many channels.

    Raises AudioFileError for files that are no sound, ConfigError for what is no filter or too long.
    """
    if net.templates:
        return _matched(net, rate, channels)
    if net.average is not None:
        taps = round(net.average * rate)
        if taps < 1:
            raise ConfigError(f"net '{net.name}': an average over {net.average:g} s is over no sample at {rate} Hz")
        _refuse_long(net.name, taps, None)
        return Filter(_fir(net.name, np.full((taps, 1), 1 / taps), rate, channels))
    taps, own = _sound(net.fir) if _is_sound(net.fir) else (_numbers(net.fir), rate)
    # Taps belong to a rate: between two of their samples a filter is not defined, and its gain would change.
    if own != rate:
        raise ConfigError(
            f"net '{net.name}': {net.fir} has taps for {own} Hz, the stream has {rate} Hz", "design it for that rate"
        )
    return Filter(_fir(net.name, taps[::-1], rate, channels))


def _matched(net: Net, rate: int, channels: int) -> Filter:
    templates, notes = [], []
    for path in net.templates:
        samples, own = _sound(path)
        if own != rate:
            samples = _resampled(samples, own, rate, path)
            notes.append(f"template {path} resampled from {own} to {rate} Hz")
        if samples.shape[1] == 1 and channels > 1:
            samples = np.repeat(samples, channels, axis=1)
        if samples.shape[1] != channels:
            raise ConfigError(
                f"net '{net.name}': template {path} has {samples.shape[1]} channels, the stream has {channels}",
                "give it one, or as many",
            )
        energy = float((samples**2).sum())
        if not np.isfinite(samples).all() or not energy > 0:
            raise ConfigError(
                f"net '{net.name}': template {path} is silent, or holds NaN", "cut out what is to be heard"
            )
        templates.append(samples / math.sqrt(energy))
        _refuse_long(net.name, len(samples), path)
    longest = max(map(len, templates))
    lengths = tuple(map(len, templates))
    kernel = np.stack([np.pad(h, ((0, longest - len(h)), (0, 0))) for h in templates], axis=2)
    score = Node("correlation", Conv1D(kernel=kernel), (INPUT,))
    nodes = [score]
    if net.normalized:
        lags = tuple(longest - length for length in lengths)
        nodes += [
            Node("norm", InverseNorm(lengths=lengths, lags=lags, guard=GUARD), (INPUT,)),
            Node("normalized", Merge(by="multiply"), ("correlation", "norm")),
            Node("score", Activation(activation="hard_tanh"), ("normalized",)),
        ]
    info = NetInfo(name=net.name, rate=rate, labels=_labels(net), target_lag=longest - 1)
    values = tuple(length * channels for length in lengths)
    chance = Chance(values, None if net.normalized else net.noise_rms)
    lobes = max(_lobes(template, normalized=net.normalized) for template in templates)
    known = chance if net.normalized or net.noise_rms is not None else None
    return Filter(Graph(tuple(nodes), (channels,), info=info), known, lobes, tuple(notes))


def _labels(net: Net) -> tuple[str, ...]:
    """Return the templates' names, as labels are written."""
    if len(net.templates) == 1:
        return (net.name,)
    names = [as_name(path.stem) for path in net.templates]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ConfigError(f"net '{net.name}': two templates would be called '{min(twice)}'", "rename a file")
    return tuple(names)


def _lobes(template: np.ndarray, *, normalized: bool) -> int:
    """Return the greatest lag at which a template of unit energy still is ALIKE itself, by what the filter says in silence."""
    frames = len(template)
    size = 1 << (2 * frames - 1).bit_length()
    spectrum = np.fft.rfft(template, size, axis=0)
    likeness = np.abs(np.fft.irfft((np.abs(spectrum) ** 2).sum(axis=1), size)[:frames])
    if normalized:
        energy = (template**2).sum(axis=1)
        seen = np.minimum(np.cumsum(energy)[::-1], np.cumsum(energy[::-1])[::-1])  # at each lag, of either end of it
        likeness = np.where(seen > SPECK, likeness / np.sqrt(np.maximum(seen, SPECK)), 0)
    return int(np.flatnonzero(likeness >= ALIKE)[-1])


def _fir(name: str, oldest_first: np.ndarray, rate: int, channels: int) -> Graph:
    """Return a filter for one channel of taps (taps, 1); a symmetric one stands at its middle."""
    if channels != 1 or oldest_first.shape[1] != 1:
        raise ConfigError(
            f"net '{name}': a filter takes one channel", "select one with 'channels', and one of the file's"
        )
    if not np.isfinite(oldest_first).all():
        raise ConfigError(f"net '{name}': its taps hold NaN or Inf")
    _refuse_long(name, len(oldest_first), None)
    symmetric = np.allclose(oldest_first, oldest_first[::-1], rtol=1e-6, atol=0)
    info = NetInfo(name=name, rate=rate, target_lag=(len(oldest_first) - 1) // 2 if symmetric else 0)
    return Graph.sequential([Conv1D(kernel=oldest_first[:, :, None])], 1, info)


def _refuse_long(name: str, taps: int, path: Path | None) -> None:
    if taps > MOST_TAPS:
        what = "it" if path is None else f"template {path}"
        raise ConfigError(f"net '{name}': {what} has {taps:,} samples, at most {MOST_TAPS:,} can be listened for", "cut it")


def _is_sound(path: Path) -> bool:
    return path.suffix not in _FORMATS


def _sound(path: Path) -> tuple[np.ndarray, int]:
    """Return a sound file's samples, float64 (frames, channels), and its rate."""
    with AudioFile(path, None) as file:
        if file.frames > 4 * MOST_TAPS:
            raise ConfigError(f"{path}: has {file.frames} samples, at most {MOST_TAPS} can be listened for", "cut it")
        return np.concatenate(list(file.blocks(MOST_TAPS))).astype(float), file.rate


def _numbers(path: Path) -> np.ndarray:
    """Return the numbers in a file, float64 (numbers, 1)."""
    try:
        values = (
            np.load(path, allow_pickle=False) if path.suffix == ".npy" else np.loadtxt(path, delimiter=",", ndmin=1)
        )
        values = np.asarray(values, float)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise ConfigError(f"{path}: holds no numbers: {error}", "one number a line, or an array of .npy") from error
    if values.ndim != 1 or not len(values):
        raise ConfigError(f"{path}: holds numbers of the shape {values.shape}, expected one row of taps")
    return values[:, None]


def _resampled(samples: np.ndarray, own: int, rate: int, path: Path) -> np.ndarray:
    """Return a template at another rate, resampled as streams are."""
    try:
        graph = resampler(own, rate, samples.shape[1])
    except StreamcnnError as error:
        raise ConfigError(f"{path}: {error.message}", error.remedy) from error
    engine = Engine(graph)
    return np.concatenate([engine.process(samples), engine.flush()]).astype(float)
