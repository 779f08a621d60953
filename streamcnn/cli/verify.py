"""`streamcnn verify`: does a net stream what its model computes?"""

from pathlib import Path

import click
import numpy as np

from streamcnn.cli.options import announce_compilation
from streamcnn.errors import InputError, RateError, VerificationError
from streamcnn.graph import store
from streamcnn.graph.graph import Graph
from streamcnn.sources.wav import AudioFile
from streamcnn.verification import BLOCKS, Oracle, Verdict, check_signal, fitted, keras_oracle, random_signal

MAX_SECONDS = 60  # of a user's file: the oracle computes it whole, several times over


@click.command("verify", short_help="Check that a net streams what its model computes.")
@click.argument("net")
@click.option("--against", type=click.Path(path_type=Path), required=True, metavar="MODEL", help="The Keras model.")
@click.option(
    "--input", "wav", type=click.Path(path_type=Path), metavar="WAV", help="A sound file to check with, beside noise."
)
def command(net: str, against: Path, wav: Path | None) -> None:
    """Stream noise (and a file) through NET at several block sizes and compare with what Keras computes for the whole.

    Shows the error, the first layer that differs, and decisions that differ at the net's threshold. Exit code 1 where the
    net does not stream what the model computes.
    """
    if against.suffix == ".safetensors":
        swapped = f"swap them: streamcnn verify {against} --against {net}"
        remedy = swapped if Path(net).suffix in (".keras", ".h5") else "give the Keras model that the net was made of"
        raise InputError(f"--against {against}: is a net's file, where a model's is wanted", remedy)
    from streamcnn.importers.keras import load_keras  # loads Keras

    verify(store.load(net), load_keras(against), wav)


def verify(graph: Graph, model: object | None, wav: Path | None) -> None:
    """Check a graph against a live Keras model, or, with None, against the reference alone, and print what it showed.

    Raises VerificationError where it fails.
    """
    announce_compilation()
    oracle: Oracle | None = None
    fixed = None
    if model is not None:
        from streamcnn.importers.keras_oracle import fixed_length

        fixed = fixed_length(model, graph)
        oracle = keras_oracle(model, graph)
    signals = {"noise": random_signal(graph, fixed)}
    if wav is not None:
        signals[wav.name] = fitted(graph, _read(graph, wav), fixed)
    verdicts = [check_signal(graph, oracle, signal, name) for name, signal in signals.items()]
    against = "Keras" if model is not None else "the float64 reference (this format has no engine of its own here)"
    for verdict in verdicts:
        click.echo(_line(verdict, against))
    failed = [verdict for verdict in verdicts if not verdict.passed]
    if failed:
        raise VerificationError(f"net '{graph.info.name}' does not stream what its model computes", _why(failed[0]))


def _read(graph: Graph, path: Path) -> np.ndarray:
    channels = tuple(range(1, graph.input_channels + 1))
    with AudioFile(path, channels) as file:
        if graph.info.rate is not None and file.rate != graph.info.rate:
            raise RateError(f"{path}: is sampled at {file.rate} Hz, the net needs {graph.info.rate} Hz", "resample it")
        block = next(file.blocks(MAX_SECONDS * file.rate), None)
    if block is None:
        raise InputError(f"{path}: holds no sound")
    return block * np.float32(graph.info.input_scale)


def _line(verdict: Verdict, against: str) -> str:
    blocks = ", ".join(map(str, BLOCKS))
    bits = f"the same bits in blocks of {blocks}" if verdict.same_bits else f"OTHER BITS in blocks of {blocks}"
    if not verdict.same_length:
        given = f"{verdict.frames} frames in, {verdict.outputs} out"
        return f"{verdict.signal}: {given}, where {against} gives {verdict.wanted_outputs}"
    decisions = "" if verdict.decisions is None else f"; {verdict.decisions} decisions differ"
    return (
        f"{verdict.signal}: {verdict.frames} frames in, {verdict.outputs} out, {bits}; against {against}: "
        f"max error {verdict.max_error:.2g} (allowed {verdict.allowed:.2g}), mean {verdict.mean_error:.2g}{decisions}"
    )


def _why(verdict: Verdict) -> str:
    if not verdict.same_length:
        return "the model gives another number of frames"
    if verdict.diverging is None:
        return "every layer by itself agrees; their rounding adds up"
    name, error, allowed = verdict.diverging
    return f"the first layer that differs is '{name}': {error:.2g}, allowed {allowed:.2g}"
