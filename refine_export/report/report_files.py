"""The report's files: `report.html` for people, `report.json` for programs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refine_export.report.data import SCHEMA, Report, json_from_report
from refine_export.report.html import FramePictures, html_from_report
from refine_export.report.pictures import Pictures
from refine_export.support.files import write_text


def write_report(folder: Path, report: Report, pictures: Mapping[str, Pictures], frames: FramePictures) -> None:
    """Write both files; the JSON comes last, so that it never speaks of a page that is not there."""
    write_text(folder / "report.html", html_from_report(report, pictures, frames))
    write_text(folder / "report.json", json_from_report(report))


def earlier_report(folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """The content of `report.json`, if it and the page beside it are of this fingerprint and the verdict is passed.

    A failure may have had a passing cause, and a runtime that was missing may be there now: both are tried again.
    """
    try:
        content = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        page = (folder / "report.html").read_text(encoding="utf-8")
        fields = {field.name for field in dataclasses.fields(Report)}
        whole = set(content) == fields and content["schema"] == SCHEMA and content["status"] == "passed"
        same = content["fingerprint"] == fingerprint and fingerprint in page
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return content if whole and same else None
