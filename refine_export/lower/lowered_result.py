"""What became of a file that was lowered: as data, from the work itself or from its manifest."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refine_export.support.manifest import Manifest
from refine_export.support.text import dict_from_result


@dataclass(frozen=True, kw_only=True)
class LoweredFile:
    """What was made."""

    path: Path
    size_bytes: int
    source_bytes: int
    """Of the FP32 file, external data included."""
    nodes: tuple[dict[str, str], ...]
    """Node, operator, type and reason."""
    macs_low: float
    """Share of the multiply-adds in FP16 or BF16."""
    psnr_db: float
    """Against FP32, the worst of the calibration feeds and outputs; infinite where nothing differs."""
    max_error: float
    """In units of the peak."""
    notes: tuple[str, ...]
    search: dict[str, Any] | None
    """What a search for FP32 regions found: the fields of `sensitivity.Search`."""
    reused: bool
    seconds: float

    @property
    def types(self) -> dict[str, int]:
        """How many nodes compute in each type."""
        return dict(Counter(node["type"] for node in self.nodes if node["type"] != "none"))

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints; JSON has no infinity, so None stands for it."""
        return dict_from_result(self) | {"types": self.types}


def lowered_from_manifest(manifest: Manifest, output: Path, seconds: float) -> LoweredFile:
    """What a manifest says of the file beside it.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it does not say what manifests of lowered files do.
    """
    details = manifest.details
    nodes = [{key: str(node[key]) for key in ("node", "operator", "type", "reason")} for node in details["nodes"]]
    search = _unbounded(details["search"])
    if search is not None and not isinstance(search["reached"], bool):
        raise TypeError("reached is no bool")
    return LoweredFile(
        path=output,
        size_bytes=int(manifest.size_bytes),
        source_bytes=int(details["source_bytes"]),
        nodes=tuple(nodes),
        macs_low=float(details["macs_low"]),
        psnr_db=math.inf if details["psnr_db"] is None else float(details["psnr_db"]),
        max_error=float(details["max_error"]),
        notes=tuple(str(note) for note in details["notes"]),
        search=search,
        reused=True,
        seconds=seconds,
    )


def _unbounded(content: Any) -> Any:
    """The search of a manifest with its infinities: without an error the PSNR is infinite, with an infinite one minus
    infinity.
    """
    if isinstance(content, dict):
        content = {name: _unbounded(value) for name, value in content.items()}
        if content.get("max_error", 0.0) is None:
            content |= {"max_error": math.inf, "psnr_db": -math.inf}
        return {name: math.inf if name.endswith("_db") and value is None else value for name, value in content.items()}
    return [_unbounded(value) for value in content] if isinstance(content, list) else content
