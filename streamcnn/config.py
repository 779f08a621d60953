"""The configuration: strict YAML into frozen records.

An unknown key, a wrong type or a value out of range is a ConfigError that names the file, the line, the path inside
the file and what was expected.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from streamcnn import documents
from streamcnn.documents import Record
from streamcnn.endpoint import DEFAULT_ENDPOINT, NO_ENDPOINT
from streamcnn.endpoint import parse as parse_endpoint
from streamcnn.errors import ConfigError
from streamcnn.explaining import explain, form, shown

Name = Annotated[
    str, msgspec.Meta(pattern=form(r"^[A-Za-z0-9_-]{1,64}$", "name: letters, digits, '_' and '-', at most 64 of them"))
]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Probability = Annotated[float, msgspec.Meta(gt=0, le=1)]
FalseAlarm = Annotated[float, msgspec.Meta(gt=0, lt=0.5)]
Labels = Annotated[tuple[Name, ...], msgspec.Meta(min_length=1)]
MAX_RATE = 10_000_000  # Hz
MAX_CHANNELS = 1024
RawFormat = Literal["f32le", "f32be", "f64le", "f64be", "s16le", "s16be", "s24le", "s32le", "s32be", "u8"]
MAX_CLIP_S = 600.0
MOST_FLOAT = 3.4028234e38  # of float32
MAX_DURATION_S = 3650 * 86400.0

_UNIT_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Duration(float):
    """A time span in seconds, written with its unit: `10ms`, `2s`, `1.5h`."""

    @classmethod
    def parse(cls, text: object) -> "Duration":
        """Read a span; raises ValueError naming what was expected."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d)", text) if isinstance(text, str) else None
        if match is None:
            raise ValueError(f"Expected a time with its unit such as `10ms` or `2s`, got `{text}`")
        seconds = float(match[1]) * _UNIT_S[match[2]]
        if seconds > MAX_DURATION_S:
            raise ValueError(f"Expected at most ten years, got `{text}`")
        return cls(seconds)


