"""A bisection as the page shows it: its plot, and of its layers those that matter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from refine_export.report.charts import Chart
from refine_export.report.plots import chart_of_layers

MOST_LAYERS = 40
AROUND = 4  # layers before and after the first jump, which are always shown


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A tensor that two graphs share."""

    number: int
    """Its place in topological order, from 1."""
    error: Mapping[str, Any]
    """Of `bisected.LayerError`."""
    jump: bool
    """Its type does not explain its error."""
    first: bool
    """No jump comes before it."""


@dataclass(frozen=True, kw_only=True)
class Bisection:
    """Where two graphs part."""

    found: Mapping[str, Any]
    """What `Bisected.as_json` gave."""
    chart: Chart | None
    layers: tuple[Layer, ...]
    """In topological order."""


def bisection_from_json(found: Mapping[str, Any]) -> Bisection:
    """All layers, or of many those around the first jump, and the jumps that follow it."""
    jumps = {jump["layer"]["tensor"] for jump in found["jumps"]}
    first = found["first"]["layer"]["tensor"] if found["first"] else None
    layers = [
        Layer(number=number, error=layer, jump=layer["tensor"] in jumps, first=layer["tensor"] == first)
        for number, layer in enumerate(found["layers"], 1)
    ]
    start = next((layer.number for layer in layers if layer.first), 0)
    shown = layers
    if len(layers) > MOST_LAYERS:
        near = [layer for layer in layers if abs(layer.number - start) <= AROUND or layer.jump]
        shown = near[:MOST_LAYERS]
    chart = chart_of_layers(found["layers"]) if layers else None
    return Bisection(found=found, chart=chart, layers=tuple(shown))
