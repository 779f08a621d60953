"""Control tracks beside recordings, changed line by line and byte by byte, given to `replay`."""

import json
import re
import tempfile
from pathlib import Path
from random import Random

import numpy as np

from streamcnn.inference.tables import CAUSES
from streamcnn.ring import NOTHING_LOST, UNKNOWN, Block
from streamcnn.shipped import shipped_net
from streamcnn.sinks.recording import Recording, Session, control_path
from tests.fuzzing.case import Case, Outcome, dropped
from tests.fuzzing.command import judged, run
from tests.fuzzing.mutations import changed, nudged, odd, spoiled
from tests.fuzzing.sound_reader import least_frames

RAMP = shipped_net("ramp")
RATE = 48_000


def prepare() -> None:
    """Load the engine."""
    sound, track = recorded(Random(0))
    Path("ready.wav").write_bytes(sound)
    control_path("ready.wav").write_bytes(track)
    run("replay", "ready.wav", "--net", RAMP)


def case(random: Random) -> Case:
    """Record a session with losses and switches, and spoil its control track, or its sound."""
    sound, track = recorded(random)
    made, lines = "", track.splitlines(keepends=True)
    match random.randrange(10):
        case 0:
            made, track = "bytes spoiled", spoiled(random, track)
        case 1:
            end = random.randrange(len(track) + 1)
            made, track = f"cut off after {end} bytes", track[:end]
        case 2 | 3:
            made, track = _other_lines(random, lines)
        case 4:
            end = random.randrange(len(sound) + 1)
            made, sound = f"the sound cut off after {end} bytes", sound[:end]
        case 5:
            made, sound = "the sound's head spoiled", spoiled(random, sound, within=(0, 100))
        case _:
            made, track = _changed_lines(random, lines)
    return Case(made, {"x.wav": sound, "x.wav.control.jsonl": track}, (), least_frames(sound))


def try_(case: Case, folder: Path) -> Outcome:
    """Replay it; all frames of the sound, and all losses of the track, must come through, or something be said."""
    ran = run("replay", folder / "x.wav", "--net", RAMP, "--block", "500")
    outcome = judged(ran)
    if outcome.fault or not outcome.is_taken:
        return outcome
    outcome = dropped("frames", ran.frames, case.least, ran.err)
    if outcome.fault:
        return outcome
    told = [json.loads(line) for line in ran.out.split("\n") if line]
    gaps = sum(event["frames"] for event in told if event["type"] == "gap")
    return dropped("losses", gaps, lost_frames(case.files["x.wav.control.jsonl"]), ran.err)


def lost_frames(track: bytes) -> int:
    """Return how many frames the whole lines of a track say that were lost."""
    lost = 0
    for line in track.split(b"\n")[:-1]:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("kind") == "lost" and isinstance(entry.get("frames"), int):
            lost += entry["frames"]
    return lost


def recorded(random: Random) -> tuple[bytes, bytes]:
    """Return a recording of a session: its sound, and its control track."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.wav"
        _record(random, path)
        return path.read_bytes(), control_path(path).read_bytes()


def _record(random: Random, path: Path) -> None:
    clocked = random.random() < 0.7
    session = Session(stream="s", session="12ab", rate=RATE, channels=1, nets={"ramp": "ramp@1390f4"}, clocked=clocked)
    recording, sample = Recording(path, session), 0
    for _ in range(random.randrange(8)):
        lost = random.choice((0, 0, 0, 1, 300)) if random.random() < 0.5 else 0
        cause = random.choice(range(len(CAUSES))) if lost else None
        sample += lost
        frames = random.randrange(1, 600)
        noise = np.random.default_rng(random.randrange(2**32)).normal(0, 0.1, (frames, 1)).astype(np.float32)
        error = random.choice((0, UNKNOWN)) if lost else 0
        recording.hear(Block(sample, noise, UNKNOWN, UNKNOWN, 0, lost if lost else NOTHING_LOST, error, cause))
        if clocked:
            now = 10**9 + round((sample + frames) / RATE * 1e9)
            recording.note_pair(sample, now, 5_000_000, 1_790_000_000 * 10**9)
        sample += frames
        recording.settle(sync=False)
    recording.close(sample)


def _changed_lines(random: Random, lines: list[bytes]) -> tuple[str, bytes]:
    """Change the values of one or two lines."""
    chosen = random.sample(range(len(lines)), min(len(lines), random.choice((1, 1, 2))))
    for k in chosen:
        entry = json.loads(lines[k])
        if random.random() < 0.5:
            entry[random.choice(list(entry))] = odd(random)
        else:
            entry = random.choice((changed, nudged, nudged))(random, entry)
        lines[k] = json.dumps(entry).encode() + b"\n"
    return "changed: " + re.sub(r"\s+", " ", b"".join(lines[k] for k in chosen).decode())[:200], b"".join(lines)


def _other_lines(random: Random, lines: list[bytes]) -> tuple[str, bytes]:
    """Remove, double, swap or put in lines."""
    k, j = random.randrange(len(lines)), random.randrange(len(lines))
    match random.randrange(5):
        case 0:
            made = f"without line {k}"
            del lines[k]
        case 1:
            made = f"line {k} doubled at {j}"
            lines.insert(j, lines[k])
        case 2:
            made = f"lines {k} and {j} exchanged"
            lines[k], lines[j] = lines[j], lines[k]
        case 3:
            made = f"an empty line at {j}"
            lines.insert(j, random.choice((b"\n", b"{}\n", b"null\n", b"\r\n", b" \n")))
        case _:
            entry = random.choice((
                {"kind": "lost", "at": odd(random), "sample": odd(random), "frames": 5, "frames_error": 0, "cause": "x"},
                {"kind": "lost", "at": 0, "sample": 0, "frames": odd(random), "frames_error": odd(random), "cause": ""},
                {"kind": "switched", "at": 0, "sample": 0, "net": random.choice(("ramp", "none", "")), "on": False},
                {"kind": "clock", "sample": odd(random), "arrival_ns": odd(random), "age_ns": 0, "utc_ahead_ns": odd(random)},
                {"kind": "end", "at": odd(random), "sample": odd(random)},
            ))  # fmt: skip
            made = f"at {j} one more: {json.dumps(entry)[:150]}"
            lines.insert(j, json.dumps(entry).encode() + b"\n")
    return made, b"".join(lines)
