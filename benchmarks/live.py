"""How long the installed daemon takes from the sound card's callback to the wire, at rest and beside trouble.

    python benchmarks/live.py [--seconds 60] [--blocks 64,256] [--json FILE]

For each block size and burden it starts `streamcnn run` with its whole configuration (the net R3 of `nets.py` and the ramp's)
on a private PulseAudio with a null sink, plays ramps into that, and reads the daemon's own health events. Burdens: none; a
Python thread of the daemon that spins; one that collects garbage in a loop; and another process on the same core. What the
daemon does in its first seconds, before the burden begins, does not count.

It needs PulseAudio, PortAudio and ALSA's pulse plugin, as the tests do.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.nets import r3
from tests.conftest import SoundServer
from tests.signals import RATE, ramps, write

BURDENS = {
    "none": "return",
    "spinning thread": "while True: pass",
    "garbage collection": "import gc\n    while True: gc.collect()",
    "busy process": "return",
}
SETTLING_S = 5
SPACING = 4_800  # samples from one ramp to the next
CONFIG = """
streams:
  - name: mic0
    source: {{device: pulse, block: {block}}}
    nets:
      - {{name: ramp, net: ramp}}
      - {{name: r3, net: r3.safetensors}}
publish: {{bind: "ipc://{folder}/events"}}
"""
# As the command line does, but with a thread beside it; quantiles forget what came before the burden.
PROGRAM = """
import sys, threading, time
from streamcnn.inference.latency import Latency
made = []
init = Latency.__init__
Latency.__init__ = lambda self: (init(self), made.append(self))[0]
def burden():
    time.sleep({settling})
    for latency in made:
        latency.forget()
        latency.turn = lambda: None
    {burden}
threading.Thread(target=burden, daemon=True).start()
from streamcnn.__main__ import main
main()
"""


def measured(server: SoundServer, folder: Path, block: int, burden: str, seconds: float) -> dict:
    """Run the daemon once; return its last health event, and how far its events were from where they were played."""
    environment = {**os.environ, **server.environment}
    (folder / "config.yaml").write_text(CONFIG.format(block=block, folder=folder))
    program = PROGRAM.format(settling=SETTLING_S, burden=BURDENS[burden])
    run = ["run", "--config", str(folder / "config.yaml"), "--json", "--duration", str(SETTLING_S + seconds)]
    with (folder / "events.jsonl").open("w") as lines:
        daemon = subprocess.Popen([sys.executable, "-c", program, *run], env=environment, stdout=lines)
    busy = [
        subprocess.Popen(["taskset", "-c", str(core), sys.executable, "-c", "while True: pass"])
        for core in (os.sched_getaffinity(0) if burden == "busy process" else ())
    ]
    player = None
    try:
        while daemon.poll() is None:
            if player is None or player.poll() is not None:
                player = server.start_playing(folder / "ramps.wav")
            time.sleep(0.1)
    finally:
        for process in (daemon, player, *busy):
            process.send_signal(signal.SIGKILL)
            process.wait()
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    spacings = np.diff([e["sample"] for e in events if e["type"] == "detection" and e["detector"] == "ramp"])
    health = next(event for event in reversed(events) if event["type"] == "health")
    return health | {
        "gaps": sum(event["type"] == "gap" for event in events),
        "off_samples": int(np.abs(spacings[spacings < 1.5 * SPACING] - SPACING).max(initial=0)),
        "worst_block": max(event["worst_block"] for event in events if event["type"] == "health"),
        "ring_high_water": max(event["ring_high_water"] for event in events if event["type"] == "health"),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--blocks", default="64,256")
    parser.add_argument("--burdens", default=",".join(BURDENS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = SoundServer(folder)
        r3().graph.with_info(name="r3", rate=RATE, threshold=2.0).save(folder / "r3.safetensors")
        write(folder / "ramps.wav", ramps(list(range(SPACING, 20 * RATE, SPACING)), 20 * RATE))
        print(
            f"{'block':>5}  {'burden':<20}  {'callback to record, ms':<30}  {'record to wire, ms':<24}  callback, us  lost"
        )
        for block in map(int, options.blocks.split(",")):
            for burden in options.burdens.split(","):
                row = measured(server, folder, block, burden, options.seconds)
                rows.append({"block": block, "burden": burden, **row})
                record, wire, took = (row[f"{key}_ms"] for key in ("record_latency", "wire_latency", "callback"))
                print(
                    f"{block:>5}  {burden:<20}  "
                    f"p50 {record['p50']:.3f} p99 {record['p99']:.3f} p99.9 {record['p999']:.3f}  "
                    f"p50 {wire['p50']:.2f} p99 {wire['p99']:.2f}       p99 {1e3 * took['p99']:.1f}       "
                    f"{row['lost_frames']} frames, {row['gaps']} gaps; events off by {row['off_samples']}",
                    flush=True,
                )
        server.stop()
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
