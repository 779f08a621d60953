"""Posts each confirmed detection, as JSON, to a URL; tries again until it is taken, and after a restart too.

python examples/webhook.py https://example.org/hook [tcp://127.0.0.1:5556]

The receiver may get an event twice (this program was killed between the post and its note of it): its `id` tells.
"""

import asyncio
import sys
import urllib.request

import msgspec

import streamcnn


def post(url: str, body: bytes) -> None:
    """Send one event; raises OSError where it is not taken."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=10).close()


async def main(url: str, endpoint: str) -> None:
    """Follow the daemon."""
    async with streamcnn.AsyncSubscriber(endpoint, topics=["detection."], cursor="webhook.cursor") as events:
        async for event in events:
            while event.phase == "confirmed":
                try:
                    await asyncio.to_thread(post, url, msgspec.json.encode(event))
                    break
                except OSError as error:
                    print(f"{url}: {error}; trying again", file=sys.stderr)
                    await asyncio.sleep(5)


asyncio.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "tcp://127.0.0.1:5556"))
