"""Configurations, those of the project and ones grown from their grammar, spoiled as text and as values, given to `replay`."""

import functools
import io
import json
from pathlib import Path
from random import Random

import numpy as np
import soundfile
import yaml

from tests.fuzzing.case import Case, Outcome, dropped
from tests.fuzzing.command import judged, run
from tests.fuzzing.mutations import changed, nudged, spoiled

ROOT = Path(__file__).parents[2]
FRAMES = 2000
FULL = (ROOT / "configs/full.yaml").read_text()
LONG = (
    "streams: [{name: s, nets: [{name: r, net: ramp}, {name: a, average: 1s, detector: {kind: peak, threshold: 1}}]}]"
)
LINES = (
    "x: !!python/object/apply:os.system [id]", "x: &a [*a]", "a: &a [x, x, x]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]",
    "<<: {streams: []}", "<<: *nothing", "? [a, b]\n: c", "%YAML 1.1", "--- x", "...", "\t- tab", "streams: []", "on: yes",
    "publish: {bind: 'tcp://*:5556'}", "publish: {bind: 'ipc://\\0'}", "journal: {keep: 1e9d}", "!!binary aGk=", "!!set {a, b}",
    "2024-01-01: 012", "'': ''", "é: 😀", "- - - - - -", "{" * 3000, "[" * 3000, "- " * 3000, "x: |2\n  a",
    "? ? ? ?", "&" + "a" * 5000,
)  # fmt: skip
SPANS = (
    *("0s", "1us", "1ms", "10ms", "0.5s", "1s", "2m", "1h", "30d", "3650d", "10 ms") * 3,
    "1",
    "-1s",
    "1e3s",
    "1.5.5s",
)


def prepare() -> None:
    """Load the engine, with every kind of net and detector."""
    for name, data in files().items():
        Path(name).write_bytes(data)
    for seed in range(4):
        Path("x.yaml").write_text(yaml.safe_dump(grown(Random(seed))))
        run("replay", "x.wav", "--config", "x.yaml")
    for text in (FULL, LONG):
        Path("x.yaml").write_text(text)
        run("replay", "x.wav", "--config", "x.yaml")


def case(random: Random) -> Case:
    """Take a valid configuration, and spoil its values, its lines or its bytes."""
    values = yaml.safe_load(FULL) if random.random() < 0.3 else grown(random)
    made, text = "grown", None
    if random.random() < 0.7:
        made, values = "values changed", random.choice((changed, nudged))(random, values)
    if values == yaml.safe_load(FULL) or random.random() < 0.15:
        made, text = "full.yaml", FULL
    if text is None:
        text = json.dumps(values) if random.random() < 0.3 else _as_yaml(values)
    lines = text.splitlines()
    match random.randrange(8):
        case 0:
            made += ", lines changed"
            for _ in range(random.choice((1, 2))):
                _change_lines(random, lines)
            text = "\n".join(lines) + "\n"
        case 1:
            made += ", bytes spoiled"
            return Case(made, {**files(), "x.yaml": spoiled(random, text.encode(errors="surrogatepass"))}, (), FRAMES)
    return Case(made, {**files(), "x.yaml": text.encode(errors="surrogatepass")}, (), FRAMES)


def try_(case: Case, folder: Path) -> Outcome:
    """Replay a file with it; where it is taken, all frames must be processed, or something said."""
    ran = run("replay", folder / "x.wav", "--config", folder / "x.yaml")
    outcome = judged(ran)
    if outcome.fault or not outcome.is_taken:
        return outcome
    return dropped("frames", ran.frames, case.least, ran.err)


@functools.cache
def files() -> dict[str, bytes]:
    """Return the files that configurations name."""
    noise = np.random.default_rng(0).normal(0, 0.1, (FRAMES, 2))
    return {
        "x.wav": _wav(noise),
        "chirp.wav": _wav(noise[:64, 0]),
        "other.wav": _wav(noise[:50, 0], 44_100),
        "taps.txt": b"0.5\n0.25\n0.25\n",
        "ramp.safetensors": (ROOT / "weights/ramp.safetensors").read_bytes(),
    }


