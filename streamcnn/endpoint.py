"""ZeroMQ's endpoints: what one says, checked before ZeroMQ reads it.

ZeroMQ takes `tcp://127.0.0.1:80000` for port 14464 and `:5x` for port 5; it must be told of IPv6. So whatever it would read
otherwise than it is written is refused here.
"""

import re
from ipaddress import IPv4Address, ip_address
from typing import NamedTuple

PORTS = 1 << 16
DEFAULT_ENDPOINT = "tcp://127.0.0.1:5556"
NO_ENDPOINT = "none"  # for who publishes nothing
LONGEST_PATH = 107  # bytes of a Unix socket's name
EXAMPLE = "an endpoint looks like tcp://127.0.0.1:5556, tcp://[::1]:5556 or ipc:///run/streamcnn/events"


class Endpoint(NamedTuple):
    """A place to bind or connect to. `host` has no brackets; for ipc and inproc it is the name, and `port` None.

    `port` is 0 for any that is free.
    """

    transport: str
    host: str
    port: int | None

    @property
    def is_ipv6(self) -> bool:
        """Whether ZeroMQ must be told of IPv6."""
        return self.transport == "tcp" and ":" in self.host

    @property
    def is_private(self) -> bool:
        """Whether only this machine can reach it."""
        if self.transport != "tcp" or self.host in ("localhost", "lo"):
            return True
        try:
            return ip_address(self.host.partition("%")[0]).is_loopback
        except ValueError:  # a name, or all interfaces
            return False


def parse(text: str) -> Endpoint:
    """Read an endpoint to bind; raises ValueError that says what is wrong."""
    transport, separator, rest = text.partition("://")
    if not separator or transport not in ("tcp", "ipc", "inproc"):
        raise ValueError(f"'{text}' is no endpoint: {EXAMPLE}")
    if transport != "tcp":
        if not rest or "\0" in rest or len(rest.encode(errors="replace")) > LONGEST_PATH:
            raise ValueError(f"'{text}' has no name of 1 to {LONGEST_PATH} bytes behind '{transport}://'")
        return Endpoint(transport, rest, None)
    host, separator, port = rest.rpartition(":")
    if not separator or not re.fullmatch(r"\*|[0-9]{1,6}", port) or (port != "*" and int(port) >= PORTS):
        raise ValueError(f"'{text}' has no port from 0 to {PORTS - 1:,} at its end: {EXAMPLE}")
    return Endpoint(transport, _host(host, text), 0 if port == "*" else int(port))


def parse_peer(text: str) -> Endpoint:
    """Read an endpoint to connect to; raises ValueError that says what is wrong."""
    endpoint = parse(text)
    if endpoint.transport == "tcp" and (endpoint.host == "*" or endpoint.port == 0):
        raise ValueError(f"'{text}' is no endpoint to connect to: it must name a host and a port")
    return endpoint


def _host(host: str, text: str) -> str:
    bare = host.removeprefix("[").removesuffix("]")
    try:
        address = ip_address(bare.partition("%")[0])
    except ValueError:
        address = None
    if address is None:
        if host != "*" and (re.fullmatch(r"[0-9.]*", host) or not re.fullmatch(r"[A-Za-z0-9._-]{1,253}", host)):
            raise ValueError(f"'{text}' has no host: a name, an address, or '*' for all interfaces") from None
        return host
    if isinstance(address, IPv4Address) != (host == bare) or host not in (bare, f"[{bare}]"):
        raise ValueError(f"'{text}': an IPv6 address stands in brackets, as in tcp://[::1]:5556, and no other does")
    return bare
