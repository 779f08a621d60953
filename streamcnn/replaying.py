"""Files to events, through the same pipeline as the sound card: whole, or only where something may be decided.

A `BatchReplay` has a screen say where that is, and leaps over the rest; the events are those of the whole. Should a decision
have hung on what was leapt over (see `Detector.certain`), the file is replayed whole instead.
"""

import itertools
import shlex
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from streamcnn import config as configuration
from streamcnn.batch.device import device
from streamcnn.batch.screen import Screen, Screened, smoothed
from streamcnn.clock import Clock
from streamcnn.errors import AudioFileError, ConfigError, InputError, RateError
from streamcnn.events import Event
from streamcnn.optional import keras_module
from streamcnn.pipeline.listener import load_listeners, stream_rate
from streamcnn.pipeline.pipeline import Pipeline
from streamcnn.sinks.recording import ALONE, End, Entry, Lost, Pair, Switched, control_path, control_track
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
    progress: Callable[[int], None] = lambda _frames: None,
) -> Iterator[Event]:
    """Yield the events of one sound file.

    `config`: a configuration, or the path of one, with a single stream. `block` (frames) changes nothing but the speed.
    `rate`: the rate of nets that do not know theirs; nets of another rate than the file's get resampled frames. Positions
    count from the file's start, and `time` is None. `session`: the session's name, the file's by default. `progress` is told
    how many more frames have been processed. A recording (`run --record`) gives the events that its session gave, with
    their times.

    Raises ConfigError, NetFileError, AudioFileError, RateError where a net's rate is not known or cannot be made, and
    InputError for a damaged control track.
    """
    return _Stream(config, rate, mask_edges=mask_edges).whole(Path(path), session, block, progress)


