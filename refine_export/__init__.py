"""RIFE frame interpolation from a PyTorch checkpoint to ONNX and TensorRT, compared with the reference.

    import refine_export as rx

    onnx = rx.export("flownet.pkl", "interpolator", output="interpolator.onnx")
    fp16 = rx.lower(onnx, output="interpolator.fp16.onnx")
    engine = rx.build(fp16, output="interpolator.rtx", target="rtx")
    report = rx.validate([onnx, fp16, engine], checkpoint="flownet.pkl", frames=("a.png", "b.png"))
    assert report.passed, report.summary()

Each function takes paths or earlier results and options as keywords, and returns a small frozen result. Names are
loaded when they are first used (PEP 562), so that `import refine_export` needs nothing but the standard library.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refine_export.accuracy.limits import Limits, LimitsOptions
    from refine_export.bench.bench_options import BenchOptions
    from refine_export.bench.bench_result import Benchmarks
    from refine_export.bisect.bisect_result import Bisected
    from refine_export.checkpoint.checkpoint_options import CheckpointOptions
    from refine_export.checkpoint.released_weights import ReleasedWeights, fetch_weights, list_weights
    from refine_export.data.frame_options import FramesOptions, SceneOptions
    from refine_export.deploy.triton.deploy_options import TritonOptions
    from refine_export.deploy.triton.repository import Deployed
    from refine_export.engine.build_options import BuildOptions
    from refine_export.engine.engine_file import EngineFile
    from refine_export.errors import (
        CheckpointError,
        EngineError,
        FrameError,
        GraphError,
        InternalError,
        RecipeError,
        RefineExportError,
        RepositoryError,
        RequestError,
        UnavailableError,
    )
    from refine_export.export.export_options import ExportOptions
    from refine_export.interpolation.interpolate_video import Interpolated
    from refine_export.jobs.bench_speed import bench
    from refine_export.jobs.bisect_file import bisect
    from refine_export.jobs.build_engine import build
    from refine_export.jobs.deploy_repository import deploy_triton
    from refine_export.jobs.export_graphs import ExportedFile, export
    from refine_export.jobs.gate_report import GateResult, gate
    from refine_export.jobs.inspect_file import Inspection, inspect
    from refine_export.jobs.interpolate_arrays import interpolate_frames
    from refine_export.jobs.interpolate_folder import interpolate_folder
    from refine_export.jobs.interpolate_frames import interpolate
    from refine_export.jobs.lint_files import LintReport, lint
    from refine_export.jobs.load_network import load_network
    from refine_export.jobs.lower_onnx import lower
    from refine_export.jobs.main_job import run
    from refine_export.jobs.recipe import Recipe, RunOptions
    from refine_export.jobs.refit_engine import refit
    from refine_export.jobs.reproduce_file import Reproduced, reproduce
    from refine_export.jobs.score_dataset import score
    from refine_export.jobs.validate_files import validate
    from refine_export.jobs.validation_report import ValidationReport
    from refine_export.lower.lower_options import LowerOptions
    from refine_export.lower.lowered_file import LoweredFile
    from refine_export.runners.triton.connection_options import ServerOptions
    from refine_export.score.score_options import ScoreOptions
    from refine_export.score.score_result import Scores
    from refine_export.validate.validate_options import ValidateOptions

__version__ = "0.1.0"

_HOME = {
    "accuracy.limits": ("Limits", "LimitsOptions"),
    "bench.bench_options": ("BenchOptions",),
    "bench.bench_result": ("Benchmarks",),
    "bisect.bisect_result": ("Bisected",),
    "checkpoint.checkpoint_options": ("CheckpointOptions",),
    "checkpoint.released_weights": ("ReleasedWeights", "fetch_weights", "list_weights"),
    "data.frame_options": ("FramesOptions", "SceneOptions"),
    "deploy.triton.deploy_options": ("TritonOptions",),
    "deploy.triton.repository": ("Deployed",),
    "engine.build_options": ("BuildOptions",),
    "engine.engine_file": ("EngineFile",),
    "errors": (
        "CheckpointError",
        "EngineError",
        "FrameError",
        "GraphError",
        "InternalError",
        "RecipeError",
        "RefineExportError",
        "RepositoryError",
        "RequestError",
        "UnavailableError",
    ),
    "export.export_options": ("ExportOptions",),
    "interpolation.interpolate_video": ("Interpolated",),
    "jobs.bench_speed": ("bench",),
    "jobs.bisect_file": ("bisect",),
    "jobs.build_engine": ("build",),
    "jobs.deploy_repository": ("deploy_triton",),
    "jobs.export_graphs": ("ExportedFile", "export"),
    "jobs.gate_report": ("GateResult", "gate"),
    "jobs.inspect_file": ("Inspection", "inspect"),
    "jobs.interpolate_arrays": ("interpolate_frames",),
    "jobs.interpolate_folder": ("interpolate_folder",),
    "jobs.interpolate_frames": ("interpolate",),
    "jobs.lint_files": ("LintReport", "lint"),
    "jobs.load_network": ("load_network",),
    "jobs.lower_onnx": ("lower",),
    "jobs.main_job": ("run",),
    "jobs.recipe": ("Recipe", "RunOptions"),
    "jobs.refit_engine": ("refit",),
    "jobs.reproduce_file": ("Reproduced", "reproduce"),
    "jobs.score_dataset": ("score",),
    "jobs.validate_files": ("validate",),
    "jobs.validation_report": ("ValidationReport",),
    "lower.lower_options": ("LowerOptions",),
    "lower.lowered_file": ("LoweredFile",),
    "runners.triton.connection_options": ("ServerOptions",),
    "score.score_options": ("ScoreOptions",),
    "score.score_result": ("Scores",),
    "validate.validate_options": ("ValidateOptions",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "BenchOptions",
    "Benchmarks",
    "Bisected",
    "BuildOptions",
    "CheckpointError",
    "CheckpointOptions",
    "Deployed",
    "EngineError",
    "EngineFile",
    "ExportOptions",
    "ExportedFile",
    "FrameError",
    "FramesOptions",
    "GateResult",
    "GraphError",
    "Inspection",
    "InternalError",
    "Interpolated",
    "Limits",
    "LimitsOptions",
    "LintReport",
    "LowerOptions",
    "LoweredFile",
    "Recipe",
    "RecipeError",
    "RefineExportError",
    "ReleasedWeights",
    "RepositoryError",
    "Reproduced",
    "RequestError",
    "RunOptions",
    "SceneOptions",
    "ScoreOptions",
    "Scores",
    "ServerOptions",
    "TritonOptions",
    "UnavailableError",
    "ValidateOptions",
    "ValidationReport",
    "__version__",
    "bench",
    "bisect",
    "build",
    "deploy_triton",
    "export",
    "fetch_weights",
    "gate",
    "inspect",
    "interpolate",
    "interpolate_folder",
    "interpolate_frames",
    "lint",
    "list_weights",
    "load_network",
    "lower",
    "refit",
    "reproduce",
    "run",
    "score",
    "validate",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """A package some of whose functions, such as `export` and `score`, are named as subpackages are."""

    def __setattr__(self, name: str, value: Any) -> None:
        # The import system sets a subpackage as an attribute of its parent when it is first imported; the function of
        # the same name would be lost. `from refine_export.export.x import y` does not need that attribute.
        if not (name in _MODULE_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
