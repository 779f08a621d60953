"""Recordings of a session: its samples in a WAV file, and beside it the control track, for `replay` to make the same events.

Rules. Both files can be read after a crash of the process at any time. The samples are float32, as the nets heard them; the
sizes in the WAV's header are brought up to date after each piece is written, so that it never promises more than there is.
Beyond 4 GiB it becomes an RF64 in place (EBU Tech 3306): room for that chunk is kept from the start. (libsndfile would write
the header when the file is closed; a recording may never be.)

The control track is a file of JSON lines: what the session was, and each thing that is not in the samples, before the samples
that follow it: frames that were lost, nets that were switched, and times of the card's clock. Frames that never came have no
samples in the file; `at` counts the file's frames, `sample` the session's.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec

from streamcnn.errors import InputError
from streamcnn.graph.graph import MAX_RATE
from streamcnn.inference.tables import CAUSES, RECORDING_SLOW
from streamcnn.ring import MARK, UNKNOWN, Block

VERSION = 1
SUFFIX = ".control.jsonl"
IEEE_FLOAT = 3
MOST = 2**32 - 1  # bytes that a WAV's header can count
RIFF, RF64, JUNK, DS64 = b"RIFF", b"RF64", b"JUNK", b"ds64"
DS64_BYTES = 28
HEADER_BYTES = 12 + 8 + DS64_BYTES + 8 + 18 + 12 + 8


Count = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
Whole = Annotated[int, msgspec.Meta(gt=-(2**62), lt=2**62)]


class Session(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="session"):
    """What was recorded: the first line. `clocked`: the source's samples have times."""

    stream: str
    session: str
    rate: Annotated[int, msgspec.Meta(ge=1, le=MAX_RATE)]
    channels: Annotated[int, msgspec.Meta(ge=1, le=1024)]
    nets: dict[str, str]
    clocked: bool = True
    version: int = VERSION


class Lost(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="lost"):
    """Frames that are not in the file: `frames` before its frame `at`, from `sample` on."""

    at: Count
    sample: Count
    frames: Count
    frames_error: Count | None
    cause: str


class Switched(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="switched"):
    """A net was switched on or off before the file's frame `at`."""

    at: Count
    sample: Count
    net: str
    on: bool


class Pair(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="clock"):
    """A pair of times, as `Clock.observe` takes it."""

    sample: Count
    arrival_ns: Whole
    age_ns: Whole
    utc_ahead_ns: Whole


class End(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="end"):
    """The session ended; without it the process did."""

    at: Count
    sample: Count


Entry = Session | Lost | Switched | Pair | End
_decoder = msgspec.json.Decoder(Entry)


EARLIEST_NS, LATEST_NS = 0, 221_845_392_000 * 10**9  # from 1970 on, up to the year 9000
OLDEST_NS = 3600 * 10**9
ALONE = "remove it to replay the samples by themselves"


def control_path(path: str | Path) -> Path:
    """Return where a recording's control track lies."""
    return Path(f"{path}{SUFFIX}")


