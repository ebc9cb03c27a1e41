"""The published form of a report: JSON Schema 2020-12, in `report/schema.json`.

It is made from the dataclasses of `report.data` and the texts under their fields; after a change of these:

    python -c "from refine_export.gate.schema import write_schema; write_schema()"
"""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import refine_export.report
from refine_export.report.data import SCHEMA, Report
from refine_export.support.files import write_text

SCHEMA_FILE = Path(refine_export.report.__file__).with_name("schema.json")
_CONFIG = {"use_attribute_docstrings": True, "json_schema_serialization_defaults_required": True}


def schema_of_report() -> dict[str, Any]:
    """JSON Schema of what `Report.as_json` gives."""
    from pydantic import TypeAdapter

    with _configured(Report):
        schema: dict[str, Any] = _untitled(TypeAdapter(Report).json_schema(mode="serialization"))
    schema["$defs"]["Worst"]["properties"]["candidate"]["type"] = ["number", "null"]  # null: it was NaN or infinite
    schema["properties"]["schema"] = {**schema["properties"]["schema"], "const": SCHEMA}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:refine-export:report:{SCHEMA}",
        "title": "report.json of refine-export",
        **schema,
    }


def write_schema() -> None:
    """Write `report/schema.json`."""
    write_text(SCHEMA_FILE, json.dumps(schema_of_report(), indent=2) + "\n")


@contextmanager
def _configured(kind: type[Any]) -> Iterator[None]:
    """Have pydantic take the texts under the fields as descriptions, in this dataclass and in every part of it."""
    before: dict[type[Any], Any] = {part: getattr(part, "__pydantic_config__", None) for part in _parts(kind, set())}
    try:
        for part in before:
            part.__pydantic_config__ = _CONFIG
        yield
    finally:
        for part, config in before.items():
            if config is None:
                del part.__pydantic_config__
            else:
                part.__pydantic_config__ = config


def _parts(kind: Any, found: set[type[Any]]) -> set[type[Any]]:
    """The dataclasses that a type is made of, itself included."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if kind in found:
            return found
        found.add(kind)
        for hint in typing.get_type_hints(kind).values():
            _parts(hint, found)
    for inner in typing.get_args(kind):
        _parts(inner, found)
    return found


def _untitled(schema: Any) -> Any:
    """Without the titles that only repeat a field's name."""
    if isinstance(schema, dict):
        return {key: _untitled(part) for key, part in schema.items() if not (key == "title" and isinstance(part, str))}
    return [_untitled(part) for part in schema] if isinstance(schema, list) else schema
