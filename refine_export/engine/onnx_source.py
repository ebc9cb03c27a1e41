"""The ONNX file that an engine is built from: hash, inputs and outputs, shapes, and the file of each fallback."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refine_export.artifacts import (
    Artifact,
    artifact_from_file,
    io_description,
    signature_of_model,
    stacked_signature_of_model,
)
from refine_export.engine.build_options import LARGEST, BuildOptions, Fallback
from refine_export.engine.output_files import GATHER
from refine_export.engine.profile_shapes import InputShapes, shapes_from_options
from refine_export.errors import GraphError, RequestError
from refine_export.graph.gather_sampler import lower_grid_sample
from refine_export.graph.model_file import (
    bytes_from_model,
    external_files,
    ir_from_model,
    load_model,
    model_from_bytes,
    read_file,
    sha256_of_model,
)
from refine_export.signature import TensorInfo
from refine_export.support.files import write_bytes
from refine_export.support.text import size_text


@dataclass(frozen=True, kw_only=True)
class EngineSource:
    """An ONNX file as an engine is built from it."""

    sha256: str
    """SHA-256 of the file and its external data."""
    signature: Mapping[str, Any]
    """Inputs and outputs with their shapes, as the file has them."""
    shapes: tuple[InputShapes, ...]

    @property
    def profiles(self) -> list[dict[str, list[list[int]]]]:
        """The profile as an `EngineKey` has it: one where a size is free, else none."""
        named = {
            shape.name: [list(shape.minimum), list(shape.optimum), list(shape.maximum)]
            for shape in self.shapes
            if shape.dynamic
        }
        return [named] if named else []


def read_source(path: Path, options: BuildOptions) -> EngineSource:
    """Read an ONNX file, and choose the shapes of its engine.

    Raises:
        GraphError: the file cannot be read, or the sizes in the options do not fit it.
    """
    content = read_file(path)
    model = model_from_bytes(content, path)
    signature = io_description(model)
    weights = {tensor.name for tensor in model.graph.initializer}
    infos = [
        TensorInfo(name=name, dtype="", shape=tuple(shape))  # types are the parser's business
        for name, shape in signature["inputs"].items()
        if name not in weights
    ]
    shapes = shapes_from_options(infos, options, stacked_signature_of_model(model) or signature_of_model(model))
    for shape in shapes:
        if math.prod(shape.maximum) > LARGEST:
            raise GraphError(
                f"{shape.name} of {path} would be {size_text(shape.maximum)}, more than the {LARGEST} elements that "
                "TensorRT takes in a tensor; choose a smaller size or batch",
                code="bad-shape",
                path=path,
            )
    return EngineSource(
        sha256=sha256_of_model(content, external_files(model, path.parent)), signature=signature, shapes=shapes
    )


def file_of_fallback(fallback: Fallback, source: Path, fp32: Path | None, folder: Path, engine: str) -> Path:
    """Return the ONNX file that a fallback is built from, written where it does not exist yet.

    Args:
        fallback: its name.
        source: what native engines are built from.
        fp32: what `source` was lowered from.
        folder: where the file of `gather` is written.
        engine: its name, which that file's name begins with.

    Raises:
        GraphError: `too-large` or `no-samplers`; the samplers cannot be written out.
        RequestError: `fp32-needed`.
    """
    if fallback == "fp32":
        if fp32 is None:
            raise RequestError(
                "the fallback fp32 needs the FP32 file; give it with --fp32, or take another fallback",
                code="fp32-needed",
            )
        return fp32
    if fallback != "gather":
        return source
    model = ir_from_model(load_model(source), source)
    if not lower_grid_sample(model):
        problem = "has no GridSample, so that gather would be native; take that fallback"
        raise GraphError.about(source, "no-samplers", problem)
    path = folder / f"{engine}{GATHER}"  # not a name that `lower` gives
    write_bytes(path, bytes_from_model(model))
    return path


def artifact_for_manifest(file: Path) -> Artifact | None:
    """Recognise the file by its name alone, if it is one of our graphs; else None."""
    with suppress(GraphError):
        return dataclasses.replace(artifact_from_file(file), file=file.name)
    return None
