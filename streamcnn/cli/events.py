"""`streamcnn events`: what a daemon's journal holds."""

import csv
import re
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from streamcnn import config as configuration
from streamcnn.cli.screen import counted, describe
from streamcnn.errors import ConfigError, SubscribeError
from streamcnn.events import Detection, Event, from_json
from streamcnn.journal.reading import Query, read


def _since(_context: click.Context, _option: click.Option, text: str | None) -> float | None:
    """Return a time in seconds since 1970: of a span before now, or of a date."""
    if text is None:
        return None
    if re.fullmatch(r"[\d.]+\s*[a-z]+", text):
        try:
            return time.time() - configuration.Duration.parse(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(
            f"'{text}' is neither a span such as 10m nor a UTC time such as 2026-11-20T12:00"
        ) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


@click.command("events", short_help="Show what the daemon's journal holds.")
@click.option("--since", callback=_since, metavar="SPAN|TIME", help="Only what was kept since: 10m, 2h, or a UTC time.")
@click.option("--stream", metavar="S", help="Only events of this stream.")
@click.option("--label", metavar="L", help="Only detections of this label.")
@click.option("--json", "as_json", is_flag=True, help="Print every event as a line of JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="Print detections as CSV.")
@click.option(
    "--journal",
    "path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The journal. [default: the daemon's own]",
)
@click.option(
    "--config", "config_path", type=click.Path(path_type=Path), metavar="YAML", help="The daemon's configuration."
)
def command(
    since: float | None,
    stream: str | None,
    label: str | None,
    as_json: bool,
    as_csv: bool,
    path: Path | None,
    config_path: Path | None,
) -> None:
    """Print the events in a journal, oldest first, whether the daemon runs or not.

    Without --journal or --config it is the journal of a daemon that was started by this user, from a configuration with a
    'journal' that names no path.
    """
    if as_json and as_csv:
        raise click.UsageError("--json and --csv are two formats: give one")
    events = _events(_path(path, config_path), Query(since, stream, label))
    if as_csv:
        _as_csv(events)
        return
    for event in events:
        print(msgspec.json.encode(event).decode() if as_json else describe(event, phase=True))


def _path(path: Path | None, config_path: Path | None) -> Path:
    if path is not None:
        return path
    if config_path is None:
        return configuration.Journal().place
    settings = configuration.load(config_path).journal
    if settings is None:
        raise ConfigError(
            f"{config_path}: has no 'journal': events are kept in the daemon's memory", "add 'journal: {}'"
        )
    return settings.place


def _events(path: Path, query: Query) -> Iterable[Event]:
    damaged = 0
    for row in read(path, query):
        if isinstance(row, int):
            damaged += 1
            continue
        try:
            yield from_json(row.payload.encode())
        except SubscribeError as error:
            click.echo(f"streamcnn: {path}: event {row.seq}: {error}", err=True)
    if damaged:
        click.echo(f"streamcnn: {path}: {counted(damaged, 'event')} left out: damaged in the file", err=True)


def _as_csv(events: Iterable[Event]) -> None:
    fields = list(Detection.__struct_fields__)
    writer = csv.DictWriter(sys.stdout, fields, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(msgspec.to_builtins(event) for event in events if isinstance(event, Detection))
