"""Endpoints: where a publisher's backfill is, and who has them already."""

import errno
import re
import socket

import zmq


def backfill_of(endpoint: str) -> str:
    """Return where the backfill of a publisher is, unless somebody says otherwise: one port, or one name, further."""
    match = re.fullmatch(r"(tcp://.*:)(\d+)", endpoint)
    if match:
        return f"{match[1]}{int(match[2]) + 1}"
    return endpoint if endpoint.startswith("tcp://") else f"{endpoint}.backfill"


def refuse_taken_socket(endpoint: str) -> None:
    """Refuse an ipc endpoint that somebody serves, with ZMQError: ZeroMQ would take it over without a word."""
    path = endpoint.removeprefix("ipc://")
    if path == endpoint:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return
    raise zmq.ZMQError(errno.EADDRINUSE, "Address already in use")