def control_track(path: str | Path) -> list[Entry] | None:
    """Return the control track of a recording, None for any other file.

    A last line that was cut off is left out. Raises InputError for anything else that is none.
    """
    try:
        lines = control_path(path).read_bytes().split(b"\n")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{control_path(path)}: cannot be read: {error.strerror}") from error
    entries: list[Entry] = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            entries.append(_decoder.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InputError(f"{control_path(path)}:{number}: not a line of a control track: {error}", ALONE) from error
        problem = _contradiction(entries)
        if problem is not None:
            raise InputError(f"{control_path(path)}:{number}: {problem}", ALONE)
    if [isinstance(entry, Session) for entry in entries] != [True] + [False] * (len(entries) - 1):
        raise InputError(f"{control_path(path)}: is not the control track of one session", ALONE)
    if entries[0].version != VERSION:
        raise InputError(
            f"{control_path(path)}: is of version {entries[0].version}, this streamcnn reads version {VERSION}",
            "update streamcnn",
        )
    return entries


def _contradiction(entries: list[Entry]) -> str | None:
    """Return what is wrong with the last of some entries, by those before it."""
    entry, first = entries[-1], entries[0]
    if not isinstance(first, Session) or isinstance(entry, Session):
        return None
    if not isinstance(entry, Pair):
        earlier = next((one for one in reversed(entries[:-1]) if isinstance(one, Lost | Switched | End)), None)
        if earlier is not None and (isinstance(earlier, End) or entry.at < earlier.at or entry.sample < earlier.sample):
            return f"frame {entry.at:,}, sample {entry.sample:,}, behind frame {earlier.at:,}, sample {earlier.sample:,}"
        return None
    if not first.clocked:
        return "a time of the card's clock, of a session whose source has none"
    if not EARLIEST_NS <= entry.arrival_ns + entry.utc_ahead_ns <= LATEST_NS:
        return f"a time that is in no year from 1970 to 9000 ({entry.arrival_ns:,} + {entry.utc_ahead_ns:,} ns)"
    if not 0 <= entry.age_ns <= OLDEST_NS:
        return f"a sample of {entry.age_ns / 1e9:,g} s of age"
    before = next((one for one in reversed(entries[:-1]) if isinstance(one, Pair)), None)
    if before is not None and (entry.sample <= before.sample or entry.arrival_ns < before.arrival_ns):
        return f"sample {entry.sample:,} at {entry.arrival_ns:,} ns, behind {before.sample:,} at {before.arrival_ns:,} ns"
    return None


class Recording:
    """Writes one session, from the tape that the inference loop fills.

    Raises InputError where the file cannot be made. `error`: why nothing is written any more, None while all is well.
    """

    def __init__(self, path: Path, session: Session):
        self.path = Path(path)
        self.error: OSError | None = None
        self._names = list(session.nets)
        self._frame_bytes, self._rate = 4 * session.channels, session.rate
        self._at = self._sample = 0
        self._samples, self._control = self._created(self.path), UNKNOWN
        try:
            self._control = self._created(control_path(self.path), os.O_APPEND)
            with self._named_errors(self.path):
                self._write_header()
                os.lseek(self._samples, HEADER_BYTES, os.SEEK_SET)
                self._note(session)
        except InputError:
            self._take_back()
            raise
        self._pieces: list[bytes] = []

    def _created(self, path: Path, flags: int = 0) -> int:
        """Make a file that is not there yet; return its descriptor."""
        with self._named_errors(path):
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | flags, 0o644)

    @staticmethod
    @contextmanager
    def _named_errors(path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = "it is there already" if isinstance(error, FileExistsError) else error.strerror
            raise InputError(f"{path}: cannot be recorded to: {reason}", "give another name with --record") from error

    def _take_back(self) -> None:
        """Remove what was made for a recording that cannot begin."""
        os.close(self._samples)
        self.path.unlink()
        if self._control != UNKNOWN:
            os.close(self._control)
            control_path(self.path).unlink()

    def hear(self, block: Block) -> None:
        """Take a block; once nothing can be written any more, forget it."""
        if self.error is not None:
            return
        try:
            if block.flags & MARK or block.sample != self._sample or block.cause is not None:
                self._append()
                self._note_before(block)
        except OSError as error:
            self.error = error
        if not block.flags & MARK:
            self._pieces.append(block.samples.tobytes())
            self._sample = block.sample + len(block.samples)

    def settle(self, *, sync: bool) -> None:
        """Write what was heard."""
        if self.error is not None:
            return
        try:
            self._append()
            if sync:
                os.fsync(self._samples)
                os.fsync(self._control)
        except OSError as error:
            self.error = error

    def note_pair(self, sample: int, arrival_ns: int, age_ns: int, utc_ahead_ns: int) -> None:
        """Note a pair of times; raises nothing."""
        pair = Pair(sample=sample, arrival_ns=arrival_ns, age_ns=age_ns, utc_ahead_ns=utc_ahead_ns)
        if self.error is None:
            try:
                self._note(pair)
            except OSError as error:
                self.error = error

    def close(self, sample: int) -> None:
        """End the session at `sample`, once all was heard."""
        if self.error is None:
            try:
                self._lose(sample - self._sample, 0, CAUSES[RECORDING_SLOW])
                self._note(End(at=self._at, sample=sample))
                os.fsync(self._samples)
            except OSError as error:
                self.error = error
        os.close(self._samples)
        os.close(self._control)

    def _note_before(self, block: Block) -> None:
        if block.flags & MARK:
            self._lose(block.sample - self._sample, 0, CAUSES[RECORDING_SLOW])
            self._note(
                Switched(at=self._at, sample=block.sample, net=self._names[block.lost], on=bool(block.lost_error))
            )
            return
        lost = 0 if block.cause is None else block.lost
        self._lose(block.sample - self._sample - lost, 0, CAUSES[RECORDING_SLOW])
        if block.cause is not None:
            self._lose(lost, block.lost_error, CAUSES[block.cause], always=True)

    def _lose(self, frames: int, error: int, cause: str, *, always: bool = False) -> None:
        if frames or always:
            known = None if error == UNKNOWN else error
            self._note(Lost(at=self._at, sample=self._sample, frames=frames, frames_error=known, cause=cause))
            self._sample += frames

    def _append(self) -> None:
        data, self._pieces = b"".join(self._pieces), []
        if not data:
            return
        _write(self._samples, data)
        self._at += len(data) // self._frame_bytes
        self._write_header()

    def _note(self, entry: Entry) -> None:
        _write(self._control, msgspec.json.encode(entry) + b"\n")

    def _write_header(self) -> None:
        size = self._at * self._frame_bytes
        large = size + HEADER_BYTES > MOST
        whole = size + HEADER_BYTES - 8
        sizes = struct.pack("<QQQL", whole, size, self._at, 0) if large else bytes(DS64_BYTES)
        channels = self._frame_bytes // 4
        format_ = struct.pack("<HHLLHHH", IEEE_FLOAT, channels, self._rate, min(self._rate * self._frame_bytes, MOST),
                              self._frame_bytes, 32, 0)  # fmt: skip
        header = b"".join(
            [
                (RF64 if large else RIFF) + struct.pack("<L", MOST if large else whole) + b"WAVE",
                (DS64 if large else JUNK) + struct.pack("<L", DS64_BYTES) + sizes,
                b"fmt " + struct.pack("<L", len(format_)) + format_,
                b"fact" + struct.pack("<LL", 4, min(self._at, MOST)),
                b"data" + struct.pack("<L", MOST if large else size),
            ]
        )
        os.pwrite(self._samples, header, 0)


def _write(descriptor: int, data: bytes) -> None:
    """Write all of it."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
