"""The gate: a report's file to a decision, the files that say it, and the baseline.

from refine_export.gate.job import gate

print(gate(Path("out/report.json"), baseline=Path("baseline.json")).status)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refine_export.errors import RequestError
from refine_export.gate.annotations import annotations_from_decision, located_from
from refine_export.gate.baseline import baseline_from_decision, baseline_from_file, write_baseline
from refine_export.gate.changes import Changes, compare_with_baseline
from refine_export.gate.decision import Decision, Required, decide
from refine_export.gate.junit import junit_from_decision
from refine_export.gate.markdown import markdown_from_decision
from refine_export.report.parsing import report_from_file
from refine_export.support.files import write_text
from refine_export.validate.comparison import Status
from refine_export.validate.validate_options import ValidateOptions


@dataclass(frozen=True, kw_only=True)
class GateFiles:
    """What the gate writes beside its answer."""

    junit: Path | None = None
    markdown: Path | None = None
    summary: Path | None = None
    """The Markdown is appended to it: `$GITHUB_STEP_SUMMARY`."""


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """What the gate says, and what became of the baseline."""

    decision: Decision
    changes: Changes | None
    """Against the baseline; None without one, or where it is written for the first time."""
    baseline: str
    """What became of the baseline, in a sentence; empty without one."""
    annotations: tuple[str, ...]
    """For GitHub Actions."""

    @property
    def status(self) -> Status:
        """Of the decision."""
        return self.decision.status

    def as_json(self) -> dict[str, Any]:
        """The result as JSON types."""
        return {
            "status": self.status,
            "groups": [
                {
                    "name": group.name,
                    "graph": group.graph,
                    "file": group.file,
                    "runtime": group.runtime,
                    "status": group.status,
                    "reason": group.reason,
                }
                for group in self.decision.groups
            ],
            "problems": [dataclasses.asdict(problem) for problem in self.decision.problems],
            "baseline": None if not self.baseline else _baseline_as_json(self.baseline, self.changes),
        }


def gate(
    report: Path,
    *,
    options: ValidateOptions | None = None,
    require: Sequence[Required] = (),
    baseline: Path | None = None,
    accept: bool = False,
    files: GateFiles | None = None,
) -> GateResult:
    """Decide on a report and write what was asked for.

    Args:
        report: a report.json.
        options: limits, share and number in the place of those that the report was made with.
        require: runtimes in which something has to be compared.
        baseline: the file to compare with, or to write with `accept`.
        accept: write what is new or better to the baseline, if the gate passes.
        files: what else to write; written whatever the decision is.

    Raises:
        RequestError: the report or the baseline can't be used, or a file can't be written.
    """
    files = files or GateFiles()
    if accept and baseline is None:
        raise RequestError("accept without a baseline; say with --baseline which file to write")
    _check_paths(report, baseline, files)
    loaded = report_from_file(report)
    decision = decide(loaded, options=options, require=require)
    changes = None
    if baseline is not None and (baseline.exists() or not accept):
        changes = compare_with_baseline(decision, baseline_from_file(baseline))
        decision = dataclasses.replace(decision, problems=(*decision.problems, *changes.problems))
    located = located_from(report)
    markdown = markdown_from_decision(decision, changes)
    if files.junit is not None:
        write_text(files.junit, junit_from_decision(decision))
    if files.markdown is not None:
        write_text(files.markdown, markdown)
    if files.summary is not None:
        with files.summary.open("a", encoding="utf-8") as summary:
            summary.write(markdown)
    return GateResult(
        decision=decision,
        changes=changes,
        baseline="" if baseline is None else _settled(baseline, decision, changes, accept=accept),
        annotations=tuple(annotations_from_decision(decision, located)),
    )


def _settled(path: Path, decision: Decision, changes: Changes | None, *, accept: bool) -> str:
    """Write the baseline, where that was asked for and the gate passed."""
    if not accept:
        offered = changes is not None and changes.offered and decision.status == "passed"
        return f"{path}: there is something better or new; --accept writes it" if offered else f"{path}: compared"
    if decision.status != "passed":
        advice = ""
        if changes is not None and (changes.drops or changes.missing):
            advice = "; what got worse or is missing can't be accepted: if it is meant, delete the file and accept anew"
        return f"{path}: not written, since the gate is {decision.status}{advice}"
    if changes is None:
        fresh = baseline_from_decision(decision)
        write_baseline(path, fresh)
        return f"{path}: written, with {len(fresh.entries)} entries"
    if not changes.offered:
        return f"{path}: unchanged, since nothing is better or new"
    write_baseline(path, changes.accepted)
    better = len({change.entry for change in changes.gains})
    return f"{path}: written, with {better} entries better and {len(changes.new)} new"


def _check_paths(report: Path, baseline: Path | None, files: GateFiles) -> None:
    """No two of them may be one file: one would overwrite the other."""
    named = {"the report": report, "--baseline": baseline} | {
        f"--{name}": getattr(files, name) for name in ("junit", "markdown")
    }
    seen: dict[Path, str] = {}
    for name, path in named.items():
        if path is None:
            continue
        if other := seen.get(path.resolve()):
            raise RequestError(f"{other} and {name} are both {path}; give each a file of its own")
        seen[path.resolve()] = name


def _baseline_as_json(said: str, changes: Changes | None) -> dict[str, Any]:
    if changes is None:
        return {"said": said}
    return {
        "said": said,
        "same": changes.same,
        "worse": [_change_as_json(change.entry.name, str(change)) for change in changes.drops],
        "better": [_change_as_json(change.entry.name, str(change)) for change in changes.gains],
        "new": [entry.name for entry in changes.new],
        "missing": [entry.name for entry in changes.missing],
        "notes": list(changes.notes),
    }


def _change_as_json(name: str, said: str) -> dict[str, str]:
    return {"what": name, "change": said}
