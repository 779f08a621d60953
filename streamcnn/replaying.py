"""Files to events, through the same pipeline as the sound card."""

import shlex
from collections.abc import Iterator
from pathlib import Path

from streamcnn import config as configuration
from streamcnn.errors import ConfigError, RateError
from streamcnn.events import Event
from streamcnn.listener import Listener, load_listeners, needed_rate
from streamcnn.pipeline import Pipeline
from streamcnn.sources.wav import AudioFile

DEFAULT_BLOCK = 16384


def replay(
    path: str | Path,
    config: configuration.Config | str | Path,
    *,
    block: int = DEFAULT_BLOCK,
    rate: int | None = None,
    mask_edges: bool = True,
    session: str | None = None,
) -> Iterator[Event]:
    """Yield the events of one sound file.

    `config`: a configuration, or the path of one, with a single stream. `block` (frames) changes nothing but the speed.
    `rate`: the rate of nets that do not know theirs. Positions count from the file's start, and `time` is None.
    `session`: the session's name, the file's by default.

    Raises ConfigError, NetFileError, AudioFileError, and RateError where the file's rate is not the net's.
    """
    if not isinstance(config, configuration.Config):
        config = configuration.load(config)
    if len(config.streams) > 1:
        names = ", ".join(stream.name for stream in config.streams)
        raise ConfigError(
            f"the configuration has {len(config.streams)} streams ({names})",
            "replay one stream at a time: keep the one that the file is for",
        )
    stream = config.streams[0]
    nets = load_listeners(stream)
    path = Path(path)
    session = (session or path.name).encode(errors="backslashreplace").decode()  # names of files may be any bytes
    return _events(path, session, stream, nets, block, needed_rate(nets, rate or stream.source.rate), mask_edges)


def _events(
    path: Path,
    session: str,
    stream: configuration.Stream,
    nets: list[Listener],
    block: int,
    rate: int,
    mask_edges: bool,
) -> Iterator[Event]:
    with AudioFile(path, stream.source.channels) as file:
        if file.rate != rate:
            raise RateError(
                f"{file.path}: is sampled at {file.rate} Hz, the net needs {rate} Hz",
                f"resample it first: sox {shlex.quote(str(file.path))} -r {rate} resampled.wav",
            )
        pipeline = Pipeline(
            stream.name,
            session,
            file.rate,
            len(stream.source.channels),
            nets,
            gain=stream.source.gain,
            mask_edges=mask_edges,
        )
        for samples in file.blocks(block):
            yield from pipeline.process(samples)
        yield from pipeline.finish()
