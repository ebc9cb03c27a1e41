"""Fallbacks: ways to sample, from the fastest to the safest; the first engine whose numbers are right is kept.

    native   the file as it is
    unfused  the same, with what goes in and out of each GridSample kept from fusing
    gather   the samplers written out in Gather and arithmetic
    fp32     the FP32 file, without TF32

TensorRT 10.14 and later may compute a GridSample wrongly inside a fused region (pytorch/TensorRT#4074,
NVIDIA/TensorRT#4813), which only a comparison of numbers finds. Building and comparing are the caller's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from refine_export.engine.build_options import FALLBACKS, BuildOptions, Fallback
from refine_export.errors import RefineExportError, RequestError, UnavailableError

Engine = TypeVar("Engine")
WRONG_FILE = ("engine-types", "wrong-sampling", "too-large")
"""Codes of errors that end the search: another fallback would only hide what is wrong with the file."""
FallbackStatus = Literal["passed", "failed", "not built", "not run", "not executed"]


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """Errors of one output on one feed, against FP32 torch."""

    feed: str
    output: str
    max_abs: float | None
    """Largest error, in units of the peak; None where a value is not finite."""
    psnr_db: float | None
    """None where a value is not finite, or nothing differs."""
    reasons: tuple[str, ...] = ()
    """Why the validation fails it; empty where it passes."""


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Comparison of engines with FP32 torch."""

    compare: Callable[[bytes, Fallback], Sequence[Numbers]]
    """Runs an engine, whose host code is our own build's."""
    described: Mapping[str, Any]
    """JSON: limits, frames, weights; where it changes, the engine is rebuilt and compared again."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """Result of one fallback."""

    fallback: Fallback
    status: FallbackStatus
    numbers: tuple[Numbers, ...] = ()
    reason: str | None = None
    """Why there are none."""
    seconds: float = 0.0
    """To build and to compare."""

    def __str__(self) -> str:
        """`native failed: PSNR 12.00 dB, below 40`."""
        reasons = dict.fromkeys(reason for one in self.numbers for reason in one.reasons)
        return f"{self.fallback} {self.status}: {self.reason or '; '.join(reasons)}"


@dataclass(frozen=True, kw_only=True)
class Chosen(Generic[Engine]):
    """The engine that was kept."""

    engine: Engine
    fallback: Fallback
    tried: tuple[Tried, ...]
    """Every fallback that was tried, in order; the last is the one that was kept."""


def fallbacks_of(options: BuildOptions, *, compares: bool = True, from_fp32: bool = False) -> tuple[Fallback, ...]:
    """Return the fallbacks to try: all, or the one that is asked for.

    Args:
        options: of the build.
        compares: the engines are compared; else `unfused`, which only corrects wrong numbers, is left out.
        from_fp32: the file itself is the FP32 file; without TF32, `fp32` would be `native` once more.
    """
    if options.fallback != "auto":
        return (options.fallback,)
    useless = {"unfused": not compares, "fp32": from_fp32 and not options.tf32}
    return tuple(fallback for fallback in FALLBACKS if not useless.get(fallback))


def first_exact(
    fallbacks: Sequence[Fallback],
    build: Callable[[Fallback], Engine],
    compare: Callable[[Engine], Sequence[Numbers]] | None,
) -> Chosen[Engine]:
    """Build and compare one fallback after another, and keep the first that passes.

    Args:
        fallbacks: `fallbacks_of`, one or more.
        build: makes an engine; where it raises, the fallback is recorded as not built and the next is tried.
        compare: runs an engine against FP32 torch; where it raises, likewise. Without numbers, nothing passes. None
            where engines cannot be executed here: the first that is built is kept, as `not executed`.

    Raises:
        RequestError: `no-exact-engine`; the message has the numbers, or the reason, of each. Or `no-engine`: none could
            be built or run. Or one of `WRONG_FILE`.
        UnavailableError: `no-engine`, because this machine lacks something each time.
    """
    tried: list[Tried] = []
    faults: list[RefineExportError] = []
    for fallback in fallbacks:
        started = time.perf_counter()
        status: FallbackStatus = "not built"
        numbers: tuple[Numbers, ...] = ()
        reason: str | None = None
        engine: Engine | None = None
        try:
            engine = build(fallback)
            status = "not run"
            if compare is None:
                status, reason = "not executed", "no GPU that it runs on"
            else:
                numbers = tuple(compare(engine))
                passed = bool(numbers) and not any(one.reasons for one in numbers)
                status, reason = "passed" if passed else "failed", None if numbers else "nothing was compared"
        except (RequestError, UnavailableError) as error:
            if error.code in WRONG_FILE:
                raise
            reason = str(error)
            faults.append(error)
        seconds = time.perf_counter() - started
        tried.append(Tried(fallback=fallback, status=status, numbers=numbers, reason=reason, seconds=seconds))
        if engine is not None and status in ("passed", "not executed"):
            return Chosen(engine=engine, fallback=fallback, tried=tuple(tried))
    refused = [fault for fault in faults if fault.code not in ("parser-refused", "fp32-needed")]
    if faults and (len(fallbacks) == 1 or (len(faults) == len(tried) and not refused)):
        raise faults[0]  # the only reason, with its own code: what the parser refuses, it refuses in each fallback
    results = "".join(f"\n  {one}" for one in tried)
    if len(faults) == len(tried):
        lacking = all(isinstance(fault, UnavailableError) for fault in faults)
        kind: type[RefineExportError] = UnavailableError if lacking else RequestError
        raise kind(f"no engine could be built and run on this machine:{results}", code="no-engine")
    raise RequestError(
        f"no engine by {', '.join(fallbacks)} is exact enough; expected errors within the limits against FP32 torch: "
        f"try another TensorRT, --fallback fp32, or wider limits{results}",
        code="no-exact-engine",
        fallbacks=list(fallbacks),
    )
