"""Results of a self-test: for the good file and each known-bad one, the outcome and the numbers.

for problem in tested.problems:
    print(problem)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from refine_export.accuracy.limits import Limits
from refine_export.signature import FilePrecision, GraphName
from refine_export.support.text import dict_from_result
from refine_export.validate.comparison import Status

Outcome = Literal["passed", "failed", "not made", "no such fault"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The good file, or a known-bad one, under the limits."""

    name: str
    """`good`, or the fault's."""
    description: str
    outcome: Outcome
    """Verdict of the limits: `passed` is right only for the good file. `not made`: this file cannot be given the
    fault; `no such fault`: the graph cannot have it."""
    note: str = ""
    """Why it was not made, or could not be run."""
    first_bad_node: str = ""
    feeds: int = 0
    """Number of feeds that it was run on."""
    feed: str = ""
    """The feed on which it was nearest to its limits, or furthest outside; what follows was measured there."""
    output: str = ""
    psnr_db: float | None = None
    """None where the outputs are identical or not finite."""
    max_abs: float | None = None
    """Largest error; this and the next are in units of the peak."""
    p999_abs: float | None = None
    ssim: float | None = None
    limit: str = ""
    """Name of the limit in the recipe that it was nearest to."""
    margin: float | None = None
    """Error divided by the error that the limit allows (`effective_limits.Margin.ratio`): above 1 fails. None where
    nothing was measured."""
    as_good: bool = False
    """Its outputs are those of the good file, to the bit: the feeds never show the fault."""

    @property
    def measured(self) -> str:
        """Difference from the good file in words."""
        if self.note:
            return self.note
        if self.psnr_db is None:
            return "identical" if self.max_abs == 0 else "not finite"
        return (
            f"PSNR {self.psnr_db:.1f} dB and largest error {self.max_abs:.2g} on {self.feed}, "
            f"{self.margin:.3g} times what {self.limit} allows"
        )


@dataclass(frozen=True, kw_only=True)
class SelfTest:
    """Effect of the limits in force on a good file and on known-bad ones."""

    file: str
    graph: GraphName
    precision: FilePrecision
    runtime: str
    limits: Limits
    good: Trial
    mutants: tuple[Trial, ...]
    """One for every fault, made or not."""
    seconds: float

    @property
    def status(self) -> Status:
        """Failed where a limit lets a fault through or stops the good file; passed only if every fault was tried."""
        if self.good.outcome == "failed" or any(trial.outcome == "passed" for trial in self.mutants):
            return "failed"
        return "not compared" if any(trial.outcome == "not made" for trial in self.mutants) else "passed"

    @property
    def passed(self) -> bool:
        """The good file passes and every fault that its graph can have is stopped."""
        return self.status == "passed"

    @property
    def problems(self) -> tuple[str, ...]:
        """Faults of the limits and what to do, a sentence each."""
        found = []
        if self.good.outcome == "failed":
            found.append(
                f"the good file fails its limits, {self.good.measured}: loosen them if the file is known to be good"
            )
        for trial in self.mutants:
            if trial.outcome == "not made":
                found.append(f"{trial.name} was not tried: {trial.note}")
            elif trial.outcome == "passed":
                found.append(f"the limits let {trial.name} through ({trial.description}), {self._advice(trial)}")
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """Return what `gate --self-test --json` prints; an infinite margin becomes None."""
        return {"status": self.status, "problems": list(self.problems)} | dict_from_result(self)

    def _advice(self, trial: Trial) -> str:
        if trial.as_good:
            return "which gives exactly what the good file gives on these feeds: add feeds that show it" + (
                ", such as a second timestep" if trial.name == "fixed-timestep" else ""
            )
        if trial.margin is None or self.good.margin is None or trial.margin <= self.good.margin:
            return f"{trial.measured}: no nearer limit would pass the good file; add feeds that show the fault"
        return f"{trial.measured}, the good file {self.good.measured}: a limit between the two stops it"
