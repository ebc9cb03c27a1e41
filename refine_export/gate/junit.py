"""A decision as JUnit XML, which GitLab, Jenkins and most CI systems show.

A test suite is one artifact in one runtime at one size, a test case is one feed. A feed that failed its limits is a
failure, one that was not compared is an error: a skipped test would look green. Skipped is only what does not count: a
feed that may fail by the recipe, and a runtime that is missing and not required. A last suite, `gate`, has what is no
comparison: missing runtimes and files, and the baseline.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree

from refine_export.gate.decision import Decision, GroupResult, Row

Outcome = Literal["passed", "failure", "error", "skipped"]
_OUTCOMES: dict[str, Outcome] = {"passed": "passed", "failed": "failure", "not compared": "error"}
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 can't hold, not even escaped (section 2.2, Char)."""


@dataclass(frozen=True, kw_only=True)
class _Case:
    name: str
    outcome: Outcome
    message: str = ""
    kind: str = ""
    seconds: float = 0.0
    file: str | None = None


def junit_from_decision(decision: Decision) -> str:
    """The XML text."""
    suites = [(group.name, [_case(group, row) for row in group.rows]) for group in decision.groups]
    beside = [
        _Case(name=problem.what, outcome=_OUTCOMES[problem.status], message=problem.reason, kind=problem.rule)
        for problem in decision.problems
        if problem.rule not in ("accuracy", "not-compared") or not decision.groups
    ]
    beside += [
        _Case(name=one.what, outcome="skipped", message=one.reason)
        for one in decision.report.shortfalls
        if not one.counts and one.what not in [case.name for case in beside]
    ]
    suites += [("gate", beside)] if beside else []
    root = ElementTree.Element("testsuites", name="refine-export gate")
    for name, cases in suites:
        suite = ElementTree.SubElement(root, "testsuite", {"name": _clean(name), **_counts(cases)})
        suite.set("timestamp", _clean(decision.report.created))
        for case in cases:
            _add(suite, name, case)
    for name, value in _counts([case for _, cases in suites for case in cases]).items():
        root.set(name, value)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _case(group: GroupResult, row: Row) -> _Case:
    allowed = group.status == "passed" and row.status == "failed"
    return _Case(
        name=row.comparison.verdict.feed,
        outcome="skipped" if allowed else _OUTCOMES[row.status],
        message=f"{'failed, which is allowed: ' if allowed else ''}{'; '.join(row.reasons)}",
        kind="accuracy" if row.status == "failed" else "not-compared",
        seconds=row.comparison.verdict.candidate_seconds or 0.0,
        file=group.file,
    )


def _add(suite: ElementTree.Element, suite_name: str, case: _Case) -> None:
    element = ElementTree.SubElement(
        suite, "testcase", name=_clean(case.name), classname=_clean(suite_name), time=f"{case.seconds:.3f}"
    )
    if case.file is not None:
        element.set("file", _clean(case.file))
    if case.outcome == "skipped":
        ElementTree.SubElement(element, "skipped", message=_clean(case.message))
    elif case.outcome != "passed":
        found = ElementTree.SubElement(element, case.outcome, message=_clean(case.message), type=case.kind)
        found.text = _clean(case.message)


def _counts(cases: Sequence[_Case]) -> dict[str, str]:
    outcomes = [case.outcome for case in cases]
    return {
        "tests": str(len(cases)),
        "failures": str(outcomes.count("failure")),
        "errors": str(outcomes.count("error")),
        "skipped": str(outcomes.count("skipped")),
        "time": f"{sum(case.seconds for case in cases):.3f}",
    }


def _clean(text: str) -> str:
    return _FORBIDDEN.sub(lambda found: repr(found[0])[1:-1], text)
