"""`inspect`: describe a checkpoint, an ONNX file or an engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from refine_export.artifacts import onnx_description
from refine_export.checkpoint.checkpoint import checkpoint_description, checkpoint_from_options
from refine_export.checkpoint.checkpoint_options import CheckpointOptions
from refine_export.engine.engine_manifest import engine_description, meant_as_engine
from refine_export.errors import EngineError
from refine_export.graph.model_file import seems_onnx
from refine_export.jobs.load_inputs import AnyPath, path_of


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """The description of a file."""

    path: Path
    kind: Literal["checkpoint", "onnx", "engine"]
    description: Mapping[str, Any] = field(repr=False)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes of the file on the limits of its description."""
        return tuple(self.description.get("notes", ()))

    def to_dict(self) -> dict[str, Any]:
        """Return the description."""
        return dict(self.description)

    def check(self) -> None:
        """Refuse an engine that the TensorRT library on this machine cannot run; this needs no GPU.

        Raises:
            EngineError: `wrong-machine`, as `validate` raises it.
        """
        if mismatch := self.description.get("mismatch"):
            raise EngineError(mismatch, code="wrong-machine", path=self.path)


def inspect(file: AnyPath) -> Inspection:
    """Describe a file: architecture, parameters, types, hash, ranges, or the machine that an engine is for.

    Args:
        file: a checkpoint, the name of released weights, an ONNX file of any tool or an engine, or an earlier result.

    Raises:
        RequestError: the file is none of these.
        UnavailableError: torch or safetensors is missing, for a checkpoint.
    """
    path = path_of(file)
    if meant_as_engine(path):
        return Inspection(path=path, kind="engine", description=engine_description(path))
    if seems_onnx(path):
        return Inspection(path=path, kind="onnx", description=onnx_description(path))
    found = checkpoint_description(checkpoint_from_options(CheckpointOptions(path=str(path))))
    return Inspection(path=path, kind="checkpoint", description=found)
