"""What a self-test found: for the good file and each known-bad one, the outcome and the numbers.

for problem in tested.problems:
    print(problem)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from refine_export.accuracy.limits import Limits
from refine_export.signature import FilePrecision, GraphName
from refine_export.validate.comparison import Status

if TYPE_CHECKING:
    from refine_export.accuracy.metrics import Metrics

Outcome = Literal["passed", "failed", "not made", "no such fault"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The good file, or a known-bad one, under the limits."""

    name: str
    """`good`, or the fault's."""
    description: str
    outcome: Outcome
    """Of the gate: `passed` is right for the good file alone. `not made`: this file can't be given the fault; `no such
    fault`: the graph can't have it."""
    note: str = ""
    """Why it was not made, or could not be run."""
    first_bad_node: str = ""
    feeds: int = 0
    """How many it was fed."""
    feed: str = ""
    """Where it was nearest to its limits, or furthest outside."""
    output: str = ""
    psnr_db: float | None = None
    """There, as what follows; None where the outputs are identical or not finite."""
    max_abs: float | None = None
    """In units of the peak, as is the next."""
    p999_abs: float | None = None
    ssim: float | None = None
    limit: str = ""
    """Which limit that is, by its name in the recipe."""
    margin: float | None = None
    """How many times the error that the limit allows: above 1 fails. For PSNR as an amplitude: 6 dB are a factor of 2.
    None where no error was measured."""
    as_good: bool = False
    """It gave what the good file gave, to the bit: the feeds never show the fault."""


@dataclass(frozen=True, kw_only=True)
class SelfTest:
    """What the limits in force do with a good file and with known-bad ones."""

    file: str
    graph: GraphName
    precision: FilePrecision
    runtime: str
    limits: Limits
    good: Trial
    mutants: tuple[Trial, ...]
    """Of every fault, made or not."""
    seconds: float

    @property
    def status(self) -> Status:
        """Failed where a limit lets a fault through or stops the good file; passed only if every fault was tried."""
        if self.good.outcome == "failed" or any(trial.outcome == "passed" for trial in self.mutants):
            return "failed"
        return "not compared" if any(trial.outcome == "not made" for trial in self.mutants) else "passed"

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong and what to do, a sentence each."""
        found = []
        if self.good.outcome == "failed":
            found.append(
                f"the good file fails its limits, {measured(self.good)}: loosen them if the file is known to be good"
            )
        for trial in self.mutants:
            if trial.outcome == "not made":
                found.append(f"{trial.name} was not tried: {trial.note}")
            elif trial.outcome == "passed":
                found.append(f"the limits let {trial.name} through ({trial.description}), {self._advice(trial)}")
        return tuple(found)

    def _advice(self, trial: Trial) -> str:
        if trial.as_good:
            return "which gives exactly what the good file gives on these feeds: add feeds that show it" + (
                ", such as a second timestep" if trial.name == "fixed-timestep" else ""
            )
        if trial.margin is None or self.good.margin is None or trial.margin <= self.good.margin:
            return f"{measured(trial)}: no nearer limit would pass the good file; add feeds that show the fault"
        return f"{measured(trial)}, the good file {measured(self.good)}: a limit between the two stops it"


def margins(metrics: Metrics, limits: Limits) -> dict[str, float]:
    """Error by what the limit allows, for each limit; above 1 fails. See `Trial.margin`."""
    if metrics.nan_count or metrics.inf_count:
        return {"finite": math.inf}
    found = {"max_abs": metrics.max_of_peak / limits.max_abs}
    if metrics.psnr_db is not None:
        found["psnr_db"] = 10 ** ((limits.psnr_db - metrics.psnr_db) / 20)
    if limits.p999_abs is not None and metrics.p999_abs is not None:
        found["p999_abs"] = metrics.p999_abs / metrics.peak / limits.p999_abs
    if limits.flicker is not None and metrics.flicker is not None:
        found["flicker"] = metrics.flicker / metrics.peak / limits.flicker
    if limits.snr_db is not None and metrics.snr_db is not None:
        found["snr_db"] = 10 ** ((limits.snr_db - metrics.snr_db) / 20)
    if limits.ssim is not None and metrics.ssim is not None:
        allowed, given = 1 - limits.ssim, 1 - metrics.ssim
        found["ssim"] = given / allowed if allowed else math.inf if given > 0 else 0.0
    return found


def measured(trial: Trial) -> str:
    """How far a file is off, in words."""
    if trial.note:
        return trial.note
    if trial.psnr_db is None:
        return "identical" if trial.max_abs == 0 else "not finite"
    return (
        f"PSNR {trial.psnr_db:.1f} dB and largest error {trial.max_abs:.2g} on {trial.feed}, "
        f"{trial.margin:.3g} times what {trial.limit} allows"
    )
