"""The TensorRT libraries: which one is used, what it can do, its log, and its null pointers as errors.

Checked against the API documentation of TensorRT 10.12 to 11.4; not run. Run with TensorRT for RTX 1.7 on machines
without a GPU. The published type stubs promise more than the bindings keep: calls do return None. What passes through
here is therefore `Any`.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from refine_export.engine.build_options import BuildOptions, Target
from refine_export.engine.machine import driver_status, numbers_of
from refine_export.errors import RequestError, UnavailableError
from refine_export.runners.runtime_names import REQUIRED_NAMES
from refine_export.support.imports import require

if TYPE_CHECKING:
    import tensorrt as trt

OLDEST = (10, 12)
NEWEST_MAJOR = 11
OLDEST_RTX = (1, 6)
"""1.5 reads opset 20's `linear` as nearest, and is reported to hang at random with RIFE (NVIDIA/TensorRT-RTX#37)."""
KEPT_LINES = 200

MODULES: Mapping[Target, str] = {"trt": "tensorrt", "rtx": "tensorrt_rtx"}
Ability = Literal[
    "refit", "strip", "version_compatible", "hardware_compatibility", "timing_cache", "tiling", "other_gpus"
]

_Value = TypeVar("_Value")


@dataclass(frozen=True, kw_only=True)
class Library:
    """A TensorRT library; both have the same calls, and precision is in the ONNX file for both."""

    name: Target
    version: str
    """Full version."""
    can: frozenset[Ability]

    @property
    def module(self) -> Any:
        """`tensorrt` or `tensorrt_rtx`, imported when it is first asked for: in the process that builds."""
        return _imported(self.name)

    @property
    def title(self) -> str:
        """The name for messages, such as `TensorRT for RTX 1.7.1`."""
        return f"{REQUIRED_NAMES[self.name]} {'.'.join(self.version.split('.')[:3])}"

    def check_options(self, options: BuildOptions) -> None:
        """Refuse options that this library cannot honour, before anything is built.

        Raises:
            RequestError: `unsupported-option`; the first of them, by name.
        """
        needed: dict[str, tuple[Ability, bool]] = {
            "refittable": ("refit", options.refittable),
            "strip_weights": ("strip", options.strip_weights),
            "version_compatible": ("version_compatible", options.version_compatible),
            "hardware_compatibility": ("hardware_compatibility", options.hardware_compatibility != "none"),
            "timing_cache": ("timing_cache", options.timing_cache is not None),
            "tiling_level": ("tiling", options.tiling_level != "none"),
            "gpu": ("other_gpus", bool(options.gpu)),
        }
        other = "trt" if self.name == "rtx" else "rtx"
        for name, (ability, wanted) in needed.items():
            if wanted and ability not in self.can:
                raise RequestError(
                    f"{name} is {getattr(options, name)}, which {self.title} cannot honour; leave it out, or build "
                    f"with target {other}",
                    code="unsupported-option",
                    option=name,
                    target=self.name,
                )


_ABILITIES: dict[Target, frozenset[Ability]] = {
    "trt": frozenset(
        ("refit", "strip", "version_compatible", "hardware_compatibility", "timing_cache", "tiling"),
    ),
    # Without a GPU, refit and strip fail inside the compiler and version compatibility lacks its library; there is
    # nothing to time before the kernels are compiled on the user's machine.
    "rtx": frozenset(("other_gpus",)),
}


def load_library(target: Literal["auto", "trt", "rtx"] = "auto") -> Library:
    """Find a TensorRT library and check its version.

    TensorRT for RTX is not imported for that; a process that does not build has no use for it.

    Args:
        target: `trt`, `rtx`, or `auto`: TensorRT where it is installed, else TensorRT for RTX where that is; where
            neither is, the one that builds here is missing: without a GPU that is TensorRT for RTX.

    Raises:
        UnavailableError: `missing-package` or `wrong-version`.
    """
    if target == "auto":
        rtx = find_spec("tensorrt") is None and (find_spec("tensorrt_rtx") is not None or driver_status() != 0)
        return load_library("rtx" if rtx else "trt")
    library = Library(name=target, version=_version(target), can=_ABILITIES[target])
    numbers = numbers_of(library.version)
    if target == "trt":
        expected = "tensorrt>=10.12,<12"
        fits = numbers[:2] >= OLDEST and numbers[0] <= NEWEST_MAJOR
    else:
        expected, fits = "tensorrt-rtx>=1.6", numbers[:2] >= OLDEST_RTX
    if not fits:
        message = f"{MODULES[target]} {library.version} is installed; expected {expected}: pip install '{expected}'"
        raise UnavailableError(message, code="wrong-version", module=MODULES[target], version=library.version)
    return library