def grown(random: Random) -> dict[str, object]:
    """Return a configuration that is valid, or nearly so."""
    nets = [_net(random, f"n{k}") for k in range(random.choice((1, 1, 2, 3)))]
    stream = {"name": "mic0", "nets": nets}
    if random.random() < 0.5:
        source = {"device": random.choice(("demo", "pulse", "-", 0)), "rate": random.choice((48_000, 44_100)),
                  "channels": random.choice(([1], [2], [1, 2])), "block": 256, "gain": random.choice((0.5, 1, 2))}  # fmt: skip
        stream["source"] = {name: source[name] for name in random.sample(list(source), random.randrange(len(source)))}
    config: dict[str, object] = {"streams": [stream]}
    if random.random() < 0.3:
        stream["clips"] = {"folder": "clips", "before": random.choice(SPANS), "detectors": ["n0"]}
    if random.random() < 0.3:
        bind = random.choice(("none", "tcp://127.0.0.1:5556", "ipc://events", "tcp://[::1]:5556"))
        config["publish"] = {"bind": bind, "format": random.choice(("json", "msgpack"))}
    if random.random() < 0.3:
        config["journal"] = {"path": "j.db", "keep": random.choice(SPANS), "most_mb": 5}
    return config


def _net(random: Random, name: str) -> dict[str, object]:
    what = random.choice((
        {"net": "ramp"}, {"net": "ramp.safetensors"}, {"net": "./ramp.safetensors"}, {"net": "ramp_robust"},
        {"template": "chirp.wav", "normalized": True}, {"template": ["chirp.wav", "other.wav"], "noise_rms": 0.01},
        {"fir": "taps.txt"}, {"average": random.choice(SPANS)},
    ))  # fmt: skip
    span = lambda: random.choice(SPANS)  # noqa: E731
    detector = random.choice((
        "ramp", None, {"kind": "peak", "threshold": 0.6, "refractory": span(), "merge": span()},
        {"kind": "peak", "false_alarm": 1e-6}, {"kind": "peak", "threshold": {"ramp": 0.5}, "most_per_s": 10},
        {"kind": "trigger", "on": 0.2, "off": 0.1, "min_duration": span(), "max_duration": span(), "hold_off": span()},
        {"kind": "trigger", "false_alarm": 0.001},
        {"kind": "tag", "labels": ["ramp"], "on": 0.5, "off": 0.4, "smooth": span(), "votes": {"needed": 2, "of": 3}, "top": 1},
        {"kind": "tag", "on": {"ramp": 0.5}, "outputs": random.choice(("softmax", "sigmoid")), "min_duration": span()},
        {"kind": "measure", "every": span(), "change": 0.5, "statistic": random.choice(("last", "mean", "min", "max"))},
    ))  # fmt: skip
    net = {"name": name, **what, "detector": detector, "importance": random.choice((None, 0, 3))}
    return {key: value for key, value in net.items() if value is not None}


def _wav(samples: np.ndarray, rate: int = 48_000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def _as_yaml(values: object) -> str:
    """Return values as YAML; those that YAML cannot have, as JSON."""
    try:
        return yaml.safe_dump(values, allow_unicode=True)
    except (yaml.YAMLError, ValueError):
        return json.dumps(values)


def _change_lines(random: Random, lines: list[str]) -> None:
    k, j = (random.randrange(len(lines) + 1) for _ in range(2))
    match random.randrange(6):
        case 0:
            del lines[k : k + 1]
        case 1:
            lines[k:k] = lines[j : j + 1]
        case 2:
            lines[k : k + 1] = [random.choice((" ", "  ", "\t", "- ", "# ", "'")) + line for line in lines[k : k + 1]]
        case 3:
            lines[k : k + 1] = [line.strip() for line in lines[k : k + 1]]
        case _:
            lines.insert(k, random.choice(LINES))
