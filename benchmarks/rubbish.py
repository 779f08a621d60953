"""A million malformed requests to the backfill socket, random and mutated, while others are served.

python benchmarks/rubbish.py [REQUESTS]
"""

import os
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import zmq

from streamcnn.config import Publish
from streamcnn.events import Gap
from streamcnn.journal.journal import Journal
from streamcnn.wire import messages
from streamcnn.wire.publisher import Publisher
from streamcnn.wire.subscriber import Subscriber

GAP = Gap(stream="s", session="x", start_sample=1, frames=2, frames_error=0, cause="test")
QUESTION = messages.encode(messages.Since(topics=("gap.",), seq=1))


def resident_mb() -> float:
    """Return how much memory this process takes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def rubbish(random: np.random.Generator) -> list[bytes]:
    """Return frames that are no question: random ones, or a question with some of its bytes changed, cut or doubled."""
    if random.random() < 0.3:
        return [random.bytes(int(random.integers(0, 300))) for _ in range(int(random.integers(1, 4)))]
    payload = bytearray(QUESTION)
    for _ in range(int(random.integers(1, 6))):
        at = int(random.integers(0, len(payload)))
        match int(random.integers(0, 3)):
            case 0:
                payload[at] = int(random.integers(0, 256))
            case 1:
                del payload[at : at + int(random.integers(1, 20))]
                payload = payload or bytearray(b"{")
            case 2:
                payload[at:at] = payload[: int(random.integers(1, 40))]
    return [bytes(payload)]


def main() -> None:
    """Send them, and say how the publisher is afterwards."""
    wanted, random = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000, np.random.default_rng(0)
    made = [rubbish(random) for _ in range(20_000)]
    journal = Journal()
    with closing(Publisher(Publish(bind="tcp://127.0.0.1:*"), journal)) as publisher, zmq.Context() as context:
        served, ended = [], threading.Event()

        def serve() -> None:
            with Subscriber(publisher.endpoint, ["gap."], since=journal.seq) as subscriber:
                while not ended.is_set() or len(served) < len(journal.page([""], 0, 10**6)):
                    event = subscriber.receive(0.1)
                    if event is not None:
                        served.append(event.seq)

        client = threading.Thread(target=serve)
        client.start()
        dealer = context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(publisher.backfill)
        answers, sent, began, before_mb, told = 0, 0, time.monotonic(), 0.0, []
        while sent < wanted:
            for frames in made:
                dealer.send_multipart(frames)
                sent += 1
                while dealer.poll(0):
                    dealer.recv_multipart()
                    answers += 1
                if sent == wanted // 20:
                    before_mb = resident_mb()
                if sent % (wanted // 200) == 0:
                    told += journal.append([GAP])  # that no live message tells of
                    publisher.beat()
        ended.set()
        client.join(30)
        seconds = time.monotonic() - began
    right = served == [event.seq for event in told]
    print(
        f"{sent} malformed requests in {seconds:.0f} s, {answers} refused meanwhile; memory {before_mb:.0f} MB after a "
        f"twentieth of them, {resident_mb():.0f} MB at the end; {len(told)} events for a valid client, "
        f"{'all served in order' if right else 'NOT all served'}"
    )


if __name__ == "__main__":
    main()
