"""`report.json` back to a `Report`; the file may be anybody's.

    from refine_export.gate.loaded import report_from_file

    report = report_from_file(Path("out/report.json"))

The dataclasses are the schema; `report/schema.json` is their published form (see `schema`).
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any, NoReturn

from refine_export.accuracy.metrics import Worst
from refine_export.errors import RequestError
from refine_export.report.data import SCHEMA, Report

LARGEST_BYTES = 256 * 2**20
PROBLEMS_SHOWN = 5


def report_from_file(path: Path) -> Report:
    """Read a report.

    Raises:
        RequestError: no such file, no JSON, a report of another schema, or one that does not keep to it: each problem
            with its place.
    """
    content = json_from_file(path, what="a report.json that `refine-export run` or `validate --report` writes")
    found = content.get("schema") if isinstance(content, dict) else None
    if not isinstance(found, int) or isinstance(found, bool):
        raise RequestError(f"{path} is no report: it has no number of a schema; give the report.json of a run")
    if found != SCHEMA:
        raise RequestError(
            f"{path} is a report of schema {found}; this version reads schema {SCHEMA}: make the report again with "
            "this version of refine-export, or read it with the one that made it"
        )
    return report_from_content(content, name=str(path))


def report_from_content(content: Any, *, name: str = "the report") -> Report:
    """What `Report.as_json` gave, as a report again; `name` is what errors call it.

    Raises:
        RequestError: it does not keep to the schema.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        text = json.dumps(_with_nan(content))
        report = TypeAdapter(Report).validate_json(text, strict=True)
    except RecursionError:
        raise RequestError(f"{name} is nested too deeply to be a report; make it again") from None
    except ValidationError as error:
        problems = [_problem(details) for details in error.errors(include_url=False)]
        more = f"\nand {len(problems) - PROBLEMS_SHOWN} more" if len(problems) > PROBLEMS_SHOWN else ""
        raise RequestError(
            f"{name} does not keep to the schema of reports:\n" + "\n".join(problems[:PROBLEMS_SHOWN]) + more
        ) from error
    _check_whole(report, name)
    return report


def json_from_file(path: Path, *, what: str) -> Any:
    """The content of a JSON file; `what` says in errors what was expected.

    Raises:
        RequestError: no such file, too large, no text, no JSON, or numbers that JSON lacks.
    """
    try:
        if path.exists() and not path.is_file():
            raise RequestError(f"{path} is no file; give {what}")
        if path.exists() and path.stat().st_size > LARGEST_BYTES:
            raise RequestError(f"{path} has more than {LARGEST_BYTES} bytes; give {what}")
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except FileNotFoundError:
        raise RequestError(f"{path} does not exist; give {what}") from None
    except OSError as error:
        raise RequestError(f"can't read {path}: {error.strerror}; give {what}") from error
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise RequestError(f"{path} is no JSON ({error}); give {what}") from error


def _with_nan(content: Any) -> Any:
    """The one number of a report that may be none, a candidate's worst value, is null in JSON."""
    if isinstance(content, list):
        return [_with_nan(part) for part in content]
    if isinstance(content, dict):
        if content.keys() == {field.name for field in dataclasses.fields(Worst)} and content["candidate"] is None:
            return {**content, "candidate": math.nan}
        return {key: _with_nan(part) for key, part in content.items()}
    return content


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _problem(details: Any) -> str:
    where = ".".join(str(part) for part in details["loc"]) or "the whole"
    message = details["msg"].removeprefix("Value error, ")
    found = "" if details["type"] == "missing" else f" is {json.dumps(details['input'], default=str)[:60]}"
    return f"  {where}{found}: {message[0].lower()}{message[1:]}"


def _check_whole(report: Report, name: str) -> None:
    """What types alone don't say: names that are used twice or lead nowhere."""
    for what, keys in (
        ("comparisons", [one.key for one in report.comparisons]),
        ("groups", [one.key for one in report.groups]),
    ):
        if len(set(keys)) != len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise RequestError(f"{name}: {what} has the key {twice!r} twice; expected each once: make the report again")
    known = {(artifact.graph, artifact.file) for artifact in report.artifacts}
    for one in report.comparisons:
        if (one.graph, one.file) not in known:
            raise RequestError(
                f"{name}: the comparison {one.key!r} is of {one.file!r} ({one.graph}), which is not among its "
                "artifacts: make the report again"
            )
