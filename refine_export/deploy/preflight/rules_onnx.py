"""Rules on ONNX files that a model serves: by ONNX Runtime's backend, or by a model.py that they lie beside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from refine_export.deploy.preflight.findings import RepositoryFinding
from refine_export.deploy.preflight.repository_reader import Model, why_unreadable
from refine_export.deploy.triton.names import ONNX_FILE
from refine_export.errors import GraphError
from refine_export.graph.linter import lint_file
from refine_export.graph.model_file import load_model


def onnx_files(model: Model) -> list[Path]:
    """Return the ONNX files of all versions that can be opened; `check_files` reports the others."""
    if model.backend == "onnxruntime":
        return model.readable_files()
    paths = [folder / ONNX_FILE for folder in model.versions.values()] if model.backend == "python" else []
    return [path for path in paths if why_unreadable(path, model.root) is None]


def check_onnx(model: Model) -> Iterator[RepositoryFinding]:
    """Check that each file is complete, with its external data; lint those that TensorRT parses."""
    for path in onnx_files(model):
        try:
            load_model(path)
            if model.builds_engines:
                yield from _lint(model, path)
        except GraphError as error:
            yield model.found("onnx-file", model.where(path), str(error))


def _lint(model: Model, path: Path) -> Iterator[RepositoryFinding]:
    for one in lint_file(path):
        yield RepositoryFinding(
            rule=one.rule,
            severity=one.severity,
            model=model.name,
            where=f"{model.where(path)}: {one.node}" if one.node else model.where(path),
            message=one.message,
            why=one.why,
            fix=one.fix,
        )