def as_name(text: str) -> str:
    """Return a text as a name is written: with '_' for what may not be in one."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in text)[:64]


def path_of(text: object) -> Path:
    """Return the path that a configuration names: `~` is a home; variables are not replaced, and so refused.

    Raises ValueError for what is no path.
    """
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValueError(f"Expected the path of a file, got {shown(text)}")
    if "$" in text:
        raise ValueError(f"Expected a path without `$`, got `{text}`: variables are not replaced here, write it out")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(f"Expected a path, got `{text}`: nobody of that name has a home here") from error


def _refuse_infinite(name: str, value: float | dict[str, float] | None) -> None:
    for number in value.values() if isinstance(value, dict) else (value,):
        if number is not None and not abs(number) <= MOST_FLOAT:
            raise ValueError(f"Expected a finite number (float32) for `{name}`, got `{number}`")


def _refuse_both(one: str, value: object, other: str, other_value: object) -> None:
    if value is not None and other_value is not None:
        raise ValueError(f"Expected `{one}` or `{other}`, got both")


def _refuse_twice(labels: tuple[str, ...] | None) -> None:
    twice = {label for label in labels or () if labels.count(label) > 1}
    if twice:
        raise ValueError(f"Expected each of `labels` once, got `{min(twice)}` twice")


class Source(Record, kw_only=True):
    """Where a stream's frames come from.

    `device` is "demo", "-" (raw frames on standard input), or a sound device's index or a part of its name. `rate` in Hz
    defaults to the highest of the nets' rates; nets of another rate get resampled frames. `channels` are counted from 1.
    `block` is the sound card's block in frames. `gain` multiplies the samples before any net sees them. `format` and `width`
    are for standard input: what its samples are, by default float32 that is checked, and how many channels a frame has.
    """

    device: str | Annotated[int, msgspec.Meta(ge=0)] = "demo"
    rate: Annotated[int, msgspec.Meta(ge=1, le=MAX_RATE)] | None = None
    channels: Annotated[tuple[Annotated[int, msgspec.Meta(ge=1, le=MAX_CHANNELS)], ...], msgspec.Meta(min_length=1)] = (1,)
    block: Annotated[int, msgspec.Meta(ge=1, le=65536)] = 256
    gain: Positive = 1.0
    format: RawFormat | None = None
    width: Annotated[int, msgspec.Meta(ge=1, le=MAX_CHANNELS)] | None = None

    def __post_init__(self):
        """Refuse what has no place in the type."""
        _refuse_infinite("gain", self.gain)
        if self.device != "-" and (self.format is not None or self.width is not None):
            raise ValueError("`format` and `width` are for standard input, `device: \"-\"`")
        if self.width is not None and max(self.channels) > self.width:
            raise ValueError(f"Expected `channels` up to {self.width}, the `width` of a frame, got {max(self.channels)}")


class Settings(Record, kw_only=True):
    """Settings that all detectors have.

    `most_per_s`: how many of its events may begin in a second; of the others only their number is told.
    """

    most_per_s: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1000


class Peak(Settings, kw_only=True, tag_field="kind", tag="peak"):
    """Settings of the detector `peak`; what is None comes from the net's own metadata.

    `threshold`: one for all outputs, or one for each. `false_alarm` instead: the probability that a single score of a matched
    filter reaches it in white Gaussian noise. `refractory`: how close two peaks may be at most, by default 10 ms. `merge`:
    runs of scores that are closer are one, by default none. Of a matched filter both are by default at least as long as
    the lobes of its peak.
    """

    label: Name | None = None
    threshold: float | dict[Name, float] | None = None
    false_alarm: FalseAlarm | None = None
    refractory: Duration | None = None
    merge: Duration | None = None

    def __post_init__(self):
        """Refuse what has no place in the type."""
        _refuse_infinite("threshold", self.threshold)
        _refuse_both("threshold", self.threshold, "false_alarm", self.false_alarm)


class Trigger(Settings, kw_only=True, tag_field="kind", tag="trigger"):
    """Settings of the detector `trigger`; what is None comes from the net's own metadata.

    `labels`: which outputs to look at, by default all. `on` and `off`: where a score begins and ends an event; `off` is by
    default half of `on`, or `on` itself where that is not above 0. `false_alarm`: as for `peak`, in the place of `on`.
    `min_duration`: how long an event must last to be confirmed; `max_duration`: when it is ended, whatever the scores;
    `hold_off`: how long after its end nothing begins.
    """

    labels: Labels | None = None
    on: float | dict[Name, float] | None = None
    off: float | dict[Name, float] | None = None
    false_alarm: FalseAlarm | None = None
    min_duration: Duration = Duration(0)
    max_duration: Duration | None = None
    hold_off: Duration = Duration(0)

    def __post_init__(self):
        """Refuse what has no place in the type."""
        _refuse_twice(self.labels)
        _refuse_infinite("on", self.on)
        _refuse_infinite("off", self.off)
        _refuse_both("on", self.on, "false_alarm", self.false_alarm)
        if self.max_duration is not None and self.max_duration < max(self.min_duration, 1e-9):
            raise ValueError(
                f"Expected `max_duration` above 0 and not below `min_duration`, got {self.max_duration:g} s"
            )


class Votes(Record, kw_only=True):
    """How many of the last scores must agree."""

    needed: Annotated[int, msgspec.Meta(ge=1)]
    of: Annotated[int, msgspec.Meta(ge=1, le=62)]

    def __post_init__(self):
        """Refuse what has no place in the type."""
        if self.needed > self.of:
            raise ValueError(f"Expected at most `of` votes `needed`, got {self.needed} of {self.of}")


class Tag(Settings, kw_only=True, tag_field="kind", tag="tag"):
    """Settings of the detector `tag`; what is None comes from the net's own metadata.

    `labels`: which of the net's labels to find, by default all. `on` and `off`: where a smoothed score begins and ends a tag,
    one number for all labels or one for each of them; `off` is by default half of `on`. `smooth`: the time constant of the
    exponential smoothing. `votes`: how many of the last scores must be above. `top`: only so many labels, the highest
    ones, count at a time. `outputs`: what the net's outputs are: probabilities, or logits of labels of which one applies
    (softmax) or each may (sigmoid). `min_duration`: how long a tag must last to be confirmed.
    """

    labels: Labels | None = None
    on: Probability | dict[Name, Probability] | None = None
    off: Probability | dict[Name, Probability] | None = None
    smooth: Duration = Duration(0)
    votes: Votes = Votes(needed=1, of=1)
    top: Annotated[int, msgspec.Meta(ge=1)] | None = None
    outputs: Literal["probabilities", "softmax", "sigmoid"] = "probabilities"
    min_duration: Duration = Duration(0)

    def __post_init__(self):
        """Refuse what has no place in the type."""
        _refuse_twice(self.labels)


class Measure(Settings, kw_only=True, tag_field="kind", tag="measure"):
    """Settings of the detector `measure`: for nets whose outputs are values, all of which are told together.

    `every`: how often, by default each second where there is no `change`. `change`: as soon as one differs by that from what
    was told last. `statistic`: the last value, or what of those since the last time.
    """

    every: Duration | None = None
    change: Positive | None = None
    statistic: Literal["last", "mean", "min", "max"] = "last"

    def __post_init__(self):
        """Refuse what has no place in the type."""
        _refuse_infinite("change", self.change)
        if self.every is not None and self.every <= 0:
            raise ValueError("Expected `every` above 0")


DetectorSettings = Peak | Trigger | Tag | Measure
PRESETS = {"ramp": Peak(label="ramp", threshold=0.6, refractory=Duration(0.010))}  # what a name alone stands for


def kind_of(settings: DetectorSettings) -> str:
    """Return the name of a detector's kind, as it stands in the configuration."""
    return settings.__struct_config__.tag


