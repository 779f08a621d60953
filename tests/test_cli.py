"""The command line as a user meets it: what it prints, draws and returns, and what it says to rubbish."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from streamcnn.errors import __doc__ as error_tree
from tests.conftest import Cli, wait_until
from tests.signals import RATE, ramps, write

WEIGHTS = Path(__file__).parents[1] / "weights"


@pytest.fixture(scope="module")
def wav(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds with ramps at 1,000, 40,000 and 80,000."""
    return write(tmp_path_factory.mktemp("wav") / "x.wav", ramps([1000, 40_000, 80_000], 2 * RATE, noise=0.01))


def one_line(done: subprocess.CompletedProcess) -> str:
    """Return the one line that a failed command may print."""
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("streamcnn: ")
    return line


def test_importing_streamcnn_loads_no_tensorflow(cli: Cli):
    """Neither importing the package nor running the daemon's command loads TensorFlow, Keras or matplotlib."""
    code = (
        "import streamcnn, streamcnn.cli.run, streamcnn.cli.watch, streamcnn.cli.replay, streamcnn.sources.demo, sys;"
        "streamcnn.Engine, streamcnn.Subscriber, streamcnn.replay;"
        "print([m for m in ('tensorflow', 'keras', 'matplotlib', 'scipy.signal') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_public_names_are_pinned():
    """The package's public names are those of the documentation, and each can be had."""
    import streamcnn

    assert streamcnn.__all__ == [
        "AsyncSubscriber",
        "Engine",
        "Graph",
        "NetInfo",
        "Node",
        "StreamcnnError",
        "Subscriber",
        "import_keras",
        "import_nam",
        "import_pickle",
        "import_rtneural",
        "load",
        "load_front_end",
        "reference",
        "replay",
        "save",
        "errors",
        "events",
        "layers",
    ]
    for name in streamcnn.__all__:
        assert getattr(streamcnn, name) is not None
    with pytest.raises(AttributeError):
        streamcnn.nonsense  # noqa: B018


def test_the_error_tree_is_drawn_as_it_is():
    """The tree in the docstring holds every exception class, and nothing else."""
    from streamcnn import errors

    classes = {name for name, value in vars(errors).items() if isinstance(value, type)}
    drawn = {word for word in error_tree.replace("├──", " ").replace("└──", " ").split() if word.endswith("Error")}
    assert classes == drawn


def test_the_demo_is_heard_and_ctrl_c_ends_it(cli: Cli):
    """`run` hears the demo's ramps at the multiples of 24,000, and Ctrl-C returns 130 promptly."""
    daemon = cli.start("run", "--publish", "none", "--json")
    try:
        lines = [json.loads(daemon.stdout.readline()) for _ in range(5)]
        began = time.monotonic()
        daemon.send_signal(signal.SIGINT)
        rest, err = daemon.communicate(timeout=60)
        assert time.monotonic() - began < 5
    finally:
        daemon.kill()
    samples = [
        line["sample"]
        for line in lines + [json.loads(line) for line in rest.splitlines()]
        if line_type(line) == "detection"
    ]
    assert samples == [24_000 * (k + 1) for k in range(len(samples))]
    assert len(samples) >= 2
    assert daemon.returncode == 130
    assert "Traceback" not in err


def line_type(line: object) -> str:
    """Return the type of an event, as a line or decoded."""
    return (json.loads(line) if isinstance(line, str) else line)["type"]


def test_duration_ends_a_run_with_code_0(cli: Cli):
    """`run --duration` stops by itself, and what it heard is summed up."""
    done = cli("run", "--duration", "1.2", "--publish", "none")
    assert done.returncode == 0
    assert [line.split("sample")[1].split()[0] for line in done.stdout.splitlines()] == ["24000", "48000"]
    assert "2 detections" in done.stderr


def test_the_daemon_is_small(cli: Cli):
    """The daemon's resident memory stays under 230 MB."""
    daemon = cli.start("run", "--publish", "none")
    try:
        daemon.stdout.readline()
        status = Path(f"/proc/{daemon.pid}/status").read_text(encoding="utf-8")
        (resident,) = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")]
    finally:
        daemon.kill()
        daemon.communicate()
    assert resident / 1024 < 230


def test_watch_follows_a_daemon(cli: Cli, tmp_path: Path):
    """`watch --json` prints the events of a daemon that starts after it."""
    endpoint = f"ipc://{tmp_path}/e"
    watcher = cli.start("watch", endpoint, "--topic", "detection.", "--json", "--count", "2")
    daemon = cli.start("run", "--publish", endpoint)
    try:
        out, err = watcher.communicate(timeout=30)
    finally:
        for process in (watcher, daemon):
            process.kill()
        daemon.communicate()
    events = [json.loads(line) for line in out.splitlines()]
    assert watcher.returncode == 0, err
    assert len(events) == 2
    assert all(event["sample"] % 24_000 == 0 for event in events)


def test_standard_input_is_heard(cli: Cli):
    """`run --device -` reads raw float32 frames and ends, with code 0, when they do."""
    done = subprocess.run(
        cli.command(("run", "--device", "-", "--publish", "none", "--json")),
        capture_output=True,
        check=True,
        input=ramps([1000, 90_000], 2 * RATE).tobytes(),
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["sample"] for event in events if event["type"] == "detection"] == [1000, 90_000]
    assert events[-1]["state"] == "ended"


def test_replay_prints_the_same_bytes_at_any_block_size(cli: Cli, wav: Path):
    """`replay` prints one JSON object a detection, byte for byte the same at block sizes 1, 64 and 1000."""
    outputs = [cli("replay", wav, "--block", block) for block in (1, 64, 1000)]
    assert {done.returncode for done in outputs} == {0}
    assert len({done.stdout for done in outputs}) == 1
    events = [json.loads(line) for line in outputs[0].stdout.splitlines()]
    assert [event["sample"] for event in events] == [1000, 40_000, 80_000]
    assert all(event["detected_at"] is None and event["time"] is None for event in events)
    assert [event["time_s"] for event in events] == [round(event["position"] / RATE, 9) for event in events]
    assert all(abs(event["position"] - event["sample"]) <= 0.5 for event in events)


def test_replay_writes_files(cli: Cli, wav: Path, tmp_path: Path):
    """`replay -o` writes JSON lines or CSV by the file's ending, and refuses others."""
    assert cli("replay", wav, "-o", tmp_path / "e.jsonl").returncode == 0
    assert cli("replay", wav, "-o", tmp_path / "e.csv").returncode == 0
    lines = (tmp_path / "e.jsonl").read_text(encoding="utf-8").splitlines()
    with open(tmp_path / "e.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["sample"] for row in rows] == [str(json.loads(line)["sample"]) for line in lines]
    refused = cli("replay", wav, "-o", tmp_path / "e.xls")
    assert refused.returncode == 2
    assert ".jsonl or .csv" in one_line(refused)


def test_replay_draws_a_picture(cli: Cli, wav: Path, tmp_path: Path):
    """`replay --plot` draws a PNG, and for one file only."""
    done = cli("replay", wav, "--plot", tmp_path / "x.png")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert "one file" in one_line(cli("replay", wav, wav, "--plot", tmp_path / "y.png"))


def test_a_bad_file_does_not_stop_the_others(cli: Cli, wav: Path, tmp_path: Path):
    """Of several files the readable ones are replayed, the others are named, and the exit code is 2."""
    broken = tmp_path / "broken.wav"
    broken.write_bytes(wav.read_bytes()[:20])
    done = cli("replay", tmp_path / "none.wav", wav, broken)
    assert done.returncode == 2
    assert len(done.stdout.splitlines()) == 3
    first, second = done.stderr.splitlines()
    assert "none.wav: no such file" in first
    assert "broken.wav" in second


def test_a_closed_pipe_is_no_error(cli: Cli, wav: Path):
    """`replay | head -1` ends quietly."""
    command = " ".join([*cli.command(("replay", *[wav] * 300)), "| head -1; exit ${PIPESTATUS[0]}"])
    done = subprocess.run(command, shell=True, executable="/bin/bash", capture_output=True, text=True, check=False)
    assert (done.stderr, len(done.stdout.splitlines()), done.returncode) == ("", 1, 0)


def test_convert_and_inspect(cli: Cli, tmp_path: Path):
    """A .keras model and a pickle become nets with metadata, which `inspect` shows; `--plot` draws the weights."""
    net = tmp_path / "n.safetensors"
    done = cli(
        "convert",
        WEIGHTS / "ramp.keras",
        "-o",
        net,
        "--rate",
        48000,
        "--labels",
        "ramp",
        "--target-lag",
        3,
        "--input-scale",
        4,
        "--threshold",
        0.6,
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(cli("inspect", net, "--json").stdout)
    assert (facts["rate"], facts["labels"], facts["target_lag"], facts["input_scale"]) == (48000, ["ramp"], 3, 4.0)
    assert (facts["hop"], facts["first"], facts["delay"], facts["receptive_field"]) == (1, 0, 0, 8)
    assert facts["layers"][0]["macs_per_second"] == 8 * 48000
    assert "receptive field" in cli("inspect", net).stdout
    pickled = cli("convert", WEIGHTS / "convnetweights.pickle", "-o", net, "--rate", 8000)
    assert pickled.returncode == 0, pickled.stderr
    drawn = cli("inspect", "ramp", "--plot", tmp_path / "w.png")
    assert drawn.returncode == 0, drawn.stderr
    assert (tmp_path / "w.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["replay", "{wav}", "--net", "missing"], 2, ["missing", "no such file"]),
        (["replay", "{wav}", "--net", "{wav}"], 2, ["x.wav", "is a sound file, not a net"]),
        (["replay", "{wav}", "--rate", "8000"], 2, ["needs 48000 Hz", "8000 Hz"]),
        (["replay", "{wav}", "--threshold", "nan"], 2, ["finite"]),
        (["replay", "{wav}", "-o", "/nowhere/e.jsonl"], 2, ["/nowhere/e.jsonl", "No such file"]),
        (["replay", "{wav}", "--config", "{bad}"], 2, ["bad.yaml:1", "no key 'strems'", "did you mean 'streams'?"]),
        (["replay", "{wav}", "--config", "{bad}", "--net", "ramp"], 2, ["bad.yaml:1"]),
        (["replay", "{wav}", "--config", "/nowhere.yaml"], 2, ["/nowhere.yaml", "cannot be read"]),
        (["replay"], 2, ["FILES", "replay --help"]),
        (["replay", "{wav}", "--block", "0"], 2, ["--block"]),
        (["run", "--bogus"], 2, ["--bogus", "run --help"]),
        (["run", "--duration", "-1"], 2, ["--duration"]),
        (["run", "--publish", "nonsense"], 2, ["nonsense", "tcp://127.0.0.1:5556"]),
        (["run", "--publish", "tcp://256.1.1.1:5556"], 2, ["tcp://256.1.1.1:5556", "has no host"]),
        (["run", "--publish", "ipc:///nowhere/x"], 1, ["ipc:///nowhere/x"]),
        (["inspect", "/nowhere"], 2, ["/nowhere"]),
        (["convert", "/nowhere.keras", "-o", "{wav}.safetensors"], 2, ["/nowhere.keras"]),
        (["convert", "{wav}", "-o", "n.safetensors"], 2, [".keras"]),
        (["convert", "x.keras", "-o", "n.txt"], 2, [".safetensors"]),
        (["train", "nonsense"], 2, ["nonsense", "ramp"]),
        (["train", "ramp", "--data", "somewhere"], 2, ["somewhere", "own signals"]),
        (["train", "ramp", "-o", "/proc/nowhere"], 2, ["/proc/nowhere"]),
        (["run", "--duration", "nan"], 2, ["finite"]),
        (["run", "--rate", "99999999999999999999"], 2, ["--rate"]),
        (["replay", "{wav}", "--channels", "0"], 2, ["counted from 1"]),
        (["replay", "{wav}", "--channels", "1,2"], 2, ["has 1 channels"]),
        (["replay", "/dev/stdin"], 2, ["/dev/stdin", "pipe"]),
        (["replay", "x" * 300 + ".wav"], 2, ["too long"]),
        (["replay", "{wav}", "--net", "x" * 300], 2, ["too long"]),
        (["convert", "x.pickle", "-o", "n.safetensors", "--labels", "a.b"], 2, ["label 'a.b'"]),
        (["convert", "x.pickle", "-o", "n.safetensors", "--threshold", "nan"], 2, ["'nan' is no finite number"]),
        (["verify", "ramp", "--against", "/nowhere.keras"], 2, ["/nowhere.keras"]),
        (["watch", "nonsense"], 2, ["nonsense"]),
    ],
)
def test_bad_input_is_one_clear_line(
    cli: Cli, wav: Path, tmp_path: Path, arguments: list[str], code: int, words: list[str]
):
    """Wrong usage and wrong input give one line that names the culprit, exit code 2 (or 1), and no traceback."""
    (tmp_path / "bad.yaml").write_text("strems: []", encoding="utf-8")
    done = cli(*(word.format(wav=wav, bad=tmp_path / "bad.yaml") for word in arguments), cwd=tmp_path)
    line = one_line(done)
    assert done.returncode == code, line
    assert [word for word in words if word not in line] == [], line


def test_a_port_in_use_is_one_clear_line(cli: Cli, tmp_path: Path):
    """A second daemon at the same endpoint says so and ends with code 1; the first goes on."""
    import zmq

    context = zmq.Context()
    socket = context.socket(zmq.PUB)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    try:
        done = cli("run", "--publish", f"tcp://127.0.0.1:{port}")
    finally:
        context.destroy(linger=0)
    assert done.returncode == 1
    assert "in use" in one_line(done)


def test_no_permission_is_one_clear_line(cli: Cli, tmp_path: Path, wav: Path):
    """A sound file that may not be read, and a folder that may not be written, are named."""
    secret, locked = write(tmp_path / "secret.wav", ramps([100], 1000)), tmp_path / "locked"
    secret.chmod(0)
    locked.mkdir(mode=0o555)
    # Root may read everything; without its capabilities it is a user like any other.
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    for arguments, name in [
        (("replay", secret), "secret.wav"),
        (("replay", wav, "-o", locked / "e.csv"), "e.csv"),
        (("convert", WEIGHTS / "convnetweights.pickle", "-o", locked / "n.safetensors"), "locked"),
    ]:
        done = subprocess.run(drop + cli.command(arguments), capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert name in one_line(done)


def test_a_cache_that_cannot_be_written_only_costs_time(wav: Path):
    """With a cache folder that cannot be made, everything works all the same, and the wait is announced."""
    done = Cli({"STREAMCNN_CACHE_DIR": "/dev/null/cache"})("replay", wav)
    assert done.returncode == 0
    assert "compiling the engine" in done.stderr
    assert len(done.stdout.splitlines()) == 3


def test_without_portaudio_everything_else_works(cli: Cli, tmp_path: Path):
    """Where the PortAudio library is missing, sound cards say what to install and the demo still runs."""
    blocker = "import ctypes.util; ctypes.util.find_library = lambda name: None\n"
    (tmp_path / "sitecustomize.py").write_text(blocker, encoding="utf-8")
    without = Cli({"PYTHONPATH": str(tmp_path)})
    for arguments in (["devices"], ["run", "--device", "pulse", "--publish", "none"]):
        done = without(*arguments)
        assert done.returncode == 2
        assert "apt install libportaudio2" in one_line(done)
    assert without("run", "--duration", "0.7", "--publish", "none").returncode == 0


def test_help_is_there_for_every_command(cli: Cli):
    """Every command explains itself."""
    for command in ("run", "replay", "watch", "devices", "convert", "inspect", "train"):
        done = cli(command, "--help")
        assert done.returncode == 0
        assert done.stdout.startswith("Usage: ")


def test_ten_minutes_replay_in_a_moment(cli: Cli, tmp_path: Path):
    """Ten minutes at 48 kHz are replayed whole, with the right last ramp; the benchmark tells how fast."""
    end = 600 * RATE - 5000
    path = write(tmp_path / "long.wav", ramps([end], 600 * RATE, noise=0.01), subtype="PCM_16")
    done = cli("replay", path)
    assert [json.loads(line)["sample"] for line in done.stdout.splitlines()] == [end]


def test_python_api_reads_like_the_readme(wav: Path):
    """The few lines of Python that the README shows do what it says."""
    import streamcnn

    net = streamcnn.load("ramp")
    engine = streamcnn.Engine(net, max_block=1024)
    x = np.zeros(100, np.float32)
    assert engine.process(x).shape == (100, 1)
    assert streamcnn.reference(net, x).shape == (100, 1)
    assert (engine.hop, engine.first, engine.delay, engine.receptive_field) == (1, 0, 0, 8)
    assert len(engine.flush()) == 0


def test_an_interrupted_replay_returns_130(cli: Cli, tmp_path: Path):
    """Ctrl-C during a replay ends it with code 130 and no traceback."""
    path = write(tmp_path / "x.wav", ramps([1000], 60 * RATE))
    running = cli.start("replay", path, "--block", "1")
    wait_until(lambda: running.stdout.readline(), "the first event")
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in err


def test_the_old_result_survives_a_wrong_command(cli: Cli, wav: Path, tmp_path: Path):
    """A replay that cannot begin leaves the file of an earlier one as it was."""
    target = tmp_path / "e.csv"
    target.write_text("precious", encoding="utf-8")
    assert cli("replay", wav, "--net", "missing", "-o", target).returncode == 2
    assert target.read_text(encoding="utf-8") == "precious"


def test_files_of_one_name_keep_different_sessions(cli: Cli, tmp_path: Path):
    """Two files of the same name in different folders give different ids."""
    paths = [tmp_path / folder / "x.wav" for folder in "ab"]
    for path in paths:
        path.parent.mkdir()
        write(path, ramps([1000], 2000))
    done = cli("replay", *paths)
    assert len({json.loads(line)["id"] for line in done.stdout.splitlines()}) == 2


def test_names_of_files_may_be_any_bytes(cli: Cli, tmp_path: Path):
    """A file whose name is not UTF-8 is replayed like any other."""
    path = write(tmp_path / "x.wav", ramps([1000], 2000)).rename(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    done = subprocess.run([*cli.command(("replay",)), os.fsencode(path)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["session"] == "caf\\udce9.wav"


def test_a_full_disk_is_one_clear_line(cli: Cli, wav: Path, tmp_path: Path):
    """Output that cannot be written ends the command with one line and code 1."""
    (tmp_path / "full.jsonl").symlink_to("/dev/full")
    done = cli("replay", wav, "-o", tmp_path / "full.jsonl")
    assert done.returncode == 1
    assert "No space left" in one_line(done)
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            cli.command(("run", "--publish", "none", "--duration", "2")), stdout=full, stderr=subprocess.PIPE, text=True,
            check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


def test_closed_streams_are_no_traceback(cli: Cli):
    """Closed standard input and output are met in good order."""
    done = subprocess.run(" ".join(cli.command(("run", "--device", "-", "--publish", "none"))) + " <&-", shell=True,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 2
    assert "standard input is closed" in done.stderr
    done = subprocess.run(" ".join(cli.command(("run", "--duration", "0.7", "--publish", "none"))) + " >&-", shell=True,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0
    assert "1 detection in" in done.stderr


def test_a_reader_that_stops_reading_stops_nothing(cli: Cli, tmp_path: Path):
    """A blocked standard output stops neither publishing nor SIGTERM, and what was not shown is counted."""
    from streamcnn.wire.subscriber import Subscriber

    endpoint = f"ipc://{tmp_path}/e"
    settings = (
        "streams: [{name: s, nets: [{name: n, net: ramp, detector: {kind: peak, threshold: -1, refractory: 1us}}]}]"
    )
    (tmp_path / "c.yaml").write_text(settings, encoding="utf-8")
    daemon = cli.start("run", "--config", tmp_path / "c.yaml", "--publish", endpoint, "--json")
    try:
        with Subscriber(endpoint, ["health."]) as subscriber:
            first = wait_until(lambda: subscriber.receive(0.2), "health")
            # A pipe holds 64 KiB, the daemon 10,000 lines; at 48,000 events a second both are soon full.
            wait_until(
                lambda: (event := subscriber.receive(0.2)) and event.sample > first.sample + 2 * RATE, "progress"
            )
        daemon.send_signal(signal.SIGTERM)
        wait_until(lambda: daemon.poll() is not None, "the end", deadline_s=30)
        assert daemon.returncode == 0
        assert "were not shown" in daemon.stderr.read()
    finally:
        daemon.kill()
        daemon.communicate()


def test_a_suspended_daemon_goes_on(cli: Cli, tmp_path: Path):
    """A daemon that is stopped and continued hears on, and does not take its own absence for a lost device."""
    settings = "streams: [{name: s, nets: [{name: n, net: ramp}]}]"
    (tmp_path / "c.yaml").write_text(settings, encoding="utf-8")
    code = ("from streamcnn.daemon import health; health.STALLED_S = 0.5; import sys;"
            "sys.argv[1:] = ['run', '--publish', 'none']; from streamcnn.cli import main; main()")  # fmt: skip
    daemon = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert daemon.stdout.readline()
        daemon.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began > 2, "some time to pass")
        daemon.send_signal(signal.SIGCONT)
        for _ in range(3):
            assert daemon.stdout.readline()
        daemon.send_signal(signal.SIGINT)
        _, err = daemon.communicate(timeout=60)
        assert daemon.returncode == 130, err
    finally:
        daemon.kill()


def test_a_second_daemon_does_not_take_an_ipc_endpoint(cli: Cli, tmp_path: Path):
    """An ipc endpoint that is served is in use, as a port would be."""
    endpoint = f"ipc://{tmp_path}/e"
    first = cli.start("run", "--publish", endpoint)
    try:
        assert first.stdout.readline()
        second = cli("run", "--publish", endpoint, "--duration", "1")
        assert second.returncode == 1
        assert "in use" in second.stderr
    finally:
        first.kill()
        first.communicate()
    assert cli("run", "--publish", endpoint, "--duration", "0.2").returncode == 0


def test_convert_refuses_to_write_what_it_cannot_verify(cli: Cli, tmp_path: Path):
    """`verify` of a net against another model fails with code 1 and says what differs."""
    net = tmp_path / "n.safetensors"
    assert (
        cli("convert", WEIGHTS / "ramp.keras", "-o", net, "--rate", 48000, "--threshold", 0.6, "--verify").returncode
        == 0
    )
    good = cli("verify", net, "--against", WEIGHTS / "ramp.keras")
    assert good.returncode == 0
    assert "0 decisions differ" in good.stdout
    bad = cli("verify", net, "--against", WEIGHTS / "ramp_valid.keras")
    assert bad.returncode == 1
    assert "another number of frames" in bad.stderr
    import keras

    other = keras.saving.load_model(WEIGHTS / "ramp.keras")
    other.set_weights([other.get_weights()[0] * 1.01])
    other.save(tmp_path / "other.keras")
    bad = cli("verify", net, "--against", tmp_path / "other.keras")
    assert bad.returncode == 1
    assert "the first layer that differs is 'conv'" in bad.stderr
