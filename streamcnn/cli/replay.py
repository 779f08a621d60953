"""`streamcnn replay`: the events of sound files."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from streamcnn.cli.numbers import Whole
from streamcnn.cli.options import (
    announce_compilation,
    channels_option,
    config_option,
    configured,
    net_option,
    rate_option,
    threshold_option,
)
from streamcnn.config import Config
from streamcnn.errors import AudioFileError, InputError, RateError
from streamcnn.events import Event
from streamcnn.optional import BACKENDS
from streamcnn.replaying import DEFAULT_BLOCK, BatchReplay, replay
from streamcnn.sinks.lines import Lines
from streamcnn.sources.wav import AudioFile


@click.command("replay", short_help="Find the events in sound files.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@config_option
@net_option
@threshold_option
@rate_option
@channels_option
@click.option(
    "--block",
    type=Whole(1),
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
@click.option("--batch", is_flag=True, help="The same events, found with Keras, on a GPU where there is one.")
@click.option(
    "--backend", type=click.Choice(BACKENDS), help="Keras' backend for --batch. [default: the first installed]"
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
    batch: bool,
    backend: str | None,
    edges: str,
    plot: Path | None,
) -> None:
    """Run FILES (WAV, FLAC, OGG) through the same code as 'run' and write their events, one JSON object a line.

    A file that cannot be read is reported and the others go on; the exit code is then 2.
    """
    if plot is not None and len(files) != 1:
        raise InputError(f"--plot draws one file, {len(files)} are given")
    if plot is not None and not plot.absolute().parent.is_dir():
        raise InputError(f"--plot {plot}: there is no folder {plot.parent}", "make it first")
    if backend is not None and not batch:
        raise InputError("--backend is for --batch", "give both")
    config = configured(config_path, "file", net=net, threshold=threshold, rate=rate, channels=channels)
    announce_compilation()
    names = [path.name for path in files]
    sessions = [None if names.count(path.name) == 1 else str(path) for path in files]
    drawn: list[Event] = []
    failed: AudioFileError | RateError | None = None
    options = {"rate": rate, "mask_edges": edges == "mask"}
    with _replays(config, files, sessions, batch, backend, block, options) as replays, Lines(output) as lines:
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


@contextmanager
def _replays(
    config: Config,
    files: tuple[Path, ...],
    sessions: list[str | None],
    batch: bool,
    backend: str | None,
    block: int,
    options: dict[str, object],
) -> Iterator[list[Iterator[Event]]]:
    """Give the events of each file. Nets and settings are checked before an earlier result is overwritten."""
    pairs = list(zip(files, sessions, strict=True))
    with _bar("screening" if batch else "replaying", sum(map(_frames, files)) if sys.stderr.isatty() else 0) as bar:
        if not batch:
            yield [
                replay(path, config, block=block, session=session, progress=bar.advance, **options)
                for path, session in pairs
            ]
            return
        replays = BatchReplay(config, backend=backend, say=bar.say, progress=bar.advance, **options)
        yield [replays.replay(path, session) for path, session in pairs]
    share = min(1, replays.recomputed / replays.frames) if replays.frames else 0  # probes may compute a frame twice
    told = f"{replays.frames:,} frames screened, {share:.2%} of them computed again by the engine, which made the events"
    click.echo(f"streamcnn: {told}", err=True)


class _Bar:
    """How far it is, below what is said; both on standard error."""

    def __init__(self, progress: Progress, task: TaskID):
        self._progress, self._task = progress, task

    def advance(self, frames: int) -> None:
        """Count frames."""
        self._progress.advance(self._task, frames)
        speed = self._progress.tasks[0].speed
        self._progress.update(self._task, speed="" if speed is None else f"{speed / 1e6:,.1f} M samples/s")

    def say(self, text: str) -> None:
        """Say something, above the bar where there is one."""
        self._progress.console.print(f"streamcnn: {text}", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _bar(what: str, frames: int) -> Iterator[_Bar]:
    """Show a bar for so many frames, on a terminal only."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[speed]}"))
    console = Console(stderr=True)
    disabled = not console.is_terminal or console.is_dumb_terminal
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=disabled) as progress:
        yield _Bar(progress, progress.add_task(what, total=frames, speed=""))


def _frames(path: Path) -> int:
    try:
        with AudioFile(path) as file:
            return file.frames
    except AudioFileError:  # its replay will say so
        return 0
