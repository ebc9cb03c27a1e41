"""Which Triton server, how it is spoken to, and how long it is waited for."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from refine_export.errors import RequestError
from refine_export.runners.triton.transport import Protocol

LONGEST_NAME = 253
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Which server, how it is spoken to, and how long it is waited for."""

    url: str
    """HOST:PORT of the protocol: Triton's defaults are 8001 for gRPC, 8000 for HTTP."""
    protocol: Protocol = "grpc"
    shared_memory: bool = False
    """Pass tensors through memory; for a server on this machine that sees the same /dev/shm."""
    timeout_s: float = 30.0
    """Of one request."""
    patience_s: float = 60.0
    """How long after its first failure a request is begun again, while the server is away, slow or loads the model."""

    def __post_init__(self) -> None:
        host, _, port = self.url.rpartition(":")
        if not _is_host(host) or not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
            raise RequestError(
                f"the server is {self.url!r}; expected HOST:PORT, such as localhost:8001 or [::1]:8001; a name has "
                "ASCII letters, digits, - and _ between dots"
            )
        if self.protocol not in ("grpc", "http"):
            raise RequestError(f"protocol is {self.protocol!r}; expected grpc or http")
        if not 0 < self.timeout_s < 1e6:
            raise RequestError(f"timeout_s is {self.timeout_s}; expected a number of seconds above 0")
        if not 0 <= self.patience_s < 1e6:
            raise RequestError(f"patience_s is {self.patience_s}; expected a number of seconds from 0")


def _is_host(text: str) -> bool:
    """A name or an IPv4 address (RFC 1123, and `_`, which containers have), or an IPv6 address in brackets."""
    if text.startswith("[") and text.endswith("]"):
        try:
            return ipaddress.IPv6Address(text[1:-1]).scope_id is None
        except ValueError:
            return False
    return len(text) <= LONGEST_NAME and all(_LABEL.fullmatch(label) for label in text.removesuffix(".").split("."))
