"""What the tests share: parts of the system that may be missing, the command line, and a private sound server."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from click.testing import CliRunner, Result

from streamcnn.cli import cli as command_line

# Before anything loads TensorFlow: oneDNN rounds in its own order, and fails on some small transposed convolutions.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# A shell's background job ignores interrupts, and so would all that it starts; the tests send some.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]
REQUIRE_ALL = os.environ.get("STREAMCNN_REQUIRE_ALL") == "1"
DEADLINE_S = 60.0

hypothesis.settings.register_profile("ci", deadline=None, max_examples=300, print_blob=True)
hypothesis.settings.register_profile("nightly", deadline=None, max_examples=5000)
hypothesis.settings.load_profile(os.environ.get("STREAMCNN_HYPOTHESIS_PROFILE", "ci"))


def need(present: object, part: str) -> None:
    """Skip a test whose part of the system is missing; where everything is required, fail it."""
    if not present:
        (pytest.fail if REQUIRE_ALL else pytest.skip)(f"{part} is not installed")


def wait_until(condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> object:
    """Wait for a condition to hold and return its value; fails the test, saying what for, after the deadline."""
    end = time.monotonic() + deadline_s
    while not (value := condition()):
        if time.monotonic() > end:
            pytest.fail(f"waited {deadline_s} s for {what}")
        time.sleep(0.01)
    return value


DATA = Path(os.environ.get("STREAMCNN_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of recordings and reference vectors, which are not part of the project."""
    if not DATA.is_dir():
        pytest.skip(f"{NO_DATA} {DATA}")
    return DATA


NO_DATA = "no recordings at"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end how much was not tested for want of the recordings: nothing else may be skipped in silence."""
    skipped = sum(NO_DATA in str(report.longrepr) for report in terminalreporter.stats.get("skipped", []))
    if skipped:
        terminalreporter.write_line(
            f"{skipped} tests were skipped: {NO_DATA} {DATA}, which are not part of the project; set STREAMCNN_DATA",
            yellow=True,
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that have to keep up with something outside."""
    for item in items:
        if {"sound_server", "machine"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("real_time")


class Cli:
    """Runs the command line as a user does: in a process of its own."""

    def __init__(self, environment: dict[str, str] | None = None):
        self.environment = {**os.environ, **(environment or {})}

    def __call__(self, *arguments: object, **options: object) -> subprocess.CompletedProcess:
        """Run a command to its end."""
        return subprocess.run(
            self.command(arguments),
            capture_output=True,
            text=True,
            timeout=120,
            env=self.environment,
            check=False,
            **options,
        )

    def start(self, *arguments: object, **options: object) -> subprocess.Popen:
        """Start a command and leave it running."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        return subprocess.Popen(self.command(arguments), env=self.environment, **options)

    @staticmethod
    def command(arguments: tuple[object, ...]) -> list[str]:
        """Return the command's words."""
        return [sys.executable, "-m", "streamcnn", *map(str, arguments)]


@pytest.fixture(scope="session")
def cli() -> Cli:
    """The command line."""
    return Cli()


def inside(*arguments: object) -> Result:
    """Run a command in this process, for commands that would each load TensorFlow in one of their own."""
    return CliRunner().invoke(command_line, list(map(str, arguments)), catch_exceptions=False)


class SoundServer:
    """A private PulseAudio with one null sink, whose monitor ALSA's device `pulse` records from."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = {
            "XDG_RUNTIME_DIR": str(folder),
            "PULSE_RUNTIME_PATH": str(folder),
            "PULSE_STATE_PATH": str(folder),
            "PULSE_SERVER": f"unix:{folder}/native",
            "HOME": str(folder),
            "PULSE_COOKIE": str(folder / "cookie"),
            "XDG_CACHE_HOME": str(Path.home() / ".cache"),
        }
        self._process = subprocess.Popen(
            [
                "pulseaudio",
                "-n",
                "--daemonize=no",
                "--exit-idle-time=-1",
                "--use-pid-file=no",
                "--disallow-exit",
                "--high-priority=no",
                "--realtime=no",
                f"--load=module-native-protocol-unix socket={folder}/native auth-anonymous=1",
                "--load=module-null-sink sink_name=wire rate=48000 channels=1 format=float32le",
            ],
            env={**os.environ, **self.environment},
            stdout=subprocess.DEVNULL,
            stderr=(folder / "log").open("wb"),
        )
        wait_until(lambda: self("pactl", "info").returncode == 0, "PulseAudio")

    def __call__(self, *words: str) -> subprocess.CompletedProcess:
        """Run a command as a client of this server."""
        return subprocess.run(
            words, env={**os.environ, **self.environment}, capture_output=True, text=True, check=False
        )

    def play(self, path: Path) -> None:
        """Play a sound file to its end."""
        done = self("paplay", "--device=wire", str(path))
        assert done.returncode == 0, done.stderr

    def start_playing(self, path: Path) -> subprocess.Popen:
        """Begin to play a sound file."""
        return subprocess.Popen(["paplay", "--device=wire", str(path)], env={**os.environ, **self.environment})

    def stop(self) -> None:
        """End the server."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@pytest.fixture(scope="session")
def sound_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoundServer]:
    """A private sound server."""
    import ctypes.util

    need(ctypes.util.find_library("portaudio"), "PortAudio (apt install libportaudio2)")
    need(shutil.which("pulseaudio"), "PulseAudio (apt install pulseaudio)")
    need(shutil.which("paplay"), "paplay (apt install pulseaudio-utils)")
    plugins = list(Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so"))
    need(plugins, "ALSA's pulse plugin (apt install libasound2-plugins)")
    server = SoundServer(tmp_path_factory.mktemp("pulse"))
    yield server
    server.stop()
