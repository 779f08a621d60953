"""`streamcnn run`: the daemon in the foreground."""

import os
import signal
import sys
from contextlib import closing, nullcontext
from pathlib import Path
from typing import BinaryIO

import click
import msgspec

from streamcnn import config as configuration
from streamcnn.cli import INTERRUPTED
from streamcnn.cli.numbers import Real, Whole
from streamcnn.cli.options import (
    announce_compilation,
    channels_option,
    config_option,
    configured,
    net_option,
    rate_option,
    threshold_option,
)
from streamcnn.cli.screen import RunScreen
from streamcnn.cli.signals import Signals
from streamcnn.daemon import service
from streamcnn.daemon.stream import StreamService
from streamcnn.errors import InputError
from streamcnn.journal.journal import Journal
from streamcnn.pipeline.listener import load_listeners, stream_rate
from streamcnn.sources import opening
from streamcnn.sources.pcm import FORMATS
from streamcnn.system import Bell
from streamcnn.wire.publisher import Publisher


@click.command("run", short_help="Listen to a source and report what the nets hear.")
@config_option
@click.option(
    "--device",
    metavar="NAME|INDEX|demo|-",
    help="A sound device's name or index (see 'streamcnn devices'), "
    "'demo' for the built-in signal, '-' for raw frames on standard input. [default: demo]",
)
@net_option
@threshold_option
@rate_option
@channels_option
@click.option(
    "--format",
    "sample_format",
    metavar="FORMAT",
    help=f"What samples on standard input are: {', '.join(FORMATS)}. [default: f32le, and checked]",
)
@click.option(
    "--width",
    type=Whole(1, configuration.MAX_CHANNELS),
    metavar="N",
    help="How many channels a frame on standard input has. [default: as many as --channels needs]",
)
@click.option(
    "--publish",
    metavar="ENDPOINT|none",
    help=f"Where to publish events over ZeroMQ. [default: {configuration.DEFAULT_ENDPOINT}]",
)
@click.option(
    "--duration", type=Real(above=0), metavar="S", help="Stop after so many seconds."
)
@click.option(
    "--record",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write what is heard to a WAV file, with a control track beside it: 'replay' then finds the same events.",
)
@click.option("--json", "as_json", is_flag=True, help="Print every event as a line of JSON.")
def command(
    config_path: Path | None,
    device: str | None,
    net: str | None,
    threshold: float | None,
    rate: int | None,
    channels: tuple[int, ...] | None,
    sample_format: str | None,
    width: int | None,
    publish: str | None,
    duration: float | None,
    record: Path | None,
    as_json: bool,
) -> None:
    """Listen to a source, print each detection as it is made, and publish it over ZeroMQ.

    Without any option it listens to the built-in demo, a signal with a ramp every half second. Ctrl-C or SIGTERM ends
    it: the source is closed and the last events go out first. Follow it from elsewhere with 'streamcnn watch'.
    """
    source = {"device": device, "rate": rate, "channels": channels, "format": sample_format, "width": width}
    config = configured(config_path, "live", net=net, threshold=threshold, **source)
    if publish is not None:
        config = msgspec.structs.replace(config, publish=configuration.parse_publish(publish))
    if record is not None and len(config.streams) > 1:
        raise InputError(
            f"--record writes one stream, the configuration has {len(config.streams)}", "run them one by one"
        )
    announce_compilation()
    news = Bell()
    with (
        Signals() as signals,
        _journal(config.journal) as journal,
        _publisher(config.publish, journal) as publisher,
        RunScreen(as_json=as_json) as screen,
    ):
        received = signals.received
        streams = [_stream(stream, news, screen, record) for stream in config.streams]
        screen.waits = not any(stream.source.paced for stream in streams)
        if journal.path is not None:
            screen.note(f"journal: {journal.path}")
        screen.note(f"publishing at {publisher.endpoint}" if publisher else "not publishing")
        signals.collect()
        running = service.run(streams, news, publisher, lambda: bool(received), duration, journal=journal)
        with closing(running) as happening:
            for event in happening:
                screen.show(event, lambda: bool(received))
    if screen.stuck:  # an orderly exit would wait for the reader of our output, which does not read
        sys.stderr.flush()
        os._exit(INTERRUPTED if signal.SIGINT in received else 0)
    if signal.SIGINT in received:
        raise click.Abort  # exit code 130


def _stream(stream: configuration.Stream, news: Bell, screen: RunScreen, record: Path | None) -> StreamService:
    listeners = load_listeners(stream, say=screen.note)
    rate = stream_rate(listeners, stream.source.rate)
    source = opening.opened(stream.source, rate, _standard_input)
    started = StreamService(
        stream.name,
        source,
        listeners,
        stream.source.gain,
        news,
        importances=[net.importance for net in stream.nets],
        record_to=record,
        clips=stream.clips,
    )
    screen.add_stream(stream.name, source.rate)
    nets = ", ".join(net.describe() for net in listeners)
    screen.note(f"stream '{stream.name}': {source.title} at {source.rate} Hz, listening for {nets}")
    resampled = [
        f"{net.name} {net.graph.info.rate} Hz" for net in listeners if net.graph.info.rate not in (None, source.rate)
    ]
    if resampled:
        screen.note(f"stream '{stream.name}': resampled for {', '.join(resampled)}")
    if stream.clips is not None:
        screen.note(f"stream '{stream.name}': clips of confirmed events go to {stream.clips.folder}")
    if record is not None:
        screen.note(f"recording to {record}")
    return started


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        raise InputError("standard input is closed", "pipe raw frames into it")
    return sys.stdin.buffer


def _journal(settings: configuration.Journal | None) -> "closing[Journal]":
    if settings is None:
        return closing(Journal())
    return closing(Journal(settings.place, settings.keep, round(settings.most_mb * 1e6)))


def _publisher(settings: configuration.Publish, journal: Journal) -> "closing[Publisher] | nullcontext[None]":
    return nullcontext() if settings.bind == configuration.NO_ENDPOINT else closing(Publisher(settings, journal))
