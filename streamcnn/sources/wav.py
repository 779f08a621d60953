"""Sound files: whatever libsndfile reads (WAV, FLAC, OGG, AIFF, ...), any sample format, as float32 blocks."""

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from streamcnn.errors import AudioFileError
from streamcnn.quiet import told_by_libraries
from streamcnn.sources.coded import flac_layout, lacks_its_end, second_start
from streamcnn.sources.layout import layout_of, repaired, second_recording

# Programs that write WAV into a pipe cannot know its length and say something at least this large.
UNKNOWN_LENGTH = 0x7FFF0000
UNKNOWN_FRAMES = 1 << 62  # what libsndfile says where the header says nothing
# Where a seek comes to the very frame. Decoders that carry a state come near it, or to other samples of it.
EXACT_SEEK = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW")
PIECE = 1 << 14  # frames


def _promised_bytes(libsndfile_log: str) -> int | None:
    """Return how many bytes of sound a WAV's header promises, where the file holds fewer; None where all is well.

    libsndfile opens a file that was cut off as if it were a shorter one, and only its log tells.
    """
    # The chunk of samples counts in WAV and AIFF; W64 and RF64 tell in the size of the whole. (A wrong RIFF or FORM size
    # alone is common, and harmless.)
    pattern = r"^\s*(?:data|SSND|riff|Riff size)\s*: (\d+) \(should be (\d+)\)"
    for promised, there in re.findall(pattern, libsndfile_log, re.MULTILINE):
        if int(there) < int(promised) < UNKNOWN_LENGTH:
            return int(promised)
    return None


def _reason(error: Exception) -> str:
    """Return what libsndfile says, but for what it says of itself."""
    text = getattr(error, "error_string", str(error)).rstrip(".")
    is_own = not text or re.search("psf_|[Ii]nternal error|SF_INFO|does not exist", text) is not None
    return "its decoder gave up" if is_own else text[0].lower() + text[1:]


