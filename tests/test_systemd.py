"""The service under a real systemd, hearing a real sound server: it starts, tells, survives and ends as its unit says."""

import itertools
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamcnn.inference.realtime import PRIORITY
from tests.conftest import ROOT, SoundServer, need, wait_until
from tests.machine import Machine, need_machine
from tests.signals import ramps, write

UNIT = "streamcnn@mic0.service"
MIC0 = "streams: [{name: mic0, source: {device: pulse}, nets: [{name: ramp, net: ramp}]}]\n"
# Makes inference hang, and nothing else, as soon as a file says so.
FAULT = """
import os, threading, time
from streamcnn.inference import tables as T
from streamcnn.pipeline.pipeline import Pipeline
listen = Pipeline.listen
def faulty(self, *these, **more):
    def watch():
        room = self._table[T.ROOM]
        while True:
            self._table[T.ROOM] = 2**40 if os.path.exists({flag!r}) else room  # what waits for that room waits for ever
            time.sleep(0.1)
    threading.Thread(target=watch, daemon=True).start()
    return listen(self, *these, **more)
Pipeline.listen = faulty
"""


@pytest.fixture(scope="module")
def fault(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder on the daemon's PYTHONPATH; while there is a file `hang` in it, inference hangs."""
    folder = tmp_path_factory.mktemp("fault")
    folder.chmod(0o755)
    (folder / "sitecustomize.py").write_text(FAULT.format(flag=str(folder / "hang")))
    return folder


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, sound_server: SoundServer, fault: Path) -> Iterator[Machine]:
    """A machine whose services hear the sound server, and whose watchdog does not wait long."""
    need_machine()
    sound_server.folder.chmod(0o755)
    machine = Machine(tmp_path_factory.mktemp("machine"), [sound_server.folder, fault])
    machine.add_unit(
        "streamcnn@.service.d/test.conf",
        f"[Service]\n{_visible(machine, sound_server)}Environment=HOME=/tmp PYTHONPATH={fault}\n"
        "WatchdogSec=4s\nRestartSec=200ms\n",
    )
    (machine.configs / "mic0.yaml").write_text(MIC0)
    yield machine
    machine.stop()


@pytest.fixture
def running(machine: Machine) -> Iterator[Machine]:
    """The machine with the service started."""
    machine.systemctl("start", UNIT)
    yield machine
    machine.systemctl("stop", UNIT)


def test_the_unit_is_hardened():
    """Systemd rates the service's exposure at 2.0 at most, and finds nothing wrong in either unit."""
    need(shutil.which("systemd-analyze"), "systemd (apt install systemd)")
    unit = ROOT / "systemd" / "streamcnn@.service"
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    for path in (unit, ROOT / "systemd" / "user" / "streamcnn@.service"):
        done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
        complaints = [line for line in done.stderr.splitlines() if "not executable" not in line]
        assert not complaints, done.stderr


def test_ready_means_that_the_nets_hear(running: Machine, sound_server: SoundServer, tmp_path: Path):
    """READY comes with the first frames; what is played is heard, and the status says how the stream does."""
    assert running.show(UNIT)["ActiveState"] == "active"
    sound_server.play(write(tmp_path / "x.wav", ramps([20_000, 30_000, 50_000], 96_000)))
    wait_until(lambda: sum("score" in line for line in running.journal(UNIT)) == 3, "three detections in the journal")
    samples = [int(re.search(r"sample +(\d+)", line)[1]) for line in running.journal(UNIT) if "score" in line]
    assert [b - a for a, b in itertools.pairwise(samples)] == [10_000, 20_000]
    status = wait_until(lambda: re.match(r"mic0: .*3 detections", running.show(UNIT)["StatusText"]), "the status")
    assert "dBFS" in status[0] or "silent" in status[0]


def test_real_time_where_it_may(running: Machine):
    """Where the unit's limits are in force, callback and inference are in real time, the callback first; else it is said."""
    pid = running.show(UNIT)["MainPID"]

    def priorities() -> list[int]:
        done = running("sh", "-c", f"for task in /proc/{pid}/task/*; do chrt -p ${{task##*/}}; done")
        policies = re.findall(r"policy: SCHED_(\w+)\n.*priority: (\d+)", done.stdout)
        return sorted(int(priority) for policy, priority in policies if policy == "FIFO")

    wait_until(lambda: any("dBFS" in line for line in running.journal(UNIT)), "the first health event")
    limit = int(re.search(r"Max realtime priority +(\d+)", running("cat", f"/proc/{pid}/limits").stdout)[1])
    if limit > PRIORITY:
        wait_until(lambda: priorities() == [PRIORITY, PRIORITY + 1], "real-time threads")
    else:  # a machine on which not even root may raise limits
        assert any("without real-time scheduling" in line and "LimitRTPRIO" in line for line in running.journal(UNIT))
    locked = re.search(r"VmLck:\s+(\d+) kB", running("cat", f"/proc/{pid}/status").stdout)
    assert 500 < int(locked[1]) < 50_000


