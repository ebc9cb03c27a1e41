"""A decision as JUnit XML, which GitLab, Jenkins and most CI systems show.

A test suite is one artifact in one runtime at one size, a test case is one feed. A feed that failed its limits is a
failure. One that was not compared is an error, because a skipped test would look green. Only what does not count is
skipped: a feed that may fail by the recipe, and a runtime that is missing and not required. A last suite, `gate`, has
what is not a comparison: missing runtimes and files, and the baseline.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from refine_export.gate.decision import Decision
from refine_export.report.report_data import Comparison
from refine_export.validate.comparison import Status

_ELEMENTS: dict[Status, str] = {"passed": "", "failed": "failure", "not compared": "error"}
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, not even escaped (section 2.2, Char)."""


@dataclass(frozen=True, kw_only=True)
class _Case:
    name: str
    element: str
    """`failure`, `error` or `skipped`; empty where the case passed."""
    message: str = ""
    kind: str = ""
    seconds: float = 0.0
    file: str = ""


def junit_from_decision(decision: Decision) -> str:
    """The XML text."""
    suites = [
        (str(group.group.key), [_case(one, allowed=group.status == "passed") for one in group.comparisons])
        for group in decision.groups
    ]
    others = [
        _Case(name=problem.what, element=_ELEMENTS[problem.status], message=problem.reason, kind=problem.rule)
        for problem in decision.problems
        if problem.rule not in ("accuracy", "not-compared") or not decision.groups
    ]
    others += [
        _Case(name=one.what, element="skipped", message=one.reason)
        for one in decision.report.shortfalls
        if not one.counts and one.what not in [case.name for case in others]
    ]
    suites += [("gate", others)] if others else []
    root = ElementTree.Element("testsuites", {"name": "refine-export gate"})
    root.attrib |= _counts([case for _, cases in suites for case in cases])
    for name, cases in suites:
        attributes = {"name": name, **_counts(cases), "timestamp": decision.report.created}
        suite = ElementTree.SubElement(root, "testsuite", _clean(attributes))
        for case in cases:
            attributes = {"name": case.name, "classname": name, "time": f"{case.seconds:.3f}"}
            attributes |= {"file": case.file} if case.file else {}
            element = ElementTree.SubElement(suite, "testcase", _clean(attributes))
            if case.element:
                attributes = _clean({"message": case.message} | ({"type": case.kind} if case.kind else {}))
                ElementTree.SubElement(element, case.element, attributes).text = attributes["message"]
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _case(comparison: Comparison, *, allowed: bool) -> _Case:
    """The case of a feed; a failure in a group that passed is an allowed one."""
    verdict = comparison.verdict
    skipped = allowed and verdict.status == "failed"
    return _Case(
        name=verdict.feed,
        element="skipped" if skipped else _ELEMENTS[verdict.status],
        message=f"{'failed, which is allowed: ' if skipped else ''}{'; '.join(verdict.reasons)}",
        kind="" if skipped else "accuracy" if verdict.status == "failed" else "not-compared",
        seconds=verdict.candidate_seconds or 0.0,
        file=comparison.file,
    )


def _counts(cases: Sequence[_Case]) -> dict[str, str]:
    elements = [case.element for case in cases]
    return {
        "tests": str(len(cases)),
        "failures": str(elements.count("failure")),
        "errors": str(elements.count("error")),
        "skipped": str(elements.count("skipped")),
        "time": f"{sum(case.seconds for case in cases):.3f}",
    }


def _clean(attributes: dict[str, str]) -> dict[str, str]:
    return {name: _FORBIDDEN.sub(lambda found: repr(found[0])[1:-1], text) for name, text in attributes.items()}
