"""The publisher: events out, numbered, on a ZeroMQ PUB socket as two frames: topic, JSON."""

import errno
import socket

import zmq

from streamcnn.errors import EndpointError, PublishError
from streamcnn.events import Event, to_json

HIGH_WATER_MARK = 100_000  # messages kept for each slow subscriber before it misses some
LINGER_MS = 500
# Reasons that another time may be gone: somebody else is there, or the network is not up yet.
_MAY_PASS = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.ENODEV, errno.EACCES, errno.ENOENT)


class Publisher:
    """Publishes events at an endpoint; belongs to one thread.

    Raises EndpointError where the endpoint is malformed, PublishError where it cannot be bound.
    """

    def __init__(self, endpoint: str):
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.setsockopt(zmq.SNDHWM, HIGH_WATER_MARK)
        self._socket.setsockopt(zmq.LINGER, LINGER_MS)
        self._seq = 0
        try:
            _refuse_taken_socket(endpoint)
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.close()
            kind = PublishError if error.errno in _MAY_PASS else EndpointError
            raise kind(
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


def _refuse_taken_socket(endpoint: str) -> None:
    """Refuse an ipc endpoint that somebody serves: ZeroMQ would take it over without a word."""
    path = endpoint.removeprefix("ipc://")
    if path == endpoint:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return
    raise zmq.ZMQError(errno.EADDRINUSE, "Address already in use")