class AudioFile:
    """A sound file, opened: `rate` in Hz, `frames`, and its selected `channels` (from 1; None: all of them).

    Raises AudioFileError, naming the file and the reason, where it is missing, broken, or lacks a channel.
    """

    def __init__(self, path: str | Path, channels: tuple[int, ...] | None = (1,)):
        self.path = Path(path)
        try:
            status = self.path.stat()
        except OSError as error:
            reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
            raise AudioFileError(f"{self.path}: {reason}") from error
        if not stat.S_ISREG(status.st_mode):
            raise AudioFileError(f"{self.path}: is no file", "name files; a pipe is read by 'run --device -'")
        self._layout = layout_of(self.path) or flac_layout(self.path)
        self._told: list[bytes] = []  # what a decoder printed
        self._open()
        channels = tuple(range(1, self._file.channels + 1)) if channels is None else channels
        if max(channels) > self._file.channels:
            self.close()
            raise AudioFileError(
                f"{self.path}: has {self._file.channels} channels, channel {max(channels)} is wanted",
                "change 'channels'",
            )
        if self._file.format == "RAW":  # by its name alone: libsndfile then takes whatever is in it for sound
            self.close()
            raise AudioFileError(
                f"{self.path}: cannot be read as sound: it has no header that says what it is", "give a WAV, FLAC or OGG file"
            )
        self.rate: int = self._file.samplerate
        self.frames: int = self._file.frames
        self._promised_bytes = _promised_bytes(self._file.extra_info)
        self._lacks_its_end = lacks_its_end(self.path)
        self._seeks = self._file.seekable() and self._file.subtype.startswith(EXACT_SEEK)
        self._columns = [channel - 1 for channel in channels]

    def _open(self) -> None:
        try:
            stale = self._layout is not None and self._layout.is_stale
            with told_by_libraries(self._told):
                self._file = soundfile.SoundFile(repaired(self.path, self._layout) if stale else os.fsencode(self.path))
        except (soundfile.LibsndfileError, TypeError) as error:
            raise AudioFileError(
                f"{self.path}: cannot be read as sound: {_reason(error)}", "give a WAV, FLAC or OGG file"
            ) from error
        if self._file.frames >= UNKNOWN_FRAMES:  # a FLAC whose writer did not know its length: no seek comes to its end
            self._file.seekable = lambda: False
        self._position, self._waiting = 0, np.empty((0, self._file.channels), np.float32)

    def blocks(self, frames: int) -> Iterator[np.ndarray]:
        """Yield the file's frames from where it stands, in blocks of at most `frames`: float32 (frames, channels).

        Raises AudioFileError where the data is damaged, and after the last frame where the file is cut off, or has given fewer
        frames than it says it has.
        """
        while len(block := self._next(frames)):
            yield np.ascontiguousarray(block[:, self._columns])
        self.check_end()

    def check_end(self) -> None:
        """Raise AudioFileError, once all frames were read, where the file is cut off, was not finished, holds fewer, or two."""
        if self._layout is not None and self._layout.is_stale:
            raise AudioFileError(
                f"{self.path}: was not finished: its header tells of {self._layout.said:,} {self._layout.unit}, "
                f"and {self._layout.actual:,} are there",
                "all that is there has been read",
            )
        if (start := second_start(self.path)) is not None:
            raise second_recording(self.path, start)
        if self._told:
            raise AudioFileError(
                f"{self.path}: damaged: its decoder came upon what is no sound, and went on behind it",
                "positions behind the damage are not to be trusted",
            )
        promise = None
        if self._promised_bytes is not None:
            promise = f"its header promises {self._promised_bytes} bytes"
        elif self._lacks_its_end:
            promise = "its last page is missing"
        if promise is not None:
            raise AudioFileError(
                f"{self.path}: cut off: it ends after frame {self._position}, {promise}", "what is there has been read"
            )
        if self._position == 0:
            raise AudioFileError(f"{self.path}: holds no sound: there is a header, and no frame behind it")
        if self._position < self.frames < UNKNOWN_FRAMES:
            raise AudioFileError(
                f"{self.path}: damaged: it has given {self._position} of its {self.frames} frames",
                "positions behind the damage are not to be trusted",
            )

    def _next(self, frames: int) -> np.ndarray:
        """Return the next frames, at most so many.

        A decoder that carries a state is asked for pieces of one size: that of MP3 gives other last digits for other sizes.
        """
        if self._seeks:
            block = self._decoded(frames)
        else:
            if len(self._waiting) == 0:
                self._waiting = self._decoded(PIECE)
            block, self._waiting = self._waiting[:frames], self._waiting[frames:]
        self._position += len(block)
        return block

    def _decoded(self, frames: int) -> np.ndarray:
        listening = told_by_libraries(self._told) if self._file.subtype.startswith("MPEG") else contextlib.nullcontext()
        try:
            with listening:
                return self._file.read(frames, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise AudioFileError(f"{self.path}: damaged after frame {self._position}: {_reason(error)}") from error

    def read(self, start: int, frames: int) -> np.ndarray:
        """Return at most `frames` frames from number `start` on: float32 (frames, channels), as `blocks` gives them.

        Raises AudioFileError where the data is damaged, or there is no such frame.
        """
        self._go_to(start)
        block = self._next(frames)
        if len(block) == 0:
            raise AudioFileError(f"{self.path}: ends before frame {start}")
        return np.ascontiguousarray(block[:, self._columns])

    def _go_to(self, frame: int) -> None:
        """Stand at a frame; where a seek would not come to just that one, by reading up to it."""
        if self._seeks and self._position != frame:
            try:
                self._position = self._file.seek(frame)
            except soundfile.LibsndfileError as error:
                raise AudioFileError(f"{self.path}: cannot be read at frame {frame}: {error.error_string}") from error
        if self._position > frame:
            self.close()
            self._open()
        while self._position < frame and len(self._next(min(PIECE, frame - self._position))):
            pass

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "AudioFile":
        """Return the file itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()
