"""The seam to TensorRT: finds the package, says what is missing, keeps its log. Checked for 10.12 to 11.4.

Stubs that are made from the bindings say less than ours: there nothing is None, the module's own `bool` hides the type,
a tuple is no Dims and an IHostMemory no buffer. What passes through here, or is Any, fits both.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from refine_export.errors import UnavailableError
from refine_export.support.imports import require

if TYPE_CHECKING:
    from types import ModuleType

    import tensorrt as trt

OLDEST = (10, 12)
NEWEST_MAJOR = 11
KEPT_LINES = 200

_Value = TypeVar("_Value")


def load() -> ModuleType:
    """The `tensorrt` package.

    Raises:
        UnavailableError: it is missing, can't be loaded, or is of a version that this tool was not checked for.
    """
    module: ModuleType = require("tensorrt", extra="trt")
    version = version_of(module)
    if version[:2] < OLDEST or version[0] > NEWEST_MAJOR:
        raise UnavailableError(
            f"tensorrt {module.__version__} is installed; expected 10.12 to 11.x: pip install 'tensorrt>=10.12,<12'"
        )
    return module


def version_of(module: ModuleType) -> tuple[int, ...]:
    """`11.4.0` as numbers; what follows them (`.post1`) is left out."""
    numbers = []
    for part in str(module.__version__).split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers)


def required(value: _Value | None, what: str, log: Log) -> _Value:
    """What a call of TensorRT gave; these return None where something is wrong, and say why in the log only.

    Raises:
        UnavailableError: it is None; the message ends with what TensorRT logged.
    """
    if value is None:
        raise UnavailableError(f"TensorRT could not {what}{log.last_errors()}")
    return value


def succeeded(answer: Any) -> bool:
    """What a call of TensorRT says of itself."""
    return bool(answer)


def content_of(memory: Any) -> bytes:
    """What an IHostMemory holds; it is a buffer and no more."""
    return bytes(memory)


class Log:
    """What TensorRT logged, newest last; `logger` is the object that its constructors take.

    One per process: TensorRT keeps the first logger that it was given.
    """

    def __init__(self, module: Any) -> None:
        self.lines: deque[tuple[str, str]] = deque(maxlen=KEPT_LINES)
        self.logger = _logger(module, self.lines)

    def errors(self) -> list[str]:
        """The lines of severity ERROR and INTERNAL_ERROR."""
        return [text for severity, text in self.lines if "ERROR" in severity]

    def last_errors(self, count: int = 5) -> str:
        """The last of them, to be put behind a message."""
        found = self.errors()[-count:]
        return ": " + "; ".join(found) if found else " and logged no reason"


def _logger(module: Any, lines: deque[tuple[str, str]]) -> trt.ILogger:
    class Collector(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            lines.append((severity.name, msg))

    collector: trt.ILogger = Collector()
    return collector
