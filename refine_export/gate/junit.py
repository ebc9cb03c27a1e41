"""A decision as JUnit XML, which GitLab, Jenkins and most CI systems show.

A test suite is one artifact in one runtime at one size, a test case is one feed. A feed that failed its limits is a
failure. One that was not compared is an error, because a skipped test would look green. Only what does not count is
skipped: a feed that may fail by the recipe, and a runtime that is missing and not required. A last suite, `gate`, has
what is not a comparison: missing runtimes and files, and the baseline.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from refine_export.gate.decision import Decision
from refine_export.report.report_data import Comparison
from refine_export.validate.comparison import Status

_OUTCOMES: dict[Status, str] = {"failed": "failure", "not compared": "error"}
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, not even escaped (section 2.2, Char)."""


def junit_from_decision(decision: Decision) -> str:
    """The XML text."""
    root = Element("testsuites", {"name": "refine-export gate"})
    for group in decision.groups:
        suite = SubElement(root, "testsuite", {"name": _clean(str(group.group.key))})
        for one in group.comparisons:
            _add_feed(suite, one, allowed=group.status == "passed")
    others = Element("testsuite", {"name": "gate"})
    for problem in decision.problems:
        if problem.rule not in ("accuracy", "not-compared") or not decision.groups:
            _add_case(others, problem.what, _OUTCOMES[problem.status], problem.reason, problem.rule)
    named = {case.get("name") for case in others}
    for shortfall in decision.report.shortfalls:
        if not shortfall.counts and _clean(shortfall.what) not in named:
            _add_case(others, shortfall.what, "skipped", shortfall.reason)
    if len(others):
        root.append(others)
    for suite in root:
        _count(suite)
        suite.set("timestamp", decision.report.created)
    _count(root)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _add_feed(suite: Element, comparison: Comparison, *, allowed: bool) -> None:
    """Add the case of a feed; a failure in a group that passed is an allowed one."""
    verdict = comparison.verdict
    reasons = "; ".join(verdict.reasons)
    if allowed and verdict.status == "failed":
        case = _add_case(suite, verdict.feed, "skipped", f"failed, which is allowed: {reasons}")
    else:
        kind = "accuracy" if verdict.status == "failed" else "not-compared"
        case = _add_case(suite, verdict.feed, _OUTCOMES.get(verdict.status, ""), reasons, kind)
    case.set("time", f"{verdict.candidate_seconds or 0.0:.3f}")
    case.set("file", _clean(comparison.file))


def _add_case(suite: Element, name: str, outcome: str, message: str, kind: str = "") -> Element:
    """Add a case; `outcome` is the name of an element, or empty where the case passed."""
    case = SubElement(suite, "testcase", {"name": _clean(name), "classname": suite.get("name", ""), "time": "0.000"})
    if outcome:
        found = SubElement(case, outcome, {"message": _clean(message)} | ({"type": kind} if kind else {}))
        found.text = _clean(message)
    return case


def _count(element: Element) -> None:
    """State the numbers of cases in a suite, or in all, and their time."""
    cases = list(element.iter("testcase"))
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        element.set(name, str(len(list(element.iter(tag)))))
    element.set("tests", str(len(cases)))
    element.set("time", f"{sum(float(case.get('time', 0)) for case in cases):.3f}")


def _clean(text: str) -> str:
    return _FORBIDDEN.sub(lambda found: repr(found[0])[1:-1], text)
