"""Proof of an engine from its build, without running it, as a report has it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from refine_export.artifacts import Artifact
from refine_export.engine.build_options import Target
from refine_export.engine.engine_manifest import engine_bytes, engine_details, manifest_of, why_not_executable
from refine_export.engine.identity import described_machine
from refine_export.signature import GraphName


@dataclass(frozen=True, kw_only=True)
class EngineProof:
    """An engine, with the findings of the library that built it."""

    graph: GraphName
    file: str
    library: Target
    """trt (TensorRT) or rtx (TensorRT for RTX)."""
    target: str
    """Library and GPUs, such as `TensorRT for RTX 1.7.1.116 on RTX GPUs (Ampere and newer)`."""
    proven: str
    """Extent of the proof, such as `built and type-checked by TensorRT for RTX 1.7.1; not executed: no RTX GPU`."""
    executed: bool
    """It was run and compared; what was not run counts as not compared."""
    fallback: str
    """The fallback that it has."""
    types: dict[str, int]
    """Convolutions and samplers by the types that TensorRT inferred, such as `CONVOLUTION HALF -> HALF`."""
    promised: dict[str, int]
    """The same layers by the types in the ONNX file."""
    unchecked: tuple[str, ...]
    """Convolutions and samplers whose types the file does not declare."""
    samplers: int
    """GridSample layers."""
    sampling: dict[str, int]
    """The same by their attributes; those of the networks are `LINEAR CLAMP aligned`."""
    repairs: tuple[str, ...]
    """Attributes of samplers that TensorRT's parser had read wrongly."""
    memory: dict[str, int]
    """scratch_bytes, activation_bytes and weight_bytes, as far as TensorRT logs them."""
    layers: dict[str, int]
    """Layers of the parsed network by kind."""


def engine_proof(path: Path, artifact: Artifact) -> EngineProof:
    """Read the proof of an engine from its manifest.

    Args:
        path: of the engine.
        artifact: what it is; its `file` is the name in the report.

    Raises:
        EngineError: as `manifest_of`.
    """
    manifest = manifest_of(path, engine_bytes(path))
    details = engine_details(manifest.details)
    key, inferred, samplers = details.key, details.inferred, details.samplers
    reason = why_not_executable(manifest)
    return EngineProof(
        graph=artifact.graph,
        file=artifact.file,
        library=key.library,
        target=described_machine(key),
        # What was not executed where it was built may be here.
        proven=reason or f"{details.proven.partition(';')[0]}; compared with torch",
        executed=reason is None,
        fallback=key.fallback,
        types=dict(inferred.types),
        promised=dict(inferred.promised),
        unchecked=inferred.unchecked,
        samplers=samplers.layers,
        sampling=dict(samplers.sampling),
        repairs=tuple(f"{one.layer}: {one.attribute} was {one.found}" for one in samplers.repairs),
        memory=dict(details.memory),
        layers=dict(inferred.layers),
    )
