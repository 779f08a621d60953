"""`streamcnn devices`: what can record."""

import json

import click
from rich.markup import escape
from rich.table import Table

from streamcnn.cli.screen import wide_console
from streamcnn.sources.soundcard import input_devices


@click.command("devices", short_help="List the sound devices that can record.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """List the sound devices that can record, with the index and name that 'run --device' takes."""
    devices = input_devices()
    if as_json:
        click.echo(json.dumps([device._asdict() for device in devices], indent=1))
        return
    if not devices:
        click.echo("streamcnn: no device can record here; 'streamcnn run --device demo' needs none", err=True)
        return
    table = Table(box=None)
    for heading in ("index", "name", "host API", "channels", "own rate"):
        table.add_column(heading, justify="left" if heading in ("name", "host API") else "right")
    for device in devices:
        name = f"{device.name} (default)" if device.is_default else device.name
        table.add_row(
            str(device.index), escape(name), device.host_api, str(device.channels), f"{device.default_rate:g} Hz"
        )
    wide_console().print(table)
