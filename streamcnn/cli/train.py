"""`streamcnn train`: make the shipped nets again."""

import importlib
import tempfile
from pathlib import Path

import click

from streamcnn.errors import InputError

RECIPES = {"ramp": "streamcnn.training.ramp:train_ramp", "digits": "streamcnn.training.digits:train_digits"}


@click.command("train", short_help="Train one of the shipped nets again.")
@click.argument("recipe", type=click.Choice(list(RECIPES)))
@click.option("--data", type=click.Path(path_type=Path), metavar="DIR", help="Recordings, for recipes that need some.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("weights"),
    show_default=True,
    metavar="DIR",
    help="Where to write nets, goldens and cards.",
)
def command(recipe: str, data: Path | None, output: Path) -> None:
    """Train a net by RECIPE and write it with its model card and a golden input and output.

    ramp: the lecture's net (causal, valid, pickled) and a robust one for real microphones. About two minutes on a CPU.

    digits: a tagger of spoken digits, measured on each speaker that it has not heard. About a quarter of an hour on a CPU, and
    recordings: --data.

    Needs Keras: pip install 'streamcnn[keras]'.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):  # to find out before the training, not after it
            pass
    except OSError as error:
        raise InputError(f"{output}: cannot be written: {error.strerror}") from error
    module, function = RECIPES[recipe].split(":")
    getattr(importlib.import_module(module), function)(output, data, click.echo)  # loads Keras
