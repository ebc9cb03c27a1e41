"""A decision as Markdown: for `$GITHUB_STEP_SUMMARY`, comments and chat."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from refine_export.gate.changes import Changes
from refine_export.gate.decision import Decision, GroupResult
from refine_export.report.words import error_text
from refine_export.support.text import size_text
from refine_export.validate.comparison import Status

ROWS_SHOWN = 200
PROBLEMS_SHOWN = 50
TEXT_SHOWN = 400
"""Characters of a text, so that a summary stays under GitHub's 1 MiB."""
MARKS: dict[Status, str] = {"passed": "✅ passed", "failed": "❌ failed", "not compared": "⚠️ not compared"}
_ORDER: dict[Status, int] = {"failed": 0, "not compared": 1, "passed": 2}


def markdown_from_decision(decision: Decision, changes: Changes | None = None) -> str:
    """The verdict, a table of artifacts, what is wrong, and what the baseline says."""
    return "\n".join(_lines(decision, changes)) + "\n"


def sentence_from_decision(decision: Decision) -> str:
    """The decision in a line, such as `2 of 3 artifacts in their runtimes and sizes passed; 1 problem`."""
    passed = sum(group.status == "passed" for group in decision.groups)
    count = len(decision.problems)
    problems = f"; {count} problem{'s' * (count != 1)}" if count else ""
    return f"{passed} of {len(decision.groups)} groups of an artifact, a runtime and a size passed{problems}"


def _lines(decision: Decision, changes: Changes | None) -> Iterator[str]:
    report = decision.report
    yield f"## {MARKS[decision.status]}: accuracy gate"
    yield ""
    yield f"{sentence_from_decision(decision)}. Reference: {_cell(report.reference)}; weights: " + _cell(
        str(report.checkpoint.get("source"))
    )
    yield ""
    if decision.groups:
        yield "| Verdict | File | Runtime | Size | Feeds | Lowest PSNR | Largest error, of the peak |"
        yield "|---|---|---|---|---|---|---|"
        ordered = sorted(decision.groups, key=lambda group: _ORDER[group.status])
        yield from (_row(group) for group in ordered[:ROWS_SHOWN])
        yield from _more(ordered, ROWS_SHOWN, "groups")
        yield ""
    if decision.problems:
        yield "### Why"
        yield ""
        for problem in decision.problems[:PROBLEMS_SHOWN]:
            yield f"- **{_cell(problem.what)}**: {MARKS[problem.status]} ({problem.rule}): {_cell(problem.reason)}"
        yield from _more(decision.problems, PROBLEMS_SHOWN, "problems")
        yield ""
    aside = [one for one in report.shortfalls if not one.counts]
    if aside:
        yield "### Not compared, and not required"
        yield ""
        yield from (f"- {_cell(one.what)}: {_cell(one.reason)}" for one in aside)
        yield ""
    if changes is not None:
        yield from _baseline(changes)


def _row(group: GroupResult) -> str:
    size = size_text(group.rows[0].comparison.size)
    batch = group.rows[0].comparison.batch
    passed = sum(row.status == "passed" for row in group.rows)
    lowest, largest = group.lowest_psnr_db, group.largest_error
    psnr = f"{lowest:.1f} dB" if lowest is not None else "identical" if largest == 0 else "n/a"
    cells = (
        MARKS[group.status],
        _cell(group.file),
        _cell(group.runtime),
        size if batch == 1 else f"{batch}x{size}",
        f"{passed} of {len(group.rows)}",
        psnr,
        error_text(largest),
    )
    return f"| {' | '.join(cells)} |"


def _baseline(changes: Changes) -> Iterator[str]:
    yield "### Baseline"
    yield ""
    counts = (
        f"{changes.same} entries within their noise",
        f"{len({change.entry for change in changes.drops})} worse",
        f"{len({change.entry for change in changes.gains})} better",
        f"{len(changes.new)} new",
        f"{len(changes.missing)} missing",
    )
    yield f"{', '.join(counts)}." + (" Accept with `--accept`." if changes.offered else "")
    yield ""
    for change in changes.gains[:PROBLEMS_SHOWN]:
        yield f"- better: {_cell(change.entry.name)}: {_cell(str(change))}"
    yield from _more(changes.gains, PROBLEMS_SHOWN, "better")
    for entry in changes.new[:PROBLEMS_SHOWN]:
        yield f"- new: {_cell(entry.name)}"
    yield from _more(changes.new, PROBLEMS_SHOWN, "new")
    yield from (f"- note: {_cell(note)}" for note in changes.notes)
    yield ""


def _more(all_of_them: Sequence[object], shown: int, what: str) -> Iterator[str]:
    if len(all_of_them) > shown:
        yield ""
        yield f"and {len(all_of_them) - shown} more {what}"


def _cell(text: str) -> str:
    """Text of a report as text: one line, nothing in it is markup, a link or a mention."""
    line = " ".join(text.split())
    line = line if len(line) <= TEXT_SHOWN else f"{line[:TEXT_SHOWN]} ..."
    line = "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"(?i)(https?)://|www\.", lambda found: found[0].replace(":", "&#58;").replace(".", "&#46;"), line)
    return re.sub(r"([\\`*_{}\[\]()#|~!])", r"\\\1", line).replace("@", "&#64;")
