"""Bounds of requests over HTTP that tritonclient does not have: time as a whole, bytes, and no compressed answers."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from refine_export.support.imports import require


class Bounds:
    """Those of one connection; it takes the place of the client's own.

    The timeouts of geventhttpclient are of each wait: a server that sends a byte now and then is waited for for ever.
    gevent's own timer bounds all waits together, and the socket what never waits: a server that sends without end.

    Args:
        client: tritonclient's for HTTP, new.
        timeout_s: of one request, from the name's look-up to the last byte.
        most_bytes: of one answer.
    """

    def __init__(self, client: Any, timeout_s: float, most_bytes: int) -> None:
        self._timeout_s, self._most_bytes = timeout_s, most_bytes
        self._ends, self._left = 0.0, 0
        self._connection = client._client_stub
        self._connection._connection_pool._create_tcp_socket = functools.partial(_socket_type(), self)
        client._client_stub = self

    @contextmanager
    def request(self) -> Iterator[None]:
        """For the time of one request.

        Raises:
            TimeoutError: it took too long; the connection can't be used again.
        """
        gevent: Any = require("gevent", extra="triton")

        self._ends, self._left = time.monotonic() + self._timeout_s, self._most_bytes
        try:
            with gevent.Timeout(self._timeout_s):
                yield
        except gevent.Timeout as error:
            raise TimeoutError("the whole answer did not come in time") from error

    def get(self, *arguments: Any, **more: Any) -> Any:
        """As the connection's."""
        return _plain(self._connection.get(*arguments, **more))

    def post(self, *arguments: Any, **more: Any) -> Any:
        """As the connection's."""
        return _plain(self._connection.post(*arguments, **more))

    def close(self) -> None:
        """As the connection's."""
        self._connection.close()

    def came(self, byte_size: int) -> None:
        """Told of all that comes.

        Raises:
            ValueError: it is too much.
            gevent.Timeout: too late; no `Exception`, which tritonclient would take for a part of the answer.
        """
        gevent: Any = require("gevent", extra="triton")

        self._left -= byte_size
        if self._left < 0:
            raise ValueError(f"the answer has more than {self._most_bytes} bytes")
        if time.monotonic() > self._ends:
            raise gevent.Timeout


def _plain(response: Any) -> Any:
    """Refuse what would be unpacked, whatever its size then: it was not asked for."""
    encoding = response.get("Content-Encoding")
    if response.status_code == 200 and encoding not in (None, "", "identity"):
        response.release()
        raise ValueError(f"the answer is compressed ({encoding!r}), which was not asked for")
    return response


@functools.cache
def _socket_type() -> Any:
    class Socket(require("gevent.socket", extra="triton").socket):  # type: ignore[misc]  # known at run time
        def __init__(self, bounds: Bounds, *arguments: Any) -> None:
            super().__init__(*arguments)
            self._bounds = bounds

        def recv(self, *arguments: Any) -> bytes:
            data: bytes = super().recv(*arguments)
            self._bounds.came(len(data))
            return data

    return Socket
