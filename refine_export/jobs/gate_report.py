"""`gate`: decide on a report, write the files that CI systems read, and keep the baseline."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refine_export.errors import RequestError
from refine_export.gate.annotations import annotations_from_decision
from refine_export.gate.baseline import baseline_from_decision, baseline_from_file, write_baseline
from refine_export.gate.changes import Changes, compare_with_baseline
from refine_export.gate.decision import Decision, decide
from refine_export.gate.junit import junit_from_decision
from refine_export.gate.markdown import markdown_from_decision
from refine_export.jobs.job_options import takes_options
from refine_export.jobs.load_inputs import AnyPath, path_of
from refine_export.jobs.recipe_file import AnyRecipe, chosen_recipe
from refine_export.report.report_files import report_from_file
from refine_export.support.files import cannot_write, write_text
from refine_export.validate.comparison import Status


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """The decision of the gate, and what happened to the baseline."""

    path: Path
    """The report."""
    status: Status
    """The verdict of the gate."""
    decision: Decision = dataclasses.field(repr=False)
    changes: Changes | None = dataclasses.field(repr=False)
    """Changes against the baseline; None without one, or where it is written for the first time."""
    baseline: str
    """Sentence on what happened to the baseline; empty without one."""
    annotations: tuple[str, ...] = dataclasses.field(repr=False)
    """Lines for GitHub Actions."""

    @property
    def passed(self) -> bool:
        """Whether the gate passed."""
        return self.status == "passed"

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the report and the baseline."""
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


@takes_options("run.require", "validate.limits", "validate.share", "validate.may_fail")
def gate(
    report: AnyPath,
    *,
    baseline: AnyPath | None = None,
    accept: bool = False,
    speed: bool = False,
    junit: AnyPath | None = None,
    markdown: AnyPath | None = None,
    summary: AnyPath | None = None,
    recipe: AnyRecipe = None,
    **options: Any,
) -> GateResult:
    """Decide on a report, and write what was asked for whatever the decision is.

    Args:
        report: a report.json, or the result of `validate` or `run` that wrote one.
        baseline: the file to compare with, or to write with `accept`.
        accept: write what is new or better to the baseline, if the gate passes.
        speed: hold the latency ratios of the report in the baseline too: for machines without other work.
        junit: a file for JUnit XML.
        markdown: a file for a summary in Markdown.
        summary: a file to which the same summary is appended, such as `$GITHUB_STEP_SUMMARY`.
        recipe: a recipe, or its file, whose limits hold in place of those that the report was made with.
        options: `require`, runtimes in which something must have been compared; `limits`, `share` and `may_fail`.

    Raises:
        RequestError: the report or the baseline cannot be used, or a file cannot be written.
    """
    if accept and baseline is None:
        raise RequestError("accept without a baseline; give the file to write with --baseline", code="missing-option")
    chosen = chosen_recipe(recipe, **options)
    limited = recipe is not None or any(options.get(name) is not None for name in ("limits", "share", "may_fail"))
    path = path_of(report)
    known = None if baseline is None else path_of(baseline)
    xml, page, appended = (
        None if given is None else path_of(given, read=False) for given in (junit, markdown, summary)
    )
    _check_paths({"the report": path, "--baseline": known, "--junit": xml, "--markdown": page})
    given_report = report_from_file(path)
    if speed and (known is None or not given_report.latencies):
        problem = "holds no latency; measure with `refine-export validate --latency 20`, and give a --baseline"
        raise RequestError.about(path, "no-latency", problem)
    decision = decide(given_report, options=chosen.validate if limited else None, require=chosen.run.require)
    changes = None
    if known is not None and (known.exists() or not accept):
        changes = compare_with_baseline(decision, baseline_from_file(known), speed=speed)
        decision = dataclasses.replace(decision, problems=(*decision.problems, *changes.problems))
    text = markdown_from_decision(decision, changes)
    if xml is not None:
        write_text(xml, junit_from_decision(decision))
    if page is not None:
        write_text(page, text)
    if appended is not None:
        try:
            with appended.open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise cannot_write(appended, error, "give a file, in a folder that is there") from error
    return GateResult(
        path=path,
        status=decision.status,
        decision=decision,
        changes=changes,
        baseline="" if known is None else _settle(known, decision, changes, accept=accept, speed=speed),
        annotations=tuple(annotations_from_decision(decision, path)),
    )


def _settle(path: Path, decision: Decision, changes: Changes | None, *, accept: bool, speed: bool) -> str:
    """Write the baseline if that was asked for and the gate passed; return what happened to it."""
    passed = decision.status == "passed"
    if not accept:
        offered = changes is not None and changes.offered and passed
        return f"{path}: something is better or new; --accept writes it" if offered else f"{path}: compared"
    if not passed:
        advice = ""
        if changes is not None and (changes.drops or changes.missing):
            advice = "; what is worse or missing cannot be accepted: if intended, delete the file and accept again"
        return f"{path}: not written, because the gate is {decision.status}{advice}"
    if changes is None:
        fresh = baseline_from_decision(decision, speed=speed)
        write_baseline(path, fresh)
        return f"{path}: written, with {len(fresh.entries)} entries"
    if not changes.offered:
        return f"{path}: unchanged, because nothing is better or new"
    write_baseline(path, changes.accepted)
    better = len({change.entry for change in changes.gains})
    return f"{path}: written, with {better} entries better and {len(changes.new)} new" + (
        f", and {changes.faster} latency ratios" if changes.faster else ""
    )


def _check_paths(paths: Mapping[str, Path | None]) -> None:
    """Refuse two names of one file: one would overwrite the other."""
    seen: dict[Path, str] = {}
    for name, path in paths.items():
        if path is None:
            continue
        real = Path(os.path.realpath(path))  # Path.resolve raises for a link to itself
        if other := seen.get(real):
            message = f"{other} and {name} are both {path}; give each a file of its own"
            raise RequestError(message, code="same-file", path=path, options=[other, name])
        seen[real] = name
