"""The published form of a report: JSON Schema 2020-12, in `report/schema.json`.

It is generated from the dataclasses of `report_data` and the docstrings of their fields. After a change of these:

    python -c "from refine_export.report.schema import write_schema; write_schema()"
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from refine_export.report.report_data import SCHEMA, Report
from refine_export.support.files import write_text

SCHEMA_FILE = Path(__file__).with_name("schema.json")


class _Untitled(GenerateJsonSchema):
    """A schema without titles that only repeat the names of fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def report_schema() -> dict[str, Any]:
    """JSON Schema of what `Report.to_dict` returns."""
    # pydantic takes no configuration for a dataclass itself, but a tuple hands its own on to every dataclass in it.
    # Setting `__pydantic_config__` on the classes would also change how a recipe, which shares some, is read.
    config = ConfigDict(use_attribute_docstrings=True, json_schema_serialization_defaults_required=True)
    adapter = TypeAdapter(tuple[Report], config=config)
    definitions = adapter.json_schema(mode="serialization", schema_generator=_Untitled)["$defs"]
    schema = definitions.pop("Report")
    schema["properties"]["schema"]["const"] = SCHEMA
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:refine-export:report:{SCHEMA}",
        **schema,
        "title": "report.json of refine-export",
        "$defs": definitions,
    }


def write_schema() -> None:
    """Write `report/schema.json`."""
    write_text(SCHEMA_FILE, json.dumps(report_schema(), indent=2) + "\n")
