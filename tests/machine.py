"""A real systemd in namespaces: a machine of our own, with this checkout's streamcnn installed where the units expect it.

The namespaces share the host's files, so everything that systemd would write to is first covered by empty file systems (or
an overlay: /etc). What lies under one of them and is needed inside, such as a checkout in /tmp, is bound back in its place.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT, need, wait_until

SYSTEMD = Path("/lib/systemd/systemd")
COVERED = ("/tmp", "/run", "/var/tmp", "/var/lib", "/var/cache", "/var/log", "/opt")
TARGETS = ("boot", "basic", "sysinit", "shutdown", "local-fs", "sound", "network", "multi-user", "default")
JOURNAL = ("systemd-journald.socket", "systemd-journald-dev-log.socket", "systemd-journald.service")
BOOT = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /mnt
for path in $KEPT; do mkdir -p "/mnt$path"; mount --rbind "$path" "/mnt$path"; done
mount -t proc proc /proc
for folder in $COVERED; do mount -t tmpfs -o mode=755 tmpfs "$folder"; done
chmod 1777 /tmp /var/tmp
mkdir -p /run/etc/upper /run/etc/work
mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work /etc
for path in $KEPT; do mkdir -p "$path"; mountpoint -q "$path" || mount --rbind "/mnt$path" "$path"; done
mkdir -p /etc/streamcnn /opt/streamcnn
mount --bind "$FOLDER/etc" /etc/streamcnn
mount --bind "$PREFIX" /opt/streamcnn
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec "$SYSTEMD" --system --unit=boot.target
"""


def need_machine() -> None:
    """Skip, or fail where everything is required, without systemd and the right to make namespaces."""
    need(SYSTEMD.exists() and shutil.which("systemctl"), "systemd (apt install systemd)")
    need(shutil.which("unshare") and shutil.which("nsenter"), "util-linux (apt install util-linux)")
    allowed = subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False)
    need(allowed.returncode == 0, "the right to make namespaces (root)")
    need((Path(sys.prefix) / "bin" / "streamcnn").exists(), "the command streamcnn beside this Python")


class Machine:
    """A booted systemd. Configurations go to `configs`, units and drop-ins to `units`, both seen inside at once.

    `kept`: further paths that are needed inside.
    """

    def __init__(self, folder: Path, kept: list[Path]):
        folder.chmod(0o755)  # not everybody inside is root
        self.folder, self.configs, self.units = folder, folder / "etc", folder / "units"
        self.configs.mkdir()
        self.units.mkdir()
        for name in TARGETS:
            (self.units / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
        for name in JOURNAL:
            shutil.copy(SYSTEMD.parent / "system" / name, self.units)
        shutil.copy(ROOT / "systemd" / "streamcnn@.service", self.units)
        kept = [ROOT, Path(sys.prefix), Path(sys.base_prefix), folder, *kept]
        self.bound = " ".join(str(path) for path in kept)
        self._log = folder / "boot.log"
        environment = {
            **os.environ,
            "KEPT": self.bound,
            "COVERED": " ".join(COVERED),
            "FOLDER": str(folder),
            "PREFIX": sys.prefix,
            "SYSTEMD": str(SYSTEMD),
            "SYSTEMD_UNIT_PATH": str(self.units),
            "container": "other",
        }
        namespaces = ["--mount", "--pid", "--fork", "--uts", "--ipc", "--cgroup", "--kill-child"]
        self._process = subprocess.Popen(
            ["unshare", *namespaces, "bash", "-c", BOOT],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log.open("wb"),
            stderr=subprocess.STDOUT,
        )
        wait_until(self._booted, "systemd to boot")
        self.systemctl("start", *JOURNAL)

    def __call__(self, *words: str) -> subprocess.CompletedProcess:
        """Run a command inside."""
        inside = ["nsenter", "-t", str(self._first_process()), "-m", "-p"]
        return subprocess.run([*inside, *words], capture_output=True, text=True, check=False, timeout=180)

    def systemctl(self, *words: str) -> str:
        """Run systemctl inside; a failure fails the test."""
        done = self("systemctl", "--no-pager", *words)
        assert done.returncode == 0, done.stderr + self("journalctl", "--no-pager", "-n", "40").stdout
        return done.stdout

    def show(self, unit: str) -> dict[str, str]:
        """Return a unit's properties."""
        return dict(line.partition("=")[::2] for line in self.systemctl("show", unit).splitlines())

    def journal(self, unit: str, who: str = "streamcnn") -> list[str]:
        """Return what the journal holds about a unit from `who`: the daemon, or "systemd"; a line each."""
        lines = self("journalctl", "-u", unit, "-o", "json", "--no-pager").stdout.splitlines()
        entries = [json.loads(line) for line in lines]
        return [entry["MESSAGE"] for entry in entries if entry.get("SYSLOG_IDENTIFIER") == who]

    def add_unit(self, name: str, text: str) -> None:
        """Add a unit, or a drop-in of one."""
        path = self.units / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        self.systemctl("daemon-reload")

    def stop(self) -> None:
        """End the machine and everything in it."""
        self._process.kill()
        self._process.wait()

    def _first_process(self) -> int | None:
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return int(children[0]) if children else None

    def _booted(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        if self._first_process() is None:
            return False
        return self("systemctl", "is-system-running").stdout.strip() in ("running", "degraded")
