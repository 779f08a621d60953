"""How much memory the subscriptions to a publisher take: ZeroMQ keeps each of them, of whatever peer, and has no limit.

They are counted as an XPUB socket tells them, and never counted down: a peer may take back what another one asked for, or what
nobody did, and ZeroMQ reports that as it reports a subscription that is gone. XPUB_MANUAL, which lets us choose what to
keep, does not help: it keeps all in a second trie to begin with.
"""

import zmq

MOST_MEMORY = 64_000_000  # bytes; a thousand subscribers with five topics each of their own take 7 MB
EACH = 128  # bytes for anything that a peer sends; 84 were measured for a topic that others have too
EACH_BYTE = 50  # for a byte of a new topic: a node of the trie, as measured with random ones


class Subscriptions:
    """What ZeroMQ may keep for the subscriptions to an XPUB socket. `memory`: bytes, at most; it only rises."""

    def __init__(self, socket: zmq.Socket):
        socket.setsockopt(zmq.XPUB_VERBOSE, 1)  # also those that somebody else has: for each of them a little is kept
        self.memory = 0
        self._socket, self._known = socket, set()

    def read(self) -> bool:
        """Take what peers have sent, without waiting; returns whether all of it is within MOST_MEMORY."""
        while self.memory <= MOST_MEMORY:
            try:
                message = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return True
            self.memory += EACH  # whatever it is: who sends without end comes to an end
            if message.startswith(b"\1") and message not in self._known:
                self._known.add(message)
                self.memory += EACH_BYTE * len(message)
        return False
