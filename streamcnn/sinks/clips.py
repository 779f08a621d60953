"""Clips: sound files of confirmed events, with what came before and after them.

Rules. The last while of the signal is kept in memory, by sample numbers; frames that never came are silence there. A clip is
written when what is to come behind its event has come: behind its end, or, where that does not come, when the clip is as
long as may be. Its name says stream, detector, label and when; the whole event stands in the file's comment, as JSON, with
`clip_start_sample`, the clip's first sample, and `clip_exact`: FLAC has 24 bits, which hold what a sound card of so many
bits or fewer delivers; what lies between them, or beyond full scale, is rounded.

Whoever listens in a room listens to people too: nothing is written unless a folder is configured.
"""

import contextlib
import io
import math
import os
import re
import threading
import time
from collections import deque
from dataclasses import dataclass

import msgspec
import numpy as np
import soundfile

from streamcnn.config import Clips as Settings
from streamcnn.errors import InputError
from streamcnn.events import Detection
from streamcnn.host_clock import HostClock
from streamcnn.ring import MARK, Block

FULL_SCALE = 1 << 23  # of 24 bits
SUFFIX = ".flac"
TIDY_S = 60.0
SLACK_S = 5.0  # of signal that is kept beyond what any clip needs: an event is told somewhat later than it is heard
MOST_WAITING = 1000  # events
_NAME = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+\.(\d{8}T\d{6}\.\d{6}Z|\d+)\.-?\d+\.flac")  # of what we wrote


@dataclass
class _Wanted:
    """An event of which a clip is to be written; its end may not be known yet."""

    event: Detection
    ended: bool


class ClipWriter:
    """Writes clips of one stream; hears its tape in one thread, is told its events by another. `rate` in Hz.

    `error`: why the last clip could not be written, None while all is well. Raises InputError where the folder cannot be made.
    """

    def __init__(self, stream: str, settings: Settings, rate: int, channels: int):
        self._stream = stream
        self.error: str | None = None
        self._settings, self._rate = settings, rate
        self._before, self._after, self._longest = (
            round(span * rate) for span in (settings.before, settings.after, settings.longest)
        )
        kept = self._before + self._longest + self._after + round(SLACK_S * rate)
        self._history = np.zeros((kept, channels), np.float32)
        self._heard = 0  # the next sample's number
        self._wanted: dict[str, _Wanted] = {}
        self._told: deque[Detection] = deque(maxlen=MOST_WAITING)
        self._lock = threading.Lock()
        self._tidied_s = -TIDY_S
        self._clock: HostClock | None = None
        try:
            settings.folder.mkdir(parents=True, exist_ok=True)
            if not os.access(settings.folder, os.W_OK):
                raise PermissionError(0, "is not writable")
        except OSError as error:
            raise InputError(f"{settings.folder}: no clips can be written there: {error.strerror}") from error

    def note(self, event: Detection) -> None:
        """Take an event that was told: a clip begins with its confirmation. Never waits."""
        wanted = self._settings.detectors
        if event.phase in ("confirmed", "ended") and (wanted is None or event.detector in wanted):
            with self._lock:
                self._told.append(event)

    def hear(self, block: Block) -> None:
        """Take a block."""
        if block.flags & MARK:
            return
        self._put(block.sample, block.samples)

    def settle(self, *, sync: bool) -> None:  # noqa: ARG002 (a clip is synced when it is written)
        """Write the clips of which all is there."""
        self._take_told()
        for name, wanted in list(self._wanted.items()):
            if self._last_sample(wanted) <= self._heard:
                self._write(wanted)
                del self._wanted[name]
        if time.monotonic() - self._tidied_s >= TIDY_S:
            self._tidied_s = time.monotonic()
            self._tidy()

    def close(self) -> None:
        """Write what there is of the clips that are not complete."""
        self._take_told()
        for wanted in self._wanted.values():
            self._write(wanted)
        self._wanted.clear()

    def _take_told(self) -> None:
        with self._lock:
            told = [self._told.popleft() for _ in range(len(self._told))]
        for event in told:
            if event.phase == "confirmed":
                self._wanted[event.id] = _Wanted(event, ended=event.end_sample is not None)
            elif event.id in self._wanted:
                self._wanted[event.id] = _Wanted(event, ended=True)

    def _put(self, sample: int, samples: np.ndarray) -> None:
        """Keep samples that begin with a number; what is missing before them was silence."""
        size = len(self._history)
        missing = min(size, max(0, sample - self._heard))
        for first, values in ((sample - missing, np.zeros((missing, samples.shape[1]), np.float32)), (sample, samples)):
            values, first = values[-size:], first + max(0, len(values) - size)
            at = first % size
            head = min(len(values), size - at)
            self._history[at : at + head] = values[:head]
            self._history[: len(values) - head] = values[head:]
        self._heard = sample + len(samples)

    def _last_sample(self, wanted: _Wanted) -> int:
        """Return the number of the sample behind a clip."""
        event = wanted.event
        most = event.start_sample + self._longest
        end = max(event.end_sample or 0, event.sample + 1) if wanted.ended else most
        return min(end, most) + self._after

    def _write(self, wanted: _Wanted) -> None:
        event, size = wanted.event, len(self._history)
        end = min(self._last_sample(wanted), self._heard)
        start = max(0, event.start_sample - self._before, self._heard - size)
        if start >= end:
            return
        samples = self._history[np.arange(start, end) % size]
        scaled = samples.astype(np.float64) * FULL_SCALE
        whole = np.clip(np.rint(scaled), -FULL_SCALE, FULL_SCALE - 1)
        about = msgspec.to_builtins(event) | {"clip_start_sample": start, "clip_exact": bool((whole == scaled).all())}
        when = event.time.strftime("%Y%m%dT%H%M%S.%fZ") if event.time else f"{start}"
        name = f"{event.stream}.{event.detector}.{event.label}.{when}.{event.start_sample}{SUFFIX}"
        path = self._settings.folder / name
        partial = path.with_suffix(".partial")
        try:
            flac = io.BytesIO()  # the codec's own words for a full disk are about itself
            with soundfile.SoundFile(flac, "w", self._rate, samples.shape[1], "PCM_24", format="FLAC") as file:
                file.comment = msgspec.json.encode(about).decode()
                file.title = event.label
                file.write((whole.astype(np.int32) << 8).astype(np.int32))
            with partial.open("wb") as written:
                written.write(flac.getbuffer())
                written.flush()
                os.fsync(written.fileno())
            partial.replace(path)
            self.error = None
        except (OSError, soundfile.SoundFileError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self.error = f"{self._settings.folder}: no clips can be written: {reason}"
            with contextlib.suppress(OSError):
                partial.unlink()

    def _tidy(self) -> None:
        """Remove clips of this stream that are too old, or too many."""
        most_bytes = self._settings.most_mb * 1e6
        clips = []
        for path in self._settings.folder.glob(f"{self._stream}.*{SUFFIX}"):
            if not _NAME.fullmatch(path.name):
                continue  # somebody else's
            with contextlib.suppress(OSError):
                status = path.stat()
                clips.append((status.st_mtime, status.st_size, path))
        if self._clock is None:
            self._clock = HostClock()
            self._clock.compare(max((made_s for made_s, _, _ in clips), default=None))
        self._clock.watch()
        oldest_s = -math.inf if self._clock.is_held else time.time() - self._settings.keep
        total = sum(size for _, size, _ in clips)
        for made_s, size, path in sorted(clips, key=lambda clip: clip[0]):
            if made_s >= oldest_s and total <= most_bytes:
                break
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size
