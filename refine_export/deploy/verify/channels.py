"""Find the channels of a server: its protocols, each over the network and, if requested, shared memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from refine_export.errors import UnavailableError
from refine_export.report.report_data import Shortfall
from refine_export.runners.triton.client import TritonClient
from refine_export.runners.triton.connection_options import Protocol, ServerOptions

PROBE_S = 5.0
"""Timeout of the request that detects the protocol of an address."""
_OTHER: dict[Protocol, tuple[Protocol, int]] = {"http": ("grpc", 1), "grpc": ("http", -1)}
"""Protocol -> the other one, and the offset of its port: Triton's ports are 8000 for HTTP and 8001 for gRPC."""


def channels_of(
    urls: Sequence[str], protocols: Sequence[Protocol], options: ServerOptions, *, shared_memory: bool
) -> tuple[list[ServerOptions], list[Shortfall]]:
    """Return the channels of a server, and the protocols over which it cannot be reached.

    Each address is probed for its protocol. The other protocol is looked for at the neighbouring port, unless its
    address is given too.

    Args:
        urls: HOST:PORT, one or several of one server.
        protocols: the protocols to test.
        options: timeout and patience of every channel.
        shared_memory: add a channel through shared memory for each protocol.

    Raises:
        UnavailableError: `no-server` at an address, or `missing-package`.
    """
    found: dict[Protocol, str] = {}
    for url in urls:
        found.setdefault(_protocol_at(url), url)
    for protocol, url in list(found.items()):
        other, step = _OTHER[protocol]
        host, _, port = url.rpartition(":")
        neighbour = int(port) + step
        wanted = other in protocols and other not in found and 1 <= neighbour <= 65535
        if wanted and _probe(f"{host}:{neighbour}", other) is None:
            found[other] = f"{host}:{neighbour}"
    channels, missing = [], []
    for protocol in protocols:
        if protocol in found:
            plain = replace(options, url=found[protocol], protocol=protocol, shared_memory=False)
            channels.append(plain)
            if shared_memory:
                channels.append(replace(plain, shared_memory=True))
        else:
            reason = (
                f"no {protocol} port was found beside {', '.join(urls)}: give its address with another --url, or "
                f"leave it out with --protocol {_OTHER[protocol][0]}"
            )
            missing.append(Shortfall(what=protocol, status="not compared", reason=reason))
    return channels, missing


def _protocol_at(url: str) -> Protocol:
    failures = []
    order: tuple[Protocol, ...] = ("http", "grpc")  # an HTTP port answers any request at once
    for protocol in order:
        failure = _probe(url, protocol)
        if failure is None:
            return protocol
        failures.append(failure)
    message = f"no Triton server answers at {url} ({'; '.join(failures)}); start it, or check the address"
    raise UnavailableError(message, code="no-server", url=url)


def _probe(url: str, protocol: Protocol) -> str | None:
    """Return the reason why a port does not answer in a protocol; None where it does."""
    options = ServerOptions(url=url, protocol=protocol, timeout_s=PROBE_S, patience_s=0)
    with TritonClient(options) as client:
        try:
            client.server()
        except UnavailableError as error:
            return f"{protocol}: {error.__cause__ or error}"
    return None