class Net(Record, kw_only=True):
    """What listens to a stream: one of

    - `net`: the path of a net's file, relative to the configuration file, or a shipped net's name;
    - `template`: sound files, to which the signal is correlated (a matched filter), a label each, named after the file; with
      `normalized`, by the energy of the signal, so that a score is in [-1, 1]; without, `noise_rms` (of samples in [-1, 1])
      is what `false_alarm` is reckoned from;
    - `fir`: a file with the taps of a filter, oldest last: text with one number a line, .npy, or a sound file;
    - `average`: a moving average over so long.

    Without `detector`, or the name of a preset, it is the one that the net's file asks for, or `peak`. A net with an
    `importance` is optional: where the machine cannot keep up, the least important one is switched off first. Without it,
    it is never switched off.
    """

    name: Name
    net: str | None = None
    template: str | tuple[str, ...] | None = None
    normalized: bool = False
    noise_rms: Positive | None = None
    fir: Path | None = None
    average: Duration | None = None
    detector: DetectorSettings | Literal["ramp"] | None = None
    importance: Annotated[int, msgspec.Meta(ge=0)] | None = None

    def __post_init__(self):
        """Refuse what has no place in the type."""
        given = [name for name in ("net", "template", "fir", "average") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"Expected one of `net`, `template`, `fir`, `average`, got {' and '.join(given) or 'none'}"
            )
        if self.net is not None:
            path_of(self.net)
        _ = self.templates
        if (self.normalized or self.noise_rms is not None) and self.template is None:
            raise ValueError("`normalized` and `noise_rms` are for a `template`")
        if self.template == ():
            raise ValueError("Expected the paths of sound files for `template`, got none")
        _refuse_infinite("noise_rms", self.noise_rms)

    @property
    def settings(self) -> DetectorSettings | None:
        """Its detector's settings, those of a preset too."""
        return PRESETS[self.detector] if isinstance(self.detector, str) else self.detector

    @property
    def templates(self) -> tuple[Path, ...]:
        """The files of its templates."""
        names = (self.template,) if isinstance(self.template, str) else self.template or ()
        return tuple(map(path_of, names))


class Clips(Record, kw_only=True):
    """Sound files of confirmed events: where, how much of what comes `before` and `after` them, and until when they are kept.

    `longest`: what a clip holds at most of an event that goes on and on. `detectors`: of which ones, by default of all.
    """

    folder: Path
    before: Duration = Duration(1.0)
    after: Duration = Duration(1.0)
    longest: Duration = Duration(30.0)
    keep: Duration = Duration(7 * 86400.0)
    most_mb: Positive = 1000.0
    detectors: Annotated[tuple[Name, ...], msgspec.Meta(min_length=1)] | None = None

    def __post_init__(self):
        """Refuse what has no place in the type."""
        _refuse_infinite("most_mb", self.most_mb)
        if not 0 < self.longest <= MAX_CLIP_S or max(self.before, self.after) > MAX_CLIP_S:
            raise ValueError(f"Expected `before`, `after` and `longest` of at most {MAX_CLIP_S:g} s, `longest` above 0")


class Stream(Record, kw_only=True):
    """One source and the nets that listen to it."""

    name: Name
    source: Source = Source()
    clips: Clips | None = None
    nets: Annotated[tuple[Net, ...], msgspec.Meta(min_length=1)]


class Curve(Record, kw_only=True):
    """Keys for an encrypted wire (`streamcnn keys`): the publisher's own, and a folder with the public keys of those who may
    connect; without it anybody who knows the publisher's public key may.
    """

    secret: Path
    clients: Path | None = None


class Publish(Record, kw_only=True):
    """Where events are published: a ZeroMQ endpoint, or `none`.

    `backfill`: where missed events can be asked for, by default one port, or one name, further; or `none`. `format`: of the
    payloads. `curve`: keys. Without them only this machine may be able to connect, unless it is said to be `insecure`.
    """

    bind: str = DEFAULT_ENDPOINT
    backfill: str | None = None
    format: Literal["json", "msgpack"] = "json"
    curve: Curve | None = None
    insecure: bool = False

    def __post_init__(self):
        """Refuse what has no place in the type."""
        for endpoint in (self.bind, self.backfill or NO_ENDPOINT):
            if endpoint != NO_ENDPOINT and not (parse_endpoint(endpoint).is_private or self.curve or self.insecure):
                raise ValueError(
                    f"Expected keys (`curve`) for `{endpoint}`, which others can reach, or `insecure: true`"
                )


