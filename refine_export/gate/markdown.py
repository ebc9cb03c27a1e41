"""A decision as Markdown: for `$GITHUB_STEP_SUMMARY`, comments and chat."""

from __future__ import annotations

import re
from collections.abc import Sequence

from refine_export.gate.changes import Changes
from refine_export.gate.decision import Decision
from refine_export.report.formatting import error_text, psnr_text
from refine_export.report.grouping import JudgedGroup
from refine_export.report.tables import ORDER
from refine_export.support.text import size_text
from refine_export.validate.comparison import Status

ROWS_SHOWN = 200
PROBLEMS_SHOWN = 50
TEXT_SHOWN = 400
"""Characters of one text, so that a summary stays under GitHub's 1 MiB."""
MARKS: dict[Status, str] = {"passed": "✅ passed", "failed": "❌ failed", "not compared": "⚠️ not compared"}
HEAD = """\
| Verdict | File | Runtime | Size | Feeds | Lowest PSNR | Largest error, of the peak |
|---|---|---|---|---|---|---|
"""


def markdown_from_decision(decision: Decision, changes: Changes | None = None) -> str:
    """The verdict, a table of artifacts, the problems, and the changes since the baseline."""
    report = decision.report
    weights = _text(str(report.checkpoint.get("source")))
    sections = [
        f"## {MARKS[decision.status]}: accuracy gate",
        f"{decision.sentence}. Reference: {_text(report.reference)}; weights: {weights}",
    ]
    if decision.groups:
        groups = sorted(decision.groups, key=lambda group: ORDER[group.status])
        sections.append(HEAD + _lines([_row(group) for group in groups], ROWS_SHOWN, "groups"))
    if decision.problems:
        problems = [
            f"- **{_text(problem.what)}**: {MARKS[problem.status]} ({problem.rule}): {_text(problem.reason)}"
            for problem in decision.problems
        ]
        sections += ["### Why", _lines(problems, PROBLEMS_SHOWN, "problems")]
    if others := [f"- {_text(one.what)}: {_text(one.reason)}" for one in report.shortfalls if not one.counts]:
        sections += ["### Not compared, and not required", _lines(others, PROBLEMS_SHOWN, "of them")]
    if changes is not None:
        better = [f"- better: {_text(change.entry.name)}: {_text(str(change))}" for change in changes.gains]
        sections += [
            "### Baseline",
            f"{changes.counts}.{' Accept with `--accept`.' if changes.offered else ''}",
            _lines(better, PROBLEMS_SHOWN, "better"),
            _lines([f"- new: {_text(entry.name)}" for entry in changes.new], PROBLEMS_SHOWN, "new"),
            *(f"- note: {_text(note)}" for note in changes.notes),
        ]
    return "\n\n".join(filter(None, sections)) + "\n"


def _row(judged: JudgedGroup) -> str:
    group, lowest = judged.group, judged.lowest
    cells = (
        MARKS[group.status],
        _text(group.file),
        _text(group.runtime),
        size_text(group.size if group.batch == 1 else (group.batch, *group.size)),
        f"{group.passed} of {len(judged.comparisons)}",
        "n/a" if lowest is None else psnr_text(lowest),
        error_text(judged.largest_error),
    )
    return f"| {' | '.join(cells)} |"


def _lines(lines: Sequence[str], most: int, what: str) -> str:
    more = f"\n\nand {len(lines) - most} more {what}" if len(lines) > most else ""
    return "\n".join(lines[:most]) + more


def _text(text: str) -> str:
    """Write text of a report as one line in which nothing is markup, a link or a mention."""
    line = " ".join(text.split())
    line = line if len(line) <= TEXT_SHOWN else f"{line[:TEXT_SHOWN]} ..."
    line = "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # GitHub turns bare addresses into links; with entities they only look like addresses.
    line = re.sub(r"(?i)(https?)://|www\.", lambda found: found[0].replace(":", "&#58;").replace(".", "&#46;"), line)
    return re.sub(r"([\\`*_{}\[\]()#|~!])", r"\\\1", line).replace("@", "&#64;")