def test_a_clean_stop(machine: Machine):
    """Stopping ends the daemon in good order: exit code 0, the summary as the last line, and no restart."""
    machine.systemctl("start", UNIT)
    machine.systemctl("stop", UNIT)
    properties = machine.show(UNIT)
    assert (properties["ActiveState"], properties["Result"], properties["ExecMainStatus"]) == (
        "inactive",
        "success",
        "0",
    )
    assert "ended" in machine.journal(UNIT)[-1]


def test_a_killed_daemon_comes_back(running: Machine):
    """After kill -9 the service is started again."""
    before = running.show(UNIT)
    running.systemctl("kill", "--signal=KILL", UNIT)
    wait_until(lambda: _restarted(running, before), "the restart")
    assert running.show(UNIT)["MainPID"] != before["MainPID"]


def test_hanging_inference_is_noticed(running: Machine, fault: Path):
    """When inference hangs while audio goes on, the watchdog ends the daemon and it is started again."""
    before = running.show(UNIT)
    (fault / "hang").touch()
    try:
        wait_until(lambda: running.show(UNIT)["MainPID"] != before["MainPID"], "the watchdog")
    finally:
        (fault / "hang").unlink()
    wait_until(lambda: _restarted(running, before), "the restart")
    assert any("Watchdog timeout" in line for line in running.journal(UNIT, "systemd"))


def test_a_lost_sound_server_is_waited_for(machine: Machine):
    """A device that is not there is tried again and again, each time with a line that says so."""
    (machine.configs / "gone.yaml").write_text(MIC0.replace("device: pulse", "device: a microphone on holiday"))
    unit = "streamcnn@gone.service"
    machine.systemctl("start", "--no-block", unit)
    try:
        wait_until(lambda: int(machine.show(unit)["NRestarts"]) >= 7, "more restarts than systemd's own limit of five")
        assert "no input device fits 'a microphone on holiday'" in machine.journal(unit)[-1]
    finally:
        machine.systemctl("stop", unit)


def test_a_broken_configuration_is_not_tried_again(machine: Machine):
    """A wrong configuration is one line in the journal with file, line and path, exit code 2, and no restart."""
    (machine.configs / "broken.yaml").write_text("streams:\n  - name: mic0\n    sauce: {device: pulse}\n    nets: []\n")
    unit = "streamcnn@broken.service"
    assert machine("systemctl", "start", unit).returncode != 0
    wait_until(lambda: machine.show(unit)["ActiveState"] == "failed", "the failure")
    properties = machine.show(unit)
    assert (properties["ExecMainStatus"], properties["NRestarts"]) == ("2", "0")
    (line,) = machine.journal(unit)
    assert "/etc/streamcnn/broken.yaml:3" in line
    assert "sauce" in line


def test_the_user_unit_hears_too(machine: Machine, sound_server: SoundServer, tmp_path: Path):
    """Under a user's own manager the user unit becomes ready, hears what is played, and stops in good order."""
    home, units = machine.folder / "home", machine.folder / "user"
    config = home / ".config" / "streamcnn"
    config.mkdir(parents=True)
    (config / "mic0.yaml").write_text(MIC0)
    for folder in (home, config.parent, config):
        folder.chmod(0o777)
    shutil.copytree(ROOT / "systemd" / "user", units)
    for target in ("basic.target", "shutdown.target"):
        (units / target).write_text("[Unit]\nDefaultDependencies=no\n")
    machine.add_unit(
        "manager.service",
        f"[Service]\nType=notify\nUser=nobody\nDelegate=yes\n{_visible(machine, sound_server)}BindPaths={home}\n"
        f"RuntimeDirectory=manager\nEnvironment=XDG_RUNTIME_DIR=/run/manager HOME={home} SYSTEMD_UNIT_PATH={units}\n"
        "ExecStart=/lib/systemd/systemd --user --unit=basic.target\n",
    )
    machine.systemctl("start", "manager.service")
    as_user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "env", "XDG_RUNTIME_DIR=/run/manager"]

    def systemctl(*words: str) -> str:
        done = machine(*as_user, "systemctl", "--user", *words)
        assert done.returncode == 0, done.stderr + machine("journalctl", "--no-pager", "--grep=.", "_UID=65534").stdout
        return done.stdout

    systemctl("start", UNIT)
    wait_until(lambda: "StatusText=mic0" in systemctl("show", UNIT), "the status")
    sound_server.play(write(tmp_path / "x.wav", ramps([20_000], 48_000)))
    wait_until(lambda: "1 detection" in systemctl("show", UNIT), "the detection")
    systemctl("stop", UNIT)
    assert "Result=success" in systemctl("show", UNIT)


def _visible(machine: Machine, sound_server: SoundServer) -> str:
    """Let a service see the interpreter and the checkout, which may lie in somebody's home or in /tmp, and the sound server."""
    server = sound_server.environment["PULSE_SERVER"]
    return f"ProtectHome=tmpfs\nBindReadOnlyPaths={machine.bound}\nEnvironment=PULSE_SERVER={server}\n"


def _restarted(machine: Machine, before: dict[str, str]) -> bool:
    properties = machine.show(UNIT)
    return properties["ActiveState"] == "active" and int(properties["NRestarts"]) > int(before["NRestarts"])
