"""Annotations of GitHub Actions: one for each problem.

An artifact is binary, so an annotation names a file without a line. A problem that concerns no file, such as a missing
runtime, has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from refine_export.gate.decision import Decision

ANNOTATIONS_SHOWN = 10
"""GitHub shows ten errors of a step and drops the rest."""


def annotations_from_decision(decision: Decision, report: Path) -> Iterator[str]:
    """Lines that GitHub Actions reads from the output of a step; the last one counts those that would be dropped.

    Args:
        decision: the decision.
        report: the path of `report.json`.
    """
    shown = decision.problems
    if len(shown) > ANNOTATIONS_SHOWN:
        shown = shown[: ANNOTATIONS_SHOWN - 1]
    for problem in shown:
        file = "" if problem.file is None else f"file={_escape_property(located(problem.file, report))},"
        title = _escape_property(f"accuracy gate: {problem.status}")
        yield f"::error {file}title={title}::{_escape(f'{problem.what}: {problem.reason}')}"
    if rest := len(decision.problems) - len(shown):
        yield f"::error title=accuracy gate::and {rest} more problems: see the summary"


def located(file: str, report: Path) -> str:
    """The path of an artifact, as the report calls it, from the current folder.

    Files of `run` lie beside their report, those of `validate` where the report says.
    """
    beside = report.parent / file
    path = beside if beside.exists() else Path(file)
    try:
        resolved, here = path.resolve(), Path.cwd().resolve()
    except (OSError, ValueError):  # a report can name what no file is called, such as a NUL character
        return file
    return resolved.relative_to(here).as_posix() if resolved.is_relative_to(here) else path.as_posix()


def _escape(text: str) -> str:
    """Escape like actions/toolkit's `escapeData`; control characters, which could steer a terminal, are spelled out."""
    kept = "".join(char if char.isprintable() or char in "\r\n" else repr(char)[1:-1] for char in text)
    return kept.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    """Escape like its `escapeProperty`."""
    return _escape(text).replace(":", "%3A").replace(",", "%2C")
