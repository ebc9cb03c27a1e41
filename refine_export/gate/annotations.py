"""Annotations of GitHub Actions: one for each problem.

An artifact is binary, so an annotation names a file without a line. A problem that concerns no file, such as a missing
runtime, has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from refine_export.gate.decision import Decision, Problem

ANNOTATIONS_SHOWN = 10
"""GitHub shows ten errors of a step and drops the rest."""

Located = Callable[[str], str]
"""The path of an artifact, as the report calls it, to one that starts where the command was called."""


def annotations_from_decision(decision: Decision, located: Located = str) -> Iterator[str]:
    """Lines that GitHub Actions reads from the output of a step; the last says how many there are beside the first."""
    shown = decision.problems
    if len(shown) > ANNOTATIONS_SHOWN:
        shown = shown[: ANNOTATIONS_SHOWN - 1]
    for problem in shown:
        yield _annotation(problem, located)
    if rest := len(decision.problems) - len(shown):
        yield f"::error title=accuracy gate::and {rest} more problems: see the summary"


def located_from(report: Path) -> Located:
    """Files of `run` lie beside their report, those of `validate` where the report says."""

    def located(file: str) -> str:
        beside = report.parent / file
        path = beside if beside.exists() else Path(file)
        resolved, here = path.resolve(), Path.cwd().resolve()
        return resolved.relative_to(here).as_posix() if resolved.is_relative_to(here) else path.as_posix()

    return located


def _annotation(problem: Problem, located: Located) -> str:
    properties = {"file": located(problem.file)} if problem.file is not None else {}
    properties["title"] = f"accuracy gate: {problem.status}"
    said = ",".join(f"{name}={_escaped_property(value)}" for name, value in properties.items())
    return f"::error {said}::{_escaped(f'{problem.what}: {problem.reason}')}"


def _escaped(text: str) -> str:
    """As actions/toolkit's `escapeData`; what else is no text could steer a terminal, and is written out."""
    kept = "".join(char if char.isprintable() or char in "\r\n" else repr(char)[1:-1] for char in text)
    return kept.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escaped_property(text: str) -> str:
    """As its `escapeProperty`."""
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")
