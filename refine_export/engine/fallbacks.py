"""The ladder: ways to sample, from the fastest to the surest; the first whose numbers are right is kept.

    native   the file as it is
    unfused  the same, with what goes in and out of each GridSample kept from fusing
    gather   the samplers written out in Gather and arithmetic
    fp32     the FP32 file, without TF32

Pure control flow: building and comparing are the caller's.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from refine_export.accuracy.limits import Limits
from refine_export.engine.build_options import RUNGS, BuildOptions, Rung
from refine_export.errors import RefineExportError, RequestError, UnavailableError

Engine = TypeVar("Engine")


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """One output on one feed, against FP32 torch."""

    feed: str
    output: str
    max_abs: float
    """Largest error, in units of the peak; NaN where a value is not finite."""
    psnr_db: float
    """Infinite where nothing differs."""
    reasons: tuple[str, ...] = ()
    """Why the validation fails it; none where it passes."""


@dataclass(frozen=True, kw_only=True)
class Judge:
    """How the engines of the rungs are judged against FP32 torch."""

    compare: Callable[[bytes, Rung], Sequence[Numbers]]
    """Runs a plan, whose host code is our own build's."""
    limits: Callable[[Rung], Limits]
    described: Mapping[str, Any]
    """JSON: limits, frames, weights; where it changes, an engine is judged anew, so built anew."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What became of one rung."""

    rung: Rung
    status: Literal["passed", "failed", "not built", "not run"]
    numbers: tuple[Numbers, ...] = ()
    limits: Limits | None = None
    """What the numbers had to keep; None where there are none."""
    reason: str | None = None
    """Why there are none."""
    seconds: float = 0.0
    """To build and to compare."""

    def to_dict(self) -> dict[str, Any]:
        """For the manifest; JSON has no infinity and no NaN, so None stands for them."""
        numbers = [
            {
                name: None if isinstance(value, float) and not math.isfinite(value) else value
                for name, value in dataclasses.asdict(one).items()
            }
            for one in self.numbers
        ]
        return dataclasses.asdict(self) | {"numbers": numbers}

    @property
    def words(self) -> str:
        """`native failed: max_abs 0.25 (at most 0.02), 12.0 dB (at least 40)`"""
        if self.limits is None:
            return f"{self.rung} {self.status}: {self.reason}"
        worst, least = _worst(self.numbers)
        return (
            f"{self.rung} {self.status}: max_abs {worst:.3g} (at most {self.limits.max_abs:g}), {least:.1f} dB "
            f"(at least {self.limits.psnr_db:g}){''.join(f'; {reason}' for reason in self._more)}"
        )

    @property
    def _more(self) -> list[str]:
        """Reasons that the limits above do not tell."""
        kept = [one for one in self.numbers if self.limits is not None and _within(one, self.limits)]
        return list(dict.fromkeys(reason for one in kept for reason in one.reasons))


@dataclass(frozen=True, kw_only=True)
class Climbed(Generic[Engine]):
    """The engine that was kept."""

    engine: Engine
    rung: Rung
    tried: tuple[Tried, ...]
    """Every rung that was tried, in order; the last is the one that was kept."""


def rungs_of(options: BuildOptions) -> tuple[Rung, ...]:
    """The rungs to try: all, or the one that is forced."""
    return RUNGS if options.rung == "auto" else (options.rung,)


def climb(
    rungs: Sequence[Rung],
    build: Callable[[Rung], Engine],
    compare: Callable[[Engine], Sequence[Numbers]],
    limits: Callable[[Rung], Limits],
) -> Climbed[Engine]:
    """Build and compare one rung after another, and keep the first that passes.

    Args:
        rungs: `rungs_of`, one or more.
        build: makes the engine of a rung; where it raises, the rung is recorded as not built and the next is tried.
        compare: runs an engine against FP32 torch; where it raises, likewise. Without numbers, nothing is passed.
        limits: what the numbers of a rung have to keep.

    Raises:
        RequestError: no rung passes, or none could be built; the message has the numbers, or the reason, of each.
        UnavailableError: no rung could be built or run, for want of something on this machine each time.
    """
    tried: list[Tried] = []
    faults: list[RefineExportError] = []
    for rung in rungs:
        started = time.perf_counter()
        status: Literal["not built", "not run"] = "not built"
        try:
            engine = build(rung)
            status = "not run"
            numbers = tuple(compare(engine))
        except (RequestError, UnavailableError) as error:
            seconds = time.perf_counter() - started
            tried.append(Tried(rung=rung, status=status, reason=str(error), seconds=seconds))
            faults.append(error)
            continue
        kept = limits(rung)
        passed = bool(numbers) and all(_keeps(one, kept) for one in numbers)
        tried.append(
            Tried(
                rung=rung,
                status="passed" if passed else "failed",
                numbers=numbers,
                limits=kept if numbers else None,
                reason=None if numbers else "nothing was compared",
                seconds=time.perf_counter() - started,
            )
        )
        if passed:
            return Climbed(engine=engine, rung=rung, tried=tuple(tried))
    said = "".join(f"\n  {one.words}" for one in tried)
    if len(faults) == len(tried):
        if all(isinstance(fault, UnavailableError) for fault in faults):
            raise UnavailableError(f"no rung could be built and run on this machine:{said}")
        raise RequestError(f"no rung could be built and run; mend what each says, or try another rung:{said}")
    raise RequestError(
        f"none of the rungs {', '.join(rungs)} is exact enough; expected errors within the limits against FP32 torch: "
        f"try another TensorRT, --rung fp32, or wider limits{said}"
    )


def _keeps(numbers: Numbers, limits: Limits) -> bool:
    """What the validation fails is never kept, whatever the numbers that are looked at here."""
    return not numbers.reasons and _within(numbers, limits)


def _within(numbers: Numbers, limits: Limits) -> bool:
    """NaN keeps no limit."""
    return numbers.max_abs <= limits.max_abs and numbers.psnr_db >= limits.psnr_db


def _worst(numbers: Sequence[Numbers]) -> tuple[float, float]:
    """Largest error and smallest PSNR; NaN where there is one, which `max` and `min` would hide."""
    errors, levels = [one.max_abs for one in numbers], [one.psnr_db for one in numbers]
    return (
        math.nan if any(map(math.isnan, errors)) else max(errors),
        math.nan if any(map(math.isnan, levels)) else min(levels),
    )
