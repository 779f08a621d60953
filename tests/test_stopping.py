"""What signals do to a running daemon."""

import signal
import subprocess
import time

import pytest

from tests.conftest import DEADLINE_S, Cli


@pytest.fixture
def daemon(cli: Cli) -> subprocess.Popen:
    """A daemon on the demo that has begun to publish."""
    # Where the tests run under nohup, SIGHUP is ignored, and who inherits that keeps to it.
    started = cli.start("run", "--publish", "none", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
    line = started.stdout.readline()  # its first detection
    assert "ramp" in line
    yield started
    started.kill()
    started.communicate()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_without_a_meaning_is_explained_and_nothing_ends(daemon: subprocess.Popen, number: signal.Signals):
    """SIGHUP says that nothing is reloaded, SIGUSR1 and 2 that they have no meaning; detection goes on."""
    daemon.send_signal(number)
    end = time.monotonic() + DEADLINE_S
    while number.name not in (line := daemon.stderr.readline()):
        assert time.monotonic() < end
    assert "going on" in line
    assert ("restart" in line) == (number == signal.SIGHUP)
    assert "ramp" in daemon.stdout.readline()
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(DEADLINE_S) == 0
