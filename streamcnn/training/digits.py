"""The recipe `digits`: trains the spoken-digit tagger, once without each speaker to measure it, and once on all to ship it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamcnn.events import Detection
from streamcnn.graph.graph import Graph, NetInfo
from streamcnn.importers.keras import import_keras
from streamcnn.pipeline.listener import Listener, own_detector
from streamcnn.pipeline.pipeline import Pipeline
from streamcnn.training import card, clips, spoken, tagger

SEED = 1
SNRS_DB = (math.inf, 20.0, 10.0, 5.0)
CARD_SNR_DB = 10.0
GAPS_S = (0.4, 1.2)
TARGET_LAG_S = 0.1  # the middle of the time for which the net holds its answer, after the word's end
INFO = NetInfo(
    name="digits",
    rate=spoken.RATE,
    labels=spoken.LABELS,
    target_lag=int(TARGET_LAG_S * spoken.RATE),
    threshold=0.5,
    detector={
        "kind": "tag",
        "labels": [label for label in spoken.LABELS if label != "none"],
        "on": 0.5,
        "off": 0.3,
        "smooth": "80ms",
        "min_duration": "40ms",
    },
)
ATTRIBUTION = """Words: Free Spoken Digit Dataset, Z. Jackson and contributors (speakers {speakers}),
https://github.com/Jakobovski/free-spoken-digit-dataset, CC BY-SA 4.0 (https://creativecommons.org/licenses/by-sa/4.0/).
Noises: {noises}, steady beds made of CC0 clips of ESC-10
(K. J. Piczak, doi:10.1145/2733373.2806390). Neither is part of this project."""


@dataclass(frozen=True)
class Score:
    """How a stream of words was heard: `hits` of the `said` words, in `found` tags."""

    hits: int
    found: int
    said: int

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        return 2 * self.hits / (self.found + self.said)


def train_digits(folder: Path, data: Path | None, say: Callable[[str], None]) -> None:
    """Train and measure the net, and write it with golden and card into `folder`; `data` holds the recordings.

    `say` is told what happens, a line at a time. Raises InputError where recordings are missing.
    """
    recordings = spoken.load_recordings(data)
    scores: dict[str, dict[float, Score]] = {}
    for number, speaker in enumerate(recordings.speakers, 1):
        say(f"training without {speaker} ({number} of {len(recordings.speakers)}): {tagger.STEPS} steps ...")
        others = tuple(word for word in recordings.words if word.speaker != speaker)
        graph = import_keras(tagger.train_tagger(recordings, others, SEED, say), INFO)
        own = tuple(word for word in recordings.words if word.speaker == speaker)
        scores[speaker] = {snr: measure(graph, own, _rain(recordings), snr, SEED) for snr in SNRS_DB}
        say(f"  {speaker}, never heard before, in rain at {CARD_SNR_DB:g} dB: F1 {scores[speaker][CARD_SNR_DB].f1:.3f}")
    say(f"training on all speakers: {tagger.STEPS} steps ...")
    model = tagger.train_tagger(recordings, recordings.words, SEED, say)
    graph = import_keras(model, INFO)
    model.save(folder / "digits.keras")
    graph.save(folder / "digits.safetensors")
    signal, _ = spoken.glued(recordings.words[:: len(recordings.words) // 8], _rain(recordings), 20, GAPS_S, _random(0))
    card.write_golden(folder / "digits.golden.safetensors", graph, model, signal[:, None])
    false = {name: len(tags(graph, measuring * 0.02)) for name, (_, measuring) in recordings.noises.items()}
    card.write_card(folder / "digits.md", graph, _card(recordings, scores, false))
    say(f"wrote {folder / 'digits.safetensors'}")


def measure(graph: Graph, words: tuple[spoken.Word, ...], noise: np.ndarray, snr_db: float, seed: int) -> Score:
    """Stream all words, glued, in a noise; one tag for each is wanted."""
    signal, said = spoken.glued(words, noise, snr_db, GAPS_S, _random(seed))
    found = tags(graph, signal)
    return Score(spoken.matched(found, said), len(found), len(said))


def tags(graph: Graph, signal: np.ndarray) -> list[tuple[int, int]]:
    """Return (sample, digit) of the tags that the net's own detector confirms in a signal (frames,)."""
    pipeline = Pipeline("digits", "training", spoken.RATE, 1, [Listener("digits", graph, own_detector(graph))])
    signal = np.ascontiguousarray(signal[:, None], np.float32)
    blocks = np.split(signal, range(65536, len(signal), 65536))
    events = [event for block in blocks for event in pipeline.process(block)]
    return [
        (event.sample, spoken.LABELS.index(event.label))
        for event in events
        if isinstance(event, Detection) and event.phase == "confirmed"
    ]


