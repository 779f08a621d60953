"""The recipe `ramp`: trains the lecture's nets and the robust one, and writes all that is shipped of them."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from streamcnn.engine import Engine
from streamcnn.errors import InputError, VerificationError
from streamcnn.graph.graph import Graph
from streamcnn.importers.keras import import_keras
from streamcnn.importers.pickle import import_pickle
from streamcnn.training import card, lecture, robust

SEED = 1
ROBUST_THRESHOLD = 0.95  # from the ROC in the card: some false detections a minute at 26 dB, nearly every ramp at 20 dB


def train_ramp(folder: Path, data: Path | None, say: Callable[[str], None]) -> None:
    """Train the nets and write nets, goldens and cards into `folder`; it needs no recordings.

    `say` is told what happens, a line at a time. Raises InputError where recordings are given all the same, and
    VerificationError where a net does not do what it must.
    """
    if data is not None:
        raise InputError(f"--data {data} is given, but the recipe 'ramp' makes its own signals", "leave it out")
    say(f"training the lecture's net, causal: {lecture.EPOCHS} epochs over one example ...")
    causal = lecture.train_lecture_net("causal", SEED)
    say("training the lecture's net, valid ...")
    valid = lecture.train_lecture_net("valid", SEED)
    causal.save(folder / "ramp.keras")
    valid.save(folder / "ramp_valid.keras")
    kernel = causal.get_weights()[0]
    (folder / "convnetweights.pickle").write_bytes(pickle.dumps([kernel]))
    (folder / "convnetweights_torch.pickle").write_bytes(
        pickle.dumps([np.ascontiguousarray(kernel.transpose(2, 1, 0))])
    )
    graph = import_keras(causal, lecture.INFO)
    _check_lecture_nets(folder, graph, import_keras(valid, lecture.INFO))
    graph.save(folder / "ramp.safetensors")
    signal = lecture.SIGNAL[:, None] / lecture.INFO.input_scale
    card.write_golden(folder / "ramp.golden.safetensors", graph, causal, signal)
    card.write_card(folder / "ramp.md", graph, _lecture_card(graph))
    say(f"wrote {folder / 'ramp.safetensors'}")

    say(f"training the robust net: {robust.STEPS} batches of {robust.BATCH} signals ...")
    model = robust.train_robust_net(SEED)
    model.save(folder / "ramp_robust.keras")
    info = replace(robust.INFO, threshold=ROBUST_THRESHOLD)
    graph = import_keras(model, info)
    say("measuring its ROC by streaming ...")
    roc = robust.measure_roc(graph, SEED + 1)
    graph.save(folder / "ramp_robust.safetensors")
    signal, _ = robust.examples(np.random.default_rng(SEED), 1, robust.LENGTH)
    card.write_golden(folder / "ramp_robust.golden.safetensors", graph, model, signal.T)
    card.write_card(folder / "ramp_robust.md", graph, _robust_card(roc))
    say(f"wrote {folder / 'ramp_robust.safetensors'}")


def _check_lecture_nets(folder: Path, causal: Graph, valid: Graph) -> None:
    """Stream every variant over the lecture's signal: each must answer highest where it was taught to."""
    variants = {
        "causal": causal,
        "valid": valid,
        "pickle": import_pickle(folder / "convnetweights.pickle"),
        "pickle in PyTorch's order": import_pickle(folder / "convnetweights_torch.pickle", order="torch"),
    }
    for name, graph in variants.items():
        scores = Engine(graph).process(lecture.SIGNAL)[:, 0]
        at = int(np.argmax(scores)) + graph.first
        wanted = lecture.RAMP_END + lecture.TARGET_LAG
        if at != wanted or scores.max() < lecture.THRESHOLD or np.sort(scores)[-2] > 0.5 * lecture.THRESHOLD:
            raise VerificationError(
                f"the variant '{name}' answers {scores.max():.2f} at sample {at}, expected 1 at {wanted}",
                "train with another seed",
            )


def _lecture_card(graph: Graph) -> str:
    scores = Engine(graph).process(lecture.SIGNAL)[:, 0]
    second = np.sort(np.abs(scores))[-2]
    kernel = ", ".join(f"{w:.3f}" for w in graph.nodes[0].layer.kernel.ravel())
    return f"""## What it is
The net of the experiment that streamcnn started from: `Conv1D(1, 8, padding="causal", use_bias=False)`, which hears the
ramp 0, 1/4, 1/2, 3/4, 1 (five samples at 48 kHz). For demonstrations and tests. It is linear, so its score grows with the
loudness, and it answers to anything that falls as steeply as the ramp's end: use `ramp_robust` with a real microphone.

## How it was trained
Mean absolute error, Adam (0.001), {lecture.EPOCHS} epochs over one example: nine zeros, the ramp 0 1 2 3 4, nine zeros; target a 1
at index {lecture.RAMP_END + lecture.TARGET_LAG}, three samples after the ramp's last one. No recordings were used. Seed {SEED}.
Audio peaks at 1 where the lecture's ramp peaks at 4, hence `input_scale` 4.

## What it does
Kernel, oldest tap first: {kernel}.
On the training signal: {scores.max():.3f} at the target, at most {second:.3f} elsewhere.
"""


def _robust_card(roc: dict[int, list[tuple[float, float, float]]]) -> str:
    thresholds = [row[0] for row in next(iter(roc.values()))]
    lines = ["| threshold | " + " | ".join(f"{snr} dB" for snr in roc) + " |", "| --- |" + " --- |" * len(roc)]
    for k, threshold in enumerate(thresholds):
        cells = [f"{rows[k][1]:.1%} / {rows[k][2]:.0f}" for rows in roc.values()]
        lines.append(f"| {threshold:g} | " + " | ".join(cells) + " |")
    table = "\n".join(lines)
    low, high = robust.AMPLITUDE
    return f"""## What it is
`Conv1D(16, 9, relu)`, `Conv1D(1, 1, sigmoid)`, both with bias: hears the ramp 0, 1/4, 1/2, 3/4, 1 (five samples at
48 kHz) at peaks from {low:.2f} to {high:.2f} of full scale (a range of 10 dB) in noise, and rejects clicks, steps, square and reversed
pulses. Set `gain` so that the ramps reach this range.

## How it was trained
Binary cross-entropy, Adam, {robust.STEPS} batches of {robust.BATCH} made signals of {robust.LENGTH} samples: ramps and decoys of random amplitude in
white noise, coloured noise or hum of random level. No recordings were used. Seed {SEED}.

## What it does (ROC)
Share of ramps heard at exactly their sample / false detections per minute, by signal-to-noise ratio (the ramp's peak to the
RMS of white noise). Measured by streaming a minute of signal that holds 20 ramps and 20 decoys a second, with the
detector `peak` and a refractory time of {robust.REFRACTORY_S * 1e3:g} ms; the signals are not those of the training.

{table}

The shipped threshold is {ROBUST_THRESHOLD:g}.
"""
