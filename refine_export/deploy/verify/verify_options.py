"""Options of `deploy verify`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from refine_export.runners.triton.connection_options import ServerOptions
from refine_export.signature import check_range


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """Server and models to verify, and the load to measure."""

    urls: tuple[str, ...] = field(metadata={"flag": "--url", "metavar": "HOST:PORT"})
    """HOST:PORT, one or several of one server."""
    protocols: tuple[Literal["grpc", "http"], ...] = field(default=("grpc", "http"), metadata={"flag": "--protocol"})
    """Protocols to test."""
    shared_memory: bool = field(default=False, metadata={"flag": "--shared-memory"})
    """Test shared memory too (server on this machine)."""
    models: tuple[str, ...] = field(default=(), metadata={"flag": "--model", "metavar": "NAME"})
    """Models to verify; default: every refine-export model."""
    version: str = field(default="", metadata={"flag": "--version", "metavar": "N"})
    """Version of the networks; default: the newest."""
    concurrencies: tuple[int, ...] = field(default=(1, 4), metadata={"flag": "--concurrency"})
    """Numbers of concurrent clients."""
    requests: int = field(default=32, metadata={"flag": "--requests"})
    """Requests of each measurement of speed; 0 for none."""
    timeout_s: float = field(default=60.0, metadata={"flag": "--timeout", "metavar": "S"})
    """Seconds for one answer."""
    patience_s: float = 5.0
    """Seconds to keep trying a server that does not answer."""

    def __post_init__(self) -> None:
        if not self.urls:
            raise ValueError("urls is empty; expected HOST:PORT, such as localhost:8001")
        for url in self.urls:
            ServerOptions(url=url, timeout_s=self.timeout_s, patience_s=self.patience_s)
        if not self.protocols or set(self.protocols) - {"grpc", "http"}:
            raise ValueError(f"protocols is {', '.join(self.protocols) or 'none'}; expected grpc, http or both")
        if not all(1 <= one <= 256 for one in self.concurrencies):
            raise ValueError(f"concurrencies is {list(self.concurrencies)}; expected numbers from 1 to 256")
        check_range("requests", self.requests, 0, 100_000)
        if self.version and not self.version.isdecimal():
            raise ValueError(f"version is {self.version!r}; expected a number")
