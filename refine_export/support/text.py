"""Short texts and plain data that every layer writes."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def listed(names: Iterable[str], most: int = 10) -> str:
    """Join names as `a, b and 3 more`, where `most` of them are written out."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def counted(number: int, noun: str) -> str:
    """Return `1 error`, or `2 errors`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def size_text(dims: Iterable[int | str]) -> str:
    """Write a shape or a size as `1x3x256x448`."""
    return "x".join(map(str, dims))


def json_safe(content: Any) -> Any:
    """Convert to what JSON can hold.

    Args:
        content: dataclasses, mappings, sequences, paths and scalars, nested.

    Returns:
        Dictionaries, lists and scalars. NaN and infinity, which JSON lacks, become None; bytes of file names that are
        not UTF-8 become text, such as `\\udcff`.
    """
    if dataclasses.is_dataclass(content) and not isinstance(content, type):
        return dict_from_result(content)
    if isinstance(content, Mapping):
        return {json_safe(name): json_safe(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [json_safe(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    if isinstance(content, str | Path):
        return str(content).encode(errors="backslashreplace").decode()
    return content


def dict_from_result(result: Any) -> dict[str, Any]:
    """Convert the fields of a dataclass with `json_safe`, by name."""
    return {field.name: json_safe(getattr(result, field.name)) for field in dataclasses.fields(result)}


def json_text(content: Any) -> str:
    """Write JSON for a file: indented, without NaN or infinity."""
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def clean(text: str) -> str:
    """Return a text without control characters, which could steer the terminal.

    Lines after the first are indented, so that none of them looks like one of this tool's own.
    """
    cleaned = "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text)
    return cleaned.replace("\n", "\n    ")
