"""Sound files: whatever libsndfile reads (WAV, FLAC, OGG, AIFF, ...), any sample format, as float32 blocks."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from streamcnn.errors import AudioFileError

# Programs that write WAV into a pipe cannot know its length and say something at least this large.
UNKNOWN_LENGTH = 0x7FFF0000


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


class AudioFile:
    """A sound file, opened: `rate` in Hz, `frames`, and its selected `channels` (from 1).

    Raises AudioFileError, naming the file and the reason, where it is missing, broken, or lacks a channel.
    """

    def __init__(self, path: str | Path, channels: tuple[int, ...] = (1,)):
        self.path = Path(path)
        try:
            status = self.path.stat()
        except OSError as error:
            reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
            raise AudioFileError(f"{self.path}: {reason}") from error
        if not stat.S_ISREG(status.st_mode):
            raise AudioFileError(f"{self.path}: is no file", "name files; a pipe is read by 'run --device -'")
        try:
            self._file = soundfile.SoundFile(os.fsencode(self.path))
        except (soundfile.LibsndfileError, TypeError) as error:
            reason = getattr(error, "error_string", str(error)).rstrip(".")
            raise AudioFileError(
                f"{self.path}: cannot be read as sound: {reason}", "give a WAV, FLAC or OGG file"
            ) from error
        if max(channels) > self._file.channels:
            self.close()
            raise AudioFileError(
                f"{self.path}: has {self._file.channels} channels, channel {max(channels)} is wanted",
                "change 'channels'",
            )
        self.rate: int = self._file.samplerate
        self.frames: int = self._file.frames
        self._promised_bytes = _promised_bytes(self._file.extra_info)
        self._columns = [channel - 1 for channel in channels]

    def blocks(self, frames: int) -> Iterator[np.ndarray]:
        """Yield the file's frames from where it stands, in blocks of at most `frames`: float32 (frames, channels).

        Raises AudioFileError where the data is damaged, and after the last frame where the file is cut off.
        """
        read = 0
        try:
            for block in self._file.blocks(frames, dtype="float32", always_2d=True):
                read += len(block)
                yield np.ascontiguousarray(block[:, self._columns])
        except soundfile.LibsndfileError as error:
            reason = error.error_string or "its decoder gave up"
            raise AudioFileError(f"{self.path}: damaged after frame {read}: {reason}") from error
        if self._promised_bytes is not None:
            raise AudioFileError(
                f"{self.path}: cut off: it ends after frame {read}, its header promises {self._promised_bytes} bytes",
                "what is there has been read",
            )

    def read(self, start: int, frames: int) -> np.ndarray:
        """Return at most `frames` frames from number `start` on: float32 (frames, channels).

        Raises AudioFileError where the data is damaged, or there is no such frame.
        """
        try:
            if self._file.tell() != start:
                self._file.seek(start)
            block = self._file.read(frames, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise AudioFileError(f"{self.path}: cannot be read at frame {start}: {error.error_string}") from error
        if len(block) == 0:
            raise AudioFileError(f"{self.path}: ends before frame {start}")
        return np.ascontiguousarray(block[:, self._columns])

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "AudioFile":
        """Return the file itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()