def _version(target: Target) -> str:
    if target == "rtx" and MODULES[target] not in sys.modules and find_spec(MODULES[target]) is not None:
        with suppress(metadata.PackageNotFoundError):
            return metadata.version("tensorrt-rtx")
    return str(_imported(target).__version__)


def _imported(target: Target) -> Any:
    return require(MODULES[target], extra=target)


def title_of(module: Any) -> str:
    """Return name and full version of a library by its module, for messages."""
    name: Target = "rtx" if module.__name__ == MODULES["rtx"] else "trt"
    return f"{REQUIRED_NAMES[name]} {module.__version__}"


def required(value: _Value | None, what: str, log: Log) -> _Value:
    """Return what a call of TensorRT gave; these return None where something is wrong, and log the reason.

    Raises:
        UnavailableError: `tensorrt-failed`; it is None. The message ends with what TensorRT logged.
    """
    if value is None:
        raise UnavailableError(f"{log.title} could not {what}{log.last_errors()}", code="tensorrt-failed")
    return value


def constructed(make: Callable[[trt.ILogger], _Value], what: str, log: Log) -> _Value:
    """Call a constructor of TensorRT; the bindings raise TypeError where C++ gives null.

    Raises:
        UnavailableError: `tensorrt-failed`.
    """
    try:
        with _nothing_collected():
            return make(log.logger)
    except TypeError as error:
        raise UnavailableError(f"{log.title} could not {what}{log.last_errors()}", code="tensorrt-failed") from error


def builder_of(module: Any, log: Log) -> trt.Builder:
    """Return TensorRT's builder.

    Raises:
        UnavailableError: `no-gpu`; no GPU, no driver, or one that is too old.
    """
    try:
        with _nothing_collected():
            builder: trt.Builder = module.Builder(log.logger)
    except TypeError as error:
        raise UnavailableError(
            f"{log.title} finds no GPU that it can use; expected an NVIDIA GPU with a driver for "
            f"the CUDA that TensorRT was built for: see `nvidia-smi` and `refine-export doctor`{log.last_errors()}",
            code="no-gpu",
        ) from error
    return builder


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """Keep the garbage collector from running.

    A constructor of TensorRT holds a lock while it logs that the process has another logger, and each object of
    TensorRT that is freed takes that lock: one that `Log` makes the collector free there would wait for ever.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Log:
    """Lines that TensorRT logged, newest last; `logger` is the object that its constructors take.

    One per process: TensorRT keeps the first logger that it was given.

    Args:
        module: of the library.
        listener: called with severity and text of each line.
    """

    def __init__(self, module: Any, listener: Callable[[str, str], None] | None = None) -> None:
        lines: deque[tuple[str, str]] = deque(maxlen=KEPT_LINES)

        class Collector(module.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                module.ILogger.__init__(self)  # pybind11 needs the call by name

            def log(self, severity: Any, msg: str) -> None:
                if severity.name != "VERBOSE":  # many thousands, among which errors would be lost
                    lines.append((severity.name, msg))
                    if listener is not None:
                        listener(severity.name, msg)

        self.lines = lines
        self.title = title_of(module)
        self.logger: trt.ILogger = Collector()
        # TensorRT keeps no reference to it, and logs even while its last objects are freed, at exit or in the garbage
        # collector's own order: a logger that was freed before them hangs or crashes the process.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.logger))

    def errors(self) -> list[str]:
        """Return the lines of severity ERROR and INTERNAL_ERROR."""
        return [text for severity, text in self.lines if "ERROR" in severity]

    def last_errors(self, count: int = 5) -> str:
        """Return the last of them, as the end of a message."""
        found = self.errors()[-count:]
        return ": " + "; ".join(found) if found else " and logged no reason"
