"""Sound cards, through PortAudio. The only file that knows sounddevice.

The callback copies the block into the ring and returns; everything else happens elsewhere. It is called until the stream is
closed, so the source keeps what it works on.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from streamcnn.errors import DeviceError, MissingPartError
from streamcnn.inference.callback import Ear
from streamcnn.inference.latency import Latency
from streamcnn.quiet import noise_filter, quiet_libraries
from streamcnn.ring import Ring
from streamcnn.sources.live import LiveSource

PLAYED = 4096  # frames at a time


class Device(NamedTuple):
    """A device that can record: PortAudio's index, its name, its host API, and what it says it can do."""

    index: int
    name: str
    host_api: str
    channels: int
    default_rate: float
    is_default: bool


def input_devices() -> list[Device]:
    """Return the devices that can record.

    Raises MissingPartError where the PortAudio library is not installed.
    """
    sounddevice = _sounddevice()
    apis = sounddevice.query_hostapis()
    default = sounddevice.default.device[0]
    return [
        Device(
            number,
            device["name"],
            apis[device["hostapi"]]["name"],
            device["max_input_channels"],
            device["default_samplerate"],
            number == default,
        )
        for number, device in enumerate(sounddevice.query_devices())
        if device["max_input_channels"] > 0
    ]


def find_device(wanted: str | int) -> Device:
    """Return the input device with this index, or with this name, or the only one whose name contains it.

    Raises DeviceError, listing the devices there are, where none or several fit.
    """
    devices = input_devices()
    text = str(wanted)
    listing = "; ".join(f"{d.index} '{d.name}' ({d.host_api})" for d in devices) or "none"
    if text.isdigit():
        fitting = [d for d in devices if d.index == int(text)]
    else:
        fitting = [d for d in devices if d.name == text]
        fitting = fitting or [d for d in devices if text.lower() in f"{d.name}, {d.host_api}".lower()]
    if len(fitting) == 1:
        return fitting[0]
    problem = "no input device fits" if not fitting else f"{len(fitting)} input devices fit"
    raise DeviceError(
        f"{problem} '{wanted}'; there are: {listing}",
        "name one of them, or use 'demo' for the built-in signal or '-' for standard input",
    )


class SoundCard(LiveSource):
    """One input device, opened at `rate` Hz for the given channels (from 1), in blocks of `block` frames.

    Its callback is machine code (see `inference.callback`), or, where sounddevice does not take that, Python.

    Raises DeviceError where there is no such device or it refuses the format, MissingPartError without PortAudio.
    """

    def __init__(self, device: str | int, rate: int, channels: tuple[int, ...], block: int):
        super().__init__(rate, len(channels), block)
        found = find_device(device)
        if max(channels) > found.channels:
            raise DeviceError(
                f"device '{found.name}' has {found.channels} channels, channel {max(channels)} is wanted",
                "change 'channels'",
            )
        self._title = f"{found.name} ({found.host_api})"
        self._selected = channels
        self._ear: Ear | None = None
        self._ring: Ring | None = None
        self._stream: object | None = None
        self._stopping = threading.Lock()
        self._filtered = False
        self._settings = {
            "device": found.index,
            "samplerate": rate,
            "channels": max(channels),
            "blocksize": block,
            "dtype": "float32",
        }
        sounddevice = _sounddevice()
        try:
            with quiet_libraries():
                sounddevice.check_input_settings(
                    device=found.index, samplerate=rate, channels=max(channels), dtype="float32"
                )
        except (sounddevice.PortAudioError, ValueError) as error:
            raise DeviceError(
                f"device '{found.name}' cannot be opened at {rate} Hz with {max(channels)} channels: {_reason(error)}",
                f"its own rate is {found.default_rate:g} Hz: set source.rate to that, and nets of other rates are resampled",
            ) from error

    @property
    def title(self) -> str:
        """What a person calls this source."""
        return self._title

    @property
    def took(self) -> Latency | None:
        """How long the callback took, None before the start."""
        return None if self._ear is None else self._ear.took

    def start(self, ring: Ring) -> None:
        """Begin to write blocks into `ring`."""
        self._ring, self._ear = ring, Ear(ring, self._selected, self.rate, self.core)
        sounddevice = _sounddevice()
        try:
            with quiet_libraries():
                self._stream = self._opened(sounddevice, self._ear)
                self._stream.start()
        except (sounddevice.PortAudioError, ValueError) as error:
            raise DeviceError(f"device '{self._title}' cannot be started: {_reason(error)}") from error
        noise_filter.begin()
        self._filtered = True

    def stop(self) -> None:
        """Stop the device and close the ring."""
        with self._stopping:  # PortAudio must not be asked twice at the same time
            if self._stream is not None:
                self._stream.close(ignore_errors=True)
            if self._filtered:
                noise_filter.end()
                self._filtered = False
        if self._ring is not None:
            self._ring.close()

    def _opened(self, sounddevice: object, ear: Ear) -> object:
        try:
            # For library authors, its documentation says: the one way to hand over a C function.
            pointer = sounddevice._ffi.cast("PaStreamCallback *", ear.code)
            userdata = sounddevice._ffi.cast("void *", ear.address)
            opened = sounddevice._StreamBase("input", callback=pointer, userdata=userdata, **self._settings)
        except (AttributeError, TypeError):
            self.callback = "Python"
            return sounddevice.InputStream(callback=self._called, **self._settings)
        self.callback = "machine code"
        return opened

    def _called(self, samples: np.ndarray, frames: int, times: object, status: object) -> None:  # noqa: ARG002
        self._ear.hear(
            np.ascontiguousarray(samples), times.inputBufferAdcTime, times.currentTime, overflow=status.input_overflow
        )


class Player:
    """What plays on a device. `underruns`: how often it came too late, so that something else was played in between."""

    underruns = 0


@contextmanager
def played(device: str, rate: int, samples: np.ndarray) -> Iterator[Player]:
    """Play float32 samples (frames,) on a device, again and again, as long as the context lasts.

    Raises DeviceError where it cannot be played on, MissingPartError without PortAudio.
    """
    sounddevice, stopping, data = _sounddevice(), threading.Event(), samples.astype(np.float32).tobytes()
    try:
        with quiet_libraries():
            stream = sounddevice.RawOutputStream(device=device, samplerate=rate, channels=1, dtype="float32")
            stream.start()
    except (sounddevice.PortAudioError, ValueError) as error:
        raise DeviceError(f"device '{device}' cannot be played on: {_reason(error)}") from error

    def play() -> None:
        while not stopping.is_set():
            for first in range(0, len(data), 4 * PLAYED):
                if not stopping.is_set():
                    player.underruns += stream.write(data[first : first + 4 * PLAYED])

    player, thread = Player(), threading.Thread(target=play, name="player", daemon=True)
    thread.start()
    try:
        yield player
    finally:
        stopping.set()
        thread.join()
        stream.close(ignore_errors=True)


def _sounddevice() -> object:
    """Import sounddevice, which loads PortAudio and asks it for the devices."""
    try:
        with quiet_libraries():
            import sounddevice
    except OSError as error:
        raise MissingPartError(
            f"the PortAudio library is not installed ({error})",
            "install it: 'apt install libportaudio2' on Debian, Ubuntu and Raspberry Pi OS; or use "
            "'--device demo' or '--device -', which do not need it",
        ) from error
    return sounddevice


def _reason(error: Exception) -> str:
    return (
        str(error)
        .splitlines()[0]
        .removeprefix("Error opening InputStream: ")
        .removeprefix("Error opening _StreamBase: ")
    )
