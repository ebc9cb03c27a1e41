"""Write an exported ONNX file with its manifest, or reuse the one that is there."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refine_export import __version__
from refine_export.artifacts import Artifact, artifact_from_file, artifact_from_model, io_description
from refine_export.checkpoint.checkpoint import Checkpoint
from refine_export.errors import InternalError, RequestError
from refine_export.export.export_options import ExportOptions
from refine_export.export.onnx_from_network import onnx_from_network
from refine_export.export.reference_network import signature_of_network
from refine_export.graph.linter import lint_model
from refine_export.graph.stacked_input import with_stacked_input
from refine_export.signature import GraphName, Signature
from refine_export.support.environment import EXPORTERS, versions
from refine_export.support.manifest import Manifest, fingerprint, reusable, write_with_manifest

if TYPE_CHECKING:
    from torch import nn


def export_file(
    network: Callable[[], nn.Module],
    checkpoint: Checkpoint,
    graph: GraphName,
    options: ExportOptions,
    path: Path,
    *,
    commands: Sequence[Mapping[str, Any]] = (),
) -> Artifact:
    """Write `path` and its manifest, unless they are there and made from the same weights, options and versions.

    Args:
        network: gives the reference network of the checkpoint; not called where the file is reused.
        checkpoint: the weights.
        graph: one that the weights make.
        options: of the export.
        path: of the ONNX file.
        commands: for the manifest.
    """
    inputs = {
        "checkpoint": checkpoint.source,
        "checkpoint_sha256": checkpoint.sha256,
        "architecture": checkpoint.network,
        "graph": graph,
    }
    used = versions(EXPORTERS)
    key = fingerprint(inputs, options, used)
    if reusable(path, key):
        return dataclasses.replace(artifact_from_file(path), file=path.name, reused=True)
    started = time.perf_counter()
    reference = network()
    signature = signature_of_network(reference, graph)
    stacked = options.layout != "pair" and graph == "interpolator"
    if stacked and not signature.takes_timestep:
        raise RequestError(
            f"layout is {options.layout}, which has a timestep, and {checkpoint.architecture} takes none; leave it "
            "out, or give weights of RIFE 4",
            code="options-do-not-fit",
            option="layout",
        )
    model = onnx_from_network(reference, graph, options, _metadata(checkpoint, signature, options))
    if stacked:
        model = with_stacked_input(model, options.layout, signature.multiple_of)
    for finding in lint_model(model):
        message = f"the exported {graph} does not pass our own lint: {finding.node}: {finding.message}"
        raise InternalError(message, code="lint-failed", rule=finding.rule, node=finding.node)
    content = model.SerializeToString(deterministic=True)
    seconds = time.perf_counter() - started
    artifact = dataclasses.replace(artifact_from_model(model, content, path), file=path.name, seconds=seconds)
    manifest = Manifest(
        artifact=path.name,
        kind="onnx",
        sha256=artifact.sha256,
        size_bytes=artifact.size_bytes,
        inputs=inputs,
        options=dataclasses.asdict(options),
        versions=used,
        signature=io_description(model),
        fingerprint=key,
        seconds=seconds,
        commands=commands,
    )
    write_with_manifest(path, content, manifest)
    return artifact


def _metadata(checkpoint: Checkpoint, signature: Signature, options: ExportOptions) -> dict[str, str]:
    """Return what a file states about itself, for tools that know nothing of the manifest."""
    values = {
        "version": __version__,
        "checkpoint": checkpoint.source,
        "checkpoint_sha256": checkpoint.sha256,
        "architecture": checkpoint.network,
        "multiple_of": str(signature.multiple_of),
        "scale": f"{signature.scale:g}",
        "dynamic": str(options.dynamic).lower(),
        "units": "; ".join(f"{spec.name}: {spec.units}" for spec in (*signature.inputs, *signature.outputs)),
    }
    return {f"refine_export.{name}": value for name, value in values.items()}