class BatchReplay:
    """Replays sound files of one configuration: the events of `replay`, at the speed of Keras, on a GPU where there is one.

    `backend`: tensorflow, jax or torch, by default the first that is installed. `say` is told, a line each, what a user
    should know; `progress`, how many more frames have been read. Further parameters as for `replay`.

    `frames` counts the frames replayed so far, `recomputed` those of them that the engine computed.

    Raises what `replay` raises, RateError for a file whose rate is not the nets', MissingPartError without Keras or a
    backend, and UnsupportedLayerError for a net that cannot be computed in chunks.
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
        slow = "there is no GPU that Keras can use, and without one a replay without --batch is often faster"
        say(f"screening on {name}" if kind == "gpu" else f"screening on {name}: {slow}")

    def replay(self, path: str | Path, session: str | None = None) -> Iterator[Event]:
        """Yield the events of one sound file: those of the function `replay`."""
        path, told = Path(path), 0
        if control_track(path) is not None:
            self._say(f"{path}: a recording with a control track is not screened; replaying all of it")
            yield from self._stream.whole(path, session, DEFAULT_BLOCK)
            return
        frames, recomputed = self.frames, self.recomputed
        try:
            with self._stream.opened(path) as file:
                needed = self._stream.own_rate
                if file.rate != needed:
                    raise RateError(
                        f"{path}: is sampled at {file.rate} Hz, the net needs {needed} Hz",
                        f"replay it without --batch, or resample it: sox {shlex.quote(str(path))} -r {needed} x.wav",
                    )
                spans = self._spans(file)
                pipeline = self._stream.pipeline(path, session, file.rate)
                for events in self._decided(file, pipeline, spans, self.frames - frames):
                    told += len(events)
                    yield from events
            return
        except _UncertainError:
            self._say(f"{path}: a decision hangs on what was not computed; replaying all of it")
        except AudioFileError:
            pass  # and so will be the replay of it all, after the events that come before the damage
        self.recomputed = recomputed + self.frames - frames  # now: the damage is told by an exception
        yield from itertools.islice(self._stream.whole(path, session, DEFAULT_BLOCK), told, None)

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
    """The one stream of a configuration for files, its nets loaded."""

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
        self._nets = load_listeners(self._settings, rate)
        own = {net.graph.info.rate: net.name for net in self._nets}
        if rate is not None and None not in own and rate not in own:
            needed, name = next(iter(own.items()))
            raise RateError(
                f"net '{name}' needs {needed} Hz, {rate} Hz is asked for", "a rate is for nets that do not know theirs"
            )
        self._rate = rate or self._settings.source.rate  # of nets that do not know theirs
        self.mask_edges = mask_edges

    @property
    def own_rate(self) -> int:
        """The rate of its nets; raises RateError where they have several."""
        rates = {net.graph.info.rate or self._rate for net in self._nets}
        if len(rates) > 1:
            raise RateError(f"the nets have different rates: {sorted(rates)} Hz", "replay without --batch")
        return rates.pop()

    def opened(self, path: Path) -> AudioFile:
        """Open a file."""
        return AudioFile(path, self._settings.source.channels)

    def pipeline(self, path: Path, session: str | None, rate: int) -> Pipeline:
        """Make a pipeline for a file of a rate in Hz."""
        session = (session or path.name).encode(errors="backslashreplace").decode()  # names of files may be any bytes
        return self._pipeline(self._settings.name, session, rate, None, self._rate)

    def _pipeline(self, name: str, session: str, rate: int, clock: Clock | None, unknown_rate: int | None) -> Pipeline:
        source = self._settings.source
        return Pipeline(
            name,
            session,
            rate,
            len(source.channels),
            self._nets,
            gain=source.gain,
            clock=clock,
            mask_edges=self.mask_edges,
            unknown_rate=unknown_rate,
        )

    def whole(
        self, path: Path, session: str | None, block: int, progress: Callable[[int], None] = lambda _frames: None
    ) -> Iterator[Event]:
        """Return the events of a file, every frame of it processed; of a recording, as it went."""
        track = control_track(path)
        if track is not None:
            return self._recorded(path, track, block, progress)
        stream_rate(self._nets, self._rate)
        return self._unrecorded(path, session, block, progress)

    def _unrecorded(
        self, path: Path, session: str | None, block: int, progress: Callable[[int], None]
    ) -> Iterator[Event]:
        with self.opened(path) as file:
            pipeline = self.pipeline(path, session, file.rate)
            for samples in file.blocks(block):
                yield from pipeline.process(samples)
                progress(len(samples))
            yield from pipeline.finish()

    def _recorded(
        self, path: Path, track: list[Entry], block: int, progress: Callable[[int], None]
    ) -> Iterator[Event]:
        """Yield the events of a recording: what its control track says happens just before the frame at which it did."""
        recorded, pairs = track[0], deque(entry for entry in track if isinstance(entry, Pair))
        wanted = len(self._settings.source.channels)
        if recorded.channels != wanted:
            raise ConfigError(
                f"{path}: was recorded with {recorded.channels} channels, the configuration selects {wanted}",
                "name as many in 'channels'; which ones of the device they were does not matter",
            )
        with AudioFile(path, tuple(range(1, recorded.channels + 1))) as file:
            if file.rate != recorded.rate:
                raise InputError(f"{path}: is of {file.rate} Hz, its control track of {recorded.rate} Hz", ALONE)
            clock = Clock(recorded.rate) if recorded.clocked else None
            pipeline, at = self._pipeline(recorded.stream, recorded.session, file.rate, clock, recorded.rate), 0
            for entry in (*(entry for entry in track if isinstance(entry, Lost | Switched)), None):
                end = file.frames if entry is None else min(file.frames, entry.at)
                while at < end:
                    samples = file.read(at, min(block, end - at))
                    while pairs and pairs[0].sample < pipeline.sample + len(samples):
                        pair = pairs.popleft()
                        clock.observe(pair.sample, pair.arrival_ns, pair.age_ns, pair.utc_ahead_ns)
                        clock.refresh()
                    yield from pipeline.process(samples)
                    at += len(samples)
                    progress(len(samples))
                if entry is None or entry.at > file.frames:
                    break  # the samples that came before it were never written; `check_end` and the End tell
                if (entry.at, entry.sample) != (at, pipeline.sample):
                    raise InputError(
                        f"{control_path(path)}: sample {entry.sample} is said to be the file's frame {entry.at}, "
                        f"but sample {pipeline.sample} is its frame {at}",
                        ALONE,
                    )
                match entry:
                    case Lost():
                        yield from pipeline.skip(entry.frames, entry.cause, entry.frames_error)
                    case Switched():
                        yield from pipeline.switch(entry.net, on=entry.on)
            yield from pipeline.finish()
            file.check_end()
            last = max((entry.at for entry in track if isinstance(entry, Lost | Switched | End)), default=0)
            if isinstance(track[-1], End) and last > file.frames:
                raise AudioFileError(
                    f"{path}: holds {file.frames:,} frames, its control track tells of {last:,}",
                    "what is there has been replayed",
                )

    def screened(self) -> list[Screened]:
        """Return the nets as a screen sees them."""
        gain, leads = self._settings.source.gain, self.pipeline(Path(), None, self.own_rate).leads
        screened = []
        for net, lead in zip(self._nets, leads, strict=True):
            detector, scale = net.detector(self.own_rate), gain * net.graph.info.input_scale
            graph = smoothed(net.computed, detector.kept, detector.memory)
            screened.append(Screened(graph, scale, detector.thresholds, lead))
        return screened
