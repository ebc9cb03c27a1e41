"""Logger and progress monitor: what TensorRT calls."""

from __future__ import annotations

import sys
from typing import Any, ClassVar

from .values import enum_type


class _CallsInit(type):
    """What pybind11 does where a subclass forgets the base class."""

    def __call__(cls, *args: Any, **options: Any) -> Any:
        made = super().__call__(*args, **options)
        if not getattr(made, "_initialised", False):
            base = next(kind for kind in cls.__mro__ if kind.__module__ == __name__)
            raise TypeError(f"tensorrt.{base.__name__}.__init__() must be called when overriding __init__")
        return made


class ILogger(metaclass=_CallsInit):
    Severity: ClassVar[Any] = enum_type("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE")
    INTERNAL_ERROR: ClassVar[Any] = Severity.INTERNAL_ERROR
    ERROR: ClassVar[Any] = Severity.ERROR
    WARNING: ClassVar[Any] = Severity.WARNING
    INFO: ClassVar[Any] = Severity.INFO
    VERBOSE: ClassVar[Any] = Severity.VERBOSE

    def __init__(self) -> None:
        self._initialised = True


def say(logger: ILogger, severity: str, text: str) -> None:
    logger.log(ILogger.Severity.__members__[severity], text)  # type: ignore[attr-defined]


class IProgressMonitor(metaclass=_CallsInit):
    def __init__(self) -> None:
        self._initialised = True


def tell(monitor: IProgressMonitor | None, call: str, *arguments: Any) -> bool:
    """Call the monitor; False cancels, and so do an exception and None."""
    if monitor is None:
        return True
    try:
        answer = getattr(monitor, call)(*arguments)
    except Exception as error:
        sys.stderr.write(f"[ERROR] Exception caught in {call}(): {error}\n")
        return False
    return call != "step_complete" or answer is True
