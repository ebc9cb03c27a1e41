"""Options of a connection to a Triton server."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, get_args

Protocol = Literal["grpc", "http"]

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
"""A name, an IPv4 address or an IPv6 address in brackets, and a port; whether it exists, the connection tells."""


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """The server, its protocol, and how long it is waited for."""

    url: str
    """HOST:PORT of the protocol; Triton's defaults are 8001 for gRPC and 8000 for HTTP."""
    protocol: Protocol = field(default="grpc", metadata={"flag": "--protocol", "panel": "Server"})
    """grpc or http."""
    shared_memory: bool = False
    """Pass tensors through shared memory, for a server on this machine that sees the same /dev/shm."""
    timeout_s: float = field(default=30.0, metadata={"flag": "--timeout", "metavar": "S", "panel": "Server"})
    """Seconds for one request; over HTTP, for each wait for the server."""
    patience_s: float = field(default=60.0, metadata={"flag": "--patience", "metavar": "S", "panel": "Server"})
    """Seconds after its first failure in which a request is sent again, while the server is away, slow or loads the
    model."""

    def __post_init__(self) -> None:
        address = _ADDRESS.fullmatch(self.url)
        if address is None or not 1 <= int(address[2]) <= 65535:
            raise ValueError(f"url is {self.url!r}; expected HOST:PORT, such as localhost:8001 or [::1]:8001")
        if self.protocol not in get_args(Protocol):
            raise ValueError(f"protocol is {self.protocol!r}; expected grpc or http")
        if not 0 < self.timeout_s < 1e6:
            raise ValueError(f"timeout_s is {self.timeout_s}; expected a number of seconds above 0")
        if not 0 <= self.patience_s < 1e6:
            raise ValueError(f"patience_s is {self.patience_s}; expected a number of seconds from 0")

    @property
    def channel(self) -> str:
        """The way to the server: `grpc`, or `http, shared memory`."""
        return self.protocol + (", shared memory" if self.shared_memory else "")
