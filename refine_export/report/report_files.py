"""Write `report.html` for people and `report.json` for programs, and read `report.json` back.

`report.json` may come from anybody, so it is checked against the dataclasses, which are its schema.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from refine_export.errors import RequestError
from refine_export.report.html import html_from_report
from refine_export.report.pictures import FramePictures, Pictures
from refine_export.report.report_data import SCHEMA, Report
from refine_export.signature import OLD_NAMES
from refine_export.support.files import write_text
from refine_export.support.text import json_text, listed
from refine_export.validate.validate_options import ValidateOptions

PROBLEMS_SHOWN = 5
_OLD_GRAPH_NAMES = re.compile(rf"(?<=\")({'|'.join(OLD_NAMES)})(?=[\" .])".encode())
"""A graph's name by itself, and at the beginning of the names of files and feeds."""

T = TypeVar("T")


def write_report(folder: Path, report: Report, pictures: Mapping[str, Pictures], frames: FramePictures) -> None:
    """Write both files; the JSON comes last, so that it never describes a page that is not there."""
    write_text(folder / "report.html", html_from_report(report, pictures, frames))
    write_text(folder / "report.json", json_text(report.to_dict()))


def earlier_report(folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """The content of `report.json`, if it and the page beside it have this fingerprint and the run passed.

    A failure is never reused: its cause may have passed, and a runtime that was missing may be there now.
    """
    try:
        content: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        page = (folder / "report.html").read_text(encoding="utf-8")
        same = content["status"] == "passed" and content["fingerprint"] == fingerprint and fingerprint in page
    except (OSError, RecursionError, ValueError, TypeError, KeyError):  # not there, or damaged
        return None
    return content if same else None


def report_from_file(path: Path) -> Report:
    """Read a report.

    Raises:
        RequestError: no such file, not JSON, a report of another schema, or one that does not conform to it.
    """
    report = read_json(path, Report, schema=SCHEMA, what="a report.json that `run` or `validate --report` writes")
    if problem := _inconsistency(report):
        raise RequestError(f"{path}: {problem}; make the report again", code="invalid-report", path=path)
    return report


def read_json(path: Path, kind: type[T], *, schema: int, what: str) -> T:
    """Read a JSON file of a stranger into a dataclass with a field `schema`.

    Args:
        path: the file.
        kind: the dataclass; unknown keys are ignored, so that a later version may add some.
        schema: the number that the file must have.
        what: the expected content, for messages.

    Raises:
        RequestError: `file-not-readable`, `not-json`, `wrong-schema`, or `schema-violation` with the field `problems`.
    """
    if path.exists() and not path.is_file():  # a pipe or a device could block or never end
        raise RequestError.about(path, "file-not-readable", f"is not a regular file; give {what}")
    try:
        text = _OLD_GRAPH_NAMES.sub(lambda found: OLD_NAMES[found[0].decode()].encode(), path.read_bytes())
        # The parser takes a number beyond the largest, such as 1e999, for an infinite one.
        content = json.loads(
            text, parse_float=_finite, parse_int=lambda digits: int(_finite(digits)), parse_constant=_finite
        )
    except OSError as error:
        message = f"cannot read {path}: {error.strerror}; give {what}"
        raise RequestError(message, code="file-not-readable", path=path) from error
    except (ValueError, RecursionError) as error:
        raise RequestError.about(path, "not-json", f"is not JSON ({error}); give {what}") from error
    found = content.get("schema") if isinstance(content, dict) else None
    if found != schema or isinstance(found, bool):
        problem = (
            f"has no schema; give {what}"
            if found is None
            else f"has schema {found!r}; this version of refine-export reads schema {schema} of {what}: make the "
            "file again with this version"
        )
        raise RequestError.about(path, "wrong-schema", problem, found=found, expected=schema)
    try:
        return pydantic.TypeAdapter(kind).validate_json(text, strict=True)
    except pydantic.ValidationError as error:
        problems = [_problem(details) for details in error.errors(include_url=False)]
        problem = f"does not conform to schema {schema}: {listed(problems, PROBLEMS_SHOWN)}; give {what}"
        raise RequestError.about(path, "schema-violation", problem, problems=problems) from error


def _finite(text: str) -> float:
    """Read a number of JSON, which has none that is infinite or NaN.

    Raises:
        ValueError: it is beyond the largest number.
    """
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text[:20]} is not a finite number")
    return number


def _problem(details: Any) -> str:
    where = ".".join(map(str, details["loc"])) or "the whole"
    found = "" if details["type"] == "missing" else f" is {json.dumps(details['input'], default=str)[:60]}"
    return f"{where}{found}: {details['msg']}"


def _inconsistency(report: Report) -> str | None:
    """Find faults that types cannot express: a key that is used twice or leads nowhere, a share beyond 1."""
    counts = Counter(one.key for one in report.comparisons)
    if twice := [key for key, count in counts.items() if count > 1]:
        return f"the comparison {twice[0]!r} is there twice"
    known = {(artifact.graph, artifact.file) for artifact in report.artifacts}
    for one in report.comparisons:
        if (one.graph, one.file) not in known:
            return f"{one.key!r} is about {one.file!r} ({one.graph}), which is not among the artifacts"
    counted = Counter(one.group_key for one in report.comparisons)
    for group in report.groups:
        judged, found = group.passed + group.failed + group.missing, counted.pop(group.key, 0)
        if judged != found:
            return f"{group.key} was judged on {judged} comparisons, and {found} are there"
    if counted:
        return f"{next(iter(counted))} is not among the groups"
    built = {(one.graph, one.file) for one in report.artifacts if one.engine is not None}
    run = {(one.graph, one.file) for one in report.comparisons}
    if len({one.file for one in report.engines}) < len(report.engines):
        return "an engine is there twice"
    for engine in report.engines:
        if (engine.graph, engine.file) not in built:
            return f"the engine {engine.file!r} ({engine.graph}) is not among the artifacts"
        if engine.executed and (engine.graph, engine.file) not in run:
            return f"the engine {engine.file!r} is said to be executed, and was not compared"
    for one in report.comparisons:
        if one.verdict.runtime.startswith("tensorrt") != ((one.graph, one.file) in built):
            return f"{one.key!r} is said to be run by {one.verdict.runtime}, which its file is not for"
    try:
        ValidateOptions(share=report.share, may_fail=report.may_fail)
    except ValueError as error:
        return str(error)
    return None
