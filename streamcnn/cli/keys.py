"""`streamcnn keys`: keys for an encrypted wire."""

from pathlib import Path

import click

from streamcnn.wire.keys import make_keys


@click.command("keys", short_help="Make keys for an encrypted wire.")
@click.argument("name")
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path),
    default=".",
    metavar="DIR",
    help="Where to write them. [default: here]",
)
def command(name: str, folder: Path) -> None:
    """Make a pair of CURVE keys: NAME.key, for others, and NAME.key_secret, for nobody else.

    The daemon has a pair ('publish.curve.secret'), and so has each subscriber ('watch --key'); the daemon is given the
    subscribers' public keys in a folder ('publish.curve.clients'), they are given the daemon's ('watch --server-key').
    """
    if not name or "/" in name or name.startswith("."):
        raise click.BadParameter(f"'{name}' is no name for a file", param_hint="NAME")
    public, secret = make_keys(folder, name)
    print(f"{public}  for others")
    print(f"{secret}  keep it secret")
