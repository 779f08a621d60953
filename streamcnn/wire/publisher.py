"""The publisher: events out, numbered, on a ZeroMQ PUB socket as two frames: topic, JSON."""

import zmq

from streamcnn.errors import PublishError
from streamcnn.events import Event, to_json

HIGH_WATER_MARK = 100_000  # messages kept for each slow subscriber before it misses some
LINGER_MS = 500


class Publisher:
    """Publishes events at an endpoint; belongs to one thread.

    Raises PublishError where the endpoint cannot be bound.
    """

    def __init__(self, endpoint: str):
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.setsockopt(zmq.SNDHWM, HIGH_WATER_MARK)
        self._socket.setsockopt(zmq.LINGER, LINGER_MS)
        self._seq = 0
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise PublishError(
                f"cannot publish at {endpoint}: {error.strerror or error}",
                "choose another endpoint with --publish or publish.bind, or --publish none",
            ) from error
        self.endpoint: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def publish(self, event: Event) -> Event:
        """Send an event; returns it with its `seq`, 1 for the first one."""
        self._seq += 1
        event = event.with_seq(self._seq)
        self._socket.send_multipart([event.topic.encode(), to_json(event)])
        return event

    def close(self) -> None:
        """Send what is still queued, for at most half a second, and close."""
        self._socket.close()
        self._context.term()