def _random(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def _rain(recordings: spoken.Recordings) -> np.ndarray:
    return next(measuring for name, (_, measuring) in recordings.noises.items() if "rain" in name)


def _card(recordings: spoken.Recordings, scores: dict[str, dict[float, Score]], false: dict[str, int]) -> str:
    heads = ["no noise" if math.isinf(snr) else f"{snr:g} dB" for snr in SNRS_DB]
    rows = [
        f"| {speaker} | " + " | ".join(f"{by_snr[snr].f1:.3f}" for snr in SNRS_DB) + " |"
        for speaker, by_snr in scores.items()
    ]
    at = [by_snr[CARD_SNR_DB] for by_snr in scores.values()]
    precision = sum(s.hits for s in at) / max(1, sum(s.found for s in at))
    recall = sum(s.hits for s in at) / sum(s.said for s in at)
    seconds = {name: len(measuring) / spoken.RATE for name, (_, measuring) in recordings.noises.items()}
    noises = ", ".join(f"{count} in {seconds[name]:.0f} s of {name}" for name, count in false.items())
    mean = " | ".join(f"**{np.mean([by_snr[snr].f1 for by_snr in scores.values()]):.3f}**" for snr in SNRS_DB)
    table = "\n".join(
        ["| left out | " + " | ".join(heads) + " |", "| --- |" + " --- |" * len(heads), *rows, f"| **mean** | {mean} |"]
    )
    noisiest, cleanest = clips.SNR_DB
    attribution = ATTRIBUTION.format(speakers=", ".join(recordings.speakers), noises=", ".join(recordings.noises))
    return f"""## What it is
A tagger of the spoken English digits zero to nine: a causal, strided 1-D convolutional net on raw 8 kHz audio, softmax
over ten digits and "none" every {1000 * clips.HOP / spoken.RATE:g} ms. It answers when a word has ended. A demonstration of
tags on speech, by five speakers and in English only; no wake word, and no judge of what was said.

## How it was trained
{tagger.STEPS} batches of {tagger.BATCH} made clips of {clips.CLIP_S:g} s: words at random speeds, levels and colours in
noise at {noisiest:g} to {cleanest:g} dB and in silence, the bands of each clip shifted, spread and partly blotted out;
cross-entropy, AdamW, averaged weights. Seed {SEED}. The filter bank at its front is fixed.

{attribution}

## What it does
Each speaker left out of the training in turn, and all of that speaker's {at[0].said} words then heard as one
stream: glued in random order with gaps of {GAPS_S[0]:g} to {GAPS_S[1]:g} s, in rain that the training did not hear, one
tag a word wanted. F1 of the confirmed tags, matched one to one (the right digit, between the word's start
and {spoken.MATCH_S:g} s after its end), by signal-to-noise ratio:

{table}

At {CARD_SNR_DB:g} dB, all speakers together: precision {precision:.3f}, recall {recall:.3f}. The shipped net has heard all
five, so it cannot be measured on them. False tags of the shipped net in noise alone: {noises}.
"""
