"""From what the configuration says to a source; what a source needs is loaded only where it is asked for."""

from collections.abc import Callable

from streamcnn import config as configuration
from streamcnn.errors import DeviceError, InputError
from streamcnn.sources.live import LiveSource


def opened(source: configuration.Source, rate: int, stdin: Callable[[], object]) -> LiveSource:
    """Make the source of a stream; PortAudio is loaded only for sound cards.

    `rate`: what the nets want, Hz; a sound card that cannot have it, and of which no rate is configured, is opened at its own.
    `stdin`: gives the binary file that "-" stands for. Raises DeviceError or MissingPartError.
    """
    if source.device == "demo":
        from streamcnn.sources.demo import Demo

        channels = len(source.channels)
        if sorted(source.channels) != list(range(1, channels + 1)):
            raise InputError(
                f"the demo has channels 1 to {channels} where {channels} are wanted, not {max(source.channels)}",
                "leave out 'channels', or count them from 1",
            )
        return Demo(rate, channels, source.block)
    if source.device == "-":
        from streamcnn.sources.raw import Raw

        return Raw(rate, source.channels, stdin(), source.format, source.width)
    from streamcnn.sources.soundcard import SoundCard, find_device

    try:
        return SoundCard(source.device, rate, source.channels, source.block)
    except DeviceError:
        own = round(find_device(source.device).default_rate)
        if source.rate is not None or own == rate:
            raise
        return SoundCard(source.device, own, source.channels, source.block)
