"""ONNX files and plans to what a server has to know of them: types of tensors, and what a plan was built for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from refine_export.artifacts import Artifact
from refine_export.engine.engine_manifest import read_engine_manifest
from refine_export.engine.plan import key_of, meant_as_plan
from refine_export.errors import GraphError, RequestError
from refine_export.graph.model_file import external_files, model_from_file
from refine_export.signature import SIGNATURES, GraphName
from refine_export.validate.runtimes import artifact_of

Io = Literal["fp32", "fp16"]

_TYPES = {"float": "TYPE_FP32", "float16": "TYPE_FP16"}


@dataclass(frozen=True, kw_only=True)
class BuiltFor:
    """What a plan runs on."""

    tensorrt: str
    """The full version."""
    gpu: str
    compute_capability: str
    version_compatible: bool
    profiles: int
    """How many it has; 0 for one of fixed sizes."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file that is to be served."""

    path: Path
    artifact: Artifact
    types: Mapping[str, str]
    """Tensor -> Triton's name of its type."""
    data: tuple[Path, ...] = ()
    """Files with an ONNX file's external data."""
    built_for: BuiltFor | None = None
    """Of a plan."""


def read_source(path: Path, io: Io | None) -> Source:
    """What a file is.

    Args:
        path: an ONNX file, or a plan with its manifest beside it.
        io: type of the images of plans; for those alone whose manifest does not say it.

    Raises:
        GraphError: it is neither, or none of the five graphs.
        RequestError: `io` is needed, or given for a file that says it itself.
    """
    artifact = artifact_of(path)
    if not meant_as_plan(path):
        if artifact.precision == "bf16":
            raise GraphError(
                f"{path} holds BF16, which ONNX Runtime has no kernels for on a CPU and few on a GPU; expected FP32 or "
                "FP16: build an engine of it, or lower it to FP16"
            )
        model = model_from_file(path)
        values = {value.name: value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
        types = {name: {1: "TYPE_FP32", 10: "TYPE_FP16"}[values[name]] for name in _tensors(artifact.graph)}
        return Source(path=path, artifact=artifact, types=types, data=tuple(external_files(model, path.parent)))
    manifest = read_engine_manifest(path)
    key = key_of(manifest)
    options = key.get("options")
    return Source(
        path=path,
        artifact=artifact,
        types=_types_of_plan(path, artifact, manifest.signature, io),
        built_for=BuiltFor(
            tensorrt=str(key["tensorrt"]),
            gpu=str(key["gpu"]),
            compute_capability=str(key["compute_capability"]),
            version_compatible=isinstance(options, Mapping) and options.get("version_compatible") is True,
            profiles=len(key["profiles"]),
        ),
    )


def _tensors(graph: GraphName) -> tuple[str, ...]:
    signature = SIGNATURES[graph]
    return signature.input_names + signature.output_names


def _types_of_plan(path: Path, artifact: Artifact, signature: Mapping[str, Any], io: Io | None) -> dict[str, str]:
    """As its manifest says; a plan of an FP32 file has FP32 throughout; else as `io` says.

    Flows and timesteps are FP32 whatever the images are (`LowerOptions.io`). TensorRT's backend refuses a config with a
    wrong type when it loads the plan.
    """
    names = _tensors(artifact.graph)
    said = signature.get("types")
    if isinstance(said, Mapping) and all(said.get(name) in _TYPES for name in names):
        return {name: _TYPES[said[name]] for name in names}
    if artifact.precision == "fp32" or io == "fp32":
        return dict.fromkeys(names, "TYPE_FP32")
    if io is None:
        raise RequestError(
            f"the manifest of {path} does not say of which type its images are; give the --io that it was lowered "
            "with: fp32, which is the default of lower, or fp16"
        )
    signed = SIGNATURES[artifact.graph]
    kept = {spec.name for spec in (*signed.inputs, *signed.outputs) if spec.quantity in ("flow", "timestep")}
    return {name: "TYPE_FP32" if name in kept else "TYPE_FP16" for name in names}
