"""Files to events, through the same pipeline as the sound card: whole, or only where something may be decided.

A `BatchReplay` has a screen say where that is, and leaps over the rest; the events are those of the whole. Should a decision
have hung on what was leapt over (see `Detector.certain`), the file is replayed whole instead.
"""

import itertools
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from streamcnn import config as configuration
from streamcnn.batch.device import device
from streamcnn.batch.screen import Screen, Screened, smoothed
from streamcnn.errors import AudioFileError, ConfigError, RateError
from streamcnn.events import Event
from streamcnn.listener import load_listeners, needed_rate
from streamcnn.optional import keras_module
from streamcnn.pipeline import Pipeline
from streamcnn.sources.wav import AudioFile

DEFAULT_BLOCK = 16384
UNTIL_IDLE = 1024  # frames at a time, while an event goes on


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
    return _Stream(config, rate, mask_edges=mask_edges).whole(Path(path), session, block)


class BatchReplay:
    """Replays sound files of one configuration: the events of `replay`, at the speed of Keras, on a GPU where there is one.

    `backend`: tensorflow, jax or torch, by default the first that is installed. `say` is told, a line each, what a user
    should know; `progress`, how many more frames have been read. Further parameters as for `replay`.

    `frames` counts the frames replayed so far, `recomputed` those of them that the engine computed.

    Raises what `replay` raises, MissingPartError without Keras or a backend, and UnsupportedLayerError for a net that
    cannot be computed in chunks.
    """

    def __init__(
        self,
        config: configuration.Config | str | Path,
        *,
        backend: str | None = None,
        rate: int | None = None,
        mask_edges: bool = True,
        say: Callable[[str], None] = lambda _text: None,
        progress: Callable[[int], None] = lambda _frames: None,
    ):
        self.frames = 0
        self.recomputed = 0
        self._stream = _Stream(config, rate, mask_edges=mask_edges)
        self._say, self._progress = say, progress
        keras = keras_module(backend, exact=False)
        kind, name = device(keras)
        self._screen = Screen(keras, kind, self._stream.screened(), say)
        say(f"screening on {name}" if kind == "gpu" else f"screening on {name}: there is no GPU that Keras can use")

    def replay(self, path: str | Path, session: str | None = None) -> Iterator[Event]:
        """Yield the events of one sound file: those of the function `replay`."""
        path, told = Path(path), 0
        frames, recomputed = self.frames, self.recomputed
        try:
            with self._stream.opened(path) as file:
                spans = self._spans(file)
                for events in self._decided(file, self._stream.pipeline(path, session), spans, self.frames - frames):
                    told += len(events)
                    yield from events
            return
        except _UncertainError:
            self._say(f"{path}: a decision hangs on what was not computed; replaying all of it")
        except AudioFileError:
            pass  # and so will be the replay of it all, after the events that come before the damage
        yield from itertools.islice(self._stream.whole(path, session, DEFAULT_BLOCK), told, None)
        self.recomputed = recomputed + self.frames - frames

    def _spans(self, file: AudioFile) -> list[tuple[int, int]]:
        """Return where in a file something may be decided."""
        probed = self._screen.probed
        blocks = self._counted(file.blocks(DEFAULT_BLOCK))
        spans = self._screen.spans(blocks, mask_edges=self._stream.mask_edges)
        self.recomputed += self._screen.probed - probed
        return spans

    def _counted(self, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        for block in blocks:
            self.frames += len(block)
            self._progress(len(block))
            yield block

    def _decided(
        self, file: AudioFile, pipeline: Pipeline, spans: list[tuple[int, int]], frames: int
    ) -> Iterator[list[Event]]:
        """Yield the events of each span, once they are certain."""
        for first, end in spans:
            first -= first % self._screen.period
            if first > pipeline.sample:
                pipeline.leap(first)
            events = []
            while pipeline.sample < min(end, frames) or (pipeline.open and pipeline.sample < frames):
                wanted = min(end, frames) - pipeline.sample if pipeline.sample < end else UNTIL_IDLE
                block = file.read(pipeline.sample, min(wanted, DEFAULT_BLOCK))
                self.recomputed += len(block)
                events += pipeline.process(block)
            if not pipeline.certain:
                raise _UncertainError
            yield events
        if pipeline.sample == frames:
            yield pipeline.finish()


class _UncertainError(Exception):
    """A decision hung on frames that were leapt over."""


class _Stream:
    """The one stream of a configuration for files, its nets loaded and its rate known."""

    def __init__(self, config: configuration.Config | str | Path, rate: int | None, *, mask_edges: bool):
        if not isinstance(config, configuration.Config):
            config = configuration.load(config)
        if len(config.streams) > 1:
            names = ", ".join(stream.name for stream in config.streams)
            raise ConfigError(
                f"the configuration has {len(config.streams)} streams ({names})",
                "replay one stream at a time: keep the one that the file is for",
            )
        (self._settings,) = config.streams
        self._nets = load_listeners(self._settings)
        self._rate = needed_rate(self._nets, rate or self._settings.source.rate)
        self.mask_edges = mask_edges

    def opened(self, path: Path) -> AudioFile:
        """Open a file; raises RateError where it has another rate."""
        file = AudioFile(path, self._settings.source.channels)
        if file.rate != self._rate:
            file.close()
            raise RateError(
                f"{path}: is sampled at {file.rate} Hz, the net needs {self._rate} Hz",
                f"resample it first: sox {shlex.quote(str(path))} -r {self._rate} resampled.wav",
            )
        return file

    def pipeline(self, path: Path, session: str | None = None) -> Pipeline:
        """Make a pipeline for a file."""
        source = self._settings.source
        return Pipeline(
            self._settings.name,
            (session or path.name).encode(errors="backslashreplace").decode(),  # names of files may be any bytes
            self._rate,
            len(source.channels),
            self._nets,
            gain=source.gain,
            mask_edges=self.mask_edges,
        )

    def whole(self, path: Path, session: str | None, block: int) -> Iterator[Event]:
        """Yield the events of a file, every frame of it processed."""
        with self.opened(path) as file:
            pipeline = self.pipeline(path, session)
            for samples in file.blocks(block):
                yield from pipeline.process(samples)
            yield from pipeline.finish()

    def screened(self) -> list[Screened]:
        """Return the nets as a screen sees them."""
        gain, leads = self._settings.source.gain, self.pipeline(Path()).leads
        screened = []
        for net, lead in zip(self._nets, leads, strict=True):
            detector, scale = net.detector(self._rate), gain * net.graph.info.input_scale
            graph = smoothed(net.graph, detector.kept, detector.memory)
            screened.append(Screened(graph, scale, detector.thresholds, lead))
        return screened
