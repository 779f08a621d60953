"""`streamcnn convert`: a trained model to a net's file."""

from pathlib import Path

import click

from streamcnn.errors import InputError
from streamcnn.graph import store
from streamcnn.graph.graph import Graph, NetInfo
from streamcnn.importers.pickle import ORDERS


@click.command("convert", short_help="Turn a trained model into a net's file.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, metavar="NET", help="The file to write."
)
@click.option("--name", help="The net's name on the wire. [default: the output's name]")
@click.option("--rate", type=click.IntRange(min=1), metavar="HZ", help="The sample rate it was trained for.")
@click.option("--labels", metavar="A,B,...", help="Names of its outputs.")
@click.option(
    "--target-lag",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="How many samples after the event its training target stands.",
)
@click.option("--input-scale", type=float, default=1.0, metavar="X", help="What samples in [-1, 1] are multiplied by.")
@click.option("--threshold", type=float, metavar="X", help="The score from which on it is a detection.")
@click.option(
    "--order",
    type=click.Choice(ORDERS),
    help="Of a pickled kernel's axes: tap, in, out (keras) or out, in, tap (torch).",
)
@click.option(
    "--padding",
    type=click.Choice(["causal", "valid"]),
    default="causal",
    help="Of a pickled kernel, which does not say. [default: causal]",
)
def command(
    model: Path,
    output: Path,
    name: str | None,
    rate: int | None,
    labels: str | None,
    target_lag: int,
    input_scale: float,
    threshold: float | None,
    order: str | None,
    padding: str,
) -> None:
    """Turn MODEL into a file that 'streamcnn run --net' understands.

    MODEL is a Keras model (.keras or .h5; needs 'pip install streamcnn[keras]'), or a pickled list of a convolution's
    weights (.pickle; read without running any code in it).
    """
    if output.suffix != ".safetensors":
        raise InputError(f"{output}: a net's file ends in .safetensors", f"use -o {output.with_suffix('.safetensors')}")
    info = NetInfo(
        name=name or output.stem,
        rate=rate,
        labels=tuple(labels.split(",")) if labels else (),
        target_lag=target_lag,
        input_scale=input_scale,
        threshold=threshold,
    )
    graph = _imported(model, info, order, padding)
    graph.save(output)
    click.echo(
        f"wrote {output}: {store.identity(graph)}, {len(graph.nodes)} layers, hop {graph.hop}, "
        f"delay {graph.delay}, receptive field {graph.receptive_field} samples"
    )


def _imported(model: Path, info: NetInfo, order: str | None, padding: str) -> Graph:
    match model.suffix:
        case ".keras" | ".h5" | ".hdf5":
            from streamcnn.importers.keras import import_keras  # loads Keras only where it is needed

            return import_keras(model, info)
        case ".pickle" | ".pkl":
            from streamcnn.importers.pickle import import_pickle

            return import_pickle(model, order=order, padding=padding, info=info)
    raise InputError(f"{model}: a model's file ends in .keras, .h5 or .pickle, not '{model.suffix}'")
