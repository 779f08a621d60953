"""50,000 events a second for five seconds into the journal and to ten subscribers, one of which is stopped.

python benchmarks/flood.py [EVENTS_PER_S] [SECONDS]

A source paced in real time feeds a pipeline whose detector finds events at that rate. It says how many frames were lost,
when all was published, whether each subscriber has every event after backfill (the stopped one after it goes on), and how
much memory the daemon took.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np

from streamcnn.config import Publish, Trigger
from streamcnn.daemon import service
from streamcnn.daemon.stream import StreamService
from streamcnn.events import Detection, Gap
from streamcnn.graph.graph import Graph, NetInfo
from streamcnn.graph.layers import Dense
from streamcnn.journal.journal import Journal
from streamcnn.journal.reading import read
from streamcnn.pipeline.listener import Listener
from streamcnn.ring import Ring
from streamcnn.sources.live import ThreadedSource
from streamcnn.system import Bell
from streamcnn.wire.publisher import Publisher

RATE = 50_000  # Hz
SUBSCRIBERS = 10
BLOCK = 500
DRAIN_S = 60.0

FOLLOWER = """
import sys, time, streamcnn
endpoint, since, wanted = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
seen, last = 0, since
with streamcnn.Subscriber(endpoint, ["detection."], since=since) as events:
    print("ready", flush=True)
    while seen < wanted:
        event = events.receive(300)  # of which it may be stopped for most
        assert event is not None and event.seq > last, (seen, event)
        last, seen = event.seq, seen + (event.phase == "confirmed")
print(seen, flush=True)
"""


class Flood(ThreadedSource):
    """Frames that are a pulse as often as events are wanted, in real time, and then silence."""

    paced = True

    def __init__(self, per_s: int, seconds: float):
        super().__init__(RATE, 1, BLOCK)
        self._every, self._frames = RATE * 2 // per_s, round(seconds * RATE)

    @property
    def title(self) -> str:
        """Its name in messages."""
        return "the flood"

    def _run(self, ring: Ring) -> None:
        x = np.zeros((self._frames + 60 * RATE, 1), np.float32)
        x[: self._frames : self._every] = 1
        began = time.monotonic()
        for first in range(0, len(x), BLOCK):
            time.sleep(max(0.0, began + (first + BLOCK) / RATE - time.monotonic()))
            if self._stopping.is_set():
                return
            ring.write(x[first : first + BLOCK], time.monotonic_ns(), BLOCK * 10**9 // RATE)


def resident_mb() -> float:
    """Return how much memory this process takes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    """Flood, and say how it went."""
    per_s, seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000, float(sys.argv[2]) if len(sys.argv) > 2 else 5.0
    graph = Graph.sequential([Dense(kernel=np.ones((1, 1)))], 1, NetInfo(name="pulse", rate=RATE))
    # A pulse is an event of two phases: confirmed and ended.
    listener = Listener("pulse", graph, Trigger(on=0.5, off=0.5, most_per_s=1_000_000))
    confirmed = round(per_s * seconds / 2)
    with tempfile.TemporaryDirectory() as folder:
        journal, news = Journal(Path(folder) / "journal.db"), Bell()
        with closing(journal), closing(Publisher(Publish(bind="tcp://127.0.0.1:*"), journal)) as publisher:
            command = [sys.executable, "-c", FOLLOWER, publisher.endpoint, str(journal.seq), str(confirmed)]
            followers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(SUBSCRIBERS)]
            for follower in followers:
                follower.stdout.readline()
            followers[0].send_signal(signal.SIGSTOP)
            stream = StreamService("s", Flood(per_s, seconds), [listener], 1.0, news)
            began, told, gaps, most_mb, before_mb, drained_s = time.monotonic(), 0, 0, 0.0, resident_mb(), None

            def done() -> bool:
                return all(follower.poll() is not None for follower in followers)

            running = service.run([stream], news, publisher, done, seconds + 2 * DRAIN_S, journal=journal)
            for event in running:
                told += isinstance(event, Detection) and event.phase == "confirmed"
                gaps += isinstance(event, Gap)
                most_mb = max(most_mb, resident_mb())
                if told == confirmed and drained_s is None:
                    drained_s = time.monotonic() - began
                    followers[0].send_signal(signal.SIGCONT)
            complete = sum(follower.stdout.read().strip() == str(confirmed) for follower in followers)
            lost = stream._ring.lost_frames
        kept = sum(json.loads(row.payload)["phase"] == "confirmed" for row in read(Path(folder) / "journal.db"))
    print(
        f"{per_s} events/s for {seconds:g} s: {lost} frames lost, {gaps} gaps; {told} of {confirmed} confirmed events "
        f"published after {drained_s or float('nan'):.1f} s, {kept} in the journal; {complete} of {SUBSCRIBERS} subscribers "
        f"have all of them; memory {before_mb:.0f} MB, at most {most_mb:.0f} MB"
    )


if __name__ == "__main__":
    main()
