"""What systemd is told: that the daemon is ready, how it does, and that it gets on (sd_notify(3), Type=notify).

The protocol is a line of text in a datagram to the socket that systemd names in NOTIFY_SOCKET. Without that variable
nobody is told anything. A message that does not arrive is not missed: systemd then restarts us, as it should.
"""

import contextlib
import os
import socket


class ServiceManager:
    """The service manager that started this process, if there is one."""

    def __init__(self):
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address  # @: an abstract socket

    def ready(self) -> None:
        """Say that everything has started."""
        self._tell("READY=1")

    def status(self, text: str) -> None:
        """Say in one line how we do; 'systemctl status' shows it."""
        self._tell("STATUS=" + text.replace("\n", " "))

    def alive(self) -> None:
        """Feed the watchdog."""
        self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._tell("STOPPING=1")

    def _tell(self, message: str) -> None:
        if self._address:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel, contextlib.suppress(OSError):
                channel.setblocking(False)  # the watchdog must not be what hangs us
                channel.sendto(message.encode(), self._address)
