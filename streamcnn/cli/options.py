"""What several commands share: the nets and thresholds that stand in for a configuration file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec

from streamcnn import config as configuration
from streamcnn.cli.numbers import Real, Whole
from streamcnn.cli.signals import ended_at_once
from streamcnn.compiler.build import Told
from streamcnn.errors import ConfigError
from streamcnn.graph import store
from streamcnn.pipeline.listener import own_detector, with_threshold

DEFAULT_NET = "ramp"
COMPILE_TIME = "some 15 seconds on a PC, longer on a small board"

config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    metavar="YAML",
    help="Configuration file; without one, --net alone is enough.",
)
net_option = click.option(
    "--net", metavar="NET", help=f"A net's file, or a shipped net's name. [default: {DEFAULT_NET}]"
)
threshold_option = click.option(
    "--threshold",
    type=Real(-configuration.MOST_FLOAT, configuration.MOST_FLOAT),
    help="Score from which on it is a detection; the net's own where none is given."
)
rate_option = click.option(
    "--rate",
    type=Whole(1, configuration.MAX_RATE),
    metavar="HZ",
    help="Sample rate, for a net that does not know its own.",
)


def _channel_numbers(_context: click.Context, _option: click.Option, text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    numbers = text.split(",")
    if not all(number.strip().isdecimal() and int(number) > 0 for number in numbers):
        raise click.BadParameter(f"'{text}' is no list of channels such as 1 or 1,2, counted from 1")
    return tuple(int(number) for number in numbers)


channels_option = click.option(
    "--channels", callback=_channel_numbers, metavar="1,2,...", help="Which channels the net hears. [default: 1]"
)


def announce_compilation() -> None:
    """Have the user told, once, when machine code must be compiled, or another process does so; signals then end us at once."""
    said: set[str] = set()

    def say(text: str) -> None:
        if text not in said:
            said.add(text)
            click.echo(f"streamcnn: {text} ...", err=True)

    @contextmanager
    def compiling() -> Iterator[None]:
        say(f"compiling the engine for this machine, once; this takes {COMPILE_TIME}")
        with ended_at_once():
            yield

    Told.compiling = compiling
    Told.waiting = lambda: say("another process is compiling the engine; waiting for it")


def configured(config_path: Path | None, stream_name: str, **given: object) -> configuration.Config:
    """Return the configuration of a command line: that of the file, or that of its options alone.

    `given`: net, threshold, device, rate, channels; each None where the option was not used. Raises ConfigError for a file that
    is not valid, and where options contradict it.
    """
    given = {name: value for name, value in given.items() if value is not None}
    if config_path is not None:
        config = configuration.load(config_path)
        nets = [name for name in given if name in ("net", "threshold")]
        if nets:
            raise ConfigError(f"--{nets[0]} and --config both choose the nets", "give one of the two")
        if "device" in given and len(config.streams) > 1:
            raise ConfigError(
                f"--device with {len(config.streams)} configured streams: which one?",
                "change the configuration instead",
            )
        return _with_source(config, given)
    net, settings = str(given.get("net", DEFAULT_NET)), None
    if "threshold" in given:
        settings = with_threshold(own_detector(store.load(net)), given["threshold"])
    name = configuration.as_name(Path(net).stem)
    listener = configuration.Net(name=name or "net", net=net, detector=settings)
    config = configuration.Config(streams=(configuration.Stream(name=stream_name, nets=(listener,)),))
    return _with_source(config, given)


def _with_source(config: configuration.Config, given: dict[str, object]) -> configuration.Config:
    changes = {name: value for name, value in given.items() if name in ("device", "rate", "channels", "format", "width")}
    if not changes:
        return config
    streams = tuple(
        msgspec.structs.replace(stream, source=configuration.changed_source(stream.source, changes))
        for stream in config.streams
    )
    return msgspec.structs.replace(config, streams=streams)
