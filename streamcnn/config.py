"""The configuration: strict YAML into frozen records.

An unknown key, a wrong type or a value out of range is a ConfigError that names the file, the line, the path inside
the file and what was expected.
"""

import math
import re
from pathlib import Path
from typing import Annotated

import msgspec

from streamcnn import documents
from streamcnn.documents import Record
from streamcnn.errors import ConfigError

DEFAULT_ENDPOINT = "tcp://127.0.0.1:5556"

Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Probability = Annotated[float, msgspec.Meta(gt=0, le=1)]
MAX_RATE = 10_000_000  # Hz
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


def _refuse_infinite(name: str, value: float | None) -> None:
    if value is not None and not math.isfinite(value):
        raise ValueError(f"Expected a finite number for `{name}`, got `{value}`")


class Source(Record, kw_only=True):
    """Where a stream's frames come from.

    `device` is "demo", "-" (raw float32 on standard input), or a sound device's index or a part of its name. `rate` in Hz
    defaults to the highest of the nets' rates; nets of another rate get resampled frames. `channels` are counted from 1.
    `block` is the sound card's block in frames. `gain` multiplies the samples before any net sees them.
    """

    device: str | Annotated[int, msgspec.Meta(ge=0)] = "demo"
    rate: Annotated[int, msgspec.Meta(ge=1, le=MAX_RATE)] | None = None
    channels: Annotated[tuple[Annotated[int, msgspec.Meta(ge=1)], ...], msgspec.Meta(min_length=1)] = (1,)
    block: Annotated[int, msgspec.Meta(ge=1, le=65536)] = 256
    gain: Positive = 1.0

    def __post_init__(self):
        """Refuse what has no place in the type."""
        _refuse_infinite("gain", self.gain)


class Peak(Record, kw_only=True, tag_field="kind", tag="peak"):
    """Settings of the detector `peak`; what is None comes from the net's own metadata."""

    label: Name | None = None
    threshold: float | None = None
    refractory: Duration = Duration(0.010)

    def __post_init__(self):
        """Refuse what has no place in the type."""
        _refuse_infinite("threshold", self.threshold)


class Tag(Record, kw_only=True, tag_field="kind", tag="tag"):
    """Settings of the detector `tag`; what is None comes from the net's own metadata.

    `labels`: which of the net's labels to find, by default all. `on` and `off`: where a smoothed score begins and ends a tag,
    one number for all labels or one for each of them; `off` is by default half of `on`. `smooth`: the time constant of the
    exponential smoothing. `min_duration`: how long a tag must last to be confirmed.
    """

    labels: Annotated[tuple[Name, ...], msgspec.Meta(min_length=1)] | None = None
    on: Probability | dict[Name, Probability] | None = None
    off: Probability | dict[Name, Probability] | None = None
    smooth: Duration = Duration(0)
    min_duration: Duration = Duration(0)

    def __post_init__(self):
        """Refuse what has no place in the type."""
        twice = {label for label in self.labels or () if self.labels.count(label) > 1}
        if twice:
            raise ValueError(f"Expected each of `labels` once, got `{min(twice)}` twice")


DetectorSettings = Peak | Tag


def kind_of(settings: DetectorSettings) -> str:
    """Return the name of a detector's kind, as it stands in the configuration."""
    return settings.__struct_config__.tag


class Net(Record, kw_only=True):
    """A net on a stream: `net` is the path of its file, relative to the configuration file, or a shipped net's name.

    Without `detector` it is the one that the net's file asks for, or `peak`. A net with an `importance` is optional: where
    the machine cannot keep up, the least important one is switched off first. Without it, it is never switched off.
    """

    name: Name
    net: str
    detector: DetectorSettings | None = None
    importance: Annotated[int, msgspec.Meta(ge=0)] | None = None


class Stream(Record, kw_only=True):
    """One source and the nets that listen to it."""

    name: Name
    source: Source = Source()
    nets: Annotated[tuple[Net, ...], msgspec.Meta(min_length=1)]


class Publish(Record, kw_only=True):
    """Where events are published: a ZeroMQ endpoint, or `none`."""

    bind: Annotated[str, msgspec.Meta(pattern=r"^(none|(tcp|ipc|inproc)://.+)$")] = DEFAULT_ENDPOINT


class Config(Record, kw_only=True):
    """The whole configuration."""

    streams: Annotated[tuple[Stream, ...], msgspec.Meta(min_length=1)]
    publish: Publish = Publish()


def load(path: str | Path) -> Config:
    """Read a configuration file; the paths of nets in it are made relative to the file's own folder.

    Raises ConfigError, with file, line and path, for whatever is not valid.
    """
    path = Path(path)
    config = parse(documents.read(path), path)
    streams = tuple(
        msgspec.structs.replace(stream, nets=tuple(_with_path_from(net, path.parent) for net in stream.nets))
        for stream in config.streams
    )
    return msgspec.structs.replace(config, streams=streams)


def _with_path_from(net: Net, folder: Path) -> Net:
    is_file = net.net.endswith(".safetensors") or "/" in net.net
    return msgspec.structs.replace(net, net=str(folder / net.net)) if is_file else net


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
        raise ConfigError(f"{where}: not the settings of a detector: {error}") from error


def parse_publish(endpoint: str) -> Publish:
    """Check an endpoint that was given outside a file; raises ConfigError."""
    try:
        return msgspec.convert({"bind": endpoint}, Publish)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"cannot publish at '{endpoint}'",
            "an endpoint looks like tcp://127.0.0.1:5556; 'none' is for not publishing",
        ) from error


def _decode_hook(kind: type, value: object) -> object:
    if kind is Duration:
        return Duration.parse(value)
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
