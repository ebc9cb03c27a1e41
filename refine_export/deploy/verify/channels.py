"""How a server can be reached: addresses to protocols, each over the wire and, where asked for, shared memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from refine_export.errors import UnavailableError
from refine_export.report.data import Shortfall
from refine_export.runners.triton.client import TritonClient
from refine_export.runners.triton.connection_options import Protocol, ServerOptions

ASKED_S = 5.0
"""How long an address may take to say what it speaks."""
_OTHER: dict[Protocol, tuple[Protocol, int]] = {"http": ("grpc", 1), "grpc": ("http", -1)}  # Triton's 8000 and 8001


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One way to send a request."""

    options: ServerOptions

    @property
    def name(self) -> str:
        """Such as `grpc`, or `http, shared memory`."""
        return self.options.protocol + (", shared memory" if self.options.shared_memory else "")


def channels_of(
    urls: Sequence[str], protocols: Sequence[Protocol], options: ServerOptions, *, shared_memory: bool
) -> tuple[list[Channel], list[Shortfall]]:
    """The channels of a server, and what of the protocols is not to be had.

    Which protocol an address speaks is found out. The other one is looked for at the neighbouring port, as Triton has
    them (8000 HTTP, 8001 gRPC), unless its address is given too.

    Args:
        urls: HOST:PORT, one or several of one server.
        protocols: those that are wanted.
        options: timeout and patience of every channel.
        shared_memory: have a second channel of each protocol, through shared memory.

    Raises:
        RequestError: an address is none.
        UnavailableError: nobody answers at an address, or tritonclient is missing.
    """
    found: dict[Protocol, str] = {}
    for url in urls:
        found.setdefault(_spoken(url), url)
    for protocol, url in list(found.items()):
        other, step = _OTHER[protocol]
        host, _, port = url.rpartition(":")
        neighbour = f"{host}:{int(port) + step}"
        in_range = 1 <= int(port) + step <= 65535
        if other in protocols and other not in found and in_range and _asked(neighbour, other) is None:
            found[other] = neighbour
    missing = [
        Shortfall(
            what=protocol,
            status="not compared",
            reason=f"no {protocol} port was found beside {', '.join(urls)}: give its address with another --url, or "
            f"leave it out with --protocol {_OTHER[protocol][0]}",
        )
        for protocol in protocols
        if protocol not in found
    ]
    return list(_channels(found, protocols, options, shared_memory=shared_memory)), missing


def _channels(
    found: dict[Protocol, str], protocols: Sequence[Protocol], options: ServerOptions, *, shared_memory: bool
) -> Iterator[Channel]:
    for protocol in protocols:
        if protocol in found:
            plain = replace(options, url=found[protocol], protocol=protocol, shared_memory=False)
            yield Channel(options=plain)
            if shared_memory:
                yield Channel(options=replace(plain, shared_memory=True))


def _spoken(url: str) -> Protocol:
    failures = []
    order: tuple[Protocol, ...] = ("http", "grpc")  # HTTP is told apart at once
    for protocol in order:
        failure = _asked(url, protocol)
        if failure is None:
            return protocol
        failures.append(failure)
    raise UnavailableError(f"no Triton server answers at {url}; {'; '.join(failures)}")


def _asked(url: str, protocol: Protocol) -> str | None:
    """Why a port does not speak a protocol; None where it does."""
    options = ServerOptions(url=url, protocol=protocol, timeout_s=ASKED_S, patience_s=0)
    with TritonClient(options) as client:
        try:
            client.server()
        except UnavailableError as error:
            return str(error)
    return None
