"""Rules on the proof of an engine in a report: its types are the file's, and its samplers those of the networks.

A build refuses an engine that breaks them; a report may come from another version, or have been edited.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from refine_export.report.engine_proof import EngineProof

SAMPLING: Final = "LINEAR CLAMP aligned"
_WITHOUT_SAMPLERS: Final = ("gather",)
"""Fallbacks that write the samplers out."""


def engine_problems(engine: EngineProof) -> Iterator[str]:
    """Yield what an engine's proof does not prove."""
    for kind in sorted({*engine.types, *engine.promised}):
        found, promised = engine.types.get(kind, 0), engine.promised.get(kind, 0)
        if found != promised:
            yield f"TensorRT has {found} layers {kind}, the ONNX file {promised}"
    for kind in ("CONVOLUTION", "DECONVOLUTION", "GRID_SAMPLE"):
        typed = sum(count for name, count in engine.types.items() if name.split()[:1] == [kind])
        if typed != engine.layers.get(kind, 0):
            yield f"the types of {typed} layers {kind} are given, the network has {engine.layers.get(kind, 0)}"
    if wrong := {name: count for name, count in engine.sampling.items() if name != SAMPLING}:
        given = ", ".join(f"{count} {name}" for name, count in wrong.items())
        yield f"its samplers are {given}; the networks sample {SAMPLING}"
    sampled, needed = sum(engine.sampling.values()), engine.layers.get("GRID_SAMPLE", 0)
    if not sampled == engine.samplers == needed:
        yield f"the attributes of {sampled} samplers are given for {engine.samplers}, the network has {needed}"
    if not needed and engine.graph != "unet" and engine.fallback not in _WITHOUT_SAMPLERS:
        yield f"it has no sampler, in the fallback {engine.fallback}"
    if rounded := [kind for kind in engine.types if kind.startswith("GRID_SAMPLE") and not _full_grid(kind)]:
        yield f"coordinates are not FP32: {', '.join(rounded)}"
    if engine.executed == ("not executed" in engine.proven) or not engine.proven:
        yield f"its proof is {engine.proven!r}, and it was {'' if engine.executed else 'not '}executed"


def _full_grid(kind: str) -> bool:
    """Return whether the grid, the last input of `GRID_SAMPLE FLOAT FLOAT -> FLOAT`, is FP32."""
    inputs = kind.partition(" -> ")[0].split()[1:]
    return inputs[-1:] == ["FLOAT"]
