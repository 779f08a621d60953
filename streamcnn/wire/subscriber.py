"""The subscriber: typed events in.

with streamcnn.Subscriber("tcp://127.0.0.1:5556", topics=["detection."]) as events:
    for event in events:
        print(event.label, event.sample)
"""

import os
from collections.abc import Sequence

import zmq

from streamcnn.config import DEFAULT_ENDPOINT
from streamcnn.errors import EndpointError, SubscribeError
from streamcnn.events import Event, from_json


class Subscriber:
    """Follows a publisher; an iterator of events that waits for the next one. Belongs to one thread.

    `topics`: prefixes such as "detection.mic0."; all by default. It connects, and connects again, by itself: a
    publisher that is not there yet is waited for.

    Raises EndpointError where the endpoint is malformed.
    """

    def __init__(self, endpoint: str = DEFAULT_ENDPOINT, topics: Sequence[str] = ("",)):
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        for topic in topics:
            self._socket.setsockopt(zmq.SUBSCRIBE, os.fsencode(topic))
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise EndpointError(
                f"cannot connect to {endpoint}: {error.strerror or error}",
                "an endpoint looks like tcp://127.0.0.1:5556",
            ) from error

    def receive(self, timeout_s: float | None = None) -> Event | None:
        """Return the next event, or None where none came for `timeout_s` (None: wait for ever).

        Raises SubscribeError for a message that is not an event of a schema this version knows.
        """
        if not self._socket.poll(None if timeout_s is None else round(timeout_s * 1000)):
            return None
        frames = self._socket.recv_multipart()
        if len(frames) != 2:
            raise SubscribeError(f"a message of {len(frames)} frames, expected topic and payload")
        return from_json(frames[1])

    def __iter__(self) -> "Subscriber":
        """Return the subscriber itself; after a SubscribeError the iteration can go on."""
        return self

    def __next__(self) -> Event:
        """Wait for the next event and return it; never ends."""
        while (event := self.receive()) is None:
            pass
        return event

    def close(self) -> None:
        """Disconnect; may be called twice."""
        self._socket.close()
        self._context.term()

    def __enter__(self) -> "Subscriber":
        """Return the subscriber itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self.close()