class Journal(Record, kw_only=True):
    """Where events are kept, and until when: beyond that age, or size in MB, the oldest are removed.

    `path`: by default journal.db in the service's state directory, or in the user's.
    """

    path: Path | None = None
    keep: Duration = Duration(30 * 86400.0)
    most_mb: Positive = 1000.0

    def __post_init__(self):
        """Refuse what has no place in the type."""
        _refuse_infinite("most_mb", self.most_mb)

    @property
    def place(self) -> Path:
        """Its file."""
        return self.path or state_folder() / "journal.db"


class Config(Record, kw_only=True):
    """The whole configuration."""

    streams: Annotated[tuple[Stream, ...], msgspec.Meta(min_length=1)]
    publish: Publish = Publish()
    journal: Journal | None = None


def load(path: str | Path) -> Config:
    """Read a configuration file; the paths of nets in it are made relative to the file's own folder.

    Raises ConfigError, with file, line and path, for whatever is not valid.
    """
    path = Path(path)
    config = parse(documents.read(path), path)
    return _with_paths_from(config, path.parent)


def _with_paths_from(record: Record, folder: Path) -> Record:
    """Return a record, and all records in it, with paths that begin at a folder; a net's, where it is the name of none."""
    changes = {}
    for name in record.__struct_fields__:
        value = getattr(record, name)
        if isinstance(value, Record):
            changes[name] = _with_paths_from(value, folder)
        elif isinstance(value, tuple):
            changes[name] = tuple(_with_paths_from(v, folder) if isinstance(v, Record) else v for v in value)
        elif isinstance(value, Path):
            changes[name] = folder / value
    if isinstance(record, Net):
        if record.net is not None and (record.net.endswith(".safetensors") or "/" in record.net):
            changes["net"] = str(folder / path_of(record.net))
        if record.template is not None:
            changes["template"] = tuple(str(folder / path) for path in record.templates)
    return msgspec.structs.replace(record, **changes)


def parse(text: str, path: Path) -> Config:
    """Check the text of a configuration; `path` is for messages only.

    Raises ConfigError, with file, line and path, for whatever is not valid.
    """
    config = documents.parse(text, path, Config, "a configuration has at least the key 'streams'", _decode_hook)
    _refuse_duplicate_names(config, path)
    return config


def parse_detector(settings: object, where: str) -> DetectorSettings:
    """Check a detector's settings that stand outside a configuration; raises ConfigError naming `where`."""
    try:
        return msgspec.convert(settings, DetectorSettings, dec_hook=_decode_hook)
    except msgspec.ValidationError as error:
        place, problem, remedy = explain(error, DetectorSettings, settings)
        place = f"{place}: " if place else ""
        raise ConfigError(f"{where}: not the settings of a detector: {place}{problem}", remedy) from error


def changed_source(source: Source, changes: dict[str, object]) -> Source:
    """Return a source with other values, of command line options; raises ConfigError for what may not be."""
    values = msgspec.to_builtins(source) | changes
    try:
        return msgspec.convert(values, Source)
    except msgspec.ValidationError as error:
        place, problem, remedy = explain(error, Source, values)
        raise ConfigError(f"{f'--{place}: ' if place else ''}{problem}", remedy) from error


def parse_publish(endpoint: str) -> Publish:
    """Check an endpoint that was given outside a file; raises ConfigError."""
    try:
        private = endpoint == NO_ENDPOINT or parse_endpoint(endpoint).is_private
    except ValueError as error:
        raise ConfigError(f"cannot publish there: {error}", "'none' is for not publishing") from error
    if not private:
        raise ConfigError(
            f"cannot publish at '{endpoint}' without keys",
            "others can reach it: give keys, or insecure: true, in a configuration's 'publish'",
        )
    return Publish(bind=endpoint)


def state_folder() -> Path:
    """Return where a daemon keeps what shall outlast it: systemd's StateDirectory, or the user's own."""
    given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "streamcnn"


def _decode_hook(kind: type, value: object) -> object:
    if kind is Duration:
        return Duration.parse(value)
    if kind is Path:
        return path_of(value)
    raise NotImplementedError(kind)


def _refuse_duplicate_names(config: Config, path: Path) -> None:
    if sum(stream.source.device == "-" for stream in config.streams) > 1:
        raise ConfigError(f"{path}: at streams: two read standard input", "give it to one of them")
    for where, names in [
        ("streams", [stream.name for stream in config.streams]),
        *((f"streams[{i}].nets", [net.name for net in stream.nets]) for i, stream in enumerate(config.streams)),
    ]:
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ConfigError(f"{path}: at {where}: two have the name '{sorted(twice)[0]}'", "give each its own name")
