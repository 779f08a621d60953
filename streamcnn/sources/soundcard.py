"""Sound cards, through PortAudio. The only file that knows sounddevice.

The callback copies the block into the ring and returns; everything else happens elsewhere.
"""

import threading
import time
from typing import NamedTuple

import numpy as np

from streamcnn.errors import DeviceError, MissingPartError
from streamcnn.quiet import quiet_libraries
from streamcnn.ring import Ring
from streamcnn.sources.live import LiveSource


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

    Raises DeviceError where there is no such device or it refuses the format, MissingPartError without PortAudio.
    """

    def __init__(self, device: str | int, rate: int, channels: tuple[int, ...], block: int):
        super().__init__(rate, len(channels), block)
        sounddevice = _sounddevice()
        found = find_device(device)
        if max(channels) > found.channels:
            raise DeviceError(
                f"device '{found.name}' has {found.channels} channels, channel {max(channels)} is wanted",
                "change 'channels'",
            )
        self._title = f"{found.name} ({found.host_api})"
        self._columns = [channel - 1 for channel in channels]
        self._ring: Ring | None = None
        self._stopping = threading.Lock()
        try:
            with quiet_libraries():
                self._stream = sounddevice.InputStream(
                    device=found.index,
                    samplerate=rate,
                    channels=max(channels),
                    blocksize=block,
                    dtype="float32",
                    callback=self._callback,
                )
        except (sounddevice.PortAudioError, ValueError) as error:
            raise DeviceError(
                f"device '{found.name}' cannot be opened at {rate} Hz with {max(channels)} channels: {_reason(error)}",
                f"its own rate is {found.default_rate:g} Hz; use a net for that "
                "rate, or a device that resamples (such as 'pulse')",
            ) from error

    @property
    def title(self) -> str:
        """What a person calls this source."""
        return self._title

    def start(self, ring: Ring) -> None:
        """Begin to write blocks into `ring`."""
        self._ring = ring
        try:
            self._stream.start()
        except _sounddevice().PortAudioError as error:
            raise DeviceError(f"device '{self._title}' cannot be started: {_reason(error)}") from error

    def stop(self) -> None:
        """Stop the device and close the ring."""
        with self._stopping:  # PortAudio must not be asked twice at the same time
            self._stream.close(ignore_errors=True)
        if self._ring is not None:
            self._ring.close()

    def _callback(self, samples: np.ndarray, frames: int, times: object, status: object) -> None:
        late = times.currentTime - times.inputBufferAdcTime  # hosts that do not know say 0 for one of them
        age = late if times.inputBufferAdcTime and 0 <= late < 10 else frames / self.rate
        self._ring.write(samples[:, self._columns], time.time() - age, driver_overflow=bool(status.input_overflow))


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
    return str(error).splitlines()[0].removeprefix("Error opening InputStream: ")
