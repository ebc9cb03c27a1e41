"""The gate: decide on a report, write the files that CI systems read, and keep the baseline.

from refine_export.jobs.gate_report import gate

assert gate(Path("out/report.json"), baseline=Path("baseline.json")).passed
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refine_export.errors import RequestError
from refine_export.gate.annotations import annotations_from_decision
from refine_export.gate.baseline import baseline_from_decision, baseline_from_file, write_baseline
from refine_export.gate.changes import Changes, compare_with_baseline
from refine_export.gate.decision import Decision, Required, decide
from refine_export.gate.junit import junit_from_decision
from refine_export.gate.markdown import markdown_from_decision
from refine_export.report.report_files import report_from_file
from refine_export.support.files import write_text
from refine_export.validate.comparison import Status
from refine_export.validate.validate_options import ValidateOptions


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """The decision of the gate, and what happened to the baseline."""

    path: Path
    """The report."""
    decision: Decision = dataclasses.field(repr=False)
    changes: Changes | None = dataclasses.field(repr=False)
    """Changes against the baseline; None without one, or where it is written for the first time."""
    baseline: str
    """What happened to the baseline, in a sentence; empty without one."""
    annotations: tuple[str, ...] = dataclasses.field(repr=False)
    """Lines for GitHub Actions."""

    @property
    def status(self) -> Status:
        """Verdict of the gate."""
        return self.decision.status

    @property
    def passed(self) -> bool:
        """Return whether the gate passed."""
        return self.status == "passed"

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader should know about the report and the baseline."""
        return (*self.decision.report.notes, *(self.changes.notes if self.changes else ()))

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON types."""
        names = ("graph", "file", "runtime", "status", "reason")
        groups = [judged.group for judged in self.decision.groups]
        changes = self.changes.to_dict() if self.changes else {}
        return {
            "status": self.status,
            "groups": [{"name": str(group.key)} | {name: getattr(group, name) for name in names} for group in groups],
            "problems": [dataclasses.asdict(problem) for problem in self.decision.problems],
            "baseline": {"message": self.baseline, **changes} if self.baseline else None,
        }


def gate(
    report: Path,
    *,
    options: ValidateOptions | None = None,
    require: Sequence[Required] = (),
    baseline: Path | None = None,
    accept: bool = False,
    junit: Path | None = None,
    markdown: Path | None = None,
    summary: Path | None = None,
) -> GateResult:
    """Decide on a report, and write what was asked for whatever the decision is.

    Args:
        report: a report.json.
        options: limits, and the share and number of feeds that may fail, in place of those that the report was made
            with.
        require: runtimes in which something must have been compared.
        baseline: the file to compare with, or to write with `accept`.
        accept: write what is new or better to the baseline, if the gate passes.
        junit: a file for JUnit XML.
        markdown: a file for a summary in Markdown.
        summary: a file to which the same summary is appended, such as `$GITHUB_STEP_SUMMARY`.

    Raises:
        RequestError: the report or the baseline cannot be used, or a file cannot be written.
    """
    if accept and baseline is None:
        raise RequestError("accept without a baseline; give the file to write with --baseline", code="missing-option")
    _check_paths({"the report": report, "--baseline": baseline, "--junit": junit, "--markdown": markdown})
    decision = decide(report_from_file(report), options=options, require=require)
    changes = None
    if baseline is not None and (baseline.exists() or not accept):
        changes = compare_with_baseline(decision, baseline_from_file(baseline))
        decision = dataclasses.replace(decision, problems=(*decision.problems, *changes.problems))
    text = markdown_from_decision(decision, changes)
    if junit is not None:
        write_text(junit, junit_from_decision(decision))
    if markdown is not None:
        write_text(markdown, text)
    if summary is not None:
        with summary.open("a", encoding="utf-8") as file:
            file.write(text)
    return GateResult(
        path=report,
        decision=decision,
        changes=changes,
        baseline="" if baseline is None else _settle(baseline, decision, changes, accept=accept),
        annotations=tuple(annotations_from_decision(decision, report)),
    )


def _settle(path: Path, decision: Decision, changes: Changes | None, *, accept: bool) -> str:
    """Write the baseline if that was asked for and the gate passed; return what happened to it."""
    passed = decision.status == "passed"
    if not accept:
        offered = changes is not None and changes.offered and passed
        return f"{path}: something is better or new; --accept writes it" if offered else f"{path}: compared"
    if not passed:
        advice = ""
        if changes is not None and (changes.drops or changes.missing):
            advice = "; what is worse or missing cannot be accepted: if it is meant, delete the file and accept anew"
        return f"{path}: not written, because the gate is {decision.status}{advice}"
    if changes is None:
        fresh = baseline_from_decision(decision)
        write_baseline(path, fresh)
        return f"{path}: written, with {len(fresh.entries)} entries"
    if not changes.offered:
        return f"{path}: unchanged, because nothing is better or new"
    write_baseline(path, changes.accepted)
    better = len({change.entry for change in changes.gains})
    return f"{path}: written, with {better} entries better and {len(changes.new)} new"


def _check_paths(paths: Mapping[str, Path | None]) -> None:
    """Refuse two names of one file: one would overwrite the other."""
    seen: dict[Path, str] = {}
    for name, path in paths.items():
        if path is None:
            continue
        if other := seen.get(path.resolve()):
            message = f"{other} and {name} are both {path}; give each a file of its own"
            raise RequestError(message, code="same-file", path=path, options=[other, name])
        seen[path.resolve()] = name
