"""`streamcnn convert`: a trained model to a net's file."""

from pathlib import Path

import click

from streamcnn.cli.inspect import receptive_field
from streamcnn.cli.numbers import Real, Whole
from streamcnn.cli.verify import verify
from streamcnn.config import MOST_FLOAT
from streamcnn.errors import InputError
from streamcnn.graph import store
from streamcnn.graph.graph import Graph, NetInfo
from streamcnn.importers.front_end import check_rate, load_front_end
from streamcnn.importers.nam import import_nam
from streamcnn.importers.pickle import ORDERS, import_pickle
from streamcnn.importers.rtneural import import_rtneural

KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")


@click.command("convert", short_help="Turn a trained model into a net's file.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, metavar="NET", help="The file to write."
)
@click.option("--name", help="The net's name on the wire. [default: the output's name]")
@click.option("--rate", type=Whole(1), metavar="HZ", help="The sample rate it was trained for.")
@click.option("--labels", metavar="A,B,...", help="Names of its outputs.")
@click.option(
    "--target-lag",
    type=Whole(0),
    default=0,
    metavar="N",
    help="How many samples after the event its training target stands.",
)
@click.option("--input-scale", type=Real(), default=1.0, metavar="X", help="What samples in [-1, 1] are multiplied by.")
@click.option(
    "--warmup",
    type=Whole(0),
    default=0,
    metavar="N",
    help="How many samples a recurrent net needs before its scores mean something.",
)
@click.option(
    "--threshold", type=Real(-MOST_FLOAT, MOST_FLOAT), metavar="X", help="The score from which on it is a detection."
)
@click.option(
    "--clip-frames",
    type=Whole(1),
    metavar="N",
    help="Slide a window of N samples over the stream. [default: where a layer needs it, the model's input length]",
)
@click.option(
    "--window-hop",
    type=Whole(1),
    metavar="N",
    help="How many samples that window moves by. [default: about half of it]",
)
@click.option(
    "--time-axis",
    type=Whole(1, 2),
    help="Which axis of the model's inputs is time, the batch being 0. [default: the one of variable length]",
)
@click.option(
    "--frontend",
    type=click.Path(path_type=Path),
    metavar="YAML",
    help="What makes the model's frames of samples: STFT, mel bands, decibels, ... (docs/front-ends.md).",
)
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
@click.option(
    "--verify",
    "check",
    is_flag=True,
    help="Check first, with noise, that the net streams what the model computes; else write nothing.",
)
@click.option(
    "--verify-on",
    type=click.Path(path_type=Path),
    metavar="WAV",
    help="The same, with a sound file too.",
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
    warmup: int,
    clip_frames: int | None,
    window_hop: int | None,
    time_axis: int | None,
    frontend: Path | None,
    order: str | None,
    padding: str,
    check: bool,
    verify_on: Path | None,
) -> None:
    """Turn MODEL into a file that 'streamcnn run --net' understands.

    MODEL is a Keras model (.keras or .h5; needs 'pip install streamcnn[keras]'), RTNeural's .json, Neural Amp Modeler's .nam
    (ConvNet or WaveNet), or a pickled list of a convolution's weights (.pickle; read without running any code in it).
    """
    if output.suffix != ".safetensors":
        raise InputError(f"{output}: a net's file ends in .safetensors", f"use -o {output.with_suffix('.safetensors')}")
    front_end = None
    if frontend is not None:
        front_end = load_front_end(frontend)
        rate = check_rate(front_end, rate, frontend)
    info = NetInfo(
        name=name or output.stem,
        rate=rate,
        labels=tuple(labels.split(",")) if labels else (),
        target_lag=target_lag,
        input_scale=input_scale,
        threshold=threshold,
        warmup_frames=warmup,
    )
    options = {"clip_frames": clip_frames, "window_hop": window_hop, "time_axis": time_axis, "front_end": front_end}
    graph, keras_model = _imported(model, info, order, padding, options)
    if check or verify_on is not None:
        verify(graph, keras_model, verify_on)
    graph.save(output)
    window = "" if graph.clip is None else f"a window of {graph.clip.frames} samples that slides by {graph.clip.hop}, "
    click.echo(
        f"wrote {output}: {store.identity(graph)}, {len(graph.nodes)} layers, {window}hop {graph.hop}, "
        f"delay {graph.delay}, receptive field {receptive_field(graph.receptive_field)}"
    )
    for option, missing, use in (
        ("--rate HZ", graph.info.rate is None, "'run' and 'replay' need --rate with this net"),
        ("--threshold X", threshold is None, "'run' and 'replay' need --threshold, or a detector in the configuration"),
    ):
        if missing:
            click.echo(f"streamcnn: without {option}: {use}; convert again with it to have it in the file", err=True)


def _imported(
    model: Path, info: NetInfo, order: str | None, padding: str, options: dict[str, object]
) -> tuple[Graph, object | None]:
    """Return the graph of a model file, and the live Keras model where there is one."""
    given = [name for name, value in options.items() if value is not None]
    if given and model.suffix not in KERAS_SUFFIXES:
        option = {"front_end": "frontend"}.get(given[0], given[0]).replace("_", "-")
        raise InputError(f"{model}: --{option} is for Keras models", "leave it out")
    match model.suffix:
        case suffix if suffix in KERAS_SUFFIXES:
            from streamcnn.importers.keras import import_keras, load_keras  # loads Keras only where it is needed

            live = load_keras(model)
            return import_keras(live, info, **options), live
        case ".json":
            return import_rtneural(model, info), None
        case ".nam":
            return import_nam(model, info), None
        case ".pickle" | ".pkl":
            return import_pickle(model, order=order, padding=padding, info=info), None
    raise InputError(f"{model}: a model's file ends in .keras, .h5, .json, .nam or .pickle, not '{model.suffix}'")
