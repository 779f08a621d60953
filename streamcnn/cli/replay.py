"""`streamcnn replay`: the events of sound files."""

from pathlib import Path

import click

from streamcnn.cli.options import (
    announce_compilation,
    channels_option,
    config_option,
    configured,
    net_option,
    rate_option,
    threshold_option,
)
from streamcnn.errors import AudioFileError, InputError, RateError
from streamcnn.events import Event
from streamcnn.replaying import DEFAULT_BLOCK, replay
from streamcnn.sinks.lines import Lines


@click.command("replay", short_help="Find the events in sound files.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@config_option
@net_option
@threshold_option
@rate_option
@channels_option
@click.option(
    "--block",
    type=click.IntRange(min=1),
    default=DEFAULT_BLOCK,
    show_default=True,
    metavar="FRAMES",
    help="How many frames at a time; changes nothing but the speed.",
)
@click.option(
    "-o",
    "--output",
    default="-",
    metavar="EVENTS.jsonl|.csv|-",
    help="Where to write. [default: -, JSON lines on standard output]",
)
@click.option(
    "--edges",
    type=click.Choice(["mask", "keras"]),
    default="mask",
    show_default=True,
    help="'mask' ignores what the nets say while they still see the zeros around the file; 'keras' uses every frame "
    "that Keras would give for the file by itself.",
)
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="PNG", help="Draw signal, scores and detections (one file)."
)
def command(
    files: tuple[Path, ...],
    config_path: Path | None,
    net: str | None,
    threshold: float | None,
    rate: int | None,
    channels: tuple[int, ...] | None,
    block: int,
    output: str,
    edges: str,
    plot: Path | None,
) -> None:
    """Run FILES (WAV, FLAC, OGG) through the same code as 'run' and write their events, one JSON object a line.

    A file that cannot be read is reported and the others go on; the exit code is then 2.
    """
    if plot is not None and len(files) != 1:
        raise InputError(f"--plot draws one file, {len(files)} are given")
    config = configured(config_path, "file", net=net, threshold=threshold, rate=rate, channels=channels)
    announce_compilation()
    names = [path.name for path in files]
    sessions = [path.name if names.count(path.name) == 1 else str(path) for path in files]
    # Nets and settings are checked before an earlier result is overwritten.
    replays = [
        replay(path, config, block=block, rate=rate, mask_edges=edges == "mask", session=session)
        for path, session in zip(files, sessions, strict=True)
    ]
    failed: AudioFileError | RateError | None = None
    drawn: list[Event] = []
    with Lines(output) as lines:
        for one in replays:
            try:
                for event in one:
                    lines.write(event)
                    if plot is not None:
                        drawn.append(event)
            except (AudioFileError, RateError) as error:
                failed = error
                if len(files) > 1:
                    click.echo(f"streamcnn: {error}", err=True)
    if failed is not None:
        if len(files) == 1:
            raise failed
        raise SystemExit(failed.exit_code)
    if plot is not None:
        from streamcnn.cli.pictures import draw_replay  # loads matplotlib

        draw_replay(files[0], config.streams[0], drawn, plot)
        click.echo(f"drew {plot}", err=True)
