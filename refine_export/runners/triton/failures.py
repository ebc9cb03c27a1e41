"""What goes wrong with a request to a Triton server, in a few kinds: foreign errors, and answers that are none."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from refine_export.support.imports import require

Failure = Literal["away", "slow", "unknown", "unhealthy", "region", "refused", "strange"]

LONGEST_SHOWN = 200
"""Characters of a page that is not Triton's."""
_BUSY = ("429", "502", "503", "504")  # of the server, or of what stands before it
_LOST = ("RST_STREAM", "GOAWAY", "Socket closed", "Connection reset")
_FOREIGN = ("http2 header with status", "content-type", "deserializing response")  # gRPC: a web server, or other bytes
_EMPTY = "client received an empty response"  # tritonclient's words for an error without Triton's JSON
_UNREADABLE = "an exception occurred in the client while decoding the response"
_STRANGE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, struct.error)


class WireError(Exception):
    """What went wrong with one request; it never leaves `TritonClient`."""

    def __init__(self, failure: Failure, message: str) -> None:
        super().__init__(message)
        self.failure = failure
        """`away`: no server, or one that stops; `slow`: no answer in time; `unknown`: model or version not ready;
        `unhealthy`: a Python model's process is gone; `region`: the shared memory is not registered, or too small;
        `refused`: the request itself; `strange`: an answer that is not Triton's."""


@contextmanager
def understood() -> Iterator[None]:
    """What reading an answer raises becomes `strange`; for code that does nothing but read it."""
    try:
        yield
    except _STRANGE as error:
        raise WireError("strange", _shown(f"{type(error).__name__}: {error}")) from error


@contextmanager
def translated(error_of: Callable[[str, str], WireError]) -> Iterator[None]:
    """Foreign errors as `WireError`.

    Args:
        error_of: status and message of tritonclient's own error to ours.
    """
    from http.client import HTTPException

    utils = require("tritonclient.utils", extra="triton")
    try:
        with understood():
            yield
    except utils.InferenceServerException as error:
        raise error_of(str(error.status() or ""), str(error.message() or error)) from error
    except TimeoutError as error:
        raise WireError("slow", str(error) or "timed out") from error
    except OSError as error:  # refused, reset, no such host
        raise WireError("away", str(error)) from error
    except HTTPException as error:
        raise WireError("away", f"the answer is no HTTP ({error}); is this the gRPC port?") from error


def error_of_grpc(status: str, message: str) -> WireError:
    """By gRPC's code, such as `StatusCode.UNAVAILABLE`; nothing of the message is lost."""
    code = status.removeprefix("StatusCode.")
    if code == "DEADLINE_EXCEEDED":
        return WireError("slow", message)
    if code in ("UNAVAILABLE", "CANCELLED") or any(sign in message for sign in _LOST):
        return WireError("away", message)
    if any(sign in message for sign in _FOREIGN):
        return WireError("strange", _shown(message))
    return WireError(_failure_of(message, not_found=code == "NOT_FOUND"), message)


def error_of_http(status: str, message: str) -> WireError:
    """By HTTP's status; Triton's own errors have a message, those of a proxy a page or nothing."""
    foreign = not status or message.startswith((_EMPTY, _UNREADABLE))
    if foreign:
        page = "" if message.startswith(_EMPTY) else _shown(message.partition("\nresponse: ")[2] or message)
        message = f"HTTP {status or '200'}: {page or 'an empty answer'}"
    if status in _BUSY:
        return WireError("away", message)
    if status == "413":  # Triton's server closes without a word where a request is too long
        return WireError("refused", message)
    if foreign:
        return WireError("strange", message)
    return WireError(_failure_of(message, not_found=status == "404"), message)


def _failure_of(message: str, *, not_found: bool) -> Failure:
    """What Triton says in both protocols."""
    if "shared memory region" in message and "Unable to find" in message:
        return "region"
    if "shared memory size specified" in message:
        return "region"
    if "is not healthy" in message:
        return "unhealthy"
    if "unknown model" in message or not_found:
        return "unknown"
    return "refused"


def _shown(text: str) -> str:
    """On one line, and no longer than can be read."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_SHOWN else f"{line[:LONGEST_SHOWN]}..."
