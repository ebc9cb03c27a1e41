"""What is wrong, where tools look for it: SARIF 2.1.0, and annotations of GitHub Actions.

An artifact is binary, so a place is a file without a line. What is about no file, such as a missing runtime, has none.
"""

from __future__ import annotations

import hashlib
import json
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from refine_export import __version__
from refine_export.gate.decision import RULES, Decision, Problem

SARIF_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
ANNOTATIONS_SHOWN = 10
"""GitHub shows ten errors of a step and drops the rest."""

Located = Callable[[str], str]
"""The path of an artifact, as the report calls it, to one that starts where the command was called."""


def sarif_from_decision(decision: Decision, located: Located = str) -> str:
    """The SARIF text: a result for each problem."""
    rules = list(RULES)
    run = {
        "tool": {
            "driver": {
                "name": "refine-export gate",
                "semanticVersion": __version__,
                "rules": [{"id": rule, "shortDescription": {"text": RULES[rule]}} for rule in rules],
            }
        },
        "invocations": [{"executionSuccessful": True}],
        "results": [
            {
                "ruleId": problem.rule,
                "ruleIndex": rules.index(problem.rule),
                "level": "error",
                "message": {"text": f"{problem.what}: {problem.status}: {problem.reason}"},
                "partialFingerprints": {"refineExport/v1": _fingerprint(problem)},
                **({} if problem.file is None else {"locations": [_location(located(problem.file))]}),
            }
            for problem in decision.problems
        ],
    }
    log = {"version": "2.1.0", "$schema": SARIF_SCHEMA, "runs": [run]}
    return json.dumps(log, indent=2, allow_nan=False) + "\n"


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


def _location(path: str) -> dict[str, Any]:
    absolute = Path(path).is_absolute()
    uri = Path(path).as_uri() if absolute else urllib.parse.quote(path)
    return {"physicalLocation": {"artifactLocation": {"uri": uri}}}


def _fingerprint(problem: Problem) -> str:
    """The same for the same problem in another run, whatever its numbers."""
    return hashlib.sha256(f"{problem.rule}\n{problem.what}".encode()).hexdigest()
